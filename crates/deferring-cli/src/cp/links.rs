//! Hard links: the second name of a file becomes a link to the copy of the first.
//!
//! Known for each file that has names we have not met yet: in memory up to a number of files, and
//! the rest as names on the disk (`spill.rs`). So this does not grow with the tree, as long as the
//! destination takes such names; where it does not, the rest is kept in memory too, some 190 bytes
//! each, name included (measured: 400,000 pairs, first names in one directory and second names in
//! another, took 77 MiB so, and 8 MiB with names on the disk).
//!
//! A file is in memory while anybody works on it, so that two names met at once are still one file:
//!
//! | in memory  | on the disk | then                                                            |
//! |------------|-------------|-----------------------------------------------------------------|
//! | no         | not yet     | the first name: now under way                                   |
//! | no         | maybe       | now under way, and looked up: a link, or the first name         |
//! | `UnderWay` | maybe       | wait                                                            |
//! | `At`       | no          | a link to that path; forgotten with the last name               |
//! | `Failed`   | no          | only seen by those who waited: they look again                  |
//! | `Spilled`  | yes         | only seen by those who waited: a link to the name on the disk   |

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, Waker};

use deferring::{At, AtFlags, CWD, Device, Stat, Timestamp};
use rustix::io::Errno;

use super::Session;
use super::item::{Item, Trail, full};
use super::report::Kind;
use super::spill::Spill;
use super::step::{Failure, errno};
use super::temporary;

/// Files with names to come that are kept in memory, besides those under way: some 2 MiB, or 9 MiB
/// where each of them has a name and a directory of its own with names of 255 bytes.
const LINKS_IN_MEMORY: usize = 12_000;

pub(super) struct Links {
    met: RefCell<HashMap<FileId, Met>>,
    in_memory: usize,
    spill: Spill,
}

/// What a file is, whatever its name: with its time of birth, where there is such a thing, since a
/// number that is free is used again, and what is on the disk stays there to the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct FileId {
    dev: Device,
    ino: u64,
    btime: Option<Timestamp>,
}

struct Met {
    /// Names that are still to come.
    left: u32,
    copy: Rc<RefCell<Copy>>,
}

/// The copy of the first name.
enum Copy {
    UnderWay(Vec<Waker>),
    Failed,
    At { directory: Option<Rc<Trail>>, name: Rc<Path> },
    Spilled,
}

/// What a name turned out to be.
pub(super) enum Meeting<'a> {
    /// The first of its file, which is to be copied.
    First(First<'a>),
    /// Another one; it is a link now, and counted.
    Linked,
}

/// The duty to say how the copy of the first name went. Dropped without, it failed.
pub(super) struct First<'a> {
    links: &'a Links,
    of: Option<(FileId, Rc<RefCell<Copy>>)>,
}

impl Links {
    pub(super) fn new(in_memory: Option<usize>) -> Self {
        Self {
            met: RefCell::default(),
            in_memory: in_memory.unwrap_or(LINKS_IN_MEMORY),
            spill: Spill::default(),
        }
    }

    pub(super) const fn spill(&self) -> &Spill {
        &self.spill
    }

    /// Links the item if its file has been copied under another name; waits for that, if need be.
    pub(super) async fn meet(
        &self,
        session: &Session,
        item: &Item,
        stat: &Stat,
    ) -> Result<Meeting<'_>, Failure> {
        loop {
            let linked = match self.look_up(stat) {
                Found::Alone => Linked::No,
                Found::First(id, first) => match self.link_spilled(session, item, id).await? {
                    Linked::Gone => return Ok(Meeting::First(first)),
                    linked @ (Linked::Yes | Linked::No) => {
                        first.settle(Copy::Spilled);
                        linked
                    }
                },
                Found::Other(id, copy) => match place(&copy).await {
                    Place::Nowhere => Linked::Gone,
                    Place::Spilled => self.link_spilled(session, item, id).await?,
                    Place::At(path) => link(session, item, || CWD, &path).await?,
                },
            };
            match linked {
                Linked::Yes => {
                    session.report.copied(Kind::File);
                    return Ok(Meeting::Linked);
                }
                Linked::No => return Ok(Meeting::First(First { links: self, of: None })),
                Linked::Gone => {}
            }
        }
    }

    /// What is new is under way from now on.
    fn look_up(&self, stat: &Stat) -> Found<'_> {
        let names = stat.nlink().unwrap_or(1);
        let Some(id) = FileId::of(stat).filter(|_| names > 1) else { return Found::Alone };
        match self.met.borrow_mut().entry(id) {
            Entry::Vacant(vacant) => {
                let copy = Rc::new(RefCell::new(Copy::UnderWay(Vec::new())));
                vacant.insert(Met { left: names - 1, copy: Rc::clone(&copy) });
                Found::First(id, First { links: self, of: Some((id, copy)) })
            }
            Entry::Occupied(mut met) => {
                let copy = Rc::clone(&met.get().copy);
                met.get_mut().left -= 1;
                if met.get().left == 0 {
                    met.remove();
                }
                Found::Other(id, copy)
            }
        }
    }

    async fn link_spilled(
        &self,
        session: &Session,
        item: &Item,
        id: FileId,
    ) -> Result<Linked, Failure> {
        if !self.spill.is_used() {
            return Ok(Linked::Gone);
        }
        let name = id.name();
        match link(session, item, || self.spill.at(), &name).await {
            Err(Failure::Step { error, .. }) if errno(&error) == Some(Errno::NOENT) => {
                Ok(Linked::Gone)
            }
            // If it has too many links, ours is the one too many.
            Ok(Linked::No) if self.spill.give(session, item, &name).await => Ok(Linked::Yes),
            linked => linked,
        }
    }

    /// Whether there is one more than may stay, and names of this one are still to come.
    fn is_too_many(&self, id: FileId, copy: &Rc<RefCell<Copy>>) -> bool {
        let met = self.met.borrow();
        met.len() > self.in_memory && met.get(&id).is_some_and(|met| Rc::ptr_eq(&met.copy, copy))
    }

    fn forget(&self, id: FileId, copy: &Rc<RefCell<Copy>>) {
        if let Entry::Occupied(met) = self.met.borrow_mut().entry(id) {
            // More names may have come than there were when the first was met.
            if Rc::ptr_eq(&met.get().copy, copy) {
                met.remove();
            }
        }
    }
}

