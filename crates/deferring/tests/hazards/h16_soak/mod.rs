//! Hazard 16: a long time of everything at once, on many threads, against a model.
//!
//! Each thread owns some files and knows what is in them (`files.rs`); others hammer pipes
//! (`pipes.rs`); one meddles with the ring by hand. At the end nothing is in flight, and
//! descriptors and memory are as at the start. Threads exit while what they submitted is out. Three
//! seconds; ten minutes in the long form.

mod files;
mod pipes;

use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use deferring::op::Op;
use deferring::{Handle, PollFlags, Ring, leaked_ops};

use self::files::Files;
use self::pipes::Pipes;
use crate::dice::Dice;
use crate::report::{Hazard, long};
use crate::support::{BOUND, builder, drain, in_a_process_for, open_descriptors, pipe, this_test};

const OWNERS: usize = 3;
const HAMMERS: usize = 2;
const THREADS: usize = OWNERS + HAMMERS + 1;

/// What memory may grow by: the allocator keeps what its threads have freed, and the ring its table
/// at its largest.
const RSS_SLACK: usize = 32 << 10; // KiB

#[test]
fn h16_a_soak_of_everything_agrees_with_the_model_and_leaves_nothing_behind() {
    let time = Duration::from_secs(if long() { 600 } else { 3 });
    in_a_process_for(time + BOUND, this_test!(), || {
        let hazard = Hazard::begin(16);
        let dice = Dice::new();
        // Once beforehand, so that what is made once has been made.
        soak(&dice, Duration::from_millis(500));
        let before = (open_descriptors(), rss());
        let ops = soak(&dice.for_thread(THREADS), time);
        let after = (open_descriptors(), rss());
        assert_eq!(after.0, before.0, "descriptors");
        assert!(
            after.1 < before.1 + RSS_SLACK,
            "resident KiB: {} before, {} after",
            before.1,
            after.1
        );
        assert_eq!(leaked_ops(), 0);
        let (pipes, files) = ops[1..].split_at(HAMMERS);
        let (pipes, files): (u64, u64) = (pipes.iter().sum(), files.iter().sum());
        hazard.saw(format!(
            "{THREADS} threads on one ring agree with the model after {files} deeds with files, \
             {pipes} with pipes, {} by hand; nothing in flight, {} descriptors, {} MiB resident \
             before, {} after; seed {}",
            ops[0],
            after.0,
            before.1 >> 10,
            after.1 >> 10,
            dice.seed()
        ));
    });
}

/// One ring, and all threads on it for some time. Returns how many deeds each did.
fn soak(dice: &Dice, time: Duration) -> [u64; THREADS] {
    let ring = builder().queue_depth(16).completions(32).build().unwrap();
    let shared = Arc::new(Shared::default());
    let threads: Vec<_> = (0..THREADS)
        .map(|at| {
            let mut soaker = Soaker {
                ring: ring.clone(),
                dice: dice.for_thread(at),
                shared: Arc::clone(&shared),
                thread: at,
            };
            thread::spawn(move || {
                let soak = AssertUnwindSafe(|| soaker.soak());
                if catch_unwind(soak).is_err() {
                    give_up(&format!("thread {at} panicked"), soaker.dice.seed());
                }
            })
        })
        .collect();
    watch(&shared, &ring, time, dice.seed());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drain(&ring);
    assert_eq!((ring.in_flight(), ring.pending().cancels), (0, 0));
    shared.deeds()
}

/// What all threads see.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    deeds: [AtomicU64; THREADS],
}

impl Shared {
    fn deeds(&self) -> [u64; THREADS] {
        self.deeds.each_ref().map(|deeds| deeds.load(Ordering::Relaxed))
    }
}

/// A thread of the soak.
struct Soaker {
    ring: Ring,
    dice: Dice,
    shared: Arc<Shared>,
    thread: usize,
}

impl Soaker {
    fn soak(&mut self) {
        match self.thread {
            0 => meddle(self),
            1..=HAMMERS => Pipes::soak(self),
            _ => Files::soak(self),
        }
    }

    /// Whether there is another deed to be done; counts it.
    fn goes_on(&self) -> bool {
        self.shared.deeds[self.thread].fetch_add(1, Ordering::Relaxed);
        !self.shared.over.load(Ordering::Relaxed)
    }

    /// Awaits what is wanted. Some of it has a deadline, which comes too late to change what the
    /// model expects.
    async fn settle<T: Op>(&mut self, handle: Handle<T>) -> T::Output {
        if self.dice.once_in(2) { handle.timeout(2 * BOUND).await } else { handle.await }
    }

    /// Asks for a cancel, at once or after a while, and awaits the result.
    async fn cancel<T: Op>(&mut self, handle: Handle<T>) -> T::Output {
        if self.dice.once_in(2) {
            self.ring.nop().await.expect("a nop");
        }
        if self.dice.once_in(2) {
            handle.cancel();
        } else {
            handle.cancel().await;
        }
        self.settle(handle).await
    }
}

/// Waits for the time to be over, or for a thread that makes no progress for so long that it never
/// will.
fn watch(shared: &Shared, ring: &Ring, time: Duration, seed: u64) {
    let end = Instant::now() + time;
    let (mut last, mut since) = (shared.deeds(), [Instant::now(); THREADS]);
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(50)); // The soak is about time.
        let deeds = shared.deeds();
        for at in 0..THREADS {
            if deeds[at] != last[at] {
                (last[at], since[at]) = (deeds[at], Instant::now());
            }
            if since[at].elapsed() > BOUND {
                let deeds = deeds[at];
                give_up(&format!("thread {at} is stuck after {deeds} deeds: {ring:?}"), seed);
            }
        }
    }
    shared.over.store(true, Ordering::Relaxed);
}

/// Ends the process: the other threads wait for one that will not come.
fn give_up(why: &str, seed: u64) -> ! {
    let _ = writeln!(io::stderr(), "{why}; the same dice again: DEFERRING_SEED={seed}");
    std::process::exit(1);
}

/// Turns the ring by hand, queues, cancels, drops and detaches at random.
fn meddle(soaker: &mut Soaker) {
    let (reader, _writer) = pipe();
    let mut kept = Vec::new();
    while soaker.goes_on() {
        match soaker.dice.below(9) {
            8 => {
                let short = Duration::from_micros(soaker.dice.below(300) as u64);
                kept.push(soaker.ring.poll(&reader, PollFlags::IN).timeout(short));
            }
            0 => kept.push(soaker.ring.poll(&reader, PollFlags::IN)),
            1 => soaker.ring.nop().detach(),
            2 => drop(soaker.ring.timeout(Duration::from_micros(50))),
            3 => drop(soaker.ring.submit().unwrap()),
            4 => drop(soaker.ring.reap().unwrap()),
            5 => drop(soaker.ring.wait(Some(Duration::from_micros(100))).unwrap()),
            6 => kept.iter().for_each(|poll| {
                poll.cancel();
            }),
            _ => kept.truncate(4),
        }
    }
}

/// What is resident, in KiB.
fn rss() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("resident");
    line.trim_end_matches("kB").trim().parse().expect("a number")
}
