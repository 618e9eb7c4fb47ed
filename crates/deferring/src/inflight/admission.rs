//! Who may go to the kernel next (P5, P6), and what its workers are doing.
//!
//! Ops wait in lanes, which are served by deficit round robin. One lane is for what has not been
//! looked at yet, in order of arrival; one for what is to go again; one for each kind of worker op.
//! A worker op takes a *credit* of its kind when it goes, and the limit on the kernel's workers is
//! kept at the credits, so that it never waits inside the kernel behind another. Who holds a
//! credit for longer than a tick is *stuck*: its credit goes back, and the limit is raised by one.
//! A *canary*, an op that does nothing but needs a worker, makes the kernel act on a raised limit,
//! and tells whether there are workers at all.
//!
//! Pure: time comes in ticks, from whoever has a clock. Not: the states of ops (`slot.rs`), the
//! limit itself (`turn/workers.rs`).

use std::collections::VecDeque;

use super::queue::{Links, Queue};
#[cfg(test)]
use crate::op::Class;
use crate::op::Kind;
use crate::planted::{self, Bug};

/// How many worker ops of one kind are in the kernel at once, to begin with. Enough to keep a disk
/// busy; the kernel makes a thread only for those that block.
pub(crate) const CREDITS: u32 = 32;

/// What a lane may send in one round.
const QUANTUM: i32 = 16;

/// Where ops wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Queued, and not looked at.
    Fresh,
    /// May go at once.
    Ready,
    /// Waits for a credit.
    Kind(Kind),
}

const LANES: [Lane; 2 + Kind::COUNT] = [
    Lane::Fresh,
    Lane::Ready,
    Lane::Kind(Kind::Open),
    Lane::Kind(Kind::Path),
    Lane::Kind(Kind::Data),
    Lane::Kind(Kind::Sync),
];

/// The ops of one kind.
#[derive(Debug)]
struct Crew {
    waiting: Queue,
    /// Those that hold a credit, the oldest first.
    holders: Queue,
    /// Those whose credit went back while they were in the kernel.
    stuck: Queue,
    allowance: u32,
    /// One has ended since the last tick.
    moving: bool,
}

impl Crew {
    const fn new() -> Self {
        Self {
            waiting: Queue::new(),
            holders: Queue::new(),
            stuck: Queue::new(),
            allowance: CREDITS,
            moving: false,
        }
    }

    fn has_credit(&self) -> bool {
        self.holders.len() < self.allowance as usize
    }
}

/// What all crews together are asked for several times in each turn.
#[derive(Clone, Copy, Debug)]
struct Crews {
    /// A credit is out, or somebody waits for one.
    busy: bool,
    /// How many workers they may need.
    workers: usize,
}

impl Crews {
    fn of(crews: &[Crew]) -> Self {
        let busy = |crew: &Crew| !crew.holders.is_empty() || !crew.waiting.is_empty();
        let workers = crews.iter().map(|crew| crew.allowance as usize + crew.stuck.len());
        Self { busy: crews.iter().any(busy), workers: workers.sum() }
    }
}

/// When the next tick is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pace {
    Never,
    Later,
    Soon,
}

/// What a tick found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    /// So many ops are stuck that were not before.
    Went { stuck: usize },
    /// The canary has not come back for long: the system gives no more workers, or it is busy.
    Suspicious,
}

/// Lanes, credits and workers of one ring.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) fresh: Queue,
    pub(crate) ready: Queue,
    /// Given back by the kernel undone, several times: to go again at the next tick.
    pub(crate) paused: Queue,
    crews: [Crew; Kind::COUNT],
    /// Something of a crew may have changed since somebody asked; else they are as noted here.
    changed: bool,
    noted: Crews,
    /// How many wait in all lanes but `fresh`.
    others: usize,
    at: usize,
    deficits: [i32; LANES.len()],
    /// Turns matter: somebody else could have been served last.
    in_turn: bool,
    tick: u32,
    /// A canary is to be sent with the next batch.
    canary_wanted: bool,
    /// Canaries in the kernel, by the ticks in which they went, the oldest first.
    canaries: VecDeque<u32>,
    /// Since when no canary has come back.
    missing: Option<u32>,
    /// Ops that went before this tick have got a worker, as a canary that went then has come back.
    proven: u32,
    /// Transfers of disks in the kernel. They need a worker now and then.
    disk: usize,
    /// One has ended since the last tick.
    disk_moving: bool,
    /// One went after the last canary that came back, and one after the last that went.
    disk_unproven: bool,
    disk_since_canary: bool,
    /// How many ticks a canary may be out before the workers are looked at.
    patience: u32,
    /// The limit cannot be changed, and is this.
    fixed: Option<u32>,
}

