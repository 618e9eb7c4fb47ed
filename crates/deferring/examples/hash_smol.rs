//! The hasher on smol: whichever thread has the reactor turns the ring.
//!
//! `cargo run --release --features async-io --example hash_smol -- src`

#[path = "hasher/mod.rs"]
mod hasher;

use std::io;
use std::process::ExitCode;

use deferring::Ring;

fn main() -> io::Result<ExitCode> {
    let ring = Ring::builder().start_on_async_io()?;
    smol::block_on(hasher::run(ring))
}
