//! A directory and its copy, open while things are copied from one into the other.
//!
//! Entered before its entries are read, left after the last of them is done: only then do `-p` and
//! missing permissions of the owner's take effect. When that is, is decided in `walk.rs`.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use deferring::{At, Device, Fd, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::Session;
use super::attributes::{self, STAT_MASK};
use super::item::{Item, Trail};
use super::step::{Failure, errno};

pub(super) struct Directory {
    pub(super) parent: Option<Rc<Directory>>,
    pub(super) from: Fd,
    pub(super) to: Fd,
    pub(super) from_trail: Rc<Trail>,
    pub(super) to_trail: Rc<Trail>,
    /// How many directories are above it.
    pub(super) depth: usize,
    stat: Stat,
    /// We made it, so its permissions are ours to finish.
    is_new: bool,
    /// Entries begun and not done, and one for the listing itself.
    open: Cell<usize>,
}

/// What a directory or file is, whatever its name.
pub(super) type Identity = (Device, Option<u64>);

/// The copies of the arguments themselves: a walk that meets one is about to copy its own work.
#[derive(Default)]
pub(super) struct Destinations(RefCell<Vec<Identity>>);

pub(super) fn identity(stat: &Stat) -> Identity {
    (stat.dev(), stat.ino())
}

/// What a directory needs until all is in it.
const OWNER_ALL: Mode = Mode::RWXU;
/// What a copy without `-p` takes over, as `cp` does: set-id bits go, sticky directories stay.
const PLAIN_BITS: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO).union(Mode::SVTX);

impl Directory {
    /// Opens it and makes its copy, unless that is there.
    pub(super) async fn enter(session: &Session, item: &Item) -> Result<Rc<Self>, Failure> {
        let ring = &session.ring;
        let failed = |step| move |error: io::Error| Failure::new(step, item.source_path(), error);
        let from = open(session, || item.source_dir(), &item.from, item.is_root())
            .await
            .map_err(failed("openat2"))?;
        let stat = ring
            .statx(&from, "", deferring::AtFlags::EMPTY_PATH, STAT_MASK)
            .await
            .map_err(failed("statx"))?;
        session.destinations.refuse(&stat, item)?;
        let (to, is_new) = make(session, item, mode_of(&stat)).await?;
        if item.is_root() {
            session.destinations.add(ring, &to, item).await?;
        }
        Ok(Rc::new(Self {
            parent: item.parent.clone(),
            from,
            to,
            from_trail: trail(item, |parent| &parent.from_trail, &item.from),
            to_trail: trail(item, |parent| &parent.to_trail, &item.to),
            depth: item.parent.as_ref().map_or(0, |parent| parent.depth + 1),
            stat,
            is_new,
            open: Cell::new(1),
        }))
    }

    /// One more entry is begun.
    pub(super) fn begin_entry(&self) {
        self.open.set(self.open.get() + 1);
    }

    /// An entry, or the listing, is done. True if it was the last.
    pub(super) fn end_entry(&self) -> bool {
        let left = self.open.get().checked_sub(1).expect("no more ends than begins");
        self.open.set(left);
        left == 0
    }

    /// Gives the copy its attributes and closes both. All is in it.
    pub(super) fn leave(&self, session: &Session) {
        let path = || self.to_trail.path();
        if let Err((step, error)) = self.finish(session.preserve) {
            session.report.failure(&Failure::new(step, path(), error));
        }
        // Not waited for: nothing was written through them.
        drop(session.ring.close(&self.from));
        drop(session.ring.close(&self.to));
    }

    fn finish(&self, preserve: bool) -> Result<(), (&'static str, io::Error)> {
        let lease = self.to.lease();
        let to = lease.try_as_fd().map_err(|error| ("fchmod", error))?;
        if preserve {
            return attributes::give(to, &self.stat);
        }
        let added = OWNER_ALL.difference(mode_of(&self.stat));
        if self.is_new && !added.is_empty() {
            // Less the umask, which the kernel took off when it was made, and we need not know.
            let now = rustix::fs::fstat(to).map_err(|errno| ("fstat", errno.into()))?;
            let mode = Mode::from_raw_mode(now.st_mode).difference(added);
            rustix::fs::fchmod(to, mode).map_err(|errno| ("fchmod", errno.into()))?;
        }
        Ok(())
    }
}

impl Drop for Directory {
    /// Without recursion, however deep the tree that was interrupted.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut directory) = next.and_then(Rc::into_inner) {
            next = directory.parent.take();
        }
    }
}

impl Destinations {
    async fn add(&self, ring: &deferring::Ring, to: &Fd, item: &Item) -> Result<(), Failure> {
        let stat = ring
            .statx(to, "", deferring::AtFlags::EMPTY_PATH, STAT_MASK)
            .await
            .map_err(|error| Failure::new("statx", item.target_path(), error))?;
        self.0.borrow_mut().push(identity(&stat));
        Ok(())
    }

    /// What paths cannot tell beforehand: a mount inside the source may lead to the copy.
    fn refuse(&self, stat: &Stat, item: &Item) -> Result<(), Failure> {
        if self.0.borrow().contains(&identity(stat)) {
            let error = io::Error::other("this is where the copy goes; it is left out");
            return Err(Failure::new("copy", item.source_path(), error));
        }
        Ok(())
    }
}

fn mode_of(stat: &Stat) -> Mode {
    stat.mode().unwrap_or(OWNER_ALL).intersection(PLAIN_BITS)
}

/// Whether it is new is the second.
async fn make(session: &Session, item: &Item, mode: Mode) -> Result<(Fd, bool), Failure> {
    let ring = &session.ring;
    let made = ring.mkdirat(item.target_dir(), &item.to, mode.union(OWNER_ALL)).await;
    let failed = |step| move |error: io::Error| Failure::new(step, item.target_path(), error);
    let is_new = match made {
        Ok(()) => true,
        Err(error) if errno(&error) == Some(Errno::EXIST) => false,
        Err(error) => return Err(failed("mkdirat")(error)),
    };
    match open(session, || item.target_dir(), &item.to, item.is_root()).await {
        Ok(to) => Ok((to, is_new)),
        Err(error) if errno(&error) == Some(Errno::NOTDIR) && !is_new => {
            Err(failed("mkdirat")(Errno::EXIST.into()))
        }
        Err(error) => Err(failed("openat2")(error)),
    }
}

async fn open(
    session: &Session,
    at: impl Fn() -> At,
    name: &std::path::Path,
    follow: bool,
) -> io::Result<Fd> {
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY;
    flags.set(OFlags::NOFOLLOW, !follow);
    session.ring.openat2(at(), name, flags, Mode::empty(), ResolveFlags::empty()).await
}

fn trail(
    item: &Item,
    of: impl Fn(&Directory) -> &Rc<Trail>,
    name: &Rc<std::path::Path>,
) -> Rc<Trail> {
    Trail::new(item.parent.as_deref().map(of), name)
}
