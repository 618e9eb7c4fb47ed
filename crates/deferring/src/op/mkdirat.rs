//! A new directory.

use std::io;
use std::path::Path;

use rustix::fs::Mode;

use super::{At, Op, Opcode, PathArg, Plain, Sqe, zero};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Makes a directory.
///
/// Kernel: `IORING_OP_MKDIRAT`, since 5.15.
/// A plain call, where [`callers_may_block`](crate::Builder::callers_may_block) says so.
///
/// # Cancellation
/// It happened or not, as the result says; a dropped handle does not tell.
///
/// # Errors
/// Those of `mkdirat(2)`; `ENOENT` for a path with a NUL.
#[derive(Debug)]
#[doc(alias = "IORING_OP_MKDIRAT")]
pub struct Mkdirat {
    dir: At,
    path: PathArg,
    mode: Mode,
}

impl Mkdirat {
    /// A directory with these permissions, less the umask.
    pub fn new(dir: impl Into<At>, path: impl AsRef<Path>, mode: Mode) -> Self {
        Self { dir: dir.into(), path: PathArg::new(path), mode }
    }
}

// SAFETY: names a path, which is on the heap, and a directory, of which it owns a lease.
unsafe impl Op for Mkdirat {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::MKDIRAT;

    fn check(&self) -> io::Result<()> {
        self.dir.check()?;
        self.path.check()
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.dir.is_of(fd)
    }

    fn plain(&self) -> Plain {
        Plain::name_if(self.dir.is_local_with(&self.path))
    }

    fn call(&mut self) -> io::Result<u32> {
        self.dir.call(|dir| dir.mkdirat(self.path.as_c_str(), self.mode))
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.dir.raw();
        sqe.addr = self.path.address();
        sqe.len = self.mode.bits();
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.dir.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        zero(result)
    }
}

impl Ring {
    /// Queues a [`Mkdirat`].
    #[doc(alias = "mkdir")]
    pub fn mkdirat(
        &self,
        dir: impl Into<At>,
        path: impl AsRef<Path>,
        mode: Mode,
    ) -> Handle<Mkdirat> {
        self.queue(Mkdirat::new(dir, path, mode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fd;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let dir = Fd::numbered_for_tests(3);
        check_encode(Mkdirat::new(&dir, "a", Mode::RWXU), "Mkdirat dir=3 path=ptr mode=0o700");
    }
}
