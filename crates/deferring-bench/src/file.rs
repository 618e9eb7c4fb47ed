//! The file that is read: all of it in the page cache, and each block known by what it holds.
//!
//! Not: who reads it.

use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tempfile::NamedTempFile;

/// How much is read at once.
pub(crate) const BLOCK: usize = 4096;

pub(crate) struct Cached {
    file: NamedTempFile,
    blocks: usize,
}

impl Cached {
    /// Writes a file of so many MiB, which goes when this does.
    pub(crate) fn make(dir: &Path, mib: usize) -> anyhow::Result<Self> {
        let mut file = tempfile::Builder::new()
            .prefix("deferring-bench-")
            .tempfile_in(dir)
            .with_context(|| format!("making a file in {}", dir.display()))?;
        let mut piece: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
        for mib in 0..mib as u64 {
            for (at, block) in (0..).zip(piece.chunks_exact_mut(BLOCK)) {
                stamp(block, (mib << 20) + at * BLOCK as u64);
            }
            file.write_all(&piece).context("filling the file")?;
        }
        // What is still to be written would be written while we measure.
        file.as_file().sync_all().context("fsync")?;
        Ok(Self { file, blocks: mib * (1 << 20) / BLOCK })
    }

    /// One more descriptor of it, with a position of its own.
    pub(crate) fn open(&self) -> anyhow::Result<File> {
        File::open(self.file.path()).context("opening the file again")
    }

    pub(crate) fn shared(&self) -> anyhow::Result<Arc<File>> {
        Ok(Arc::new(self.open()?))
    }

    /// As [`open`](Self::open), past the page cache.
    pub(crate) fn open_direct(&self) -> anyhow::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        let file = open(self.file.path(), flags, Mode::empty());
        Ok(file.context("opening the file past the page cache")?.into())
    }

    /// Reads all of it, and then makes sure that all of it is cached: reads that would have to wait
    /// for the disk are refused (`RWF_NOWAIT`), and there are none. That is what `mincore` says, of
    /// a file that is not mapped.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        for _ in 0..3 {
            if self.absent()? == 0 {
                return Ok(());
            }
        }
        ensure!(
            self.absent()? == 0,
            "the file does not stay in the page cache: use a smaller --mib"
        );
        Ok(())
    }

    /// How many blocks were not cached. They are now.
    fn absent(&self) -> anyhow::Result<usize> {
        let (end, mut offset, mut absent) = ((self.blocks * BLOCK) as u64, 0, 0);
        let mut buf = vec![0; 1 << 20];
        while offset < end {
            let file = self.file.as_file();
            let mut bufs = [IoSliceMut::new(&mut buf)];
            match preadv2(file, &mut bufs, offset, ReadWriteFlags::NOWAIT) {
                Ok(n) if n > 0 => offset += n as u64,
                Ok(_) => break,
                Err(Errno::AGAIN) => {
                    file.read_exact_at(&mut buf[..BLOCK], offset).context("reading the file")?;
                    offset += BLOCK as u64;
                    absent += 1;
                }
                Err(errno) => return Err(errno).context("preadv2(RWF_NOWAIT)"),
            }
        }
        Ok(absent)
    }

    /// Offsets at random, the same for the same seed.
    pub(crate) fn offsets(&self, seed: u64) -> Offsets {
        Offsets { draw: Draw::new(seed), blocks: self.blocks }
    }
}

/// Makes a block what it is to be at this offset: its ends say where it lies.
pub(crate) fn stamp(block: &mut [u8], offset: u64) {
    let stamp = mark(offset).to_ne_bytes();
    let end = block.len() - stamp.len();
    block[..stamp.len()].copy_from_slice(&stamp);
    block[end..].copy_from_slice(&stamp);
}

/// Whether a buffer holds the block of this offset. Both ends, and they are spoilt: it has to be
/// read anew to hold it again.
#[inline]
pub(crate) fn take_stamp(block: &mut [u8], offset: u64) -> bool {
    let wanted = mark(offset).to_ne_bytes();
    let end = block.len() - wanted.len();
    let held = block[..wanted.len()] == wanted && block[end..] == wanted;
    block[..wanted.len()].fill(0);
    block[end..].fill(0);
    held
}

/// As [`take_stamp`]; an error says what it was.
#[inline]
pub(crate) fn check(block: &mut [u8], offset: u64) -> std::io::Result<()> {
    match take_stamp(block, offset) {
        true => Ok(()),
        false => Err(std::io::Error::other(format!("what was read is not what lies at {offset}"))),
    }
}

/// Never 0, which is what a spoilt block has.
const fn mark(offset: u64) -> u64 {
    offset.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Where to read next.
#[derive(Clone, Copy)]
pub(crate) struct Offsets {
    draw: Draw,
    blocks: usize,
}

impl Offsets {
    /// The sequence of another seed.
    pub(crate) const fn reseeded(&self, seed: u64) -> Self {
        Self { draw: Draw::new(seed), blocks: self.blocks }
    }

    pub(crate) fn draw(&mut self) -> u64 {
        (self.draw.below(self.blocks) * BLOCK) as u64
    }
}

/// SplitMix64: repeatable, and random enough.
#[derive(Clone, Copy)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let below = (z ^ (z >> 31)) % end as u64;
        usize::try_from(below).expect("below a usize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_just_written_is_cached_and_offsets_are_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let cached = Cached::make(dir.path(), 2).unwrap();
        cached.settle().unwrap();
        assert_eq!(cached.absent().unwrap(), 0);
        let mut offsets = cached.offsets(1);
        let drawn: std::collections::BTreeSet<u64> = (0..10_000).map(|_| offsets.draw()).collect();
        assert_eq!(drawn.len(), 512, "each block");
        assert!(drawn.iter().all(|offset| offset % 4096 == 0 && *offset < 2 << 20));
        for offset in drawn {
            let mut buf = vec![0; BLOCK];
            cached.open().unwrap().read_exact_at(&mut buf, offset).unwrap();
            check(&mut buf, offset).unwrap();
            assert!(check(&mut buf, offset).is_err(), "what was looked at is spoilt");
        }
    }
}
