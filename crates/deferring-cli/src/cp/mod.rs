//! `deferring cp`: from the command line's words to the last line.
//!
//! What goes where is decided in `plan.rs`. `walk.rs` then streams through the trees, and
//! `schedule.rs` keeps a bounded number of things in flight, each of which is one of `file.rs`
//! (with its data in `data.rs`), `symlink.rs` and `directory.rs`. Every step of theirs is a ring
//! call with a name (`step.rs`). Not: output, which is `report.rs` and `progress.rs`.

mod attributes;
mod buffers;
mod count;
mod data;
mod directory;
mod extents;
mod file;
mod interrupt;
mod item;
mod links;
mod listing;
mod plan;
mod progress;
mod report;
mod schedule;
mod spill;
mod step;
mod symlink;
mod temporary;
mod walk;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use deferring::{Ring, block_on};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args;
use buffers::Buffers;
use directory::Destinations;
use interrupt::Interrupt;
use links::Links;
use report::{Report, Summary};
use temporary::Names;

/// Copies; returns the exit status that the help text promises.
pub(crate) fn run(args: &args::Cp) -> ExitCode {
    match copy(args) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            report::complain(format_args!("{}", step::reason(&error)));
            ExitCode::from(REFUSED)
        }
    }
}

const FAILED: u8 = 1;
const REFUSED: u8 = 2;
/// Shells add the number of the signal to this.
const KILLED: u8 = 128;

/// Ops still in the kernel at the end are those of an interrupted copy.
const DRAIN: Duration = Duration::from_secs(1);

/// What all parts of one copy share.
struct Session {
    ring: Ring,
    preserve: bool,
    buffers: Buffers,
    links: Links,
    names: Names,
    destinations: Destinations,
    interrupt: Interrupt,
    report: Report,
}

fn copy(args: &args::Cp) -> anyhow::Result<u8> {
    let start = Instant::now();
    let jobs = args.jobs.min(jobs_max(raise_descriptor_limit()));
    let ring = Ring::builder().queue_depth(256).defer_taskrun(true).drain_timeout(DRAIN).build()?;
    let session = Session {
        interrupt: Interrupt::install(&ring).context("cannot watch for Ctrl-C")?,
        ring: ring.clone(),
        preserve: args.preserve,
        buffers: Buffers::for_jobs(jobs),
        links: Links::new(args.links_in_memory),
        names: Names::default(),
        destinations: Destinations::default(),
        report: Report::default(),
    };
    let status = block_on(&ring, work(&session, args, jobs));
    let summary = Summary::new(&session, start.elapsed());
    summary.print(args.json, session.interrupt.signal().is_some());
    Ok(status)
}

async fn work(session: &Session, args: &args::Cp, jobs: u16) -> u8 {
    let roots = match plan::plan(&session.ring, args).await {
        Ok(roots) => roots,
        Err(refusals) => {
            refusals.iter().for_each(|refusal| session.report.refusal(refusal));
            return REFUSED;
        }
    };
    let count = session.report.start_progress(&roots);
    let copying = std::pin::pin!(schedule::copy_all(session, roots, jobs.into()));
    progress::paint_while(copying, &session.ring, &session.report, count).await;
    session.report.end_progress();
    match session.interrupt.signal() {
        Some(signal) => KILLED + signal,
        None if session.report.errors() > 0 => FAILED,
        None => 0,
    }
}

/// Returns how many descriptors we can have.
fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(_) => current.unwrap_or(u64::MAX),
    }
}

/// A file in flight needs two descriptors. Some are for the walk, more for trees of great depth,
/// where running out is reported by directory.
fn jobs_max(descriptors: u64) -> u16 {
    let jobs = descriptors.saturating_sub(walk::DESCRIPTORS) / 2;
    u16::try_from(jobs).unwrap_or(u16::MAX).max(1)
}
