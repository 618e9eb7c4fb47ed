//! Small calls that are made by the thread that queues them, where it may block
//! (`Builder::callers_may_block`): which ones, with the same results as through the ring; and what
//! is not for that.
//!
//! Names and files are in a temporary directory, which has to be on a local disk or in memory. Not:
//! statx, which needs no leave (`ops/statx.rs`).

use std::ffi::CString;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::future::{Future, poll_fn};
use std::io::{Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use deferring::op::{Linkat, Mkdirat, Op, Opcode, Renameat, Symlinkat, Unlinkat, Write, Writev};
use deferring::{AtFlags, BufResult, CURRENT, CWD, Fd, Handle, Mode, OFlags, RenameFlags, Ring};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};
use tempfile::TempDir;

use crate::ops::{content, file_with, finish, names, place, refused};
use crate::support::{
    Graveyard, builder, errno, has_io_uring, in_a_process_of_its_own, ring, run, skipped, this_test,
};

/// A ring whose callers may block, if the machine has what makes that of use.
fn calling_ring() -> Option<Ring> {
    (has_io_uring("to be passed by") && place_is_local()).then(ring_of_callers)
}

fn ring_of_callers() -> Ring {
    builder().queue_depth(8).callers_may_block(true).build().expect("a ring")
}

/// ext, xfs, btrfs, f2fs; tmpfs, ramfs.
const LOCAL: [u32; 6] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994, 0x8584_58f6];

fn place_is_local() -> bool {
    let fs = rustix::fs::statfs(std::env::temp_dir()).expect("a file system");
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It has 32 bits.
    let is_local = LOCAL.contains(&(fs.f_type as u32));
    if !is_local {
        skipped("a temporary directory on ext4, xfs, btrfs, f2fs or in memory");
    }
    is_local
}

/// The output of an op that has to be done when it is queued.
#[track_caller]
fn at_once<T: Op>(ring: &Ring, op: T) -> T::Output {
    let handle = ring.queue(op);
    assert!(handle.is_done(), "{:?}", T::CODE);
    handle.try_take().expect("done")
}

/// The same, of one that has to go through the ring.
#[track_caller]
fn in_time<T: Op>(ring: &Ring, op: T) -> T::Output {
    let handle = ring.queue(op);
    assert!(!handle.is_done(), "{:?}", T::CODE);
    finish(ring, handle)
}

fn rwx() -> Mode {
    Mode::RWXU
}

#[test]
fn names_are_changed_when_they_are_queued() {
    let Some(ring) = calling_ring() else { return };
    let (place, dir) = place();
    let before = ring.stats();
    at_once(&ring, Mkdirat::new(&dir, "dir", rwx())).unwrap();
    at_once(&ring, Symlinkat::new("anywhere/at all", &dir, "link")).unwrap();
    at_once(&ring, Renameat::new(&dir, "link", &dir, "renamed")).unwrap();
    assert_eq!(names(place.path()), ["dir", "renamed"]);
    let target = fs::read_link(place.path().join("renamed")).unwrap();
    assert_eq!(target, Path::new("anywhere/at all"));
    at_once(&ring, Unlinkat::new(&dir, "renamed")).unwrap();
    at_once(&ring, Unlinkat::new(&dir, "dir").dir(true)).unwrap();
    assert!(names(place.path()).is_empty());
    let stats = ring.stats();
    assert_eq!((stats.sqes, stats.enters), (before.sqes, before.enters));
    assert_eq!(stats.ended, before.ended + 5);
    // Whoever turns the ring by hand is told of them as of others.
    assert!(ring.wait(None).unwrap());
    assert_eq!(ring.reap().unwrap(), 5);
    assert!(!ring.wait(Some(Duration::ZERO)).unwrap());
}

