//! The disk: files in memory, and what a power cut leaves of them.
//!
//! It answers as ext4 does to root, errors too; `tests/against_linux.rs` holds it to that. What
//! lives is in `inode.rs`; what is durable, in `journal.rs` (names) and `content.rs` (bytes).
//! Who opens must `hold` what it got, for as long as its descriptor is open.
//!
//! Not: descriptors, positions, access modes, umask, who waits (the kernel's); clocks and chance,
//! which are handed in. What differs from Linux is said where it is so: "differs from Linux".

mod chunk;
mod content;
mod inode;
mod journal;
mod names;
mod open;
mod paths;
mod power;
mod stat;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, Result};

pub(crate) use inode::{InodeId, Kind, ROOT};
pub use power::Loss;
pub(crate) use stat::Stat;

use chunk::CHUNK;
use inode::{Body, Directory, Inode};
use journal::Journal;

/// The largest size of a file on ext4 with blocks of 4096 bytes.
const SIZE_MAX: u64 = (u32::MAX as u64) * CHUNK;

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

/// The disk's size where none is asked for, in bytes.
const CAPACITY_DEFAULT: u64 = 1 << 30;

pub(crate) struct Disk {
    /// By number. What is gone leaves its place empty.
    inodes: Vec<Option<Box<Inode>>>,
    journal: Journal,
    /// Chunks that files take, without ghosts'.
    used: u64,
    /// Chunks that ghosts take.
    ghosts: u64,
    /// In chunks.
    capacity: u64,
    now: Duration,
}

impl Disk {
    /// One empty directory, and room for 1 GiB.
    pub(crate) fn new() -> Self {
        Self::with_capacity(CAPACITY_DEFAULT)
    }

    /// One empty directory, and room for this many bytes of files; names take none.
    pub(crate) fn with_capacity(bytes: u64) -> Self {
        let mut root = Directory::new(ROOT);
        root.is_linked = true;
        let root = Inode::new(Body::Directory(root), 0o755, Duration::ZERO);
        Disk {
            inodes: vec![None, None, Some(Box::new(root))],
            journal: Journal::default(),
            used: 0,
            ghosts: 0,
            capacity: bytes / CHUNK,
            now: Duration::ZERO,
        }
    }

    /// What files are stamped with from now on.
    pub(crate) fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// One more descriptor is open.
    pub(crate) fn hold(&mut self, id: InodeId) {
        self.inode_mut(id).holds += 1;
    }

    /// One descriptor less is open. The last one frees what has no name.
    pub(crate) fn release(&mut self, id: InodeId) {
        let inode = self.inode_mut(id);
        inode.holds = inode.holds.checked_sub(1).expect("was held");
        self.free_if_gone(id);
    }

    /// Reads. Fewer bytes only at the end of the file.
    pub(crate) fn read(&self, id: InodeId, at: u64, buf: &mut [u8]) -> Result<usize> {
        check_range(at, buf.len())?;
        Ok(self.inode(id).content(Errno::ISDIR, Errno::SPIPE)?.read(at, buf))
    }

    /// Writes. Fewer bytes only where the disk is full, or the file as long as can be.
    pub(crate) fn write(&mut self, id: InodeId, at: u64, data: &[u8]) -> Result<usize> {
        check_range(at, data.len())?;
        let (free, now) = (self.free(), self.now);
        let inode = self.inode_mut(id);
        let content = inode.content_mut(Errno::ISDIR, Errno::SPIPE)?;
        if data.is_empty() {
            return Ok(0);
        }
        let len_max = SIZE_MAX.checked_sub(at).filter(|&len| len > 0).ok_or(Errno::FBIG)?;
        let len = data.len().min(usize::try_from(len_max).unwrap_or(usize::MAX));
        let before = content.room();
        let n = content.write(at, &data[..len], free);
        let taken = content.room() - before;
        if n == 0 {
            return Err(Errno::NOSPC);
        }
        inode.modified(now);
        self.used += taken;
        Ok(n)
    }

    /// Writes at the end. Where that was: the size less what was written.
    pub(crate) fn append(&mut self, id: InodeId, data: &[u8]) -> Result<usize> {
        self.write(id, self.size(id), data)
    }