impl Admission {
    pub(crate) const fn new(patience: u32) -> Self {
        Self {
            fresh: Queue::new(),
            ready: Queue::new(),
            paused: Queue::new(),
            crews: [Crew::new(), Crew::new(), Crew::new(), Crew::new()],
            changed: true,
            noted: Crews { busy: false, workers: 0 },
            others: 0,
            at: 0,
            deficits: [QUANTUM, 0, 0, 0, 0, 0],
            in_turn: false,
            tick: 1,
            canary_wanted: false,
            canaries: VecDeque::new(),
            missing: None,
            proven: 0,
            disk: 0,
            disk_moving: false,
            disk_unproven: false,
            disk_since_canary: false,
            patience,
            fixed: None,
        }
    }

    /// How many ops wait, wherever.
    pub(crate) fn waiting(&self) -> usize {
        self.fresh.len() + self.paused.len() + self.others
    }

    pub(crate) const fn has_only_fresh(&self) -> bool {
        self.others == 0
    }

    pub(crate) const fn now(&self) -> u32 {
        self.tick
    }

    pub(crate) fn push(&mut self, lane: Lane, rows: &mut impl Links, index: u32) {
        self.others += usize::from(lane != Lane::Fresh);
        self.lane(lane).push_back(rows, index);
    }

    /// The first of a lane that can be served.
    pub(crate) fn pop(&mut self, lane: Lane, rows: &mut impl Links) -> u32 {
        self.others -= usize::from(lane != Lane::Fresh);
        self.lane(lane).pop_front(rows).expect("a lane that can be served")
    }

    pub(crate) fn remove(&mut self, lane: Lane, rows: &mut impl Links, index: u32) {
        self.others -= usize::from(lane != Lane::Fresh);
        self.lane(lane).remove(rows, index);
    }

    pub(super) const fn lane(&mut self, lane: Lane) -> &mut Queue {
        match lane {
            Lane::Fresh => &mut self.fresh,
            Lane::Ready => &mut self.ready,
            Lane::Kind(kind) => &mut self.crew(kind).waiting,
        }
    }

    const fn crew(&mut self, kind: Kind) -> &mut Crew {
        self.changed = true;
        &mut self.crews[kind as usize]
    }

    pub(crate) const fn holders(&mut self, kind: Kind) -> &mut Queue {
        &mut self.crew(kind).holders
    }

    pub(crate) const fn stuck(&mut self, kind: Kind) -> &mut Queue {
        &mut self.crew(kind).stuck
    }

    /// Whether something of a crew may have changed since this was asked before.
    pub(crate) fn take_changed(&mut self) -> bool {
        let changed = std::mem::replace(&mut self.changed, false);
        if changed {
            self.noted = Crews::of(&self.crews);
        }
        changed
    }

    fn all_crews(&self) -> Crews {
        if self.changed { Crews::of(&self.crews) } else { self.noted }
    }

    /// What of a kind waits, holds a credit, has lost one by being stuck; and how many there are.
    pub(crate) fn of_kind(&self, kind: Kind) -> [usize; 4] {
        let crew = &self.crews[kind as usize];
        let credits = crew.allowance as usize;
        [crew.waiting.len(), crew.holders.len(), crew.stuck.len(), credits]
    }

    /// Whether a worker op that arrives may go at once: there is a credit, and nobody is before it.
    pub(crate) fn may_go(&self, kind: Kind) -> bool {
        let crew = &self.crews[kind as usize];
        crew.waiting.is_empty() && crew.has_credit()
    }

    /// Whether a lane could send something. `fresh` says whether the new may be looked at.
    fn can_serve(&self, lane: Lane, fresh: bool) -> bool {
        match lane {
            Lane::Fresh => fresh && !self.fresh.is_empty(),
            Lane::Ready => !self.ready.is_empty(),
            Lane::Kind(kind) => {
                let crew = &self.crews[kind as usize];
                !crew.waiting.is_empty() && crew.has_credit()
            }
        }
    }

