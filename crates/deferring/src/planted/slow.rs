//! Ops that cost more than they need, to see that the gates see it.
//!
//! Not: the gates (`cargo xtask gates --planted`).

use super::{Bug, has};
use crate::sync::plain::Mutex;
use crate::turn::Shared;

/// An op was queued.
pub(crate) fn slow_op(shared: &Shared) {
    if has(Bug::Allocation) {
        drop(std::hint::black_box(Box::new(shared.params().sq_entries)));
    }
    if has(Bug::SubmitEach) {
        // What cannot be sent now goes with the next.
        let _ = shared.submit();
    }
}

/// The ring's lock is about to be taken.
pub(crate) fn slow_lock() {
    static SECOND: Mutex<()> = Mutex::new(());
    if has(Bug::SecondLock) {
        drop(SECOND.lock());
    }
}
