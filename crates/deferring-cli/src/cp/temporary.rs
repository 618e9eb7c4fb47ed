//! Files under a temporary name, until they are whole.
//!
//! The name is in the directory of the final one, hidden, and taken by nobody: `O_EXCL` sees to
//! that. Whoever makes a temporary file removes it or gives it its name, whatever happens.

use std::cell::Cell;
use std::future::IntoFuture;
use std::io;
use std::path::PathBuf;

use deferring::{AtFlags, Fd, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::Session;
use super::item::Item;
use super::step::{Failure, again, errno};

/// Names that this process has not used.
#[derive(Default)]
pub(super) struct Names(Cell<u64>);

impl Names {
    fn next(&self, item: &Item) -> PathBuf {
        let number = self.0.get();
        self.0.set(number + 1);
        item.to.with_file_name(format!(".deferring-cp.{}.{number}", std::process::id()))
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
    const TRIES: usize = 1000;
    for _ in 1..TRIES {
        let name = session.names.next(item);
        match again(|| make(name.clone())).await {
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

/// Gives it its final name, in place of what has that; removes it if that fails.
pub(super) async fn publish(session: &Session, item: &Item, name: PathBuf) -> Result<(), Failure> {
    let ring = &session.ring;
    let flags = RenameFlags::empty();
    let rename = || ring.renameat2(item.target_dir(), &name, item.target_dir(), &item.to, flags);
    match again(rename).await {
        Ok(()) => Ok(()),
        Err(error) => {
            remove(session, item, name).await;
            Err(Failure::new("renameat2", item.target_path(), error))
        }
    }
}

/// Removes it: the copy has failed, and that has been or will be reported.
pub(super) async fn remove(session: &Session, item: &Item, name: PathBuf) {
    let unlink = || session.ring.unlinkat(item.target_dir(), &name, AtFlags::empty());
    if let Err(error) = again(unlink).await {
        let path = item.target_path().with_file_name(name.file_name().unwrap_or_default());
        session.report.failure(&Failure::new("unlinkat", path, error));
    }
}
