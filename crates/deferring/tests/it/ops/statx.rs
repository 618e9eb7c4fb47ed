//! Statx on the real kernel, compared field by field with what std and rustix are told.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use deferring::op::{Op, Statx};
use deferring::{
    AtFlags, Attribute, CWD, Device, DirectAlign, Fd, FileType, Mode, Stat, StatxFlags, Timestamp,
};
use rustix::fs::{IFlags, StatxAttributes, StatxTimestamp, major, minor};
use rustix::io::Errno;
use tempfile::TempDir;

use super::{file_with, finish, pipe, place, refused};
use crate::support::{alone, has_io_uring, ring, run, skipped};

/// By path, following.
fn stat(path: impl AsRef<Path>) -> Stat {
    let ring = ring();
    finish(&ring, ring.queue(Statx::new(CWD, path))).unwrap()
}

/// What rustix is told, asking for the same.
fn told(path: &Path) -> rustix::fs::Statx {
    rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), Stat::EVERYTHING).unwrap()
}

fn device(number: u64) -> Device {
    Device { major: major(number), minor: minor(number) }
}

/// A file with something in every field.
fn rich_file() -> (TempDir, std::path::PathBuf) {
    let (place, _) = place();
    let path = place.path().join("file");
    fs::write(&path, vec![b'x'; 10_000]).unwrap();
    fs::hard_link(&path, place.path().join("second name")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4641)).unwrap();
    let times = fs::FileTimes::new()
        .set_accessed(std::time::UNIX_EPOCH + Duration::new(1_000_000_001, 11))
        .set_modified(std::time::UNIX_EPOCH - Duration::from_millis(1_500));
    File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    (place, path)
}

#[test]
fn c40_every_field_is_what_std_is_told() {
    let (_place, path) = rich_file();
    let (stat, std) = (stat(&path), fs::metadata(&path).unwrap());
    let time = |seconds, nanoseconds: i64| {
        Some(Timestamp { seconds, nanoseconds: nanoseconds.try_into().unwrap() })
    };
    assert!(stat.has(StatxFlags::BASIC_STATS), "{stat:?}");
    assert_eq!(stat.file_type(), Some(FileType::Regular));
    assert_eq!(stat.mode(), Some(Mode::from_raw_mode(0o4641)));
    assert_eq!(std.mode() & 0o7777, 0o4641);
    assert_eq!(stat.nlink().map(u64::from), Some(std.nlink()));
    assert_eq!((stat.uid(), stat.gid()), (Some(std.uid()), Some(std.gid())));
    assert_eq!(stat.size(), Some(std.size()));
    assert_eq!(stat.blocks(), Some(std.blocks()));
    assert_eq!(u64::from(stat.blksize()), std.blksize());
    assert_eq!(stat.ino(), Some(std.ino()));
    assert_eq!(stat.dev(), device(std.dev()));
    assert_eq!(stat.rdev(), device(std.rdev()));
    assert_eq!(stat.atime(), time(std.atime(), std.atime_nsec()));
    assert_eq!(stat.mtime(), time(std.mtime(), std.mtime_nsec()));
    assert_eq!(stat.ctime(), time(std.ctime(), std.ctime_nsec()));
    assert_eq!(stat.mtime(), time(-2, 500_000_000), "before 1970");
    match std.created() {
        Ok(created) => assert_eq!(stat.btime().map(Into::into), Some(created)),
        Err(_) => assert_eq!(stat.btime(), None),
    }
}

