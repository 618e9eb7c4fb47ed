//! What calls the thread that sleeps in the ring: an eventfd that the ring itself watches.
//!
//! Not: when it is rung (`mod.rs`), nor how the ring watches it (`turn/submit.rs`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::EventfdFlags;
use rustix::io::Errno;

/// A bell that rings until it is silenced.
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> Result<Self, Errno> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        rustix::event::eventfd(0, flags).map(Self)
    }

    pub(crate) fn ring(&self) {
        // It fails only when the counter is full: then it is ringing.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(crate) fn silence(&self) {
        // It fails only when nobody rang: nothing to silence.
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
