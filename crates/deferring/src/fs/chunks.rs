//! A file's contents as a stream, piece by piece.
//!
//! Not: reads at offsets of one's own (`file.rs`), nor reading by bytes and lines
//! ([`Buffered`](crate::Buffered)).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::File;
use crate::op::Read;
use crate::{BufResult, Handle, IoBuf, PathError, Slice};

/// The contents of a file, from its start, in order. Made by [`File::chunks`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Chunks {
    file: File,
    len: usize,
    /// Where the chunk begins that is being read.
    offset: u64,
    /// How much of it is there.
    filled: usize,
    read: Option<Handle<Read<Slice<Vec<u8>>>>>,
    ended: bool,
}

impl File {
    /// The contents from the start, in chunks of `len` bytes, at least 1; the last one has what is
    /// left. While you look at one chunk, the next is being read.
    ///
    /// It ends after an error. The position of the descriptor is neither used nor moved.
    ///
    /// ```
    /// use deferring::fs::File;
    /// use deferring::{Ring, block_on};
    /// use futures_util::TryStreamExt;
    ///
    /// let ring = Ring::builder().build()?;
    /// let whole = block_on(&ring, async {
    ///     let file = File::open(&ring, "Cargo.toml").await?;
    ///     file.chunks(100).try_concat().await
    /// })?;
    /// assert_eq!(whole, std::fs::read("Cargo.toml")?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `pread(2)`, with the path; `ESPIPE` of what has no offsets.
    pub fn chunks(&self, len: usize) -> Chunks {
        let (file, len) = (self.clone(), len.max(1));
        Chunks { file, len, offset: 0, filled: 0, read: None, ended: false }
    }
}

impl Chunks {
    /// Reads the rest of a chunk.
    fn read(&self, buf: Vec<u8>) -> Handle<Read<Slice<Vec<u8>>>> {
        let offset = self.offset + self.filled as u64;
        self.file.ring().read(self.file.fd(), buf.slice(self.filled..self.len), offset)
    }

    fn read_next(&mut self) {
        self.filled = 0;
        self.read = Some(self.read(Vec::with_capacity(self.len)));
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        loop {
            let Some(read) = &mut self.read else {
                self.read_next();
                continue;
            };
            let BufResult(result, part) = ready!(Pin::new(read).poll(cx));
            self.read = None;
            let (n, buf) = (result?, part.into_inner());
            self.filled += n;
            if n > 0 && self.filled < self.len {
                self.read = Some(self.read(buf));
                continue;
            }
            self.offset += self.filled as u64;
            self.ended = n == 0;
            if !self.ended {
                self.read_next();
            }
            return Poll::Ready(Ok(buf));
        }
    }
}

impl Stream for Chunks {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        match ready!(this.poll_chunk(cx)) {
            Ok(chunk) => Poll::Ready((!chunk.is_empty()).then_some(Ok(chunk))),
            Err(error) => {
                this.ended = true;
                Poll::Ready(Some(Err(PathError::wrap("read", this.file.path(), error))))
            }
        }
    }
}
