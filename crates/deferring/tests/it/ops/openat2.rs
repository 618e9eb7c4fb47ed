//! Openat2 on the real kernel: each flag does what it says.

use std::ffi::{c_int, c_uint};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use deferring::op::{At, Openat2};
use deferring::{CWD, Fd, IoBuf, Mode, OFlags, ResolveFlags};
use rustix::fs::{AtFlags, Timespec, Timestamps, fcntl_getfl};
use rustix::io::{Errno, FdFlags, fcntl_getfd};
use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};

use super::{file_with, finish, names, place, refused};
use crate::support::{alone, in_a_process_of_its_own, ring, skipped, this_test};

const RW: Mode = Mode::RUSR.union(Mode::WUSR);

/// Opens by the op, for a look through std.
fn run(op: Openat2) -> io::Result<File> {
    let ring = ring();
    let fd = finish(&ring, ring.queue(op))?;
    Ok(fd.try_into_owned().expect("used by nobody").into())
}

fn open(dir: impl Into<At>, path: impl AsRef<Path>, flags: OFlags) -> io::Result<File> {
    run(Openat2::new(dir, path).flags(flags))
}

fn create(dir: impl Into<At>, path: impl AsRef<Path>, flags: OFlags) -> io::Result<File> {
    run(Openat2::new(dir, path).flags(flags | OFlags::CREATE).mode(RW))
}

fn resolve(dir: &Fd, path: impl AsRef<Path>, resolve: ResolveFlags) -> io::Result<File> {
    run(Openat2::new(dir, path).resolve(resolve))
}

fn status(file: &File) -> OFlags {
    fcntl_getfl(file).expect("open")
}

fn ino(file: &File) -> u64 {
    file.metadata().expect("open").ino()
}

#[test]
fn c34_a_file_is_opened_for_reading_for_writing_or_for_both() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "x").unwrap();
    for (access, reads, writes) in
        [(OFlags::RDONLY, true, false), (OFlags::WRONLY, false, true), (OFlags::RDWR, true, true)]
    {
        let mut file = open(&dir, "file", access).unwrap();
        assert_eq!(file.write(b"x").is_ok(), writes, "{access:?}");
        assert_eq!(file.read(&mut [0]).is_ok(), reads, "{access:?}");
        assert_eq!(status(&file) & OFlags::RWMODE, access);
    }
    let file = run(Openat2::new(&dir, "file")).unwrap();
    assert_eq!(status(&file) & OFlags::RWMODE, OFlags::RDONLY, "unless told otherwise");
    alone(|ring| async move { ring.queue(Openat2::new(&dir, "file")).await }).unwrap();
}

#[test]
fn c34_a_path_starts_from_a_directory_or_from_none() {
    let (place, dir) = place();
    let (file, _std) = file_with("");
    fs::write(place.path().join("file"), "").unwrap();
    let expected = fs::metadata(place.path().join("file")).unwrap().ino();
    let absolute = place.path().join("file");
    assert_eq!(ino(&open(&dir, "file", OFlags::RDONLY).unwrap()), expected);
    assert_eq!(ino(&open(CWD, &absolute, OFlags::RDONLY).unwrap()), expected);
    assert_eq!(ino(&open(&dir, &absolute, OFlags::RDONLY).unwrap()), expected);
    assert_eq!(refused(open(&dir, "none", OFlags::RDONLY)), Errno::NOENT);
    assert_eq!(refused(open(&file, "file", OFlags::RDONLY)), Errno::NOTDIR);
}

#[test]
fn c34_a_relative_path_without_a_directory_starts_from_the_current_one() {
    in_a_process_of_its_own(this_test!(), || {
        let (here, there) = (place().0, place().0);
        fs::write(here.path().join("file"), "here").unwrap();
        fs::write(there.path().join("file"), "there").unwrap();
        std::env::set_current_dir(there.path()).unwrap();
        let text = io::read_to_string(open(CWD, "file", OFlags::RDONLY).unwrap()).unwrap();
        assert_eq!(text, "there");
        std::env::set_current_dir("/").expect("out of the way");
    });
}

