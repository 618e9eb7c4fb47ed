//! The goals: what is asked of the figures of a run, and whether it was met.
//!
//! Measured contests in, rows of a table out. A goal whose figures are not there says why. Not: how
//! the figures came about.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::contest::{Kind, Measured, Row};
use crate::ours::Driver;
use crate::stats::{CPU, Figure, Spread, WALL};
use crate::work::hop;
use crate::work::scale::Curve;
use crate::work::w9::{self, Flavour, Way};

/// One row of the table of goals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) goal: String,
    pub(crate) seen: String,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    /// By how much, in per cent of the goal.
    Missed(String),
    /// Why nothing can be said.
    Open(String),
}

impl Verdict {
    pub(crate) fn show(&self) -> String {
        match self {
            Self::Met => "met".into(),
            Self::Missed(by) => format!("**missed** by {by}"),
            Self::Open(why) => format!("not said: {why}"),
        }
    }
}

/// What a goal allows.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn verdict(self, seen: f64) -> Verdict {
        let (met, over, bound) = match self {
            Self::AtMost(bound) => (seen <= bound, seen - bound, bound),
            Self::AtLeast(bound) => (seen >= bound, bound - seen, bound),
        };
        match met {
            true => Verdict::Met,
            false if bound == 0.0 => Verdict::Missed(format!("{over:.2}")),
            false => Verdict::Missed(format!("{:.0} %", over / bound * 100.0)),
        }
    }

    fn show(self, unit: &str) -> String {
        match self {
            Self::AtMost(bound) => format!("<= {bound}{unit}"),
            Self::AtLeast(bound) => format!(">= {bound}{unit}"),
        }
    }
}

/// What all goals are told from.
pub(crate) struct Figures<'a> {
    pub(crate) measured: &'a [Measured],
    pub(crate) curves: &'a [Curve],
    pub(crate) gates: Option<&'a Gates>,
    pub(crate) peers: bool,
}

/// Every row of the table of goals.
pub(crate) fn all(figures: &Figures<'_>) -> Vec<Goal> {
    let mut goals = Vec::new();
    figures.wrapper(&mut goals);
    figures.files(&mut goals);
    figures.others(&mut goals);
    figures.tasks(&mut goals);
    figures.scale(&mut goals);
    goals
}

