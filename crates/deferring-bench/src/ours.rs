//! Our library, under each driver.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use deferring::fs;
use deferring::{AtFlags, Fd, Mode, RecvFlags, RenameFlags, Ring, SendFlags, block_on};
use tokio::runtime::{Builder, Runtime};

use crate::api::{Api, Job, full, lanes};
use crate::contest::{Contestant, Kind, Runner};
use crate::cost::Ran;
use crate::lanes::Lanes;
use crate::work::small::{self, Names};

/// Who turns the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    BlockOn,
    /// The same on a ring that makes completions only when asked (`IORING_SETUP_DEFER_TASKRUN`).
    BlockOnDefer,
    /// A thread of the ring's own, awaited on an executor that knows nothing of it.
    Thread,
    /// The same, awaited by `block_on`, which looks for what the thread does before it sleeps.
    ThreadBlockOn,
    TokioCurrent,
    TokioMulti,
    AsyncIo,
}

impl Driver {
    /// Those that every workload has.
    pub(crate) const ALL: [Self; 5] =
        [Self::BlockOn, Self::Thread, Self::TokioCurrent, Self::TokioMulti, Self::AsyncIo];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::BlockOn => "`block_on`",
            Self::BlockOnDefer => "`block_on`, `defer_taskrun`",
            Self::Thread => "`start`",
            Self::ThreadBlockOn => "`start`, awaited by `block_on`",
            Self::TokioCurrent => "`start_on_tokio`, current_thread",
            Self::TokioMulti => "`start_on_tokio`, multi_thread (2)",
            Self::AsyncIo => "`start_on_async_io`",
        }
    }
}

/// A ring, and what its ops are awaited on.
pub(crate) struct Driven {
    driver: Driver,
    pub(crate) ring: Ring,
    runtime: Option<Runtime>,
}

impl Driven {
    /// `may_block`: threads that queue may make small calls themselves.
    pub(crate) fn new(driver: Driver, may_block: bool) -> anyhow::Result<Self> {
        let builder = match driver {
            Driver::TokioCurrent => Some(Builder::new_current_thread()),
            Driver::TokioMulti => Some(Builder::new_multi_thread()),
            Driver::BlockOn
            | Driver::BlockOnDefer
            | Driver::Thread
            | Driver::ThreadBlockOn
            | Driver::AsyncIo => None,
        };
        let start = |mut builder: Builder| builder.worker_threads(2).enable_io().build();
        let runtime = builder.map(start).transpose()?;
        let entered = runtime.as_ref().map(Runtime::enter);
        let builder = Ring::builder().callers_may_block(may_block);
        let ring = match driver {
            Driver::BlockOn => builder.build()?,
            Driver::BlockOnDefer => builder.defer_taskrun(true).build()?,
            Driver::Thread | Driver::ThreadBlockOn => builder.start()?,
            Driver::TokioCurrent | Driver::TokioMulti => builder.start_on_tokio()?,
            Driver::AsyncIo => builder.start_on_async_io()?,
        };
        drop(entered);
        Ok(Self { driver, ring, runtime })
    }

    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
    ) -> anyhow::Result<T> {
        match (self.driver, &self.runtime) {
            (Driver::Thread, _) => futures_executor::block_on(work),
            (Driver::AsyncIo, _) => async_io::block_on(work),
            (Driver::TokioCurrent, Some(runtime)) => runtime.block_on(work),
            // On a worker, as a task; `block_on` would await it on a third thread.
            (Driver::TokioMulti, Some(runtime)) => runtime.block_on(runtime.spawn(work))?,
            _ => block_on(&self.ring, work),
        }
    }

    /// All lanes of a job, as one task.
    pub(crate) fn job<J: Job>(&self, job: &J, ops: usize) -> anyhow::Result<Ran> {
        let before = self.ring.stats().enters;
        job.begin(ops)?;
        let file = job.file()?.map(Fd::from);
        let lane = |job: J, at, ops| {
            let ours = Ours { ring: self.ring.clone() };
            job.our_lane(ours, file.clone(), at, ops)
        };
        self.run(Lanes::new(lanes(job, ops, lane)))?;
        Ok(Ran { enters: Some(self.ring.stats().enters - before), ..job.end()? })
    }
}

