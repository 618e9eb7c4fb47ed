//! A new length for a file.

use std::io;

use super::{Op, Opcode, Sqe, zero};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Cuts a file to a length, or extends it with a hole.
///
/// Kernel: `IORING_OP_FTRUNCATE`, since 6.9; an older one answers `EINVAL`. See
/// [`Ring::supports`]; [`fs::File::set_len`](crate::fs::File::set_len) works on both.
///
/// # Cancellation
/// It happened or not, as the result says; a dropped handle does not tell.
///
/// # Errors
/// Those of `ftruncate(2)`.
#[derive(Debug)]
#[doc(alias = "IORING_OP_FTRUNCATE")]
pub struct Ftruncate {
    fd: Lease,
    len: u64,
}

impl Ftruncate {
    /// A file of `len` bytes.
    #[must_use]
    pub fn new(fd: &Fd, len: u64) -> Self {
        Self { fd: fd.lease(), len }
    }
}

// SAFETY: names the descriptor, of which it owns a lease, and no memory.
unsafe impl Op for Ftruncate {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::FTRUNCATE;

    fn check(&self) -> io::Result<()> {
        self.fd.check()
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.fd.is_of(fd)
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.fd.raw();
        sqe.off = self.len;
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.fd.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        zero(result)
    }
}

impl Ring {
    /// Queues an [`Ftruncate`].
    #[doc(alias = "set_len")]
    pub fn ftruncate(&self, fd: &Fd, len: u64) -> Handle<Ftruncate> {
        self.queue(Ftruncate::new(fd, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let fd = Fd::numbered_for_tests(3);
        check_encode(Ftruncate::new(&fd, 4096), "Ftruncate fd=3 length=4096");
    }
}
