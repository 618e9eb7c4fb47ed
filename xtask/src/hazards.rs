//! The hazards, one to sixteen, on this machine's kernel: a line for each with what it saw.
//!
//! The stories are `crates/deferring/tests/hazards`; here they are run in their long form, unless
//! the short one is asked for, and what they say is gathered. Not: what they check.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::project;

/// What each number is about.
const HAZARDS: [(u8, &str); 16] = [
    (1, "calls that block, and those that would release them"),
    (2, "ten thousand reads, and then their writes"),
    (3, "completions that nobody reaps"),
    (4, "threads that submit and exit"),
    (5, "signals at the submitter"),
    (6, "no more threads to be had"),
    (7, "cancels that race with results"),
    (8, "opens that nobody takes the descriptor of"),
    (9, "buffers that are given up in flight"),
    (10, "a file server that does not answer"),
    (11, "descriptor numbers that are used again"),
    (12, "a fork"),
    (13, "results that nobody polls"),
    (14, "user code that panics, re-enters, blocks"),
    (15, "refusals: every errno, seccomp, limits"),
    (16, "everything at once, for long"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Short,
    Long,
}

impl Form {
    pub(crate) fn parse(options: &[String]) -> Result<Self, String> {
        match options {
            [] => Ok(Self::Long),
            [only] if only == "--short" => Ok(Self::Short),
            [other, ..] => Err(format!("hazards does not take {other:?}; --short it does")),
        }
    }
}

/// How many of the last other lines are shown after a failure.
const OTHERS_MAX: usize = 400;

/// What the stories of one hazard said.
#[derive(Default)]
struct Said {
    stories: usize,
    time: Duration,
    last: String,
}

pub(crate) fn run(form: Form) -> anyhow::Result<()> {
    build()?;
    let start = Instant::now();
    let (said, skipped, passed) = listen(form)?;
    println!();
    for (number, about) in HAZARDS {
        match said.get(&number) {
            Some(Said { stories, time, last }) => {
                println!("{number:2}  {about}: {stories} stories in {time:.1?}; the last: {last}");
            }
            None => println!("{number:2}  {about}: said nothing"),
        }
    }
    skipped.iter().for_each(|line| println!("{line}"));
    println!("{} skipped, {:.0?} in all", skipped.len(), start.elapsed());
    ensure!(passed, "a hazard was not survived; what it said is above");
    let silent: Vec<u8> = HAZARDS
        .iter()
        .map(|(number, _)| *number)
        .filter(|number| !said.contains_key(number))
        .collect();
    ensure!(
        silent.len() <= skipped.len(),
        "hazards {silent:?} said nothing, and not as many were skipped; each story ends with \
         `Hazard::saw`"
    );
    Ok(())
}

fn build() -> anyhow::Result<()> {
    let mut cargo = project::cargo();
    cargo.args(["test", "--release", "--package", "deferring", "--test", "hazards", "--no-run"]);
    let status = cargo.status().context("could not start cargo")?;
    ensure!(status.success(), "the hazards do not build: {status}");
    Ok(())
}

/// Runs the stories one after the other, and shows what they say as they say it.
fn listen(form: Form) -> anyhow::Result<(BTreeMap<u8, Said>, Vec<String>, bool)> {
    let mut cargo = project::cargo();
    cargo.args(["test", "--release", "--quiet", "--package", "deferring", "--test", "hazards"]);
    cargo.args(["--", "--nocapture", "--test-threads=1"]);
    cargo.env("RUST_BACKTRACE", "0");
    if form == Form::Long {
        cargo.env("DEFERRING_HAZARDS", "long");
    }
    let mut child = cargo
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not start cargo")?;
    let (mut said, mut skipped) = (BTreeMap::<u8, Said>::new(), Vec::new());
    // Panics that are wanted, some thousands; shown only if the end is bad.
    let mut others = VecDeque::new();
    for line in BufReader::new(child.stderr.take().expect("piped")).lines() {
        let line = line.context("what the hazards say")?;
        if line.starts_with("hazard ") || line.starts_with("skipped: ") {
            println!("{line}");
        } else {
            others.push_back(line.clone());
            if others.len() > OTHERS_MAX {
                others.pop_front();
            }
        }
        if let Some((number, what, time)) = parse(&line) {
            let said = said.entry(number).or_default();
            said.stories += 1;
            said.time += time;
            said.last = what.to_owned();
        } else if line.starts_with("skipped: ") {
            skipped.push(line);
        }
    }
    let status = child.wait().context("the hazards")?;
    if !status.success() {
        others.iter().for_each(|line| println!("{line}"));
    }
    Ok((said, skipped, status.success()))
}

/// Takes `hazard  1: what it saw, in 20.5ms` apart.
fn parse(line: &str) -> Option<(u8, &str, Duration)> {
    let (number, rest) = line.strip_prefix("hazard ")?.split_once(": ")?;
    let (what, time) = rest.rsplit_once(", in ")?;
    Some((number.trim().parse().ok()?, what, duration(time)?))
}

/// As `{:?}` of a `Duration` writes it.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c.is_alphabetic() || c == 'µ')?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    };
    Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hazard_says_is_understood() {
        let (number, what, time) = parse("hazard  7: 10 races, in order, in 20.5ms").unwrap();
        assert_eq!((number, what), (7, "10 races, in order"));
        assert_eq!(time, Duration::from_micros(20_500));
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1500)));
        assert!(parse("test h01 ... ok").is_none());
    }

    #[test]
    fn each_hazard_has_its_number() {
        assert!(HAZARDS.iter().map(|(number, _)| *number).eq(1..=16));
    }

    #[test]
    fn the_long_form_is_the_rule() {
        assert!(Form::parse(&[]) == Ok(Form::Long));
        assert!(Form::parse(&["--short".into()]) == Ok(Form::Short));
        assert!(Form::parse(&["--fast".into()]).is_err());
    }
}
