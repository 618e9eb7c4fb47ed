//! What must always hold.

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use deferring::Ring;
use deferring_sim::Sim;
use futures_util::future::{Either, select};

/// No op takes longer, unless it hangs. The machine's calls take milliseconds.
const BOUND: Duration = Duration::from_secs(60);

pub(crate) struct Oracle {
    /// Weak: what the kernel never lets go of must not keep the machine.
    sim: Weak<Sim>,
    /// Buffers that are not freed.
    buffers: AtomicI64,
    /// When something was last seen to hang.
    hung_at: Mutex<Option<Duration>>,
    /// Whether ops may hang for ever.
    hangs: bool,
    /// Handles of ops that the program has, and results that it got.
    handles: AtomicUsize,
    results: AtomicUsize,
    leaked_before: u64,
}

impl Oracle {
    pub(crate) fn new(sim: &Arc<Sim>, hangs: bool) -> Arc<Self> {
        Arc::new(Self {
            sim: Arc::downgrade(sim),
            buffers: AtomicI64::new(0),
            hung_at: Mutex::new(None),
            hangs,
            handles: AtomicUsize::new(0),
            results: AtomicUsize::new(0),
            leaked_before: deferring::leaked_ops(),
        })
    }

    pub(crate) fn buffer_made(&self) {
        self.buffers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn buffer_freed(&self) {
        self.buffers.fetch_sub(1, Ordering::Relaxed);
    }

    /// P1: nobody frees, or gives back, what the kernel may touch.
    pub(crate) fn buffer_is_ours(&self, bytes: &[u8]) {
        let Some(sim) = self.sim.upgrade() else { return };
        if !std::thread::panicking() {
            let held = sim.may_touch(bytes.as_ptr(), bytes.len());
            assert!(!held, "P1: the kernel may touch {} bytes that are given back", bytes.len());
        }
    }

    /// P3, P5, P6: the result comes, and in time. `None` if it cannot, as calls hang here.
    pub(crate) async fn result<F: IntoFuture>(
        &self,
        ring: &Ring,
        what: &str,
        op: F,
    ) -> Option<F::Output> {
        self.handles.fetch_add(1, Ordering::Relaxed);
        let output = self.in_time(ring, what, op.into_future()).await;
        self.results.fetch_add(1, Ordering::Relaxed);
        output
    }

    async fn in_time<F: Future>(&self, ring: &Ring, what: &str, op: F) -> Option<F::Output> {
        let bound = deferring::time::sleep(ring, BOUND);
        match select(pin!(op), pin!(bound)).await {
            Either::Left((output, _)) => Some(output),
            Either::Right((slept, _)) => {
                slept.expect("a sleep ends");
                assert!(
                    self.may_wait(),
                    "P5: {what} has had no result for {BOUND:?}, nothing hangs"
                );
                None
            }
        }
    }

    /// Whether something hangs, or did when a wait began that ends now.
    fn may_wait(&self) -> bool {
        let Some(sim) = self.sim.upgrade() else { return false };
        let now = sim.age();
        let mut hung_at = self.hung_at.lock().expect("one thread");
        if sim.hung() > 0 {
            *hung_at = Some(now);
        }
        hung_at.is_some_and(|at| now <= at + BOUND)
    }

    /// The program has ended, and so has its ring.
    pub(crate) fn at_the_end(&self, sim: &Sim) {
        let leaked = deferring::leaked_ops() - self.leaked_before;
        assert_eq!(leaked, sim.hung() as u64, "P8: leaked are the ops that hang");
        assert!(self.hangs || leaked == 0, "P8: {leaked} ops leaked, and nothing hangs");
        let (handles, results) =
            (self.handles.load(Ordering::Relaxed), self.results.load(Ordering::Relaxed));
        assert_eq!(handles, results, "P3: each handle has one result");
        if leaked == 0 {
            let buffers = self.buffers.load(Ordering::Relaxed);
            assert_eq!(buffers, 0, "P3: buffers are lost");
            assert_eq!(sim.open_descriptors(), 0, "P2: descriptors are lost");
        }
    }
}
