//! What the stories share: rings, temporary places, bounds.
#![allow(dead_code)] // Each story uses a part.

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use deferring::{Ring, block_on};

/// Longer than anything here takes, shorter than anybody's patience.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) fn ring() -> Ring {
    Ring::builder().queue_depth(8).build().expect("a ring")
}

/// Runs a future on a ring of its own; for stories about one op.
pub(crate) fn alone<F: IntoFuture>(story: impl FnOnce(Ring) -> F) -> F::Output {
    let ring = ring();
    block_on(&ring, story(ring.clone()))
}

/// Turns the ring by hand until `done` says so; panics after [`BOUND`].
pub(crate) fn turn_until(ring: &Ring, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !done() {
        assert!(Instant::now() < end, "not done in {BOUND:?}: {:?}", ring.pending());
        ring.submit().expect("submits");
        ring.wait(Some(Duration::from_millis(100))).expect("waits");
        ring.reap().expect("reaps");
    }
}

/// Turns the ring by hand until nothing is in flight.
pub(crate) fn drain(ring: &Ring) {
    turn_until(ring, || ring.in_flight() == 0 && ring.pending().cancels == 0);
}

/// The descriptors that this process has open, to compare before and after.
pub(crate) fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc").count()
}
