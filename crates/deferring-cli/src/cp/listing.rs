//! A directory's names, a bounded piece at a time.
//!
//! There is no ring op for `getdents64(2)`: this is a plain call, a few hundred names each. Names
//! are kept packed, since a piece may wait for long while the directories in it are copied.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use deferring::{AtFlags, Fd, FileType};
use rustix::fs::{RawDir, RawDirEntry};
use rustix::io::Errno;

/// What one call may give, in bytes.
const PIECE: usize = 8 << 10;
/// Deep down, where many directories are open at a time, pieces are smaller...
const PIECE_DEEP: usize = 1 << 10;
/// ... so that all of them together stay within 2 MiB, and 1 KiB for each level below.
const DEEP: usize = 256;

/// Room for the longest name, or the call would fail.
const _: () = assert!(PIECE_DEEP >= size_of::<u64>() * 2 + 3 + 256);

#[derive(Default)]
pub(super) struct Listing {
    /// Type, name, NUL; again and again.
    packed: Vec<u8>,
    at: usize,
}

impl Listing {
    /// The next name, from memory or from the kernel; none at the end.
    pub(super) fn next(
        &mut self,
        dir: &Fd,
        depth: usize,
    ) -> io::Result<Option<(FileType, &OsStr)>> {
        if self.at == self.packed.len() && !self.refill(dir, depth)? {
            return Ok(None);
        }
        let rest = &self.packed[self.at..];
        let len = rest.iter().position(|byte| *byte == 0).expect("names end in NUL");
        self.at += len + 1;
        Ok(Some((kind(rest[0]), OsStr::from_bytes(&rest[1..len]))))
    }

    /// False at the end.
    fn refill(&mut self, dir: &Fd, depth: usize) -> io::Result<bool> {
        let lease = dir.lease();
        let dir = lease.try_as_fd()?;
        let mut buf = [MaybeUninit::uninit(); PIECE];
        let piece = if depth < DEEP { PIECE } else { PIECE_DEEP };
        self.packed.clear();
        self.at = 0;
        let mut entries = RawDir::new(dir, &mut buf[..piece]);
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => {
                    self.packed.push(letter(type_of(dir, &entry)));
                    self.packed.extend_from_slice(entry.file_name().to_bytes_with_nul());
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            // One call of the kernel's, unless it gave nothing but dots.
            if entries.is_buffer_empty() && !self.packed.is_empty() {
                return Ok(true);
            }
        }
        Ok(!self.packed.is_empty())
    }
}

/// Some file systems do not say in the listing; then it is asked for, of each name.
fn type_of(dir: BorrowedFd<'_>, entry: &RawDirEntry<'_>) -> rustix::fs::FileType {
    let listed = entry.file_type();
    if listed != rustix::fs::FileType::Unknown {
        return listed;
    }
    let stat = rustix::fs::statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
    stat.map_or(listed, |stat| rustix::fs::FileType::from_raw_mode(stat.st_mode))
}

fn letter(kind: rustix::fs::FileType) -> u8 {
    use rustix::fs::FileType as Kind;
    match kind {
        Kind::RegularFile => b'-',
        Kind::Directory => b'd',
        Kind::Symlink => b'l',
        Kind::Fifo => b'p',
        Kind::Socket => b's',
        Kind::CharacterDevice => b'c',
        Kind::BlockDevice => b'b',
        Kind::Unknown => b'?',
    }
}

fn kind(letter: u8) -> FileType {
    match letter {
        b'-' => FileType::Regular,
        b'd' => FileType::Directory,
        b'l' => FileType::Symlink,
        b'p' => FileType::Fifo,
        b's' => FileType::Socket,
        b'c' => FileType::CharDevice,
        b'b' => FileType::BlockDevice,
        _ => FileType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_comes_once_however_small_the_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let names: BTreeSet<String> = (0..1000).map(|n| format!("name-{n}")).collect();
        names.iter().for_each(|name| std::fs::write(dir.path().join(name), "").unwrap());
        for depth in [0, DEEP] {
            let fd = Fd::from(std::fs::File::open(dir.path()).unwrap());
            let mut listing = Listing::default();
            let mut seen = BTreeSet::new();
            while let Some((kind, name)) = listing.next(&fd, depth).unwrap() {
                assert!(kind.is_file());
                assert!(seen.insert(name.to_str().unwrap().to_owned()), "{name:?} came twice");
            }
            assert_eq!(seen, names);
            assert!(listing.packed.capacity() <= 2 * PIECE);
        }
    }
}
