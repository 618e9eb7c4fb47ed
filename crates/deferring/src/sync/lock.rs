//! The lock of a ring; of a ring for one thread it is none.
//!
//! An atomic operation costs as much as many others, and an op's way takes the lock three times. So
//! a ring that is said to be of one thread has it without: that thread alone may take it, which is
//! looked at each time. Not: whose a ring is (`local.rs`).
#![allow(unsafe_code)] // Lends what is behind it.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::checked::{RawLock as _, RawMutex};
use super::plain::AtomicBool;
use super::{Ordering, here};

pub(crate) struct Lock<T> {
    /// The thread that alone may take it, by [`here`]; 0 if any may.
    only: usize,
    /// That thread has it.
    inside: AtomicBool,
    raw: RawMutex,
    value: UnsafeCell<T>,
}

// SAFETY: one guard is there at a time: of any thread by `raw`, or of the one thread by `inside`,
// which no other looks at. A thread that comes to be `here` where another was comes after that one's
// end, and sees its last guard go (`Acquire` and `Release` of `inside`).
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// For all threads.
    pub(crate) const fn new(value: T) -> Self {
        Self::of(0, value)
    }

    /// For the calling thread.
    pub(crate) fn of_this_thread(value: T) -> Self {
        Self::of(here(), value)
    }

    const fn of(only: usize, value: T) -> Self {
        let inside = AtomicBool::new(false);
        Self { only, inside, raw: RawMutex::INIT, value: UnsafeCell::new(value) }
    }

    /// Whether it is for one thread only.
    pub(crate) const fn is_of_one_thread(&self) -> bool {
        self.only != 0
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        if self.only == 0 {
            self.raw.lock();
        } else {
            assert!(self.only == here(), "a ring of one thread is used by another");
            assert!(!self.inside.load(Ordering::Acquire), "the ring is used while it is in use");
            self.inside.store(true, Ordering::Relaxed);
        }
        LockGuard { lock: self, _stays: PhantomData }
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("only", &self.only).finish_non_exhaustive()
    }
}

/// The lock, taken, by this thread.
pub(crate) struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
    _stays: PhantomData<*const ()>,
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: there is no other guard.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: there is no other guard, and this one is borrowed for as long.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.lock.only == 0 {
            // SAFETY: locked in `lock`, by this thread.
            unsafe { self.lock.raw.unlock() }
        } else {
            self.lock.inside.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    use super::*;

    #[test]
    fn whoever_takes_it_is_alone() {
        let lock = Lock::new(0_u32);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let mut value = lock.lock();
                        let before = *value;
                        *value = before + 1;
                    }
                });
            }
        });
        assert_eq!(*lock.lock(), 40_000);
    }

    #[test]
    fn that_of_one_thread_is_taken_by_it_and_by_no_other() {
        let lock = Lock::of_this_thread(1);
        *lock.lock() += 1;
        let other = thread::scope(|scope| scope.spawn(|| *lock.lock()).join());
        assert!(other.is_err(), "another thread has it");
        assert_eq!(*lock.lock(), 2);
    }

    #[test]
    fn that_of_one_thread_is_not_taken_twice() {
        let lock = Lock::of_this_thread(1);
        let first = lock.lock();
        let second = catch_unwind(AssertUnwindSafe(|| *lock.lock()));
        assert!(second.is_err(), "there are two of it");
        drop(first);
        assert_eq!(*lock.lock(), 1);
    }
}