/// The same, where threads that queue may block.
pub(crate) fn name_if(driver: Driver, may_block: bool) -> String {
    let plain = if may_block { ", plain calls" } else { "" };
    format!("{}{plain}", driver.name())
}

/// Our library as a contestant, under this driver.
pub(crate) fn contestant<'a, J: Job>(
    driver: Driver,
    may_block: bool,
    make: impl Fn() -> anyhow::Result<J> + Sync + 'a,
) -> Contestant<'a> {
    Contestant::new(Kind::Ours, name_if(driver, may_block), move || {
        let (driven, job) = (Driven::new(driver, may_block)?, make()?);
        let (first, last) = (job.clone(), job.clone());
        Ok(Runner {
            prepare: Box::new(move |ops| first.prepare(ops)),
            run: Box::new(move |ops| driven.job(&job, ops)),
            check: Box::new(move |ops| last.check(ops)),
        })
    })
}

#[derive(Clone, Debug)]
pub(crate) struct Ours {
    ring: Ring,
}

impl Api for Ours {
    type File = Fd;
    type Conn = Fd;

    async fn nop(&self) -> io::Result<()> {
        self.ring.nop().await
    }

    async fn file(&self, file: File) -> io::Result<Fd> {
        Ok(file.into())
    }

    async fn read(&self, file: &Fd, buf: Vec<u8>, offset: u64) -> io::Result<Vec<u8>> {
        let (n, buf) = self.ring.read(file, buf, offset).await.into_inner()?;
        full(n, buf)
    }

    async fn write(&self, file: &Fd, buf: Vec<u8>, offset: u64) -> io::Result<Vec<u8>> {
        let (n, buf) = self.ring.write(file, buf, offset).await.into_inner()?;
        full(n, buf)
    }

    async fn sync(&self, file: &Fd) -> io::Result<()> {
        self.ring.fsync(file).await
    }

    async fn visit(&self, path: PathBuf, buf: Vec<u8>) -> io::Result<(u64, Vec<u8>)> {
        let file = fs::File::open(&self.ring, path).await?;
        let len = file.metadata().await?.len();
        let (n, buf) = file.read_at(buf, 0).await.into_inner()?;
        file.close().await?;
        Ok((len, full(n, buf)?))
    }

    async fn names(&self, dir: PathBuf, lane: usize, ops: usize) -> io::Result<()> {
        let dir = Fd::from(File::open(dir)?);
        let Names { made, linked, renamed } = Names::of(lane);
        for _ in 0..ops / small::OPS {
            self.ring.mkdirat(&dir, &made, Mode::RWXU).await?;
            self.ring.symlinkat(small::TARGET, &dir, &linked).await?;
            let flags = RenameFlags::empty();
            self.ring.renameat2(&dir, &linked, &dir, &renamed, flags).await?;
            self.ring.unlinkat(&dir, &renamed, AtFlags::empty()).await?;
            self.ring.unlinkat(&dir, &made, AtFlags::REMOVEDIR).await?;
        }
        Ok(())
    }

    async fn conn(&self, stream: TcpStream) -> io::Result<Fd> {
        Ok(stream.into())
    }

    async fn recv(&self, conn: &mut Fd, buf: Vec<u8>) -> io::Result<(usize, Vec<u8>)> {
        self.ring.recv(conn, buf, RecvFlags::empty()).await.into_inner()
    }

    async fn send(&self, conn: &mut Fd, mut buf: Vec<u8>) -> io::Result<Vec<u8>> {
        let wanted = buf.len();
        let mut sent = 0;
        while sent < wanted {
            let n;
            (n, buf) = match sent {
                0 => self.ring.send(conn, buf, SendFlags::empty()).await.into_inner()?,
                _ => {
                    use deferring::IoBuf;
                    let rest = buf.slice(sent..wanted);
                    let rest = self.ring.send(conn, rest, SendFlags::empty());
                    let (n, rest) = rest.await.into_inner()?;
                    (n, rest.into_inner())
                }
            };
            sent += n;
        }
        Ok(buf)
    }

    async fn sleep(&self, time: Duration) -> io::Result<()> {
        self.ring.sleep(time).await
    }
}
