//! A wait for a time that the ring itself keeps.

use std::io;
use std::time::Duration;

use super::{Op, Opcode, Place, Sqe};
use crate::{Handle, Ring};

/// Waits for a while from when it is queued.
///
/// The kernel is told of the earliest only, so that a hundred thousand of these cost a quarter of as
/// many [`Timeout`](super::Timeout)s, and come in time: a [`Timeout`](super::Timeout) is the kernel's own, by
/// any of its clocks. The more there are, the more of them come together: up to 0.5 ms late, where
/// there are a thousand.
///
/// Under a driver and under [`block_on`](crate::block_on) it counts at once; where the ring is
/// turned by hand, from the next submit, wait or reap.
///
/// # Cancellation
/// A cancelled one ends at once, with `ECANCELED`, and costs no system call.
///
/// # Errors
/// None when the time has come.
#[derive(Debug)]
pub struct Sleep {
    time: Duration,
}

impl Sleep {
    /// A while from when it is queued.
    #[must_use]
    pub const fn new(time: Duration) -> Self {
        Self { time }
    }
}

// SAFETY: names nothing, and never goes to the kernel.
unsafe impl Op for Sleep {
    type Output = io::Result<()>;
    // What an op has that asks for nothing.
    const CODE: Opcode = Opcode::NOP;
    // The ring has its time.
    const BLANK: Option<fn() -> Self> = Some(|| Self::new(Duration::ZERO));

    fn place(&self) -> Place {
        Place::of(super::Class::Control)
    }

    fn sleeps(&self) -> Option<Duration> {
        Some(self.time)
    }

    fn encode(&mut self, _: &mut Sqe) {
        unreachable!("the ring keeps it");
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        super::zero(result)
    }
}

impl Ring {
    /// Queues a [`Sleep`]. See also [`time::sleep`](crate::time::sleep).
    ///
    /// ```
    /// use std::time::Duration;
    /// use deferring::{Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// block_on(&ring, ring.sleep(Duration::from_millis(1)))?;
    /// assert_eq!(ring.stats().sqes, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn sleep(&self, time: Duration) -> Handle<Sleep> {
        self.queue(Sleep::new(time))
    }
}
