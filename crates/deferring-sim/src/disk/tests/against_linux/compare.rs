//! Answers, inodes and trees, held against one another.
//!
//! Not: what made them (`calls.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Result;

use super::super::bytes;
use super::Pair;
use crate::disk::{InodeId, Kind, ROOT};

impl Pair {
    /// Notes a call, and holds its two answers against one another.
    pub(super) fn same<T: PartialEq + std::fmt::Debug>(
        &mut self,
        told: &str,
        here: Result<T>,
        there: Result<T>,
    ) {
        self.log.push(format!("{told}: {there:?}"));
        assert!(here == there, "the disk says {here:?}\n{}", self.story());
    }

    pub(super) fn story(&self) -> String {
        let last = &self.log[self.log.len().saturating_sub(40)..];
        format!("seed {} step {}:\n{}", self.seed, self.log.len(), last.join("\n"))
    }

    pub(super) fn compare_stat(&self, entry: usize) {
        let open = &self.open[entry];
        let there = rustix::fs::fstat(&open.fd).unwrap();
        let here = self.disk.stat(open.id);
        let size = u64::try_from(there.st_size).unwrap();
        let kind = kind_of(FileType::from_raw_mode(there.st_mode));
        let nlink = u32::try_from(there.st_nlink).unwrap();
        assert_eq!((here.kind, here.nlink), (kind, nlink), "{entry} {}", self.story());
        assert_eq!(here.mode, there.st_mode & 0o7777, "{entry} {}", self.story());
        if kind != Kind::Directory {
            assert_eq!(here.size, size, "{entry} {}", self.story());
        }
    }

    pub(super) fn compare_trees(&self) {
        (1..self.open.len()).for_each(|entry| self.compare_stat(entry));
        self.compare_tree(ROOT, Path::new("/"), &mut BTreeMap::new());
    }

    pub(super) fn compare_tree(&self, id: InodeId, path: &Path, seen: &mut BTreeMap<u64, InodeId>) {
        let told = || format!("{} {}", path.display(), self.story());
        let there = fs::symlink_metadata(path).unwrap();
        let here = self.disk.stat(id);
        assert_eq!(*seen.entry(there.ino()).or_insert(id), id, "{}", told());
        assert_eq!(u64::from(here.nlink), there.nlink(), "{}", told());
        if there.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            let list = self.disk.list(id).unwrap();
            assert!(
                names.iter().map(|name| name.as_bytes()).eq(list.iter().map(|(name, ..)| &**name))
            );
            for (name, (_, id, _)) in names.iter().zip(list) {
                self.compare_tree(id, &path.join(name), seen);
            }
        } else if there.is_file() {
            assert_eq!(here.kind, Kind::File, "{}", told());
            assert!(bytes(&self.disk, id) == fs::read(path).unwrap(), "{}", told());
        } else if there.is_symlink() {
            let target = self.disk.readlink(ROOT, path.as_os_str().as_bytes()).unwrap();
            assert_eq!(target, fs::read_link(path).unwrap().as_os_str().as_bytes(), "{}", told());
        } else {
            assert!(there.file_type().is_fifo() && here.kind == Kind::Fifo, "{}", told());
        }
    }
}

pub(super) fn kind_of(of: FileType) -> Kind {
    match of {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => unreachable!("nobody made one"),
    }
}

pub(super) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    if text.len() > 40 { format!("({} bytes)", text.len()) } else { format!("{text:?}") }
}
