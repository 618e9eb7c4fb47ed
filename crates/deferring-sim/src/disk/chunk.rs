//! 4096 bytes of a file: what they are now, and what the disk has of them.
//!
//! A disk writes sectors of 512 bytes, each whole or not at all, in any order. So a chunk keeps,
//! of each sector that changed since the last sync, what the disk has. What was written in between
//! is gone: at a power cut a sector is what it was or what it is. After a sync that failed, it is what
//! it was, until it is written again.
//!
//! Not: where a chunk is in its file, nor how long the file is (`content.rs`).

pub(super) const CHUNK: u64 = 4096;
pub(super) const SECTOR: u64 = 512;

const LEN: usize = 4096;
const SECTOR_LEN: usize = 512;
const ALL: u8 = 0xff;

const _: () = assert!(LEN / SECTOR_LEN == u8::BITS as usize, "one bit for each sector");

type Page = [u8; LEN];

/// A chunk. The default is a hole.
#[derive(Default)]
pub(super) struct Chunk {
    /// The bytes. None: zeros.
    now: Option<Box<Page>>,
    /// What the disk has of the sectors in `kept`; its other bytes mean nothing. None: zeros.
    was: Option<Box<Page>>,
    /// The sectors of which the disk may have something else, one bit each.
    kept: u8,
    /// Those of them that the next sync writes: all, but for what a failed one has given up.
    dirty: u8,
    /// Takes room on the disk: always with bytes, and without them when reserved.
    has_room: bool,
}

impl Chunk {
    pub(super) fn has_room(&self) -> bool {
        self.has_room
    }

    /// Neither the file nor the disk has anything here.
    pub(super) fn is_nothing(&self) -> bool {
        !self.has_room && self.now.is_none() && (self.kept == 0 || self.was.is_none())
    }

    pub(super) fn read(&self, at: usize, buf: &mut [u8]) {
        match &self.now {
            Some(page) => buf.copy_from_slice(&page[at..at + buf.len()]),
            None => buf.fill(0),
        }
    }

    /// Tells whether there was nothing to sync until now.
    pub(super) fn write(&mut self, at: usize, data: &[u8]) -> bool {
        let first = self.keep(sectors(at, at + data.len()));
        self.has_room = true;
        self.now.get_or_insert_with(zeros)[at..at + data.len()].copy_from_slice(data);
        first
    }

    /// Makes zeros of a range. Tells whether there was nothing to sync until now.
    pub(super) fn zero(&mut self, from: usize, to: usize) -> bool {
        if self.now.is_none() || from == to {
            return false;
        }
        if from == 0 && to == LEN && self.kept == 0 {
            self.was = self.now.take();
            (self.kept, self.dirty) = (ALL, ALL);
            return true;
        }
        let first = self.keep(sectors(from, to));
        if from == 0 && to == LEN {
            self.now = None;
        } else if let Some(page) = &mut self.now {
            page[from..to].fill(0);
        }
        first
    }

    /// Takes room without bytes.
    pub(super) fn reserve(&mut self) {
        self.has_room = true;
    }

    /// Becomes a hole. Tells whether there was nothing to sync until now.
    pub(super) fn punch(&mut self) -> bool {
        self.has_room = false;
        self.zero(0, LEN)
    }

    /// The disk has what the file has, but for what was given up.
    pub(super) fn sync(&mut self) {
        self.kept &= !self.dirty;
        self.dirty = 0;
    }

    /// The disk could not be written, and what was to be written is given up. Tells how many sectors
    /// that were. Not a hole: it is a matter of the file system's journal.
    pub(super) fn give_up(&mut self) -> u32 {
        if self.now.is_none() {
            return 0;
        }
        std::mem::take(&mut self.dirty).count_ones()
    }

