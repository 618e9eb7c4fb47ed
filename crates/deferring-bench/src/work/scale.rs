//! Question: does an op cost the same however many are in flight (1 to 1,000,000), on however many
//! descriptors (to the limit), by however many tasks (1 to 64), on however many rings (1 to as many
//! as there are processors), and how much memory does one take? Baseline: a loop with the crate
//! `io-uring` that does the same.
//!
//! In flight means that the kernel has them: polls of event counters that say nothing, until they
//! do. Each is then looked at. Figures are medians of three.
#![allow(unsafe_code)] // SQEs carry addresses, not borrows.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use deferring::{Fd, PollFlags, Ring};
use io_uring::{IoUring, opcode, types};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::w9::{Course, Flavour, READS_MIN, Way};
use super::{Files, w2};
use crate::contest::apart;
use crate::cost::{Cost, Ran, measure};
use crate::file::Cached;
use crate::options::Options;
use crate::ours::{Driven, Driver};
use crate::stats::median;

/// One line of a plot, and one column of a table.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(usize, f64)>,
}

/// Figures over a growing number.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    pub(crate) lines: Vec<Line>,
    /// Columns of the table that are not plotted.
    pub(crate) beside: Vec<Line>,
    pub(crate) limit: String,
}

pub(crate) fn run(options: &Options, files: &Files<'_>) -> anyhow::Result<Vec<Curve>> {
    let cached = files.cached()?;
    cached.settle()?;
    // The few first, so that the memory which they take is new, too.
    let descriptors = descriptors(options)?;
    Ok(vec![in_flight(options)?, descriptors, tasks(options, cached)?, rings(options, cached)?])
}

const TIMES: usize = 3;

/// Of fewer, how memory grows is what the allocator does.
const MANY: usize = 10_000;

/// As many waiters as one event counter has: fewer than the completion queue has entries.
const WAITERS: usize = 256;

fn in_flight(options: &Options) -> anyhow::Result<Curve> {
    let most = options.quick_or(100_000, 1_000_000);
    let counts = powers(most, 10).chain([256]);
    let mut counts: Vec<usize> = counts.collect();
    counts.sort_unstable();
    let mut curve = polls("in-flight", "ops in flight at once", "ops in flight", &counts, WAITERS)?;
    curve.limit = format!("memory: {}", curve.limit);
    Ok(curve)
}

fn descriptors(options: &Options) -> anyhow::Result<Curve> {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, raised).context("raising the limit on descriptors")?;
    let limit = usize::try_from(limit.maximum.unwrap_or(1 << 20))?.min(1 << 20);
    // Some are open already.
    let most = limit.saturating_sub(200).min(options.quick_or(5_000, usize::MAX));
    let mut counts: Vec<usize> = powers(most, 10).collect();
    if counts.last() != Some(&most) {
        counts.push(most);
    }
    let mut curve = polls("descriptors", "descriptors, one op on each", "descriptors", &counts, 1)?;
    curve.limit =
        format!("how many may be open (RLIMIT_NOFILE), {limit} here; then memory: {}", curve.limit);
    Ok(curve)
}

fn powers(most: usize, base: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), move |n| Some(n * base)).take_while(move |n| *n <= most)
}

fn polls(
    id: &'static str,
    title: &'static str,
    x: &'static str,
    counts: &[usize],
    waiters: usize,
) -> anyhow::Result<Curve> {
    let line = |name| Line { name, points: Vec::new() };
    let (mut ours, mut raw) = (line("ours, CPU ns/op"), line("raw, CPU ns/op"));
    let mut memory = String::new();
    // The most first: what it takes of memory is then new, and not what others left.
    for &count in counts.iter().rev() {
        let (mut our_ns, mut raw_ns) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            // A thread each, so that what one leaves behind does not help the next.
            let polled = apart(title, || OurPolls::new()?.all(count, waiters))?;
            our_ns.push(polled.cpu_ns);
            if memory.is_empty() && count >= MANY {
                let Polled { bytes, kernel_bytes, .. } = polled;
                let each = if waiters == 1 { "op and its descriptor" } else { "op" };
                memory = format!(
                    "with {count} of them, {bytes:.0} bytes of ours for each {each}, and \
                     {kernel_bytes:.0} of the kernel's (slabs)"
                );
            }
            raw_ns.push(apart(title, || RawPolls::new()?.all(count, waiters))?.cpu_ns);
        }
        ours.points.insert(0, (count, median(our_ns)));
        raw.points.insert(0, (count, median(raw_ns)));
    }
    let (y, lines) = ("CPU ns per op", vec![ours, raw]);
    Ok(Curve { id, title, x, y, lines, beside: Vec::new(), limit: memory })
}

