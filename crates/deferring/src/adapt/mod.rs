//! One descriptor with buffers of its own, for traits that lend theirs for the length of a poll.
//!
//! The traits of tokio (`tokio_io.rs`) and of the `futures` crates (`futures_io.rs`) hand over a
//! `&mut [u8]` that is gone after the poll; the kernel wants memory that stays. So bytes are
//! copied, once, from or to buffers that ops own. What is read is in `reader.rs`, what is to be
//! written in `writer.rs`, where a file is read and written next in `seeker.rs`, who waits in
//! `waiting.rs`. Not: anything that needs a runtime.

#[cfg(feature = "futures-io")]
mod futures_io;
mod reader;
mod seeker;
#[cfg(feature = "tokio")]
mod tokio_io;
mod waiting;
mod writer;

use std::fmt;
use std::io::{self, IoSlice, SeekFrom};
use std::iter;
use std::task::{Context, Poll, Waker, ready};

use rustix::io::Errno;

use crate::fd::{Fd, Nature};
use crate::op::Op;
use crate::sync::Arc;
use crate::turn::Shared;
use crate::{Handle, Ring};
use reader::Reader;
use seeker::Seeker;
use waiting::{Side, Waiting};
use writer::Writer;

/// A file, socket, pipe or device that reads ahead and writes behind, by the traits `AsyncRead`,
/// `AsyncBufRead`, `AsyncWrite` and `AsyncSeek` of tokio (feature `tokio`) and of the `futures`
/// crates (feature `futures-io`).
///
/// Bytes are copied once more than by ops that own their buffer: [`fs::File`](crate::fs::File) and
/// [`Ring::read`] are faster, this fits what is written for those traits. Somebody has to turn the
/// ring.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::future::poll_fn;
/// use std::io::SeekFrom;
/// use deferring::{Buffered, Fd, Ring, block_on};
///
/// let ring = Ring::builder().build()?;
/// let file = Fd::from(tempfile::tempfile()?);
/// let mut file = Buffered::new(&ring, &file);
/// let mut read = [0; 16];
/// let n = block_on(&ring, async {
///     assert_eq!(poll_fn(|cx| file.poll_write(cx, b"hello")).await?, 5);
///     poll_fn(|cx| file.poll_flush(cx)).await?;
///     poll_fn(|cx| file.poll_seek(cx, SeekFrom::Start(1))).await?;
///     poll_fn(|cx| file.poll_read(cx, &mut read)).await
/// })?;
/// assert_eq!(&read[..n], b"ello");
/// # Ok(()) }
/// ```
///
/// # Files
/// What has a position (regular files, disks, `/dev/zero` and its like) is read and written at
/// offsets. The position is the `Buffered`'s own: it begins where the descriptor's is, and the
/// descriptor's stays there, so that reading ahead takes nothing from others. A read comes after
/// all writes before it, and a write throws away what was read ahead. What others write to the file
/// is not seen in what has been read ahead.
///
/// A file in append mode (`O_APPEND`) is written at its end, wherever the position is. After such a
/// write the position is the end of the file, as of when it is next asked for.
///
/// # Streams
/// Everything else (sockets, pipes, terminals, event descriptors) is read and written as it comes.
/// The two directions do not wait for each other, and may be split between two tasks. A write goes
/// out at once if none is under way; what is written meanwhile goes out together, when somebody
/// polls a write, a flush, or a read that finds nothing. So flush before you wait for an answer by
/// other means. Borders of messages (datagrams, packets) are not kept. Descriptors in non-blocking
/// mode are waited for all the same (Linux 6.18 does so, for sockets, terminals and event
/// descriptors); a kernel that does not, gives `WouldBlock`.
///
/// # Reading
/// At most one read is under way. A future that is dropped while it waits loses nothing: its read
/// goes on, and the next one gets the data. 0 bytes are the end of the file; the next read asks
/// again. An error is that of one read.
///
/// # Writing
/// A write is done when its bytes are in a buffer. There are two of them: one that the kernel
/// writes from, and one that fills meanwhile. Short writes are finished. If a write fails, the next
/// write, flush, seek or close says so, once; what was in the buffers then is thrown away, and the
/// position of a file is behind the last byte that was written.
///
/// Flush waits until the kernel has all bytes, not until the disk has ([`Ring::fsync`]). Close
/// flushes, and ends the sending side of a socket (`shutdown(2)`); it does not close the
/// descriptor.
///
/// # Dropping
/// What was not yet written is, as with a `tokio::fs::File`, written when somebody turns the ring;
/// nobody hears of errors, and what the ring still has to do when its last [`Ring`] is dropped, is
/// lost. Flush to be sure. A stream that takes nothing for 30 seconds is given up, since a peer
/// that does not read would keep it open for ever. A read that is under way is cancelled; what it
/// took from a stream is lost.
///
/// In steady state nothing is allocated. A buffer is made when it is first used.
pub struct Buffered {
    /// Keeps the ring from ending.
    ring: Ring,
    source: Source,
    reader: Reader,
    writer: Writer,
    seeker: Seeker,
    waiting: Arc<Waiting>,
    /// Of `waiting`.
    waker: Waker,
}

