//! Question: do 64 tasks of a tokio program, with 10,000 reads of cached blocks each, get on alike:
//! how much longer does the slowest take than the fastest? Baseline: a loop by hand has no tasks;
//! its cost per read stands beside, and tokio's own ways have the same to show.
//!
//! A task's time is that from its first poll to its end. Those that are ten times slower have a
//! tenth to do.

use anyhow::Context;

use super::w9::{self, Course, Flavour, Way};
use super::{Files, w2};
use crate::contest::{Contest, Contestant, Kind, Measured, Runner};
use crate::cost::Ran;
use crate::options::Options;

const TASKS: usize = 64;

pub(crate) fn run(options: &Options, files: &Files<'_>) -> anyhow::Result<Vec<Measured>> {
    let cached = files.cached()?;
    let reads = options.quick_or(1_000, 10_000);
    let raw = move || w2::raw(cached, cached.shared()?, 64);
    let mut others = vec![Contestant::new(Kind::Again, "raw loop again (noise)", raw)];
    for flavour in Flavour::ALL {
        for &way in Way::ALL {
            let one = Contestant::new(way.kind(), w9::name(way, flavour), move || {
                let course = Course::new(cached, flavour, way)?;
                course.run(TASKS, w9::READS_MIN)?;
                Ok(Runner::new(move |ops| {
                    let times = course.run(TASKS, ops / TASKS)?.times;
                    let (slowest, fastest) = (times.iter().max(), times.iter().min());
                    let (slowest, fastest) = slowest.zip(fastest).context("there are tasks")?;
                    let ratio = slowest.as_secs_f64() / fastest.as_secs_f64();
                    Ok(Ran { special: Some(ratio), ..Ran::default() })
                }))
            });
            let less = if way.kind() == Kind::Ours { 1 } else { 10 };
            others.push(one.with_less_to_do(less));
        }
    }
    let contest = Contest {
        id: "fairness",
        title: format!("{TASKS} tasks of {reads} reads each"),
        op: "read",
        special: Some("slowest / fastest"),
        raw: Contestant::new(Kind::Other, "raw loop", raw),
        others,
        absent: w9::absent(),
    };
    Ok(vec![contest.hold(options.counted(5, TASKS * reads), || cached.settle())?])
}
