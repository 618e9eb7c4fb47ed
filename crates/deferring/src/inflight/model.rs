//! The table against a model: random lives of many ops, with every promise checked at each step.
//!
//! A kernel of a few lines holds what was admitted and answers in any order. Each op carries a
//! witness that says where it is and panics if it is dropped while the kernel holds it. Among them
//! are sleeps, which have rows like the others, and no cells.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::task::Waker;
use std::time::Duration;

use proptest::prelude::*;

use super::{After, CANCELED, Inflight, Moving, Taken, Token};
use crate::op::{Class, Cqe, Op, Opcode, Place, Sleep, Sqe};
use crate::sync::Arc;

const PLACE: Place = Place::of(Class::Control);

thread_local! {
    /// The ops that exist, and whether the kernel holds them.
    static ALIVE: RefCell<HashMap<u64, bool>> = RefCell::new(HashMap::new());
}

/// An op that names itself. Two sizes: one fits into a cell, one does not.
struct Witness<const N: usize> {
    name: u64,
    _padding: [u8; N],
}

type Small = Witness<16>;
type Large = Witness<400>;

impl<const N: usize> Witness<N> {
    fn new(name: u64) -> Self {
        ALIVE.with_borrow_mut(|alive| alive.insert(name, false));
        Self { name, _padding: [0; N] }
    }
}

impl<const N: usize> Drop for Witness<N> {
    fn drop(&mut self) {
        let held = ALIVE.with_borrow_mut(|alive| alive.remove(&self.name));
        assert_eq!(held, Some(false), "op {} is dropped twice, or under the kernel", self.name);
    }
}

// SAFETY: names no memory; the "address" is a name.
unsafe impl<const N: usize> Op for Witness<N> {
    type Output = io::Result<u32>;
    const CODE: Opcode = Opcode::NOP;

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.addr = self.name;
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<u32> {
        result
    }
}

#[derive(Clone, Copy, Debug)]
enum What {
    Small,
    Large,
    Sleep(Duration),
}

#[derive(Clone, Copy)]
struct Held {
    token: Token,
    name: u64,
    what: What,
}

#[derive(Default)]
struct Kernel {
    /// What it owes an answer: the token, and the op's name (cancels have none).
    owes: Vec<(u64, Option<u64>)>,
    /// What was admitted, in order.
    order: Vec<u64>,
}

struct World {
    inflight: Inflight,
    kernel: Kernel,
    handles: Vec<Held>,
    queued: Vec<u64>,
    /// Sleeps that have not ended, and until when.
    asleep: Vec<(u64, Duration)>,
    /// Sleeps that have, and how.
    awake: HashMap<u64, i32>,
    now: Duration,
    next: u64,
}

impl World {
    fn new() -> Self {
        ALIVE.with_borrow_mut(HashMap::clear);
        let inflight = Inflight::new(Arc::default(), 100);
        Self {
            inflight,
            kernel: Kernel::default(),
            handles: vec![],
            queued: vec![],
            asleep: vec![],
            awake: HashMap::new(),
            now: Duration::ZERO,
            next: 1,
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Insert(what, count) => (0..count).for_each(|_| self.insert(what)),
            Step::Pass(time) => self.pass(time),
            Step::Admit => self.admit(),
            Step::Answer(which, result) => self.answer(which, result),
            Step::Take(which) => self.take(which),
            Step::LetGo(which, detach) => self.let_go(which, detach),
            Step::Cancel(which) => self.cancel(which),
        }
        self.bury();
    }

    fn insert(&mut self, what: What) {
        let name = self.next;
        self.next += 1;
        let token = match what {
            What::Small => self.inflight.insert(&mut Moving::new(Small::new(name)), &PLACE),
            What::Large => self.inflight.insert(&mut Moving::new(Large::new(name)), &PLACE),
            What::Sleep(time) => {
                let until = self.now + time;
                self.asleep.push((name, until));
                let mut sleep = Moving::new(Sleep::new(time));
                self.inflight.insert_asleep(&mut sleep, &PLACE, until)
            }
        };
        if !matches!(what, What::Sleep(_)) {
            self.queued.push(name);
        }
        self.handles.push(Held { token, name, what });
    }

