//! Admission against a model: ops of all classes, a kernel that gives them back unasked, ticks,
//! canaries, deadlines, cancels of many.
//!
//! What `model.rs` checks of plain ops is checked of all here, and besides: credits, turnstiles,
//! order, the workers asked for, and that each row is on the list that its state says. At the end
//! of each world the kernel turns honest, and everything must end: no op is forgotten on a list.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Duration;

use proptest::prelude::*;

use super::admission::{CREDITS, Lane, kind_of};
use super::slot::{State, TRIES_AT_ONCE, TRIES_MAX};
use super::table::{List, Marks};
use super::ticking::TIMED_OUT;
use super::{
    After, CANCELED, Completed, Inflight, Moving, Own, SATURATED, Taken, Token, Which, Workers,
};
use crate::fd::{Fd, Lease};
use crate::op::{Class, Cqe, Direction, Kind, Op, Opcode, Place, Sqe};
use crate::stats::Counters;
use crate::sync::Arc;

const KINDS: [Kind; Kind::COUNT] = [Kind::Open, Kind::Path, Kind::Data, Kind::Sync];

const INTERRUPTED: i32 = -4;
const FAULT: i32 = -14;
const RESTART: i32 = -512;

thread_local! {
    /// The ops that exist, and whether the kernel holds them.
    static ALIVE: RefCell<HashMap<u64, bool>> = RefCell::new(HashMap::new());
}

/// An op that names itself: of two sizes, and one that may be sent only once.
struct Witness<const N: usize, const AGAIN: bool> {
    name: u64,
    lease: Option<Lease>,
    _padding: [u8; N],
}

type Small = Witness<16, true>;
type Large = Witness<400, true>;
type Once = Witness<16, false>;

impl<const N: usize, const AGAIN: bool> Witness<N, AGAIN> {
    fn new(name: u64, lease: Option<Lease>) -> Self {
        ALIVE.with_borrow_mut(|alive| alive.insert(name, false));
        Self { name, lease, _padding: [0; N] }
    }
}

impl<const N: usize, const AGAIN: bool> Drop for Witness<N, AGAIN> {
    fn drop(&mut self) {
        let held = ALIVE.with_borrow_mut(|alive| alive.remove(&self.name));
        assert_eq!(held, Some(false), "op {} is dropped twice, or under the kernel", self.name);
    }
}

// SAFETY: names no memory; the "address" is a name.
unsafe impl<const N: usize, const AGAIN: bool> Op for Witness<N, AGAIN> {
    type Output = io::Result<u32>;
    const CODE: Opcode = Opcode::NOP;
    const AGAIN: bool = AGAIN;

    fn uses(&self, fd: &Fd) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.is_of(fd))
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.addr = self.name;
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        leases.extend(self.lease.take());
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<u32> {
        result
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Small,
    Large,
    Once,
}

/// Where the model believes an op to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Waits,
    Kernel,
    Ended,
}

/// What the model knows of one op.
#[derive(Clone, Copy, Debug)]
struct Life {
    token: Token,
    shape: Shape,
    place: Place,
    fd: Option<usize>,
    group: usize,
    at: Where,
    held: bool,
    /// The kernel had it before.
    again: bool,
    tries: u8,
    /// Somebody asked for its end: the user, or another op.
    asked: bool,
    timed_out: bool,
    /// A CQE with `F_MORE` has come.
    parts: bool,
    deadline: Option<Duration>,
    result: i32,
}

/// What the kernel owes an answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Op(u64),
    Cancel,
    Canary,
}

/// How much is out, as the model believes.
#[derive(Default)]
struct Out {
    waiting: usize,
    in_kernel: [usize; Class::COUNT],
    disk: usize,
    by_turnstile: HashMap<u32, usize>,
}

/// A cancel of many whose outcome is not known.
struct Many {
    tally: u64,
    ops: usize,
}

struct World {
    inflight: Inflight,
    counters: Arc<Counters>,
    owes: Vec<(u64, Owed)>,
    lives: HashMap<u64, Life>,
    handles: Vec<u64>,
    next: u64,
    fds: [Fd; 2],
    groups: [u32; 2],
    tallies: Vec<Many>,
    now: Duration,
    /// The clock for the next tick is set.
    ticking: bool,
    /// How many ticks there were since a canary went, if none has come back alive.
    missing: Option<u32>,
    fixed: bool,
    /// New ops that wait, in order: by kind, by turnstile, and those that wait for nothing.
    new_by_kind: [VecDeque<u64>; Kind::COUNT],
    new_by_turnstile: HashMap<u32, VecDeque<u64>>,
    new_at_once: VecDeque<u64>,
    /// Worker ops that wait to go again, in order.
    again_by_kind: [VecDeque<u64>; Kind::COUNT],
    paused: VecDeque<u64>,
}