#[test]
fn c40_every_field_is_what_rustix_is_told() {
    let (_place, path) = rich_file();
    for path in [&path, Path::new("/"), Path::new("/dev/null"), Path::new("/proc/self/comm")] {
        let (stat, told) = (stat(path), told(path));
        let time = |raw: StatxTimestamp, flag| {
            stat.has(flag).then_some(Timestamp { seconds: raw.tv_sec, nanoseconds: raw.tv_nsec })
        };
        assert_eq!(stat.mask().bits(), told.stx_mask, "{path:?}");
        assert_eq!(stat.mode(), Some(Mode::from_raw_mode(told.stx_mode.into())));
        assert_eq!((stat.nlink(), stat.ino()), (Some(told.stx_nlink), Some(told.stx_ino)));
        assert_eq!((stat.uid(), stat.gid()), (Some(told.stx_uid), Some(told.stx_gid)));
        assert_eq!((stat.size(), stat.blocks()), (Some(told.stx_size), Some(told.stx_blocks)));
        assert_eq!(stat.btime(), time(told.stx_btime, StatxFlags::BTIME));
        assert_eq!(stat.mtime(), time(told.stx_mtime, StatxFlags::MTIME));
        let here = |flag| told.stx_mask & StatxFlags::bits(&flag) != 0;
        assert_eq!(stat.mnt_id(), here(StatxFlags::MNT_ID).then_some(told.stx_mnt_id));
        let align =
            DirectAlign { memory: told.stx_dio_mem_align, offset: told.stx_dio_offset_align };
        assert_eq!(stat.direct_align(), here(StatxFlags::DIOALIGN).then_some(align));
        assert_eq!(stat.rdev(), Device { major: told.stx_rdev_major, minor: told.stx_rdev_minor });
        for (attribute, bits) in ATTRIBUTES {
            let known = told.stx_attributes_mask.contains(bits);
            let expected = known.then(|| told.stx_attributes.contains(bits));
            assert_eq!(stat.attribute(attribute), expected, "{path:?} {attribute:?}");
        }
    }
}

const ATTRIBUTES: [(Attribute, StatxAttributes); 9] = [
    (Attribute::Compressed, StatxAttributes::COMPRESSED),
    (Attribute::Immutable, StatxAttributes::IMMUTABLE),
    (Attribute::Append, StatxAttributes::APPEND),
    (Attribute::NoDump, StatxAttributes::NODUMP),
    (Attribute::Encrypted, StatxAttributes::ENCRYPTED),
    (Attribute::Automount, StatxAttributes::AUTOMOUNT),
    (Attribute::MountRoot, StatxAttributes::MOUNT_ROOT),
    (Attribute::Verity, StatxAttributes::VERITY),
    (Attribute::Dax, StatxAttributes::DAX),
];

#[test]
fn c40_a_path_starts_from_a_directory_or_from_none() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "four").unwrap();
    let (file, ring) = (place.path().join("file"), ring());
    assert_eq!(finish(&ring, ring.queue(Statx::new(&dir, "file"))).unwrap().size(), Some(4));
    assert_eq!(finish(&ring, ring.queue(Statx::new(CWD, &file))).unwrap().size(), Some(4));
    assert_eq!(finish(&ring, ring.queue(Statx::new(&dir, &file))).unwrap().size(), Some(4));
    assert_eq!(refused(finish(&ring, ring.queue(Statx::new(&dir, "none")))), Errno::NOENT);
    assert_eq!(refused(finish(&ring, ring.queue(Statx::new(&dir, "file/x")))), Errno::NOTDIR);
    alone(|ring| async move { ring.queue(Statx::new(&dir, "file")).await }).unwrap();
}

#[test]
fn c40_a_descriptor_with_an_empty_path_is_fstat() {
    let (fd, file) = file_with("hello");
    let ring = ring();
    let stat = finish(&ring, ring.queue(Statx::of(&fd))).unwrap();
    assert_eq!(stat.ino(), Some(file.metadata().unwrap().ino()));
    assert_eq!((stat.size(), stat.nlink()), (Some(5), Some(0)), "a file with no name");
    let bare = ring.statx(&fd, "", AtFlags::empty(), StatxFlags::SIZE);
    assert_eq!(refused(finish(&ring, bare)), Errno::NOENT, "an empty path must be asked for");
    let (reader, _writer) = pipe();
    let stat = finish(&ring, ring.queue(Statx::of(&Fd::from(reader)))).unwrap();
    assert_eq!(stat.file_type(), Some(FileType::Fifo), "of what has no path at all");
}

