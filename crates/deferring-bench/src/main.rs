//! Benches of the drivers. Each file of a bench opens with its question and its baseline.
//!
//! `cargo xtask bench` builds this as it is meant to be built, and runs it. `w9/mod.rs`: many tasks
//! on tokio. `hop.rs`: one op at a time, and 32. What they share: `file.rs` (what is read),
//! `raw.rs` (the baseline), `cost.rs` (what is measured), `table.rs` (what is said of it). Not:
//! what is concluded; that is docs/runtimes.md.

#![allow(clippy::print_stdout, clippy::print_stderr)] // A tool talks to whoever started it.

mod cost;
mod file;
mod hop;
mod raw;
mod table;
mod w9;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: deferring-bench w9|hop [--quick] [--rounds N] [--mib N] [--tasks N] [--dir DIR]

  w9    reads of a cached file by many tasks on tokio, by each way there is to read there
  hop   one op at a time, and 32, under each driver

  --quick     few and short rounds: to see that it runs, not to quote
  --rounds N  how often each is measured (w9: 7, hop: 15)
  --mib N     the size of the file (1024)
  --tasks N   how many tasks read (w9: 128)
  --dir DIR   where the file is made, and removed at the end (the system's place for such)";

/// What both benches are told.
struct Options {
    quick: bool,
    rounds: Option<usize>,
    mib: usize,
    tasks: usize,
    dir: PathBuf,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let dir = std::env::temp_dir();
        let mut options = Self { quick: false, rounds: None, mib: 1024, tasks: 128, dir };
        while let Some(name) = words.next() {
            if name == "--quick" {
                options.quick = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || {
                let number = value.parse().ok().filter(|number| *number > 0);
                number.ok_or_else(|| format!("{name} is a number from 1, not {value:?}"))
            };
            match name.as_str() {
                "--rounds" => options.rounds = Some(number()?),
                "--mib" => options.mib = number()?,
                "--tasks" => options.tasks = number()?,
                "--dir" => options.dir = value.into(),
                _ => return Err(format!("there is no {name:?}")),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let bench = match words.next().as_deref() {
        Some("w9") => w9::run,
        Some("hop") => hop::run,
        _ => return misused("which bench?"),
    };
    let options = match Options::parse(words) {
        Ok(options) => options,
        Err(why) => return misused(&why),
    };
    match bench(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("deferring-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn misused(why: &str) -> ExitCode {
    eprintln!("deferring-bench: {why}\n\n{USAGE}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_have_defaults_and_may_be_given() {
        let options = parse("").unwrap();
        assert_eq!(
            (options.quick, options.rounds, options.mib, options.tasks),
            (false, None, 1024, 128)
        );
        let options = parse("--mib 64 --quick --rounds 3 --tasks 8 --dir /a").unwrap();
        assert_eq!(
            (options.quick, options.rounds, options.mib, options.tasks),
            (true, Some(3), 64, 8)
        );
        assert_eq!(options.dir, PathBuf::from("/a"));
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        assert_eq!(parse("--mib").err().unwrap(), "--mib needs a value");
        assert!(parse("--mib 0").err().unwrap().contains("a number from 1"));
        assert!(parse("--speed 3").err().unwrap().contains("there is no"));
    }
}
