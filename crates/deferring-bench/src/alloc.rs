//! The program's allocator: the system's, which counts while it is told to, and gives whole pages
//! at their borders, so that any `Vec` of a page can be read into past the page cache (`O_DIRECT`).
//!
//! Not: whose allocations they are. What is counted is the whole process.
#![allow(unsafe_code)] // An allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::file::BLOCK;

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// How many allocations were made, and how many grew or shrank, while something ran.
pub(crate) fn counted<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let before = COUNT.load(Ordering::Relaxed);
    COUNTS.store(true, Ordering::Relaxed);
    let value = run();
    COUNTS.store(false, Ordering::Relaxed);
    (value, COUNT.load(Ordering::Relaxed) - before)
}

/// A flag that is read costs nothing that could be seen; a counter that all threads write would.
fn count() {
    if COUNTS.load(Ordering::Relaxed) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the system is asked for: the same for the same layout, at all times.
fn paged(layout: Layout) -> Layout {
    match layout.size() >= BLOCK && layout.size() % BLOCK == 0 {
        true => layout.align_to(BLOCK).unwrap_or(layout),
        false => layout,
    }
}

// SAFETY: the system's allocator, asked for the same size and for at least the alignment; `dealloc`
// asks by the layout that `alloc` asked by, since `paged` depends on the layout alone.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as our caller promises.
        unsafe { System.alloc(paged(layout)) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as our caller promises, with the layout it was allocated by.
        unsafe { System.dealloc(ptr, paged(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as our caller promises.
        unsafe { System.alloc_zeroed(paged(layout)) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        // SAFETY: as our caller promises, `new` is no size that would overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(new, layout.align()) };
        if paged(layout) == layout && paged(wanted) == wanted {
            count();
            // SAFETY: as our caller promises, by the layout that it was allocated by.
            return unsafe { System.realloc(ptr, layout, new) };
        }
        // SAFETY: a size of our caller's; it counts.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: both are as large as that, and not the same.
            unsafe { ptr.copy_to_nonoverlapping(moved, layout.size().min(new)) };
            // SAFETY: as our caller promises, it was allocated by this.
            unsafe { self.dealloc(ptr, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_begin_at_their_borders_and_vectors_keep_what_they_hold() {
        let mut grows: Vec<u8> = Vec::new();
        for byte in 0..20_000_u32 {
            grows.push(u8::try_from(byte % 251).unwrap());
        }
        assert!(grows.iter().zip((0..251_u8).cycle()).all(|(is, was)| *is == was));
        grows.truncate(100);
        grows.shrink_to_fit();
        assert_eq!(grows[99], 99);
        for pages in 1..5 {
            let pages = vec![0_u8; pages * BLOCK];
            assert_eq!(pages.as_ptr().addr() % BLOCK, 0);
        }
    }

    #[test]
    fn allocations_are_counted_while_asked() {
        // Of the whole process, so that other tests may add to it.
        let (_, count) = counted(|| (0..100).map(Box::new).collect::<Vec<_>>());
        assert!(count >= 100, "{count}");
    }
}
