//! Answers: the CQEs of ops.
//!
//! Not: what the answer is.

use deferring::op::{Cqe, Opcode};
use rustix::io::Errno;

use super::ops::{OpId, State};
use super::{World, trace};
use crate::faults::Fault;

impl World {
    pub(super) fn answer_now(&mut self, id: OpId, result: Result<i32, Errno>) {
        self.give(id, number(result));
    }

    /// It is done. The answer may take its time.
    pub(super) fn answer(&mut self, id: OpId, result: Result<i32, Errno>) {
        let result = number(result);
        if self.strikes(Fault::Late) {
            self.set(id, State::Answered(result));
            let at = self.now + self.latency();
            self.at(id, at);
        } else {
            self.give(id, result);
        }
    }

    pub(super) fn give(&mut self, id: OpId, result: i32) {
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
        } else if opened.is_some() {
            // Nobody hears of it. It fails only if it was closed.
            let _ = self.close(result);
        }
    }

    /// What it has opened is closed: nobody will hear of it.
    pub(super) fn take_back(&mut self, id: OpId) {
        let Some(op) = self.ops.get(id) else { return };
        if let (Opcode::OPENAT2, State::Answered(raw @ 0..)) = (op.sqe.opcode, op.state) {
            let _ = self.close(raw); // It fails only if it was closed.
        }
    }

    /// Answers an op that waits where it is on a list.
    pub(super) fn forget(&mut self, id: OpId, result: Result<i32, Errno>) {
        self.queue.retain(|&other| other != id);
        for stream in self.streams.ids() {
            let stream = self.streams.get_mut(stream);
            stream.reads.retain(|&other| other != id);
            stream.writes.retain(|&other| other != id);
            stream.polls.retain(|&other| other != id);
        }
        self.answer_now(id, result);
    }
}

fn number(result: Result<i32, Errno>) -> i32 {
    result.unwrap_or_else(|errno| -errno.raw_os_error())
}
