//! Where the project lies, and which cargo builds it.
//!
//! Paths and commands only; nothing is read or run here. Who runs them: the
//! commands.

use std::path::Path;
use std::process::{Command, Stdio};

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
