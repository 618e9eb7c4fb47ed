//! An old kernel made of threads, for machines whose own does not let us have io_uring.
//!
//! Each op is a blocking system call (`exec.rs`) on one of its threads (`workers.rs`), unless it
//! waits for a descriptor or for a time: those wait in one thread for all (`poller.rs`). A cancel
//! is answered as Linux answers it. What it does not know is `EINVAL`. Not: rings (`memory.rs`),
//! nor how many threads ops may block (`inflight/admission.rs`, by `limit_workers`).
#![allow(unsafe_code)] // `unsafe impl Backend`.

mod exec;
mod poller;
mod threads;
mod workers;

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Backend, Wire};
use crate::op::{Cqe, Opcode, Sqe};
use crate::sync::Arc;
use poller::Poller;
use threads::Threads;
use workers::{Cancelled, Workers};

/// What it can do.
const KNOWN: [Opcode; 6] = [
    Opcode::NOP,
    Opcode::POLL_ADD,
    Opcode::POLL_REMOVE,
    Opcode::TIMEOUT,
    Opcode::TIMEOUT_REMOVE,
    Opcode::ASYNC_CANCEL,
];

const IN_WORKER: u8 = 1 << 4;

/// The ops that it does by a call, and could do for another kernel.
pub(super) use exec::CALLS;

pub(super) fn supports(opcode: Opcode) -> bool {
    KNOWN.contains(&opcode) || CALLS.contains(&opcode)
}

pub(super) struct Pool {
    shared: Arc<Shared>,
    /// Whose threads they are: a child that was forked has none.
    process: u32,
}

/// What its threads share.
struct Shared {
    wire: Wire,
    workers: Workers,
    poller: Poller,
    threads: Arc<Threads>,
}

/// How long the end of a pool waits for threads that are about to end, at most.
const END_MAX: Duration = Duration::from_secs(1);

impl Pool {
    pub(super) fn new(wire: &Wire, most: u32) -> Result<Self, Errno> {
        let shared = Shared {
            wire: wire.clone(),
            workers: Workers::new(most),
            poller: Poller::new()?,
            threads: Arc::default(),
        };
        Ok(Self { shared: Arc::new(shared), process: std::process::id() })
    }

    /// Starts the thread that waits, which else comes with the first op that does.
    ///
    /// # Errors
    /// `EAGAIN` if the system gives none.
    pub(super) fn start(&self) -> Result<(), Errno> {
        Poller::start(&self.shared).map_err(|_| Errno::AGAIN)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            return; // Whoever held a lock may be gone.
        }
        self.shared.workers.end();
        self.shared.poller.end();
        // They keep descriptors open. One that is stuck in a call ends when it comes to it.
        self.shared.threads.wait(END_MAX, || self.shared.workers.busy());
    }
}

// SAFETY: each SQE's memory and descriptors are used by the one call that is made for it (`exec.rs`),
// before its answer; what it answers is what the kernel said to that call.
unsafe impl Backend for Pool {
    fn supports(&self, opcode: Opcode) -> bool {
        supports(opcode)
    }

    fn begin(&self, sqe: Sqe) {
        self.shared.begin(sqe);
    }

    fn limit_workers(&self, most: u32) {
        self.shared.workers.limit(most);
        Workers::serve(&self.shared);
    }

    fn workers(&self) -> crate::inflight::Workers {
        self.shared.workers.count()
    }
}

impl Shared {
    fn begin(self: &Arc<Self>, sqe: Sqe) {
        if sqe.flags & !IN_WORKER != 0 {
            // Links, drains, fixed files, provided buffers.
            return self.answer(&sqe, Err(Errno::INVAL));
        }
        match sqe.opcode {
            Opcode::NOP if sqe.flags == 0 => self.give(&sqe, nop(&sqe)),
            Opcode::TIMEOUT => match Poller::add_timeout(self, &sqe) {
                Ok(()) => {}
                Err(errno) => self.answer(&sqe, Err(errno)),
            },
            Opcode::POLL_ADD => self.poll_add(sqe),
            Opcode::TIMEOUT_REMOVE => self.change_timeout(&sqe),
            Opcode::POLL_REMOVE => self.change_poll(&sqe),
            Opcode::ASYNC_CANCEL => self.cancel(&sqe),
            Opcode::READ
            | Opcode::WRITE
            | Opcode::READV
            | Opcode::WRITEV
            | Opcode::SEND
            | Opcode::RECV
                if waits(sqe.fd) =>
            {
                self.transfer(sqe);
            }
            _ => Workers::add(self, sqe, false),
        }
    }

