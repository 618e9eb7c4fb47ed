//! The wait for a file to be on its disk.

use std::io;

use super::{Op, Opcode, Sqe, zero};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Waits until what was written to a file is on its disk, data and metadata, or data only.
///
/// It covers writes that had *ended* when it was submitted, not others that are queued.
///
/// Kernel: `IORING_OP_FSYNC`, since 5.1. Runs on a worker thread of the kernel's.
///
/// # Cancellation
/// One that runs goes on; the result of a cancelled one says nothing about the disk.
///
/// # Errors
/// Those of `fsync(2)`. An error is reported once: the data it is about may be lost, and a second
/// `fsync` that succeeds does not bring it back.
#[derive(Debug)]
#[doc(alias = "IORING_OP_FSYNC")]
#[doc(alias = "fdatasync")]
pub struct Fsync {
    fd: Lease,
    data_only: bool,
}

const DATASYNC: u32 = 1;

impl Fsync {
    /// Data and metadata.
    #[must_use]
    pub fn new(fd: &Fd) -> Self {
        Self { fd: fd.lease(), data_only: false }
    }

    /// Only the metadata that is needed to read the data again (`fdatasync`).
    #[must_use]
    #[doc(alias = "fdatasync")]
    pub const fn data_only(mut self) -> Self {
        self.data_only = true;
        self
    }
}

// SAFETY: names the descriptor, of which it owns a lease, and no memory.
unsafe impl Op for Fsync {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::FSYNC;

    fn check(&self) -> io::Result<()> {
        self.fd.check()
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.fd.is_of(fd)
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.fd.raw();
        sqe.op_flags = if self.data_only { DATASYNC } else { 0 };
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.fd.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        zero(result)
    }
}

impl Ring {
    /// Queues an [`Fsync`] of data and metadata.
    pub fn fsync(&self, fd: &Fd) -> Handle<Fsync> {
        self.queue(Fsync::new(fd))
    }

    /// Queues an [`Fsync`] of the data only.
    pub fn fdatasync(&self, fd: &Fd) -> Handle<Fsync> {
        self.queue(Fsync::new(fd).data_only())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let fd = Fd::numbered_for_tests(3);
        check_encode(Fsync::new(&fd), "Fsync fd=3");
        check_encode(Fsync::new(&fd).data_only(), "Fsync fd=3 flags=DATASYNC");
    }
}
