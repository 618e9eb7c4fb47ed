//! A kernel in plain memory: the ring's two ends, overflow, waiting, and a descriptor that can be
//! watched. What becomes of an SQE is a [`Backend`]'s.
//!
//! Not: any op (`pool/`).

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::loopback::Loopback;
use super::uring::{Cq, Params, Sq};
use super::{Backend, Time};
use crate::error;
use crate::inflight::{Token, Workers};
use crate::op::{Cqe, Opcode, Sqe};
use crate::sync::plain::{AtomicBool, AtomicU32, AtomicU64, Mutex};
use crate::sync::{Arc, Ordering};

/// The ring's kernel side.
pub(crate) struct Kernel {
    wire: Wire,
    backend: Arc<dyn Backend>,
    params: Params,
    enters: AtomicU64,
    /// One thread at a time submits: a cancel finds what was taken before it.
    submits: Mutex<()>,
}

/// Where a [`Backend`] gives its CQEs. A clone is the same.
#[derive(Clone)]
pub struct Wire(Arc<Shared>);

/// What whoever gives CQEs and whoever takes them share.
struct Shared {
    state: Mutex<State>,
    cq_head: Arc<AtomicU32>,
    cq_tail: Arc<AtomicU32>,
    overflowed: AtomicBool,
    /// Readable while there is something to reap, once somebody looks at it.
    readable: OwnedFd,
    /// Somebody outside may look at it at any time.
    watched: AtomicBool,
}

struct State {
    memory: Loopback,
    /// CQEs that did not fit.
    backlog: VecDeque<Cqe>,
    /// The user's.
    eventfd: Option<OwnedFd>,
    /// How many threads sleep until `readable` is.
    sleepers: usize,
    /// It is.
    signalled: bool,
}

impl Wire {
    /// Answers an SQE. From any thread; it wakes whoever waits.
    pub fn give(&self, cqe: Cqe) {
        let mut state = self.0.state.lock();
        if !state.backlog.is_empty() || !state.memory.give(cqe) {
            state.backlog.push_back(cqe);
            self.0.overflowed.store(true, Ordering::Release);
        }
        if let Some(eventfd) = &state.eventfd {
            signal(eventfd);
        }
        self.0.call(&mut state);
    }

    /// Whether there is a CQE to be reaped. (One that did not fit into the queue is, when
    /// the ring asks for it.)
    pub fn is_ready(&self) -> bool {
        self.0.cq_tail.load(Ordering::Acquire) != self.0.cq_head.load(Ordering::Relaxed)
    }

    /// Puts this thread to sleep until a CQE is there, or for a time.
    ///
    /// # Errors
    /// `ETIME` when time is up, `EINTR` if a signal came before.
    pub fn wait(&self, time: Option<Duration>) -> io::Result<()> {
        let end = time.and_then(|time| Instant::now().checked_add(time));
        loop {
            let mut state = self.0.state.lock();
            // Nobody calls whoever sleeps for what waits for room that is there by now.
            self.0.hand_over(&mut state);
            if self.is_ready() {
                return Ok(());
            }
            self.0.silence_if_empty(&mut state);
            state.sleepers += 1;
            drop(state);
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let waited = wait_readable(&self.0.readable, left);
            self.0.state.lock().sleepers -= 1;
            if !self.is_ready() {
                waited?;
            }
        }
    }

    /// Calls whoever sleeps in the ring.
    pub(crate) fn send_message(&self, token: Token) {
        self.give(Cqe { user_data: token.user_data(), result: 0, flags: 0 });
    }

    /// Somebody has reaped. The descriptor is readable no more, if that was all. Of what is left it
    /// tells again: whoever looks at changes only may have looked before it came.
    fn end_reap(&self) {
        let mut state = self.0.state.lock();
        if self.is_ready() {
            state.signalled = false;
            self.0.make_readable(&mut state);
        } else {
            self.0.silence_if_empty(&mut state);
        }
    }

    /// Hands over what did not fit before.
    fn hand_over(&self) {
        if self.0.overflowed.load(Ordering::Acquire) {
            self.0.hand_over(&mut self.0.state.lock());
        }
    }

    /// From now on the descriptor is readable whenever there is something to reap.
    fn watch(&self) -> BorrowedFd<'_> {
        if !self.0.watched.swap(true, Ordering::Relaxed) {
            let mut state = self.0.state.lock();
            if self.is_ready() || !state.backlog.is_empty() {
                self.0.make_readable(&mut state);
            }
        }
        self.0.readable.as_fd()
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("is_ready", &self.is_ready()).finish_non_exhaustive()
    }
}

