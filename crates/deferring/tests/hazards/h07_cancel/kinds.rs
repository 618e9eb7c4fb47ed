//! The kinds of ops that race their cancels, and how each is seen to have happened or not.
//!
//! Not: the races (`mod.rs`).

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use deferring::{
    Advice, AtFlags, BufResult, CWD, FallocateFlags, Fd, Mode, OFlags, PollFlags, RenameFlags,
    ResolveFlags, Ring,
};
use rustix::fs::FileType;
use tempfile::TempDir;

use super::{End, HOUR, Race, Racer};
use crate::support::{OpenInWorker, becomes_readable, errno, pipe};

pub(super) type Kind = fn(&Ring, &World) -> Box<dyn Race>;

/// Every kind of op: those that the kernel ends at once, those that wait for an event, those that
/// run in its workers.
pub(super) const KINDS: [Kind; 26] = [
    |ring, _| Racer::new("nop", ring.nop(), |result, _| end(result, drop)),
    read_of_a_file,
    readv_of_a_file,
    write_to_a_file,
    writev_to_a_file,
    read_of_a_pipe,
    poll_of_a_pipe,
    |ring, _| Racer::new("timeout", ring.timeout(Duration::ZERO), |result, _| end(result, drop)),
    |ring, _| {
        let time = Duration::from_micros(100);
        Racer::new("timeout", ring.timeout(time), |result, _| end(result, drop))
    },
    timeout_that_is_shortened,
    timeout_update,
    timeout_remove,
    poll_update,
    poll_remove,
    open,
    create,
    open_of_a_fifo,
    |ring, world| Racer::new("fsync", ring.fsync(&world.slots), |result, _| end(result, drop)),
    |ring, world| {
        let advise = ring.fadvise(&world.text, 0, 0, Advice::Normal);
        Racer::new("fadvise", advise, |result, _| end(result, drop))
    },
    fallocate,
    ftruncate,
    statx,
    link,
    unlink,
    rename,
    mkdir_or_symlink,
];

/// Where the ops work. Each has names or bytes of its own.
pub(super) struct World {
    place: TempDir,
    dir: Fd,
    /// Holds [`TEXT`], which nobody changes.
    text: Fd,
    /// Eight bytes for each op that writes.
    slots: Fd,
    slots_seen: File,
    next: Cell<u64>,
}

const TEXT: &[u8] = b"hello, world";

impl World {
    pub(super) fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = |name| place.path().join(name);
        fs::write(path("text"), TEXT).unwrap();
        let slots = File::create_new(path("slots")).unwrap().into();
        let text = File::open(path("text")).unwrap().into();
        let dir = File::open(place.path()).unwrap().into();
        let slots_seen = File::open(path("slots")).unwrap();
        Self { place, dir, text, slots, slots_seen, next: Cell::new(0) }
    }

    fn number(&self) -> u64 {
        let number = self.next.get();
        self.next.set(number + 1);
        number
    }

    /// A name that is new.
    fn name(&self) -> (String, PathBuf) {
        let name = self.number().to_string();
        let path = self.place.path().join(&name);
        (name, path)
    }

    /// A new file of 8 bytes, for one op.
    fn file(&self) -> (Fd, PathBuf) {
        let (_, path) = self.name();
        fs::write(&path, [0; 8]).unwrap();
        (File::options().write(true).open(&path).unwrap().into(), path)
    }
}

/// Cut short, or with a value.
fn end<T>(result: io::Result<T>, check: impl FnOnce(T)) -> End {
    match result {
        Ok(value) => {
            check(value);
            End::Ran
        }
        Err(error) if matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::EINTR)) => {
            End::Cut
        }
        Err(error) => panic!("neither done nor cancelled: {error}"),
    }
}

/// As [`end`], of what has an effect that can be seen.
fn effect(result: io::Result<()>, what: &str, is_there: bool) -> End {
    let end = end(result, drop);
    assert_eq!(is_there, end == End::Ran, "{what}: {end:?}, and its effect is there: {is_there}");
    end
}

fn read_of_a_file(ring: &Ring, world: &World) -> Box<dyn Race> {
    let read = ring.read(&world.text, Vec::with_capacity(64), 0);
    Racer::new("read of a file", read, |BufResult(result, buf), _| {
        end(result, |n| assert_eq!((n, &buf[..]), (TEXT.len(), TEXT)))
    })
}

