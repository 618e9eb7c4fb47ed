//! Our end of the completion queue.
//!
//! One thread at a time, by `&mut`. Not: what a CQE means (`inflight/`), nor CQEs that did not fit
//! and wait in the kernel (`enter.rs`, `Kernel::flush`).
#![allow(unsafe_code)] // Reads ring memory.

use super::Keep;
use crate::op::Cqe;
use crate::sync::Ordering;
use crate::sync::plain::AtomicU32;

/// Where the queue is in memory.
pub(crate) struct CqView {
    pub(crate) head: *const AtomicU32,
    pub(crate) tail: *const AtomicU32,
    pub(crate) cqes: *const Cqe,
    pub(crate) entries: u32,
}

pub(crate) struct Cq {
    view: CqView,
    mask: u32,
    /// Up to where CQEs are read; the kernel sees it at the next `give_back`.
    head: u32,
    _keep: Keep,
}

// SAFETY: the pointers are to memory that `_keep` keeps and of which only this end moves the head.
unsafe impl Send for Cq {}

impl Cq {
    /// # Safety
    /// As `Sq::new`.
    pub(crate) unsafe fn new(view: CqView, keep: Keep) -> Self {
        assert!(view.entries.is_power_of_two());
        // SAFETY: as the caller promises.
        let head = unsafe { &*view.head }.load(Ordering::Relaxed);
        Self { mask: view.entries - 1, head, view, _keep: keep }
    }

    /// Whether there is a CQE to be popped.
    pub(crate) fn has_next(&self) -> bool {
        // SAFETY: `new`'s promise. `Acquire`: the CQE comes before the tail.
        unsafe { &*self.view.tail }.load(Ordering::Acquire) != self.head
    }

    /// The next CQE. Its place is the kernel's again after `give_back`.
    pub(crate) fn pop(&mut self) -> Option<Cqe> {
        // SAFETY: `new`'s promise. `Acquire`: the CQE comes before the tail.
        let tail = unsafe { &*self.view.tail }.load(Ordering::Acquire);
        if tail == self.head {
            return None;
        }
        // SAFETY: a masked index is in bounds; between head and tail the memory is ours to read.
        let cqe = unsafe { *self.view.cqes.add((self.head & self.mask) as usize) };
        self.head = self.head.wrapping_add(1);
        Some(cqe)
    }

    /// Takes the last pop back. Before the next `give_back`.
    pub(crate) fn put_back(&mut self) {
        self.head = self.head.wrapping_sub(1);
    }

    /// Makes room for as many CQEs as were popped.
    pub(crate) fn give_back(&mut self) {
        // SAFETY: `new`'s promise. `Release`: our reads come before the head.
        unsafe { &*self.view.head }.store(self.head, Ordering::Release);
    }
}
