//! Question: how long does a file take to be written, in blocks of 128 KiB, 16 at a time, and to be
//! on the disk (`fsync`)? Baseline: the loop of `raw.rs`, which does the same.
//!
//! Buffered writes of ext4 go to a worker of the kernel's one by one, whoever asks. Each run makes
//! a new file; afterwards the ends of each block are read again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use tempfile::NamedTempFile;

use super::Files;
use crate::api::{Api, Job, Need, our_lane};
use crate::contest::{Measured, Runner};
use crate::cost::Ran;
use crate::field::Field;
use crate::file::{stamp, take_stamp};
use crate::options::Options;
use crate::raw::Raw;

const DEPTH: usize = 16;
const BYTES: usize = 128 << 10;

pub(crate) fn run(options: &Options, _: &Files<'_>) -> anyhow::Result<Vec<Measured>> {
    let mib = options.mib.unwrap_or(options.quick_or(64, 1024));
    let title = format!("{mib} MiB written in blocks of 128 KiB, {DEPTH} at a time, and fsync");
    let field = Field::new("w4", title, "write");
    let dir = &options.dir;
    let raw = || {
        let (target, mut raw) = (Target::new(dir), Raw::new(DEPTH, BYTES)?);
        let (first, last) = (target.clone(), target.clone());
        Ok(Runner {
            prepare: Box::new(move |_| first.make()),
            run: Box::new(move |ops| {
                let file = target.file()?;
                Ok(Ran::entered(raw.write(&file, ops)? + raw.fsync(&file)?))
            }),
            check: Box::new(move |ops| last.check(ops)),
        })
    };
    let job = || Ok(Writes { target: Target::new(dir), done: Arc::default() });
    let ops = mib * (1 << 20) / BYTES;
    let contest = field.contest(options, raw, job);
    Ok(vec![contest.hold(options.counted(5, ops), || Ok(()))?])
}

/// Where the file is; it goes with the last of these.
#[derive(Clone)]
struct Target {
    dir: PathBuf,
    file: Arc<Mutex<Option<NamedTempFile>>>,
}

impl Target {
    fn new(dir: &Path) -> Self {
        Self { dir: dir.into(), file: Arc::default() }
    }

    /// A new one in place of the last.
    fn make(&self) -> anyhow::Result<()> {
        let made = tempfile::Builder::new().prefix("deferring-bench-w4-").tempfile_in(&self.dir);
        let mut file = self.file.lock().expect("no panics under it");
        *file = None;
        *file = Some(made.with_context(|| format!("a file in {}", self.dir.display()))?);
        Ok(())
    }

    fn file(&self) -> anyhow::Result<File> {
        let file = self.file.lock().expect("no panics under it");
        Ok(file.as_ref().context("made before each run")?.as_file().try_clone()?)
    }

    fn check(&self, blocks: usize) -> anyhow::Result<()> {
        let file = self.file()?;
        let len = file.metadata()?.len();
        ensure!(len == (blocks * BYTES) as u64, "{len} bytes were written");
        let mut ends = [0; 16];
        for offset in (0..blocks).map(|at| (at * BYTES) as u64) {
            file.read_exact_at(&mut ends[..8], offset)?;
            file.read_exact_at(&mut ends[8..], offset + BYTES as u64 - 8)?;
            ensure!(take_stamp(&mut ends, offset), "the block at {offset} is not what was written");
        }
        Ok(())
    }
}

/// Block `n` is written by lane `n % DEPTH`; the last lane that is done syncs.
#[derive(Clone)]
struct Writes {
    target: Target,
    done: Arc<AtomicUsize>,
}

impl Job for Writes {
    const NEEDS: Need = Need::Write;

    fn lanes(&self) -> usize {
        DEPTH
    }

    fn file(&self) -> anyhow::Result<Option<File>> {
        self.target.file().map(Some)
    }

    fn prepare(&self, _: usize) -> anyhow::Result<()> {
        self.done.store(0, Ordering::Relaxed);
        self.target.make()
    }

    async fn lane<A: Api>(
        self,
        api: A,
        file: Option<A::File>,
        lane: usize,
        ops: usize,
    ) -> anyhow::Result<()> {
        let file = file.context("the job has a file")?;
        let mut buf = vec![0; BYTES];
        for at in 0..ops {
            let offset = ((at * DEPTH + lane) * BYTES) as u64;
            stamp(&mut buf, offset);
            buf = api.write(&file, buf, offset).await?;
        }
        if self.done.fetch_add(1, Ordering::Relaxed) == DEPTH - 1 {
            api.sync(&file).await?;
        }
        Ok(())
    }

    fn check(&self, ops: usize) -> anyhow::Result<()> {
        self.target.check(ops)
    }

    our_lane!();
}
