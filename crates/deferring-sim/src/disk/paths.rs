//! From a path to an inode, as Linux's `namei.c` walks.
//!
//! Not: what is then done there (`open.rs`, `names.rs`). Permissions are not looked at: root's.

use rustix::fs::ResolveFlags;
use rustix::io::{Errno, Result};

use super::Disk;
use super::inode::{Body, Directory, InodeId, ROOT};

const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;
const LINKS_MAX: u32 = 40;

/// Where a walk is, and what of the path is before it.
pub(super) struct Walk {
    at: InodeId,
    root: InodeId,
    resolve: ResolveFlags,
    /// Symlinks followed so far.
    links: u32,
    path: Vec<u8>,
    next: usize,
}

/// The last directory of a path, and what is asked for in it.
pub(super) struct Place {
    pub(super) dir: InodeId,
    pub(super) last: Last,
    /// The path goes on with a slash: it means a directory.
    pub(super) slash: bool,
}

/// The last part of a path.
pub(super) enum Last {
    Name(Vec<u8>),
    Root,
    Dot,
    DotDot,
}

impl Walk {
    pub(super) fn new(
        disk: &Disk,
        from: InodeId,
        path: &[u8],
        resolve: ResolveFlags,
    ) -> Result<Walk> {
        check_path(path)?;
        let scoped = resolve.intersects(ResolveFlags::BENEATH | ResolveFlags::IN_ROOT);
        let root = if scoped { from } else { ROOT };
        let mut walk = Walk { at: from, root, resolve, links: 0, path: path.to_vec(), next: 0 };
        if path[0] == b'/' && !resolve.contains(ResolveFlags::IN_ROOT) {
            walk.jump_to_root()?;
        } else {
            disk.inode(from).directory()?;
        }
        Ok(walk)
    }

    /// Walks up to the last part.
    pub(super) fn place(&mut self, disk: &Disk) -> Result<Place> {
        loop {
            let part = self.part();
            let rest = self.next;
            self.skip_slashes();
            let slash = self.next > rest;
            let is_last = self.next == self.path.len();
            let last = match part.as_slice() {
                b"" => Last::Root,
                b"." => Last::Dot,
                b".." => Last::DotDot,
                _ => Last::Name(part),
            };
            if is_last {
                return Ok(Place { dir: self.at, last, slash });
            }
            match last {
                Last::Name(name) => self.step(disk, &name)?,
                Last::DotDot => self.up(disk)?,
                Last::Root | Last::Dot => {}
            }
        }
    }

    /// Walks to the end, through a symlink there if asked to.
    pub(super) fn end(&mut self, disk: &Disk, follow: bool) -> Result<InodeId> {
        loop {
            let place = self.place(disk)?;
            let Last::Name(name) = &place.last else { return self.dots(disk, &place.last) };
            let id = disk.child(place.dir, name)?.ok_or(Errno::NOENT)?;
            if follow || place.slash {
                if let Body::Symlink(target) = &disk.inode(id).body {
                    self.follow(target, place.slash)?;
                    continue;
                }
            }
            if place.slash {
                disk.inode(id).directory()?;
            }
            return Ok(id);
        }
    }

    /// The directory that a last part other than a name stands for.
    pub(super) fn dots(&mut self, disk: &Disk, last: &Last) -> Result<InodeId> {
        if let Last::DotDot = last {
            self.up(disk)?;
        }
        Ok(self.at)
    }

    /// Goes on with the target of the symlink that was the last part.
    pub(super) fn follow(&mut self, target: &[u8], slash: bool) -> Result<()> {
        let rest: &[u8] = if slash { b"/" } else { b"" };
        self.go_on_with(target, rest.to_vec())
    }

    fn step(&mut self, disk: &Disk, name: &[u8]) -> Result<()> {
        let id = disk.child(self.at, name)?.ok_or(Errno::NOENT)?;
        match &disk.inode(id).body {
            Body::Directory(_) => self.at = id,
            Body::Symlink(target) => {
                let rest = [b"/", &self.path[self.next..]].concat();
                self.go_on_with(target, rest)?;
            }
            Body::File(_) | Body::Fifo => return Err(Errno::NOTDIR),
        }
        Ok(())
    }

