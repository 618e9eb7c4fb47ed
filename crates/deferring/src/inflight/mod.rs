//! Ops from `queue` to their last CQE.
//!
//! Bookkeeping only: no system call, clock, thread or lock. Wakers are returned, not called, and
//! ops that nobody will take are handed out to be dropped, not dropped. The states are in
//! `slot.rs`. Here is what handles ask, and what follows from a step; how ops go to the kernel is
//! in `going.rs`, how they come back in `coming.rs`, how they are cancelled in `cancels.rs`, what
//! time does to them in `ticking.rs`. Who drives all that is in `turn/`.
#![allow(unsafe_code)] // The table vouches for what is in a cell.

mod admission;
mod cancels;
mod cells;
mod coming;
mod deadlines;
mod going;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_admission;
mod queue;
#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // Of threads that end.
mod recall;
mod slot;
mod table;
mod tally;
mod ticking;
mod token;
mod turnstile;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use rustix::io::Errno;

use crate::fd::{Fd, Lease};
use crate::op::{Kind, Op, Place};
use crate::stats::Counters;
use crate::sync::Arc;
use crate::trace::{Note, Notes, Spans};
pub(crate) use admission::Pace;
use admission::{Admission, Lane};
use cells::Cells;
pub(crate) use cells::{Corpse, Moving};
use deadlines::{Deadlines, Due};
use queue::Queue;
use slot::{Cancel, Event, State, Then, step, was_cut_short};
pub(crate) use slot::{POISONED, SATURATED};
use table::{List, Marks, Table};
pub use tally::Cancelled;
use tally::Tallies;
pub use ticking::Workers;
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
    /// How many wait for nothing but a time.
    asleep: usize,
    tallies: Tallies,
    /// Results that nobody will take. Emptied after each unlock.
    graves: Queue,
    /// Cancels to be sent before anything else. At most one for each submitted op that the user
    /// asked for, and one of the ring's own.
    cancel_lane: VecDeque<Token>,
    /// Some of them are the ring's own, for a deadline or to steal an op back: nobody else will
    /// submit for them.
    own_cancels: bool,
    /// How many of those that have not been looked at were asked to be sent.
    asked: usize,
    /// Cancels that an SQE names.
    cancels_submitted: usize,
    leaked: usize,
    /// The SQE before was linked to the next one.
    linked: bool,
    /// An op of the user's own has cancelled others: what it was, is not known here.
    cancels_by_others: bool,
    /// The workers are to be looked at: are there too few, or is the machine busy?
    suspicious: bool,
    /// How many there were the last time, and how often in a row they were looked at.
    workers_before: Option<usize>,
    looks: u32,
    /// The system gives no more, and nothing has shown the contrary since.
    saturated: bool,
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
    /// Ops that the kernel does not have: they wait for the next submit, a credit, their turn, a
    /// time, or the end of a pause.
    pub queued: usize,
    /// Ops that the kernel has and has not answered.
    pub in_kernel: usize,
    /// Cancels that wait or that the kernel has not answered.
    pub cancels: usize,
}

/// Answer to "is my result here?"
pub(crate) enum Taken<T> {
    Ready(T, i32),
    /// Not here, and who asked will be woken, if it wants to be.
    Pending,
    /// Not here, and nobody or another task will be woken: [`Inflight::keep_waker`].
    WakerNeeded,
    /// The ring was given up with the op in the kernel.
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
    /// The op did not happen, or not in full: its result is `ECANCELED`, `EINTR`, or, if its
    /// deadline came as well, `ETIMEDOUT`.
    Cancelled,
    /// The op is running and could not be stopped for certain. Its result tells, when it comes.
    Running,
    /// The op had finished before the cancel reached it; its result is what it would have been.
    /// (But for a transfer of several pages, which may have been cut short: its result says how far
    /// it came.)
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
            asleep: 0,
            tallies: Tallies::new(),
            graves: Queue::new(),
            cancel_lane: VecDeque::new(),
            own_cancels: false,
            asked: 0,
            cancels_submitted: 0,
            leaked: 0,
            linked: false,
            cancels_by_others: false,
            suspicious: false,
            workers_before: None,
            looks: 0,
            saturated: false,
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

