//! Memory shared with the kernel, and the mark that tells a forked child from its parent.
//!
//! The only code that maps. What lies where in it is known to `setup.rs`.
#![allow(unsafe_code)] // Maps memory.

use std::ptr::{NonNull, null_mut};
use std::sync::OnceLock;

use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use crate::sync::Ordering;
use crate::sync::plain::AtomicU32;

/// A mapping, gone from a forked child, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Map {
    start: NonNull<u8>,
    len: usize,
    mark: ForkMark,
}

// SAFETY: a mapping belongs to the process, not to a thread; who may touch what in it is settled
// by the types that are given addresses into it.
unsafe impl Send for Map {}
// SAFETY: as above; `Map` itself only hands out addresses.
unsafe impl Sync for Map {}

impl Map {
    /// Maps a part of a ring.
    pub(super) fn of_ring(fd: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self, Errno> {
        let mark = ForkMark::of_this_process()?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours.
        let start = unsafe { mmap(null_mut(), len, protection, flags, fd, offset)? };
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        let map = Self { start, len, mark };
        // A child must not eat the parent's completions.
        // SAFETY: our own mapping; the advice changes nothing for this process.
        unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxDontFork)? };
        Ok(map)
    }

    /// The address `offset` bytes in, of something of `T`'s size.
    pub(super) fn at<T>(&self, offset: u32, count: usize) -> *mut T {
        let offset = offset as usize;
        assert!(offset + count * size_of::<T>() <= self.len, "beyond the mapping");
        // SAFETY: checked to be in bounds just now.
        let pointer = unsafe { self.start.as_ptr().add(offset) }.cast::<T>();
        assert!(pointer.is_aligned());
        pointer
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // In a forked child there is nothing here any more, or something else.
        if self.mark.is_this_process() {
            // SAFETY: mapped by `of_ring`, and the ends that have addresses into it hold it alive.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

/// Tells, for the price of a load, whether we are still in the process that made this (P9).
///
/// One page for the process holds a number, and the kernel wipes it in a child
/// (`MADV_WIPEONFORK`, since 4.14). A child that makes rings of its own writes a new number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForkMark {
    page: &'static AtomicU32,
    number: u32,
}

static NUMBERS: AtomicU32 = AtomicU32::new(0);

impl ForkMark {
    pub(crate) fn of_this_process() -> Result<Self, Errno> {
        static PAGE: OnceLock<&'static AtomicU32> = OnceLock::new();
        let page = match PAGE.get() {
            Some(page) => page,
            // Two threads at once make two; the second is unused, and small.
            None => {
                let new = new_page()?;
                PAGE.get_or_init(|| new)
            }
        };
        let number = match page.load(Ordering::Relaxed) {
            // `NUMBERS` is copied to a child, so that a child's number is never its parent's.
            0 => {
                let number = NUMBERS.fetch_add(1, Ordering::Relaxed) + 1;
                match page.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => number,
                    Err(others) => others,
                }
            }
            number => number,
        };
        Ok(Self { page, number })
    }

    #[inline]
    pub(crate) fn is_this_process(self) -> bool {
        self.page.load(Ordering::Relaxed) == self.number
    }
}

fn new_page() -> Result<&'static AtomicU32, Errno> {
    // The kernel rounds up to its own page. (Asking rustix for that size fails under valgrind.)
    let len = 4096;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours.
    let page = unsafe { mmap_anonymous(null_mut(), len, protection, MapFlags::PRIVATE)? };
    // SAFETY: our own mapping of one page, zeroed, never unmapped, and only used as this atomic.
    unsafe {
        madvise(page, len, Advice::LinuxWipeOnFork)?;
        Ok(AtomicU32::from_ptr(page.cast()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_one_for_the_process() {
        let (one, two) =
            (ForkMark::of_this_process().unwrap(), ForkMark::of_this_process().unwrap());
        assert!(one.is_this_process() && two.is_this_process());
        assert_eq!(one.number, two.number);
    }
}
