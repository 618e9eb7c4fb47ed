//! Which operations this kernel has.
#![allow(unsafe_code)] // Has the kernel fill an array.

use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::io_uring::{IoringRegisterOp, io_uring_register};

use crate::op::Opcode;

const OPS_MAX: u32 = 256;

/// `struct io_uring_probe` with room for every opcode, as plain numbers: a newer kernel's opcodes
/// are not in anybody's enum.
#[repr(C)]
struct Answer {
    last_op: u8,
    ops_len: u8,
    reserved: [u16; 7],
    ops: [AnswerOp; OPS_MAX as usize],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct AnswerOp {
    op: u8,
    reserved: u8,
    flags: u16,
    reserved2: u32,
}

const _: () = assert!(size_of::<Answer>() == 16 + 8 * OPS_MAX as usize);
const SUPPORTED: u16 = 1;

/// The operations that a kernel has.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    supported: [u64; OPS_MAX as usize / 64],
}

impl Probe {
    pub(crate) fn of_ring(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut answer = Answer {
            last_op: 0,
            ops_len: 0,
            reserved: [0; 7],
            ops: [AnswerOp { op: 0, reserved: 0, flags: 0, reserved2: 0 }; OPS_MAX as usize],
        };
        let op = IoringRegisterOp::RegisterProbe;
        // SAFETY: the argument is memory of ours with room for the count given; any bytes make
        // valid numbers.
        unsafe { io_uring_register(fd, op, (&raw mut answer).cast(), OPS_MAX)? };
        let mut supported = [0; OPS_MAX as usize / 64];
        for each in &answer.ops[..usize::from(answer.ops_len)] {
            if each.flags & SUPPORTED != 0 {
                supported[usize::from(each.op) / 64] |= 1 << (each.op % 64);
            }
        }
        Ok(Self { supported })
    }

    /// Of a kernel that has these.
    pub(crate) fn of_opcodes(opcodes: impl IntoIterator<Item = Opcode>) -> Self {
        let mut supported = [0; OPS_MAX as usize / 64];
        for Opcode(op) in opcodes {
            supported[usize::from(op) / 64] |= 1 << (op % 64);
        }
        Self { supported }
    }

    /// Has these, too.
    pub(crate) fn add(&mut self, more: &Self) {
        for (ours, theirs) in self.supported.iter_mut().zip(more.supported) {
            *ours |= theirs;
        }
    }

    /// Of a kernel that has everything.
    #[cfg(all(test, any(loom, shuttle)))]
    pub(crate) const fn everything() -> Self {
        Self { supported: [u64::MAX; OPS_MAX as usize / 64] }
    }

    pub(crate) const fn supports(&self, opcode: Opcode) -> bool {
        self.supported[(opcode.0 / 64) as usize] & 1 << (opcode.0 % 64) != 0
    }
}
