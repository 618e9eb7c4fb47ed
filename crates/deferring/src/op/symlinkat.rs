//! A new symbolic link.

use std::io;
use std::path::Path;

use super::{At, Op, Opcode, PathArg, Plain, Sqe, zero};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Makes a symbolic link.
///
/// Kernel: `IORING_OP_SYMLINKAT`, since 5.15.
/// A plain call, where [`callers_may_block`](crate::Builder::callers_may_block) says so.
///
/// # Cancellation
/// It happened or not, as the result says; a dropped handle does not tell.
///
/// # Errors
/// Those of `symlinkat(2)`; `ENOENT` for a path with a NUL, and for an empty target.
#[derive(Debug)]
#[doc(alias = "IORING_OP_SYMLINKAT")]
pub struct Symlinkat {
    target: PathArg,
    link_dir: At,
    link: PathArg,
}

impl Symlinkat {
    /// A link that says `target`, which need not exist.
    pub fn new(target: impl AsRef<Path>, link_dir: impl Into<At>, link: impl AsRef<Path>) -> Self {
        Self { target: PathArg::new(target), link_dir: link_dir.into(), link: PathArg::new(link) }
    }
}

// SAFETY: names two paths, which are on the heap, and a directory, of which it owns a lease.
unsafe impl Op for Symlinkat {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::SYMLINKAT;

    fn check(&self) -> io::Result<()> {
        self.target.check()?;
        self.link_dir.check()?;
        self.link.check()
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.link_dir.is_of(fd)
    }

    fn plain(&self) -> Plain {
        Plain::name_if(self.link_dir.is_local_with(&self.link))
    }

    fn call(&mut self) -> io::Result<u32> {
        let (target, link) = (self.target.as_c_str(), self.link.as_c_str());
        self.link_dir.call(|dir| dir.symlinkat(target, link))
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.link_dir.raw();
        sqe.addr = self.target.address();
        sqe.off = self.link.address();
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.link_dir.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        zero(result)
    }
}

impl Ring {
    /// Queues a [`Symlinkat`].
    #[doc(alias = "symlink")]
    pub fn symlinkat(
        &self,
        target: impl AsRef<Path>,
        link_dir: impl Into<At>,
        link: impl AsRef<Path>,
    ) -> Handle<Symlinkat> {
        self.queue(Symlinkat::new(target, link_dir, link))
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
        check_encode(Symlinkat::new("a", &dir, "b"), "Symlinkat link_dir=3 target=ptr link=ptr");
    }
}
