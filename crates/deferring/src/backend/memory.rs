//! A kernel in plain memory: the ring's two ends, overflow, waiting, and a descriptor that can be
//! watched. What becomes of an SQE is a [`Backend`]'s.
//!
//! Not: any op (`pool/`).

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::loopback::Loopback;
use super::uring::{Cq, Params, Sq};
use crate::inflight::{Token, Workers};
use crate::op::{Cqe, Sqe};
use crate::sync::plain::{AtomicBool, AtomicU32, AtomicU64, Mutex};
use crate::sync::{Arc, Ordering};

/// Who deals with SQEs. It gives each of them one CQE, at some time, by its [`Wire`], and touches
/// what the SQE names until then and no longer.
pub(crate) trait Backend: Send + Sync {
    /// An SQE is the backend's from now on.
    fn begin(&self, sqe: Sqe);

    /// How many threads may be blocked by ops.
    fn limit_workers(&self, most: u32);

    /// How many threads there are.
    fn workers(&self) -> Workers;
}

/// The ring's kernel side.
pub(crate) struct Kernel {
    wire: Arc<Wire>,
    backend: Box<dyn Backend>,
    params: Params,
    enters: AtomicU64,
    /// One thread at a time submits: a cancel finds what was taken before it.
    submits: Mutex<()>,
}

/// What whoever gives CQEs and whoever takes them share.
pub(crate) struct Wire {
    state: Mutex<State>,
    cq_head: Arc<AtomicU32>,
    cq_tail: Arc<AtomicU32>,
    overflowed: AtomicBool,
    /// Readable while there is something to reap.
    readable: OwnedFd,
}

struct State {
    memory: Loopback,
    /// CQEs that did not fit.
    backlog: VecDeque<Cqe>,
    /// The user's.
    eventfd: Option<OwnedFd>,
}

impl Wire {
    pub(super) fn give(&self, user_data: u64, result: i32) {
        let mut state = self.state.lock();
        let cqe = Cqe { user_data, result, flags: 0 };
        if !state.backlog.is_empty() || !state.memory.give(cqe) {
            state.backlog.push_back(cqe);
            self.overflowed.store(true, Ordering::Release);
        }
        if let Some(eventfd) = &state.eventfd {
            signal(eventfd);
        }
        // Under the lock: whoever silences it sees the CQE, or comes before both.
        signal(&self.readable);
    }

    /// The descriptor is readable no more, if there is nothing to reap.
    fn silence_if_empty(&self) {
        let state = self.state.lock();
        if !self.is_ready() && state.backlog.is_empty() {
            // It fails only when it is not readable.
            let _ = rustix::io::read(&self.readable, &mut [0u8; 8]);
        }
    }

    /// Calls whoever sleeps in the ring.
    pub(crate) fn send_message(&self, token: Token) {
        self.give(token.user_data(), 0);
    }

    fn is_ready(&self) -> bool {
        self.cq_tail.load(Ordering::Acquire) != self.cq_head.load(Ordering::Relaxed)
    }

    /// Hands over what did not fit before.
    fn hand_over(&self, state: &mut State) {
        while let Some(&cqe) = state.backlog.front() {
            if !state.memory.give(cqe) {
                break;
            }
            state.backlog.pop_front();
        }
        self.overflowed.store(!state.backlog.is_empty(), Ordering::Release);
    }
}