/// How many ticks without a canary are long.
const SATURATED_TICKS: u32 = 100;

/// Numbers the turnstile of a place.
fn turnstile(place: &Place) -> Option<u32> {
    let (_, number) = place.needs();
    place.has(Place::TURNSTILE).then_some(number)
}

fn is_cut_short(result: i32) -> bool {
    [CANCELED, INTERRUPTED, RESTART].contains(&result)
}

impl World {
    fn new(fixed: Option<u32>) -> Self {
        ALIVE.with_borrow_mut(HashMap::clear);
        let counters = Arc::new(Counters::default());
        let mut inflight = Inflight::new(Arc::clone(&counters), SATURATED_TICKS);
        if let Some(workers) = fixed {
            inflight.fix_workers(workers);
        }
        let groups = [inflight.new_group(), inflight.new_group()];
        Self {
            inflight,
            counters,
            owes: vec![],
            lives: HashMap::new(),
            handles: vec![],
            next: 1,
            fds: [Fd::numbered_for_tests(3), Fd::numbered_for_tests(4)],
            groups,
            tallies: vec![],
            now: Duration::ZERO,
            ticking: false,
            missing: None,
            fixed: fixed.is_some(),
            new_by_kind: Default::default(),
            new_by_turnstile: HashMap::new(),
            new_at_once: VecDeque::new(),
            again_by_kind: Default::default(),
            paused: VecDeque::new(),
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Insert { place, shape, fd, count } => {
                for _ in 0..count {
                    self.insert(place, shape, fd);
                }
            }
            Step::Admit { most, fresh } => self.admit_up_to(most, fresh),
            Step::Answer { which, result, count } => {
                for _ in 0..count {
                    self.answer(which, result);
                }
            }
            Step::Part(which) => self.answer_in_part(which),
            Step::Tick => self.tick(),
            Step::LongTime => (0..SATURATED_TICKS + 2).for_each(|_| self.tick()),
            Step::Time(seconds) => self.pass_time(seconds),
            Step::Deadline(which, seconds) => self.set_deadline(which, seconds),
            Step::Take(which) => self.take(which),
            Step::LetGo(which, detach) => self.let_go(which, detach),
            Step::Cancel(which) => self.cancel(which),
            Step::CancelMany(many) => self.cancel_many(many),
            Step::ExpectEnd(which) => self.expect_end(which),
        }
        self.bury();
    }

    // Queueing and going.

    fn insert(&mut self, place: Place, shape: Shape, fd: Option<usize>) {
        let name = self.next;
        self.next += 1;
        let lease = fd.map(|fd| self.fds[fd].lease());
        let token = match shape {
            Shape::Small => self.inflight.insert(&mut Moving::new(Small::new(name, lease)), &place),
            Shape::Large => self.inflight.insert(&mut Moving::new(Large::new(name, lease)), &place),
            Shape::Once => self.inflight.insert(&mut Moving::new(Once::new(name, lease)), &place),
        };
        let group = usize::try_from(name % 3).unwrap();
        if group < self.groups.len() {
            self.inflight.join(token, self.groups[group]);
        }
        let life = Life {
            token,
            shape,
            place,
            fd,
            group,
            at: Where::Waits,
            held: true,
            again: false,
            tries: 0,
            asked: false,
            timed_out: false,
            parts: false,
            deadline: None,
            result: 0,
        };
        if let Some(order) = self.order_of_new(&life) {
            order.push_back(name);
        }
        self.lives.insert(name, life);
        self.handles.push(name);
    }

    /// The ops among which a new one keeps its place; none if it may overtake.
    fn order_of_new(&mut self, life: &Life) -> Option<&mut VecDeque<u64>> {
        match (kind_of(life.place.class), turnstile(&life.place)) {
            (Some(_), _) if life.place.has(Place::MAY_BLOCK) => None,
            (Some(kind), _) => Some(&mut self.new_by_kind[kind as usize]),
            (None, Some(key)) => Some(self.new_by_turnstile.entry(key).or_default()),
            (None, None) => Some(&mut self.new_at_once),
        }
    }

