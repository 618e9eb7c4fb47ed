//! What handles ask: is my result here, cancel it, I let go.
//!
//! The answers are in the table (`inflight/`); here is the lock, and the user's code outside it.

use std::io;
use std::task::{Context, Poll, Waker};

use super::{Refusal, Shared};
use crate::error;
use crate::inflight::{CancelOutcome, Cancelled, POISONED, Taken, Token, Which};
use crate::notify::Calls;
use crate::op::{Op, Outcome};
use crate::sync::{AtomicBool, Ordering};

impl Shared {
    /// For the first poll of an op that is not likely to be done: keeps its waker. False if it is
    /// done, or more has to be looked at.
    #[inline]
    pub(crate) fn keep_waker(&self, token: Token, waker: &Waker) -> bool {
        if !self.mark.is_this_process() {
            return false;
        }
        // Cloning a waker is user code, so it is done before locking.
        let mut offered = Some(waker.clone());
        // What is left of it is the user's, and dropped after this.
        self.lock().inflight.keep_waker(token, &mut offered)
    }

    /// The op's output if it is here; else `cx` is woken when it is.
    ///
    /// `over` is set, under the lock, once the result is taken: two threads that take at once get
    /// it once.
    #[inline]
    pub(crate) fn poll_op<T: Op>(
        &self,
        token: Token,
        cx: &Context<'_>,
        over: &AtomicBool,
    ) -> Poll<T::Output> {
        if !self.mark.is_this_process() {
            over.store(true, Ordering::Release);
            return Poll::Ready(T::Output::lost(error::forked()));
        }
        let mut core = self.lock();
        let taken = core.inflight.take::<T>(token, Some(cx.waker()));
        over.store(taken.is_over(), Ordering::Release);
        drop(core);
        match taken {
            Taken::Ready(op, result) => Poll::Ready(op.decode(self.answer(result))),
            Taken::Lost => Poll::Ready(T::Output::lost(self.lost())),
            Taken::Pending => Poll::Pending,
            Taken::WakerNeeded => self.poll_with_waker::<T>(token, cx, over),
        }
    }

    /// The same, for one that is not done, or was not just now, and keeps no waker of this task's.
    #[cold]
    fn poll_with_waker<T: Op>(
        &self,
        token: Token,
        cx: &Context<'_>,
        over: &AtomicBool,
    ) -> Poll<T::Output> {
        if self.keep_waker(token, cx.waker()) {
            Poll::Pending
        } else {
            self.poll_op::<T>(token, cx, over)
        }
    }

    /// The op's output if it is here. `over` as for [`poll_op`](Self::poll_op).
    pub(crate) fn try_take<T: Op>(&self, token: Token, over: &AtomicBool) -> Option<T::Output> {
        if self.check_process().is_err() {
            over.store(true, Ordering::Release);
            return Some(T::Output::lost(error::forked()));
        }
        let mut core = self.lock();
        if over.load(Ordering::Acquire) {
            return None;
        }
        let taken = core.inflight.take::<T>(token, None);
        over.store(taken.is_over(), Ordering::Release);
        drop(core);
        match taken {
            Taken::Ready(op, result) => Some(op.decode(self.answer(result))),
            Taken::Lost => Some(T::Output::lost(self.lost())),
            Taken::Pending | Taken::WakerNeeded => None,
        }
    }

    #[inline]
    fn answer(&self, result: i32) -> io::Result<u32> {
        if result == POISONED { Err(self.lost()) } else { error::result(result) }
    }

    /// Why an op has no result.
    fn lost(&self) -> io::Error {
        match self.lock().refusal {
            Some(Refusal::Poisoned(errno)) => error::poisoned(errno),
            Some(Refusal::Closed) | None => error::lost(),
        }
    }

    pub(crate) fn is_done(&self, token: Token) -> bool {
        self.check_process().is_err() || self.lock().inflight.is_done(token)
    }

    /// The handle lets go of its op. For destructors: panics of user code are reported and end
    /// here.
    pub(crate) fn let_go(&self, token: Token, detach: bool) {
        if self.check_process().is_err() {
            return;
        }
        let mut calls = Calls::default();
        let left = self.change(&mut calls, |inflight, after| inflight.let_go(token, detach, after));
        calls.call(|| drop(left));
    }

    pub(crate) fn cancel(&self, token: Token) {
        if self.check_process().is_err() {
            return;
        }
        let mut calls = Calls::default();
        self.change(&mut calls, |inflight, after| inflight.cancel(token, after));
        calls.resume();
    }

    pub(crate) fn cancel_outcome(
        &self,
        token: Token,
        mut waker: Option<Waker>,
    ) -> Option<CancelOutcome> {
        if self.check_process().is_err() {
            return Some(CancelOutcome::Finished);
        }
        let mut core = self.lock();
        let outcome = core.inflight.cancel_outcome(token, &mut waker);
        // What is left of `waker` is the user's, and dropped after this.
        drop(core);
        outcome
    }

    /// A new group of ops.
    pub(crate) fn new_group(&self) -> u32 {
        if self.check_process().is_err() { 0 } else { self.lock().inflight.new_group() }
    }

    pub(crate) fn join_group(&self, token: Token, group: u32) {
        if self.check_process().is_ok() {
            self.lock().inflight.join(token, group);
        }
    }

    /// Asks for a cancel of many, a part at a time. Returns the tally to ask for the outcome,
    /// `None` in a fork.
    pub(crate) fn cancel_many(&self, which: Which<'_>) -> Option<u64> {
        self.check_process().ok()?;
        let mut calls = Calls::default();
        let tally = self.lock().inflight.begin_tally();
        let mut next = Some(0);
        while let Some(first) = next {
            next = self.change(&mut calls, |inflight, after| {
                inflight.cancel_some(which, first, tally, after)
            });
        }
        calls.resume();
        Some(tally)
    }

    /// What a cancel of many achieved, `None` if that is not known yet; then `waker` is kept.
    pub(crate) fn tallied(&self, tally: u64, mut waker: Option<Waker>) -> Option<Cancelled> {
        if self.check_process().is_err() {
            return Some(Cancelled::default());
        }
        let outcome = self.lock().inflight.tallied(tally, &mut waker);
        // What is left of `waker` is the user's, and dropped after this.
        outcome
    }

    pub(crate) fn end_tally(&self, tally: u64) {
        if self.check_process().is_ok() {
            let left = self.lock().inflight.end_tally(tally);
            let mut calls = Calls::default();
            calls.call(|| drop(left));
        }
    }
}
