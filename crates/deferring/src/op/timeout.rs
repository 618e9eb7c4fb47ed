//! A wait for a time.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use super::{KernelTimespec, Op, Opcode, Sqe, address, zero};
use crate::time::Clock;
use crate::{Handle, Ring};

/// Waits for a time: a while from when it is submitted, or a point of a clock.
///
/// Precision is that of the kernel's timers, 0.05 to 0.25 ms late (Linux 6.18).
///
/// Kernel: `IORING_OP_TIMEOUT`, since 5.4; clocks other than the monotonic one since 5.15.
///
/// # Cancellation
/// A cancelled one ends at once, with `ECANCELED`.
///
/// # Errors
/// None when the time has come: that is `Ok(())`, where the kernel says `ETIME`.
#[derive(Debug)]
#[doc(alias = "IORING_OP_TIMEOUT")]
pub struct Timeout {
    time: KernelTimespec,
    clock: Clock,
    absolute: bool,
}

pub(super) const ABSOLUTE: u32 = 1 << 0;
const BOOTTIME: u32 = 1 << 2;
const REALTIME: u32 = 1 << 3;

impl Timeout {
    /// A while from when it is submitted, by [`Clock::Monotonic`].
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self { time: time.into(), clock: Clock::Monotonic, absolute: false }
    }

    /// A point of a clock, as the time since that clock's zero (1970 for [`Clock::Realtime`]). A
    /// point in the past comes at once. See [`Clock::now`].
    #[must_use]
    pub fn at(clock: Clock, time: Duration) -> Self {
        Self { time: time.into(), clock, absolute: true }
    }

    /// By which clock a while is measured.
    #[must_use]
    pub const fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

// SAFETY: names the timespec, which is part of the op.
unsafe impl Op for Timeout {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::TIMEOUT;

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.addr = address(&raw const self.time);
        sqe.len = 1;
        sqe.op_flags = match self.clock {
            Clock::Monotonic => 0,
            Clock::Boottime => BOOTTIME,
            Clock::Realtime => REALTIME,
        };
        if self.absolute {
            sqe.op_flags |= ABSOLUTE;
        }
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        match result {
            Err(error) if error.raw_os_error() == Some(Errno::TIME.raw_os_error()) => Ok(()),
            result => zero(result),
        }
    }
}

impl Ring {
    /// Queues a [`Timeout`] of a while. For other clocks and absolute times, queue one with
    /// [`Ring::queue`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use deferring::op::Timeout;
    /// use deferring::{Clock, Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// block_on(&ring, ring.timeout(Duration::from_millis(1)))?;
    /// let soon = Clock::Realtime.now() + Duration::from_millis(1);
    /// block_on(&ring, ring.queue(Timeout::at(Clock::Realtime, soon)))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn timeout(&self, time: Duration) -> Handle<Timeout> {
        self.queue(Timeout::after(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let second = Duration::from_secs(1);
        check_encode(Timeout::after(second), "Timeout time=ptr times=1");
        check_encode(
            Timeout::after(second).clock(Clock::Boottime),
            "Timeout time=ptr times=1 flags=BOOTTIME",
        );
        check_encode(
            Timeout::at(Clock::Realtime, second),
            "Timeout time=ptr times=1 flags=ABS|REALTIME",
        );
    }

    #[test]
    fn the_time_that_comes_is_no_error() {
        let timeout = || Timeout::after(Duration::ZERO);
        assert!(timeout().decode(Err(Errno::TIME.into())).is_ok());
        assert!(timeout().decode(Err(Errno::CANCELED.into())).is_err());
    }
}
