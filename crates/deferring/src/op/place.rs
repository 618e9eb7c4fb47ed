//! Where an op runs in the kernel, which decides how it is admitted.
//!
//! Not: the admission (`inflight/admission.rs`), nor what a descriptor is (`fd/nature.rs`).

use std::os::fd::RawFd;

use super::{Opcode, Sqe};
use crate::fd::{Lease, Nature};

/// What an op needs in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Nothing: it is done or noted when it is submitted (nop, timeout, poll, cancel).
    Control,
    /// Nothing but its descriptor's readiness, for which the kernel waits without a thread (pipes,
    /// sockets, terminals); or a disk's, likewise.
    Pollable,
    /// A worker thread of the kernel's, which it may block for as long as it takes.
    Worker(Kind),
}

impl Class {
    pub(crate) const COUNT: usize = 2 + Kind::COUNT;
    #[cfg(test)]
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Worker(Kind::Open),
        Self::Worker(Kind::Path),
        Self::Worker(Kind::Data),
        Self::Worker(Kind::Sync),
        Self::Control,
        Self::Pollable,
    ];

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Worker(kind) => kind as usize,
            Self::Control => Kind::COUNT,
            Self::Pollable => Kind::COUNT + 1,
        }
    }
}

/// Worker ops queue by kind, so that a crowd of one kind delays only itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Opens. One of a FIFO may wait for ever.
    Open,
    /// Whatever else walks paths: statx, link, unlink, rename, mkdir.
    Path,
    /// Contents of files.
    Data,
    /// Waits for a device or a server: fsync, close.
    Sync,
}

impl Kind {
    pub(crate) const COUNT: usize = 4;
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Open, Self::Path, Self::Data, Self::Sync];
}

/// How an op is to be run. See [`Op::place`](super::Op::place).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(crate) class: Class,
    /// The class, as a number.
    index: u8,
    /// Of what is named below.
    needs: u8,
    /// Which one, with [`TURNSTILE`](Self::TURNSTILE).
    turnstile: u32,
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
}

/// The longest transfer that is made while it is submitted. A longer one would keep the submitting
/// thread for more than some 100 us, and goes to a worker.
const INLINE_MAX: usize = 1 << 20;

impl Place {
    /// It goes to a worker at once (`IOSQE_ASYNC`), since its submission would block.
    pub(crate) const IN_WORKER: u8 = 1;
    /// It is known that it may block for ever, so that its worker is replaced at once.
    pub(crate) const MAY_BLOCK: u8 = 1 << 1;
    /// It is a transfer of a disk, which may need a worker now and then.
    pub(crate) const DISK: u8 = 1 << 2;
    /// One of the ops of one descriptor and direction, of which one at a time waits in the kernel.
    pub(crate) const TURNSTILE: u8 = 1 << 3;

    /// A plain op of a class.
    #[must_use]
    pub const fn of(class: Class) -> Self {
        #[allow(clippy::cast_possible_truncation)] // There are few.
        let index = class.index() as u8;
        Self { class, index, needs: 0, turnstile: 0 }
    }

    pub(crate) const fn with(mut self, need: u8) -> Self {
        self.needs |= need;
        self
    }

    const fn with_if(self, need: u8, needed: bool) -> Self {
        if needed { self.with(need) } else { self }
    }

    /// An op that waits for a descriptor, one at a time for each direction.
    pub(crate) fn through(fd: RawFd, direction: Direction) -> Self {
        // A lease that was refused has no number, and its op no place in the kernel.
        let turnstile = u32::try_from(fd).unwrap_or(0) << 1 | direction as u32;
        Self { turnstile, ..Self::of(Class::Pollable).with(Self::TURNSTILE) }
    }

    #[cfg(test)]
    pub(crate) const fn has(&self, need: u8) -> bool {
        self.needs & need != 0
    }

    pub(crate) const fn class_index(&self) -> u8 {
        self.index
    }

    /// All that it needs, and the number of its turnstile.
    pub(crate) const fn needs(&self) -> (u8, u32) {
        (self.needs, self.turnstile)
    }

    /// The worker op of a kind.
    #[must_use]
    pub const fn worker(kind: Kind) -> Self {
        Self::of(Class::Worker(kind))
    }

    /// To a worker at once (`IOSQE_ASYNC`).
    #[must_use]
    pub fn in_worker(mut self) -> Self {
        if !matches!(self.class, Class::Worker(_)) {
            let needs = self.needs & !(Self::TURNSTILE | Self::DISK);
            self = Self::worker(Kind::Data).with(needs);
        }
        self.with(Self::IN_WORKER)
    }

