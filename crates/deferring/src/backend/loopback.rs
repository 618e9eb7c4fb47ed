//! A kernel in a screenful: it takes SQEs from ring memory and answers each with its length.
//!
//! For the tests of the two ends of the ring, at counter values that a real kernel reaches only
//! after 2^32 ops. Everything is in plain memory and happens in [`Loopback::turn`].
#![allow(unsafe_code)] // Plays the kernel's side of shared memory.

use super::uring::{Cq, CqView, Sq, SqView};
use crate::op::{Cqe, Sqe};
use crate::sync::{AtomicU32, Ordering};

pub(crate) struct Loopback {
    sq_head: Box<AtomicU32>,
    sq_tail: Box<AtomicU32>,
    cq_head: Box<AtomicU32>,
    cq_tail: Box<AtomicU32>,
    sqes: *mut Sqe,
    cqes: *mut Cqe,
    entries: u32,
}

impl Loopback {
    /// A ring of `entries`, its counters at `start`, and its two ends.
    pub(crate) fn new(entries: u32, start: u32) -> (Self, Sq, Cq) {
        assert!(entries.is_power_of_two());
        let leak = |value| Box::new(AtomicU32::new(value));
        let this = Self {
            sq_head: leak(start),
            sq_tail: leak(start),
            cq_head: leak(start),
            cq_tail: leak(start),
            sqes: Box::leak(vec![Sqe::EMPTY; entries as usize].into_boxed_slice()).as_mut_ptr(),
            cqes: Box::leak(
                vec![Cqe { user_data: 0, result: 0, flags: 0 }; entries as usize]
                    .into_boxed_slice(),
            )
            .as_mut_ptr(),
            entries,
        };
        let sq = SqView {
            head: &raw const *this.sq_head,
            tail: &raw const *this.sq_tail,
            sqes: this.sqes,
            entries,
        };
        let cq = CqView {
            head: &raw const *this.cq_head,
            tail: &raw const *this.cq_tail,
            cqes: this.cqes,
            entries,
        };
        // SAFETY: the memory outlives the ends in every test: `Loopback` is declared first.
        unsafe { (this, Sq::new(sq, None), Cq::new(cq, None)) }
    }

    /// Answers everything submitted, as far as the CQ has room.
    pub(crate) fn turn(&self) {
        let mut head = self.sq_head.load(Ordering::Relaxed);
        let mut tail = self.cq_tail.load(Ordering::Relaxed);
        let mask = self.entries - 1;
        while head != self.sq_tail.load(Ordering::Acquire)
            && tail.wrapping_sub(self.cq_head.load(Ordering::Acquire)) < self.entries
        {
            // SAFETY: masked indices are in bounds, and between head and tail the entry is ours.
            unsafe {
                let sqe = *self.sqes.add((head & mask) as usize);
                let result = i32::try_from(sqe.len).unwrap();
                *self.cqes.add((tail & mask) as usize) =
                    Cqe { user_data: sqe.user_data, result, flags: 0 };
            }
            head = head.wrapping_add(1);
            tail = tail.wrapping_add(1);
            self.sq_head.store(head, Ordering::Release);
            self.cq_tail.store(tail, Ordering::Release);
        }
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        let entries = self.entries as usize;
        // SAFETY: leaked by `new` with this length.
        unsafe {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.sqes, entries)));
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.cqes, entries)));
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
