//! How a file is to be opened: as `std::fs::OpenOptions`, with what `openat2` has more.

use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{File, on};
use crate::{CWD, Fd, PathError, Ring};

/// How a file is to be opened.
///
/// ```
/// use deferring::fs::OpenOptions;
/// use deferring::{Ring, block_on};
///
/// let ring = Ring::builder().build()?;
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("log");
/// let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&ring, &path);
/// block_on(&ring, log)?;
/// assert!(path.exists());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "does nothing until `open`"]
#[allow(clippy::struct_excessive_bools)] // As in std: each is a switch of its own.
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    mode: u32,
    flags: OFlags,
    resolve: ResolveFlags,
    dir: Option<Fd>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Nothing yet: choose at least one of read, write and append.
    pub const fn new() -> Self {
        Self {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            mode: 0o666,
            flags: OFlags::empty(),
            resolve: ResolveFlags::empty(),
            dir: None,
        }
    }

    /// For reading.
    pub const fn read(mut self, read: bool) -> Self {
        self.read = read;
        self
    }

    /// For writing.
    pub const fn write(mut self, write: bool) -> Self {
        self.write = write;
        self
    }

    /// For writing at its end, wherever that is by then.
    pub const fn append(mut self, append: bool) -> Self {
        self.append = append;
        self
    }

    /// Cut to nothing. Needs write.
    pub const fn truncate(mut self, truncate: bool) -> Self {
        self.truncate = truncate;
        self
    }

    /// Made if it is not there. Needs write or append.
    pub const fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Made, and it must not be there yet. Needs write or append.
    pub const fn create_new(mut self, create_new: bool) -> Self {
        self.create_new = create_new;
        self
    }

    /// The permission bits of a file that this makes, less the umask. Default `0o666`.
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// More flags of `open(2)`, such as [`OFlags::DIRECT`].
    pub const fn custom_flags(mut self, flags: OFlags) -> Self {
        self.flags = flags;
        self
    }

    /// How the path may be walked, such as [`ResolveFlags::BENEATH`].
    pub const fn resolve(mut self, resolve: ResolveFlags) -> Self {
        self.resolve = resolve;
        self
    }

    /// The directory that a relative path starts from. Default the working directory.
    pub fn dir(mut self, dir: &Fd) -> Self {
        self.dir = Some(dir.clone());
        self
    }

    /// Opens a file.
    ///
    /// # Errors
    /// Those of `openat2(2)`, with the path; `InvalidInput` for a choice that makes no sense.
    pub async fn open(self, ring: &Ring, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        let flags = self.flags().map_err(|errno| PathError::wrap("openat2", path, errno.into()))?;
        let creates = flags.contains(OFlags::CREATE) || flags.contains(OFlags::TMPFILE);
        let mode = if creates { Mode::from_raw_mode(self.mode) } else { Mode::empty() };
        let fd = on(path, "openat2", || match &self.dir {
            Some(dir) => ring.openat2(dir, path, flags, mode, self.resolve),
            None => ring.openat2(CWD, path, flags, mode, self.resolve),
        });
        Ok(File::from_fd(ring, fd.await?, path))
    }

    /// The same rules as in std.
    fn flags(&self) -> Result<OFlags, Errno> {
        let access = match (self.read, self.write, self.append) {
            (true, false, false) => OFlags::RDONLY,
            (false, true, false) => OFlags::WRONLY,
            (true, true, false) => OFlags::RDWR,
            (false, _, true) => OFlags::WRONLY | OFlags::APPEND,
            (true, _, true) => OFlags::RDWR | OFlags::APPEND,
            (false, false, false) => return Err(Errno::INVAL),
        };
        let makes = self.truncate || self.create || self.create_new;
        let writes = self.write || self.append;
        if makes && !writes || self.truncate && self.append && !self.create_new {
            return Err(Errno::INVAL);
        }
        let creation = match (self.create, self.truncate, self.create_new) {
            (false, false, false) => OFlags::empty(),
            (true, false, false) => OFlags::CREATE,
            (false, true, false) => OFlags::TRUNC,
            (true, true, false) => OFlags::CREATE | OFlags::TRUNC,
            (_, _, true) => OFlags::CREATE | OFlags::EXCL,
        };
        Ok(access | creation | self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_that_make_no_sense_are_refused() {
        let new = OpenOptions::new;
        for options in [
            new(),
            new().read(true).truncate(true),
            new().read(true).create(true),
            new().append(true).truncate(true),
        ] {
            assert_eq!(options.flags(), Err(Errno::INVAL), "{options:?}");
        }
    }

    #[test]
    fn choices_become_flags() {
        let options = OpenOptions::new().write(true).create(true).truncate(true);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        assert_eq!(options.flags(), Ok(flags));
        let options = OpenOptions::new().read(true).append(true).create_new(true);
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL;
        assert_eq!(options.flags(), Ok(flags));
    }
}
