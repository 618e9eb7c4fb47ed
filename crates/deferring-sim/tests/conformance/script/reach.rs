//! Where ops reach, and how far: paths, offsets, lengths.
//!
//! Not: which ops (`draw.rs`).

use deferring::CURRENT;

use super::draw::Lot;
use super::{FILES, ROOM, Slot};

/// The largest file of ext4.
const SIZE_MAX: u64 = (u32::MAX as u64) * 4096;

impl Lot<'_> {
    pub(super) fn place(&mut self) -> (Slot, String) {
        let from = if self.one_in(3) { self.rng.usize(FILES) } else { ROOM };
        let path = match self.rng.u16(..200) {
            0 => String::new(),
            1 => "x".repeat(self.rng.usize(254..257)),
            2 => "./".repeat(2048)[..self.rng.usize(4094..4097)].into(),
            _ => self.path(from == ROOM),
        };
        (from, path)
    }

    fn path(&mut self, may_leave: bool) -> String {
        let mut left = if may_leave { 2 } else { 0 };
        let parts: Vec<&str> = (0..self.of(&[1, 1, 1, 1, 2, 2, 3]))
            .map(|_| match self.rng.u8(..20) {
                0 => ".",
                1 | 2 if left > 0 => {
                    left -= 1;
                    ".."
                }
                _ if self.fifo && self.rng.u8(..8) == 0 => "f",
                _ => self.of(&["a", "b", "c", "d"]),
            })
            .collect();
        let slash = if self.one_in(12) { "/" } else { "" };
        let between = if self.one_in(12) { "//" } else { "/" };
        parts.join(between) + slash
    }

    pub(super) fn target(&mut self) -> String {
        match self.rng.u16(..60) {
            0 => String::new(),
            1 => "x".repeat(4096),
            _ => self.path(false),
        }
    }

    pub(super) fn len(&mut self) -> usize {
        if self.one_in(12) { 0 } else { self.of(&[1, 2, 100, 511, 4096, 5000, 9000]) }
    }

    pub(super) fn lens(&mut self) -> Vec<usize> {
        match self.rng.u8(..20) {
            0 => Vec::new(),
            1 => vec![1; 1025],
            _ => (0..self.rng.usize(1..5)).map(|_| self.len()).collect(),
        }
    }

    pub(super) fn offset_of_transfer(&mut self) -> u64 {
        if self.one_in(4) { CURRENT } else { self.offset() }
    }

    pub(super) fn offset(&mut self) -> u64 {
        match self.rng.u8(..20) {
            0 => self.of(&[1 << 63, u64::MAX - 1]),
            1 if self.form.ext4 && self.one_in(4) => i64::MAX as u64,
            1 if self.form.ext4 => {
                self.of(&[SIZE_MAX - 3, SIZE_MAX, SIZE_MAX + 1, SIZE_MAX - 4096])
            }
            2..8 => self.rng.u64(..6) * 4096,
            8..12 => self.rng.u64(..40) * 512,
            _ => self.rng.u64(..20_000),
        }
    }
}
