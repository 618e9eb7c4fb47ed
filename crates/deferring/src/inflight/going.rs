//! Ops that go to the kernel: whose turn it is, and what is written.
//!
//! Not: the order (`admission.rs`, `turnstile.rs`), nor how they come back (`coming.rs`).
#![allow(unsafe_code)] // The table vouches for what is in a cell.

use super::admission::Lane;
use super::cells::Vtable;
use super::slot::{Event, State, Then, step};
use super::table::{List, Marks};
use super::{Inflight, Token};
use crate::op::{AsyncCancel, Opcode, Place, Sqe};
use crate::planted::{self, Bug};

impl Inflight {
    /// Whether nothing but their order matters of what is new: there is nothing else.
    pub(crate) fn is_plain(&self) -> bool {
        !self.linked
            && !self.own_cancels
            && self.cancel_lane.is_empty()
            && self.admission.has_only_fresh()
    }

    /// So many of what is new may be written, of `most`.
    pub(crate) fn writable(&self, most: usize) -> usize {
        most.min(self.admission.fresh.len())
    }

    /// What [`admit`](Self::admit) does where [`is_plain`](Self::is_plain), for an op that needs
    /// nothing but to be written, and its turn at a turnstile, if that is free. False if it needs more, or there is none.
    #[inline(always)] // Of the two that call it, one does so for each op.
    pub(crate) fn admit_plainly(&mut self, sqe: &mut Sqe) -> bool {
        let Some(index) = self.admission.fresh.front() else { return false };
        if self.linked {
            return false; // To the next one, by the one before.
        }
        let row = self.table.at(index);
        let vtable = row.vtable.expect("a waiting row has an op");
        let next = row.link.next;
        let needs_more = row.needs_more_than_room();
        if vtable.ends_others || needs_more && !self.has_its_turn(index) {
            return false;
        }
        self.admission.fresh.unlink_front(next);
        self.write(index, sqe);
        if sqe.flags != 0 {
            self.tie(index, sqe);
        }
        true
    }

    /// Whether a new op needs nothing but its turn at a turnstile, and has it now.
    fn has_its_turn(&mut self, index: u32) -> bool {
        let row = self.table.at(index);
        if row.needs_more_than_its_turn() || !self.turnstiles.take(row.key) {
            return false;
        }
        row.marks.set(Marks::PASSES, true);
        true
    }

    /// So many were written by [`admit_plainly`](Self::admit_plainly).
    pub(crate) const fn admitted(&mut self, count: usize) {
        self.asked = self.asked.saturating_sub(count);
    }

    /// Writes the next SQE: cancels first (P4), then ops, lane by lane. False if nothing may go
    /// now. `fresh` is how many of the new may be looked at; not all of them are at once, if many
    /// have to wait.
    pub(crate) fn admit(&mut self, sqe: &mut Sqe, fresh: &mut usize) -> bool {
        const LOOKS_MAX: usize = 256;
        if self.is_plain() && *fresh > 0 && self.admit_plainly(sqe) {
            *fresh -= 1;
            self.admitted(1);
            return true;
        }
        if (self.own_cancels || !self.cancel_lane.is_empty()) && self.admit_cancel(sqe) {
            return true;
        }
        let mut looks = 0..LOOKS_MAX;
        while let Some(lane) = self.admission.next(*fresh > 0) {
            if looks.next().is_none() {
                return false;
            }
            let index = self.admission.pop(lane, &mut self.table);
            if lane == Lane::Fresh {
                *fresh -= 1;
                self.asked = self.asked.saturating_sub(1);
                let row = self.table.at(index);
                let waits = row.is_worker() || row.marks.has(Marks::TURNSTILE);
                if waits && !self.may_go(index) {
                    continue;
                }
            }
            self.go(index, sqe);
            self.admission.charge(|| Place::cost(sqe));
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
            self.own_cancels &= !self.cancel_lane.is_empty();
            return true;
        }
        self.own_cancels = false;
        false
    }

    /// Whether a new op may go that needs a worker or passes a turnstile. If not, it is put where it
    /// waits for that.
    fn may_go(&mut self, index: u32) -> bool {
        let row = self.table.at(index);
        if let Some(kind) = row.kind() {
            let may = row.marks.has(Marks::MAY_BLOCK) || self.admission.may_go(kind);
            if !may {
                row.key = self.admission.now();
                self.line_up(index, Lane::Kind(kind));
            }
            return may;
        }
        let key = row.key;
        let may = self.turnstiles.pass(&mut self.table, key, index);
        let row = self.table.at(index);
        row.marks.set(Marks::PASSES, may);
        row.list = if may { List::None } else { List::Behind };
        may
    }

    /// The op goes to the kernel.
    fn go(&mut self, index: u32, sqe: &mut Sqe) {
        const ASYNC: u8 = 1 << 4;
        let vtable = self.write(index, sqe);
        let row = self.table.at(index);
        let (kind, marks) = (row.kind(), row.marks);
        if marks.has(Marks::IN_WORKER) {
            sqe.flags |= ASYNC;
        }
        if sqe.flags != 0 || self.linked || vtable.ends_others {
            self.tie(index, sqe);
        }
        if let Some(kind) = kind {
            let row = self.table.at(index);
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

    /// The op's question, and that the kernel has it.
    #[inline(always)] // As `admit_plainly`.
    fn write(&mut self, index: u32, sqe: &mut Sqe) -> &'static Vtable {
        let row = self.table.at(index);
        let vtable = row.vtable.expect("a waiting row has an op");
        *sqe = Sqe { opcode: vtable.opcode, ..Sqe::EMPTY };
        // SAFETY: a waiting row's cell holds its op, of this vtable's type.
        unsafe { (vtable.encode)(self.cells.at(index), sqe) };
        sqe.user_data = Token::new(index, row.generation).user_data();
        let (state, then) = step(row.state, Event::Admit);
        assert_eq!(then, Then::Nothing);
        row.state = state;
        row.list = List::None;
        self.counters.in_kernel(row.class).add(1);
        if row.marks.has(Marks::DISK) {
            self.admission.disk_went();
        }
        vtable
    }

    /// Notes what the op has to do with others.
    fn tie(&mut self, index: u32, sqe: &Sqe) {
        const LINKS: u8 = 1 << 2 | 1 << 3;
        // Ops that the user linked end each other, and are not sent again one by one.
        let linked = sqe.flags & LINKS != 0;
        if std::mem::replace(&mut self.linked, linked) || linked {
            self.table.at(index).marks.set(Marks::REMOVED, true);
        }
        self.cancels_by_others |= sqe.opcode == AsyncCancel::CODE;
        if let Some(target) = removed(sqe) {
            self.expect_end(target);
        }
    }

    /// The op is no longer in the kernel: its worker, its turn and its credit are free.
    pub(super) fn came_back(&mut self, index: u32) {
        let row = self.table.at(index);
        let (class, kind, marks) = (row.class, row.kind(), row.marks);
        let list = std::mem::replace(&mut row.list, List::None);
        self.counters.in_kernel(class).sub(1);
        if marks.has(Marks::DISK) {
            self.admission.disk_ended();
        }
        if let Some(kind) = kind {
            match list {
                List::Holders => self.admission.holders(kind).remove(&mut self.table, index),
                List::Stuck => self.admission.stuck(kind).remove(&mut self.table, index),
                List::None | List::Lane(_) | List::Paused | List::Asleep | List::Behind => {
                    unreachable!("a worker op in the kernel is on {list:?}")
                }
            }
            self.admission.ended(kind);
        }
    }

    /// Whoever had a turn at a turnstile has ended: the next one may go.
    #[inline]
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
