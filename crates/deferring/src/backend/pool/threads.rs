//! How many threads of a pool there are, for whoever waits for their end.
//!
//! A thread that has ended has let go of what it shared with others before. Not: what they do
//! (`workers.rs`, `poller.rs`).

use std::io;
use std::time::{Duration, Instant};

use super::Shared;
use crate::sync::Arc;
use crate::sync::plain::{Condvar, Mutex};
use crate::threads;

#[derive(Default)]
pub(super) struct Threads {
    alive: Mutex<usize>,
    ended: Condvar,
}

/// A thread is alive.
struct Alive(Arc<Threads>);

impl Threads {
    pub(super) fn spawn(
        this: &Arc<Self>,
        name: &str,
        shared: Arc<Shared>,
        run: fn(&Arc<Shared>),
    ) -> io::Result<()> {
        *this.alive.lock() += 1;
        let alive = Alive(Arc::clone(this));
        let runs = move || {
            let _alive = alive; // Dropped after what it shares.
            let shared = shared;
            run(&shared);
        };
        threads::spawn(name, runs).map(drop)
    }

    /// Waits until no more threads are left than `left` says, or for the time.
    pub(super) fn wait(&self, time: Duration, left: impl Fn() -> usize) {
        let end = Instant::now() + time;
        let mut alive = self.alive.lock();
        while *alive > left() {
            let time = end.saturating_duration_since(Instant::now());
            if time.is_zero() {
                return;
            }
            (alive, _) = self.ended.wait_timeout(alive, time);
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        *self.0.alive.lock() -= 1;
        self.0.ended.notify_all();
    }
}
