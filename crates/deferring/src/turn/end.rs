//! The end of a ring (P8): stop, cancel, drain to a deadline, leak and count. And its bad end: the
//! kernel refuses it for good.

use std::io;
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{Refusal, Shared};
use crate::driver::Keeper;
use crate::inflight::{CANCELED, Inflight, POISONED};
use crate::notify::Calls;
use crate::shutdown::Report;
use crate::stats::Stats;
use crate::sync::Ordering;
use crate::sync::plain::AtomicU64;
use crate::trace::Note;

/// How often a drain tries again to send its cancels, when the kernel has no memory for them.
const DRAIN_RETRY: Duration = Duration::from_millis(10);

/// What the ring's own thread has at least, to send the cancels.
const A_MOMENT: Duration = Duration::from_millis(10);

/// How much longer than the drain may take a dropped ring waits for its thread, which may be in
/// code of the user's.
const GRACE: Duration = Duration::from_secs(1);

/// Ops that were leaked by all rings of this process; see [`leaked_ops`].
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// How many ops this process has leaked: they were in the kernel when their ring was dropped or
/// shut down, and did not end in time, or when it was poisoned. Their memory and descriptors stay
/// as they are until the process exits.
#[must_use]
pub fn leaked_ops() -> u64 {
    LEAKED.load(Ordering::Relaxed)
}

/// How often in a row a ring may be forbidden its system calls before that is final.
const REFUSALS_MAX: u32 = 3;

/// What a refusal of the kernel's means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It may do it the next time.
    ForNow,
    /// It does it for another thread.
    Here,
    /// The ring is poisoned.
    ForGood,
}

/// A shutdown that has begun: its number, and how things were.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    number: u64,
    out: usize,
    cancelled: u64,
    leaked: u64,
}

impl Shared {
    /// The last `Ring` is gone: cancels what is out, waits for the kernel to let go of it until
    /// the deadline, then leaks what it still holds.
    pub(crate) fn close(&self) {
        if self.check_process().is_err() {
            return;
        }
        let mut keeper = self.keeper();
        self.closing.store(true, Ordering::SeqCst);
        let kept = keeper.take();
        drop(keeper);
        match kept {
            Some(keeper) => self.close_by(&keeper),
            None => self.close_here(),
        }
    }

    /// The ring's own thread does all that, in time.
    fn close_by(&self, keeper: &Keeper) {
        let mut calls = Calls::default();
        let deadline = self.after(self.drain_timeout.max(A_MOMENT));
        self.begin_end(deadline, &mut calls);
        self.seat.call_submitter();
        keeper.wait(self.drain_timeout.saturating_add(GRACE));
    }

    /// The ring's own thread is done.
    pub(crate) fn end_by_keeper(&self) {
        self.give_up(&mut Calls::default());
        self.over.store(true, Ordering::SeqCst);
    }

    fn close_here(&self) {
        self.seat.host.call(); // The reactor's task has nothing to do here any more.
        let mut calls = Calls::default();
        self.close_with(&mut calls);
        self.over.store(true, Ordering::SeqCst);
        self.seat.host.call();
    }

    fn close_with(&self, calls: &mut Calls) {
        let poisoned = self.refuse(Refusal::Closed);
        if poisoned {
            return; // All that was out has been given up.
        }
        let deadline = self.after(self.drain_timeout);
        let left = || deadline.saturating_sub(self.time.now());
        // A reactor's task sees the completions, too: the last of them must not be taken from under
        // whoever sleeps until it comes.
        let seated = self.seat.take_in_time(left);
        self.change(calls, Inflight::cancel_all);
        while self.drain_once(deadline, calls) {}
        self.give_up(calls);
        drop(seated);
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
        let (ended, leaked) = self.change(calls, |inflight, after| {
            if let Some(errno) = poison {
                after.notes.push(Note::Poisoned { errno: errno.raw_os_error() });
            }
            (inflight.out(), inflight.ring_gone(waiting, after))
        });
        LEAKED.fetch_add(leaked as u64, Ordering::Relaxed);
        self.tell_later(ended);
        self.seat.call_submitter();
        let wakers = std::mem::take(&mut self.lock().idle_wakers);
        wakers.into_values().for_each(|waker| calls.call(|| waker.wake()));
    }

    // Poison.

    /// The kernel refuses the ring's system calls: if that is for good, every handle gets an error
    /// that says so, and what the kernel holds stays as it is.
    ///
    /// A thread that is forbidden them may be confined alone, so that it takes several refusals,
    /// with no success of any thread in between.
    pub(crate) fn poison_if_final(&self, errno: Errno, calls: &mut Calls) -> Refused {
        let wrong_thread = errno == Errno::EXIST;
        let passes =
            matches!(errno, Errno::INTR | Errno::AGAIN | Errno::BUSY | Errno::NOMEM | Errno::TIME);
        let forbidden = matches!(errno, Errno::PERM | Errno::ACCESS | Errno::NOSYS);
        if wrong_thread {
            return Refused::Here;
        }
        if passes || forbidden && self.kernel.refusals() < REFUSALS_MAX {
            return Refused::ForNow;
        }
        self.poison(errno, calls);
        Refused::ForGood
    }

