//! Ops from `queue` to their last CQE.
//!
//! Bookkeeping only: no system call, clock, thread or lock. Wakers are returned, not called, and
//! ops that nobody will take are handed out to be dropped, not dropped. The states are in
//! `slot.rs`; who drives them is in `turn/`.
#![allow(unsafe_code)] // The table vouches for what is in a cell.

mod admission;
mod cells;
mod deadlines;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_admission;
mod queue;
mod slot;
mod table;
mod tally;
mod token;
mod turnstile;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use rustix::io::Errno;

use crate::fd::{Fd, Lease};
use crate::op::{AsyncCancel, Class, Cqe, Op, Opcode, Place, Sqe};
use crate::stats::{ClassStats, Counters};
use crate::sync::Arc;
use crate::trace::{Note, Notes, Spans};
use admission::{Admission, Lane, Tick, kind_of};
use cells::Cells;
pub(crate) use cells::Corpse;
use deadlines::Deadlines;
use queue::Queue;
use slot::{
    Cancel, CancelThen, Circumstances, Event, State, Then, Verdict, cancel_answered, step, verdict,
    was_cut_short,
};
pub(crate) use slot::{POISONED, SATURATED};
use table::{List, Marks, Table};
pub use tally::Cancelled;
use tally::Tallies;
pub(crate) use token::{Own, Token};
use turnstile::Turnstiles;

pub(crate) const CANCELED: i32 = -Errno::CANCELED.raw_os_error();

/// Every op of a ring that has not ended.
pub(crate) struct Inflight {
    table: Table,
    cells: Cells,
    /// Ops that the kernel does not have, by what they wait for; and its workers. Bounded by memory
    /// alone.
    admission: Admission,
    turnstiles: Turnstiles,
    deadlines: Deadlines,
    tallies: Tallies,
    /// Results that nobody will take. Emptied after each unlock.
    graves: Queue,
    /// Cancels to be sent before anything else. At most one for each submitted op that the user
    /// asked for, and one of the ring's own.
    cancel_lane: VecDeque<Token>,
    /// Some of them are the ring's own, for a deadline or to steal an op back: nobody else will
    /// submit for them.
    own_cancels: bool,
    /// Ops that an SQE names, by class.
    in_kernel: [usize; Class::COUNT],
    /// Cancels that an SQE names.
    cancels_submitted: usize,
    leaked: usize,
    /// The SQE before was linked to the next one.
    linked: bool,
    /// An op of the user's own has cancelled others: what it was, is not known here.
    cancels_by_others: bool,
    /// The workers are to be looked at: are there too few, or is the machine busy?
    suspicious: bool,
    /// How many there were the last time.
    workers_before: Option<usize>,
    /// Ops that ended without a CQE, by the ring's own doing, and that no reap has told of.
    ended_unseen: usize,
    groups: u32,
    counters: Arc<Counters>,
    spans: Spans,
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
    /// What is worth telling.
    pub(crate) notes: Notes,
}

impl After {
    /// Whether there is memory in it worth keeping.
    pub(crate) fn has_room(&self) -> bool {
        self.wakers.capacity() > 0 || self.leases.capacity() > 0
    }
}

/// Wakers that nobody needs any more.
type LeftWakers = (Option<Waker>, Option<Vec<Waker>>);

/// Which ops are to be cancelled.
#[derive(Clone, Copy)]
pub(crate) enum Which<'a> {
    All,
    Using(&'a Fd),
    Group(u32),
}

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
    /// A request of the ring's own was answered.
    Own(Own),
}

impl Inflight {
    /// `patience` is how many ticks are long enough to doubt that there are workers.
    pub(crate) const fn new(counters: Arc<Counters>, patience: u32) -> Self {
        Self {
            table: Table::new(),
            cells: Cells::new(),
            admission: Admission::new(patience),
            turnstiles: Turnstiles::new(),
            deadlines: Deadlines::new(),
            tallies: Tallies::new(),
            graves: Queue::new(),
            cancel_lane: VecDeque::new(),
            own_cancels: false,
            in_kernel: [0; Class::COUNT],
            cancels_submitted: 0,
            leaked: 0,
            linked: false,
            cancels_by_others: false,
            suspicious: false,
            workers_before: None,
            ended_unseen: 0,
            groups: 0,
            counters,
            spans: Spans::new(),
        }
    }

