//! Filling results, and what follows from them.
//!
//! CQEs are read and slots moved on under the lock, in batches; wakers and destructors, which are
//! the user's, run without it. Not: what a CQE means for a slot (`inflight/`).

use std::io;

use rustix::io::Errno;

use super::aside::Aside;
use super::{Core, Shared, Stirrer, workers};
use crate::fd::Lease;
use crate::inflight::{After, Completed, Inflight, Own, Pending, Token};
use crate::notify::Calls;
use crate::sync::{Ordering, thread};
use crate::trace::Note;

/// How many CQEs are reaped between two unlocks.
const REAP_BATCH: usize = 64;

/// The most of the ring's own requests that are out at once, beside canaries; and that are written
/// at once.
pub(super) const OWN_MAX: usize = 4;

/// What a reap found, and whom it concerns. To be delivered with nothing locked.
#[derive(Default)]
pub(crate) struct Found {
    after: After,
    /// The lists of `after` are the ring's, to be given back.
    borrows: bool,
    ops: usize,
    bell: bool,
    graves: bool,
    cancel_again: bool,
    /// Something may go now that was asked to be sent before, or the ring has something to ask.
    more: bool,
    /// The time of a shutdown is over.
    give_up: bool,
    /// The kernel refuses to tell the time.
    timeless: Option<Errno>,
    /// The kernel's workers are to be counted.
    suspicious: bool,
    /// Whoever found it ends, and must send nothing.
    leave_unsent: bool,
    /// What comes next is for another thread, and what is behind it waits for that.
    left_bell: bool,
}

impl Found {
    /// For one reap: its lists are the ring's, so that it need not allocate them.
    pub(crate) fn borrowing() -> Self {
        Self { borrows: true, ..Self::default() }
    }

    /// All that was found is done. The lists, which are empty, are kept.
    fn forget(&mut self) {
        let Self { after: _, borrows: _, ops, bell, graves, cancel_again, more, .. } = self;
        *ops = 0;
        (*bell, *graves, *cancel_again, *more) = (false, false, false, false);
        let Self { give_up, timeless, suspicious, leave_unsent, left_bell, .. } = self;
        (*give_up, *suspicious, *leave_unsent, *left_bell) = (false, false, false, false);
        *timeless = None;
    }

    pub(crate) const fn any(&self) -> bool {
        self.ops > 0
    }

    /// Whether nothing was found but ops that have ended.
    const fn is_plain(&self) -> bool {
        let Self { after: _, borrows: _, ops: _, bell, graves, cancel_again, more, .. } = self;
        let Self { give_up, timeless, suspicious, leave_unsent, left_bell, .. } = self;
        let others = *give_up | *suspicious | *leave_unsent | *left_bell | timeless.is_some();
        !(*bell | *graves | *cancel_again | *more | others)
    }
}

impl Core {
    /// How many CQEs may come of what is out now.
    fn out(&self) -> usize {
        let Pending { in_kernel, cancels, .. } = self.inflight.pending();
        in_kernel + cancels + self.inflight.canaries() + OWN_MAX
    }

    /// Moves slots on by up to `most` CQEs. Returns how many there were.
    ///
    /// The bell's CQE is for a thread that sleeps in the ring. If one may be about to, another
    /// leaves the CQE where it is, and stops there: nobody oversleeps a CQE that is in the CQ.
    /// `is_anothers` is asked when the CQE is there: before, it would not know of a sleeper that was
    /// called since.
    fn reap_batch(
        &mut self,
        most: usize,
        is_anothers: impl Fn() -> bool,
        found: &mut Found,
    ) -> usize {
        let (mut popped, mut time_is_up) = (0, false);
        while popped < most {
            let Some(cqe) = self.pop_any() else { break };
            match self.inflight.complete(cqe, &mut found.after) {
                Completed::Op => found.ops += 1,
                Completed::Other => {}
                Completed::CancelAgain => found.cancel_again = true,
                Completed::Own(own) if own.is_call() && is_anothers() => {
                    self.cq.put_back();
                    found.left_bell = true;
                    break;
                }
                Completed::Own(Own::Bell) => {
                    self.bell_armed = false;
                    found.bell = true;
                }
                Completed::Own(own) => time_is_up |= self.own_answered(own, cqe.result),
            }
            popped += 1;
        }
        self.give_back();
        self.conclude(time_is_up, found);
        popped
    }