struct Polled {
    cpu_ns: f64,
    /// Of the process, for each op, while all are in flight, if they are many.
    bytes: f64,
    /// Of the kernel's slabs, which all of the machine has a part in.
    kernel_bytes: f64,
}

/// Who has so many polls in flight.
trait Polls {
    /// Queues and sends a poll of each of these, so many times.
    fn send(&mut self, counters: &[Counter], count: usize, waiters: usize) -> anyhow::Result<()>;

    /// Waits for so many to end, and looks at each.
    fn take(&mut self, count: usize) -> anyhow::Result<()>;

    fn all(&mut self, count: usize, waiters: usize) -> anyhow::Result<Polled> {
        let (resident_before, slab_before) = (resident()?, slab()?);
        let counters = count.div_ceil(waiters);
        let counters: Vec<_> = (0..counters).map(|_| Counter::new()).collect::<Result<_, _>>()?;
        // Once to grow, which shows how much; then what it costs when that is done.
        let grown = |now: u64, before: u64| (now as f64 - before as f64) / count as f64;
        let (mut bytes, mut kernel_bytes) = (0.0, 0.0);
        self.once(&counters, count, waiters, || {
            bytes = grown(resident()?, resident_before);
            kernel_bytes = grown(slab()?, slab_before);
            Ok(())
        })?;
        // Small numbers several times, so that there is something to measure.
        let times = (20_000 / count).clamp(1, 2_000);
        let cost = measure(count * times, |_| {
            for _ in 0..times {
                self.once(&counters, count, waiters, || Ok(()))?;
            }
            Ok(Ran::default())
        })?;
        Ok(Polled { cpu_ns: cost.cpu_ns, bytes, kernel_bytes })
    }

    fn once(
        &mut self,
        counters: &[Counter],
        count: usize,
        waiters: usize,
        meanwhile: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.send(counters, count, waiters)?;
        meanwhile()?;
        let mut left = count;
        // As many at once as there is room for.
        for some in counters.chunks(WAITERS / waiters) {
            for counter in some {
                counter.set()?;
            }
            let ends = left.min(some.len() * waiters);
            self.take(ends)?;
            left -= ends;
            for counter in some {
                counter.reset()?;
            }
        }
        Ok(())
    }
}

struct Counter {
    fd: Fd,
    /// Held, so that it can be set without going through the ring.
    lease: deferring::Lease,
}

impl Counter {
    fn new() -> anyhow::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("eventfd")?;
        let fd = Fd::from(fd);
        Ok(Self { lease: fd.lease(), fd })
    }

    fn as_fd(&self) -> anyhow::Result<BorrowedFd<'_>> {
        Ok(self.lease.try_as_fd()?)
    }

    fn set(&self) -> anyhow::Result<()> {
        rustix::io::write(self.as_fd()?, &1_u64.to_ne_bytes()).context("setting a counter")?;
        Ok(())
    }

    fn reset(&self) -> anyhow::Result<()> {
        rustix::io::read(self.as_fd()?, &mut [0; 8]).context("resetting a counter")?;
        Ok(())
    }
}

struct OurPolls {
    ring: Ring,
    handles: std::collections::VecDeque<deferring::Handle<deferring::op::PollAdd>>,
}

impl OurPolls {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { ring: Ring::builder().build()?, handles: Default::default() })
    }
}

impl Polls for OurPolls {
    fn send(&mut self, counters: &[Counter], count: usize, waiters: usize) -> anyhow::Result<()> {
        self.handles.reserve(count);
        for at in 0..count {
            // Those of one counter follow each other, and end together.
            let counter = &counters[at / waiters];
            self.handles.push_back(self.ring.poll(&counter.fd, PollFlags::IN));
        }
        self.ring.submit()?;
        ensure!(self.ring.pending().in_kernel == count, "all are in flight");
        Ok(())
    }

