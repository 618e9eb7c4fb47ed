//! What SQEs name, by address.
//!
//! Not: what is done with it (`calls.rs`).
//!
//! Each address here is one of an op that is out, and has not been answered: callers have it from the
//! table of ops, and what they get goes no further than the call.
#![allow(unsafe_code)] // Addresses. `op::Op` keeps them good until the last CQE.

use std::ffi::CStr;
use std::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use std::time::Duration;

use deferring::op::{Opcode, Sqe};
use rustix::fs::AtFlags;
use rustix::io::Errno;

/// `struct open_how`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct How {
    pub(super) flags: u64,
    pub(super) mode: u64,
    pub(super) resolve: u64,
}

/// `struct __kernel_timespec`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Time {
    seconds: i64,
    nanoseconds: i64,
}

fn at<T>(address: u64) -> Result<*const T, Errno> {
    let address = usize::try_from(address).map_err(|_| Errno::FAULT)?;
    if address == 0 { Err(Errno::FAULT) } else { Ok(with_exposed_provenance(address)) }
}

/// io_uring takes paths in before it looks at anything else of an op.
pub(super) fn path<'a>(address: u64) -> Result<&'a [u8], Errno> {
    path_or_none(address, AtFlags::empty())
}

/// The same of a path that may be empty, if the flags say so.
pub(super) fn path_or_none<'a>(address: u64, flags: AtFlags) -> Result<&'a [u8], Errno> {
    const PATH_MAX: usize = 4096;
    // SAFETY: a path of the op's, which ends with a NUL and stays until the last CQE.
    let path = unsafe { CStr::from_ptr(at(address)?) }.to_bytes();
    match path.len() {
        0 if !flags.contains(AtFlags::EMPTY_PATH) => Err(Errno::NOENT),
        PATH_MAX.. => Err(Errno::NAMETOOLONG),
        _ => Ok(path),
    }
}

pub(super) fn how(sqe: &Sqe) -> Result<How, Errno> {
    if sqe.len as usize != size_of::<How>() {
        return Err(Errno::INVAL);
    }
    // SAFETY: the op's, of that length, and whatever is there are numbers.
    Ok(unsafe { at::<How>(sqe.off)?.read_unaligned() })
}

pub(super) fn time(address: u64) -> Result<Duration, Errno> {
    const SECOND: i64 = 1_000_000_000;
    // SAFETY: a time of the op's, and whatever is there are numbers.
    let time = unsafe { at::<Time>(address)?.read_unaligned() };
    if !(0..SECOND).contains(&time.nanoseconds) {
        return Err(Errno::INVAL);
    }
    let seconds = u64::try_from(time.seconds).map_err(|_| Errno::INVAL)?;
    let nanoseconds = u32::try_from(time.nanoseconds).map_err(|_| Errno::INVAL)?;
    Ok(Duration::new(seconds, nanoseconds))
}

/// Fills the room for the answer of a statx.
pub(super) fn put_stat(address: u64, stat: &libc::statx) -> Result<(), Errno> {
    let room = at::<libc::statx>(address)?.cast_mut();
    // SAFETY: the op's room for the answer, of that size, which nobody else uses before the last CQE.
    unsafe { room.write_unaligned(*stat) };
    Ok(())
}

/// A part of an op's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) address: usize,
    pub(super) len: usize,
}

/// The buffers of a transfer.
pub(super) enum Parts<'a> {
    One(Part),
    Many(&'a [libc::iovec]),
}

impl Parts<'_> {
    pub(super) fn of(sqe: &Sqe) -> Result<Self, Errno> {
        let count = sqe.len as usize;
        let address = usize::try_from(sqe.addr).map_err(|_| Errno::FAULT)?;
        if !matches!(sqe.opcode, Opcode::READV | Opcode::WRITEV) {
            return Ok(Self::One(Part { address, len: count }));
        }
        if count == 0 {
            return Ok(Self::Many(&[]));
        }
        // SAFETY: an array of the op's, of that many, which stays as it is until the last CQE. It is one of
        // `iovec`s in Rust, and so aligned.
        Ok(Self::Many(unsafe { std::slice::from_raw_parts(at(sqe.addr)?, count) }))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Part> + '_ {
        let (one, many) = match self {
            Self::One(part) => (Some(*part), &[][..]),
            Self::Many(parts) => (None, *parts),
        };
        let part = |part: &libc::iovec| Part {
            address: part.iov_base.expose_provenance(),
            len: part.iov_len,
        };
        one.into_iter().chain(many.iter().map(part))
    }

    pub(super) fn len(&self) -> usize {
        self.iter().map(|part| part.len).sum()
    }

    /// Fills memory, in order, as far as there are bytes.
    pub(super) fn put(&self, mut bytes: &[u8]) -> Result<(), Errno> {
        for part in self.iter() {
            let (now, later) = bytes.split_at(bytes.len().min(part.len));
            if now.is_empty() {
                continue;
            }
            if part.address == 0 {
                return Err(Errno::FAULT);
            }
            let start = with_exposed_provenance_mut::<u8>(part.address);
            // SAFETY: memory of the op's to be filled, of that length, which nobody else uses
            // before the last CQE.
            unsafe { start.copy_from_nonoverlapping(now.as_ptr(), now.len()) };
            bytes = later;
        }
        Ok(())
    }

    /// Calls `f` with memory to be read, up to `most` bytes of it, until it takes less.
    pub(super) fn take(
        &self,
        most: usize,
        mut f: impl FnMut(&[u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        for part in self.iter() {
            let len = part.len.min(most - done);
            if len == 0 {
                continue;
            }
            let start = at::<u8>(part.address as u64)?;
            // SAFETY: memory of the op's, filled, which nobody writes to before the last CQE.
            let bytes = unsafe { std::slice::from_raw_parts(start, len) };
            match f(bytes) {
                Ok(n) => {
                    done += n;
                    if n < len {
                        break;
                    }
                }
                // What is done is told first.
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }
}