#[test]
fn c40_without_following_it_is_lstat() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "hello").unwrap();
    symlink("file", place.path().join("link")).unwrap();
    symlink("none", place.path().join("dangling")).unwrap();
    let ring = ring();
    let stat = |name, flags| finish(&ring, ring.queue(Statx::new(&dir, name).flags(flags)));
    let (follow, nofollow) = (AtFlags::empty(), AtFlags::SYMLINK_NOFOLLOW);
    let followed = stat("link", follow).unwrap();
    assert_eq!((followed.file_type(), followed.size()), (Some(FileType::Regular), Some(5)));
    let link = stat("link", nofollow).unwrap();
    assert_eq!((link.file_type(), link.size()), (Some(FileType::Symlink), Some(4)));
    assert_eq!(refused(stat("dangling", follow)), Errno::NOENT);
    assert!(stat("dangling", nofollow).unwrap().file_type().unwrap().is_symlink());
}

#[test]
fn c40_each_field_that_is_asked_for_comes_and_others_say_whether_they_did() {
    type Field = (StatxFlags, fn(&Stat) -> bool);
    let fields: [Field; 14] = [
        (StatxFlags::TYPE, |stat| stat.file_type().is_some()),
        (StatxFlags::MODE, |stat| stat.mode().is_some()),
        (StatxFlags::NLINK, |stat| stat.nlink().is_some()),
        (StatxFlags::UID, |stat| stat.uid().is_some()),
        (StatxFlags::GID, |stat| stat.gid().is_some()),
        (StatxFlags::ATIME, |stat| stat.atime().is_some()),
        (StatxFlags::MTIME, |stat| stat.mtime().is_some()),
        (StatxFlags::CTIME, |stat| stat.ctime().is_some()),
        (StatxFlags::INO, |stat| stat.ino().is_some()),
        (StatxFlags::SIZE, |stat| stat.size().is_some()),
        (StatxFlags::BLOCKS, |stat| stat.blocks().is_some()),
        (StatxFlags::BTIME, |stat| stat.btime().is_some()),
        (StatxFlags::MNT_ID, |stat| stat.mnt_id().is_some()),
        (StatxFlags::DIOALIGN, |stat| stat.direct_align().is_some()),
    ];
    let (_place, path) = rich_file();
    let ring = ring();
    let ask =
        |path: &Path, mask| finish(&ring, ring.queue(Statx::new(CWD, path).mask(mask))).unwrap();
    for path in [&*path, Path::new("/proc/self/comm")] {
        for (asked, _) in fields {
            let stat = ask(path, asked);
            assert!(stat.has(asked) || !StatxFlags::BASIC_STATS.contains(asked), "{asked:?}");
            for (other, is_here) in fields {
                assert_eq!(is_here(&stat), stat.has(other), "asked for {asked:?}: {other:?}");
            }
        }
    }
    let nothing_but_size = ask(&path, StatxFlags::SIZE);
    assert_eq!(nothing_but_size.size(), Some(10_000));
    assert_eq!(nothing_but_size.direct_align(), None, "not asked for");
    let of_proc = ask(Path::new("/proc/self/comm"), Stat::EVERYTHING);
    assert_eq!(of_proc.btime(), None, "asked for, and not known there");
    assert!(!of_proc.has(StatxFlags::BTIME | StatxFlags::SIZE), "all, or not");
}

#[test]
fn c40_a_question_may_say_how_fresh_the_answer_must_be() {
    let (_place, path) = rich_file();
    let ring = ring();
    let ask = |flags| finish(&ring, ring.queue(Statx::new(CWD, &path).flags(flags)));
    for flags in [
        AtFlags::STATX_SYNC_AS_STAT,
        AtFlags::STATX_FORCE_SYNC,
        AtFlags::STATX_DONT_SYNC,
        AtFlags::NO_AUTOMOUNT,
    ] {
        assert_eq!(ask(flags).unwrap().size(), Some(10_000), "{flags:?}");
    }
    let both = AtFlags::STATX_FORCE_SYNC | AtFlags::STATX_DONT_SYNC;
    assert_eq!(refused(ask(both)), Errno::INVAL, "the flags arrive: not both");
}

