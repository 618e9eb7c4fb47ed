//! An answer as a line, and what a cancel may have made of it.
//!
//! Not: who asks (`play.rs`).

use std::io;

use deferring::BufResult;

pub(super) fn say<T: std::fmt::Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.to_string(),
    }
}

/// What a cancel may have made of an op.
pub(super) trait Answer {
    const IS_TRANSFER: bool;

    fn error(&self) -> Option<&io::Error>;

    fn is_cancelled(&self) -> bool {
        let errno = self.error().and_then(io::Error::raw_os_error);
        matches!(errno, Some(libc::ECANCELED | libc::EINTR))
    }
}

impl<T> Answer for io::Result<T> {
    const IS_TRANSFER: bool = false;

    fn error(&self) -> Option<&io::Error> {
        self.as_ref().err()
    }
}

impl<T, B> Answer for BufResult<T, B> {
    const IS_TRANSFER: bool = true;

    fn error(&self) -> Option<&io::Error> {
        self.0.as_ref().err()
    }
}
