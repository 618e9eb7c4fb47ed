//! A change of what a poll waits for.

use std::io;

use rustix::event::PollFlags;

use super::{Op, Opcode, PollAdd, Sqe, Target, poll32, zero};
use crate::Handle;

/// Changes the events of a [`PollAdd`] that waits. Made by [`Handle::update`].
///
/// Kernel: `IORING_OP_POLL_REMOVE` with `IORING_POLL_UPDATE_EVENTS`, since 5.13.
///
/// # Cancellation
/// Runs inside the submit, so that only a cancel before it can be in time.
///
/// # Errors
/// `ENOENT` if the poll has ended; `EALREADY` if it is about to.
#[derive(Debug)]
#[doc(alias = "IORING_OP_POLL_REMOVE")]
#[doc(alias = "IORING_POLL_UPDATE_EVENTS")]
pub struct PollUpdate {
    target: Target,
    events: PollFlags,
}

const UPDATE_EVENTS: u32 = 1 << 1;

// SAFETY: names no memory; the target is a token with a generation, so never another's op.
unsafe impl Op for PollUpdate {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::POLL_REMOVE;

    fn check(&self) -> io::Result<()> {
        self.target.check()
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.addr = self.target.user_data();
        sqe.len = UPDATE_EVENTS;
        sqe.op_flags = poll32(self.events);
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        zero(result)
    }
}

impl Handle<PollAdd> {
    /// Queues a change of the events that this poll waits for.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use deferring::{Fd, PollFlags, Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let readiness = ring.poll(&Fd::from(ours), PollFlags::IN); // nothing to read
    /// block_on(&ring, readiness.update(PollFlags::OUT))?; // but room to write
    /// assert_eq!(block_on(&ring, readiness)?, PollFlags::OUT);
    /// # drop(theirs);
    /// # Ok(()) }
    /// ```
    pub fn update(&self, events: PollFlags) -> Handle<PollUpdate> {
        self.queue_beside(PollUpdate { target: Target::of(self), events })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    #[cfg(target_endian = "little")]
    fn encodes() {
        let op = PollUpdate { target: Target::numbered_for_tests(7), events: PollFlags::OUT };
        check_encode(op, "PollRemove target=(Op 7.0) mode=UPDATE_EVENTS events=OUT");
    }
}
