//! Question: what does the wrapper itself cost, beside an op that costs the kernel next to nothing:
//! 64 bytes of /dev/zero, 32 reads at a time? Baseline: the loop of `raw.rs` at the same depth.
//!
//! The difference of minima is the wrapper's own price: noise only adds. How many instructions it
//! is, and how many system calls, the gates say, which repeat to the instruction.

use std::fs::File;

use anyhow::{Context, ensure};

use super::Files;
use crate::api::{Api, Job, Need, our_lane};
use crate::contest::{Measured, Runner};
use crate::cost::Ran;
use crate::field::Field;
use crate::instructions;
use crate::options::Options;
use crate::raw::{Raw, take_zeros};

const DEPTH: usize = 32;
const BYTES: usize = 64;

pub(crate) fn run(options: &Options, _: &Files<'_>) -> anyhow::Result<Vec<Measured>> {
    let field = Field::new("zero-32", "64 bytes of /dev/zero, 32 at a time", "read");
    let raw = || {
        let (mut raw, file) = (Raw::new(DEPTH, BYTES)?, zeros()?);
        Ok(Runner::new(move |ops| Ok(Ran::entered(raw.read_zeros(&file, ops)?))))
    };
    let contest = field.contest(options, raw, || Ok(Zeros));
    instructions::hold(contest, "zero", options, options.timed(20, 150, DEPTH * 16))
}

fn zeros() -> anyhow::Result<File> {
    File::open("/dev/zero").context("opening /dev/zero")
}

#[derive(Clone)]
struct Zeros;

impl Job for Zeros {
    const NEEDS: Need = Need::Read;

    fn lanes(&self) -> usize {
        DEPTH
    }

    fn file(&self) -> anyhow::Result<Option<File>> {
        zeros().map(Some)
    }

    async fn lane<A: Api>(
        self,
        api: A,
        file: Option<A::File>,
        _: usize,
        ops: usize,
    ) -> anyhow::Result<()> {
        let file = file.context("the job has a file")?;
        let mut buf = vec![0xff; BYTES];
        for _ in 0..ops {
            buf = api.read(&file, buf, 0).await?;
            ensure!(take_zeros(&mut buf), "there are no zeros in the buffer");
        }
        Ok(())
    }

    our_lane!();
}
