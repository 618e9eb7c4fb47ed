//! The hasher with no runtime but the ring's: the thread that awaits turns it.
//!
//! `cargo run --release --example hash_block_on -- src`

#[path = "hasher/mod.rs"]
mod hasher;

use std::io;
use std::process::ExitCode;

use deferring::{Ring, block_on};

fn main() -> io::Result<ExitCode> {
    // The fastest way, for a ring that stays on one thread.
    let ring = Ring::builder().defer_taskrun(true).build()?;
    block_on(&ring, hasher::run(ring.clone()))
}
