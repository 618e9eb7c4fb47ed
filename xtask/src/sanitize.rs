//! The tests under AddressSanitizer, with its search for leaks.
//!
//! Stable's own runtime works, asked as if it were a nightly one. What the kernel writes is not
//! instrumented: stories about freed memory fill it and look (`tests/it/support.rs`). Not
//! ThreadSanitizer: without an instrumented std it reports what is not there.

use anyhow::{Context, ensure};

use crate::project;

/// Stories that leak on purpose: memory that the kernel may still write into is never freed, and
/// nor is a panic's payload that panics when it is dropped. Their own checks say how much it is.
const LEAK_ON_PURPOSE: &[&str] = &[
    "p8_when_the_ring_goes_only_what_the_kernel_holds_is_leaked",
    "a_panic_whose_payload_panics_ends_here",
];

pub(crate) fn run() -> anyhow::Result<()> {
    let target = host()?;
    for leaks in [Leaks::NotSearched, Leaks::Searched] {
        tests(&target, leaks)?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaks {
    /// All tests, those too that leak on purpose.
    NotSearched,
    /// All but those.
    Searched,
}

fn tests(target: &str, leaks: Leaks) -> anyhow::Result<()> {
    let mut cargo = project::cargo();
    cargo.args(["test", "--package", "deferring", "--all-features", "--target", target]);
    cargo.args(["--lib", "--test", "it", "--test", "hazards", "--"]);
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    if leaks == Leaks::Searched {
        LEAK_ON_PURPOSE.iter().for_each(|test| {
            cargo.args(["--skip", test]);
        });
        cargo.env("ASAN_OPTIONS", "detect_leaks=1");
        println!("== sanitize: with a search for leaks");
    } else {
        cargo.env("ASAN_OPTIONS", "detect_leaks=0");
        println!("== sanitize: what leaks on purpose, too");
    }
    let status = cargo.status().context("could not start cargo")?;
    ensure!(status.success(), "AddressSanitizer or a test complains; what it says is above");
    Ok(())
}

/// The target that tests run on. Named, since flags for rustc then do not reach build scripts.
fn host() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = std::process::Command::new(rustc).arg("-vV").output().context("rustc -vV")?;
    let text = String::from_utf8(output.stdout).context("rustc -vV")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}
