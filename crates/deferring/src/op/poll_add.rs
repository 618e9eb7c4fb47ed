//! A wait for a descriptor to be ready.

use std::io;

use rustix::event::PollFlags;

use super::{Op, Opcode, Place, Sqe, poll32};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Waits until a descriptor is ready, once.
///
/// It looks when it is submitted: what is ready then ends it at once. The answer may have `ERR` and
/// `HUP` unasked. [`Handle::update`] changes what is waited for. To go on watching, see
/// [`Watcher`](crate::Watcher).
///
/// Kernel: `IORING_OP_POLL_ADD`, since 5.1.
///
/// # Cancellation
/// Nothing is lost: readiness is not consumed.
///
/// # Errors
/// `EBADF` if the [`Fd`] is closed. Regular files are always ready for `IN` and `OUT`, and refuse a
/// poll for neither with `EINVAL`.
#[derive(Debug)]
#[doc(alias = "IORING_OP_POLL_ADD")]
pub struct PollAdd {
    fd: Lease,
    events: PollFlags,
}

impl PollAdd {
    /// A wait for any of these events.
    #[must_use]
    pub fn new(fd: &Fd, events: PollFlags) -> Self {
        Self { fd: fd.lease(), events }
    }
}

// SAFETY: names the descriptor, which it owns a lease of, and no memory.
unsafe impl Op for PollAdd {
    type Output = io::Result<PollFlags>;
    const CODE: Opcode = Opcode::POLL_ADD;

    fn check(&self) -> io::Result<()> {
        self.fd.check()
    }

    fn place(&self) -> Place {
        Place::poll(&self.fd)
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.fd.is_of(fd)
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.fd.raw();
        sqe.op_flags = poll32(self.events);
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.fd.let_go(leases);
    }

    #[allow(clippy::cast_possible_truncation)] // Poll events are 16 bits.
    fn decode(self, result: io::Result<u32>) -> io::Result<PollFlags> {
        result.map(|events| PollFlags::from_bits_retain(events as u16))
    }
}

impl Ring {
    /// Queues a [`PollAdd`].
    ///
    /// ```
    /// use std::io::Write;
    /// use deferring::{Fd, PollFlags, Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let (ours, mut theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let readable = ring.poll(&Fd::from(ours), PollFlags::IN);
    /// theirs.write_all(b"hello")?;
    /// assert_eq!(block_on(&ring, readable)?, PollFlags::IN);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "poll_add")]
    pub fn poll(&self, fd: &Fd, events: PollFlags) -> Handle<PollAdd> {
        self.queue(PollAdd::new(fd, events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    #[cfg(target_endian = "little")]
    fn encodes() {
        let fd = Fd::numbered_for_tests(3);
        check_encode(
            PollAdd::new(&fd, PollFlags::IN | PollFlags::OUT),
            "PollAdd fd=3 events=IN|OUT",
        );
    }
}
