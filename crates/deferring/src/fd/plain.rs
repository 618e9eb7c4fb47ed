//! Plain system calls, by the thread that queues an op, where it may block.
//!
//! What is small and local: the kernel would wake a worker for it, which costs more than the call.
//! What a call may wait for is the disk, and others who use the same file or directory; nobody's
//! server. Not: whether the thread may block ([`Builder::callers_may_block`]), nor for which ops
//! (`op/`).
//!
//! [`Builder::callers_may_block`]: crate::Builder::callers_may_block

use std::ffi::CStr;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode, RenameFlags};

use super::{BY_MOUNT, DIRECT, Lease, SYNC};
use crate::CURRENT;
use crate::sync::Ordering;

/// The longest write that is worth a plain call. A longer one is more copying than anything else,
/// which a worker does while the thread goes on.
pub(crate) const SMALL_WRITE: usize = 64 << 10;

impl Lease {
    /// Whether it is a file or directory on a local disk or in memory, by what is mounted: looking
    /// a name up in it, or changing it, asks no server.
    pub(crate) fn is_local(&self) -> bool {
        let by_mount = || {
            let shared = self.shared();
            shared.is_some_and(|shared| shared.nature.load(Ordering::Relaxed) & BY_MOUNT != 0)
        };
        self.nature().is_known_at_once() && by_mount()
    }

    /// Whether so many bytes, written there, are small and go no further than the page cache.
    pub(crate) fn takes_at_once(&self, len: usize, offset: u64) -> bool {
        // Of what is no offset each way to ask says something else.
        let is_offset = offset == CURRENT || i64::try_from(offset).is_ok();
        len <= SMALL_WRITE
            && is_offset
            && self.is_local()
            && self.transfers() & (DIRECT | SYNC) == 0
    }

    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<u32> {
        self.call(|fd| match offset {
            CURRENT => rustix::io::write(fd, bytes),
            offset => rustix::io::pwrite(fd, bytes, offset),
        })
    }

    pub(crate) fn writev(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<u32> {
        self.call(|fd| match offset {
            CURRENT => rustix::io::writev(fd, bufs),
            offset => rustix::io::pwritev(fd, bufs, offset),
        })
    }

    pub(crate) fn mkdirat(&self, name: &CStr, mode: Mode) -> io::Result<u32> {
        self.call(|dir| rustix::fs::mkdirat(dir, name, mode).map(|()| 0))
    }

    pub(crate) fn unlinkat(&self, name: &CStr, flags: AtFlags) -> io::Result<u32> {
        self.call(|dir| rustix::fs::unlinkat(dir, name, flags).map(|()| 0))
    }

    pub(crate) fn symlinkat(&self, target: &CStr, name: &CStr) -> io::Result<u32> {
        self.call(|dir| rustix::fs::symlinkat(target, dir, name).map(|()| 0))
    }

    pub(crate) fn renameat(
        &self,
        from: &CStr,
        to_dir: &Self,
        to: &CStr,
        flags: RenameFlags,
    ) -> io::Result<u32> {
        let to_dir = to_dir.try_as_fd()?;
        self.call(|dir| rustix::fs::renameat_with(dir, from, to_dir, to, flags).map(|()| 0))
    }

    /// Again, if a signal came before anything happened.
    fn call(
        &self,
        mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<u32> {
        let fd = self.try_as_fd()?;
        let value = rustix::io::retry_on_intr(|| call(fd))?;
        Ok(u32::try_from(value).expect("less than was asked for"))
    }

    /// Moves the lease out: the descriptor is not needed any more, so that a close need not wait
    /// for whoever takes the result.
    pub(crate) fn give_up(&mut self) {
        drop(Self(self.0.take()));
    }
}
