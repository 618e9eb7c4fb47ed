//! The limit on the kernel's workers, kept at what the rings of this process may block.
//!
//! Linux keeps workers for each *thread* that submits, for all of its rings together, so that what
//! all rings want is added up, and each thread sets the sum before it submits. Not: how many a ring
//! wants (`inflight/admission.rs`), nor the system call (`backend/uring/enter.rs`).

use std::cell::Cell;

use rustix::io::Errno;

use crate::backend::Kernel;
use crate::sync::Ordering;
use crate::sync::plain::{AtomicBool, AtomicU32};

/// What all rings want.
static TOTAL: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// What this thread's limit is set to.
    static APPLIED: Cell<u32> = const { Cell::new(0) };
}

/// One ring's part of the limit.
#[derive(Debug, Default)]
pub(super) struct Workers {
    share: AtomicU32,
    /// What an SQPOLL thread's limit is set to; it does not set its own.
    applied: AtomicU32,
    /// The kernel does not let us.
    fixed: AtomicBool,
}

impl Workers {
    /// Under the ring's lock. True if that raised the limit. It is lowered only when far less is
    /// wanted, so that it is not changed all the time.
    pub(super) fn want(&self, wanted: u32) -> bool {
        let share = self.share.load(Ordering::Relaxed);
        let raised = wanted > share;
        if raised || wanted < share / 4 {
            self.share.store(wanted, Ordering::Relaxed);
            TOTAL.fetch_add(wanted.wrapping_sub(share), Ordering::Relaxed);
        }
        raised
    }

    pub(super) fn share(&self) -> u32 {
        self.share.load(Ordering::Relaxed)
    }

    /// Before a submit: sets the limit of whoever runs what is submitted. The new limit, if it was
    /// changed.
    ///
    /// # Errors
    /// If it cannot be set, the first time only.
    pub(super) fn apply(&self, kernel: &Kernel) -> Result<Option<u32>, Errno> {
        let own = kernel.has_own_workers();
        let total = if own { self.share() } else { TOTAL.load(Ordering::Relaxed) };
        let applied =
            if own { self.applied.load(Ordering::Relaxed) } else { APPLIED.with(Cell::get) };
        if applied == total || self.fixed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match kernel.limit_workers(total) {
            Ok(()) if own => self.applied.store(total, Ordering::Relaxed),
            Ok(()) => APPLIED.with(|applied| applied.set(total)),
            // The wrong thread: it cannot submit either.
            Err(Errno::EXIST | Errno::BADFD) => return Ok(None),
            Err(errno) => {
                self.fixed.store(true, Ordering::Relaxed);
                return Err(errno);
            }
        }
        Ok(Some(total))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        TOTAL.fetch_sub(self.share.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The workers of this process, of all its threads that submit. `None` if `/proc` does not say.
pub(super) fn count() -> Option<crate::inflight::Workers> {
    let mut workers = crate::inflight::Workers { all: 0, running: 0 };
    for task in std::fs::read_dir("/proc/self/task").ok()?.filter_map(Result::ok) {
        // `1234 (iou-wrk-1233) S …`. It may have ended meanwhile.
        let stat = std::fs::read(task.path().join("stat")).unwrap_or_default();
        let end_of_name = stat.iter().rposition(|&byte| byte == b')');
        let is_worker = stat.windows(8).any(|part| part == b"(iou-wrk");
        if let (true, Some(end)) = (is_worker, end_of_name) {
            workers.all += 1;
            workers.running += usize::from(stat.get(end + 2) == Some(&b'R'));
        }
    }
    Some(workers)
}

/// How many workers Linux allows unasked.
pub(super) fn default_limit(sq_entries: u32) -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(4 * cpus).unwrap_or(u32::MAX).min(sq_entries)
}
