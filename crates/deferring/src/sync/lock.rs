//! The lock of a ring. It learns whose it is.
//!
//! An atomic operation costs as much as many others, and an op's way takes the lock three times. So
//! a thread that has taken it very often, and no other in between, becomes its owner, and has it
//! without (`bias.rs`). The first other thread that comes takes that back; if that was soon, the lock
//! has to be taken twice as often to be anybody's again. That of a ring of one thread is its
//! thread's from the start, and nobody takes it back. Not: whose a ring is (`local.rs`).
#![allow(unsafe_code)] // Lends what is behind it.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::bias::Bias;
use super::checked::{RawLock as _, RawMutex};
use super::{barrier, here};

pub(crate) struct Lock<T> {
    bias: Bias,
    /// No other than the owner may take it.
    strict: bool,
    /// For all who are not the owner.
    raw: RawMutex,
    /// Behind `raw`.
    habit: UnsafeCell<Habit>,
    value: UnsafeCell<T>,
}

/// Who takes a lock.
struct Habit {
    last: usize,
    /// How often in a row.
    times: u32,
    /// So often, and it is that thread's.
    enough: u32,
    /// Since when it is.
    since: Option<Instant>,
}

/// How often to begin with: to take a lock back costs some 10 us, as much as it saves that often.
const ENOUGH: u32 = 1024;

/// And in the end.
const ENOUGH_MAX: u32 = 1 << 20;

/// Not at all.
const NEVER: u32 = u32::MAX;

/// Who had it for so long had some use of it, whatever it costs to take it back.
const LONG: Duration = Duration::from_millis(1);

impl Habit {
    /// The thread `me` takes the lock. Whether it takes it all the time.
    fn grows(&mut self, me: usize) -> bool {
        if self.last != me {
            (self.last, self.times) = (me, 0);
        }
        self.times = self.times.saturating_add(1);
        self.times >= self.enough && self.enough != NEVER
    }
}

// SAFETY: one guard is there at a time: of any thread by `raw`, which first makes sure that nobody is
// the owner, or inside; or of the owner by `bias`, which no other changes meanwhile. What one guard's
// thread did, the next sees: by `raw`, or by `inside` (`Release` when it leaves, `Acquire` when that
// is looked at). `habit` is touched by who has `raw` only.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// For all threads; with `learns`, for that thread first of all that uses it all the time.
    pub(crate) fn new(value: T, learns: bool) -> Self {
        Self::of(Bias::to(0), false, if learns { ENOUGH } else { NEVER }, value)
    }

    /// For the calling thread.
    pub(crate) fn of_this_thread(value: T) -> Self {
        Self::of(Bias::to(here()), true, NEVER, value)
    }

    const fn of(bias: Bias, strict: bool, enough: u32, value: T) -> Self {
        let habit = UnsafeCell::new(Habit { last: 0, times: 0, enough, since: None });
        Self { bias, strict, raw: RawMutex::INIT, habit, value: UnsafeCell::new(value) }
    }

    /// Whether it is for one thread only.
    pub(crate) const fn is_of_one_thread(&self) -> bool {
        self.strict
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        let me = here();
        let owns = self.bias.enter(me) || self.lock_with_others(me);
        LockGuard { lock: self, owns, _stays: PhantomData }
    }

    /// Takes it as one of many threads, or for the first time as its owner: then true.
    #[inline(never)]
    fn lock_with_others(&self, me: usize) -> bool {
        self.raw.lock();
        if self.bias.is_somebodys() {
            self.take_back();
        }
        // SAFETY: behind `raw`, which is locked.
        if unsafe { &mut *self.habit.get() }.grows(me) {
            return self.become_owner(me);
        }
        false
    }

    /// With `raw` locked.
    #[cold]
    fn take_back(&self) {
        // SAFETY: locked by the caller, who does not go on then.
        let unlock = || unsafe { self.raw.unlock() };
        if self.strict {
            unlock();
            panic!("a ring of one thread is used by another");
        }
        if let Err(errno) = self.bias.take_back() {
            unlock();
            panic!(
                "membarrier(2) was allowed when the ring began, and now it is not: {errno}; build \
                 rings with `biased_lock(false)`"
            );
        }
        // SAFETY: behind `raw`, which is locked.
        let habit = unsafe { &mut *self.habit.get() };
        let was_long = habit.since.is_some_and(|since| since.elapsed() >= LONG);
        habit.enough = if was_long { ENOUGH } else { (habit.enough * 2).min(ENOUGH_MAX) };
    }

    /// With `raw` locked, which is given up if that is so.
    #[cold]
    fn become_owner(&self, me: usize) -> bool {
        // Not with the lock: it may take a system call.
        // SAFETY: locked by the caller, and again below.
        unsafe { self.raw.unlock() };
        let ready = barrier::is_ready();
        self.raw.lock();
        if self.bias.is_somebodys() {
            self.take_back();
            return false;
        }
        if !ready {
            // SAFETY: behind `raw`, which is locked.
            unsafe { (*self.habit.get()).times = 0 };
            return false;
        }
        // SAFETY: behind `raw`, which is locked.
        unsafe { (*self.habit.get()).since = Some(Instant::now()) };
        self.bias.give_to(me);
        // SAFETY: locked above. Who comes now finds us inside.
        unsafe { self.raw.unlock() };
        true
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("bias", &self.bias).finish_non_exhaustive()
    }
}

