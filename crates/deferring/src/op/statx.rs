//! What a file system says of a file.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::path::Path;

use rustix::fs::{AtFlags, StatxFlags};

use super::{At, CWD, Op, Opcode, PathArg, Sqe, address};
use crate::fd::Lease;
use crate::stat::Stat;
use crate::{Fd, Handle, Ring};

/// Asks what a file system says of a file: by path, from a directory, or of an open descriptor.
///
/// Kernel: `IORING_OP_STATX`, since 5.6, which always runs on a worker thread of the kernel's. Of an
/// open file or directory on a local disk or in memory it is answered when it is queued, by a plain
/// call, which makes nobody wait and takes a seventh of the time: the handle is ready at once. To
/// [`Ring::wait`] and [`Ring::reap`] it is an op that has ended. [`in_worker`](Op::in_worker) has it go through the ring.
///
/// # Cancellation
/// Nothing is lost.
///
/// # Errors
/// Those of `statx(2)`; `ENOENT` for a path with a NUL.
#[derive(Debug)]
#[doc(alias = "IORING_OP_STATX")]
pub struct Statx {
    dir: At,
    path: PathArg,
    flags: AtFlags,
    mask: StatxFlags,
    answer: Answer,
}

/// What the kernel writes: on the heap, as it is four times as large as the rest. `None` only while
/// it is dropped.
#[derive(Debug)]
struct Answer(Option<Box<MaybeUninit<rustix::fs::Statx>>>);

thread_local! {
    /// A thread keeps the memory of one answer for its next question.
    static SPARE: Cell<Option<Box<MaybeUninit<rustix::fs::Statx>>>> = const { Cell::new(None) };
}

impl Answer {
    fn zeroed() -> Self {
        // A thread that ends has none any more.
        let mut answer = SPARE.try_with(Cell::take).ok().flatten();
        match &mut answer {
            Some(spare) => **spare = MaybeUninit::zeroed(),
            None => answer = Some(Box::new(MaybeUninit::zeroed())),
        }
        Self(answer)
    }

    fn place(&mut self) -> &mut MaybeUninit<rustix::fs::Statx> {
        self.0.as_mut().expect("it is not being dropped")
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let _ = SPARE.try_with(|spare| spare.set(self.0.take()));
    }
}

impl Statx {
    /// By a path, following symbolic links, asking for all fields that this crate knows.
    #[doc(alias = "stat")]
    pub fn new(dir: impl Into<At>, path: impl AsRef<Path>) -> Self {
        let (dir, path) = (dir.into(), PathArg::new(path));
        let answer = Answer::zeroed();
        Self { dir, path, flags: AtFlags::empty(), mask: Stat::EVERYTHING, answer }
    }

    /// Of an open descriptor.
    #[doc(alias = "fstat")]
    pub fn of(fd: &Fd) -> Self {
        Self::new(fd, "").flags(AtFlags::EMPTY_PATH)
    }

    /// In place of none: `EMPTY_PATH`, `NO_AUTOMOUNT`, `SYMLINK_NOFOLLOW` (`lstat`), and how fresh
    /// a remote file's answer must be: `STATX_SYNC_AS_STAT`, `STATX_FORCE_SYNC`,
    /// `STATX_DONT_SYNC`.
    #[must_use]
    #[doc(alias = "lstat")]
    pub const fn flags(mut self, flags: AtFlags) -> Self {
        self.flags = flags;
        self
    }

    /// In place of all: the fields to ask for. [`Stat::mask`] says which came.
    #[must_use]
    pub const fn mask(mut self, mask: StatxFlags) -> Self {
        self.mask = mask;
        self
    }
}

// SAFETY: names the path and the answer, which are on the heap and the op's own, and the directory,
// of which it owns a lease.
unsafe impl Op for Statx {
    type Output = io::Result<Stat>;
    const CODE: Opcode = Opcode::STATX;

    fn check(&self) -> io::Result<()> {
        self.dir.check()?;
        self.path.check()
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.dir.is_of(fd)
    }

    fn at_once(&mut self) -> Option<io::Result<u32>> {
        if !self.path.is_empty() || !self.flags.contains(AtFlags::EMPTY_PATH) {
            return None;
        }
        let told = self.dir.lease()?.stat_at_once(self.flags, self.mask, self.answer.place())?;
        self.dir = CWD; // It is not needed any more: a close need not wait for whoever takes this.
        Some(told.map(|()| 0))
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.dir.raw();
        sqe.addr = self.path.address();
        sqe.off = address(self.answer.place().as_mut_ptr());
        sqe.len = self.mask.bits();
        sqe.op_flags = self.flags.bits();
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.dir.let_go(leases);
    }

    fn decode(mut self, result: io::Result<u32>) -> io::Result<Stat> {
        // SAFETY: plain numbers, zeroed in `new`; what the kernel wrote since are numbers too.
        result.map(|_| Stat::new(*unsafe { self.answer.place().assume_init_ref() }))
    }
}

impl Ring {
    /// Queues a [`Statx`].
    ///
    /// ```
    /// use deferring::{AtFlags, CWD, Ring, StatxFlags, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let root = ring.statx(CWD, "/", AtFlags::empty(), StatxFlags::BASIC_STATS);
    /// assert!(block_on(&ring, root)?.file_type().unwrap().is_dir());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "stat")]
    pub fn statx(
        &self,
        dir: impl Into<At>,
        path: impl AsRef<Path>,
        flags: AtFlags,
        mask: StatxFlags,
    ) -> Handle<Statx> {
        self.queue(Statx::new(dir, path).flags(flags).mask(mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        let op = Statx::new(CWD, "a").mask(StatxFlags::SIZE).flags(AtFlags::SYMLINK_NOFOLLOW);
        check_encode(op, "Statx dir=CWD path=ptr answer=ptr mask=SIZE flags=SYMLINK_NOFOLLOW");
        let fd = Fd::numbered_for_tests(3);
        check_encode(
            Statx::of(&fd).mask(StatxFlags::SIZE),
            "Statx dir=3 path=ptr answer=ptr mask=SIZE flags=EMPTY_PATH",
        );
    }
    #[test]
    fn the_memory_of_an_answer_is_used_again_and_says_nothing_of_the_last() {
        let mut first = Answer::zeroed();
        let at = first.place().as_ptr();
        // SAFETY: plain numbers, zeroed.
        unsafe { first.place().assume_init_mut() }.stx_size = 7;
        drop(first);
        let [mut second, mut third] = [(); 2].map(|()| Answer::zeroed());
        assert_eq!(second.place().as_ptr(), at);
        assert_ne!(third.place().as_ptr(), at, "in use");
        for mut answer in [second, third] {
            // SAFETY: plain numbers, zeroed.
            assert_eq!(unsafe { answer.place().assume_init_ref() }.stx_size, 0);
        }
    }
}
