//! Filling results, and what follows from them.
//!
//! CQEs are read and slots moved on under the lock, in batches; wakers and destructors, which are
//! the user's, run without it. Not: what a CQE means for a slot (`inflight/`).

use std::io;

use super::{Core, Shared};
use crate::inflight::{After, Completed, Inflight, Pending};
use crate::notify::Calls;

/// How many CQEs are reaped between two unlocks.
const REAP_BATCH: usize = 64;

/// What a reap found, and whom it concerns. To be delivered with nothing locked.
#[derive(Default)]
pub(crate) struct Found {
    after: After,
    ops: usize,
    bell: bool,
    graves: bool,
    cancel_again: bool,
}

impl Found {
    pub(crate) const fn any(&self) -> bool {
        self.ops > 0
    }
}

impl Core {
    /// Moves slots on by up to `most` CQEs. Returns how many there were.
    ///
    /// The bell's CQE is for the thread in the seat. If that one may be about to sleep, another
    /// leaves the CQE where it is, and stops there: nobody oversleeps a CQE that is in the CQ.
    fn reap_batch(&mut self, most: usize, leave_bell: bool, found: &mut Found) -> usize {
        let mut popped = 0;
        while popped < most {
            let Some(cqe) = self.cq.pop() else { break };
            match self.inflight.complete(cqe, &mut found.after) {
                Completed::Op => found.ops += 1,
                Completed::Other => {}
                Completed::CancelAgain => found.cancel_again = true,
                Completed::Bell if leave_bell => {
                    self.cq.put_back();
                    break;
                }
                Completed::Bell => {
                    self.bell_armed = false;
                    found.bell = true;
                }
            }
            popped += 1;
        }
        self.cq.give_back();
        found.graves |= self.inflight.has_graves();
        popped
    }
}

impl Shared {
    /// Fills results and wakes who awaits them. Returns how many ops ended.
    pub(crate) fn reap(&self) -> io::Result<usize> {
        self.check_process()?;
        let mut calls = Calls::default();
        let ops = self.reap_into(&mut calls);
        calls.resume();
        Ok(ops)
    }

    pub(super) fn reap_into(&self, calls: &mut Calls) -> usize {
        let mut ops = 0;
        let Some(mut left) = self.begin_reap() else { return ops };
        loop {
            let mut found = Found::default();
            let popped = self.collect(REAP_BATCH.min(left), false, &mut found);
            left -= popped;
            ops += found.ops;
            self.deliver_to(found, calls);
            if left == 0 || !self.has_more_than(popped) {
                return ops;
            }
        }
    }

    /// As [`reap`](Self::reap), for the thread in the seat: what follows is delivered later, when
    /// the seat is free for what the user's code may do.
    pub(crate) fn collect_seated(&self) -> Found {
        let mut found = Found::default();
        let Some(mut left) = self.begin_reap() else { return found };
        loop {
            let popped = self.collect(REAP_BATCH.min(left), true, &mut found);
            left -= popped;
            if left == 0 || !self.has_more_than(popped) {
                break;
            }
        }
        if found.bell {
            self.seat.silence();
        }
        found
    }

    /// How many CQEs a reap may take: as many as were out when it began, so that new ones do not
    /// keep it for ever. `None` if there is nothing to reap.
    fn begin_reap(&self) -> Option<usize> {
        if self.check_process().is_err() {
            return None;
        }
        if self.kernel.wants_enter() && !self.kernel.cq_ready() {
            // What is not handed over now will be at the next wait.
            let _ = self.kernel.flush();
        }
        if !self.kernel.cq_ready() {
            return None;
        }
        let Pending { in_kernel, cancels, .. } = self.lock().inflight.pending();
        Some(in_kernel + cancels + 1)
    }

    fn collect(&self, most: usize, seated: bool, found: &mut Found) -> usize {
        let mut core = self.lock();
        if !found.after.has_room() {
            found.after = std::mem::take(&mut core.spare);
        }
        let leave_bell = !seated && self.seat.is_asleep();
        core.reap_batch(most, leave_bell, found)
    }

    /// Whether a reap that found so many should look again.
    fn has_more_than(&self, popped: usize) -> bool {
        popped == REAP_BATCH
            || popped > 0 && self.kernel.overflowed() && self.kernel.flush().is_ok()
    }

    /// Calls whom it concerns.
    pub(crate) fn deliver(&self, found: Found) {
        let mut calls = Calls::default();
        self.deliver_to(found, &mut calls);
        calls.resume();
    }

    fn deliver_to(&self, mut found: Found, calls: &mut Calls) {
        follow(&mut found.after, calls);
        if found.graves {
            self.bury(calls);
        }
        if found.cancel_again {
            // Nobody knows that there is something to submit. Cancels only: ops wait until asked.
            let cancels = |core: &mut Core| core.fill_by(Inflight::admit_cancel);
            if self.submit_by(cancels, calls).is_err() {
                // Written and not sent: whoever sleeps on the ring may be allowed what we are not.
                self.seat.call_sleeper();
            }
        }
        if found.after.has_room() {
            self.lock().spare = found.after;
        }
    }

    /// Drops what nobody will take.
    pub(super) fn bury(&self, calls: &mut Calls) {
        loop {
            // The guard is gone before user code runs.
            let corpse = self.lock().inflight.exhume();
            match corpse {
                Some(corpse) => calls.call(|| corpse.bury()),
                None => return,
            }
        }
    }

    /// Changes the table, then calls whom that concerns.
    pub(super) fn change<R>(
        &self,
        calls: &mut Calls,
        f: impl FnOnce(&mut Inflight, &mut After) -> R,
    ) -> R {
        let mut after = After::default();
        let mut core = self.lock();
        let result = f(&mut core.inflight, &mut after);
        let has_graves = core.inflight.has_graves();
        let has_waiting = core.inflight.has_waiting();
        drop(core);
        follow(&mut after, calls);
        if has_graves {
            self.bury(calls);
        }
        if has_waiting {
            self.seat.call_sleeper();
        }
        result
    }
}

/// Does what follows from a change, and leaves the lists empty.
fn follow(after: &mut After, calls: &mut Calls) {
    // First the descriptors: who is woken may want to close one.
    for lease in after.leases.drain(..) {
        calls.call(|| drop(lease));
    }
    for waker in after.wakers.drain(..) {
        calls.call(|| waker.wake());
    }
}