#[test]
fn c34_append_writes_at_the_end_whatever_the_offset() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "hello").unwrap();
    let ring = ring();
    let op = Openat2::new(&dir, "file").flags(OFlags::WRONLY | OFlags::APPEND);
    let fd = finish(&ring, ring.queue(op)).unwrap();
    finish(&ring, ring.write(&fd, "!", 0)).unwrap();
    assert_eq!(fs::read(place.path().join("file")).unwrap(), b"hello!");
}

#[test]
fn c34_cloexec_is_set_asked_or_not() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "").unwrap();
    for op in [
        Openat2::new(&dir, "file"),
        Openat2::new(&dir, "file").flags(OFlags::RDWR),
        Openat2::new(&dir, "file").flags(OFlags::RDWR | OFlags::CLOEXEC),
        Openat2::new(&dir, "file").flags(OFlags::PATH),
    ] {
        let what = format!("{op:?}");
        assert!(fcntl_getfd(run(op).unwrap()).unwrap().contains(FdFlags::CLOEXEC), "{what}");
    }
}

#[test]
fn c34_creat_makes_a_file_with_the_perm_asked_for_less_the_umask() {
    in_a_process_of_its_own(this_test!(), || {
        rustix::process::umask(Mode::from_raw_mode(0o027));
        let (place, dir) = place();
        for (name, asked, got) in [("a", 0o666, 0o640), ("b", 0o4777, 0o4750), ("c", 0, 0)] {
            let flags = OFlags::WRONLY | OFlags::CREATE;
            let op = Openat2::new(&dir, name).flags(flags).mode(Mode::from_raw_mode(asked));
            let mut file = run(op).unwrap();
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, got, "{name}: {asked:o}");
            file.write_all(b"x").expect("open for writing, whatever the perm");
        }
        assert_eq!(names(place.path()), ["a", "b", "c"]);
    });
}

#[test]
fn c34_creat_opens_what_is_there_and_leaves_its_perm() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "hello").unwrap();
    let before = fs::metadata(place.path().join("file")).unwrap().mode();
    let file = create(&dir, "file", OFlags::RDONLY).unwrap();
    assert_eq!(file.metadata().unwrap().mode(), before);
    assert_eq!(io::read_to_string(file).unwrap(), "hello");
}

#[test]
fn c34_a_perm_without_creat_or_tmpfile_is_einval() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "").unwrap();
    let op = |flags| Openat2::new(&dir, "file").flags(flags).mode(Mode::RUSR);
    assert_eq!(refused(run(op(OFlags::RDONLY))), Errno::INVAL);
    assert_eq!(refused(run(op(OFlags::RDWR | OFlags::TRUNC))), Errno::INVAL);
    run(op(OFlags::RDONLY | OFlags::CREATE)).unwrap();
}

#[test]
fn c34_a_flag_that_the_kernel_does_not_know_is_einval() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "").unwrap();
    let unknown = OFlags::from_bits_retain(1 << 30);
    assert_eq!(refused(open(&dir, "file", unknown)), Errno::INVAL);
    let unknown = ResolveFlags::from_bits_retain(1 << 40);
    assert_eq!(refused(resolve(&dir, "file", unknown)), Errno::INVAL);
}

#[test]
fn c34_direct_goes_past_the_page_cache_and_so_asks_for_alignment() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), vec![b'x'; 8192]).unwrap();
    let file = match open(&dir, "file", OFlags::RDONLY | OFlags::DIRECT) {
        Ok(file) => file,
        Err(error) => return skipped(&format!("a file system with O_DIRECT: {error}")),
    };
    assert!(status(&file).contains(OFlags::DIRECT));
    let (fd, ring) = (Fd::from(file), ring());
    let buf = vec![0; 8192];
    let start = buf.as_ptr().align_offset(4096);
    let block = buf.slice(start..start + 4096);
    let (n, block) = finish(&ring, ring.read(&fd, block, 4096)).unwrap();
    assert_eq!((n, &block[..3]), (4096, &b"xxx"[..]));
    let odd = finish(&ring, ring.read(&fd, block, 7)).0;
    if odd.is_ok() {
        return skipped("a file system that is strict about O_DIRECT");
    }
    assert_eq!(refused(odd), Errno::INVAL);
}

