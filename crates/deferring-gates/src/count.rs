//! What can be counted from inside: allocations, by the allocator; enters, by whoever makes them.
//!
//! Not: what the kernel or a processor would count.
#![allow(unsafe_code)] // An allocator is unsafe to write.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, and how often it was asked for memory.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: each call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// How much there was of what is counted: since the program began, or between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) allocations: u64,
    pub(crate) enters: u64,
}

impl Counts {
    /// By now. The enters are told.
    pub(crate) fn now(enters: u64) -> Self {
        Self { allocations: ALLOCATIONS.load(Ordering::Relaxed), enters }
    }

    /// What has come since.
    pub(crate) const fn since(self, before: Self) -> Self {
        Self {
            allocations: self.allocations - before.allocations,
            enters: self.enters - before.enters,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_between_two_looks_is_seen() {
        // Other tests may allocate meanwhile.
        let before = Counts::now(3);
        let boxes: Vec<Box<u64>> = (0..10).map(Box::new).collect();
        let counts = Counts::now(5).since(before);
        assert!(counts.allocations >= 11, "{counts:?}");
        assert_eq!(counts.enters, 2);
        drop(boxes);
    }
}
