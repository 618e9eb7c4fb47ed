//! Calls about a file's length and room, or that only advise.
//!
//! Not: what becomes of the file (`disk/`).

use std::os::fd::RawFd;

use deferring::op::Sqe;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::World;
use super::files::Kind;
use crate::disk::{self, InodeId};

impl World {
    /// The order of the checks is that of Linux's `vfs_fallocate`.
    pub(super) fn fallocate(&mut self, sqe: &Sqe) -> Result<(), Errno> {
        let (flags, from, len) = (FallocateFlags::from_bits_retain(sqe.len), sqe.off, sqe.addr);
        let kind = self.files.get_open(sqe.fd)?;
        disk::check_fallocate(flags, from, len)?;
        match kind {
            Kind::File { inode, writable: true, .. } => {
                self.disk.fallocate(inode, flags, from, len)
            }
            Kind::Stream { output: Some(_), .. } if kind.is_socket() => Err(Errno::NODEV),
            Kind::Stream { output: Some(_), .. } => Err(Errno::SPIPE),
            Kind::File { .. }
            | Kind::Directory { .. }
            | Kind::Name { .. }
            | Kind::Stream { .. } => Err(Errno::BADF),
        }
    }

    pub(super) fn truncate(&mut self, sqe: &Sqe) -> Result<(), Errno> {
        let inode = self.writable(sqe.fd)?;
        self.disk.truncate(inode, sqe.off)
    }

    fn writable(&self, raw: RawFd) -> Result<InodeId, Errno> {
        match self.files.get_open(raw)? {
            Kind::File { inode, writable: true, .. } => Ok(inode),
            Kind::File { .. }
            | Kind::Directory { .. }
            | Kind::Name { .. }
            | Kind::Stream { .. } => Err(Errno::INVAL),
        }
    }

    pub(super) fn advise(&self, sqe: &Sqe) -> Result<(), Errno> {
        const LAST: u32 = 5;
        let kind = self.files.get_open(sqe.fd)?;
        if matches!(kind, Kind::Stream { .. }) && !kind.is_socket() {
            return Err(Errno::SPIPE);
        }
        let len = if sqe.len == 0 { sqe.addr } else { sqe.len.into() };
        if i64::try_from(len).is_err() || sqe.op_flags > LAST { Err(Errno::INVAL) } else { Ok(()) }
    }
}
