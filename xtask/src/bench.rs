//! Builds the benches as they are meant to be built, and runs them.
//!
//! Optimised, with `--cfg tokio_unstable`, so that tokio has its io_uring, and other libraries can
//! be compared with (`--peers`); in a target directory of their own, since other flags would have
//! everything else built again. A full run writes docs/performance.md, a quick one only if told to.
//! Not: what is measured (`crates/deferring-bench`).

use std::env;
use std::path::PathBuf;

use anyhow::{Context, ensure};

use crate::project;

const CFG: &str = "--cfg tokio_unstable";

/// What is for us, and what is for `deferring-bench`, which says what it takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    peers: bool,
    writes: bool,
    passed_on: Vec<String>,
}

impl Options {
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let has = |option: &str| words.iter().any(|word| word == option);
        // Words that are not options come first.
        let of_all = words.first().is_none_or(|word| word.starts_with("--"));
        if has("--write") && !of_all {
            return Err("--write is for all workloads: leave out their names".into());
        }
        let passed_on = words.iter().filter(|word| *word != "--write").cloned().collect();
        let writes = of_all && (has("--write") || !has("--quick"));
        Ok(Self { peers: has("--peers"), writes, passed_on })
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let target = project::target_directory()?.join("bench");
    let mut flags = env::var("RUSTFLAGS").unwrap_or_default();
    if !flags.contains(CFG) {
        flags = format!("{flags} {CFG}");
    }
    let mut build = project::cargo();
    build.args(["build", "--release", "--package", "deferring-bench"]);
    if options.peers {
        build.args(["--features", "peers"]);
    }
    let status = build
        .env("RUSTFLAGS", flags.trim())
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .context("could not start cargo")?;
    ensure!(status.success(), "the benches do not build: {status}");
    let program: PathBuf = target.join("release/deferring-bench");
    let mut bench = std::process::Command::new(&program);
    bench.args(&options.passed_on);
    if options.writes {
        bench.arg("--out").arg(project::root().join("docs"));
    }
    let status = bench.status().with_context(|| format!("starting {}", program.display()))?;
    ensure!(
        status.success(),
        "`{} {}` ended with {status}",
        program.display(),
        options.passed_on.join(" ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn a_full_run_of_all_is_written_down_and_a_quick_one_when_told() {
        for (line, peers, writes) in [
            ("", false, true),
            ("--peers", true, true),
            ("--quick", false, false),
            ("--quick --write", false, true),
            ("w9", false, false),
            ("w2 hop --quick --peers --rounds 3", true, false),
        ] {
            let options = parse(line).unwrap();
            assert_eq!((options.peers, options.writes), (peers, writes), "{line}");
            assert!(!options.passed_on.contains(&"--write".into()));
        }
        assert_eq!(parse("w2 --mib 64").unwrap().passed_on, ["w2", "--mib", "64"]);
        assert!(parse("w2 --write").unwrap_err().contains("all workloads"));
    }
}