    /// Whether anything could be sent.
    pub(crate) fn can_serve_any(&self, fresh: bool) -> bool {
        self.can_serve(Lane::Fresh, fresh)
            || self.others > 0 && LANES.iter().any(|&lane| self.can_serve(lane, fresh))
    }

    /// The lane whose turn it is. Where there is but one, that one.
    pub(crate) fn next(&mut self, fresh: bool) -> Option<Lane> {
        self.in_turn = self.others > 0;
        if self.in_turn {
            return self.next_in_turn(fresh);
        }
        self.can_serve(Lane::Fresh, fresh).then_some(Lane::Fresh)
    }

    fn next_in_turn(&mut self, fresh: bool) -> Option<Lane> {
        if !self.can_serve_any(fresh) {
            return None;
        }
        loop {
            let lane = LANES[self.at];
            let deficit = &mut self.deficits[self.at];
            if *deficit > 0 {
                if self.can_serve(lane, fresh) {
                    return Some(lane);
                }
                // A lane that has nothing to send saves nothing up.
                self.deficits[self.at] = 0;
            }
            self.at = (self.at + 1) % LANES.len();
            let deficit = &mut self.deficits[self.at];
            *deficit = (*deficit + QUANTUM).min(QUANTUM);
        }
    }

    /// Charges the lane that was served last.
    pub(crate) fn charge(&mut self, cost: impl FnOnce() -> i32) {
        if self.in_turn {
            self.deficits[self.at] -= cost();
        }
    }

    pub(crate) const fn has_transfers_of_disks(&self) -> bool {
        self.disk > 0
    }

    pub(crate) const fn disk_went(&mut self) {
        self.disk += 1;
        self.disk_unproven = true;
        self.disk_since_canary = true;
    }

    pub(crate) const fn disk_ended(&mut self) {
        self.disk -= 1;
        self.disk_moving = true;
    }

    /// A worker op has ended, or was given back; its row is on no list of ours any more.
    pub(crate) fn ended(&mut self, kind: Kind) {
        let crew = self.crew(kind);
        crew.moving = true;
        crew.allowance -= u32::from(planted::has(Bug::LostCredit) && crew.allowance > 0);
    }

    /// How many workers there must be able to be: one for each op that may block one.
    pub(crate) fn workers_wanted(&self) -> u32 {
        // Rounded, so that the limit is not changed with every read of a disk.
        let disk = if self.disk == 0 { 0 } else { self.disk.next_power_of_two() };
        let wanted = self.all_crews().workers + disk + 1;
        u32::try_from(wanted).unwrap_or(u32::MAX).min(WORKERS_MAX)
    }

    /// The limit cannot be changed: the credits are made to fit.
    pub(crate) fn fix(&mut self, workers: u32) {
        self.fixed = Some(workers);
        self.changed = true;
        let share = u32::try_from(Kind::COUNT).unwrap_or(u32::MAX);
        for crew in &mut self.crews {
            crew.allowance = (workers / share).max(1);
        }
    }

    // Ticks.

    /// When a tick is to come: soon, if a credit is out, somebody pauses, or the canary is not back.
    /// For transfers of disks it may be later: there are as many workers as they may need, unless the
    /// system gives no more, which nobody has to see at once. Each tick costs who waits a system call.
    pub(crate) fn pace(&self) -> Pace {
        let canary = self.canary_wanted || !self.canaries.is_empty();
        if canary || !self.paused.is_empty() || self.all_crews().busy {
            Pace::Soon
        } else if self.disk > 0 && self.disk_unproven {
            Pace::Later
        } else {
            Pace::Never
        }
    }

    /// The clock for the next tick is set: who went before this is older than a tick when it comes.
    pub(crate) const fn begin_ticks(&mut self) {
        self.tick = self.tick.wrapping_add(1);
    }

