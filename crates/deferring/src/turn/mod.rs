//! A ring in motion: admit what waits, submit, wait, reap, wake.
//!
//! One lock, `core`, is on every operation's path; it is never held over a system call or over user
//! code (P11). Whoever has the ring may call everything here from any thread. `submit.rs` sends and
//! waits, `reap.rs` fills results, `claim.rs` serves handles, `end.rs` ends, `leave.rs` lets a
//! thread go; `alarm.rs` is what the ring asks for itself, `aside.rs` what io_uring does not have, `workers.rs` the limit on the kernel's
//! threads, `wakes.rs` whom the ring's own thread is about to wake, `callers.rs` whether who queues may make the call. Not: the states of
//! ops (`inflight/`), nor who decides to wait (`driver/`, or the user).

mod alarm;
mod aside;
mod callers;
mod claim;
mod end;
#[cfg(not(all(test, any(loom, shuttle))))]
mod leave;
mod reap;
mod submit;
mod wakes;
mod workers;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Weak;
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::backend::uring::{Cq, ForkMark, Params, Probe, Sq};
use crate::backend::{self, BackendInfo, Kernel, Parts, Time};
#[cfg(not(all(test, any(loom, shuttle))))]
use crate::backend::{Backend, Wire};
use crate::config::Builder;
use crate::driver::{Keeper, Seat};
use crate::error;
use crate::handle::Over;
use crate::inflight::{After, Inflight, Moving, Pending, Token};
use crate::op::{Op, Opcode, Until};
use crate::planted;
use crate::stats::{Counters, Stats};
use crate::sync::thread::ThreadId;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Lock, LockGuard, Ordering, plain};
use crate::trace::Span;
use alarm::Alarm;
use aside::Aside;
use callers::Callers;
use wakes::Wakes;
use workers::Workers;

pub use end::leaked_ops;
pub(crate) use end::{Ending, Refused};
pub(crate) use reap::Found;

/// What all handles and clones of a ring share.
pub(crate) struct Shared {
    me: Weak<Self>,
    mark: ForkMark,
    kernel: Kernel,
    time: Time,
    backend: BackendInfo,
    probe: Probe,
    core: Lock<Core>,
    pub(crate) seat: Seat,
    counters: Arc<Counters>,
    workers: Workers,
    wakes: Wakes,
    /// How often something was reaped.
    reaps: plain::AtomicU32,
    /// Ops that ended in a submit or a wait, of which no reap has told.
    untold: AtomicUsize,
    /// Ops that were answered at once, likewise.
    answered: AtomicUsize,
    /// A thread that ended has left something to be sent.
    left_unsent: AtomicBool,
    /// [`Core::stirrer`] is somebody.
    stirred: AtomicBool,
    /// A shutdown has a deadline.
    ending: AtomicBool,
    /// The last `Ring` is gone.
    closing: AtomicBool,
    /// And nothing is out any more, or has been given up.
    over: AtomicBool,
    /// The thread that turns it, if it has one of its own.
    keeper: plain::Mutex<Option<Keeper>>,
    drain_timeout: Duration,
    callers: Callers,
}

/// What only one thread may touch at a time.
struct Core {
    sq: Sq,
    cq: Cq,
    aside: Option<Aside>,
    inflight: Inflight,
    alarm: Alarm,
    counters: Arc<Counters>,
    /// Why nothing is queued any more.
    refusal: Option<Refusal>,
    /// Who waits for the end of all that is out, by number.
    idle_wakers: BTreeMap<u64, Waker>,
    shutdowns: u64,
    /// Who ended ops without a CQE (by a cancel, or a drop) since the last reap.
    stirrer: Option<Stirrer>,
    /// The kernel watches the bell of [`Seat`].
    bell_armed: bool,
    /// Lists that a reap fills, kept so that it does not allocate them.
    spare: After,
}

/// Of whom a thread that waits by hand has to hear, unless it is that thread itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stirrer {
    One(ThreadId),
    Several,
}

/// Why a ring takes no more ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The last `Ring` is gone, or it was shut down.
    Closed,
    /// The kernel refuses it for good.
    Poisoned(Errno),
}

impl Refusal {
    fn error(self) -> io::Error {
        match self {
            Self::Closed => error::closed(),
            Self::Poisoned(errno) => error::poisoned(errno),
        }
    }
}

impl Shared {
    pub(crate) fn open(config: &Builder) -> io::Result<Arc<Self>> {
        Self::made_of(config, fork_mark()?, backend::open(config)?)
    }

