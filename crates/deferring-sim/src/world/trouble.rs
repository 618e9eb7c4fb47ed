//! What goes wrong: ops that fail, submitters that die, the power.
//!
//! How often is in `faults.rs`; what it does to submits, waits, workers and cancels is where those are.

use deferring::op::{Opcode, Sqe};
use rustix::io::Errno;

use super::files::Kind;
use super::ops::{OpId, State};
use super::{ERESTARTSYS, Power, World};
use crate::disk::Loss;
use crate::faults::Fault;

impl World {
    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.faults.chance(fault).strikes(&mut self.rng);
        self.struck[fault as usize] += u64::from(strikes);
        strikes
    }

    /// Whether an op fails before it has begun.
    pub(super) fn fails(&mut self, id: OpId, opcode: Opcode) -> bool {
        const UNDONE: [i32; 4] = [-125, -4, ERESTARTSYS, -513];
        for at in 0..self.faults.errnos.len() {
            let (of, errno, chance) = self.faults.errnos[at];
            if of == opcode && chance.strikes(&mut self.rng) {
                self.struck[Fault::Errno as usize] += 1;
                if of == Opcode::FSYNC {
                    self.lose_what_is_unsynced(id, errno);
                }
                self.answer(id, Err(Errno::from_raw_os_error(errno)));
                return true;
            }
        }
        // The kernel finishes what it has begun of a close.
        let may_be_undone = !matches!(opcode, Opcode::CLOSE | Opcode::NOP);
        if may_be_undone && self.strikes(Fault::Undone) {
            let result = UNDONE[self.rng.usize(..UNDONE.len())];
            self.set(id, State::Answered(result));
            let at = self.now + self.latency();
            self.at(id, at);
            return true;
        }
        false
    }

    /// What a sync has failed to write Linux takes for written, on ext4 and xfs. Other errnos say that
    /// nothing was begun.
    fn lose_what_is_unsynced(&mut self, id: OpId, errno: i32) {
        let is_of_the_disk = [libc::EIO, libc::ENOSPC, libc::EDQUOT].contains(&errno);
        let raw = self.ops.get(id).map(|op| op.sqe.fd);
        let kind = raw.filter(|_| is_of_the_disk).and_then(|raw| self.files.get_open(raw).ok());
        let Some(inode) = kind.and_then(Kind::inode) else { return };
        let sectors = self.disk.fail_sync(inode);
        self.line(|| format!("#{} forgets {sectors} sectors that it was to write", id.serial));
    }

    /// The thread that has submitted what is out ends.
    pub(super) fn bury_submitter(&mut self) {
        let out: Vec<OpId> = self.ops.iter().map(|(id, _)| id).collect();
        self.line(|| "the submitting thread has died".into());
        for id in out {
            // What it is now: a worker that is free again has begun what was queued.
            let Some(state) = self.ops.get(id).map(|op| op.state) else { continue };
            match state {
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

    pub(super) fn risk_power(&mut self) {
        const WRITE_BACK: u32 = 64;
        let may_be_lost =
            self.cut_at.is_some() || self.faults.chance(Fault::PowerLoss).is_possible();
        if self.power == Power::Lost || !may_be_lost {
            return;
        }
        // Linux writes back what it likes, when it likes.
        if self.rng.u32(..WRITE_BACK) == 0 {
            // What is closed and has no name is gone, and takes no chance.
            self.sweep(|_| true);
            self.disk.write_back(&mut self.rng);
        }
        let is_time = self.cut_at.is_some_and(|step| step <= self.steps);
        if is_time || self.strikes(Fault::PowerLoss) {
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
        self.cut_at = None;
        self.agenda.clear();
        self.queue.clear();
        self.streams.forget_all();
        self.fifos.clear();
        self.files.forget_all();
        self.workers = 0;
        let out: Vec<OpId> = self.ops.iter().map(|(id, _)| id).collect();
        for id in out {
            self.take_back(id);
            self.give(id, -Errno::IO.raw_os_error());
        }
    }
}
