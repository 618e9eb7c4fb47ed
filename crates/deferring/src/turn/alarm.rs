//! The ring's own requests: the alarm for whatever must happen by itself, and the canary.
//!
//! One timeout in the kernel, for the earliest of: the next tick of admission, the first deadline
//! or end of a sleep, the end of a shutdown. Nobody else needs a clock, a thread or a timer. Not: what
//! happens then (`inflight/`, `end.rs`).

use std::time::Duration;

use rustix::io::Errno;

use super::Core;
use super::aside::Aside;
use crate::backend::Time;
use crate::buf::address;
use crate::inflight::{After, Own, Pace, Token};
use crate::op::{KernelTimespec, Opcode, Sqe};

/// When what is due, by `CLOCK_MONOTONIC`.
pub(super) struct Alarm {
    time: Time,
    tick: Duration,
    tick_at: Option<Duration>,
    /// For what it was set.
    pace: Pace,
    pub(super) give_up_at: Option<Duration>,
    /// What the timeout in the kernel is set to.
    armed: Option<Duration>,
    /// A change of it is out.
    rewinding: bool,
    /// How often in a row the kernel has refused it.
    refusals: u32,
    /// What it said last.
    answer: i32,
    /// What the kernel is told, used in turn: an SQPOLL thread reads it when it comes to it. On the
    /// heap, as the ring moves.
    times: Box<[KernelTimespec; TIMES]>,
    next_time: usize,
}

const TIMES: usize = 8;

/// When a tick comes that has time, at the earliest.
const LATER: Duration = Duration::from_millis(100);

/// How often in a row.
const REFUSALS_MAX: u32 = 16;

/// Whether it is neither the time, nor gone with the thread that asked for it, nor a want of memory.
fn refuses(result: i32) -> bool {
    let errno = Errno::from_raw_os_error(result.saturating_neg());
    let passes = [Errno::TIME, Errno::CANCELED, Errno::INTR, Errno::NOMEM, Errno::AGAIN];
    result < 0 && !crate::error::is_restart(-result) && !passes.contains(&errno)
}

const TIMEOUT_UPDATE: u32 = 1 << 1;
const IN_WORKER: u8 = 1 << 4;

impl Alarm {
    pub(super) fn new(tick: Duration, time: Time) -> Self {
        Self {
            time,
            tick,
            tick_at: None,
            pace: Pace::Never,
            give_up_at: None,
            armed: None,
            rewinding: false,
            refusals: 0,
            answer: 0,
            times: Box::new([KernelTimespec::from(Duration::ZERO); TIMES]),
            next_time: 0,
        }
    }

    /// The kernel has answered one of the alarm's requests. True if time is up.
    pub(super) fn answered(&mut self, own: Own, result: i32) -> bool {
        match own {
            Own::Alarm => {
                self.armed = None;
                self.refusals = if refuses(result) { self.refusals + 1 } else { 0 };
                self.answer = result;
            }
            Own::Rewind => self.rewinding = false,
            Own::Bell | Own::Canary | Own::Message | Own::Aside => {}
        }
        matches!(own, Own::Alarm)
    }

    /// Why the kernel refuses it, if it has so often that it will go on to.
    pub(super) fn refusal(&self) -> Option<Errno> {
        let refused = self.refusals >= REFUSALS_MAX;
        refused.then(|| Errno::from_raw_os_error(self.answer.saturating_neg()))
    }

    fn place(&mut self, time: Duration) -> u64 {
        self.next_time = (self.next_time + 1) % TIMES;
        let place = &mut self.times[self.next_time];
        *place = time.into();
        address(std::ptr::from_mut(place).cast_const())
    }
}

impl Core {
    fn due(&self) -> Option<Duration> {
        let Alarm { tick_at, give_up_at, .. } = self.alarm;
        earlier(earlier(tick_at, give_up_at), self.inflight.next_deadline())
    }

