//! An open file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, StatxFlags};

use super::{Metadata, OpenOptions, all, nothing_written, on, read_exact, with_buf};
use crate::op::Opcode;
use crate::{BufResult, Buffered, CURRENT, Fd, IoBuf, IoBufMut, PathError, Ring};

/// An open file and the ring that it is used through. A clone is the same file.
///
/// Reads and writes are at offsets, so that many can be under way at once.
///
/// ```
/// use deferring::fs::File;
/// use deferring::{BufResult, Ring, block_on};
///
/// let ring = Ring::builder().build()?;
/// block_on(&ring, async {
///     let file = File::open(&ring, "Cargo.toml").await?;
///     let BufResult(n, buf) = file.read_at(Vec::with_capacity(64), 0).await;
///     assert_eq!(n?, buf.len());
///     file.close().await
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct File {
    ring: Ring,
    fd: Fd,
    path: Arc<Path>,
}

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// Those of `openat2(2)`, with the path.
    pub async fn open(ring: &Ring, path: impl AsRef<Path>) -> io::Result<Self> {
        ring.fs().open(path).await
    }

    /// Opens a file for writing, empty: made if it is not there, cut if it is.
    ///
    /// # Errors
    /// Those of `openat2(2)`, with the path.
    pub async fn create(ring: &Ring, path: impl AsRef<Path>) -> io::Result<Self> {
        ring.fs().create(path).await
    }

    /// A file from a descriptor; the path is for error messages.
    pub fn from_fd(ring: &Ring, fd: impl Into<Fd>, path: impl AsRef<Path>) -> Self {
        Self { ring: ring.clone(), fd: fd.into(), path: path.as_ref().into() }
    }

    /// How to open a file.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Its descriptor, for ops that this type has no method for.
    #[must_use]
    pub const fn fd(&self) -> &Fd {
        &self.fd
    }

    /// The ring that it is used through.
    #[must_use]
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// For the traits of tokio and of the `futures` crates: it reads ahead and writes behind, from
    /// the descriptor's position on. Its errors do not name the path.
    #[must_use]
    pub fn buffered(&self) -> Buffered {
        Buffered::new(&self.ring, &self.fd)
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads into a buffer from its start, up to its capacity, from `offset` bytes on. 0 is the end
    /// of the file. A buffer that was longer than what was read stays as long: the first `n` bytes
    /// are new.
    ///
    /// # Errors
    /// Those of `pread(2)`, with the path. The buffer comes back in every case.
    pub async fn read_at<B: IoBufMut>(&self, buf: B, offset: u64) -> BufResult<usize, B> {
        with_buf(&self.path, "read", || self.ring.read(&self.fd, buf, offset)).await
    }

    /// As [`read_at`](Self::read_at), from the file position, which moves on.
    ///
    /// # Errors
    /// Those of `read(2)`, with the path.
    pub async fn read_next<B: IoBufMut>(&self, buf: B) -> BufResult<usize, B> {
        self.read_at(buf, CURRENT).await
    }

    /// Fills a buffer to its capacity, from `offset` bytes on. Lend a
    /// [`slice`](crate::IoBuf::slice) to read less.
    ///
    /// # Errors
    /// Those of `pread(2)`; `UnexpectedEof` if the file ends first. What was read until then is in
    /// the buffer.
    pub async fn read_exact_at<B: IoBufMut>(&self, buf: B, offset: u64) -> BufResult<(), B> {
        read_exact(self, buf, offset).await
    }

    /// Writes a buffer, or the first part of it, at `offset` bytes.
    ///
    /// # Errors
    /// Those of `pwrite(2)`, with the path. The buffer comes back in every case.
    pub async fn write_at<B: IoBuf>(&self, buf: B, offset: u64) -> BufResult<usize, B> {
        with_buf(&self.path, "write", || self.ring.write(&self.fd, buf, offset)).await
    }

    /// Writes a whole buffer at `offset` bytes.
    ///
    /// # Errors
    /// Those of `pwrite(2)`, with the path. How much was written until then is not said.
    pub async fn write_all_at<B: IoBuf>(&self, buf: B, offset: u64) -> BufResult<(), B> {
        let total = buf.len();
        let call = |part, done| self.write_at(part, offset + done as u64);
        all(buf, total, call, || nothing_written(&self.path)).await
    }

    /// Waits until what was written is on the disk, data and metadata.
    ///
    /// # Errors
    /// Those of `fsync(2)`, with the path. An error is reported once and is final: what was written
    /// may be lost, and a second call that succeeds does not bring it back.
    #[doc(alias = "fsync")]
    pub async fn sync_all(&self) -> io::Result<()> {
        on(&self.path, "fsync", || self.ring.fsync(&self.fd)).await
    }

    /// As [`sync_all`](Self::sync_all), less metadata that is not needed to read the data again.
    ///
    /// # Errors
    /// As [`sync_all`](Self::sync_all).
    #[doc(alias = "fdatasync")]
    pub async fn sync_data(&self) -> io::Result<()> {
        on(&self.path, "fdatasync", || self.ring.fdatasync(&self.fd)).await
    }

    /// Cuts the file to a length, or extends it with a hole. On kernels before 6.9 this is a plain
    /// system call.
    ///
    /// # Errors
    /// Those of `ftruncate(2)`, with the path.
    #[doc(alias = "ftruncate")]
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        if self.ring.supports(Opcode::FTRUNCATE) {
            return on(&self.path, "ftruncate", || self.ring.ftruncate(&self.fd, len)).await;
        }
        let lease = self.fd.lease();
        let plain = lease.try_as_fd().and_then(|fd| Ok(rustix::fs::ftruncate(fd, len)?));
        plain.map_err(|error| PathError::wrap("ftruncate", &self.path, error))
    }

    /// What the file system says of the file.
    ///
    /// # Errors
    /// Those of `statx(2)`, with the path.
    #[doc(alias = "fstat")]
    pub async fn metadata(&self) -> io::Result<Metadata> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let call = || self.ring.statx(&self.fd, "", AtFlags::EMPTY_PATH, mask);
        on(&self.path, "statx", call).await.map(Metadata::new)
    }

    /// Closes the file for all its clones, when the ops that use it have ended, and says if that
    /// failed. Dropping the last clone closes it too, and says nothing.
    ///
    /// # Errors
    /// Those of `close(2)`, with the path. The file is closed all the same.
    pub async fn close(self) -> io::Result<()> {
        let closing = self.ring.close(&self.fd);
        closing.await.map_err(|error| PathError::wrap("close", &self.path, error))
    }
}