impl Figures<'_> {
    fn of(&self, id: &str) -> Option<&Measured> {
        self.measured.iter().find(|measured| measured.id == id)
    }

    /// Ours under a driver.
    fn ours(&self, id: &str, driver: Driver) -> Option<&Row> {
        self.named(id, driver.name())
    }

    fn named(&self, id: &str, name: &str) -> Option<&Row> {
        self.of(id)?.rows.iter().find(|row| row.name == name)
    }

    fn ratio(&self, id: &str, driver: Driver, figure: Figure) -> Option<Spread> {
        self.ours(id, driver)?.ratio(figure)
    }

    /// The wrapper's own price.
    fn wrapper(&self, goals: &mut Vec<Goal>) {
        let here = Driver::BlockOn;
        let what = "zero-32: user instructions per op";
        let instructions = |gates: &Gates| gates.get("zero", "instructions");
        goals.push(self.gated(what, Bound::AtMost(400.0), instructions));
        let minima = |id| self.ours(id, here).map(|row| row.minima(CPU));
        goals.push(plain(
            "zero-32: over raw, by minima",
            minima("zero-32"),
            Bound::AtMost(50.0),
            " ns",
        ));
        goals.push(plain(
            "nop QD1: over raw, by minima",
            minima("nop-1"),
            Bound::AtMost(60.0),
            " ns",
        ));
        let nops = self.ratio("nop-32", here, CPU);
        goals.push(spread("nop QD32: CPU, x raw", nops, Bound::AtMost(1.6)));
        goals.push(self.allocations());
        goals.push(self.enters());
        let calls =
            |gates: &Gates| Some(gates.get("zero", "syscalls")? / gates.get("raw", "syscalls")?);
        goals.push(self.gated("zero-32: system calls per op, x raw", Bound::AtMost(1.02), calls));
    }

    fn files(&self, goals: &mut Vec<Goal>) {
        let here = Driver::BlockOn;
        for (id, depth, bound) in [("w2-1", 1, 1.08), ("w2-32", 32, 1.06), ("w2-128", 128, 1.04)] {
            let what = format!("W2 QD{depth}: CPU, x raw");
            goals.push(spread(&what, self.ratio(id, here, CPU), Bound::AtMost(bound)));
            goals.push(self.under_every_peer(&format!("W2 QD{depth}: CPU"), id));
        }
        let iops = self.ours("w3-32", here).and_then(|row| inverse(row, WALL));
        goals.push(spread("W3: IOPS, x raw", iops, Bound::AtLeast(0.97)));
        goals.push(spread("W3: CPU, x raw", self.ratio("w3-32", here, CPU), Bound::AtMost(1.08)));
        goals.push(spread("W4: time, x raw", self.ratio("w4", here, WALL), Bound::AtMost(1.03)));
        goals.push(spread("W5: CPU, x raw", self.ratio("w5", here, CPU), Bound::AtMost(0.65)));
        let faster = |name| self.named("w5", name)?.ratio_to(self.ours("w5", here)?, WALL);
        let what = "W5: times the files per second of `tokio::fs`";
        goals.push(spread(what, faster("`tokio::fs`"), Bound::AtLeast(8.0)));
    }

    fn others(&self, goals: &mut Vec<Goal>) {
        let here = Driver::BlockOnDefer;
        for (id, size) in [("w6-64", "64 B"), ("w6-4096", "4 KiB")] {
            let what = format!("W6 {size}: CPU, x raw with DEFER_TASKRUN");
            goals.push(spread(&what, self.ratio(id, here, CPU), Bound::AtMost(1.03)));
            let tokio = || self.ours(id, here)?.ratio_to(self.named(id, "tokio's net")?, CPU);
            let what = format!("W6 {size}: CPU, x tokio's net");
            goals.push(spread(&what, tokio(), Bound::AtMost(1.0)));
        }
        let here = Driver::BlockOn;
        let tokio = || self.ours("w7", here)?.ratio_to(self.named("w7", "tokio's timers")?, CPU);
        goals.push(spread("W7: CPU, x tokio's timers", tokio(), Bound::AtMost(1.0)));
        let late = self.ours("w7", here).and_then(Row::special);
        goals.push(spread("W7: p99 late, ms", late, Bound::AtMost(2.0)));
    }

    fn tasks(&self, goals: &mut Vec<Goal>) {
        let row = |way, flavour| self.named("w9", &w9::name(way, flavour));
        let against =
            |way, flavour, figure| row(way, flavour)?.ratio_to(row(Way::OnTokio, flavour)?, figure);
        for flavour in Flavour::ALL {
            let name = flavour.name();
            let goal = |what: &str, seen, bound| spread(&format!("W9 {name}: {what}"), seen, bound);
            let fs = against(Way::TokioFs, flavour, WALL);
            goals.push(goal("times the reads/s of `tokio::fs`", fs, Bound::AtLeast(8.0)));
            let cpu = row(Way::OnTokio, flavour).and_then(|row| row.ratio(CPU));
            match flavour {
                Flavour::CurrentThread => {
                    goals.push(goal("CPU, x raw", cpu, Bound::AtMost(1.15)));
                }
                Flavour::MultiThread => {
                    let less = against(Way::TokioFs, flavour, CPU);
                    goals.push(goal("CPU of `tokio::fs`, x ours", less, Bound::AtLeast(12.0)));
                    let pool = against(Way::SpawnBlocking, flavour, WALL);
                    let what = "times the reads/s of `spawn_blocking`";
                    goals.push(goal(what, pool, Bound::AtLeast(3.5)));
                    goals.push(goal("CPU, x raw", cpu, Bound::AtMost(1.6)));
                }
            }
        }
        let excess = |driver| {
            let ours = self.ours("hop-nop", driver)?;
            ours.excess(self.ours("hop-nop", Driver::BlockOn)?, WALL).map(micros)
        };
        // Without a runtime, `block_on` is what a program has.
        let what = "`start`, awaited by `block_on`, depth 1: a hop, us";
        let mut hop = spread(what, excess(Driver::ThreadBlockOn), Bound::AtMost(4.0));
        if let Some(elsewhere) = excess(Driver::Thread) {
            let _ =
                write!(hop.seen, "; on an executor that sleeps at once {:.2}", elsewhere.median);
        }
        if let Some(floor) = self.named("hop-nop", hop::HAND_OVER) {
            let _ = write!(
                hop.seen,
                "; two threads wake each other in {:.2}",
                floor.middle(WALL) / 1e3
            );
        }
        goals.push(hop);
        let many = self.ratio("w2-32", Driver::Thread, CPU);
        goals.push(spread("`start`, W2 QD32: CPU, x raw", many, Bound::AtMost(1.3)));
        let name = w9::name(Way::OnTokio, Flavour::MultiThread);
        let fair = self.named("fairness", &name).and_then(Row::special);
        let what = "fairness, multi_thread: slowest / fastest of 64 tasks";
        goals.push(spread(what, fair, Bound::AtMost(1.5)));
    }

    fn scale(&self, goals: &mut Vec<Goal>) {
        // Below a batch, fewer ops share a system call, here as in the baseline.
        let flat = |line: usize| {
            let curve = self.curves.iter().find(|curve| curve.id == "in-flight")?;
            let points = curve.lines.get(line)?.points.iter().filter(|point| point.0 >= 256);
            let costs: Vec<f64> = points.map(|point| point.1).collect();
            let least = costs.iter().copied().reduce(f64::min)?;
            Some(costs.iter().copied().fold(0.0, f64::max) / least)
        };
        let what = "in flight, 256 to the most: dearest op over cheapest";
        let mut goal = plain(what, flat(0), Bound::AtMost(2.0), "");
        if let Some(raw) = flat(1) {
            let _ = write!(goal.seen, "; raw {raw:.3}");
        }
        goals.push(goal);
    }

    /// The most of any workload whose ops are of ordinary size.
    fn allocations(&self) -> Goal {
        let rows = self.measured.iter().flat_map(|measured| {
            let ours = measured.rows.iter().filter(|row| row.kind == Kind::Ours);
            ours.filter_map(|row| Some((row.allocs?, measured.id, &row.name)))
        });
        let most = rows.max_by(|one, other| one.0.total_cmp(&other.0));
        let what = "allocations per op, steady state, the most of any workload and driver";
        // Runtimes allocate now and then; what does not grow with the ops rounds to nothing.
        let seen = most.map(|most| (most.0 * 1e3).round() / 1e3);
        let mut goal = plain(what, seen, Bound::AtMost(0.0), "");
        if let Some((_, id, name)) = most.filter(|most| most.0 >= 5e-4) {
            let _ = write!(goal.seen, " ({id}, {name})");
        }
        goal
    }

    fn enters(&self) -> Goal {
        let ids = ["nop-1", "nop-32", "zero-32", "w2-1", "w2-32", "w2-128", "w3-32"];
        let ratios = ids
            .iter()
            .filter_map(|id| Some((self.ours(id, Driver::BlockOn)?.enters_ratio()?, *id)));
        let most = ratios.max_by(|one, other| one.0.total_cmp(&other.0));
        let what = "enters per op, x raw, the most of nop, zero, W2, W3 under `block_on`";
        let mut goal = plain(what, most.map(|most| most.0), Bound::AtMost(1.02), "");
        if let Some((_, id)) = most {
            let _ = write!(goal.seen, " ({id})");
        }
        goal
    }

    /// Ours over the cheapest peer.
    fn under_every_peer(&self, what: &str, id: &str) -> Goal {
        let what = format!("{what}, x the cheapest peer's");
        if !self.peers {
            return open(&what, "<= 1", "run without `--peers`");
        }
        let (Some(measured), Some(ours)) = (self.of(id), self.ours(id, Driver::BlockOn)) else {
            return open(&what, "<= 1", NOT_RUN);
        };
        let peers = measured.rows.iter().filter(|row| row.kind == Kind::Peer);
        let ratios = peers.filter_map(|peer| Some((ours.ratio_to(peer, CPU)?, &peer.name)));
        let worst = ratios.max_by(|one, other| one.0.median.total_cmp(&other.0.median));
        let mut goal = spread(&what, worst.map(|worst| worst.0), Bound::AtMost(1.0));
        if let Some((_, name)) = worst {
            let _ = write!(goal.seen, " ({name})");
        }
        goal
    }

    /// What is counted rather than timed, which repeats, is the gates'.
    fn gated(&self, what: &str, bound: Bound, number: impl Fn(&Gates) -> Option<f64>) -> Goal {
        match self.gates.and_then(number) {
            Some(seen) => {
                let mut goal = plain(what, Some(seen), bound, "");
                goal.seen.push_str(" (of the gates)");
                goal
            }
            None => open(what, &bound.show(""), "see the gates"),
        }
    }
}

