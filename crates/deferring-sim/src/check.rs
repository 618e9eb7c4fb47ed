//! Many seeds, one after the other, and what to do about the one that fails.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::Sim;

/// The environment's word for a single seed.
const SEED: &str = "DEFERRING_SIM_SEED";

/// What is said of a seed that does not give the same again.
const OTHER: &str = "took another course: something decides beside the seed (real time, threads, the \
                     order in a std `HashMap`); see docs/simulation.md";

/// How much of a trace is shown.
const LINES: usize = 60;

/// Runs a test with each seed. If one fails, it is run again with a trace, whose end is printed with
/// the seed, and the panic goes on. With `DEFERRING_SIM_SEED=7` in the environment, 7 is the only
/// seed.
///
/// ```
/// use std::time::Duration;
/// use deferring_sim::{Faults, check};
///
/// check(0..20, |sim| {
///     let sim = sim.faults(Faults::all());
///     sim.run(async |ring| deferring::time::sleep(&ring, Duration::from_secs(1)).await).unwrap().unwrap();
/// });
/// ```
///
/// # Panics
/// As the test does, and if the environment's seed is no number.
#[allow(clippy::print_stderr)] // It is for a person.
pub fn check(seeds: impl IntoIterator<Item = u64>, test: impl Fn(Sim)) {
    if let Ok(seed) = env::var(SEED) {
        let seed = seed.parse().unwrap_or_else(|_| panic!("{SEED}={seed:?} is no number"));
        return one(seed, &test);
    }
    seeds.into_iter().for_each(|seed| one(seed, &test));
}

#[allow(clippy::print_stderr)] // It is for a person.
fn one(seed: u64, test: &impl Fn(Sim)) {
    let sim = Sim::new(seed);
    let first = sim.kernel().clone();
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(sim))) else { return };
    let sim = Sim::new(seed).traced();
    let again = sim.kernel().clone();
    let passes = catch_unwind(AssertUnwindSafe(|| test(sim))).is_ok();
    let trace = again.world().trace().to_owned();
    let lines: Vec<&str> = trace.lines().collect();
    let skipped = lines.len().saturating_sub(LINES);
    eprintln!("seed {seed} fails; to run it alone: {SEED}={seed}");
    eprintln!("the last of {} lines:\n{}", lines.len(), lines[skipped..].join("\n"));
    if passes || first.world().steps() != again.world().steps() {
        eprintln!("the second run, which is traced, {OTHER}");
    }
    resume_unwind(panic);
}
