//! Bugs on purpose, to see that they are found. There are none but with `--cfg deferring_planted`, and
//! then only the one that `DEFERRING_PLANTED` names.
//!
//! Those that make ops cost more are in `slow.rs`. Not: who finds them (`cargo xtask sim --planted`,
//! `cargo xtask gates --planted`).

mod slow;

pub(crate) use slow::{slow_lock, slow_op};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A slot is freed by the answer to its cancel, before its own.
    EarlyFree,
    /// A cancel is not sent, now and then.
    LostCancel,
    /// A credit is not given back.
    LostCredit,
    /// Each op allocates.
    Allocation,
    /// Whoever takes the lock of a ring takes another one first.
    SecondLock,
    /// Each op is submitted by itself.
    SubmitEach,
}

/// Whether this bug is there.
#[cfg(not(deferring_planted))]
pub(crate) const fn has(_: Bug) -> bool {
    false
}

/// Whether this bug is there.
#[cfg(deferring_planted)]
pub(crate) fn has(bug: Bug) -> bool {
    static BUG: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    let planted = BUG.get_or_init(|| match std::env::var("DEFERRING_PLANTED").as_deref() {
        Ok("early-free") => Some(Bug::EarlyFree),
        Ok("lost-cancel") => Some(Bug::LostCancel),
        Ok("lost-credit") => Some(Bug::LostCredit),
        Ok("allocation") => Some(Bug::Allocation),
        Ok("second-lock") => Some(Bug::SecondLock),
        Ok("submit-each") => Some(Bug::SubmitEach),
        Ok(other) => panic!("DEFERRING_PLANTED={other:?} is none of those that planted.rs has"),
        Err(_) => None,
    });
    *planted == Some(bug)
}
