//! Sending what waits, and waiting.
//!
//! SQEs are written under the lock and taken by the kernel without it. Not: what may be written
//! next (`inflight/`), nor the system calls (`backend/uring/enter.rs`).

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::reap::OWN_MAX;
use super::workers::{Workers, default_limit};
use super::{Core, Shared};
use crate::error;
use crate::inflight::{Inflight, Own, Pending, Token};
use crate::notify::Calls;
use crate::op::{Opcode, Sqe, poll32};
use crate::sync::Ordering;
use crate::trace::Note;

/// How long to wait before what the kernel had no memory for is sent again.
const RETRY: Duration = Duration::from_millis(10);

/// What came of dealing with the ring's own requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// There was nothing to send, or it is sent.
    Nothing,
    /// An op has ended, without a CQE.
    Ended,
    /// There is something to send, which this thread may not.
    NotOurs,
    /// Something is to be sent, for which the kernel has no memory now.
    Unsent,
}

/// How many interrupted system calls a submit makes again.
const INTERRUPTS_MAX: usize = 1000;

/// What was written into the SQ.
#[derive(Clone, Copy)]
pub(super) struct Filled {
    /// Ops and cancels.
    ops: u32,
    /// How many SQEs the kernel has not taken yet, older ones too.
    unconsumed: u32,
    /// There is more that may go: when there is room, or when others have had the lock.
    left: bool,
    /// Or of the ring's own.
    own_left: bool,
    /// All of it is done without workers.
    without_workers: bool,
}

impl Core {
    /// How many SQEs there are to send, at most: ops and cancels that wait, and what is written and
    /// has not been taken.
    fn unsent(&self) -> usize {
        let Pending { queued, cancels, .. } = self.inflight.pending();
        queued + cancels + self.sq.unconsumed() as usize
    }

    /// Writes as many SQEs as may go now and fit, and shows them to the kernel. `fresh` is how many
    /// of the ops may be looked at that nobody has asked to be sent before.
    pub(super) fn fill(&mut self, workers: &Workers, fresh: &mut usize) -> Filled {
        let mut ops = self.fill_plainly(fresh);
        let plain = ops;
        while self.inflight.has_more(*fresh)
            && self.push_next(|inflight, sqe| inflight.admit(sqe, fresh))
        {
            ops += 1 + self.fill_plainly(fresh);
        }
        let has_own = self.has_own_to_send();
        let own = if has_own { self.push_own() } else { 0 };
        self.counters.sqes.add(ops.into());
        self.counters.own_sqes.add(own.into());
        let unconsumed = self.sq.publish();
        // What was written before is not known any more.
        let without_workers = ops == plain
            && ops == unconsumed
            && own == 0
            && !self.inflight.has_transfers_of_disks();
        if !without_workers {
            if workers.want(self.inflight.workers_wanted()) {
                self.counters.workers_raised.add(1);
            }
            self.counters.workers.set(workers.share().into());
        }
        self.inflight.publish();
        let left = self.inflight.has_more(*fresh);
        let own_left = has_own && self.has_own_to_send();
        Filled { ops, unconsumed, left, own_left, without_workers }
    }

    /// Writes what is new where nothing else is to be thought of, up to the first that needs more.
    /// Returns how many there were.
    fn fill_plainly(&mut self, fresh: &mut usize) -> u32 {
        if self.aside.is_some() || !self.inflight.is_plain() {
            return 0;
        }
        let Self { sq, inflight, .. } = self;
        let most = inflight.writable(*fresh);
        let ops = sq.push_some(most, |sqe| inflight.admit_plainly(sqe));
        *fresh -= ops as usize;
        inflight.admitted(ops as usize);
        ops
    }

    /// The same, of what was asked to be sent.
    fn fill_asked(&mut self, workers: &Workers) -> Filled {
        let mut asked = self.inflight.asked();
        self.fill(workers, &mut asked)
    }

