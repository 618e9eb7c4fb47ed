//! What time does to ops: deadlines that come, workers that are found to be stuck.
//!
//! Not: the clock (`turn/alarm.rs`), nor what a tick finds (`admission.rs`).

use std::time::Duration;

use rustix::io::Errno;

use super::admission::{Pace, Tick};
use super::deadlines::Due;
use super::slot::{Cancel, Event, State};
use super::table::{List, Marks, Table};
use super::{After, Inflight, SATURATED, Token};
use crate::trace::Note;

impl Inflight {
    /// Gives an op a deadline. The earliest of several counts.
    pub(crate) fn set_deadline(&mut self, token: Token, at: Duration) {
        self.add_time(at, token, Due::GivesUp);
    }

    pub(super) fn add_time(&mut self, at: Duration, token: Token, due: Due) {
        let Self { deadlines, table, .. } = self;
        deadlines.add(at, token, due, |token| table.is_out(token));
    }

    /// Whether there is any deadline, or sleep.
    pub(crate) const fn has_times(&self) -> bool {
        self.deadlines.has_any()
    }

    /// When the next deadline comes, or the next sleep ends; or so soon after that, if there are
    /// many.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.next()
    }

    /// Gives up the ops whose deadline has come, and ends those that have slept.
    pub(crate) fn expire(&mut self, now: Duration, after: &mut After) {
        const AT_ONCE: usize = 64;
        let mut room = [(Token::new(0, 0), Due::Ends); AT_ONCE];
        loop {
            let taken = self.deadlines.take(now, &mut room);
            if taken == 0 {
                return;
            }
            // All rows are looked at before the first is changed: of a hundred thousand, most are in
            // no cache, and the processor fetches several at once.
            let out = |(at, (token, _)): (usize, &(Token, Due))| {
                u64::from(self.table.is_out(*token)) << at
            };
            let out = room[..taken].iter().enumerate().map(out).fold(0, std::ops::BitOr::bitor);
            for (at, (token, due)) in room[..taken].iter().enumerate() {
                if out & (1 << at) != 0 {
                    self.come(*token, *due, after);
                }
            }
        }
    }

    fn come(&mut self, token: Token, due: Due, after: &mut After) {
        // It may have ended with one before it.
        let Some(row) = self.table.get(token) else { return };
        if due == Due::Ends {
            if row.list == List::Asleep {
                self.ended_unseen += 1;
                self.advance_as(token.index(), Event::Cancel, 0, after);
            }
            return;
        }
        // If somebody has asked for a cancel before, it is that one.
        if row.state.is_out() && row.cancel == Cancel::None {
            row.marks.set(Marks::TIMED_OUT, true);
            let waits = matches!(row.state, State::Waiting | State::Drifting);
            self.ended_unseen += usize::from(waits);
            self.counters.timed_out.add(1);
            self.own_cancels = true;
            self.advance_as(token.index(), Event::Cancel, TIMED_OUT, after);
        }
    }

    /// How many ops have ended without a CQE since this was asked before.
    pub(crate) const fn take_ended_unseen(&mut self) -> usize {
        std::mem::replace(&mut self.ended_unseen, 0)
    }

    /// Whether reads or writes of disks are in the kernel: they may need a worker.
    pub(crate) const fn has_transfers_of_disks(&self) -> bool {
        self.admission.has_transfers_of_disks()
    }

    pub(crate) fn pace(&self) -> Pace {
        self.admission.pace()
    }

    #[cfg(test)]
    pub(crate) fn needs_ticks(&self) -> bool {
        self.pace() != Pace::Never
    }

    pub(crate) const fn begin_ticks(&mut self) {
        self.admission.begin_ticks();
    }

    /// A tick has come: who holds a credit for too long is stuck, who paused goes again.
    pub(crate) fn tick(&mut self, after: &mut After) {
        while let Some(index) = self.admission.paused.pop_front(&mut self.table) {
            self.go_again(index);
        }
        let mark = |table: &mut Table, index| table.at(index).list = List::Stuck;
        match self.admission.tick(&mut self.table, went, mark) {
            Tick::Went { stuck: 0 } => {}
            Tick::Went { stuck } => {
                self.counters.stuck.add(stuck as u64);
                after.notes.push(Note::Stuck { ops: stuck });
            }
            Tick::Suspicious => {
                self.admission.looked_at();
                self.suspicious = true;
            }
        }
    }

    /// Whether somebody should count the kernel's workers, and tell by [`judge`](Self::judge).
    pub(crate) const fn take_suspicion(&mut self) -> bool {
        std::mem::replace(&mut self.suspicious, false)
    }

    /// The workers were counted. If there are no more of them than the last time, and none runs or
    /// is about to, the system gives no more; or if that goes on for very long. `None` if they
    /// cannot be counted.
    pub(crate) fn judge(&mut self, workers: Option<Workers>, after: &mut After) {
        const LOOKS_MAX: u32 = 30;
        let now = workers.map(|workers| workers.all);
        let before = std::mem::replace(&mut self.workers_before, now);
        self.looks += 1;
        let grows = before.is_none_or(|before| now.is_some_and(|now| now > before));
        let runs = workers.is_none_or(|workers| workers.running > 0);
        self.saturated = self.looks > LOOKS_MAX || !grows && !runs;
        if self.saturated {
            self.refuse_and_steal(after);
        }
    }

    /// The system gives no more workers: what has waited for one says so, and what may wait inside
    /// the kernel is stolen back.
    fn refuse_and_steal(&mut self, after: &mut After) {
        let mut failed = 0;
        while let Some(index) = self.admission.overdue(&mut self.table, went) {
            self.advance_as(index, Event::Cancel, SATURATED, after);
            failed += 1;
        }
        self.ended_unseen += failed;
        let (mut stolen, lane) = (0, &mut self.cancel_lane);
        let mut unproven = Vec::new();
        self.admission.unproven(&mut self.table, went, |index| unproven.push(index));
        unproven.extend(self.table.indices().filter(|&index| {
            let row = self.table.at(index);
            row.marks.has(Marks::DISK) && matches!(row.state, State::Submitted | State::Orphaned)
        }));
        for index in unproven {
            let token = self.table.token(index);
            let row = self.table.at(index);
            let again = row.vtable.is_some_and(|vtable| vtable.again);
            if again && row.cancel == Cancel::None && !row.marks.has(Marks::STOLEN) {
                row.marks.set(Marks::STOLEN, true);
                row.cancel_resends = 0;
                lane.push_back(token);
                stolen += 1;
            }
        }
        self.own_cancels |= stolen > 0;
        if failed + stolen > 0 {
            self.counters.saturated.add(1);
            after.notes.push(Note::Saturated { failed, stolen });
        }
    }

    pub(crate) fn wants_canary(&self) -> bool {
        self.admission.wants_canary()
    }

    /// How many canaries are in the kernel.
    pub(crate) fn canaries(&self) -> usize {
        self.admission.canaries()
    }

    pub(crate) fn canary_went(&mut self) {
        self.admission.canary_went();
    }

    /// How many workers the kernel must be able to make.
    pub(crate) fn workers_wanted(&self) -> u32 {
        self.admission.workers_wanted()
    }

    /// The number of workers cannot be changed.
    pub(crate) fn fix_workers(&mut self, workers: u32) {
        self.admission.fix(workers);
    }
}

/// The threads that a kernel makes for ops that block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Workers {
    /// How many there are.
    pub all: usize,
    /// Those that run, or wait for a processor.
    pub running: usize,
}

pub(super) const TIMED_OUT: i32 = -Errno::TIMEDOUT.raw_os_error();

/// When a worker op went to the kernel, or began to wait for that.
fn went(table: &mut Table, index: u32) -> u32 {
    table.at(index).key
}
