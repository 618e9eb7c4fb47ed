//! The simulated kernel as the backend of rings.
#![allow(unsafe_code)] // `unsafe impl Backend`.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deferring::backend::{Backend, Wire, Workers};
use deferring::op::{Opcode, Sqe};

use crate::world::{KNOWN, RingId, World};

/// A world that rings and their user share.
#[derive(Clone)]
pub(crate) struct Kernel(Arc<Mutex<World>>);

/// What one ring has of it.
pub(crate) struct Port {
    kernel: Kernel,
    ring: RingId,
}

impl Kernel {
    pub(crate) fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        // A panic in there is told to the user, and then the ring ends.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a new ring.
    pub(crate) fn port(&self, wire: Wire) -> Port {
        let ring = self.world().connect(wire);
        Port { kernel: self.clone(), ring }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.kernel.world().disconnect(self.ring);
    }
}

// SAFETY: `world/memory.rs` touches memory of an op in `World::run` and its kin, which find the op in
// the table of those that are out; what is there has not been answered, and what is answered is not
// there any more. The results are those of the calls that are simulated; descriptors that it gives
// are new ones of this process.
unsafe impl Backend for Port {
    fn supports(&self, opcode: Opcode) -> bool {
        KNOWN.contains(&opcode)
    }

    fn enter(&self, count: u32) -> io::Result<u32> {
        Ok(self.kernel.world().enter(count)?)
    }

    fn begin(&self, sqe: Sqe) {
        self.kernel.world().begin(self.ring, sqe);
    }

    fn now(&self) -> Duration {
        self.kernel.world().now()
    }

    fn wait(&self, _: &Wire, time: Option<Duration>) -> io::Result<()> {
        Ok(self.kernel.world().wait(self.ring, time)?)
    }

    fn pass(&self) {
        self.kernel.world().poll_again();
    }

    fn limit_workers(&self, most: u32) {
        self.kernel.world().limit_workers(most);
    }

    fn workers(&self) -> Workers {
        self.kernel.world().count_workers()
    }
}
