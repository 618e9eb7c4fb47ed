//! Question: what does a read of 4 KiB at random cost past the page cache (`O_DIRECT`), 32 at a
//! time, and does the disk get as many as it can take? Baseline: the loop of `raw.rs` at the same
//! depth.
//!
//! The disk decides the time; what a wrapper can spoil is how many reads it sends together.

use super::{Files, w2};
use crate::contest::Measured;
use crate::field::Field;
use crate::options::Options;

const DEPTH: usize = 32;

pub(crate) fn run(options: &Options, files: &Files<'_>) -> anyhow::Result<Vec<Measured>> {
    let cached = files.cached()?;
    let title = format!("4 KiB at random past the cache, {DEPTH} at a time");
    let field = Field::new("w3-32", title, "read");
    let raw = move || w2::raw(cached, cached.open_direct()?.into(), DEPTH);
    let job = move || w2::Reads::new(cached, cached.open_direct()?.into(), DEPTH);
    let contest = field.contest(options, raw, job);
    Ok(vec![contest.hold(options.timed(11, 300, DEPTH), || Ok(()))?])
}
