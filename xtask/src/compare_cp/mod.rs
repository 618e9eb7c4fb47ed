//! Question: how long does `deferring cp -r` take for a tree, and what does it cost? Baseline: the
//! `cp -r` of this machine.
//!
//! Each round runs both, and the baseline a second time: what two runs of one program differ by is
//! the noise, and a difference below it is none. All is read from a warm page cache, so this
//! measures copying and not the disk. The tree is made by `plant.rs`; one run is timed in
//! `timed.rs`; medians and ratios are in `summary.rs`.
//!
//! Copies stay until the end. ext4 without a journal does not reuse an inode for about a minute
//! after its file was deleted, and searches past all such inodes for each new one: with copies
//! removed after each run, the same `cp` took 0.8 s at first and 14 s later (20,000 files, 6.18).

mod plant;
mod summary;
mod timed;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::project;
use summary::Round;
use timed::Sample;

pub(crate) struct Options {
    files: usize,
    rounds: usize,
    dir: PathBuf,
}

impl Options {
    /// Reads `--name value` pairs; the error says what is wrong with them.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { files: 20_000, rounds: 5, dir: std::env::temp_dir() };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("compare-cp: {} needs a value", pair[0]));
            };
            match name.as_str() {
                "--files" => options.files = positive(name, value)?,
                "--rounds" => options.rounds = positive(name, value)?,
                "--dir" => options.dir = PathBuf::from(value),
                _ => return Err(format!("compare-cp does not take {name:?}")),
            }
        }
        Ok(options)
    }
}

fn positive(name: &str, value: &str) -> Result<usize, String> {
    let number = value.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("compare-cp: {name} is a number from 1, not {value:?}"))
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    timed::check_tool()?;
    let deferring = build()?;
    let work = tempfile::Builder::new()
        .prefix("deferring-compare-cp-")
        .tempdir_in(&options.dir)
        .with_context(|| format!("making a directory in {}", options.dir.display()))?;
    println!("in {}, removed at the end", work.path().display());

    let outcome = compare(&deferring, work.path(), options);
    work.close().context("removing what was made")?;
    outcome
}

/// Builds the tool as its users get it; returns where it is.
fn build() -> anyhow::Result<PathBuf> {
    let status = project::cargo().args(["build", "--release", "-p", "deferring-cli"]).status()?;
    ensure!(status.success(), "`cargo build --release -p deferring-cli` ended with {status}");
    Ok(project::target_directory()?.join("release/deferring"))
}

fn compare(deferring: &Path, work: &Path, options: &Options) -> anyhow::Result<()> {
    let from = work.join("from");
    let planted = plant::plant(&from, options.files)?;
    println!("{planted}");

    let course = Course { deferring, work, from: &from };
    course.warm_up()?;
    println!("{}", summary::HEADING);
    let mut rounds = Vec::with_capacity(options.rounds);
    for number in 1..=options.rounds {
        let round = course.round(number)?;
        println!("{}", summary::of_round(number, &round));
        rounds.push(round);
    }
    println!("{}", summary::of_all(&rounds));
    Ok(())
}

/// What every run has in common.
struct Course<'a> {
    deferring: &'a Path,
    work: &'a Path,
    from: &'a Path,
}

impl Course<'_> {
    /// Runs each once, for the caches, and looks at what it made.
    fn warm_up(&self) -> anyhow::Result<()> {
        self.round(0)?;
        for copy in ["to-0-0", "to-0-1"] {
            let status = Command::new("diff")
                .args(["-r", "--no-dereference"])
                .args([self.from, &self.work.join(copy)])
                .status()
                .context("starting diff; install diffutils")?;
            ensure!(status.success(), "the copy {copy} is not like the original; see above");
        }
        Ok(())
    }

    /// Runs each once. Who goes first changes from round to round, since going first may matter.
    fn round(&self, number: usize) -> anyhow::Result<Round> {
        let deferring = [self.deferring.as_os_str(), OsStr::new("cp")];
        let cp = [OsStr::new("cp")];
        let programs: [&[&OsStr]; 3] = [&deferring, &cp, &cp];
        let mut samples = [Sample::default(); 3];
        for turn in 0..programs.len() {
            let who = (number + turn) % programs.len();
            let to = self.work.join(format!("to-{number}-{who}"));
            samples[who] = self.copy(programs[who], &to)?;
        }
        let [deferring, cp, cp_again] = samples;
        Ok(Round { deferring, cp, cp_again })
    }

    fn copy(&self, program: &[&OsStr], to: &Path) -> anyhow::Result<Sample> {
        self.settle()?;
        let arguments = [OsStr::new("-r"), self.from.as_os_str(), to.as_os_str()];
        timed::run(&[program, &arguments].concat(), &self.work.join("time"))
    }

    /// Waits for the disk, so that no run pays for what an earlier one has left to write.
    fn settle(&self) -> anyhow::Result<()> {
        let status = Command::new("sync").arg("-f").arg(self.from).status().context("sync")?;
        ensure!(status.success(), "`sync -f` ended with {status}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn options_have_defaults_and_may_be_given() {
        let options = parse("").unwrap();
        assert_eq!((options.files, options.rounds), (20_000, 5));
        let options = parse("--rounds 2 --dir /a --files 3").unwrap();
        assert_eq!((options.files, options.rounds), (3, 2));
        assert_eq!(options.dir, Path::new("/a"));
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        assert_eq!(parse("--files").err().unwrap(), "compare-cp: --files needs a value");
        assert!(parse("--files 0").err().unwrap().contains("a number from 1"));
        assert!(parse("--rounds many").err().unwrap().contains("not \"many\""));
        assert!(parse("--speed 3").err().unwrap().contains("does not take \"--speed\""));
    }
}