#[test]
fn c34_directory_refuses_what_is_none() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "").unwrap();
    fs::create_dir(place.path().join("dir")).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    assert!(open(&dir, "dir", flags).unwrap().metadata().unwrap().is_dir());
    assert_eq!(refused(open(&dir, "file", flags)), Errno::NOTDIR);
}

#[test]
fn c34_dsync_and_sync_are_set() {
    const O_DSYNC: OFlags = OFlags::from_bits_retain(0o010_000);
    let (place, dir) = place();
    fs::write(place.path().join("file"), "").unwrap();
    let set = |flags| {
        let mut file = open(&dir, "file", OFlags::RDWR | flags).unwrap();
        file.write_all(b"x").unwrap();
        status(&file) & (OFlags::SYNC | O_DSYNC)
    };
    if cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))) {
        return skipped("a machine where O_DSYNC has the usual number");
    }
    assert_eq!(set(OFlags::empty()), OFlags::empty());
    assert_eq!(set(O_DSYNC), O_DSYNC);
    assert_eq!(set(OFlags::SYNC), OFlags::SYNC, "which has the bit of O_DSYNC too");
    assert!(set(OFlags::DSYNC).contains(O_DSYNC), "rustix means O_SYNC by it, which is more");
}

#[test]
fn c34_excl_refuses_what_is_there() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "").unwrap();
    symlink("new target", place.path().join("link")).unwrap();
    let create = |name| create(&dir, name, OFlags::WRONLY | OFlags::EXCL);
    assert_eq!(refused(create("file")), Errno::EXIST);
    assert_eq!(refused(create("link")), Errno::EXIST, "a link is not followed");
    create("new").unwrap();
    assert_eq!(names(place.path()), ["file", "link", "new"]);
}

#[test]
fn c34_largefile_allows_offsets_of_more_than_31_bits() {
    let (_place, dir) = place();
    let file = create(&dir, "file", OFlags::WRONLY | OFlags::LARGEFILE).unwrap();
    file.write_at(b"x", 1 << 32).unwrap();
    assert_eq!(file.metadata().unwrap().len(), (1 << 32) + 1);
}

#[test]
fn c34_noatime_leaves_the_time_of_the_last_read() {
    let (place, dir) = place();
    let path = place.path().join("file");
    fs::write(&path, "hello").unwrap();
    // Read before it was written: even a mount with `relatime` moves such a time.
    let time = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
    let times = Timestamps { last_access: time(1_000), last_modification: time(2_000) };
    rustix::fs::utimensat(rustix::fs::CWD, &path, &times, AtFlags::empty()).unwrap();
    let read = |flags| {
        let file = open(&dir, "file", OFlags::RDONLY | flags).unwrap();
        file.read_exact_at(&mut [0; 5], 0).unwrap();
        fs::metadata(&path).unwrap().atime()
    };
    assert_eq!(read(OFlags::NOATIME), 1_000);
    if read(OFlags::empty()) == 1_000 {
        skipped("a mount that keeps times of reads");
    }
}

