//! User code that follows from a change of state: wakers to call, ops to drop.
//!
//! Always called with nothing locked (P11). A panic in one does not keep the others from being
//! called; the last one goes on to the caller afterwards. Not: when (`turn/`).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

type Panic = Box<dyn std::any::Any + Send>;

/// Runs user code and keeps the last panic.
#[derive(Default)]
pub(crate) struct Calls {
    panic: Option<Panic>,
}

impl Calls {
    pub(crate) fn call(&mut self, user_code: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(user_code)) {
            discard(self.panic.replace(panic));
        }
    }

    /// Lets the last panic go on.
    pub(crate) fn resume(mut self) {
        if let Some(panic) = self.panic.take() {
            resume_unwind(panic);
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        discard(self.panic.take());
    }
}

/// Drops a panic's payload, which is the user's and may panic itself. That one's is given up.
#[allow(clippy::mem_forget)] // A payload is a value on the heap; the panic hook has reported it.
fn discard(panic: Option<Panic>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

/// Wakes all; for destructors, which must not panic: the panic hook has reported it.
pub(crate) fn wake_all_quietly(wakers: impl IntoIterator<Item = Waker>) {
    let mut calls = Calls::default();
    wakers.into_iter().for_each(|waker| calls.call(|| waker.wake()));
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;
    use crate::sync::{Arc, AtomicUsize, Ordering};

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

    struct PanicsAgain;

    impl Drop for PanicsAgain {
        fn drop(&mut self) {
            panic!("a panic's payload panics");
        }
    }

    struct PanicsTwice;

    impl Wake for PanicsTwice {
        fn wake(self: Arc<Self>) {
            std::panic::panic_any(PanicsAgain);
        }
    }

    #[test]
    fn a_panic_whose_payload_panics_ends_here() {
        let counts = Arc::new(Counts(AtomicUsize::new(0)));
        let twice = || Waker::from(Arc::new(PanicsTwice));
        wake_all_quietly([twice(), twice(), Arc::clone(&counts).into()]);
        assert_eq!(counts.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_waker_that_panics_does_not_keep_the_next_from_being_called() {
        let counts = Arc::new(Counts(AtomicUsize::new(0)));
        let mut calls = Calls::default();
        calls.call(|| Waker::from(Arc::new(Panics)).wake());
        calls.call(|| Waker::from(Arc::clone(&counts)).wake());
        assert_eq!(counts.0.load(Ordering::Relaxed), 1);
        assert!(catch_unwind(AssertUnwindSafe(|| calls.resume())).is_err());
    }
}