    /// Those that have slept long enough end, and no others.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        let (over, asleep) = self.asleep.iter().partition::<Vec<_>, _>(|(_, until)| *until <= now);
        self.asleep = asleep;
        self.awake.extend(over.iter().map(|(name, _)| (*name, 0)));
        self.inflight.expire(now, &mut After::default());
        assert_eq!(self.inflight.take_ended_unseen(), over.len());
        let (alarm, first) = (self.inflight.next_deadline(), self.asleep.iter().map(|(_, at)| at));
        assert!(first.min().is_none_or(|_| alarm.is_some_and(|alarm| alarm > now)));
    }

    /// The user ended it, or gave it up.
    fn wake(&mut self, name: u64) {
        if let Some(at) = self.asleep.iter().position(|(asleep, _)| *asleep == name) {
            self.asleep.swap_remove(at);
            self.awake.insert(name, CANCELED);
        }
    }

    fn admit(&mut self) {
        let mut sqe = Sqe::EMPTY;
        let cancels = self.inflight.pending().cancels > 0 && !self.inflight.cancel_lane.is_empty();
        if !self.inflight.admit(&mut sqe, &mut usize::MAX.clone()) {
            assert!(self.queued.is_empty(), "everything that waits can be admitted");
            return;
        }
        if sqe.opcode == Opcode::ASYNC_CANCEL {
            self.kernel.owes.push((sqe.user_data, None));
            return;
        }
        assert!(!cancels || self.inflight.cancel_lane.is_empty(), "cancels go first");
        assert_eq!(self.queued.remove(0), sqe.addr, "ops go in order");
        ALIVE.with_borrow_mut(|alive| alive.insert(sqe.addr, true));
        self.kernel.order.push(sqe.addr);
        self.kernel.owes.push((sqe.user_data, Some(sqe.addr)));
    }

    fn answer(&mut self, which: usize, result: i32) {
        if self.kernel.owes.is_empty() {
            return;
        }
        let (user_data, name) = self.kernel.owes.remove(which % self.kernel.owes.len());
        if let Some(name) = name {
            ALIVE.with_borrow_mut(|alive| alive.insert(name, false));
        }
        let result = if name.is_some() { result.abs() } else { result };
        self.inflight.complete(Cqe { user_data, result, flags: 0 }, &mut After::default());
    }

    fn take(&mut self, which: usize) {
        if self.handles.is_empty() {
            return;
        }
        let which = which % self.handles.len();
        let Held { token, name, what } = self.handles[which];
        let over = match what {
            What::Small => self.take_as::<16>(token, name),
            What::Large => self.take_as::<400>(token, name),
            What::Sleep(_) => self.take_sleep(token, name),
        };
        if over {
            self.handles.remove(which);
        }
    }

    fn take_as<const N: usize>(&mut self, token: Token, name: u64) -> bool {
        match self.inflight.take::<Witness<N>>(token, None) {
            Taken::Ready(op, result) => {
                assert_eq!(op.name, name, "each handle gets its own op");
                assert!(result >= 0 || result == CANCELED);
                true
            }
            Taken::Pending => false,
            Taken::Lost | Taken::WakerNeeded => unreachable!("the ring is there; nobody polls"),
        }
    }

    fn take_sleep(&mut self, token: Token, name: u64) -> bool {
        let over = match self.inflight.take::<Sleep>(token, None) {
            Taken::Ready(_, result) => Some(result),
            Taken::Pending => None,
            Taken::Lost | Taken::WakerNeeded => unreachable!("the ring is there; nobody polls"),
        };
        assert_eq!(over, self.awake.remove(&name));
        over.is_some()
    }

    fn let_go(&mut self, which: usize, detach: bool) {
        if self.handles.is_empty() {
            return;
        }
        let which = which % self.handles.len();
        let held = self.handles.remove(which);
        drop(self.inflight.let_go(held.token, detach, &mut After::default()));
        if !detach {
            self.queued.retain(|&name| name != held.name);
            self.wake(held.name);
        }
        self.bury();
    }

    fn cancel(&mut self, which: usize) {
        if self.handles.is_empty() {
            return;
        }
        let held = self.handles[which % self.handles.len()];
        self.inflight.cancel(held.token, &mut After::default());
        self.queued.retain(|&name| name != held.name);
        self.wake(held.name);
        let mut waker = Some(Waker::noop().clone());
        let _ = self.inflight.cancel_outcome(held.token, &mut waker);
    }

    fn bury(&mut self) {
        while let Some(corpse) = self.inflight.exhume() {
            corpse.bury();
        }
    }

    fn check(&self) {
        let pending = self.inflight.pending();
        assert_eq!(pending.queued, self.queued.len() + self.asleep.len());
        let ops = self.kernel.owes.iter().filter(|(_, name)| name.is_some()).count();
        assert_eq!(pending.in_kernel, ops);
    }

    /// Answers everything, takes everything: nothing is left, and nothing was leaked.
    fn finish(mut self) {
        while self.inflight.has_sendable() || !self.kernel.owes.is_empty() {
            while self.inflight.has_sendable() {
                self.admit();
            }
            self.answer(0, 0);
            self.bury();
        }
        self.pass(LONG);
        self.bury();
        while !self.handles.is_empty() {
            self.take(0);
        }
        self.bury();
        assert!(self.inflight.table.is_all_free());
        ALIVE.with_borrow(|alive| assert!(alive.is_empty(), "left behind: {alive:?}"));
    }
}

