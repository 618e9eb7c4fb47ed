//! How many steps a simulated machine takes in a second of real time: reads and writes of 64 bytes,
//! 32 at once.
//!
//! `cargo run --release -p deferring-sim --example speed`
#![allow(clippy::print_stdout)] // It is a program.

use std::io;
use std::time::Instant;

use deferring::fs::File;
use deferring::{BufResult, Ring};
use deferring_sim::{Faults, Sim};
use futures_util::future::try_join_all;

const DEPTH: u64 = 32;
const ROUNDS: u64 = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, faults) in [("none", Faults::none()), ("all", Faults::all())] {
        let sim = Sim::new(0).faults(faults);
        let start = Instant::now();
        sim.run(program)??;
        let seconds = start.elapsed().as_secs_f64();
        let ops = (2 * DEPTH * ROUNDS) as f64 / seconds;
        let steps = sim.steps() as f64 / seconds;
        println!("faults {name:4}: {:.2} M steps/s, {:.2} M ops/s", steps / 1e6, ops / 1e6);
    }
    Ok(())
}

async fn program(ring: Ring) -> io::Result<()> {
    let options = File::options().read(true).write(true).create(true);
    let file = options.open(&ring, "/file").await?;
    let tasks = (0..DEPTH).map(|n| work(&file, n * 4096));
    try_join_all(tasks).await?;
    file.close().await
}

async fn work(file: &File, at: u64) -> io::Result<()> {
    let mut buf = vec![7; 64];
    for _ in 0..ROUNDS {
        let (_, written) = file.write_at(buf, at).await.into_inner()?;
        let BufResult(read, filled) = file.read_at(written, at).await;
        read?;
        buf = filled;
    }
    Ok(())
}
