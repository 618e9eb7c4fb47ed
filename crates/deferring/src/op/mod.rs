//! Ops: one request each, one file each.
//!
//! An op owns what the kernel will touch, writes its question into an [`Sqe`], and turns the
//! answer into its output. It makes no system call (but asks once what is behind a descriptor, by
//! `fd/nature.rs`) and knows nothing of slots, rings or threads.
//! To add one, see "add an op" in CONTRIBUTING.md. Not: where ops live meanwhile (`inflight/`).
#![allow(unsafe_code)] // An op promises that what its SQE names stays (`unsafe impl Op`).

mod async_cancel;
mod close;
mod fadvise;
mod fallocate;
mod fsync;
mod ftruncate;
mod linkat;
mod mkdirat;
mod nop;
mod openat2;
mod path;
mod place;
mod poll_add;
mod poll_remove;
mod poll_update;
mod read;
mod readv;
mod recv;
mod renameat;
mod send;
mod sleep;
mod sqe;
mod sqe_text;
mod statx;
mod symlinkat;
mod target;
mod timeout;
mod timeout_remove;
mod timeout_update;
mod unlinkat;
mod with;
mod write;
mod writev;

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;

pub(crate) use async_cancel::AsyncCancel;
pub use close::{Close, Closing};
pub use fadvise::Fadvise;
pub use fallocate::Fallocate;
pub use fsync::Fsync;
pub use ftruncate::Ftruncate;
pub use linkat::Linkat;
pub use mkdirat::Mkdirat;
pub use nop::Nop;
pub use openat2::Openat2;
pub use path::{At, CWD, PathArg};
pub(crate) use place::Direction;
pub use place::{Class, Kind, Place};
pub use poll_add::PollAdd;
pub use poll_remove::PollRemove;
pub use poll_update::PollUpdate;
pub use read::Read;
pub use readv::Readv;
pub use recv::Recv;
pub use renameat::Renameat;
pub use send::Send;
pub use sleep::Sleep;
pub use sqe::{Cqe, Opcode, Sqe};
pub use statx::Statx;
pub use symlinkat::Symlinkat;
use target::Target;
pub use timeout::Timeout;
pub use timeout_remove::TimeoutRemove;
pub use timeout_update::TimeoutUpdate;
pub use unlinkat::Unlinkat;
pub use with::{Until, With};
pub use write::Write;
pub use writev::Writev;

pub(crate) use crate::buf::address;
use crate::buf::{BufResult, StandIn};
use crate::fd::{Fd, Lease};

