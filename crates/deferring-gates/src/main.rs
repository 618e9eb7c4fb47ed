//! Small programs that keep some ops out and do one thing only, so that what an op costs can be
//! counted: allocations and enters here, user instructions by callgrind, system calls by strace.
//!
//! `cargo xtask gates` builds this, runs it under those, and compares with `gates.toml`. A program
//! uses its buffers again, so that what it allocates is the library's doing. What is done is in
//! `work.rs`, who turns the ring in `turned.rs`, the baseline in `raw.rs`, what is counted here in
//! `count.rs`. Not: time, which does not repeat; that is `deferring-bench`.

#![allow(clippy::print_stdout, clippy::print_stderr)] // A tool talks to whoever started it.

mod count;
mod raw;
mod turned;
mod work;

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use anyhow::Context;

use count::Counts;

const USAGE: &str = "\
usage: deferring-gates PROGRAM OPS

Does some ops to warm up, then so many, and says what those cost in all. A program is a name, and
behind a dash how many ops are out at once, if it is not 32 (1 for write, statx, timeout).

  raw, raw-1     64-byte reads of /dev/zero, nops: a loop by hand, with the crate `io-uring`
  nop, nop-1     nothing
  zero           64-byte reads of /dev/zero
  read           4 KiB reads of a file that is in memory
  write, write-32, statx, statx-32, timeout, timeout-32, poll
                 4 KiB writes, an open file's attributes, waits for no time, polls of what is ready
  message        64 bytes by a send to a recv that waits: two ops
  open-close     an open by a name, and a close: two ops
  start          zero, on a ring with a thread of its own
  tokio          zero, by 32 tasks on a ring in the reactor of tokio's current_thread

Files are made in TMPDIR, or the system's place for such.";

/// What came of a program.
enum Outcome {
    Counted(Counts),
    /// The machine lacks this.
    Skipped(String),
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [program, ops] = words.as_slice() else { return misused("PROGRAM and OPS are needed") };
    let Some(ops) = ops.parse().ok().filter(|ops| *ops > 0) else {
        return misused("OPS is a number from 1");
    };
    match run(program, ops) {
        Ok(Some(Outcome::Counted(Counts { allocations, enters }))) => {
            println!("ops {ops} allocations {allocations} enters {enters}");
            ExitCode::SUCCESS
        }
        Ok(Some(Outcome::Skipped(needs))) => {
            println!("skipped: needs {needs}");
            ExitCode::SUCCESS
        }
        Ok(None) => misused(&format!("there is no program {program:?}")),
        Err(error) => {
            eprintln!("deferring-gates: {program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `None` if there is no such program.
fn run(program: &str, ops: usize) -> anyhow::Result<Option<Outcome>> {
    let counted = match program {
        "raw" => raw::zero(ops),
        "raw-1" => raw::nop(ops),
        "nop" => turned::here(32, ops, work::Nops::new),
        "nop-1" => turned::here(1, ops, work::Nops::new),
        "zero" => turned::here(32, ops, work::Reads::of_zero),
        "read" => turned::here(32, ops, work::Reads::of_a_file),
        "write" => turned::here(1, ops, work::Writes::new),
        "write-32" => turned::here(32, ops, work::Writes::new),
        "statx" => turned::here(1, ops, work::Statxs::new),
        "statx-32" => turned::here(32, ops, work::Statxs::new),
        "timeout" => turned::here(1, ops, work::Timeouts::new),
        "timeout-32" => turned::here(32, ops, work::Timeouts::new),
        "poll" => turned::here(32, ops, work::Polls::new),
        "message" => turned::here_by_messages(32, ops),
        "open-close" => turned::here_by_opening(ops),
        "start" => turned::by_a_thread(32, ops, work::Reads::of_zero),
        "tokio" => turned::by_tokio(32, ops, work::Reads::of_zero),
        _ => return Ok(None),
    };
    match counted {
        Ok(counts) => Ok(Some(Outcome::Counted(counts))),
        Err(error) => match error.downcast_ref::<Lacks>() {
            Some(Lacks(needs)) => Ok(Some(Outcome::Skipped(needs.clone()))),
            None => Err(error).context("an op, or what it needs"),
        },
    }
}

/// The machine lacks something.
#[derive(Debug)]
struct Lacks(String);

impl std::fmt::Display for Lacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "needs {}", self.0)
    }
}

impl std::error::Error for Lacks {}

/// Why there is no ring: because there is no io_uring for us, or for another reason.
fn no_ring(error: io::Error) -> anyhow::Error {
    if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) {
        return Lacks(format!("io_uring ({error})")).into();
    }
    error.into()
}

fn misused(why: &str) -> ExitCode {
    eprintln!("deferring-gates: {why}\n\n{USAGE}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that the usage text names.
    const PROGRAMS: &[&str] = &[
        "raw",
        "raw-1",
        "nop",
        "nop-1",
        "zero",
        "read",
        "write",
        "write-32",
        "statx",
        "statx-32",
        "timeout",
        "timeout-32",
        "poll",
        "message",
        "open-close",
        "start",
        "tokio",
    ];

    #[test]
    fn each_program_does_its_ops_and_enters_the_kernel_for_them() {
        for program in PROGRAMS {
            // Of an open local file it is answered at once.
            let at_once = program.starts_with("statx");
            match run(program, 64).unwrap().unwrap() {
                Outcome::Counted(counts) => assert!(at_once || counts.enters > 0, "{program}"),
                Outcome::Skipped(needs) => println!("skipped: {program} needs {needs}"),
            }
        }
    }

    #[test]
    fn the_usage_text_has_each_program_and_no_other_is_run() {
        for program in PROGRAMS {
            let named = |line: &str| line.split([' ', ',']).any(|word| word == *program);
            assert!(USAGE.lines().any(named), "{program}");
        }
        assert!(run("nap", 1).unwrap().is_none());
    }
}