/// Longer than any sleep.
const LONG: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(What, usize),
    Pass(Duration),
    Admit,
    Answer(usize, i32),
    Take(usize),
    LetGo(usize, bool),
    Cancel(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0usize..64;
    let micros = || prop_oneof![0u64..2000, 0u64..100_000].prop_map(Duration::from_micros);
    prop_oneof![
        3 => prop::sample::select(vec![What::Small, What::Large]).prop_map(|w| Step::Insert(w, 1)),
        // So many that they are not all in a heap.
        2 => (micros(), 1usize..20).prop_map(|(time, n)| Step::Insert(What::Sleep(time), n)),
        2 => micros().prop_map(Step::Pass),
        4 => Just(Step::Admit),
        // A cancel may be answered by any of these; an op takes the value as its result.
        4 => (which.clone(), prop::sample::select(vec![0, 1, -2, -114])).prop_map(|(w, r)| Step::Answer(w, r)),
        3 => which.clone().prop_map(Step::Take),
        1 => (which.clone(), any::<bool>()).prop_map(|(w, d)| Step::LetGo(w, d)),
        2 => which.prop_map(Step::Cancel),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// 256 worlds of 400 steps: 100,000 steps.
    #[test]
    fn p3_each_op_ends_once_and_is_never_dropped_under_the_kernel(
        steps in prop::collection::vec(step(), 400),
    ) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
        }
        world.finish();
    }

    /// The same, cut off at any step: what the kernel holds is leaked, the rest ends.
    #[test]
    fn p8_when_the_ring_goes_only_what_the_kernel_holds_is_leaked(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        let held = world.inflight.pending().in_kernel;
        let leaked = world.inflight.ring_gone(CANCELED, &mut After::default());
        world.bury();
        prop_assert_eq!(leaked, held);
        for Held { token, what, .. } in std::mem::take(&mut world.handles) {
            let inflight = &mut world.inflight;
            let over = match what {
                What::Small => inflight.take::<Small>(token, None).is_over(),
                What::Large => inflight.take::<Large>(token, None).is_over(),
                What::Sleep(_) => inflight.take::<Sleep>(token, None).is_over(),
            };
            prop_assert!(over, "each handle has an answer");
        }
        ALIVE.with_borrow(|alive| assert_eq!(alive.len(), leaked, "the rest has ended"));
    }
}
