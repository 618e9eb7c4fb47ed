//! Waiting awake: how long a thread looks for something before it sleeps.
//!
//! To be woken costs more than to look for a short time; so whoever is about to sleep looks, for as
//! long as that has paid lately. Not: what is looked for (`thread.rs`, `block_on.rs`).

use std::time::{Duration, Instant};

use crate::sync::available_parallelism;

/// How often something is looked at between two looks at the clock.
const LOOKS: usize = 16;

/// Looks at something until it is there, or `time` says that it is time to sleep.
pub(super) fn look(is_there: impl Fn() -> bool, time: impl Fn() -> bool) -> bool {
    let mut came = false;
    while !came && time() {
        came = (0..LOOKS).any(|_| {
            std::hint::spin_loop();
            is_there()
        });
    }
    came
}

/// Whether it is not yet so late.
pub(super) fn until(end: Instant) -> impl Fn() -> bool {
    move || Instant::now() < end
}

/// How long to look out before falling asleep: as long as that has paid lately.
#[derive(Debug)]
pub(crate) struct Spin {
    most: Duration,
    now: Duration,
    /// The length of the first look when it is tried again.
    first: Duration,
    /// It is tried again.
    trial: bool,
    /// How often the thread fell asleep without a look.
    sleeps: u32,
    /// After so many of those it is tried again.
    sleeps_most: u32,
}

impl Spin {
    /// A shorter one is none.
    const LEAST: Duration = Duration::from_micros(1);

    /// After so many sleeps it is tried again, and more seldom if that was in vain.
    const SLEEPS: u32 = 64;
    const SLEEPS_MOST: u32 = 1024;

    /// As many as this is each sleep while somebody looks out for what the thread does.
    const WATCHED: u32 = 32;

    pub(crate) fn new(most: Duration) -> Self {
        // On one core, whoever is waited for could not run meanwhile.
        let alone = available_parallelism().map_or(1, usize::from) == 1;
        Self::at_most(if alone { Duration::ZERO } else { most })
    }

    fn at_most(most: Duration) -> Self {
        let (now, first) = (most, most / 4);
        Self { most, now, first, trial: false, sleeps: 0, sleeps_most: Self::SLEEPS }
    }

    /// The same for who waits for an op, which takes its time even if nobody sleeps.
    pub(super) fn of_who_waits(&self) -> Self {
        Self { first: self.most, ..Self::at_most(self.most) }
    }

    /// The longest look.
    pub(super) const fn most(&self) -> Duration {
        self.most
    }

    /// For how long to look now, if at all. `watched`: somebody is awake who will answer soon.
    pub(super) fn time(&mut self, watched: bool) -> Option<Duration> {
        if self.most < Self::LEAST {
            return None;
        }
        if self.now < Self::LEAST {
            self.sleeps += if watched { Self::WATCHED } else { 1 };
            if self.sleeps < self.sleeps_most {
                return None;
            }
            self.trial = true;
            self.now = self.first.max(Self::LEAST);
        }
        Some(self.now)
    }

    /// What came of a look.
    pub(super) fn came(&mut self, came: bool) {
        if came {
            self.now = (self.now * 2).min(self.most);
            self.sleeps_most = Self::SLEEPS;
        } else if self.trial {
            self.now = Duration::ZERO;
            self.sleeps_most = (self.sleeps_most * 2).min(Self::SLEEPS_MOST);
        } else {
            self.now /= 2;
        }
        self.trial = false;
        self.sleeps = 0;
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_micros(10);

    fn looks_in_vain(spin: &mut Spin) -> Vec<u128> {
        let mut times = Vec::new();
        while let Some(time) = spin.time(false) {
            times.push(time.as_nanos());
            spin.came(false);
        }
        times
    }

    #[test]
    fn who_looks_in_vain_looks_for_less_and_then_not_at_all_for_a_while() {
        let mut spin = Spin::at_most(MOST);
        assert_eq!(looks_in_vain(&mut spin), [10_000, 5_000, 2_500, 1_250]);
        for rest in [64, 128, 256, 512, 1024, 1024] {
            // One was seen at the end of those before.
            assert!((2..rest).all(|_| spin.time(false).is_none()));
            assert_eq!(looks_in_vain(&mut spin), [2_500]);
        }
    }

    #[test]
    fn a_look_that_pays_makes_the_next_longer() {
        let mut spin = Spin::at_most(MOST);
        spin.came(false);
        spin.came(false);
        assert_eq!(spin.time(false), Some(MOST / 4));
        (0..3).for_each(|_| spin.came(true));
        assert_eq!(spin.time(false), Some(MOST));
    }

    #[test]
    fn who_is_watched_tries_again_sooner() {
        let mut spin = Spin::at_most(MOST);
        looks_in_vain(&mut spin);
        let tries = (1..).find(|_| spin.time(true).is_some());
        assert_eq!(tries, Some(2));
        spin.came(true);
        assert_eq!(looks_in_vain(&mut spin), [5_000, 2_500, 1_250], "it pays until it does not");
    }

    #[test]
    fn who_waits_for_an_op_looks_for_all_of_the_time_again() {
        let mut spin = Spin::at_most(MOST).of_who_waits();
        looks_in_vain(&mut spin);
        assert_eq!((1..100).find_map(|_| spin.time(false)), Some(MOST));
    }

    #[test]
    fn who_must_not_look_never_does() {
        let mut spin = Spin::at_most(Duration::ZERO);
        assert!((0..5000).all(|_| spin.time(true).is_none()));
    }
}
