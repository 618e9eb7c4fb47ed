//! Random stories under random drivers, for ten minutes.
//!
//! The stories are `crates/deferring/tests/it/drivers`; `cargo test` tells them for some seconds.
//! Not: what they check.

use crate::ci::run_cargo;

const LINE: &str = "cargo test --release --package deferring --all-features --test it -- \
                    drivers::soak --nocapture";

pub(crate) fn run() -> anyhow::Result<()> {
    run_cargo(LINE, &[("DEFERRING_HAZARDS", "long")])
}
