//! User code that follows from a change of state: wakers to call, ops to drop.
//!
//! Always called with nothing locked (P11). A panic in one does not keep the others from being
//! called; the first one goes on to the caller afterwards. Not: when (`turn.rs`).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

use crate::inflight::Corpse;

type Panic = Box<dyn std::any::Any + Send>;

/// Runs user code and keeps the first panic.
#[derive(Default)]
pub(crate) struct Calls {
    panic: Option<Panic>,
}

impl Calls {
    pub(crate) fn wake(&mut self, waker: Waker) {
        self.call(|| waker.wake());
    }

    pub(crate) fn bury(&mut self, corpse: Corpse) {
        self.call(|| corpse.bury());
    }

    /// Drops what belongs to the user.
    pub(crate) fn drop_quietly<T>(&mut self, users: T) {
        self.call(|| drop(users));
    }

    fn call(&mut self, user_code: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(user_code)) {
            self.panic.get_or_insert(panic);
        }
    }

    /// Lets the first panic go on.
    pub(crate) fn resume(self) {
        if let Some(panic) = self.panic {
            resume_unwind(panic);
        }
    }
}

/// Wakes all; for destructors, which must not panic: the panic hook has reported it.
pub(crate) fn wake_all_quietly(wakers: impl IntoIterator<Item = Waker>) {
    let mut calls = Calls::default();
    wakers.into_iter().for_each(|waker| calls.wake(waker));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker of the user's panics");
        }
    }

    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_waker_that_panics_does_not_keep_the_next_from_being_called() {
        let counts = Arc::new(Counts(AtomicUsize::new(0)));
        let mut calls = Calls::default();
        calls.wake(Arc::new(Panics).into());
        calls.wake(Arc::clone(&counts).into());
        assert_eq!(counts.0.load(Ordering::Relaxed), 1);
        assert!(catch_unwind(AssertUnwindSafe(|| calls.resume())).is_err());
    }
}