    fn admit_up_to(&mut self, most: usize, mut fresh: usize) {
        self.ask_for_the_ring();
        for _ in 0..most {
            if !self.admit(&mut fresh) {
                break;
            }
        }
    }

    /// What `turn/alarm.rs` does: ticks, if there is a reason; the canary, if it is wanted.
    fn ask_for_the_ring(&mut self) {
        if !self.ticking && self.inflight.needs_ticks() {
            self.inflight.begin_ticks();
            self.ticking = true;
        }
        if self.inflight.wants_canary() {
            self.inflight.canary_went();
            self.missing.get_or_insert(0);
            self.owes.push((Token::own(Own::Canary).user_data(), Owed::Canary));
        }
    }

    fn admit(&mut self, fresh: &mut usize) -> bool {
        let mut sqe = Sqe::EMPTY;
        let lane = std::mem::take(&mut self.inflight.cancel_lane);
        let must_cancel = lane.iter().any(|&token| {
            let row = self.inflight.table.get(token);
            row.is_some_and(|row| matches!(row.state, State::Submitted | State::Orphaned))
        });
        self.inflight.cancel_lane = lane;
        // It stops in between if many are looked at in vain.
        while !self.inflight.admit(&mut sqe, fresh) {
            assert!(!must_cancel, "cancels can always go");
            if !self.inflight.has_more(*fresh) {
                assert!(*fresh == 0 || !self.inflight.has_sendable(), "what may go goes");
                return false;
            }
        }
        let is_cancel = sqe.opcode == Opcode::ASYNC_CANCEL;
        assert_eq!(is_cancel, must_cancel, "cancels go first, and only for what the kernel has");
        if is_cancel {
            self.owes.push((sqe.user_data, Owed::Cancel));
        } else {
            self.went(sqe.addr, &sqe);
        }
        true
    }

    fn went(&mut self, name: u64, sqe: &Sqe) {
        let life = self.lives[&name];
        assert_eq!(life.at, Where::Waits, "op {name} goes once");
        assert_eq!(sqe.flags & 1 << 4 != 0, life.place.has(Place::IN_WORKER));
        if life.again {
            if let Some(kind) = kind_of(life.place.class) {
                let next = self.again_by_kind[kind as usize].pop_front();
                assert_eq!(next, Some(name), "what goes again goes in order");
            }
        } else if let Some(order) = self.order_of_new(&life) {
            assert_eq!(order.pop_front(), Some(name), "ops go in the order of queueing");
        }
        self.lives.get_mut(&name).unwrap().at = Where::Kernel;
        ALIVE.with_borrow_mut(|alive| alive.insert(name, true));
        self.owes.push((sqe.user_data, Owed::Op(name)));
    }

    // Coming back.

    fn answer(&mut self, which: usize, result: i32) {
        if self.owes.is_empty() {
            return;
        }
        let (user_data, owed) = self.owes.remove(which % self.owes.len());
        let cqe = |result| Cqe { user_data, result, flags: 0 };
        let after = &mut After::default();
        match owed {
            Owed::Op(name) => self.answer_op(name, cqe(result)),
            // Found, running, not found; a canary is back, or could not get a worker.
            Owed::Cancel => {
                let answer = [0, 0, -114, -2][which % 4];
                self.inflight.complete(cqe(answer), after);
            }
            Owed::Canary => {
                let answer = if is_cut_short(result) { CANCELED } else { self.canary_lives() };
                self.inflight.complete(cqe(answer), after);
            }
        }
    }

    fn answer_op(&mut self, name: u64, cqe: Cqe) {
        ALIVE.with_borrow_mut(|alive| alive.insert(name, false));
        let life = self.lives[&name];
        let row = self.inflight.table.at(life.token.index());
        // Either makes one `ECANCELED` enough.
        let worker = kind_of(life.place.class).is_some() || life.place.has(Place::DISK);
        let in_vain = worker && self.inflight.saturated && row.tries > 0;
        let stolen = row.marks.has(Marks::STOLEN) || in_vain && cqe.result == CANCELED;
        let completed = self.inflight.complete(cqe, &mut After::default());
        let unasked = is_cut_short(cqe.result) || cqe.result == FAULT;
        let once = life.shape == Shape::Once || life.parts;
        let may_again = unasked && !once && !life.asked && !life.timed_out;
        match completed {
            Completed::Op => {
                self.check_result(&life, cqe.result, may_again, stolen);
                self.ended(name);
            }
            Completed::Other => {
                assert!(
                    may_again && life.tries < TRIES_MAX,
                    "{name} goes again: {life:?}, {cqe:?}"
                );
                self.goes_again(name);
            }
            Completed::CancelAgain | Completed::Own(_) => unreachable!("it was an op"),
        }
    }

