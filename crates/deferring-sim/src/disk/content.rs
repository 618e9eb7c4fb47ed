//! The bytes of a file: sparse, and with what the disk has of them.
//!
//! What a power cut may leave: each sector as it was or as it is; the size as it was, as it is, or
//! between; and bytes that the size covers but that were not written, zeros. A truncation is one
//! step: what lay behind its end and what was written there later are never seen together. What a
//! sync has failed to write is lost in any case, unless it was written again; the size is not.
//!
//! Not: names, times and errors (`mod.rs`), nor the sectors of a chunk (`chunk.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use fastrand::Rng;

use super::chunk::{CHUNK, Chunk, SECTOR};
use super::power::Loss;

#[derive(Default)]
pub(super) struct Content {
    chunks: BTreeMap<u64, Chunk>,
    size: u64,
    /// The size that the disk has.
    size_synced: u64,
    /// The least size since the last sync, if it cut off what the disk has.
    cut: Option<u64>,
    /// The chunks that changed since the last sync.
    unsynced: BTreeSet<u64>,
    /// The chunks that had sectors given up by a sync that failed.
    given_up: BTreeSet<u64>,
    /// The chunks that take room.
    room: u64,
}

/// What a power cut did to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Bytes that are not what they were, or not there.
    pub(super) bytes: u64,
    /// Unsynced sectors that fell back, and that survived. Both: the file is torn.
    pub(super) sectors_lost: u64,
    pub(super) sectors_kept: u64,
    pub(super) size_before: u64,
    pub(super) size_after: u64,
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How many chunks take room on the disk.
    pub(super) fn room(&self) -> u64 {
        self.room
    }

    pub(super) fn read(&self, at: u64, buf: &mut [u8]) -> usize {
        let len = buf.len().min(index(self.size.saturating_sub(at)));
        let mut done = 0;
        while done < len {
            let (chunk, offset) = place(at + done as u64);
            let part = &mut buf[done..len.min(done + index(CHUNK) - offset)];
            match self.chunks.get(&chunk) {
                Some(chunk) => chunk.read(offset, part),
                None => part.fill(0),
            }
            done += part.len();
        }
        len
    }

    /// Writes until `free` more chunks are taken. Tells how much.
    pub(super) fn write(&mut self, at: u64, data: &[u8], free: u64) -> usize {
        let room_max = self.room + free;
        let mut done = 0;
        while done < data.len() {
            let (number, offset) = place(at + done as u64);
            let part = &data[done..data.len().min(done + index(CHUNK) - offset)];
            if self.room == room_max && !self.chunks.get(&number).is_some_and(Chunk::has_room) {
                break;
            }
            let chunk = self.chunks.entry(number).or_default();
            self.room += u64::from(!chunk.has_room());
            if chunk.write(offset, part) {
                self.unsynced.insert(number);
            }
            done += part.len();
        }
        if done > 0 {
            self.size = self.size.max(at + done as u64);
        }
        done
    }

    pub(super) fn truncate(&mut self, len: u64) {
        if len <= self.size {
            self.zero(len, len.next_multiple_of(CHUNK));
            self.punch_chunks(len.div_ceil(CHUNK), u64::MAX);
            if len < self.size_synced {
                self.cut = Some(self.cut.map_or(len, |cut| cut.min(len)));
            }
        }
        self.size = len;
    }

    /// Grows to at least this size.
    pub(super) fn grow(&mut self, len: u64) {
        self.size = self.size.max(len);
    }

    /// Takes room for a range, if `free` chunks are enough for it. Tells whether they are.
    pub(super) fn reserve(&mut self, from: u64, to: u64, free: u64) -> bool {
        let (first, end) = (from / CHUNK, to.div_ceil(CHUNK));
        let there = self.chunks.range(first..end).filter(|(_, chunk)| chunk.has_room()).count();
        let missing = end - first - there as u64;
        if missing > free {
            return false;
        }
        for number in first..end {
            self.chunks.entry(number).or_default().reserve();
        }
        self.room += missing;
        true
    }

    /// Makes zeros of a range; what takes room goes on taking it.
    pub(super) fn zero(&mut self, from: u64, to: u64) {
        for (&number, chunk) in self.chunks.range_mut(from / CHUNK..to.div_ceil(CHUNK)) {
            let start = number * CHUNK;
            let part = (from.max(start) - start, to.min(start + CHUNK) - start);
            if chunk.zero(index(part.0), index(part.1)) {
                self.unsynced.insert(number);
            }
        }
    }

    /// Makes zeros of a range, and gives back the room of whole chunks.
    pub(super) fn punch(&mut self, from: u64, to: u64) {
        let (first, end) = (from.div_ceil(CHUNK), to / CHUNK);
        self.punch_chunks(first, end);
        self.zero(from, to);
    }

    fn punch_chunks(&mut self, first: u64, end: u64) {
        if first >= end {
            return;
        }
        let mut nothing = Vec::new();
        for (&number, chunk) in self.chunks.range_mut(first..end) {
            self.room -= u64::from(chunk.has_room());
            if chunk.punch() {
                self.unsynced.insert(number);
            }
            if chunk.is_nothing() {
                nothing.push(number);
            }
        }
        for number in nothing {
            self.chunks.remove(&number);
            self.unsynced.remove(&number);
            self.given_up.remove(&number);
        }
    }

    /// The disk has all of it, but for what was given up.
    pub(super) fn sync(&mut self) {
        while let Some(number) = self.unsynced.pop_first() {
            self.sync_chunk(number);
        }
        self.size_synced = self.size;
        if let Some(cut) = self.cut.take().filter(|_| !self.given_up.is_empty()) {
            self.cut_what_was(cut);
        }
    }

    /// The disk could not be written. As in Linux the bytes are taken for written all the same: they
    /// are read, and not written again. Tells how many sectors that are.
    pub(super) fn fail_sync(&mut self) -> u32 {
        let mut sectors = 0;
        for number in mem::take(&mut self.unsynced) {
            let chunk = self.chunks.get_mut(&number).expect("an unsynced chunk is there");
            sectors += chunk.give_up();
            // Holes are still to be synced.
            let to = if chunk.is_dirty() { &mut self.unsynced } else { &mut self.given_up };
            to.insert(number);
        }
        sectors
    }

    /// The disk has some of it, as when the kernel writes back on its own.
    pub(super) fn write_back(&mut self, rng: &mut Rng) {
        if let Some(cut) = self.cut.take() {
            self.cut_what_was(cut);
            self.size_synced = cut;
        }
        let unsynced: Vec<u64> = self.unsynced.iter().copied().collect();
        for number in unsynced.into_iter().filter(|_| rng.bool()) {
            self.unsynced.remove(&number);
            self.sync_chunk(number);
        }
        if rng.bool() {
            self.size_synced = self.size;
        }
    }

    /// Becomes what a machine finds after a power cut.
    pub(super) fn lose(&mut self, rng: &mut Rng, loss: Loss) -> Lost {
        let mut lost = Lost { size_before: self.size, size_after: self.size, ..Default::default() };
        let (size, cut_survives, eighths) = match loss {
            Loss::Nothing => (self.size, true, 8),
            Loss::Everything => (self.size_synced, false, 0),
            Loss::Torn => self.draw(rng),
        };
        // Sectors from here on were written after a truncation that is lost.
        let end = if cut_survives { u64::MAX } else { self.cut.unwrap_or(u64::MAX) };
        if let Some(cut) = self.cut.take_if(|_| cut_survives) {
            self.cut_what_was(cut);
        }
        let mut unsynced = mem::take(&mut self.unsynced);
        unsynced.append(&mut self.given_up);
        for number in unsynced {
            let chunk = self.chunks.get_mut(&number).expect("an unsynced chunk is there");
            let counted = index(size.min(self.size).saturating_sub(number * CHUNK));
            for (sector, is_dirty) in chunk.unsynced() {
                let start = number * CHUNK + sector as u64 * SECTOR;
                if is_dirty && start < end && rng.u8(0..8) < eighths {
                    lost.sectors_kept += 1;
                } else {
                    lost.sectors_lost += 1;
                    lost.bytes += chunk.fall_back(sector, counted);
                }
            }
            chunk.settle();
        }
        lost.bytes += self.size.saturating_sub(size);
        lost.size_after = size;
        self.settle(size);
        lost
    }

    /// Of a torn loss: the size, whether a truncation survives, and how likely a sector does.
    fn draw(&self, rng: &mut Rng) -> (u64, bool, u8) {
        let eighths = rng.u8(0..=8);
        let cut_survives = rng.bool();
        let from = match (self.cut, cut_survives) {
            (Some(_), false) => return (self.size_synced, false, eighths),
            (Some(cut), true) => cut,
            (None, _) => self.size_synced,
        };
        let size = match rng.u8(0..4) {
            0 => from,
            1 => rng.u64(from..=self.size),
            _ => self.size,
        };
        (size, cut_survives, eighths)
    }

    fn settle(&mut self, size: u64) {
        self.size = size;
        self.zero(size, size.next_multiple_of(CHUNK));
        for (_, chunk) in self.chunks.range_mut(size.div_ceil(CHUNK)..) {
            chunk.punch();
        }
        self.chunks.retain(|_, chunk| {
            chunk.settle();
            !chunk.is_nothing()
        });
        self.room = self.chunks.values().filter(|chunk| chunk.has_room()).count() as u64;
        self.unsynced.clear();
        self.size_synced = size;
    }

    fn sync_chunk(&mut self, number: u64) {
        let chunk = self.chunks.get_mut(&number).expect("an unsynced chunk is there");
        chunk.sync();
        if chunk.is_nothing() {
            self.chunks.remove(&number);
            self.given_up.remove(&number);
        }
    }

    /// The disk has zeros from here on, where what it has differs from the file.
    fn cut_what_was(&mut self, cut: u64) {
        for (&number, chunk) in self.chunks.range_mut(cut / CHUNK..) {
            chunk.cut(index(cut.saturating_sub(number * CHUNK)));
        }
    }

    /// The chunks that are not all zeros, in order: where, and the words.
    pub(super) fn words(&self) -> impl Iterator<Item = (u64, impl Iterator<Item = u64> + '_)> {
        let chunks = self.chunks.iter().filter(|(_, chunk)| !chunk.is_zero());
        chunks.map(|(&number, chunk)| (number, chunk.words()))
    }
}

/// The chunk of an offset, and the offset in it.
fn place(at: u64) -> (u64, usize) {
    (at / CHUNK, index(at % CHUNK))
}

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
