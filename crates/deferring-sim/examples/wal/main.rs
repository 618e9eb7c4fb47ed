//! A store with a write-ahead log, on a real machine or on one that loses its power.
//!
//! `cargo run -p deferring-sim --example wal -- real DIR`
//! `cargo run -p deferring-sim --example wal -- sim --seeds 1000 [--bug NAME]`
//!
//! The store is `store.rs` and `record.rs`; what it must not lose, `ledger.rs`; how it is used,
//! `story.rs`. docs/simulation.md tells what is found.
#![allow(clippy::print_stdout)] // It is a program.

mod bug;
mod ledger;
mod record;
mod store;
mod story;

use std::cell::RefCell;
use std::env;
use std::io;
use std::path::Path;

use bug::Bug;
use deferring::{Ring, block_on};
use deferring_sim::check;
use ledger::Ledger;
use store::Store;
use story::User;

const USAGE: &str = "wal real DIR, or wal sim [--seeds N] [--bug NAME]";

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["real", dir] => real(dir.as_ref()),
        ["sim", ref options @ ..] => simulated(options),
        _ => Err(io::Error::other(USAGE)),
    }
}

/// Two lives on a real ring: the second sees whether the first has left all behind.
fn real(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let ring = Ring::builder().build()?;
    let keys = block_on(&ring, async {
        let before = Store::open(&ring, dir, None).await?;
        let ledger = RefCell::new(Ledger::of(before.map()));
        let user = User { ledger, rng: RefCell::default(), note: &|note| println!("{note}") };
        before.close().await?;
        story::live(&ring, dir, None, &user).await?;
        story::live(&ring, dir, None, &user).await?;
        let after = Store::open(&ring, dir, None).await?;
        let keys = after.map().len();
        after.close().await?;
        Ok::<_, io::Error>(keys)
    })?;
    println!("{}: {keys} keys", dir.display());
    Ok(())
}

fn simulated(options: &[&str]) -> io::Result<()> {
    let (mut seeds, mut bug) = (1000, None);
    for option in options.chunks(2) {
        match *option {
            ["--seeds", n] => seeds = n.parse().map_err(io::Error::other)?,
            ["--bug", name] => bug = Some(name.parse::<Bug>().map_err(io::Error::other)?),
            _ => return Err(io::Error::other(USAGE)),
        }
    }
    check(0..seeds, |sim| {
        if let Err(wrong) = story::story(&sim, bug) {
            panic!("{wrong}");
        }
    });
    match env::var("DEFERRING_SIM_SEED") {
        Ok(seed) => println!("seed {seed}: nothing is lost"),
        Err(_) => println!("{seeds} seeds: nothing is lost"),
    }
    Ok(())
}
