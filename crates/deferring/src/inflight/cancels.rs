//! Cancels: of one op, of many, and what became of them.
//!
//! Not: how they are sent (`going.rs`) and answered (`coming.rs`).
#![allow(unsafe_code)] // The table vouches for what is in a cell.

use std::task::Waker;

use super::slot::{Cancel, Event, State, was_cut_short};
use super::{After, CancelOutcome, Cancelled, Inflight, Token, Which};

impl Inflight {
    /// Asks for a cancel of an op whose handle is held.
    pub(crate) fn cancel(&mut self, token: Token, after: &mut After) {
        if self.table.get(token).is_some() {
            self.advance(token.index(), Event::Cancel, after);
        }
    }

    /// What became of a cancel, `None` if it is not known yet; then `waker` is kept.
    pub(crate) fn cancel_outcome(
        &mut self,
        token: Token,
        waker: &mut Option<Waker>,
    ) -> Option<CancelOutcome> {
        // Another thread may have taken the result through the same handle.
        let Some(row) = self.table.get(token) else { return Some(CancelOutcome::Finished) };
        match (row.state, row.cancel) {
            (State::Done, Cancel::Asked | Cancel::Running) if was_cut_short(row.result) => {
                Some(CancelOutcome::Cancelled)
            }
            (State::Done, _) => Some(CancelOutcome::Finished),
            (State::Lost | State::Leaked, _) | (State::Submitted, Cancel::Running) => {
                Some(CancelOutcome::Running)
            }
            (State::Submitted, Cancel::Asked) => {
                let list = &mut row.watchers.get_or_insert_default().wakers;
                let known = |waker: &Waker| list.iter().any(|kept| kept.will_wake(waker));
                if let Some(new) = waker.take_if(|waker| !known(waker)) {
                    list.push(new);
                }
                None
            }
            (state, cancel) => unreachable!("a handle's cancel is {cancel:?} of {state:?}"),
        }
    }

    // Of many.

    pub(crate) fn new_group(&mut self) -> u32 {
        self.groups = self.groups.checked_add(1).expect("2^32 groups");
        self.groups
    }

    /// Puts an op into a group, unless it has ended.
    pub(crate) fn join(&mut self, token: Token, group: u32) {
        if let Some(row) = self.table.get(token) {
            row.group = group;
        }
    }

    pub(crate) fn begin_tally(&mut self) -> u64 {
        self.tallies.begin()
    }

    pub(crate) fn tallied(&mut self, tally: u64, waker: &mut Option<Waker>) -> Option<Cancelled> {
        self.tallies.outcome(tally, waker)
    }

    pub(crate) fn end_tally(&mut self, tally: u64) -> Option<Waker> {
        self.tallies.end(tally)
    }

    /// Asks for a cancel of those among some rows, the first of which is `first`. Returns where to
    /// go on, if anywhere: the lock is not to be held for all of them.
    pub(crate) fn cancel_some(
        &mut self,
        which: Which<'_>,
        first: u32,
        tally: u64,
        after: &mut After,
    ) -> Option<u32> {
        const AT_ONCE: u32 = 1024;
        let end = self.table.indices().end;
        let last = first.saturating_add(AT_ONCE).min(end);
        for index in first..last {
            if self.is_among(which, index) {
                self.cancel_among(index, tally, after);
            }
        }
        (last < end).then_some(last)
    }

    fn is_among(&mut self, which: Which<'_>, index: u32) -> bool {
        let row = self.table.at(index);
        if !row.state.is_out() {
            return false;
        }
        match which {
            Which::All => true,
            Which::Group(group) => row.group == group,
            Which::Using(fd) => {
                let vtable = row.vtable.expect("an op that is out has a vtable");
                // SAFETY: the cell of a row that is out holds its op, of this vtable's type.
                unsafe { (vtable.uses)(self.cells.at_if_any(index), fd) }
            }
        }
    }

    fn cancel_among(&mut self, index: u32, tally: u64, after: &mut After) {
        let row = self.table.at(index);
        if matches!(row.state, State::Waiting | State::Drifting) {
            self.tallies.count(tally, CancelOutcome::Cancelled);
        } else {
            // What could not be stopped before is asked once more.
            if row.cancel == Cancel::Running {
                row.cancel = Cancel::None;
            }
            row.watchers.get_or_insert_default().tallies.push(tally);
            self.tallies.open(tally);
        }
        self.advance(index, Event::Cancel, after);
    }

    /// Asks for a cancel of everything that is out (teardown).
    pub(crate) fn cancel_all(&mut self, after: &mut After) {
        for index in self.table.indices() {
            let row = self.table.at(index);
            if row.state.is_out() {
                if row.cancel == Cancel::Running {
                    row.cancel = Cancel::None;
                }
                self.advance(index, Event::Cancel, after);
            }
        }
    }
}
