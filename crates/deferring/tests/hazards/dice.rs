//! Random numbers that can be had again: from `DEFERRING_SEED`, else a new seed for each test.
//!
//! A test that panics says its seed. (Threads and the kernel have dice of their own, so that the
//! same seed asks the same questions, and may see other answers.)

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::thread;

/// A small generator (`SplitMix64`).
pub(crate) struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    pub(crate) fn new() -> Self {
        let given = std::env::var("DEFERRING_SEED").ok();
        let seed = given.map(|seed| seed.parse().expect("DEFERRING_SEED is a number"));
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one("dice") >> 32);
        Self { seed, state: seed }
    }

    /// Other dice of the same seed, for another thread.
    pub(crate) fn for_thread(&self, thread: usize) -> Self {
        let mut apart = Self { seed: self.seed, state: self.seed ^ ((thread as u64 + 1) << 40) };
        apart.next();
        apart
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_ne_bytes()[0]
    }

    /// Passes a little time, not always the same: up to this many turns of an empty loop.
    pub(crate) fn spin(&mut self, most: usize) {
        (0..self.below(most)).for_each(|_| std::hint::spin_loop());
    }
}

impl Drop for Dice {
    fn drop(&mut self) {
        if thread::panicking() {
            let seed = self.seed;
            let _ = writeln!(io::stderr(), "the same dice again: DEFERRING_SEED={seed}");
        }
    }
}
