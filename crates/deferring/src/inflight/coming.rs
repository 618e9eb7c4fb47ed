//! What the kernel's answers mean: ops that end, ops that go again, cancels that are answered.
//!
//! Not: how ops went (`going.rs`), nor which results are the user's (`slot.rs`).
#![allow(unsafe_code)] // The table vouches for what is in a cell.

use super::admission::Lane;
use super::recall::RECALLED;
use super::slot::{
    Cancel, CancelThen, Circumstances, Event, State, TRIES_MAX, Verdict, cancel_answered, step,
    verdict, was_cut_short,
};
use super::table::{List, Marks};
use super::token::Kind;
use super::{After, CANCELED, CancelOutcome, Completed, Inflight, Own, Token};
use crate::op::Cqe;
use crate::planted::{self, Bug};
use crate::trace::Note;

impl Inflight {
    /// Moves the slot on by one CQE. Whoever is to be woken is noted in `after`.
    #[inline]
    pub(crate) fn complete(&mut self, cqe: Cqe, after: &mut After) -> Completed {
        if self.complete_plainly(&cqe, after) {
            return Completed::Op;
        }
        self.complete_anything(cqe, after)
    }

    fn complete_anything(&mut self, cqe: Cqe, after: &mut After) -> Completed {
        let token = Token::from_user_data(cqe.user_data);
        match token.kind() {
            Kind::Op => self.complete_op(token, cqe, after),
            Kind::Cancel => self.complete_cancel(token.op(), cqe.result, after),
            Kind::Own(own) => {
                if own == Own::Canary {
                    self.admission.canary_returned(cqe.result >= 0);
                    if cqe.result >= 0 {
                        (self.saturated, self.workers_before, self.looks) = (false, None, 0);
                    }
                }
                Completed::Own(own)
            }
        }
    }

    fn complete_op(&mut self, token: Token, cqe: Cqe, after: &mut After) -> Completed {
        let Some(row) = self.table.get(token) else {
            debug_assert!(false, "{cqe:?} answers no op of this ring");
            return Completed::Other;
        };
        let is_first = !row.has_result;
        if !(cqe.notification() && row.has_result) {
            row.result = cqe.result;
            row.has_result = true;
        }
        if cqe.more() {
            return Completed::Other;
        }
        let index = token.index();
        if !matches!(row.state, State::Submitted | State::Orphaned) {
            self.advance(index, Event::LastCqe, after);
            return Completed::Op;
        }
        let vtable = row.vtable.expect("an op in the kernel has a vtable");
        let worker = row.is_worker() || row.marks.has(Marks::DISK);
        let now = Circumstances {
            asked: row.cancel != Cancel::None
                || row.marks.has(Marks::REMOVED)
                || self.cancels_by_others && was_cut_short(row.result),
            timed_out: row.marks.has(Marks::TIMED_OUT),
            stolen: row.marks.has(Marks::STOLEN),
            worker,
            again: vtable.again && is_first,
            // Where there are no workers, one try is as good as many.
            tries: match row.result {
                CANCELED if worker && self.saturated && row.tries > 0 => TRIES_MAX,
                _ => row.tries,
            },
        };
        let verdict = verdict(row.result, now);
        self.came_back(index);
        match verdict {
            Verdict::Deliver(result) => {
                self.table.at(index).result = result;
                self.pass_on(index);
                self.advance(index, Event::LastCqe, after);
                Completed::Op
            }
            Verdict::Again | Verdict::Pause => {
                let (opcode, result) = (vtable.opcode, cqe.result);
                let row = self.table.at(index);
                if row.cancel_resends == RECALLED {
                    row.cancel_resends = 0; // It was the ring's own wish, and says nothing.
                } else {
                    row.tries = row.tries.saturating_add(1);
                }
                row.has_result = false;
                row.marks.set(Marks::STOLEN, false);
                after.notes.push(Note::Resubmit { opcode, result, tries: row.tries });
                self.counters.resubmits.add(1);
                self.advance(index, Event::Undone, after);
                if verdict == Verdict::Pause {
                    self.table.at(index).list = List::Paused;
                    self.admission.paused.push_back(&mut self.table, index);
                } else {
                    self.go_again(index);
                }
                Completed::Other
            }
        }
    }

    /// Most often that is all: an op has ended well that holds nothing but its place in the kernel, and
    /// its turn.
    /// False if there is more to it, and nothing is done.
    #[inline(always)] // Of the two that call `complete`, one does so for each op.
    fn complete_plainly(&mut self, cqe: &Cqe, after: &mut After) -> bool {
        let token = Token::from_user_data(cqe.user_data);
        if cqe.is_one_of_several() || cqe.result < 0 || token.kind() != Kind::Op {
            return false;
        }
        let index = token.index();
        let Some(row) = self.table.get(token) else { return false };
        if row.state != State::Submitted || !row.is_plain() {
            return false;
        }
        row.result = cqe.result;
        (row.state, _) = step(State::Submitted, Event::LastCqe);
        self.counters.in_kernel(row.class).sub(1);
        if row.marks.has(Marks::DISK) {
            self.admission.disk_ended();
        }
        self.counters.ended.add(1);
        let passes = row.marks.has(Marks::PASSES);
        let vtable = row.vtable.expect("an op that is done has a vtable");
        if let Some(waker) = row.waker.take() {
            after.wakers.push(waker);
        }
        // SAFETY: the cell holds the op, and the kernel has had its last word.
        unsafe { (vtable.let_go)(self.cells.at(index), &mut after.leases) };
        self.spans.end(index, cqe.result, &mut after.notes);
        if passes {
            self.pass_on(index);
        }
        true
    }

    /// Lines an op up that was in the kernel before.
    pub(super) fn go_again(&mut self, index: u32) {
        let row = self.table.at(index);
        let lane = row.kind().map_or(Lane::Ready, Lane::Kind);
        if lane != Lane::Ready {
            row.key = self.admission.now();
        }
        self.line_up(index, lane);
    }

    fn complete_cancel(&mut self, token: Token, result: i32, after: &mut After) -> Completed {
        // After the ring was given up nobody counts.
        self.cancels_submitted = self.cancels_submitted.saturating_sub(1);
        let Some(row) = self.table.get(token) else {
            self.counters.cancels_late.add(1);
            return Completed::Other;
        };
        if !matches!(row.state, State::Submitted | State::Orphaned) {
            self.counters.cancels_late.add(u64::from(result < 0));
            return Completed::Other;
        }
        match cancel_answered(result, row.cancel_resends) {
            CancelThen::Wait if planted::has(Bug::EarlyFree) => {
                row.result = CANCELED;
                self.came_back(token.index());
                self.advance(token.index(), Event::LastCqe, after);
            }
            CancelThen::Wait => {}
            CancelThen::AskAgain => {
                row.cancel_resends += 1;
                self.cancel_lane.push_back(token);
                return Completed::CancelAgain;
            }
            // The ring's own wish to have it back says nothing to those who asked for no cancel.
            CancelThen::Running if row.cancel == Cancel::None => {}
            CancelThen::Running => {
                row.cancel = Cancel::Running;
                self.tell_watchers(token.index(), CancelOutcome::Running, after);
            }
        }
        Completed::Other
    }

    /// It is known what became of a cancel.
    pub(super) fn tell_watchers(&mut self, index: u32, outcome: CancelOutcome, after: &mut After) {
        if let Some(watchers) = self.table.at(index).watchers.take() {
            after.wakers.extend(watchers.wakers);
            for tally in watchers.tallies {
                self.tallies.close(tally, outcome, &mut after.wakers);
            }
        }
    }
}
