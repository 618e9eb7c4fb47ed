//! Question: what does a read of a cached 4 KiB block cost a tokio program with many tasks, by each
//! way that there is? Baseline: the loop of `raw.rs`, on one thread, with as many reads in flight.
//!
//! How a task reads is in `reader.rs`; one run is in `run.rs`. Whether the tasks get on alike:
//! `fairness.rs`.

mod reader;
mod run;

use super::{Files, w2};
use crate::contest::{Contest, Contestant, Kind, Measured, Runner};
use crate::cost::Ran;
use crate::file::Cached;
use crate::options::Options;
pub(crate) use run::{Course, Flavour, Way};

pub(crate) fn run(options: &Options, files: &Files<'_>) -> anyhow::Result<Vec<Measured>> {
    let (cached, tasks) = (files.cached()?, options.tasks);
    let raw = move || w2::raw(cached, cached.shared()?, tasks);
    let again = Contestant::new(Kind::Again, "raw loop again (noise)", raw);
    let others = [again].into_iter().chain(all(cached, tasks)).collect();
    let contest = Contest {
        id: "w9",
        title: format!("4 KiB at random from the cache, by {tasks} tasks"),
        op: "read",
        special: None,
        raw: Contestant::new(Kind::Other, "raw loop", raw),
        others,
        absent: absent(),
    };
    let plan = options.timed(7, 400, tasks * READS_MIN);
    Ok(vec![contest.hold(plan, || cached.settle())?])
}

/// Each way, under both kinds of runtime.
fn all(cached: &Cached, tasks: usize) -> impl Iterator<Item = Contestant<'_>> {
    let ways = Flavour::ALL
        .into_iter()
        .flat_map(|flavour| Way::ALL.iter().map(move |way| (flavour, *way)));
    ways.map(move |(flavour, way)| {
        Contestant::new(way.kind(), name(way, flavour), move || {
            let course = Course::new(cached, flavour, way)?;
            Ok(Runner::new(move |ops| {
                let ran = course.run(tasks, ops / tasks)?;
                Ok(Ran { enters: ran.enters, ..Ran::default() })
            }))
        })
    })
}

pub(crate) fn name(way: Way, flavour: Flavour) -> String {
    format!("{}, {}", way.name(), flavour.name())
}

pub(super) fn absent() -> Vec<(String, String)> {
    let why = "built without `--cfg tokio_unstable`, which `cargo xtask bench` sets";
    match cfg!(tokio_unstable) {
        true => Vec::new(),
        false => vec![("tokio's io_uring".into(), why.into())],
    }
}

/// The least that a task reads, to warm up.
pub(super) const READS_MIN: usize = 8;
