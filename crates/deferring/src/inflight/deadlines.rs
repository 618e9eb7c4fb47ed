//! When which op is to be given up, or has slept long enough.
//!
//! One timeout in the kernel for the first (`turn/alarm.rs`): a hundred thousand timeouts there are
//! slow. A few are in a heap. If there are more, what is further away is in lists, by periods of 8 ms,
//! and a list is put in order when the first of it has come: nothing is moved up and down a heap
//! of a hundred thousand. Not: what then happens to an op (`ticking.rs`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::Token;

/// What a point of time is to an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It has slept long enough.
    Ends,
    /// Its deadline.
    GivesUp,
}

/// Deadlines by `CLOCK_MONOTONIC`. Those of ops that have ended stay until they come or are swept.
#[derive(Default)]
pub(crate) struct Deadlines {
    /// A few of any time, and all that came after others of the same 8 ms had begun to come.
    heap: BinaryHeap<Reverse<Entry>>,
    /// What is left of the period that has begun, the last first. All of it is before `horizon`.
    run: Vec<Entry>,
    horizon: u64,
    /// The rest, by [`period`]. All of it is at `horizon` or after that.
    far: BTreeMap<u64, List>,
    len: usize,
    /// When some came last.
    before: Duration,
    /// Swept when there are twice as many as were alive the last time.
    sweep_at: usize,
    /// The memory of a short list, for the next.
    spare: Vec<Entry>,
}

/// A time, and whose. Ordered by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    nanos: u64,
    /// The op's token if it ends, its cancel's if it is given up.
    token: u64,
}

impl Entry {
    fn new(at: Duration, token: Token, due: Due) -> Self {
        let token = match due {
            Due::Ends => token,
            Due::GivesUp => token.cancel(),
        };
        Self { nanos: nanos(at), token: token.user_data() }
    }

    fn whose(self) -> (Token, Due) {
        let token = Token::from_user_data(self.token);
        let due = if token == token.op() { Due::Ends } else { Due::GivesUp };
        (token.op(), due)
    }
}

/// Those of one period, in no order.
#[derive(Default)]
struct List {
    entries: Vec<Entry>,
    first: u64,
}

