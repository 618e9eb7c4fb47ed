//! What cancels of many ops have achieved so far.
//!
//! Each op that is to be cancelled carries the number of its tally until it is known what became of
//! it. Not: the cancels (`mod.rs`), the future that awaits them (`cancel_many.rs`).

use std::collections::BTreeMap;
use std::task::Waker;

use super::CancelOutcome;

/// What cancelling many ops achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Cancelled {
    /// Ops that did not happen, or not in full.
    pub cancelled: usize,
    /// Ops that are running and could not be stopped for certain.
    pub running: usize,
    /// Ops that had finished before the cancel reached them.
    pub finished: usize,
}

impl Cancelled {
    fn add(&mut self, outcome: CancelOutcome) {
        *match outcome {
            CancelOutcome::Cancelled => &mut self.cancelled,
            CancelOutcome::Running => &mut self.running,
            CancelOutcome::Finished => &mut self.finished,
        } += 1;
    }
}

#[derive(Default)]
struct Tally {
    so_far: Cancelled,
    /// Ops of which it is not known yet.
    open: usize,
    waker: Option<Waker>,
}

/// All tallies that somebody may still ask for. Bounded by memory.
#[derive(Default)]
pub(crate) struct Tallies {
    tallies: BTreeMap<u64, Tally>,
    next: u64,
}

impl Tallies {
    pub(crate) const fn new() -> Self {
        Self { tallies: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn begin(&mut self) -> u64 {
        self.next += 1;
        self.tallies.insert(self.next, Tally::default());
        self.next
    }

    /// One more op of which it is not known yet.
    pub(crate) fn open(&mut self, tally: u64) {
        if let Some(tally) = self.tallies.get_mut(&tally) {
            tally.open += 1;
        }
    }

    /// It is known of one that was open.
    pub(crate) fn close(&mut self, tally: u64, outcome: CancelOutcome, wakers: &mut Vec<Waker>) {
        if let Some(tally) = self.tallies.get_mut(&tally) {
            tally.open -= 1;
            tally.so_far.add(outcome);
            if tally.open == 0 {
                wakers.extend(tally.waker.take());
            }
        }
    }

    /// It is known at once.
    pub(crate) fn count(&mut self, tally: u64, outcome: CancelOutcome) {
        if let Some(tally) = self.tallies.get_mut(&tally) {
            tally.so_far.add(outcome);
        }
    }

    /// The whole, if it is known. Else the waker is kept, and the one before it left in its place.
    pub(crate) fn outcome(&mut self, tally: u64, waker: &mut Option<Waker>) -> Option<Cancelled> {
        let tally = self.tallies.get_mut(&tally)?;
        if tally.open == 0 {
            return Some(tally.so_far);
        }
        if waker.is_some() {
            std::mem::swap(&mut tally.waker, waker);
        }
        None
    }

    /// Nobody will ask any more. The waker is to be dropped unlocked.
    pub(crate) fn end(&mut self, tally: u64) -> Option<Waker> {
        self.tallies.remove(&tally)?.waker
    }
}
