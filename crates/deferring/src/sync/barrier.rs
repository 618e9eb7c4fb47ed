//! A barrier of which one side costs nothing, as the other side makes it for both.
//!
//! `membarrier(2)` has each thread of the process pass a barrier. A process says once that it will
//! use it, which takes Linux some 10 ms where there are several threads; so that is done beside
//! whoever wants it. Not: what is ordered by it (`bias.rs`).

use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::{MembarrierCommand, membarrier};

use super::Ordering;
use super::plain::{AtomicU8, compiler_fence};
use crate::threads;

/// Why there is none.
pub(crate) type Refused = Errno;

/// Whether this process may use it: [`UNTRIED`], [`TRYING`], [`READY`], [`NONE`].
static STATE: AtomicU8 = AtomicU8::new(UNTRIED);

const UNTRIED: u8 = 0;
const TRYING: u8 = 1;
const READY: u8 = 2;
const NONE: u8 = 3;

/// The one side: what is before it stays before it, as the processor sees it when the other side is
/// passed.
#[inline]
pub(super) fn light() {
    compiler_fence(Ordering::SeqCst);
}

/// The other side.
///
/// # Errors
/// It was there before, and is not any more.
pub(super) fn heavy() -> Result<(), Refused> {
    let mut waits = 0;
    loop {
        let passed = membarrier(MembarrierCommand::PrivateExpedited).or_else(|errno| match errno {
            // A fork need not have what its parent had.
            Errno::PERM => {
                register().and_then(|()| membarrier(MembarrierCommand::PrivateExpedited))
            }
            errno => Err(errno),
        });
        // The kernel had no memory for it; that passes.
        if passed != Err(Errno::NOMEM) {
            return passed;
        }
        pause(waits);
        waits = waits.saturating_add(1);
    }
}

/// Whether there is one. The first who asks has it made ready.
pub(super) fn is_ready() -> bool {
    let state = STATE.load(Ordering::Acquire);
    if state == UNTRIED {
        prepare();
        return STATE.load(Ordering::Acquire) == READY;
    }
    state == READY
}

#[cold]
fn prepare() {
    if STATE.compare_exchange(UNTRIED, TRYING, Ordering::AcqRel, Ordering::Acquire).is_err() {
        return;
    }
    let try_it = || {
        let state = if register().is_ok() { READY } else { NONE };
        STATE.store(state, Ordering::Release);
    };
    if is_only_thread() {
        try_it();
    } else if threads::spawn("deferring-barrier", try_it).is_err() {
        STATE.store(NONE, Ordering::Release);
    }
}

fn register() -> Result<(), Errno> {
    membarrier(MembarrierCommand::RegisterPrivateExpedited)
}

/// Whether this process has but one thread, as far as it is told.
fn is_only_thread() -> bool {
    // A directory has a link from each directory in it, and two of its own.
    rustix::fs::stat("/proc/self/task").is_ok_and(|task| task.st_nlink <= 3)
}

/// One step of waiting for a thread that will go on within a microsecond, unless it is kept from the
/// processor.
pub(super) fn pause(waits: u32) {
    const SPINS: u32 = 100;
    const YIELDS: u32 = 20;
    if waits < SPINS {
        std::hint::spin_loop();
    } else if waits < SPINS + YIELDS {
        thread::yield_now();
    } else {
        // The thread may have to wait for this one, if this one has the higher priority.
        thread::sleep(Duration::from_micros(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_ready_by_whoever_asks_first() {
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while !is_ready() && STATE.load(Ordering::Acquire) == TRYING {
            assert!(std::time::Instant::now() < end, "nobody makes it ready");
            thread::sleep(Duration::from_millis(1));
        }
        // Where the kernel has none, no lock is anybody's.
        assert_eq!(is_ready(), heavy().is_ok());
    }
}
