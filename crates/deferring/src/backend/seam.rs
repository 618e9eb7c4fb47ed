//! The seam, as a trait.
//!
//! Not: the rings in memory on which it stands (`memory.rs`).
#![allow(unsafe_code)] // A promise that the compiler cannot check.

use std::io;
use std::time::Duration;

use super::{Wire, Workers};
use crate::Clock;
use crate::op::{Opcode, Sqe};
use crate::sync::Arc;

/// Plays the kernel's part for one ring: takes SQEs, and gives each of them one CQE by its [`Wire`].
///
/// Calls come from any thread that has the ring, several at once, with none of the library's locks
/// held. A backend made of threads lets them run on after it is dropped, if they must.
///
/// # Safety
/// 1. What an SQE names (memory, paths, descriptors) is touched only between
///    [`begin`](Backend::begin) and the CQE that answers it: to read it, or to fill it as the call
///    of that [`Opcode`] does.
/// 2. The answer is one that Linux could give: no more bytes than there is room for, with those
///    bytes filled; an open descriptor that is nobody else's, for an op that opens one; or a
///    negative errno. Each `user_data` is answered once, and no other is.
pub unsafe trait Backend: Send + Sync + 'static {
    /// Whether it has this operation. What it does not have it answers with `EINVAL`.
    fn supports(&self, opcode: Opcode) -> bool;

    /// How many of so many SQEs may be taken now: what `io_uring_enter` would say. Called before
    /// them, by every call that submits.
    ///
    /// # Errors
    /// `EINTR`, `EAGAIN`, `EBUSY`, `ENOMEM`: none is taken, and the ring tries again. Others poison
    /// the ring.
    fn enter(&self, count: u32) -> io::Result<u32> {
        Ok(count)
    }

    /// An SQE is the backend's from now on. It may be answered before this returns.
    fn begin(&self, sqe: Sqe);

    /// The time of [`Clock::Monotonic`], as ops on this ring have it. Default: the real one.
    fn now(&self) -> Duration {
        Clock::Monotonic.now()
    }

    /// Waits until a CQE can be reaped, or for a time; `None` is for as long as it takes. Default:
    /// puts the thread to sleep.
    ///
    /// # Errors
    /// `ETIME` when time is up, `EINTR` if a signal came before.
    fn wait(&self, wire: &Wire, time: Option<Duration>) -> io::Result<()> {
        wire.wait(time)
    }

    /// The thread that turns the ring has nothing to send, and will not wait, as its future is to be
    /// polled again. A backend whose time passes only while it is asked something lets some pass, lest
    /// a future that yields until another is done does so for ever. Default: nothing.
    fn pass(&self) {}

    /// How many ops may block a worker from now on. What is above that waits.
    fn limit_workers(&self, most: u32);

    /// How many workers there are.
    fn workers(&self) -> Workers;
}

/// Whose time it is: the real one's, or a backend's.
#[derive(Clone)]
pub(crate) struct Time(pub(super) Option<Arc<dyn Backend>>);

impl Time {
    #[cfg_attr(not(all(test, any(loom, shuttle))), allow(dead_code))] // Of the toy.
    pub(crate) const REAL: Self = Self(None);

    /// The time of `CLOCK_MONOTONIC`, as ops have it.
    pub(crate) fn now(&self) -> Duration {
        match &self.0 {
            None => Clock::Monotonic.now(),
            Some(backend) => backend.now(),
        }
    }
}
