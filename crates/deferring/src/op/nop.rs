//! Nothing, through the whole machinery.

use std::io;

use super::{Op, Opcode, Sqe, zero};
use crate::{Handle, Ring};

/// Does nothing: the cost of the journey itself.
///
/// Kernel: `IORING_OP_NOP`, since 5.1.
///
/// # Cancellation
/// Finishes inside the submit, so that only a cancel before it can be in time.
///
/// # Errors
/// None.
#[derive(Debug, Default)]
#[doc(alias = "IORING_OP_NOP")]
#[doc(alias = "noop")]
pub struct Nop {
    _private: (),
}

impl Nop {
    /// A nop.
    #[must_use]
    pub const fn new() -> Self {
        Self { _private: () }
    }
}

// SAFETY: names no memory.
unsafe impl Op for Nop {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::NOP;

    fn encode(&mut self, _: &mut Sqe) {}

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        zero(result)
    }
}

impl Ring {
    /// Queues a [`Nop`].
    #[doc(alias = "noop")]
    pub fn nop(&self) -> Handle<Nop> {
        self.queue(Nop::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        check_encode(Nop::new(), "Nop");
    }
}
