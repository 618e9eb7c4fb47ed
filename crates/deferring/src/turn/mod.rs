//! A ring in motion: admit what waits, submit, wait, reap, wake.
//!
//! One lock, `core`, is on every operation's path; it is never held over a system call or over
//! user code (P11). Whoever has the ring may call everything here from any thread. `submit.rs`
//! sends and waits, `reap.rs` fills results, `claim.rs` serves handles, `end.rs` ends. Not: the
//! states of ops (`inflight/`), nor who decides to wait (`driver/`, or the user).

mod claim;
mod end;
mod reap;
mod submit;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::backend::uring::{self, Cq, ForkMark, Kernel, Params, Probe, Sq, Uring};
use crate::config::Builder;
use crate::driver::Seat;
use crate::error;
use crate::inflight::{After, Inflight, Pending, Token};
use crate::op::{Op, Opcode};
use crate::sync::{Mutex, MutexGuard};

pub use end::leaked_ops;

/// What all handles and clones of a ring share.
pub(crate) struct Shared {
    mark: ForkMark,
    kernel: Kernel,
    probe: Probe,
    core: Mutex<Core>,
    pub(crate) seat: Seat,
    drain_timeout: Duration,
}

/// What only one thread may touch at a time.
struct Core {
    sq: Sq,
    cq: Cq,
    inflight: Inflight,
    /// Ops and cancels given to the kernel so far.
    sqes: u64,
    /// The last `Ring` is gone; nothing is queued any more.
    closed: bool,
    /// The kernel watches the bell of [`Seat`].
    bell_armed: bool,
    /// Lists that a reap fills, kept so that it does not allocate them.
    spare: After,
}

impl Shared {
    pub(crate) fn open(config: &Builder) -> io::Result<Self> {
        let mark = ForkMark::of_this_process()
            .map_err(|errno| error::setup("madvise(MADV_WIPEONFORK)", errno))?;
        let Uring { sq, cq, kernel, probe } = uring::open(config)?;
        let seat = Seat::new().map_err(|errno| error::setup("eventfd", errno))?;
        let core = Core {
            sq,
            cq,
            inflight: Inflight::new(),
            sqes: 0,
            closed: false,
            bell_armed: false,
            spare: After::default(),
        };
        Ok(Self {
            mark,
            kernel,
            probe,
            core: Mutex::new(core),
            seat,
            drain_timeout: config.drain_timeout,
        })
    }

    /// Refuses a forked child (P9).
    pub(crate) fn check_process(&self) -> io::Result<()> {
        if self.mark.is_this_process() { Ok(()) } else { Err(error::forked()) }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    pub(crate) const fn params(&self) -> &Params {
        self.kernel.params()
    }

    pub(crate) const fn supports(&self, opcode: Opcode) -> bool {
        self.probe.supports(opcode)
    }

    pub(crate) fn pending(&self) -> Pending {
        if self.check_process().is_err() {
            return Pending::default();
        }
        self.lock().inflight.pending()
    }

    /// Given to the kernel so far, and how many calls that took.
    pub(crate) fn sqes_and_enters(&self) -> (u64, u64) {
        if self.check_process().is_err() {
            return (0, 0);
        }
        (self.lock().sqes, self.kernel.enters())
    }

    pub(crate) fn register_eventfd(&self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        self.check_process()?;
        Ok(self.kernel.register_eventfd(eventfd)?)
    }

    pub(crate) fn unregister_eventfd(&self) -> io::Result<()> {
        self.check_process()?;
        Ok(self.kernel.unregister_eventfd()?)
    }

    /// Gives an op its slot. An op that cannot have one comes back with the reason.
    pub(crate) fn queue<T: Op>(&self, op: T) -> Result<Token, (T, io::Error)> {
        if let Err(error) = self.check_process().and_then(|()| op.check()) {
            return Err((op, error));
        }
        let mut core = self.lock();
        if core.closed {
            drop(core);
            return Err((op, error::closed()));
        }
        let token = core.inflight.insert(op);
        drop(core);
        self.seat.call_sleeper();
        Ok(token)
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.kernel.as_fd()
    }
}