    /// Writes the cancels that wait, as far as they fit, and no op. Returns how many SQEs the
    /// kernel has not taken yet.
    #[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // Of threads that end.
    pub(super) fn push_cancels(&mut self) -> u32 {
        while self.push_next(Inflight::admit_cancel) {}
        self.inflight.publish();
        self.sq.publish()
    }

    /// Whether something may go that nobody will ask to be sent: it was asked for before, or is the
    /// ring's own wish.
    pub(super) fn has_more_to_send(&self) -> bool {
        self.inflight.has_more_to_send() || self.has_own_to_send()
    }

    /// Whether a submit would have something to say.
    pub(super) fn has_something_to_send(&self) -> bool {
        self.inflight.has_sendable() || self.has_own_to_send()
    }
}

impl Shared {
    /// Has the kernel watch the bell, if there is room in the SQ, and need.
    fn arm_bell(&self, core: &mut Core) {
        if core.bell_armed {
            return;
        }
        core.bell_armed = !self.seat.needs_a_watch()
            || core.sq.push(|sqe| {
                *sqe = Sqe {
                    opcode: Opcode::POLL_ADD,
                    fd: self.seat.bell().as_raw_fd(),
                    op_flags: poll32(PollFlags::IN),
                    user_data: Token::own(Own::Bell).user_data(),
                    ..Sqe::EMPTY
                };
                true
            });
    }

    /// Sends everything that waits when it begins and may go, in as many batches as it takes.
    /// Returns how many ops and cancels the kernel took.
    pub(crate) fn submit(&self) -> io::Result<usize> {
        self.check_usable()?;
        if self.seat.host.drives() {
            self.seat.call_sleeper();
            return Ok(0);
        }
        let mut calls = Calls::default();
        self.tell_later(self.answered.swap(0, Ordering::SeqCst));
        let sent = self.submit_up_to(usize::MAX, &mut calls);
        if let Err(errno) = sent {
            self.poison_if_final(errno, &mut calls);
        }
        calls.resume();
        sent.map_err(error::enter)
    }

