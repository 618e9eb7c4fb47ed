//! What an inode is made of.
//!
//! Not: how inodes come and go (`mod.rs`), nor what is in a file (`content.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::io::{Errno, Result};

use super::content::Content;

/// The number of an inode. It is not used again when the inode is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InodeId(pub(crate) u64);

/// The root, numbered as on ext4.
pub(crate) const ROOT: InodeId = InodeId(2);

/// The name of a directory's entry.
pub(super) type Name = Box<[u8]>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
}

pub(super) struct Inode {
    pub(super) body: Body,
    /// The permissions.
    pub(super) mode: u32,
    /// Names, other than of a directory.
    pub(super) names: u32,
    /// Open descriptors.
    pub(super) holds: u32,
    /// Changes of the journal that name it, and may be undone by a power cut.
    pub(super) pins: u32,
    /// Made without a name, and may be given one.
    pub(super) linkable: bool,
    /// Neither named nor held: there for the journal only.
    pub(super) ghost: bool,
    pub(super) btime: Duration,
    pub(super) mtime: Duration,
    pub(super) ctime: Duration,
}

pub(super) enum Body {
    File(Content),
    Directory(Directory),
    Symlink(Box<[u8]>),
    Fifo,
}

pub(super) struct Directory {
    pub(super) entries: BTreeMap<Name, InodeId>,
    pub(super) parent: InodeId,
    pub(super) subdirectories: u32,
    /// Has a name, or is the root. One that has not is dead: nothing can be made in it.
    pub(super) is_linked: bool,
}

impl Inode {
    pub(super) fn new(body: Body, mode: u32, now: Duration) -> Self {
        Inode {
            body,
            mode,
            names: 0,
            holds: 0,
            pins: 0,
            linkable: false,
            ghost: false,
            btime: now,
            mtime: now,
            ctime: now,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.body {
            Body::File(_) => Kind::File,
            Body::Directory(_) => Kind::Directory,
            Body::Symlink(_) => Kind::Symlink,
            Body::Fifo => Kind::Fifo,
        }
    }

    /// As `st_nlink` counts.
    pub(super) fn nlink(&self) -> u32 {
        match &self.body {
            Body::Directory(directory) if directory.is_linked => 2 + directory.subdirectories,
            Body::Directory(_) => 0,
            Body::File(_) | Body::Symlink(_) | Body::Fifo => self.names,
        }
    }

    pub(super) fn directory(&self) -> Result<&Directory> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            Body::File(_) | Body::Symlink(_) | Body::Fifo => Err(Errno::NOTDIR),
        }
    }

    /// The bytes, for a call that directories and others answer with these errors.
    pub(super) fn content(&self, of_directory: Errno, of_others: Errno) -> Result<&Content> {
        match &self.body {
            Body::File(content) => Ok(content),
            Body::Directory(_) => Err(of_directory),
            Body::Symlink(_) | Body::Fifo => Err(of_others),
        }
    }

    /// As `content`.
    pub(super) fn content_mut(
        &mut self,
        of_directory: Errno,
        of_others: Errno,
    ) -> Result<&mut Content> {
        match &mut self.body {
            Body::File(content) => Ok(content),
            Body::Directory(_) => Err(of_directory),
            Body::Symlink(_) | Body::Fifo => Err(of_others),
        }
    }

    /// Chunks that it takes on the disk.
    pub(super) fn room(&self) -> u64 {
        self.content(Errno::ISDIR, Errno::INVAL).map_or(0, Content::room)
    }

    pub(super) fn modified(&mut self, now: Duration) {
        self.mtime = now;
        self.ctime = now;
    }
}

impl Directory {
    pub(super) fn new(parent: InodeId) -> Self {
        Directory { entries: BTreeMap::new(), parent, subdirectories: 0, is_linked: false }
    }
}