    /// How many ops have been queued and have not ended.
    pub(crate) fn out(&self) -> usize {
        self.waiting() + self.submitted()
    }

    fn waiting(&self) -> usize {
        self.admission.waiting() + self.turnstiles.waiting() + self.asleep
    }

    fn submitted(&self) -> usize {
        self.counters.submitted()
    }

    /// Whether an admission that stopped would have more to say.
    pub(crate) fn has_more(&self, fresh: usize) -> bool {
        !self.cancel_lane.is_empty() || self.admission.can_serve_any(fresh > 0)
    }

    /// Whether a submit would have anything to say. What waits for others to end is not counted.
    pub(crate) fn has_sendable(&self) -> bool {
        !self.cancel_lane.is_empty() || self.admission.can_serve_any(true)
    }

    /// Whether something may go that was asked to be sent before, or that the ring wants itself.
    pub(crate) fn has_more_to_send(&self) -> bool {
        self.own_cancels || self.admission.can_serve_any(self.asked() > 0)
    }

    /// So many of the ops that have not been looked at, and all cancels, are to be sent. What
    /// cannot be now goes as soon as it can, without being asked for again.
    pub(crate) fn ask(&mut self, fresh: usize) {
        self.asked = fresh.max(self.asked()).min(self.admission.fresh.len());
        self.own_cancels |= !self.cancel_lane.is_empty();
    }

