//! What an actor has to play with.

use std::sync::Arc;

use deferring::{Fd, Ring};
use deferring_sim::Sim;

use crate::oracle::Oracle;

/// What an actor has.
pub(crate) struct Stage {
    pub(crate) ring: Ring,
    pub(crate) sim: Arc<Sim>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) rng: fastrand::Rng,
    /// Its own, like its directory.
    pub(crate) number: usize,
    /// Whether some ops fail with `EIO`.
    pub(crate) fails: bool,
}

impl Stage {
    pub(crate) fn path(&self, name: &str) -> String {
        format!("/{}/{name}", self.number)
    }

    pub(crate) fn pipe(&self) -> (Fd, Fd) {
        self.sim.pipe().expect("a pipe")
    }
}
