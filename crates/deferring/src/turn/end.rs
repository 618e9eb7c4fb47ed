//! The end of a ring (P8): stop, cancel, drain to a deadline, leak and count.

use std::time::{Duration, Instant};

use super::{Core, Shared};
use crate::inflight::Inflight;
use crate::notify::Calls;
use crate::sync::{AtomicU64, Ordering};

/// How often a drain tries again to send its cancels, when the kernel has no memory for them.
const DRAIN_RETRY: Duration = Duration::from_millis(10);

/// Ops that were leaked by all rings of this process; see [`leaked_ops`].
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// How many ops this process has leaked: they were in the kernel when their ring was dropped, and
/// did not end within [`Builder::drain_timeout`](crate::Builder::drain_timeout). Their memory and descriptors stay as they are
/// until the process exits.
#[must_use]
pub fn leaked_ops() -> u64 {
    LEAKED.load(Ordering::Relaxed)
}

impl Shared {
    /// The last `Ring` is gone: cancels what is out, waits for the kernel to let go of it until
    /// the deadline, then leaks what it still holds.
    pub(crate) fn close(&self) {
        if self.check_process().is_err() {
            return;
        }
        let mut calls = Calls::default();
        self.lock().closed = true;
        self.change(&mut calls, Inflight::cancel_all);
        // None: never, which is what a timeout beyond the end of time asks for.
        let deadline = Instant::now().checked_add(self.drain_timeout);
        while self.drain_once(deadline, &mut calls) {}
        let leaked = self.change(&mut calls, Inflight::ring_gone);
        LEAKED.fetch_add(leaked as u64, Ordering::Relaxed);
    }

    /// One round of the drain; false when there is nothing left to hope for.
    fn drain_once(&self, deadline: Option<Instant>, calls: &mut Calls) -> bool {
        // It may fail, on the wrong thread of a single-issuer ring or for want of memory; what is
        // out may end all the same.
        let sent = self.submit_by(Core::fill, calls);
        self.reap_into(calls);
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let core = self.lock();
        let (owed, waiting) = (core.inflight.is_owed(), core.inflight.has_waiting());
        drop(core);
        if !owed || left == Some(Duration::ZERO) {
            return false;
        }
        let wait = match sent {
            // A cancel that missed is to be sent again at once; else something will come.
            Ok(_) if waiting => Some(Duration::ZERO),
            Ok(_) => left,
            Err(_) => Some(left.map_or(DRAIN_RETRY, |left| left.min(DRAIN_RETRY))),
        };
        self.wait(wait).is_ok()
    }
}