#[test]
fn c34_noctty_does_not_make_a_terminal_the_controlling_one() {
    in_a_process_of_its_own(this_test!(), || {
        rustix::process::setsid().expect("a child is no group leader");
        let Ok(master) = open(CWD, "/dev/ptmx", OFlags::RDWR | OFlags::NOCTTY) else {
            return skipped("pseudo terminals");
        };
        const UNLOCK: Opcode = opcode::write::<c_int>(b'T', 0x31);
        const NUMBER: Opcode = opcode::read::<c_uint>(b'T', 0x30);
        // SAFETY: TIOCSPTLCK reads an int, TIOCGPTN writes an unsigned one.
        let number = unsafe {
            ioctl(&master, Setter::<UNLOCK, c_int>::new(0)).unwrap();
            ioctl(&master, Getter::<NUMBER, c_uint>::new()).unwrap()
        };
        let terminal = format!("/dev/pts/{number}");
        let has_terminal = || File::open("/dev/tty").is_ok();
        assert!(!has_terminal(), "a new session has none");
        let _one = open(CWD, &terminal, OFlags::RDWR | OFlags::NOCTTY).unwrap();
        assert!(!has_terminal(), "and gets none");
        let _other = open(CWD, &terminal, OFlags::RDWR).unwrap();
        assert!(has_terminal(), "unless the flag is left out");
        // Closed only by the exit: before it, the hang-up would be the end of this process.
        let _leaked = master.into_raw_fd();
    });
}

#[test]
fn c34_nofollow_refuses_a_link_at_the_end() {
    let (place, dir) = place();
    fs::create_dir(place.path().join("dir")).unwrap();
    fs::write(place.path().join("dir/file"), "").unwrap();
    symlink("dir/file", place.path().join("to file")).unwrap();
    symlink("dir", place.path().join("to dir")).unwrap();
    open(&dir, "to file", OFlags::RDONLY).unwrap();
    assert_eq!(refused(open(&dir, "to file", OFlags::RDONLY | OFlags::NOFOLLOW)), Errno::LOOP);
    open(&dir, "to dir/file", OFlags::RDONLY | OFlags::NOFOLLOW).expect("not at the end");
}

#[test]
fn c34_nonblock_is_for_calls_that_would_wait() {
    let (place, dir) = place();
    let fifo = place.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, RW, 0).unwrap();
    let mut reader = open(&dir, "fifo", OFlags::RDONLY | OFlags::NONBLOCK).unwrap();
    let _writer = File::options().write(true).open(&fifo).unwrap();
    assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(status(&reader).contains(OFlags::NONBLOCK));
}

#[test]
fn c34_path_gives_a_place_and_not_its_content() {
    let (place, dir) = place();
    fs::create_dir(place.path().join("dir")).unwrap();
    fs::write(place.path().join("dir/file"), "hello").unwrap();
    let mut file = open(&dir, "dir/file", OFlags::PATH).unwrap();
    assert!(status(&file).contains(OFlags::PATH));
    assert_eq!(refused(file.read(&mut [0])), Errno::BADF);
    let ring = ring();
    let op = Openat2::new(&dir, "dir").flags(OFlags::PATH | OFlags::DIRECTORY);
    let there = finish(&ring, ring.queue(op)).unwrap();
    let file = open(&there, "file", OFlags::RDONLY).expect("a place to start from");
    assert_eq!(io::read_to_string(file).unwrap(), "hello");
}

#[test]
fn c34_tmpfile_makes_a_file_with_no_name() {
    let (place, dir) = place();
    let open = |flags, mode| run(Openat2::new(&dir, ".").flags(flags).mode(mode));
    let file = match open(OFlags::RDWR | OFlags::TMPFILE, RW) {
        Ok(file) => file,
        Err(error) => return skipped(&format!("a file system with O_TMPFILE: {error}")),
    };
    file.write_all_at(b"hello", 0).unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.nlink(), metadata.len()), (0, 5));
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(names(place.path()).is_empty());
    assert_eq!(refused(open(OFlags::RDONLY | OFlags::TMPFILE, RW)), Errno::INVAL);
}

#[test]
fn c34_trunc_empties_a_file() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "hello").unwrap();
    open(&dir, "file", OFlags::WRONLY).unwrap();
    assert_eq!(fs::read(place.path().join("file")).unwrap(), b"hello");
    open(&dir, "file", OFlags::WRONLY | OFlags::TRUNC).unwrap();
    assert_eq!(fs::read(place.path().join("file")).unwrap(), b"");
}

