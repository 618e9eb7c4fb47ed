//! A write from one buffer.

use std::io;

use super::{Direction, Op, Opcode, Place, Plain, Sqe, transfer_len};
use crate::buf::{BufResult, IoBuf, Lent};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Writes a buffer, at an offset or at the file position.
///
/// The whole length is offered; fewer bytes may be taken, which is not an error. To write a part,
/// lend a [`slice`](IoBuf::slice).
///
/// Kernel: `IORING_OP_WRITE`, since 5.6.
/// A plain call, where [`callers_may_block`](crate::Builder::callers_may_block) says so.
///
/// # Cancellation
/// The buffer comes back, or is freed, after the last CQE. What was written stays written.
///
/// # Errors
/// Those of `pwrite(2)`; `EBADF` if the [`Fd`] is closed. The buffer comes back in every case.
#[derive(Debug)]
#[doc(alias = "IORING_OP_WRITE")]
pub struct Write<B: IoBuf> {
    fd: Lease,
    buf: Lent<B>,
    offset: u64,
}

impl<B: IoBuf> Write<B> {
    /// A write at `offset` bytes from the start, or at [`CURRENT`](crate::CURRENT). Pipes
    /// ignore it; sockets take 0 or `CURRENT`, and refuse others with `ESPIPE`.
    pub fn new(fd: &Fd, buf: B, offset: u64) -> Self {
        Self { fd: fd.lease(), buf: Lent::to_read(buf), offset }
    }
}

// SAFETY: names the buffer and the descriptor, both owned, the buffer by way of `Lent`.
unsafe impl<B: IoBuf> Op for Write<B> {
    type Output = BufResult<usize, B>;
    const CODE: Opcode = Opcode::WRITE;

    fn check(&self) -> io::Result<()> {
        self.fd.check()
    }

    fn place(&self) -> Place {
        Place::transfer(&self.fd, self.buf.len(), Direction::Out)
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.fd.is_of(fd)
    }

    fn plain(&self) -> Plain {
        Plain::write_if(self.fd.takes_at_once(self.buf.len(), self.offset))
    }

    fn call(&mut self) -> io::Result<u32> {
        // SAFETY: made by `to_read`.
        let result = self.fd.write(unsafe { self.buf.bytes() }, self.offset);
        self.fd.give_up();
        result
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.fd.raw();
        sqe.off = self.offset;
        sqe.addr = self.buf.address();
        sqe.len = transfer_len(self.buf.len());
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.fd.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> BufResult<usize, B> {
        BufResult(result.map(|n| n as usize), self.buf.into_inner())
    }
}

impl Ring {
    /// Queues a [`Write`].
    #[doc(alias = "pwrite")]
    pub fn write<B: IoBuf>(&self, fd: &Fd, buf: B, offset: u64) -> Handle<Write<B>> {
        self.queue(Write::new(fd, buf, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let fd = Fd::numbered_for_tests(3);
        check_encode(Write::new(&fd, b"hello", 7), "Write fd=3 buf=ptr offset=7 len=5");
    }
}
