//! One run: a runtime, its tasks, and what they read by.
//!
//! Not: what is measured and compared (`mod.rs`).

use std::time::{Duration, Instant};

use deferring::{Fd, Ring};
use tokio::runtime::{Builder, Runtime};

#[cfg(tokio_unstable)]
use super::reader::InSequence;
use super::reader::{BySeeking, OnPool, OnRing, Reader};
use crate::contest::Kind;
use crate::file::{BLOCK, Cached, Offsets, check};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    MultiThread,
    CurrentThread,
}

impl Flavour {
    pub(crate) const ALL: [Self; 2] = [Self::MultiThread, Self::CurrentThread];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MultiThread => "multi_thread (2)",
            Self::CurrentThread => "current_thread",
        }
    }

    fn runtime(self, reactor: bool) -> std::io::Result<Runtime> {
        let mut builder = match self {
            Self::MultiThread => Builder::new_multi_thread(),
            Self::CurrentThread => Builder::new_current_thread(),
        };
        if reactor {
            builder.enable_io();
        }
        builder.worker_threads(2).build()
    }
}

/// By what the tasks read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    OnTokio,
    Thread,
    SpawnBlocking,
    TokioFs,
    #[cfg(tokio_unstable)]
    TokiosRing,
    #[cfg(tokio_unstable)]
    TokiosRingInSequence,
}

impl Way {
    pub(crate) const ALL: &'static [Self] = &[
        Self::OnTokio,
        Self::Thread,
        Self::SpawnBlocking,
        Self::TokioFs,
        #[cfg(tokio_unstable)]
        Self::TokiosRing,
        #[cfg(tokio_unstable)]
        Self::TokiosRingInSequence,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OnTokio => "`start_on_tokio`",
            Self::Thread => "`start`",
            Self::SpawnBlocking => "`spawn_blocking` + `pread`",
            Self::TokioFs => "`tokio::fs`: seek + read",
            #[cfg(tokio_unstable)]
            Self::TokiosRing => "tokio's io_uring: seek + read",
            #[cfg(tokio_unstable)]
            Self::TokiosRingInSequence => "tokio's io_uring: read in sequence",
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::OnTokio | Self::Thread => Kind::Ours,
            Self::SpawnBlocking | Self::TokioFs => Kind::Tokio,
            #[cfg(tokio_unstable)]
            Self::TokiosRing | Self::TokiosRingInSequence => Kind::Tokio,
        }
    }

    /// tokio's files use its ring wherever there is a reactor that can have one.
    fn needs_reactor(self) -> bool {
        !matches!(self, Self::Thread | Self::SpawnBlocking | Self::TokioFs)
    }
}

/// A runtime for each run, since what a run leaves in it would help the next.
pub(crate) struct Course<'a> {
    cached: &'a Cached,
    runtime: Runtime,
    way: Way,
    /// Ours, if that is the way.
    ring: Option<OnRing>,
}

pub(crate) struct Ran {
    pub(crate) enters: Option<u64>,
    /// From each task's first poll to its end.
    pub(crate) times: Vec<Duration>,
}

impl<'a> Course<'a> {
    pub(crate) fn new(cached: &'a Cached, flavour: Flavour, way: Way) -> anyhow::Result<Self> {
        let runtime = flavour.runtime(way.needs_reactor())?;
        let entered = runtime.enter();
        let builder = Ring::builder();
        let ring = if way == Way::OnTokio {
            Some(builder.start_on_tokio()?)
        } else if way == Way::Thread {
            Some(builder.start()?)
        } else {
            None
        };
        drop(entered);
        let fd = Fd::from(cached.open()?);
        let ring = ring.map(|ring| OnRing { ring, fd });
        Ok(Self { cached, runtime, way, ring })
    }

    /// So many tasks, and reads for each.
    pub(crate) fn run(&self, tasks: usize, reads: usize) -> anyhow::Result<Ran> {
        let before = self.entered();
        let times = match self.way {
            Way::OnTokio | Way::Thread => {
                let ring = self.ring.as_ref().expect("made with the rest");
                self.with(tasks, reads, || Ok(ring.clone()))
            }
            Way::SpawnBlocking => {
                let file = self.cached.shared()?;
                self.with(tasks, reads, || Ok(OnPool(file.clone())))
            }
            // A position for each task.
            Way::TokioFs => self.with(tasks, reads, || Ok(BySeeking(self.open()?))),
            #[cfg(tokio_unstable)]
            Way::TokiosRing => self.with(tasks, reads, || Ok(BySeeking(self.open()?))),
            #[cfg(tokio_unstable)]
            Way::TokiosRingInSequence => {
                self.with(tasks, reads, || Ok(InSequence { file: self.open()?, next: 0, end: 0 }))
            }
        }?;
        let enters = self.entered().zip(before).map(|(after, before)| after - before);
        Ok(Ran { enters, times })
    }

    fn open(&self) -> anyhow::Result<tokio::fs::File> {
        Ok(tokio::fs::File::from_std(self.cached.open()?))
    }

    fn entered(&self) -> Option<u64> {
        self.ring.as_ref().map(|on| on.ring.stats().enters)
    }

    fn with<R: Reader>(
        &self,
        tasks: usize,
        reads: usize,
        mut reader: impl FnMut() -> anyhow::Result<R>,
    ) -> anyhow::Result<Vec<Duration>> {
        let readers: Vec<R> = (0..tasks).map(|_| reader()).collect::<anyhow::Result<_>>()?;
        self.runtime.block_on(async {
            let seeded = (1..).zip(readers);
            let spawn =
                |(seed, reader)| tokio::spawn(task(reader, self.cached.offsets(seed), reads));
            let tasks: Vec<_> = seeded.map(spawn).collect();
            let mut times = Vec::with_capacity(tasks.len());
            for task in tasks {
                times.push(task.await??);
            }
            Ok(times)
        })
    }
}

async fn task<R: Reader>(
    mut reader: R,
    mut offsets: Offsets,
    reads: usize,
) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let mut buf = vec![0; BLOCK];
    for _ in 0..reads {
        let offset = offsets.draw();
        let at;
        (at, buf) = reader.read(buf, offset).await?;
        check(&mut buf, at)?;
    }
    Ok(start.elapsed())
}
