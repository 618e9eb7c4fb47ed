//! When which op is to be given up, or has slept long enough.
//!
//! One timeout in the kernel for the first (`turn/alarm.rs`): a hundred thousand timeouts there are
//! slow. What comes next is in a heap, which stays small; what is further away in lists, by periods
//! of 8 ms. Not: what then happens to an op (`ticking.rs`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::Token;

/// What a point of time is to an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// It has slept long enough.
    Ends,
    /// Its deadline.
    GivesUp,
}

/// Deadlines by `CLOCK_MONOTONIC`. Those of ops that have ended stay until they come or are swept.
#[derive(Default)]
pub(crate) struct Deadlines {
    /// What comes before `horizon`. Empty only if nothing is there at all.
    near: BinaryHeap<Entry>,
    horizon: u64,
    /// The rest, by [`period`].
    far: BTreeMap<u64, Vec<Entry>>,
    len: usize,
    /// When some came last.
    before: Duration,
    /// Swept when there are twice as many as were alive the last time.
    sweep_at: usize,
}

type Entry = Reverse<(Duration, u64, Due)>;

/// Which 8 ms of time this is in.
fn period(at: Duration) -> u64 {
    const BITS: u32 = 3;
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX) >> BITS
}

const SWEEP_MIN: usize = 1024;

/// How long at least from when some came until others do, for each that there is; and at most.
const TOGETHER: Duration = Duration::from_nanos(500);
const TOGETHER_MAX: Duration = Duration::from_micros(500);

impl Deadlines {
    pub(crate) const fn new() -> Self {
        Self {
            near: BinaryHeap::new(),
            horizon: 0,
            far: BTreeMap::new(),
            len: 0,
            before: Duration::ZERO,
            sweep_at: SWEEP_MIN,
        }
    }

    /// `is_alive` tells whether a token's op has not ended.
    pub(crate) fn add(
        &mut self,
        at: Duration,
        token: Token,
        due: Due,
        is_alive: impl Fn(Token) -> bool,
    ) {
        if self.len >= self.sweep_at {
            let lives = |entry: &Entry| is_alive(Token::from_user_data(entry.0.1));
            self.near.retain(&lives);
            self.far.values_mut().for_each(|entries| entries.retain(&lives));
            self.len = self.near.len() + self.far.values().map(Vec::len).sum::<usize>();
            self.sweep_at = (2 * self.len).max(SWEEP_MIN);
            self.approach();
        }
        self.len += 1;
        let entry = Reverse((at, token.user_data(), due));
        let period = period(at);
        if period < self.horizon {
            self.near.push(entry);
        } else {
            self.far.entry(period).or_default().push(entry);
            self.approach();
        }
    }

    /// Has the next of what is far away near, if nothing is.
    fn approach(&mut self) {
        while self.near.is_empty() {
            let Some((period, entries)) = self.far.pop_first() else { break };
            self.near = BinaryHeap::from(entries);
            self.horizon = period + 1;
        }
    }

    fn first(&self) -> Option<Duration> {
        self.near.peek().map(|Reverse((at, ..))| *at)
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

    /// The next that has come, and what it is.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<(Token, Due)> {
        if self.first()? > now {
            return None;
        }
        self.before = now;
        let Reverse((_, token, due)) = self.near.pop()?;
        self.len -= 1;
        self.approach();
        Some((Token::from_user_data(token), due))
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn token(index: u32) -> Token {
        Token::new(index, 0)
    }

    #[test]
    fn deadlines_come_in_their_order_and_not_before() {
        let mut deadlines = Deadlines::new();
        for (index, at) in [(0, 3), (1, 1), (2, 2)] {
            deadlines.add(Duration::from_secs(at), token(index), Due::GivesUp, |_| true);
        }
        assert_eq!(deadlines.pop(Duration::ZERO), None);
        let two = Duration::from_secs(2);
        assert_eq!(
            [deadlines.pop(two), deadlines.pop(two), deadlines.pop(two)],
            [Some((token(1), Due::GivesUp)), Some((token(2), Due::GivesUp)), None]
        );
        assert_eq!(deadlines.next(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn the_more_there_are_the_more_come_together() {
        let mut deadlines = Deadlines::new();
        let micros = Duration::from_micros;
        for index in 0..10_000 {
            deadlines.add(micros(1_000_000 + u64::from(index)), token(index), Due::Ends, |_| true);
        }
        assert_eq!(deadlines.next(), Some(micros(1_000_000)), "for the first nobody waits");
        let mut looks = 0;
        while let Some(now) = deadlines.next() {
            looks += 1;
            while deadlines.pop(now).is_some() {}
        }
        assert!((20..40).contains(&looks), "looked at {looks} times in 10 ms");
        // Alone, one is not late.
        deadlines.add(micros(2_000_000), token(0), Due::Ends, |_| true);
        deadlines.pop(micros(2_000_000)).unwrap();
        deadlines.add(micros(2_000_001), token(0), Due::Ends, |_| true);
        assert!(deadlines.next().unwrap() <= micros(2_000_002));
    }

    #[test]
    fn those_of_ops_that_ended_are_swept() {
        let mut deadlines = Deadlines::new();
        for index in 0..100_000 {
            let alive = |token: Token| token.index() + 10 > index;
            deadlines.add(Duration::from_secs(1), token(index), Due::GivesUp, alive);
        }
        assert!(deadlines.len <= SWEEP_MIN);
        let there = deadlines.near.len() + deadlines.far.values().map(Vec::len).sum::<usize>();
        assert_eq!(deadlines.len, there);
    }

    #[test]
    fn whatever_is_added_when_comes_in_order() {
        let mut deadlines = Deadlines::new();
        let mut expected = Vec::new();
        let mut now = Duration::ZERO;
        for index in 0..2000_u32 {
            let at = now + Duration::from_micros(u64::from(index * 7919 % 100_000));
            deadlines.add(at, token(index), Due::Ends, |_| true);
            expected.push((at, index));
            if index % 3 == 0 {
                now += Duration::from_micros(100);
                expected.sort_unstable();
                while let Some((came, _)) = deadlines.pop(now) {
                    assert_eq!(came.index(), expected.remove(0).1);
                }
                assert!(expected.first().is_none_or(|(at, _)| *at > now));
            }
        }
        let (end, mut left) = (now + Duration::from_secs(1), 0);
        while deadlines.pop(end).is_some() {
            left += 1;
        }
        assert_eq!((left, deadlines.len, deadlines.next()), (expected.len(), 0, None));
    }
}
