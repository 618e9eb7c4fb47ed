//! One SQE as a system call on what is simulated.
//!
//! Here those about names; others are in `contents.rs`, `lengths.rs`, `opens.rs` and `stats.rs`. Not:
//! who makes the call, and when (`workers.rs`).

use std::os::fd::RawFd;

use deferring::op::{Opcode, Sqe};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::World;
use super::memory;
use super::ops::OpId;
use crate::disk::{InodeId, ROOT};

/// The ops that it has.
pub(crate) const KNOWN: [Opcode; 24] = [
    Opcode::NOP,
    Opcode::READV,
    Opcode::WRITEV,
    Opcode::FSYNC,
    Opcode::POLL_ADD,
    Opcode::POLL_REMOVE,
    Opcode::TIMEOUT,
    Opcode::TIMEOUT_REMOVE,
    Opcode::ASYNC_CANCEL,
    Opcode::FALLOCATE,
    Opcode::CLOSE,
    Opcode::STATX,
    Opcode::READ,
    Opcode::WRITE,
    Opcode::SEND,
    Opcode::RECV,
    Opcode::FADVISE,
    Opcode::OPENAT2,
    Opcode::RENAMEAT,
    Opcode::UNLINKAT,
    Opcode::MKDIRAT,
    Opcode::SYMLINKAT,
    Opcode::LINKAT,
    Opcode::FTRUNCATE,
];

/// What came of a call.
pub(super) enum Outcome {
    Done(Result<i32, Errno>),
    /// It blocks whoever makes it.
    Blocks,
}

impl World {
    /// Whether the kernel has all in its caches that an open needs.
    pub(super) fn is_warm(&mut self, sqe: &Sqe) -> bool {
        const MAKES: OFlags = OFlags::CREATE.union(OFlags::TRUNC).union(OFlags::TMPFILE);
        let how = memory::how(sqe);
        let makes = how.is_ok_and(|how| how.flags & u64::from(MAKES.bits()) != 0);
        !makes && self.rng.bool()
    }

    pub(super) fn call(&mut self, id: OpId, sqe: &Sqe, may_block: bool) -> Outcome {
        match sqe.opcode {
            Opcode::OPENAT2 => self.open(id, sqe, may_block),
            _ => Outcome::Done(self.finite_call(sqe)),
        }
    }

    fn finite_call(&mut self, sqe: &Sqe) -> Result<i32, Errno> {
        match sqe.opcode {
            Opcode::NOP => Ok(nop(sqe)),
            Opcode::READ | Opcode::READV => self.read(sqe),
            Opcode::WRITE | Opcode::WRITEV => self.write(sqe),
            // A socket's go another way.
            Opcode::SEND | Opcode::RECV => self.files.get_open(sqe.fd).and(Err(Errno::NOTSOCK)),
            Opcode::FSYNC => self.fsync(sqe),
            Opcode::FALLOCATE => done(self.fallocate(sqe)),
            Opcode::FTRUNCATE => done(self.truncate(sqe)),
            Opcode::FADVISE => done(self.advise(sqe)),
            Opcode::CLOSE => self.close(sqe.fd),
            Opcode::STATX => self.statx(sqe),
            Opcode::RENAMEAT => {
                let flags = RenameFlags::from_bits_retain(sqe.op_flags);
                let (from, to) = (memory::path(sqe.addr)?, memory::path(sqe.off)?);
                let (one, two) = (self.directory(sqe.fd)?, self.directory(second(sqe))?);
                done(self.disk.rename(one, from, two, to, flags))
            }
            Opcode::UNLINKAT => {
                let flags = AtFlags::from_bits_retain(sqe.op_flags);
                if !AtFlags::REMOVEDIR.contains(flags) {
                    return Err(Errno::INVAL);
                }
                let from = self.directory(sqe.fd)?;
                let is_directory = flags == AtFlags::REMOVEDIR;
                done(self.disk.unlink(from, memory::path(sqe.addr)?, is_directory))
            }
            Opcode::MKDIRAT => {
                let mode = Mode::from_bits_retain(sqe.len);
                let from = self.directory(sqe.fd)?;
                self.disk.mkdir(from, memory::path(sqe.addr)?, mode).map(|_| 0)
            }
            Opcode::SYMLINKAT => {
                let (target, link) = (memory::path(sqe.addr)?, memory::path(sqe.off)?);
                let from = self.directory(sqe.fd)?;
                self.disk.symlink(target, from, link).map(|_| 0)
            }
            Opcode::LINKAT => {
                let flags = AtFlags::from_bits_retain(sqe.op_flags);
                let from = memory::path_or_none(sqe.addr, flags)?;
                let to = memory::path(sqe.off)?;
                let (one, two) = (self.directory(sqe.fd)?, self.directory(second(sqe))?);
                done(self.disk.link(one, from, two, to, flags))
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// The directory that a path starts from.
    pub(super) fn directory(&self, raw: RawFd) -> Result<InodeId, Errno> {
        if raw == libc::AT_FDCWD {
            return Ok(ROOT);
        }
        self.files.get(raw)?.inode().ok_or(Errno::NOTDIR)
    }
}

/// What the user has asked it to answer, or nothing.
fn nop(sqe: &Sqe) -> i32 {
    const INJECT_RESULT: u32 = 1;
    if sqe.op_flags & INJECT_RESULT != 0 { second(sqe) } else { 0 }
}

/// The descriptor of the second path, or a result, in `len`.
#[allow(clippy::cast_possible_wrap)] // The same 32 bits.
const fn second(sqe: &Sqe) -> RawFd {
    sqe.len as RawFd
}

pub(super) fn done(result: Result<(), Errno>) -> Result<i32, Errno> {
    result.map(|()| 0)
}
