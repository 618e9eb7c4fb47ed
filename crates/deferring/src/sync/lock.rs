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

use super::bias::{Bias, Inside, SEATS, Seated};
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
    /// The numbers of those whose it was, each for good; 0 for none.
    seats: [usize; SEATS],
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

    /// The seat of that thread, if it has one or there is one left.
    fn seat(&mut self, me: usize) -> Option<Seated> {
        let seat = self.seats.iter().position(|number| [0, me].contains(number))?;
        self.seats[seat] = me;
        Some(Seated::at(me, seat))
    }
}

// SAFETY: one guard is there at a time.
// - Of two that take `raw`, the second waits for the first.
// - Who takes `raw` makes sure that nobody is the owner, or inside. What is read as `false` then is
//   not older than what the owner wrote before `heavy`; so either it is that of having left, or the
//   owner is yet to look whether it is the owner still, and sees that it is not.
// - The owner, which does not take `raw`, has a flag that no other thread writes: a former owner has
//   its own, and cannot undo this one's.
// What one guard's thread did, the next one's sees: by `raw`; from the owner by its flag (`Release`
// when it leaves, `Acquire` when that is looked at); and to the owner by `raw` again, under which it
// became that, since when there was no other. `habit` is touched by who has `raw` only.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// For all threads; with `learns`, for that thread first of all that uses it all the time.
    pub(crate) fn new(value: T, learns: bool) -> Self {
        Self::of(Bias::to_nobody(), false, if learns { ENOUGH } else { NEVER }, value)
    }

    /// For the calling thread.
    pub(crate) fn of_this_thread(value: T) -> Self {
        Self::of(Bias::to(Seated::at(here(), 0)), true, NEVER, value)
    }

    const fn of(bias: Bias, strict: bool, enough: u32, value: T) -> Self {
        let habit =
            UnsafeCell::new(Habit { last: 0, times: 0, enough, since: None, seats: [0; SEATS] });
        Self { bias, strict, raw: RawMutex::INIT, habit, value: UnsafeCell::new(value) }
    }

    /// Whether it is for one thread only.
    pub(crate) const fn is_of_one_thread(&self) -> bool {
        self.strict
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        let me = here();
        let inside = self.bias.enter(me).or_else(|| self.lock_with_others(me));
        LockGuard { lock: self, inside, _stays: PhantomData }
    }

    /// Takes it as one of many threads, or for the first time as its owner.
    #[inline(never)]
    fn lock_with_others(&self, me: usize) -> Option<Inside<'_>> {
        self.raw.lock();
        if self.bias.is_somebodys() {
            self.take_back();
        }
        // SAFETY: behind `raw`, which is locked.
        if unsafe { &mut *self.habit.get() }.grows(me) {
            return self.become_owner(me);
        }
        None
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
                "membarrier(2) did what it should when it was needed first, and now it fails: \
                 {errno}; build rings with `biased_lock(false)`"
            );
        }
        // SAFETY: behind `raw`, which is locked.
        let habit = unsafe { &mut *self.habit.get() };
        let was_long = habit.since.is_some_and(|since| since.elapsed() >= LONG);
        habit.enough = if was_long { ENOUGH } else { (habit.enough * 2).min(ENOUGH_MAX) };
    }

    /// With `raw` locked, which is given up if that is so.
    #[cold]
    fn become_owner(&self, me: usize) -> Option<Inside<'_>> {
        // Not with the lock: it may take a system call.
        // SAFETY: locked by the caller, and again below.
        unsafe { self.raw.unlock() };
        let ready = barrier::is_ready();
        self.raw.lock();
        if self.bias.is_somebodys() {
            self.take_back();
            return None;
        }
        // SAFETY: behind `raw`, which is locked.
        let habit = unsafe { &mut *self.habit.get() };
        let Some(seated) = ready.then(|| habit.seat(me)).flatten() else {
            habit.times = 0;
            return None;
        };
        habit.since = Some(Instant::now());
        let inside = self.bias.give_to(seated);
        // SAFETY: locked above. Who comes now finds us inside.
        unsafe { self.raw.unlock() };
        Some(inside)
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
    /// As its owner; else with `raw`.
    inside: Option<Inside<'a>>,
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
        if let Some(inside) = &self.inside {
            inside.leave();
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
    use crate::sync::{AtomicUsize, Ordering};

    /// Takes it and adds one, until this thread is its owner; false where none can be.
    fn own(lock: &Lock<u64>) -> bool {
        let most = 1000 * ENOUGH;
        (0..most).any(|_| {
            let mut value = lock.lock();
            *value += 1;
            value.inside.is_some()
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
    fn whoever_takes_it_is_alone_though_it_is_now_this_ones_now_that_ones() {
        const EACH: u64 = 50_000;
        let somebodys = own(&Lock::new(0, true));
        for threads in 2..=4_u64 {
            let lock = Lock::of(Bias::to_nobody(), false, 2, 0);
            let changes = AtomicUsize::new(0);
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        let mut owned = false;
                        for time in 0..EACH {
                            if time % 5 == 0 {
                                thread::yield_now();
                            }
                            let mut value = lock.lock();
                            let before = *value;
                            *value = std::hint::black_box(before) + 1;
                            if value.inside.is_none() {
                                // SAFETY: behind `raw`, which this guard has locked.
                                unsafe { (*lock.habit.get()).enough = 2 };
                            }
                            let owns = value.inside.is_some();
                            changes.fetch_add(usize::from(owned != owns), Ordering::Relaxed);
                            owned = owns;
                        }
                    });
                }
            });
            assert_eq!(*lock.lock(), threads * EACH);
            assert_eq!(changes.load(Ordering::Relaxed) > 0, somebodys);
        }
    }

    #[test]
    fn who_takes_it_all_the_time_owns_it_until_another_comes() {
        let lock = Lock::new(0, true);
        if !own(&lock) {
            assert!(!barrier::is_ready(), "nobody owns it");
            return;
        }
        assert!(lock.lock().inside.is_some());
        let before = *lock.lock();
        let other = thread::scope(|scope| scope.spawn(|| lock.lock().inside.is_some()).join());
        assert!(!other.unwrap(), "it is another's at once");
        assert!(lock.lock().inside.is_none(), "it was taken back, and is ours");
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