    /// As [`reap_batch`](Self::reap_batch), up to the first CQE that is not about the ring's own.
    fn reap_own(&mut self, is_anothers: impl Fn() -> bool, found: &mut Found) {
        let mut time_is_up = false;
        while let Some(cqe) = self.cq.pop() {
            match Token::from_user_data(cqe.user_data).own_kind() {
                Some(own) if !own.is_call() || !is_anothers() => {
                    self.inflight.complete(cqe, &mut found.after);
                    time_is_up |= self.own_answered(own, cqe.result);
                    self.bell_armed &= own != Own::Bell;
                    found.bell |= own == Own::Bell;
                }
                _ => {
                    self.cq.put_back();
                    break;
                }
            }
        }
        self.cq.give_back();
        self.conclude(time_is_up, found);
    }

    fn own_answered(&mut self, own: Own, result: i32) -> bool {
        if let (Own::Aside, Some(aside)) = (own, &mut self.aside) {
            aside.watch_ended();
        }
        self.alarm.answered(own, result)
    }

    /// Whether the next CQE is one that [`reap_own`](Self::reap_own) would take, and no other is
    /// there to be reaped.
    pub(super) fn next_is_own(&mut self, bell: bool) -> bool {
        if self.aside.as_ref().is_some_and(Aside::is_ready) {
            return false;
        }
        let Some(cqe) = self.cq.pop() else { return false };
        self.cq.put_back();
        let own = Token::from_user_data(cqe.user_data).own_kind();
        own.is_some_and(|own| bell || !own.is_call())
    }

    /// This thread has ended ops, of which others may want to hear.
    fn stir(&mut self) {
        let me = Stirrer::One(thread::current().id());
        let same = self.stirrer.is_none_or(|stirrer| stirrer == me);
        self.stirrer = Some(if same { me } else { Stirrer::Several });
    }

    fn conclude(&mut self, time_is_up: bool, found: &mut Found) {
        if time_is_up && self.strike(&mut found.after) {
            found.give_up = true;
        }
        self.counters.take_notes(&mut found.after.notes);
        found.ops += self.inflight.take_ended_unseen();
        found.timeless = self.alarm.refusal();
        found.suspicious |= self.inflight.take_suspicion();
        found.graves |= self.inflight.has_graves();
        found.more |= self.has_more_to_send();
        self.inflight.publish();
        if !self.idle_wakers.is_empty() && self.inflight.is_idle() {
            let idle_wakers = std::mem::take(&mut self.idle_wakers);
            found.after.wakers.extend(idle_wakers.into_values());
        }
    }
}

impl Shared {
    /// Fills results and wakes who awaits them. Returns how many ops ended.
    pub(crate) fn reap(&self) -> io::Result<usize> {
        self.check_process()?;
        let mut calls = Calls::default();
        let untold = self.take_untold();
        let ops = untold + self.reap_into(&mut calls);
        // Whoever does nothing but reap has sleeps and deadlines, too.
        if self.left_unsent.swap(false, Ordering::SeqCst) || self.lock().has_own_to_send() {
            let _ = self.submit_up_to(0, &mut calls); // It goes with the next call, then.
        }
        calls.resume();
        Ok(ops)
    }

    pub(super) fn reap_into(&self, calls: &mut Calls) -> usize {
        self.reap_and(false, calls)
    }

    /// As [`reap_into`](Self::reap_into), by a thread that must send nothing: what may go now waits
    /// for others.
    #[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // Of threads that end.
    pub(super) fn reap_and_leave(&self, calls: &mut Calls) -> usize {
        // Before anything is taken: whoever comes too late for a CQE sees this.
        self.left_unsent.store(true, Ordering::SeqCst);
        self.reap_and(true, calls)
    }

