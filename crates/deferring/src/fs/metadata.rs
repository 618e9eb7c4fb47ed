//! What a file system says of a file, as `std::fs::Metadata` has it.

use std::io;
use std::time::SystemTime;

use crate::{FileType, Stat, Timestamp};

/// What a file system says of a file. What it does not say reads as 0; [`stat`](Self::stat) tells
/// the two apart, and has the rest.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    stat: Stat,
}

impl Metadata {
    pub(super) const fn new(stat: Stat) -> Self {
        Self { stat }
    }

    /// The whole answer.
    #[must_use]
    pub const fn stat(&self) -> &Stat {
        &self.stat
    }

    /// What kind of thing it is.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        self.stat.file_type().unwrap_or(FileType::Unknown)
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.file_type().is_dir()
    }

    /// Whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.file_type().is_file()
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.file_type().is_symlink()
    }

    /// Its length in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // As in std.
    pub fn len(&self) -> u64 {
        self.stat.size().unwrap_or(0)
    }

    /// Its permission bits, with set-id and sticky.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.stat.mode().map_or(0, |mode| mode.bits())
    }

    /// Its owner.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.stat.uid().unwrap_or(0)
    }

    /// Its group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.stat.gid().unwrap_or(0)
    }

    /// Its number, unique in its file system.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.stat.ino().unwrap_or(0)
    }

    /// How many names it has.
    #[must_use]
    pub fn nlink(&self) -> u32 {
        self.stat.nlink().unwrap_or(0)
    }

    /// When its content last changed.
    ///
    /// # Errors
    /// `Unsupported` if the file system does not say.
    pub fn modified(&self) -> io::Result<SystemTime> {
        known(self.stat.mtime())
    }

    /// When it was last read.
    ///
    /// # Errors
    /// `Unsupported` if the file system does not say.
    pub fn accessed(&self) -> io::Result<SystemTime> {
        known(self.stat.atime())
    }

    /// When it was made.
    ///
    /// # Errors
    /// `Unsupported` if the file system does not say.
    pub fn created(&self) -> io::Result<SystemTime> {
        known(self.stat.btime())
    }
}

fn known(time: Option<Timestamp>) -> io::Result<SystemTime> {
    let unknown = || io::Error::new(io::ErrorKind::Unsupported, "this file system does not say");
    time.map(SystemTime::from).ok_or_else(unknown)
}