    fn check_result(&mut self, life: &Life, result: i32, may_again: bool, stolen: bool) {
        let Some(row) = self.inflight.table.get(life.token) else { return };
        let delivered = row.result;
        let tried = match result {
            FAULT => life.tries >= TRIES_AT_ONCE,
            _ => life.tries >= TRIES_MAX || stolen && result == CANCELED,
        };
        assert!(!may_again || tried, "a result that nobody asked for: {result} of {life:?}");
        let worker = kind_of(life.place.class).is_some() || life.place.has(Place::DISK);
        let expected = match result {
            _ if may_again && stolen && is_cut_short(result) => SATURATED,
            _ if life.timed_out && is_cut_short(result) => TIMED_OUT,
            CANCELED if may_again && worker => SATURATED,
            _ => result,
        };
        assert_eq!(delivered, expected, "{life:?}");
    }

    fn goes_again(&mut self, name: u64) {
        let life = self.lives.get_mut(&name).unwrap();
        (life.again, life.at) = (true, Where::Waits);
        life.tries += 1;
        let (place, index) = (life.place, life.token.index());
        if self.inflight.table.at(index).list == List::Paused {
            self.paused.push_back(name);
        } else if let Some(kind) = kind_of(place.class) {
            self.again_by_kind[kind as usize].push_back(name);
        }
    }

    fn canary_lives(&mut self) -> i32 {
        self.missing = None;
        0
    }

    fn answer_in_part(&mut self, which: usize) {
        if self.owes.is_empty() {
            return;
        }
        let (user_data, owed) = self.owes[which % self.owes.len()];
        let Owed::Op(name) = owed else { return };
        let cqe = Cqe { user_data, result: 1, flags: 1 << 1 };
        assert_eq!(self.inflight.complete(cqe, &mut After::default()), Completed::Other);
        self.lives.get_mut(&name).unwrap().parts = true;
    }

    /// An op has its result, whoever gave it.
    fn ended(&mut self, name: u64) {
        let row = self.inflight.table.get(self.lives[&name].token).map(|row| row.result);
        let life = self.lives.get_mut(&name).unwrap();
        assert_ne!(life.at, Where::Ended, "op {name} ends once");
        life.result = row.unwrap_or(0);
        let was = std::mem::replace(&mut life.at, Where::Ended);
        let life = *life;
        if was == Where::Waits {
            if let Some(order) = self.order_of_new(&life) {
                order.retain(|&other| other != name);
            }
            self.again_by_kind.iter_mut().for_each(|order| order.retain(|&other| other != name));
            self.paused.retain(|&other| other != name);
        }
        if !life.held {
            self.lives.remove(&name);
        }
    }

    // Time.

    fn tick(&mut self) {
        if !self.ticking {
            self.ask_for_the_ring();
            return;
        }
        self.ticking = false;
        for name in std::mem::take(&mut self.paused) {
            if let Some(kind) = kind_of(self.lives[&name].place.class) {
                self.again_by_kind[kind as usize].push_back(name);
            }
        }
        self.inflight.tick(&mut After::default());
        if self.inflight.take_suspicion() {
            let workers = Workers { all: 0, running: 0 };
            self.inflight.judge(Some(workers), &mut After::default());
        }
        let (ended, canaries) = (self.find_who_ended(SATURATED), self.missing);
        // The tick in which the canary went may have begun already.
        let late = canaries.is_some_and(|ticks| ticks + 1 >= SATURATED_TICKS);
        assert!(ended == 0 || late, "{ended} ops are told of no workers, and there are some");
        self.missing = canaries.map(|ticks| ticks + 1);
        self.ask_for_the_ring();
    }

