//! What tokio itself has: its pool of threads for files, its reactor for sockets, its wheel of
//! timers; on one thread, with its `spawn`.
//!
//! With `--cfg tokio_unstable`, its io_uring, which opens, reads and writes files in place of the
//! pool, in a runtime with a reactor; then `tokio::fs` is measured both with and without one.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_blocking, spawn_local};

use crate::api::{self, Api, Job, Need, lanes};
use crate::contest::{Contestant, Kind, Runner};
use crate::work::small::{self, Names};

/// Whether files go through tokio's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    Pool,
    #[cfg(tokio_unstable)]
    Ring,
}

impl Files {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Pool,
        #[cfg(tokio_unstable)]
        Self::Ring,
    ];
}

/// tokio's own way as a contestant.
pub(crate) fn contestant<'a, J: Job>(
    files: Files,
    make: impl Fn() -> anyhow::Result<J> + Sync + 'a,
) -> Contestant<'a> {
    let name = match (J::NEEDS, files) {
        (Need::Nop, _) => "tokio's `yield_now`",
        (Need::Net, _) => "tokio's net",
        (Need::Sleep, _) => "tokio's timers",
        (Need::Read, _) => "tokio's `spawn_blocking` + `pread`",
        (Need::Write | Need::Visit | Need::Names, Files::Pool) => "`tokio::fs`",
        #[cfg(tokio_unstable)]
        (Need::Write | Need::Visit | Need::Names, Files::Ring) => "`tokio::fs` on tokio's io_uring",
    };
    Contestant::new(Kind::Tokio, name, move || {
        let mut builder = Builder::new_current_thread();
        builder.enable_time();
        if files != Files::Pool || J::NEEDS == Need::Net {
            builder.enable_io();
        }
        let (runtime, job) = (builder.build()?, make()?);
        let (first, last) = (job.clone(), job.clone());
        Ok(Runner {
            prepare: Box::new(move |ops| first.prepare(ops)),
            run: Box::new(move |ops| {
                job.begin(ops)?;
                LocalSet::new().block_on(&runtime, all(&job, ops))?;
                job.end()
            }),
            check: Box::new(move |ops| last.check(ops)),
        })
    })
}

async fn all<J: Job>(job: &J, ops: usize) -> anyhow::Result<()> {
    let file = api::open(&Tokio, job).await?;
    let lane = |job: J, at, ops| spawn_local(job.lane(Tokio, file.clone(), at, ops));
    for lane in lanes(job, ops, lane) {
        lane.await??;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct Tokio;

impl Api for Tokio {
    type File = Arc<File>;
    type Conn = tokio::net::TcpStream;

    async fn nop(&self) -> io::Result<()> {
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn file(&self, file: File) -> io::Result<Arc<File>> {
        Ok(Arc::new(file))
    }

    /// `tokio::fs` has no reads at an offset; this is the best that there is.
    async fn read(&self, file: &Arc<File>, mut buf: Vec<u8>, offset: u64) -> io::Result<Vec<u8>> {
        let file = Arc::clone(file);
        spawn_blocking(move || file.read_exact_at(&mut buf, offset).map(|()| buf)).await?
    }

    async fn write(&self, file: &Arc<File>, buf: Vec<u8>, offset: u64) -> io::Result<Vec<u8>> {
        let file = Arc::clone(file);
        spawn_blocking(move || file.write_all_at(&buf, offset).map(|()| buf)).await?
    }

    async fn sync(&self, file: &Arc<File>) -> io::Result<()> {
        let file = Arc::clone(file);
        spawn_blocking(move || file.sync_all()).await?
    }

    async fn visit(&self, path: PathBuf, mut buf: Vec<u8>) -> io::Result<(u64, Vec<u8>)> {
        let mut file = tokio::fs::File::open(path).await?;
        let len = file.metadata().await?.len();
        file.read_exact(&mut buf).await?;
        Ok((len, buf))
    }

    async fn names(&self, dir: PathBuf, lane: usize, ops: usize) -> io::Result<()> {
        let Names { made, linked, renamed } = Names::of(lane);
        let (made, linked, renamed) = (dir.join(made), dir.join(linked), dir.join(renamed));
        for _ in 0..ops / small::OPS {
            tokio::fs::create_dir(&made).await?;
            tokio::fs::symlink(small::TARGET, &linked).await?;
            tokio::fs::rename(&linked, &renamed).await?;
            tokio::fs::remove_file(&renamed).await?;
            tokio::fs::remove_dir(&made).await?;
        }
        Ok(())
    }

    async fn conn(&self, stream: TcpStream) -> io::Result<tokio::net::TcpStream> {
        stream.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(stream)
    }

    async fn recv(
        &self,
        conn: &mut tokio::net::TcpStream,
        mut buf: Vec<u8>,
    ) -> io::Result<(usize, Vec<u8>)> {
        Ok((conn.read(&mut buf).await?, buf))
    }

    async fn send(&self, conn: &mut tokio::net::TcpStream, buf: Vec<u8>) -> io::Result<Vec<u8>> {
        conn.write_all(&buf).await?;
        Ok(buf)
    }

    async fn sleep(&self, time: Duration) -> io::Result<()> {
        tokio::time::sleep(time).await;
        Ok(())
    }
}
