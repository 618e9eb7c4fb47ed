//! What a ring tells to [`tracing`](https://docs.rs/tracing), if the feature `tracing` is on.
//!
//! A span for each op, at trace level, and an event for whatever is out of the ordinary. A
//! subscriber is the user's code, so that all is collected under the lock and told after it (P11).
//! Without the feature nothing of this is there. Not: numbers (`stats.rs`).

use crate::op::Opcode;

/// Something worth telling.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "tracing"), allow(dead_code))] // Nobody to tell.
pub(crate) enum Note {
    /// Ops that hold a worker for longer than a tick.
    Stuck { ops: usize },
    /// The limit on workers is now this.
    Workers { limit: u32 },
    /// The limit cannot be changed.
    WorkersFixed { limit: u32, errno: i32 },
    /// Completions did not fit into their queue.
    Overflow,
    /// An op goes again.
    Resubmit { opcode: Opcode, result: i32, tries: u8 },
    /// The system gives no more workers.
    Saturated { failed: usize, stolen: usize },
    /// Ops are given up for good.
    Leak { ops: usize },
    /// The kernel refuses the ring.
    Poisoned { errno: i32 },
}

#[cfg(not(feature = "tracing"))]
mod off {
    use std::io;

    use super::{Note, Opcode};
    use crate::notify::Calls;

    #[derive(Debug, Default)]
    pub(crate) struct Notes;

    #[allow(clippy::unused_self)] // The same as with the feature.
    impl Notes {
        pub(crate) const fn push(&mut self, _: Note) {}
        pub(crate) const fn append(&mut self, _: &mut Self) {}
        pub(crate) const fn tell(&mut self, _: &mut Calls) {}
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Span;

    impl Span {
        pub(crate) const fn of_op(_: Opcode) -> Self {
            Self
        }

        pub(crate) fn end(self, _: &io::Result<u32>) {}
    }

    pub(crate) struct Spans;

    #[allow(clippy::unused_self)] // The same as with the feature.
    impl Spans {
        pub(crate) const fn new() -> Self {
            Self
        }

        pub(crate) const fn begin(&mut self, _: u32, _: Span) {}

        pub(crate) const fn end(&mut self, _: u32, _: i32, _: &mut Notes) {}
    }
}

#[cfg(not(feature = "tracing"))]
pub(crate) use off::{Notes, Span, Spans};

#[cfg(feature = "tracing")]
mod on {
    use std::io;

    use tracing::level_filters::LevelFilter;
    use tracing::{Level, field};

    use super::{Note, Opcode};
    use crate::notify::Calls;

    /// What is to be told once nothing is locked.
    #[derive(Debug, Default)]
    pub(crate) struct Notes {
        notes: Vec<Note>,
        ended: Vec<(tracing::Span, i32)>,
    }

    impl Notes {
        /// Keeps a note if anybody may want it. (To ask that is no user's code.)
        pub(crate) fn push(&mut self, note: Note) {
            if LevelFilter::current() >= note.level() {
                self.notes.push(note);
            }
        }

        pub(crate) fn append(&mut self, others: &mut Self) {
            self.notes.append(&mut others.notes);
            self.ended.append(&mut others.ended);
        }

        /// Tells each by itself: a panic in one keeps nobody else from being told.
        pub(crate) fn tell(&mut self, calls: &mut Calls) {
            for (span, result) in self.ended.drain(..) {
                calls.call(|| {
                    span.record("result", result);
                });
                calls.call(|| drop(span));
            }
            for note in self.notes.drain(..) {
                calls.call(|| tell(note));
            }
        }
    }

    impl Note {
        const fn level(self) -> Level {
            match self {
                Self::Stuck { .. }
                | Self::Workers { .. }
                | Self::Overflow
                | Self::Resubmit { .. } => Level::DEBUG,
                Self::WorkersFixed { .. } | Self::Saturated { .. } => Level::WARN,
                Self::Leak { .. } | Self::Poisoned { .. } => Level::ERROR,
            }
        }
    }

    fn tell(note: Note) {
        match note {
            Note::Stuck { ops } => tracing::debug!(ops, "stuck: their workers are replaced"),
            Note::Workers { limit } => tracing::debug!(limit, "the limit on workers was changed"),
            Note::WorkersFixed { limit, errno } => {
                tracing::warn!(limit, errno, "the limit on workers cannot be changed");
            }
            Note::Overflow => tracing::debug!("completions overflowed, and were fetched"),
            Note::Resubmit { opcode, result, tries } => {
                tracing::debug!(?opcode, result, tries, "given back undone: sent again");
            }
            Note::Saturated { failed, stolen } => {
                tracing::warn!(failed, stolen, "saturated: the system gives no more workers");
            }
            Note::Leak { ops } => {
                tracing::error!(ops, "leaked: the kernel does not let go of them")
            }
            Note::Poisoned { errno } => {
                tracing::error!(errno, "poisoned: the kernel refuses the ring for good");
            }
        }
    }

    /// The span of one op, made before anything is locked.
    pub(crate) struct Span(tracing::Span);

    impl Span {
        pub(crate) fn of_op(opcode: Opcode) -> Self {
            Self(tracing::trace_span!("op", ?opcode, result = field::Empty))
        }

        /// The op has ended at once. With nothing locked.
        pub(crate) fn end(self, result: &io::Result<u32>) {
            match result {
                Ok(value) => self.0.record("result", value),
                Err(error) => self.0.record("result", error.raw_os_error().map(|errno| -errno)),
            };
        }
    }

    /// The spans of ops that are out, by row.
    pub(crate) struct Spans {
        spans: Vec<tracing::Span>,
    }

    impl Spans {
        pub(crate) const fn new() -> Self {
            Self { spans: Vec::new() }
        }

        pub(crate) fn begin(&mut self, index: u32, Span(span): Span) {
            if span.is_disabled() {
                return;
            }
            let index = index as usize;
            if self.spans.len() <= index {
                self.spans.resize_with(index + 1, tracing::Span::none);
            }
            self.spans[index] = span;
        }

        pub(crate) fn end(&mut self, index: u32, result: i32, notes: &mut Notes) {
            if let Some(span) = self.spans.get_mut(index as usize) {
                let span = std::mem::replace(span, tracing::Span::none());
                if !span.is_disabled() {
                    notes.ended.push((span, result));
                }
            }
        }
    }
}

#[cfg(feature = "tracing")]
pub(crate) use on::{Notes, Span, Spans};
