//! Locks, atomics, reference counts, the parking of threads: the only import of them.
//!
//! One place, so that a model checker's versions stand here under `cfg(loom)` and `cfg(shuttle)`
//! (`models/`). [`plain`] is std's always. Not: any policy. Who locks what is in `turn/`.

#[cfg(not(all(test, any(loom, shuttle))))]
mod barrier;
#[cfg(not(all(test, shuttle)))]
pub(crate) mod bias;
#[cfg(not(all(test, any(loom, shuttle))))]
mod lock;

/// Of a checker, which has no system calls: both sides are what they are for the heavy one.
#[cfg(all(test, loom))]
mod barrier {
    pub(crate) type Refused = std::convert::Infallible;

    pub(super) fn light() {
        loom::sync::atomic::fence(super::Ordering::SeqCst);
    }

    pub(super) fn heavy() -> Result<(), Refused> {
        light();
        Ok(())
    }

    pub(super) fn pause(_: u32) {
        loom::thread::yield_now();
    }
}

#[cfg(not(all(test, any(loom, shuttle))))]
mod checked {
    /// Not std's: it asks twice for each lock whether somebody panics.
    pub(super) use parking_lot::lock_api::RawMutex as RawLock;
    pub(super) use parking_lot::{Mutex, MutexGuard, RawMutex};
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
    pub(crate) use std::thread;

    /// They never are.
    #[inline]
    pub(super) fn not_poisoned<T>(locked: T) -> T {
        locked
    }
}

#[cfg(all(test, loom))]
mod checked {
    use std::sync::atomic::Ordering;

    pub(super) use super::plain::not_poisoned;

    pub(crate) use loom::sync::Condvar;
    pub(crate) use loom::sync::atomic::AtomicU32;
    pub(super) use loom::sync::{Mutex, MutexGuard};

    /// Loom takes `SeqCst` accesses for `AcqRel`, but fences for what they are; so there is one on
    /// the side where it matters, after a store and before a load. And it lets a swap pass by a
    /// store that happened before it, if another swap came between; so a store is a swap, whose
    /// place in the order it knows. Without either it finds failures that cannot be.
    macro_rules! sequential {
        ($name:ident, $value:ty) => {
            #[derive(Debug, Default)]
            pub(crate) struct $name(loom::sync::atomic::$name);

            #[allow(dead_code)] // Not all have a use of each.
            impl $name {
                pub(crate) fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    fence_if_sequential(order);
                    self.0.load(order)
                }

                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    let order_of_swap = match order {
                        Ordering::SeqCst => Ordering::Release,
                        other => other,
                    };
                    self.0.swap(value, order_of_swap);
                    fence_if_sequential(order);
                }

                pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                    fence_if_sequential(order);
                    let before = self.0.swap(value, order);
                    fence_if_sequential(order);
                    before
                }

                pub(crate) fn compare_exchange(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    fence_if_sequential(success);
                    let result = self.0.compare_exchange(current, new, success, failure);
                    fence_if_sequential(success);
                    result
                }
            }
        };
    }

    sequential!(AtomicBool, bool);
    sequential!(AtomicUsize, usize);

    impl AtomicUsize {
        pub(crate) fn fetch_add(&self, n: usize, order: Ordering) -> usize {
            self.0.fetch_add(n, order)
        }

        pub(crate) fn fetch_sub(&self, n: usize, order: Ordering) -> usize {
            self.0.fetch_sub(n, order)
        }
    }

    fn fence_if_sequential(order: Ordering) {
        if order == Ordering::SeqCst {
            loom::sync::atomic::fence(order);
        }
    }

    pub(crate) mod thread {
        pub(crate) use loom::thread::ThreadId;

        use super::{Condvar, Mutex};
        use crate::sync::Arc;

        /// Loom's own would be woken from whatever else it waits for, too.
        #[derive(Clone)]
        pub(crate) struct Thread {
            id: ThreadId,
            token: Arc<(Mutex<bool>, Condvar)>,
        }

        loom::thread_local! {
            static CURRENT: Thread = Thread {
                id: loom::thread::current().id(),
                token: Arc::new((Mutex::new(false), Condvar::new())),
            };
        }

        impl Thread {
            pub(crate) fn id(&self) -> ThreadId {
                self.id
            }

            pub(crate) fn unpark(&self) {
                *self.token.0.lock().unwrap() = true;
                self.token.1.notify_all();
            }
        }

        pub(crate) fn current() -> Thread {
            CURRENT.with(Thread::clone)
        }

        pub(crate) fn park() {
            let thread = current();
            let (token, unparked) = &*thread.token;
            let mut token = token.lock().unwrap();
            while !std::mem::take(&mut *token) {
                token = unparked.wait(token).unwrap();
            }
        }

        /// Time does not pass here; others get on.
        pub(crate) fn sleep(_: std::time::Duration) {
            loom::thread::yield_now();
        }
    }
}

