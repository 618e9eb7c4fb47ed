//! The memory that data passes through: bounded by construction, and used again.
//!
//! Each file in flight can have one buffer at any time, so that nobody waits for one; what is left
//! is extra, for more blocks of large files. Not: what is in flight (`schedule.rs`).

use std::cell::{Cell, RefCell};

/// All buffers together. The rest of the process is small: see the test of its memory.
const BUDGET: usize = 32 << 20;
/// Large enough to make a call cheap, small enough for the cache of a core.
const BLOCK_MAX: usize = 256 << 10;
/// With the most jobs that can be asked for.
const BLOCK_MIN: usize = BUDGET / 2 / 1024;
const _: () = assert!(BLOCK_MIN >= 4096 && BLOCK_MIN <= BLOCK_MAX);

pub(super) struct Buffers {
    block: usize,
    /// Last in, first out: small files use the same few, which are in the cache.
    free: RefCell<Vec<Vec<u8>>>,
    extras_left: Cell<usize>,
}

/// A buffer in use. Dropped, it is free again.
pub(super) struct Held<'a> {
    buffers: &'a Buffers,
    /// None while an op has it.
    buf: Option<Vec<u8>>,
    is_extra: bool,
}

impl Buffers {
    /// Half of the budget is one buffer for each job, the rest is extra.
    pub(super) fn for_jobs(jobs: u16) -> Self {
        let jobs = usize::from(jobs.max(1));
        let block = (BUDGET / 2 / jobs).clamp(BLOCK_MIN, BLOCK_MAX);
        let extras = BUDGET / block - jobs;
        Self { block, free: RefCell::default(), extras_left: Cell::new(extras) }
    }

    /// The capacity of each buffer, in bytes.
    pub(super) const fn block(&self) -> usize {
        self.block
    }

    /// The one buffer that a file can have at any time.
    pub(super) fn own(&self) -> Held<'_> {
        self.hold(false)
    }

    /// A file's own buffer and as many extra ones as there are, up to `most` in all.
    pub(super) fn lanes(&self, most: usize) -> Vec<Held<'_>> {
        let extras = self.extras_left.get().min(most - 1);
        self.extras_left.set(self.extras_left.get() - extras);
        let extra = std::iter::repeat_with(|| self.hold(true)).take(extras);
        std::iter::once(self.own()).chain(extra).collect()
    }

    fn hold(&self, is_extra: bool) -> Held<'_> {
        let free = self.free.borrow_mut().pop();
        let buf = free.unwrap_or_else(|| Vec::with_capacity(self.block));
        Held { buffers: self, buf: Some(buf), is_extra }
    }
}

impl Held<'_> {
    /// For an op, which gives it back.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.buf.take().expect("an op has it")
    }

    pub(super) fn put(&mut self, buf: Vec<u8>) {
        self.buf = Some(buf);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // A buffer that an interrupted op has is not ours any more; the kernel is done with it
        // soon.
        self.buffers.free.borrow_mut().extend(self.buf.take());
        let extras_left = &self.buffers.extras_left;
        extras_left.set(extras_left.get() + usize::from(self.is_extra));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_buffers_together_stay_within_the_budget() {
        for jobs in [1, 2, 63, 64, 65, 1000, 1024] {
            let buffers = Buffers::for_jobs(jobs);
            let held: Vec<_> = (0..jobs).flat_map(|_| buffers.lanes(8)).collect();
            let capacities = held.iter().filter_map(|held| held.buf.as_ref()).map(Vec::capacity);
            let all: usize = capacities.sum();
            assert!(all <= BUDGET, "{jobs} jobs use {all}");
            assert!(held.len() >= usize::from(jobs));
        }
    }

    #[test]
    fn a_large_file_has_several_buffers_and_gives_them_back() {
        let buffers = Buffers::for_jobs(64);
        for _ in 0..100 {
            assert_eq!(buffers.lanes(8).len(), 8);
        }
        assert_eq!(buffers.free.borrow().len(), 8, "used again");
    }
}
