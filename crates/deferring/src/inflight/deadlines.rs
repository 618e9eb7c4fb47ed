//! When which op is to be given up.
//!
//! A heap, and one timeout in the kernel for its first (`turn/alarm.rs`): a hundred thousand
//! timeouts there are slow. Not: what a deadline does to an op (`mod.rs`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::Token;

/// Deadlines by `CLOCK_MONOTONIC`. Those of ops that have ended stay until they come or are swept.
#[derive(Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(Duration, u64)>>,
    /// Swept when there are twice as many as were alive the last time.
    sweep_at: usize,
}

const SWEEP_MIN: usize = 1024;

impl Deadlines {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), sweep_at: SWEEP_MIN }
    }

    /// `is_alive` tells whether a token's op has not ended.
    pub(crate) fn add(&mut self, at: Duration, token: Token, is_alive: impl Fn(Token) -> bool) {
        if self.heap.len() >= self.sweep_at {
            self.heap.retain(|Reverse((_, token))| is_alive(Token::from_user_data(*token)));
            self.sweep_at = (2 * self.heap.len()).max(SWEEP_MIN);
        }
        self.heap.push(Reverse((at, token.user_data())));
    }

    pub(crate) fn first(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next that has come.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Token> {
        if self.first()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, token))| Token::from_user_data(token))
    }

    pub(crate) fn clear(&mut self) {
        self.heap = BinaryHeap::new();
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
            deadlines.add(Duration::from_secs(at), token(index), |_| true);
        }
        assert_eq!(deadlines.pop(Duration::ZERO), None);
        let two = Duration::from_secs(2);
        assert_eq!(
            [deadlines.pop(two), deadlines.pop(two), deadlines.pop(two)],
            [Some(token(1)), Some(token(2)), None]
        );
        assert_eq!(deadlines.first(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn those_of_ops_that_ended_are_swept() {
        let mut deadlines = Deadlines::new();
        for index in 0..100_000 {
            let alive = |token: Token| token.index() + 10 > index;
            deadlines.add(Duration::from_secs(1), token(index), alive);
        }
        assert!(deadlines.heap.len() <= SWEEP_MIN);
    }
}
