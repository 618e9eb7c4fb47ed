//! The door. It forwards.
//!
//! Not: states (`inflight/`), system calls (`backend/`), what a turn is (`turn/`). The methods
//! that queue one particular op stand beside the op, in `op/`.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use crate::backend::BackendInfo;
use crate::backend::uring::Params;
#[cfg(not(all(test, any(loom, shuttle))))]
use crate::backend::{Backend, Wire};
use crate::config::Builder;
use crate::handle::Handle;
use crate::inflight::Pending;
use crate::op::{Op, Opcode};
use crate::stats::Stats;
use crate::sync::Arc;
use crate::turn::Shared;

/// An io_uring: where system calls are queued.
///
/// A clone is the same ring. All methods may be called from any thread. When the last clone is
/// dropped, what is out is cancelled and waited for, up to
/// [`drain_timeout`](Builder::drain_timeout).
///
/// Every method that names an operation only queues it, and gives a [`Handle`] at once. The ring
/// has to be turned for anything to happen: by a driver ([`Builder::start`] and its kin), by
/// [`block_on`](crate::block_on), or by hand:
///
/// ```
/// use std::time::Duration;
/// use deferring::{BufResult, Fd, Ring};
///
/// let ring = Ring::builder().queue_depth(64).build()?;
/// let file = Fd::from(std::fs::File::open("/proc/self/comm")?);
/// let handle = ring.read(&file, Vec::with_capacity(64), 0); // queued, nothing more
/// ring.submit()?;
/// while !ring.wait(Some(Duration::from_millis(10)))? {}
/// ring.reap()?;
/// let BufResult(n, buf) = handle.try_take().expect("reaped");
/// assert_eq!(n?, buf.len());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Ring {
    door: Arc<Door>,
}

/// Held by `Ring`s only, not by handles: when it goes, the ring ends.
struct Door {
    shared: Arc<Shared>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Ring {
    /// How a ring is to be.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn open(config: Builder) -> io::Result<Self> {
        Ok(Self::of(Shared::open(&config)?))
    }

    #[cfg(not(all(test, any(loom, shuttle))))]
    pub(crate) fn open_on<B: Backend>(
        config: Builder,
        make: impl FnOnce(Wire) -> io::Result<B>,
    ) -> io::Result<Self> {
        Ok(Self::of(Shared::open_on(&config, make)?))
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { door: Arc::new(Door { shared }) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.door.shared
    }

    /// Queues any op, your own too. Nothing reaches the kernel before a
    /// [`submit`](Ring::submit). The queue is bounded by memory alone.
    pub fn queue<T: Op>(&self, op: T) -> Handle<T> {
        let shared = self.shared();
        Handle::new(Arc::clone(shared), shared.queue(op))
    }

    /// Sends what is queued by now and may go, in one `io_uring_enter` for each
    /// [`queue_depth`](Builder::queue_depth) of it: cancels first, then ops in the order in which
    /// they were queued. What has to wait for others to end (for a credit, or for its turn at a
    /// stream) goes later, by itself, from [`reap`](Ring::reap) or [`wait`](Ring::wait). Returns
    /// how many ops and cancels the kernel took. With nothing queued it returns 0 and makes no
    /// system call. On a ring with a driver it calls that, and returns 0.
    ///
    /// # Errors
    /// `EAGAIN` if the kernel has no memory now, `EEXIST` from the wrong thread of a
    /// [`single_issuer`](Builder::single_issuer) ring, and others of `io_uring_enter(2)`, if nothing
    /// was taken. Nothing is lost by an error, or by a batch that is taken in part: the rest goes
    /// by itself, with the next submit, wait or reap. If the kernel refuses for good, the
    /// ring is poisoned: every handle has an error that says so, and so has this.
    #[doc(alias = "io_uring_enter")]
    pub fn submit(&self) -> io::Result<usize> {
        self.shared().submit()
    }

    /// Waits until a completion is there to be reaped, or until the time is over; `None` waits for
    /// as long as it takes, zero does not wait. True if there is one, or if another thread has
    /// ended an op that had none (by a cancel in the queue). A signal ends the wait early, with
    /// false.
    ///
    /// It submits nothing new: what is still queued is not waited for. (What was asked to be sent
    /// before, and what the ring wants itself, goes out.) No lock is held; other threads
    /// may queue, submit and reap meanwhile.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`; `Unsupported` on a ring with a driver, which takes what it
    /// would wait for.
    #[doc(alias = "cqe_ready")]
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.shared().wait(timeout)
    }

