//! Stories of the disk as a whole.
//!
//! Not: those of a part of it, which are beside the part.

mod against_linux;
mod cost;
mod power;
mod replay;
mod room;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Result;

use super::{Disk, InodeId, ROOT};

/// Opens by a path from the root.
fn open(disk: &mut Disk, path: &str, flags: OFlags) -> Result<InodeId> {
    let makes = flags.contains(OFlags::CREATE);
    let mode = if makes { Mode::RUSR | Mode::WUSR } else { Mode::empty() };
    disk.open(ROOT, path.as_bytes(), flags, mode, ResolveFlags::empty())
}

/// A file that is not there yet.
fn create(disk: &mut Disk, path: &str) -> InodeId {
    open(disk, path, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR).unwrap()
}

/// All bytes of a file.
fn bytes(disk: &Disk, id: InodeId) -> Vec<u8> {
    let mut buf = vec![0xee; usize::try_from(disk.size(id)).unwrap()];
    assert_eq!(disk.read(id, 0, &mut buf), Ok(buf.len()));
    buf
}
