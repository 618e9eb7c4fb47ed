//! What is told of an inode, and a digest of the whole tree.
//!
//! Not: how a `statx` is filled in (the kernel's).

use std::time::Duration;

use super::Disk;
use super::chunk::{CHUNK, SECTOR};
use super::inode::{Body, InodeId, Kind, ROOT};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) ino: u64,
    pub(crate) kind: Kind,
    /// The permissions, without the kind.
    pub(crate) mode: u32,
    pub(crate) nlink: u32,
    pub(crate) size: u64,
    /// Of 512 bytes.
    pub(crate) blocks: u64,
    pub(crate) btime: Duration,
    pub(crate) mtime: Duration,
    pub(crate) ctime: Duration,
}

impl Disk {
    pub(crate) fn kind(&self, id: InodeId) -> Kind {
        self.inode(id).kind()
    }

    /// In bytes. A directory's is always one block: differs from Linux.
    pub(crate) fn size(&self, id: InodeId) -> u64 {
        match &self.inode(id).body {
            Body::File(content) => content.size(),
            Body::Directory(_) => CHUNK,
            Body::Symlink(target) => target.len() as u64,
            Body::Fifo => 0,
        }
    }

    pub(crate) fn stat(&self, id: InodeId) -> Stat {
        let inode = self.inode(id);
        let chunks = match inode.kind() {
            Kind::Directory => 1,
            Kind::File | Kind::Symlink | Kind::Fifo => inode.room(),
        };
        Stat {
            ino: id.0,
            kind: inode.kind(),
            mode: inode.mode,
            nlink: inode.nlink(),
            size: self.size(id),
            blocks: chunks * (CHUNK / SECTOR),
            btime: inode.btime,
            mtime: inode.mtime,
            ctime: inode.ctime,
        }
    }

    /// A number that is the same for trees with the same names, kinds, permissions and bytes.
    pub(crate) fn digest(&self) -> u64 {
        let mut digest = Digest(0xcbf2_9ce4_8422_2325);
        self.digest_of(ROOT, &mut digest);
        digest.0
    }

    fn digest_of(&self, id: InodeId, digest: &mut Digest) {
        let inode = self.inode(id);
        digest.word(inode.kind() as u64);
        digest.word(inode.mode.into());
        digest.word(inode.nlink().into());
        match &inode.body {
            Body::File(content) => {
                digest.word(content.size());
                for (number, words) in content.words() {
                    digest.word(number);
                    words.for_each(|word| digest.word(word));
                }
            }
            Body::Directory(directory) => {
                digest.word(directory.entries.len() as u64);
                for (name, &id) in &directory.entries {
                    digest.bytes(name);
                    self.digest_of(id, digest);
                }
            }
            Body::Symlink(target) => digest.bytes(target),
            Body::Fifo => {}
        }
    }
}

/// FNV-1a, by words of eight bytes.
struct Digest(u64);

impl Digest {
    fn word(&mut self, word: u64) {
        // The turn lets high bits have a say in low ones, which a product alone does not.
        self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        bytes.iter().for_each(|&byte| self.word(byte.into()));
    }
}