#[test]
fn c40_every_kind_of_file_is_told() {
    let (place, _dir) = place();
    let at = |name: &str| place.path().join(name);
    fs::write(at("file"), "").unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, Mode::RWXU, 0)
        .unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    assert_eq!(stat(at("file")).file_type(), Some(FileType::Regular));
    assert_eq!(stat(place.path()).file_type(), Some(FileType::Directory));
    assert_eq!(stat(at("fifo")).file_type(), Some(FileType::Fifo));
    assert_eq!(stat(at("socket")).file_type(), Some(FileType::Socket));
    let null = stat("/dev/null");
    assert_eq!(null.file_type(), Some(FileType::CharDevice));
    assert_eq!(null.rdev(), Device { major: 1, minor: 3 });
    let mut devices = fs::read_dir("/dev").unwrap().map(Result::unwrap);
    match devices.find(|entry| entry.file_type().unwrap().is_block_device()) {
        Some(disk) => assert_eq!(stat(disk.path()).file_type(), Some(FileType::BlockDevice)),
        None => skipped("a block device in /dev"),
    }
}

/// Takes a file's flags away again, so that it can be removed.
struct Flagged(File);

impl Drop for Flagged {
    fn drop(&mut self) {
        rustix::fs::ioctl_setflags(&self.0, IFlags::empty()).expect("as it was made");
    }
}

#[test]
fn c40_an_attribute_is_set_or_not_set_or_unknown() {
    let (place, _dir) = place();
    let path = place.path().join("file");
    let file = File::create(&path).unwrap();
    for (attribute, flag) in [
        (Attribute::NoDump, IFlags::NODUMP),
        (Attribute::Append, IFlags::APPEND),
        (Attribute::Immutable, IFlags::IMMUTABLE),
    ] {
        let before = stat(&path).attribute(attribute);
        let Ok(was) = rustix::fs::ioctl_getflags(&file) else {
            skipped("a file system with file flags");
            break;
        };
        if let Err(errno) = rustix::fs::ioctl_setflags(&file, was | flag) {
            skipped(&format!("root, and a file system with this flag, for {attribute:?}: {errno}"));
            continue;
        }
        let _flagged = Flagged(file.try_clone().unwrap());
        assert_eq!(before, Some(false), "{attribute:?}");
        assert_eq!(stat(&path).attribute(attribute), Some(true), "{attribute:?}");
    }
    assert_eq!(stat(&path).attribute(Attribute::MountRoot), Some(false));
    let of_proc = stat("/proc");
    assert_eq!(of_proc.attribute(Attribute::MountRoot), Some(true));
    assert_eq!(of_proc.attribute(Attribute::Immutable), None, "unknown there");
}

// Of what is open and local, at once.

#[test]
fn c40_of_an_open_local_file_it_is_answered_when_it_is_queued() {
    if !has_io_uring("to be passed by") {
        return;
    }
    let (ring, fd) = (ring(), Fd::from(memory()));
    run(&ring, ring.ftruncate(&fd, 10_000)).unwrap();
    let before = ring.stats();
    let handle = ring.queue(Statx::of(&fd));
    assert!(handle.is_done());
    assert_eq!((ring.stats().sqes, ring.stats().enters), (before.sqes, before.enters));
    // Whoever turns the ring by hand is told of it as of others.
    assert!(ring.wait(None).unwrap());
    assert_eq!((ring.reap().unwrap(), ring.stats().ended), (1, before.ended + 1));
    assert!(!ring.wait(Some(Duration::ZERO)).unwrap());
    // A close does not wait until somebody takes the result.
    run(&ring, ring.close(&fd)).unwrap();
    let told = handle.try_take().unwrap().unwrap();
    assert_eq!((told.size(), told.file_type()), (Some(10_000), Some(FileType::Regular)));
    assert_eq!(refused(finish(&ring, ring.queue(Statx::of(&fd)))), Errno::BADF);
}

