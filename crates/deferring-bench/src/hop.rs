//! Question: what does one op cost under each driver, when nothing else goes on, and what do reads
//! cost 32 at a time from one task? Baseline: the loop of `raw.rs` at the same depth; and
//! `block_on`, which is the library without a hop.
//!
//! What a hop costs depends on the machine, and on what else it does at that moment: so it stands
//! beside two threads that do nothing but wake each other. One op at a time is the worst case of a
//! driver that somebody else runs: each op pays for the whole way there and back. Rounds are
//! interleaved, and ratios are within a round.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use deferring::{Fd, Ring, block_on};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::{Builder, Runtime};

use crate::Options;
use crate::cost::{Cost, measure};
use crate::file::{BLOCK, Cached, Offsets};
use crate::raw::Raw;
use crate::table::{self, CPU, Column, WALL, verdict};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Nop,
    Read,
    Reads32,
}

impl Work {
    const ALL: [Self; 3] = [Self::Nop, Self::Read, Self::Reads32];

    const fn name(self) -> &'static str {
        match self {
            Self::Nop => "nop, one at a time",
            Self::Read => "4 KiB cached read, one at a time",
            Self::Reads32 => "4 KiB cached reads, 32 at a time",
        }
    }

    const fn depth(self) -> u32 {
        match self {
            Self::Nop | Self::Read => 1,
            Self::Reads32 => 32,
        }
    }
}

/// Who does it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Raw,
    RawAgain,
    /// Two threads that wake each other, and no ring.
    HandOver,
    BlockOn,
    Thread,
    TokioCurrent,
    TokioMulti,
    AsyncIo,
}

impl Who {
    const ALL: [Self; 8] = [
        Self::Raw,
        Self::RawAgain,
        Self::HandOver,
        Self::BlockOn,
        Self::Thread,
        Self::TokioCurrent,
        Self::TokioMulti,
        Self::AsyncIo,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw loop",
            Self::RawAgain => "raw loop again (noise)",
            Self::HandOver => "(two threads waking each other)",
            Self::BlockOn => "`block_on`",
            Self::Thread => "`start`, on futures-executor",
            Self::TokioCurrent => "`start_on_tokio`, current_thread",
            Self::TokioMulti => "`start_on_tokio`, multi_thread (2)",
            Self::AsyncIo => "`start_on_async_io`",
        }
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (rounds, time) = if options.quick {
        (options.rounds.unwrap_or(3), Duration::from_millis(20))
    } else {
        (options.rounds.unwrap_or(15), Duration::from_millis(150))
    };
    let cached = Cached::make(&options.dir, options.mib)?;
    println!("hop: from {} MiB in the page cache, {rounds} rounds", options.mib);
    for work in Work::ALL {
        let mut columns: [Column; Who::ALL.len()] = Default::default();
        // The first round is not counted.
        for round in 0..=rounds {
            cached.settle()?;
            for turn in 0..Who::ALL.len() {
                let at = (round + turn) % Who::ALL.len();
                let cost = cost(Who::ALL[at], work, &cached, time)
                    .with_context(|| format!("{}, {}", work.name(), Who::ALL[at].name()))?;
                if round > 0 {
                    columns[at].push(cost);
                }
            }
        }
        say(work, &columns);
    }
    Ok(())
}

fn say(work: Work, columns: &[Column; Who::ALL.len()]) {
    println!("\n{}\n\n{HEADING}", work.name());
    let column = |who: Who| &columns[Who::ALL.iter().position(|one| *one == who).expect("one")];
    let (raw, here) = (column(Who::Raw), column(Who::BlockOn));
    for who in Who::ALL {
        if who == Who::HandOver && work == Work::Reads32 {
            continue; // Nothing to compare with.
        }
        let column = column(who);
        let [wall, cpu] = [WALL, CPU].map(|figure| table::middle(column, figure));
        let [walls, cpus] = [WALL, CPU].map(|figure| table::ratio(column, raw, figure).show(2));
        let hop = table::excess(column, here, WALL).show(0);
        let (name, enters) = (who.name(), table::enters(column));
        println!("| {name} | {wall:.0} | {walls} | {hop} | {cpu:.0} | {cpus} | {enters} |");
    }
    let thread = column(Who::Thread);
    let (seen, goal, met) = match work {
        Work::Nop | Work::Read => {
            let hop = table::excess(thread, here, WALL);
            let floor = table::ratio(thread, column(Who::HandOver), WALL).show(2);
            let seen = format!(
                "{} ns more than `block_on`, {floor} of what two threads take to wake each other",
                hop.show(0)
            );
            (seen, "<= 4000 ns", hop.median <= 4000.0)
        }
        Work::Reads32 => {
            let ratio = table::ratio(thread, raw, WALL);
            (format!("{} of raw", ratio.show(2)), "<= 1.3", ratio.median <= 1.3)
        }
    };
    println!("\n`start`: {seen}; goal {goal}: {}", verdict(met));
}

