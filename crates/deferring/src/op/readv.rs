//! A read into several buffers.

use std::io;

use super::{Direction, Op, Opcode, Place, Sqe, check_vectored};
use crate::buf::{BufResult, IoVectoredMut, LentVectored};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Reads into several buffers, one after the other, from an offset or from the file position.
///
/// Each buffer is filled to its capacity before the next; their lengths become at least what was
/// read into them.
///
/// Kernel: `IORING_OP_READV`, since 5.1.
///
/// # Cancellation
/// As for [`Read`](super::Read).
///
/// # Errors
/// Those of `preadv(2)`; `EINVAL` for more than 1024 buffers; `EBADF` if the [`Fd`] is closed. The
/// buffers come back in every case.
#[derive(Debug)]
#[doc(alias = "IORING_OP_READV")]
pub struct Readv<V: IoVectoredMut> {
    fd: Lease,
    bufs: LentVectored<V>,
    offset: u64,
}

impl<V: IoVectoredMut> Readv<V> {
    /// A read at `offset` bytes from the start, or at [`CURRENT`](crate::CURRENT).
    pub fn new(fd: &Fd, bufs: V, offset: u64) -> Self {
        Self { fd: fd.lease(), bufs: LentVectored::to_fill(bufs), offset }
    }
}

// SAFETY: names the buffers, their array and the descriptor, all owned, by way of `LentVectored`.
unsafe impl<V: IoVectoredMut> Op for Readv<V> {
    type Output = BufResult<usize, V>;
    const CODE: Opcode = Opcode::READV;

    fn check(&self) -> io::Result<()> {
        self.fd.check()?;
        check_vectored(self.bufs.count())
    }

    fn place(&self) -> Place {
        Place::transfer(&self.fd, self.bufs.len(), Direction::In)
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.fd.is_of(fd)
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
        // SAFETY: the kernel wrote as many bytes as it says, in the order of the array.
        unsafe { self.bufs.filled(result) }
    }
}

impl Ring {
    /// Queues a [`Readv`].
    ///
    /// ```
    /// use deferring::{Fd, Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let file = Fd::from(std::fs::File::open("Cargo.toml")?);
    /// let bufs = [vec![0; 4], Vec::with_capacity(64)];
    /// let (n, [head, tail]) = block_on(&ring, ring.readv(&file, bufs, 0)).into_inner()?;
    /// assert_eq!((n, &head[..], tail.len()), (68, &b"[pac"[..], 64));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "preadv")]
    pub fn readv<V: IoVectoredMut>(&self, fd: &Fd, bufs: V, offset: u64) -> Handle<Readv<V>> {
        self.queue(Readv::new(fd, bufs, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let fd = Fd::numbered_for_tests(3);
        check_encode(
            Readv::new(&fd, [vec![0; 8], vec![0; 9]], 7),
            "Readv fd=3 iovecs=ptr offset=7 count=2",
        );
    }

    #[test]
    fn c32_more_buffers_than_iov_max_are_an_argument_error() {
        let fd = Fd::numbered_for_tests(3);
        assert!(Readv::new(&fd, vec![vec![0u8]; 1024], 0).check().is_ok());
        let error = Readv::new(&fd, vec![vec![0u8]; 1025], 0).check().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
