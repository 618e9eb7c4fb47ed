//! The ring's two ends in plain memory, and the kernel's side of them: SQEs are taken, CQEs given.
//!
//! Under the pool of threads (`memory.rs`), and in a screenful, to be read first: the tests here
//! are a kernel that answers each SQE with its length, at counter values that a real kernel reaches
//! only after 2^32 ops.
#![allow(unsafe_code)] // Plays the kernel's side of shared memory.

use super::uring::{Cq, CqView, Keep, Sq, SqView};
use crate::op::{Cqe, Sqe};
use crate::sync::plain::AtomicU32;
use crate::sync::{Arc, Ordering};

pub(crate) struct Loopback {
    sq_head: Arc<AtomicU32>,
    sq_tail: Arc<AtomicU32>,
    cq_head: Arc<AtomicU32>,
    cq_tail: Arc<AtomicU32>,
    block: Arc<Block>,
}

/// The memory of the entries.
struct Block {
    sqes: *mut Sqe,
    sq_entries: u32,
    cqes: *mut Cqe,
    cq_entries: u32,
}

impl Loopback {
    /// A ring of `entries`, its counters at `start`, and its two ends.
    #[cfg(test)]
    pub(crate) fn new(entries: u32, start: u32) -> (Self, Sq, Cq) {
        Self::with_sizes(entries, entries, start)
    }

    /// A ring of so many SQEs and CQEs, its counters at `start`, and its two ends.
    pub(crate) fn with_sizes(sq_entries: u32, cq_entries: u32, start: u32) -> (Self, Sq, Cq) {
        assert!(sq_entries.is_power_of_two() && cq_entries.is_power_of_two());
        let counter = |value| Arc::new(AtomicU32::new(value));
        let this = Self {
            sq_head: counter(start),
            sq_tail: counter(start),
            cq_head: counter(start),
            cq_tail: counter(start),
            block: Arc::new(Block::new(sq_entries, cq_entries)),
        };
        let sq = SqView {
            head: &raw const *this.sq_head,
            tail: &raw const *this.sq_tail,
            sqes: this.block.sqes,
            entries: sq_entries,
        };
        let cq = CqView {
            head: &raw const *this.cq_head,
            tail: &raw const *this.cq_tail,
            cqes: this.block.cqes,
            entries: cq_entries,
        };
        let counters = [&this.sq_head, &this.sq_tail, &this.cq_head, &this.cq_tail].map(Arc::clone);
        let keep: Keep = Arc::new((Arc::clone(&this.block), counters));
        // SAFETY: the entries and the counters are kept; each end is made once.
        unsafe { (this, Sq::new(sq, Arc::clone(&keep)), Cq::new(cq, keep)) }
    }

    /// The next SQE, which is the kernel's from now on.
    pub(crate) fn take(&self) -> Option<Sqe> {
        let head = self.sq_head.load(Ordering::Relaxed);
        if head == self.sq_tail.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: a masked index is in bounds; between head and tail the entry is ours.
        let sqe = unsafe { *self.block.sqes.add((head & (self.block.sq_entries - 1)) as usize) };
        self.sq_head.store(head.wrapping_add(1), Ordering::Release);
        Some(sqe)
    }

    /// Whether a CQE could be given.
    fn has_room(&self) -> bool {
        let tail = self.cq_tail.load(Ordering::Relaxed);
        tail.wrapping_sub(self.cq_head.load(Ordering::Acquire)) < self.block.cq_entries
    }

    /// Gives a CQE. False if there is no room for it.
    pub(crate) fn give(&self, cqe: Cqe) -> bool {
        let has_room = self.has_room();
        if has_room {
            let tail = self.cq_tail.load(Ordering::Relaxed);
            // SAFETY: a masked index is in bounds; between tail and head + entries it is ours.
            unsafe { *self.block.cqes.add((tail & (self.block.cq_entries - 1)) as usize) = cqe };
            self.cq_tail.store(tail.wrapping_add(1), Ordering::Release);
        }
        has_room
    }

    /// Up to where the CQ is read, and up to where it is filled.
    pub(crate) fn cq_counters(&self) -> [Arc<AtomicU32>; 2] {
        [&self.cq_head, &self.cq_tail].map(Arc::clone)
    }

    /// Answers everything submitted, as far as the CQ has room.
    #[cfg(test)]
    pub(crate) fn turn(&self) {
        while self.has_room() {
            let Some(sqe) = self.take() else { break };
            let result = i32::try_from(sqe.len).unwrap();
            self.give(Cqe { user_data: sqe.user_data, result, flags: 0 });
        }
    }
}

impl Block {
    fn new(sq_entries: u32, cq_entries: u32) -> Self {
        let sqes = vec![Sqe::EMPTY; sq_entries as usize];
        let cqes = vec![Cqe { user_data: 0, result: 0, flags: 0 }; cq_entries as usize];
        Self {
            sqes: Box::leak(sqes.into_boxed_slice()).as_mut_ptr(),
            sq_entries,
            cqes: Box::leak(cqes.into_boxed_slice()).as_mut_ptr(),
            cq_entries,
        }
    }
}

// SAFETY: the pointers are to memory of its own; who may touch which entry, the counters say.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        let sqes = std::ptr::slice_from_raw_parts_mut(self.sqes, self.sq_entries as usize);
        let cqes = std::ptr::slice_from_raw_parts_mut(self.cqes, self.cq_entries as usize);
        // SAFETY: leaked by `new` with these lengths.
        unsafe {
            drop(Box::from_raw(sqes));
            drop(Box::from_raw(cqes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_survive_the_wrap_at_2_to_the_32() {
        let (kernel, mut sq, mut cq) = Loopback::new(4, u32::MAX - 5);
        for round in 0..8u64 {
            assert_eq!(sq.room(), 4);
            for at in 0..3 {
                let user_data = round * 3 + at;
                sq.push(|sqe| {
                    *sqe = Sqe { user_data, len: 7, ..Sqe::EMPTY };
                    true
                });
            }
            assert_eq!(sq.publish(), 3);
            assert_eq!(sq.room(), 1);
            kernel.turn();
            assert_eq!(sq.unconsumed(), 0);
            for at in 0..3 {
                let expected = Cqe { user_data: round * 3 + at, result: 7, flags: 0 };
                assert_eq!(cq.pop(), Some(expected));
            }
            assert_eq!(cq.pop(), None);
            cq.give_back();
        }
    }

    #[test]
    fn a_full_sq_takes_no_more_until_the_kernel_has_eaten() {
        let (kernel, mut sq, mut cq) = Loopback::new(2, u32::MAX);
        let nop = |sqe: &mut Sqe| {
            *sqe = Sqe::EMPTY;
            true
        };
        assert!(sq.push(nop) && sq.push(nop));
        assert!(!sq.push(nop), "full");
        sq.publish();
        kernel.turn();
        assert!(sq.push(nop));
        assert!(cq.pop().is_some() && cq.pop().is_some() && cq.pop().is_none());
    }
}
