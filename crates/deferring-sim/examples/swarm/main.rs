//! Random programs on random kernels, and oracles that see whether the library has kept its word.
//!
//! `cargo xtask sim` runs it. Each seed is one program (`program.rs`, of actors in `actors/`) on one
//! machine with faults of its own (`kernel_of`); `oracle.rs` has what must always hold. The first
//! seed that fails is printed, with the end of its trace, and runs again by `--first N --seeds 1`.
#![allow(clippy::print_stdout, clippy::print_stderr)] // It is for a person.

mod actors;
mod buffer;
mod oracle;
mod program;
mod stage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deferring_sim::Sim;

struct Args {
    first: u64,
    seeds: u64,
    minutes: f64,
    trace: bool,
}

fn args() -> Result<Args, String> {
    let mut args = Args { first: 0, seeds: u64::MAX, minutes: f64::INFINITY, trace: false };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        if name == "--trace" {
            args.trace = true;
            continue;
        }
        let value = given.next().ok_or(format!("{name}: a number is missing"))?;
        let bad = |_| format!("{name} {value}: not a number");
        match name.as_str() {
            "--first" => args.first = value.parse().map_err(bad)?,
            "--seeds" => args.seeds = value.parse().map_err(bad)?,
            "--minutes" => {
                args.minutes = value.parse().map_err(|_| bad("".parse::<u64>().unwrap_err()))?
            }
            _ => return Err(format!("{name}: --first N, --seeds N, --minutes M or --trace")),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match args() {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    tell_seeds();
    let begun = Instant::now();
    let enough = |begun: Instant| begun.elapsed().as_secs_f64() > args.minutes * 60.0;
    let (mut seeds, mut steps, mut struck, mut told) = (0u64, 0u64, 0u64, Duration::ZERO);
    while seeds < args.seeds && !enough(begun) {
        let seed = args.first + seeds;
        match run(seed) {
            Ok(run) => {
                steps += run.steps;
                struck += run.struck;
            }
            Err(()) => {
                explain(seed, if args.trace { usize::MAX } else { 80 });
                println!(
                    "seed {seed} fails, after {seeds} that do not, in {:.1?}",
                    begun.elapsed()
                );
                return ExitCode::FAILURE;
            }
        }
        seeds += 1;
        if begun.elapsed() > told + Duration::from_secs(10) {
            told = begun.elapsed();
            println!("{seeds} seeds, {steps} steps, {struck} faults in {told:.0?}");
        }
    }
    let time = begun.elapsed();
    let pace = steps as f64 / time.as_secs_f64() / 1e6;
    println!(
        "{seeds} seeds, {steps} steps, {struck} faults in {time:.1?}: {pace:.2} million steps/s"
    );
    ExitCode::SUCCESS
}

struct Run {
    steps: u64,
    struck: u64,
}

/// One seed; now and then twice, which must be the same.
fn run(seed: u64) -> Result<Run, ()> {
    const AGAIN: u64 = 64;
    catch_unwind(AssertUnwindSafe(|| {
        let run = one(program::machine(seed, false));
        if seed % AGAIN == 0 {
            let again = one(program::machine(seed, false));
            assert_eq!(run.steps, again.steps, "seed {seed} is not the same twice");
        }
        run
    }))
    .map_err(drop)
}

/// Which seed runs.
static SEED: AtomicU64 = AtomicU64::new(0);

/// Whoever panics says in which seed: a panic in a drop ends the process.
fn tell_seeds() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let said = payload.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("?");
        let first = said.lines().next().unwrap_or_default();
        eprintln!("in seed {}: {first}", SEED.load(Ordering::Relaxed));
        hook(panic);
    }));
}

fn one(sim: Sim) -> Run {
    SEED.store(sim.seed(), Ordering::Relaxed);
    let sim = Arc::new(sim);
    program::run(&sim);
    Run { steps: sim.steps(), struck: sim.struck() }
}

/// Runs it again, with a trace, and shows the last lines of it.
fn explain(seed: u64, most: usize) {
    std::panic::set_hook(Box::new(|_| {}));
    let sim = Arc::new(program::machine(seed, true));
    let _ = catch_unwind(AssertUnwindSafe(|| program::run(&sim)));
    let trace = sim.trace();
    let lines: Vec<&str> = trace.lines().collect();
    let skipped = lines.len().saturating_sub(most);
    eprintln!("the last of {} lines:\n{}", lines.len(), lines[skipped..].join("\n"));
}
