//! The open of a file.

use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{At, Op, Opcode, PathArg, Sqe, address};
use crate::fd::{Fd, Lease};
use crate::{Handle, Ring};

/// Opens a file by its path, from a directory.
///
/// The descriptor is closed on `exec` in every case: `CLOEXEC` is added to the flags.
///
/// The open of a FIFO is certain to wait for its peer only if it says so:
/// [`may_block`](Op::may_block).
///
/// Kernel: `IORING_OP_OPENAT2`, since 5.6; [`ResolveFlags::CACHED`] since 5.12.
///
/// # Cancellation
/// A descriptor that comes all the same, for a handle that was dropped or detached, is closed.
///
/// # Errors
/// Those of `openat2(2)`. Among them: `EINVAL` for a mode without `CREATE` or `TMPFILE`, and for
/// unknown flags; `ENOENT` for a path with a NUL.
#[derive(Debug)]
#[doc(alias = "IORING_OP_OPENAT2")]
#[doc(alias = "open")]
pub struct Openat2 {
    dir: At,
    path: PathArg,
    how: How,
}

/// `struct open_how`.
#[repr(C)]
#[derive(Debug)]
struct How {
    flags: u64,
    mode: u64,
    resolve: u64,
}

const HOW_LEN: u32 = 24;
const _: () = assert!(size_of::<How>() == HOW_LEN as usize);

impl Openat2 {
    /// An open for reading; see [`flags`](Self::flags).
    pub fn new(dir: impl Into<At>, path: impl AsRef<Path>) -> Self {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let how = How { flags: flags.bits().into(), mode: 0, resolve: 0 };
        Self { dir: dir.into(), path: PathArg::new(path), how }
    }

    /// The access and the flags, in place of "for reading".
    #[must_use]
    pub fn flags(mut self, flags: OFlags) -> Self {
        self.how.flags = (flags | OFlags::CLOEXEC).bits().into();
        self
    }

    /// The permissions of a file that this creates, less the umask.
    #[must_use]
    #[doc(alias = "perm")]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.how.mode = mode.bits().into();
        self
    }

    /// How the path may be walked.
    #[must_use]
    pub const fn resolve(mut self, resolve: ResolveFlags) -> Self {
        self.how.resolve = resolve.bits();
        self
    }
}

// SAFETY: names the path, which is on the heap, `how`, which is part of the op, and the directory,
// of which it owns a lease.
unsafe impl Op for Openat2 {
    type Output = io::Result<Fd>;
    const CODE: Opcode = Opcode::OPENAT2;

    fn check(&self) -> io::Result<()> {
        self.dir.check()?;
        self.path.check()
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.dir.is_of(fd)
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.dir.raw();
        sqe.addr = self.path.address();
        sqe.off = address(&raw const self.how);
        sqe.len = HOW_LEN;
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.dir.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<Fd> {
        let raw = i32::try_from(result?).expect("a descriptor is an int");
        // SAFETY: the kernel has just made it, for us.
        Ok(unsafe { Fd::from_raw(raw) })
    }
}

impl Ring {
    /// Queues an [`Openat2`].
    ///
    /// ```
    /// use deferring::{CWD, Mode, OFlags, ResolveFlags, Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let dir = tempfile::tempdir()?;
    /// block_on(&ring, async {
    ///     let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    ///     let dir = ring.openat2(CWD, dir.path(), flags, Mode::empty(), ResolveFlags::empty()).await?;
    ///     let flags = OFlags::WRONLY | OFlags::CREATE;
    ///     let file = ring.openat2(&dir, "new", flags, Mode::RUSR, ResolveFlags::BENEATH).await?;
    ///     ring.write(&file, "hello", 0).await.into_inner()?;
    ///     Ok::<_, std::io::Error>(())
    /// })?;
    /// assert_eq!(std::fs::read(dir.path().join("new"))?, b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "open")]
    pub fn openat2(
        &self,
        dir: impl Into<At>,
        path: impl AsRef<Path>,
        flags: OFlags,
        mode: Mode,
        resolve: ResolveFlags,
    ) -> Handle<Openat2> {
        self.queue(Openat2::new(dir, path).flags(flags).mode(mode).resolve(resolve))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CWD;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        check_encode(Openat2::new(CWD, "a"), "Openat2 dir=CWD path=ptr how=ptr how_len=24");
        let dir = Fd::numbered_for_tests(3);
        let op = Openat2::new(&dir, "a").flags(OFlags::WRONLY | OFlags::CREATE).mode(Mode::RUSR);
        assert_eq!((op.how.flags, op.how.mode, op.how.resolve), (0o2_000_101, 0o400, 0));
        check_encode(op, "Openat2 dir=3 path=ptr how=ptr how_len=24");
    }
}
