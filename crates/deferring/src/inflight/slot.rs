//! The life of an op, as one pure table.
//!
//! | state \ event | admit     | last CQE   | undone   | take    | drop               | detach    | cancel       | ring gone  |
//! |---------------|-----------|------------|----------|---------|--------------------|-----------|--------------|------------|
//! | `Free`        | –         | –          | –        | –       | –                  | –         | –            | –          |
//! | `Waiting`     | Submitted | –          | –        | pending | Grave              | Drifting  | Done, wake   | Done, wake |
//! | `Drifting`    | Orphaned  | –          | –        | –       | –                  | –         | Grave        | Grave      |
//! | `Submitted`   | –         | Done, wake | Waiting  | pending | Orphaned, cancel   | Orphaned  | send cancel  | Lost, wake |
//! | `Orphaned`    | –         | Grave      | Drifting | –       | –                  | –         | send cancel  | Leaked     |
//! | `Done`        | –         | –          | –        | Free    | Grave              | Grave     | finished     | stays      |
//! | `Grave`       | –         | –          | –        | –       | –                  | –         | –            | stays      |
//! | `Lost`        | –         | stays      | stays    | Leaked  | Leaked             | Leaked    | finished     | stays      |
//! | `Leaked`      | –         | stays      | stays    | –       | –                  | –         | finished     | stays      |
//!
//! - *Waiting*: in our queue, the handle is held. *Drifting*: the same, detached.
//! - *Submitted*: an SQE names it, the handle is held. *Orphaned*: the same, nobody will take it.
//! - *Done*: the result is here, the handle will take it. *Grave*: the result is here, nobody will;
//!   it is dropped as soon as the ring is unlocked, which makes the row *Free*.
//! - *Lost*: the ring is gone and the kernel has not let go; the handle gets an error. *Leaked*:
//!   the same, without a handle. Neither is ever freed.
//!
//! *Undone* is a last CQE that says that nothing happened, for no reason of the user's
//! ([`verdict`]): the op goes again. "Ring gone" stands for a poisoned ring, too.
//!
//! A dash is an event that cannot happen; it is a bug of ours, and panics before it writes. What
//! follows from a [`Then`] is done in `mod.rs`. Cancels have a small life of their own, [`Cancel`].

use rustix::io::Errno;

/// Where an op is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Waiting,
    Drifting,
    Submitted,
    Orphaned,
    Done,
    Grave,
    Lost,
    Leaked,
}

impl State {
    /// Whether the op has not ended, and the ring is there.
    pub(crate) const fn is_out(self) -> bool {
        matches!(self, Self::Waiting | Self::Drifting | Self::Submitted | Self::Orphaned)
    }
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Admit,
    LastCqe,
    /// The kernel gives the op back undone, and nobody asked for that.
    Undone,
    Take,
    Drop,
    Detach,
    Cancel,
    RingGone,
}

/// What must follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// The result is here: wake whoever awaits it.
    Wake,
    /// Not here yet: keep the waker.
    Pending,
    /// The op is moved out to its handle, and the row is free.
    Release,
    /// Nobody will take the op: drop it after unlocking.
    Bury,
    /// It will never be taken and never be freed.
    Leak,
    /// Ask the kernel to cancel it.
    SendCancel,
    /// Send it again.
    Again,
}

