//! Making, removing, renaming and reading names.
//!
//! The order of the checks is that of Linux's `namei.c`: the first that fails is the errno.
//!
//! Not: opening (`open.rs`), nor when a name is durable (`journal.rs`).

use rustix::fs::{AtFlags, Mode, RenameFlags};
use rustix::io::{Errno, Result};

use super::Disk;
use super::inode::{Body, Directory, Inode, InodeId, Kind, Name};
use super::journal::{Edit, What};
use super::paths::{Last, Place, check_path};

/// ext4's limit of names for a file.
const NAMES_MAX: u32 = 65_000;

/// What is made, and its permissions.
pub(super) struct Making {
    pub(super) what: What,
    pub(super) mode: u32,
}

impl Disk {
    pub(crate) fn mkdir(&mut self, from: InodeId, path: &[u8], mode: Mode) -> Result<InodeId> {
        let (dir, name) = self.free_name(from, path, true)?;
        let making = Making { what: What::Mkdir, mode: mode.as_raw_mode() & 0o1777 };
        Ok(self.make(making, dir, &name, Body::Directory(Directory::new(dir))))
    }

    pub(crate) fn mkfifo(&mut self, from: InodeId, path: &[u8], mode: Mode) -> Result<InodeId> {
        let (dir, name) = self.free_name(from, path, false)?;
        let making = Making { what: What::Mkfifo, mode: mode.as_raw_mode() & 0o7777 };
        Ok(self.make(making, dir, &name, Body::Fifo))
    }

    pub(crate) fn symlink(&mut self, target: &[u8], from: InodeId, path: &[u8]) -> Result<InodeId> {
        check_path(target)?;
        let (dir, name) = self.free_name(from, path, false)?;
        let making = Making { what: What::Symlink, mode: 0o777 };
        Ok(self.make(making, dir, &name, Body::Symlink(target.into())))
    }

    pub(crate) fn readlink(&self, from: InodeId, path: &[u8]) -> Result<Vec<u8>> {
        let id = self.lookup(from, path, false)?;
        match &self.inode(id).body {
            Body::Symlink(target) => Ok(target.to_vec()),
            Body::File(_) | Body::Directory(_) | Body::Fifo => Err(Errno::INVAL),
        }
    }

    /// The entries of a directory, sorted, without `.` and `..`.
    pub(crate) fn list(&self, dir: InodeId) -> Result<Vec<(Name, InodeId, Kind)>> {
        let entries = self.inode(dir).directory()?.entries.iter();
        Ok(entries.map(|(name, &id)| (name.clone(), id, self.kind(id))).collect())
    }

    /// One more name for a file. Flags: `SYMLINK_FOLLOW`; `EMPTY_PATH`, by which `from` may be
    /// the file itself.
    pub(crate) fn link(
        &mut self,
        from: InodeId,
        path: &[u8],
        from2: InodeId,
        path2: &[u8],
        flags: AtFlags,
    ) -> Result<()> {
        if !(AtFlags::SYMLINK_FOLLOW | AtFlags::EMPTY_PATH).contains(flags) {
            return Err(Errno::INVAL);
        }
        let id = match path {
            [] if flags.contains(AtFlags::EMPTY_PATH) => from,
            _ => self.lookup(from, path, flags.contains(AtFlags::SYMLINK_FOLLOW))?,
        };
        let (dir, name) = self.free_name(from2, path2, false)?;
        let inode = self.inode_mut(id);
        if inode.kind() == Kind::Directory {
            return Err(Errno::PERM);
        }
        if inode.names == 0 && !inode.linkable {
            return Err(Errno::NOENT);
        }
        if inode.names >= NAMES_MAX {
            return Err(Errno::MLINK);
        }
        inode.linkable = false;
        self.change(What::Link, vec![Edit { dir, name, old: None, new: Some(id) }]);
        Ok(())
    }

