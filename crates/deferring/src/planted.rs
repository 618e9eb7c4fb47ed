//! Bugs on purpose, to see that they are found. There are none but with `--cfg deferring_planted`, and
//! then only the one that `DEFERRING_PLANTED` names.
//!
//! Not: who finds them (`cargo xtask sim --planted`).

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A slot is freed by the answer to its cancel, before its own.
    EarlyFree,
    /// A cancel is not sent, now and then.
    LostCancel,
    /// A credit is not given back.
    LostCredit,
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
        Ok(other) => panic!("DEFERRING_PLANTED={other:?}: early-free, lost-cancel or lost-credit"),
        Err(_) => None,
    });
    *planted == Some(bug)
}