    fn answer(&self, sqe: &Sqe, result: Result<i32, Errno>) {
        self.give(sqe, result.unwrap_or_else(|errno| -errno.raw_os_error()));
    }

    fn give(&self, sqe: &Sqe, result: i32) {
        self.wire.give(Cqe { user_data: sqe.user_data, result, flags: 0 });
    }

    /// A worker does it.
    fn done_by_worker(self: &Arc<Self>, sqe: Sqe, waits: bool) {
        let result = if sqe.opcode == Opcode::NOP { nop(&sqe) } else { exec::exec(&sqe, waits) };
        if waits && result == -Errno::AGAIN.raw_os_error() {
            // Somebody else was quicker.
            return self.transfer_later(sqe);
        }
        self.workers.over(&sqe);
        self.give(&sqe, result);
    }

    /// Transfers that need not wait, and have no thread: the one that polls does them, where the file
    /// can tell. Calls that block must not keep them from ending.
    fn help(self: &Arc<Self>) {
        while let Some(sqe) = self.workers.next_without_thread() {
            match exec::at_once(&sqe) {
                None => self.workers.give_back(sqe),
                // Somebody else was quicker.
                Some(result) if result == -Errno::AGAIN.raw_os_error() => self.transfer_later(sqe),
                Some(result) => {
                    self.workers.over(&sqe);
                    self.give(&sqe, result);
                }
            }
        }
    }

    // Descriptors that have something to say when they like.

    fn transfer(self: &Arc<Self>, sqe: Sqe) {
        if exec::is_over_at_once(&sqe) {
            Workers::add(self, sqe, false);
        } else if ready(sqe.fd, interest(&sqe)).is_empty() && !exec::may_end_untold(&sqe) {
            self.transfer_later(sqe);
        } else {
            Workers::add(self, sqe, true);
            if self.workers.are_busy() {
                Poller::call(self);
            }
        }
    }

    fn transfer_later(self: &Arc<Self>, sqe: Sqe) {
        let events = interest(&sqe);
        match Poller::watch(self, sqe, events) {
            Ok(()) => {}
            // It cannot be watched: then it does not wait.
            Err(Errno::PERM) => Workers::add(self, sqe, false),
            Err(errno) => {
                self.workers.over(&sqe);
                self.answer(&sqe, Err(errno));
            }
        }
    }

    fn poll_add(self: &Arc<Self>, sqe: Sqe) {
        const MULTISHOT: u32 = 1;
        if sqe.len & MULTISHOT != 0 {
            return self.answer(&sqe, Err(Errno::INVAL));
        }
        let events = events(&sqe);
        let now = match poll_now(sqe.fd, events) {
            Ok(now) => now,
            Err(errno) => return self.answer(&sqe, Err(errno)),
        };
        if !now.is_empty() {
            return self.give(&sqe, i32::from(now.bits()));
        }
        match Poller::watch(self, sqe, events) {
            Ok(()) => {}
            // It has no other events.
            Err(Errno::PERM) => self.answer(&sqe, Err(Errno::INVAL)),
            Err(errno) => self.answer(&sqe, Err(errno)),
        }
    }

    /// A watched descriptor is ready for an op.
    fn is_ready(self: &Arc<Self>, sqe: Sqe, events: PollFlags) {
        if sqe.opcode == Opcode::POLL_ADD {
            self.give(&sqe, i32::from(events.bits()));
        } else {
            Workers::add(self, sqe, true);
            self.help();
        }
    }