    /// How many of the ops that have not been looked at were asked for before. Some of them may
    /// have been cancelled meanwhile; then as many younger ones go.
    pub(crate) fn asked(&self) -> usize {
        self.asked.min(self.admission.fresh.len())
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
    #[inline(always)] // Of one caller, on each op's way.
    pub(crate) fn insert<T: Op>(&mut self, op: &mut Moving<T>, place: &Place) -> Token {
        let token = self.table.allocate(Cells::vtable::<T>(), place);
        // SAFETY: `allocate` gave us a row that was free, so its cell is empty.
        unsafe { self.cells.put(token.index(), op) };
        self.admission.push(Lane::Fresh, &mut self.table, token.index());
        self.counters.queued(self.admission.fresh.len());
        token
    }

    /// Gives an op its slot that waits for that time, and goes nowhere.
    pub(crate) fn insert_asleep<T: Op>(
        &mut self,
        op: &mut Moving<T>,
        place: &Place,
        until: Duration,
    ) -> Token {
        let token = self.table.allocate(Cells::vtable::<T>(), place);
        // SAFETY: as in `insert`.
        unsafe { self.cells.put(token.index(), op) };
        self.table.at(token.index()).list = List::Asleep;
        self.asleep += 1;
        self.add_time(until, token, Due::Ends);
        self.counters.publish_queued(self.admission.fresh.len(), self.waiting());
        token
    }

    fn line_up(&mut self, index: u32, lane: Lane) {
        self.table.at(index).list = List::Lane(lane);
        self.admission.push(lane, &mut self.table, index);
    }

    // What handles ask.

    /// Keeps a waker for an op that is not done; false if it is, or will never be. What is left in
    /// `offered` is to be dropped unlocked.
    #[inline]
    pub(crate) fn keep_waker(&mut self, token: Token, offered: &mut Option<Waker>) -> bool {
        let row = self.row(token);
        let waits = matches!(row.state, State::Waiting | State::Submitted);
        if waits {
            std::mem::swap(&mut row.waker, offered);
        }
        waits
    }

    /// Takes the op out if its result is here. `current` is who asks.
    #[inline]
    pub(crate) fn take<T: Op>(&mut self, token: Token, current: Option<&Waker>) -> Taken<T> {
        let index = token.index();
        let row = self.table.get(token).expect("a handle's slot stays until the handle lets go");
        if row.state == State::Done {
            (row.state, _) = step(State::Done, Event::Take);
            assert_eq!(row.vtable.map(|vtable| vtable.opcode), Some(T::CODE));
            let result = row.result;
            debug_assert!(row.watchers.is_none(), "woken when the result came");
            self.table.release(index);
            // SAFETY: a row that was done holds its op; the handle's type is the op's, as only
            // `insert` makes tokens for handles; the last CQE is behind us.
            let op = unsafe { cells::take::<T>(self.cells.of::<T>(index)) };
            return Taken::Ready(op, result);
        }
        let (state, then) = step(row.state, Event::Take);
        match then {
            Then::Pending => match (current, &row.waker) {
                (None, _) => Taken::Pending,
                (Some(current), Some(kept)) if kept.will_wake(current) => Taken::Pending,
                (Some(_), _) => Taken::WakerNeeded,
            },
            Then::Leak => {
                row.state = state;
                Taken::Lost
            }
            Then::Nothing
            | Then::Release
            | Then::Wake
            | Then::Bury
            | Then::SendCancel
            | Then::Again => {
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

    /// Whether the result is here, or will never be.
    pub(crate) fn is_done(&mut self, token: Token) -> bool {
        self.table
            .get(token)
            .is_none_or(|row| !matches!(row.state, State::Waiting | State::Submitted))
    }

    pub(crate) fn has_graves(&self) -> bool {
        !self.graves.is_empty()
    }

    // Telling.

    /// Tells the counters how things are now.
    pub(crate) fn publish(&mut self) {
        let cancels = self.cancel_lane.len() + self.cancels_submitted;
        // First: the others that wait are counted by what is left.
        self.counters.queued(self.admission.fresh.len());
        self.counters.publish(self.waiting(), cancels, self.leaked);
        if self.admission.take_changed() {
            for kind in Kind::ALL {
                self.counters.publish_crew(kind, self.admission.of_kind(kind));
            }
        }
    }

    pub(crate) fn spans(&mut self) -> &mut Spans {
        &mut self.spans
    }

    // Changing.

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
        self.counters.none_submitted();
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
                self.count_ended(index, was);
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

    /// Counts an op that has ended. `was` is what it was before.
    fn count_ended(&mut self, index: u32, was: State) {
        if was == State::Done {
            return;
        }
        self.counters.ended.add(1);
        let row = self.table.at(index);
        let never_sent = matches!(was, State::Waiting | State::Drifting);
        // Somebody asked: the handle, many, the ring's end, or by letting go of an op that waits.
        let asked = row.cancel != Cancel::None || row.marks.has(Marks::TIMED_OUT) || never_sent;
        if asked && was_cut_short(row.result) {
            self.counters.cancelled.add(1);
        }
    }

    fn wake(&mut self, index: u32, was: State, after: &mut After) {
        let lost = self.table.at(index).state == State::Lost;
        if lost {
            self.leaked += 1;
        } else {
            self.count_ended(index, was);
        }
        let row = self.table.at(index);
        let result = row.result;
        if !lost {
            let vtable = row.vtable.expect("an op that is done has a vtable");
            // SAFETY: the cell holds the op, and the kernel has had its last word, or never heard
            // of it.
            unsafe { (vtable.let_go)(self.cells.at_if_any(index), &mut after.leases) };
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
            List::Lane(lane) => self.admission.remove(lane, &mut self.table, index),
            List::Paused => self.admission.paused.remove(&mut self.table, index),
            List::Asleep => self.asleep -= 1,
            List::Behind => self.turnstiles.leave(&mut self.table, key, index),
            list @ (List::None | List::Holders | List::Stuck) => {
                unreachable!("an op that waits is on {list:?}")
            }
        }
        self.counters.publish_queued(self.admission.fresh.len(), self.waiting());
        self.pass_on(index);
    }
}

/// What a cancel achieved, by the result of its op.
fn outcome(result: i32) -> CancelOutcome {
    if was_cut_short(result) { CancelOutcome::Cancelled } else { CancelOutcome::Finished }
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
