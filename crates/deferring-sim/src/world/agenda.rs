//! Time, and what happens in it, one step after the other.
//!
//! Not: what a step does (`workers.rs`, `answers.rs`).

use std::cmp::Reverse;
use std::time::Duration;

use rustix::io::Errno;

use super::ops::{OpId, RingId, State};
use super::{Power, World};
use crate::faults::Fault;

/// How often a program is polled that asks for nothing and will not wait.
const POLLS_MAX: u32 = 1 << 20;

/// What a poll costs of a program that yields.
const POLL: Duration = Duration::from_micros(1);

impl World {
    /// A program begins. The machine is switched on again, if it is off.
    ///
    /// # Panics
    /// If one runs: time is the program's that waits.
    pub(crate) fn begin_run(&mut self) {
        assert!(!self.is_running, "a program runs on this machine; `join!` another to it");
        self.is_running = true;
        self.end = self.now.saturating_add(self.patience);
        if self.power == Power::Lost {
            self.power = Power::On;
            self.line(|| "power on".into());
        }
    }

    /// The program has ended. What is left of its ring takes its time.
    pub(crate) fn end_program(&mut self) {
        self.end = Duration::MAX;
    }

    /// So has its ring.
    pub(crate) fn end_run(&mut self) {
        self.end_program();
        self.is_running = false;
    }

    /// Lets time pass until a CQE can be reaped. The errno of a wait that ends without one.
    ///
    /// # Panics
    /// If nothing can happen any more, or not before the end of all patience.
    pub(crate) fn wait(&mut self, ring: RingId, time: Option<Duration>) -> Result<(), Errno> {
        if self.strikes(Fault::InterruptedWait) {
            self.line(|| "a signal".into());
            return Err(Errno::INTR);
        }
        self.polls = 0;
        let until = time.map(|time| self.now.saturating_add(time));
        if !self.is_ready(ring) {
            self.hang_up(); // Once: the program closes nothing while it waits.
        }
        loop {
            if self.is_ready(ring) {
                return Ok(());
            }
            let next = self.agenda.peek().map(|Reverse((at, ..))| *at);
            match (next, until) {
                (Some(next), Some(until)) if next > until => return self.sleep_until(until),
                (None, Some(until)) => return self.sleep_until(until),
                (Some(_), _) => self.step(),
                (None, None) if self.sweep_all_streams() => {}
                (None, None) => {
                    self.complain("nothing can happen any more");
                    return Err(Errno::TIME);
                }
            }
            self.check_patience();
        }
    }

    /// Time passes for a program that will not wait: it yields, and goes on.
    ///
    /// # Panics
    /// If it does so for ever.
    pub(crate) fn poll_again(&mut self) {
        self.polls += 1;
        if self.polls > POLLS_MAX {
            self.complain("the program wakes itself for ever, and asks for nothing");
        }
        self.pass(POLL);
        self.check_patience();
    }

    fn check_patience(&self) {
        if self.now > self.end {
            self.complain("the program has not ended in time");
        }
    }

    fn sleep_until(&mut self, until: Duration) -> Result<(), Errno> {
        if until > self.end {
            self.complain("the program sleeps beyond its time");
        }
        self.now = until;
        Err(Errno::TIME)
    }

    /// # Panics
    /// With what is in the kernel. Not in a thread that panics: its ring is to end all the same.
    fn complain(&self, what: &str) {
        if std::thread::panicking() {
            return;
        }
        let mut text = format!("seed {}: {what}, at {:?}; in the kernel:", self.seed, self.age());
        for (id, op) in self.ops.iter().take(20) {
            text += &format!("\n  #{} {:?}, {:?}", id.serial, op.sqe.opcode, op.state);
        }
        if self.ops.len() == 0 {
            text += " nothing, so what the program awaits is not this ring's";
        }
        panic!("{text}");
    }

    /// Time passes in which the program computes.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.steps += 1;
        while self.agenda.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            self.step();
        }
        self.risk_power();
    }

    /// The next thing happens.
    fn step(&mut self) {
        let Some(Reverse((at, entry, id))) = self.agenda.pop() else { return };
        let Some(op) = self.ops.get(id).filter(|op| op.entry == entry) else { return };
        self.now = self.now.max(at);
        self.steps += 1;
        self.disk.set_time(self.now);
        match op.state {
            State::Running { .. } => self.run(id),
            State::Timer => self.answer_now(id, Err(Errno::TIME)),
            State::Answered(result) => self.give(id, result),
            State::Queued | State::Armed | State::Opening | State::Hung { .. } => {}
        }
        self.risk_power();
    }

    /// Something happens to an op at that time, and nothing before.
    pub(super) fn at(&mut self, id: OpId, at: Duration) {
        self.entries += 1;
        let entry = self.entries;
        if let Some(op) = self.ops.get_mut(id) {
            op.entry = entry;
            self.agenda.push(Reverse((at, entry, id)));
        }
    }

    /// How long something takes.
    pub(super) fn latency(&mut self) -> Duration {
        let (least, most) = self.faults.latency;
        let span = u64::try_from((most - least).as_nanos()).unwrap_or(u64::MAX);
        if span == 0 {
            return least;
        }
        // Each power of two as often as the next.
        let span = span >> self.rng.u32(..span.ilog2().clamp(1, 16));
        least + Duration::from_nanos(self.rng.u64(..=span))
    }
}
