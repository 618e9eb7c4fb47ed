//! A contest: who takes part, one timed run of each, round after round, raw between them.
//!
//! Each run is on a thread of its own and on a ring or runtime of its own, since what one leaves
//! behind would help the next. The baseline is run before and after every few contestants, and each
//! is compared with the mean of the two that it stands between. Not: what is said of it
//! (`stats.rs`, `report/`).

use std::process;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::alloc;
use crate::cost::{Cost, Ran, measure};

/// Whose a contestant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The baseline itself, which shows what the same differs by: noise.
    Again,
    Ours,
    Tokio,
    Peer,
    /// What is no ring at all: plain system calls, threads that wake each other.
    Other,
}

/// What does ops, so many at a time; made on the thread that runs it.
pub(crate) struct Runner<'a> {
    pub(crate) prepare: Box<dyn FnMut(usize) -> anyhow::Result<()> + 'a>,
    pub(crate) run: Box<dyn FnMut(usize) -> anyhow::Result<Ran> + 'a>,
    pub(crate) check: Box<dyn FnMut(usize) -> anyhow::Result<()> + 'a>,
}

impl<'a> Runner<'a> {
    /// With nothing before and nothing after.
    pub(crate) fn new(run: impl FnMut(usize) -> anyhow::Result<Ran> + 'a) -> Self {
        Self { prepare: Box::new(|_| Ok(())), run: Box::new(run), check: Box::new(|_| Ok(())) }
    }
}

type Start<'a> = Box<dyn Fn() -> anyhow::Result<Runner<'a>> + Sync + 'a>;

pub(crate) struct Contestant<'a> {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    start: Start<'a>,
    /// Has so many times less to do than the others, where the number of ops is given.
    less: usize,
}

impl<'a> Contestant<'a> {
    pub(crate) fn new(
        kind: Kind,
        name: impl Into<String>,
        start: impl Fn() -> anyhow::Result<Runner<'a>> + Sync + 'a,
    ) -> Self {
        Self { name: name.into(), kind, start: Box::new(start), less: 1 }
    }

    pub(crate) fn with_less_to_do(mut self, less: usize) -> Self {
        self.less = less;
        self
    }
}

/// How much is done in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    /// As many as the baseline can in this time, in multiples of the unit; who is more than
    /// twice as slow does what it can.
    Time(Duration),
    /// So many, without a run before that warms up.
    Ops(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) amount: Amount,
    /// Ops are a multiple of this.
    pub(crate) unit: usize,
}

/// One contestant of one contest, by their names, and how many ops it does: nothing is timed, as
/// somebody counts what the program does (`instructions.rs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Only {
    pub(crate) contest: String,
    pub(crate) contestant: String,
    pub(crate) ops: usize,
}

/// What one run cost, and what the baseline did beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) cost: Cost,
    pub(crate) raw: Cost,
}

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) pairs: Vec<Pair>,
    /// For each op, beyond those for each run.
    pub(crate) allocs: Option<f64>,
    /// The user's for each op, where they were counted.
    pub(crate) instructions: Option<f64>,
}

/// A contest that has been held.
pub(crate) struct Measured {
    /// For goals and plots: `w2-32`.
    pub(crate) id: &'static str,
    pub(crate) title: String,
    /// Of what there is a cost: "read".
    pub(crate) op: &'static str,
    /// What [`Cost::special`] is, if there is one.
    pub(crate) special: Option<&'static str>,
    pub(crate) rows: Vec<Row>,
    /// The baseline's, as [`Row::instructions`].
    pub(crate) raw_instructions: Option<f64>,
    /// Who does not take part, and why.
    pub(crate) absent: Vec<(String, String)>,
    pub(crate) ops: usize,
    pub(crate) rounds: usize,
}

pub(crate) struct Contest<'a> {
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) op: &'static str,
    pub(crate) special: Option<&'static str>,
    pub(crate) raw: Contestant<'a>,
    pub(crate) others: Vec<Contestant<'a>>,
    pub(crate) absent: Vec<(String, String)>,
}

/// After so many contestants the baseline runs again.
const BETWEEN_RAWS: usize = 4;