fn readv_of_a_file(ring: &Ring, world: &World) -> Box<dyn Race> {
    let read = ring.readv(&world.text, [vec![0; 5], vec![0; 5]], 0);
    Racer::new("readv of a file", read, |BufResult(result, bufs), _| {
        end(result, |n| assert_eq!((n, bufs.concat()), (10, TEXT[..10].to_vec())))
    })
}

fn write_to_a_file(ring: &Ring, world: &World) -> Box<dyn Race> {
    let (slot, seen) = slot(world);
    let write = ring.write(&world.slots, vec![7; 8], slot);
    Racer::new("write to a file", write, move |BufResult(result, _), _| wrote(result, &seen, slot))
}

fn writev_to_a_file(ring: &Ring, world: &World) -> Box<dyn Race> {
    let (slot, seen) = slot(world);
    let write = ring.writev(&world.slots, [vec![7; 3], vec![7; 5]], slot);
    Racer::new("writev to a file", write, move |BufResult(result, _), _| wrote(result, &seen, slot))
}

fn slot(world: &World) -> (u64, File) {
    (world.number() * 8, world.slots_seen.try_clone().unwrap())
}

fn wrote(result: io::Result<usize>, slots: &File, slot: u64) -> End {
    let mut bytes = [0; 8];
    let _ = slots.read_at(&mut bytes, slot).unwrap(); // May be behind the end.
    effect(result.map(|n| assert_eq!(n, 8)), "write", bytes == [7; 8])
}

fn read_of_a_pipe(ring: &Ring, _: &World) -> Box<dyn Race> {
    let (reader, mut writer) = pipe();
    let read = ring.read(&reader, vec![0; 8], 0);
    Racer::new("read of a pipe", read, move |BufResult(result, buf), written| {
        let end = end(result, |n| assert_eq!((n, &buf[..4]), (4, &b"text"[..])));
        let reader = reader.try_into_owned().expect("no op uses it");
        let left = becomes_readable(&reader, Duration::ZERO);
        assert_eq!(left, written && end == End::Cut, "{end:?}; what is not read stays");
        end
    })
    .helped_by(move || writer.write_all(b"text").unwrap())
}

fn poll_of_a_pipe(ring: &Ring, _: &World) -> Box<dyn Race> {
    let (reader, mut writer) = pipe();
    let poll = ring.poll(&reader, PollFlags::IN);
    Racer::new("poll", poll, |result, _| end(result, |found| assert_eq!(found, PollFlags::IN)))
        .helped_by(move || writer.write_all(b"x").unwrap())
}

fn timeout_that_is_shortened(ring: &Ring, _: &World) -> Box<dyn Race> {
    let racer = Racer::new("long timeout", ring.timeout(HOUR), |result, _| end(result, drop));
    let timeout = Rc::clone(&racer.handle);
    racer.helped_by(move || timeout.update(Duration::ZERO).detach())
}

fn timeout_update(ring: &Ring, _: &World) -> Box<dyn Race> {
    let timeout = ring.timeout(HOUR);
    let update = timeout.update(HOUR);
    Racer::new("update of a timeout", update, |result, _| found(result, timeout))
}

fn timeout_remove(ring: &Ring, _: &World) -> Box<dyn Race> {
    let timeout = ring.timeout(HOUR);
    let remove = timeout.remove();
    Racer::new("remove of a timeout", remove, |result, _| found(result, timeout))
}

fn poll_update(ring: &Ring, _: &World) -> Box<dyn Race> {
    let (reader, writer) = pipe();
    let poll = ring.poll(&reader, PollFlags::IN);
    let update = poll.update(PollFlags::PRI);
    Racer::new("update of a poll", update, |result, _| found(result, (poll, writer)))
}

fn poll_remove(ring: &Ring, _: &World) -> Box<dyn Race> {
    let (reader, writer) = pipe();
    let poll = ring.poll(&reader, PollFlags::IN);
    let remove = poll.remove();
    Racer::new("remove of a poll", remove, |result, _| found(result, (poll, writer)))
}

