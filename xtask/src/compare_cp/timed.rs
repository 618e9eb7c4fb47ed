//! One run of a program: how long, how much work, how much memory.
//!
//! Processor time and memory come from GNU time, since std does not tell a child's and this crate
//! has no unsafe code to ask for them. What the figures mean together is in `summary.rs`.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

const TOOL: &str = "/usr/bin/time";

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    pub(super) wall_seconds: f64,
    /// User and system, of all threads, kernel workers included.
    pub(super) cpu_seconds: f64,
    pub(super) rss_kib: f64,
}

pub(super) fn check_tool() -> anyhow::Result<()> {
    ensure!(
        Path::new(TOOL).exists(),
        "compare-cp measures with GNU time, which is not at {TOOL}: install it (`apt-get install \
         time`, `dnf install time`)"
    );
    Ok(())
}

/// Runs `words`; GNU time leaves its figures in the file `report`.
pub(super) fn run(words: &[&OsStr], report: &Path) -> anyhow::Result<Sample> {
    let start = Instant::now();
    let status = Command::new(TOOL)
        .args(["--quiet", "--format=%U %S %M", "--output"])
        .arg(report)
        .arg("--")
        .args(words)
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("starting {TOOL}"))?;
    // Our clock has finer grains than `%e`, and starting GNU time costs all programs the same.
    let wall_seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "{:?} ended with {status}", words.join(OsStr::new(" ")));

    let report = fs::read_to_string(report).context("reading what GNU time says")?;
    let (cpu_seconds, rss_kib) =
        figures(&report).with_context(|| format!("GNU time says {report:?}"))?;
    Ok(Sample { wall_seconds, cpu_seconds, rss_kib })
}

/// Processor seconds and KiB out of `user system rss`.
fn figures(report: &str) -> Option<(f64, f64)> {
    let figures: Result<Vec<f64>, _> = report.split_whitespace().map(str::parse).collect();
    match figures.ok()?[..] {
        [user, system, rss] => Some((user + system, rss)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_user_plus_system_and_memory() {
        assert_eq!(figures("0.25 1.50 2048\n"), Some((1.75, 2048.0)));
        assert_eq!(figures("0.25 1.50\n"), None);
        assert_eq!(figures("Command terminated by signal 9\n0.0 0.0 1\n"), None);
    }

    #[test]
    fn a_run_has_figures_and_a_failing_program_is_an_error() {
        if check_tool().is_err() {
            println!("skipped: needs {TOOL}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let report = dir.path().join("time");
        let sample = run(&[OsStr::new("sleep"), OsStr::new("0.02")], &report).unwrap();
        assert!(sample.wall_seconds >= 0.02, "{sample:?}");
        assert!(sample.rss_kib > 0.0, "{sample:?}");
        assert!(run(&[OsStr::new("false")], &report).is_err());
    }
}
