//! Room for a file, ahead of time.

use std::io;

use rustix::fs::FallocateFlags;

use super::{Op, Opcode, Sqe, zero};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Allocates, or gives up, the disk space of a part of a file.
///
/// Kernel: `IORING_OP_FALLOCATE`, since 5.6.
///
/// # Cancellation
/// It happened or not, as the result says; a dropped handle does not tell.
///
/// # Errors
/// Those of `fallocate(2)`; `EOPNOTSUPP` from file systems that cannot.
#[derive(Debug)]
#[doc(alias = "IORING_OP_FALLOCATE")]
pub struct Fallocate {
    fd: Lease,
    flags: FallocateFlags,
    offset: u64,
    len: u64,
}

impl Fallocate {
    /// Room for `len` bytes from `offset`; the file is extended to there.
    #[must_use]
    pub fn new(fd: &Fd, offset: u64, len: u64) -> Self {
        Self { fd: fd.lease(), flags: FallocateFlags::empty(), offset, len }
    }

    /// In place of none: `KEEP_SIZE`, `PUNCH_HOLE` and others.
    #[must_use]
    pub const fn flags(mut self, flags: FallocateFlags) -> Self {
        self.flags = flags;
        self
    }
}

// SAFETY: names the descriptor, of which it owns a lease, and no memory.
unsafe impl Op for Fallocate {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::FALLOCATE;

    fn check(&self) -> io::Result<()> {
        self.fd.check()
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.fd.is_of(fd)
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.fd.raw();
        sqe.off = self.offset;
        sqe.addr = self.len;
        sqe.len = self.flags.bits();
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.fd.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        zero(result)
    }
}

impl Ring {
    /// Queues a [`Fallocate`].
    pub fn fallocate(
        &self,
        fd: &Fd,
        flags: FallocateFlags,
        offset: u64,
        len: u64,
    ) -> Handle<Fallocate> {
        self.queue(Fallocate::new(fd, offset, len).flags(flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let fd = Fd::numbered_for_tests(3);
        let op = Fallocate::new(&fd, 4096, 512).flags(FallocateFlags::KEEP_SIZE);
        check_encode(op, "Fallocate fd=3 length=512 offset=4096 mode=KEEP_SIZE");
    }
}