/// A request to the kernel.
///
/// Implement it for an operation that this crate does not have; queue it with
/// [`Ring::queue`](crate::Ring::queue).
///
/// # Safety
///
/// 1. Memory and descriptors that [`encode`](Op::encode) names are owned by the op (or live for
///    ever), stay valid and in place however the op is moved *before* `encode`, and nobody else
///    uses them before `decode` or `drop`. The ring does not move the op from the first `encode`
///    until the last CQE. `encode` may be called again after a last CQE that says that nothing
///    happened ([`AGAIN`](Op::AGAIN)), up to 32 times and whenever a thread ends that submitted,
///    and is to ask the same again.
/// 2. `encode` asks for one answer: one CQE, or several that end in one without `F_MORE`. `encode`,
///    `uses` and `let_go` run with the ring locked: they must not panic, block or call the ring, or
///    drop what might. `uses` may run while the kernel has the op.
pub unsafe trait Op: std::marker::Send + Sized + 'static {
    /// What the op gives.
    type Output: Outcome;

    /// The kernel operation.
    const CODE: Opcode;

    /// Whether the op may be sent again when the kernel gives it back undone: with `EINTR`,
    /// `ECANCELED` or the like, for no reason of the user's. Default true: `encode` is then called
    /// again. False for what must not happen twice.
    const AGAIN: bool = true;

    /// Makes what is as good as this op once it is queued, if that never goes to the kernel and owns
    /// nothing: nothing of it is kept then, and `decode` is asked of what this makes. See [`Sleep`].
    #[doc(hidden)]
    const BLANK: Option<fn() -> Self> = None;

    /// Refuses what the kernel must not be asked. A refused op never gets a slot; its handle is
    /// ready at once, with this error.
    ///
    /// # Errors
    /// What is wrong with the arguments, as an errno where there is one.
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    /// What the op needs in the kernel, which decides when it may go. Called before the op is
    /// queued, with nothing locked. Default: what is known of the opcode; a worker, if nothing is.
    fn place(&self) -> Place {
        Place::of_opcode(Self::CODE)
    }

    /// Whether the op uses a descriptor ([`Lease::is_of`]), for
    /// [`Ring::cancel_fd`](crate::Ring::cancel_fd). Runs with the ring locked, maybe while the
    /// kernel has the op: look at leases only. Default false.
    fn uses(&self, fd: &Fd) -> bool {
        let _ = fd;
        false
    }

    /// When the op is to be given up. See [`deadline`](Op::deadline).
    #[doc(hidden)]
    fn until(&self) -> Until {
        Until::NEVER
    }

    /// How long it waits, and that is all: it never goes to the kernel. See [`Sleep`].
    #[doc(hidden)]
    fn sleeps(&self) -> Option<Duration> {
        None
    }

    /// Asks at once, by a system call that is quick and never blocks, where there is such, instead
    /// of through the ring. Called before the op is queued, with nothing locked.
    #[doc(hidden)]
    fn at_once(&mut self) -> Option<io::Result<u32>> {
        None
    }

    /// Whether it may be [called](Self::call) by the thread that queues it, where the user lets such
    /// threads block ([`Builder::callers_may_block`](crate::Builder::callers_may_block)). Asked
    /// before the op is queued, with nothing locked.
    #[doc(hidden)]
    fn plain(&self) -> Plain {
        Plain::Never
    }

    /// Makes the plain system call, and gives up what only that needed. Not after `encode`.
    #[doc(hidden)]
    fn call(&mut self) -> io::Result<u32> {
        unreachable!("only of an op that is `plain`")
    }

    /// Writes the question. `opcode` and `user_data` are set by the ring.
    fn encode(&mut self, sqe: &mut Sqe);

    /// Moves out what only the kernel needed, when it has had its last word: the leases of
    /// descriptors, so that a close need not wait until somebody takes the output. Runs with the
    /// ring locked, like `encode`.
    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        let _ = leases;
    }

    /// Turns the answer into the output. Also called with an error for an op that never reached
    /// the kernel.
    fn decode(self, result: io::Result<u32>) -> Self::Output;

    /// Has a worker thread of the kernel's run it (`IOSQE_ASYNC`), so that submitting it cannot
    /// block. Ops that are known to do that, by their size or their file system, go to a worker by
    /// themselves.
    ///
    /// ```
    /// use deferring::op::{Op, Read};
    /// use deferring::{BufResult, Fd, Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let file = Fd::from(std::fs::File::open("Cargo.toml")?);
    /// let read = Read::new(&file, Vec::with_capacity(64), 0).in_worker();
    /// let BufResult(n, _) = block_on(&ring, ring.queue(read));
    /// assert_eq!(n?, 64);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "IOSQE_ASYNC")]
    fn in_worker(self) -> With<Self> {
        With::new(self).in_worker()
    }

    /// Says that it may block for long or for ever, such as the open of a FIFO. A worker more is
    /// then made possible at once, rather than when it is found to be stuck.
    ///
    /// The open of a FIFO *should* say so: the kernel tries an open without blocking first, if it
    /// has the path in its cache, and then a FIFO without a peer gives a descriptor at once for
    /// reading, and `ENXIO` for writing (Linux 6.18). With this, it waits, as `open(2)` does.
    fn may_block(self) -> With<Self> {
        With::new(self).may_block()
    }

    /// Gives it up when it has not ended after this time, counted from when it is queued. See
    /// [`Handle::timeout`](crate::Handle::timeout).
    fn timeout(self, time: Duration) -> With<Self> {
        With::new(self).timeout(time)
    }

    /// Gives it up when it has not ended at this time. See
    /// [`Handle::deadline`](crate::Handle::deadline).
    fn deadline(self, at: Instant) -> With<Self> {
        With::new(self).deadline(at)
    }
}

