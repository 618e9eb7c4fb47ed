//! Builds the benches as they are meant to be built, and runs one.
//!
//! Optimised, with `--cfg tokio_unstable`, so that tokio has its io_uring; in a target directory of
//! their own, since other flags would have everything else built again. Not: what is measured
//! (`crates/deferring-bench`).

use std::env;
use std::path::PathBuf;

use anyhow::{Context, ensure};

use crate::project;

const CFG: &str = "--cfg tokio_unstable";

/// `arguments` are those of `deferring-bench`, which says what it takes.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let target = project::target_directory()?.join("bench");
    let mut flags = env::var("RUSTFLAGS").unwrap_or_default();
    if !flags.contains(CFG) {
        flags = format!("{flags} {CFG}");
    }
    let status = project::cargo()
        .args(["build", "--release", "--package", "deferring-bench"])
        .env("RUSTFLAGS", flags.trim())
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .context("could not start cargo")?;
    ensure!(status.success(), "the benches do not build: {status}");
    let program: PathBuf = target.join("release/deferring-bench");
    let status = std::process::Command::new(&program)
        .args(arguments)
        .status()
        .with_context(|| format!("starting {}", program.display()))?;
    ensure!(
        status.success(),
        "`{} {}` ended with {status}",
        program.display(),
        arguments.join(" ")
    );
    Ok(())
}