/// What the gates have written down: a number for each name of each program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gates(BTreeMap<(String, String), f64>);

impl Gates {
    /// Of the lines that are `[program]` and `name = number`; others are not for us.
    pub(crate) fn parse(text: &str) -> Self {
        let (mut program, mut numbers) = (String::new(), BTreeMap::new());
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
                program = name.into();
            } else if let Some((name, number)) = line.split_once('=') {
                if let Ok(number) = number.trim().parse() {
                    numbers.insert((program.clone(), name.trim().into()), number);
                }
            }
        }
        Self(numbers)
    }

    fn get(&self, program: &str, name: &str) -> Option<f64> {
        self.0.get(&(program.into(), name.into())).copied()
    }
}

const NOT_RUN: &str = "not in this run";

fn micros(spread: Spread) -> Spread {
    let Spread { median, low, high } = spread;
    Spread { median: median / 1e3, low: low / 1e3, high: high / 1e3 }
}

fn inverse(row: &Row, figure: Figure) -> Option<Spread> {
    Spread::of(row.pairs.iter().map(|pair| figure(&pair.raw) / figure(&pair.cost)))
}

fn open(what: &str, goal: &str, why: &str) -> Goal {
    let (what, goal) = (what.into(), goal.into());
    Goal { what, goal, seen: "-".into(), verdict: Verdict::Open(why.into()) }
}

