//! Where a file has data: all of it, or what lies between the holes.
//!
//! There is no ring op for `lseek(2)`: `SEEK_DATA` and `SEEK_HOLE` are plain calls, made only for
//! files that take less room than they are long.

use std::cell::RefCell;
use std::io;
use std::ops::Range;

use deferring::Fd;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

pub(super) struct Extents {
    at: u64,
    size: u64,
    has_holes: bool,
}

impl Extents {
    pub(super) const fn new(size: u64, has_holes: bool) -> Self {
        Self { at: 0, size, has_holes }
    }

    /// The next part that has data, in order; none when there is no more.
    pub(super) fn next(&mut self, file: &Fd) -> io::Result<Option<Range<u64>>> {
        if self.at >= self.size {
            return Ok(None);
        }
        let next = if self.has_holes { self.seek(file)? } else { Some(self.at..self.size) };
        self.at = next.as_ref().map_or(self.size, |extent| extent.end);
        Ok(next)
    }

    fn seek(&self, file: &Fd) -> io::Result<Option<Range<u64>>> {
        let lease = file.lease();
        let file = lease.try_as_fd()?;
        let start = match seek(file, SeekFrom::Data(self.at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // This file system does not tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => self.at,
            Err(errno) => return Err(errno.into()),
        };
        let end = match seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(self.size),
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => self.size,
            Err(errno) => return Err(errno.into()),
        };
        // It may have grown: what is behind the size that we know is not ours here.
        Ok((start < end).then_some(start..end))
    }
}

/// Extents cut into blocks, for several to take from.
pub(super) struct Blocks {
    block: u64,
    rest: RefCell<(Extents, Range<u64>)>,
}

impl Blocks {
    pub(super) const fn new(extents: Extents, block: u64) -> Self {
        Self { block, rest: RefCell::new((extents, 0..0)) }
    }

    /// The next part that fits into a buffer.
    pub(super) fn next(&self, file: &Fd) -> io::Result<Option<Range<u64>>> {
        let (extents, extent) = &mut *self.rest.borrow_mut();
        if extent.is_empty() {
            let Some(next) = extents.next(file)? else { return Ok(None) };
            *extent = next;
        }
        let end = extent.end.min(extent.start + self.block);
        let block = extent.start..end;
        extent.start = end;
        Ok(Some(block))
    }

    /// There are no more, for anybody.
    pub(super) fn stop(&self) {
        *self.rest.borrow_mut() = (Extents::new(0, false), 0..0);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    /// As pairs of start and end.
    fn all(file: &File, size: u64, has_holes: bool) -> Vec<(u64, u64)> {
        let file = Fd::from(file.try_clone().unwrap());
        let mut extents = Extents::new(size, has_holes);
        let next = || extents.next(&file).expect("seeks");
        std::iter::from_fn(next).map(|extent| (extent.start, extent.end)).collect()
    }

    #[test]
    fn data_between_holes_is_found_and_nothing_lost() {
        const MIB: u64 = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"data", 3 * MIB).unwrap();
        file.set_len(5000 * MIB).unwrap();
        let has_holes = file.metadata().unwrap().blocks() * 512 < 5000 * MIB;
        let found = all(&file, 5000 * MIB, true);
        let is_found = |at| found.iter().any(|(start, end)| (*start..*end).contains(&at));
        assert!((3 * MIB..3 * MIB + 4).all(is_found), "{found:?}");
        let copied: u64 = found.iter().map(|(start, end)| end - start).sum();
        assert!(!has_holes || copied <= 2 * MIB, "{found:?}");
    }

    #[test]
    fn a_file_without_holes_is_one_extent() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"data", 0).unwrap();
        assert_eq!(all(&file, 4, false), [(0, 4)]);
        assert_eq!(all(&file, 0, false), []);
        assert_eq!(all(&file, 4, true), [(0, 4)]);
    }

    #[test]
    fn blocks_cover_an_extent_and_stop_when_told() {
        let file = Fd::from(tempfile::tempfile().unwrap());
        let blocks = Blocks::new(Extents::new(10, false), 4);
        let next = || blocks.next(&file).unwrap().map(|block| (block.start, block.end));
        assert_eq!(
            [next(), next(), next(), next()],
            [Some((0, 4)), Some((4, 8)), Some((8, 10)), None]
        );
        let blocks = Blocks::new(Extents::new(10, false), 4);
        blocks.stop();
        assert!(blocks.next(&file).unwrap().is_none());
    }
}
