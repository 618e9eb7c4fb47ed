//! A change of a timeout's time.

use std::io;
use std::time::Duration;

use super::timeout::ABSOLUTE;
use super::{KernelTimespec, Op, Opcode, Sqe, Target, Timeout, address, zero};
use crate::Handle;

/// Gives a [`Timeout`] that runs a new time. Made by [`Handle::update`] and [`Handle::update_at`].
///
/// Kernel: `IORING_OP_TIMEOUT_REMOVE` with `IORING_TIMEOUT_UPDATE`, since 5.11. The clock stays.
///
/// # Cancellation
/// Runs inside the submit, so that only a cancel before it can be in time.
///
/// # Errors
/// `ENOENT` if the timeout has ended; `EALREADY` if it is about to.
#[derive(Debug)]
#[doc(alias = "IORING_OP_TIMEOUT_REMOVE")]
#[doc(alias = "IORING_TIMEOUT_UPDATE")]
pub struct TimeoutUpdate {
    target: Target,
    time: KernelTimespec,
    absolute: bool,
}

const UPDATE: u32 = 1 << 1;

// SAFETY: names the timespec, which is part of the op; the target is a token with a generation.
unsafe impl Op for TimeoutUpdate {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::TIMEOUT_REMOVE;

    fn check(&self) -> io::Result<()> {
        self.target.check()
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.addr = self.target.user_data();
        sqe.off = address(&raw const self.time);
        sqe.op_flags = if self.absolute { UPDATE | ABSOLUTE } else { UPDATE };
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        zero(result)
    }
}

impl Handle<Timeout> {
    /// Queues a new time for this timeout: a while from when the update is submitted.
    ///
    /// ```
    /// use std::time::Duration;
    /// use deferring::{Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let timeout = ring.timeout(Duration::from_secs(3600));
    /// block_on(&ring, timeout.update(Duration::from_millis(1)))?;
    /// block_on(&ring, timeout)?; // and not in an hour
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn update(&self, time: Duration) -> Handle<TimeoutUpdate> {
        let target = Target::of(self);
        self.queue_beside(TimeoutUpdate { target, time: time.into(), absolute: false })
    }

    /// Queues a new time for this timeout: a point of its clock, as in [`Timeout::at`].
    pub fn update_at(&self, time: Duration) -> Handle<TimeoutUpdate> {
        let target = Target::of(self);
        self.queue_beside(TimeoutUpdate { target, time: time.into(), absolute: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let op = |absolute| TimeoutUpdate {
            target: Target::numbered_for_tests(7),
            time: Duration::from_secs(1).into(),
            absolute,
        };
        check_encode(op(false), "TimeoutRemove target=(Op 7.0) time=ptr flags=UPDATE");
        check_encode(op(true), "TimeoutRemove target=(Op 7.0) time=ptr flags=ABS|UPDATE");
    }
}
