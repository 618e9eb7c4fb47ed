//! Whether a thread that queues an op may make the call itself.
//!
//! Not: for which ops that is worth it (`op/`), nor the calls (`fd/plain.rs`).

use rustix::process::{Resource, getrlimit};

use crate::op::Plain;
use crate::sync::Ordering;
use crate::sync::plain::AtomicU32;

/// What the user lets threads do that queue.
pub(super) struct Callers {
    pub(super) may_block: bool,
    /// The process has a limit on the size of files. A plain write beyond it is a signal
    /// (`SIGXFSZ`), which ends the program; one of the kernel's workers is `EFBIG`.
    limited: bool,
    /// Calls, so that each so-many-th goes through the ring.
    calls: AtomicU32,
}

/// Of so many ops that could be plain calls one goes through the ring: a task that makes them in
/// a loop would have nothing to wait for, so that no other task of its thread had a turn, nor the
/// ring.
const IN_A_ROW: u32 = 128;

impl Callers {
    pub(super) fn new(may_block: bool) -> Self {
        let limited = may_block && getrlimit(Resource::Fsize).current.is_some();
        Self { may_block, limited, calls: AtomicU32::new(0) }
    }

    /// Whether the next op, which is so, is to be a plain call.
    pub(super) fn may_call(&self, plain: Plain) -> bool {
        let may = match plain {
            Plain::Never => false,
            Plain::Name => true,
            Plain::Write => !self.limited,
        };
        may && self.calls.fetch_add(1, Ordering::Relaxed) % IN_A_ROW != IN_A_ROW - 1
    }
}
