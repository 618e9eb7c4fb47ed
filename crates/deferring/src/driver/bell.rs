//! What calls the thread that sleeps in the ring: an eventfd that the ring itself watches, or a
//! message to the ring (since Linux 6.13), which costs one system call instead of three.
//!
//! Not: when it is rung (`seat.rs`), nor how the ring watches it (`turn/submit.rs`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::event::EventfdFlags;
use rustix::io::Errno;

use crate::backend::uring::send_message;
use crate::inflight::{Own, Token};

/// A bell that rings until it is silenced.
pub(crate) struct Bell {
    eventfd: OwnedFd,
    /// The ring, if it can be sent messages.
    ring: OnceLock<OwnedFd>,
}

impl Bell {
    pub(crate) fn new() -> Result<Self, Errno> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let eventfd = rustix::event::eventfd(0, flags)?;
        Ok(Self { eventfd, ring: OnceLock::new() })
    }

    /// Calls by messages from now on, if the kernel can; true if so. The first one is sent.
    pub(crate) fn call_by_message(&self, ring: BorrowedFd<'_>) -> bool {
        let Ok(ring) = rustix::io::fcntl_dupfd_cloexec(ring, 0) else { return false };
        send_message(ring.as_fd(), MESSAGE).is_ok() && self.ring.set(ring).is_ok()
    }

    pub(crate) fn ring(&self) {
        if let Some(ring) = self.ring.get() {
            if send_message(ring.as_fd(), MESSAGE).is_ok() {
                return;
            }
            // No memory for it. The eventfd is watched as well.
        }
        // It fails only when the counter is full: then it is ringing.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }

    pub(crate) fn silence(&self) {
        // Also where messages call: now and then one cannot be sent. It fails only when nobody
        // rang: nothing to silence.
        let _ = rustix::io::read(&self.eventfd, &mut [0u8; 8]);
    }
}

/// What the message says, in a CQE: the bell rang.
const MESSAGE: Token = Token::own(Own::Message);

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
