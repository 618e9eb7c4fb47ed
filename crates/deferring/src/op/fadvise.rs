//! A hint about how a file will be read.

use std::io;

use rustix::fs::Advice;

use super::{Op, Opcode, Sqe, zero};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Tells the kernel how a part of a file will be used.
///
/// Kernel: `IORING_OP_FADVISE`, since 5.6; lengths of 4 GiB and more since 6.10.
///
/// # Cancellation
/// Nothing is lost.
///
/// # Errors
/// Those of `posix_fadvise(2)`; `EINVAL` for a length of 4 GiB or more from an older kernel.
#[derive(Debug)]
#[doc(alias = "IORING_OP_FADVISE")]
#[doc(alias = "posix_fadvise")]
pub struct Fadvise {
    fd: Lease,
    advice: Advice,
    offset: u64,
    len: u64,
}

impl Fadvise {
    /// Advice about `len` bytes from `offset`; a `len` of 0 is to the end.
    #[must_use]
    pub fn new(fd: &Fd, offset: u64, len: u64, advice: Advice) -> Self {
        Self { fd: fd.lease(), advice, offset, len }
    }
}

// SAFETY: names the descriptor, of which it owns a lease, and no memory.
unsafe impl Op for Fadvise {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::FADVISE;

    fn check(&self) -> io::Result<()> {
        self.fd.check()
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.fd.is_of(fd)
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.fd.raw();
        sqe.off = self.offset;
        match u32::try_from(self.len) {
            Ok(len) => sqe.len = len,
            Err(_) => sqe.addr = self.len,
        }
        sqe.op_flags = self.advice as u32;
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.fd.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        zero(result)
    }
}

impl Ring {
    /// Queues a [`Fadvise`].
    #[doc(alias = "posix_fadvise")]
    pub fn fadvise(&self, fd: &Fd, offset: u64, len: u64, advice: Advice) -> Handle<Fadvise> {
        self.queue(Fadvise::new(fd, offset, len, advice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let fd = Fd::numbered_for_tests(3);
        let op = Fadvise::new(&fd, 512, 4096, Advice::WillNeed);
        check_encode(op, "Fadvise fd=3 offset=512 len=4096 advice=3");
        let op = Fadvise::new(&fd, 0, 1 << 33, Advice::Sequential);
        check_encode(op, "Fadvise fd=3 addr=ptr advice=2");
    }
}