    /// As [`submit`](Self::submit), for the thread in the seat: without user code.
    pub(crate) fn submit_seated(&self) -> Result<(), Errno> {
        let mut fresh = usize::MAX;
        let filled = self.lock().fill(&self.workers, &mut fresh);
        let unconsumed = filled.unconsumed;
        self.send_aside();
        if unconsumed == 0 {
            self.kernel.pass();
            return Ok(());
        }
        self.raise_workers(&filled);
        match self.kernel.submit(unconsumed) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Sets the limit on the kernel's workers, if what is sent may need them, and it is not what it
    /// should be.
    fn raise_workers(&self, filled: &Filled) {
        if filled.without_workers {
            return;
        }
        #[cfg(not(all(test, any(loom, shuttle))))]
        self.remember_thread();
        let note = match self.workers.apply(&self.kernel) {
            Ok(None) => return,
            Ok(Some(limit)) => Note::Workers { limit },
            Err(errno) => {
                let limit = default_limit(self.params().sq_entries);
                self.lock().inflight.fix_workers(limit);
                Note::WorkersFixed { limit, errno: errno.raw_os_error() }
            }
        };
        self.counters.note(note);
    }

    /// Sends what waits, of what nobody has asked to be sent before no more than `fresh`. What of
    /// that cannot be sent now stays asked for, and goes later by itself.
    pub(super) fn submit_up_to(&self, fresh: usize, calls: &mut Calls) -> Result<usize, Errno> {
        // What others queue meanwhile does not keep us here for ever.
        let mut core = self.lock();
        let (most, older) = (core.unsent(), core.sq.unconsumed() as usize);
        core.inflight.ask(fresh);
        drop(core);
        if self.params().sqpoll {
            self.submit_by_sqpoll(most)
        } else {
            self.submit_by_enter(most, older, calls)
        }
    }

    fn submit_by_enter(
        &self,
        most: usize,
        older: usize,
        calls: &mut Calls,
    ) -> Result<usize, Errno> {
        // What the ring asks for itself is not counted.
        let (mut taken, mut ops) = (0, older);
        let mut interrupts = 0..INTERRUPTS_MAX;
        loop {
            let filled = self.lock().fill_asked(&self.workers);
            ops += filled.ops as usize;
            taken += self.send_aside();
            let count = filled.unconsumed;
            if count == 0 {
                if filled.left {
                    continue;
                }
                return Ok(taken.min(ops));
            }
            self.raise_workers(&filled);
            match self.kernel.submit(count) {
                // Another thread's submit took them.
                Ok(0) if self.lock().sq.unconsumed() < count => {}
                Ok(0) => return Ok(taken.min(ops)),
                Ok(n) => {
                    taken += n as usize;
                    if taken > most + OWN_MAX {
                        return Ok(taken.min(ops));
                    }
                }
                Err(Errno::INTR) if interrupts.next().is_some() => {}
                // Too much is unreaped, or there is no memory for more: what can be reaped helps.
                Err(Errno::BUSY | Errno::AGAIN) if self.reap_untold(calls) > 0 => {}
                Err(errno) => {
                    // Asked for and not sent: whoever sleeps in the ring may be allowed what we are
                    // not, or tries again later.
                    self.seat.call_submitter();
                    return if taken > 0 { Ok(taken.min(ops)) } else { Err(errno) };
                }
            }
        }
    }

    fn submit_by_sqpoll(&self, most: usize) -> Result<usize, Errno> {
        let mut taken = 0;
        let mut interrupts = 0..INTERRUPTS_MAX;
        loop {
            let mut core = self.lock();
            let filled = core.fill_asked(&self.workers);
            drop(core);
            self.send_aside();
            taken += filled.ops as usize;
            if filled.unconsumed > 0 {
                self.raise_workers(&filled);
                self.kernel.submit(filled.unconsumed)?;
            }
            // What did not fit goes on when the kernel's thread has made room.
            if !filled.own_left && (!filled.left || taken >= most) {
                return Ok(taken);
            }
            match self.kernel.wait_for_room() {
                Ok(()) => {}
                Err(Errno::INTR) if interrupts.next().is_some() => {}
                Err(errno) => {
                    self.seat.call_submitter();
                    return if taken > 0 { Ok(taken) } else { Err(errno) };
                }
            }
        }
    }

    /// Waits until a CQE is there. False if none came in the time, or a signal did. What the ring
    /// asked for itself is dealt with, and does not count.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.check_usable()?;
        if self.seat.host.drives() {
            return Err(error::driven());
        }
        let mut calls = Calls::default();
        let waited = self.wait_into(timeout, &mut calls);
        if let Err(errno) = waited {
            self.poison_if_final(errno, &mut calls);
        }
        calls.resume();
        waited.map_err(error::enter)
    }

    pub(super) fn wait_into(
        &self,
        timeout: Option<Duration>,
        calls: &mut Calls,
    ) -> Result<bool, Errno> {
        let end = timeout.map(|timeout| self.after(timeout));
        let mut left = timeout;
        loop {
            let settled = self.settle(calls)?;
            if settled == Settled::Ended || self.is_ready() {
                return Ok(true);
            }
            if left == Some(Duration::ZERO) {
                if self.kernel.wants_enter() {
                    self.kernel.flush()?;
                    return Ok(self.settle(calls)? == Settled::Ended || self.is_ready());
                }
                return Ok(false);
            }
            match self.sleep(left, settled) {
                Ok(()) => {}
                Err(Errno::TIME | Errno::INTR) => {
                    return Ok(self.settle(calls)? == Settled::Ended || self.is_ready());
                }
                Err(errno) => return Err(errno),
            }
            left = end.map(|end| end.saturating_sub(self.time.now()));
        }
    }

    /// Whether a CQE is there that is not about the ring's own.
    fn is_ready(&self) -> bool {
        self.kernel.cq_ready() && !self.lock().next_is_own(!self.seat.is_awaited())
    }

