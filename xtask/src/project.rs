//! Where the project lies, and which cargo builds it.
//!
//! Paths and commands only; nothing is run here but cargo, to ask it where it builds. Who runs
//! them: the commands.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

/// The directory of the workspace's `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace")
}

/// The cargo that runs us, at the root, asking nobody anything.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).stdin(Stdio::null());
    cargo
}

/// Where cargo builds.
pub(crate) fn target_directory() -> anyhow::Result<PathBuf> {
    let metadata = cargo()
        .args(["metadata", "--format-version=1", "--no-deps"])
        .stderr(Stdio::inherit())
        .output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout)?;
    let target = metadata["target_directory"].as_str();
    Ok(target.context("cargo names no target directory")?.into())
}
