//! The end of a poll.

use std::io;

use super::{Op, Opcode, PollAdd, Sqe, Target, zero};
use crate::Handle;

/// Ends a [`PollAdd`] that waits; the poll's own result is then `ECANCELED`. Made by
/// [`Handle::remove`].
///
/// [`Handle::cancel`] does the same for any op, ahead of what is queued, and tells more.
///
/// Kernel: `IORING_OP_POLL_REMOVE`, since 5.1.
///
/// # Cancellation
/// Runs inside the submit, so that only a cancel before it can be in time.
///
/// # Errors
/// `ENOENT` if the poll has ended; `EALREADY` if it is about to.
#[derive(Debug)]
#[doc(alias = "IORING_OP_POLL_REMOVE")]
pub struct PollRemove {
    target: Target,
}

// SAFETY: names no memory; the target is a token with a generation, so never another's op.
unsafe impl Op for PollRemove {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::POLL_REMOVE;

    fn check(&self) -> io::Result<()> {
        self.target.check()
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.addr = self.target.user_data();
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        zero(result)
    }
}

impl Handle<PollAdd> {
    /// Queues the end of this poll.
    pub fn remove(&self) -> Handle<PollRemove> {
        self.queue_beside(PollRemove { target: Target::of(self) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let op = PollRemove { target: Target::numbered_for_tests(7) };
        check_encode(op, "PollRemove target=(Op 7.0)");
    }
}