/// A goal of a median.
fn spread(what: &str, seen: Option<Spread>, bound: Bound) -> Goal {
    let goal = bound.show("");
    let Some(seen) = seen else { return open(what, &goal, NOT_RUN) };
    let verdict = bound.verdict(seen.median);
    Goal { what: what.into(), goal, seen: seen.show(2), verdict }
}

/// A goal of a number.
fn plain(what: &str, seen: Option<f64>, bound: Bound, unit: &str) -> Goal {
    let goal = bound.show(unit);
    let Some(seen) = seen else { return open(what, &goal, NOT_RUN) };
    let digits = if unit == " ns" { 0 } else { 3 };
    let (what, verdict) = (what.into(), bound.verdict(seen));
    Goal { what, goal, seen: format!("{seen:.digits$}{unit}"), verdict }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tests::row;

    fn measured(id: &'static str, rows: Vec<Row>) -> Measured {
        Measured {
            id,
            title: "a test".into(),
            op: "op",
            special: None,
            raw_instructions: None,
            rows,
            absent: Vec::new(),
            ops: 1,
            rounds: 1,
        }
    }

    fn told(measured: &[Measured], what: &str) -> Goal {
        let goals = all(&Figures { measured, curves: &[], gates: None, peers: true });
        let found =
            goals.into_iter().filter(|goal| goal.what.starts_with(what)).collect::<Vec<_>>();
        assert_eq!(found.len(), 1, "{what}: {found:?}");
        found.into_iter().next().unwrap()
    }

    #[test]
    fn a_goal_is_met_or_missed_by_so_much_or_says_why_not() {
        let ours = |cost| row(Driver::BlockOn.name(), Kind::Ours, &[(cost, 100.0)]);
        let one = [measured("w2-32", vec![ours(105.0)])];
        assert_eq!(told(&one, "W2 QD32: CPU, x raw").verdict, Verdict::Met);
        let one = [measured("w2-32", vec![ours(159.0)])];
        let missed = told(&one, "W2 QD32: CPU, x raw");
        assert_eq!(missed.verdict, Verdict::Missed("50 %".into()));
        assert_eq!(missed.seen, "1.59 (1.59 to 1.59)");
        assert_eq!(told(&one, "W4").verdict, Verdict::Open(NOT_RUN.into()));
        assert_eq!(told(&one, "zero-32: user").verdict, Verdict::Open("see the gates".into()));
    }

    #[test]
    fn the_cheapest_peer_is_the_one_to_beat() {
        let ours = row(Driver::BlockOn.name(), Kind::Ours, &[(110.0, 100.0)]);
        let peers = [("dear", 200.0), ("cheap", 100.0)];
        let peers = peers.map(|(name, cost)| row(name, Kind::Peer, &[(cost, 100.0)]));
        let one = [measured("w2-1", [ours].into_iter().chain(peers).collect())];
        let goal = told(&one, "W2 QD1: CPU, x the");
        assert_eq!(goal.verdict, Verdict::Missed("10 %".into()));
        assert!(goal.seen.ends_with("(cheap)"), "{goal:?}");
    }

    #[test]
    fn what_the_gates_have_counted_is_theirs() {
        let gates = Gates::parse(
            "rustc = \"1\"\n[raw]\nsyscalls = 0.03125\n\n[zero]\n\
             instructions = 399.5 # less\nsyscalls = 0.0625",
        );
        assert_eq!(gates.get("zero", "instructions"), None, "a number with a comment is none");
        let figures = Figures { measured: &[], curves: &[], gates: Some(&gates), peers: false };
        let goals = all(&figures);
        let calls = goals.iter().find(|goal| goal.what.contains("system calls")).unwrap();
        assert_eq!(calls.verdict, Verdict::Missed("96 %".into()));
    }

    #[test]
    fn bounds_are_two_sided() {
        assert_eq!(Bound::AtLeast(8.0).verdict(4.0), Verdict::Missed("50 %".into()));
        assert_eq!(Bound::AtMost(0.0).verdict(0.5), Verdict::Missed("0.50".into()));
        assert_eq!(Bound::AtLeast(8.0).verdict(8.0), Verdict::Met);
    }
}