    /// Fills the results of all ops that have ended, wakes whoever awaits them, and frees what
    /// nobody awaits. Returns how many ops ended. Does not wait.
    ///
    /// # Errors
    /// In a forked child, whose ring this is not.
    ///
    /// # Panics
    /// If a waker of yours panics: with its panic, after all others were called.
    #[doc(alias = "fill_completions")]
    pub fn reap(&self) -> io::Result<usize> {
        self.shared().reap()
    }

    /// What serves this ring: io_uring, or a pool of threads, and why.
    ///
    /// ```
    /// use deferring::{BackendKind, Reason, Ring};
    ///
    /// let ring = Ring::builder().pool_only().build()?;
    /// assert_eq!(ring.backend().kind(), BackendKind::Pool);
    /// assert_eq!(ring.backend().reason(), Some(&Reason::Asked));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn backend(&self) -> &BackendInfo {
        self.shared().backend()
    }

    /// What is out, by where it is.
    pub fn pending(&self) -> Pending {
        self.shared().pending()
    }

    /// How many ops have been queued and have not ended.
    pub fn in_flight(&self) -> usize {
        let Pending { queued, in_kernel, .. } = self.pending();
        queued + in_kernel
    }

    /// What the ring has done so far, and what is out. Takes no lock.
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// How the ring turned out.
    pub fn params(&self) -> &Params {
        self.shared().params()
    }

    /// How many SQEs one system call can take: what was asked for, rounded up.
    pub fn queue_depth(&self) -> u32 {
        self.params().sq_entries
    }

    /// Whether the kernel has this operation. One that it lacks fails with `EINVAL`.
    #[doc(alias = "io_uring_probe")]
    pub fn supports(&self, opcode: Opcode) -> bool {
        self.shared().supports(opcode)
    }

    /// Whether a wait can have a timeout without an op of its own (`IORING_FEAT_EXT_ARG`). Always
    /// true: a kernel without it is refused when the ring is built.
    #[doc(alias = "IORING_FEAT_EXT_ARG")]
    pub fn supports_ext_arg(&self) -> bool {
        true
    }

    /// Has the kernel add 1 to an eventfd whenever a completion comes, replacing none: a ring has
    /// one eventfd at most. Watch it in a loop of your own, and [`reap`](Ring::reap) when it is
    /// readable. One signal may stand for many completions, and is a hint: there may be none left.
    /// (The ring itself can be watched in the same way; it implements [`AsFd`]. Not so with
    /// [`defer_taskrun`](Builder::defer_taskrun), where only an eventfd wakes a loop.)
    ///
    /// # Errors
    /// `EBUSY` if there is one already, and others of `io_uring_register(2)`.
    #[doc(alias = "IORING_REGISTER_EVENTFD")]
    pub fn register_eventfd(&self, eventfd: impl AsFd) -> io::Result<()> {
        self.shared().register_eventfd(eventfd.as_fd())
    }

    /// Takes the eventfd away again.
    ///
    /// # Errors
    /// `ENXIO` if there is none.
    #[doc(alias = "IORING_UNREGISTER_EVENTFD")]
    pub fn unregister_eventfd(&self) -> io::Result<()> {
        self.shared().unregister_eventfd()
    }
}

/// The ring's descriptor: readable when a completion is there to be reaped. One more descriptor of
/// a loop of your own, except with [`defer_taskrun`](Builder::defer_taskrun), where the kernel
/// makes completions only when asked, and does not wake who polls it (seen on Linux 6.18): use
/// [`register_eventfd`](Ring::register_eventfd) there.
impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared().as_fd()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("params", self.params())
            .field("pending", &self.pending())
            .finish()
    }
}