    // Ops that end or change others.

    fn cancel(&self, cancel: &Sqe) {
        if cancel.op_flags != 0 {
            return self.answer(cancel, Err(Errno::INVAL));
        }
        let name = cancel.addr;
        let result = match self.poller.take_or(name, || self.workers.cancel(name)) {
            Cancelled::Taken(target) => {
                self.answer(&target, Err(Errno::CANCELED));
                Ok(0)
            }
            Cancelled::Runs => Err(Errno::ALREADY),
            Cancelled::Unknown => Err(Errno::NOENT),
        };
        self.answer(cancel, result);
    }

    fn change_timeout(&self, change: &Sqe) {
        const ABSOLUTE: u32 = 1;
        const UPDATE: u32 = 1 << 1;
        if ![0, UPDATE, UPDATE | ABSOLUTE].contains(&change.op_flags) {
            return self.answer(change, Err(Errno::INVAL));
        }
        let Some(target) = self.poller.take(Opcode::TIMEOUT, change.addr) else {
            return self.answer(change, Err(Errno::NOENT));
        };
        if change.op_flags & UPDATE == 0 {
            self.answer(&target, Err(Errno::CANCELED));
            return self.answer(change, Ok(0));
        }
        let result = self.poller.set_timeout(&target, change.off, change.op_flags & !UPDATE);
        if result.is_err() {
            self.answer(&target, Err(Errno::CANCELED));
        }
        self.answer(change, result.map(|()| 0));
    }

    fn change_poll(self: &Arc<Self>, change: &Sqe) {
        const UPDATE_EVENTS: u32 = 1 << 1;
        if change.len & !UPDATE_EVENTS != 0 {
            return self.answer(change, Err(Errno::INVAL));
        }
        let Some(mut target) = self.poller.take(Opcode::POLL_ADD, change.addr) else {
            return self.answer(change, Err(Errno::NOENT));
        };
        if change.len == 0 {
            self.answer(&target, Err(Errno::CANCELED));
        } else {
            target.op_flags = change.op_flags;
            self.poll_add(target);
        }
        self.answer(change, Ok(0));
    }
}

/// What the user has asked it to answer, or nothing.
fn nop(sqe: &Sqe) -> i32 {
    const INJECT_RESULT: u32 = 1;
    #[allow(clippy::cast_possible_wrap)] // The same 32 bits.
    let injected = sqe.len as i32;
    if sqe.op_flags & INJECT_RESULT != 0 { injected } else { 0 }
}

/// Whether transfers of this descriptor may wait for somebody else.
fn waits(raw: i32) -> bool {
    !matches!(
        exec::file_type(raw),
        Err(_) | Ok(FileType::RegularFile | FileType::Directory | FileType::BlockDevice)
    )
}

fn interest(sqe: &Sqe) -> PollFlags {
    match sqe.opcode {
        Opcode::READ | Opcode::READV | Opcode::RECV => PollFlags::IN,
        _ => PollFlags::OUT,
    }
}

fn events(sqe: &Sqe) -> PollFlags {
    let big = cfg!(target_endian = "big");
    // As `poll32` has put them.
    let bits = if big { sqe.op_flags.rotate_left(16) } else { sqe.op_flags };
    #[allow(clippy::cast_possible_truncation)] // The bits of poll(2).
    let asked = PollFlags::from_bits_retain(bits as u16);
    // As io_uring tells it unasked.
    asked | PollFlags::RDHUP
}

/// What a descriptor is ready for now, or an error of `poll(2)` as readiness.
fn ready(raw: i32, events: PollFlags) -> PollFlags {
    poll_now(raw, events).unwrap_or(PollFlags::ERR)
}

fn poll_now(raw: i32, events: PollFlags) -> Result<PollFlags, Errno> {
    let fd = exec::fd(raw)?;
    let mut fds = [PollFd::new(&fd, events)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now))?;
    let found = fds[0].revents();
    if found.contains(PollFlags::NVAL) { Err(Errno::BADF) } else { Ok(found) }
}
