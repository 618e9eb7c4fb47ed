//! Ops that io_uring does not have here, and the pool of threads does.
//!
//! They go to the pool in place of the kernel, and their CQEs come by a queue of its own. io_uring
//! watches the pool's descriptor meanwhile, so that whoever waits, waits in one place. Not: the
//! pool (`backend/pool/`), nor which ops those are (`backend/auto.rs`).

use std::collections::HashSet;
use std::os::fd::RawFd;

use rustix::event::PollFlags;

use super::{Core, Shared};
use crate::backend::Apart;
use crate::backend::uring::{Cq, Probe};
use crate::inflight::{Inflight, Own, Token};
use crate::op::{Cqe, Opcode, Sqe, poll32};

pub(super) struct Aside {
    cq: Cq,
    takes: Probe,
    /// Readable while there is something in `cq`.
    readable: RawFd,
    /// What is there, or on its way, by `user_data`.
    out: HashSet<u64>,
    /// What is on its way.
    sqes: Vec<Sqe>,
    /// The kernel watches `readable`.
    watched: bool,
}

impl Aside {
    pub(super) fn new(Apart { cq, takes, readable }: Apart) -> Self {
        Self { cq, takes, readable, out: HashSet::new(), sqes: Vec::new(), watched: false }
    }

    /// Whether it is the pool's to do: an op, or what ends one.
    fn takes(&self, sqe: &Sqe) -> bool {
        match sqe.opcode {
            Opcode::ASYNC_CANCEL => self.out.contains(&sqe.addr),
            opcode => self.takes.supports(opcode),
        }
    }

    fn add(&mut self, sqe: Sqe) {
        self.out.insert(sqe.user_data);
        self.sqes.push(sqe);
    }

    /// Whether there is a CQE of the pool's to be reaped.
    pub(super) fn is_ready(&self) -> bool {
        self.cq.has_next()
    }

    /// Whether the kernel is to watch the pool. Also while there is something to be reaped: it may
    /// have come after a reap, and a loop that does not wait in the ring hears of it by nothing else.
    pub(super) fn wants_watch(&self) -> bool {
        !self.watched && !self.out.is_empty()
    }

    /// Whether that op is there, or on its way.
    pub(super) fn has(&self, token: Token) -> bool {
        self.out.contains(&token.user_data())
    }

    pub(super) const fn watch_ended(&mut self) {
        self.watched = false;
    }
}

impl Core {
    /// Writes what `admit` has to say: to the kernel, if there is room, or for the pool. False if it
    /// has nothing to say.
    pub(super) fn push_next(
        &mut self,
        admit: impl FnOnce(&mut Inflight, &mut Sqe) -> bool,
    ) -> bool {
        let Self { sq, inflight, aside, .. } = self;
        let mut apart = false;
        let written = sq.push(|sqe| {
            let admitted = admit(inflight, sqe);
            if let (true, Some(aside)) = (admitted, aside) {
                apart = aside.takes(sqe);
                if apart {
                    aside.add(*sqe);
                }
            }
            admitted && !apart
        });
        written || apart
    }

    /// Has the kernel watch the pool, if it is to. True if an SQE says so.
    pub(super) fn watch_aside(&mut self) -> bool {
        let Some(aside) = self.aside.as_mut().filter(|aside| aside.wants_watch()) else {
            return false;
        };
        aside.watched = self.sq.push(|sqe| {
            *sqe = Sqe {
                opcode: Opcode::POLL_ADD,
                fd: aside.readable,
                op_flags: poll32(PollFlags::IN),
                user_data: Token::own(Own::Aside).user_data(),
                ..Sqe::EMPTY
            };
            true
        });
        aside.watched
    }

    /// The next CQE, the kernel's or the pool's.
    pub(super) fn pop_any(&mut self) -> Option<Cqe> {
        crate::sync::look();
        let Self { cq, aside, .. } = self;
        cq.pop().or_else(|| {
            let aside = aside.as_mut()?;
            let cqe = aside.cq.pop()?;
            aside.out.remove(&cqe.user_data);
            Some(cqe)
        })
    }

    /// Makes room for as many CQEs as were popped.
    pub(super) fn give_back(&mut self) {
        self.cq.give_back();
        if let Some(aside) = &mut self.aside {
            aside.cq.give_back();
        }
    }
}

impl Shared {
    /// Hands the pool what is for it. Returns how many ops and cancels that were.
    pub(super) fn send_aside(&self) -> usize {
        if !self.kernel.has_pool() {
            return 0;
        }
        self.kernel.begin_aside(|| {
            let aside = &mut self.lock().aside;
            aside.as_mut().map(|aside| std::mem::take(&mut aside.sqes)).unwrap_or_default()
        })
    }
}