    pub(crate) fn pending(&self) -> Pending {
        Pending {
            queued: self.waiting(),
            in_kernel: self.submitted(),
            cancels: self.cancel_lane.len() + self.cancels_submitted,
        }
    }

    fn waiting(&self) -> usize {
        self.admission.waiting() + self.turnstiles.waiting()
    }

    fn submitted(&self) -> usize {
        self.in_kernel.iter().sum()
    }

    /// Whether an admission that stopped would have more to say.
    pub(crate) fn has_more(&self, fresh: usize) -> bool {
        self.admission.can_serve_any(fresh > 0)
    }

    /// Whether a submit would have anything to say. What waits for others to end is not counted.
    pub(crate) fn has_sendable(&self) -> bool {
        !self.cancel_lane.is_empty() || self.admission.can_serve_any(true)
    }

    /// Whether something may go that was asked to be sent before, or that the ring wants itself.
    pub(crate) fn has_more_to_send(&self) -> bool {
        self.own_cancels || self.admission.can_serve_any(false)
    }

    /// How many ops have not been looked at.
    pub(crate) const fn fresh(&self) -> usize {
        self.admission.fresh.len()
    }

    /// Whether the kernel still owes us a CQE.
    pub(crate) fn is_owed(&self) -> bool {
        self.submitted() > 0 || self.cancels_submitted > 0
    }