/// What ops are queued on. It does not keep the ring from ending.
#[derive(Clone)]
struct Source {
    shared: Arc<Shared>,
    fd: Fd,
    /// It has no position.
    is_stream: bool,
}

impl Source {
    fn queue<T: Op>(&self, op: T) -> Handle<T> {
        Handle::new(Arc::clone(&self.shared), self.shared.queue(op))
    }
}

impl Buffered {
    /// With buffers of 64 KiB each. Asks the kernel what the descriptor is, by system calls that do
    /// not wait for a disk.
    #[must_use]
    pub fn new(ring: &Ring, fd: &Fd) -> Self {
        const CAPACITY: usize = 64 << 10;
        Self::with_capacity(ring, fd, CAPACITY, CAPACITY)
    }

    /// With a buffer of `read` bytes, and two of `write` bytes; 0 is taken for 1.
    #[must_use]
    pub fn with_capacity(ring: &Ring, fd: &Fd, read: usize, write: usize) -> Self {
        let position = position(fd);
        let source = Source {
            shared: Arc::clone(ring.shared()),
            fd: fd.clone(),
            is_stream: position.is_none(),
        };
        let waiting = Arc::new(Waiting::default());
        Self {
            ring: ring.clone(),
            reader: Reader::new(read.max(1)),
            writer: Writer::new(source.clone(), write.max(1), position.unwrap_or(crate::CURRENT)),
            seeker: Seeker::new(&source),
            source,
            waker: Waker::from(Arc::clone(&waiting)),
            waiting,
        }
    }

    /// Its descriptor, for what this type has no method for.
    #[must_use]
    pub const fn fd(&self) -> &Fd {
        &self.source.fd
    }

    /// The ring that it is used through.
    #[must_use]
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// What has been read and not consumed; if that is nothing, what comes next. Empty at the end
    /// of the file.
    ///
    /// # Errors
    /// Those of `read(2)`.
    pub fn poll_fill_buf(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        self.seeker.abandon();
        if self.reader.unread().is_empty() {
            let polled =
                if self.source.is_stream { self.poll_stream(cx) } else { self.poll_file(cx) };
            ready!(polled)?;
        }
        Poll::Ready(Ok(self.reader.unread()))
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.reader.poll_fill(&self.source, crate::CURRENT, cx);
        if polled.is_pending() {
            // Whoever waits for an answer may have written the question. What is left of it must go
            // out, now, or when the write that is under way ends.
            self.waiting.set(Side::Reader, cx.waker());
            let _ = self.writer.poll_drained(&mut Context::from_waker(&self.waker));
        }
        polled
    }

    fn poll_file(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Also a write by another task's half cancels our read, and calls us.
        self.waiting.set(Side::Reader, cx.waker());
        let both = &mut Context::from_waker(&self.waker);
        ready!(self.writer.poll_drained(both));
        let at = ready!(self.seeker.poll_position(&self.source, &mut self.writer, both))?;
        self.reader.poll_fill(&self.source, at, cx)
    }

    /// Passes over bytes that [`poll_fill_buf`](Self::poll_fill_buf) showed.
    ///
    /// # Panics
    /// If it showed fewer.
    pub fn consume(&mut self, n: usize) {
        self.reader.consume(n);
        if n > 0 && !self.source.is_stream {
            self.writer.move_on(n);
        }
    }