    /// A tick has come. `went` tells when the op of a row went; `mark` is told who is stuck now.
    pub(crate) fn tick<T: Links>(
        &mut self,
        rows: &mut T,
        went: impl Fn(&mut T, u32) -> u32,
        mut mark: impl FnMut(&mut T, u32),
    ) -> Tick {
        let now = self.tick;
        self.changed = true;
        if let Some(since) = self.missing {
            let late = now.wrapping_sub(since) >= self.patience;
            // Linux may have lost the making of a worker; the next op that needs one reminds it.
            let last = self.canaries.back().map_or(CANARY_EVERY, |&went| now.wrapping_sub(went));
            self.canary_wanted |= last >= CANARY_EVERY && self.canaries.len() < CANARIES_MAX;
            // More credits would only fill up what does not move.
            return if late { Tick::Suspicious } else { Tick::Went { stuck: 0 } };
        }
        let mut found = 0;
        let moving = std::mem::take(&mut self.disk_moving);
        let disk_stands = self.disk > 0 && self.disk_unproven && !moving;
        for crew in &mut self.crews {
            let moving = std::mem::take(&mut crew.moving);
            let blocked = !crew.waiting.is_empty() && !crew.has_credit();
            let before = found;
            while let Some(index) = crew.holders.front() {
                if !is_older(went(rows, index), now) {
                    break;
                }
                if self.fixed.is_none() {
                    crew.holders.remove(rows, index);
                    crew.stuck.push_back(rows, index);
                    mark(rows, index);
                }
                found += 1;
                if self.fixed.is_some() {
                    break;
                }
            }
            if self.fixed.is_some() {
                continue;
            }
            if blocked && found > before && crew.holders.is_empty() && !moving {
                // All at once, and none moves: these wait for something that more may bring.
                crew.allowance = crew.allowance.saturating_mul(2).min(WORKERS_MAX);
            } else if crew.stuck.is_empty() && crew.waiting.is_empty() {
                // Not below the credits that are out: each of those may need its worker still.
                let out = u32::try_from(crew.holders.len()).unwrap_or(WORKERS_MAX);
                crew.allowance = out.max(CREDITS);
            }
        }
        if found > 0 || disk_stands {
            self.canary_wanted = true;
        }
        Tick::Went { stuck: if self.fixed.is_some() { 0 } else { found } }
    }

    /// Ops that may not have got a worker, though they went long enough ago: to be stolen back.
    pub(crate) fn unproven<T: Links>(
        &self,
        rows: &mut T,
        went: impl Fn(&mut T, u32) -> u32,
        mut each: impl FnMut(u32),
    ) {
        for crew in &self.crews {
            for queue in [&crew.holders, &crew.stuck] {
                let mut next = queue.front();
                while let Some(index) = next {
                    next = queue.after(rows, index);
                    if !is_older(went(rows, index), self.proven)
                        && self.waited_long(went(rows, index))
                    {
                        each(index);
                    }
                }
            }
        }
    }

    /// Ops that have waited for a credit long enough to say that the workers are saturated.
    pub(crate) fn overdue<T: Links>(
        &self,
        rows: &mut T,
        since: impl Fn(&mut T, u32) -> u32,
    ) -> Option<u32> {
        self.crews.iter().find_map(|crew| {
            // In order of arrival: if the first has not waited long, none has.
            crew.waiting.front().filter(|&index| self.waited_long(since(rows, index)))
        })
    }

    fn waited_long(&self, since: u32) -> bool {
        self.tick.wrapping_sub(since) >= self.patience
    }

    /// The workers were looked at: they are to be looked at again after as long.
    pub(crate) fn looked_at(&mut self) {
        self.missing = self.missing.map(|_| self.tick);
    }

    // The canary.

    pub(crate) const fn wants_canary(&self) -> bool {
        self.canary_wanted
    }

    /// How many are in the kernel.
    pub(crate) fn canaries(&self) -> usize {
        self.canaries.len()
    }

    pub(crate) fn canary_went(&mut self) {
        self.canary_wanted = false;
        self.canaries.push_back(self.tick);
        self.missing.get_or_insert(self.tick);
        self.disk_since_canary = false;
    }

    /// A canary is back; `alive` if it had a worker.
    pub(crate) fn canary_returned(&mut self, alive: bool) {
        let Some(went) = self.canaries.pop_front() else { return };
        if alive {
            self.proven = went;
            self.disk_unproven = self.disk_since_canary;
            self.missing = None;
            self.canary_wanted = false;
        } else {
            self.canary_wanted = true;
        }
    }
}

