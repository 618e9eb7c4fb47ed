//! Our end of the submission queue.
//!
//! One thread at a time, by `&mut`. SQEs are written here only inside a submit pass; this is not a
//! waiting room (`inflight/` is). Not: the system call that makes the kernel look (`enter.rs`).
#![allow(unsafe_code)] // Writes ring memory.

use super::Keep;
use crate::op::Sqe;
use crate::sync::Ordering;
use crate::sync::plain::AtomicU32;

/// Where the queue is in memory.
pub(crate) struct SqView {
    pub(crate) head: *const AtomicU32,
    pub(crate) tail: *const AtomicU32,
    pub(crate) sqes: *mut Sqe,
    pub(crate) entries: u32,
}

pub(crate) struct Sq {
    view: SqView,
    mask: u32,
    /// Up to where SQEs are written; the kernel sees it at the next `publish`.
    tail: u32,
    _keep: Keep,
}

// SAFETY: the pointers are to memory that `_keep` keeps and that only this end writes.
unsafe impl Send for Sq {}

impl Sq {
    /// # Safety
    /// The view is of memory that stays while `keep` does, laid out as the
    /// kernel says, and no other `Sq` is made of it.
    pub(crate) unsafe fn new(view: SqView, keep: Keep) -> Self {
        assert!(view.entries.is_power_of_two());
        // SAFETY: as the caller promises.
        let tail = unsafe { &*view.tail }.load(Ordering::Relaxed);
        Self { mask: view.entries - 1, tail, view, _keep: keep }
    }

    /// How many SQEs can be written now.
    pub(crate) fn room(&self) -> u32 {
        self.view.entries - self.unconsumed()
    }

    /// Written, and not yet taken by the kernel.
    pub(crate) fn unconsumed(&self) -> u32 {
        // SAFETY: `new`'s promise. `Acquire`: what the kernel has consumed may be overwritten.
        let head = unsafe { &*self.view.head }.load(Ordering::Acquire);
        // Both counters run freely and wrap; their distance does not.
        let unconsumed = self.tail.wrapping_sub(head);
        assert!(unconsumed <= self.view.entries, "the kernel took more than it was given");
        unconsumed
    }

    /// Lets `write` fill the next SQE, if there is room. False if there was none or `write` had
    /// nothing to say.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Sqe) -> bool) -> bool {
        if self.room() == 0 {
            return false;
        }
        // SAFETY: a masked index is in bounds; between tail and head + entries the memory is ours.
        let sqe = unsafe { &mut *self.view.sqes.add((self.tail & self.mask) as usize) };
        let written = write(sqe);
        self.tail = self.tail.wrapping_add(u32::from(written));
        written
    }

    /// Lets `write` fill up to `most` SQEs, as far as there is room and it has something to say.
    /// Returns how many it filled.
    #[inline]
    pub(crate) fn push_some(
        &mut self,
        most: usize,
        mut write: impl FnMut(&mut Sqe) -> bool,
    ) -> u32 {
        let room = self.room();
        let most = u32::try_from(most).unwrap_or(room).min(room);
        for filled in 0..most {
            // SAFETY: as in `push`; there is room for `most`.
            let sqe = unsafe { &mut *self.view.sqes.add((self.tail & self.mask) as usize) };
            if !write(sqe) {
                return filled;
            }
            self.tail = self.tail.wrapping_add(1);
        }
        most
    }

    /// Shows the kernel what was written. Returns how many SQEs it has not taken yet.
    pub(crate) fn publish(&mut self) -> u32 {
        // SAFETY: `new`'s promise. `Release`: the SQEs come before the tail.
        unsafe { &*self.view.tail }.store(self.tail, Ordering::Release);
        self.unconsumed()
    }
}
