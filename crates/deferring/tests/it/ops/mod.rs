//! Each op on the real kernel: one file for each file of `src/op`, and here what they share.
//!
//! Not: what is the same for every op (`../submission.rs`, `../completion.rs`, `../cancel.rs`), nor
//! the buffers (`../buffers.rs`) and descriptors (`../descriptors.rs`) that ops are lent.

mod close;
mod fadvise;
mod fallocate;
mod fsync;
mod ftruncate;
mod linkat;
mod mkdirat;
mod nop;
mod openat2;
mod poll_add;
mod poll_remove;
mod poll_update;
mod read;
mod readv;
mod recv;
mod renameat;
mod send;
mod sleep;
mod statx;
mod symlinkat;
mod timeout;
mod timeout_remove;
mod timeout_update;
mod unlinkat;
mod write;
mod writev;

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use deferring::op::{Closing, Linkat, Op, Renameat, Statx, Symlinkat, Unlinkat};
use deferring::{AtFlags, Fd, Handle, Mode, OFlags, RenameFlags, ResolveFlags, Ring, StatxFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tempfile::TempDir;

use crate::support::{self, BOUND, ring, turn_until};

/// Turns the ring until the op has ended, and takes its output.
pub(crate) fn finish<T: Op>(ring: &Ring, handle: Handle<T>) -> T::Output {
    support::finish(ring, &handle)
}

/// Turns the ring until the close has ended.
pub(crate) fn finish_close(ring: &Ring, mut closing: Closing) -> io::Result<()> {
    let mut result = None;
    turn_until(ring, || {
        result = closing.try_take();
        result.is_some()
    });
    result.expect("just seen")
}

/// The errno of what must have failed.
pub(crate) fn refused<T: Debug>(result: io::Result<T>) -> Errno {
    Errno::from_io_error(&result.expect_err("must be refused")).expect("has an errno")
}

/// A temporary directory, and a descriptor of it to start paths from.
pub(crate) fn place() -> (TempDir, Fd) {
    let dir = tempfile::tempdir().expect("a directory");
    let fd = Fd::from(File::open(dir.path()).expect("opens"));
    (dir, fd)
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A file with no name, and std's view of it: the same file with the same position.
pub(crate) fn file_with(content: impl AsRef<[u8]>) -> (Fd, File) {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(content.as_ref()).expect("writes");
    io::Seek::rewind(&mut file).expect("seeks");
    (Fd::from(file.try_clone().expect("a second descriptor")), file)
}

/// What is in a file, wherever its position is.
pub(crate) fn content(file: &File) -> Vec<u8> {
    let len = usize::try_from(file.metadata().expect("metadata").len()).unwrap();
    let mut content = vec![0; len];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut content, 0).expect("reads");
    content
}

/// A pipe: the end to read from, the end to write to.
pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).expect("a pipe")
}

/// Whether the other end of a pipe or socket is closed, by a look without waiting.
pub(crate) fn peer_is_closed(fd: impl AsFd) -> bool {
    peer_closes_within(fd, 0)
}

/// Waits for the other end of a pipe or socket to be closed everywhere. (A child that another
/// story forks has a copy of every descriptor, for a moment.)
pub(crate) fn peer_closes(fd: impl AsFd) -> bool {
    peer_closes_within(fd, BOUND.as_secs())
}

fn peer_closes_within(fd: impl AsFd, seconds: u64) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::empty())];
    let time = Timespec { tv_sec: seconds.try_into().unwrap(), tv_nsec: 0 };
    poll(&mut fds, Some(&time)).expect("polls");
    fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

#[test]
fn c35_a_nul_in_a_path_is_enoent_for_every_op_and_nothing_is_done() {
    let (place, dir) = place();
    fs::write(place.path().join("victim"), "").unwrap();
    fs::create_dir(place.path().join("dir")).unwrap();
    let ring = ring();
    let (new, victim, empty) = ("new\0x", "victim\0x", AtFlags::empty());
    let open = |flags, mode, path| {
        refused(finish(&ring, ring.openat2(&dir, path, flags, mode, ResolveFlags::empty())))
    };
    let done = |handle| refused(finish(&ring, handle));
    let link = |from, to| refused(finish(&ring, ring.queue(Linkat::new(&dir, from, &dir, to))));
    let rename = |from, to| refused(finish(&ring, ring.queue(Renameat::new(&dir, from, &dir, to))));
    let symlink = |to, name| refused(finish(&ring, ring.queue(Symlinkat::new(to, &dir, name))));
    let refusals = [
        ("open", open(OFlags::RDONLY, Mode::empty(), victim)),
        ("create", open(OFlags::WRONLY | OFlags::CREATE, Mode::RUSR, new)),
        ("link, target", link(victim, "new")),
        ("link, name", link("victim", new)),
        ("rename, from", rename(victim, "new")),
        ("rename, to", rename("victim", new)),
        ("symlink, target", symlink(victim, "new")),
        ("symlink, name", symlink("victim", new)),
        ("unlink", done(ring.unlinkat(&dir, victim, empty))),
        ("rmdir", refused(finish(&ring, ring.queue(Unlinkat::new(&dir, "dir\0").dir(true))))),
        ("mkdir", refused(finish(&ring, ring.mkdirat(&dir, new, Mode::RWXU)))),
        ("statx", refused(finish(&ring, ring.queue(Statx::new(&dir, victim))))),
        ("statx, mask", {
            refused(finish(&ring, ring.statx(&dir, victim, empty, StatxFlags::SIZE)))
        }),
        ("rename, flags", {
            let flags = RenameFlags::NOREPLACE;
            refused(finish(&ring, ring.renameat2(&dir, victim, &dir, "new", flags)))
        }),
    ];
    for (what, errno) in refusals {
        assert_eq!(errno, Errno::NOENT, "{what}");
    }
    assert_eq!(names(place.path()), ["dir", "victim"]);
    assert_eq!(ring.stats().sqes, 0, "the kernel, which cuts a path at a NUL, is not asked");
}

#[test]
fn paths_do_not_start_from_a_directory_that_is_closed() {
    let (place, dir) = place();
    fs::write(place.path().join("a"), "").unwrap();
    let ring = ring();
    finish_close(&ring, ring.close(&dir)).unwrap();
    let (flags, mode, resolve) = (OFlags::RDONLY, Mode::empty(), ResolveFlags::empty());
    let cwd = || deferring::CWD;
    let there = place.path().join("a");
    let refusals = [
        refused(finish(&ring, ring.openat2(&dir, "a", flags, mode, resolve))),
        refused(finish(&ring, ring.queue(Linkat::new(&dir, "a", cwd(), "b")))),
        refused(finish(&ring, ring.queue(Linkat::new(cwd(), &there, &dir, "b")))),
        refused(finish(&ring, ring.queue(Renameat::new(&dir, "a", cwd(), "b")))),
        refused(finish(&ring, ring.queue(Renameat::new(cwd(), &there, &dir, "b")))),
        refused(finish(&ring, ring.queue(Symlinkat::new("a", &dir, "b")))),
        refused(finish(&ring, ring.queue(Unlinkat::new(&dir, "a")))),
        refused(finish(&ring, ring.mkdirat(&dir, "b", Mode::RWXU))),
        refused(finish(&ring, ring.queue(Statx::new(&dir, "a")))),
        refused(finish(&ring, ring.queue(Statx::of(&dir)))),
    ];
    assert_eq!(refusals, [Errno::BADF; 10]);
    assert_eq!(names(place.path()), ["a"]);
}