/// Waits until a descriptor is readable.
fn wait_readable(fd: &OwnedFd, time: Option<Duration>) -> Result<(), Errno> {
    let time = time.map(|time| Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    match rustix::event::poll(&mut [PollFd::new(fd, PollFlags::IN)], time.as_ref())? {
        0 => Err(Errno::TIME),
        _ => Ok(()),
    }
}

fn signal(eventfd: &OwnedFd) {
    // It fails only when the counter is full: then it is readable.
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}

impl Kernel {
    /// A ring of so many entries, and its two ends. `backend` is given the wire for its CQEs.
    pub(super) fn open(
        entries: u32,
        completions: u32,
        backend: impl FnOnce(&Arc<Wire>) -> Result<Box<dyn Backend>, Errno>,
    ) -> Result<(Self, Sq, Cq), Errno> {
        let (memory, sq, cq) = Loopback::with_sizes(entries, completions, 0);
        let [cq_head, cq_tail] = memory.cq_counters();
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wire = Arc::new(Wire {
            state: Mutex::new(State { memory, backlog: VecDeque::new(), eventfd: None }),
            cq_head,
            cq_tail,
            overflowed: AtomicBool::new(false),
            readable: rustix::event::eventfd(0, flags)?,
        });
        let params = Params {
            sq_entries: entries,
            cq_entries: completions,
            sqpoll: false,
            submit_all: true,
            coop_taskrun: false,
            single_issuer: false,
            defer_taskrun: false,
        };
        let backend = backend(&wire)?;
        let (enters, submits) = (AtomicU64::new(0), Mutex::new(()));
        Ok((Self { wire, backend, params, enters, submits }, sq, cq))
    }

    pub(crate) fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }

    pub(crate) const fn params(&self) -> &Params {
        &self.params
    }

    pub(crate) fn enters(&self) -> u64 {
        self.enters.load(Ordering::Relaxed)
    }

    pub(crate) fn cq_ready(&self) -> bool {
        self.wire.is_ready()
    }

    pub(crate) fn overflowed(&self) -> bool {
        self.wire.overflowed.load(Ordering::Acquire)
    }

    /// Takes up to `count` SQEs. Returns how many there were.
    pub(crate) fn submit(&self, count: u32) -> u32 {
        self.enters.fetch_add(1, Ordering::Relaxed);
        let _submits = self.submits.lock();
        let mut taken = 0;
        while taken < count {
            // The guard is gone before the backend answers.
            let sqe = self.wire.state.lock().memory.take();
            let Some(sqe) = sqe else { break };
            self.backend.begin(sqe);
            taken += 1;
        }
        taken
    }

    /// Submits, then waits until a CQE is there, or for the time. A signal ends the wait.
    pub(crate) fn submit_and_wait(&self, count: u32, time: Option<Duration>) -> Result<u32, Errno> {
        let taken = self.submit(count);
        let end = time.and_then(|time| Instant::now().checked_add(time));
        loop {
            self.wire.hand_over(&mut self.wire.state.lock());
            if self.wire.is_ready() {
                return Ok(taken);
            }
            self.wire.silence_if_empty();
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let waited = wait_readable(&self.wire.readable, left);
            match waited {
                Ok(()) => {}
                // What was taken is told, as Linux does.
                Err(Errno::TIME | Errno::INTR) if self.wire.is_ready() || taken > 0 => {
                    return Ok(taken);
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Hands over what did not fit before.
    pub(crate) fn flush(&self) {
        self.enters.fetch_add(1, Ordering::Relaxed);
        self.wire.hand_over(&mut self.wire.state.lock());
    }

    /// Somebody has reaped, and may have left some.
    pub(crate) fn end_reap(&self) {
        if !self.wire.is_ready() {
            self.wire.silence_if_empty();
        }
    }

    pub(crate) fn limit_workers(&self, most: u32) {
        self.backend.limit_workers(most);
    }

    pub(crate) fn workers(&self) -> Workers {
        self.backend.workers()
    }

    pub(crate) fn register_eventfd(&self, eventfd: BorrowedFd<'_>) -> Result<(), Errno> {
        let eventfd = rustix::io::fcntl_dupfd_cloexec(eventfd, 0)?;
        let mut state = self.wire.state.lock();
        if state.eventfd.is_some() {
            return Err(Errno::BUSY);
        }
        state.eventfd = Some(eventfd);
        Ok(())
    }

    pub(crate) fn unregister_eventfd(&self) -> Result<(), Errno> {
        let eventfd = self.wire.state.lock().eventfd.take();
        eventfd.map(drop).ok_or(Errno::NXIO)
    }
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.readable.as_fd()
    }
}