    fn take(&mut self, count: usize) -> anyhow::Result<()> {
        let mut left = count;
        while left > 0 {
            ensure!(self.ring.wait(Some(Duration::from_secs(20)))?, "a poll does not end");
            self.ring.reap()?;
            while let Some(handle) = self.handles.front() {
                let Some(events) = handle.try_take() else { break };
                ensure!(events?.contains(PollFlags::IN), "it is readable");
                self.handles.pop_front();
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

struct RawPolls {
    ring: IoUring,
}

impl RawPolls {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { ring: IoUring::new(256)? })
    }
}

impl Polls for RawPolls {
    fn send(&mut self, counters: &[Counter], count: usize, waiters: usize) -> anyhow::Result<()> {
        for at in 0..count {
            let fd = types::Fd(counters[at / waiters].as_fd()?.as_raw_fd());
            let entry = opcode::PollAdd::new(fd, u32::from(PollFlags::IN.bits())).build();
            if self.ring.submission().is_full() {
                self.ring.submit()?;
            }
            // SAFETY: names no memory; the descriptor stays until the end.
            unsafe { self.ring.submission().push(&entry).expect("there is room") };
        }
        self.ring.submit()?;
        Ok(())
    }

    fn take(&mut self, count: usize) -> anyhow::Result<()> {
        let mut left = count;
        while left > 0 {
            self.ring.submit_and_wait(1)?;
            for cqe in self.ring.completion() {
                ensure!(cqe.result() & i32::from(PollFlags::IN.bits()) != 0);
                left -= 1;
            }
        }
        Ok(())
    }
}

/// What of the process is in memory, in bytes.
fn resident() -> anyhow::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).context("statm has two numbers")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}

fn slab() -> anyhow::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Slab:")).context("Slab")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn tasks(options: &Options, cached: &Cached) -> anyhow::Result<Curve> {
    let line = |name| Line { name, points: Vec::new() };
    let (mut speed, mut cpu) = (line("thousand reads/s"), line("CPU ns/read"));
    for tasks in powers(64, 2) {
        let costs = many(|| {
            apart("tasks", || {
                let course = Course::new(cached, Flavour::MultiThread, Way::OnTokio)?;
                course.run(tasks, READS_MIN)?;
                let reads = options.quick_or(2_000, 100_000) / tasks;
                measure(tasks * reads, |_| {
                    course.run(tasks, reads)?;
                    Ok(Ran::default())
                })
            })
        })?;
        speed.points.push((tasks, median(costs.iter().map(|cost| 1e6 / cost.wall_ns))));
        cpu.points.push((tasks, median(costs.iter().map(|cost| cost.cpu_ns))));
    }
    let lines = vec![speed];
    let (id, title) = ("tasks", "tasks that read, `start_on_tokio`, multi_thread (2)");
    let limit = "the processors: the workers share them with the kernel's copying".into();
    let y = "thousand reads per second";
    Ok(Curve { id, title, x: "tasks", y, lines, beside: vec![cpu], limit })
}

fn many(mut once: impl FnMut() -> anyhow::Result<Cost>) -> anyhow::Result<Vec<Cost>> {
    (0..TIMES).map(|_| once()).collect()
}

const DEPTH: usize = 32;

fn rings(options: &Options, cached: &Cached) -> anyhow::Result<Curve> {
    let cores = thread::available_parallelism()?.get();
    let line = |name| Line { name, points: Vec::new() };
    let (mut ours, mut raw) = (line("ours, thousand reads/s"), line("raw, thousand reads/s"));
    let reads = options.quick_or(4_000_usize, 200_000).next_multiple_of(DEPTH);
    let mut counts: Vec<usize> = powers(cores, 2).collect();
    if counts.last() != Some(&cores) {
        counts.push(cores);
    }
    for count in counts {
        let mut speeds = [vec![], vec![]];
        for _ in 0..TIMES {
            for (speeds, our) in speeds.iter_mut().zip([true, false]) {
                let cost = apart("rings", || {
                    measure(count * reads, |_| {
                        many_rings(count, || one_ring(our, cached, reads))?;
                        Ok(Ran::default())
                    })
                })?;
                speeds.push(1e6 / cost.wall_ns);
            }
        }
        let [of_ours, of_raw] = speeds;
        ours.points.push((count, median(of_ours)));
        raw.points.push((count, median(of_raw)));
    }
    let (id, title) = ("rings", "rings, a thread and `block_on` for each, 32 reads at a time");
    let limit = format!("the processors, {cores} here");
    let (y, lines) = ("thousand reads per second", vec![ours, raw]);
    Ok(Curve { id, title, x: "rings", y, lines, beside: Vec::new(), limit })
}

/// A thread each.
fn many_rings(count: usize, one: impl Fn() -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(&one)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| anyhow::anyhow!("a ring's thread panicked"))?
        })
    })
}

fn one_ring(our: bool, cached: &Cached, reads: usize) -> anyhow::Result<()> {
    if our {
        let driven = Driven::new(Driver::BlockOn, false)?;
        driven.job(&w2::Reads::new(cached, cached.shared()?, DEPTH)?, reads)?;
    } else {
        (w2::raw(cached, cached.shared()?, DEPTH)?.run)(reads)?;
    }
    Ok(())
}
