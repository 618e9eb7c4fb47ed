//! Question: what does a timeout cost, when 100,000 run at once, and how late are they? Baseline: a
//! loop with the crate `io-uring` and one SQE for each; tokio's wheel of timers is the one to beat.
//! Ours are sleeps that the ring keeps, of which the kernel hears of the earliest.
//!
//! Each sleeps for 100 to 1000 ms, by lot. What is late is what comes later than asked for, as its
//! own task sees it; the table has the 99th of 100.
#![allow(unsafe_code)] // SQEs carry addresses, not borrows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use io_uring::{IoUring, opcode, types};

use super::Files;
use crate::api::{Api, Job, Need, our_lane};
use crate::contest::{Measured, Runner};
use crate::cost::Ran;
use crate::field::Field;
use crate::file::Draw;
use crate::options::Options;

pub(crate) fn run(options: &Options, _: &Files<'_>) -> anyhow::Result<Vec<Measured>> {
    let count = options.quick_or(10_000, 100_000);
    let mut field =
        Field::new("w7", format!("{count} timeouts of 100 to 1000 ms at once"), "timeout");
    field.special = Some("p99 late, ms");
    let raw = || Ok(Runner::new(raw));
    let job = move || {
        let late = (0..count).map(|_| AtomicU32::new(0)).collect();
        Ok(Sleeps { late: Arc::new(late) })
    };
    let contest = field.contest(options, raw, job);
    Ok(vec![contest.hold(options.counted(3, count), || Ok(()))?])
}

/// How long each sleeps: the same for all contestants.
fn time(at: usize) -> Duration {
    Duration::from_micros(100_000 + Draw::new(at as u64).below(900_000) as u64)
}

fn late(since: Instant, time: Duration) -> u32 {
    u32::try_from(since.elapsed().saturating_sub(time).as_micros()).unwrap_or(u32::MAX)
}

/// The 99th of 100, in ms.
fn p99(mut late: Vec<u32>) -> Option<f64> {
    late.sort_unstable();
    late.get(late.len() * 99 / 100).map(|late| f64::from(*late) / 1000.0)
}

fn raw(count: usize) -> anyhow::Result<Ran> {
    let mut ring: IoUring = IoUring::builder().setup_cqsize(1 << 15).build(1 << 12)?;
    let times: Vec<types::Timespec> = (0..count).map(|at| time(at).into()).collect();
    let (mut since, mut lates) = (vec![Instant::now(); count], vec![0; count]);
    let (mut sent, mut done, mut enters) = (0, 0, 0);
    while done < count {
        while sent < count && !ring.submission().is_full() {
            since[sent] = Instant::now();
            let entry = opcode::Timeout::new(&raw const times[sent]).build();
            // SAFETY: the times stay until the last completion.
            unsafe {
                ring.submission().push(&entry.user_data(sent as u64)).expect("it is not full")
            };
            sent += 1;
        }
        ring.submit_and_wait(usize::from(sent == count))?;
        enters += 1;
        for cqe in ring.completion() {
            ensure!(cqe.result() == -rustix::io::Errno::TIME.raw_os_error(), "{cqe:?}");
            let at = usize::try_from(cqe.user_data())?;
            lates[at] = late(since[at], time(at));
            done += 1;
        }
    }
    Ok(Ran { special: p99(lates), ..Ran::entered(enters) })
}

#[derive(Clone)]
struct Sleeps {
    late: Arc<Vec<AtomicU32>>,
}

impl Job for Sleeps {
    const NEEDS: Need = Need::Sleep;

    fn lanes(&self) -> usize {
        self.late.len()
    }

    async fn lane<A: Api>(
        self,
        api: A,
        _: Option<A::File>,
        lane: usize,
        _: usize,
    ) -> anyhow::Result<()> {
        let (since, time) = (Instant::now(), time(lane));
        api.sleep(time).await?;
        ensure!(since.elapsed() >= time, "a sleep of {time:?} ended early");
        self.late[lane].store(late(since, time), Ordering::Relaxed);
        Ok(())
    }

    fn end(&self) -> anyhow::Result<Ran> {
        let late = self.late.iter().map(|late| late.load(Ordering::Relaxed)).collect();
        Ok(Ran { special: p99(late), ..Ran::default() })
    }

    our_lane!();
}
