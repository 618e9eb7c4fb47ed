//! Who waits for a `Buffered`: a task that reads, and one that writes.
//!
//! Halves of a split are polled by two tasks, and both may wait for the same write: a read of a
//! file comes after it. A handle keeps one waker, so writes are given this one, which calls both.
//! Not: what they wait for (`reader.rs`, `writer.rs`).

use std::task::{Wake, Waker};

use crate::notify::Calls;
use crate::sync::{Arc, Mutex};

#[derive(Clone, Copy)]
pub(super) enum Side {
    Reader,
    Writer,
}

#[derive(Default)]
pub(super) struct Waiting {
    /// By [`Side`].
    wakers: Mutex<[Option<Waker>; 2]>,
}

impl Waiting {
    /// From now on that side is called by this waker. To be said before it looks whether it has to
    /// wait.
    pub(super) fn set(&self, side: Side, waker: &Waker) {
        let at = side as usize;
        let is_kept = self.wakers.lock()[at].as_ref().is_some_and(|kept| kept.will_wake(waker));
        if !is_kept {
            // Clones and drops are user code, so neither is done under the lock.
            let waker = waker.clone();
            let before = self.wakers.lock()[at].replace(waker);
            drop(before);
        }
    }

    pub(super) fn call(&self, side: Side) {
        let waker = self.wakers.lock()[side as usize].take();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers = std::mem::take(&mut *self.wakers.lock());
        let mut calls = Calls::default();
        wakers.into_iter().flatten().for_each(|waker| calls.call(|| waker.wake()));
        calls.resume();
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::sync::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_side_is_called_once_by_the_waker_it_set_last() {
        let (waiting, counts) = (Arc::new(Waiting::default()), <[Arc<Counts>; 3]>::default());
        let wakers = counts.clone().map(Waker::from);
        waiting.set(Side::Reader, &wakers[0]);
        waiting.set(Side::Reader, &wakers[1]);
        waiting.set(Side::Writer, &wakers[2]);
        let of_both = Waker::from(Arc::clone(&waiting));
        of_both.wake_by_ref();
        of_both.wake();
        waiting.call(Side::Reader);
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [0, 1, 1]);
    }
}
