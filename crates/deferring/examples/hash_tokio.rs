//! The hasher on tokio, with several workers: one of them turns the ring, in between tasks.
//!
//! `cargo run --release --features tokio --example hash_tokio -- src`

#[path = "hasher/mod.rs"]
mod hasher;

use std::io;
use std::process::ExitCode;

use deferring::Ring;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> io::Result<ExitCode> {
    let ring = Ring::builder().start_on_tokio()?;
    // A task, since `main` itself is on no worker.
    tokio::spawn(hasher::run(ring)).await?
}
