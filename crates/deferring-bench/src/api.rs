//! What a workload asks of whoever does it: ours, tokio's, a peer's.
//!
//! [`Api`]: single ops, by each contestant's own means. [`Job`]: what is done with them, in lanes
//! side by side. A job knows no contestant, and a contestant no job. Not: who runs the lanes
//! (`ours.rs`, `tokios.rs`, `peers/`), what is measured (`contest.rs`).

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::cost::Ran;
use crate::ours::Ours;
#[cfg(doc)]
use crate::work::small;

/// Single ops. A buffer is a `Vec` of the wanted length, which is also its capacity; it comes back
/// as long as it was.
pub(crate) trait Api: Clone + 'static {
    type File: Clone + 'static;
    type Conn: 'static;

    async fn nop(&self) -> io::Result<()>;

    async fn file(&self, file: File) -> io::Result<Self::File>;

    /// Fills the buffer.
    async fn read(&self, file: &Self::File, buf: Vec<u8>, offset: u64) -> io::Result<Vec<u8>>;

    /// Writes all of it.
    async fn write(&self, file: &Self::File, buf: Vec<u8>, offset: u64) -> io::Result<Vec<u8>>;

    async fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Opens a file, asks for its length, fills the buffer from its start, and closes it.
    async fn visit(&self, path: PathBuf, buf: Vec<u8>) -> io::Result<(u64, Vec<u8>)>;

    /// Makes, renames and removes names of its own in a directory; so many ops, a multiple of
    /// [`small::OPS`].
    async fn names(&self, dir: PathBuf, lane: usize, ops: usize) -> io::Result<()> {
        let _ = (dir, lane, ops);
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn conn(&self, stream: TcpStream) -> io::Result<Self::Conn>;

    /// Receives what there is, up to the length; returns how much.
    async fn recv(&self, conn: &mut Self::Conn, buf: Vec<u8>) -> io::Result<(usize, Vec<u8>)>;

    /// Sends all of it.
    async fn send(&self, conn: &mut Self::Conn, buf: Vec<u8>) -> io::Result<Vec<u8>>;

    async fn sleep(&self, time: Duration) -> io::Result<()>;
}

/// What a job needs that not all contestants have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Nop,
    Read,
    Write,
    Visit,
    Names,
    Net,
    Sleep,
}

/// What is done: by so many lanes at once, each with an equal part of the ops.
pub(crate) trait Job: Clone + Send + Sync + 'static {
    const NEEDS: Need;

    fn lanes(&self) -> usize;

    /// The file that all lanes use.
    fn file(&self) -> anyhow::Result<Option<File>> {
        Ok(None)
    }

    /// One lane, with so many ops.
    fn lane<A: Api>(
        self,
        api: A,
        file: Option<A::File>,
        lane: usize,
        ops: usize,
    ) -> impl Future<Output = anyhow::Result<()>> + 'static;

    /// The same for our ring, which may run on any thread; always `self.lane(…)`.
    fn our_lane(
        self,
        ours: Ours,
        file: Option<deferring::Fd>,
        lane: usize,
        ops: usize,
    ) -> impl Future<Output = anyhow::Result<()>> + Send + 'static;

    /// What comes before a measured run, and is not measured.
    fn prepare(&self, ops: usize) -> anyhow::Result<()> {
        let _ = ops;
        Ok(())
    }

    /// What comes with each measured run: who sends requests, for one.
    fn begin(&self, ops: usize) -> anyhow::Result<()> {
        let _ = ops;
        Ok(())
    }

    /// The end of it.
    fn end(&self) -> anyhow::Result<Ran> {
        Ok(Ran::default())
    }

    /// Whether what was done is as it should be; not measured.
    fn check(&self, ops: usize) -> anyhow::Result<()> {
        let _ = ops;
        Ok(())
    }
}

/// All lanes of a job, before they run. `lane` makes one.
pub(crate) fn lanes<J: Job, F>(
    job: &J,
    ops: usize,
    mut lane: impl FnMut(J, usize, usize) -> F,
) -> Vec<F> {
    let count = job.lanes();
    assert_eq!(ops % count, 0, "an equal part for each lane");
    (0..count).map(|at| lane(job.clone(), at, ops / count)).collect()
}

/// A file for those who have one.
pub(crate) async fn open<A: Api, J: Job>(api: &A, job: &J) -> anyhow::Result<Option<A::File>> {
    Ok(match job.file()? {
        Some(file) => Some(api.file(file).await?),
        None => None,
    })
}

/// What a buffer must be after a full read or write.
pub(crate) fn full(n: usize, buf: Vec<u8>) -> io::Result<Vec<u8>> {
    match n == buf.len() && n == buf.capacity() {
        true => Ok(buf),
        false => Err(io::Error::other(format!("{n} bytes of {}", buf.capacity()))),
    }
}

/// `our_lane`, which is `lane`, for a ring whose futures are known to be `Send`.
macro_rules! our_lane {
    () => {
        fn our_lane(
            self,
            ours: crate::ours::Ours,
            file: Option<deferring::Fd>,
            lane: usize,
            ops: usize,
        ) -> impl Future<Output = anyhow::Result<()>> + Send + 'static {
            self.lane(ours, file, lane, ops)
        }
    };
}
pub(crate) use our_lane;