/// A directory with a file, ways out of it, and a file outside.
fn prison() -> (tempfile::TempDir, Fd) {
    let (place, _) = place();
    fs::create_dir_all(place.path().join("in/dir")).unwrap();
    fs::write(place.path().join("in/file"), "inside").unwrap();
    fs::write(place.path().join("file"), "outside").unwrap();
    symlink("../file", place.path().join("in/out")).unwrap();
    symlink("/file", place.path().join("in/absolute")).unwrap();
    symlink("file", place.path().join("in/link")).unwrap();
    let dir = Fd::from(File::open(place.path().join("in")).unwrap());
    (place, dir)
}

fn text(file: io::Result<File>) -> String {
    io::read_to_string(file.unwrap()).unwrap()
}

#[test]
fn c34_beneath_refuses_every_way_out() {
    let (place, dir) = prison();
    let open = |path: &Path| resolve(&dir, path, ResolveFlags::BENEATH);
    assert_eq!(text(resolve(&dir, "../file", ResolveFlags::empty())), "outside");
    for path in ["../file", "dir/../../file", "out", "absolute", "/"] {
        assert_eq!(refused(open(Path::new(path))), Errno::XDEV, "{path}");
    }
    assert_eq!(refused(open(&place.path().join("in/file"))), Errno::XDEV);
    for path in ["file", "dir/../file", "link"] {
        assert_eq!(text(open(Path::new(path))), "inside", "{path}");
    }
}

#[test]
fn c34_in_root_makes_the_directory_the_root() {
    let (_place, dir) = prison();
    let open = |path| resolve(&dir, path, ResolveFlags::IN_ROOT);
    for path in ["file", "/file", "../file", "/../../file", "out", "absolute"] {
        assert_eq!(text(open(path)), "inside", "{path}");
    }
}

#[test]
fn c34_no_magiclinks_refuses_the_links_of_proc() {
    let (place, dir) = prison();
    let file = File::open(place.path().join("file")).unwrap();
    let magic = format!("/proc/self/fd/{}", file.as_raw_fd());
    assert_eq!(text(resolve(&dir, &magic, ResolveFlags::empty())), "outside");
    assert_eq!(refused(resolve(&dir, &magic, ResolveFlags::NO_MAGICLINKS)), Errno::LOOP);
    assert_eq!(text(resolve(&dir, "link", ResolveFlags::NO_MAGICLINKS)), "inside");
}

#[test]
fn c34_no_symlinks_refuses_every_link() {
    let (place, dir) = prison();
    symlink("in", place.path().join("to in")).unwrap();
    let open = |path| resolve(&dir, path, ResolveFlags::NO_SYMLINKS);
    assert_eq!(refused(open("link")), Errno::LOOP);
    assert_eq!(refused(open("../to in/file")), Errno::LOOP, "also on the way");
    assert_eq!(text(open("file")), "inside");
}

#[test]
fn c34_no_xdev_stays_on_one_mount() {
    let root = Fd::from(File::open("/").unwrap());
    resolve(&root, "proc/version", ResolveFlags::empty()).unwrap();
    assert_eq!(refused(resolve(&root, "proc/version", ResolveFlags::NO_XDEV)), Errno::XDEV);
    let proc = Fd::from(File::open("/proc").unwrap());
    resolve(&proc, "version", ResolveFlags::NO_XDEV).unwrap();
}

#[test]
fn c34_cached_refuses_what_needs_a_disk() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "hello").unwrap();
    let op = |path| Openat2::new(&dir, path).resolve(ResolveFlags::CACHED);
    assert_eq!(text(run(op("file"))), "hello", "just made, so known");
    let flags = OFlags::WRONLY | OFlags::CREATE;
    assert_eq!(refused(run(op("new").flags(flags).mode(RW))), Errno::AGAIN);
    assert_eq!(names(place.path()), ["file"]);
}

#[test]
fn c34_a_file_that_may_not_be_read_is_eacces() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "").unwrap();
    fs::set_permissions(place.path().join("file"), fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(place.path().join("file")).is_ok() {
        return skipped("an ordinary user");
    }
    assert_eq!(refused(open(&dir, "file", OFlags::RDONLY)), Errno::ACCESS);
}