    /// Sleeps until a CQE is there, somebody calls, or what the kernel refused is to be sent again.
    /// Returns at once if there is something to send since this thread last looked, and it may:
    /// whoever asked for that did not see it asleep.
    fn sleep(&self, time: Option<Duration>, settled: Settled) -> Result<(), Errno> {
        let _waits = self.seat.wait_for_calls();
        let mut core = self.lock();
        if settled == Settled::Nothing && core.has_more_to_send() {
            return Ok(());
        }
        let armed = core.bell_armed;
        self.arm_bell(&mut core);
        let (unarmed, count) = (!core.bell_armed, core.sq.publish());
        drop(core);
        // By itself: a call that submits hides how its wait ended. If this thread may not submit,
        // it is not called, and sleeps all the same.
        let sent = if armed { Ok(0) } else { self.kernel.submit(count) };
        let refused = matches!(sent, Err(errno) if errno != Errno::EXIST);
        let again = unarmed || refused || settled == Settled::Unsent;
        if self.has_untold() {
            return Ok(());
        }
        if !again {
            return self.kernel.submit_and_wait(0, time).map(drop);
        }
        let last = time.is_some_and(|time| time <= RETRY);
        match self.kernel.submit_and_wait(0, if last { time } else { Some(RETRY) }) {
            Err(Errno::TIME) if !last => Ok(()),
            slept => slept.map(drop),
        }
    }

    /// Deals with what the ring has asked for itself, and sends what that allows.
    fn settle(&self, calls: &mut Calls) -> Result<Settled, Errno> {
        self.give_up_if_late(calls);
        self.reap_own(calls);
        let more = self.has_unsent();
        let sent = if more { self.submit_up_to(0, calls).map(drop) } else { Ok(()) };
        if self.has_untold() {
            return Ok(Settled::Ended);
        }
        match sent {
            // The kernel takes a part of what it is given when it pleases.
            Ok(()) if more && self.has_unsent() => Ok(Settled::Unsent),
            Ok(()) => Ok(Settled::Nothing),
            Err(Errno::EXIST) => Ok(Settled::NotOurs),
            Err(Errno::AGAIN | Errno::BUSY | Errno::NOMEM | Errno::INTR) => Ok(Settled::Unsent),
            Err(errno) => Err(errno),
        }
    }

    /// Whether something may go that nobody will ask to be sent, or is written and not taken.
    fn has_unsent(&self) -> bool {
        let core = self.lock();
        !self.params().sqpoll && core.sq.unconsumed() > 0 || core.has_more_to_send()
    }

    /// One round for the thread in the seat: submits and sleeps until something comes, in one
    /// system call where all that waits fits into the SQ. Returns at once if `awake` says so when
    /// others can see that we are asleep.
    pub(crate) fn sleep_seated(&self, awake: impl Fn() -> bool) -> Result<(), Errno> {
        let asleep = self.seat.fall_asleep();
        if awake() {
            return Ok(());
        }
        let mut core = self.lock();
        self.arm_bell(&mut core);
        let mut fresh = usize::MAX;
        let filled = core.fill(&self.workers, &mut fresh);
        // Never sleep on what could be sent (P5): the first to be sent may wait for the last.
        let all_sent = core.bell_armed && !filled.left && !filled.own_left;
        drop(core);
        let count = filled.unconsumed;
        self.send_aside();
        self.raise_workers(&filled);
        let entered = if all_sent && !self.kernel.cq_ready() {
            self.kernel.submit_and_wait(count, None).map(drop)
        } else {
            self.kernel.submit(count).map(drop).and_then(|()| {
                let must_wait = self.params().sqpoll && !all_sent;
                if must_wait { self.kernel.wait_for_room() } else { Ok(()) }
            })
        };
        drop(asleep);
        match entered {
            Ok(()) | Err(Errno::INTR | Errno::TIME) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}