    /// Whether nothing is out: no op waits, and the kernel owes nothing.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_owed() && self.waiting() == 0
    }

    /// Gives an op its slot and its place in the queue.
    pub(crate) fn insert<T: Op>(&mut self, op: T, place: &Place) -> Token {
        let token = self.table.allocate(Cells::vtable::<T>(), place);
        // SAFETY: `allocate` gave us a row that was free, so its cell is empty.
        unsafe { self.cells.put(token.index(), op) };
        self.line_up(token.index(), Lane::Fresh);
        self.counters.queued(self.admission.fresh.len());
        token
    }

    fn line_up(&mut self, index: u32, lane: Lane) {
        self.table.at(index).list = List::Lane(lane);
        self.admission.lane(lane).push_back(&mut self.table, index);
    }

    // Going.

    /// Writes the next SQE: cancels first (P4), then ops, lane by lane. False if nothing may go now.
    /// `fresh` is how many of the new may be looked at; not all of them are at once, if many have to
    /// wait.
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
    fn admit_cancel(&mut self, sqe: &mut Sqe) -> bool {
        while let Some(token) = self.cancel_lane.pop_front() {
            // The op may have finished, and its row may be another's, while its cancel waited.
            let Some(row) = self.table.get(token) else { continue };
            if !matches!(row.state, State::Submitted | State::Orphaned) {
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
    fn came_back(&mut self, index: u32) {
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
    fn pass_on(&mut self, index: u32) {
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

    // Coming back.

    /// Moves the slot on by one CQE. Whoever is to be woken is noted in `after`.
    pub(crate) fn complete(&mut self, cqe: Cqe, after: &mut After) -> Completed {
        let token = Token::from_user_data(cqe.user_data);
        match token.kind() {
            token::Kind::Op => self.complete_op(token, cqe, after),
            token::Kind::Cancel => self.complete_cancel(token.op(), cqe.result, after),
            token::Kind::Own(own) => {
                if own == Own::Canary {
                    self.admission.canary_returned(cqe.result >= 0);
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
        let now = Circumstances {
            asked: row.cancel != Cancel::None
                || row.marks.has(Marks::REMOVED)
                || self.cancels_by_others && row.result == CANCELED,
            timed_out: row.marks.has(Marks::TIMED_OUT),
            stolen: row.marks.has(Marks::STOLEN),
            worker: matches!(row.class, Class::Worker(_)) || row.marks.has(Marks::DISK),
            again: vtable.again && is_first,
            tries: row.tries,
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
                row.tries = row.tries.saturating_add(1);
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

    /// Lines an op up that was in the kernel before.
    fn go_again(&mut self, index: u32) {
        let row = self.table.at(index);
        let lane = kind_of(row.class).map_or(Lane::Ready, Lane::Kind);
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
    fn tell_watchers(&mut self, index: u32, outcome: CancelOutcome, after: &mut After) {
        if let Some(watchers) = self.table.at(index).watchers.take() {
            after.wakers.extend(watchers.wakers);
            for tally in watchers.tallies {
                self.tallies.close(tally, outcome, &mut after.wakers);
            }
        }
    }

    // What handles ask.

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
                debug_assert!(row.watchers.is_none(), "woken when the result came");
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
            Then::Nothing | Then::Wake | Then::Bury | Then::SendCancel | Then::Again => {
                unreachable!("a take leads to {then:?}")
            }
        }
    }

    /// The handle lets go: with a cancel, or without one if `detach`. Returns the wakers of those
    /// who awaited through it, to be dropped unlocked.
    pub(crate) fn let_go(&mut self, token: Token, detach: bool, after: &mut After) -> LeftWakers {
        let row = self.row(token);
        let watchers = row.watchers.as_mut();
        let left = (row.waker.take(), watchers.map(|list| std::mem::take(&mut list.wakers)));
        let event = if detach { Event::Detach } else { Event::Drop };
        self.advance(token.index(), event, after);
        left
    }

    /// Asks for a cancel of an op whose handle is held.
    pub(crate) fn cancel(&mut self, token: Token, after: &mut After) {
        if self.table.get(token).is_some() {
            self.advance(token.index(), Event::Cancel, after);
        }
    }

    /// Another op is about to end this one: that it ends is no accident.
    fn expect_end(&mut self, token: Token) {
        if let Some(row) = self.table.get(token) {
            row.marks.set(Marks::REMOVED, true);
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

    // Cancels of many.

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
                unsafe { (vtable.uses)(self.cells.at(index), fd) }
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

    // Time.

    /// Gives an op a deadline. The earliest of several counts.
    pub(crate) fn set_deadline(&mut self, token: Token, at: Duration) {
        let Self { deadlines, table, .. } = self;
        deadlines.add(at, token, |token| table.is_out(token));
    }

    /// When the next deadline comes.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first()
    }

    /// Gives up the ops whose deadline has come.
    pub(crate) fn expire(&mut self, now: Duration, after: &mut After) {
        while let Some(token) = self.deadlines.pop(now) {
            let Some(row) = self.table.get(token) else { continue };
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
    }

    /// How many ops have ended without a CQE since this was asked before.
    pub(crate) const fn take_ended_unseen(&mut self) -> usize {
        std::mem::replace(&mut self.ended_unseen, 0)
    }

    pub(crate) fn needs_ticks(&self) -> bool {
        self.admission.needs_ticks()
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

    /// The workers were counted: so many there are, `None` if that cannot be known, and so many ops
    /// need one. Fewer, and no more than the last time, means that the system gives no more.
    pub(crate) fn judge(&mut self, workers: Option<usize>, needed: usize, after: &mut After) {
        let before = std::mem::replace(&mut self.workers_before, workers);
        let grows = before.is_none_or(|before| workers.is_some_and(|now| now > before));
        let enough = workers.is_some_and(|now| now >= needed);
        if workers.is_none() || !enough && !grows {
            self.saturated(after);
        }
    }

    /// The system gives no more workers: what has waited for one says so, and what may wait inside
    /// the kernel is stolen back.
    fn saturated(&mut self, after: &mut After) {
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

    /// Tells the counters how things are now.
    pub(crate) fn publish(&self) {
        let cancels = self.cancel_lane.len() + self.cancels_submitted;
        // First: the others that wait are counted by what is left.
        self.counters.queued(self.admission.fresh.len());
        self.counters.publish(self.waiting(), cancels, self.leaked);
        for (class, &in_flight) in Class::ALL.iter().zip(&self.in_kernel) {
            let stats = match kind_of(*class) {
                Some(kind) => {
                    let [queued, _, stuck, credits] = self.admission.of_kind(kind);
                    ClassStats { queued, in_flight, stuck, credits: Some(credits) }
                }
                None => ClassStats { queued: 0, in_flight, stuck: 0, credits: None },
            };
            self.counters.publish_class(*class, stats);
        }
    }

    // Tracing.

    pub(crate) fn spans(&mut self) -> &mut Spans {
        &mut self.spans
    }

    // The end.

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

    /// The ring goes, or cannot be used any more. What the kernel still holds is given up, not
    /// freed; what waits ends with this result. Returns how many ops are given up.
    pub(crate) fn ring_gone(&mut self, waiting: i32, after: &mut After) -> usize {
        self.cancel_lane.clear();
        self.deadlines.clear();
        let before = self.leaked;
        for index in self.table.indices() {
            if self.table.at(index).state != State::Free {
                self.advance_as(index, Event::RingGone, waiting, after);
            }
        }
        self.in_kernel = [0; Class::COUNT];
        self.cancels_submitted = 0;
        let leaked = self.leaked - before;
        if leaked > 0 {
            after.notes.push(Note::Leak { ops: leaked });
        }
        self.publish();
        leaked
    }

    fn row(&mut self, token: Token) -> &mut table::Row {
        self.table.get(token).expect("a handle's slot stays until the handle lets go")
    }

    fn advance(&mut self, index: u32, event: Event, after: &mut After) {
        self.advance_as(index, event, CANCELED, after);
    }

    /// One step of the table in `slot.rs`, and what follows from it. An op that ends before it was
    /// admitted ends with `waiting`.
    fn advance_as(&mut self, index: u32, event: Event, waiting: i32, after: &mut After) {
        let row = self.table.at(index);
        let (state, then) = step(row.state, event);
        let was = std::mem::replace(&mut row.state, state);
        if matches!(was, State::Waiting | State::Drifting) && then != Then::Nothing {
            // It is not in the kernel: it ends here, and no SQE is made of it (C22).
            row.result = waiting;
            if event == Event::Cancel {
                row.cancel = Cancel::Asked;
            }
            self.leave_lists(index);
        }
        let row = self.table.at(index);
        match then {
            Then::Nothing | Then::Again => {}
            Then::Wake => self.wake(index, was, after),
            Then::Bury => {
                let outcome = outcome(row.result);
                self.count_cancelled(index, was);
                self.tell_watchers(index, outcome, after);
                self.spans.end(index, self.table.at(index).result, &mut after.notes);
                self.graves.push_back(&mut self.table, index);
            }
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
                    self.tell_watchers(index, CancelOutcome::Running, after);
                }
            }
            Then::Pending | Then::Release => unreachable!("{event:?} leads to {then:?}"),
        }
    }

    /// Counts an op that has ended, if it was stopped. `was` is what it was before.
    fn count_cancelled(&mut self, index: u32, was: State) {
        let row = self.table.at(index);
        let never_sent = matches!(was, State::Waiting | State::Drifting);
        // Somebody asked: the handle, many, the ring's end, or by letting go of an op that waits.
        let asked = row.cancel != Cancel::None || row.marks.has(Marks::TIMED_OUT) || never_sent;
        if asked && was != State::Done && was_cut_short(row.result) {
            self.counters.cancelled.add(1);
        }
    }

    fn wake(&mut self, index: u32, was: State, after: &mut After) {
        let lost = self.table.at(index).state == State::Lost;
        if lost {
            self.leaked += 1;
        } else {
            self.count_cancelled(index, was);
        }
        let row = self.table.at(index);
        let result = row.result;
        if !lost {
            let vtable = row.vtable.expect("an op that is done has a vtable");
            // SAFETY: the cell holds the op, and the kernel has had its last word, or never heard
            // of it.
            unsafe { (vtable.let_go)(self.cells.at(index), &mut after.leases) };
        }
        if let Some(waker) = row.waker.take() {
            after.wakers.push(waker);
        }
        if row.watchers.is_some() {
            let outcome = if lost { CancelOutcome::Running } else { outcome(result) };
            self.tell_watchers(index, outcome, after);
        }
        self.spans.end(index, result, &mut after.notes);
    }

    /// Takes an op that is not in the kernel off whatever it waits on.
    fn leave_lists(&mut self, index: u32) {
        let row = self.table.at(index);
        let key = row.key;
        match std::mem::replace(&mut row.list, List::None) {
            List::Lane(lane) => self.admission.lane(lane).remove(&mut self.table, index),
            List::Paused => self.admission.paused.remove(&mut self.table, index),
            List::Behind => self.turnstiles.leave(&mut self.table, key, index),
            list @ (List::None | List::Holders | List::Stuck) => {
                unreachable!("an op that waits is on {list:?}")
            }
        }
        self.counters.publish_queued(self.admission.fresh.len(), self.waiting());
        self.pass_on(index);
    }
}

const TIMED_OUT: i32 = -Errno::TIMEDOUT.raw_os_error();

/// What a cancel achieved, by the result of its op.
fn outcome(result: i32) -> CancelOutcome {
    if was_cut_short(result) { CancelOutcome::Cancelled } else { CancelOutcome::Finished }
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

/// When a worker op went to the kernel, or began to wait for that.
fn went(table: &mut Table, index: u32) -> u32 {
    table.at(index).key
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
