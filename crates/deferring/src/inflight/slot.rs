//! The life of an op, as one pure table.
//!
//! | state \ event | admit     | last CQE   | take    | drop               | detach    | cancel       | ring gone  |
//! |---------------|-----------|------------|---------|--------------------|-----------|--------------|------------|
//! | `Free`        | –         | –          | –       | –                  | –         | –            | –          |
//! | `Waiting`     | Submitted | –          | pending | Grave              | Drifting  | Done, wake   | Done, wake |
//! | `Drifting`    | Orphaned  | –          | –       | –                  | –         | –            | Grave      |
//! | `Submitted`   | –         | Done, wake | pending | Orphaned, cancel   | Orphaned  | send cancel  | Lost, wake |
//! | `Orphaned`    | –         | Grave      | –       | –                  | –         | send cancel  | Leaked     |
//! | `Done`        | –         | –          | Free    | Grave              | Grave     | finished     | stays      |
//! | `Grave`       | –         | –          | –       | –                  | –         | –            | stays      |
//! | `Lost`        | –         | stays      | Leaked  | Leaked             | Leaked    | finished     | stays      |
//! | `Leaked`      | –         | stays      | –       | –                  | –         | finished     | stays      |
//!
//! - *Waiting*: in our queue, the handle is held. *Drifting*: the same, detached.
//! - *Submitted*: an SQE names it, the handle is held. *Orphaned*: the same, nobody will take it.
//! - *Done*: the result is here, the handle will take it. *Grave*: the result is here, nobody will;
//!   it is dropped as soon as the ring is unlocked, which makes the row *Free*.
//! - *Lost*: the ring is gone and the kernel has not let go; the handle gets an error. *Leaked*:
//!   the same, without a handle. Neither is ever freed.
//!
//! A dash is an event that cannot happen; it is a bug of ours, and panics before it writes.
//! What follows from a [`Then`] is done in `mod.rs`. Cancels have a small life of their own, [`Cancel`].

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

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Admit,
    LastCqe,
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
        (State::Drifting, Event::RingGone)   => (State::Grave, Then::Bury),

        (State::Submitted, Event::LastCqe)   => (State::Done, Then::Wake),
        (State::Submitted, Event::Take)      => (State::Submitted, Then::Pending),
        (State::Submitted, Event::Drop)      => (State::Orphaned, Then::SendCancel),
        (State::Submitted, Event::Detach)    => (State::Orphaned, Then::Nothing),
        (State::Submitted, Event::Cancel)    => (State::Submitted, Then::SendCancel),
        (State::Submitted, Event::RingGone)  => (State::Lost, Then::Wake),

        (State::Orphaned, Event::LastCqe)    => (State::Grave, Then::Bury),
        (State::Orphaned, Event::Cancel)     => (State::Orphaned, Then::SendCancel),
        (State::Orphaned, Event::RingGone)   => (State::Leaked, Then::Leak),

        (State::Done, Event::Take)           => (State::Free, Then::Release),
        (State::Done, Event::Drop)           => (State::Grave, Then::Bury),
        (State::Done, Event::Detach)         => (State::Grave, Then::Bury),
        (State::Done, Event::Cancel)         => (State::Done, Then::Nothing),
        (State::Done, Event::RingGone)       => (State::Done, Then::Nothing),

        (State::Grave, Event::RingGone)      => (State::Grave, Then::Nothing),

        (State::Lost, Event::LastCqe)        => (State::Lost, Then::Nothing),
        (State::Lost, Event::Take)           => (State::Leaked, Then::Leak),
        (State::Lost, Event::Drop)           => (State::Leaked, Then::Leak),
        (State::Lost, Event::Detach)         => (State::Leaked, Then::Leak),
        (State::Lost, Event::Cancel)         => (State::Lost, Then::Nothing),
        (State::Lost, Event::RingGone)       => (State::Lost, Then::Nothing),

        (State::Leaked, Event::LastCqe)      => (State::Leaked, Then::Nothing),
        (State::Leaked, Event::Cancel)       => (State::Leaked, Then::Nothing),
        (State::Leaked, Event::RingGone)     => (State::Leaked, Then::Nothing),

        (State::Free, Event::Admit | Event::LastCqe | Event::Take | Event::Drop | Event::Detach
            | Event::Cancel | Event::RingGone)
        | (State::Waiting, Event::LastCqe)
        | (State::Drifting, Event::LastCqe | Event::Take | Event::Drop | Event::Detach
            | Event::Cancel)
        | (State::Submitted | State::Orphaned | State::Done | State::Grave | State::Lost
            | State::Leaked, Event::Admit)
        | (State::Orphaned, Event::Take | Event::Drop | Event::Detach)
        | (State::Done, Event::LastCqe)
        | (State::Grave, Event::LastCqe | Event::Take | Event::Drop | Event::Detach
            | Event::Cancel)
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
    const NOT_FOUND: i32 = -rustix::io::Errno::NOENT.raw_os_error();
    match result {
        0.. => CancelThen::Wait,
        NOT_FOUND if resends < CANCEL_RESENDS_MAX => CancelThen::AskAgain,
        _ => CancelThen::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
