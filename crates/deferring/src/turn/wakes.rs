//! Wakers that are about to be called by the ring's own thread, where others can get at them.
//!
//! The first of a batch that is woken may take the processor from the thread that wakes: it finds
//! one result, queues one op, sleeps, and is woken for the next, and each op costs two switches. So
//! whoever queues an op meanwhile calls the others first. Not: who is woken (`inflight/`).

use std::task::Waker;

use super::Shared;
use crate::notify::Calls;
use crate::sync::plain::AtomicBool;
use crate::sync::{Mutex, Ordering};

/// How many wakers one poll calls at most.
const HELP_MAX: usize = 128;

/// Each is called by whoever takes it, and whoever puts some here goes on until there is none.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    /// The next is the last.
    left: Mutex<Vec<Waker>>,
    /// A guess at whether there are any.
    any: AtomicBool,
    /// Somebody helps. A waker may poll, and so come back to here: not deeper and deeper.
    helped: AtomicBool,
}

impl Wakes {
    /// Puts all of a list here; its memory is exchanged.
    fn put(&self, wakers: &mut Vec<Waker>) {
        wakers.reverse();
        let mut left = self.left.lock();
        wakers.append(&mut left);
        std::mem::swap(&mut *left, wakers);
        drop(left);
        self.any.store(true, Ordering::Relaxed);
    }

    fn call(&self, most: usize, calls: &mut Calls) {
        for _ in 0..most {
            let next = self.left.lock().pop();
            let Some(waker) = next else {
                return self.any.store(false, Ordering::Relaxed);
            };
            calls.call(|| waker.wake());
        }
    }
}

impl Shared {
    /// Wakes all of a list, which is empty then; on the ring's own thread.
    pub(super) fn wake_with_help(&self, wakers: &mut Vec<Waker>, calls: &mut Calls) {
        self.wakes.put(wakers);
        self.wakes.call(usize::MAX, calls);
    }

    /// Whether others are about to be woken, as far as can be seen.
    #[inline]
    pub(crate) fn needs_help(&self) -> bool {
        self.wakes.any.load(Ordering::Relaxed)
    }

    /// Wakes others whose ops have ended, on behalf of the ring's own thread.
    #[cold]
    pub(crate) fn help_to_wake(&self) {
        let is_here = self.check_process().is_ok() && self.seat.host.is_elsewhere();
        if is_here && !self.wakes.helped.swap(true, Ordering::Acquire) {
            // A panic of another's waker is not the poll's: the panic hook has reported it.
            self.wakes.call(HELP_MAX, &mut Calls::default());
            self.wakes.helped.store(false, Ordering::Release);
        }
    }
}