const HEADING: &str = "\
| driver | wall ns/op | x raw | ns more than `block_on` | CPU ns/op | x raw | enters/op |
|---|---|---|---|---|---|---|";

fn cost(who: Who, work: Work, cached: &Cached, time: Duration) -> anyhow::Result<Cost> {
    let unit = 32 * work.depth() as usize;
    if matches!(who, Who::Raw | Who::RawAgain) {
        let mut raw = Raw::new(cached.shared()?, work.depth())?;
        let mut offsets = cached.offsets(0);
        return measure(time, unit, |ops| {
            Ok(Some(match work {
                Work::Nop => raw.nop(ops)?,
                Work::Read | Work::Reads32 => raw.read(ops, &mut offsets)?,
            }))
        });
    }
    if who == Who::HandOver {
        return measure(time, unit, |ops| {
            hand_over(ops);
            Ok(None)
        });
    }
    let driver = Driver::new(who)?;
    let fd = Fd::from(cached.open()?);
    measure(time, unit, |ops| {
        let (ring, fd, offsets) = (driver.ring.clone(), fd.clone(), cached.offsets(0));
        let before = driver.ring.stats().enters;
        match work {
            Work::Nop => driver.run(nops(ring, ops)),
            Work::Read => driver.run(reads(ring, fd, ops, offsets)),
            Work::Reads32 => driver.run(reads_together(ring, fd, ops, offsets)),
        }?;
        Ok(Some(driver.ring.stats().enters - before))
    })
}

/// A ring, and what its ops are awaited on.
struct Driver {
    who: Who,
    ring: Ring,
    runtime: Option<Runtime>,
}

impl Driver {
    fn new(who: Who) -> anyhow::Result<Self> {
        let builder = match who {
            Who::TokioCurrent => Some(Builder::new_current_thread()),
            Who::TokioMulti => Some(Builder::new_multi_thread()),
            Who::Raw | Who::RawAgain | Who::HandOver | Who::BlockOn => None,
            Who::Thread | Who::AsyncIo => None,
        };
        let start = |mut builder: Builder| builder.worker_threads(2).enable_io().build();
        let runtime = builder.map(start).transpose()?;
        let entered = runtime.as_ref().map(Runtime::enter);
        let builder = Ring::builder();
        let ring = match who {
            Who::Raw | Who::RawAgain | Who::HandOver | Who::BlockOn => builder.build()?,
            Who::Thread => builder.start()?,
            Who::TokioCurrent | Who::TokioMulti => builder.start_on_tokio()?,
            Who::AsyncIo => builder.start_on_async_io()?,
        };
        drop(entered);
        Ok(Self { who, ring, runtime })
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
    ) -> anyhow::Result<T> {
        match (self.who, &self.runtime) {
            (Who::Thread, _) => futures_executor::block_on(work),
            (Who::AsyncIo, _) => async_io::block_on(work),
            (Who::TokioCurrent, Some(runtime)) => runtime.block_on(work),
            // On a worker, as a task; `block_on` would await it on a third thread.
            (Who::TokioMulti, Some(runtime)) => runtime.block_on(runtime.spawn(work))?,
            _ => block_on(&self.ring, work),
        }
    }
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

async fn nops(ring: Ring, ops: usize) -> anyhow::Result<()> {
    for _ in 0..ops {
        ring.nop().await?;
    }
    Ok(())
}

async fn reads(ring: Ring, fd: Fd, ops: usize, mut offsets: Offsets) -> anyhow::Result<()> {
    let mut buf = vec![0; BLOCK];
    for _ in 0..ops {
        let n;
        (n, buf) = ring.read(&fd, buf, offsets.draw()).await.into_inner()?;
        assert_eq!(n, BLOCK);
    }
    Ok(())
}

/// 32 such readers in one task.
async fn reads_together(
    ring: Ring,
    fd: Fd,
    ops: usize,
    mut offsets: Offsets,
) -> anyhow::Result<()> {
    let readers = Work::Reads32.depth() as usize;
    let reader = |_| {
        let seed = offsets.draw();
        let own = offsets.reseeded(seed);
        reads(ring.clone(), fd.clone(), ops / readers, own)
    };
    let mut readers: FuturesUnordered<_> = (0..readers).map(reader).collect();
    while let Some(done) = readers.next().await {
        done?;
    }
    Ok(())
}