    /// Ops that wait may be ended by time. Each that was is found by its state.
    fn find_who_ended(&mut self, expected: i32) -> usize {
        let mut found = 0;
        let waiting: Vec<u64> = self
            .lives
            .iter()
            .filter(|(_, life)| life.at == Where::Waits)
            .map(|(n, _)| *n)
            .collect();
        for name in waiting {
            let row = self.inflight.table.at(self.lives[&name].token.index());
            if matches!(row.state, State::Done | State::Grave) {
                assert_eq!(row.result, expected);
                self.ended(name);
                found += 1;
            }
        }
        found
    }

    fn pass_time(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        for life in self.lives.values_mut() {
            let is_over = life.deadline.is_some_and(|deadline| deadline <= self.now);
            let row = self.inflight.table.at(life.token.index());
            let asked = row.cancel != super::Cancel::None;
            if is_over && life.at != Where::Ended && !asked {
                life.timed_out = true;
            }
        }
        self.inflight.expire(self.now, &mut After::default());
        assert!(self.inflight.next_deadline().is_none_or(|next| next > self.now));
        self.find_who_ended(TIMED_OUT);
        let late = |life: &Life| life.timed_out && life.at == Where::Waits;
        assert!(!self.lives.values().any(late), "what waits ends at its deadline");
    }

    fn set_deadline(&mut self, which: usize, seconds: u64) {
        let Some(name) = self.pick(which) else { return };
        let at = self.now + Duration::from_secs(seconds);
        let life = self.lives.get_mut(&name).unwrap();
        self.inflight.set_deadline(life.token, at);
        life.deadline = Some(life.deadline.map_or(at, |before| before.min(at)));
    }

    // Handles.

    fn pick(&self, which: usize) -> Option<u64> {
        (!self.handles.is_empty()).then(|| self.handles[which % self.handles.len()])
    }

    fn take(&mut self, which: usize) {
        let Some(name) = self.pick(which) else { return };
        let life = self.lives[&name];
        let taken = match life.shape {
            Shape::Small => self.take_as::<16, true>(name),
            Shape::Large => self.take_as::<400, true>(name),
            Shape::Once => self.take_as::<16, false>(name),
        };
        assert_eq!(taken.is_some(), life.at == Where::Ended, "{life:?}");
        if let Some(result) = taken {
            assert_eq!(result, life.result, "the result stays what it was");
            self.lives.remove(&name);
            self.handles.retain(|&other| other != name);
        }
    }

    fn take_as<const N: usize, const AGAIN: bool>(&mut self, name: u64) -> Option<i32> {
        let token = self.lives[&name].token;
        match self.inflight.take::<Witness<N, AGAIN>>(token, None) {
            Taken::Ready(op, result) => {
                assert_eq!(op.name, name, "each handle gets its own op");
                Some(result)
            }
            Taken::Pending => None,
            Taken::Lost | Taken::WakerNeeded => unreachable!("the ring is there; nobody polls"),
        }
    }

    fn let_go(&mut self, which: usize, detach: bool) {
        let Some(name) = self.pick(which) else { return };
        self.handles.retain(|&other| other != name);
        let life = self.lives.get_mut(&name).unwrap();
        life.held = false;
        life.asked |= !detach;
        let life = *life;
        drop(self.inflight.let_go(life.token, detach, &mut After::default()));
        match life.at {
            Where::Waits if !detach => self.ended(name),
            Where::Ended => {
                self.lives.remove(&name);
            }
            Where::Waits | Where::Kernel => {}
        }
    }

    fn cancel(&mut self, which: usize) {
        let Some(name) = self.pick(which) else { return };
        let token = self.lives[&name].token;
        self.inflight.cancel(token, &mut After::default());
        self.was_cancelled(name);
        let _ = self.inflight.cancel_outcome(token, &mut None);
    }

    fn was_cancelled(&mut self, name: u64) {
        let life = self.lives.get_mut(&name).unwrap();
        life.asked = true;
        if life.at == Where::Waits {
            let row = self.inflight.table.get(life.token).map(|row| row.result);
            assert_eq!(row.unwrap_or(CANCELED), CANCELED);
            self.ended(name);
        }
    }