    fn reap_and(&self, leave_unsent: bool, calls: &mut Calls) -> usize {
        let (mut ops, mut left) = (0, None);
        self.give_up_if_late(calls);
        if !self.begin_reap(self.kernel.wants_enter()) {
            return ops;
        }
        let mut found = Found::borrowing();
        loop {
            found.leave_unsent = leave_unsent;
            let popped = self.collect(&mut left, false, &mut found);
            if found.bell {
                self.seat.silence_unseated();
            }
            ops += found.ops;
            let left_bell = found.left_bell;
            self.deliver_to(&mut found, calls);
            if left == Some(0) || left_bell || !self.has_more_than(popped) {
                break;
            }
        }
        self.put_back(found);
        ops
    }

    /// As [`reap`](Self::reap), for the thread in the seat: what follows is delivered later, when
    /// the seat is free for what the user's code may do. On top of what was found before.
    pub(crate) fn collect_seated(&self, found: &mut Found) {
        found.give_up |= self.is_late();
        // What is kept back is handed over when this thread sleeps, which it does next.
        let fetch = self.kernel.wants_enter() && !self.kernel.cq_ready();
        if !self.begin_reap(fetch) {
            return;
        }
        let mut left = None;
        loop {
            let popped = self.collect(&mut left, true, found);
            if left == Some(0) || !self.has_more_than(popped) {
                break;
            }
        }
        if found.bell {
            self.seat.silence();
        }
    }

    /// Whether there is something to reap. With `fetch`, what the kernel keeps back is asked for
    /// first: a host's eventfd has told of it, and will not tell again.
    fn begin_reap(&self, fetch: bool) -> bool {
        if self.check_process().is_err() {
            return false;
        }
        if fetch {
            // What is not handed over now will be at the next wait.
            let _ = self.flush();
        }
        self.kernel.cq_ready()
    }

    /// As [`reap_into`](Self::reap_into), to be told by the next [`reap`](Self::reap).
    pub(super) fn reap_untold(&self, calls: &mut Calls) -> usize {
        let ops = self.reap_into(calls);
        self.tell_later(ops);
        ops
    }

    /// So many ops have ended of which the next [`reap`](Self::reap) is to tell. Whoever waits by
    /// hand hears of it now: the CQE that it waits for may have been theirs.
    pub(super) fn tell_later(&self, ops: usize) {
        if ops > 0 {
            // Before the look at who waits; who waits says so, then looks at this.
            self.untold.fetch_add(ops, Ordering::SeqCst);
            self.seat.call_submitter();
        }
    }

    /// How many ops have ended of which nobody was told.
    pub(super) fn take_untold(&self) -> usize {
        if self.stirred.swap(false, Ordering::SeqCst) {
            self.lock().stirrer = None;
        }
        self.untold.swap(0, Ordering::SeqCst) + self.answered.swap(0, Ordering::SeqCst)
    }

    /// Whether there is something to be told or looked at, or never will be.
    pub(super) fn has_untold(&self) -> bool {
        self.untold.load(Ordering::SeqCst) > 0
            || self.answered.load(Ordering::SeqCst) > 0
            || self.stirred.load(Ordering::SeqCst) && self.is_stirred()
            || self.is_poisoned()
    }

    /// Whether another thread has ended ops.
    fn is_stirred(&self) -> bool {
        let stirrer = self.lock().stirrer;
        stirrer.is_some_and(|stirrer| stirrer != Stirrer::One(thread::current().id()))
    }

    /// Deals with answers to the ring's own requests that are next in the CQ.
    pub(super) fn reap_own(&self, calls: &mut Calls) {
        if !self.kernel.cq_ready() {
            return;
        }
        let mut found = Found::default();
        self.lock().reap_own(|| self.seat.is_awaited(), &mut found);
        self.kernel.end_reap();
        if found.bell {
            self.seat.silence_unseated();
        }
        self.tell_later(found.ops);
        self.deliver_to(&mut found, calls);
    }

    /// Has the kernel hand over what it keeps back.
    pub(super) fn flush(&self) -> Result<(), Errno> {
        if self.kernel.overflowed() {
            self.counters.overflows.fetch_add(1, Ordering::Relaxed);
            self.counters.note(Note::Overflow);
        }
        self.kernel.flush()
    }

