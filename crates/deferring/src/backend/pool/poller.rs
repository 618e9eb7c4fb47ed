//! Ops that wait for a descriptor or for a time, in one thread for all: epoll, and a timer for each
//! clock.
//!
//! Each descriptor is watched once, for whatever its ops wait for. Not: what happens when one is
//! ready (`mod.rs`).
#![allow(unsafe_code)] // Descriptors and times as SQEs name them.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::ptr::with_exposed_provenance;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFlags};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::threads::Threads;
use super::workers::{Cancelled, Workers};
use super::{Shared, exec, poll_now};
use crate::op::{KernelTimespec, Opcode, Sqe};
use crate::sync::Arc;
use crate::sync::plain::Mutex;
use crate::time::Clock;

const CLOCKS: [(Clock, TimerfdClockId); 3] = [
    (Clock::Monotonic, TimerfdClockId::Monotonic),
    (Clock::Boottime, TimerfdClockId::Boottime),
    (Clock::Realtime, TimerfdClockId::Realtime),
];

/// What epoll calls the bell; timers follow. No descriptor is that large.
const BELL: u64 = 1 << 32;

pub(super) struct Poller {
    epoll: OwnedFd,
    bell: OwnedFd,
    timers: [OwnedFd; CLOCKS.len()],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watched: HashMap<RawFd, Vec<Waiter>>,
    /// By time, then by order, for each clock.
    times: [BTreeMap<Due, Sqe>; CLOCKS.len()],
    /// Where each op waits, by its `user_data`, which no two have at once.
    places: HashMap<u64, Place>,
    next: u64,
    running: bool,
    ended: bool,
}

/// When, and the how manieth.
type Due = (Duration, u64);

/// Among the waiters of a descriptor, or the times of a clock.
#[derive(Clone, Copy)]
enum Place {
    Watched(RawFd),
    Timed(usize, Due),
}

struct Waiter {
    sqe: Sqe,
    events: PollFlags,
}

impl State {
    /// It waits there from now on.
    fn settle(&mut self, sqe: &Sqe, place: Place) {
        let same = self.places.insert(sqe.user_data, place);
        debug_assert!(same.is_none(), "two ops that wait have one name: {sqe:?}");
    }

    fn find(&self, user_data: u64) -> Option<&Sqe> {
        match *self.places.get(&user_data)? {
            Place::Watched(raw) => {
                let mut sqes = self.watched.get(&raw)?.iter().map(|waiter| &waiter.sqe);
                sqes.find(|sqe| sqe.user_data == user_data)
            }
            Place::Timed(clock, due) => self.times[clock].get(&due),
        }
    }
}

/// What a look at the descriptors has found.
pub(super) type Found = Vec<(Sqe, PollFlags)>;