    /// Sets the size, as `ftruncate` does.
    pub(crate) fn truncate(&mut self, id: InodeId, len: u64) -> Result<()> {
        let now = self.now;
        let inode = self.inode_mut(id);
        let content = inode.content_mut(Errno::INVAL, Errno::INVAL)?;
        if i64::try_from(len).is_err() {
            return Err(Errno::INVAL);
        }
        if len > SIZE_MAX {
            return Err(Errno::FBIG);
        }
        let before = content.room();
        content.truncate(len);
        let given_back = before - content.room();
        inode.modified(now);
        self.used -= given_back;
        Ok(())
    }

    /// Takes room, or makes zeros or holes. Does not collapse and insert: differs from Linux.
    pub(crate) fn fallocate(
        &mut self,
        id: InodeId,
        flags: FallocateFlags,
        from: u64,
        len: u64,
    ) -> Result<()> {
        let keeps_size = flags.contains(FallocateFlags::KEEP_SIZE);
        let zero = flags.contains(FallocateFlags::ZERO_RANGE);
        check_fallocate(flags, from, len)?;
        let (free, now) = (self.free(), self.now);
        let inode = self.inode_mut(id);
        let of_others = if inode.kind() == Kind::Fifo { Errno::SPIPE } else { Errno::NODEV };
        let content = inode.content_mut(Errno::ISDIR, of_others)?;
        let to = from + len;
        if to > SIZE_MAX {
            return Err(Errno::FBIG);
        }
        let before = content.room();
        if flags == PUNCH {
            content.punch(from, to.min(content.size().next_multiple_of(CHUNK)).max(from));
        } else {
            if !content.reserve(from, to, free) {
                return Err(Errno::NOSPC);
            }
            if zero {
                content.zero(from, to);
            }
            if !keeps_size {
                content.grow(to);
            }
        }
        let after = content.room();
        inode.modified(now);
        self.used = self.used + after - before;
        Ok(())
    }

    fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }

    fn inode(&self, id: InodeId) -> &Inode {
        self.find(id).expect("the inode is named or held")
    }

    fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        let place = self.inodes.get_mut(index(id)).and_then(Option::as_deref_mut);
        place.expect("the inode is named or held")
    }

    fn find(&self, id: InodeId) -> Option<&Inode> {
        self.inodes.get(index(id)).and_then(Option::as_deref)
    }

    /// An inode without a name.
    fn add(&mut self, body: Body, mode: u32) -> InodeId {
        self.inodes.push(Some(Box::new(Inode::new(body, mode, self.now))));
        InodeId(self.inodes.len() as u64 - 1)
    }

    /// Frees what is neither named nor held, but for what a power cut may bring back.
    fn free_if_gone(&mut self, id: InodeId) {
        let inode = self.inode_mut(id);
        if inode.nlink() > 0 || inode.holds > 0 {
            return;
        }
        let (room, pinned) = (inode.room(), inode.pins > 0);
        let was_ghost = std::mem::replace(&mut inode.ghost, true);
        if !was_ghost {
            self.used -= room;
            self.ghosts += room;
        }
        if !pinned {
            self.ghosts -= room;
            self.inodes[index(id)] = None;
        }
    }
}

fn index(id: InodeId) -> usize {
    usize::try_from(id.0).expect("numbers count what was made")
}

/// What is refused whatever the file is.
pub(crate) fn check_fallocate(flags: FallocateFlags, from: u64, len: u64) -> Result<()> {
    if i64::try_from(from).is_err() || i64::try_from(len).is_err() || len == 0 {
        return Err(Errno::INVAL);
    }
    let rest = flags - FallocateFlags::KEEP_SIZE - FallocateFlags::ZERO_RANGE;
    if flags != PUNCH && !rest.is_empty() { Err(Errno::OPNOTSUPP) } else { Ok(()) }
}

/// Offsets are signed in the kernel.
fn check_range(at: u64, len: usize) -> Result<()> {
    let end = at.checked_add(len as u64).ok_or(Errno::INVAL)?;
    i64::try_from(end).map(drop).map_err(|_| Errno::INVAL)
}