    /// The same, on somebody's own backend.
    #[cfg(not(all(test, any(loom, shuttle))))]
    pub(crate) fn open_on<B: Backend>(
        config: &Builder,
        make: impl FnOnce(Wire) -> io::Result<B>,
    ) -> io::Result<Arc<Self>> {
        Self::made_of(config, fork_mark()?, backend::open_on(config, make)?)
    }

    fn made_of(
        config: &Builder,
        mark: ForkMark,
        (Parts { sq, cq, kernel, probe, apart }, backend): (Parts, BackendInfo),
    ) -> io::Result<Arc<Self>> {
        let seat = Seat::new().map_err(|errno| error::setup("eventfd", errno))?;
        if kernel.is_in_memory() {
            seat.call_by_message(&kernel);
        }
        let counters = Arc::new(Counters::default());
        let core = Core {
            sq,
            cq,
            aside: apart.map(Aside::new),
            inflight: Inflight::new(Arc::clone(&counters), patience(config.stuck_after)),
            alarm: Alarm::new(config.stuck_after, kernel.time()),
            counters: Arc::clone(&counters),
            refusal: None,
            idle_wakers: BTreeMap::new(),
            shutdowns: 0,
            stirrer: None,
            bell_armed: false,
            spare: After::default(),
        };
        // Where io_uring is refused, system calls may be.
        let learns = config.biased_lock && kernel.is_linux();
        Ok(Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            mark,
            time: kernel.time(),
            kernel,
            backend,
            probe,
            core: if config.of_one_thread {
                Lock::of_this_thread(core)
            } else {
                Lock::new(core, learns)
            },
            seat,
            counters,
            workers: Workers::default(),
            wakes: Wakes::default(),
            reaps: plain::AtomicU32::new(0),
            untold: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            left_unsent: AtomicBool::new(false),
            stirred: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            over: AtomicBool::new(false),
            keeper: plain::Mutex::new(None),
            drain_timeout: config.drain_timeout,
            callers: Callers::new(config.callers_may_block),
        }))
    }

    /// How often something was reaped: an op that was queued since has not ended.
    #[inline]
    pub(crate) fn reaps(&self) -> u32 {
        self.reaps.load(Ordering::Relaxed)
    }

    /// Refuses a forked child (P9).
    pub(crate) fn check_process(&self) -> io::Result<()> {
        if self.mark.is_this_process() { Ok(()) } else { Err(error::forked()) }
    }

    fn lock(&self) -> LockGuard<'_, Core> {
        planted::slow_lock();
        self.core.lock()
    }

    pub(crate) const fn params(&self) -> &Params {
        self.kernel.params()
    }

    pub(crate) const fn backend(&self) -> &BackendInfo {
        &self.backend
    }

    pub(crate) const fn supports(&self, opcode: Opcode) -> bool {
        self.probe.supports(opcode)
    }

    pub(crate) fn pending(&self) -> Pending {
        if self.check_process().is_err() {
            return Pending::default();
        }
        self.lock().inflight.pending()
    }

    /// Locks nothing, so that it may be asked at any time.
    pub(crate) fn stats(&self) -> Stats {
        if self.check_process().is_err() {
            return Stats::default();
        }
        self.counters.snapshot(self.kernel.enters())
    }

    pub(crate) fn register_eventfd(&self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        self.check_process()?;
        self.kernel.register_eventfd(eventfd).map_err(error::register)
    }

    pub(crate) fn unregister_eventfd(&self) -> io::Result<()> {
        self.check_process()?;
        self.kernel.unregister_eventfd().map_err(error::register)
    }

    // What drivers ask.

    /// Whether a turn would find something to do, as far as can be seen without a system call.
    pub(crate) fn wants_turn(&self) -> bool {
        if self.is_poisoned() {
            return false;
        }
        let core = self.lock();
        let unsent = !self.params().sqpoll && core.sq.unconsumed() > 0;
        unsent || core.has_something_to_send() || self.has_completions()
    }

    /// Whether there is something to reap, or the kernel keeps something back for want of room.
    pub(crate) fn has_completions(&self) -> bool {
        self.kernel.cq_ready() || self.kernel.overflowed()
    }

    /// As [`has_completions`](Self::has_completions), or the kernel has something for the thread
    /// that submits.
    pub(crate) fn is_called_for(&self) -> bool {
        self.kernel.cq_ready() || self.kernel.wants_enter()
    }

    /// Whether nothing is queued, nor in the kernel.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().inflight.is_idle()
    }

    pub(crate) const fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    pub(crate) fn is_owed(&self) -> bool {
        self.lock().inflight.is_owed()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Whether a task that turns the ring should leave it: whoever drops the ring turns it by now,
    /// or nobody can, or it is another process's.
    pub(crate) fn has_no_use_for_a_task(&self) -> bool {
        self.check_process().is_err() || self.is_closing() || self.is_poisoned()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// The thread that keeps the ring. While this is held, nobody closes the ring.
    pub(crate) fn keeper(&self) -> plain::MutexGuard<'_, Option<Keeper>> {
        self.keeper.lock()
    }

    /// Gives an op its slot. An op that needs none, or cannot have one, comes back with its result.
    #[inline]
    pub(crate) fn queue<T: Op>(&self, op: T) -> Result<Token, Over<T>> {
        let mut moving = Moving::new(op);
        let op = moving.op();
        if let Err(error) = self.check_process().and_then(|()| op.check()) {
            return Err((moving.back(), Err(error)));
        }
        if self.kernel.is_linux() {
            if let Some(result) = op.at_once() {
                let result = self.refused().and_then(|()| self.answered::<T>(result));
                return Err((moving.back(), result));
            }
            if self.callers.may_block
                && self.callers.may_call(op.plain())
                && !self.backend.on_pool().contains(&T::CODE)
            {
                // Before, since it is done then, whatever becomes of the ring.
                let result = self.refused().and_then(|()| self.answered::<T>(op.call()));
                return Err((moving.back(), result));
            }
        }
        // May ask the kernel what is behind a descriptor.
        let place = op.place();
        let Until { after, at } = op.until();
        let after = after.map(|time| self.after(time));
        let until = after.into_iter().chain(at.map(|at| self.at(at))).min();
        let asleep = op.sleeps().map(|time| self.after(time));
        let span = Span::of_op(T::CODE);
        let mut core = self.lock();
        if let Some(refusal) = core.refusal {
            drop(core);
            return Err((moving.back(), Err(refusal.error())));
        }
        let token = match asleep {
            Some(until) => core.inflight.insert_asleep(&mut moving, &place, until),
            None => core.inflight.insert(&mut moving, &place),
        };
        core.inflight.spans().begin(token.index(), span);
        if let Some(until) = until {
            core.inflight.set_deadline(token, until);
        }
        // Who sleeps until before that has nothing to do about a sleep.
        let in_time = asleep.is_some() && self.seat.is_asleep() && !core.has_own_to_send();
        drop(core);
        if !in_time {
            self.seat.call_sleeper();
        }
        planted::slow_op(self);
        Ok(token)
    }

    /// Refuses what comes after the ring's end.
    fn refused(&self) -> io::Result<()> {
        let refusal = self.lock().refusal;
        refusal.map_or(Ok(()), |refusal| Err(refusal.error()))
    }

    /// An op was answered without the ring. Whoever waits by hand for what ends is told of it, with
    /// the next submit if it waits already.
    fn answered<T: Op>(&self, result: io::Result<u32>) -> io::Result<u32> {
        Span::of_op(T::CODE).end(&result);
        self.counters.answered.fetch_add(1, Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::SeqCst);
        result
    }

    /// A point of time of the ring's. What lies in the past is now.
    pub(crate) fn at(&self, at: Instant) -> Duration {
        self.after(at.saturating_duration_since(Instant::now()))
    }

    /// The point of time after so long.
    pub(crate) fn after(&self, time: Duration) -> Duration {
        self.time.now().saturating_add(time)
    }

    /// An op is to be given up at that time.
    pub(crate) fn set_deadline(&self, token: Token, until: Duration) {
        if self.check_process().is_err() {
            return;
        }
        let mut core = self.lock();
        core.inflight.set_deadline(token, until);
        let earlier = core.has_own_to_send();
        drop(core);
        if earlier {
            // Who sleeps has to wake up earlier than it thought.
            self.seat.call_submitter();
        }
    }
}

fn fork_mark() -> io::Result<ForkMark> {
    ForkMark::of_this_process().map_err(|errno| error::setup("madvise(MADV_WIPEONFORK)", errno))
}

/// How many ticks are long enough to doubt that there are workers.
fn patience(tick: Duration) -> u32 {
    const LONG: Duration = Duration::from_secs(1);
    let ticks = LONG.as_millis().div_ceil(tick.as_millis().max(1));
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // Nobody tells a forked child anything, and it must not ask for that.
        if self.check_process().is_ok() { self.kernel.as_fd() } else { self.kernel.unwatched() }
    }
}
