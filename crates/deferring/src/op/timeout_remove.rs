//! The end of a timeout before its time.

use std::io;

use super::{Op, Opcode, Sqe, Target, Timeout, zero};
use crate::Handle;

/// Ends a [`Timeout`] that runs; its own result is then `ECANCELED`. Made by [`Handle::remove`].
///
/// [`Handle::cancel`] does the same for any op, ahead of what is queued, and tells more.
///
/// Kernel: `IORING_OP_TIMEOUT_REMOVE`, since 5.5.
///
/// # Cancellation
/// Runs inside the submit, so that only a cancel before it can be in time.
///
/// # Errors
/// `ENOENT` if the timeout has ended; `EALREADY` if it is about to.
#[derive(Debug)]
#[doc(alias = "IORING_OP_TIMEOUT_REMOVE")]
pub struct TimeoutRemove {
    target: Target,
}

// SAFETY: names no memory; the target is a token with a generation, so never another's op.
unsafe impl Op for TimeoutRemove {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::TIMEOUT_REMOVE;

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

impl Handle<Timeout> {
    /// Queues the end of this timeout.
    pub fn remove(&self) -> Handle<TimeoutRemove> {
        self.queue_beside(TimeoutRemove { target: Target::of(self) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let op = TimeoutRemove { target: Target::numbered_for_tests(7) };
        check_encode(op, "TimeoutRemove target=(Op 7.0)");
    }
}
