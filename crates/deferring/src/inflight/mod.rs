//! Ops from `queue` to their last CQE.
//!
//! Bookkeeping only: no system call, clock, thread or lock. Wakers are returned, not called, and
//! ops that nobody will take are handed out to be dropped, not dropped. The states are in
//! `slot.rs`; who drives them is in `turn/`.
#![allow(unsafe_code)] // The table vouches for what is in a cell.

mod cells;
#[cfg(test)]
mod model;
mod queue;
mod slot;
mod table;
mod token;

use std::collections::VecDeque;
use std::task::Waker;

use rustix::io::Errno;

use crate::fd::Lease;
use crate::op::{AsyncCancel, Cqe, Op, Sqe};
use cells::Cells;
pub(crate) use cells::Corpse;
use queue::Queue;
use slot::{Cancel, CancelThen, Event, State, Then, cancel_answered, step};
use table::Table;
use token::Kind;
pub(crate) use token::Token;

const CANCELED: i32 = -Errno::CANCELED.raw_os_error();

/// Every op of a ring that has not ended.
pub(crate) struct Inflight {
    table: Table,
    cells: Cells,
    /// Ops that the kernel does not know of yet. Bounded by memory alone.
    waiting: Queue,
    /// Results that nobody will take. Emptied after each unlock.
    graves: Queue,
    /// Cancels to be sent before anything else. At most one for each submitted op.
    cancel_lane: VecDeque<Token>,
    /// Ops that an SQE names.
    submitted: usize,
    /// Cancels that an SQE names.
    cancels_submitted: usize,
    leaked: usize,
}

/// What is out, by where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Pending {
    /// Ops that wait for the next submit.
    pub queued: usize,
    /// Ops that the kernel has and has not answered.
    pub in_kernel: usize,
    /// Cancels that wait or that the kernel has not answered.
    pub cancels: usize,
}

/// Answer to "is my result here?"
pub(crate) enum Taken<T> {
    Ready(T, i32),
    /// Not here; the waker, if one was needed, is kept.
    Pending,
    /// Not here, and the kept waker is for another task: clone a new one, unlocked, and ask again.
    WakerNeeded,
    /// The ring went away with the op in the kernel.
    Lost,
}

impl<T> Taken<T> {
    /// Whether this was the op's one result.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self, Self::Ready(..) | Self::Lost)
    }
}

/// What follows from a change, to be done with nothing locked.
#[derive(Default)]
pub(crate) struct After {
    /// Whom to wake.
    pub(crate) wakers: Vec<Waker>,
    /// Descriptors that an op has ended with. Dropping a lease may wake whoever closes.
    pub(crate) leases: Vec<Lease>,
}

impl After {
    pub(crate) fn is_empty(&self) -> bool {
        self.wakers.is_empty() && self.leases.is_empty()
    }

    /// Whether there is memory in it worth keeping.
    pub(crate) fn has_room(&self) -> bool {
        self.wakers.capacity() > 0 || self.leases.capacity() > 0
    }
}

/// Wakers that nobody needs any more.
type LeftWakers = (Option<Waker>, Option<Box<Vec<Waker>>>);

/// What a cancel achieved. The op's own result comes all the same, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The op did not happen, or not in full: its result is `ECANCELED` or `EINTR`.
    Cancelled,
    /// The op is running and could not be stopped for certain. Its result tells, when it comes.
    Running,
    /// The op had finished before the cancel reached it; its result is what it would have been.
    Finished,
}

/// What a CQE was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completed {
    /// An op has its result.
    Op,
    /// A cancel was answered, or a CQE carried no result.
    Other,
    /// A cancel missed its op and is in the lane again.
    CancelAgain,
    /// Somebody called the sleeping driver.
    Bell,
}

impl Inflight {
    pub(crate) const fn new() -> Self {
        Self {
            table: Table::new(),
            cells: Cells::new(),
            waiting: Queue::new(),
            graves: Queue::new(),
            cancel_lane: VecDeque::new(),
            submitted: 0,
            cancels_submitted: 0,
            leaked: 0,
        }
    }