/// What is beyond the 584 years of this does not come.
fn nanos(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

/// Which 8 ms of time this is in.
const fn period(nanos: u64) -> u64 {
    const BITS: u32 = 23;
    nanos >> BITS
}

/// So many are kept in a heap, whenever they come.
const FEW: usize = 64;

const SWEEP_MIN: usize = 1024;

/// How long at least from when some came until others do, for each that there is; and at most.
const TOGETHER: Duration = Duration::from_nanos(500);
const TOGETHER_MAX: Duration = Duration::from_micros(500);

impl Deadlines {
    pub(crate) const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            run: Vec::new(),
            horizon: 0,
            far: BTreeMap::new(),
            len: 0,
            before: Duration::ZERO,
            sweep_at: SWEEP_MIN,
            spare: Vec::new(),
        }
    }

    /// `is_alive` tells whether a token's op has not ended.
    #[inline]
    pub(crate) fn add(
        &mut self,
        at: Duration,
        token: Token,
        due: Due,
        is_alive: impl Fn(Token) -> bool,
    ) {
        if self.len >= self.sweep_at {
            self.sweep(is_alive);
        }
        self.len += 1;
        let entry = Entry::new(at, token, due);
        let period = period(entry.nanos);
        if period < self.horizon || self.heap.len() < FEW {
            return self.heap.push(Reverse(entry));
        }
        let Self { far, spare, .. } = self;
        let list = far
            .entry(period)
            .or_insert_with(|| List { entries: std::mem::take(spare), first: u64::MAX });
        list.first = list.first.min(entry.nanos);
        list.entries.push(entry);
    }

    /// Those whose ops have ended go.
    #[cold]
    fn sweep(&mut self, is_alive: impl Fn(Token) -> bool) {
        let lives = |entry: &Entry| is_alive(entry.whose().0);
        self.heap.retain(|Reverse(entry)| lives(entry));
        self.run.retain(lives);
        self.far.retain(|_, List { entries, first }| {
            entries.retain(lives);
            *first = entries.iter().map(|entry| entry.nanos).min().unwrap_or(u64::MAX);
            !entries.is_empty()
        });
        let far: usize = self.far.values().map(|list| list.entries.len()).sum();
        self.len = self.heap.len() + self.run.len() + far;
        self.sweep_at = (2 * self.len).max(SWEEP_MIN);
    }

    fn first(&self) -> Option<Duration> {
        let mut first = self.heap.peek().map(|Reverse(entry)| entry.nanos);
        let run = self.run.last().map(|entry| entry.nanos);
        let next = run.or_else(|| self.far.first_key_value().map(|(_, list)| list.first));
        if let Some(next) = next {
            first = Some(first.map_or(next, |first| first.min(next)));
        }
        first.map(Duration::from_nanos)
    }

    pub(crate) const fn has_any(&self) -> bool {
        self.len > 0
    }

    /// When to look. Of many, each would else wake a thread by itself: of a thousand, two thousand
    /// times a second at most.
    pub(crate) fn next(&self) -> Option<Duration> {
        let count = u32::try_from(self.len).unwrap_or(u32::MAX);
        let pause = TOGETHER.saturating_mul(count).min(TOGETHER_MAX);
        self.first().map(|first| first.max(self.before.saturating_add(pause)))
    }

    /// Takes the next that have come, in their order, as many as there is room for; and what they
    /// are. Returns how many.
    pub(crate) fn take(&mut self, now: Duration, room: &mut [(Token, Due)]) -> usize {
        let nanos = nanos(now);
        let mut taken = 0;
        while taken < room.len() {
            let Some(entry) = self.pop(nanos) else { break };
            room[taken] = entry.whose();
            taken += 1;
        }
        if taken > 0 {
            self.before = now;
            self.len -= taken;
        }
        taken
    }

    fn pop(&mut self, now: u64) -> Option<Entry> {
        if self.run.is_empty() {
            self.begin_period(now);
        }
        let come = |entry: &Entry| entry.nanos <= now;
        let run = self.run.last().copied().filter(come);
        let heap = self.heap.peek().map(|Reverse(entry)| *entry).filter(come);
        match (run, heap) {
            (Some(run), Some(heap)) if heap < run => self.heap.pop().map(|Reverse(entry)| entry),
            (Some(_), _) => self.run.pop(),
            (None, Some(_)) => self.heap.pop().map(|Reverse(entry)| entry),
            (None, None) => None,
        }
    }

    /// Puts the next list in order, if the first of it has come.
    fn begin_period(&mut self, now: u64) {
        let Some(list) = self.far.first_entry().filter(|list| list.get().first <= now) else {
            return;
        };
        let (period, list) = list.remove_entry();
        self.horizon = period + 1;
        let emptied = std::mem::replace(&mut self.run, list.entries);
        if emptied.capacity() <= FEW {
            self.spare = emptied;
        }
        self.run.sort_unstable_by(|one, other| other.cmp(one));
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const fn token(index: u32) -> Token {
        Token::new(index, 0)
    }

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    impl Deadlines {
        fn pop_at(&mut self, now: Duration) -> Option<(Token, Due)> {
            let mut room = [(token(0), Due::Ends)];
            (self.take(now, &mut room) == 1).then_some(room[0])
        }

        fn there(&self) -> usize {
            let far: usize = self.far.values().map(|list| list.entries.len()).sum();
            self.heap.len() + self.run.len() + far
        }
    }

    #[test]
    fn deadlines_come_in_their_order_and_not_before() {
        let mut deadlines = Deadlines::new();
        for (index, at) in [(0, 3), (1, 1), (2, 2)] {
            deadlines.add(Duration::from_secs(at), token(index), Due::GivesUp, |_| true);
        }
        assert_eq!(deadlines.pop_at(Duration::ZERO), None);
        let two = Duration::from_secs(2);
        assert_eq!(deadlines.pop_at(two - Duration::from_nanos(1)).unwrap().0, token(1));
        assert_eq!(deadlines.pop_at(two - Duration::from_nanos(1)), None, "not a nanosecond");
        assert_eq!(deadlines.pop_at(two), Some((token(2), Due::GivesUp)));
        assert_eq!(deadlines.pop_at(two), None);
        assert_eq!(deadlines.next(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn the_more_there_are_the_more_come_together() {
        let mut deadlines = Deadlines::new();
        for index in 0..10_000 {
            deadlines.add(micros(1_000_000 + u64::from(index)), token(index), Due::Ends, |_| true);
        }
        assert_eq!(deadlines.next(), Some(micros(1_000_000)), "for the first nobody waits");
        let mut looks = 0;
        while let Some(now) = deadlines.next() {
            looks += 1;
            while deadlines.pop_at(now).is_some() {}
        }
        assert!((20..40).contains(&looks), "looked at {looks} times in 10 ms");
        // Alone, one is not late.
        deadlines.add(micros(2_000_000), token(0), Due::Ends, |_| true);
        deadlines.pop_at(micros(2_000_000)).unwrap();
        deadlines.add(micros(2_000_001), token(0), Due::Ends, |_| true);
        assert!(deadlines.next().unwrap() <= micros(2_000_002));
    }

    #[test]
    fn what_never_comes_keeps_nothing_else_from_coming() {
        let mut deadlines = Deadlines::new();
        for index in 0..1000 {
            deadlines.add(Duration::MAX, token(index), Due::Ends, |_| true);
        }
        deadlines.add(micros(1), token(1000), Due::Ends, |_| true);
        assert_eq!(deadlines.first(), Some(micros(1)));
        let centuries = Duration::from_secs(500 * 365 * 86_400);
        assert_eq!(deadlines.pop_at(centuries), Some((token(1000), Due::Ends)));
        assert_eq!(deadlines.pop_at(centuries), None);
        assert!(deadlines.first().unwrap() > centuries);
    }

    #[test]
    fn those_of_ops_that_ended_are_swept() {
        let mut deadlines = Deadlines::new();
        for index in 0..100_000 {
            let alive = |token: Token| token.index() + 10 > index;
            let at = Duration::from_secs(1) + micros(u64::from(index));
            deadlines.add(at, token(index), Due::GivesUp, alive);
            assert!(deadlines.len <= SWEEP_MIN);
        }
        assert_eq!(deadlines.len, deadlines.there());
        assert!(deadlines.far.len() < 200, "no list is kept that is empty");
    }

    #[test]
    fn short_sleeps_among_many_long_ones_make_no_lists() {
        let mut deadlines = Deadlines::new();
        for index in 0..1000 {
            deadlines.add(Duration::from_secs(3600), token(index), Due::Ends, |_| true);
        }
        let mut now = Duration::ZERO;
        for index in 0..100_000 {
            deadlines.add(now + micros(700), token(1000 + index), Due::Ends, |_| true);
            now += micros(1000);
            assert_eq!(deadlines.pop_at(now).unwrap().0.index(), 1000 + index);
            assert!(deadlines.far.len() <= 1 && deadlines.run.len() <= 1);
        }
        assert!(deadlines.spare.capacity() + deadlines.run.capacity() <= 2 * FEW);
    }

    /// What is done to deadlines, and to a list that is sorted.
    #[derive(Clone, Debug)]
    enum Step {
        /// So many, the first after so long, each so long after the one before.
        Add { count: u32, after: u64, step: u64, due: bool },
        /// Of those that were added, one in so many has ended.
        End { nth: u32 },
        /// So much time goes by, and so many at most are taken at once.
        Pass { time: u64, room: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        // From parts of a period to many.
        let time = || prop_oneof![0_u64..3000, 0_u64..100_000, 0_u64..3_000_000];
        prop_oneof![
            3 => (1_u32..400, time(), 0_u64..2000, any::<bool>())
                .prop_map(|(count, after, step, due)| Step::Add { count, after, step, due }),
            1 => (1_u32..10).prop_map(|nth| Step::End { nth }),
            3 => (time(), 1_usize..200).prop_map(|(time, room)| Step::Pass { time, room }),
        ]
    }

    proptest! {
        /// Whatever is added when, and whatever has ended: what comes is what a sorted list gives.
        #[test]
        fn deadlines_come_as_from_a_sorted_list(steps in prop::collection::vec(step(), 1..60)) {
            let mut deadlines = Deadlines::new();
            // By time, then who is given up after who ends; only of those that have not ended.
            let mut model = BTreeSet::new();
            let mut out = BTreeSet::new();
            let (mut now, mut next, mut most) = (Duration::ZERO, 0, 0);
            for step in steps {
                match step {
                    Step::Add { count, after, step, due } => {
                        let due = if due { Due::Ends } else { Due::GivesUp };
                        for each in 0..count {
                            let at = now + micros(after + u64::from(each) * step);
                            out.insert(next);
                            most = most.max(out.len());
                            deadlines.add(at, token(next), due, |token| out.contains(&token.index()));
                            model.insert((at, due == Due::GivesUp, next));
                            next += 1;
                        }
                    }
                    Step::End { nth } => {
                        out.retain(|index| index % nth != 0);
                        model.retain(|(.., index)| index % nth != 0);
                    }
                    Step::Pass { time, room } => {
                        now += micros(time);
                        let mut room = vec![(token(0), Due::Ends); room];
                        loop {
                            let taken = deadlines.take(now, &mut room);
                            for (token, due) in &room[..taken] {
                                if out.remove(&token.index()) {
                                    let (at, gives_up, index) = model.pop_first().unwrap();
                                    prop_assert!(at <= now, "too early");
                                    let came = (*due == Due::GivesUp, token.index());
                                    prop_assert_eq!(came, (gives_up, index));
                                }
                            }
                            if taken == 0 {
                                break;
                            }
                        }
                        // Nothing that is due was left.
                        prop_assert!(model.first().is_none_or(|(at, ..)| *at > now));
                    }
                }
                for list in deadlines.far.values() {
                    let first = list.entries.iter().map(|entry| entry.nanos).min();
                    prop_assert_eq!(first, Some(list.first));
                }
                // The alarm is set to the first, or before.
                let first = deadlines.first();
                prop_assert!(model.first().is_none_or(|(at, ..)| first.unwrap() <= *at));
                prop_assert_eq!(deadlines.len, deadlines.there());
                prop_assert!(deadlines.len <= (2 * most).max(SWEEP_MIN), "kept for the dead");
            }
            now += Duration::from_secs(3600);
            while deadlines.pop_at(now).is_some() {}
            prop_assert_eq!((deadlines.len, deadlines.next()), (0, None));
        }
    }
}
