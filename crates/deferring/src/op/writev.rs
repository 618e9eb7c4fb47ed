//! A write from several buffers.

use std::io;

use super::{Direction, Op, Opcode, Place, Plain, Sqe, check_vectored};
use crate::buf::{BufResult, IoVectored, LentVectored};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Writes several buffers, one after the other, at an offset or at the file position.
///
/// Kernel: `IORING_OP_WRITEV`, since 5.1.
/// A plain call, where [`callers_may_block`](crate::Builder::callers_may_block) says so.
///
/// # Cancellation
/// As for [`Write`](super::Write).
///
/// # Errors
/// Those of `pwritev(2)`; `EINVAL` for more than 1024 buffers; `EBADF` if the [`Fd`] is closed. The
/// buffers come back in every case.
#[derive(Debug)]
#[doc(alias = "IORING_OP_WRITEV")]
pub struct Writev<V: IoVectored> {
    fd: Lease,
    bufs: LentVectored<V>,
    offset: u64,
}

impl<V: IoVectored> Writev<V> {
    /// A write at `offset` bytes from the start, or at [`CURRENT`](crate::CURRENT).
    pub fn new(fd: &Fd, bufs: V, offset: u64) -> Self {
        Self { fd: fd.lease(), bufs: LentVectored::to_read(bufs), offset }
    }
}

// SAFETY: names the buffers, their array and the descriptor, all owned, by way of `LentVectored`.
unsafe impl<V: IoVectored> Op for Writev<V> {
    type Output = BufResult<usize, V>;
    const CODE: Opcode = Opcode::WRITEV;

    fn check(&self) -> io::Result<()> {
        self.fd.check()?;
        check_vectored(self.bufs.count())
    }

    fn place(&self) -> Place {
        Place::transfer(&self.fd, self.bufs.len(), Direction::Out)
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.fd.is_of(fd)
    }

    fn plain(&self) -> Plain {
        Plain::write_if(self.fd.takes_at_once(self.bufs.len(), self.offset))
    }

    fn call(&mut self) -> io::Result<u32> {
        // SAFETY: made by `to_read`.
        let result = self.fd.writev(unsafe { self.bufs.slices() }, self.offset);
        self.fd.give_up();
        result
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.fd.raw();
        sqe.off = self.offset;
        sqe.addr = self.bufs.address();
        sqe.len = self.bufs.sqe_count();
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.fd.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> BufResult<usize, V> {
        BufResult(result.map(|n| n as usize), self.bufs.into_inner())
    }
}

impl Ring {
    /// Queues a [`Writev`].
    #[doc(alias = "pwritev")]
    pub fn writev<V: IoVectored>(&self, fd: &Fd, bufs: V, offset: u64) -> Handle<Writev<V>> {
        self.queue(Writev::new(fd, bufs, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let fd = Fd::numbered_for_tests(3);
        check_encode(Writev::new(&fd, ["a", "bc"], 7), "Writev fd=3 iovecs=ptr offset=7 count=2");
    }
}
