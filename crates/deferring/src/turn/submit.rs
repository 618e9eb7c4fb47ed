//! Sending what waits, and waiting.
//!
//! SQEs are written under the lock and taken by the kernel without it. Not: what may be written
//! next (`inflight/`), nor the system calls (`backend/uring/enter.rs`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::{Core, Shared};
use crate::error;
use crate::inflight::{Inflight, Token};
use crate::notify::Calls;
use crate::op::{Opcode, Sqe, poll32};

impl Core {
    /// How many SQEs there are to send: ops and cancels that wait, and what is written and has not
    /// been taken.
    fn unsent(&self) -> usize {
        self.inflight.unsent() + self.sq.unconsumed() as usize
    }

    /// Writes as many SQEs as fit and shows them to the kernel. Returns how many were written now,
    /// and how many the kernel has not taken.
    pub(super) fn fill(&mut self) -> (u32, u32) {
        self.fill_by(Inflight::admit)
    }

    pub(super) fn fill_by(
        &mut self,
        admit: impl Fn(&mut Inflight, &mut Sqe) -> bool,
    ) -> (u32, u32) {
        let mut written = 0;
        while self.sq.push(|sqe| admit(&mut self.inflight, sqe)) {
            written += 1;
        }
        self.sqes += u64::from(written);
        (written, self.sq.publish())
    }

    /// Has the kernel watch the bell, if there is room in the SQ.
    fn arm_bell(&mut self, bell: BorrowedFd<'_>) {
        if self.bell_armed {
            return;
        }
        self.bell_armed = self.sq.push(|sqe| {
            *sqe = Sqe {
                opcode: Opcode::POLL_ADD,
                fd: bell.as_raw_fd(),
                op_flags: poll32(PollFlags::IN),
                user_data: Token::BELL.user_data(),
                ..Sqe::EMPTY
            };
            true
        });
    }
}

impl Shared {
    /// Sends everything that waits when it begins, in as many batches as it takes. Returns how many
    /// SQEs the kernel took.
    pub(crate) fn submit(&self) -> io::Result<usize> {
        self.check_process()?;
        let mut calls = Calls::default();
        let sent = self.submit_by(Core::fill, &mut calls);
        calls.resume();
        sent.map_err(error::enter)
    }

    /// As [`submit`](Self::submit), for the thread in the seat: without user code.
    pub(crate) fn submit_seated(&self) -> Result<(), Errno> {
        let (_, count) = self.lock().fill();
        if count == 0 {
            return Ok(());
        }
        match self.kernel.submit(count) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn submit_by(
        &self,
        fill: impl Fn(&mut Core) -> (u32, u32),
        calls: &mut Calls,
    ) -> Result<usize, Errno> {
        // What others queue meanwhile does not keep us here for ever.
        let most = self.lock().unsent();
        if self.params().sqpoll {
            return self.submit_by_sqpoll(fill, most);
        }
        let mut taken = 0;
        loop {
            let (_, count) = fill(&mut self.lock());
            if count == 0 {
                return Ok(taken);
            }
            match self.kernel.submit(count) {
                // Another thread's submit took them.
                Ok(0) if self.lock().sq.unconsumed() < count => {}
                Ok(0) => return Ok(taken),
                Ok(n) => {
                    taken += n as usize;
                    if taken >= most {
                        return Ok(taken);
                    }
                }
                Err(Errno::INTR) => {}
                // Too much is unreaped, or there is no memory for more: what can be reaped helps.
                Err(Errno::BUSY | Errno::AGAIN) if self.reap_into(calls) > 0 => {}
                Err(_) if taken > 0 => return Ok(taken),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn submit_by_sqpoll(
        &self,
        fill: impl Fn(&mut Core) -> (u32, u32),
        most: usize,
    ) -> Result<usize, Errno> {
        let mut taken = 0;
        loop {
            let mut core = self.lock();
            let (written, unconsumed) = fill(&mut core);
            let full = core.sq.room() == 0;
            drop(core);
            taken += written as usize;
            if unconsumed > 0 {
                self.kernel.submit(unconsumed)?;
            }
            // What did not fit goes on when the kernel's thread has made room.
            if !full || taken >= most {
                return Ok(taken);
            }
            match self.kernel.wait_for_room() {
                Ok(()) | Err(Errno::INTR) => {}
                Err(_) if taken > 0 => return Ok(taken),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Waits until a CQE is there. False if none came in the time, or a signal did.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.check_process()?;
        if self.kernel.cq_ready() {
            return Ok(true);
        }
        let waited = if timeout == Some(Duration::ZERO) {
            if !self.kernel.wants_enter() {
                return Ok(false);
            }
            self.kernel.flush()
        } else {
            self.kernel.submit_and_wait(0, timeout).map(drop)
        };
        match waited {
            Ok(()) | Err(Errno::TIME | Errno::INTR) => Ok(self.kernel.cq_ready()),
            Err(errno) => Err(error::enter(errno)),
        }
    }

    /// One round for the thread in the seat: submits and sleeps until something comes, in one
    /// system call where all that waits fits into the SQ. Returns at once if `awake` says so when
    /// others can see that we are asleep.
    pub(crate) fn sleep_seated(&self, awake: impl Fn() -> bool) -> Result<(), Errno> {
        let asleep = self.seat.fall_asleep();
        if awake() {
            return Ok(());
        }
        let mut core = self.lock();
        core.arm_bell(self.seat.bell());
        let (_, count) = core.fill();
        // Never sleep on what could be sent (P5): the first to be sent may wait for the last.
        let all_sent = core.bell_armed && !core.inflight.has_waiting();
        drop(core);
        let entered = if all_sent && !self.kernel.cq_ready() {
            self.kernel.submit_and_wait(count, None).map(drop)
        } else {
            self.kernel.submit(count).map(drop).and_then(|()| {
                let must_wait = self.params().sqpoll && !all_sent;
                if must_wait { self.kernel.wait_for_room() } else { Ok(()) }
            })
        };
        drop(asleep);
        match entered {
            Ok(()) | Err(Errno::INTR | Errno::TIME) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}