    /// Copies what there is into `buf`. 0 is the end of the file, or an empty `buf`.
    ///
    /// # Errors
    /// Those of `read(2)`.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let unread = ready!(self.poll_fill_buf(cx))?;
        let n = unread.len().min(buf.len());
        buf[..n].copy_from_slice(&unread[..n]);
        self.consume(n);
        Poll::Ready(Ok(n))
    }

    /// Copies as much of `bytes` as there is room for, and at least one, to be written.
    ///
    /// # Errors
    /// That of an earlier write: those of `write(2)`, or `WriteZero`. Nothing of `bytes` was taken.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_parts(cx, iter::once(bytes))
    }

    /// As [`poll_write`](Self::poll_write), from one buffer after the other.
    ///
    /// # Errors
    /// As [`poll_write`](Self::poll_write).
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_parts(cx, bufs.iter().map(|part| &**part))
    }

    fn poll_write_parts<'b>(
        &mut self,
        cx: &mut Context<'_>,
        parts: impl Iterator<Item = &'b [u8]>,
    ) -> Poll<io::Result<usize>> {
        self.waiting.set(Side::Writer, cx.waker());
        self.seeker.abandon();
        if !self.source.is_stream && self.reader.discard() {
            self.waiting.call(Side::Reader);
        }
        let n = ready!(self.writer.poll_write(&mut Context::from_waker(&self.waker), parts))?;
        if n > 0 {
            self.seeker.has_written();
        }
        Poll::Ready(Ok(n))
    }

    /// Waits until the kernel has all that was written.
    ///
    /// # Errors
    /// Those of `write(2)`, or `WriteZero`, if they were not told before.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting.set(Side::Writer, cx.waker());
        self.writer.poll_flush(&mut Context::from_waker(&self.waker))
    }

    /// Flushes, and ends the sending side of a socket. The descriptor stays open; a pipe's reader
    /// sees the end when the last [`Fd`] is gone.
    ///
    /// # Errors
    /// As [`poll_flush`](Self::poll_flush), and those of `shutdown(2)` but that it is not
    /// connected.
    #[doc(alias = "shutdown")]
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        if self.source.is_stream {
            let lease = self.source.fd.lease();
            match rustix::net::shutdown(lease.try_as_fd()?, rustix::net::Shutdown::Write) {
                Ok(()) | Err(Errno::NOTSOCK | Errno::NOTCONN) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Flushes, and moves the position of a file; returns the new one. What was read ahead is
    /// thrown away. Poll it with the same `to` until it is ready; a read or write before that takes
    /// it back.
    ///
    /// The end of what is no regular file is asked for with `lseek(2)`, which moves the
    /// descriptor's position too.
    ///
    /// # Errors
    /// As [`poll_flush`](Self::poll_flush), and those of `statx(2)`; `ESPIPE` for a stream;
    /// `EINVAL` for a place before the start, or behind all that files can have.
    pub fn poll_seek(&mut self, cx: &mut Context<'_>, to: SeekFrom) -> Poll<io::Result<u64>> {
        self.seekable()?;
        ready!(self.poll_flush(cx))?;
        let both = &mut Context::from_waker(&self.waker);
        let at = ready!(self.seeker.poll_seek(&self.source, &mut self.writer, to, both))?;
        if self.reader.discard() {
            self.waiting.call(Side::Reader);
        }
        Poll::Ready(Ok(at))
    }

    fn seekable(&self) -> io::Result<()> {
        if self.source.is_stream { Err(Errno::SPIPE.into()) } else { Ok(()) }
    }
}

/// A seek that is begun in one call, without a task, and ended in others.
#[cfg(feature = "tokio")]
impl Buffered {
    fn start_seek(&mut self, to: SeekFrom) -> io::Result<()> {
        self.seekable()?;
        self.seeker.begin(to);
        Ok(())
    }

    /// The position, if no seek has begun.
    fn poll_seek_begun(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        match self.seeker.begun() {
            None => Poll::Ready(self.seekable().map(|()| self.writer.end())),
            Some(to) => {
                let result = ready!(self.poll_seek(cx, to));
                self.seeker.abandon();
                Poll::Ready(result)
            }
        }
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.writer.part();
    }
}

impl fmt::Debug for Buffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffered")
            .field("fd", &self.source.fd)
            .field("is_stream", &self.source.is_stream)
            .field("unread", &self.reader.unread().len())
            .field("unwritten", &self.writer.unwritten())
            .finish_non_exhaustive()
    }
}

/// The position of what has one. An eventfd and its like let themselves be asked, and have none.
fn position(fd: &Fd) -> Option<u64> {
    let lease = fd.lease();
    match lease.nature() {
        Nature::Stream | Nature::Terminal => return None,
        Nature::Ready | Nature::Disk | Nature::Memory | Nature::Local | Nature::Remote => {}
    }
    rustix::fs::seek(lease.try_as_fd().ok()?, rustix::fs::SeekFrom::Current(0)).ok()
}
