//! What is behind a descriptor, as far as it decides where the kernel runs ops on it.
//!
//! Asked once for each [`Fd`](super::Fd), when the first op needs to know. A file server is not
//! asked: it may not answer. Not: what follows from it (`op/place.rs`), nor which file system is
//! mounted where (`mounts.rs`).

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, OFlags, Statx, StatxFlags};

use super::mounts;

/// What is behind a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)] // As a byte for an atomic; 0 is "not asked yet".
pub(crate) enum Nature {
    /// A pipe, socket, eventfd: the kernel waits for it without a thread.
    Stream = 1,
    /// A terminal, or a device like one: the same for reads, but a write that finds little room
    /// blocks whoever makes it.
    Terminal,
    /// A device that never makes anybody wait, such as `/dev/zero`.
    Ready,
    /// A file on a disk, or a disk: reads wait for it without a thread.
    Disk,
    /// A file in memory: needs a thread.
    Memory,
    /// A file of another local file system, or of one on top of another: needs a thread.
    Local,
    /// A file whose server may not answer, or a file system that nobody here knows: submitting an
    /// op on it may block.
    Remote,
}

/// The major number of `/dev/null`, `/dev/zero`, `/dev/full`, `/dev/random`, `/dev/urandom`.
const MEMORY: u32 = 1;

/// `STATX_MNT_ID_UNIQUE`, since 6.8.
const UNIQUE_MOUNT: StatxFlags = StatxFlags::from_bits_retain(0x4000);

impl Nature {
    /// Asks the kernel, and what is mounted if a mount is new to us. On kernels before 6.8, which
    /// cannot tell mounts apart for ever, by `fstatfs`, which may ask a server.
    ///
    /// And whether it is a file's, of a mount, rather than a type's, whatever the mount.
    pub(super) fn of(fd: impl AsFd) -> (Self, bool) {
        let wanted = StatxFlags::TYPE | UNIQUE_MOUNT;
        let Some(stat) = statx(&fd, wanted) else { return Self::by_statfs(fd) };
        if let Some(nature) = Self::of_type(stat.stx_mode.into(), stat.stx_rdev_major) {
            return (nature, false);
        }
        if stat.stx_mask & UNIQUE_MOUNT.bits() == 0 {
            return Self::by_statfs(fd);
        }
        let by_mount = mounts::nature(stat.stx_mnt_id, || {
            statx(&fd, StatxFlags::MNT_ID).map(|stat| stat.stx_mnt_id)
        });
        match by_mount {
            // Only files in memory have seals: of `memfd_create`, the kernel's own mount.
            Some(Self::Remote) if rustix::fs::fcntl_get_seals(&fd).is_ok() => (Self::Memory, true),
            Some(nature) => (nature, true),
            None => Self::by_statfs(fd),
        }
    }

    fn by_statfs(fd: impl AsFd) -> (Self, bool) {
        let Ok(stat) = rustix::fs::fstat(&fd) else { return (Self::Remote, false) };
        if let Some(nature) = Self::of_type(stat.st_mode, rustix::fs::major(stat.st_rdev)) {
            return (nature, false);
        }
        (rustix::fs::fstatfs(fd).map_or(Self::Remote, |fs| mounts::by_magic(fs.f_type)), true)
    }

    /// What the type alone tells. `None` for files.
    fn of_type(mode: u32, major: u32) -> Option<Self> {
        match FileType::from_raw_mode(mode) {
            FileType::BlockDevice => Some(Self::Disk),
            FileType::CharacterDevice if major == MEMORY => Some(Self::Ready),
            FileType::CharacterDevice => Some(Self::Terminal),
            // An eventfd and its like have no type at all.
            FileType::Fifo | FileType::Socket | FileType::Unknown => Some(Self::Stream),
            FileType::RegularFile | FileType::Directory | FileType::Symlink => None,
        }
    }

    pub(super) const fn to_byte(self) -> u8 {
        self as u8
    }

    /// Whether the file system of a file like this knows all of it that is open, and asking makes
    /// nobody wait. (One on top of another asks that, which may be remote.)
    pub(super) const fn is_known_at_once(self) -> bool {
        matches!(self, Self::Disk | Self::Memory)
    }

    #[inline]
    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Stream),
            2 => Some(Self::Terminal),
            3 => Some(Self::Ready),
            4 => Some(Self::Disk),
            5 => Some(Self::Memory),
            6 => Some(Self::Local),
            7 => Some(Self::Remote),
            _ => None,
        }
    }
}

/// What is known of a descriptor without asking a server.
fn statx(fd: impl AsFd, mask: StatxFlags) -> Option<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    rustix::fs::statx(fd, "", flags, mask).ok()
}

/// Whether transfers go past the page cache; whether writes wait for the disk.
pub(super) fn transfers(fd: impl AsFd) -> (bool, bool) {
    let flags = rustix::fs::fcntl_getfl(fd).unwrap_or(OFlags::empty());
    let sync = OFlags::SYNC | OFlags::DSYNC;
    (flags.contains(OFlags::DIRECT), flags.intersects(sync))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_is_behind_a_descriptor_is_told_apart() {
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        let flags = rustix::event::EventfdFlags::CLOEXEC;
        let eventfd = rustix::event::eventfd(0, flags).unwrap();
        assert_eq!([Nature::of(pipe).0, Nature::of(eventfd).0], [Nature::Stream; 2]);
        assert_eq!(Nature::of(File::open("/dev/null").unwrap()).0, Nature::Ready);
        assert_eq!(Nature::of(File::open("/dev/ptmx").unwrap()).0, Nature::Terminal);
        assert_eq!(Nature::of(File::open("/proc/self/comm").unwrap()), (Nature::Local, true));
    }

    #[test]
    fn both_ways_to_ask_tell_the_same() {
        for path in ["/", "/proc/self/comm", "/dev", "/sys", "/dev/null", "/tmp"] {
            let Ok(file) = File::open(path) else { continue };
            assert_eq!(Nature::of(&file), Nature::by_statfs(&file), "{path}");
        }
    }

    #[test]
    fn a_nature_survives_as_a_byte() {
        for byte in 1..=6 {
            assert_eq!(Nature::from_byte(byte).map(Nature::to_byte), Some(byte));
        }
        assert_eq!(Nature::from_byte(0), None);
    }
}
