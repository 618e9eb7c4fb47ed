//! What handles ask: is my result here, cancel it, I let go.
//!
//! The answers are in the table (`inflight/`); here is the lock, and the user's code outside it.

use std::task::{Context, Poll, Waker};

use super::Shared;
use crate::error;
use crate::inflight::{CancelOutcome, Taken, Token};
use crate::notify::Calls;
use crate::op::{Op, Outcome};
use crate::sync::{AtomicBool, Ordering};

impl Shared {
    /// The op's output if it is here; else `cx` is woken when it is.
    ///
    /// `over` is set, under the lock, once the result is taken: two threads that take at once get
    /// it once.
    pub(crate) fn poll_op<T: Op>(
        &self,
        token: Token,
        first: bool,
        cx: &Context<'_>,
        over: &AtomicBool,
    ) -> Poll<T::Output> {
        if self.check_process().is_err() {
            over.store(true, Ordering::Release);
            return Poll::Ready(T::Output::lost(error::forked()));
        }
        // Cloning a waker is user code, so it is done before locking; almost always the first
        // poll keeps it and the later ones find it there.
        let mut offered = first.then(|| cx.waker().clone());
        loop {
            let mut core = self.lock();
            let taken = core.inflight.take::<T>(token, Some(cx.waker()), &mut offered);
            over.store(taken.is_over(), Ordering::Release);
            drop(core);
            match taken {
                Taken::Ready(op, result) => {
                    return Poll::Ready(op.decode(error::result(result)));
                }
                Taken::Lost => return Poll::Ready(T::Output::lost(error::lost())),
                Taken::Pending => return Poll::Pending,
                Taken::WakerNeeded => offered = Some(cx.waker().clone()),
            }
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
        let taken = core.inflight.take::<T>(token, None, &mut None);
        over.store(taken.is_over(), Ordering::Release);
        drop(core);
        match taken {
            Taken::Ready(op, result) => Some(op.decode(error::result(result))),
            Taken::Lost => Some(T::Output::lost(error::lost())),
            Taken::Pending | Taken::WakerNeeded => None,
        }
    }

    pub(crate) fn is_done(&self, token: Token) -> bool {
        self.check_process().is_err() || self.lock().inflight.is_done(token)
    }

    /// The handle lets go of its op. For destructors: panics of user code are reported and end here.
    pub(crate) fn let_go(&self, token: Token, detach: bool) {
        if self.check_process().is_err() {
            return;
        }
        let mut calls = Calls::default();
        let left = self.change(&mut calls, |inflight, _| inflight.let_go(token, detach));
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
}
