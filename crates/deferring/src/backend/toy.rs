//! A kernel for model checkers: it plays io_uring under the whole library.
//!
//! It goes on only in threads that enter it, or sleep in it, so that a checker sees all that
//! happens. What is not certain (which op ends next, and how) it leaves to [`choose`]. Time is a
//! number that moves on when nothing else can. Descriptors are numbers, and closing one twice, or
//! under an op, is a panic. Not: what is asked of it (`models/`).
#![allow(unsafe_code)] // Reads times by their address, as a kernel does.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;

use super::kernel::Apart;
use super::loopback::Loopback;
use super::uring::{Cq, Params, Probe, Sq};
use super::{BackendInfo, Time};
use crate::config::Builder;
use crate::inflight::{Own, Token};
use crate::op::{Cqe, Opcode, Sqe};
use crate::sync::plain::{self, AtomicBool, AtomicU64};
use crate::sync::{Arc, AtomicU32, Condvar, Mutex, MutexGuard, Ordering, thread};

// What an op wants of the toy, in `Sqe::len`.

/// To be answered while it is submitted.
pub(crate) const NOW: u32 = 0;
/// To be answered at some time, with what it may be.
pub(crate) const LATER: u32 = 1;
/// Not to be answered, unless it is cancelled.
pub(crate) const NEVER: u32 = 2;
/// To be answered when there was a [`RELEASE`] of the same `Sqe::off`.
pub(crate) const BLOCKED: u32 = 3;
pub(crate) const RELEASE: u32 = 4;

/// How many results that nobody asked for, and refusals, one ring gives at most.
const TROUBLES: u32 = 6;

/// What is later than this does not come: it stands for "never, if all goes well".
const PATIENCE: Duration = Duration::from_secs(3600);

thread_local! {
    // A checker's threads are all of one thread of the system's.
    static TIME: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static NEWEST: RefCell<Option<Arc<Wire>>> = const { RefCell::new(None) };
    static NUMBERS: RefCell<HashMap<RawFd, bool>> = RefCell::new(HashMap::new());
    static HELD: RefCell<HashSet<u64>> = RefCell::new(HashSet::new());
}

/// `CLOCK_MONOTONIC`.
pub(crate) fn now() -> Duration {
    TIME.get()
}

/// One of `0..n`, as the checker wishes.
fn choose(n: usize) -> usize {
    #[cfg(shuttle)]
    return shuttle::rand::Rng::gen_range(&mut shuttle::rand::thread_rng(), 0..n);
    #[cfg(loom)]
    {
        let _ = n;
        0 // Orders are enough to go through.
    }
}

/// A new descriptor.
pub(crate) fn new_number() -> RawFd {
    NUMBERS.with_borrow_mut(|numbers| {
        let raw = 1000 + RawFd::try_from(numbers.len()).unwrap();
        numbers.insert(raw, true);
        raw
    })
}

pub(crate) fn close(raw: RawFd) {
    let was_open = NUMBERS.with_borrow_mut(|numbers| numbers.insert(raw, false));
    assert_eq!(was_open, Some(true), "{raw} is closed once");
}

pub(crate) fn is_open(raw: RawFd) -> bool {
    NUMBERS.with_borrow(|numbers| numbers[&raw])
}

/// Whether the kernel holds the op of this name (`Sqe::addr`).
pub(crate) fn holds(name: u64) -> bool {
    HELD.with_borrow(|held| held.contains(&name))
}

/// Forgets what an earlier run has left.
pub(crate) fn reset() {
    TIME.set(Duration::from_secs(1));
    NEWEST.set(None);
    NUMBERS.with_borrow_mut(HashMap::clear);
    HELD.with_borrow_mut(HashSet::clear);
}

/// A new ring, in the parts that its owners will hold.
pub(crate) struct Parts {
    pub(crate) sq: Sq,
    pub(crate) cq: Cq,
    pub(crate) kernel: Kernel,
    pub(crate) probe: Probe,
    /// The toy has everything, and nothing beside it.
    pub(crate) apart: Option<Apart>,
}

