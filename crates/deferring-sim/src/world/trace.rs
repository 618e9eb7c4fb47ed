//! What happened, as text, for somebody who reads it.
//!
//! Not: whether anybody wants it (`Sim::traced`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use deferring::op::{Opcode, Sqe};
use rustix::fs::AtFlags;

use super::memory;
use super::ops::OpId;

#[derive(Debug, Default)]
pub(super) struct Trace {
    text: Option<String>,
    /// The path by which each file was opened.
    paths: BTreeMap<u64, String>,
}

impl Trace {
    pub(super) fn begin(&mut self) {
        self.text.get_or_insert_default();
    }

    pub(super) const fn is_on(&self) -> bool {
        self.text.is_some()
    }

    /// A file was opened by the path that an SQE names.
    pub(super) fn opened(&mut self, serial: u64, sqe: &Sqe) {
        if self.is_on() {
            self.paths.insert(serial, memory::path(sqe.addr).map_or_else(|_| "?".into(), text));
        }
    }

    /// What a descriptor is called, if it is one.
    pub(super) fn name(&self, serial: Option<u64>) -> String {
        let Some(serial) = serial else { return "here".into() };
        match self.paths.get(&serial) {
            Some(path) => format!("file {serial} {path}"),
            None => format!("file {serial}"),
        }
    }

    pub(super) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    pub(super) fn line(&mut self, now: Duration, line: impl FnOnce() -> String) {
        if let Some(text) = &mut self.text {
            let ms = now.as_micros() as f64 / 1000.0;
            writeln!(text, "{ms:12.3} ms  {}", line()).expect("a String takes everything");
        }
    }
}

/// An SQE, without addresses: the same in each run.
pub(super) fn describe(sqe: &Sqe, fd: impl Fn(i32) -> String, target: Option<OpId>) -> String {
    let path = |address| {
        let path = memory::path_or_none(address, AtFlags::EMPTY_PATH);
        path.map_or_else(|_| "?".into(), text)
    };
    let name = format!("{:?}", sqe.opcode);
    let worker = if sqe.flags == 0 { "" } else { " in a worker" };
    let rest = match sqe.opcode {
        Opcode::READ | Opcode::WRITE | Opcode::READV | Opcode::WRITEV => {
            let at = if sqe.off == deferring::CURRENT {
                "the position".into()
            } else {
                sqe.off.to_string()
            };
            format!("{} at {at}, {} long", fd(sqe.fd), sqe.len)
        }
        Opcode::SEND | Opcode::RECV => format!("{}, {} long", fd(sqe.fd), sqe.len),
        Opcode::OPENAT2 | Opcode::STATX | Opcode::UNLINKAT | Opcode::MKDIRAT => {
            format!("{:?} from {}", path(sqe.addr), fd(sqe.fd))
        }
        Opcode::RENAMEAT | Opcode::LINKAT | Opcode::SYMLINKAT => {
            format!("{:?} to {:?}", path(sqe.addr), path(sqe.off))
        }
        Opcode::TIMEOUT => {
            format!("{:?}", memory::time(sqe.addr).unwrap_or_default())
        }
        Opcode::FTRUNCATE | Opcode::FALLOCATE => {
            format!("{} to {} + {}", fd(sqe.fd), sqe.off, sqe.addr)
        }
        Opcode::ASYNC_CANCEL | Opcode::TIMEOUT_REMOVE | Opcode::POLL_REMOVE => match target {
            Some(target) => format!("of #{}", target.serial),
            None => "of what has ended".into(),
        },
        Opcode::FSYNC if sqe.op_flags & 1 != 0 => format!("{}, data", fd(sqe.fd)),
        Opcode::CLOSE | Opcode::FSYNC | Opcode::FADVISE => fd(sqe.fd),
        Opcode::POLL_ADD => format!("{} for {:#x}", fd(sqe.fd), sqe.op_flags),
        _ => String::new(),
    };
    format!("{name} {rest}{worker}")
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// A result, as a number or by the errno's name.
pub(super) fn result(result: i32) -> String {
    match result {
        0.. => result.to_string(),
        // Linux's own, which no program sees.
        -516..=-512 => format!("ERESTART* (os error {})", -result),
        _ => std::io::Error::from_raw_os_error(-result).to_string(),
    }
}