/// What a plain system call in place of an op would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Plain {
    /// Nothing: the op goes through the ring.
    Never,
    /// A change of one name in a local directory.
    Name,
    /// A small write into the page cache.
    Write,
}

impl Plain {
    const fn name_if(is_local: bool) -> Self {
        if is_local { Self::Name } else { Self::Never }
    }

    const fn write_if(is_small: bool) -> Self {
        if is_small { Self::Write } else { Self::Never }
    }
}

/// What an op can give: something that can also say "it failed, and its memory stays with the
/// kernel".
pub trait Outcome {
    /// The output of an op that was in the kernel when its ring was dropped, shut down, poisoned or
    /// forked away, and whose memory can never be given back.
    fn lost(error: io::Error) -> Self;
}

impl<T> Outcome for io::Result<T> {
    fn lost(error: io::Error) -> Self {
        Err(error)
    }
}

impl<T, B: StandIn> Outcome for BufResult<T, B> {
    fn lost(error: io::Error) -> Self {
        Self(Err(error), B::stand_in())
    }
}

/// The result of an op whose only success is 0.
pub(crate) fn zero(result: io::Result<u32>) -> io::Result<()> {
    result.map(|value| debug_assert_eq!(value, 0, "this op succeeds with 0"))
}

/// Refuses more buffers than one call takes (`IOV_MAX`).
fn check_vectored(count: usize) -> io::Result<()> {
    const IOV_MAX: usize = 1024;
    if count <= IOV_MAX { Ok(()) } else { Err(Errno::INVAL.into()) }
}

/// Refuses flags of a `send` or `recv` other than these.
fn check_message(flags: u32, known: u32) -> io::Result<()> {
    if flags & !known == 0 { Ok(()) } else { Err(Errno::INVAL.into()) }
}

/// Where a `send` or `recv` runs. What is no socket refuses it at once, so that nobody needs to be asked
/// what the descriptor is.
fn message_place(fd: &Lease, direction: Direction, dontwait: bool) -> Place {
    if dontwait { Place::of(Class::Pollable) } else { Place::through(fd.raw(), direction) }
}

/// `struct __kernel_timespec`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

impl KernelTimespec {
    /// `None` if it is not a time.
    #[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy reads numbers.
    pub(crate) fn duration(&self) -> Option<Duration> {
        const SECOND: i64 = 1_000_000_000;
        let is_fraction = (0..SECOND).contains(&self.nanoseconds);
        let seconds = u64::try_from(self.seconds).ok()?;
        let nanoseconds = u32::try_from(self.nanoseconds).ok()?;
        is_fraction.then(|| Duration::new(seconds, nanoseconds))
    }
}

impl From<Duration> for KernelTimespec {
    fn from(time: Duration) -> Self {
        Self {
            seconds: time.as_secs().try_into().unwrap_or(i64::MAX),
            nanoseconds: time.subsec_nanos().into(),
        }
    }
}

/// Poll events as an SQE holds them: the two halves change places on big-endian machines.
pub(crate) fn poll32(events: rustix::event::PollFlags) -> u32 {
    let bits = u32::from(events.bits());
    if cfg!(target_endian = "big") { bits.rotate_left(16) } else { bits }
}

/// Longest transfer of one call: what the kernel caps at (`MAX_RW_COUNT`).
pub(crate) const TRANSFER_MAX: usize = 0x7fff_f000;

/// A length as an SQE holds it: what is above [`TRANSFER_MAX`] becomes a short transfer.
#[allow(clippy::cast_possible_truncation)] // Capped.
pub(crate) const fn transfer_len(len: usize) -> u32 {
    if len > TRANSFER_MAX { TRANSFER_MAX as u32 } else { len as u32 }
}

/// Encodes an op as the ring does and compares, addresses apart.
#[cfg(test)]
pub(crate) fn check_encode<T: Op>(mut op: T, expected: &str) {
    op.check().expect("the op is refused");
    let mut sqe = Sqe { opcode: T::CODE, ..Sqe::EMPTY };
    op.encode(&mut sqe);
    assert_eq!(sqe.without_addresses(), expected);
}
