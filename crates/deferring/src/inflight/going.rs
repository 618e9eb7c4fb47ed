//! Ops that go to the kernel: whose turn it is, and what is written.
//!
//! Not: the order (`admission.rs`, `turnstile.rs`), nor how they come back (`coming.rs`).
#![allow(unsafe_code)] // The table vouches for what is in a cell.

use super::admission::{Lane, kind_of};
use super::slot::{Event, State, Then, step};
use super::table::{List, Marks};
use super::{Inflight, Token};
use crate::op::{AsyncCancel, Opcode, Place, Sqe};
use crate::planted::{self, Bug};

impl Inflight {
    /// Writes the next SQE: cancels first (P4), then ops, lane by lane. False if nothing may go
    /// now. `fresh` is how many of the new may be looked at; not all of them are at once, if many
    /// have to wait.
    pub(crate) fn admit(&mut self, sqe: &mut Sqe, fresh: &mut usize) -> bool {
        const LOOKS_MAX: usize = 256;
        if self.admit_cancel(sqe) {
            return true;
        }
        let mut looks = 0..LOOKS_MAX;
        while let Some(lane) = self.admission.next(*fresh > 0) {
            if looks.next().is_none() {
                return false;
            }
            let queue = self.admission.lane(lane);
            let index = queue.pop_front(&mut self.table).expect("a lane that can be served");
            self.table.at(index).list = List::None;
            if lane == Lane::Fresh {
                *fresh -= 1;
                self.asked = self.asked.saturating_sub(1);
                if !self.may_go(index) {
                    continue;
                }
            }
            self.go(index, sqe);
            self.admission.charge(Place::cost(sqe));
            return true;
        }
        false
    }

    /// Writes the next SQE if it is a cancel.
    pub(crate) fn admit_cancel(&mut self, sqe: &mut Sqe) -> bool {
        while let Some(token) = self.cancel_lane.pop_front() {
            // The op may have finished, and its row may be another's, while its cancel waited.
            let Some(row) = self.table.get(token) else { continue };
            let is_gone = !matches!(row.state, State::Submitted | State::Orphaned);
            if is_gone || planted::has(Bug::LostCancel) && token.index() % 8 == 7 {
                continue;
            }
            self.linked = false;
            *sqe = Sqe { opcode: AsyncCancel::CODE, ..Sqe::EMPTY };
            AsyncCancel::of(token).encode(sqe);
            sqe.user_data = token.cancel().user_data();
            self.cancels_submitted += 1;
            self.counters.cancels_sent.add(1);
            return true;
        }
        self.own_cancels = false;
        false
    }

    /// Whether a new op may go. If not, it is put where it waits for that.
    fn may_go(&mut self, index: u32) -> bool {
        let row = self.table.at(index);
        if let Some(kind) = kind_of(row.class) {
            let may = row.marks.has(Marks::MAY_BLOCK) || self.admission.may_go(kind);
            if !may {
                row.key = self.admission.now();
                self.line_up(index, Lane::Kind(kind));
            }
            return may;
        }
        if row.marks.has(Marks::TURNSTILE) {
            let key = row.key;
            let may = self.turnstiles.pass(&mut self.table, key, index);
            let row = self.table.at(index);
            row.marks.set(Marks::PASSES, may);
            row.list = if may { List::None } else { List::Behind };
            return may;
        }
        true
    }

    /// The op goes to the kernel.
    fn go(&mut self, index: u32, sqe: &mut Sqe) {
        const LINKS: u8 = 1 << 2 | 1 << 3;
        const ASYNC: u8 = 1 << 4;
        let token = self.table.token(index);
        let row = self.table.at(index);
        let vtable = row.vtable.expect("a waiting row has an op");
        *sqe = Sqe { opcode: vtable.opcode, ..Sqe::EMPTY };
        // SAFETY: a waiting row's cell holds its op, of this vtable's type.
        unsafe { (vtable.encode)(self.cells.at(index), sqe) };
        sqe.user_data = token.user_data();
        if row.marks.has(Marks::IN_WORKER) {
            sqe.flags |= ASYNC;
        }
        // Ops that the user linked end each other, and are not sent again one by one.
        let linked = sqe.flags & LINKS != 0;
        if std::mem::replace(&mut self.linked, linked) || linked {
            row.marks.set(Marks::REMOVED, true);
        }
        self.cancels_by_others |= vtable.opcode == AsyncCancel::CODE;
        let (class, marks) = (row.class, row.marks);
        if let Some(target) = removed(sqe) {
            self.expect_end(target);
        }
        let row = self.table.at(index);
        let (state, then) = step(row.state, Event::Admit);
        assert_eq!(then, Then::Nothing);
        row.state = state;
        self.in_kernel[class.index()] += 1;
        if marks.has(Marks::DISK) {
            self.admission.disk_went();
        }
        if let Some(kind) = kind_of(class) {
            row.key = self.admission.now();
            if marks.has(Marks::MAY_BLOCK) {
                row.list = List::Stuck;
                self.admission.stuck(kind).push_back(&mut self.table, index);
            } else {
                row.list = List::Holders;
                self.admission.holders(kind).push_back(&mut self.table, index);
            }
        }
    }

    /// The op is no longer in the kernel: its worker, its turn and its credit are free.
    pub(super) fn came_back(&mut self, index: u32) {
        let row = self.table.at(index);
        let (class, marks) = (row.class, row.marks);
        let list = std::mem::replace(&mut row.list, List::None);
        self.in_kernel[class.index()] -= 1;
        if marks.has(Marks::DISK) {
            self.admission.disk_ended();
        }
        if let Some(kind) = kind_of(class) {
            match list {
                List::Holders => self.admission.holders(kind).remove(&mut self.table, index),
                List::Stuck => self.admission.stuck(kind).remove(&mut self.table, index),
                List::None | List::Lane(_) | List::Paused | List::Behind => {
                    unreachable!("a worker op in the kernel is on {list:?}")
                }
            }
            self.admission.ended(kind);
        }
    }

    /// Whoever had a turn at a turnstile has ended: the next one may go.
    pub(super) fn pass_on(&mut self, index: u32) {
        let row = self.table.at(index);
        if !row.marks.has(Marks::PASSES) {
            return;
        }
        row.marks.set(Marks::PASSES, false);
        let key = row.key;
        if let Some(next) = self.turnstiles.give_up(&mut self.table, key) {
            self.table.at(next).marks.set(Marks::PASSES, true);
            self.line_up(next, Lane::Ready);
        }
    }

    /// Another op is about to end this one: that it ends is no accident.
    pub(super) fn expect_end(&mut self, token: Token) {
        if let Some(row) = self.table.get(token) {
            row.marks.set(Marks::REMOVED, true);
        }
    }
}

/// The op that an SQE is to end, if it is a removal.
fn removed(sqe: &Sqe) -> Option<Token> {
    const TIMEOUT_UPDATES: u32 = 1 << 1 | 1 << 4;
    let removes = match sqe.opcode {
        Opcode::POLL_REMOVE => sqe.len == 0,
        Opcode::TIMEOUT_REMOVE => sqe.op_flags & TIMEOUT_UPDATES == 0,
        _ => false,
    };
    removes.then(|| Token::from_user_data(sqe.addr))
}