/// The lock, taken, by this thread.
pub(crate) struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
    /// As its owner.
    owns: bool,
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
        if self.owns {
            self.lock.bias.leave();
        } else {
            // SAFETY: locked in `lock`, by this thread.
            unsafe { self.lock.raw.unlock() }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    use super::*;

    /// Takes it and adds one, until this thread is its owner; false where none can be.
    fn own(lock: &Lock<u64>) -> bool {
        let most = 1000 * ENOUGH;
        (0..most).any(|_| {
            let mut value = lock.lock();
            *value += 1;
            value.owns
        })
    }

    #[test]
    fn whoever_takes_it_is_alone() {
        // Now with few others, now with many: it is somebody's for a while, and taken back.
        for threads in 1..=4_u64 {
            let lock = Lock::new(0, true);
            let each = 400_000 / threads;
            thread::scope(|scope| {
                for thread in 0..threads {
                    let lock = &lock;
                    scope.spawn(move || {
                        for time in 0..each {
                            let mut value = lock.lock();
                            let before = *value;
                            *value = std::hint::black_box(before) + 1;
                            drop(value);
                            if time % 10_000 == thread {
                                thread::yield_now();
                            }
                        }
                    });
                }
            });
            assert_eq!(*lock.lock(), threads * each);
        }
    }

    #[test]
    fn who_takes_it_all_the_time_owns_it_until_another_comes() {
        let lock = Lock::new(0, true);
        if !own(&lock) {
            assert!(!barrier::is_ready(), "nobody owns it");
            return;
        }
        assert!(lock.lock().owns);
        let before = *lock.lock();
        let other = thread::scope(|scope| scope.spawn(|| lock.lock().owns).join());
        assert!(!other.unwrap(), "it is another's at once");
        assert!(!lock.lock().owns, "it was taken back, and is ours");
        assert!(own(&lock), "it is not ours again");
        let again = *lock.lock() - before;
        assert!(again >= u64::from(ENOUGH) - 1, "ours again after {again} times");
    }

    #[test]
    fn who_loses_it_soon_gets_it_later() {
        let lock = Lock::new(0, true);
        // SAFETY: nobody else is there.
        let habit = || unsafe { &mut *lock.habit.get() };
        let lose = || {
            thread::scope(|scope| scope.spawn(|| drop(lock.lock())).join().unwrap());
            habit().enough
        };
        if !own(&lock) {
            return;
        }
        habit().since = None; // As if it were now.
        assert_eq!(lose(), 2 * ENOUGH);
        assert!(own(&lock));
        habit().since = Instant::now().checked_sub(LONG);
        assert_eq!(lose(), ENOUGH);
    }

    #[test]
    fn one_that_does_not_learn_is_nobodys() {
        let lock = Lock::new(0, false);
        assert!(!own(&lock));
        // SAFETY: nobody else is there.
        unsafe { (*lock.habit.get()).times = u32::MAX - 1 }; // As after very long.
        assert!(!own(&lock));
    }

    #[test]
    fn an_owner_that_is_inside_is_waited_for() {
        let lock = Lock::new(0, true);
        if !own(&lock) {
            return;
        }
        let mut value = lock.lock();
        thread::scope(|scope| {
            let other = scope.spawn(|| *lock.lock());
            // Long enough for it to come in, if it could.
            while !other.is_finished() && lock.bias.is_somebodys() {
                thread::yield_now();
            }
            *value = 7;
            drop(value);
            assert_eq!(other.join().unwrap(), 7);
        });
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
