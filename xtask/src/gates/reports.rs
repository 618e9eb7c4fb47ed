//! What the tools write, and the program: read into numbers.
//!
//! Not: who runs them (`measure.rs`).

use std::collections::BTreeMap;

use anyhow::Context;

/// How much there was, by name.
pub(super) type Counts = BTreeMap<String, u64>;

/// What the program says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Counted { allocations: u64, enters: u64 },
    Skipped(String),
}

impl Said {
    pub(super) fn parse(line: &str) -> anyhow::Result<Self> {
        if let Some(needs) = line.trim().strip_prefix("skipped: needs ") {
            return Ok(Self::Skipped(needs.to_owned()));
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["ops", _, "allocations", allocations, "enters", enters] = words[..] else {
            anyhow::bail!("not understood: {line:?}");
        };
        Ok(Self::Counted { allocations: allocations.parse()?, enters: enters.parse()? })
    }
}

/// User instructions of each function by itself, and of all, from a file of callgrind's.
///
/// `fn=(7) name` begins a function, `fn=(7)` goes on with it; a line of two numbers is a place and
/// its cost. The line behind `calls=` has what was called, which counts where it is.
pub(super) fn callgrind(text: &str) -> anyhow::Result<(Counts, u64)> {
    let total = text.lines().find_map(|line| line.strip_prefix("summary: "));
    let total = total.or_else(|| text.lines().find_map(|line| line.strip_prefix("totals: ")));
    let total = total.context("no total")?.trim().parse()?;
    let mut names = BTreeMap::<&str, &str>::new();
    let (mut costs, mut current, mut is_of_a_call) = (Counts::new(), "", false);
    for line in text.lines() {
        if let Some(function) = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn=")) {
            let (id, name) = function.split_once(' ').unwrap_or((function, ""));
            if !name.is_empty() {
                names.insert(id, name);
            }
            if line.starts_with("fn=") {
                current = names.get(id).copied().unwrap_or(id);
            }
        } else if line.starts_with("calls=") {
            is_of_a_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse::<u64>().ok());
            let cost = cost.with_context(|| format!("no cost: {line:?}"))?;
            if !std::mem::take(&mut is_of_a_call) {
                *costs.entry(current.to_owned()).or_default() += cost;
            }
        }
    }
    Ok((costs, total))
}

/// How often each system call was made, from the table of `strace -c`.
pub(super) fn strace(text: &str) -> anyhow::Result<Counts> {
    let rows =
        text.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    let mut counts = Counts::new();
    for row in rows {
        let words: Vec<&str> = row.split_whitespace().collect();
        // Per cent, seconds, microseconds each, calls, errors if there were any, name.
        let (Some(calls), Some(name)) = (words.get(3), words.last()) else { continue };
        if *name != "total" {
            let calls = calls.parse().with_context(|| format!("no number of calls: {row:?}"))?;
            counts.insert((*name).to_owned(), calls);
        }
    }
    anyhow::ensure!(!counts.is_empty(), "no system calls: {text:?}");
    Ok(counts)
}

/// What so many ops more have cost, per op, the most first.
pub(super) fn slopes(short: &Counts, long: &Counts, ops: u64) -> Vec<(String, f64)> {
    let slope = |(name, &long): (&String, &u64)| {
        let short = short.get(name).copied().unwrap_or(0);
        (name.clone(), slope(short, long, ops))
    };
    let mut slopes: Vec<_> = long.iter().map(slope).collect();
    slopes.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    slopes
}

#[allow(clippy::cast_precision_loss)] // Counts far below 2^52.
pub(super) fn slope(short: u64, long: u64, ops: u64) -> f64 {
    (long as f64 - short as f64) / ops as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_says_what_it_counted_or_what_it_lacks() {
        let said = Said::parse("ops 32 allocations 0 enters 1\n").unwrap();
        assert_eq!(said, Said::Counted { allocations: 0, enters: 1 });
        let said = Said::parse("skipped: needs io_uring (EPERM)\n").unwrap();
        assert_eq!(said, Said::Skipped("io_uring (EPERM)".into()));
        assert!(Said::parse("").is_err());
        assert!(Said::parse("ops 32 allocations many enters 1").is_err());
    }

    const CALLGRIND: &str = "\
# callgrind format
positions: line
events: Ir
summary: 1000

fl=(1) ???
fn=(2) outer
0 10
cfn=(3) inner
calls=7 0
0 700
+3 20
fn=(3)
0 200
fn=(2)
* 5

totals: 1000
";

    #[test]
    fn of_callgrind_what_a_function_does_itself_is_counted_and_not_what_it_calls() {
        let (costs, total) = callgrind(CALLGRIND).unwrap();
        assert_eq!(costs, Counts::from([("outer".into(), 35), ("inner".into(), 200)]));
        assert_eq!(total, 1000);
        assert_eq!(callgrind("totals: 7\n").unwrap().1, 7);
        assert!(callgrind("fn=(1) a\n0 1\n").is_err());
        assert!(callgrind("summary: 1\n0 x\n").is_err());
    }

    const STRACE: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.71    0.012018          14       814         1 futex
 33.94    0.006718          10       663           io_uring_enter
  0.00    0.000000           0         1           clone3
------ ----------- ----------- --------- --------- ----------------
100.00    0.019796          10      1478         1 total
";

    #[test]
    fn of_strace_the_calls_are_counted_and_not_their_errors_or_sum() {
        let expected = [("clone3", 1), ("futex", 814), ("io_uring_enter", 663)];
        let expected = expected.map(|(name, calls)| (name.to_owned(), calls));
        assert_eq!(strace(STRACE).unwrap(), Counts::from(expected));
        assert!(strace("strace: not permitted\n").is_err());
    }

    #[test]
    fn a_slope_leaves_out_what_both_have() {
        let short = Counts::from([("a".into(), 100), ("b".into(), 40)]);
        let long = Counts::from([("a".into(), 110), ("b".into(), 90), ("c".into(), 20)]);
        let expected = [("b", 5.0), ("c", 2.0), ("a", 1.0)];
        let expected = expected.map(|(name, slope)| (name.to_owned(), slope));
        assert_eq!(slopes(&short, &long, 10), expected);
    }
}
