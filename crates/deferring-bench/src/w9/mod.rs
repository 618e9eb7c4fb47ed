//! Question: what does a read of a cached 4 KiB block cost a tokio program with many tasks, by each
//! way that there is, and do the tasks get on alike? Baseline: the loop of `raw.rs`, on one thread.
//!
//! Each round runs all of them, one after the other, and the baseline a second time: what two runs
//! of the same differ by is the noise. Ratios are within a round. How a task reads is in
//! `reader.rs`; one run is in `run.rs`.

mod reader;
mod run;

use std::time::Duration;

use anyhow::Context;

use crate::Options;
use crate::cost::{Cost, measure};
use crate::file::Cached;
use crate::raw::Raw;
use crate::table::{self, CPU, Column, Spread, WALL, verdict};
use run::{Course, Flavour, Way};

/// What is measured: the baseline twice, and every way under both kinds of runtime.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contestant {
    Raw,
    RawAgain,
    On(Flavour, Way),
}

impl Contestant {
    fn all() -> Vec<Self> {
        let ways = |flavour| Way::ALL.iter().map(move |way| Self::On(flavour, *way));
        let tokios = Flavour::ALL.into_iter().flat_map(ways);
        [Self::Raw, Self::RawAgain].into_iter().chain(tokios).collect()
    }

    fn name(self) -> String {
        match self {
            Self::Raw => "raw loop, one thread | -".into(),
            Self::RawAgain => "raw loop again (noise) | -".into(),
            Self::On(flavour, way) => format!("{} | {}", way.name(), flavour.name()),
        }
    }
}

/// How many tasks are compared, and how many reads each has to do.
const FAIR_TASKS: usize = 64;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (rounds, time) = if options.quick {
        (options.rounds.unwrap_or(2), Duration::from_millis(60))
    } else {
        (options.rounds.unwrap_or(7), Duration::from_millis(400))
    };
    let cached = Cached::make(&options.dir, options.mib)?;
    println!(
        "w9: 4 KiB at random from {} MiB in the page cache, {} tasks, {rounds} rounds",
        options.mib, options.tasks
    );
    if !cfg!(tokio_unstable) {
        println!("without tokio's io_uring: built without `--cfg tokio_unstable`");
    }
    let contestants = Contestant::all();
    let mut columns: Vec<Column> = vec![Vec::new(); contestants.len()];
    // The first round is not counted.
    for round in 0..=rounds {
        cached.settle()?;
        for turn in 0..contestants.len() {
            // Who goes first changes, since going first may matter.
            let who = (round + turn) % contestants.len();
            let cost = cost(contestants[who], &cached, options.tasks, time)
                .with_context(|| contestants[who].name())?;
            if round > 0 {
                columns[who].push(cost);
            }
        }
    }
    let column = |who: Contestant| {
        let at = contestants.iter().position(|contestant| *contestant == who);
        &columns[at.expect("one of all")][..]
    };
    println!("\n{HEADING}");
    for who in &contestants {
        println!("{}", line(&who.name(), column(*who), column(Contestant::Raw)));
    }
    println!("\n{GOALS}");
    for flavour in Flavour::ALL {
        goals(flavour, &|way| column(Contestant::On(flavour, way)), column(Contestant::Raw));
    }
    fairness(&cached, options.quick)
}

const HEADING: &str = "\
| way | runtime | wall ns/op | x raw | CPU ns/op | x raw | enters/op |
|---|---|---|---|---|---|---|";

fn line(name: &str, column: &[Cost], raw: &[Cost]) -> String {
    let of = |figure| (table::middle(column, figure), table::ratio(column, raw, figure).show(2));
    let ((wall, walls), (cpu, cpus)) = (of(WALL), of(CPU));
    let enters = table::enters(column);
    format!("| {name} | {wall:.0} | {walls} | {cpu:.0} | {cpus} | {enters} |")
}

const GOALS: &str = "\
| `start_on_tokio` against | runtime | seen | goal | |
|---|---|---|---|---|";

/// What docs/runtimes.md compares with.
fn goals<'a>(flavour: Flavour, of: &dyn Fn(Way) -> &'a [Cost], raw: &[Cost]) {
    let ours = of(Way::OnTokio);
    let times_faster = |way| table::ratio(of(way), ours, WALL);
    let say = |what: &str, seen: Spread, goal: &str, met: bool| {
        let (seen, name) = (seen.show(2), flavour.name());
        println!("| {what} | {name} | {seen} | {goal} | {} |", verdict(met));
    };
    let fs = times_faster(Way::TokioFs);
    say("tokio::fs: times its ops/s", fs, ">= 8", fs.median >= 8.0);
    let cpu = table::ratio(ours, raw, CPU);
    match flavour {
        Flavour::CurrentThread => say("raw: CPU", cpu, "<= 1.15", cpu.median <= 1.15),
        Flavour::MultiThread => {
            say("raw: CPU", cpu, "<= 1.6", cpu.median <= 1.6);
            let less = table::ratio(of(Way::TokioFs), ours, CPU);
            say("tokio::fs: its CPU over ours", less, ">= 12", less.median >= 12.0);
            let pool = times_faster(Way::SpawnBlocking);
            say("spawn_blocking: times its ops/s", pool, ">= 3.5", pool.median >= 3.5);
        }
    }
}

fn cost(who: Contestant, cached: &Cached, tasks: usize, time: Duration) -> anyhow::Result<Cost> {
    let unit = tasks * READS_MIN;
    match who {
        Contestant::Raw | Contestant::RawAgain => {
            let depth = u32::try_from(tasks).context("too many tasks for a ring")?;
            let mut raw = Raw::new(cached.shared()?, depth)?;
            let mut offsets = cached.offsets(0);
            measure(time, unit, |ops| Ok(Some(raw.read(ops, &mut offsets)?)))
        }
        Contestant::On(flavour, way) => {
            let course = Course::new(cached, flavour, way)?;
            measure(time, unit, |ops| Ok(course.run(tasks, ops / tasks)?.enters))
        }
    }
}

/// The least that a task reads, to warm up.
const READS_MIN: usize = 32;

/// The tasks' times, each from its first poll to its end: the longest over the shortest.
fn fairness(cached: &Cached, quick: bool) -> anyhow::Result<()> {
    let rounds = if quick { 1 } else { 5 };
    println!("\n| way | runtime | {FAIR_TASKS} tasks of | slowest / fastest | goal | |");
    println!("|---|---|---|---|---|---|");
    for flavour in Flavour::ALL {
        for &way in Way::ALL {
            // Those that are ten times slower have a tenth to do.
            let reads = if way.is_ours() { 10_000 } else { 1_000 };
            let mut ratios = Vec::with_capacity(rounds);
            for _ in 0..rounds {
                cached.settle()?;
                let course = Course::new(cached, flavour, way)?;
                course.run(FAIR_TASKS, READS_MIN)?;
                let times = course.run(FAIR_TASKS, reads)?.times;
                let (slowest, fastest) = (times.iter().max(), times.iter().min());
                let (slowest, fastest) = slowest.zip(fastest).context("there are tasks")?;
                ratios.push(slowest.as_secs_f64() / fastest.as_secs_f64());
            }
            let seen = Spread::of(ratios.into_iter());
            let (name, runtime) = (way.name(), flavour.name());
            let goal = match way.is_ours() {
                true => format!("<= 1.5 | {}", verdict(seen.median <= 1.5)),
                false => "- | -".into(),
            };
            println!("| {name} | {runtime} | {reads} | {} | {goal} |", seen.show(2));
        }
    }
    Ok(())
}
