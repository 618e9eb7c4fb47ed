//! What a file system said of a file.
//!
//! Each field says by itself whether the file system supplied it. Not: the question
//! (`op/statx.rs`).

use std::fmt;
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, StatxAttributes, StatxFlags};

/// The answer of a [`Statx`](crate::op::Statx).
///
/// What was not asked for, or is not known to the file system, is `None`.
#[derive(Clone, Copy)]
pub struct Stat {
    raw: rustix::fs::Statx,
}

/// A point in time, in nanoseconds. File systems can hold times before 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds since then, below 10^9.
    pub nanoseconds: u32,
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let seconds = Duration::from_secs(time.seconds.unsigned_abs());
        let second =
            if time.seconds < 0 { Self::UNIX_EPOCH - seconds } else { Self::UNIX_EPOCH + seconds };
        second + Duration::from_nanos(time.nanoseconds.into())
    }
}

/// What kind of thing a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// Something that this crate has no word for.
    Unknown,
}

impl FileType {
    fn of_mode(mode: u16) -> Self {
        match rustix::fs::FileType::from_raw_mode(mode.into()) {
            rustix::fs::FileType::RegularFile => Self::Regular,
            rustix::fs::FileType::Directory => Self::Directory,
            rustix::fs::FileType::Symlink => Self::Symlink,
            rustix::fs::FileType::Fifo => Self::Fifo,
            rustix::fs::FileType::Socket => Self::Socket,
            rustix::fs::FileType::CharacterDevice => Self::CharDevice,
            rustix::fs::FileType::BlockDevice => Self::BlockDevice,
            rustix::fs::FileType::Unknown => Self::Unknown,
        }
    }

    /// Whether it is a regular file.
    #[must_use]
    pub const fn is_file(self) -> bool {
        matches!(self, Self::Regular)
    }

    /// Whether it is a directory.
    #[must_use]
    pub const fn is_dir(self) -> bool {
        matches!(self, Self::Directory)
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub const fn is_symlink(self) -> bool {
        matches!(self, Self::Symlink)
    }
}

/// A device, as two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

/// What `O_DIRECT` asks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirectAlign {
    /// Of addresses, in bytes; 0 if the file cannot be used with `O_DIRECT`.
    pub memory: u32,
    /// Of offsets and lengths, in bytes.
    pub offset: u32,
}

/// An attribute of a file, as file systems may or may not have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attribute {
    /// The file system compresses it.
    Compressed,
    /// It cannot be changed.
    Immutable,
    /// It can only be appended to.
    Append,
    /// Backups leave it out.
    NoDump,
    /// Reading it needs a key.
    Encrypted,
    /// It triggers a mount.
    Automount,
    /// A file system is mounted there.
    MountRoot,
    /// Its content is checked by fs-verity.
    Verity,
    /// It is mapped directly from persistent memory.
    Dax,
}

impl Attribute {
    const fn bits(self) -> StatxAttributes {
        match self {
            Self::Compressed => StatxAttributes::COMPRESSED,
            Self::Immutable => StatxAttributes::IMMUTABLE,
            Self::Append => StatxAttributes::APPEND,
            Self::NoDump => StatxAttributes::NODUMP,
            Self::Encrypted => StatxAttributes::ENCRYPTED,
            Self::Automount => StatxAttributes::AUTOMOUNT,
            Self::MountRoot => StatxAttributes::MOUNT_ROOT,
            Self::Verity => StatxAttributes::VERITY,
            Self::Dax => StatxAttributes::DAX,
        }
    }
}

macro_rules! masked {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $flag:ident, $value:expr;)*) => {
        impl Stat {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(&self) -> Option<$type> {
                let value: fn(&rustix::fs::Statx) -> $type = $value;
                self.has(StatxFlags::$flag).then(|| value(&self.raw))
            })*
        }
    };
}

masked! {
    /// What kind of thing it is.
    file_type: FileType = TYPE, |raw| FileType::of_mode(raw.stx_mode);
    /// Its permission bits, with set-id and sticky.
    #[doc(alias = "perm")]
    mode: Mode = MODE, |raw| Mode::from_raw_mode(raw.stx_mode.into());
    /// How many names it has.
    nlink: u32 = NLINK, |raw| raw.stx_nlink;
    /// Its owner.
    uid: u32 = UID, |raw| raw.stx_uid;
    /// Its group.
    gid: u32 = GID, |raw| raw.stx_gid;
    /// When it was last read.
    atime: Timestamp = ATIME, |raw| timestamp(&raw.stx_atime);
    /// When its content last changed.
    mtime: Timestamp = MTIME, |raw| timestamp(&raw.stx_mtime);
    /// When its content or metadata last changed.
    ctime: Timestamp = CTIME, |raw| timestamp(&raw.stx_ctime);
    /// When it was made.
    btime: Timestamp = BTIME, |raw| timestamp(&raw.stx_btime);
    /// Its number, unique in its file system.
    ino: u64 = INO, |raw| raw.stx_ino;
    /// Its length in bytes.
    size: u64 = SIZE, |raw| raw.stx_size;
    /// Its disk space, in units of 512 bytes.
    blocks: u64 = BLOCKS, |raw| raw.stx_blocks;
    /// The mount that it is in (since 5.8).
    mnt_id: u64 = MNT_ID, |raw| raw.stx_mnt_id;
    /// What `O_DIRECT` asks (since 6.1).
    #[doc(alias = "dio_mem_align")]
    #[doc(alias = "dio_offset_align")]
    direct_align: DirectAlign = DIOALIGN, |raw| DirectAlign {
        memory: raw.stx_dio_mem_align,
        offset: raw.stx_dio_offset_align,
    };
}