impl Contest<'_> {
    /// `before` is called before each round: for residency.
    pub(crate) fn hold(
        self,
        plan: Plan,
        mut before: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Measured> {
        let Self { id, title, op, special, raw: baseline, others, mut absent } = self;
        before()?;
        let (raw_ops, mut raw_allocs) = baseline.calibrate(plan, None)?;
        let mut field = Vec::new();
        for one in others {
            let Some((ops, allocs)) = one.or_absent(one.calibrate(plan, Some(raw_ops)))? else {
                absent.push(one.failed());
                continue;
            };
            let allocs = if one.kind == Kind::Again { raw_allocs.take() } else { allocs };
            let (name, kind) = (one.name.clone(), one.kind);
            let row = Row { name, kind, pairs: Vec::new(), allocs, instructions: None };
            field.push(Taking { one, ops, row, fails: false });
        }
        for round in 0..plan.rounds {
            before()?;
            // Who goes first changes, since going first may matter.
            let order = (0..field.len()).map(|turn| (round + turn) % field.len());
            let order: Vec<usize> = order.collect();
            let mut raw = baseline.measure(plan, raw_ops)?;
            for chunk in order.chunks(BETWEEN_RAWS) {
                let mut costs = Vec::new();
                for &at in chunk {
                    let Taking { one, ops, fails, .. } = &mut field[at];
                    if !*fails {
                        match one.or_absent(one.measure(plan, *ops))? {
                            Some(cost) => costs.push((at, cost)),
                            None => *fails = true,
                        }
                    }
                }
                let after = baseline.measure(plan, raw_ops)?;
                let between = mean(raw, after);
                for (at, cost) in costs {
                    field[at].row.pairs.push(Pair { cost, raw: between });
                }
                raw = after;
            }
        }
        let (failed, taking): (Vec<_>, Vec<_>) = field.into_iter().partition(|taking| taking.fails);
        absent.extend(failed.iter().map(|taking| taking.one.failed()));
        let rows = taking.into_iter().map(|taking| taking.row).collect();
        let (ops, rounds, raw_instructions) = (raw_ops, plan.rounds, None);
        Ok(Measured { id, title, op, special, rows, raw_instructions, absent, ops, rounds })
    }

    /// Has one do its ops, if it takes part here, and ends the program: nothing is measured here. First
    /// it does as many as it takes to be as it will stay: our ring learns whose it is, for which it needs
    /// a moment. What
    /// comes after is not to be counted. (The end of a ring asks for the time, at which rustix 1.1
    /// crashes under valgrind 3.19.)
    pub(crate) fn run_only(self, only: &Only) -> anyhow::Result<()> {
        let mut all = self.others.into_iter().chain([self.raw]);
        match all.find(|one| self.id == only.contest && one.name == only.contestant) {
            Some(one) => one.apart(|runner| {
                runner.all(WARM_UP)?;
                thread::sleep(LEARNS_IN);
                runner.all(WARM_UP)?;
                runner.all(only.ops)?;
                process::exit(0)
            }),
            None => Ok(()),
        }
    }
}

/// A multiple of all depths.
const WARM_UP: usize = 4096;

/// Under valgrind, too.
const LEARNS_IN: Duration = Duration::from_millis(200);

/// Who takes part, and what came of it.
struct Taking<'a> {
    one: Contestant<'a>,
    ops: usize,
    row: Row,
    /// It took part no longer.
    fails: bool,
}

fn mean(one: Cost, other: Cost) -> Cost {
    let both = |one: Option<f64>, other| Some(f64::midpoint(one?, other?));
    Cost {
        wall_ns: f64::midpoint(one.wall_ns, other.wall_ns),
        cpu_ns: f64::midpoint(one.cpu_ns, other.cpu_ns),
        enters: both(one.enters, other.enters),
        special: both(one.special, other.special),
    }
}

