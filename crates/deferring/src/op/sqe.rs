//! The question an op asks of a kernel, and the answer: SQE and CQE.
//!
//! This is the seam: everything above it is the same whichever kernel answers. Not: ring memory
//! (`backend/`), nor any op (its own file).

use std::fmt;

/// The number of a kernel operation, as in `IORING_OP_*`.
///
/// A newtype rather than an enum: a kernel newer than this crate has operations that it does not
/// know, and you can still write an [`Op`](crate::op::Op) for them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Opcode(pub u8);

macro_rules! opcodes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal;)*) => {
        impl Opcode {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// The operation's name, `None` for one that this crate has no name for.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    Self(_) => None,
                }
            }
        }
    };
}

opcodes! {
    /// `IORING_OP_NOP`, since 5.1.
    NOP = 0 "Nop";
    /// `IORING_OP_READV`, since 5.1.
    READV = 1 "Readv";
    /// `IORING_OP_WRITEV`, since 5.1.
    WRITEV = 2 "Writev";
    /// `IORING_OP_FSYNC`, since 5.1.
    FSYNC = 3 "Fsync";
    /// `IORING_OP_POLL_ADD`, since 5.1.
    POLL_ADD = 6 "PollAdd";
    /// `IORING_OP_POLL_REMOVE`, since 5.1; updates since 5.13.
    POLL_REMOVE = 7 "PollRemove";
    /// `IORING_OP_TIMEOUT`, since 5.4.
    TIMEOUT = 11 "Timeout";
    /// `IORING_OP_TIMEOUT_REMOVE`, since 5.5; updates since 5.11.
    TIMEOUT_REMOVE = 12 "TimeoutRemove";
    /// `IORING_OP_ASYNC_CANCEL`, since 5.5.
    ASYNC_CANCEL = 14 "AsyncCancel";
    /// `IORING_OP_FALLOCATE`, since 5.6.
    FALLOCATE = 17 "Fallocate";
    /// `IORING_OP_CLOSE`, since 5.6.
    CLOSE = 19 "Close";
    /// `IORING_OP_STATX`, since 5.6.
    STATX = 21 "Statx";
    /// `IORING_OP_READ`, since 5.6.
    READ = 22 "Read";
    /// `IORING_OP_WRITE`, since 5.6.
    WRITE = 23 "Write";
    /// `IORING_OP_FADVISE`, since 5.6.
    FADVISE = 24 "Fadvise";
    /// `IORING_OP_SEND`, since 5.6.
    SEND = 26 "Send";
    /// `IORING_OP_RECV`, since 5.6.
    RECV = 27 "Recv";
    /// `IORING_OP_OPENAT2`, since 5.6.
    OPENAT2 = 28 "Openat2";
    /// `IORING_OP_RENAMEAT`, since 5.11.
    RENAMEAT = 35 "Renameat";
    /// `IORING_OP_UNLINKAT`, since 5.11.
    UNLINKAT = 36 "Unlinkat";
    /// `IORING_OP_MKDIRAT`, since 5.15.
    MKDIRAT = 37 "Mkdirat";
    /// `IORING_OP_SYMLINKAT`, since 5.15.
    SYMLINKAT = 38 "Symlinkat";
    /// `IORING_OP_LINKAT`, since 5.15.
    LINKAT = 39 "Linkat";
    /// `IORING_OP_FTRUNCATE`, since 6.9.
    FTRUNCATE = 55 "Ftruncate";
}

impl fmt::Debug for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Opcode({})", self.0),
        }
    }
}