#[allow(clippy::unnecessary_wraps)] // As Linux.
pub(crate) fn open(config: &Builder) -> io::Result<(Parts, BackendInfo)> {
    let entries = config.queue_depth.next_power_of_two();
    let (memory, sq, cq) = Loopback::new(entries, 0);
    let head = memory.cq_counters()[0].clone();
    let state = State {
        memory,
        owes: Vec::new(),
        backlog: VecDeque::new(),
        released: HashSet::new(),
        ringing: false,
        watching: None,
        alarm: None,
        troubles: TROUBLES,
    };
    let wire = Arc::new(Wire {
        state: Mutex::new(state),
        came: Condvar::new(),
        tail: AtomicU32::new(0),
        overflowed: AtomicBool::new(false),
    });
    NEWEST.set(Some(Arc::clone(&wire)));
    let params = Params {
        sq_entries: entries,
        cq_entries: entries,
        sqpoll: false,
        submit_all: true,
        coop_taskrun: false,
        single_issuer: false,
        defer_taskrun: false,
    };
    let kernel = Kernel { wire, head, params, enters: AtomicU64::new(0) };
    let parts = Parts { sq, cq, kernel, probe: Probe::everything(), apart: None };
    Ok((parts, BackendInfo::of_io_uring()))
}

/// What a ring, its bell and its kernel share.
struct Wire {
    state: Mutex<State>,
    came: Condvar,
    /// The tail of the CQ, for the checker to see who looks at it.
    tail: AtomicU32,
    overflowed: AtomicBool,
}

struct State {
    memory: Loopback,
    /// SQEs that have no CQE yet.
    owes: Vec<Sqe>,
    /// CQEs that did not fit.
    backlog: VecDeque<Cqe>,
    released: HashSet<u64>,
    ringing: bool,
    /// Who is to be told when the bell rings.
    watching: Option<u64>,
    alarm: Option<Duration>,
    troubles: u32,
}

impl Wire {
    fn give(&self, state: &State, cqe: Cqe) -> bool {
        let has_room = state.memory.give(cqe);
        if has_room {
            self.tail.fetch_add(1, Ordering::Release);
        }
        has_room
    }
}

/// The ring's kernel side.
pub(crate) struct Kernel {
    wire: Arc<Wire>,
    /// Where the CQ is read up to.
    head: Arc<plain::AtomicU32>,
    params: Params,
    enters: AtomicU64,
}

impl Kernel {
    pub(crate) const fn params(&self) -> &Params {
        &self.params
    }

    #[allow(clippy::unused_self)] // As the kernel's.
    pub(crate) const fn has_pool(&self) -> bool {
        false
    }

    #[allow(clippy::unused_self)] // As the kernel's.
    pub(crate) fn begin_aside(&self, _: impl FnOnce() -> Vec<Sqe>) -> usize {
        0
    }

    #[allow(clippy::unused_self)] // As the kernel's.
    pub(crate) const fn time(&self) -> Time {
        Time::REAL
    }

    #[allow(clippy::unused_self)] // As the kernel's.
    pub(crate) const fn index_here(&self) -> Option<()> {
        None
    }

    #[allow(clippy::unused_self)] // As the kernel's.
    pub(crate) const fn is_linux(&self) -> bool {
        false
    }

    /// The toy refuses nothing for good.
    #[allow(clippy::unused_self)] // As the kernel's.
    pub(crate) const fn refusals(&self) -> u32 {
        0
    }

    pub(crate) fn enters(&self) -> u64 {
        self.enters.load(Ordering::Relaxed)
    }

    pub(crate) fn cq_ready(&self) -> bool {
        let tail = self.wire.tail.load(Ordering::Acquire);
        let there = tail.wrapping_sub(self.head.load(Ordering::Relaxed));
        // The reader may be ahead: a CQE is in the memory a moment before the tail says so.
        (1..u32::MAX / 2).contains(&there)
    }

    pub(crate) fn wants_enter(&self) -> bool {
        self.overflowed()
    }

    pub(crate) fn overflowed(&self) -> bool {
        self.wire.overflowed.load(Ordering::Acquire)
    }

    pub(crate) fn submit(&self, count: u32) -> Result<u32, Errno> {
        let (mut state, taken) = self.enter(count)?;
        state.go_on();
        self.leave(&mut state);
        Ok(taken)
    }

    pub(crate) fn submit_and_wait(&self, count: u32, time: Option<Duration>) -> Result<u32, Errno> {
        let (mut state, taken) = self.enter(count)?;
        loop {
            self.leave(&mut state);
            if self.cq_ready() {
                return Ok(taken);
            }
            if state.end_one() || state.strike() {
                continue;
            }
            if time.is_some() {
                return if taken > 0 { Ok(taken) } else { Err(Errno::TIME) };
            }
            state = self.wire.came.wait(state).unwrap();
        }
    }

