//! Question: what does an op cost that does nothing, one at a time, 32 at a time, and 256?
//! Baseline: the loop of `raw.rs` at the same depth.
//!
//! A nop ends in the system call that sends it, so that what is left is the way there and back, and
//! the bookkeeping. tokio has no ring to send it to: its `yield_now` is what a task switch costs.

use super::Files;
use crate::api::{Api, Job, Need, our_lane};
use crate::contest::{Measured, Runner};
use crate::cost::Ran;
use crate::field::Field;
use crate::instructions;
use crate::options::Options;
use crate::raw::Raw;

pub(crate) fn run(options: &Options, _: &Files<'_>) -> anyhow::Result<Vec<Measured>> {
    let ids: [(&str, usize); 3] = [("nop-1", 1), ("nop-32", 32), ("nop-256", 256)];
    let measured = ids.map(|(id, depth)| {
        let field = Field::new(id, format!("nop, {depth} at a time"), "nop");
        let job = move || Ok(Nops { depth });
        let contest = field.contest(options, move || raw(depth), job);
        instructions::hold(contest, "nop", options, options.timed(20, 100, depth * 16))
    });
    let measured: anyhow::Result<Vec<_>> = measured.into_iter().collect();
    Ok(measured?.into_iter().flatten().collect())
}

pub(super) fn raw<'a>(depth: usize) -> anyhow::Result<Runner<'a>> {
    let mut raw = Raw::new(depth, 0)?;
    Ok(Runner::new(move |ops| Ok(Ran::entered(raw.nop(ops)?))))
}

#[derive(Clone)]
pub(super) struct Nops {
    pub(super) depth: usize,
}

impl Job for Nops {
    const NEEDS: Need = Need::Nop;

    fn lanes(&self) -> usize {
        self.depth
    }

    async fn lane<A: Api>(
        self,
        api: A,
        _: Option<A::File>,
        _: usize,
        ops: usize,
    ) -> anyhow::Result<()> {
        for _ in 0..ops {
            api.nop().await?;
        }
        Ok(())
    }

    our_lane!();
}