/// A submission queue entry: 64 bytes that ask the kernel one thing.
///
/// The layout is that of `struct io_uring_sqe`. Fields that the kernel overlays with several
/// meanings carry the most usual name; `io_uring_enter(2)` says which op reads which. Setting a
/// field is safe: that the numbers and addresses are good is the promise of the
/// [`Op`](crate::op::Op) that sets them.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sqe {
    /// What to do. Set by the ring from [`Op::CODE`](crate::op::Op::CODE).
    pub opcode: Opcode,
    /// `IOSQE_*` flags.
    pub flags: u8,
    /// I/O priority, or flags of some network ops.
    pub ioprio: u16,
    /// The descriptor to work on, or the directory of a path.
    pub fd: i32,
    /// An offset; a second address (`addr2`) of some ops.
    pub off: u64,
    /// The address of a buffer, path or argument.
    pub addr: u64,
    /// A length in bytes, a count, or a mode.
    pub len: u32,
    /// The flags of this op: `rw_flags`, `open_flags`, `poll32_events`, and so on.
    pub op_flags: u32,
    /// The slot's token. Set by the ring.
    pub user_data: u64,
    /// The index or group of a registered buffer.
    pub buf_index: u16,
    /// A registered personality.
    pub personality: u16,
    /// A direct descriptor slot, or `splice_fd_in`.
    pub file_index: u32,
    /// A third address of some ops.
    pub addr3: u64,
    /// Must be zero.
    pub pad: u64,
}

const _: () = assert!(size_of::<Sqe>() == 64, "must be the kernel's struct io_uring_sqe");

impl Sqe {
    /// An SQE that asks for nothing yet.
    pub const EMPTY: Self = Self {
        opcode: Opcode::NOP,
        flags: 0,
        ioprio: 0,
        fd: -1,
        off: 0,
        addr: 0,
        len: 0,
        op_flags: 0,
        user_data: 0,
        buf_index: 0,
        personality: 0,
        file_index: 0,
        addr3: 0,
        pad: 0,
    };

    /// The text that encode tests compare: as `Debug`, without addresses.
    #[cfg(test)]
    pub(crate) fn without_addresses(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, false).expect("a String takes everything");
        text
    }
}

impl fmt::Debug for Sqe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, true)
    }
}

/// A completion queue entry: the answer to one SQE.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cqe {
    /// The token of the SQE that this answers.
    pub user_data: u64,
    /// A result >= 0, or a negated errno.
    pub result: i32,
    /// `IORING_CQE_F_*` flags.
    pub flags: u32,
}

const _: () = assert!(size_of::<Cqe>() == 16, "must be the kernel's struct io_uring_cqe");

impl Cqe {
    /// `IORING_CQE_F_MORE`: the SQE will have another CQE.
    const MORE: u32 = 1 << 1;
    /// `IORING_CQE_F_NOTIF`: says that memory was handed back; carries no result.
    const NOTIFICATION: u32 = 1 << 3;

    /// Whether another CQE of the same SQE will come.
    #[must_use]
    pub const fn more(self) -> bool {
        self.flags & Self::MORE != 0
    }

    /// Whether there are or will be others of the same SQE.
    pub(crate) const fn is_one_of_several(self) -> bool {
        self.flags & (Self::MORE | Self::NOTIFICATION) != 0
    }

    /// Whether this only says that the kernel has let go of the memory (zero-copy sends).
    #[must_use]
    pub const fn notification(self) -> bool {
        self.flags & Self::NOTIFICATION != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_names_the_op_and_what_it_says() {
        let sqe = Sqe { opcode: Opcode::READ, fd: 3, addr: 0xdead_beef_0000, len: 7, ..Sqe::EMPTY };
        assert_eq!(format!("{sqe:?}"), "Read fd=3 buf=0xdeadbeef0000 len=7");
        assert_eq!(sqe.without_addresses(), "Read fd=3 buf=ptr len=7");
        let sqe = Sqe { off: u64::MAX, flags: 1 << 4, ..sqe };
        assert_eq!(
            sqe.without_addresses(),
            "Read fd=3 buf=ptr offset=CURRENT len=7 sqe_flags=ASYNC"
        );
        let sqe = Sqe { opcode: Opcode(200), fd: 3, addr: 1, op_flags: 6, ..Sqe::EMPTY };
        assert_eq!(format!("{sqe:?}"), "Opcode(200) fd=3 addr=0x1 flags=0x6");
        assert_eq!(format!("{:?}", Opcode(200)), "Opcode(200)");
    }
}
