//! Locks, atomics and reference counts: the only import of them.
//!
//! One place, so that a model checker's versions can be put here instead. Not: any policy. Who
//! locks what is in `turn/`.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use std::sync::{Arc, Weak};

/// A mutex that outlives a panic of its holder.
///
/// No user code runs under our locks (P11), so only a broken invariant of ours can panic there;
/// each of those asserts before it writes. Passing the poison on would turn one bug into a panic
/// in every handle's `drop`.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

pub(crate) type MutexGuard<'a, T> = std::sync::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