    /// Whether there is something to sync.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty != 0
    }

    /// The disk has zeros from here on, where what it has differs from the file.
    pub(super) fn cut(&mut self, from: usize) {
        if let Some(page) = &mut self.was {
            page[from..].fill(0);
        }
    }

    /// The sectors of which the disk may have something else, and whether the next sync writes them.
    pub(super) fn unsynced(&self) -> impl Iterator<Item = (usize, bool)> + use<> {
        let (kept, dirty) = (self.kept, self.dirty);
        let unsynced = (0..LEN / SECTOR_LEN).filter(move |sector| kept & (1 << sector) != 0);
        unsynced.map(move |sector| (sector, dirty & (1 << sector) != 0))
    }

    /// The file has of this sector what the disk has. Tells how many bytes before `end` change.
    pub(super) fn fall_back(&mut self, sector: usize, end: usize) -> u64 {
        assert!(self.kept & (1 << sector) != 0, "the disk has the sector as it is");
        let range = sector * SECTOR_LEN..(sector + 1) * SECTOR_LEN;
        let was = match &self.was {
            Some(page) => &page[range.clone()],
            None => &[0; SECTOR_LEN][..],
        };
        let counted = end.saturating_sub(range.start);
        let now = &mut self.now.get_or_insert_with(zeros)[range];
        let changed = now.iter().zip(was).take(counted).filter(|(now, was)| now != was).count();
        now.copy_from_slice(was);
        changed as u64
    }

    /// After a power cut: what the file has is what the disk has.
    pub(super) fn settle(&mut self) {
        (self.kept, self.dirty) = (0, 0);
        self.was = None;
        if self.is_zero() {
            self.now = None;
        }
        self.has_room |= self.now.is_some();
    }

    pub(super) fn is_zero(&self) -> bool {
        self.words().all(|word| word == 0)
    }

    /// The bytes, eight by eight; none of a hole.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let bytes = self.now.iter().flat_map(|page| page.chunks_exact(8));
        bytes.map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
    }

    /// Keeps what the disk has of these sectors, before they change. Tells whether there was nothing
    /// to sync.
    fn keep(&mut self, sectors: u8) -> bool {
        let (fresh, was_clean) = (sectors & !self.kept, self.dirty == 0);
        self.kept |= sectors;
        self.dirty |= sectors;
        if fresh != 0 && (self.now.is_some() || self.was.is_some()) {
            let was = self.was.get_or_insert_with(zeros);
            for sector in (0..LEN / SECTOR_LEN).filter(|sector| fresh & (1 << sector) != 0) {
                let range = sector * SECTOR_LEN..(sector + 1) * SECTOR_LEN;
                match &self.now {
                    Some(now) => was[range.clone()].copy_from_slice(&now[range]),
                    None => was[range].fill(0),
                }
            }
        }
        was_clean
    }
}

fn zeros() -> Box<Page> {
    Box::new([0; LEN])
}

/// The sectors that a range touches, one bit each.
fn sectors(from: usize, to: usize) -> u8 {
    debug_assert!(from < to && to <= LEN, "a range in a chunk, not empty");
    (ALL << (from / SECTOR_LEN)) & (ALL >> (7 - (to - 1) / SECTOR_LEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_touches_the_sectors_that_it_has_bytes_of() {
        assert_eq!(sectors(0, 1), 1);
        assert_eq!(sectors(511, 513), 0b11);
        assert_eq!(sectors(512, 1024), 0b10);
        assert_eq!(sectors(0, LEN), ALL);
    }

    #[test]
    fn a_sector_falls_back_to_what_was_synced_and_not_to_what_came_between() {
        let mut chunk = Chunk::default();
        assert!(chunk.write(0, b"synced"));
        chunk.sync();
        assert!(chunk.write(0, b"second"));
        assert!(!chunk.write(0, b"third."));
        chunk.write(600, b"beyond");
        assert_eq!(chunk.fall_back(0, 4), 4);
        let mut buf = [0; 6];
        chunk.read(0, &mut buf);
        assert_eq!(&buf, b"synced");
        chunk.read(600, &mut buf);
        assert_eq!(&buf, b"beyond");
    }

    #[test]
    fn what_a_failed_sync_gave_up_is_not_on_the_disk_until_it_is_written_again() {
        let mut chunk = Chunk::default();
        chunk.write(0, &[1; LEN]);
        chunk.sync();
        chunk.write(0, &[2; 1024]);
        assert_eq!(chunk.give_up(), 2);
        chunk.sync();
        assert!(chunk.write(600, b"again"), "nothing was to be synced");
        chunk.sync();
        assert_eq!(chunk.unsynced().collect::<Vec<_>>(), [(0, false)]);
        assert_eq!(chunk.fall_back(0, LEN), 512);
        let mut buf = [0; 1024];
        chunk.read(0, &mut buf);
        assert!(buf[..512] == [1; 512] && buf[512] == 2 && buf[600..605] == *b"again");
    }

    #[test]
    fn a_sector_of_a_hole_falls_back_to_zeros_whatever_the_chunk_kept_before() {
        let mut chunk = Chunk::default();
        chunk.write(0, &[7; LEN]);
        chunk.sync();
        chunk.punch();
        chunk.sync();
        chunk.write(0, b"new");
        chunk.fall_back(0, LEN);
        assert!(chunk.is_zero());
    }
}
