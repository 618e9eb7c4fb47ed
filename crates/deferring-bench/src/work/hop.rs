//! Question: what does one op cost under each driver, when nothing else goes on, and what do reads
//! cost 32 at a time from one task? Baseline: the loop of `raw.rs` at the same depth; and
//! `block_on`, which is the library without a hop.
//!
//! What a hop costs depends on the machine, and on what else it does at that moment: so it stands
//! beside two threads that do nothing but wake each other. One op at a time is the worst case of a
//! driver that somebody else runs: each op pays for the whole way there and back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::Files;
use super::nop::{self, Nops};
use super::w2::{self, Reads};
use crate::contest::{Contestant, Kind, Measured, Runner};
use crate::cost::Ran;
use crate::field::Field;
use crate::options::Options;
use crate::ours::Driver;

/// The ring's thread twice: under an executor that sleeps at once, and under one that knows it.
const DRIVERS: [Driver; 6] = [
    Driver::BlockOn,
    Driver::Thread,
    Driver::ThreadBlockOn,
    Driver::TokioCurrent,
    Driver::TokioMulti,
    Driver::AsyncIo,
];

pub(crate) const HAND_OVER: &str = "(two threads waking each other)";

pub(crate) fn run(options: &Options, files: &Files<'_>) -> anyhow::Result<Vec<Measured>> {
    let cached = files.cached()?;
    // The peers' are in the tables of `nop` and `w2`.
    let alone = Options { peers: false, ..options.clone() };
    let field = |id, title: &str, op| {
        let mut field = Field::new(id, title, op);
        field.files = &[];
        field.drivers = &DRIVERS;
        field
    };

    let nops = field("hop-nop", "nop, one at a time", "nop");
    let mut nops = nops.contest(&alone, || nop::raw(1), || Ok(Nops { depth: 1 }));
    let reads = |id, title: &str, depth: usize| {
        let raw = move || w2::raw(cached, cached.shared()?, depth);
        let job = move || Reads::new(cached, cached.shared()?, depth);
        field(id, title, "read").contest(&alone, raw, job)
    };
    let mut one = reads("hop-read", "4 KiB cached read, one at a time", 1);
    let many = reads("hop-32", "4 KiB cached reads, 32 at a time", 32);
    for contest in [&mut nops, &mut one] {
        contest.others.push(Contestant::new(Kind::Other, HAND_OVER, || {
            Ok(Runner::new(|ops| {
                hand_over(ops);
                Ok(Ran::default())
            }))
        }));
    }
    let plan = options.timed(15, 100, 32);
    Ok(vec![
        nops.hold(plan, || Ok(()))?,
        one.hold(plan, || cached.settle())?,
        many.hold(options.timed(15, 100, 1024), || cached.settle())?,
    ])
}

/// A thread wakes another, which wakes it: so many times.
fn hand_over(times: usize) {
    let turn = AtomicUsize::new(0);
    let wait_for = |mine: usize| {
        while turn.load(Ordering::Acquire) != mine {
            thread::park();
        }
    };
    let here = thread::current();
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            for time in 0..times {
                wait_for(2 * time + 1);
                turn.store(2 * time + 2, Ordering::Release);
                here.unpark();
            }
        });
        for time in 0..times {
            turn.store(2 * time + 1, Ordering::Release);
            there.thread().unpark();
            wait_for(2 * time + 2);
        }
    });
}
