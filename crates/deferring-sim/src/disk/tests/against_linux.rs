//! The same calls on the disk and on a directory of a real ext4: the same answers.
//!
//! A thread of its own has that directory for its root, so that absolute paths and `..` mean the
//! same on both. Needs root for that.
//!
//! Not: room, times, blocks and the sizes of directories, in which ext4 is another.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Write as _, stderr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use fastrand::Rng;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::fs::{CWD, FileType, openat2, statfs};
use rustix::io::{Errno, Result};

use super::super::{Disk, InodeId, Kind, ROOT, SIZE_MAX};

const EXT4: i64 = 0xef53;

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

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

/// Where the root is among what is open.
const ROOT_ENTRY: usize = 0;

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

    /// One call, drawn by lot.
    fn step(&mut self) {
        let from = self.draw_from();
        let path = self.draw_path();
        let from2 = self.draw_from();
        let path2 = self.draw_path();
        let entry = self.rng.usize(0..self.open.len());
        let at = self.draw_offset();
        let len = self.draw_offset();
        match self.rng.u8(0..100) {
            0..20 => {
                let (flags, mode, resolve) = self.draw_open();
                self.open(from, &path, flags, mode, resolve);
            }
            20..25 if entry > 0 => self.close(entry),
            20..35 => {
                let data: Vec<u8> = std::iter::repeat_with(|| self.rng.u8(..)).take(6000).collect();
                let len = usize::try_from(len % 6000).unwrap();
                self.write(entry, at, &data[..len]);
            }
            35..45 => self.read(entry, at, usize::try_from(len % 9000).unwrap()),
            45..50 => self.truncate(entry, at),
            50..55 => {
                let flags = self.draw_fallocate();
                self.fallocate(entry, flags, at, len);
            }
            55..62 => self.mkdir(from, &path),
            62..64 => self.mkfifo(from, &path),
            64..70 => self.symlink(&path2, from, &path),
            70..76 => {
                let empty = if self.rng.u8(0..3) == 0 { &b""[..] } else { &path };
                let flags = AtFlags::from_bits_retain(self.rng.choice([0, 0x400, 0x1000]).unwrap());
                self.link(from, empty, from2, &path2, flags);
            }
            76..84 => {
                let is_dir = self.rng.u8(0..3) == 0;
                self.unlink(from, &path, is_dir);
            }
            84..94 => {
                let flags =
                    RenameFlags::from_bits_retain(self.rng.choice([0, 0, 1, 2, 3]).unwrap());
                self.rename(from, &path, from2, &path2, flags);
            }
            94..95 => self.readlink(from, &path),
            95..98 => {
                let follow = self.rng.bool();
                self.lookup(from, &path, follow);
            }
            98..99 => self.disk.write_back(&mut self.rng),
            _ if self.disk.sync(self.open[entry].id, false).is_err() => self.disk.sync_all(),
            _ => {}
        }
    }

    fn open(&mut self, from: usize, path: &[u8], flags: OFlags, mode: Mode, resolve: ResolveFlags) {
        let dir = &self.open[from];
        let here = self.disk.open(dir.id, path, flags, mode, resolve);
        // Not to wait for the other end of a FIFO.
        let there_flags =
            if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NONBLOCK };
        let there = openat2(&dir.fd, path, there_flags, mode, resolve);
        let is_fifo = here.is_ok_and(|id| self.disk.kind(id) == Kind::Fifo);
        let told = format!("open {from} {} {flags:?} {mode:?} {resolve:?}", shown(path));
        if is_fifo && there.as_ref().err() == Some(&Errno::NXIO) {
            return;
        }
        self.same(&told, here.map(drop), there.as_ref().map(drop).map_err(|&errno| errno));
        if let (Ok(id), Ok(fd)) = (here, there) {
            self.disk.hold(id);
            self.open.push(Open { fd, id, flags });
            self.compare_stat(self.open.len() - 1);
        }
        if self.open.len() > 14 {
            self.close(1);
        }
    }

    fn close(&mut self, entry: usize) {
        self.log.push(format!("close {entry}"));
        let open = self.open.remove(entry);
        self.disk.release(open.id);
    }

    fn write(&mut self, entry: usize, at: u64, data: &[u8]) {
        let open = &self.open[entry];
        if !open.moves_bytes(OFlags::WRONLY) || self.disk.kind(open.id) == Kind::Fifo {
            return;
        }
        let appends = open.flags.contains(OFlags::APPEND);
        let at = if appends { 0 } else { at };
        let there = rustix::io::pwrite(&open.fd, data, at);
        let here = if appends {
            self.disk.append(open.id, data)
        } else {
            self.disk.write(open.id, at, data)
        };
        self.same(&format!("write {entry} {at} {}", data.len()), here, there);
        self.compare_stat(entry);
    }

    fn read(&mut self, entry: usize, at: u64, len: usize) {
        let open = &self.open[entry];
        if !open.moves_bytes(OFlags::RDONLY) || self.disk.kind(open.id) == Kind::Fifo {
            return;
        }
        let (mut buf, mut buf2) = (vec![1; len], vec![1; len]);
        let here = self.disk.read(open.id, at, &mut buf);
        let there = rustix::io::pread(&open.fd, &mut buf2[..], at);
        self.same(&format!("read {entry} {at} {len}"), here, there);
        assert!(buf == buf2, "{}", self.story());
    }

    fn truncate(&mut self, entry: usize, len: u64) {
        let open = &self.open[entry];
        if open.moves_bytes(OFlags::WRONLY) {
            let here = self.disk.truncate(open.id, len);
            let there = rustix::fs::ftruncate(&open.fd, len);
            self.same(&format!("truncate {entry} {len}"), here, there);
            self.compare_stat(entry);
        }
    }

    fn fallocate(&mut self, entry: usize, flags: FallocateFlags, at: u64, len: u64) {
        let open = &self.open[entry];
        if open.moves_bytes(OFlags::WRONLY) {
            let here = self.disk.fallocate(open.id, flags, at, len);
            let there = rustix::fs::fallocate(&open.fd, flags, at, len);
            self.same(&format!("fallocate {entry} {flags:?} {at} {len}"), here, there);
            self.compare_stat(entry);
        }
    }

    fn mkdir(&mut self, from: usize, path: &[u8]) {
        let dir = &self.open[from];
        let here = self.disk.mkdir(dir.id, path, Mode::RWXU).map(drop);
        let there = rustix::fs::mkdirat(&dir.fd, path, Mode::RWXU);
        self.same(&format!("mkdir {from} {}", shown(path)), here, there);
    }

    fn mkfifo(&mut self, from: usize, path: &[u8]) {
        let dir = &self.open[from];
        let here = self.disk.mkfifo(dir.id, path, Mode::RUSR).map(drop);
        let there = rustix::fs::mknodat(&dir.fd, path, FileType::Fifo, Mode::RUSR, 0);
        self.same(&format!("mkfifo {from} {}", shown(path)), here, there);
    }

    fn symlink(&mut self, target: &[u8], from: usize, path: &[u8]) {
        let dir = &self.open[from];
        let here = self.disk.symlink(target, dir.id, path).map(drop);
        let there = rustix::fs::symlinkat(target, &dir.fd, path);
        self.same(&format!("symlink {} {from} {}", shown(target), shown(path)), here, there);
    }

    fn link(&mut self, from: usize, path: &[u8], from2: usize, path2: &[u8], flags: AtFlags) {
        let (dir, dir2) = (&self.open[from], &self.open[from2]);
        let here = self.disk.link(dir.id, path, dir2.id, path2, flags);
        let there = rustix::fs::linkat(&dir.fd, path, &dir2.fd, path2, flags);
        let told = format!("link {from} {} {from2} {} {flags:?}", shown(path), shown(path2));
        self.same(&told, here, there);
    }

    fn unlink(&mut self, from: usize, path: &[u8], is_dir: bool) {
        let dir = &self.open[from];
        let here = self.disk.unlink(dir.id, path, is_dir);
        let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let there = rustix::fs::unlinkat(&dir.fd, path, flags);
        self.same(&format!("unlink {from} {} {is_dir}", shown(path)), here, there);
    }

    fn rename(&mut self, from: usize, path: &[u8], from2: usize, path2: &[u8], flags: RenameFlags) {
        let (dir, dir2) = (&self.open[from], &self.open[from2]);
        let here = self.disk.rename(dir.id, path, dir2.id, path2, flags);
        let there = rustix::fs::renameat_with(&dir.fd, path, &dir2.fd, path2, flags);
        let told = format!("rename {from} {} {from2} {} {flags:?}", shown(path), shown(path2));
        self.same(&told, here, there);
    }

    fn readlink(&mut self, from: usize, path: &[u8]) {
        let dir = &self.open[from];
        let here = self.disk.readlink(dir.id, path);
        let there = rustix::fs::readlinkat(&dir.fd, path, Vec::new()).map(|path| path.into_bytes());
        self.same(&format!("readlink {from} {}", shown(path)), here, there);
    }

    fn lookup(&mut self, from: usize, path: &[u8], follow: bool) {
        let dir = &self.open[from];
        let here = self.disk.lookup(dir.id, path, follow).map(|id| self.disk.kind(id));
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        let there = rustix::fs::statat(&dir.fd, path, flags);
        let there = there.map(|stat| kind_of(FileType::from_raw_mode(stat.st_mode)));
        self.same(&format!("lookup {from} {} {follow}", shown(path)), here, there);
    }

    /// Notes a call, and holds its two answers against one another.
    fn same<T: PartialEq + std::fmt::Debug>(
        &mut self,
        told: &str,
        here: Result<T>,
        there: Result<T>,
    ) {
        self.log.push(format!("{told}: {there:?}"));
        assert!(here == there, "the disk says {here:?}\n{}", self.story());
    }

    fn story(&self) -> String {
        let last = &self.log[self.log.len().saturating_sub(40)..];
        format!("seed {} step {}:\n{}", self.seed, self.log.len(), last.join("\n"))
    }

    fn compare_stat(&self, entry: usize) {
        let open = &self.open[entry];
        let there = rustix::fs::fstat(&open.fd).unwrap();
        let here = self.disk.stat(open.id);
        let size = u64::try_from(there.st_size).unwrap();
        let kind = kind_of(FileType::from_raw_mode(there.st_mode));
        let nlink = u32::try_from(there.st_nlink).unwrap();
        assert_eq!((here.kind, here.nlink), (kind, nlink), "{entry} {}", self.story());
        assert_eq!(here.mode, there.st_mode & 0o7777, "{entry} {}", self.story());
        if kind != Kind::Directory {
            assert_eq!(here.size, size, "{entry} {}", self.story());
        }
    }

    fn compare_trees(&self) {
        (1..self.open.len()).for_each(|entry| self.compare_stat(entry));
        self.compare_tree(ROOT, Path::new("/"), &mut BTreeMap::new());
    }

    fn compare_tree(&self, id: InodeId, path: &Path, seen: &mut BTreeMap<u64, InodeId>) {
        let told = || format!("{} {}", path.display(), self.story());
        let there = fs::symlink_metadata(path).unwrap();
        let here = self.disk.stat(id);
        assert_eq!(*seen.entry(there.ino()).or_insert(id), id, "{}", told());
        assert_eq!(u64::from(here.nlink), there.nlink(), "{}", told());
        if there.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            let list = self.disk.list(id).unwrap();
            assert!(
                names.iter().map(|name| name.as_bytes()).eq(list.iter().map(|(name, ..)| &**name))
            );
            for (name, (_, id, _)) in names.iter().zip(list) {
                self.compare_tree(id, &path.join(name), seen);
            }
        } else if there.is_file() {
            assert_eq!(here.kind, Kind::File, "{}", told());
            assert!(super::bytes(&self.disk, id) == fs::read(path).unwrap(), "{}", told());
        } else if there.is_symlink() {
            let target = self.disk.readlink(ROOT, path.as_os_str().as_bytes()).unwrap();
            assert_eq!(target, fs::read_link(path).unwrap().as_os_str().as_bytes(), "{}", told());
        } else {
            assert!(there.file_type().is_fifo() && here.kind == Kind::Fifo, "{}", told());
        }
    }

    fn draw_from(&mut self) -> usize {
        if self.rng.bool() { ROOT_ENTRY } else { self.rng.usize(0..self.open.len()) }
    }

    fn draw_path(&mut self) -> Vec<u8> {
        match self.rng.u16(0..200) {
            0 => return Vec::new(),
            1 => return b"x".repeat(self.rng.usize(254..=256)),
            2 => return b"./".repeat(2048)[..self.rng.usize(4094..=4096)].to_vec(),
            3 => return b"/".to_vec(),
            _ => {}
        }
        let mut path = Vec::new();
        if self.rng.u8(0..8) == 0 {
            path.push(b'/');
        }
        for part in 0..self.rng.choice([1, 1, 1, 2, 2, 3]).unwrap() {
            if part > 0 {
                path.extend(if self.rng.u8(0..8) == 0 { &b"//"[..] } else { b"/" });
            }
            let names = ["a", "b", "c", "d", "e", "a", "b", "c", "d", "e", "f", "g", ".", ".."];
            path.extend(self.rng.choice(names).unwrap().as_bytes());
        }
        if self.rng.u8(0..10) == 0 {
            path.push(b'/');
        }
        path
    }

    fn draw_offset(&mut self) -> u64 {
        match self.rng.u8(0..20) {
            0 => self.rng.choice([0, SIZE_MAX + 1, u64::MAX, i64::MAX as u64]).unwrap(),
            1..8 => self.rng.u64(0..6) * 4096,
            8..12 => self.rng.u64(0..40) * 512,
            _ => self.rng.u64(0..20_000),
        }
    }

    fn draw_open(&mut self) -> (OFlags, Mode, ResolveFlags) {
        let rng = &mut self.rng;
        let mut flags = rng.choice([OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR]).unwrap();
        let some = [
            (OFlags::CREATE, 2),
            (OFlags::EXCL, 6),
            (OFlags::TRUNC, 6),
            (OFlags::APPEND, 8),
            (OFlags::DIRECTORY, 8),
            (OFlags::NOFOLLOW, 8),
            (OFlags::TMPFILE, 16),
            (OFlags::from_bits_retain(0x4000_0000), 200),
        ];
        for (flag, seldom) in some {
            flags.set(flag, flags.contains(flag) || rng.u8(0..seldom) == 0);
        }
        if rng.u8(0..10) == 0 {
            flags = OFlags::PATH | flags & (OFlags::DIRECTORY | OFlags::NOFOLLOW);
        }
        let makes = flags.intersects(OFlags::CREATE | (OFlags::TMPFILE - OFlags::DIRECTORY));
        let mode = match rng.u8(0..100) {
            0 => 0o10600,
            1 => 0o600,
            _ if makes => rng.choice([0o600, 0o700, 0o400]).unwrap(),
            _ => 0,
        };
        let mut resolve = ResolveFlags::empty();
        let all = [ResolveFlags::BENEATH, ResolveFlags::IN_ROOT, ResolveFlags::NO_SYMLINKS];
        for flag in all {
            resolve.set(flag, rng.u8(0..8) == 0);
        }
        (flags, Mode::from_raw_mode(mode), resolve)
    }

    fn draw_fallocate(&mut self) -> FallocateFlags {
        let all = [
            FallocateFlags::empty(),
            FallocateFlags::KEEP_SIZE,
            PUNCH,
            FallocateFlags::ZERO_RANGE,
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            FallocateFlags::PUNCH_HOLE,
            PUNCH | FallocateFlags::ZERO_RANGE,
        ];
        self.rng.choice(all).unwrap()
    }
}

impl Open {
    /// Whether bytes can be read, or written: else the kernel asks no file system.
    fn moves_bytes(&self, way: OFlags) -> bool {
        let mode = self.flags & OFlags::RWMODE;
        !self.flags.contains(OFlags::PATH) && (mode == way || mode == OFlags::RDWR)
    }
}

fn kind_of(of: FileType) -> Kind {
    match of {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => unreachable!("nobody made one"),
    }
}

fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    if text.len() > 40 { format!("({} bytes)", text.len()) } else { format!("{text:?}") }
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
