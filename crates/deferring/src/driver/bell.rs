//! What calls the thread that sleeps in the ring: an eventfd that the ring itself watches, or a
//! message to the ring (since Linux 6.13), which costs one system call instead of three.
//!
//! Not: when it is rung (`seat.rs`), nor how the ring watches it (`turn/submit.rs`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::event::EventfdFlags;
use rustix::io::Errno;

use crate::backend::uring::send_message;
use crate::backend::{Kernel, Wire};
use crate::inflight::{Own, Token};

/// A bell that rings until it is silenced.
pub(crate) struct Bell {
    eventfd: OwnedFd,
    /// Where messages go, if they do.
    messages: OnceLock<Messages>,
}

/// A ring that can be sent messages.
enum Messages {
    Uring(OwnedFd),
    Memory(Wire),
}

impl Messages {
    fn send(&self) -> Result<(), Errno> {
        match self {
            Self::Uring(ring) => send_message(ring.as_fd(), MESSAGE),
            Self::Memory(wire) => {
                wire.send_message(MESSAGE);
                Ok(())
            }
        }
    }
}

impl Bell {
    pub(crate) fn new() -> Result<Self, Errno> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let eventfd = rustix::event::eventfd(0, flags)?;
        Ok(Self { eventfd, messages: OnceLock::new() })
    }

    /// Calls by messages from now on, if the kernel can; true if so.
    pub(crate) fn call_by_message(&self, kernel: &Kernel) -> bool {
        let messages = match kernel {
            Kernel::Uring(kernel, _) => {
                let Ok(ring) = rustix::io::fcntl_dupfd_cloexec(kernel, 0) else { return false };
                Messages::Uring(ring)
            }
            Kernel::Memory(kernel) => {
                let messages = Messages::Memory(kernel.wire().clone());
                return self.messages.set(messages).is_ok();
            }
        };
        // Not all kernels can.
        messages.send().is_ok() && self.messages.set(messages).is_ok()
    }

    /// Whether the kernel has to watch the eventfd: for those who are told by nothing else, or when
    /// there is no memory for a message.
    pub(crate) fn needs_a_watch(&self) -> bool {
        !matches!(self.messages.get(), Some(Messages::Memory(_)))
    }

    pub(crate) fn ring(&self) {
        match self.messages.get() {
            Some(messages) if messages.send().is_ok() => {}
            // It fails only when the counter is full: then it is ringing.
            _ => drop(rustix::io::write(&self.eventfd, &1u64.to_ne_bytes())),
        }
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
