//! Hard links beyond those kept in memory: a directory of names for copies that are still wanted.
//!
//! `<dir>/.deferring-cp.<pid>.<n>.links`, where `<dir>` is the directory that the copied tree is
//! put into. Its attributes are never ours to finish, so that `-p` keeps all times. Where that is
//! another file system, or may not be written to, `<dir>` is the tree itself, whose times are put
//! back at the end. Made when it is needed, removed when all is copied or given up. Each name in it
//! is a link to the copy of a file, by that file's identity: looking one up and linking it is one
//! `linkat`. Not: who waits for whom, and what is kept in memory (`links.rs`).
//!
//! Where a link cannot be, the file is kept in memory after all: on another file system, mounted
//! inside the tree; for a file that has all the links it can have; where there is no tree but only
//! files.

use std::cell::{Cell, OnceCell};
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Component, Path, PathBuf};

use deferring::{At, AtFlags, CWD, Fd, Mode, OFlags, RenameFlags, Ring};
use futures_util::StreamExt;
use futures_util::stream;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::Session;
use super::attributes;
use super::item::Item;
use super::listing::Listing;
use super::step::{Failure, errno};
use super::temporary::{Names, TRIES};

/// Names removed at a time. They are in one directory, where the kernel takes turns anyhow.
const REMOVING: usize = 16;

#[derive(Default)]
pub(super) struct Spill {
    /// The destination of a tree. None if only files are copied.
    tree: OnceCell<PathBuf>,
    /// None if it could not be made.
    made: OnceCell<Option<Made>>,
    is_used: Cell<bool>,
}

struct Made {
    fd: Fd,
    path: PathBuf,
    /// The tree, if it is in there.
    inside: Option<PathBuf>,
    is_removed: Cell<bool>,
}

impl Spill {
    /// Where to make it, once that is needed: beside the first tree of those copied.
    pub(super) fn plan(&self, roots: &[Item]) {
        let trees = roots.iter().filter(|root| root.kind.is_dir()).map(|root| &root.to);
        // What is poured into a directory finishes that one too: then `<dir>` is the one above.
        let first = trees.min_by_key(|to| to.components().count());
        if let Some(first) = first {
            self.tree.set(first.to_path_buf()).expect("planned once");
        }
    }

    /// Whether anything is in it. Until then nothing needs to be looked up.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.get()
    }

    /// Keeps a link to what has just been copied. False if that cannot be.
    pub(super) async fn keep(&self, session: &Session, item: &Item, name: &Path) -> bool {
        let Some(made) = self.made.get_or_init(|| self.make(&session.names)) else { return false };
        let none = AtFlags::empty();
        let ring = &session.ring;
        let link = || ring.linkat(item.target_dir(), &item.to, &made.fd, name, none);
        let kept = match link().await {
            Ok(()) => true,
            // More names than it had when the first was met: two were taken for the first.
            Err(error) => errno(&error) == Some(Errno::EXIST),
        };
        if kept {
            self.is_used.set(true);
        }
        kept
    }

    /// Gives the item the link that is kept here, and keeps none. False if that cannot be.
    pub(super) async fn give(&self, session: &Session, item: &Item, name: &Path) -> bool {
        let flags = RenameFlags::empty();
        let ring = &session.ring;
        let rename = || ring.renameat2(self.at(), name, item.target_dir(), &item.to, flags);
        rename().await.is_ok()
    }

    /// The directory, as the start of a name in it.
    pub(super) fn at(&self) -> At {
        let made = self.made.get().and_then(Option::as_ref);
        At::from(&made.expect("something is in it").fd)
    }

    /// Plain calls: two once, and nobody has to wait for another who makes it.
    fn make(&self, names: &Names) -> Option<Made> {
        let tree = self.tree.get()?;
        let make = |place: &Path, inside: Option<&PathBuf>| {
            (0..TRIES).find_map(|_| match Made::new(links(names.next(place)), inside.cloned()) {
                Err(Errno::EXIST) => None,
                made => Some(made.ok()),
            })?
        };
        let beside = beside(tree).filter(|place| is_same_file_system(place, tree));
        beside.and_then(|place| make(&place, None)).or_else(|| make(&tree.join("_"), Some(tree)))
    }

    /// Removes it and all that is in it. Nothing is linked any more.
    pub(super) async fn remove(&self, session: &Session) {
        let Some(Some(made)) = self.made.get() else { return };
        let tree = made.inside.as_ref().filter(|_| session.preserve);
        let times = tree.map(|tree| (tree, rustix::fs::stat(tree)));
        match made.remove(&session.ring).await {
            Ok(()) => made.is_removed.set(true),
            Err(failure) => session.report.failure(&failure),
        }
        if let Some((tree, times)) = times {
            let put_back = times.and_then(|stat| attributes::put_back_times(tree, &stat));
            if let Err(errno) = put_back {
                session.report.failure(&Failure::new("utimensat", tree.clone(), errno));
            }
        }
    }

    /// What there was no time to remove.
    pub(super) fn left(&self) -> Option<&Path> {
        let made = self.made.get().and_then(Option::as_ref)?;
        (!made.is_removed.get()).then_some(&made.path)
    }
}

