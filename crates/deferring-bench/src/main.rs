//! Benches: what ops cost, beside a loop by hand and other ways to do the same.
//!
//! `cargo xtask bench` builds this as it is meant to be built, and runs it. `work/`: the workloads,
//! each of which opens with its question and its baseline. Who takes part: `raw.rs` (the baseline),
//! `ours.rs`, `local.rs`, `tokios.rs`, `peers/`, each by the ops of `api.rs`; `field.rs` puts them together.
//! How it is measured: `contest.rs`, `cost.rs`, `alloc.rs`. What is said of it: `stats.rs`,
//! `goal.rs`, `report/`. Not: what is counted rather than timed, which gates have; what is
//! concluded, which docs/performance.md and docs/runtimes.md have.

#![allow(clippy::print_stdout, clippy::print_stderr)] // A tool talks to whoever started it.

mod alloc;
mod api;
mod contest;
mod cost;
mod field;
mod file;
mod goal;
mod instructions;
mod lanes;
mod local;
mod options;
mod ours;
mod peers;
mod raw;
mod report;
mod stats;
mod tokios;
mod work;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;

use crate::options::Options;
use crate::report::Report;
use crate::work::Files;

const USAGE: &str = "\
usage: deferring-bench [WORKLOAD...] [--quick] [--peers] [--rounds N] [--mib N] [--tasks N]
                       [--dir DIR] [--out DIR] [--only CONTEST:CONTESTANT:OPS]

  nop fairness scale   ops that do nothing; tasks that get on alike; ops, descriptors, tasks, rings
  zero w2 w3 w4 w5     reads of /dev/zero, of the cache, past it; writes; small files
  small                small calls: names and writes, by workers and by who queues them
  code                 what it costs that code runs between two calls
  w6 w7 w9 hop         TCP; timeouts; reads by many tasks on tokio; one op under each driver
                       (none named: all)

  --quick     few and short rounds: to see that it runs, not to quote
  --peers     other libraries too, if built with them (the feature `peers`)
  --rounds N  how often each is measured
  --mib N     the size of the files that are read and written (1024; quick: 256, 64)
  --tasks N   how many tasks read in w9 (128)
  --dir DIR   where files are made, and removed at the end (the system's place for such)
  --out DIR   write performance.md there, and its plots
  --only C:D:N  one contestant's ops and nothing else, for a profiler: of nop and zero (nop-32:raw loop:6400)";

fn main() -> ExitCode {
    let known = work::ALL.iter().map(|workload| workload.name).chain([work::SCALE]);
    let known: Vec<&str> = known.collect();
    let options = match Options::parse(std::env::args().skip(1), &known) {
        Ok(options) if options.peers && !peers::BUILT => {
            return misused(
                "this was built without peers: `cargo xtask bench --peers` builds them",
            );
        }
        Ok(options) => options,
        Err(why) => return misused(&why),
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("deferring-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let start = Instant::now();
    let files = Files::new(options);
    if options.only.is_some() {
        for workload in work::ALL.iter().filter(|workload| options.wants(workload.name)) {
            (workload.run)(options, &files).context(workload.name)?;
        }
        return Ok(());
    }
    let mut report = Report::new(options)?;
    println!("{}", report.head());
    for workload in work::ALL.iter().filter(|workload| options.wants(workload.name)) {
        let began = Instant::now();
        let measured = (workload.run)(options, &files).context(workload.name)?;
        eprintln!("({} took {} s)", workload.name, began.elapsed().as_secs());
        println!("{}", report.add(workload, measured));
    }
    if options.wants(work::SCALE) {
        let began = Instant::now();
        let curves = work::scale::run(options, &files).context(work::SCALE)?;
        eprintln!("({} took {} s)", work::SCALE, began.elapsed().as_secs());
        println!("{}", report.add_curves(curves));
    }
    println!("{}", report.goals(options.which.is_empty()));
    println!("All of it took {} s.", start.elapsed().as_secs());
    if let Some(dir) = &options.out {
        report.write(dir, start.elapsed())?;
        println!("written: {}", dir.join("performance.md").display());
    }
    Ok(())
}

fn misused(why: &str) -> ExitCode {
    eprintln!("deferring-bench: {why}\n\n{USAGE}");
    ExitCode::from(2)
}
