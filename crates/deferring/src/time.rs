//! Clocks, and a sleep.
//!
//! Not: the sleep itself (`op/sleep.rs`), nor the kernel's own timeout (`op/timeout.rs`).

use std::io;
use std::time::Duration;

use crate::Ring;

/// What a [`Timeout`](crate::op::Timeout) is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Clock {
    /// Time since some point, not counting sleep of the machine (`CLOCK_MONOTONIC`).
    #[default]
    Monotonic,
    /// The same, counting sleep (`CLOCK_BOOTTIME`).
    Boottime,
    /// The time of day, which can be set (`CLOCK_REALTIME`).
    Realtime,
}

impl Clock {
    /// The time since this clock's zero.
    #[must_use]
    pub fn now(self) -> Duration {
        #[cfg(all(test, any(loom, shuttle)))]
        if self == Self::Monotonic {
            return crate::backend::toy::now();
        }
        let now = rustix::time::clock_gettime(match self {
            Self::Monotonic => rustix::time::ClockId::Monotonic,
            Self::Boottime => rustix::time::ClockId::Boottime,
            Self::Realtime => rustix::time::ClockId::Realtime,
        });
        // A clock set to before 1970 reads as 1970.
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
    }
}

/// Waits for a while; see [`Sleep`](crate::op::Sleep).
///
/// # Errors
/// If the ring cannot be used; see [`Ring::queue`].
pub async fn sleep(ring: &Ring, time: Duration) -> io::Result<()> {
    ring.sleep(time).await
}
