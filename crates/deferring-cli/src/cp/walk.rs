//! What to do next: the trees as a stream, pulled only as there is room.
//!
//! Depth first. Several directories may be open side by side, so that the walk does not wait for
//! each `mkdirat`; beyond [`OPEN_WIDE`] it enters one at a time, so what it holds is bounded by
//! that and the depth of the tree. Not: what runs at the same time (`schedule.rs`).

use std::rc::Rc;

use super::Session;
use super::directory::Directory;
use super::item::Item;
use super::listing::Listing;
use super::step::Failure;

/// Directories being entered at a time.
const ENTERING_MAX: usize = 16;
/// Open directories from which on one is entered at a time.
const OPEN_WIDE: usize = 48;
/// Two for each directory, and some for the process, of which the levels of ordinary trees are few.
pub(super) const DESCRIPTORS: u64 = 2 * (OPEN_WIDE + ENTERING_MAX) as u64 + 64;

pub(super) struct Walk {
    /// Arguments still to be begun, in order.
    roots: std::vec::IntoIter<Item>,
    /// Directories being listed; the last is read from.
    open: Vec<Open>,
    entering: usize,
    /// A directory that was read from a listing and must wait to be entered.
    held: Option<Item>,
}

struct Open {
    directory: Rc<Directory>,
    listing: Listing,
}

impl Walk {
    pub(super) fn new(roots: Vec<Item>) -> Self {
        Self { roots: roots.into_iter(), open: Vec::new(), entering: 0, held: None }
    }

    /// The next thing to be copied. None if there is none, or none before something is done.
    pub(super) fn next(&mut self, session: &Session) -> Option<Item> {
        let item = match self.held.take() {
            Some(held) => held,
            None => self.read(session)?,
        };
        if item.kind.is_dir() {
            if self.entering >= self.entering_max() {
                self.held = Some(item);
                return None;
            }
            self.entering += 1;
        }
        Some(item)
    }

    fn entering_max(&self) -> usize {
        if self.open.len() < OPEN_WIDE { ENTERING_MAX } else { 1 }
    }

    fn read(&mut self, session: &Session) -> Option<Item> {
        while let Some(Open { directory, listing }) = self.open.last_mut() {
            match listing.next(&directory.from, directory.depth) {
                Ok(Some((kind, name))) => {
                    let item = Item::within(directory, name, kind);
                    directory.begin_entry();
                    return Some(item);
                }
                Ok(None) => {}
                Err(error) => {
                    let path = directory.from_trail.path();
                    session.report.failure(&Failure::new("getdents64", path, error));
                }
            }
            let done = self.open.pop().expect("it was there");
            end_entry(Some(done.directory), session);
        }
        // What is being entered may have more; arguments wait for each other's trees to be begun.
        if self.entering > 0 { None } else { self.roots.next() }
    }

    /// A directory was entered, or could not be.
    pub(super) fn entered(&mut self, directory: Option<Rc<Directory>>) {
        self.entering -= 1;
        self.open
            .extend(directory.map(|directory| Open { directory, listing: Listing::default() }));
    }
}

/// Something in this directory is done; leaves it, and those above it, if that was the last.
pub(super) fn end_entry(mut directory: Option<Rc<Directory>>, session: &Session) {
    while let Some(ended) = directory {
        if !ended.end_entry() {
            return;
        }
        ended.leave(session);
        directory = ended.parent.clone();
    }
}
