//! Random programs on random kernels, from seeds: `crates/deferring-sim/examples/swarm`.
//!
//! And whether they find anything: with bugs planted in the library (`--cfg deferring_planted`, see
//! its `planted.rs`), each is to be found within a minute. Not: what the programs check.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

use crate::project;

const BUGS: [&str; 3] = ["early-free", "lost-cancel", "lost-credit"];

/// What a run without an end of its own takes.
const MINUTES: &str = "10";

pub(crate) enum Options {
    /// For the swarm, as they are.
    Swarm(Vec<String>),
    Planted,
}

impl Options {
    pub(crate) fn parse(options: &[String]) -> Result<Self, String> {
        const NUMBERS: [&str; 3] = ["--first", "--seeds", "--minutes"];
        if options == ["--planted"] {
            return Ok(Self::Planted);
        }
        let mut given = options.iter();
        while let Some(option) = given.next() {
            let fine = match option.as_str() {
                "--trace" => true,
                name if NUMBERS.contains(&name) => {
                    given.next().is_some_and(|value| value.parse::<f64>().is_ok())
                }
                _ => false,
            };
            if !fine {
                return Err(format!(
                    "sim takes --seeds N, --minutes M, --first N, --trace, or --planted, not {option:?}"
                ));
            }
        }
        let mut swarm = options.to_vec();
        if !options.iter().any(|option| option == "--seeds" || option == "--minutes") {
            swarm.extend(["--minutes".into(), MINUTES.into()]);
        }
        Ok(Self::Swarm(swarm))
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    match options {
        Options::Swarm(options) => {
            let mut cargo = swarm(true);
            let status = cargo.arg("--").args(options).status().context("could not start cargo")?;
            ensure!(status.success(), "a seed has failed; it is named above");
            Ok(())
        }
        Options::Planted => BUGS.into_iter().try_for_each(find),
    }
}

fn swarm(release: bool) -> Command {
    let mut cargo = project::cargo();
    cargo.args(["run", "--quiet", "--package", "deferring-sim", "--example", "swarm"]);
    if release {
        cargo.arg("--release");
    }
    cargo.env("RUST_BACKTRACE", "0");
    cargo
}

/// Looks for a planted bug, which is to be found.
fn find(bug: &str) -> anyhow::Result<()> {
    let with_bugs = |cargo: &mut Command| {
        cargo.env("RUSTFLAGS", "--cfg deferring_planted");
        // Its own, so that other builds stay as they are.
        cargo.env("CARGO_TARGET_DIR", project::root().join("target/planted"));
    };
    let mut build = project::cargo();
    build.args(["build", "--quiet", "--package", "deferring-sim", "--example", "swarm"]);
    with_bugs(&mut build);
    let built = build.status().context("could not start cargo")?;
    ensure!(built.success(), "the library with planted bugs does not build: {built}");
    let start = Instant::now();
    let mut cargo = swarm(false);
    with_bugs(&mut cargo);
    cargo.env("DEFERRING_PLANTED", bug).args(["--", "--minutes", "1"]);
    let found = cargo.output().context("could not start cargo")?;
    let said = String::from_utf8_lossy(&found.stderr);
    let line = said.lines().find(|line| line.starts_with("in seed ")).unwrap_or_default();
    ensure!(!found.status.success() && !line.is_empty(), "the bug {bug} was not found:\n{said}");
    println!("{bug}: found in {:.1?}: {line}", start.elapsed());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_end_it_runs_for_some_minutes() {
        let parse = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.into()).collect();
            Options::parse(&words)
        };
        let Ok(Options::Swarm(swarm)) = parse(&["--first", "7"]) else { panic!("not a swarm") };
        assert_eq!(swarm, ["--first", "7", "--minutes", MINUTES]);
        let Ok(Options::Swarm(swarm)) = parse(&["--seeds", "7"]) else { panic!("not a swarm") };
        assert_eq!(swarm, ["--seeds", "7"]);
        assert!(matches!(parse(&["--planted"]), Ok(Options::Planted)));
        assert!(parse(&["--planted", "--seeds", "1"]).is_err());
        assert!(parse(&["--seeds", "many"]).is_err());
    }
}
