//! A read into one buffer.

use std::io;

use super::{Direction, Op, Opcode, Place, Sqe, transfer_len};
use crate::buf::{BufResult, IoBufMut, Lent};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Reads into a buffer, from an offset or from the file position.
///
/// The bytes go to the start of the buffer, up to its capacity; its length becomes at least the
/// number read. To read less, or further back, lend a [`slice`](crate::IoBuf::slice) of it.
/// 0 is the end of the file; a short read is not an error.
///
/// Of one pipe, socket or terminal one read is in the kernel at a time, and the others wait in the
/// ring, so that data comes in the order in which the reads were queued. Likewise for writes, of
/// pipes and sockets.
///
/// Kernel: `IORING_OP_READ`, since 5.6.
///
/// # Cancellation
/// The buffer comes back, or is freed, after the last CQE. Bytes already taken from a pipe or a
/// socket by a dropped handle are lost.
///
/// # Errors
/// Those of `pread(2)`; `EBADF` if the [`Fd`] is closed. The buffer comes back in every case.
#[derive(Debug)]
#[doc(alias = "IORING_OP_READ")]
pub struct Read<B: IoBufMut> {
    fd: Lease,
    buf: Lent<B>,
    offset: u64,
}

impl<B: IoBufMut> Read<B> {
    /// A read at `offset` bytes from the start, or at [`CURRENT`](crate::CURRENT). Pipes
    /// ignore it; sockets take 0 or `CURRENT`, and refuse others with `ESPIPE`.
    pub fn new(fd: &Fd, buf: B, offset: u64) -> Self {
        Self { fd: fd.lease(), buf: Lent::to_fill(buf), offset }
    }
}

// SAFETY: names the buffer and the descriptor, both owned, the buffer by way of `Lent`.
unsafe impl<B: IoBufMut> Op for Read<B> {
    type Output = BufResult<usize, B>;
    const CODE: Opcode = Opcode::READ;

    fn check(&self) -> io::Result<()> {
        self.fd.check()
    }

    fn place(&self) -> Place {
        Place::transfer(&self.fd, self.buf.len(), Direction::In)
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.fd.is_of(fd)
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
        // SAFETY: the kernel wrote as many bytes as it says, to the start of the buffer.
        unsafe { self.buf.filled(result) }
    }
}

impl Ring {
    /// Queues a [`Read`].
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use deferring::{BufResult, Fd, Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let file = Fd::from(std::fs::File::open("/proc/self/comm")?);
    /// let BufResult(n, buf) = block_on(&ring, ring.read(&file, Vec::with_capacity(64), 0));
    /// assert_eq!(n?, buf.len());
    /// assert!(buf.ends_with(b"\n"));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "pread")]
    pub fn read<B: IoBufMut>(&self, fd: &Fd, buf: B, offset: u64) -> Handle<Read<B>> {
        self.queue(Read::new(fd, buf, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CURRENT;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let fd = Fd::numbered_for_tests(3);
        check_encode(Read::new(&fd, vec![0; 512], 7), "Read fd=3 buf=ptr offset=7 len=512");
        check_encode(
            Read::new(&fd, Vec::with_capacity(64), CURRENT),
            "Read fd=3 buf=ptr offset=CURRENT len=64",
        );
    }
}