/// One step. The only place where a state changes.
#[rustfmt::skip] // A table reads as a table.
pub(crate) fn step(state: State, event: Event) -> (State, Then) {
    match (state, event) {
        (State::Waiting, Event::Admit)       => (State::Submitted, Then::Nothing),
        (State::Waiting, Event::Take)        => (State::Waiting, Then::Pending),
        (State::Waiting, Event::Drop)        => (State::Grave, Then::Bury),
        (State::Waiting, Event::Detach)      => (State::Drifting, Then::Nothing),
        (State::Waiting, Event::Cancel)      => (State::Done, Then::Wake),
        (State::Waiting, Event::RingGone)    => (State::Done, Then::Wake),

        (State::Drifting, Event::Admit)      => (State::Orphaned, Then::Nothing),
        (State::Drifting, Event::Cancel)     => (State::Grave, Then::Bury),
        (State::Drifting, Event::RingGone)   => (State::Grave, Then::Bury),

        (State::Submitted, Event::LastCqe)   => (State::Done, Then::Wake),
        (State::Submitted, Event::Undone)    => (State::Waiting, Then::Again),
        (State::Submitted, Event::Take)      => (State::Submitted, Then::Pending),
        (State::Submitted, Event::Drop)      => (State::Orphaned, Then::SendCancel),
        (State::Submitted, Event::Detach)    => (State::Orphaned, Then::Nothing),
        (State::Submitted, Event::Cancel)    => (State::Submitted, Then::SendCancel),
        (State::Submitted, Event::RingGone)  => (State::Lost, Then::Wake),

        (State::Orphaned, Event::LastCqe)    => (State::Grave, Then::Bury),
        (State::Orphaned, Event::Undone)     => (State::Drifting, Then::Again),
        (State::Orphaned, Event::Cancel)     => (State::Orphaned, Then::SendCancel),
        (State::Orphaned, Event::RingGone)   => (State::Leaked, Then::Leak),

        (State::Done, Event::Take)           => (State::Free, Then::Release),
        (State::Done, Event::Drop)           => (State::Grave, Then::Bury),
        (State::Done, Event::Detach)         => (State::Grave, Then::Bury),
        (State::Done, Event::Cancel)         => (State::Done, Then::Nothing),
        (State::Done, Event::RingGone)       => (State::Done, Then::Nothing),

        (State::Grave, Event::RingGone)      => (State::Grave, Then::Nothing),

        (State::Lost, Event::LastCqe | Event::Undone) => (State::Lost, Then::Nothing),
        (State::Lost, Event::Take)           => (State::Leaked, Then::Leak),
        (State::Lost, Event::Drop)           => (State::Leaked, Then::Leak),
        (State::Lost, Event::Detach)         => (State::Leaked, Then::Leak),
        (State::Lost, Event::Cancel)         => (State::Lost, Then::Nothing),
        (State::Lost, Event::RingGone)       => (State::Lost, Then::Nothing),

        (State::Leaked, Event::LastCqe | Event::Undone) => (State::Leaked, Then::Nothing),
        (State::Leaked, Event::Cancel)       => (State::Leaked, Then::Nothing),
        (State::Leaked, Event::RingGone)     => (State::Leaked, Then::Nothing),

        (State::Free, Event::Admit | Event::LastCqe | Event::Undone | Event::Take | Event::Drop
            | Event::Detach | Event::Cancel | Event::RingGone)
        | (State::Waiting, Event::LastCqe | Event::Undone)
        | (State::Drifting, Event::LastCqe | Event::Undone | Event::Take | Event::Drop
            | Event::Detach)
        | (State::Submitted | State::Orphaned | State::Done | State::Grave | State::Lost
            | State::Leaked, Event::Admit)
        | (State::Orphaned, Event::Take | Event::Drop | Event::Detach)
        | (State::Done, Event::LastCqe | Event::Undone)
        | (State::Grave, Event::LastCqe | Event::Undone | Event::Take | Event::Drop
            | Event::Detach | Event::Cancel)
        | (State::Leaked, Event::Take | Event::Drop | Event::Detach)
            => unreachable!("{event:?} cannot happen to an op that is {state:?}"),
    }
}

/// The cancel of one op. A second cancel joins the first (C25).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// Nobody asked.
    None,
    /// In the cancel lane, or at the kernel.
    Asked,
    /// The kernel said that the op is running and cannot be stopped for certain.
    Running,
}