    /// Takes a part. `left` is how many more may be taken: as many as were out when the reap began,
    /// so that new ones do not keep it for ever.
    fn collect(&self, left: &mut Option<usize>, seated: bool, found: &mut Found) -> usize {
        let mut core = self.lock();
        if found.borrows && !found.after.has_room() {
            found.after = std::mem::take(&mut core.spare);
        }
        let all = *left.get_or_insert_with(|| core.out());
        let most = REAP_BATCH.min(all);
        let popped = core.reap_batch(most, || !seated && self.seat.is_awaited(), found);
        if popped > 0 {
            // Only here, and locked.
            self.reaps.store(self.reaps().wrapping_add(1), Ordering::Relaxed);
        }
        drop(core);
        *left = Some(all - popped);
        // Before anything is sent: a pool beside the kernel is watched again then.
        self.kernel.end_reap();
        popped
    }

    /// Whether a reap that found so many should look again.
    fn has_more_than(&self, popped: usize) -> bool {
        let fetched = || self.kernel.overflowed() && self.flush().is_ok();
        // Also when all that fitted had been taken before: nobody tells of the rest.
        popped == REAP_BATCH || fetched() && self.kernel.cq_ready()
    }

    /// Gives the ring its lists back.
    pub(crate) fn put_back(&self, found: Found) {
        // Not in a fork: another thread may have held the lock there.
        if found.borrows && found.after.has_room() && self.check_process().is_ok() {
            self.lock().spare = found.after;
        }
    }

    /// Calls whom it concerns.
    pub(crate) fn deliver_to(&self, found: &mut Found, calls: &mut Calls) {
        if found.after.wakers.len() > 1 && self.seat.host.is_kept() {
            let_go(&mut found.after, calls);
            self.wake_with_help(&mut found.after.wakers, calls);
        }
        follow(&mut found.after, calls);
        if found.is_plain() {
            found.ops = 0; // Most often; the rest is kept out of the way of that.
        } else {
            self.deliver_the_rest(found, calls);
        }
    }

    #[cold]
    fn deliver_the_rest(&self, found: &mut Found, calls: &mut Calls) {
        if found.graves {
            self.bury(calls);
        }
        if found.suspicious {
            let workers = self.kernel.workers().or_else(workers::count);
            self.change(calls, |inflight, after| inflight.judge(workers, after));
            found.more = true;
        }
        if found.give_up {
            self.give_up_the_rest(calls);
        }
        if let Some(errno) = found.timeless {
            // What waits for a time would wait for ever.
            self.poison(errno, calls);
        }
        let more = found.cancel_again || found.more;
        if more && found.leave_unsent {
            self.seat.call_submitter();
        } else if more {
            // Nobody knows that there is something to submit. New ops wait until asked.
            let _ = self.submit_up_to(0, calls);
        }
        found.forget();
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
        let before = core.inflight.out();
        let result = f(&mut core.inflight, &mut after);
        let ended = core.inflight.out() < before;
        if ended {
            core.stir();
        }
        let has_graves = core.inflight.has_graves();
        let has_waiting = core.inflight.has_sendable();
        drop(core);
        follow(&mut after, calls);
        if has_graves {
            self.bury(calls);
        }
        if has_waiting {
            self.seat.call_sleeper();
        }
        if ended {
            // Who waits by hand may wait for just that. As in `tell_later`.
            self.stirred.store(true, Ordering::SeqCst);
            self.seat.call_submitter();
        }
        result
    }
}

/// Does what follows from a change, and leaves the lists empty.
fn follow(after: &mut After, calls: &mut Calls) {
    let_go(after, calls);
    for waker in after.wakers.drain(..) {
        calls.call(|| waker.wake());
    }
    after.notes.tell(calls);
}

/// First the descriptors: who is woken may want to close one.
fn let_go(after: &mut After, calls: &mut Calls) {
    if !after.leases.is_empty() {
        calls.call(|| Lease::end_all(&mut after.leases));
    }
}
