//! The calls, each made on both.
//!
//! Not: which are made, and with what (`draw.rs`).

use rustix::fs::openat2;
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::compare::{kind_of, shown};
use super::{Open, Pair};
use crate::disk::Kind;

impl Pair {
    pub(super) fn open(
        &mut self,
        from: usize,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
        resolve: ResolveFlags,
    ) {
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

    pub(super) fn close(&mut self, entry: usize) {
        self.log.push(format!("close {entry}"));
        let open = self.open.remove(entry);
        self.disk.release(open.id);
    }

    pub(super) fn write(&mut self, entry: usize, at: u64, data: &[u8]) {
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

    pub(super) fn read(&mut self, entry: usize, at: u64, len: usize) {
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

    pub(super) fn truncate(&mut self, entry: usize, len: u64) {
        let open = &self.open[entry];
        if open.moves_bytes(OFlags::WRONLY) {
            let here = self.disk.truncate(open.id, len);
            let there = rustix::fs::ftruncate(&open.fd, len);
            self.same(&format!("truncate {entry} {len}"), here, there);
            self.compare_stat(entry);
        }
    }

    pub(super) fn fallocate(&mut self, entry: usize, flags: FallocateFlags, at: u64, len: u64) {
        let open = &self.open[entry];
        if open.moves_bytes(OFlags::WRONLY) {
            let here = self.disk.fallocate(open.id, flags, at, len);
            let there = rustix::fs::fallocate(&open.fd, flags, at, len);
            self.same(&format!("fallocate {entry} {flags:?} {at} {len}"), here, there);
            self.compare_stat(entry);
        }
    }

    pub(super) fn mkdir(&mut self, from: usize, path: &[u8]) {
        let dir = &self.open[from];
        let here = self.disk.mkdir(dir.id, path, Mode::RWXU).map(drop);
        let there = rustix::fs::mkdirat(&dir.fd, path, Mode::RWXU);
        self.same(&format!("mkdir {from} {}", shown(path)), here, there);
    }

    pub(super) fn mkfifo(&mut self, from: usize, path: &[u8]) {
        let dir = &self.open[from];
        let here = self.disk.mkfifo(dir.id, path, Mode::RUSR).map(drop);
        let there = rustix::fs::mknodat(&dir.fd, path, FileType::Fifo, Mode::RUSR, 0);
        self.same(&format!("mkfifo {from} {}", shown(path)), here, there);
    }

    pub(super) fn symlink(&mut self, target: &[u8], from: usize, path: &[u8]) {
        let dir = &self.open[from];
        let here = self.disk.symlink(target, dir.id, path).map(drop);
        let there = rustix::fs::symlinkat(target, &dir.fd, path);
        self.same(&format!("symlink {} {from} {}", shown(target), shown(path)), here, there);
    }

    pub(super) fn link(
        &mut self,
        from: usize,
        path: &[u8],
        from2: usize,
        path2: &[u8],
        flags: AtFlags,
    ) {
        let (dir, dir2) = (&self.open[from], &self.open[from2]);
        let here = self.disk.link(dir.id, path, dir2.id, path2, flags);
        let there = rustix::fs::linkat(&dir.fd, path, &dir2.fd, path2, flags);
        let told = format!("link {from} {} {from2} {} {flags:?}", shown(path), shown(path2));
        self.same(&told, here, there);
    }

    pub(super) fn unlink(&mut self, from: usize, path: &[u8], is_dir: bool) {
        let dir = &self.open[from];
        let here = self.disk.unlink(dir.id, path, is_dir);
        let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let there = rustix::fs::unlinkat(&dir.fd, path, flags);
        self.same(&format!("unlink {from} {} {is_dir}", shown(path)), here, there);
    }

    pub(super) fn rename(
        &mut self,
        from: usize,
        path: &[u8],
        from2: usize,
        path2: &[u8],
        flags: RenameFlags,
    ) {
        let (dir, dir2) = (&self.open[from], &self.open[from2]);
        let here = self.disk.rename(dir.id, path, dir2.id, path2, flags);
        let there = rustix::fs::renameat_with(&dir.fd, path, &dir2.fd, path2, flags);
        let told = format!("rename {from} {} {from2} {} {flags:?}", shown(path), shown(path2));
        self.same(&told, here, there);
    }

    pub(super) fn readlink(&mut self, from: usize, path: &[u8]) {
        let dir = &self.open[from];
        let here = self.disk.readlink(dir.id, path);
        let there = rustix::fs::readlinkat(&dir.fd, path, Vec::new()).map(|path| path.into_bytes());
        self.same(&format!("readlink {from} {}", shown(path)), here, there);
    }

    pub(super) fn lookup(&mut self, from: usize, path: &[u8], follow: bool) {
        let dir = &self.open[from];
        let here = self.disk.lookup(dir.id, path, follow).map(|id| self.disk.kind(id));
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        let there = rustix::fs::statat(&dir.fd, path, flags);
        let there = there.map(|stat| kind_of(FileType::from_raw_mode(stat.st_mode)));
        self.same(&format!("lookup {from} {} {follow}", shown(path)), here, there);
    }
}
