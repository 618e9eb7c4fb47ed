//! Hard links: the second name of a file becomes a link to the copy of the first.
//!
//! Kept in memory for each file that has names we have not met yet, and forgotten with the last:
//! some 170 bytes each, name included (measured: 200,000 pairs, first names in one directory and
//! second names in another, took 33 MiB). This is the one thing here that grows with the tree.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::rc::Rc;
use std::task::{Poll, Waker};

use deferring::{AtFlags, CWD, Stat};
use rustix::io::Errno;

use super::Session;
use super::directory::{Identity, identity};
use super::item::{Item, Trail, full};
use super::report::Kind;
use super::step::{Failure, again, errno};
use super::temporary;

#[derive(Default)]
pub(super) struct Links {
    met: RefCell<HashMap<Identity, Met>>,
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
    of: Option<(Identity, Rc<RefCell<Copy>>)>,
}

impl Links {
    /// Links the item if its file has been copied under another name; waits for that, if need be.
    pub(super) async fn meet(
        &self,
        session: &Session,
        item: &Item,
        stat: &Stat,
    ) -> Result<Meeting<'_>, Failure> {
        loop {
            let copy = match self.look_up(stat) {
                Found::First(first) => return Ok(Meeting::First(first)),
                Found::Other(copy) => copy,
            };
            let Some((directory, name)) = place(&copy).await else { continue };
            if link(session, item, &full(directory.as_ref(), &name)).await? {
                session.report.copied(Kind::File);
                return Ok(Meeting::Linked);
            }
            return Ok(Meeting::First(First { links: self, of: None }));
        }
    }

    fn look_up(&self, stat: &Stat) -> Found<'_> {
        let names = stat.nlink().unwrap_or(1);
        if names < 2 {
            return Found::First(First { links: self, of: None });
        }
        match self.met.borrow_mut().entry(identity(stat)) {
            Entry::Vacant(vacant) => {
                let copy = Rc::new(RefCell::new(Copy::UnderWay(Vec::new())));
                let of = Some((*vacant.key(), Rc::clone(&copy)));
                vacant.insert(Met { left: names - 1, copy });
                Found::First(First { links: self, of })
            }
            Entry::Occupied(mut met) => {
                let copy = Rc::clone(&met.get().copy);
                met.get_mut().left -= 1;
                if met.get().left == 0 {
                    met.remove();
                }
                Found::Other(copy)
            }
        }
    }
}

enum Found<'a> {
    First(First<'a>),
    Other(Rc<RefCell<Copy>>),
}

/// Where the first copy is, as soon as it is there; none if it failed.
async fn place(copy: &RefCell<Copy>) -> Option<(Option<Rc<Trail>>, Rc<Path>)> {
    std::future::poll_fn(|cx| match &mut *copy.borrow_mut() {
        Copy::UnderWay(wakers) => {
            wakers.push(cx.waker().clone());
            Poll::Pending
        }
        Copy::Failed => Poll::Ready(None),
        Copy::At { directory, name } => Poll::Ready(Some((directory.clone(), Rc::clone(name)))),
    })
    .await
}

/// False if such a link cannot be: then the data is copied once more.
async fn link(session: &Session, item: &Item, first: &Path) -> Result<bool, Failure> {
    let ring = &session.ring;
    let none = AtFlags::empty();
    let linked = again(|| ring.linkat(CWD, first, item.target_dir(), &item.to, none)).await;
    match linked.as_ref().map_err(errno) {
        Ok(()) => return Ok(true),
        Err(Some(Errno::EXIST)) => {}
        // Another file system below a mount, too many links, too long a path.
        Err(Some(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::NAMETOOLONG)) => {
            return Ok(false);
        }
        Err(_) => return linked.map(|()| true).map_err(|error| failed(item, error)),
    }
    let link = |name| ring.linkat(CWD, first, item.target_dir(), name, none);
    let made = temporary::under_free_name(session, item, link).await;
    let ((), name) = made.map_err(|error| failed(item, error))?;
    temporary::publish(session, item, name.clone()).await?;
    // If both names were the same file's already, the rename did nothing.
    let unlinked = again(|| ring.unlinkat(item.target_dir(), &name, none)).await;
    match unlinked {
        Err(error) if errno(&error) != Some(Errno::NOENT) => Err(failed(item, error)),
        Ok(()) | Err(_) => Ok(true),
    }
}

fn failed(item: &Item, error: std::io::Error) -> Failure {
    Failure::new("linkat", item.target_path(), error)
}

impl First<'_> {
    /// The item is there, under its name.
    pub(super) fn copied(mut self, item: &Item) {
        if let Some((_, copy)) = self.of.take() {
            let directory = item.parent.as_ref().map(|parent| Rc::clone(&parent.to_trail));
            change(&copy, Copy::At { directory, name: Rc::clone(&item.to) });
        }
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        if let Some((identity, copy)) = self.of.take() {
            // The next name, or one of those that wait, is the first now.
            self.links.met.borrow_mut().remove(&identity);
            change(&copy, Copy::Failed);
        }
    }
}

fn change(copy: &RefCell<Copy>, to: Copy) {
    if let Copy::UnderWay(wakers) = copy.replace(to) {
        wakers.into_iter().for_each(Waker::wake);
    }
}
