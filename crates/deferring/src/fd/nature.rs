//! What is behind a descriptor, as far as it decides where the kernel runs ops on it.
//!
//! Asked once for each [`Fd`](super::Fd), when the first op needs to know. A file server is not
//! asked: it may not answer. Not: what follows from it (`op/place.rs`), nor which file system is
//! mounted where (`mounts.rs`).

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, OFlags, Statx, StatxFlags};

use super::mounts::{self, Mount};

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

/// What an answer tells of a nature.
enum Found {
    /// The type tells, whatever the mount.
    ByType(Nature),
    ByMount(Mount),
    No,
}

impl Nature {
    /// Asks the kernel, and what is mounted if a mount is new to us. On kernels before 6.8, which
    /// cannot tell mounts apart for ever, by `fstatfs`, which may ask a server.
    ///
    /// And whether it is a file's, of a mount, rather than a type's, whatever the mount.
    pub(super) fn of(fd: impl AsFd) -> (Self, bool) {
        let Some(stat) = statx(&fd, StatxFlags::TYPE | UNIQUE_MOUNT) else {
            return Self::by_statfs(fd);
        };
        match Self::by_stat(&fd, &stat) {
            Found::ByType(nature) => (nature, false),
            Found::ByMount(mount) => (mount.nature, true),
            Found::No => Self::by_statfs(fd),
        }
    }

    /// The same and, if that is a mount that [`is_known_at_once`](Self::is_known_at_once), what else
    /// is asked of it, by one question: what such a file system says without asking is all that it
    /// has to say. `None` if that question may not be asked before the other, or does not tell.
    pub(super) fn and_stat(
        fd: impl AsFd,
        flags: AtFlags,
        mask: StatxFlags,
        answer: &mut MaybeUninit<Statx>,
    ) -> Option<(Self, bool)> {
        if flags.contains(AtFlags::STATX_FORCE_SYNC) || !mounts::obey() {
            return None;
        }
        let flags = flags | AtFlags::STATX_DONT_SYNC;
        let asked = mask | StatxFlags::TYPE | UNIQUE_MOUNT;
        let stat = answer.write(rustix::fs::statx(&fd, c"", flags, asked).ok()?);
        let mount = match Self::by_stat(&fd, stat) {
            Found::ByType(nature) => return Some((nature, false)),
            Found::ByMount(mount) => mount,
            Found::No => return None,
        };
        if !mask.contains(UNIQUE_MOUNT) {
            // As if only the user had asked.
            stat.stx_mnt_id = mount.number;
            stat.stx_mask &= !UNIQUE_MOUNT.bits();
            stat.stx_mask |= StatxFlags::MNT_ID.bits();
        }
        Some((mount.nature, true))
    }

    fn by_stat(fd: impl AsFd, stat: &Statx) -> Found {
        if let Some(nature) = Self::of_type(stat.stx_mode.into(), stat.stx_rdev_major) {
            return Found::ByType(nature);
        }
        if stat.stx_mask & UNIQUE_MOUNT.bits() == 0 {
            return Found::No;
        }
        let number = || statx(&fd, StatxFlags::MNT_ID).map(|stat| stat.stx_mnt_id);
        match mounts::mount(stat.stx_mnt_id, number) {
            // Only files in memory have seals: of `memfd_create`, the kernel's own mount.
            Some(mount)
                if mount.nature == Self::Remote && rustix::fs::fcntl_get_seals(&fd).is_ok() =>
            {
                Found::ByMount(Mount { nature: Self::Memory, ..mount })
            }
            Some(mount) => Found::ByMount(mount),
            None => Found::No,
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
    use std::os::fd::OwnedFd;

    use rustix::fs::MemfdFlags;

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
    fn one_question_tells_the_nature_and_what_else_was_asked() {
        let memory = || rustix::fs::memfd_create("memory", MemfdFlags::CLOEXEC).unwrap();
        let ask = |fd: OwnedFd, flags, mask| {
            let mut stat = MaybeUninit::new(statx(memory(), StatxFlags::empty()).unwrap());
            let nature = Nature::and_stat(fd, flags, mask, &mut stat)?;
            #[allow(unsafe_code)] // As who asks has it.
            // SAFETY: it was written above.
            Some((nature, unsafe { stat.assume_init() }.stx_mask))
        };
        let (none, basic) = (AtFlags::empty(), StatxFlags::BASIC_STATS);
        Nature::of(memory()); // Has the list of mounts read.
        if !mounts::obey() {
            assert!(ask(memory(), EMPTY, basic).is_none(), "a mount that does not obey");
            return;
        }
        let (nature, mask) = ask(memory(), EMPTY, basic).unwrap();
        assert_eq!(nature, (Nature::Memory, true));
        assert_eq!(mask & UNIQUE_MOUNT.bits(), 0, "which nobody asked for");
        assert_ne!(mask & StatxFlags::MNT_ID.bits(), 0, "which always comes");
        let (_, mask) = ask(memory(), EMPTY, UNIQUE_MOUNT).unwrap();
        assert_ne!(mask & UNIQUE_MOUNT.bits(), 0);
        let nature = |path| ask(File::open(path).unwrap().into(), EMPTY, basic).unwrap().0;
        assert_eq!(nature("/proc/self/comm"), (Nature::Local, true));
        assert_eq!(nature("/dev/null"), (Nature::Ready, false));
        assert!(ask(memory(), EMPTY | AtFlags::STATX_FORCE_SYNC, basic).is_none());
        assert!(ask(memory(), none, basic).is_none(), "an error is for the user's own question");
    }

    const EMPTY: AtFlags = AtFlags::EMPTY_PATH;

    #[test]
    fn a_nature_survives_as_a_byte() {
        for byte in 1..=6 {
            assert_eq!(Nature::from_byte(byte).map(Nature::to_byte), Some(byte));
        }
        assert_eq!(Nature::from_byte(0), None);
    }
}
