//! What `std::fs` has as functions, through a ring.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, RenameFlags, StatxFlags};

use super::{File, Metadata, OpenOptions, on, on_two};
use crate::{BufResult, CWD, IoBuf, PathError, Ring};

/// The functions of this module, through a ring of one's choice; from [`Ring::fs`].
#[derive(Clone, Copy, Debug)]
pub struct Fs<'a> {
    ring: &'a Ring,
}

impl Ring {
    /// Files by convenience, through this ring: see [`fs`](crate::fs).
    pub const fn fs(&self) -> Fs<'_> {
        Fs { ring: self }
    }
}

impl Fs<'_> {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// Those of `openat2(2)`, with the path.
    pub async fn open(self, path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(self.ring, path).await
    }

    /// Opens a file for writing, empty: made if it is not there, cut if it is.
    ///
    /// # Errors
    /// Those of `openat2(2)`, with the path.
    pub async fn create(self, path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(self.ring, path).await
    }

    /// What a path leads to, following symbolic links.
    ///
    /// # Errors
    /// Those of `statx(2)`, with the path.
    pub async fn metadata(self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        self.stat(path.as_ref(), AtFlags::empty()).await
    }

    /// What a path names, symbolic links not followed.
    ///
    /// # Errors
    /// Those of `statx(2)`, with the path.
    pub async fn symlink_metadata(self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        self.stat(path.as_ref(), AtFlags::SYMLINK_NOFOLLOW).await
    }

    async fn stat(self, path: &Path, flags: AtFlags) -> io::Result<Metadata> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = on(path, "statx", || self.ring.statx(CWD, path, flags, mask)).await?;
        Ok(Metadata::new(stat))
    }

    /// Gives a file another name. A symbolic link is linked itself.
    ///
    /// # Errors
    /// Those of `linkat(2)`, with both paths; `AlreadyExists` if the name is taken.
    pub async fn hard_link(
        self,
        original: impl AsRef<Path>,
        link: impl AsRef<Path>,
    ) -> io::Result<()> {
        let (original, link) = (original.as_ref(), link.as_ref());
        let call = || self.ring.linkat(CWD, original, CWD, link, AtFlags::empty());
        on_two([original, link], "linkat", call).await
    }

    /// As [`hard_link`](Self::hard_link), in place of what has that name: it is unlinked first.
    ///
    /// For a moment nothing has the name. If somebody else takes it in that moment, it is unlinked
    /// again, a few times.
    ///
    /// # Errors
    /// Those of `unlinkat(2)` and `linkat(2)`, with the paths.
    pub async fn hard_link_force(
        self,
        original: impl AsRef<Path>,
        link: impl AsRef<Path>,
    ) -> io::Result<()> {
        const TRIES: usize = 16;
        let (original, link) = (original.as_ref(), link.as_ref());
        // Nothing is unlinked for the sake of a link that cannot be made.
        self.symlink_metadata(original).await?;
        let mut result = self.hard_link(original, link).await;
        for _ in 0..TRIES {
            match &result {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Ok(()) | Err(_) => break,
            }
            match self.remove_file(link).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            result = self.hard_link(original, link).await;
        }
        result
    }

    /// Removes a file's name.
    ///
    /// # Errors
    /// Those of `unlinkat(2)`, with the path.
    pub async fn remove_file(self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        on(path, "unlinkat", || self.ring.unlinkat(CWD, path, AtFlags::empty())).await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// Those of `unlinkat(2)`, with the path.
    pub async fn remove_dir(self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        on(path, "unlinkat", || self.ring.unlinkat(CWD, path, AtFlags::REMOVEDIR)).await
    }

    /// Gives a file another name in place of its own, and replaces what has that name.
    ///
    /// # Errors
    /// Those of `renameat2(2)`, with both paths.
    pub async fn rename(self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let call = || self.ring.renameat2(CWD, from, CWD, to, RenameFlags::empty());
        on_two([from, to], "renameat2", call).await
    }

    /// Makes a directory that everybody may use, less the umask.
    ///
    /// # Errors
    /// Those of `mkdirat(2)`, with the path.
    pub async fn create_dir(self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        on(path, "mkdirat", || self.ring.mkdirat(CWD, path, Mode::from_raw_mode(0o777))).await
    }

    /// Makes a symbolic link that says `original`.
    ///
    /// # Errors
    /// Those of `symlinkat(2)`, with what it says and its path.
    pub async fn symlink(
        self,
        original: impl AsRef<Path>,
        link: impl AsRef<Path>,
    ) -> io::Result<()> {
        let (original, link) = (original.as_ref(), link.as_ref());
        on_two([original, link], "symlinkat", || self.ring.symlinkat(original, CWD, link)).await
    }

    /// A whole file.
    ///
    /// ```
    /// use deferring::{Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("greeting");
    /// block_on(&ring, async {
    ///     ring.fs().write(&path, "hello").await.into_inner()?;
    ///     assert_eq!(ring.fs().read(&path).await?, b"hello");
    ///     Ok::<_, std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `openat2(2)`, `statx(2)` and `read(2)`, with the path; `OutOfMemory` if it does not
    /// fit.
    pub async fn read(self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        /// For files that do not tell their length, such as those in `/proc`.
        const GROWTH_MIN: usize = 8192;
        let path = path.as_ref();
        let file = self.open(path).await?;
        let len = usize::try_from(file.metadata().await?.len()).unwrap_or(usize::MAX);
        let mut buf = Vec::new();
        loop {
            // One byte more than expected tells the end without growing.
            let room = len.saturating_sub(buf.len()).saturating_add(1);
            let room = if buf.is_empty() && len > 0 { room } else { room.max(GROWTH_MIN) };
            if buf.len() == buf.capacity() {
                buf.try_reserve(room)
                    .map_err(|error| PathError::wrap("allocate for", path, error.into()))?;
            }
            let end = buf.len();
            let (n, part) = file.read_next(buf.slice(end..)).await.into_inner()?;
            buf = part.into_inner();
            if n == 0 {
                return Ok(buf);
            }
        }
    }

    /// Makes a file of these bytes, in place of what it held.
    ///
    /// # Errors
    /// Those of `openat2(2)` and `write(2)`, with the path. The buffer comes back in every case.
    pub async fn write<B: IoBuf>(self, path: impl AsRef<Path>, buf: B) -> BufResult<(), B> {
        match self.create(path).await {
            Ok(file) => file.write_all_at(buf, 0).await,
            Err(error) => BufResult(Err(error), buf),
        }
    }
}
