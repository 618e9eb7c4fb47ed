//! Everything that must hold before a change lands.
//!
//! One list of steps, run in order up to the first failure. What each tool checks is configured
//! where the tool looks for it: lints in `Cargo.toml`, licences in `deny.toml`, house rules in
//! `tidy/`. What a bare machine must install first is in `.ci/run`.

use std::time::Instant;

use anyhow::{Context, ensure};

use crate::{gates, project, refused, sim, tidy};

/// How the project is tested, as the README says it. `tidy` holds the README to it.
pub(crate) const TEST_COMMAND: &str = "cargo test --workspace --all-features";

struct Step {
    name: &'static str,
    run: Run,
}

enum Run {
    Cargo { line: &'static str, environment: &'static [(&'static str, &'static str)] },
    Tidy,
    Sim(&'static [&'static str]),
    Gates(gates::Form),
    Refused,
}

const STEPS: &[Step] = &[
    cargo("format", "cargo fmt --all --check"),
    cargo("clippy", "cargo clippy --workspace --all-targets --all-features -- -D warnings"),
    Step {
        name: "doc",
        run: Run::Cargo {
            line: "cargo doc --workspace --all-features --no-deps",
            environment: &[("RUSTDOCFLAGS", "-D warnings")],
        },
    },
    Step { name: "tidy", run: Run::Tidy },
    // Not `advisories`: its database is a git repository, and CI reaches package registries only.
    cargo("deny", "cargo deny check licenses bans sources"),
    // A short form; `cargo xtask sim` runs for as long as one likes.
    Step { name: "sim", run: Run::Sim(&["--seeds", "4000"]) },
    Step { name: "sim, with bugs planted", run: Run::Sim(&["--planted"]) },
    Step { name: "gates", run: Run::Gates(gates::Form::Compare) },
    Step { name: "gates, with slow-downs planted", run: Run::Gates(gates::Form::Planted) },
    cargo("test", TEST_COMMAND),
    // The same on the pool. All of it under each refusal: `cargo xtask refused`.
    Step { name: "refused", run: Run::Refused },
];

const fn cargo(name: &'static str, line: &'static str) -> Step {
    Step { name, run: Run::Cargo { line, environment: &[] } }
}

pub(crate) fn run() -> anyhow::Result<()> {
    let start = Instant::now();
    for (done, step) in STEPS.iter().enumerate() {
        println!("== ci {}/{}: {}", done + 1, STEPS.len(), step.name);
        step.run().with_context(|| format!("ci stopped at the step {:?}", step.name))?;
    }
    println!("== ci: {} steps passed in {} s", STEPS.len(), start.elapsed().as_secs());
    Ok(())
}

impl Step {
    fn run(&self) -> anyhow::Result<()> {
        match &self.run {
            Run::Tidy => tidy::run(),
            Run::Sim(options) => {
                let options: Vec<String> = options.iter().map(|&option| option.into()).collect();
                sim::run(&sim::Options::parse(&options).map_err(anyhow::Error::msg)?)
            }
            Run::Gates(form) => gates::run(form),
            Run::Refused => refused::run_short(),
            Run::Cargo { line, environment } => run_cargo(line, environment),
        }
    }
}

/// Runs a line that begins with `cargo`, with these variables set.
pub(crate) fn run_cargo(line: &str, environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let assignments = environment.iter().map(|(name, value)| format!("{name}={value:?} "));
    let shown = assignments.collect::<String>() + line;
    println!("{shown}");

    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("cargo"), "a step runs cargo: {line}");
    let status = project::cargo()
        .args(words)
        .envs(environment.iter().copied())
        .status()
        .with_context(|| format!("could not start `{shown}`"))?;
    ensure!(status.success(), "`{shown}` ended with {status}: {}", advice(line));
    Ok(())
}

/// What to do when `line` fails.
fn advice(line: &str) -> &'static str {
    match line.split_whitespace().nth(1) {
        Some("fmt") => "run `cargo fmt --all`",
        Some("deny") => {
            "if cargo does not know it, run `cargo install --locked cargo-deny`; what is allowed, \
             and why, is in deny.toml"
        }
        _ => "what it says is above; run it alone to see it again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_come_last_and_are_the_documented_command() {
        let [.., test, refused] = STEPS else { panic!("there are steps") };
        assert!(matches!(test.run, Run::Cargo { line: TEST_COMMAND, environment: [] }));
        assert!(matches!(refused.run, Run::Refused));
    }

    #[test]
    fn advice_is_that_of_the_tool_that_failed() {
        assert_eq!(advice("cargo fmt --all --check"), "run `cargo fmt --all`");
        assert!(advice("cargo deny check licenses").contains("deny.toml"));
        assert!(advice(TEST_COMMAND).contains("run it alone"));
    }

    #[test]
    fn each_step_runs_cargo_and_has_a_name_of_its_own() {
        for (at, step) in STEPS.iter().enumerate() {
            assert!(STEPS[..at].iter().all(|other| other.name != step.name), "{}", step.name);
            if let Run::Cargo { line, .. } = step.run {
                assert!(line.starts_with("cargo "), "{line}");
            }
        }
    }
}
