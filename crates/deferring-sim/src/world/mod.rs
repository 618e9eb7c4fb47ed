//! The simulated kernel: its time, its ops, and what goes wrong with them.
//!
//! One number decides everything: each choice is the next of [`fastrand`]'s from the seed, and is made
//! in an order that depends on nothing else. An op begins here, and is kept in `ops.rs`. It is answered
//! at once, or waits (`waits.rs`, `pipes.rs`, `fifos.rs`), or is a call that a worker makes (`workers.rs`,
//! `calls.rs`); `agenda.rs` has the time at which it is done, `answers.rs` the CQE, `cancel.rs` ends it,
//! and `trouble.rs` is what goes wrong. Not: how a ring comes to its CQEs (`kernel.rs`), nor what a
//! program sees (`sim.rs`).

mod agenda;
mod answers;
mod calls;
mod cancel;
mod contents;
mod fifos;
mod files;
mod lengths;
mod memory;
mod opens;
mod ops;
mod outside;
mod pipes;
mod stats;
mod streams;
mod trace;
mod trouble;
mod waits;
mod workers;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use deferring::backend::Wire;
use deferring::op::{Opcode, Sqe};
use rustix::io::Errno;

use crate::disk::Disk;
use crate::faults::{Fault, Faults};
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

/// What a submit costs, and what each SQE of it.
const ENTER: Duration = Duration::from_micros(1);
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
    /// How often each fault has struck.
    struck: [u64; Fault::ALL.len()],
    /// How often the program was polled since it has asked for something, without a wait.
    polls: u32,
    /// A program runs.
    is_running: bool,
    power: Power,
    /// At which step it is lost, if that was said.
    cut_at: Option<u64>,
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
            struck: [0; Fault::ALL.len()],
            polls: 0,
            is_running: false,
            power: Power::On,
            cut_at: None,
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

    pub(crate) fn set_cut(&mut self, step: u64) {
        self.cut_at = Some(step);
    }

    pub(crate) fn begin_trace(&mut self) {
        self.trace.begin();
    }

    pub(crate) const fn is_traced(&self) -> bool {
        self.trace.is_on()
    }

    pub(crate) fn trace(&self) -> &str {
        self.trace.text()
    }

    pub(crate) fn note(&mut self, note: &str) {
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

    pub(crate) const fn struck(&self) -> &[u64] {
        &self.struck
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
        let is_left = |(id, op): (OpId, &Op)| (op.ring == ring).then_some(id);
        let left: Vec<OpId> = self.ops.iter().filter_map(is_left).collect();
        for id in left {
            // What it is now: a worker that is free again has begun what was queued.
            let Some(state) = self.ops.get(id).map(|op| op.state) else { continue };
            match state {
                State::Queued | State::Armed => self.forget(id, Err(Errno::CANCELED)),
                State::Timer => self.answer_now(id, Err(Errno::CANCELED)),
                State::Answered(result) => self.give(id, result),
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

    fn line(&mut self, line: impl FnOnce() -> String) {
        if self.power == Power::Lost {
            return; // A ring goes on asking, and gets nothing but errors.
        }
        self.trace.line(self.now.saturating_sub(START), line);
    }

    /// How many of so many SQEs are taken.
    pub(crate) fn enter(&mut self, count: u32) -> Result<u32, Errno> {
        const REFUSALS: [Errno; 4] = [Errno::INTR, Errno::AGAIN, Errno::BUSY, Errno::NOMEM];
        self.pass(ENTER);
        if count > 0 && self.strikes(Fault::RefusedSubmit) {
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
        if self.strikes(Fault::DeadSubmitter) {
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
            _ if sqe.flags == 0 && self.is_transfer_of_a_stream(&sqe) => self.begin_transfer(id),
            // What is no socket refuses it while it is submitted.
            Opcode::SEND | Opcode::RECV if sqe.flags == 0 => self.run_inline(id),
            Opcode::OPENAT2 if sqe.flags == 0 && self.is_warm(&sqe) => self.run_inline(id),
            _ => self.enqueue(id),
        }
    }

    fn set(&mut self, id: OpId, state: State) {
        if let Some(op) = self.ops.get_mut(id) {
            op.state = state;
        }
    }
}
