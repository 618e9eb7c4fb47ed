//! What is behind a descriptor, as far as it decides where the kernel runs ops on it.
//!
//! Asked once for each [`Fd`](super::Fd), when the first op needs to know. Not: what follows from
//! it (`op/place.rs`).

use std::os::fd::AsFd;

use rustix::fs::{FileType, OFlags};

/// What is behind a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// A pipe, socket, terminal, eventfd: the kernel waits for it without a thread.
    Stream,
    /// A device that never makes anybody wait, such as `/dev/zero`.
    Ready,
    /// A file on a disk, or a disk: reads wait for it without a thread.
    Disk,
    /// A file of a file system in memory, or of one on top of another: needs a thread.
    Local,
    /// A file whose server may not answer, or a file system that nobody here knows: submitting an
    /// op on it may block.
    Remote,
}

/// What `f_type` of `statfs(2)` says for disks that read without a thread: `EXT2`, `EXT3`, `EXT4`;
/// `XFS`, `BTRFS`, `F2FS`.
const DISKS: [u32; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];

/// Local file systems that need a thread: `TMPFS`, `RAMFS`, `HUGETLBFS`, `OVERLAYFS`, `PROC`, `SYSFS`,
/// `DEVPTS`, `DEBUGFS`, `TRACEFS`, `CGROUP`, `CGROUP2`, `BPF_FS`, `SECURITYFS`, `CONFIGFS`, `EFIVARFS`,
/// `ISOFS`, `UDF`, `MSDOS`, `EXFAT`, `SQUASHFS`, `EROFS`, `ZFS`, `BCACHEFS`, `MQUEUE`, `SECRETMEM`.
const LOCALS: [u32; 25] = [
    0x0102_1994,
    0x8584_58f6,
    0x9584_58f6,
    0x794c_7630,
    0x9fa0,
    0x6265_6572,
    0x1cd1,
    0x6462_6720,
    0x7472_6163,
    0x0027_e0eb,
    0x6367_7270,
    0xcafe_4a11,
    0x7363_6673,
    0x6265_6570,
    0xde5e_81e4,
    0x9660,
    0x1501_3346,
    0x4d44,
    0x2011_bab0,
    0x7371_7368,
    0xe0f5_e1e2,
    0x2fc1_2fc1,
    0xca45_1a4e,
    0x1980_0202,
    0x5345_434d,
];

/// The major number of `/dev/null`, `/dev/zero`, `/dev/full`, `/dev/random`, `/dev/urandom`.
const MEMORY: u32 = 1;

impl Nature {
    /// Asks the kernel: one system call, two for files.
    pub(super) fn of(fd: impl AsFd) -> Self {
        let Ok(stat) = rustix::fs::fstat(&fd) else { return Self::Remote };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => Self::Disk,
            FileType::RegularFile | FileType::Directory | FileType::Symlink => {
                rustix::fs::fstatfs(fd).map_or(Self::Remote, |fs| Self::of_file_system(fs.f_type))
            }
            FileType::CharacterDevice if rustix::fs::major(stat.st_rdev) == MEMORY => Self::Ready,
            // An eventfd and its like have no type at all.
            FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::Unknown => {
                Self::Stream
            }
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Magic numbers have 32 bits.
    fn of_file_system(magic: impl Into<i64>) -> Self {
        let magic = magic.into() as u32;
        if DISKS.contains(&magic) {
            Self::Disk
        } else if LOCALS.contains(&magic) {
            Self::Local
        } else {
            Self::Remote
        }
    }

    /// As a byte for an atomic; 0 is "not asked yet".
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Stream => 1,
            Self::Disk => 2,
            Self::Local => 3,
            Self::Remote => 4,
            Self::Ready => 5,
        }
    }

    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Stream),
            2 => Some(Self::Disk),
            3 => Some(Self::Local),
            4 => Some(Self::Remote),
            5 => Some(Self::Ready),
            _ => None,
        }
    }
}

/// Whether transfers go past the page cache.
pub(super) fn is_direct(fd: impl AsFd) -> bool {
    rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags.contains(OFlags::DIRECT))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_is_behind_a_descriptor_is_told_apart() {
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        assert_eq!(Nature::of(pipe), Nature::Stream);
        assert_eq!(Nature::of(File::open("/dev/null").unwrap()), Nature::Ready);
        let flags = rustix::event::EventfdFlags::CLOEXEC;
        assert_eq!(Nature::of(rustix::event::eventfd(0, flags).unwrap()), Nature::Stream);
        assert_eq!(Nature::of(File::open("/proc/self/comm").unwrap()), Nature::Local);
        assert_eq!(Nature::of_file_system(0xef53), Nature::Disk);
        assert_eq!(Nature::of_file_system(0x6573_5546), Nature::Remote, "FUSE");
        assert_eq!(Nature::of_file_system(0x6969), Nature::Remote, "NFS");
    }

    #[test]
    fn a_nature_survives_as_a_byte() {
        for byte in 1..=5 {
            assert_eq!(Nature::from_byte(byte).map(Nature::to_byte), Some(byte));
        }
        assert_eq!(Nature::from_byte(0), None);
    }
}