/// What the kernel answered to a cancel, as far as it matters.
///
/// None of the answers is the truth about the op; its own CQE is (`kernel.md` 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelThen {
    /// The op's own CQE is on its way and will tell.
    Wait,
    /// The kernel did not find an op that has no CQE yet: it was between two states. Ask again.
    AskAgain,
    /// The op runs; it may be interrupted or finish.
    Running,
}

/// How often a cancel is sent again when the kernel did not find its op.
pub(crate) const CANCEL_RESENDS_MAX: u8 = 8;

/// Decides what a cancel's CQE means for an op that has none yet.
pub(crate) const fn cancel_answered(result: i32, resends: u8) -> CancelThen {
    const NOT_FOUND: i32 = -Errno::NOENT.raw_os_error();
    match result {
        0.. => CancelThen::Wait,
        NOT_FOUND if resends < CANCEL_RESENDS_MAX => CancelThen::AskAgain,
        _ => CancelThen::Running,
    }
}

/// What a last CQE's result means for the op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the op's result, this.
    Deliver(i32),
    /// Nothing happened: send it again at once.
    Again,
    /// The same, for the next tick.
    Pause,
}

/// What is asked before a [`Verdict`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    /// The user, or another op of the user's, asked for its end.
    pub(crate) asked: bool,
    /// Its deadline asked for it.
    pub(crate) timed_out: bool,
    /// The ring asked for it, to learn whether it has a worker.
    pub(crate) stolen: bool,
    /// It needs a worker.
    pub(crate) worker: bool,
    /// It may be sent twice ([`Op::AGAIN`](crate::op::Op::AGAIN)).
    pub(crate) again: bool,
    /// How often it was given back before.
    pub(crate) tries: u8,
}

/// How often an op that was given back undone goes again without a pause.
pub(crate) const TRIES_AT_ONCE: u8 = 4;
/// And in all; then it gets what the kernel says.
pub(crate) const TRIES_MAX: u8 = 32;

/// Results that no kernel gives. They stand where an errno cannot say enough.
pub(crate) const SATURATED: i32 = i32::MIN + 1;
pub(crate) const POISONED: i32 = i32::MIN + 2;

/// Whether a result says that the op was stopped, or never began.
pub(crate) fn was_cut_short(result: i32) -> bool {
    result == -Errno::CANCELED.raw_os_error()
        || result == -Errno::INTR.raw_os_error()
        || result == -Errno::TIMEDOUT.raw_os_error()
        || crate::error::is_restart(-result)
}

