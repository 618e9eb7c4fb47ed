//! What statx tells.
//!
//! Not: what is told of a file (`disk/stat.rs`).

use deferring::op::Sqe;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::World;
use super::memory;
use crate::disk::{self, ROOT, Stat};

impl World {
    pub(super) fn statx(&mut self, sqe: &Sqe) -> Result<i32, Errno> {
        const RESERVED: u32 = 1 << 31;
        const SYNCS: u32 = 0x6000;
        let flags = AtFlags::from_bits_retain(sqe.op_flags);
        let known = AtFlags::EMPTY_PATH
            | AtFlags::SYMLINK_NOFOLLOW
            | AtFlags::NO_AUTOMOUNT
            | AtFlags::from_bits_retain(SYNCS);
        let path = memory::path_or_none(sqe.addr, flags)?;
        if !known.contains(flags) || sqe.len & RESERVED != 0 || sqe.op_flags & SYNCS == SYNCS {
            return Err(Errno::INVAL);
        }
        let inode = if path.is_empty() {
            if sqe.fd == libc::AT_FDCWD {
                ROOT
            } else {
                let kind = self.files.get(sqe.fd)?;
                match kind.inode() {
                    Some(inode) => inode,
                    None => {
                        memory::put_stat(sqe.off, &nameless(kind.is_socket()))?;
                        return Ok(0);
                    }
                }
            }
        } else {
            let follow = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
            self.disk.lookup(self.directory(sqe.fd)?, path, follow)?
        };
        memory::put_stat(sqe.off, &answer(&self.disk.stat(inode)))?;
        Ok(0)
    }
}

/// What statx tells of a file.
#[allow(clippy::cast_possible_truncation)] // 16 bits of a mode.
fn answer(stat: &Stat) -> libc::statx {
    let kind = match stat.kind {
        disk::Kind::File => libc::S_IFREG,
        disk::Kind::Directory => libc::S_IFDIR,
        disk::Kind::Symlink => libc::S_IFLNK,
        disk::Kind::Fifo => libc::S_IFIFO,
    };
    let time = |time: std::time::Duration, to: &mut libc::statx_timestamp| {
        to.tv_sec = time.as_secs().try_into().unwrap_or(i64::MAX);
        to.tv_nsec = time.subsec_nanos();
    };
    let mut told = nothing();
    told.stx_mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    told.stx_mode = (kind | stat.mode) as u16;
    told.stx_blksize = 4096;
    told.stx_nlink = stat.nlink;
    told.stx_ino = stat.ino;
    told.stx_size = stat.size;
    told.stx_blocks = stat.blocks;
    time(stat.btime, &mut told.stx_btime);
    time(stat.mtime, &mut told.stx_mtime);
    time(stat.mtime, &mut told.stx_atime);
    time(stat.ctime, &mut told.stx_ctime);
    told
}

/// What statx tells of a pipe or a socket.
#[allow(clippy::cast_possible_truncation)] // 16 bits of a mode.
fn nameless(is_socket: bool) -> libc::statx {
    let mode = if is_socket { libc::S_IFSOCK | 0o777 } else { libc::S_IFIFO | 0o600 };
    let mut told = nothing();
    told.stx_mask = libc::STATX_BASIC_STATS;
    told.stx_mode = mode as u16;
    told.stx_blksize = 4096;
    told.stx_nlink = 1;
    told
}

#[allow(unsafe_code)] // Zeros that are numbers.
fn nothing() -> libc::statx {
    // SAFETY: plain numbers, for which zero is one.
    unsafe { std::mem::zeroed() }
}