    /// Whether the ring has something to ask for itself.
    pub(super) fn has_own_to_send(&self) -> bool {
        self.inflight.wants_canary()
            || self.needs_tick()
            || self.must_wind()
            || self.aside.as_ref().is_some_and(Aside::wants_watch)
    }

    /// Whether a tick has to come that does not, or not so soon.
    fn needs_tick(&self) -> bool {
        let Alarm { tick_at, pace, .. } = self.alarm;
        let coming = if tick_at.is_some() { pace } else { Pace::Never };
        coming != Pace::Soon && self.inflight.pace() > coming
    }

    /// Whether the alarm in the kernel would come too late.
    fn must_wind(&self) -> bool {
        let Alarm { tick_at, give_up_at, armed, .. } = &self.alarm;
        // Most often, and asked several times in each turn: there is nothing but a tick at most, for
        // which it is wound.
        let ticks_only = give_up_at.is_none() && !self.inflight.has_times();
        if ticks_only && (tick_at.is_none() || tick_at == armed) {
            return false;
        }
        self.is_wound_too_late()
    }

    #[inline(never)]
    fn is_wound_too_late(&self) -> bool {
        let Some(due) = self.due() else { return false };
        self.alarm.armed.is_none_or(|armed| due < armed && !self.alarm.rewinding)
    }

    /// Writes the ring's own requests, as far as there is room. Returns how many.
    pub(super) fn push_own(&mut self) -> u32 {
        if self.needs_tick() {
            self.inflight.begin_ticks();
            let Alarm { tick, ref time, .. } = self.alarm;
            let pace = self.inflight.pace();
            let after = if pace == Pace::Soon { tick } else { tick.max(LATER) };
            self.alarm.tick_at = Some(time.now().saturating_add(after));
            self.alarm.pace = pace;
        }
        let mut pushed = u32::from(self.watch_aside());
        if self.inflight.wants_canary() && self.push(canary()) {
            self.inflight.canary_went();
            pushed += 1;
        }
        if self.must_wind() && self.sq.room() > 0 {
            let due = self.due().expect("something is due");
            let wound = self.wind(due);
            pushed += u32::from(self.push(wound));
        }
        pushed
    }

    /// Relative: the kernel does not translate points of time in a time namespace (6.18). Too early
    /// is no harm: `strike` finds nothing due, and the alarm is wound again.
    fn wind(&mut self, due: Duration) -> Sqe {
        let time = self.alarm.place(due.saturating_sub(self.alarm.time.now()));
        let rewind = self.alarm.armed.replace(due).is_some();
        if !rewind {
            return Sqe {
                opcode: Opcode::TIMEOUT,
                addr: time,
                len: 1,
                user_data: Token::own(Own::Alarm).user_data(),
                ..Sqe::EMPTY
            };
        }
        self.alarm.rewinding = true;
        Sqe {
            opcode: Opcode::TIMEOUT_REMOVE,
            addr: Token::own(Own::Alarm).user_data(),
            off: time,
            op_flags: TIMEOUT_UPDATE,
            user_data: Token::own(Own::Rewind).user_data(),
            ..Sqe::EMPTY
        }
    }

    fn push(&mut self, own: Sqe) -> bool {
        self.sq.push(|sqe| {
            *sqe = own;
            true
        })
    }

    /// Does what is due. True if the ring is to be given up.
    pub(super) fn strike(&mut self, after: &mut After) -> bool {
        let now = self.alarm.time.now();
        self.inflight.expire(now, after);
        if self.alarm.tick_at.is_some_and(|at| at <= now) {
            self.alarm.tick_at = None;
            self.inflight.tick(after);
        }
        self.alarm.give_up_at.take_if(|at| *at <= now).is_some()
    }
}

fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// An op that does nothing, in a worker.
fn canary() -> Sqe {
    Sqe {
        opcode: Opcode::NOP,
        flags: IN_WORKER,
        user_data: Token::own(Own::Canary).user_data(),
        ..Sqe::EMPTY
    }
}
