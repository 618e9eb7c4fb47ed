//! What a test does to the machine, and sees of it, without a ring.
//!
//! Not: what programs do (`calls.rs`).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use deferring::op::Opcode;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::World;
use super::memory::{Part, Parts};
use crate::disk::ROOT;

impl World {
    pub(crate) fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let inode = self.disk.lookup(ROOT, bytes(path), true)?;
        let len = usize::try_from(self.disk.size(inode)).map_err(io::Error::other)?;
        let mut read = vec![0; len];
        let n = self.disk.read(inode, 0, &mut read)?;
        read.truncate(n);
        Ok(read)
    }

    pub(crate) fn write_file(&mut self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let is_new = self.disk.lookup(ROOT, bytes(path), true).is_err();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let (mode, resolve) = (Mode::from_raw_mode(0o644), ResolveFlags::empty());
        let inode = self.disk.open(ROOT, bytes(path), flags, mode, resolve)?;
        let mut at = 0;
        while at < contents.len() {
            at += self.disk.write(inode, at as u64, &contents[at..])?;
        }
        self.disk.sync(inode, false)?;
        if is_new { self.sync_name(path) } else { Ok(()) }
    }

    /// Makes a name durable, and so the changes of names before.
    fn sync_name(&mut self, path: &Path) -> io::Result<()> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = self.disk.lookup(ROOT, bytes(parent.unwrap_or(Path::new("/"))), true)?;
        Ok(self.disk.sync(directory, false)?)
    }

    pub(crate) fn make_directory(&mut self, path: &Path) -> io::Result<()> {
        self.disk.mkdir(ROOT, bytes(path), Mode::from_raw_mode(0o755))?;
        self.sync_name(path)
    }

    pub(crate) fn make_fifo(&mut self, path: &Path) -> io::Result<()> {
        self.disk.mkfifo(ROOT, bytes(path), Mode::from_raw_mode(0o644))?;
        self.sync_name(path)
    }

    pub(crate) fn names_in(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let inode = self.disk.lookup(ROOT, bytes(path), true)?;
        let names = self.disk.list(inode)?.into_iter();
        Ok(names.map(|(name, ..)| OsString::from_vec(name.to_vec())).collect())
    }

    pub(crate) fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let target = self.disk.readlink(ROOT, bytes(path))?;
        Ok(OsString::from_vec(target).into())
    }

    /// Whether an op that is out names some of this memory.
    pub(crate) fn names_memory(&self, start: usize, len: usize) -> bool {
        let end = start.saturating_add(len);
        let touches = |part: Part| part.address < end && start < part.address + part.len;
        self.ops.iter().any(|(_, op)| match op.sqe.opcode {
            Opcode::READ
            | Opcode::WRITE
            | Opcode::READV
            | Opcode::WRITEV
            | Opcode::SEND
            | Opcode::RECV => Parts::of(&op.sqe).is_ok_and(|parts| parts.iter().any(touches)),
            _ => false,
        })
    }
}

fn bytes(path: &Path) -> &[u8] {
    OsStr::as_bytes(path.as_ref())
}
