//! The same calls on the disk and on a directory of a real ext4: the same answers.
//!
//! A thread of its own has that directory for its root, so that absolute paths and `..` mean the
//! same on both. Needs root for that.
//!
//! The calls are in `calls.rs`; how they are drawn by lot, in `draw.rs`; what is held against one
//! another after them, in `compare.rs`.
//!
//! Not: room, times, blocks and the sizes of directories, in which ext4 is another.

mod calls;
mod compare;
mod draw;

use std::io::{Write as _, stderr};
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::thread;

use fastrand::Rng;
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, ResolveFlags, openat2, statfs};

use super::super::{Disk, InodeId, ROOT, SIZE_MAX};

const EXT4: i64 = 0xef53;

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

/// Where the root is among what is open.
const ROOT_ENTRY: usize = 0;

#[test]
fn ten_thousands_of_calls_answer_as_ext4_does() {
    for seed in 0..24 {
        in_a_root_of_its_own(move || Pair::new(seed).run(2000));
    }
}

#[test]
fn the_longest_file_ends_where_that_of_ext4_does() {
    in_a_root_of_its_own(|| {
        let mut pair = Pair::new(0);
        let flags = OFlags::CREATE | OFlags::RDWR;
        pair.open(ROOT_ENTRY, b"f", flags, Mode::RUSR | Mode::WUSR, ResolveFlags::empty());
        for at in [SIZE_MAX - 3, SIZE_MAX, SIZE_MAX + 1, i64::MAX as u64 - 2, u64::MAX - 9] {
            pair.write(1, at, b"bytes");
            pair.write(1, at, b"");
            pair.read(1, at, 5);
            pair.truncate(1, at);
            for flags in [FallocateFlags::empty(), FallocateFlags::KEEP_SIZE, PUNCH] {
                pair.fallocate(1, flags, at, 5);
            }
        }
        pair.truncate(1, SIZE_MAX);
        pair.read(1, SIZE_MAX - 3, 5);
    });
}

#[test]
fn symlinks_are_followed_forty_times_and_no_more() {
    in_a_root_of_its_own(|| {
        let mut pair = Pair::new(0);
        let flags = OFlags::CREATE | OFlags::RDWR;
        pair.open(ROOT_ENTRY, b"0", flags, Mode::RUSR, ResolveFlags::empty());
        for n in 1..=42 {
            pair.symlink(format!("{}", n - 1).as_bytes(), ROOT_ENTRY, format!("{n}").as_bytes());
        }
        for n in 38..=42 {
            pair.lookup(ROOT_ENTRY, format!("{n}").as_bytes(), true);
            let flags = OFlags::RDONLY;
            let path = format!("{n}");
            pair.open(ROOT_ENTRY, path.as_bytes(), flags, Mode::empty(), ResolveFlags::empty());
        }
    });
}

/// The disk and a directory of Linux, side by side.
struct Pair {
    disk: Disk,
    open: Vec<Open>,
    rng: Rng,
    log: Vec<String>,
    seed: u64,
}

/// One descriptor on both.
struct Open {
    fd: OwnedFd,
    id: InodeId,
    flags: OFlags,
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let flags = OFlags::DIRECTORY;
        let fd = openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::empty()).unwrap();
        let mut disk = Disk::new();
        disk.hold(ROOT);
        let root = Open { fd, id: ROOT, flags };
        Pair { disk, open: vec![root], rng: Rng::with_seed(seed), log: Vec::new(), seed }
    }

    fn run(&mut self, steps: usize) {
        for step in 0..steps {
            self.step();
            if step % 16 == 0 {
                self.compare_trees();
            }
        }
        self.compare_trees();
        for entry in (1..self.open.len()).rev() {
            self.close(entry);
        }
        let rooms = self.disk.inodes.iter().flatten().filter(|inode| !inode.ghost);
        assert_eq!(self.disk.used, rooms.map(|inode| inode.room()).sum::<u64>());
        self.disk.sync_all();
        assert_eq!(self.disk.ghosts, 0);
    }
}

impl Open {
    /// Whether bytes can be read, or written: else the kernel asks no file system.
    fn moves_bytes(&self, way: OFlags) -> bool {
        let mode = self.flags & OFlags::RWMODE;
        !self.flags.contains(OFlags::PATH) && (mode == way || mode == OFlags::RDWR)
    }
}

/// Runs in a thread whose root is an empty directory.
fn in_a_root_of_its_own(story: impl FnOnce() + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    if statfs(dir.path()).unwrap().f_type != EXT4 {
        return skipped("a directory for temporary files on ext4");
    }
    let path = dir.path().to_owned();
    let told = thread::spawn(move || {
        #[allow(deprecated)] // Unsafe for descriptors, which stay shared here.
        let unshared = rustix::thread::unshare(rustix::thread::UnshareFlags::FS);
        if unshared.and_then(|()| rustix::process::chroot(&path)).is_err() {
            return skipped("CAP_SYS_CHROOT and CAP_SYS_ADMIN");
        }
        rustix::process::chdir("/").unwrap();
        story();
    });
    told.join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// Says that a story was not told; not captured, so that it is seen.
fn skipped(needs: &str) {
    let _ = writeln!(stderr(), "skipped: needs {needs}");
}