    fn cancel_many(&mut self, many: usize) {
        let fds = [self.fds[0].clone(), self.fds[1].clone()];
        let which = match many {
            0 | 1 => Which::Using(&fds[many]),
            2 | 3 => Which::Group(self.groups[many - 2]),
            _ => Which::All,
        };
        let meant = |life: &Life| match many {
            0 | 1 => life.fd == Some(many),
            2 | 3 => life.group == many - 2,
            _ => true,
        };
        let out = self.lives.iter().filter(|(_, life)| life.at != Where::Ended && meant(life));
        let names: Vec<u64> = out.map(|(name, _)| *name).collect();
        let tally = self.inflight.begin_tally();
        let mut first = Some(0);
        while let Some(from) = first {
            first = self.inflight.cancel_some(which, from, tally, &mut After::default());
        }
        self.tallies.push(Many { tally, ops: names.len() });
        names.into_iter().for_each(|name| self.was_cancelled(name));
    }

    fn expect_end(&mut self, which: usize) {
        let Some(name) = self.pick(which) else { return };
        let life = self.lives.get_mut(&name).unwrap();
        self.inflight.expect_end(life.token);
        life.asked = true;
    }

    fn bury(&mut self) {
        while let Some(corpse) = self.inflight.exhume() {
            corpse.bury();
        }
        let inflight = &mut self.inflight;
        self.tallies.retain(|many| match inflight.tallied(many.tally, &mut None) {
            None => true,
            Some(what) => {
                assert_eq!(what.cancelled + what.running + what.finished, many.ops);
                inflight.end_tally(many.tally);
                false
            }
        });
    }

    // What always holds.

    fn check(&mut self) {
        let out = self.count();
        self.check_counts(&out);
        self.check_credits(&out);
        self.check_turnstiles(&out);
        self.check_lists();
    }

    fn count(&self) -> Out {
        let mut out = Out::default();
        for life in self.lives.values() {
            match life.at {
                Where::Waits => out.waiting += 1,
                Where::Kernel => {
                    out.in_kernel[life.place.class.index()] += 1;
                    out.disk += usize::from(life.place.has(Place::DISK));
                    if let Some(key) = turnstile(&life.place) {
                        *out.by_turnstile.entry(key).or_default() += 1;
                    }
                }
                Where::Ended => {}
            }
        }
        out
    }

    fn check_counts(&mut self, out: &Out) {
        let pending = self.inflight.pending();
        assert_eq!(pending.queued, out.waiting);
        assert_eq!(pending.in_kernel, out.in_kernel.iter().sum());
        let cancels = self.owes.iter().filter(|(_, owed)| *owed == Owed::Cancel).count();
        assert_eq!(pending.cancels, cancels + self.inflight.cancel_lane.len());
        self.inflight.publish();
        let stats = self.counters.snapshot(0);
        assert_eq!((stats.queued, stats.cancels), (pending.queued, pending.cancels));
        for class in Class::ALL {
            assert_eq!(stats.class(class).in_flight, out.in_kernel[class.index()], "{class:?}");
        }
    }

    fn check_credits(&mut self, out: &Out) {
        let mut needed = out.disk;
        for kind in KINDS {
            let [_, holders, stuck, credits] = self.inflight.admission.of_kind(kind);
            assert!(holders <= credits, "{kind:?}: {holders} of {credits} credits");
            let in_kernel = out.in_kernel[Class::Worker(kind).index()];
            assert_eq!(holders + stuck, in_kernel, "{kind:?}");
            needed += in_kernel;
        }
        let wanted = self.inflight.workers_wanted() as usize;
        assert!(self.fixed || wanted > needed, "one for each, and one for the canary");
    }

    fn check_turnstiles(&mut self, out: &Out) {
        for (key, taken, behind) in self.inflight.turnstiles.all() {
            let inside = out.by_turnstile.get(&key).copied().unwrap_or(0);
            assert!(inside <= usize::from(taken), "turnstile {key} lets one through at a time");
            assert!(taken || behind.is_empty(), "nobody waits behind nobody");
        }
    }

