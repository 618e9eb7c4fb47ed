//! Ops that end or change others.

use deferring::op::{Opcode, Sqe};
use rustix::io::Errno;

use super::memory;
use super::ops::{OpId, State};
use super::{ERESTARTSYS, World};
use crate::faults::Fault;

impl World {
    /// As Linux answers: it tells something, but not what became of the op.
    pub(super) fn cancel(&mut self, id: OpId, cancel: &Sqe) {
        if cancel.op_flags != 0 {
            return self.answer_now(id, Err(Errno::INVAL));
        }
        let target = self.named(id, cancel.addr).filter(|&target| !self.misses(target));
        let Some(target) = target else {
            return self.answer(id, Err(Errno::NOENT));
        };
        // Either may come first.
        if self.rng.bool() {
            let result = self.end(target);
            self.answer(id, result);
        } else {
            let result = self.fate(target);
            self.answer(id, result);
            // The power may be lost meanwhile, and the op answered.
            let _ = self.end(target);
        }
    }

    /// An op cannot be found while it is between two states, which is never for long.
    fn misses(&mut self, id: OpId) -> bool {
        const MISSES_MAX: u8 = 4;
        let misses = self.strikes(Fault::MissedCancel);
        match self.ops.get_mut(id) {
            Some(op) if misses && op.misses < MISSES_MAX => {
                op.misses += 1;
                true
            }
            _ => false,
        }
    }

    /// What a cancel says of an op.
    fn fate(&self, id: OpId) -> Result<i32, Errno> {
        match self.ops.get(id).map(|op| op.state) {
            Some(State::Queued | State::Armed | State::Timer) => Ok(0),
            Some(State::Running { .. } | State::Opening | State::Hung { .. }) => {
                Err(Errno::ALREADY)
            }
            Some(State::Answered(_)) | None => Err(Errno::NOENT),
        }
    }

    /// Ends an op, if it can be ended. What the cancel says of that.
    fn end(&mut self, id: OpId) -> Result<i32, Errno> {
        let fate = self.fate(id);
        let Some(op) = self.ops.get_mut(id) else { return fate };
        op.interrupted = true;
        match op.state {
            State::Queued | State::Armed => self.forget(id, Err(Errno::CANCELED)),
            State::Timer => self.answer_now(id, Err(Errno::CANCELED)),
            State::Opening => {
                self.leave_fifos(id);
                self.free_worker();
                self.answer_now(id, Err(Errno::INTR));
            }
            State::Hung { for_ever: false } => {
                self.free_worker();
                let interrupted = [-Errno::INTR.raw_os_error(), ERESTARTSYS];
                let result = interrupted[usize::from(self.rng.bool())];
                self.set(id, State::Answered(result));
                let at = self.now + self.latency();
                self.at(id, at);
            }
            // It hears nothing.
            State::Running { .. } | State::Hung { for_ever: true } | State::Answered(_) => {}
        }
        fate
    }

    pub(super) fn change_timeout(&mut self, id: OpId, change: &Sqe) {
        const ABSOLUTE: u32 = 1;
        const UPDATE: u32 = 1 << 1;
        if ![0, UPDATE, UPDATE | ABSOLUTE].contains(&change.op_flags) {
            return self.answer_now(id, Err(Errno::INVAL));
        }
        let Some(target) = self.target(id, change, Opcode::TIMEOUT, State::Timer) else {
            return self.answer_now(id, Err(Errno::NOENT));
        };
        if change.op_flags & UPDATE == 0 {
            self.answer_now(target, Err(Errno::CANCELED));
            return self.answer_now(id, Ok(0));
        }
        match memory::time(change.off) {
            Ok(time) => {
                self.strike_at(target, time, change.op_flags & !UPDATE);
                self.answer_now(id, Ok(0));
            }
            Err(errno) => self.answer_now(id, Err(errno)),
        }
    }

    pub(super) fn change_poll(&mut self, id: OpId, change: &Sqe) {
        const UPDATE_EVENTS: u32 = 1 << 1;
        if change.len & !UPDATE_EVENTS != 0 {
            return self.answer_now(id, Err(Errno::INVAL));
        }
        let Some(target) = self.target(id, change, Opcode::POLL_ADD, State::Armed) else {
            return self.answer_now(id, Err(Errno::NOENT));
        };
        self.stop_polling(target);
        if change.len == 0 {
            self.answer_now(target, Err(Errno::CANCELED));
            return self.answer_now(id, Ok(0));
        }
        let Some(op) = self.ops.get_mut(target) else { return };
        op.sqe.op_flags = change.op_flags;
        let sqe = op.sqe;
        self.answer_now(id, Ok(0));
        self.begin_poll(target, &sqe);
    }

    /// The op of that name on the asker's ring.
    fn named(&self, asker: OpId, user_data: u64) -> Option<OpId> {
        self.ops.by_name(self.ops.get(asker)?.ring, user_data)
    }

    fn target(&self, asker: OpId, change: &Sqe, opcode: Opcode, state: State) -> Option<OpId> {
        let id = self.named(asker, change.addr)?;
        let op = self.ops.get(id)?;
        (op.sqe.opcode == opcode && op.state == state).then_some(id)
    }
}
