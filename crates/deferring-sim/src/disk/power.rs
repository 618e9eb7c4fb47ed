//! What is durable, and what a power cut leaves.
//!
//! `sync` of a file makes its bytes and size durable, not its name. `sync` of a directory makes
//! its names durable, with every change of names that came before. This is what POSIX promises;
//! ext4 does more, and a program that relies on more is shown wrong here. A sync that fails forgets
//! what it was to write, as ext4 and xfs do. Permissions and times are not lost: differs from Linux.
//!
//! Not: how sectors (`content.rs`) and names (`journal.rs`) are lost.

use std::fmt;

use fastrand::Rng;
use rustix::io::{Errno, Result};

use super::Disk;
use super::content::Lost;
use super::inode::{Body, InodeId, ROOT};
use super::journal::Change;

/// How much of what is not synced a power cut takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    Everything,
    /// Chance says, sector by sector; of the changes of names it leaves the first few.
    Torn,
    /// Nothing: as after an orderly shutdown.
    Nothing,
}

/// What a power cut took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LossReport {
    /// The changes of names that are undone, in the order in which they were made.
    pub(crate) names: Vec<String>,
    /// The files that have lost bytes or changed their size.
    pub(crate) files: Vec<FileLoss>,
}

/// What a power cut took of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileLoss {
    pub(crate) path: String,
    /// Bytes that are not what they were, or not there.
    pub(crate) bytes: u64,
    /// Sectors that the disk did not have as they were: how many fell back, and how many survived.
    pub(crate) sectors_lost: u64,
    pub(crate) sectors_kept: u64,
    pub(crate) size_before: u64,
    pub(crate) size_after: u64,
}

impl Disk {
    /// As `fsync` or `fdatasync`, which do not differ here: a size is needed to find the data.
    pub(crate) fn sync(&mut self, id: InodeId, _data_only: bool) -> Result<()> {
        match &mut self.inode_mut(id).body {
            Body::File(content) => content.sync(),
            Body::Directory(_) => self.commit(self.journal.len_up_to(id)),
            Body::Symlink(_) | Body::Fifo => return Err(Errno::INVAL),
        }
        Ok(())
    }

    /// As an `fsync` that the disk refuses: what it was to write is taken for written, and how many
    /// sectors that are is told. Names stay to be synced.
    pub(crate) fn fail_sync(&mut self, id: InodeId) -> u32 {
        match &mut self.inode_mut(id).body {
            Body::File(content) => content.fail_sync(),
            Body::Directory(_) | Body::Symlink(_) | Body::Fifo => 0,
        }
    }

    /// As `sync(2)`: all is durable.
    pub(crate) fn sync_all(&mut self) {
        self.commit(self.journal.len());
        for inode in self.inodes.iter_mut().flatten() {
            if let Body::File(content) = &mut inode.body {
                content.sync();
            }
        }
    }

    /// As the kernel does unasked, now and then: some of what is not synced becomes durable.
    pub(crate) fn write_back(&mut self, rng: &mut Rng) {
        self.commit(rng.usize(0..=self.journal.len()));
        for inode in self.inodes.iter_mut().flatten() {
            if let Body::File(content) = &mut inode.body {
                content.write_back(rng);
            }
        }
    }

    /// Becomes what a machine finds after a power cut. Nothing is held then.
    pub(crate) fn lose_power(&mut self, rng: &mut Rng, loss: Loss) -> LossReport {
        let mut report = LossReport::default();
        let survive = match loss {
            Loss::Everything => 0,
            Loss::Torn => rng.usize(0..=self.journal.len()),
            Loss::Nothing => self.journal.len(),
        };
        while self.journal.len() > survive {
            let change = self.journal.pop_last().expect("more than survive");
            report.names.push(self.describe(&change));
            self.undo(&change);
        }
        report.names.reverse();
        self.journal.clear();
        let mut reached = vec![false; self.inodes.len()];
        self.lose_in(ROOT, "", &mut reached, rng, loss, &mut report);
        self.restart(&reached);
        report
    }

    /// Files lose what they lose, in the order of the tree.
    fn lose_in(
        &mut self,
        dir: InodeId,
        path: &str,
        reached: &mut [bool],
        rng: &mut Rng,
        loss: Loss,
        report: &mut LossReport,
    ) {
        reached[super::index(dir)] = true;
        for (name, id, _) in self.list(dir).expect("a directory") {
            let path = format!("{path}/{}", String::from_utf8_lossy(&name));
            let seen = std::mem::replace(&mut reached[super::index(id)], true);
            match &mut self.inode_mut(id).body {
                Body::Directory(_) => self.lose_in(id, &path, reached, rng, loss, report),
                Body::File(content) if !seen => {
                    let lost = content.lose(rng, loss);
                    report.files.extend(FileLoss::new(path, lost));
                }
                Body::File(_) | Body::Symlink(_) | Body::Fifo => {}
            }
        }
    }

    /// Frees what the root does not lead to, and what was only of the time before.
    fn restart(&mut self, reached: &[bool]) {
        for (place, &reached) in self.inodes.iter_mut().zip(reached) {
            if !reached {
                *place = None;
            }
        }
        for inode in self.inodes.iter_mut().flatten() {
            inode.holds = 0;
            inode.pins = 0;
            inode.ghost = false;
        }
        self.ghosts = 0;
        self.used = self.inodes.iter().flatten().map(|inode| inode.room()).sum();
    }

    fn describe(&self, change: &Change) -> String {
        let path = |dir, name| format!("{}/{}", self.path_of(dir), String::from_utf8_lossy(name));
        let paths = change.edits.iter().map(|edit| path(edit.dir, &edit.name));
        format!("{} {}", change.what, paths.collect::<Vec<_>>().join(" to "))
    }
}

impl FileLoss {
    /// None: nothing is lost.
    fn new(path: String, lost: Lost) -> Option<Self> {
        let Lost { bytes, sectors_lost, sectors_kept, size_before, size_after } = lost;
        (bytes > 0 || size_before != size_after).then_some(FileLoss {
            path,
            bytes,
            sectors_lost,
            sectors_kept,
            size_before,
            size_after,
        })
    }

    /// Of what was not synced, some is there and some is not.
    pub(crate) fn is_torn(&self) -> bool {
        self.sectors_lost > 0 && self.sectors_kept > 0
    }
}

impl fmt::Display for LossReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.is_empty() && self.files.is_empty() {
            return f.write_str("nothing lost");
        }
        let names = self.names.iter().map(|name| format!("{name}: undone"));
        let files = self.files.iter().map(FileLoss::to_string);
        f.write_str(&names.chain(files).collect::<Vec<_>>().join("; "))
    }
}

impl fmt::Display for FileLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileLoss { path, bytes, sectors_lost, sectors_kept, size_before, size_after } = self;
        let torn = if self.is_torn() { "torn, " } else { "" };
        let sectors = sectors_lost + sectors_kept;
        write!(f, "{path}: {torn}{bytes} bytes and {sectors_lost} of {sectors} sectors lost")?;
        if size_before != size_after {
            write!(f, ", size {size_after} not {size_before}")?;
        }
        Ok(())
    }
}
