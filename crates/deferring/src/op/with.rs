//! An op, and how it is to be run: in a worker, with a deadline, with a warning.
//!
//! Not: what follows from it (`inflight/`).

use std::io;
use std::time::{Duration, Instant};

use super::{Op, Opcode, Place, Sqe};
use crate::Fd;
use crate::fd::Lease;

/// An op with wishes. Made by [`Op::in_worker`], [`Op::may_block`], [`Op::timeout`] and
/// [`Op::deadline`]; its output is the op's.
#[derive(Debug)]
pub struct With<T> {
    op: T,
    in_worker: bool,
    may_block: bool,
    until: Option<Until>,
}

/// When an op is to be given up.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub enum Until {
    /// A while after it was queued.
    After(Duration),
    At(Instant),
}

impl<T: Op> With<T> {
    pub(super) const fn new(op: T) -> Self {
        Self { op, in_worker: false, may_block: false, until: None }
    }

    /// As [`Op::in_worker`].
    #[must_use]
    pub const fn in_worker(mut self) -> Self {
        self.in_worker = true;
        self
    }

    /// As [`Op::may_block`].
    #[must_use]
    pub const fn may_block(mut self) -> Self {
        self.may_block = true;
        self
    }

    /// As [`Op::timeout`].
    #[must_use]
    pub const fn timeout(mut self, time: Duration) -> Self {
        self.until = Some(Until::After(time));
        self
    }

    /// As [`Op::deadline`].
    #[must_use]
    pub const fn deadline(mut self, at: Instant) -> Self {
        self.until = Some(Until::At(at));
        self
    }
}

// SAFETY: the op inside keeps the promise.
unsafe impl<T: Op> Op for With<T> {
    type Output = T::Output;
    const CODE: Opcode = T::CODE;
    const AGAIN: bool = T::AGAIN;

    fn check(&self) -> io::Result<()> {
        self.op.check()
    }

    fn place(&self) -> Place {
        let place = self.op.place();
        let place = if self.in_worker { place.in_worker() } else { place };
        if self.may_block { place.may_block() } else { place }
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.op.uses(fd)
    }

    fn until(&self) -> Option<Until> {
        self.until.or_else(|| self.op.until())
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        self.op.encode(sqe);
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.op.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> T::Output {
        self.op.decode(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CWD;
    use crate::op::{Class, Kind, Nop, Openat2, check_encode};

    #[test]
    fn encodes_as_the_op_inside() {
        check_encode(Nop::new().in_worker(), "Nop");
        check_encode(
            Openat2::new(CWD, "a").may_block(),
            "Openat2 dir=CWD path=ptr how=ptr how_len=24",
        );
    }

    #[test]
    fn wishes_change_where_an_op_runs() {
        let place = Nop::new().in_worker().place();
        assert_eq!((place.class, place.in_worker), (Class::Worker(Kind::Data), true));
        let place = Openat2::new(CWD, "a").may_block().place();
        assert_eq!((place.class, place.may_block), (Class::Worker(Kind::Open), true));
        assert!(Nop::new().timeout(Duration::from_secs(1)).until().is_some());
    }
}