impl FileId {
    fn of(stat: &Stat) -> Option<Self> {
        Some(Self { dev: stat.dev(), ino: stat.ino()?, btime: stat.btime() })
    }

    fn name(&self) -> PathBuf {
        let Self { dev: Device { major, minor }, ino, btime } = self;
        let born =
            btime.map(|Timestamp { seconds, nanoseconds }| format!("-{seconds}.{nanoseconds}"));
        format!("{major}-{minor}-{ino}{}", born.unwrap_or_default()).into()
    }
}

enum Found<'a> {
    /// No other name that we could know.
    Alone,
    First(FileId, First<'a>),
    Other(FileId, Rc<RefCell<Copy>>),
}

enum Linked {
    Yes,
    /// Such a link cannot be: then the data is copied once more.
    No,
    /// There is nothing to link to.
    Gone,
}

enum Place {
    Nowhere,
    At(PathBuf),
    Spilled,
}

/// Where the first copy is, as soon as it is there; nowhere if it failed.
async fn place(copy: &RefCell<Copy>) -> Place {
    std::future::poll_fn(|cx| match &mut *copy.borrow_mut() {
        Copy::UnderWay(wakers) => {
            wakers.push(cx.waker().clone());
            Poll::Pending
        }
        Copy::Failed => Poll::Ready(Place::Nowhere),
        Copy::At { directory, name } => Poll::Ready(Place::At(full(directory.as_ref(), name))),
        Copy::Spilled => Poll::Ready(Place::Spilled),
    })
    .await
}

async fn link(
    session: &Session,
    item: &Item,
    dir: impl Fn() -> At,
    first: &Path,
) -> Result<Linked, Failure> {
    let ring = &session.ring;
    let none = AtFlags::empty();
    let linked = ring.linkat(dir(), first, item.target_dir(), &item.to, none).await;
    match linked.as_ref().map_err(errno) {
        Ok(()) => return Ok(Linked::Yes),
        Err(Some(Errno::EXIST)) => {}
        // Another file system below a mount, too many links, too long a path.
        Err(Some(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::NAMETOOLONG)) => {
            return Ok(Linked::No);
        }
        Err(_) => return linked.map(|()| Linked::Yes).map_err(|error| failed(item, error)),
    }
    let link = |name| ring.linkat(dir(), first, item.target_dir(), name, none);
    let made = temporary::under_free_name(session, item, link).await;
    let ((), name) = made.map_err(|error| failed(item, error))?;
    temporary::publish(session, item, name.clone()).await?;
    // If both names were the same file's already, the rename did nothing.
    let unlinked = ring.unlinkat(item.target_dir(), &name, none).await;
    match unlinked {
        Err(error) if errno(&error) != Some(Errno::NOENT) => Err(failed(item, error)),
        Ok(()) | Err(_) => Ok(Linked::Yes),
    }
}

fn failed(item: &Item, error: std::io::Error) -> Failure {
    Failure::new("linkat", item.target_path(), error)
}

impl First<'_> {
    /// The item is there, under its name.
    pub(super) async fn copied(self, session: &Session, item: &Item) {
        let Some((id, copy)) = &self.of else { return };
        // Under way until the name is on the disk: who comes meanwhile waits.
        let is_spilled = self.links.is_too_many(*id, copy)
            && self.links.spill.keep(session, item, &id.name()).await;
        let directory = item.parent.as_ref().map(|parent| Rc::clone(&parent.to_trail));
        let at = Copy::At { directory, name: Rc::clone(&item.to) };
        self.settle(if is_spilled { Copy::Spilled } else { at });
    }

    fn settle(mut self, to: Copy) {
        self.change(to);
    }

    fn change(&mut self, to: Copy) {
        let Some((id, copy)) = self.of.take() else { return };
        match to {
            Copy::UnderWay(_) | Copy::At { .. } => {}
            // If it failed, the next name, or one of those that wait, is the first now.
            Copy::Failed | Copy::Spilled => self.links.forget(id, &copy),
        }
        if let Copy::UnderWay(wakers) = copy.replace(to) {
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        self.change(Copy::Failed);
    }
}