#[test]
fn c40_an_answer_at_once_is_the_one_that_comes_through_the_ring() {
    if !has_io_uring("to be passed by") {
        return;
    }
    const UNIQUE_MOUNT: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let (ring, (place, path)) = (ring(), rich_file());
    let file = || Fd::from(File::open(&path).unwrap());
    let dir = || Fd::from(File::open(place.path()).unwrap());
    let in_memory = memory();
    let same = || Fd::from(in_memory.try_clone().unwrap());
    // Each is new to us twice: the first question tells what it is, too.
    let makers: [(&str, &dyn Fn() -> Fd); 3] = [("file", &file), ("dir", &dir), ("memory", &same)];
    let nothing = AtFlags::empty();
    for (what, make) in makers {
        for mask in [
            Stat::EVERYTHING,
            StatxFlags::BASIC_STATS,
            StatxFlags::BASIC_STATS | StatxFlags::BTIME,
            StatxFlags::MNT_ID,
            StatxFlags::SIZE,
            UNIQUE_MOUNT,
            Stat::EVERYTHING | UNIQUE_MOUNT,
        ] {
            for fresh in [nothing, AtFlags::STATX_FORCE_SYNC, AtFlags::STATX_DONT_SYNC] {
                let fd = make();
                let ask = || Statx::of(&fd).mask(mask).flags(AtFlags::EMPTY_PATH | fresh);
                let [new, known] = [(); 2].map(|()| ring.queue(ask()));
                let by_ring = finish(&ring, ring.queue(ask().in_worker())).unwrap();
                for at_once in [new, known] {
                    let is_done = at_once.is_done();
                    let told = finish(&ring, at_once).unwrap();
                    assert_eq!(fields(&told), fields(&by_ring), "{what} {mask:?} {fresh:?}");
                    assert!(is_done || what != "memory", "{mask:?} {fresh:?}");
                }
            }
        }
    }
}

/// All that was said.
fn fields(stat: &Stat) -> impl PartialEq + std::fmt::Debug {
    let attributes = ATTRIBUTES.map(|(attribute, _)| stat.attribute(attribute));
    (
        (stat.mask(), stat.file_type(), stat.mode(), stat.nlink(), stat.uid(), stat.gid()),
        (stat.atime(), stat.mtime(), stat.ctime(), stat.btime()),
        (stat.ino(), stat.size(), stat.blocks(), stat.mnt_id(), stat.direct_align()),
        (stat.blksize(), stat.dev(), stat.rdev(), attributes),
    )
}

fn memory() -> OwnedFd {
    rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
}

#[test]
fn c40_what_may_make_somebody_wait_goes_through_the_ring() {
    let (ring, (_place, path)) = (ring(), rich_file());
    let fd = Fd::from(File::open(&path).unwrap());
    let process = Fd::from(File::open("/proc/self").unwrap());
    // Of whose file system nobody here knows.
    let pipe = Fd::from(pipe().0);
    let handles = [
        ring.queue(Statx::of(&process)),
        ring.queue(Statx::of(&pipe)),
        ring.queue(Statx::new(&process, "status")),
        ring.queue(Statx::new(CWD, &path)),
        ring.queue(Statx::new(&fd, "").flags(AtFlags::empty())),
    ];
    let asked = ring.queue(Statx::of(&fd).in_worker());
    assert!(handles.iter().all(|handle| !handle.is_done()) && !asked.is_done());
    let results = handles.map(|handle| finish(&ring, handle));
    assert!(results[..4].iter().all(Result::is_ok));
    assert_eq!(results[4].as_ref().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert_eq!(finish(&ring, asked).unwrap().size(), Some(10_000));
    assert_eq!(ring.stats().sqes, 6);
}

#[test]
fn c40_a_ring_that_has_ended_answers_nothing_at_once() {
    let (ring, fd) = (ring(), Fd::from(File::open("/").unwrap()));
    finish(&ring, ring.queue(Statx::of(&fd))).unwrap();
    run(&ring, ring.shutdown(std::time::Instant::now()));
    let error = ring.queue(Statx::of(&fd)).try_take().unwrap().unwrap_err();
    assert!(error.to_string().contains("shut down"), "{error}");
}
