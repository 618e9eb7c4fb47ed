//! A change of name.

use std::io;
use std::path::Path;

use rustix::fs::RenameFlags;

use super::{At, Op, Opcode, PathArg, Plain, Sqe, zero};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Gives a file another name in place of its own, and replaces what has that name.
///
/// Kernel: `IORING_OP_RENAMEAT`, since 5.11.
/// A plain call, where [`callers_may_block`](crate::Builder::callers_may_block) says so.
///
/// # Cancellation
/// It happened or not, as the result says; a dropped handle does not tell.
///
/// # Errors
/// Those of `renameat2(2)`; `ENOENT` for a path with a NUL.
#[derive(Debug)]
#[doc(alias = "IORING_OP_RENAMEAT")]
pub struct Renameat {
    from_dir: At,
    from: PathArg,
    to_dir: At,
    to: PathArg,
    flags: RenameFlags,
}

impl Renameat {
    /// The first path becomes the second.
    pub fn new(
        from_dir: impl Into<At>,
        from: impl AsRef<Path>,
        to_dir: impl Into<At>,
        to: impl AsRef<Path>,
    ) -> Self {
        Self {
            from_dir: from_dir.into(),
            from: PathArg::new(from),
            to_dir: to_dir.into(),
            to: PathArg::new(to),
            flags: RenameFlags::empty(),
        }
    }

    /// In place of none: `NOREPLACE` (fail if the name is taken), `EXCHANGE`, `WHITEOUT`.
    #[must_use]
    pub const fn flags(mut self, flags: RenameFlags) -> Self {
        self.flags = flags;
        self
    }
}

// SAFETY: names two paths, which are on the heap, and two directories, of which it owns leases.
unsafe impl Op for Renameat {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::RENAMEAT;

    fn check(&self) -> io::Result<()> {
        self.from_dir.check()?;
        self.from.check()?;
        self.to_dir.check()?;
        self.to.check()
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.from_dir.is_of(fd) || self.to_dir.is_of(fd)
    }

    fn plain(&self) -> Plain {
        let from = self.from_dir.is_local_with(&self.from);
        Plain::name_if(from && self.to_dir.is_local_with(&self.to))
    }

    fn call(&mut self) -> io::Result<u32> {
        let (from, to) = (self.from.as_c_str(), self.to.as_c_str());
        let (from_dir, to_dir, flags) = (&mut self.from_dir, &mut self.to_dir, self.flags);
        from_dir.call(|dir| to_dir.call(|to_dir| dir.renameat(from, to_dir, to, flags)))
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.from_dir.raw();
        sqe.addr = self.from.address();
        sqe.len = self.to_dir.sqe_len();
        sqe.off = self.to.address();
        sqe.op_flags = self.flags.bits();
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.from_dir.let_go(leases);
        self.to_dir.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        zero(result)
    }
}

impl Ring {
    /// Queues a [`Renameat`].
    #[doc(alias = "rename")]
    pub fn renameat2(
        &self,
        from_dir: impl Into<At>,
        from: impl AsRef<Path>,
        to_dir: impl Into<At>,
        to: impl AsRef<Path>,
        flags: RenameFlags,
    ) -> Handle<Renameat> {
        self.queue(Renameat::new(from_dir, from, to_dir, to).flags(flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fd;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let (from, to) = (Fd::numbered_for_tests(3), Fd::numbered_for_tests(4));
        let op = Renameat::new(&from, "a", &to, "b").flags(RenameFlags::NOREPLACE);
        check_encode(op, "Renameat from_dir=3 from=ptr to=ptr to_dir=4 flags=NOREPLACE");
    }
}
