//! The copy of a symbolic link: another that says the same.
//!
//! There is no ring op for `readlinkat(2)`: it is a plain call.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use deferring::{AtFlags, Stat};
use rustix::fs::readlinkat;
use rustix::io::Errno;

use super::Session;
use super::attributes::{self, STAT_MASK};
use super::item::Item;
use super::links::Meeting;
use super::report::Kind;
use super::step::{Failure, errno};
use super::temporary;

pub(super) async fn copy(session: &Session, item: &Item) -> Result<(), Failure> {
    let statx = || session.ring.statx(item.source_dir(), &item.from, FLAGS, STAT_MASK);
    let stat = statx().await.map_err(|error| Failure::new("statx", item.source_path(), error))?;
    let first = match session.links.meet(session, item, &stat).await? {
        Meeting::Linked => return Ok(()),
        Meeting::First(first) => first,
    };
    make(session, item, &stat).await?;
    first.copied(session, item).await;
    session.report.copied(Kind::File);
    Ok(())
}

const FLAGS: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

async fn make(session: &Session, item: &Item, stat: &Stat) -> Result<(), Failure> {
    let ring = &session.ring;
    let target =
        read(item).map_err(|error| Failure::new("readlinkat", item.source_path(), error))?;
    let failed = |step| move |error: io::Error| Failure::new(step, item.target_path(), error);
    // It appears whole in any case, and where nothing has its name, under that name at once.
    if !session.preserve {
        match ring.symlinkat(&target, item.target_dir(), &item.to).await {
            Err(error) if errno(&error) == Some(Errno::EXIST) => {}
            result => return result.map_err(failed("symlinkat")),
        }
    }
    let link = |name| ring.symlinkat(&target, item.target_dir(), name);
    let made = temporary::under_free_name(session, item, link).await;
    let ((), name) = made.map_err(failed("symlinkat"))?;
    if session.preserve {
        if let Err((step, error)) = with_dir(item, |dir| attributes::give_link(dir, &name, stat)) {
            temporary::remove(session, item, name).await;
            return Err(Failure::new(step, item.target_path(), error));
        }
    }
    temporary::publish(session, item, name).await
}

fn read(item: &Item) -> io::Result<OsString> {
    let lease = item.parent.as_ref().map(|parent| parent.from.lease());
    let dir = lease.as_ref().map_or(Ok(rustix::fs::CWD), |lease| lease.try_as_fd())?;
    let target = readlinkat(dir, &*item.from, Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()))
}

fn with_dir<T>(item: &Item, f: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> T) -> T {
    let lease = item.parent.as_ref().map(|parent| parent.to.lease());
    let dir = lease.as_ref().and_then(|lease| lease.try_as_fd().ok());
    f(dir.unwrap_or(rustix::fs::CWD))
}
