//! The simulated kernel: its time, its ops, and what goes wrong with them.
//!
//! One number decides everything: each choice is the next of [`fastrand`]'s from the seed, and is made
//! in an order that depends on nothing else. `ops.rs` has the ops; `calls.rs` does what they ask for,
//! by `memory.rs`, `files.rs`, `lengths.rs`, `streams.rs` and the `disk`; `cancel.rs` ends them. Not: how a ring
//! comes to its CQEs (`kernel.rs`), nor what a program sees (`sim.rs`).

mod calls;
mod cancel;
mod files;
mod lengths;
mod memory;
mod ops;
mod outside;
mod streams;
mod trace;
mod waits;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use deferring::backend::{Wire, Workers};
use deferring::op::{Cqe, Opcode, Sqe};
use rustix::io::Errno;

use crate::disk::{Disk, Loss};
use crate::faults::Faults;
pub(crate) use calls::KNOWN;
use files::Descriptors;
pub(crate) use ops::RingId;
use ops::{Op, OpId, Ops, State};
use streams::{StreamId, Streams};
use trace::Trace;

/// What time it is when the machine is switched on.
const START: Duration = Duration::from_secs(1000);

/// How much time a program has to end.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How often a program is polled that asks for nothing and will not wait.
const POLLS_MAX: u32 = 1 << 20;

/// What a submit costs, and what each SQE of it.
const ENTER: Duration = Duration::from_micros(1);
const POLL: Duration = Duration::from_micros(1);
const BEGIN: Duration = Duration::from_nanos(100);

const IN_WORKER: u8 = 1 << 4;

/// How Linux says that a call was interrupted and may be begun again, where no program should see
/// it.
const ERESTARTSYS: i32 = -512;