impl Contestant<'_> {
    /// A peer that fails takes part no longer, and is said to. All else has to work.
    fn or_absent<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
        match result {
            Err(error) if self.kind == Kind::Peer => {
                eprintln!("deferring-bench: {error:#}");
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    fn failed(&self) -> (String, String) {
        (self.name.clone(), "it failed; what it said is in the output of the run".into())
    }

    /// How many ops it gets, and how often it allocates for each. `raw` is what the baseline gets.
    fn calibrate(&self, plan: Plan, raw: Option<usize>) -> anyhow::Result<(usize, Option<f64>)> {
        let time = match plan.amount {
            Amount::Ops(ops) => return Ok((ops / self.less, None)),
            Amount::Time(time) => time,
        };
        self.apart(|runner| {
            let (mut ops, enough) = (plan.unit, time / 8);
            let took = loop {
                let start = Instant::now();
                runner.all(ops)?;
                let took = start.elapsed();
                if took >= enough {
                    break took;
                }
                ops *= 2;
            };
            let (ran, fewer) = alloc::counted(|| runner.all(ops));
            ran?;
            let (ran, more) = alloc::counted(|| runner.all(2 * ops));
            ran?;
            let allocs = more.saturating_sub(fewer) as f64 / ops as f64;
            let units = time.as_secs_f64() / took.as_secs_f64() * ops as f64 / plan.unit as f64;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A small number.
            let own = (units as usize).clamp(1, 1 << 30) * plan.unit;
            Ok((share(own, raw), Some(allocs)))
        })
    }

    fn measure(&self, plan: Plan, ops: usize) -> anyhow::Result<Cost> {
        self.apart(|runner| {
            if let Amount::Time(_) = plan.amount {
                runner.all((ops / plan.unit / 16).max(1) * plan.unit)?;
            }
            (runner.prepare)(ops)?;
            let cost = measure(ops, |ops| (runner.run)(ops))?;
            (runner.check)(ops)?;
            Ok(cost)
        })
    }

    fn apart<T: Send>(
        &self,
        run: impl FnOnce(&mut Runner<'_>) -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        apart(&self.name, || run(&mut (self.start)()?))
    }
}

/// On a thread of its own, which no runtime has left anything in. What does not end ends the
/// program, since a thread cannot be stopped.
pub(crate) fn apart<T: Send>(
    name: &str,
    run: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let (ended, watched) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if watched.recv_timeout(ENDS_WITHIN) == Err(RecvTimeoutError::Timeout) {
                eprintln!(
                    "deferring-bench: {name} has not ended after {} s; files of mine \
                     (deferring-bench-*) stay",
                    ENDS_WITHIN.as_secs()
                );
                process::exit(1);
            }
        });
        let ran = scope.spawn(run).join();
        drop(ended);
        ran.map_err(|_| anyhow!("it panicked; what it said is above"))?
    })
    .with_context(|| name.to_owned())
}

/// Nothing takes a tenth of it.
const ENDS_WITHIN: Duration = Duration::from_secs(300);

impl Runner<'_> {
    fn all(&mut self, ops: usize) -> anyhow::Result<()> {
        (self.prepare)(ops)?;
        (self.run)(ops)?;
        (self.check)(ops)
    }
}

/// Equal counts, unless that would take too long.
fn share(own: usize, raw: Option<usize>) -> usize {
    match raw {
        Some(raw) if own >= raw / 2 => raw,
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_stands_between_two_runs_of_the_baseline_in_every_round() {
        let (raws, ones) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (raws_of, ones_of) = (&raws, &ones);
        let count = |count: &'static str, at| {
            Contestant::new(Kind::Other, count, move || {
                Ok(Runner::new(move |ops| {
                    let counted: &AtomicUsize = at;
                    counted.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(ops, if count == "slow" { 2 } else { 6 });
                    Ok(Ran::entered(ops as u64))
                }))
            })
        };
        let contest = Contest {
            id: "test",
            title: "a test".into(),
            op: "op",
            special: None,
            raw: count("raw", raws_of),
            others: vec![
                count("one", ones_of),
                count("slow", ones_of).with_less_to_do(3),
                count("three", ones_of),
                count("four", ones_of),
                count("five", ones_of),
            ],
            absent: Vec::new(),
        };
        let plan = Plan { rounds: 3, amount: Amount::Ops(6), unit: 1 };
        let mut rounds = 0;
        let measured = contest
            .hold(plan, || {
                rounds += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!((rounds, raws.into_inner(), ones.into_inner()), (4, 9, 15));
        assert!(measured.rows.iter().all(|row| row.pairs.len() == 3));
        assert_eq!(measured.rows[0].pairs[0].cost.enters, Some(1.0));
    }

    #[test]
    fn a_peer_that_fails_is_absent_and_anybody_else_is_an_error() {
        let hold = |kind| {
            let works = |_| Ok(Ran::default());
            let raw = Contestant::new(Kind::Other, "raw", move || Ok(Runner::new(works)));
            let fails = Contestant::new(kind, "fails", || {
                Ok(Runner::new(|_| anyhow::bail!("it does not work")))
            });
            let again = Contestant::new(Kind::Again, "again", move || Ok(Runner::new(works)));
            let (others, absent) = (vec![again, fails], Vec::new());
            let title = "a test".into();
            let contest =
                Contest { id: "test", title, op: "op", special: None, raw, others, absent };
            contest.hold(Plan { rounds: 2, amount: Amount::Ops(1), unit: 1 }, || Ok(()))
        };
        let measured = hold(Kind::Peer).unwrap();
        assert_eq!((measured.rows.len(), measured.absent[0].0.as_str()), (1, "fails"));
        let error = hold(Kind::Ours).err().unwrap();
        assert_eq!(format!("{error:#}"), "fails: it does not work");
    }

    #[test]
    fn counts_are_equal_unless_one_is_much_slower() {
        assert_eq!(share(90, None), 90);
        assert_eq!(
            (share(1000, Some(100)), share(50, Some(100)), share(49, Some(100))),
            (100, 100, 49)
        );
    }
}