/// A path in `<dir>`. None if no directory contains the tree.
fn beside(tree: &Path) -> Option<PathBuf> {
    // Without a slash at the end, which would lead through a symbolic link.
    let tree = tree.components().as_path();
    match tree.components().next_back()? {
        Component::Normal(_) if !tree.is_symlink() => Some(tree.to_owned()),
        // By where it is and not by how it is called: that could be in a tree that is copied.
        Component::Normal(_) | Component::CurDir | Component::ParentDir => Some(tree.join("../_")),
        Component::RootDir | Component::Prefix(_) => None,
    }
}

/// Whether what is made at a path can be linked to from the tree.
fn is_same_file_system(place: &Path, tree: &Path) -> bool {
    let dir = place.parent().filter(|dir| !dir.as_os_str().is_empty());
    let device = |path: &Path| rustix::fs::stat(path).ok().map(|stat| stat.st_dev);
    device(dir.unwrap_or(Path::new("."))) == device(tree)
}

fn links(name: PathBuf) -> PathBuf {
    let mut name = OsString::from(name);
    name.push(".links");
    name.into()
}

impl Made {
    fn new(path: PathBuf, inside: Option<PathBuf>) -> rustix::io::Result<Self> {
        rustix::fs::mkdir(&path, Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd: fd.into(), path, inside, is_removed: Cell::new(false) }),
            Err(errno) => {
                // It is empty, and nobody's but ours.
                let _ = rustix::fs::rmdir(&path);
                Err(errno)
            }
        }
    }

    async fn remove(&self, ring: &Ring) -> Result<(), Failure> {
        // Some file systems pass over names when others are removed meanwhile.
        while self.remove_listed(ring).await? > 0 {
            let rewound = self.with_fd(|fd| Ok(rustix::fs::seek(fd, SeekFrom::Start(0))?));
            rewound.map_err(|error| self.failed("lseek", error))?;
        }
        ring.unlinkat(CWD, &self.path, AtFlags::REMOVEDIR)
            .await
            .map_err(|error| self.failed("unlinkat", error))
    }

    /// Removes what a listing gives, and returns how many names that were; or the first failure,
    /// when the others are done.
    async fn remove_listed(&self, ring: &Ring) -> Result<u64, Failure> {
        let mut listing = Listing::default();
        let mut listed = Ok(());
        let names = std::iter::from_fn(|| match listing.next(&self.fd, 0) {
            Ok(next) => next.map(|(_, name)| PathBuf::from(name)),
            Err(error) => {
                listed = Err(self.failed("getdents64", error));
                None
            }
        });
        let removals = stream::iter(names).map(async |name| {
            match ring.unlinkat(&self.fd, &name, AtFlags::empty()).await {
                Err(error) if errno(&error) != Some(Errno::NOENT) => {
                    Err(Failure::new("unlinkat", self.path.join(name), error))
                }
                Ok(()) | Err(_) => Ok(()),
            }
        });
        let count = |removed: Result<u64, Failure>, next: Result<(), Failure>| {
            std::future::ready(removed.and_then(|removed| next.map(|()| removed + 1)))
        };
        let removed = removals.buffer_unordered(REMOVING).fold(Ok(0), count).await;
        listed.and(removed)
    }

    fn with_fd<T>(&self, f: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        let lease = self.fd.lease();
        lease.try_as_fd().and_then(f)
    }

    fn failed(&self, step: &'static str, error: io::Error) -> Failure {
        Failure::new(step, self.path.clone(), error)
    }
}

#[cfg(test)]
mod tests {
    use deferring::FileType;

    use super::*;

    #[test]
    fn it_is_beside_the_tree_and_never_in_one() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink(".", &link).unwrap();
        let (link, led) = (link.to_str().unwrap(), place.path().join("link/../x"));
        let slash = format!("{link}/");
        for (tree, expected) in [
            ("dst", Some("x")),
            ("dst/", Some("x")),
            ("a/dst/.", Some("a/x")),
            ("/dst", Some("/x")),
            (".", Some("./../x")),
            ("..", Some("../../x")),
            ("a/..", Some("a/../../x")),
            (link, led.to_str()),
            (&slash, led.to_str()),
            ("/", None),
        ] {
            let path = beside(Path::new(tree)).map(|path| path.with_file_name("x"));
            assert_eq!(path.as_deref(), expected.map(Path::new), "{tree}");
        }
    }

    #[test]
    fn a_directory_that_is_poured_into_is_a_tree_too() {
        let item = |to: &str, kind| {
            let path: std::rc::Rc<Path> = Path::new(to).into();
            Item { parent: None, from: path.clone(), to: path, kind }
        };
        let tree = |roots: &[Item]| {
            let spill = Spill::default();
            spill.plan(roots);
            spill.tree.into_inner()
        };
        let (dir, file) = (FileType::Directory, FileType::Regular);
        assert_eq!(tree(&[item("d/f", file), item("d/g", file)]), None);
        let roots = [item("d/f", file), item("d/long", dir), item("d/b", dir)];
        assert_eq!(tree(&roots).as_deref(), Some(Path::new("d/long")));
        assert_eq!(tree(&[item("d/b", dir), item("d", dir)]).as_deref(), Some(Path::new("d")));
    }
}
