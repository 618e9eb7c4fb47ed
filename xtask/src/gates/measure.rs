//! Runs a program: by itself, under callgrind, under strace.
//!
//! What is counted from outside is the slope between a short run and a long one, so that the start
//! and the end of a program do not count. Not: how reports are read (`reports.rs`).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::Program;
use super::numbers::{Figure, Figures};
use super::reports::{self, Said, slope, slopes};
use crate::project;

/// More than any run takes, on any machine. A program that hangs is an error.
const SECONDS_MAX: &str = "120";

/// How many ops are counted from inside.
const OPS: u64 = 32_000;

/// The two lengths under callgrind.
const UNDER_CALLGRIND: [u64; 2] = [3200, 9600];

/// The two lengths under strace, which takes its time for each call, of which batches make fewer.
const UNDER_STRACE: [u64; 2] = [3200, 9600];
const UNDER_STRACE_BY_BATCHES: [u64; 2] = [3200, 35_200];

/// Programs that are built, with a place for their files.
pub(super) struct Bench {
    program: PathBuf,
    dir: TempDir,
}

/// What a program's ops cost, per op.
pub(super) struct Measured {
    pub(super) figures: Figures,
    /// Instructions by function, the most first.
    pub(super) functions: Vec<(String, f64)>,
    /// System calls by name, the most first.
    pub(super) calls: Vec<(String, f64)>,
}

impl Bench {
    /// Builds the programs as the profile for releases says, with these `cfg`s and no other flags.
    pub(super) fn build(cfgs: &[&str]) -> anyhow::Result<Self> {
        for tool in ["valgrind", "strace"] {
            let found = Command::new(tool).arg("--version").output();
            ensure!(
                found.is_ok_and(|found| found.status.success()),
                "{tool} is not here: `apt-get install -y valgrind strace`, or what your system has"
            );
        }
        let directory = match cfgs {
            [] => "gates",
            _ => "gates-planted",
        };
        let target = project::target_directory()?.join(directory);
        let flags: Vec<String> = cfgs.iter().map(|cfg| format!("--cfg {cfg}")).collect();
        let status = project::cargo()
            .args(["build", "--quiet", "--release", "--package", "deferring-gates"])
            // Flags of somebody's own would make other programs.
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", flags.join(" "))
            .env("CARGO_TARGET_DIR", &target)
            .status()
            .context("could not start cargo")?;
        ensure!(status.success(), "the programs do not build: {status}");
        let dir = TempDir::new_in(&target).with_context(|| target.display().to_string())?;
        Ok(Self { program: target.join("release/deferring-gates"), dir })
    }

    /// Measures what is compared of a program; or says what the machine lacks. With a bug, if one
    /// is to be planted.
    pub(super) fn measure(
        &self,
        program: &Program,
        planted: Option<&str>,
    ) -> anyhow::Result<Result<Measured, String>> {
        let Program { name, figures: wanted, .. } = program;
        let run = |tool: &[&str], ops: u64| {
            self.run(tool, name, ops, planted).with_context(|| format!("{name}, {ops} ops"))
        };
        let said = run(&[], OPS)?;
        let (allocations, enters) = match Said::parse(&said)? {
            Said::Counted { allocations, enters } => (allocations, enters),
            Said::Skipped(needs) => return Ok(Err(needs)),
        };
        let (mut functions, mut calls) = (Vec::new(), Vec::new());
        let mut figures = Figures::default();
        for figure in *wanted {
            let number = match figure {
                Figure::Allocations => slope(0, allocations, OPS),
                Figure::Enters => slope(0, enters, OPS),
                Figure::Instructions => {
                    let (ops, [short, long]) = self.both(UNDER_CALLGRIND, |ops, to| {
                        let to = format!("--callgrind-out-file={}", to.display());
                        run(&["valgrind", "--quiet", "--tool=callgrind", &to], ops)
                    })?;
                    let (short, short_total) = reports::callgrind(&short).context("callgrind")?;
                    let (long, long_total) = reports::callgrind(&long).context("callgrind")?;
                    functions = slopes(&short, &long, ops);
                    slope(short_total, long_total, ops)
                }
                Figure::Syscalls => {
                    let lengths =
                        if program.depth > 1 { UNDER_STRACE_BY_BATCHES } else { UNDER_STRACE };
                    let (ops, [short, long]) = self.both(lengths, |ops, to| {
                        run(&["strace", "-c", "-f", "-o", &to.display().to_string()], ops)
                    })?;
                    let short = reports::strace(&short).context("strace")?;
                    let long = reports::strace(&long).context("strace")?;
                    calls = slopes(&short, &long, ops);
                    slope(short.values().sum(), long.values().sum(), ops)
                }
            };
            figures.set(*figure, number);
        }
        Ok(Ok(Measured { figures, functions, calls }))
    }

    /// Runs something for both lengths. Returns how many ops are between them, and what is written
    /// for each to the file that it is given.
    fn both(
        &self,
        lengths: [u64; 2],
        run: impl Fn(u64, &Path) -> anyhow::Result<String>,
    ) -> anyhow::Result<(u64, [String; 2])> {
        let file = self.dir.path().join("report");
        let [short, long] = lengths.map(|ops| {
            run(ops, &file)?;
            std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
        });
        Ok((lengths[1] - lengths[0], [short?, long?]))
    }

    /// Runs a program under a tool, or none. Returns what it prints.
    fn run(
        &self,
        tool: &[&str],
        program: &str,
        ops: u64,
        planted: Option<&str>,
    ) -> anyhow::Result<String> {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", SECONDS_MAX]).args(tool).arg(&self.program);
        command.args([program, &ops.to_string()]).env("TMPDIR", self.dir.path());
        command.env_remove("DEFERRING_PLANTED");
        if let Some(bug) = planted {
            command.env("DEFERRING_PLANTED", bug);
        }
        let Output { status, stdout, stderr } = command.output().context("could not start it")?;
        let stderr = String::from_utf8_lossy(&stderr);
        ensure!(
            status.success(),
            "{command:?} ended with {status} (124 is that of one that hangs):\n{stderr}"
        );
        Ok(String::from_utf8(stdout)?)
    }
}

/// What the compiler says that it is.
pub(super) fn rustc() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("--version")
        .current_dir(project::root())
        .output()
        .context("rustc --version")?;
    ensure!(output.status.success(), "rustc --version ended with {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
