//! An op, and how it is to be run: in a worker, with a deadline, with a warning.
//!
//! Not: what follows from it (`inflight/`).

use std::io;
use std::time::{Duration, Instant};

use super::{Op, Opcode, Place, Plain, Sqe};
use crate::Fd;
use crate::fd::Lease;

/// An op with wishes. Made by [`Op::in_worker`], [`Op::may_block`], [`Op::timeout`] and
/// [`Op::deadline`]; its output is the op's.
#[derive(Debug)]
pub struct With<T> {
    op: T,
    in_worker: bool,
    may_block: bool,
    until: Until,
}

/// When an op is to be given up, if ever: whichever comes first.
#[derive(Clone, Copy, Debug, Default)]
#[doc(hidden)]
pub struct Until {
    /// A while after it was queued.
    pub(crate) after: Option<Duration>,
    pub(crate) at: Option<Instant>,
}

impl Until {
    /// Never, as far as this op is concerned.
    pub const NEVER: Self = Self { after: None, at: None };

    fn and(self, other: Self) -> Self {
        Self { after: first(self.after, other.after), at: first(self.at, other.at) }
    }
}

fn first<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

impl<T: Op> With<T> {
    pub(super) const fn new(op: T) -> Self {
        Self { op, in_worker: false, may_block: false, until: Until::NEVER }
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
    pub fn timeout(mut self, time: Duration) -> Self {
        self.until = self.until.and(Until { after: Some(time), at: None });
        self
    }

    /// As [`Op::deadline`].
    #[must_use]
    pub fn deadline(mut self, at: Instant) -> Self {
        self.until = self.until.and(Until { after: None, at: Some(at) });
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

    fn until(&self) -> Until {
        self.until.and(self.op.until())
    }

    fn sleeps(&self) -> Option<Duration> {
        self.op.sleeps()
    }

    fn at_once(&mut self) -> Option<io::Result<u32>> {
        if self.in_worker || self.may_block { None } else { self.op.at_once() }
    }

    fn plain(&self) -> Plain {
        // Who has a wish has it of the ring.
        let Until { after, at } = self.until;
        let wishes = self.in_worker || self.may_block || after.is_some() || at.is_some();
        if wishes { Plain::Never } else { self.op.plain() }
    }

    fn call(&mut self) -> io::Result<u32> {
        self.op.call()
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
        assert_eq!((place.class, place.has(Place::IN_WORKER)), (Class::Worker(Kind::Data), true));
        let place = Openat2::new(CWD, "a").may_block().place();
        assert_eq!((place.class, place.has(Place::MAY_BLOCK)), (Class::Worker(Kind::Open), true));
        let twice = Nop::new().timeout(Duration::from_secs(1)).timeout(Duration::from_secs(2));
        assert_eq!(twice.until().after, Some(Duration::from_secs(1)), "the earliest counts");
    }
}