#[cfg(all(test, shuttle))]
mod checked {
    pub(super) use super::plain::not_poisoned;
    pub(crate) use shuttle::sync::Condvar;
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
    pub(super) use shuttle::sync::{Mutex, MutexGuard};
    pub(crate) use shuttle::thread;
}

/// Std's, also under a model checker: for memory that the kernel shares, for statics, for counters
/// and caches by which nothing is ordered.
pub(crate) mod plain {
    #[cfg(feature = "tokio")]
    pub(crate) use std::sync::atomic::AtomicPtr;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, compiler_fence, fence,
    };

    pub(crate) use std::sync::MutexGuard;
    use std::sync::PoisonError;

    /// Whether or not its holder panicked.
    pub(super) fn not_poisoned<T>(locked: Result<T, PoisonError<T>>) -> T {
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// As the other one: it outlives a panic of its holder.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            not_poisoned(self.0.lock())
        }
    }

    /// Of those mutexes.
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(std::sync::Condvar);

    #[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // Of the pool.
    impl Condvar {
        pub(crate) const fn new() -> Self {
            Self(std::sync::Condvar::new())
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        /// True if nobody called in that time.
        pub(crate) fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            time: std::time::Duration,
        ) -> (MutexGuard<'a, T>, bool) {
            let waited = self.0.wait_timeout(guard, time);
            let (guard, late) = not_poisoned(waited);
            (guard, late.timed_out())
        }
    }
}

/// Std's always: not for what a checker looks at.
pub(crate) use std::sync::mpsc;
pub(crate) use std::thread::{available_parallelism, panicking};

/// Something that others may change is about to be looked at, in memory that a checker does not see.
#[cfg(not(all(test, shuttle)))]
pub(crate) const fn look() {}

#[cfg(all(test, shuttle))]
pub(crate) fn look() {
    shuttle::thread::yield_now();
}

/// Parks for so long at most. In a story time does not pass, and whoever is parked is unparked.
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use std::thread::park_timeout;

#[cfg(all(test, any(loom, shuttle)))]
pub(crate) fn park_timeout(_: std::time::Duration) {
    thread::park();
}

/// Std's always, since wakers are made of it.
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::Ordering;

#[cfg(all(test, any(loom, shuttle)))]
pub(crate) use checked::Condvar;
pub(crate) use checked::{AtomicBool, AtomicU32, AtomicUsize, thread};

/// A mutex that outlives a panic of its holder.
///
/// No user code runs under our locks (P11), so only a broken invariant of ours can panic there;
/// each of those asserts before it writes. Passing the poison on would turn one bug into a panic
/// in every handle's `drop`.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(checked::Mutex<T>);

pub(crate) type MutexGuard<'a, T> = checked::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(checked::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        checked::not_poisoned(self.0.lock())
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        checked::not_poisoned(self.0.get_mut())
    }
}

/// The lock of a ring.
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use lock::{Lock, LockGuard};

#[cfg(all(test, any(loom, shuttle)))]
pub(crate) type LockGuard<'a, T> = MutexGuard<'a, T>;

/// The same for model checkers: always for all threads.
#[cfg(all(test, any(loom, shuttle)))]
#[derive(Debug)]
pub(crate) struct Lock<T>(Mutex<T>);

#[cfg(all(test, any(loom, shuttle)))]
impl<T> Lock<T> {
    pub(crate) fn new(value: T, _learns: bool) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn of_this_thread(value: T) -> Self {
        Self::new(value, false)
    }

    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        self.0.lock()
    }
}

/// A number of this thread, which no other has at the same time; not 0, but a multiple of
/// [`NUMBER_STEP`].
#[inline]
pub(crate) fn here() -> usize {
    #[repr(align(8))]
    struct Place(#[allow(dead_code)] u8); // Looked at from outside only.
    const { assert!(align_of::<Place>() == NUMBER_STEP) };
    std::thread_local! {
        static HERE: Place = const { Place(0) };
    }
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

pub(crate) const NUMBER_STEP: usize = 8;
