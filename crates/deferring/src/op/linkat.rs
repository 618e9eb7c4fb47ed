//! A new name for a file.

use std::io;
use std::path::Path;

use rustix::fs::AtFlags;

use super::{At, Op, Opcode, PathArg, Sqe, zero};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Gives a file another name (a hard link). A symbolic link is linked itself, unless
/// [`follow`](Self::follow).
///
/// Kernel: `IORING_OP_LINKAT`, since 5.15.
///
/// # Cancellation
/// It happened or not, as the result says; a dropped handle does not tell.
///
/// # Errors
/// Those of `linkat(2)`, such as `EEXIST`; `ENOENT` for a path with a NUL.
#[derive(Debug)]
#[doc(alias = "IORING_OP_LINKAT")]
pub struct Linkat {
    target_dir: At,
    target: PathArg,
    link_dir: At,
    link: PathArg,
    flags: AtFlags,
}

impl Linkat {
    /// A link to the first path, by the name of the second.
    pub fn new(
        target_dir: impl Into<At>,
        target: impl AsRef<Path>,
        link_dir: impl Into<At>,
        link: impl AsRef<Path>,
    ) -> Self {
        Self {
            target_dir: target_dir.into(),
            target: PathArg::new(target),
            link_dir: link_dir.into(),
            link: PathArg::new(link),
            flags: AtFlags::empty(),
        }
    }

    /// Whether a target that is a symbolic link is followed.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.flags.set(AtFlags::SYMLINK_FOLLOW, follow);
        self
    }

    /// In place of none: `SYMLINK_FOLLOW`, `EMPTY_PATH`.
    #[must_use]
    pub const fn flags(mut self, flags: AtFlags) -> Self {
        self.flags = flags;
        self
    }
}

// SAFETY: names two paths, which are on the heap, and two directories, of which it owns leases.
unsafe impl Op for Linkat {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::LINKAT;

    fn check(&self) -> io::Result<()> {
        self.target_dir.check()?;
        self.target.check()?;
        self.link_dir.check()?;
        self.link.check()
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.target_dir.is_of(fd) || self.link_dir.is_of(fd)
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.target_dir.raw();
        sqe.addr = self.target.address();
        sqe.len = self.link_dir.sqe_len();
        sqe.off = self.link.address();
        sqe.op_flags = self.flags.bits();
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.target_dir.let_go(leases);
        self.link_dir.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        zero(result)
    }
}

impl Ring {
    /// Queues a [`Linkat`].
    #[doc(alias = "link")]
    pub fn linkat(
        &self,
        target_dir: impl Into<At>,
        target: impl AsRef<Path>,
        link_dir: impl Into<At>,
        link: impl AsRef<Path>,
        flags: AtFlags,
    ) -> Handle<Linkat> {
        self.queue(Linkat::new(target_dir, target, link_dir, link).flags(flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;
    use crate::{CWD, Fd};

    #[test]
    fn encodes() {
        let (from, to) = (Fd::numbered_for_tests(3), Fd::numbered_for_tests(4));
        check_encode(
            Linkat::new(&from, "a", &to, "b"),
            "Linkat target_dir=3 target=ptr link=ptr link_dir=4",
        );
        check_encode(
            Linkat::new(CWD, "a", &to, "b").follow(true),
            "Linkat target_dir=CWD target=ptr link=ptr link_dir=4 flags=SYMLINK_FOLLOW",
        );
    }
}
