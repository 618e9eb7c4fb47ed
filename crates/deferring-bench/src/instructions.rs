//! User instructions per op of those that one thread runs, ours and others': the one figure of this
//! crate that repeats, so that it tells apart what time cannot.
//!
//! By callgrind, as the gates do it: this program runs itself, with one contestant and two numbers
//! of ops, and what the longer run has more is what those ops cost, the workload's own part (the
//! lanes, the look at the data) included. Where there is no valgrind, the column is empty. Not: what
//! is held by CI, which the crate `deferring-gates` counts.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::contest::{Contest, Kind, Measured, Plan};
use crate::local;
use crate::options::Options;
use crate::ours::Driver;

/// In a run, and in a longer one. Multiples of all depths.
const OPS: [usize; 2] = [8192, 24576];

/// Those of ours that one thread runs.
const DRIVERS: [Driver; 2] = [Driver::BlockOn, Driver::TokioCurrent];

/// Holds a contest of a workload, and counts. Or has one contestant do its ops, if that is asked
/// for.
pub(crate) fn hold(
    contest: Contest<'_>,
    workload: &str,
    options: &Options,
    plan: Plan,
) -> anyhow::Result<Vec<Measured>> {
    if let Some(only) = &options.only {
        contest.run_only(only)?;
        return Ok(Vec::new());
    }
    let baseline = contest.raw.name.clone();
    let mut measured = contest.hold(plan, || Ok(()))?;
    if !has_valgrind() {
        return Ok(vec![measured]);
    }
    let id = measured.id;
    let of = |contestant: &str| per_op(workload, id, contestant, options);
    measured.raw_instructions = Some(of(&baseline)?);
    for row in &mut measured.rows {
        let by_one_thread = DRIVERS.iter().any(|driver| driver.name() == row.name);
        let by_one_thread = by_one_thread || row.name == local::NAME;
        row.instructions = match row.kind {
            Kind::Ours if by_one_thread => Some(of(&row.name)?),
            // Some may use what valgrind does not know.
            Kind::Peer => of(&row.name)
                .inspect_err(|error| eprintln!("deferring-bench: not counted: {error:#}"))
                .ok(),
            Kind::Ours | Kind::Again | Kind::Tokio | Kind::Other => None,
        };
    }
    Ok(vec![measured])
}

fn has_valgrind() -> bool {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

fn per_op(workload: &str, id: &str, name: &str, options: &Options) -> anyhow::Result<f64> {
    let [fewer, more] = OPS.map(|ops| count(workload, &format!("{id}:{name}:{ops}"), options));
    let slope = more?.checked_sub(fewer?).context("a longer run has fewer instructions")?;
    Ok(slope as f64 / (OPS[1] - OPS[0]) as f64)
}

/// All instructions of a run of this program.
fn count(workload: &str, only: &str, options: &Options) -> anyhow::Result<u64> {
    let mut run = Command::new("valgrind");
    run.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    run.arg(env::current_exe().context("where this program is")?);
    run.args([workload, "--only", only]);
    if options.peers {
        run.arg("--peers");
    }
    let output = run.output().context("starting valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{only} under callgrind: {}\n{said}", output.status);
    collected(&said).with_context(|| format!("callgrind did not say what it collected:\n{said}"))
}

/// `==123== Collected : 4567`.
fn collected(said: &str) -> Option<u64> {
    let (_, rest) = said.rsplit_once("Collected : ")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callgrind_says_is_read() {
        let said = "==7== \n==7== Events    : Ir\n==7== Collected : 1234567\n==7==\n";
        assert_eq!(collected(said), Some(1_234_567));
        assert_eq!(collected("==7== Events : Ir"), None);
    }
}