fn timestamp(raw: &rustix::fs::StatxTimestamp) -> Timestamp {
    Timestamp { seconds: raw.tv_sec, nanoseconds: raw.tv_nsec }
}

impl Stat {
    /// All fields that this crate knows.
    pub const EVERYTHING: StatxFlags = StatxFlags::BASIC_STATS
        .union(StatxFlags::BTIME)
        .union(StatxFlags::MNT_ID)
        .union(StatxFlags::DIOALIGN);

    pub(crate) const fn new(raw: rustix::fs::Statx) -> Self {
        Self { raw }
    }

    /// Which fields came.
    #[must_use]
    pub fn mask(&self) -> StatxFlags {
        StatxFlags::from_bits_retain(self.raw.stx_mask)
    }

    /// Whether all these fields came.
    #[must_use]
    pub fn has(&self, fields: StatxFlags) -> bool {
        self.mask().contains(fields)
    }

    /// Whether the file has an attribute; `None` if its file system does not know that attribute.
    #[must_use]
    #[doc(alias = "stx_attributes")]
    pub fn attribute(&self, attribute: Attribute) -> Option<bool> {
        let bits = attribute.bits();
        let known = self.raw.stx_attributes_mask.contains(bits);
        known.then(|| self.raw.stx_attributes.contains(bits))
    }

    /// The unit in which it is best read and written, in bytes.
    #[must_use]
    pub const fn blksize(&self) -> u32 {
        self.raw.stx_blksize
    }

    /// The device that its file system is on.
    #[must_use]
    pub const fn dev(&self) -> Device {
        Device { major: self.raw.stx_dev_major, minor: self.raw.stx_dev_minor }
    }

    /// The device that it is, if it is one.
    #[must_use]
    pub const fn rdev(&self) -> Device {
        Device { major: self.raw.stx_rdev_major, minor: self.raw.stx_rdev_minor }
    }
}

impl fmt::Debug for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stat")
            .field("file_type", &self.file_type())
            .field("mode", &self.mode())
            .field("size", &self.size())
            .field("ino", &self.ino())
            .field("mask", &self.mask())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(unsafe_code)] // The kernel's struct has fields that only it can name.
    fn nothing_said() -> rustix::fs::Statx {
        // SAFETY: plain numbers.
        unsafe { std::mem::zeroed() }
    }

    #[test]
    fn times_before_1970_are_times() {
        let time = SystemTime::from(Timestamp { seconds: -2, nanoseconds: 500_000_000 });
        let before = SystemTime::UNIX_EPOCH.duration_since(time).unwrap();
        assert_eq!(before, Duration::from_millis(1500));
    }

    #[test]
    fn each_field_looks_at_its_own_bit() {
        let mut raw = nothing_said();
        let came = |raw: &rustix::fs::Statx| {
            let stat = Stat::new(*raw);
            [
                stat.file_type().is_some(),
                stat.mode().is_some(),
                stat.nlink().is_some(),
                stat.uid().is_some(),
                stat.gid().is_some(),
                stat.atime().is_some(),
                stat.mtime().is_some(),
                stat.ctime().is_some(),
                stat.ino().is_some(),
                stat.size().is_some(),
                stat.blocks().is_some(),
                stat.btime().is_some(),
                stat.mnt_id().is_some(),
                stat.direct_align().is_some(),
            ]
        };
        // The fields above are in the order of their bits in `struct statx`.
        for bit in 0..14 {
            raw.stx_mask = 1 << bit;
            let mut only = [false; 14];
            only[bit] = true;
            assert_eq!(came(&raw), only, "bit {bit}");
        }
    }

    #[test]
    fn what_did_not_come_is_not_zero_but_none() {
        let mut raw = nothing_said();
        raw.stx_size = 7;
        raw.stx_attributes = StatxAttributes::IMMUTABLE;
        let stat = |raw| Stat::new(raw);
        assert_eq!(stat(raw).size(), None);
        assert_eq!(stat(raw).attribute(Attribute::Immutable), None, "not supported");
        raw.stx_mask = StatxFlags::SIZE.bits();
        raw.stx_attributes_mask = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        assert_eq!(stat(raw).size(), Some(7));
        assert_eq!(stat(raw).attribute(Attribute::Immutable), Some(true));
        assert_eq!(stat(raw).attribute(Attribute::Append), Some(false), "not set");
    }
}