impl Shared {
    /// There is something to reap. Under the lock: whoever silences the descriptor sees it, or
    /// comes before both.
    fn call(&self, state: &mut State) {
        if state.sleepers > 0 || self.watched.load(Ordering::Relaxed) {
            self.make_readable(state);
        }
    }

    fn hand_over(&self, state: &mut State) {
        let waiting = state.backlog.len();
        while let Some(&cqe) = state.backlog.front() {
            if !state.memory.give(cqe) {
                break;
            }
            state.backlog.pop_front();
        }
        if state.backlog.len() < waiting {
            self.overflowed.store(!state.backlog.is_empty(), Ordering::Release);
            self.call(state);
        }
    }

    fn make_readable(&self, state: &mut State) {
        if !state.signalled {
            state.signalled = true;
            signal(&self.readable);
        }
    }

    fn silence_if_empty(&self, state: &mut State) {
        let ready = self.cq_tail.load(Ordering::Acquire) != self.cq_head.load(Ordering::Relaxed);
        if state.signalled && !ready && state.backlog.is_empty() {
            state.signalled = false;
            // It fails only when it is not readable.
            let _ = rustix::io::read(&self.readable, &mut [0u8; 8]);
        }
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
        backend: impl FnOnce(&Wire) -> io::Result<Arc<dyn Backend>>,
    ) -> io::Result<(Self, Sq, Cq)> {
        let (memory, sq, cq) = Loopback::with_sizes(entries, completions, 0);
        let [cq_head, cq_tail] = memory.cq_counters();
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let state = State {
            memory,
            backlog: VecDeque::new(),
            eventfd: None,
            sleepers: 0,
            signalled: false,
        };
        let wire = Wire(Arc::new(Shared {
            state: Mutex::new(state),
            cq_head,
            cq_tail,
            overflowed: AtomicBool::new(false),
            readable: rustix::event::eventfd(0, flags)
                .map_err(|errno| error::setup("eventfd", errno))?,
            watched: AtomicBool::new(false),
        }));
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

    pub(crate) const fn wire(&self) -> &Wire {
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
        self.wire.0.overflowed.load(Ordering::Acquire)
    }

    pub(crate) fn time(&self) -> Time {
        Time(Some(Arc::clone(&self.backend)))
    }

    /// Takes up to `count` SQEs. Returns how many there were.
    pub(crate) fn submit(&self, count: u32) -> Result<u32, Errno> {
        self.enters.fetch_add(1, Ordering::Relaxed);
        let _submits = self.submits.lock();
        let most = self.backend.enter(count).map_err(|error| errno(&error))?.min(count);
        let mut taken = 0;
        while taken < most {
            // The guard is gone before the backend answers.
            let sqe = self.wire.0.state.lock().memory.take();
            let Some(sqe) = sqe else { break };
            self.backend.begin(sqe);
            taken += 1;
        }
        Ok(taken)
    }

    /// Takes SQEs that come by no queue, in order. Returns how many there were.
    pub(crate) fn begin_all(&self, sqes: impl FnOnce() -> Vec<Sqe>) -> usize {
        let _submits = self.submits.lock();
        let sqes = sqes();
        let count = sqes.len();
        sqes.into_iter().for_each(|sqe| self.backend.begin(sqe));
        count
    }

    /// Submits, then waits until a CQE is there, or for the time. A signal ends the wait.
    pub(crate) fn submit_and_wait(&self, count: u32, time: Option<Duration>) -> Result<u32, Errno> {
        let taken = if count == 0 { 0 } else { self.submit(count)? };
        self.wire.hand_over();
        if self.wire.is_ready() || taken < count {
            return Ok(taken);
        }
        match self.backend.wait(&self.wire, time) {
            Ok(()) => Ok(taken),
            // What was taken is told, as Linux does.
            Err(_) if taken > 0 => Ok(taken),
            Err(error) => Err(errno(&error)),
        }
    }

    /// As [`Backend::pass`].
    pub(crate) fn pass(&self) {
        self.backend.pass();
    }

    /// Waits for a while, or less: by the backend's time, if it has one of its own.
    pub(crate) fn rest(&self, time: Duration) {
        // However that ends: whoever rests tries again.
        let _ = self.backend.wait(&self.wire, Some(time));
    }

    /// Hands over what did not fit before.
    pub(crate) fn flush(&self) {
        self.enters.fetch_add(1, Ordering::Relaxed);
        self.hand_over();
    }

    pub(super) fn hand_over(&self) {
        self.wire.hand_over();
    }

    /// Somebody has reaped, and may have left some.
    pub(crate) fn end_reap(&self) {
        if self.wire.0.watched.load(Ordering::Relaxed) {
            self.wire.end_reap();
        }
    }

    /// Its descriptor, of which nobody may look what it says. Takes no lock.
    pub(crate) fn unwatched(&self) -> BorrowedFd<'_> {
        self.wire.0.readable.as_fd()
    }