    /// Each row is on the one list that it says, and that its state allows.
    fn check_lists(&mut self) {
        let mut found = vec![List::None; self.inflight.table.indices().len()];
        for (list, index) in self.walk() {
            let before = std::mem::replace(&mut found[index as usize], list);
            assert_eq!(before, List::None, "row {index} is on two lists");
        }
        assert!(self.inflight.graves.is_empty(), "the dead are buried after each step");
        for index in self.inflight.table.indices() {
            let row = self.inflight.table.at(index);
            let (state, list, kind) = (row.state, row.list, row.kind());
            assert_eq!(found[index as usize], list, "row {index}");
            let fits = match state {
                State::Waiting | State::Drifting => match list {
                    List::Lane(Lane::Kind(of)) => kind == Some(of),
                    List::Lane(Lane::Fresh) | List::Paused => true,
                    List::Lane(Lane::Ready) | List::Behind => kind.is_none(),
                    List::None | List::Asleep | List::Holders | List::Stuck => false,
                },
                State::Submitted | State::Orphaned => match list {
                    List::Holders | List::Stuck => kind.is_some(),
                    List::None => kind.is_none(),
                    List::Lane(_) | List::Paused | List::Asleep | List::Behind => false,
                },
                State::Free | State::Done => list == List::None,
                State::Grave | State::Lost | State::Leaked => false,
            };
            assert!(fits, "row {index} is {state:?} on {list:?}");
        }
    }

    fn walk(&mut self) -> Vec<(List, u32)> {
        let mut rows = Vec::new();
        let Inflight { admission, table, turnstiles, .. } = &mut self.inflight;
        for lane in [Lane::Fresh, Lane::Ready].into_iter().chain(KINDS.map(Lane::Kind)) {
            walk(admission.lane(lane), table, |index| rows.push((List::Lane(lane), index)));
        }
        assert_eq!(rows.len() + admission.paused.len(), admission.waiting());
        walk(&admission.paused, table, |index| rows.push((List::Paused, index)));
        for kind in KINDS {
            walk(admission.holders(kind), table, |index| rows.push((List::Holders, index)));
            walk(admission.stuck(kind), table, |index| rows.push((List::Stuck, index)));
        }
        for (_, _, behind) in turnstiles.all() {
            walk(behind, table, |index| rows.push((List::Behind, index)));
        }
        rows
    }

    // The end.

    /// The kernel turns honest and time goes on: everything ends, and nothing is left anywhere.
    fn finish(mut self) {
        let rounds = self.lives.len() + 2 * TRIES_MAX as usize;
        for _ in 0..rounds {
            self.admit_up_to(usize::MAX, usize::MAX);
            self.answer_all();
            self.bury();
            self.check();
            self.tick();
            self.bury();
        }
        assert!(self.inflight.is_idle(), "forgotten: {:?}", self.inflight.pending());
        assert!(!self.inflight.needs_ticks() && !self.inflight.has_sendable());
        assert!(self.tallies.is_empty(), "each cancel of many is answered");
        while !self.handles.is_empty() {
            self.take(0);
        }
        assert!(self.walk().is_empty() && self.inflight.table.is_all_free());
        assert!(self.inflight.turnstiles.all().all(|(_, taken, _)| !taken));
        ALIVE.with_borrow(|alive| assert!(alive.is_empty(), "left behind: {alive:?}"));
        for fd in self.fds {
            assert!(format!("{fd:?}").contains(" 0 ops"), "a lease is left: {fd:?}");
        }
    }

    fn answer_all(&mut self) {
        for (user_data, owed) in std::mem::take(&mut self.owes) {
            let cqe = Cqe { user_data, result: 0, flags: 0 };
            match owed {
                Owed::Op(name) => self.answer_op(name, cqe),
                Owed::Cancel | Owed::Canary => {
                    if owed == Owed::Canary {
                        self.canary_lives();
                    }
                    self.inflight.complete(cqe, &mut After::default());
                }
            }
        }
    }
}

fn walk(queue: &super::Queue, table: &mut super::Table, mut each: impl FnMut(u32)) {
    let mut next = queue.front();
    let mut len = 0;
    while let Some(index) = next {
        each(index);
        len += 1;
        next = queue.after(table, index);
    }
    assert_eq!(len, queue.len());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert { place: Place, shape: Shape, fd: Option<usize>, count: usize },
    Admit { most: usize, fresh: usize },
    Answer { which: usize, result: i32, count: usize },
    Part(usize),
    Tick,
    LongTime,
    Time(u64),
    Deadline(usize, u64),
    Take(usize),
    LetGo(usize, bool),
    Cancel(usize),
    CancelMany(usize),
    ExpectEnd(usize),
}

