//! Files under a temporary name, until they are whole.
//!
//! The name is in the directory of the final one, hidden, and taken by nobody: `O_EXCL` sees to
//! that. Whoever makes a temporary file removes it or gives it its name, whatever happens.

use std::cell::Cell;
use std::future::IntoFuture;
use std::io;
use std::path::{Path, PathBuf};

use deferring::{AtFlags, Fd, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::Session;
use super::item::Item;
use super::report::special;
use super::step::{Failure, errno};

/// Names that this process has not used.
#[derive(Default)]
pub(super) struct Names(Cell<u64>);

/// After as many names that are taken, something else is wrong.
pub(super) const TRIES: usize = 1000;

impl Names {
    /// One in the directory that has this path in it.
    pub(super) fn next(&self, beside: &Path) -> PathBuf {
        let number = self.0.get();
        self.0.set(number + 1);
        beside.with_file_name(format!(".deferring-cp.{}.{number}", std::process::id()))
    }
}

/// Tries names until `make` meets none that is taken: by a process of this number that was killed.
pub(super) async fn under_free_name<T, F>(
    session: &Session,
    item: &Item,
    mut make: impl FnMut(PathBuf) -> F,
) -> io::Result<(T, PathBuf)>
where
    F: IntoFuture<Output = io::Result<T>>,
{
    for _ in 1..TRIES {
        let name = session.names.next(&item.to);
        match make(name.clone()).await {
            Err(error) if errno(&error) == Some(Errno::EXIST) => {}
            result => return result.map(|made| (made, name)),
        }
    }
    Err(Errno::EXIST.into())
}

/// An empty file for the item's data.
pub(super) async fn create(
    session: &Session,
    item: &Item,
    mode: Mode,
) -> Result<(Fd, PathBuf), Failure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let open =
        |name| session.ring.openat2(item.target_dir(), name, flags, mode, ResolveFlags::empty());
    let made = under_free_name(session, item, open).await;
    made.map_err(|error| Failure::new("openat2", item.target_path(), error))
}

/// Gives it its final name, in place of a file or link that has that; removes it if that fails.
pub(super) async fn publish(session: &Session, item: &Item, name: PathBuf) -> Result<(), Failure> {
    match rename(session, item, &name).await {
        Ok(()) => Ok(()),
        Err(error) => {
            remove(session, item, name).await;
            Err(Failure::new("renameat2", item.target_path(), error))
        }
    }
}

/// Mostly nothing has the name, so that one call does; else what has it is looked at first.
async fn rename(session: &Session, item: &Item, name: &Path) -> io::Result<()> {
    let ring = &session.ring;
    let rename =
        |flags| ring.renameat2(item.target_dir(), name, item.target_dir(), &item.to, flags);
    let renamed = rename(RenameFlags::NOREPLACE).await;
    match renamed.as_ref().map_err(errno) {
        // Or the file system does not know the flag.
        Err(Some(Errno::EXIST | Errno::INVAL)) => {}
        Ok(()) | Err(_) => return renamed,
    }
    let (flags, mask) = (AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE);
    let there = ring.statx(item.target_dir(), &item.to, flags, mask).await;
    // If it is gone meanwhile, so much the better.
    if let Some(special) = there.ok().and_then(|there| there.file_type()).and_then(special) {
        return Err(io::Error::other(format!("{special} has that name, and is not replaced")));
    }
    rename(RenameFlags::empty()).await
}

/// Removes it: the copy has failed, and that has been or will be reported.
pub(super) async fn remove(session: &Session, item: &Item, name: PathBuf) {
    let unlink = || session.ring.unlinkat(item.target_dir(), &name, AtFlags::empty());
    if let Err(error) = unlink().await {
        let path = item.target_path().with_file_name(name.file_name().unwrap_or_default());
        session.report.failure(&Failure::new("unlinkat", path, error));
    }
}
