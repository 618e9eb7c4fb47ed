//! Random stories on random hosts, several at a time: five seconds, ten minutes in the long form
//! (`cargo xtask soak`, or `DEFERRING_HAZARDS=long`); `DEFERRING_SEED` for the same choice again.
//!
//! Not: what the stories check (`stories.rs`); only that nothing is left of them.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use deferring::leaked_ops;

use self::dice::Dice;
use self::report::long;
use super::{FOR_ANY, FOR_DRIVEN, all_hosts};
use crate::support::{BOUND, in_a_process_for, open_descriptors, this_test, until};

#[path = "../../hazards/dice.rs"]
#[allow(dead_code)] // The hazards use the rest.
mod dice;
#[path = "../../hazards/report.rs"]
#[allow(dead_code)] // The same.
mod report;

/// How many stories are told at the same time.
const TELLERS: usize = 3;

#[test]
fn random_stories_on_random_hosts_leave_nothing_behind() {
    let time = Duration::from_secs(if long() { 600 } else { 3 });
    in_a_process_for(time + BOUND, this_test!(), || {
        let dice = Dice::new();
        let seed = dice.seed();
        // Once beforehand, so that what is made once has been made.
        tell_for(&dice, Duration::from_millis(300));
        let before = settled();
        let told = tell_for(&dice.for_thread(TELLERS), time);
        until("all descriptors are closed, and all threads gone", || {
            open_descriptors() <= before.0 && threads() <= before.1
        });
        assert_eq!(leaked_ops(), 0);
        let _ = writeln!(io::stderr(), "soak: {told} stories, seed {seed}");
    });
}

fn tell_for(dice: &Dice, time: Duration) -> u64 {
    let (end, told) = (Instant::now() + time, Arc::new(AtomicU64::new(0)));
    let teller = |number| {
        let (mut dice, told) = (dice.for_thread(number), Arc::clone(&told));
        thread::spawn(move || {
            let hosts = all_hosts();
            while Instant::now() < end {
                let host = hosts[dice.below(hosts.len())];
                let driven = if host.is_driven() { FOR_DRIVEN } else { &[] };
                let stories: Vec<_> = FOR_ANY.iter().chain(driven).collect();
                let story = stories[dice.below(stories.len())];
                let failed = std::panic::catch_unwind(|| (story.tell)(host)).is_err();
                assert!(!failed, "failed: {} on {}", story.name, host.name);
                told.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let tellers: Vec<_> = (0..TELLERS).map(teller).collect();
    tellers.into_iter().for_each(|teller| teller.join().expect("the stories end well"));
    told.load(Ordering::Relaxed)
}

/// Descriptors and threads, when what ends by itself has ended: rings whose thread goes on for a
/// little, descriptors that a reactor closes.
fn settled() -> (usize, usize) {
    let mut last = ((0, 0), Instant::now());
    until("nothing changes any more", || {
        let now = (open_descriptors(), threads());
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(200)
    });
    last.0
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("proc").count()
}