    /// Known to block, maybe for ever: it takes no credit, and a worker more is made possible. An
    /// open goes to the worker at once; see [`Op::may_block`](super::Op::may_block).
    #[must_use]
    pub fn may_block(self) -> Self {
        let open = self.class == Class::Worker(Kind::Open);
        self.with(Self::MAY_BLOCK).with_if(Self::IN_WORKER, open)
    }

    /// Where an operation that this crate knows by number only runs, as far as the number tells.
    #[must_use]
    pub const fn of_opcode(opcode: Opcode) -> Self {
        Self::of(match opcode.0 {
            // nop, poll, timeouts, cancel, files and buffers registered, messages to rings.
            0 | 6 | 7 | 11 | 12 | 14 | 15 | 20 | 31 | 32 | 40 | 54 => Class::Control,
            // sendmsg to connect; send, recv; epoll_ctl; socket, uring_cmd, zero-copy sends;
            // multishot read, waitid, futex; bind, listen, zero-copy receive, epoll_wait.
            9 | 10 | 13 | 16 | 26 | 27 | 29 | 45..=53 | 56..=59 => Class::Pollable,
            18 | 28 => Class::Worker(Kind::Open),
            // fsync, sync_file_range, close, shutdown.
            3 | 8 | 19 | 34 => Class::Worker(Kind::Sync),
            // reads and writes, fixed or not; fallocate, fadvise, madvise, splice, tee, ftruncate.
            1 | 2 | 4 | 5 | 17 | 22..=25 | 30 | 33 | 55 | 60 | 61 => Class::Worker(Kind::Data),
            _ => Class::Worker(Kind::Path),
        })
    }

    /// A read or write of so many bytes.
    #[inline]
    pub(crate) fn transfer(fd: &Lease, len: usize, direction: Direction) -> Self {
        let data = Self::worker(Kind::Data);
        match fd.nature() {
            Nature::Ready | Nature::Disk if len > INLINE_MAX => data.with(Self::IN_WORKER),
            Nature::Ready => Self::of(Class::Pollable),
            // A buffered write takes locks that no kernel can wait for without a thread.
            Nature::Disk if direction == Direction::Out && !fd.is_direct() => data,
            Nature::Disk => Self::of(Class::Pollable).with(Self::DISK),
            Nature::Memory | Nature::Local => data.with_if(Self::IN_WORKER, len > INLINE_MAX),
            Nature::Remote => data.with(Self::IN_WORKER),
            Nature::Stream => Self::through(fd.raw(), direction),
            // A write that finds little room blocks whoever makes it; and the kernel has other
            // workers, without a limit, for what is no file.
            Nature::Terminal => Self::through(fd.raw(), direction)
                .with_if(Self::IN_WORKER, direction == Direction::Out),
        }
    }

    /// A wait for readiness. A file server is asked for it while it is submitted.
    pub(crate) fn poll(fd: &Lease) -> Self {
        match fd.nature() {
            Nature::Remote => Self::worker(Kind::Data).with(Self::IN_WORKER),
            Nature::Stream
            | Nature::Terminal
            | Nature::Ready
            | Nature::Disk
            | Nature::Memory
            | Nature::Local => Self::of(Class::Control),
        }
    }

    /// What a batch is charged for an op: the bytes that are copied while it is submitted count.
    pub(crate) fn cost(sqe: &Sqe) -> i32 {
        const UNIT: u32 = 64 << 10;
        const COST_MAX: u32 = 64;
        let is_transfer =
            matches!(sqe.opcode, Opcode::READ | Opcode::WRITE | Opcode::SEND | Opcode::RECV);
        let units = if is_transfer { (sqe.len / UNIT).min(COST_MAX) } else { 0 };
        1 + i32::try_from(units).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_operation_is_taken_for_one_that_needs_a_worker() {
        assert_eq!(Place::of_opcode(Opcode(200)).class, Class::Worker(Kind::Path));
        assert_eq!(Place::of_opcode(Opcode::TIMEOUT).class, Class::Control);
        assert_eq!(Place::of_opcode(Opcode::OPENAT2).class, Class::Worker(Kind::Open));
        assert_eq!(Place::of_opcode(Opcode::FTRUNCATE).class, Class::Worker(Kind::Data));
    }

    #[test]
    fn long_transfers_cost_more_and_never_without_bound() {
        let read = |len| Sqe { opcode: Opcode::READ, len, ..Sqe::EMPTY };
        assert_eq!(Place::cost(&read(4096)), 1);
        assert_eq!(Place::cost(&read(1 << 20)), 17);
        assert_eq!(Place::cost(&read(u32::MAX)), 65);
        assert_eq!(Place::cost(&Sqe { len: 1 << 20, ..Sqe::EMPTY }), 1);
    }
}
