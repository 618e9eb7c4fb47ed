//! Another op, as ops that change or end it name it.

use std::io;

use rustix::io::Errno;

use super::Op;
use crate::Handle;
use crate::inflight::Token;

/// The token of the op in question. It has a generation: once that op has ended, it names none.
#[derive(Debug)]
pub(super) struct Target(Option<Token>);

impl Target {
    pub(super) fn of<T: Op>(handle: &Handle<T>) -> Self {
        Self(handle.target())
    }

    /// Refuses a target that was refused itself: there is no such op.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.0.is_some() { Ok(()) } else { Err(Errno::NOENT.into()) }
    }

    pub(super) fn user_data(&self) -> u64 {
        self.0.map_or(0, Token::user_data)
    }

    #[cfg(test)]
    pub(super) fn numbered_for_tests(index: u32) -> Self {
        Self(Some(Token::new(index, 0)))
    }
}