impl Poller {
    pub(super) fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = |(_, clock)| rustix::time::timerfd_create(clock, flags);
        let [one, two, three] = CLOCKS.map(timer);
        let timers = [one?, two?, three?];
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), EventFlags::IN)?;
        for (name, timer) in (BELL + 1..).zip(&timers) {
            epoll::add(&epoll, timer, EventData::new_u64(name), EventFlags::IN)?;
        }
        Ok(Self { epoll, bell, timers, state: Mutex::new(State::default()) })
    }

    /// Starts the thread, the first time.
    pub(super) fn start(shared: &Arc<Shared>) -> Result<(), Errno> {
        let mut state = shared.poller.state.lock();
        if !state.running {
            let kept = Arc::clone(shared);
            let spawned = Threads::spawn(&shared.threads, "deferring-poll", kept, run);
            spawned.map_err(|_| Errno::CANCELED)?;
            state.running = true;
        }
        Ok(())
    }

    /// Has an op wait until its descriptor is ready.
    ///
    /// # Errors
    /// `EPERM` if the descriptor cannot be watched; `ECANCELED` if that was asked for.
    pub(super) fn watch(shared: &Arc<Shared>, sqe: Sqe, events: PollFlags) -> Result<(), Errno> {
        Self::start(shared)?;
        let this = &shared.poller;
        let fd = exec::fd(sqe.fd)?;
        let mut state = this.state.lock();
        // It may come from a worker. From here on a cancel finds it here.
        if shared.workers.over(&sqe) {
            return Err(Errno::CANCELED);
        }
        let waiters = state.watched.entry(sqe.fd).or_default();
        waiters.push(Waiter { sqe, events });
        let armed = this.arm(fd, waiters);
        if armed.is_ok() {
            state.settle(&sqe, Place::Watched(sqe.fd));
        } else {
            waiters.pop();
            if waiters.is_empty() {
                state.watched.remove(&sqe.fd);
            }
        }
        armed
    }

    /// Watches a descriptor for what its waiters wait for, once.
    fn arm(&self, fd: BorrowedFd<'_>, waiters: &[Waiter]) -> Result<(), Errno> {
        use std::os::fd::AsRawFd;
        let events = waiters.iter().fold(PollFlags::empty(), |all, waiter| all | waiter.events);
        // The bits are the same.
        let flags = EventFlags::from_bits_retain(events.bits().into()) | EventFlags::ONESHOT;
        let name = EventData::new_u64(u64::try_from(fd.as_raw_fd()).unwrap_or(BELL));
        match epoll::modify(&self.epoll, fd, name, flags) {
            Err(Errno::NOENT) => epoll::add(&self.epoll, fd, name, flags),
            result => result,
        }
    }

    /// A descriptor has something to say: who waited for that.
    fn look(&self, workers: &Workers, raw: RawFd) -> Found {
        let mut found = Found::new();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(waiters) = state.watched.get_mut(&raw) else { return found };
        waiters.retain(|waiter| {
            let ready = poll_now(raw, waiter.events).unwrap_or(PollFlags::ERR);
            if !ready.is_empty() {
                if waiter.sqe.opcode != Opcode::POLL_ADD {
                    workers.expect(&waiter.sqe);
                }
                state.places.remove(&waiter.sqe.user_data);
                found.push((waiter.sqe, ready));
            }
            ready.is_empty()
        });
        self.tidy(state, raw);
        found
    }

    /// A descriptor's waiters have changed.
    fn tidy(&self, state: &mut State, raw: RawFd) {
        let Some(waiters) = state.watched.get(&raw) else { return };
        let Ok(fd) = exec::fd(raw) else { return };
        if waiters.is_empty() {
            let _ = epoll::delete(&self.epoll, fd);
            state.watched.remove(&raw);
        } else {
            let _ = self.arm(fd, waiters);
        }
    }

    /// Takes a waiting op of this kind back.
    pub(super) fn take(&self, opcode: Opcode, user_data: u64) -> Option<Sqe> {
        let mut state = self.state.lock();
        state.find(user_data).filter(|sqe| sqe.opcode == opcode)?;
        self.take_in(&mut state, user_data)
    }

    /// Takes a waiting op back, or else has the workers looked through; no op comes from there or
    /// goes there meanwhile.
    pub(super) fn take_or(
        &self,
        user_data: u64,
        elsewhere: impl FnOnce() -> Cancelled,
    ) -> Cancelled {
        let mut state = self.state.lock();
        self.take_in(&mut state, user_data).map_or_else(elsewhere, Cancelled::Taken)
    }

    fn take_in(&self, state: &mut State, user_data: u64) -> Option<Sqe> {
        match state.places.remove(&user_data)? {
            Place::Watched(raw) => {
                let waiters = state.watched.get_mut(&raw)?;
                let at = waiters.iter().position(|waiter| waiter.sqe.user_data == user_data)?;
                let sqe = waiters.remove(at).sqe;
                self.tidy(state, raw);
                Some(sqe)
            }
            Place::Timed(clock, due) => state.times[clock].remove(&due),
        }
    }

    // Times.

    pub(super) fn add_timeout(shared: &Arc<Shared>, sqe: &Sqe) -> Result<(), Errno> {
        if sqe.len != 1 || sqe.off != 0 {
            return Err(Errno::INVAL);
        }
        Self::start(shared)?;
        shared.poller.set_timeout(sqe, sqe.addr, sqe.op_flags)
    }

    /// Has a timeout wait for the time at an address.
    pub(super) fn set_timeout(&self, sqe: &Sqe, address: u64, flags: u32) -> Result<(), Errno> {
        const ABSOLUTE: u32 = 1;
        const BOOTTIME: u32 = 1 << 2;
        const REALTIME: u32 = 1 << 3;
        const ETIME_SUCCESS: u32 = 1 << 5;
        let of_clock = |flags: u32| match flags & (BOOTTIME | REALTIME) {
            0 => Some(0),
            BOOTTIME => Some(1),
            REALTIME => Some(2),
            _ => None,
        };
        if flags & !(ABSOLUTE | BOOTTIME | REALTIME | ETIME_SUCCESS) != 0 {
            return Err(Errno::INVAL);
        }
        // A change keeps the clock.
        let clock = of_clock(flags | sqe.op_flags & (BOOTTIME | REALTIME)).ok_or(Errno::INVAL)?;
        let address = usize::try_from(address).map_err(|_| Errno::FAULT)?;
        // SAFETY: the op's, which stays until its last CQE.
        let time = unsafe { with_exposed_provenance::<KernelTimespec>(address).read() };
        let time = time.duration().ok_or(Errno::INVAL)?;
        let now = CLOCKS[clock].0.now();
        let at = if flags & ABSOLUTE != 0 { time } else { now.saturating_add(time) };
        let mut state = self.state.lock();
        state.next += 1;
        let due = (at, state.next);
        state.times[clock].insert(due, *sqe);
        state.settle(sqe, Place::Timed(clock, due));
        self.wind(&state, clock)
    }

    /// Sets a clock's timer to its earliest time.
    fn wind(&self, state: &State, clock: usize) -> Result<(), Errno> {
        let Some((&(at, _), _)) = state.times[clock].first_key_value() else { return Ok(()) };
        // Zero would be never.
        let at = at.max(Duration::from_nanos(1));
        let it_value = Timespec {
            tv_sec: at.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: at.subsec_nanos().into(),
        };
        let once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let time = Itimerspec { it_interval: once, it_value };
        let flags = TimerfdTimerFlags::ABSTIME;
        rustix::time::timerfd_settime(&self.timers[clock], flags, &time).map(drop)
    }

    /// A clock's timer is up: whose time has come.
    fn strike(&self, clock: usize) -> Vec<Sqe> {
        let _ = rustix::io::read(&self.timers[clock], &mut [0u8; 8]);
        let now = CLOCKS[clock].0.now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut due = Vec::new();
        while let Some(entry) = state.times[clock].first_entry() {
            if entry.key().0 > now {
                break;
            }
            let sqe = entry.remove();
            state.places.remove(&sqe.user_data);
            due.push(sqe);
        }
        let _ = self.wind(state, clock);
        due
    }

    /// The workers could do with some [help](Shared::help).
    pub(super) fn call(shared: &Arc<Shared>) {
        // Without a thread nobody waits here either.
        if Self::start(shared).is_ok() {
            shared.poller.ring();
        }
    }

    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.ring();
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

fn run(shared: &Arc<Shared>) {
    let this = &shared.poller;
    let mut events = Vec::with_capacity(64);
    while !this.state.lock().ended {
        events.clear();
        match epoll::wait(&this.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            // The epoll is ours, and stays: there is no other error.
            Err(errno) => panic!("epoll_wait: {errno}"),
        }
        for event in &events {
            match event.data.u64().checked_sub(BELL) {
                None => {
                    let raw = RawFd::try_from(event.data.u64()).expect("a descriptor");
                    for (sqe, ready) in this.look(&shared.workers, raw) {
                        shared.is_ready(sqe, ready);
                    }
                }
                Some(0) => {
                    let _ = rustix::io::read(&this.bell, &mut [0u8; 8]);
                    shared.help();
                }
                Some(clock) => {
                    let clock = usize::try_from(clock).expect("few") - 1;
                    for sqe in this.strike(clock) {
                        shared.answer(&sqe, Err(Errno::TIME));
                    }
                }
            }
        }
    }
}
