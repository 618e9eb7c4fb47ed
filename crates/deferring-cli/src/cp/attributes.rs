//! What `-p` keeps: owner, mode, times. Plain calls on what has just been made.
//!
//! Not: extended attributes and access control lists.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use deferring::{AtFlags, Mode, Stat, StatxFlags, Timestamp};
use rustix::fs::{Gid, Timespec, Timestamps, Uid};
use rustix::io::Errno;

/// All that a copy wants to know of a thing.
pub(super) const STAT_MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// Gives an open file or directory owner, mode and times; the error says which of the calls failed.
pub(super) fn give(to: BorrowedFd<'_>, stat: &Stat) -> Result<(), (&'static str, io::Error)> {
    let (uid, gid) = owner(stat);
    // Before the mode: a new owner takes set-id bits away.
    let owned = owned(rustix::fs::fchown(to, uid, gid), || rustix::fs::fchown(to, None, gid))
        .map_err(|errno| ("fchown", errno.into()))?;
    let mode = stat.mode().unwrap_or(Mode::RWXU);
    // With another owner, set-id bits would lend somebody else's rights.
    let mode = if owned { mode } else { mode.difference(Mode::SUID | Mode::SGID) };
    rustix::fs::fchmod(to, mode).map_err(|errno| ("fchmod", errno.into()))?;
    rustix::fs::futimens(to, &times(stat)).map_err(|errno| ("utimensat", errno.into()))
}

/// Gives a symbolic link owner and times; it has no mode.
pub(super) fn give_link(
    dir: BorrowedFd<'_>,
    name: &Path,
    stat: &Stat,
) -> Result<(), (&'static str, io::Error)> {
    let (uid, gid) = owner(stat);
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let chown = |uid| rustix::fs::chownat(dir, name, uid, gid, flags);
    owned(chown(uid), || chown(None)).map_err(|errno| ("fchownat", errno.into()))?;
    rustix::fs::utimensat(dir, name, &times(stat), flags)
        .map_err(|errno| ("utimensat", errno.into()))
}

/// Gives a directory the times that it had before something was made and removed in it.
pub(super) fn put_back_times(path: &Path, stat: &rustix::fs::Stat) -> rustix::io::Result<()> {
    let of = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.try_into().unwrap_or(0),
    };
    let times = Timestamps {
        last_access: of(stat.st_atime, stat.st_atime_nsec),
        last_modification: of(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::empty())
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (stat.uid().map(Uid::from_raw), stat.gid().map(Gid::from_raw))
}

/// Only root may give files away: for others the copy is theirs, with the group if that may be.
fn owned(
    both: Result<(), Errno>,
    group_only: impl FnOnce() -> Result<(), Errno>,
) -> Result<bool, Errno> {
    match both {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::INVAL) => match group_only() {
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => Ok(false),
            Err(errno) => Err(errno),
        },
        Err(errno) => Err(errno),
    }
}

fn times(stat: &Stat) -> Timestamps {
    let of = |time: Option<Timestamp>| {
        let (seconds, nanoseconds) = match time {
            Some(time) => (time.seconds, time.nanoseconds.into()),
            None => (0, rustix::fs::UTIME_OMIT),
        };
        Timespec { tv_sec: seconds, tv_nsec: nanoseconds }
    };
    Timestamps { last_access: of(stat.atime()), last_modification: of(stat.mtime()) }
}