#[test]
fn small_writes_are_made_when_they_are_queued() {
    let Some(ring) = calling_ring() else { return };
    let (fd, mut file) = file_with("..........");
    file.seek(SeekFrom::Start(2)).unwrap();
    let BufResult(n, buf) = at_once(&ring, Write::new(&fd, "ab", CURRENT));
    assert_eq!((n.unwrap(), buf, file.stream_position().unwrap()), (2, "ab", 4));
    assert_eq!(at_once(&ring, Write::new(&fd, "cd", 7)).unwrap().0, 2);
    assert_eq!(at_once(&ring, Writev::new(&fd, ["e", "", "fg"], CURRENT)).unwrap().0, 3);
    assert_eq!(at_once(&ring, Writev::new(&fd, ["h"], 0)).unwrap().0, 1);
    assert_eq!(at_once(&ring, Write::new(&fd, "", 3)).unwrap().0, 0);
    assert_eq!(at_once(&ring, Writev::new(&fd, Vec::<&'static str>::new(), 3)).unwrap().0, 0);
    assert_eq!((content(&file), file.stream_position().unwrap()), (b"h.abefgcd.".to_vec(), 7));
    // As long as one can be.
    assert_eq!(at_once(&ring, Write::new(&fd, vec![b'x'; 64 << 10], 0)).unwrap().0, 64 << 10);
    assert_eq!(ring.stats().sqes, 0);
}

/// A ring with a place: the same steps are taken in two of them.
struct Setting {
    ring: Ring,
    place: TempDir,
    dir: Fd,
}

impl Setting {
    fn new(ring: Ring) -> Self {
        let (place, dir) = place();
        Self { ring, place, dir }
    }

    fn open(&self, name: &str, options: &mut OpenOptions) -> Fd {
        options.open(self.place.path().join(name)).expect("opens").into()
    }

    fn done<T>(&self, op: T) -> String
    where
        T: Op,
        T::Output: Debug,
    {
        format!("{:?}", finish(&self.ring, self.ring.queue(op)))
    }
}

/// That something is told of both, and the same.
#[track_caller]
fn alike(what: &str, settings: &[Setting; 2], tell: impl Fn(&Setting) -> String) -> String {
    let [called, through_the_ring] = settings.each_ref().map(tell);
    assert_eq!(called, through_the_ring, "{what}");
    called
}

fn settings() -> Option<[Setting; 2]> {
    let ring = ring();
    Some([Setting::new(calling_ring()?), Setting::new(ring)])
}

#[test]
fn each_error_of_a_name_is_the_one_that_the_ring_has() {
    let Some(settings) = settings() else { return };
    for setting in &settings {
        let at = |name| setting.place.path().join(name);
        fs::create_dir_all(at("full/of")).unwrap();
        fs::create_dir(at("empty")).unwrap();
        fs::write(at("file"), "").unwrap();
    }
    let long = "x".repeat(256);
    let check = |what: &str, errno: Errno, told: String| {
        assert!(told.contains(&format!("code: {}", errno.raw_os_error())), "{what}: {told}");
    };
    let mkdir = |name: &str| alike(name, &settings, |s| s.done(Mkdirat::new(&s.dir, name, rwx())));
    check("mkdir", Errno::EXIST, mkdir("file"));
    check("mkdir", Errno::NAMETOOLONG, mkdir(&long));
    let unlink = |name: &str, flags| {
        alike(name, &settings, |s| s.done(Unlinkat::new(&s.dir, name).flags(flags)))
    };
    check("unlink", Errno::NOENT, unlink("none", AtFlags::empty()));
    check("unlink", Errno::ISDIR, unlink("empty", AtFlags::empty()));
    check("rmdir", Errno::NOTDIR, unlink("file", AtFlags::REMOVEDIR));
    check("rmdir", Errno::NOTEMPTY, unlink("full", AtFlags::REMOVEDIR));
    check("unlink", Errno::INVAL, unlink("file", AtFlags::SYMLINK_FOLLOW));
    check("unlink", Errno::NAMETOOLONG, unlink(&long, AtFlags::empty()));
    let symlink =
        |to: &str, name: &str| alike(name, &settings, |s| s.done(Symlinkat::new(to, &s.dir, name)));
    check("symlink", Errno::EXIST, symlink("x", "file"));
    check("symlink", Errno::NOENT, symlink("", "new"));
    check("symlink", Errno::NAMETOOLONG, symlink(&"x/".repeat(3000), "new"));
    let rename = |from: &str, to: &str, flags| {
        let tell = |s: &Setting| s.done(Renameat::new(&s.dir, from, &s.dir, to).flags(flags));
        alike(from, &settings, tell)
    };
    check("rename", Errno::NOENT, rename("none", "new", RenameFlags::empty()));
    check("rename", Errno::ISDIR, rename("file", "empty", RenameFlags::empty()));
    check("rename", Errno::NOTEMPTY, rename("empty", "full", RenameFlags::empty()));
    check("rename", Errno::EXIST, rename("file", "empty", RenameFlags::NOREPLACE));
    check("rename", Errno::NOENT, rename("file", "none", RenameFlags::EXCHANGE));
    let both = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
    check("rename", Errno::INVAL, rename("file", "empty", both));
    // What a directory is not, and one that is gone.
    let in_a_file = alike("in a file", &settings, |s| {
        let file = s.open("file", File::options().read(true));
        s.done(Mkdirat::new(&file, "new", rwx()))
    });
    check("in a file", Errno::NOTDIR, in_a_file);
    let gone = alike("in what is gone", &settings, |s| {
        let gone = s.open("empty", File::options().read(true));
        fs::remove_dir(s.place.path().join("empty")).unwrap();
        s.done(Symlinkat::new("x", &gone, "new"))
    });
    check("in what is gone", Errno::NOENT, gone);
    let closed = alike("in what is closed", &settings, |s| {
        let closed = s.open("full", File::options().read(true));
        run(&s.ring, s.ring.close(&closed)).unwrap();
        s.done(Renameat::new(&s.dir, "file", &closed, "new"))
    });
    check("in what is closed", Errno::BADF, closed);
    // And nothing was done.
    alike("the names", &settings, |s| format!("{:?}", names(s.place.path())));
    assert_eq!(names(settings[0].place.path()), ["file", "full"]);
    assert_eq!(settings[0].ring.stats().sqes, 1, "the close alone");
}

#[test]
fn each_way_to_write_ends_as_through_the_ring() {
    let Some(settings) = settings() else { return };
    let (writes, appends) = (
        || File::options().write(true).create(true).to_owned(),
        || File::options().append(true).create(true).to_owned(),
    );
    let write = |what: &str, open: &dyn Fn() -> OpenOptions, offset: u64| {
        alike(what, &settings, |s| {
            let fd = s.open("file", &mut open());
            let told = s.done(Write::new(&fd, "abc", offset));
            let both = s.done(Writev::new(&fd, ["de", "f"], offset));
            let content = fs::read(s.place.path().join("file")).unwrap();
            format!("{told} {both} {:?}", String::from_utf8_lossy(&content))
        })
    };
    let told = write("at an offset", &writes, 4);
    assert!(told.contains("Ok(3)") && told.contains("\\0\\0\\0\\0def"), "{told}");
    write("at the position", &writes, CURRENT);
    // An append goes to the end, whatever is asked for.
    for offset in [0, 1000, CURRENT] {
        write("an append", &appends, offset);
    }
    let reads = || File::options().read(true).to_owned();
    assert!(write("of what is open to be read", &reads, 0).contains("code: 9"));
    for offset in [u64::MAX - 1, 1 << 63, (1 << 63) - 1, (1 << 63) - 2] {
        let told = write("beyond what a file can be", &writes, offset);
        assert!(told.contains("Err"), "{offset:x}: {told}");
        write("of what is open to be read, beyond what a file can be", &reads, offset);
    }
}

#[test]
fn what_a_file_in_memory_refuses_is_refused() {
    if !has_io_uring("to be passed by") {
        return;
    }
    let ring = ring_of_callers();
    let memory = |seal| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create("memory", flags).unwrap();
        rustix::fs::ftruncate(&memory, 4).unwrap();
        rustix::fs::fcntl_add_seals(&memory, seal).unwrap();
        Fd::from(memory)
    };
    let sealed = memory(SealFlags::WRITE);
    let BufResult(result, buf) = at_once(&ring, Write::new(&sealed, "no", 0));
    assert_eq!((refused(result), buf), (Errno::PERM, "no"));
    let sealed = memory(SealFlags::GROW);
    assert_eq!(refused(at_once(&ring, Write::new(&sealed, "no", 4)).0), Errno::PERM);
    assert_eq!(at_once(&ring, Write::new(&sealed, "yes!", 0)).unwrap().0, 4);
}

/// A file system in memory of a few pages, for as long as this is kept.
struct Small(TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let path = CString::new(place.path().as_os_str().as_bytes()).unwrap();
        let (kind, options) = (c"tmpfs".as_ptr(), c"size=16k".as_ptr());
        // SAFETY: strings that end, and stay for as long as the call.
        let mounted = unsafe { libc::mount(kind, path.as_ptr(), kind, 0, options.cast()) };
        if mounted == 0 {
            return Some(Self(place));
        }
        skipped("to be root, to mount");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let path = CString::new(self.0.path().as_os_str().as_bytes()).unwrap();
        // SAFETY: as above.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn a_full_file_system_takes_a_part_and_then_nothing() {
    if !has_io_uring("to be passed by") {
        return;
    }
    let rings = [ring_of_callers(), ring()];
    let mut told = Vec::new();
    for ring in &rings {
        let Some(small) = Small::mount() else { return };
        let fd = Fd::from(File::create(small.0.path().join("file")).unwrap());
        let write = |offset| finish(ring, ring.write(&fd, vec![b'x'; 10_000], offset)).0;
        let results = [write(0), write(10_000), write(20_000)].map(|result| {
            let errno = errno(&result);
            result.map_err(|_| errno)
        });
        let dir = Fd::from(File::open(small.0.path()).unwrap());
        let full = finish(ring, ring.symlinkat("x".repeat(3000), &dir, "link"));
        told.push((results, errno(&full)));
    }
    let full = Some(Errno::NOSPC.raw_os_error());
    assert_eq!(told[0], ([Ok(10_000), Ok(6384), Err(full)], full));
    assert_eq!(told[0], told[1]);
    assert_eq!(rings.map(|ring| ring.stats().sqes), [0, 4]);
}

#[test]
fn unasked_nothing_is_made_by_who_queues() {
    let (ring, (place, dir), (fd, file)) = (ring(), place(), file_with(""));
    in_time(&ring, Mkdirat::new(&dir, "dir", rwx())).unwrap();
    in_time(&ring, Symlinkat::new("x", &dir, "link")).unwrap();
    in_time(&ring, Renameat::new(&dir, "link", &dir, "renamed")).unwrap();
    in_time(&ring, Unlinkat::new(&dir, "dir").dir(true)).unwrap();
    in_time(&ring, Write::new(&fd, "ab", 0)).unwrap();
    in_time(&ring, Writev::new(&fd, ["c", "d"], 2)).unwrap();
    assert_eq!((names(place.path()), content(&file)), (vec!["renamed".into()], b"abcd".to_vec()));
}

#[test]
fn paths_that_lead_elsewhere_go_through_the_ring() {
    let Some(ring) = calling_ring() else { return };
    let (place, dir) = place();
    fs::create_dir(place.path().join("a")).unwrap();
    let there = |name: &str| place.path().join(name);
    in_time(&ring, Mkdirat::new(&dir, "a/b", rwx())).unwrap();
    in_time(&ring, Mkdirat::new(&dir, there("c"), rwx())).unwrap();
    in_time(&ring, Mkdirat::new(CWD, there("d"), rwx())).unwrap();
    in_time(&ring, Mkdirat::new(&dir, "e/", rwx())).unwrap();
    for name in ["", ".", ".."] {
        in_time(&ring, Mkdirat::new(&dir, name, rwx())).unwrap_err();
        in_time(&ring, Unlinkat::new(&dir, name).dir(true)).unwrap_err();
    }
    in_time(&ring, Symlinkat::new("x", &dir, "a/link")).unwrap();
    in_time(&ring, Renameat::new(&dir, "a/link", &dir, "f")).unwrap();
    in_time(&ring, Renameat::new(&dir, "f", &dir, "a/f")).unwrap();
    in_time(&ring, Renameat::new(&dir, "a/f", CWD, there("g"))).unwrap();
    in_time(&ring, Unlinkat::new(&dir, "a/b").dir(true)).unwrap();
    // What a link is to may be mounted there.
    in_time(&ring, Linkat::new(&dir, "g", &dir, "h")).unwrap();
    assert_eq!(names(place.path()), ["a", "c", "d", "e", "g", "h"]);
}

#[test]
fn what_somebody_else_may_keep_waiting_goes_through_the_ring() {
    let Some(ring) = calling_ring() else { return };
    let (place, dir) = place();
    // A pipe, a socket, devices; of whatever file system they are.
    let (reader, writer) = crate::ops::pipe();
    let writer = Fd::from(writer);
    in_time(&ring, Write::new(&writer, "through", CURRENT)).unwrap();
    let fifo = crate::support::fifo(place.path().join("fifo"));
    let fifo = Fd::from(crate::support::both_ways(&fifo));
    in_time(&ring, Writev::new(&fifo, ["through"], CURRENT)).unwrap();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    in_time(&ring, Write::new(&Fd::from(ours), "through", CURRENT)).unwrap();
    let null = Fd::from(File::create("/dev/null").unwrap());
    in_time(&ring, Write::new(&null, "through", 0)).unwrap();
    // Neither of them is a directory.
    let not_one = in_time(&ring, Mkdirat::new(&writer, "new", rwx()));
    assert_eq!(refused(not_one), Errno::NOTDIR);
    // A file system that is neither of a disk nor in memory.
    let process = Fd::from(File::open("/proc/self").unwrap());
    in_time(&ring, Mkdirat::new(&process, "new", rwx())).unwrap_err();
    in_time(&ring, Symlinkat::new("x", &process, "new")).unwrap_err();
    let from_elsewhere = in_time(&ring, Renameat::new(&process, "comm", &dir, "new"));
    assert_eq!(refused(from_elsewhere), Errno::XDEV);
    let comm = File::options().write(true).open("/proc/self/comm").unwrap();
    in_time(&ring, Write::new(&Fd::from(comm), "renamed", 0)).unwrap();
    drop(reader);
}

#[test]
fn a_write_that_waits_for_the_disk_or_is_long_goes_through_the_ring() {
    let Some(ring) = calling_ring() else { return };
    let (place, _dir) = place();
    for flags in [OFlags::SYNC, OFlags::DSYNC] {
        let flags = i32::try_from(flags.bits()).unwrap();
        let path = place.path().join("sync");
        let file = File::options().write(true).create(true).custom_flags(flags).open(path).unwrap();
        in_time(&ring, Write::new(&Fd::from(file), "durable", 0)).unwrap();
    }
    let direct = i32::try_from(OFlags::DIRECT.bits()).unwrap();
    let path = place.path().join("direct");
    match File::options().write(true).create(true).custom_flags(direct).open(path) {
        // Its length is none that a disk can take, if it has blocks.
        Ok(file) => drop(in_time(&ring, Write::new(&Fd::from(file), "direct", 0))),
        Err(error) => skipped(&format!("a file system with O_DIRECT: {error}")),
    }
    let (fd, file) = file_with("");
    let long = (64 << 10) + 1;
    assert_eq!(in_time(&ring, Write::new(&fd, vec![b'x'; long], 0)).unwrap().0, long);
    let halves = [vec![b'x'; 32 << 10], vec![b'x'; (32 << 10) + 1]];
    assert_eq!(in_time(&ring, Writev::new(&fd, halves, 0)).unwrap().0, long);
    assert_eq!(content(&file).len(), long);
}

#[test]
fn an_op_with_a_wish_has_it_of_the_ring() {
    let Some(ring) = calling_ring() else { return };
    let ((place, dir), (fd, file)) = (place(), file_with(""));
    let (day, at) = (Duration::from_secs(86_400), Instant::now() + Duration::from_secs(86_400));
    let mkdir = |name| Mkdirat::new(&dir, name, rwx());
    in_time(&ring, mkdir("a").in_worker()).unwrap();
    in_time(&ring, mkdir("b").may_block()).unwrap();
    in_time(&ring, mkdir("c").timeout(day)).unwrap();
    in_time(&ring, mkdir("d").deadline(at)).unwrap();
    in_time(&ring, Write::new(&fd, "ab", 0).in_worker()).unwrap();
    // A deadline that comes after that is one of what is over.
    let mut handle = ring.queue(mkdir("e")).timeout(Duration::ZERO);
    assert!(handle.is_done());
    run(&ring, &mut handle).unwrap();
    assert_eq!(names(place.path()), ["a", "b", "c", "d", "e"]);
    assert_eq!(content(&file), b"ab");
}

#[test]
fn rings_on_a_pool_and_ops_on_one_are_not_passed_by() {
    let ((place, dir), (fd, _file)) = (place(), file_with(""));
    let pool = Ring::builder().pool_only().callers_may_block(true).build().unwrap();
    in_time(&pool, Mkdirat::new(&dir, "a", rwx())).unwrap();
    in_time(&pool, Write::new(&fd, "a", 0)).unwrap();
    if !has_io_uring("with a pool beside it") {
        return;
    }
    let ring = builder().callers_may_block(true).on_pool(Opcode::MKDIRAT).build().unwrap();
    in_time(&ring, Mkdirat::new(&dir, "b", rwx())).unwrap();
    assert_eq!(names(place.path()), ["a", "b"]);
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_signal() {
    in_a_process_of_its_own(this_test!(), || {
        let limit = Rlimit { current: Some(4096), maximum: Some(4096) };
        setrlimit(Resource::Fsize, limit).unwrap();
        let (ring, (place, dir)) = (ring_of_callers(), place());
        let fd = Fd::from(File::create(place.path().join("file")).unwrap());
        let write = |offset| finish(&ring, ring.write(&fd, "xx", offset)).0;
        assert_eq!(refused(write(4096)), Errno::FBIG);
        assert_eq!(write(4095).unwrap(), 1, "up to the limit");
        // Names have no size.
        if has_io_uring("to be passed by") && place_is_local() {
            at_once(&ring, Mkdirat::new(&dir, "dir", rwx())).unwrap();
        }
    });
}

#[test]
fn a_close_waits_for_no_one_who_has_not_taken_the_result() {
    let Some(ring) = calling_ring() else { return };
    let ((_place, dir), (fd, _file)) = (place(), file_with(""));
    let (mkdir, write) = (ring.mkdirat(&dir, "a", rwx()), ring.write(&fd, "a", 0));
    let rename = ring.renameat2(&dir, "a", &dir, "b", RenameFlags::empty());
    assert!(mkdir.is_done() && rename.is_done() && write.is_done());
    run(&ring, ring.close(&dir)).unwrap();
    run(&ring, ring.close(&fd)).unwrap();
    mkdir.try_take().unwrap().unwrap();
    rename.try_take().unwrap().unwrap();
    assert_eq!(write.try_take().unwrap().unwrap().0, 1);
}

#[test]
fn a_buffer_comes_back_or_is_freed_once_and_a_cancel_comes_too_late() {
    let Some(ring) = calling_ring() else { return };
    let (fd, _file) = file_with("");
    let graveyard = Graveyard::default();
    drop(ring.write(&fd, graveyard.buffer(), 0));
    assert_eq!(graveyard.freed(), 1);
    ring.write(&fd, graveyard.buffer(), 0).detach();
    assert_eq!(graveyard.freed(), 2);
    let handle = ring.write(&fd, graveyard.buffer(), 0);
    assert!(handle.is_done());
    assert_eq!(run(&ring, handle.cancel()), deferring::CancelOutcome::Finished);
    let BufResult(result, buf) = handle.try_take().unwrap();
    assert!(result.is_ok() && handle.try_take().is_none());
    assert_eq!(graveyard.freed(), 2);
    drop(buf);
    assert_eq!(graveyard.freed(), 3);
}

#[test]
fn a_ring_that_has_ended_does_nothing_for_whoever_may_block() {
    let Some(ring) = calling_ring() else { return };
    let ((place, dir), (fd, file)) = (place(), file_with(""));
    at_once(&ring, Write::new(&fd, "before", 0)).unwrap();
    run(&ring, ring.shutdown(Instant::now()));
    let ended = ring.stats().ended;
    let error = at_once(&ring, Mkdirat::new(&dir, "after", rwx())).unwrap_err();
    assert!(error.to_string().contains("shut down"), "{error}");
    let BufResult(result, buf) = at_once(&ring, Write::new(&fd, "after", 0));
    assert!(result.unwrap_err().to_string().contains("shut down"));
    assert_eq!((buf, names(place.path()).len()), ("after", 0));
    assert_eq!((content(&file), ring.stats().ended), (b"before".to_vec(), ended));
}

#[test]
fn a_loop_of_calls_lets_others_of_its_task_have_their_turn() {
    let Some(ring) = calling_ring() else { return };
    let (fd, _file) = file_with("");
    let told = std::cell::Cell::new(None);
    run(&ring, async {
        // It comes when somebody turns the ring, which the loop does not wait for.
        let other = async {
            ring.nop().await.unwrap();
            told.set(Some(ring.stats().ended));
        };
        let writes = async {
            for _ in 0..1000 {
                ring.write(&fd, "again", 0).await.unwrap();
            }
            assert!(told.get().is_some_and(|ended| ended < 500), "{told:?}");
        };
        both(other, writes).await;
    });
    assert!(ring.stats().sqes < 20, "{:?}", ring.stats());
}

async fn both(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let mut left = [true; 2];
    poll_fn(|cx| {
        left[0] = left[0] && one.as_mut().poll(cx).is_pending();
        left[1] = left[1] && other.as_mut().poll(cx).is_pending();
        if left == [false; 2] { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[test]
fn many_threads_call_at_once_and_each_has_its_own_results() {
    let Some(ring) = calling_ring() else { return };
    let (place, dir) = place();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (ring, dir) = (&ring, &dir);
            scope.spawn(move || {
                for round in 0..100 {
                    let name = format!("{thread}-{round}");
                    // One of 128 goes through the ring, which nobody turns before the end.
                    let mkdir: Handle<Mkdirat> = ring.mkdirat(dir, &name, rwx());
                    match mkdir.try_take() {
                        Some(result) => result.unwrap(),
                        None => mkdir.detach(),
                    }
                }
            });
        }
    });
    crate::support::drain(&ring);
    assert_eq!(names(place.path()).len(), 400);
    assert_eq!((ring.stats().sqes, ring.stats().ended), (3, 400));
}