pub(crate) struct World {
    seed: u64,
    rng: fastrand::Rng,
    faults: Faults,
    now: Duration,
    /// When what is to happen: by time, then in the order in which it was written down.
    agenda: BinaryHeap<Reverse<(Duration, u64, OpId)>>,
    entries: u64,
    ops: Ops,
    begun: u64,
    queue: VecDeque<OpId>,
    workers: u32,
    workers_most: u32,
    pub(crate) disk: Disk,
    files: Descriptors,
    streams: Streams,
    /// The pipe behind each FIFO.
    fifos: Vec<(crate::disk::InodeId, StreamId)>,
    /// Of each ring that there was, where its CQEs go, while it is there.
    wires: Vec<Option<Wire>>,
    trace: Trace,
    steps: u64,
    struck: u64,
    /// How often the program was polled since it has asked for something, without a wait.
    polls: u32,
    power: Power,
    /// How long a program may take, and when this one is taken for one that never ends.
    patience: Duration,
    end: Duration,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    On,
    /// It is off, and has not been switched on again.
    Lost,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            // A test that takes its own choices from the seed gets others.
            rng: fastrand::Rng::with_seed(seed ^ 0x6465_6665_7272_696e),
            faults: Faults::none(),
            now: START,
            agenda: BinaryHeap::new(),
            entries: 0,
            ops: Ops::default(),
            begun: 0,
            queue: VecDeque::new(),
            workers: 0,
            workers_most: 4,
            disk: Disk::new(),
            files: Descriptors::default(),
            streams: Streams::default(),
            fifos: Vec::new(),
            wires: Vec::new(),
            trace: Trace::default(),
            steps: 0,
            struck: 0,
            polls: 0,
            power: Power::On,
            patience: PATIENCE,
            end: START + PATIENCE,
            scratch: Vec::new(),
        }
    }

    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    pub(crate) fn set_patience(&mut self, time: Duration) {
        self.patience = time;
        self.end = self.now.saturating_add(time);
    }

    pub(crate) fn begin_trace(&mut self) {
        self.trace.begin();
    }

    pub(crate) fn trace(&self) -> &str {
        self.trace.text()
    }

    pub(crate) fn note(&mut self, note: &dyn std::fmt::Display) {
        self.line(|| format!("-- {note}"));
    }

    pub(crate) const fn now(&self) -> Duration {
        self.now
    }

    /// How long the machine has been on.
    pub(crate) fn age(&self) -> Duration {
        self.now - START
    }

    pub(crate) const fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) const fn struck(&self) -> u64 {
        self.struck
    }

    pub(crate) const fn power(&self) -> Power {
        self.power
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.ops.len()
    }

    pub(crate) fn hung(&self) -> usize {
        let hangs = |op: &Op| matches!(op.state, State::Hung { .. });
        self.ops.iter().filter(|(_, op)| hangs(op)).count()
    }

    /// The next choice of the seed's.
    pub(crate) fn choose(&mut self, n: u32) -> u32 {
        self.rng.u32(..n)
    }

    /// A ring that this world serves from now on.
    pub(crate) fn connect(&mut self, wire: Wire) -> RingId {
        self.workers_most = 4;
        self.wires.push(Some(wire));
        RingId(u32::try_from(self.wires.len() - 1).expect("few"))
    }

    /// A ring is gone. What it asked for is given up; what runs goes on, and is not answered.
    pub(crate) fn disconnect(&mut self, ring: RingId) {
        self.wires[ring.0 as usize] = None;
        let left: Vec<(OpId, State)> = self
            .ops
            .iter()
            .filter(|(_, op)| op.ring == ring)
            .map(|(id, op)| (id, op.state))
            .collect();
        for (id, state) in left {
            match state {
                State::Queued | State::Armed => self.forget(id, Err(Errno::CANCELED)),
                State::Timer | State::Answered(_) => self.answer_now(id, Err(Errno::CANCELED)),
                State::Opening => {
                    self.leave_fifos(id);
                    self.free_worker();
                    self.answer_now(id, Err(Errno::CANCELED));
                }
                State::Hung { for_ever: false } => {
                    self.free_worker();
                    self.answer_now(id, Err(Errno::CANCELED));
                }
                State::Running { .. } | State::Hung { for_ever: true } => {}
            }
        }
    }

    fn is_ready(&self, ring: RingId) -> bool {
        self.wires[ring.0 as usize].as_ref().is_some_and(Wire::is_ready)
    }

    /// A program begins. The machine is switched on again, if it is off.
    pub(crate) fn begin_run(&mut self) {
        self.end = self.now.saturating_add(self.patience);
        if self.power == Power::Lost {
            self.power = Power::On;
            self.line(|| "power on".into());
        }
    }

    /// The program has ended. What is left of its ring takes its time.
    pub(crate) fn end_run(&mut self) {
        self.end = Duration::MAX;
    }

    fn line(&mut self, line: impl FnOnce() -> String) {
        if self.power == Power::Lost {
            return; // A ring goes on asking, and gets nothing but errors.
        }
        self.trace.line(self.now.saturating_sub(START), line);
    }

    fn strikes(&mut self, fault: impl Fn(&Faults) -> crate::faults::Chance) -> bool {
        let strikes = fault(&self.faults).strikes(&mut self.rng);
        self.struck += u64::from(strikes);
        strikes
    }

    // What a ring asks for.

    /// How many of so many SQEs are taken.
    pub(crate) fn enter(&mut self, count: u32) -> Result<u32, Errno> {
        const REFUSALS: [Errno; 4] = [Errno::INTR, Errno::AGAIN, Errno::BUSY, Errno::NOMEM];
        self.pass(ENTER);
        if count > 0 && self.strikes(|faults| faults.refused) {
            // Linux takes one at least, or says why not.
            let choice = self.rng.usize(..REFUSALS.len() + usize::from(count > 1));
            if let Some(&errno) = REFUSALS.get(choice) {
                self.line(|| format!("submit of {count}: {errno}"));
                return Err(errno);
            }
            let some = self.rng.u32(1..=count);
            self.line(|| format!("submit of {count}: takes {some}"));
            return Ok(some);
        }
        if self.strikes(|faults| faults.dead_submitter) {
            self.bury_submitter();
        }
        Ok(count)
    }

    pub(crate) fn begin(&mut self, ring: RingId, sqe: Sqe) {
        self.pass(BEGIN);
        self.begun += 1;
        self.polls = 0;
        let (serial, state) = (self.begun, State::Queued);
        let op = Op { sqe, ring, serial, state, entry: 0, interrupted: false, misses: 0 };
        let id = self.ops.add(op);
        if self.trace.is_on() {
            let name = |raw| self.trace.name(self.files.serial(raw));
            let text = trace::describe(&sqe, name, self.ops.by_name(ring, sqe.addr));
            self.line(|| format!("#{} {text}", id.serial));
        }
        if self.power == Power::Lost {
            return self.answer_now(id, Err(Errno::IO));
        }
        if sqe.flags & !IN_WORKER != 0 {
            return self.answer_now(id, Err(Errno::INVAL));
        }
        match sqe.opcode {
            Opcode::ASYNC_CANCEL => self.cancel(id, &sqe),
            Opcode::TIMEOUT => self.begin_timeout(id, &sqe),
            Opcode::TIMEOUT_REMOVE => self.change_timeout(id, &sqe),
            Opcode::POLL_REMOVE => self.change_poll(id, &sqe),
            _ if self.fails(id, sqe.opcode) => {}
            Opcode::POLL_ADD => self.begin_poll(id, &sqe),
            Opcode::NOP | Opcode::CLOSE if sqe.flags == 0 => self.run_inline(id),
            Opcode::READ | Opcode::WRITE | Opcode::READV | Opcode::WRITEV
                if sqe.flags == 0 && self.is_stream(sqe.fd) =>
            {
                self.begin_transfer(id);
            }
            Opcode::OPENAT2 if sqe.flags == 0 && self.is_warm(&sqe) => self.run_inline(id),
            _ => self.enqueue(id),
        }
    }

    pub(crate) fn limit_workers(&mut self, most: u32) {
        // As in Linux, what waits does not hear of it before the next comes.
        self.workers_most = most;
    }

    pub(crate) fn count_workers(&self) -> Workers {
        let all = self.workers as usize;
        Workers { all, running: all }
    }

    /// Lets time pass until a CQE can be reaped. The errno of a wait that ends without one.
    ///
    /// # Panics
    /// If nothing can happen any more, or not before the end of all patience.
    pub(crate) fn wait(&mut self, ring: RingId, time: Option<Duration>) -> Result<(), Errno> {
        if self.strikes(|faults| faults.interrupted) {
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

    // Time.

    /// Time passes in which the program computes.
    fn pass(&mut self, time: Duration) {
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
    fn at(&mut self, id: OpId, at: Duration) {
        self.entries += 1;
        let entry = self.entries;
        if let Some(op) = self.ops.get_mut(id) {
            op.entry = entry;
            self.agenda.push(Reverse((at, entry, id)));
        }
    }

    /// How long something takes.
    fn latency(&mut self) -> Duration {
        let (least, most) = self.faults.latency;
        let span = u64::try_from((most - least).as_nanos()).unwrap_or(u64::MAX);
        if span == 0 {
            return least;
        }
        // Each power of two as often as the next.
        let span = span >> self.rng.u32(..span.ilog2().clamp(1, 16));
        least + Duration::from_nanos(self.rng.u64(..=span))
    }

    fn set(&mut self, id: OpId, state: State) {
        if let Some(op) = self.ops.get_mut(id) {
            op.state = state;
        }
    }

    // Answers.

    fn answer_now(&mut self, id: OpId, result: Result<i32, Errno>) {
        self.give(id, number(result));
    }

    /// It is done. The answer may take its time.
    fn answer(&mut self, id: OpId, result: Result<i32, Errno>) {
        let result = number(result);
        if self.strikes(|faults| faults.late) {
            self.set(id, State::Answered(result));
            let at = self.now + self.latency();
            self.at(id, at);
        } else {
            self.give(id, result);
        }
    }

    fn give(&mut self, id: OpId, result: i32) {
        let Some(op) = self.ops.remove(id) else { return };
        self.steps += 1;
        let opened = match op.sqe.opcode {
            Opcode::OPENAT2 => self.files.serial(result),
            _ => None,
        };
        if let Some(serial) = opened {
            self.trace.opened(serial, &op.sqe);
        }
        self.line(|| match opened {
            Some(serial) => format!("#{} = file {serial}", id.serial),
            None => format!("#{} = {}", id.serial, trace::result(result)),
        });
        if let Some(wire) = &self.wires[op.ring.0 as usize] {
            wire.give(Cqe { user_data: op.sqe.user_data, result, flags: 0 });
        }
    }

    // Trouble.

    /// Whether an op fails before it has begun.
    fn fails(&mut self, id: OpId, opcode: Opcode) -> bool {
        const UNDONE: [i32; 4] = [-125, -4, ERESTARTSYS, -513];
        for at in 0..self.faults.errnos.len() {
            let (of, errno, chance) = self.faults.errnos[at];
            if of == opcode && chance.strikes(&mut self.rng) {
                self.struck += 1;
                self.answer(id, Err(Errno::from_raw_os_error(errno)));
                return true;
            }
        }
        // The kernel finishes what it has begun of a close.
        let may_be_undone = !matches!(opcode, Opcode::CLOSE | Opcode::NOP);
        if may_be_undone && self.strikes(|faults| faults.undone) {
            let result = UNDONE[self.rng.usize(..UNDONE.len())];
            self.set(id, State::Answered(result));
            let at = self.now + self.latency();
            self.at(id, at);
            return true;
        }
        false
    }

    /// The thread that has submitted what is out ends.
    fn bury_submitter(&mut self) {
        let out: Vec<(OpId, Op)> = self.ops.iter().map(|(id, op)| (id, *op)).collect();
        self.line(|| "the submitting thread has died".into());
        for (id, op) in out {
            match op.state {
                State::Queued | State::Armed => self.forget(id, Err(Errno::CANCELED)),
                State::Opening => {
                    self.free_worker();
                    self.leave_fifos(id);
                    self.give(id, ERESTARTSYS);
                }
                State::Running { .. } | State::Timer | State::Hung { .. } | State::Answered(_) => {}
            }
        }
    }

    /// Answers an op that waits where it is on a list.
    fn forget(&mut self, id: OpId, result: Result<i32, Errno>) {
        self.queue.retain(|&other| other != id);
        for stream in self.streams.ids() {
            let stream = self.streams.get_mut(stream);
            stream.reads.retain(|&other| other != id);
            stream.writes.retain(|&other| other != id);
            stream.polls.retain(|&other| other != id);
        }
        self.answer_now(id, result);
    }

    fn risk_power(&mut self) {
        const WRITE_BACK: u32 = 64;
        if self.power == Power::Lost || !self.faults.power_loss.is_possible() {
            return;
        }
        // Linux writes back what it likes, when it likes.
        if self.rng.u32(..WRITE_BACK) == 0 {
            // What is closed and has no name is gone, and takes no chance.
            self.sweep(|_| true);
            self.disk.write_back(&mut self.rng);
        }
        if self.strikes(|faults| faults.power_loss) {
            self.lose_power(Loss::Torn);
        }
    }

    /// The machine is off from one moment to the next.
    pub(crate) fn lose_power(&mut self, loss: Loss) {
        // What is under way may have been done in part.
        let under_way: Vec<Sqe> = self
            .ops
            .iter()
            .filter(|(_, op)| matches!(op.state, State::Running { worker: true }))
            .map(|(_, op)| op.sqe)
            .collect();
        for sqe in under_way {
            if matches!(sqe.opcode, Opcode::WRITE | Opcode::WRITEV) && self.rng.bool() {
                // Whether it fails makes no difference any more.
                let _ = self.write(&sqe);
            }
        }
        let report = self.disk.lose_power(&mut self.rng, loss);
        self.line(|| format!("power lost: {report}"));
        self.power = Power::Lost;
        self.agenda.clear();
        self.queue.clear();
        self.streams.forget_all();
        self.fifos.clear();
        self.files.forget_all();
        self.workers = 0;
        let out: Vec<OpId> = self.ops.iter().map(|(id, _)| id).collect();
        for id in out {
            self.give(id, -Errno::IO.raw_os_error());
        }
    }
}

fn number(result: Result<i32, Errno>) -> i32 {
    result.unwrap_or_else(|errno| -errno.raw_os_error())
}
