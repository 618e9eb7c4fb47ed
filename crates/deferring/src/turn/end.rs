//! The end of a ring (P8): stop, cancel, drain to a deadline, leak and count. And its bad end: the
//! kernel refuses it for good.

use std::io;
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::alarm::monotonic;
use super::{Refusal, Shared};
use crate::inflight::{CANCELED, Cancelled, Inflight, POISONED, Pending, Which};
use crate::notify::Calls;
use crate::sync::{AtomicU64, Ordering};
use crate::trace::Note;

/// How often a drain tries again to send its cancels, when the kernel has no memory for them.
const DRAIN_RETRY: Duration = Duration::from_millis(10);

/// Ops that were leaked by all rings of this process; see [`leaked_ops`].
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// How many ops this process has leaked: they were in the kernel when their ring was dropped, and
/// did not end within [`Builder::drain_timeout`](crate::Builder::drain_timeout). Their memory and descriptors stay as they are
/// until the process exits.
#[must_use]
pub fn leaked_ops() -> u64 {
    LEAKED.load(Ordering::Relaxed)
}

impl Shared {
    /// The last `Ring` is gone: cancels what is out, waits for the kernel to let go of it until
    /// the deadline, then leaks what it still holds.
    pub(crate) fn close(&self) {
        if self.check_process().is_err() {
            return;
        }
        let mut calls = Calls::default();
        let poisoned = self.refuse(Refusal::Closed);
        if poisoned {
            return; // All that was out has been given up.
        }
        self.change(&mut calls, Inflight::cancel_all);
        // None: never, which is what a timeout beyond the end of time asks for.
        let deadline = Instant::now().checked_add(self.drain_timeout);
        while self.drain_once(deadline, &mut calls) {}
        self.give_up(&mut calls);
    }

    /// From now on nothing can be queued. True if the ring was poisoned before.
    fn refuse(&self, refusal: Refusal) -> bool {
        let mut core = self.lock();
        let poisoned = matches!(core.refusal, Some(Refusal::Poisoned(_)));
        if !poisoned {
            core.refusal = Some(refusal);
        }
        poisoned
    }

    /// Leaks what is still out, and counts it.
    pub(super) fn give_up(&self, calls: &mut Calls) {
        self.end_with(CANCELED, None, calls);
    }

    fn end_with(&self, waiting: i32, poison: Option<Errno>, calls: &mut Calls) {
        let leaked = self.change(calls, |inflight, after| {
            if let Some(errno) = poison {
                after.notes.push(Note::Poisoned { errno: errno.raw_os_error() });
            }
            inflight.ring_gone(waiting, after)
        });
        LEAKED.fetch_add(leaked as u64, Ordering::Relaxed);
        let wakers = std::mem::take(&mut self.lock().idle_wakers);
        wakers.into_iter().for_each(|waker| calls.call(|| waker.wake()));
    }

    // Poison.

    /// The kernel refuses the ring's system calls: if that is for good, every handle gets an error
    /// that says so, and what the kernel holds stays as it is.
    pub(crate) fn poison_if_final(&self, errno: Errno, calls: &mut Calls) -> bool {
        let passes = matches!(
            errno,
            Errno::INTR | Errno::AGAIN | Errno::BUSY | Errno::NOMEM | Errno::TIME | Errno::EXIST
        );
        if passes {
            return false;
        }
        let poisoned = self.refuse(Refusal::Poisoned(errno));
        if !poisoned {
            self.counters.poisoned.store(true, Ordering::Relaxed);
            self.end_with(POISONED, Some(errno), calls);
        }
        true
    }

    /// Refuses a forked child, and a ring that is poisoned.
    pub(super) fn check_usable(&self) -> io::Result<()> {
        self.check_process()?;
        if self.is_poisoned() {
            if let Some(refusal) = self.lock().refusal {
                return Err(refusal.error());
            }
        }
        Ok(())
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.counters.poisoned.load(Ordering::Relaxed)
    }

    // Shutdown.

    /// Begins the end: nothing can be queued from now on, everything that is out is cancelled, and
    /// given up at the deadline. Returns how much was out, and the tally of the cancels.
    pub(crate) fn begin_shutdown(&self, deadline: Instant) -> Option<(usize, u64)> {
        self.check_process().ok()?;
        self.refuse(Refusal::Closed);
        let Pending { queued, in_kernel, .. } = self.pending();
        let mut core = self.lock();
        core.alarm.give_up_at = Some(monotonic(deadline));
        drop(core);
        let tally = self.cancel_many(Which::All)?;
        Some((queued + in_kernel, tally))
    }

    /// How many ops this ring has leaked, and what its cancels achieved, if nothing is out any more.
    /// Else `waker` is kept.
    pub(crate) fn shut_down(&self, tally: u64, waker: Waker) -> Option<(usize, Cancelled)> {
        if self.check_process().is_err() {
            return Some((0, Cancelled::default()));
        }
        let mut core = self.lock();
        if !core.inflight.is_idle() {
            core.idle_wakers.push(waker);
            return None;
        }
        core.alarm.give_up_at = None;
        let cancelled = core.inflight.tallied(tally, &mut None).unwrap_or_default();
        let leaked = core.inflight.leaked();
        drop(core);
        drop(waker);
        Some((leaked, cancelled))
    }

    /// One round of the drain; false when there is nothing left to hope for.
    fn drain_once(&self, deadline: Option<Instant>, calls: &mut Calls) -> bool {
        // It may fail, on the wrong thread of a single-issuer ring or for want of memory; what is
        // out may end all the same.
        let sent = self.submit_up_to(usize::MAX, calls);
        self.reap_into(calls);
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let core = self.lock();
        let (owed, waiting) = (core.inflight.is_owed(), core.inflight.has_sendable());
        drop(core);
        if !owed || left == Some(Duration::ZERO) {
            return false;
        }
        let wait = match sent {
            // A cancel that missed is to be sent again at once; else something will come.
            Ok(_) if waiting => Some(Duration::ZERO),
            Ok(_) => left,
            Err(_) => Some(left.map_or(DRAIN_RETRY, |left| left.min(DRAIN_RETRY))),
        };
        self.wait_into(wait, calls).is_ok()
    }
}