    pub(crate) fn flush(&self) -> Result<(), Errno> {
        self.submit(0).map(drop)
    }

    #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // As Linux.
    pub(crate) const fn wait_for_room(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// Takes SQEs, unless it would rather not now.
    fn enter(&self, count: u32) -> Result<(MutexGuard<'_, State>, u32), Errno> {
        self.enters.fetch_add(1, Ordering::Relaxed);
        let mut state = self.wire.state.lock();
        if let Some(errno) = state.refuses(count) {
            return Err(errno);
        }
        let mut taken = 0;
        while taken < count {
            let Some(sqe) = state.memory.take() else { break };
            state.begin(sqe);
            taken += 1;
        }
        Ok((state, taken))
    }

    /// Shows what has come, and wakes whoever sleeps for it.
    fn leave(&self, state: &mut State) {
        while let Some(cqe) = state.backlog.pop_front() {
            if !self.wire.give(state, cqe) {
                state.backlog.push_front(cqe);
                break;
            }
        }
        self.wire.overflowed.store(!state.backlog.is_empty(), Ordering::Release);
        if self.cq_ready() {
            self.wire.came.notify_all();
        }
    }

    #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // As Linux.
    pub(crate) const fn limit_workers(&self, _: u32) -> Result<(), Errno> {
        Ok(())
    }

    #[allow(clippy::unused_self)] // As Linux.
    pub(crate) const fn pass(&self) {}

    #[allow(clippy::unused_self)] // As Linux.
    pub(crate) fn rest(&self, time: Duration) {
        thread::sleep(time);
    }

    pub(crate) fn unwatched(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    #[allow(clippy::unused_self)] // As Linux.
    pub(crate) const fn end_reap(&self) {}

    #[allow(clippy::unused_self)] // As Linux.
    pub(crate) const fn is_in_memory(&self) -> bool {
        false
    }

    #[allow(clippy::unused_self)] // As Linux.
    pub(crate) const fn has_own_workers(&self) -> bool {
        false
    }

    #[allow(clippy::unused_self)] // As Linux.
    pub(crate) const fn workers(&self) -> Option<crate::inflight::Workers> {
        None
    }

    #[allow(clippy::unused_self)] // As Linux.
    pub(crate) const fn register_eventfd(&self, _: BorrowedFd<'_>) -> Result<(), Errno> {
        Err(Errno::BUSY)
    }

    #[allow(clippy::unused_self)] // As Linux.
    pub(crate) const fn unregister_eventfd(&self) -> Result<(), Errno> {
        Err(Errno::NXIO)
    }
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: only a number, and always there.
        unsafe { BorrowedFd::borrow_raw(0) }
    }
}

impl State {
    /// Only what asks for memory can be refused for want of it.
    fn refuses(&mut self, count: u32) -> Option<Errno> {
        let errnos = [Errno::INTR, Errno::AGAIN, Errno::BUSY];
        let errnos = if count > 0 { &errnos[..] } else { &errnos[..1] };
        let errno = errnos.get(choose(60).wrapping_sub(1))?;
        self.troubles = self.troubles.checked_sub(1)?;
        Some(*errno)
    }

    fn begin(&mut self, sqe: Sqe) {
        match sqe.opcode {
            Opcode::POLL_ADD if self.ringing => self.answer(sqe.user_data, 1),
            Opcode::POLL_ADD => {
                assert!(self.watching.replace(sqe.user_data).is_none(), "one watch of the bell");
            }
            Opcode::TIMEOUT => {
                assert!(self.alarm.replace(now() + time_at(sqe.addr)).is_none(), "one alarm");
            }
            Opcode::TIMEOUT_REMOVE => {
                let found = self.alarm.is_some();
                self.alarm = self.alarm.map(|_| now() + time_at(sqe.off));
                self.answer(sqe.user_data, if found { 0 } else { -2 });
            }
            Opcode::ASYNC_CANCEL => self.cancel(&sqe),
            Opcode::CLOSE => {
                close(sqe.fd);
                self.answer(sqe.user_data, 0);
            }
            _ => self.begin_op(sqe),
        }
    }

    fn begin_op(&mut self, sqe: Sqe) {
        assert!(sqe.fd < 0 || is_open(sqe.fd), "an op is sent for a closed descriptor");
        HELD.with_borrow_mut(|held| held.insert(sqe.addr));
        match sqe.len {
            BLOCKED if self.released.contains(&sqe.off) => self.end(&sqe, 0),
            LATER | NEVER | BLOCKED => self.owes.push(sqe),
            RELEASE => {
                self.end(&sqe, 0);
                self.released.insert(sqe.off);
                while let Some(at) =
                    self.owes.iter().position(|owed| owed.len == BLOCKED && owed.off == sqe.off)
                {
                    let blocked = self.owes.remove(at);
                    self.end(&blocked, 0);
                }
            }
            _ => self.end(&sqe, 0),
        }
    }

