//! What comes to a socket, into one buffer.

use std::io;

use rustix::net::RecvFlags;

use super::{Direction, Op, Opcode, Place, Sqe, check_message, message_place, transfer_len};
use crate::buf::{BufResult, IoBufMut, Lent};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Receives from a socket that is connected, into a buffer.
///
/// The bytes go to the start of the buffer, up to its capacity; its length becomes at least the
/// number received. 0 is the end: the other side sends no more. Less than there is room for is no
/// error. What of a datagram does not fit is gone.
///
/// Of one socket one receive or read is in the kernel at a time, and the others wait in the ring, so
/// that data comes in the order in which it was asked for. One with [`DONTWAIT`](RecvFlags::DONTWAIT)
/// waits for nobody: it takes what is there, before those that wait.
///
/// It costs a little less than a [`Read`](super::Read) of the same socket.
///
/// Kernel: `IORING_OP_RECV`, since 5.6.
///
/// # Cancellation
/// The buffer comes back, or is freed, after the last CQE. With
/// [`Cancelled`](crate::CancelOutcome::Cancelled) nothing was taken from the socket. Bytes already
/// taken by a dropped handle are lost.
///
/// # Errors
/// Those of `recv(2)`: `ENOTSOCK` for what is no socket, `ENOTCONN`; `EAGAIN` with `DONTWAIT` if
/// there is nothing. `EINVAL` for flags other than `DONTWAIT` and `PEEK`: with those the kernel may
/// say that it has filled what it has not (`TRUNC`), or give a part up when it is cancelled
/// (`WAITALL`). `EBADF` if the [`Fd`] is closed. The buffer comes back in every case.
#[derive(Debug)]
#[doc(alias = "IORING_OP_RECV")]
pub struct Recv<B: IoBufMut> {
    fd: Lease,
    buf: Lent<B>,
    flags: RecvFlags,
}

impl<B: IoBufMut> Recv<B> {
    const KNOWN: RecvFlags = RecvFlags::DONTWAIT.union(RecvFlags::PEEK);

    /// A receive that waits for the first bytes, if none are there.
    pub fn new(fd: &Fd, buf: B) -> Self {
        Self { fd: fd.lease(), buf: Lent::to_fill(buf), flags: RecvFlags::empty() }
    }

    /// Flags of `recv(2)`: `DONTWAIT`, `PEEK`.
    #[must_use]
    pub const fn flags(mut self, flags: RecvFlags) -> Self {
        self.flags = flags;
        self
    }
}

// SAFETY: names the buffer and the descriptor, both owned, the buffer by way of `Lent`. With the flags
// that `check` lets pass, the kernel fills as many bytes as it says.
unsafe impl<B: IoBufMut> Op for Recv<B> {
    type Output = BufResult<usize, B>;
    const CODE: Opcode = Opcode::RECV;

    fn check(&self) -> io::Result<()> {
        self.fd.check()?;
        check_message(self.flags.bits(), Self::KNOWN.bits())
    }

    fn place(&self) -> Place {
        message_place(&self.fd, Direction::In, self.flags.contains(RecvFlags::DONTWAIT))
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
        // SAFETY: the kernel wrote as many bytes as it says, to the start of the buffer.
        unsafe { self.buf.filled(result) }
    }
}

impl Ring {
    /// Queues a [`Recv`].
    ///
    /// ```
    /// use deferring::{BufResult, Fd, RecvFlags, Ring, SendFlags, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let (one, other) = std::os::unix::net::UnixStream::pair()?;
    /// let (one, other) = (Fd::from(one), Fd::from(other));
    /// let BufResult(n, buf) = block_on(&ring, async {
    ///     let answer = ring.recv(&one, Vec::with_capacity(64), RecvFlags::empty());
    ///     ring.send(&other, "hello", SendFlags::empty()).await.0?;
    ///     answer.await.into_inner().map(|(n, buf)| BufResult(Ok(n), buf))
    /// })?;
    /// assert_eq!((n?, buf.as_slice()), (5, &b"hello"[..]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn recv<B: IoBufMut>(&self, fd: &Fd, buf: B, flags: RecvFlags) -> Handle<Recv<B>> {
        self.queue(Recv::new(fd, buf).flags(flags))
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
        check_encode(Recv::new(&fd, vec![0; 512]), "Recv fd=3 buf=ptr len=512");
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peek = Recv::new(&fd, Vec::with_capacity(64)).flags(flags);
        check_encode(peek, "Recv fd=3 buf=ptr len=64 flags=DONTWAIT|PEEK");
    }

    #[test]
    fn a_flag_that_may_have_the_kernel_tell_more_than_it_filled_is_refused() {
        let fd = Fd::numbered_for_tests(3);
        let every = (0..32).map(|bit| RecvFlags::from_bits_retain(1 << bit));
        for flags in every {
            let checked = Recv::new(&fd, vec![0; 8]).flags(flags).check();
            let known = [RecvFlags::DONTWAIT, RecvFlags::PEEK].contains(&flags);
            match checked {
                Ok(()) => assert!(known, "{flags:?}"),
                Err(error) => {
                    assert_eq!(Errno::from_io_error(&error), Some(Errno::INVAL), "{flags:?}");
                    assert!(!known, "{flags:?}");
                }
            }
        }
    }
}
