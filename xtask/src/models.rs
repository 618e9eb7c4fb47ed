//! The library under model checkers.
//!
//! Loom goes through every order of small stories, shuttle through many random ones of larger
//! stories. Each builds the library anew, with its own locks, atomics and threads in `sync.rs` and
//! a toy for a kernel, in a directory of its own. The stories are in
//! `crates/deferring/src/models/`.

use crate::ci::run_cargo;

/// A checker's flag and what its stories are called.
const CHECKERS: [(&str, &str, &str); 2] = [
    ("--cfg loom", "target/loom", "cargo test --package deferring --lib --release loom_"),
    ("--cfg shuttle", "target/shuttle", "cargo test --package deferring --lib --release shuttle_"),
];

pub(crate) fn run() -> anyhow::Result<()> {
    for (flags, directory, line) in CHECKERS {
        let environment = [
            ("RUSTFLAGS", flags),
            ("CARGO_TARGET_DIR", directory),
            // Quick to build, and every assertion counts.
            ("CARGO_PROFILE_RELEASE_LTO", "off"),
            ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true"),
        ];
        run_cargo(line, &environment)?;
    }
    Ok(())
}
