//! The project's own chores: `cargo xtask <command>`.
//!
//! This file knows the commands by name and nothing about what they do. It is not a build script:
//! the crates build with plain cargo. Each command is a file: `ci.rs`, `tidy/mod.rs`, `models.rs`,
//! `hazards.rs`, `conformance.rs`, `refused.rs`, `soak.rs`, `sim.rs`, `sanitize.rs`,
//! `compare_cp/mod.rs`, `bench.rs`, `gates/mod.rs`; where the project lies is in `project.rs`.

#![allow(clippy::print_stdout, clippy::print_stderr)] // A tool talks to whoever started it.

mod bench;
mod ci;
mod compare_cp;
mod conformance;
mod gates;
mod hazards;
mod models;
mod project;
mod refused;
mod sanitize;
mod sim;
mod soak;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  ci            everything that must hold before a change lands, in the order of what fails fastest
  tidy          the house rules that a script can check
  models        the library under model checkers: small stories in every order (loom), larger ones
                in random orders (shuttle); two minutes, half of them to compile
  hazards       what may go wrong, one to sixteen, on this kernel: a line for each with what it saw
                (some 15 minutes, ten of them a soak) [--short]
  conformance   scripts of ops by lot on io_uring, the pool and the simulated kernel, which have to
                answer alike; two minutes [--seeds N]
  refused       all tests where io_uring is refused: by EPERM, by ENOSYS, and by the builder, unless
                one is named; some minutes [EPERM] [ENOSYS] [builder]
  soak          random stories under random drivers, for ten minutes
  sim           random programs on simulated kernels, from seeds, for ten minutes
                [--seeds N] [--minutes M] [--first SEED] [--trace]; or whether that finds bugs
                that were planted: --planted
  sanitize      the tests under AddressSanitizer with its search for leaks
  compare-cp    `deferring cp -r` against the system's `cp -r`, on a tree made for it
                [--files N] [--rounds R] [--dir DIR]
  bench         what ops cost, beside a loop by hand and other ways to do the same: all workloads, or
                those that are named; all of them write docs/performance.md, twenty minutes with
                peers; --quick takes three, and writes only with --write
                [nop|zero|w2|w3|w4|w5|w6|w7|w9|hop|fairness|scale]... [--quick] [--peers] [--write]
                [--rounds N] [--mib N] [--tasks N] [--dir DIR]
  gates         what an op costs, as far as that repeats (user instructions, allocations, enters, system
                calls), against crates/deferring-gates/gates.toml; one minute, valgrind and strace.
                --renew writes that file; --planted looks whether slow-downs trip a gate
  help          this text";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, options)) = arguments.split_first() else {
        return misused("no command was given");
    };
    match (command.as_str(), options) {
        ("ci", []) => report(ci::run()),
        ("tidy", []) => report(tidy::run()),
        ("models", []) => report(models::run()),
        ("hazards", options) => match hazards::Form::parse(options) {
            Ok(form) => report(hazards::run(form)),
            Err(why) => misused(&why),
        },
        ("conformance", options) => match conformance::Options::parse(options) {
            Ok(options) => report(conformance::run(&options)),
            Err(why) => misused(&why),
        },
        ("refused", options) => match refused::How::parse(options) {
            Ok(hows) => report(refused::run(&hows)),
            Err(why) => misused(&why),
        },
        ("sanitize", []) => report(sanitize::run()),
        ("soak", []) => report(soak::run()),
        ("sim", options) => match sim::Options::parse(options) {
            Ok(options) => report(sim::run(&options)),
            Err(why) => misused(&why),
        },
        ("compare-cp", options) => match compare_cp::Options::parse(options) {
            Ok(options) => report(compare_cp::run(&options)),
            Err(why) => misused(&why),
        },
        ("bench", options) => match bench::Options::parse(options) {
            Ok(options) => report(bench::run(&options)),
            Err(why) => misused(&why),
        },
        ("gates", options) => match gates::Form::parse(options) {
            Ok(form) => report(gates::run(&form)),
            Err(why) => misused(&why),
        },
        ("help" | "--help" | "-h", _) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        ("ci" | "tidy" | "models" | "sanitize" | "soak", [extra, ..]) => {
            misused(&format!("{command} does not take {extra:?}"))
        }
        (unknown, _) => misused(&format!("there is no command {unknown:?}")),
    }
}

fn report(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn misused(why: &str) -> ExitCode {
    eprintln!("xtask: {why}\n\n{USAGE}");
    ExitCode::from(2)
}
