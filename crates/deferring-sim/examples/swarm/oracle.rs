//! What must always hold.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use deferring::{Pending, Ring};
use deferring_sim::Sim;
use futures_util::future::{Either, select};

/// No op takes longer, unless it hangs. The machine's calls take milliseconds.
const BOUND: Duration = Duration::from_secs(60);

/// Nor are more steps taken meanwhile, by all actors together: a ring that is busy with itself takes
/// many in little time. Ten times the most that any wait took in the first 40,000 seeds, which was
/// 17,000, and 21,000 where calls hang.
const STEPS: u64 = 200_000;

/// When nobody asks for anything any more, what was let go takes no longer. It is less than `BOUND`:
/// by then the sleep of each wait would have ended without its cancel.
const REST: Duration = Duration::from_secs(10);

pub(crate) struct Oracle {
    /// Weak: what the kernel never lets go of must not keep the machine.
    sim: Weak<Sim>,
    /// Buffers that are not freed.
    buffers: AtomicI64,
    /// When something was last seen to hang.
    hung_at: Mutex<Option<Duration>>,
    /// Whether ops may hang for ever.
    hangs: bool,
    /// Handles that the program has awaited; of those, results that they gave, and handles that it
    /// has given up, as calls hang.
    handles: AtomicU64,
    results: AtomicU64,
    given_up: AtomicU64,
    /// Waits under way, the oldest first: at which step each began, and what it is for.
    waits: Mutex<BTreeMap<u64, (u64, &'static str)>>,
    leaked_before: u64,
}

impl Oracle {
    pub(crate) fn new(sim: &Arc<Sim>, hangs: bool) -> Arc<Self> {
        Arc::new(Self {
            sim: Arc::downgrade(sim),
            buffers: AtomicI64::new(0),
            hung_at: Mutex::new(None),
            hangs,
            handles: AtomicU64::new(0),
            results: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            waits: Mutex::default(),
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
        what: &'static str,
        op: F,
    ) -> Option<F::Output> {
        let handle = self.handles.fetch_add(1, Ordering::Relaxed);
        self.wait_begins(handle, what);
        let output = self.in_time(ring, what, op.into_future()).await;
        self.wait_ends(handle);
        let ended = if output.is_some() { &self.results } else { &self.given_up };
        ended.fetch_add(1, Ordering::Relaxed);
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

    fn wait_begins(&self, handle: u64, what: &'static str) {
        let Some(sim) = self.sim.upgrade() else { return };
        let mut waits = self.waits.lock().expect("one thread");
        waits.insert(handle, (sim.steps(), what));
    }

    fn wait_ends(&self, handle: u64) {
        let Some(sim) = self.sim.upgrade() else { return };
        let wait = self.waits.lock().expect("one thread").remove(&handle);
        let (begun, what) = wait.expect("it has begun");
        let steps = sim.steps() - begun;
        assert!(steps <= STEPS, "P5: {what} has had its result after {steps} steps");
    }

    /// P5, whether or not time passes: nobody waits for longer than so many steps. Asked whenever
    /// the program is polled.
    pub(crate) fn watch(&self) {
        let Some(sim) = self.sim.upgrade() else { return };
        let oldest =
            self.waits.lock().expect("one thread").first_key_value().map(|(_, wait)| *wait);
        let Some((begun, what)) = oldest else { return };
        let steps = sim.steps() - begun;
        assert!(steps <= STEPS, "P5: {what} has had no result for {steps} steps");
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

    /// P3, P4, P6: when nobody asks for anything any more, nothing is out but what hangs: what was
    /// let go has ended, too, and so have the cancels of it.
    pub(crate) async fn at_rest(&self, ring: &Ring, sim: &Sim) {
        const PAUSE: Duration = Duration::from_millis(100);
        let is_at_rest = |Pending { queued, in_kernel, cancels, .. }| {
            queued == 0 && cancels == 0 && in_kernel == sim.hung()
        };
        let begun = sim.age();
        while !is_at_rest(ring.pending()) && sim.age() < begun + REST {
            deferring::time::sleep(ring, PAUSE).await.expect("a sleep");
        }
        let Pending { queued, in_kernel, cancels, .. } = ring.pending();
        assert_eq!(queued, 0, "P6: ops wait in the ring behind nothing");
        assert_eq!(cancels, 0, "P4: cancels have no answer");
        assert_eq!(in_kernel, sim.hung(), "P3: in the kernel is what hangs, and nothing else");
    }

    /// The program has ended, and so has its ring.
    pub(crate) fn at_the_end(&self, sim: &Sim) {
        let leaked = deferring::leaked_ops() - self.leaked_before;
        assert_eq!(leaked, sim.hung() as u64, "P8: leaked are the ops that hang");
        assert!(self.hangs || leaked == 0, "P8: {leaked} ops leaked, and nothing hangs");
        let [handles, results, given_up] =
            [&self.handles, &self.results, &self.given_up].map(|n| n.load(Ordering::Relaxed));
        assert_eq!(handles, results + given_up, "P3: each handle has one result, or is given up");
        if leaked == 0 {
            let buffers = self.buffers.load(Ordering::Relaxed);
            assert_eq!(buffers, 0, "P3: buffers are lost");
            assert_eq!(sim.open_descriptors(), 0, "P2: descriptors are lost");
        }
    }
}