/// Decides whether a result is the user's (P7).
///
/// `ECANCELED`, `EINTR` and the kernel's own restart codes come unasked when the thread that
/// submitted exits, when a signal meets a worker thread being made, and when none can be made;
/// nothing has been transferred then. `EFAULT` comes for a read whose submitting thread exits while
/// it waits for its disk (Linux 6.18): ops own their memory, so that it is hardly ever meant.
pub(crate) fn verdict(result: i32, now: Circumstances) -> Verdict {
    let is = |errno: Errno| result == -errno.raw_os_error();
    let cut_short = (is(Errno::CANCELED) || is(Errno::INTR)) || crate::error::is_restart(-result);
    if now.timed_out && cut_short {
        return Verdict::Deliver(-Errno::TIMEDOUT.raw_os_error());
    }
    if now.asked || now.timed_out || !now.again || !(cut_short || is(Errno::FAULT)) {
        return Verdict::Deliver(result);
    }
    if now.stolen {
        // Cancelled before it ran, as the kernel has no worker for it; or else it ran.
        let never_ran = is(Errno::CANCELED) || now.tries >= TRIES_MAX;
        return if never_ran { Verdict::Deliver(SATURATED) } else { Verdict::Again };
    }
    match now.tries {
        0..TRIES_AT_ONCE => Verdict::Again,
        _ if is(Errno::FAULT) => Verdict::Deliver(result),
        TRIES_AT_ONCE..TRIES_MAX => Verdict::Pause,
        _ if now.worker && is(Errno::CANCELED) => Verdict::Deliver(SATURATED),
        _ => Verdict::Deliver(result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Circumstances = Circumstances {
        asked: false,
        timed_out: false,
        stolen: false,
        worker: true,
        again: true,
        tries: 0,
    };

    #[test]
    fn what_nobody_asked_for_goes_again_a_bounded_number_of_times() {
        for result in [-4, -125, -512, -513, -514, -516] {
            assert_eq!(verdict(result, NOW), Verdict::Again);
            let tries = TRIES_AT_ONCE;
            assert_eq!(verdict(result, Circumstances { tries, ..NOW }), Verdict::Pause);
            let tried = Circumstances { tries: TRIES_MAX, worker: false, ..NOW };
            assert_eq!(verdict(result, tried), Verdict::Deliver(result));
            let asked = Circumstances { asked: true, ..NOW };
            assert_eq!(verdict(result, asked), Verdict::Deliver(result));
            let once = Circumstances { again: false, ..NOW };
            assert_eq!(verdict(result, once), Verdict::Deliver(result));
            let late = Circumstances { timed_out: true, ..NOW };
            assert_eq!(verdict(result, late), Verdict::Deliver(-110));
        }
        assert_eq!(verdict(-14, NOW), Verdict::Again);
        let tried = Circumstances { tries: TRIES_AT_ONCE, ..NOW };
        assert_eq!(verdict(-14, tried), Verdict::Deliver(-14));
    }

    #[test]
    fn a_worker_op_that_never_gets_a_worker_says_so() {
        let tried = Circumstances { tries: TRIES_MAX, ..NOW };
        assert_eq!(verdict(-125, tried), Verdict::Deliver(SATURATED));
        let stolen = Circumstances { stolen: true, ..NOW };
        assert_eq!(verdict(-125, stolen), Verdict::Deliver(SATURATED));
        assert_eq!(verdict(-4, stolen), Verdict::Again, "it had one");
        assert_eq!(verdict(7, stolen), Verdict::Deliver(7));
    }

    #[test]
    fn results_are_never_held_back() {
        for result in [0, 1, i32::MAX, -2, -11, -115, -515] {
            assert_eq!(verdict(result, NOW), Verdict::Deliver(result));
        }
    }

    #[test]
    fn a_slot_is_freed_only_by_a_take_after_its_last_cqe() {
        let states = [State::Waiting, State::Submitted, State::Done, State::Lost];
        for state in states {
            let (next, then) = step(state, Event::Take);
            assert_eq!(next == State::Free, state == State::Done, "{state:?}");
            assert_eq!(then == Then::Release, state == State::Done, "{state:?}");
        }
    }

    #[test]
    fn what_the_kernel_holds_is_never_buried() {
        for event in [Event::Drop, Event::Detach, Event::Cancel, Event::RingGone, Event::Take] {
            let (next, then) = step(State::Submitted, event);
            assert!(!matches!(then, Then::Bury | Then::Release), "{event:?}");
            assert!(!matches!(next, State::Free | State::Grave), "{event:?}");
        }
    }

    #[test]
    #[should_panic(expected = "LastCqe cannot happen to an op that is Done")]
    fn a_second_last_cqe_is_a_bug() {
        step(State::Done, Event::LastCqe);
    }

    #[test]
    fn a_cancel_that_missed_is_sent_again_a_bounded_number_of_times() {
        assert_eq!(cancel_answered(-2, 0), CancelThen::AskAgain);
        assert_eq!(cancel_answered(-2, CANCEL_RESENDS_MAX), CancelThen::Running);
        assert_eq!(cancel_answered(-114, 0), CancelThen::Running);
        assert_eq!(cancel_answered(0, 0), CancelThen::Wait);
        assert_eq!(cancel_answered(1, 0), CancelThen::Wait);
    }
}
