//! An SQE in words: the fields that say something, by what they mean to that operation.
//!
//! Not: the SQE (`sqe.rs`). An operation that is not in the table is written with the kernel's
//! names of the fields.

use std::fmt::{Result, Write};

use rustix::event::PollFlags;
use rustix::fs::{AtFlags, FallocateFlags, RenameFlags, StatxFlags};
use rustix::net::{RecvFlags, SendFlags};

use super::{Opcode, Sqe};
use crate::inflight::Token;

/// What a field means.
#[derive(Clone, Copy)]
enum Meaning {
    /// A number.
    Number,
    /// An address, or nothing.
    Address,
    /// A position in a file; the largest is the file position.
    Offset,
    /// A directory's descriptor.
    Directory,
    /// The token of another op.
    Target,
    /// Permissions.
    Mode,
    /// Bits with names.
    Bits(fn(u32) -> String),
}

type Field = (&'static str, Meaning);

/// The fields of one operation, in the order of `fd`, `addr`, `off`, `len`, `op_flags`.
type Fields = [Field; 5];

const UNKNOWN: Fields = [
    ("fd", Meaning::Number),
    ("addr", Meaning::Address),
    ("off", Meaning::Number),
    ("len", Meaning::Number),
    ("flags", Meaning::Bits(hex)),
];

fn fields(opcode: Opcode) -> Fields {
    use Meaning::{Address, Bits, Directory, Mode, Number, Offset, Target};
    let [fd, addr, off, len, flags] = UNKNOWN;
    match opcode {
        Opcode::READ | Opcode::WRITE => [fd, ("buf", Address), ("offset", Offset), len, flags],
        Opcode::SEND => [fd, ("buf", Address), off, len, ("flags", Bits(send))],
        Opcode::RECV => [fd, ("buf", Address), off, len, ("flags", Bits(recv))],
        Opcode::READV | Opcode::WRITEV => {
            [fd, ("iovecs", Address), ("offset", Offset), ("count", Number), flags]
        }
        Opcode::OPENAT2 => {
            [("dir", Directory), ("path", Address), ("how", Address), ("how_len", Number), flags]
        }
        Opcode::STATX => [
            ("dir", Directory),
            ("path", Address),
            ("answer", Address),
            ("mask", Bits(statx)),
            ("flags", Bits(at)),
        ],
        Opcode::UNLINKAT => [("dir", Directory), ("path", Address), off, len, ("flags", Bits(at))],
        Opcode::MKDIRAT => [("dir", Directory), ("path", Address), off, ("mode", Mode), flags],
        Opcode::RENAMEAT => [
            ("from_dir", Directory),
            ("from", Address),
            ("to", Address),
            ("to_dir", Directory),
            ("flags", Bits(rename)),
        ],
        Opcode::LINKAT => [
            ("target_dir", Directory),
            ("target", Address),
            ("link", Address),
            ("link_dir", Directory),
            ("flags", Bits(at)),
        ],
        Opcode::SYMLINKAT => {
            [("link_dir", Directory), ("target", Address), ("link", Address), len, flags]
        }
        Opcode::TIMEOUT => {
            [fd, ("time", Address), ("count", Number), ("times", Number), ("flags", Bits(timeout))]
        }
        Opcode::TIMEOUT_REMOVE => {
            [fd, ("target", Target), ("time", Address), len, ("flags", Bits(timeout))]
        }
        Opcode::POLL_ADD => [fd, addr, off, ("mode", Bits(poll_mode)), ("events", Bits(poll))],
        Opcode::POLL_REMOVE => [
            fd,
            ("target", Target),
            ("new_target", Address),
            ("mode", Bits(poll_mode)),
            ("events", Bits(poll)),
        ],
        Opcode::ASYNC_CANCEL => [fd, ("target", Target), off, len, flags],
        Opcode::FSYNC => [fd, addr, ("offset", Offset), len, ("flags", Bits(fsync))],
        Opcode::FALLOCATE => {
            [fd, ("length", Number), ("offset", Offset), ("mode", Bits(fallocate)), flags]
        }
        Opcode::FTRUNCATE => [fd, addr, ("length", Number), len, flags],
        Opcode::FADVISE => [fd, addr, ("offset", Offset), len, ("advice", Number)],
        _ => UNKNOWN,
    }
}

impl Sqe {
    /// Writes `Read fd=3 buf=0x7f… len=4096`: the name, then the fields that say something. With
    /// `addresses` false they become `ptr`, so that a test can compare.
    pub(super) fn write(&self, f: &mut dyn Write, addresses: bool) -> Result {
        write!(f, "{:?}", self.opcode)?;
        let fd = u32::from_ne_bytes(self.fd.to_ne_bytes());
        let values = [fd.into(), self.addr, self.off, self.len.into(), self.op_flags.into()];
        for ((name, meaning), value) in fields(self.opcode).into_iter().zip(values) {
            // No descriptor at all, where one would be a plain one.
            let is_none = name == "fd" && self.fd == -1;
            if !is_none && (value != 0 || meaning.counts_zero() || name == "fd") {
                write_field(f, name, meaning, value, addresses)?;
            }
        }
        self.write_rest(f, addresses)
    }

    /// The fields that mean the same in all operations.
    fn write_rest(&self, f: &mut dyn Write, addresses: bool) -> Result {
        let rest = [
            ("addr3", Meaning::Address, self.addr3),
            ("sqe_flags", Meaning::Bits(sqe_flags), self.flags.into()),
            ("ioprio", Meaning::Bits(hex), self.ioprio.into()),
            ("buf_index", Meaning::Number, self.buf_index.into()),
            ("personality", Meaning::Number, self.personality.into()),
            ("file_index", Meaning::Number, self.file_index.into()),
        ];
        for (name, meaning, value) in rest {
            if value != 0 {
                write_field(f, name, meaning, value, addresses)?;
            }
        }
        Ok(())
    }
}

impl Meaning {
    const fn counts_zero(self) -> bool {
        matches!(self, Self::Directory | Self::Target)
    }
}

#[allow(clippy::cast_possible_truncation)] // Fields of 32 bits, as 64.
fn write_field(
    f: &mut dyn Write,
    name: &str,
    meaning: Meaning,
    value: u64,
    addresses: bool,
) -> Result {
    const CWD: u32 = 0u32.wrapping_sub(100);
    match meaning {
        Meaning::Address if !addresses => write!(f, " {name}=ptr"),
        Meaning::Address => write!(f, " {name}={value:#x}"),
        Meaning::Offset if value == u64::MAX => write!(f, " {name}=CURRENT"),
        Meaning::Directory if value as u32 == CWD => write!(f, " {name}=CWD"),
        Meaning::Number | Meaning::Offset | Meaning::Directory => write!(f, " {name}={value}"),
        Meaning::Target => write!(f, " {name}=({:?})", Token::from_user_data(value)),
        Meaning::Mode => write!(f, " {name}={value:#o}"),
        Meaning::Bits(names) => write!(f, " {name}={}", names(value as u32)),
    }
}

// Bits by name; those without one as a number.

fn hex(bits: u32) -> String {
    format!("{bits:#x}")
}

fn named(bits: u32, names: impl IntoIterator<Item = (&'static str, u32)>) -> String {
    let (mut text, mut left) = (Vec::new(), bits);
    for (name, bit) in names {
        if bit != 0 && left & bit == bit {
            text.push(name.to_owned());
            left &= !bit;
        }
    }
    if left != 0 || text.is_empty() {
        text.push(hex(left));
    }
    text.join("|")
}

fn sqe_flags(bits: u32) -> String {
    const NAMES: [(&str, u32); 7] = [
        ("FIXED_FILE", 1),
        ("IO_DRAIN", 1 << 1),
        ("IO_LINK", 1 << 2),
        ("IO_HARDLINK", 1 << 3),
        ("ASYNC", 1 << 4),
        ("BUFFER_SELECT", 1 << 5),
        ("CQE_SKIP_SUCCESS", 1 << 6),
    ];
    named(bits, NAMES)
}

fn fsync(bits: u32) -> String {
    named(bits, [("DATASYNC", 1)])
}

fn timeout(bits: u32) -> String {
    const NAMES: [(&str, u32); 7] = [
        ("ABS", 1),
        ("UPDATE", 1 << 1),
        ("BOOTTIME", 1 << 2),
        ("REALTIME", 1 << 3),
        ("LINK_TIMEOUT_UPDATE", 1 << 4),
        ("ETIME_SUCCESS", 1 << 5),
        ("MULTISHOT", 1 << 6),
    ];
    named(bits, NAMES)
}

fn poll(bits: u32) -> String {
    let bits = if cfg!(target_endian = "big") { bits.rotate_left(16) } else { bits };
    let all = PollFlags::all();
    named(bits, all.iter_names().map(|(name, flag)| (name, flag.bits().into())))
}

fn poll_mode(bits: u32) -> String {
    const NAMES: [(&str, u32); 4] =
        [("MULTI", 1), ("UPDATE_EVENTS", 1 << 1), ("UPDATE_USER_DATA", 1 << 2), ("LEVEL", 1 << 3)];
    named(bits, NAMES)
}

fn statx(bits: u32) -> String {
    match bits {
        bits if bits == StatxFlags::BASIC_STATS.bits() => "BASIC_STATS".to_owned(),
        bits => {
            let all = StatxFlags::all() - StatxFlags::BASIC_STATS;
            let each = StatxFlags::BASIC_STATS.iter_names().chain(all.iter_names());
            let single = each.filter(|(_, flag)| flag.bits().is_power_of_two());
            named(bits, single.map(|(name, flag)| (name, flag.bits())))
        }
    }
}

fn at(bits: u32) -> String {
    named(bits, AtFlags::all().iter_names().map(|(name, flag)| (name, flag.bits())))
}

fn send(bits: u32) -> String {
    named(bits, SendFlags::all().iter_names().map(|(name, flag)| (name, flag.bits())))
}

fn recv(bits: u32) -> String {
    named(bits, RecvFlags::all().iter_names().map(|(name, flag)| (name, flag.bits())))
}

fn rename(bits: u32) -> String {
    named(bits, RenameFlags::all().iter_names().map(|(name, flag)| (name, flag.bits())))
}

fn fallocate(bits: u32) -> String {
    named(bits, FallocateFlags::all().iter_names().map(|(name, flag)| (name, flag.bits())))
}