/// After how many ticks another canary goes while one is missing, and how many there are at most.
const CANARY_EVERY: u32 = 8;
const CANARIES_MAX: usize = 16;

/// More workers than this are not asked for; the system's own limits are far below.
const WORKERS_MAX: u32 = 1 << 20;

/// Whether `this` tick was before `that`.
const fn is_older(this: u32, that: u32) -> bool {
    this != that && that.wrapping_sub(this) < u32::MAX / 2
}

/// Whether ops of a class take a credit, and of which kind.
#[cfg(test)]
pub(crate) const fn kind_of(class: Class) -> Option<Kind> {
    match class {
        Class::Worker(kind) => Some(kind),
        Class::Control | Class::Pollable => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::queue::Link;
    use super::*;
    use crate::op::{Opcode, Place, Sqe};

    /// Rows that are nothing but links: `0..` of each lane.
    fn rows(count: usize) -> Vec<Link> {
        vec![Link::UNLINKED; count]
    }

    /// Takes whatever is next, if anything, and makes it hold a credit if it is of a kind.
    fn send(admission: &mut Admission, rows: &mut Vec<Link>, cost: i32) -> Option<Lane> {
        let lane = admission.next(true)?;
        let index = admission.pop(lane, rows);
        if let Lane::Kind(kind) = lane {
            admission.holders(kind).push_back(rows, index);
        }
        admission.charge(|| cost);
        Some(lane)
    }

    #[test]
    fn credits_that_are_out_are_not_taken_away_when_a_crowd_has_gone() {
        let (mut admission, mut rows, kind) = (Admission::new(100), rows(64), Kind::Open);
        for index in 0..64 {
            admission.push(Lane::Kind(kind), &mut rows, index);
        }
        while send(&mut admission, &mut rows, 1).is_some() {}
        admission.begin_ticks();
        admission.tick(&mut rows, |_, _| 1, |_, _| {});
        assert_eq!(admission.of_kind(kind), [32, 0, 32, 64], "all stuck at once: more are let in");
        // All end, as many others go, and nobody waits.
        while admission.stuck(kind).pop_front(&mut rows).is_some() {
            admission.ended(kind);
        }
        for index in 0..8 {
            admission.push(Lane::Kind(kind), &mut rows, index);
        }
        while send(&mut admission, &mut rows, 1).is_some() {}
        admission.tick(&mut rows, |_, _| 2, |_, _| {});
        assert_eq!(admission.of_kind(kind), [0, 40, 0, 40]);
        assert!(admission.workers_wanted() > 40 + 3 * CREDITS);
    }

    /// The most that one op is charged.
    fn most() -> i32 {
        Place::cost(&Sqe { opcode: Opcode::READ, len: u32::MAX, ..Sqe::EMPTY })
    }

    proptest! {
        /// A lane that has overdrawn by all but one of the highest cost is passed by in so many
        /// rounds, in each of which the others send a quantum of the cheapest at most.
        #[test]
        fn p6_a_lane_that_can_be_served_is_served_within_a_window(
            costs in prop::collection::vec(prop_oneof![4 => Just(1), 1 => 1..=most()], 1..64),
            empty in prop::sample::select(vec![0usize, 1, 2, 5, 6]),
        ) {
            let rounds = (most() - 1) / QUANTUM + 1;
            let window = (LANES.len() - 1) * usize::try_from(QUANTUM * rounds).unwrap() + 1;
            let (mut admission, mut waited) = (Admission::new(100), [0; LANES.len()]);
            let mut rows = rows(LANES.len());
            let fill = |admission: &mut Admission, rows: &mut Vec<Link>| {
                for (at, &lane) in (0..).zip(&LANES) {
                    if admission.lane(lane).is_empty() && at != u32::try_from(empty).unwrap() {
                        admission.push(lane, rows, at);
                    }
                }
            };
            for cost in costs.iter().cycle().take(20 * window) {
                fill(&mut admission, &mut rows);
                let served = admission.next(true).unwrap();
                admission.pop(served, &mut rows);
                admission.charge(|| *cost);
                for (at, &lane) in LANES.iter().enumerate() {
                    waited[at] = if lane == served || at == empty { 0 } else { waited[at] + 1 };
                    prop_assert!(waited[at] < window, "{lane:?} waits for {}", waited[at]);
                }
            }
        }
    }
}
