//! The hasher on a ring with a thread of its own, under any executor: here that of `futures`.
//!
//! `cargo run --release --example hash_thread -- src`

#[path = "hasher/mod.rs"]
mod hasher;

use std::io;
use std::process::ExitCode;

use deferring::Ring;

fn main() -> io::Result<ExitCode> {
    let ring = Ring::builder().start()?;
    futures_executor::block_on(hasher::run(ring))
}
