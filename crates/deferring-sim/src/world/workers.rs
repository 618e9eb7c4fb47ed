//! The threads that do what blocks, and the queue before them.
//!
//! Not: what they do (`calls.rs`).

use std::time::Duration;

use deferring::backend::Workers;
use deferring::op::{Opcode, Sqe};
use rustix::io::Errno;

use super::World;
use super::calls::Outcome;
use super::ops::{OpId, State};
use crate::faults::Fault;

/// How long Linux tries in vain to make a worker.
const NO_WORKER: Duration = Duration::from_millis(47);

impl World {
    pub(crate) fn limit_workers(&mut self, most: u32) {
        // As in Linux, what waits does not hear of it before the next comes.
        self.workers_most = most;
    }

    pub(crate) fn count_workers(&self) -> Workers {
        let all = self.workers as usize;
        Workers { all, running: all }
    }

    /// A worker is to do it.
    pub(super) fn enqueue(&mut self, id: OpId) {
        if self.workers_allowed() == 0 {
            self.set(id, State::Answered(-Errno::CANCELED.raw_os_error()));
            return self.at(id, self.now + NO_WORKER);
        }
        self.queue.push_back(id);
        self.serve();
    }

    fn workers_allowed(&self) -> u32 {
        self.workers_most.min(self.faults.workers_max)
    }

    fn serve(&mut self) {
        while self.workers < self.workers_allowed() {
            let Some(id) = self.queue.pop_front() else { return };
            self.workers += 1;
            let can_hang = self.ops.get(id).is_some_and(|op| op.sqe.opcode != Opcode::NOP);
            let for_ever = can_hang && self.strikes(Fault::HangForEver);
            if for_ever || can_hang && self.strikes(Fault::Hang) {
                self.line(|| format!("#{} hangs", id.serial));
                self.set(id, State::Hung { for_ever });
            } else {
                self.set(id, State::Running { worker: true });
                let at = self.now + self.latency();
                self.at(id, at);
            }
        }
    }

    pub(super) fn free_worker(&mut self) {
        self.workers -= 1;
        self.serve();
    }

    /// The time that an op takes is over.
    pub(super) fn run(&mut self, id: OpId) {
        let Some(&op) = self.ops.get(id) else { return };
        if self.is_transfer_of_a_stream(&op.sqe) {
            // Linux waits for the descriptor, not in the worker.
            self.free_worker();
            return self.begin_transfer(id);
        }
        match self.call(id, &op.sqe, true) {
            Outcome::Blocks if op.interrupted => {
                self.leave_fifos(id);
                self.free_worker();
                self.answer(id, Err(Errno::INTR));
            }
            Outcome::Blocks => self.set(id, State::Opening),
            Outcome::Done(result) => {
                if (op.state == State::Running { worker: true }) {
                    self.free_worker();
                }
                self.answer(id, result);
            }
        }
    }

    pub(super) fn is_transfer_of_a_stream(&self, sqe: &Sqe) -> bool {
        match sqe.opcode {
            Opcode::READ | Opcode::WRITE | Opcode::READV | Opcode::WRITEV => self.is_stream(sqe.fd),
            Opcode::SEND | Opcode::RECV => self.is_socket(sqe.fd),
            _ => false,
        }
    }

    /// It is done while it is submitted.
    pub(super) fn run_inline(&mut self, id: OpId) {
        let Some(&op) = self.ops.get(id) else { return };
        match self.call(id, &op.sqe, false) {
            Outcome::Done(result) => self.answer(id, result),
            Outcome::Blocks => unreachable!("an inline call does not block"),
        }
    }
}
