//! The changes of names that the disk does not have yet, in the order in which they were made.
//!
//! Each is one step: a rename is never half there. A power cut leaves the first few of them and
//! undoes the rest. The journal is finite: when it is full, the disk gets the oldest.
//!
//! Not: the bytes of files (`content.rs`), nor when it is synced and lost (`power.rs`).

use std::collections::VecDeque;
use std::fmt;

use super::Disk;
use super::inode::{Body, InodeId, Name};

/// How many changes wait at most.
const CHANGES_MAX: usize = 1024;

/// How many chunks at most are kept of files that only the journal knows.
const GHOSTS_MAX: u64 = 4096;

#[derive(Default)]
pub(super) struct Journal {
    changes: VecDeque<Change>,
}

/// A change of names, undone as a whole.
pub(super) struct Change {
    pub(super) what: What,
    pub(super) edits: Vec<Edit>,
}

/// What a name in a directory meant, and means now.
pub(super) struct Edit {
    pub(super) dir: InodeId,
    pub(super) name: Name,
    pub(super) old: Option<InodeId>,
    pub(super) new: Option<InodeId>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Create,
    Mkdir,
    Mkfifo,
    Symlink,
    Link,
    Unlink,
    Rmdir,
    Rename,
    Exchange,
}

impl Journal {
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// How many changes, from the first, there are up to the last one in this directory.
    pub(super) fn len_up_to(&self, dir: InodeId) -> usize {
        let touches = |change: &Change| change.edits.iter().any(|edit| edit.dir == dir);
        self.changes.iter().rposition(touches).map_or(0, |place| place + 1)
    }

    pub(super) fn pop_last(&mut self) -> Option<Change> {
        self.changes.pop_back()
    }

    pub(super) fn clear(&mut self) {
        self.changes.clear();
    }
}

impl Disk {
    /// Makes a change of names.
    pub(super) fn change(&mut self, what: What, edits: Vec<Edit>) {
        self.apply(&edits, |edit| edit.old, |edit| edit.new);
        let now = self.now;
        for edit in &edits {
            self.inode_mut(edit.dir).modified(now);
            for id in edit.old.into_iter().chain(edit.new) {
                let inode = self.inode_mut(id);
                inode.pins += 1;
                inode.ctime = now;
            }
        }
        let gone: Vec<InodeId> = edits.iter().filter_map(|edit| edit.old).collect();
        self.journal.changes.push_back(Change { what, edits });
        for id in gone {
            self.free_if_gone(id);
        }
        while self.journal.len() > CHANGES_MAX || self.ghosts > GHOSTS_MAX {
            self.commit(1);
        }
    }

    /// Takes a change back.
    pub(super) fn undo(&mut self, change: &Change) {
        self.apply(&change.edits, |edit| edit.new, |edit| edit.old);
    }

    /// The disk gets the first so many changes.
    pub(super) fn commit(&mut self, n: usize) {
        for _ in 0..n {
            let change = self.journal.changes.pop_front().expect("so many there are");
            for id in change.edits.iter().flat_map(|edit| edit.old.into_iter().chain(edit.new)) {
                let inode = self.inode_mut(id);
                inode.pins -= 1;
                if inode.pins == 0 && inode.ghost {
                    self.free_if_gone(id);
                }
            }
        }
    }

    /// Names lose one meaning and get another; first all lose, since two may swap.
    fn apply(
        &mut self,
        edits: &[Edit],
        from: impl Fn(&Edit) -> Option<InodeId>,
        to: impl Fn(&Edit) -> Option<InodeId>,
    ) {
        for edit in edits {
            if let Some(id) = from(edit) {
                self.detach(edit.dir, &edit.name, id);
            }
        }
        for edit in edits {
            if let Some(id) = to(edit) {
                self.attach(edit.dir, edit.name.clone(), id);
            }
        }
    }

    fn attach(&mut self, dir: InodeId, name: Name, id: InodeId) {
        let inode = self.inode_mut(id);
        let is_directory = match &mut inode.body {
            Body::Directory(directory) => {
                directory.is_linked = true;
                directory.parent = dir;
                true
            }
            Body::File(_) | Body::Symlink(_) | Body::Fifo => {
                inode.names += 1;
                false
            }
        };
        let Body::Directory(parent) = &mut self.inode_mut(dir).body else {
            unreachable!("names are in directories");
        };
        parent.subdirectories += u32::from(is_directory);
        let before = parent.entries.insert(name, id);
        assert!(before.is_none(), "the name was free");
    }

    fn detach(&mut self, dir: InodeId, name: &[u8], id: InodeId) {
        let inode = self.inode_mut(id);
        let is_directory = match &mut inode.body {
            Body::Directory(directory) => {
                directory.is_linked = false;
                true
            }
            Body::File(_) | Body::Symlink(_) | Body::Fifo => {
                inode.names -= 1;
                false
            }
        };
        let Body::Directory(parent) = &mut self.inode_mut(dir).body else {
            unreachable!("names are in directories");
        };
        parent.subdirectories -= u32::from(is_directory);
        let before = parent.entries.remove(name);
        assert_eq!(before, Some(id), "the name meant this");
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            What::Create => "create",
            What::Mkdir => "mkdir",
            What::Mkfifo => "mkfifo",
            What::Symlink => "symlink",
            What::Link => "link",
            What::Unlink => "unlink",
            What::Rmdir => "rmdir",
            What::Rename => "rename",
            What::Exchange => "exchange",
        })
    }
}
