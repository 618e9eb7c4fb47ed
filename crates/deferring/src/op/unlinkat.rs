//! The removal of a name.

use std::io;
use std::path::Path;

use rustix::fs::AtFlags;

use super::{At, Op, Opcode, PathArg, Plain, Sqe, zero};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Removes a name: of a file, or of an empty directory with [`dir`](Self::dir).
///
/// Kernel: `IORING_OP_UNLINKAT`, since 5.11.
/// A plain call, where [`callers_may_block`](crate::Builder::callers_may_block) says so.
///
/// # Cancellation
/// It happened or not, as the result says; a dropped handle does not tell.
///
/// # Errors
/// Those of `unlinkat(2)`; `ENOENT` for a path with a NUL.
#[derive(Debug)]
#[doc(alias = "IORING_OP_UNLINKAT")]
#[doc(alias = "rmdir")]
pub struct Unlinkat {
    dir: At,
    path: PathArg,
    flags: AtFlags,
}

impl Unlinkat {
    /// Removes the name of a file.
    pub fn new(dir: impl Into<At>, path: impl AsRef<Path>) -> Self {
        Self { dir: dir.into(), path: PathArg::new(path), flags: AtFlags::empty() }
    }

    /// Whether to remove an empty directory rather than a file.
    #[must_use]
    pub fn dir(mut self, dir: bool) -> Self {
        self.flags.set(AtFlags::REMOVEDIR, dir);
        self
    }

    /// In place of none: `REMOVEDIR`.
    #[must_use]
    pub const fn flags(mut self, flags: AtFlags) -> Self {
        self.flags = flags;
        self
    }
}

// SAFETY: names a path, which is on the heap, and a directory, of which it owns a lease.
unsafe impl Op for Unlinkat {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::UNLINKAT;

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
        self.dir.call(|dir| dir.unlinkat(self.path.as_c_str(), self.flags))
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.dir.raw();
        sqe.addr = self.path.address();
        sqe.op_flags = self.flags.bits();
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.dir.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        zero(result)
    }
}

impl Ring {
    /// Queues an [`Unlinkat`].
    #[doc(alias = "unlink")]
    #[doc(alias = "rmdir")]
    pub fn unlinkat(
        &self,
        dir: impl Into<At>,
        path: impl AsRef<Path>,
        flags: AtFlags,
    ) -> Handle<Unlinkat> {
        self.queue(Unlinkat::new(dir, path).flags(flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;
    use crate::{CWD, Fd};

    #[test]
    fn encodes() {
        check_encode(Unlinkat::new(CWD, "a"), "Unlinkat dir=CWD path=ptr");
        let dir = Fd::numbered_for_tests(3);
        check_encode(Unlinkat::new(&dir, "a").dir(true), "Unlinkat dir=3 path=ptr flags=EACCESS");
    }
}