    fn up(&mut self, disk: &Disk) -> Result<()> {
        if self.at != self.root {
            let parent = disk.inode(self.at).directory()?.parent;
            // Differs from Linux: a removed directory there keeps its removed parent.
            disk.find(parent).ok_or(Errno::NOENT)?;
            self.at = parent;
        } else if self.resolve.contains(ResolveFlags::BENEATH) {
            return Err(Errno::XDEV);
        }
        Ok(())
    }

    fn go_on_with(&mut self, target: &[u8], rest: Vec<u8>) -> Result<()> {
        self.links += 1;
        if self.links > LINKS_MAX || self.resolve.contains(ResolveFlags::NO_SYMLINKS) {
            return Err(Errno::LOOP);
        }
        if target[0] == b'/' {
            self.jump_to_root()?;
        }
        self.path = [target, &rest].concat();
        self.next = 0;
        Ok(())
    }

    fn jump_to_root(&mut self) -> Result<()> {
        if self.resolve.contains(ResolveFlags::BENEATH) {
            return Err(Errno::XDEV);
        }
        self.at = self.root;
        Ok(())
    }

    fn part(&mut self) -> Vec<u8> {
        self.skip_slashes();
        let rest = &self.path[self.next..];
        let len = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        self.next += len;
        rest[..len].to_vec()
    }

    fn skip_slashes(&mut self) {
        let rest = &self.path[self.next..];
        self.next += rest.iter().take_while(|&&byte| byte == b'/').count();
    }
}

impl Disk {
    /// What a path names, seen from a directory; a symlink at its end is followed if asked to.
    pub(crate) fn lookup(&self, from: InodeId, path: &[u8], follow: bool) -> Result<InodeId> {
        Walk::new(self, from, path, ResolveFlags::empty())?.end(self, follow)
    }

    /// The last directory of a path, and what is asked for in it.
    pub(super) fn place(&self, from: InodeId, path: &[u8]) -> Result<Place> {
        Walk::new(self, from, path, ResolveFlags::empty())?.place(self)
    }

    /// What has this name in a directory.
    pub(super) fn child(&self, dir: InodeId, name: &[u8]) -> Result<Option<InodeId>> {
        let Directory { entries, is_linked, .. } = self.inode(dir).directory()?;
        if !is_linked {
            return Err(Errno::NOENT);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(entries.get(name).copied())
    }

    /// Whether a directory is another, or around it.
    pub(super) fn is_around(&self, outer: InodeId, inner: InodeId) -> bool {
        let mut at = inner;
        while at != outer {
            match self.find(at).map(|inode| inode.directory().map(|dir| dir.parent)) {
                Some(Ok(parent)) if at != ROOT => at = parent,
                _ => return false,
            }
        }
        true
    }

    /// A path to a directory, for people to read.
    pub(super) fn path_of(&self, dir: InodeId) -> String {
        let Some(Ok(directory)) = self.find(dir).map(|inode| inode.directory()) else {
            return String::from("(gone)");
        };
        if dir == ROOT {
            return String::new();
        }
        let entries = self.find(directory.parent).map(|inode| inode.directory());
        let name = match entries {
            Some(Ok(parent)) => parent.entries.iter().find(|&(_, &id)| id == dir),
            _ => None,
        };
        match name {
            Some((name, _)) => {
                format!("{}/{}", self.path_of(directory.parent), String::from_utf8_lossy(name))
            }
            None => String::from("(removed)"),
        }
    }
}

/// Of a path as the kernel copies it in.
pub(super) fn check_path(path: &[u8]) -> Result<()> {
    match path.len() {
        0 => Err(Errno::NOENT),
        PATH_MAX.. => Err(Errno::NAMETOOLONG),
        _ => Ok(()),
    }
}
