//! One name to be copied: where it is, and where it is to be.
//!
//! Names are relative to open directories, so that trees may be deeper than a path can be long and
//! nobody can lead the copy elsewhere by putting a symbolic link into the way.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use deferring::{At, CWD, FileType};

use super::directory::Directory;

#[derive(Clone)]
pub(super) struct Item {
    /// None: the paths are from the working directory, as the command line has them.
    pub(super) parent: Option<Rc<Directory>>,
    pub(super) from: Rc<Path>,
    pub(super) to: Rc<Path>,
    pub(super) kind: FileType,
}

impl Item {
    pub(super) fn within(parent: &Rc<Directory>, name: &OsStr, kind: FileType) -> Self {
        let name: Rc<Path> = Path::new(name).into();
        Self { parent: Some(Rc::clone(parent)), from: Rc::clone(&name), to: name, kind }
    }

    /// The directory that `from` starts at.
    pub(super) fn source_dir(&self) -> At {
        self.parent.as_ref().map_or(CWD, |parent| At::from(&parent.from))
    }

    /// The directory that `to` starts at.
    pub(super) fn target_dir(&self) -> At {
        self.parent.as_ref().map_or(CWD, |parent| At::from(&parent.to))
    }

    /// Whether this is an argument, and not something found in one.
    pub(super) const fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    pub(super) fn source_path(&self) -> PathBuf {
        full(self.parent.as_ref().map(|parent| &parent.from_trail), &self.from)
    }

    pub(super) fn target_path(&self) -> PathBuf {
        full(self.parent.as_ref().map(|parent| &parent.to_trail), &self.to)
    }
}

/// A directory's path, shared with those above it: kept for messages and for hard links.
pub(super) struct Trail {
    parent: Option<Rc<Trail>>,
    name: Rc<Path>,
}

impl Trail {
    pub(super) fn new(parent: Option<&Rc<Self>>, name: &Rc<Path>) -> Rc<Self> {
        Rc::new(Self { parent: parent.cloned(), name: Rc::clone(name) })
    }

    pub(super) fn path(&self) -> PathBuf {
        full(self.parent.as_ref(), &self.name)
    }
}

impl Drop for Trail {
    /// Without recursion, however deep the tree.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut trail) = next.and_then(Rc::into_inner) {
            next = trail.parent.take();
        }
    }
}

/// A name behind the path of its directory.
pub(super) fn full(directory: Option<&Rc<Trail>>, name: &Path) -> PathBuf {
    let mut names = vec![name];
    let mut next = directory;
    while let Some(trail) = next {
        names.push(&trail.name);
        next = trail.parent.as_ref();
    }
    names.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_of_any_depth_can_be_shown_and_dropped() {
        let name: Rc<Path> = Path::new("d").into();
        let mut trail = Trail::new(None, &name);
        for _ in 0..200_000 {
            trail = Trail::new(Some(&trail), &name);
        }
        assert_eq!(full(Some(&trail), Path::new("f")).as_os_str().len(), 2 * 200_001 + 1);
        drop(trail);
    }

    #[test]
    fn a_name_stands_behind_its_directory() {
        let top = Trail::new(None, &Path::new("/a/").into());
        let below = Trail::new(Some(&top), &Path::new("b").into());
        assert_eq!(full(Some(&below), Path::new("c")), Path::new("/a/b/c"));
        assert_eq!(full(None, Path::new("c")), Path::new("c"));
    }
}