/// What works on another op may come before it or after it.
fn found<T, U>(result: io::Result<T>, other: U) -> End {
    drop(other);
    match errno(&result) {
        Some(libc::ENOENT | libc::EALREADY) => End::Ran,
        _ => end(result, drop),
    }
}

fn open(ring: &Ring, world: &World) -> Box<dyn Race> {
    let (flags, mode, resolve) = (OFlags::RDONLY, Mode::empty(), ResolveFlags::empty());
    let open = ring.openat2(&world.dir, "text", flags, mode, resolve);
    Racer::new("open", open, |result, _| end(result, drop))
}

fn create(ring: &Ring, world: &World) -> Box<dyn Race> {
    let (name, path) = world.name();
    let (flags, mode, resolve) =
        (OFlags::WRONLY | OFlags::CREATE, Mode::RUSR | Mode::WUSR, ResolveFlags::empty());
    let open = ring.openat2(&world.dir, name, flags, mode, resolve);
    Racer::new("create", open, move |result, _| effect(result.map(drop), "create", path.exists()))
}

fn open_of_a_fifo(ring: &Ring, world: &World) -> Box<dyn Race> {
    let (_, path) = world.name();
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let open = ring.queue(OpenInWorker::new(&path));
    let mut peers = Vec::new();
    Racer::new("open of a FIFO in a worker", open, |result, helped| {
        end(result, |_| assert!(helped, "there was no peer"))
    })
    .helped_by(move || {
        // For both at once, which does not wait. Kept until the race is over.
        peers.push(File::options().read(true).write(true).open(&path).unwrap());
    })
}

fn fallocate(ring: &Ring, world: &World) -> Box<dyn Race> {
    let (fd, path) = world.file();
    let allocate = ring.fallocate(&fd, FallocateFlags::empty(), 0, 64);
    Racer::new("fallocate", allocate, move |result, _| {
        effect(result, "fallocate", len(&path) == 64)
    })
}

fn ftruncate(ring: &Ring, world: &World) -> Box<dyn Race> {
    let (fd, path) = world.file();
    let truncate = ring.ftruncate(&fd, 3);
    Racer::new("ftruncate", truncate, move |result, _| effect(result, "ftruncate", len(&path) == 3))
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

fn statx(ring: &Ring, world: &World) -> Box<dyn Race> {
    let statx = ring.queue(deferring::op::Statx::new(&world.dir, "text"));
    Racer::new("statx", statx, |result, _| {
        end(result, |stat| assert_eq!(stat.size(), Some(TEXT.len() as u64)))
    })
}

fn link(ring: &Ring, world: &World) -> Box<dyn Race> {
    let (name, path) = world.name();
    let link =
        ring.linkat(&world.dir, "slots", CWD, world.place.path().join(name), AtFlags::empty());
    Racer::new("link", link, move |result, _| {
        let there = path.exists();
        let _ = fs::remove_file(path); // A file has room for 65,000 links.
        effect(result, "link", there)
    })
}

fn unlink(ring: &Ring, world: &World) -> Box<dyn Race> {
    let (_, path) = world.file();
    let name = path.file_name().expect("a name").to_owned();
    let unlink = ring.unlinkat(&world.dir, name, AtFlags::empty());
    Racer::new("unlink", unlink, move |result, _| effect(result, "unlink", !path.exists()))
}

fn rename(ring: &Ring, world: &World) -> Box<dyn Race> {
    let ((_, from), (_, to)) = (world.file(), world.name());
    let rename = ring.renameat2(CWD, &from, CWD, &to, RenameFlags::empty());
    Racer::new("rename", rename, move |result, _| {
        assert_ne!(from.exists(), to.exists(), "it has one name");
        effect(result, "rename", to.exists())
    })
}

fn mkdir_or_symlink(ring: &Ring, world: &World) -> Box<dyn Race> {
    let (name, path) = world.name();
    if world.number() % 2 == 0 {
        let mkdir = ring.mkdirat(&world.dir, name, Mode::RWXU);
        return Racer::new("mkdir", mkdir, move |result, _| effect(result, "mkdir", path.is_dir()));
    }
    let symlink = ring.symlinkat("text", &world.dir, name);
    Racer::new("symlink", symlink, move |result, _| effect(result, "symlink", path.exists()))
}
