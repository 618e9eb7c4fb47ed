//! What goes out by a socket, from one buffer.

use std::io;

use rustix::net::SendFlags;

use super::{Direction, Op, Opcode, Place, Sqe, check_message, message_place, transfer_len};
use crate::buf::{BufResult, IoBuf, Lent};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Sends a buffer by a socket that is connected.
///
/// The whole length is offered; a stream may take fewer bytes, which is not an error. To send a part,
/// lend a [`slice`](IoBuf::slice). A signal never comes of it (`MSG_NOSIGNAL`): where nobody receives
/// any more, the error is `EPIPE`.
///
/// Of one socket one send or write is in the kernel at a time, and the others wait in the ring, so that
/// data goes in the order in which it was queued. One with [`DONTWAIT`](SendFlags::DONTWAIT) waits for
/// nobody.
///
/// It costs a little less than a [`Write`](super::Write) to the same socket.
///
/// Kernel: `IORING_OP_SEND`, since 5.6.
///
/// # Cancellation
/// The buffer comes back, or is freed, after the last CQE. With
/// [`Cancelled`](crate::CancelOutcome::Cancelled) nothing was sent; what was sent stays sent.
///
/// # Errors
/// Those of `send(2)`: `ENOTSOCK` for what is no socket, `ENOTCONN`, `EPIPE`; `EAGAIN` with `DONTWAIT`
/// if there is no room. `EINVAL` for flags other than `CONFIRM`, `DONTROUTE`, `DONTWAIT`, `EOR`,
/// `MORE` and `NOSIGNAL`: with `MSG_ZEROCOPY`, for one, the kernel would keep the buffer for longer
/// than it says. `EBADF` if the [`Fd`] is closed. The buffer comes back in every case.
#[derive(Debug)]
#[doc(alias = "IORING_OP_SEND")]
pub struct Send<B: IoBuf> {
    fd: Lease,
    buf: Lent<B>,
    flags: SendFlags,
}

impl<B: IoBuf> Send<B> {
    const KNOWN: SendFlags = SendFlags::CONFIRM
        .union(SendFlags::DONTROUTE)
        .union(SendFlags::DONTWAIT)
        .union(SendFlags::EOR)
        .union(SendFlags::MORE)
        .union(SendFlags::NOSIGNAL);

    /// A send that waits for room, if there is none.
    pub fn new(fd: &Fd, buf: B) -> Self {
        Self { fd: fd.lease(), buf: Lent::to_read(buf), flags: SendFlags::NOSIGNAL }
    }

    /// Flags of `send(2)`; `NOSIGNAL` is always among them.
    #[must_use]
    pub const fn flags(mut self, flags: SendFlags) -> Self {
        self.flags = flags.union(SendFlags::NOSIGNAL);
        self
    }
}

// SAFETY: names the buffer and the descriptor, both owned, the buffer by way of `Lent`. With the flags
// that `check` lets pass, the kernel is done with the buffer at its CQE.
unsafe impl<B: IoBuf> Op for Send<B> {
    type Output = BufResult<usize, B>;
    const CODE: Opcode = Opcode::SEND;

    fn check(&self) -> io::Result<()> {
        self.fd.check()?;
        check_message(self.flags.bits(), Self::KNOWN.bits())
    }

    fn place(&self) -> Place {
        message_place(&self.fd, Direction::Out, self.flags.contains(SendFlags::DONTWAIT))
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.fd.is_of(fd)
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.fd.raw();
        sqe.addr = self.buf.address();
        sqe.len = transfer_len(self.buf.len());
        sqe.op_flags = self.flags.bits();
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.fd.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> BufResult<usize, B> {
        BufResult(result.map(|n| n as usize), self.buf.into_inner())
    }
}

impl Ring {
    /// Queues a [`Send`].
    pub fn send<B: IoBuf>(&self, fd: &Fd, buf: B, flags: SendFlags) -> Handle<Send<B>> {
        self.queue(Send::new(fd, buf).flags(flags))
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let fd = Fd::numbered_for_tests(3);
        check_encode(Send::new(&fd, b"hello"), "Send fd=3 buf=ptr len=5 flags=NOSIGNAL");
        let more = Send::new(&fd, b"hello").flags(SendFlags::MORE);
        check_encode(more, "Send fd=3 buf=ptr len=5 flags=MORE|NOSIGNAL");
    }

    #[test]
    fn a_flag_with_which_the_kernel_keeps_the_buffer_for_longer_is_refused() {
        const ZEROCOPY: u32 = 0x400_0000;
        let fd = Fd::numbered_for_tests(3);
        let refused = Send::new(&fd, b"hello").flags(SendFlags::from_bits_retain(ZEROCOPY));
        let error = refused.check().unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::INVAL));
    }
}
