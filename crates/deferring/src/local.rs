//! A ring for one thread: the same ring, whose lock is none.
//!
//! Neither it nor its handles can be sent to another thread. What they do is what [`Ring`] and
//! [`Handle`] do. Not: the lock (`sync/lock.rs`).

use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::backend::BackendInfo;
use crate::config::Builder;
use crate::handle::{Cancel, Handle};
use crate::inflight::{CancelOutcome, Pending};
use crate::op::Op;
use crate::ring::Ring;
use crate::stats::Stats;

/// A [`Ring`] for one thread, which needs no lock from the first op on.
///
/// It stays on the thread that built it, with its handles and with whoever awaits them. Ops are
/// queued as they are ([`op`](crate::op)); wakers may be called by any thread, as everywhere. All
/// else is as for [`Ring`], which learns as much when one thread uses it for long
/// ([`Builder::biased_lock`]), so that most programs do well without.
///
/// ```
/// use deferring::op::Read;
/// use deferring::{BufResult, Fd, Ring};
///
/// let ring = Ring::builder().build_local()?;
/// let file = Fd::from(std::fs::File::open("/proc/self/comm")?);
/// let read = ring.queue(Read::new(&file, Vec::with_capacity(64), 0));
/// let BufResult(n, buf) = ring.block_on(read);
/// assert_eq!(n?, buf.len());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// ```compile_fail,E0277
/// let ring = deferring::Ring::builder().build_local().unwrap();
/// std::thread::spawn(move || ring.pending()); // It cannot be sent between threads.
/// ```
///
/// ```compile_fail,E0277
/// let ring = deferring::Ring::builder().build_local().unwrap();
/// let nop = ring.queue(deferring::op::Nop::new());
/// std::thread::spawn(move || nop.is_done()); // Nor can its handles.
/// ```
#[derive(Clone)]
pub struct LocalRing {
    ring: Ring,
    _stays: PhantomData<*const ()>,
}

impl LocalRing {
    /// Queues any op, as [`Ring::queue`].
    pub fn queue<T: Op>(&self, op: T) -> LocalHandle<T> {
        LocalHandle { handle: self.ring.queue(op), _stays: PhantomData }
    }

    /// Runs a future to its end and turns the ring meanwhile, as [`block_on`](crate::block_on).
    ///
    /// # Panics
    /// In a fork of the process that built the ring.
    pub fn block_on<F: IntoFuture>(&self, future: F) -> F::Output {
        crate::block_on(&self.ring, future)
    }

    /// Sends what is queued, as [`Ring::submit`].
    ///
    /// # Errors
    /// As there.
    pub fn submit(&self) -> io::Result<usize> {
        self.ring.submit()
    }

    /// Waits for a completion, as [`Ring::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.ring.wait(timeout)
    }

    /// Fills results, as [`Ring::reap`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn reap(&self) -> io::Result<usize> {
        self.ring.reap()
    }

    /// What is out, by where it is.
    pub fn pending(&self) -> Pending {
        self.ring.pending()
    }

    /// How many ops have been queued and have not ended.
    pub fn in_flight(&self) -> usize {
        self.ring.in_flight()
    }

    /// What the ring has done so far.
    pub fn stats(&self) -> Stats {
        self.ring.stats()
    }

    /// What serves this ring, and why.
    pub fn backend(&self) -> &BackendInfo {
        self.ring.backend()
    }
}

impl Builder {
    /// Makes a ring for the calling thread, which costs less and stays there: a [`LocalRing`].
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_local(mut self) -> io::Result<LocalRing> {
        self.check()?;
        self.of_one_thread = true;
        Ok(LocalRing { ring: Ring::open(self)?, _stays: PhantomData })
    }
}

impl AsFd for LocalRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl fmt::Debug for LocalRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalRing").field(&self.ring).finish()
    }
}

/// A [`Handle`] of a [`LocalRing`], which stays on its thread.
#[must_use = "dropping a handle cancels its op; use `.detach()` to let it run"]
#[derive(Debug)]
pub struct LocalHandle<T: Op> {
    handle: Handle<T>,
    _stays: PhantomData<*const ()>,
}

impl<T: Op> LocalHandle<T> {
    /// The output, if it is here, as [`Handle::try_take`].
    pub fn try_take(&self) -> Option<T::Output> {
        self.handle.try_take()
    }

    /// Whether the output is here, or has been taken.
    pub fn is_done(&self) -> bool {
        self.handle.is_done()
    }

    /// Asks for a cancel, now, as [`Handle::cancel`].
    pub fn cancel(&self) -> LocalCancel<'_, T> {
        LocalCancel { cancel: self.handle.cancel(), _stays: PhantomData }
    }

    /// Gives the op up when it has not ended after this time, as [`Handle::timeout`].
    pub fn timeout(self, time: Duration) -> Self {
        Self { handle: self.handle.timeout(time), ..self }
    }

    /// Gives the op up when it has not ended at this time, as [`Handle::deadline`].
    pub fn deadline(self, at: Instant) -> Self {
        Self { handle: self.handle.deadline(at), ..self }
    }

    /// Gives the output up and lets the op run to its end.
    pub fn detach(self) {
        self.handle.detach();
    }
}

impl<T: Op> Future for LocalHandle<T> {
    type Output = T::Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        Pin::new(&mut self.handle).poll(cx)
    }
}

// Nothing is pinned: the op is elsewhere.
impl<T: Op> Unpin for LocalHandle<T> {}

/// What a cancel achieved, as [`Cancel`].
#[derive(Debug)]
pub struct LocalCancel<'a, T: Op> {
    cancel: Cancel<'a, T>,
    _stays: PhantomData<*const ()>,
}

impl<T: Op> LocalCancel<'_, T> {
    /// The outcome, if it is known by now.
    pub fn outcome(&self) -> Option<CancelOutcome> {
        self.cancel.outcome()
    }
}

impl<T: Op> Future for LocalCancel<'_, T> {
    type Output = CancelOutcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CancelOutcome> {
        Pin::new(&mut self.cancel).poll(cx)
    }
}