    /// Every handle gets an error, and what the kernel holds stays as it is.
    pub(crate) fn poison(&self, errno: Errno, calls: &mut Calls) {
        let poisoned = self.refuse(Refusal::Poisoned(errno));
        if !poisoned {
            self.counters.poisoned.store(true, Ordering::Relaxed);
            self.end_with(POISONED, Some(errno), calls);
        }
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
    /// given up at the deadline.
    pub(crate) fn begin_shutdown(&self, deadline: Instant) -> Option<Ending> {
        self.check_process().ok()?;
        let Stats { cancelled, leaked, .. } = self.counters.snapshot(0);
        let mut core = self.lock();
        let out = core.inflight.out();
        core.shutdowns += 1;
        let number = core.shutdowns;
        drop(core);
        let mut calls = Calls::default();
        self.begin_end(self.at(deadline), &mut calls);
        calls.resume();
        // It may have to wake up earlier than it thought.
        self.seat.call_submitter();
        Some(Ending { number, out, cancelled, leaked })
    }

    /// Nothing is queued any more, all that is out is cancelled, and given up at the deadline.
    fn begin_end(&self, deadline: Duration, calls: &mut Calls) {
        self.refuse(Refusal::Closed);
        // First, so that time does not run before the cancels can go.
        self.change(calls, Inflight::cancel_all);
        let mut core = self.lock();
        let earlier = core.alarm.give_up_at.replace(deadline);
        core.alarm.give_up_at = earlier.into_iter().chain([deadline]).min();
        drop(core);
        self.ending.store(true, Ordering::Relaxed);
    }

    /// What became of the ops of a shutdown, if nothing is out any more. Else `waker` is kept.
    pub(crate) fn shut_down(&self, ending: &Ending, waker: Waker) -> Option<Report> {
        if self.check_process().is_err() {
            return Some(Report::default());
        }
        let mut calls = Calls::default();
        self.give_up_if_late(&mut calls);
        calls.resume();
        let mut core = self.lock();
        if !core.inflight.is_idle() {
            let replaced = core.idle_wakers.insert(ending.number, waker);
            drop(core);
            drop(replaced);
            return None;
        }
        core.alarm.give_up_at = None;
        drop(core);
        self.ending.store(false, Ordering::Relaxed);
        let Stats { cancelled, leaked, .. } = self.counters.snapshot(0);
        let since = |now: u64, then: u64| usize::try_from(now - then).unwrap_or(usize::MAX);
        let (cancelled, leaked) =
            (since(cancelled, ending.cancelled), since(leaked, ending.leaked));
        let finished = ending.out.saturating_sub(cancelled + leaked);
        Some(Report { cancelled, finished, leaked })
    }

    /// Nobody awaits the shutdown any more.
    pub(crate) fn forget_shutdown(&self, ending: &Ending) {
        if self.check_process().is_ok() {
            let left = self.lock().idle_wakers.remove(&ending.number);
            let mut calls = Calls::default();
            calls.call(|| drop(left));
        }
    }

    /// Whether the deadline of a shutdown is over. Its alarm tells, unless the kernel takes no SQE.
    pub(super) fn is_late(&self) -> bool {
        if !self.ending.load(Ordering::Relaxed) {
            return false;
        }
        let now = self.time.now();
        self.lock().alarm.give_up_at.take_if(|at| *at <= now).is_some()
    }

    pub(super) fn give_up_if_late(&self, calls: &mut Calls) -> bool {
        let late = self.is_late();
        if late {
            self.give_up_the_rest(calls);
        }
        late
    }

    /// Gives up what has not ended by now.
    pub(super) fn give_up_the_rest(&self, calls: &mut Calls) {
        let _ = self.flush();
        self.reap_untold(calls);
        self.give_up(calls);
    }

    /// One round of the drain; false when there is nothing left to hope for.
    fn drain_once(&self, deadline: Duration, calls: &mut Calls) -> bool {
        // It may fail, on the wrong thread of a single-issuer ring or for want of memory; what is
        // out may end all the same.
        let sent = self.submit_up_to(usize::MAX, calls);
        self.reap_into(calls);
        self.take_untold(); // There is nobody to tell.
        let left = deadline.saturating_sub(self.time.now());
        let core = self.lock();
        let (owed, waiting) = (core.inflight.is_owed(), core.inflight.has_sendable());
        drop(core);
        if !owed || left.is_zero() {
            return false;
        }
        let wait = match sent {
            // A cancel that missed is to be sent again at once; else something will come.
            Ok(_) if waiting => Duration::ZERO,
            Ok(_) => left,
            Err(_) => left.min(DRAIN_RETRY),
        };
        self.wait_into(Some(wait), calls).is_ok()
    }
}
