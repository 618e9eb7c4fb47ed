//! Reads, writes and syncs of files.
//!
//! Not: pipes and sockets (`pipes.rs`).

use deferring::CURRENT;
use deferring::op::Sqe;
use rustix::io::Errno;

use super::World;
use super::calls::done;
use super::files::Kind;
use super::memory::Parts;
use crate::faults::Fault;

impl World {
    /// How much of a transfer is made.
    pub(super) fn part_of(&mut self, len: usize) -> usize {
        // No call on Linux transfers more.
        const MOST: usize = 0x7fff_f000;
        let len = len.min(MOST);
        if len > 0 && self.strikes(Fault::ZeroTransfer) {
            return 0;
        }
        if len > 1 && self.strikes(Fault::ShortTransfer) {
            1 + self.rng.usize(..len - 1)
        } else {
            len
        }
    }

    pub(super) fn read(&mut self, sqe: &Sqe) -> Result<i32, Errno> {
        let (inode, at) = match self.files.get_open(sqe.fd)? {
            Kind::File { inode, at, readable: true, .. } => (inode, at),
            Kind::Directory { .. } => {
                // Linux asks no directory for nothing.
                let len = Parts::of(sqe)?.len();
                position(sqe, 0, len)?;
                return if len == 0 { Ok(0) } else { Err(Errno::ISDIR) };
            }
            Kind::File { .. } | Kind::Name { .. } | Kind::Stream { .. } => {
                return Err(Errno::BADF);
            }
        };
        read_flags(sqe)?;
        let parts = Parts::of(sqe)?;
        let start = position(sqe, at, parts.len())?;
        let left = self.disk.size(inode).saturating_sub(start);
        let len = parts.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let len = self.part_of(len);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(len, 0);
        let n = self.disk.read(inode, start, &mut scratch);
        let put = n.and_then(|n| parts.put(&scratch[..n]).map(|()| n));
        self.scratch = scratch;
        let n = put?;
        if sqe.off == CURRENT {
            self.files.move_to(sqe.fd, start + n as u64);
        }
        count(n)
    }

    pub(super) fn write(&mut self, sqe: &Sqe) -> Result<i32, Errno> {
        const SYNC: u32 = 2 | 4;
        const APPEND: u32 = 16;
        let Kind::File { inode, at, writable: true, append, synced, .. } =
            self.files.get(sqe.fd)?
        else {
            return Err(Errno::BADF);
        };
        let flags = read_flags(sqe)?;
        let parts = Parts::of(sqe)?;
        let asked = position(sqe, at, parts.len())?;
        let append = (append || flags & APPEND != 0) && parts.len() > 0;
        let start = if append { self.disk.size(inode) } else { asked };
        let most = self.part_of(parts.len());
        let mut end = start;
        let disk = &mut self.disk;
        let n = parts.take(most, |bytes| {
            let n = match append {
                true => disk.append(inode, bytes)?,
                false => disk.write(inode, end, bytes)?,
            };
            end += n as u64;
            Ok(n)
        })?;
        // Linux syncs after what was written, if anything was.
        if n > 0 && (synced || flags & SYNC != 0) {
            self.disk.sync(inode, true)?;
        }
        if sqe.off == CURRENT {
            self.files.move_to(sqe.fd, end);
        }
        count(n)
    }

    pub(super) fn fsync(&mut self, sqe: &Sqe) -> Result<i32, Errno> {
        const DATASYNC: u32 = 1;
        if sqe.op_flags > DATASYNC {
            return Err(Errno::INVAL);
        }
        match self.files.get_open(sqe.fd)? {
            Kind::File { inode, .. } | Kind::Directory { inode } => {
                done(self.disk.sync(inode, sqe.op_flags == DATASYNC))
            }
            Kind::Stream { .. } | Kind::Name { .. } => Err(Errno::INVAL),
        }
    }
}

pub(super) fn count(n: usize) -> Result<i32, Errno> {
    i32::try_from(n).map_err(|_| Errno::INVAL)
}

/// Where a transfer of so many bytes begins. Offsets are signed in the kernel.
pub(super) fn position(sqe: &Sqe, at: u64, len: usize) -> Result<u64, Errno> {
    let from = if sqe.off == CURRENT { at } else { sqe.off };
    let to = from.checked_add(len as u64).filter(|&to| i64::try_from(to).is_ok());
    to.map(|_| from).ok_or(Errno::INVAL)
}

/// `RWF_*`, as far as they are known.
fn read_flags(sqe: &Sqe) -> Result<u32, Errno> {
    const KNOWN: u32 = 0x1f;
    if sqe.op_flags & !KNOWN == 0 { Ok(sqe.op_flags) } else { Err(Errno::OPNOTSUPP) }
}