    /// Removes a name: of an empty directory if `is_dir`, and otherwise of anything else.
    pub(crate) fn unlink(&mut self, from: InodeId, path: &[u8], is_dir: bool) -> Result<()> {
        let Place { dir, last, slash } = self.place(from, path)?;
        let name = match last {
            Last::Name(name) => name,
            Last::Root | Last::Dot | Last::DotDot if !is_dir => return Err(Errno::ISDIR),
            Last::Root => return Err(Errno::BUSY),
            Last::Dot => return Err(Errno::INVAL),
            Last::DotDot => return Err(Errno::NOTEMPTY),
        };
        let id = self.child(dir, &name)?.ok_or(Errno::NOENT)?;
        let what = match self.inode(id).directory() {
            Err(not_dir) if is_dir || slash => return Err(not_dir),
            Err(_) => What::Unlink,
            Ok(_) if !is_dir => return Err(Errno::ISDIR),
            Ok(directory) if !directory.entries.is_empty() => return Err(Errno::NOTEMPTY),
            Ok(_) => What::Rmdir,
        };
        self.change(what, vec![Edit { dir, name: name.into(), old: Some(id), new: None }]);
        Ok(())
    }

    /// Renames. Does not know `WHITEOUT`: differs from Linux.
    pub(crate) fn rename(
        &mut self,
        from: InodeId,
        path: &[u8],
        from2: InodeId,
        path2: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        let no_replace = flags.contains(RenameFlags::NOREPLACE);
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags)
            || no_replace && exchange
        {
            return Err(Errno::INVAL);
        }
        let (place, place2) = (self.place(from, path)?, self.place(from2, path2)?);
        let Last::Name(name) = place.last else { return Err(Errno::BUSY) };
        let Last::Name(name2) = place2.last else {
            return Err(if no_replace { Errno::EXIST } else { Errno::BUSY });
        };
        let (dir, dir2) = (place.dir, place2.dir);
        let id = self.child(dir, &name)?.ok_or(Errno::NOENT)?;
        let id2 = self.child(dir2, &name2)?;
        let is_dir = self.kind(id) == Kind::Directory;
        let is_dir2 = id2.map(|id2| self.kind(id2) == Kind::Directory);
        if no_replace && id2.is_some() {
            return Err(Errno::EXIST);
        }
        if exchange && id2.is_none() {
            return Err(Errno::NOENT);
        }
        let slash_of_none = exchange && place2.slash && is_dir2 == Some(false)
            || !is_dir && (place.slash || place2.slash && !exchange);
        if slash_of_none {
            return Err(Errno::NOTDIR);
        }
        if self.is_around(id, dir2) {
            return Err(Errno::INVAL);
        }
        if id2.is_some_and(|id2| self.is_around(id2, dir)) {
            return Err(if exchange { Errno::INVAL } else { Errno::NOTEMPTY });
        }
        if id2 == Some(id) {
            return Ok(());
        }
        if !exchange {
            match (is_dir, is_dir2) {
                (true, Some(false)) => return Err(Errno::NOTDIR),
                (false, Some(true)) => return Err(Errno::ISDIR),
                (_, Some(_) | None) => {}
            }
            if id2.is_some_and(|id2| has_entries(self.inode(id2))) {
                return Err(Errno::NOTEMPTY);
            }
        }
        let (what, left) = if exchange { (What::Exchange, id2) } else { (What::Rename, None) };
        let edits = vec![
            Edit { dir, name: name.into(), old: Some(id), new: left },
            Edit { dir: dir2, name: name2.into(), old: id2, new: Some(id) },
        ];
        self.change(what, edits);
        Ok(())
    }

    /// Makes an inode with a name that is free.
    pub(super) fn make(
        &mut self,
        making: Making,
        dir: InodeId,
        name: &[u8],
        body: Body,
    ) -> InodeId {
        let id = self.add(body, making.mode);
        self.change(making.what, vec![Edit { dir, name: name.into(), old: None, new: Some(id) }]);
        id
    }

    /// Where something new would be named by a path. As `filename_create`.
    fn free_name(&self, from: InodeId, path: &[u8], of_dir: bool) -> Result<(InodeId, Name)> {
        let Place { dir, last, slash } = self.place(from, path)?;
        let Last::Name(name) = last else { return Err(Errno::EXIST) };
        if self.child(dir, &name)?.is_some() {
            return Err(Errno::EXIST);
        }
        if slash && !of_dir {
            return Err(Errno::NOENT);
        }
        Ok((dir, name.into()))
    }
}

fn has_entries(inode: &Inode) -> bool {
    inode.directory().is_ok_and(|directory| !directory.entries.is_empty())
}