fn place() -> impl Strategy<Value = Place> {
    let kind = || prop::sample::select(KINDS.to_vec());
    prop_oneof![
        2 => Just(Place::of(Class::Control)),
        1 => Just(Place::of(Class::Pollable)),
        1 => Just(Place::of(Class::Pollable).with(Place::DISK)),
        1 => Just(Place::of(Class::Pollable).with(Place::DISK).in_worker()),
        3 => (0..2, any::<bool>()).prop_map(|(fd, into)| {
            Place::through(fd, if into { Direction::In } else { Direction::Out })
        }),
        1 => (0..2).prop_map(|fd| Place::through(fd, Direction::In).in_worker()),
        4 => kind().prop_map(Place::worker),
        // Most of one kind, so that its credits run out.
        4 => Just(Place::worker(Kind::Open)),
        1 => kind().prop_map(|kind| Place::worker(kind).may_block()),
        1 => kind().prop_map(|kind| Place::worker(kind).in_worker()),
    ]
}

fn insert() -> impl Strategy<Value = Step> {
    let shape = prop::sample::select(vec![Shape::Small, Shape::Small, Shape::Large, Shape::Once]);
    let count = prop_oneof![12 => Just(1usize), 1 => 2..3 * CREDITS as usize];
    (place(), shape, prop::option::of(0usize..2), count)
        .prop_map(|(place, shape, fd, count)| Step::Insert { place, shape, fd, count })
}

fn result() -> impl Strategy<Value = i32> {
    let plain = prop::sample::select(vec![0, 1, 4096, -2, -11]);
    let unasked = prop::sample::select(vec![CANCELED, CANCELED, INTERRUPTED, FAULT, RESTART]);
    prop_oneof![2 => plain, 3 => unasked]
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0usize..256;
    let many = prop_oneof![9 => 0usize..4, 1 => Just(4)];
    let few = || prop_oneof![3 => Just(1usize), 1 => 1usize..48];
    let fresh = prop_oneof![4 => Just(usize::MAX), 1 => Just(0), 1 => 0usize..8];
    prop_oneof![
        8 => insert(),
        12 => (few(), fresh).prop_map(|(most, fresh)| Step::Admit { most, fresh }),
        12 => (which.clone(), result(), few())
            .prop_map(|(which, result, count)| Step::Answer { which, result, count }),
        1 => which.clone().prop_map(Step::Part),
        5 => Just(Step::Tick),
        1 => prop::bool::weighted(0.1)
            .prop_map(|long| if long { Step::LongTime } else { Step::Tick }),
        1 => (0u64..4).prop_map(Step::Time),
        2 => (which.clone(), 0u64..6).prop_map(|(which, at)| Step::Deadline(which, at)),
        5 => which.clone().prop_map(Step::Take),
        3 => (which.clone(), any::<bool>()).prop_map(|(which, detach)| Step::LetGo(which, detach)),
        2 => which.clone().prop_map(Step::Cancel),
        1 => many.prop_map(Step::CancelMany),
        1 => which.prop_map(Step::ExpectEnd),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// 256 worlds of 400 steps: 100,000 steps.
    #[test]
    fn p5_whatever_the_kernel_answers_each_op_goes_in_its_turn_and_ends_once(
        steps in prop::collection::vec(step(), 400),
        fixed in prop::option::weighted(0.2, 1u32..200),
    ) {
        let mut world = World::new(fixed);
        for step in steps {
            world.run(step);
            world.check();
        }
        world.finish();
    }

    /// The same, cut off at any step: what the kernel holds is leaked, the rest ends.
    #[test]
    fn p8_when_the_ring_goes_ops_of_all_classes_end_or_are_leaked(
        steps in prop::collection::vec(step(), 0..100),
    ) {
        let mut world = World::new(None);
        for step in steps {
            world.run(step);
        }
        let held = world.inflight.pending().in_kernel;
        let leaked = world.inflight.ring_gone(CANCELED, &mut After::default());
        world.bury();
        prop_assert_eq!(leaked, held);
        prop_assert!(world.inflight.is_idle());
        prop_assert!(world.tallies.is_empty(), "each cancel of many is answered");
        for name in std::mem::take(&mut world.handles) {
            let Life { token, shape, .. } = world.lives[&name];
            let over = match shape {
                Shape::Small => world.inflight.take::<Small>(token, None).is_over(),
                Shape::Large => world.inflight.take::<Large>(token, None).is_over(),
                Shape::Once => world.inflight.take::<Once>(token, None).is_over(),
            };
            prop_assert!(over, "each handle has an answer");
        }
        ALIVE.with_borrow(|alive| assert_eq!(alive.len(), leaked, "the rest has ended"));
    }
}
