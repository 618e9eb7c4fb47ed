//! How a task reads a block, by each way there is.
//!
//! Not: how many tasks, and on what runtime (`run.rs`).

use std::fs::File;
use std::future::Future;
use std::io::{self, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use deferring::{Fd, Ring};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::task::spawn_blocking;

/// One task's way to read. The buffer is used again for ever. It says where it read.
pub(super) trait Reader: Send + 'static {
    fn read(
        &mut self,
        buf: Vec<u8>,
        offset: u64,
    ) -> impl Future<Output = io::Result<(u64, Vec<u8>)>> + Send;
}

/// Through our ring, whoever turns it.
#[derive(Clone)]
pub(super) struct OnRing {
    pub(super) ring: Ring,
    pub(super) fd: Fd,
}

impl Reader for OnRing {
    async fn read(&mut self, buf: Vec<u8>, offset: u64) -> io::Result<(u64, Vec<u8>)> {
        let (n, buf) = self.ring.read(&self.fd, buf, offset).await.into_inner()?;
        assert_eq!(n, buf.len());
        Ok((offset, buf))
    }
}

/// A closure on tokio's pool of threads, that calls `pread`: the best that there is without a ring.
pub(super) struct OnPool(pub(super) Arc<File>);

impl Reader for OnPool {
    async fn read(&mut self, mut buf: Vec<u8>, offset: u64) -> io::Result<(u64, Vec<u8>)> {
        let file = Arc::clone(&self.0);
        let read = move || file.read_exact_at(&mut buf, offset).map(|()| (offset, buf));
        spawn_blocking(read).await?
    }
}

/// `tokio::fs`, which has no read at an offset: a seek and a read, each a hop.
pub(super) struct BySeeking(pub(super) tokio::fs::File);

impl Reader for BySeeking {
    async fn read(&mut self, mut buf: Vec<u8>, offset: u64) -> io::Result<(u64, Vec<u8>)> {
        self.0.seek(SeekFrom::Start(offset)).await?;
        self.0.read_exact(&mut buf).await?;
        Ok((offset, buf))
    }
}

/// `tokio::fs`, from wherever it was: only the first offset is heeded. (What its ring does without
/// the seek, which goes to the pool of threads.)
#[cfg(tokio_unstable)]
pub(super) struct InSequence {
    pub(super) file: tokio::fs::File,
    pub(super) next: u64,
    pub(super) end: u64,
}

#[cfg(tokio_unstable)]
impl Reader for InSequence {
    async fn read(&mut self, mut buf: Vec<u8>, offset: u64) -> io::Result<(u64, Vec<u8>)> {
        if self.next == self.end {
            self.end = self.file.metadata().await?.len();
            self.next = offset;
            self.file.seek(SeekFrom::Start(offset)).await?;
        }
        let at = self.next;
        self.file.read_exact(&mut buf).await?;
        self.next += buf.len() as u64;
        Ok((at, buf))
    }
}
