//! A thread that has submitted comes to its end.
//!
//! Linux waits, in the exit of a thread, for the calls that its workers make for it, and interrupts
//! them only once: a call that blocks just then (an open of a FIFO) keeps the thread for as long as
//! it blocks, and no cancel reaches it any more (6.18). So before that the ring asks for those ops,
//! and sends them again from another thread. Not: which ops those are (`inflight/recall.rs`).

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::ptr;
use std::sync::Weak;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Core, Shared};
use crate::driver::spawn_thread;
use crate::inflight::Token;
use crate::notify::Calls;
use crate::sync::{Arc, mpsc};

/// How long a thread waits for its ops. Those that do not listen, such as a write to a disk, keep
/// it in the kernel in any case, until they end.
const RECALL_MAX: Duration = Duration::from_millis(200);

/// How often it asks for them again.
const RECALL_AGAIN: Duration = Duration::from_millis(1);

thread_local! {
    static SUBMITTED: Submitted = const { Submitted::new() };
}

/// The rings for which this thread has workers.
struct Submitted {
    last: Cell<*const Shared>,
    rings: RefCell<Vec<Weak<Shared>>>,
}

impl Submitted {
    const fn new() -> Self {
        Self { last: Cell::new(ptr::null()), rings: RefCell::new(Vec::new()) }
    }

    fn add(&self, shared: &Shared) {
        self.last.set(shared);
        let mut rings = self.rings.borrow_mut();
        rings.retain(|ring| ring.strong_count() > 0);
        if !rings.iter().any(|ring| ptr::eq(ring.as_ptr(), shared)) {
            rings.push(Weak::clone(&shared.me));
        }
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        for ring in self.rings.take() {
            if let Some(shared) = ring.upgrade() {
                recall(&shared);
            }
        }
    }
}

/// Has another thread ask for the ops and wake whom that concerns: wakers may need what this thread
/// has no more.
fn recall(shared: &Arc<Shared>) {
    if !shared.has_recallable() {
        return;
    }
    let (alive, done) = mpsc::channel::<Infallible>();
    let kept = Arc::clone(shared);
    let recalls = move || {
        kept.recall();
        drop(alive);
    };
    // Without a thread for that, the exit takes as long as the calls.
    if spawn_thread("deferring-leave", recalls).is_ok() {
        let _ = done.recv_timeout(RECALL_MAX);
    }
}

impl Core {
    /// What the workers of threads that submit have. What a pool beside the kernel has stays there.
    fn in_workers(&mut self) -> Vec<Token> {
        let Self { inflight, aside, .. } = self;
        inflight.in_workers(|token| aside.as_ref().is_some_and(|aside| aside.has(token)))
    }
}

impl Shared {
    /// Whether there is something to ask for.
    fn has_recallable(&self) -> bool {
        let gone = self.check_process().is_err() || self.is_over() || self.is_poisoned();
        !gone && !self.lock().in_workers().is_empty()
    }

    /// This thread submits, and may have workers for it.
    pub(super) fn remember_thread(&self) {
        let elsewhere = self.params().single_issuer || self.kernel.has_own_workers();
        if elsewhere || self.workers.share() == 0 || self.core.is_of_one_thread() {
            return; // Its thread outlives its ops; or there are no workers; or nobody else may send.
        }
        // It fails in the very end of a thread, when it is too late.
        let _ = SUBMITTED.try_with(|submitted| {
            if !ptr::eq(submitted.last.get(), self) {
                submitted.add(self);
            }
        });
    }

    /// Has the kernel give back what its workers have, for others to send again.
    fn recall(&self) {
        // A panic of the user's wakers is not the thread's: the panic hook has reported it.
        let mut calls = Calls::default();
        let end = Instant::now() + RECALL_MAX;
        let mut core = self.lock();
        let mut wanted = core.in_workers();
        core.inflight.want_back(&wanted);
        drop(core);
        loop {
            let mut core = self.lock();
            core.inflight.recall(&mut wanted);
            let count = core.push_cancels();
            drop(core);
            if count > 0 {
                let _ = self.kernel.submit(count);
            }
            // This thread ends, too: sent by it, they would have to be recalled again.
            let ops = self.reap_and_leave(&mut calls);
            self.tell_later(ops);
            if wanted.is_empty() || Instant::now() >= end {
                break;
            }
            sleep(RECALL_AGAIN);
        }
    }
}
