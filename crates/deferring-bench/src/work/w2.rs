//! Question: what does a read of 4 KiB at random from a file in the page cache cost, one at a time,
//! 32 at a time, and 128? Baseline: the loop of `raw.rs` at the same depth, on one thread.
//!
//! Seven tenths of it are the kernel's copying. That all of the file is cached is made sure of
//! before each round, and each block that was read has to be the one that lies there.

use std::fs::File;
use std::sync::Arc;

use anyhow::Context;

use super::Files;
use crate::api::{Api, Job, Need, our_lane};
use crate::contest::{Contestant, Kind, Measured, Runner};
use crate::cost::Ran;
use crate::field::Field;
use crate::file::{BLOCK, Cached, Offsets, check};
use crate::options::Options;
use crate::raw::Raw;

pub(crate) fn run(options: &Options, files: &Files<'_>) -> anyhow::Result<Vec<Measured>> {
    let cached = files.cached()?;
    let ids: [(&str, usize); 3] = [("w2-1", 1), ("w2-32", 32), ("w2-128", 128)];
    let measured = ids.map(|(id, depth)| {
        let title =
            format!("4 KiB at random from {} MiB in the cache, {depth} at a time", options.mib());
        let field = Field::new(id, title, "read");
        let raw = move || raw(cached, cached.shared()?, depth);
        let job = move || Reads::new(cached, cached.shared()?, depth);
        let mut contest = field.contest(options, raw, job);
        if depth == 1 {
            contest
                .others
                .push(Contestant::new(Kind::Other, "`pread`, no ring", move || plain(cached)));
        }
        contest.hold(options.timed(11, 150, depth * 16), || cached.settle())
    });
    measured.into_iter().collect()
}

/// The baseline: the same offsets as the first lane's.
pub(super) fn raw<'a>(
    cached: &'a Cached,
    file: Arc<File>,
    depth: usize,
) -> anyhow::Result<Runner<'a>> {
    let (mut raw, mut offsets) = (Raw::new(depth, BLOCK)?, cached.offsets(0));
    Ok(Runner::new(move |ops| Ok(Ran::entered(raw.read(&file, ops, &mut offsets)?))))
}

fn plain(cached: &Cached) -> anyhow::Result<Runner<'_>> {
    use std::os::unix::fs::FileExt;
    let (file, mut offsets, mut buf) = (cached.open()?, cached.offsets(0), vec![0; BLOCK]);
    Ok(Runner::new(move |ops| {
        for _ in 0..ops {
            let offset = offsets.draw();
            file.read_exact_at(&mut buf, offset)?;
            check(&mut buf, offset)?;
        }
        Ok(Ran::default())
    }))
}

/// Reads at random, each lane from a seed of its own.
#[derive(Clone)]
pub(super) struct Reads {
    file: Arc<File>,
    offsets: Offsets,
    depth: usize,
}

impl Reads {
    pub(super) fn new(cached: &Cached, file: Arc<File>, depth: usize) -> anyhow::Result<Self> {
        Ok(Self { file, offsets: cached.offsets(0), depth })
    }
}

impl Job for Reads {
    const NEEDS: Need = Need::Read;

    fn lanes(&self) -> usize {
        self.depth
    }

    fn file(&self) -> anyhow::Result<Option<File>> {
        Ok(Some(self.file.try_clone().context("dup")?))
    }

    async fn lane<A: Api>(
        self,
        api: A,
        file: Option<A::File>,
        lane: usize,
        ops: usize,
    ) -> anyhow::Result<()> {
        let file = file.context("the job has a file")?;
        let mut offsets = self.offsets.reseeded(lane as u64);
        let mut buf = vec![0; BLOCK];
        for _ in 0..ops {
            let offset = offsets.draw();
            buf = api.read(&file, buf, offset).await?;
            check(&mut buf, offset)?;
        }
        Ok(())
    }

    our_lane!();
}
