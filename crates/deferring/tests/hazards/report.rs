//! What a hazard says when it is over, and how much of it is asked for.
//!
//! Not results: those are asserted where they are seen.

use std::fmt;
use std::io::{self, Write as _};
use std::time::Instant;

/// A hazard that has begun.
#[must_use = "say what it saw, by `saw`"]
pub(crate) struct Hazard {
    number: u8,
    start: Instant,
}

impl Hazard {
    pub(crate) fn begin(number: u8) -> Self {
        Self { number, start: Instant::now() }
    }

    /// Says what was seen; not captured, so that it is read.
    pub(crate) fn saw(self, what: impl fmt::Display) {
        let time = self.start.elapsed();
        let _ = writeln!(io::stderr(), "hazard {:2}: {what}, in {time:.1?}", self.number);
    }
}

/// Whether the long form is asked for, by `DEFERRING_HAZARDS=long`.
pub(crate) fn long() -> bool {
    std::env::var_os("DEFERRING_HAZARDS").is_some_and(|asked| asked == "long")
}