    pub(crate) fn supports(&self, opcode: Opcode) -> bool {
        self.backend.supports(opcode)
    }

    pub(crate) fn limit_workers(&self, most: u32) {
        self.backend.limit_workers(most);
    }

    pub(crate) fn workers(&self) -> Workers {
        self.backend.workers()
    }

    pub(crate) fn register_eventfd(&self, eventfd: BorrowedFd<'_>) -> Result<(), Errno> {
        let eventfd = rustix::io::fcntl_dupfd_cloexec(eventfd, 0)?;
        let mut state = self.wire.0.state.lock();
        if state.eventfd.is_some() {
            return Err(Errno::BUSY);
        }
        state.eventfd = Some(eventfd);
        Ok(())
    }

    pub(crate) fn unregister_eventfd(&self) -> Result<(), Errno> {
        let eventfd = self.wire.0.state.lock().eventfd.take();
        eventfd.map(drop).ok_or(Errno::NXIO)
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.watch()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[allow(unsafe_code)] // A kernel is a promise.
mod tests {
    use rustix::event::epoll;

    use super::*;

    /// Its CQEs are given by the test.
    struct Mute;

    // SAFETY: it touches nothing; the tests make no SQEs.
    unsafe impl Backend for Mute {
        fn supports(&self, _: Opcode) -> bool {
            false
        }

        fn begin(&self, _: Sqe) {}

        fn limit_workers(&self, _: u32) {}

        fn workers(&self) -> Workers {
            Workers::default()
        }
    }

    fn kernel() -> (Kernel, Cq) {
        let (kernel, _, cq) = Kernel::open(2, 2, |_| Ok(Arc::new(Mute))).unwrap();
        (kernel, cq)
    }

    fn give(kernel: &Kernel, count: u64) {
        let cqe = |user_data| Cqe { user_data, result: 0, flags: 0 };
        (0..count).for_each(|at| kernel.wire().give(cqe(at)));
    }

    fn reap(cq: &mut Cq, count: usize) {
        assert!((0..count).all(|_| cq.pop().is_some()));
        cq.give_back();
    }

    #[test]
    fn nobody_sleeps_on_what_did_not_fit() {
        let (kernel, mut cq) = kernel();
        give(&kernel, 5);
        reap(&mut cq, 2);
        assert!(!kernel.cq_ready() && kernel.overflowed());
        assert_eq!(kernel.wire().wait(Some(Duration::ZERO)).ok(), Some(()));
        reap(&mut cq, 2);
        // Somebody else has it handed over, while one sleeps.
        let wire = kernel.wire().clone();
        wire.0.state.lock().sleepers += 1;
        kernel.flush();
        assert_eq!(wait_readable(&wire.0.readable, Some(Duration::ZERO)), Ok(()));
    }

    #[test]
    fn whoever_looks_at_changes_only_is_told_of_what_a_reap_has_left() {
        let (kernel, mut cq) = kernel();
        let changes = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&changes, &kernel, epoll::EventData::new_u64(0), flags).unwrap();
        let is_told = || {
            let mut events = Vec::with_capacity(1);
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            let spare = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&changes, spare, Some(&now)).unwrap() == 1
        };
        give(&kernel, 1);
        assert!(is_told() && !is_told());
        // One comes after all were reaped, before the reap is over.
        reap(&mut cq, 1);
        give(&kernel, 1);
        kernel.end_reap();
        assert!(is_told() && !is_told());
        reap(&mut cq, 1);
        kernel.end_reap();
        assert!(!is_told());
        give(&kernel, 1);
        assert!(is_told());
    }
}