    fn cancel(&mut self, cancel: &Sqe) {
        let Some(at) = self.owes.iter().position(|owed| owed.user_data == cancel.addr) else {
            return self.answer(cancel.user_data, -2);
        };
        if self.owes[at].len == LATER && choose(3) == 1 {
            return self.answer(cancel.user_data, -114); // It is running.
        }
        let target = self.owes.remove(at);
        self.end(&target, -125);
        self.answer(cancel.user_data, 0);
    }

    /// Lets some of what may end do so.
    fn go_on(&mut self) {
        while choose(3) == 1 && self.end_one() {}
    }

    /// Ends one op that may, if there is one.
    fn end_one(&mut self) -> bool {
        let can = |owed: &&Sqe| owed.len == LATER;
        let count = self.owes.iter().filter(can).count();
        if count == 0 {
            return false;
        }
        let chosen = choose(count);
        let (at, _) =
            self.owes.iter().enumerate().filter(|(_, owed)| can(owed)).nth(chosen).unwrap();
        let sqe = self.owes.remove(at);
        let mut result = [0, 0, -4, -125, -512][choose(5)];
        if result < 0 {
            match self.troubles.checked_sub(1) {
                Some(left) => self.troubles = left,
                None => result = 0,
            }
        }
        self.end(&sqe, result);
        true
    }

    /// The alarm, if it is set: it is its time.
    fn strike(&mut self) -> bool {
        let Some(at) = self.alarm.take_if(|at| *at < now() + PATIENCE) else { return false };
        TIME.set(now().max(at));
        self.answer(Token::own(Own::Alarm).user_data(), -62);
        true
    }

    fn end(&mut self, sqe: &Sqe, result: i32) {
        assert!(sqe.fd < 0 || is_open(sqe.fd), "a descriptor is closed under an op");
        HELD.with_borrow_mut(|held| held.remove(&sqe.addr));
        self.answer(sqe.user_data, result);
    }

    fn answer(&mut self, user_data: u64, result: i32) {
        self.backlog.push_back(Cqe { user_data, result, flags: 0 });
    }
}

/// A `struct __kernel_timespec`.
fn time_at(address: u64) -> Duration {
    let address = std::ptr::with_exposed_provenance::<[u64; 2]>(usize::try_from(address).unwrap());
    // SAFETY: the alarm keeps the times that it names.
    let [seconds, nanoseconds] = unsafe { address.read() };
    Duration::new(seconds, u32::try_from(nanoseconds).unwrap())
}

/// The bell of the newest ring: an eventfd, or messages.
pub(crate) struct Bell {
    wire: Arc<Wire>,
    by_message: bool,
}

impl Bell {
    #[allow(clippy::unnecessary_wraps)] // As Linux.
    pub(crate) fn new() -> Result<Self, Errno> {
        let wire = NEWEST.take().expect("a ring is made before its bell");
        Ok(Self { wire, by_message: choose(2) == 1 })
    }

    pub(crate) fn ring(&self) {
        let mut state = self.wire.state.lock();
        if self.by_message {
            self.call(&mut state, Token::own(Own::Message).user_data());
            return;
        }
        state.ringing = true;
        if let Some(user_data) = state.watching.take() {
            self.call(&mut state, user_data);
        }
    }

    fn call(&self, state: &mut State, user_data: u64) {
        let cqe = Cqe { user_data, result: 1, flags: 0 };
        // Behind what waits already, if anything does.
        if !state.backlog.is_empty() || !self.wire.give(state, cqe) {
            state.backlog.push_back(cqe);
            self.wire.overflowed.store(true, Ordering::Release);
        }
        self.wire.came.notify_all();
    }

    #[allow(clippy::unused_self)] // As Linux.
    pub(crate) const fn call_by_message(&self, _: &Kernel) -> bool {
        false
    }

    pub(crate) const fn needs_a_watch(&self) -> bool {
        !self.by_message
    }

    pub(crate) fn silence(&self) {
        self.wire.state.lock().ringing = false;
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: only a number, and always there.
        unsafe { BorrowedFd::borrow_raw(0) }
    }
}
