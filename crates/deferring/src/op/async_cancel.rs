//! The cancel of one op, by its token.
//!
//! Not an [`Op`](super::Op): a cancel has no slot of its own. It travels in the cancel lane
//! (`inflight/mod.rs`), and its CQE carries the token of the op that it is about.

use super::{Opcode, Sqe};
use crate::inflight::Token;

/// Asks the kernel to stop one op, best effort.
///
/// Kernel: `IORING_OP_ASYNC_CANCEL`, since 5.5, matched by `user_data`. The token has a
/// generation, so that a late cancel hits its own op or none.
#[doc(alias = "IORING_OP_ASYNC_CANCEL")]
pub(crate) struct AsyncCancel {
    target: Token,
}

impl AsyncCancel {
    pub(crate) const CODE: Opcode = Opcode::ASYNC_CANCEL;

    pub(crate) const fn of(target: Token) -> Self {
        Self { target }
    }

    pub(crate) fn encode(&self, sqe: &mut Sqe) {
        sqe.addr = self.target.user_data();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes() {
        let mut sqe = Sqe { opcode: AsyncCancel::CODE, ..Sqe::EMPTY };
        AsyncCancel::of(Token::new(7, 0)).encode(&mut sqe);
        assert_eq!(format!("{sqe:?}"), "AsyncCancel target=(Op 7.0)");
    }
}
