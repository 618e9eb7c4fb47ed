//! The copy of a regular file: open, look, copy under a temporary name, rename.
//!
//! The data is in `data.rs`. What is opened is looked at, not what had the name before: what
//! changes between two steps cannot mislead the copy.

use std::pin::pin;

use deferring::{AtFlags, Fd, FileType, Mode, OFlags, ResolveFlags, Stat};
use futures_util::future::{Either, select};
use rustix::io::Errno;

use super::Session;
use super::attributes::{self, STAT_MASK};
use super::item::Item;
use super::links::Meeting;
use super::report::Kind;
use super::step::{Failure, errno};
use super::{data, temporary};

pub(super) async fn copy(session: &Session, item: &Item) -> Result<(), Failure> {
    let ring = &session.ring;
    let (from, stat) = open(session, item).await?;
    match stat.file_type() {
        Some(FileType::Regular) | None => {}
        Some(other) => {
            session.report.skipped(&item.source_path(), other);
            return Ok(());
        }
    }
    let first = match session.links.meet(session, item, &stat).await? {
        Meeting::Linked => {
            drop(ring.close(&from));
            return Ok(());
        }
        Meeting::First(first) => first,
    };
    let mode = first_mode(session, &stat);
    let (to, name) = temporary::create(session, item, mode).await?;
    let filled = fill(session, item, &from, &to, &stat).await;
    drop(ring.close(&from));
    let filled = match filled {
        Ok(()) => close(session, item, &to).await,
        Err(failure) => {
            drop(ring.close(&to));
            Err(failure)
        }
    };
    if let Err(failure) = filled {
        temporary::remove(session, item, name).await;
        return Err(failure);
    }
    temporary::publish(session, item, name).await?;
    first.copied(session, item).await;
    session.report.copied(Kind::File);
    Ok(())
}

/// What is a fifo by now must not block, as opening one does until somebody writes to it.
async fn open(session: &Session, item: &Item) -> Result<(Fd, Stat), Failure> {
    let ring = &session.ring;
    let mut flags = OFlags::RDONLY;
    // An argument is followed if it is a link, unless `-r` has made it a link to copy.
    flags.set(OFlags::NOFOLLOW, !item.is_root());
    let open = |flags| {
        ring.openat2(item.source_dir(), &item.from, flags, Mode::empty(), ResolveFlags::empty())
    };
    let failed = |step| move |error: std::io::Error| Failure::new(step, item.source_path(), error);
    let from = match open(flags | OFlags::NONBLOCK).await {
        // Somebody has a lease on it (fcntl(2)), and has now been asked to give it back.
        Err(error) if errno(&error) == Some(Errno::AGAIN) => open(flags).await,
        opened => opened,
    };
    let from = from.map_err(failed("openat2"))?;
    let stat = ring.statx(&from, "", AtFlags::EMPTY_PATH, STAT_MASK).await;
    let stat = stat.map_err(failed("statx"))?;
    block(&from).map_err(failed("fcntl"))?;
    Ok((from, stat))
}

/// Reads are as without `O_NONBLOCK` again. With it, io_uring takes the file for one that can say
/// "not now", and reads on the thread that submits, also where that waits for a server.
fn block(from: &Fd) -> std::io::Result<()> {
    let lease = from.lease();
    Ok(rustix::fs::fcntl_setfl(lease.try_as_fd()?, OFlags::empty())?)
}

/// What the file is made with; the kernel takes off the umask. With `-p`, nobody else may look
/// before the owner is right.
fn first_mode(session: &Session, stat: &Stat) -> Mode {
    if session.preserve {
        return Mode::RUSR | Mode::WUSR;
    }
    stat.mode().unwrap_or(Mode::RUSR).intersection(Mode::RWXU | Mode::RWXG | Mode::RWXO)
}

/// Data, then attributes; an interrupt ends the wait for data.
async fn fill(
    session: &Session,
    item: &Item,
    from: &Fd,
    to: &Fd,
    stat: &Stat,
) -> Result<(), Failure> {
    let copying = pin!(data::copy(session, item, from, to, stat));
    match select(copying, session.interrupt.wait()).await {
        Either::Left((copied, _)) => copied?,
        // Reads and writes under way are dropped, and so cancelled.
        Either::Right(_) => return Err(Failure::Interrupted),
    }
    if session.preserve {
        let lease = to.lease();
        let given = match lease.try_as_fd() {
            Ok(to) => attributes::give(to, stat),
            Err(error) => Err(("fchmod", error)),
        };
        given.map_err(|(step, error)| Failure::new(step, item.target_path(), error))?;
    }
    Ok(())
}

/// Some file systems say only now that there was no room.
async fn close(session: &Session, item: &Item, to: &Fd) -> Result<(), Failure> {
    match session.ring.close(to).await {
        // Interrupted or not, it is closed.
        Err(error) if errno(&error) == Some(Errno::INTR) => Ok(()),
        closed => closed.map_err(|error| Failure::new("close", item.target_path(), error)),
    }
}