    pub(crate) fn pending(&self) -> Pending {
        Pending {
            queued: self.waiting.len(),
            in_kernel: self.submitted,
            cancels: self.cancel_lane.len() + self.cancels_submitted,
        }
    }

    /// Whether a submit would have anything to say.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.cancel_lane.is_empty()
    }

    /// How many SQEs a submit would make.
    pub(crate) fn unsent(&self) -> usize {
        self.waiting.len() + self.cancel_lane.len()
    }

    /// Whether the kernel still owes us a CQE.
    pub(crate) const fn is_owed(&self) -> bool {
        self.submitted > 0 || self.cancels_submitted > 0
    }

    /// Gives an op its slot and its place in the queue.
    pub(crate) fn insert<T: Op>(&mut self, op: T) -> Token {
        let token = self.table.allocate(Cells::vtable::<T>());
        // SAFETY: `allocate` gave us a row that was free, so its cell is empty.
        unsafe { self.cells.put(token.index(), op) };
        self.waiting.push_back(&mut self.table, token.index());
        token
    }

    /// Writes the next SQE: cancels first (P4), then ops in order of arrival. False if there is
    /// none.
    pub(crate) fn admit(&mut self, sqe: &mut Sqe) -> bool {
        self.admit_cancel(sqe) || self.admit_op(sqe)
    }

    /// Writes the next SQE if it is a cancel.
    pub(crate) fn admit_cancel(&mut self, sqe: &mut Sqe) -> bool {
        while let Some(token) = self.cancel_lane.pop_front() {
            // The op may have finished, and its row may be another's, while its cancel waited.
            let Some(row) = self.table.get(token) else { continue };
            if !matches!(row.state, State::Submitted | State::Orphaned) {
                continue;
            }
            *sqe = Sqe { opcode: AsyncCancel::CODE, ..Sqe::EMPTY };
            AsyncCancel::of(token).encode(sqe);
            sqe.user_data = token.cancel().user_data();
            self.cancels_submitted += 1;
            return true;
        }
        false
    }

    fn admit_op(&mut self, sqe: &mut Sqe) -> bool {
        let Some(index) = self.waiting.pop_front(&mut self.table) else { return false };
        let token = self.table.token(index);
        let row = self.table.at(index);
        let vtable = row.vtable.expect("a waiting row has an op");
        *sqe = Sqe { opcode: vtable.opcode, ..Sqe::EMPTY };
        // SAFETY: a waiting row's cell holds its op, of this vtable's type.
        unsafe { (vtable.encode)(self.cells.at(index), sqe) };
        sqe.user_data = token.user_data();
        let (state, then) = step(row.state, Event::Admit);
        assert_eq!(then, Then::Nothing);
        row.state = state;
        self.submitted += 1;
        true
    }

    /// Moves the slot on by one CQE. Whoever is to be woken is noted in `after`.
    pub(crate) fn complete(&mut self, cqe: Cqe, after: &mut After) -> Completed {
        let token = Token::from_user_data(cqe.user_data);
        match token.kind() {
            Kind::Op => self.complete_op(token, cqe, after),
            Kind::Cancel => self.complete_cancel(token.op(), cqe.result, after),
            Kind::Bell => Completed::Bell,
        }
    }

    fn complete_op(&mut self, token: Token, cqe: Cqe, after: &mut After) -> Completed {
        let Some(row) = self.table.get(token) else {
            debug_assert!(false, "{cqe:?} answers no op of this ring");
            return Completed::Other;
        };
        if !(cqe.notification() && row.has_result) {
            row.result = cqe.result;
            row.has_result = true;
        }
        if cqe.more() {
            return Completed::Other;
        }
        if matches!(row.state, State::Submitted | State::Orphaned) {
            self.submitted -= 1;
        }
        self.advance(token.index(), Event::LastCqe, after);
        Completed::Op
    }

    fn complete_cancel(&mut self, token: Token, result: i32, after: &mut After) -> Completed {
        self.cancels_submitted -= 1;
        let Some(row) = self.table.get(token) else { return Completed::Other };
        if !matches!(row.state, State::Submitted | State::Orphaned) {
            return Completed::Other;
        }
        match cancel_answered(result, row.cancel_resends) {
            CancelThen::Wait => {}
            CancelThen::AskAgain => {
                row.cancel_resends += 1;
                self.cancel_lane.push_back(token);
                return Completed::CancelAgain;
            }
            CancelThen::Running => {
                row.cancel = Cancel::Running;
                if let Some(list) = row.cancel_wakers.take() {
                    after.wakers.extend(*list);
                }
            }
        }
        Completed::Other
    }

    /// Takes the op out if its result is here. `current` is who asks, `offered` a clone of it, if
    /// one was made beforehand; what is left in `offered` is to be dropped unlocked.
    pub(crate) fn take<T: Op>(
        &mut self,
        token: Token,
        current: Option<&Waker>,
        offered: &mut Option<Waker>,
    ) -> Taken<T> {
        let index = token.index();
        let row = self.table.get(token).expect("a handle's slot stays until the handle lets go");
        let (state, then) = step(row.state, Event::Take);
        match then {
            Then::Release => {
                assert_eq!(row.vtable.map(|vtable| vtable.opcode), Some(T::CODE));
                row.state = state;
                let result = row.result;
                debug_assert!(row.cancel_wakers.is_none(), "woken when the result came");
                // SAFETY: a row that is done holds its op; the handle's type is the op's, as only
                // `insert` makes tokens for handles; the last CQE is behind us.
                let op = unsafe { cells::take::<T>(self.cells.at(index)) };
                self.table.release(index);
                Taken::Ready(op, result)
            }
            Then::Pending => match (current, &row.waker) {
                (None, _) => Taken::Pending,
                (Some(current), Some(kept)) if kept.will_wake(current) => Taken::Pending,
                (Some(_), _) if offered.is_some() => {
                    std::mem::swap(&mut row.waker, offered);
                    Taken::Pending
                }
                (Some(_), _) => Taken::WakerNeeded,
            },
            Then::Leak => {
                row.state = state;
                Taken::Lost
            }
            Then::Nothing | Then::Wake | Then::Bury | Then::SendCancel => {
                unreachable!("a take leads to {then:?}")
            }
        }
    }

    /// The handle lets go: with a cancel, or without one if `detach`. Returns the wakers of those
    /// who awaited through it, to be dropped unlocked.
    pub(crate) fn let_go(&mut self, token: Token, detach: bool) -> LeftWakers {
        let row = self.row(token);
        let left = (row.waker.take(), row.cancel_wakers.take());
        let event = if detach { Event::Detach } else { Event::Drop };
        let mut after = After::default();
        self.advance(token.index(), event, &mut after);
        debug_assert!(after.is_empty(), "a handle that goes ends nobody else's wait");
        left
    }

    /// Asks for a cancel of an op whose handle is held.
    pub(crate) fn cancel(&mut self, token: Token, after: &mut After) {
        if self.table.get(token).is_some() {
            self.advance(token.index(), Event::Cancel, after);
        }
    }

    /// Whether the result is here, or will never be.
    pub(crate) fn is_done(&mut self, token: Token) -> bool {
        self.table
            .get(token)
            .is_none_or(|row| !matches!(row.state, State::Waiting | State::Submitted))
    }

    pub(crate) fn has_graves(&self) -> bool {
        !self.graves.is_empty()
    }

    /// Asks for a cancel of everything that is out (teardown).
    pub(crate) fn cancel_all(&mut self, after: &mut After) {
        for index in self.table.indices() {
            let row = self.table.at(index);
            match row.state {
                State::Waiting | State::Submitted | State::Orphaned => {
                    // What could not be stopped before is asked once more.
                    if row.cancel == Cancel::Running {
                        row.cancel = Cancel::None;
                    }
                    self.advance(index, Event::Cancel, after);
                }
                State::Drifting => self.advance(index, Event::RingGone, after),
                State::Free | State::Done | State::Grave | State::Lost | State::Leaked => {}
            }
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
                let list = row.cancel_wakers.get_or_insert_default();
                let known = |waker: &Waker| list.iter().any(|kept| kept.will_wake(waker));
                if let Some(new) = waker.take_if(|waker| !known(waker)) {
                    list.push(new);
                }
                None
            }
            (state, cancel) => unreachable!("a handle's cancel is {cancel:?} of {state:?}"),
        }
    }

    /// The next result that nobody will take, to be buried unlocked.
    pub(crate) fn exhume(&mut self) -> Option<Corpse> {
        let index = self.graves.pop_front(&mut self.table)?;
        let row = self.table.at(index);
        assert_eq!(row.state, State::Grave);
        let vtable = row.vtable.expect("a grave has an op");
        let result = row.result;
        // SAFETY: a grave's cell holds its op, and its last CQE, if it was submitted, is behind us.
        let corpse = unsafe { self.cells.exhume(index, vtable, result) };
        row.state = State::Free;
        self.table.release(index);
        Some(corpse)
    }

    /// The ring goes. What the kernel still holds is given up, not freed. Returns how many ops.
    pub(crate) fn ring_gone(&mut self, after: &mut After) -> usize {
        self.cancel_lane.clear();
        for index in self.table.indices() {
            if self.table.at(index).state != State::Free {
                self.advance(index, Event::RingGone, after);
            }
        }
        self.submitted = 0;
        self.cancels_submitted = 0;
        self.leaked
    }

    fn row(&mut self, token: Token) -> &mut table::Row {
        self.table.get(token).expect("a handle's slot stays until the handle lets go")
    }

    /// One step of the table in `slot.rs`, and what follows from it.
    fn advance(&mut self, index: u32, event: Event, after: &mut After) {
        let row = self.table.at(index);
        let (state, then) = step(row.state, event);
        let was = std::mem::replace(&mut row.state, state);
        if matches!(was, State::Waiting | State::Drifting) && then != Then::Nothing {
            // Never admitted: it ends here, and no SQE is ever made of it (C22).
            row.result = CANCELED;
            if event == Event::Cancel {
                row.cancel = Cancel::Asked;
            }
            self.waiting.remove(&mut self.table, index);
        }
        let row = self.table.at(index);
        match then {
            Then::Nothing => {}
            Then::Wake => {
                if state == State::Lost {
                    self.leaked += 1;
                } else {
                    let vtable = row.vtable.expect("an op that is done has a vtable");
                    // SAFETY: the cell holds the op, and the kernel has had its last word, or never
                    // heard of it.
                    unsafe { (vtable.let_go)(self.cells.at(index), &mut after.leases) };
                }
                if let Some(waker) = row.waker.take() {
                    after.wakers.push(waker);
                }
                if let Some(list) = row.cancel_wakers.take() {
                    after.wakers.extend(*list);
                }
            }
            Then::Bury => self.graves.push_back(&mut self.table, index),
            Then::SendCancel => {
                // A drop asks once more, even if the op could not be stopped before.
                if row.cancel == Cancel::None || event == Event::Drop && row.cancel != Cancel::Asked
                {
                    row.cancel = Cancel::Asked;
                    row.cancel_resends = 0;
                    let token = self.table.token(index);
                    self.cancel_lane.push_back(token);
                }
            }
            Then::Leak => {
                // A `Lost` op was counted when it was lost.
                if was == State::Orphaned {
                    self.leaked += 1;
                }
            }
            Then::Pending | Then::Release => unreachable!("{event:?} leads to {then:?}"),
        }
    }
}

impl Drop for Inflight {
    /// Cells are freed only if it is certain that none holds an op: not after a leak, and not if
    /// something went so wrong that the ring never got to its end.
    fn drop(&mut self) {
        if !self.table.is_all_free() {
            self.cells.leak();
        }
    }
}

/// Whether a result says that the op was stopped.
fn was_cut_short(result: i32) -> bool {
    result == CANCELED || result == -Errno::INTR.raw_os_error() || crate::error::is_restart(-result)
}
