//! Which kernel serves a ring, and why.
//!
//! io_uring where the system lets us have it, else the pool of threads. Not: how either is set up.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::thread::sleep;
use std::time::Duration;

use rustix::io::Errno;

#[cfg(not(all(test, any(loom, shuttle))))]
use super::kernel::{Apart, Kernel, Parts};
use super::uring::{Cq, Probe, Sq};
use super::{Backend, Wire, memory, pool, seccomp, uring};
use crate::config::Builder;
use crate::error;
use crate::op::Opcode;
use crate::sync::Arc;

/// Which kernels a ring may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    #[default]
    Auto,
    IoUringOnly,
    PoolOnly,
}

/// What serves a ring, and why it is not io_uring if it is not; from
/// [`Ring::backend`](crate::Ring::backend).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    kind: BackendKind,
    reason: Option<Reason>,
    on_pool: Vec<Opcode>,
}

/// What serves a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendKind {
    /// The kernel's io_uring.
    IoUring,
    /// Threads that make blocking calls.
    Pool,
    /// Somebody's own: [`Builder::build_on`](crate::Builder::build_on).
    Custom,
}

/// Why a ring is not served by io_uring.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It was asked for: [`Builder::pool_only`](crate::Builder::pool_only).
    Asked,
    /// `EPERM` or `EACCES`: by sysctl kernel.io_uring_disabled, or by a seccomp filter.
    Forbidden,
    /// A seccomp filter kills whoever asks for io_uring.
    Kills,
    /// `ENOSYS` or `EOPNOTSUPP`: the kernel has none, or a filter hides it.
    Absent,
    /// `ENOMEM`, twice: the limit of locked memory.
    NoMemory,
    /// `EMFILE` or `ENFILE`: no descriptor is free.
    NoDescriptor,
    /// What this kernel's io_uring lacks.
    TooOld(String),
    /// Another errno of the set-up.
    Failed(i32),
}

impl BackendInfo {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> BackendKind {
        self.kind
    }

    /// Why it is not io_uring. `None` if it is.
    #[must_use]
    pub const fn reason(&self) -> Option<&Reason> {
        self.reason.as_ref()
    }

    /// What the pool does beside io_uring: operations that this kernel does not have, and those of
    /// [`Builder::on_pool`](crate::Builder::on_pool).
    #[must_use]
    pub fn on_pool(&self) -> &[Opcode] {
        &self.on_pool
    }

    pub(crate) const fn of_io_uring() -> Self {
        Self { kind: BackendKind::IoUring, reason: None, on_pool: Vec::new() }
    }

    const fn other(kind: BackendKind, reason: Reason) -> Self {
        Self { kind, reason: Some(reason), on_pool: Vec::new() }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Pool => "pool",
            Self::Custom => "custom",
        })
    }
}

impl fmt::Display for BackendInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{} ({reason})", self.kind),
            None => write!(f, "{}", self.kind),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("asked for"),
            Self::Forbidden => f.write_str(
                "io_uring is forbidden, by sysctl kernel.io_uring_disabled or a seccomp filter (a container?)",
            ),
            Self::Kills => f.write_str("a seccomp filter kills whoever asks for io_uring"),
            Self::Absent => f.write_str("this kernel has no io_uring, or a seccomp filter hides it"),
            Self::NoMemory => f.write_str("the limit of locked memory is too small (ulimit -l)"),
            Self::NoDescriptor => f.write_str("too many files are open (ulimit -n)"),
            Self::TooOld(what) => f.write_str(what),
            Self::Failed(errno) => {
                write!(f, "io_uring cannot be set up: {}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

/// How long to wait before rings that have just been closed are no longer charged for.
const PAUSE: Duration = Duration::from_millis(20);

/// A ring, on io_uring if it can be had and may be.
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) fn open(config: &Builder) -> io::Result<(Parts, BackendInfo)> {
    if config.choice == Choice::PoolOnly {
        return Ok((open_pool(config)?, BackendInfo::other(BackendKind::Pool, Reason::Asked)));
    }
    let refused = match open_io_uring(config) {
        Ok(parts) => return with_pool(config, parts),
        Err(refused) => refused,
    };
    match (config.choice, refused.reason) {
        (Choice::Auto, Some(reason)) if !config.is_tied_to_io_uring() => {
            Ok((open_pool(config)?, BackendInfo::other(BackendKind::Pool, reason)))
        }
        _ => Err(refused.error),
    }
}

/// Why there is no io_uring. Without a reason the fault is the caller's.
struct Refused {
    reason: Option<Reason>,
    error: io::Error,
}

#[cfg(not(all(test, any(loom, shuttle))))]
fn open_io_uring(config: &Builder) -> Result<Parts, Refused> {
    if seccomp::kills() {
        return Err(Refused { reason: Some(Reason::Kills), error: error::setup_kills() });
    }
    match uring::open(config) {
        Err(uring::Refusal::Errno(_, Errno::NOMEM)) => {
            sleep(PAUSE);
            uring::open(config)
        }
        result => result,
    }
    .and_then(|parts| match config.needed().find(|&opcode| !has(config, &parts.probe, opcode)) {
        None => Ok(parts),
        Some(op) => {
            Err(uring::Refusal::Lacks(format!("this kernel's io_uring lacks the op {op:?}")))
        }
    })
    .map_err(|refusal| match refusal {
        uring::Refusal::Errno(step, errno) => {
            let reason = match errno {
                Errno::PERM | Errno::ACCESS => Reason::Forbidden,
                Errno::NOSYS | Errno::OPNOTSUPP => Reason::Absent,
                Errno::NOMEM => Reason::NoMemory,
                Errno::MFILE | Errno::NFILE => Reason::NoDescriptor,
                errno => Reason::Failed(errno.raw_os_error()),
            };
            Refused { reason: Some(reason), error: error::setup(step, errno) }
        }
        uring::Refusal::Lacks(what) => {
            Refused { reason: Some(Reason::TooOld(what.clone())), error: error::unsupported(what) }
        }
    })
}

/// Whether the pool could do an operation for io_uring.
pub(crate) fn pool_has(opcode: Opcode) -> bool {
    pool::CALLS.contains(&opcode)
}

/// Whether it has an operation, or a pool beside it would.
#[cfg(not(all(test, any(loom, shuttle))))]
fn has(config: &Builder, probe: &Probe, opcode: Opcode) -> bool {
    probe.supports(opcode) || config.may_use_pool() && pool_has(opcode)
}

/// The same, and a pool for what that io_uring does not have.
#[cfg(not(all(test, any(loom, shuttle))))]
fn with_pool(config: &Builder, mut parts: Parts) -> io::Result<(Parts, BackendInfo)> {
    let mut backend = BackendInfo::of_io_uring();
    if config.may_use_pool() {
        let goes = |op: &Opcode| config.on_pool.contains(op) || !parts.probe.supports(*op);
        backend.on_pool.extend(pool::CALLS.into_iter().filter(goes));
    }
    if backend.on_pool.is_empty() {
        return Ok((parts, backend));
    }
    let (kernel, _, cq) = open_in_memory(config, |wire| Ok(Arc::new(pool(config, wire)?)))?;
    let takes = Probe::of_opcodes(backend.on_pool.iter().copied());
    let readable = kernel.as_fd().as_raw_fd();
    parts.probe.add(&takes);
    parts.apart = Some(Apart { cq, takes, readable });
    if let Kernel::Uring(_, pool) = &mut parts.kernel {
        *pool = Some(kernel);
    }
    Ok((parts, backend))
}

#[cfg(not(all(test, any(loom, shuttle))))]
fn pool(config: &Builder, wire: &Wire) -> io::Result<pool::Pool> {
    let pool = pool::Pool::new(wire, config.pool_threads_max);
    pool.map_err(|errno| error::setup("set-up of the pool", errno))
}

#[cfg(not(all(test, any(loom, shuttle))))]
fn open_pool(config: &Builder) -> io::Result<Parts> {
    if let Some(missing) = config.needed().find(|&opcode| !pool::supports(opcode)) {
        return Err(error::unsupported(format!("the pool of threads lacks the op {missing:?}")));
    }
    let opened = open_in_memory(config, |wire| {
        let pool = pool(config, wire)?;
        // The ring's own alarm needs it: without, it would be asked for again and again.
        pool.start().map_err(|errno| error::setup("start of the pool's thread", errno))?;
        Ok(Arc::new(pool))
    })?;
    Ok(in_parts(opened))
}

/// A ring on somebody's own backend.
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) fn open_on<B: Backend>(
    config: &Builder,
    make: impl FnOnce(Wire) -> io::Result<B>,
) -> io::Result<(Parts, BackendInfo)> {
    let parts = in_parts(open_in_memory(config, |wire| Ok(Arc::new(make(wire.clone())?)))?);
    if let Some(missing) = config.required.iter().find(|&&opcode| !parts.probe.supports(opcode)) {
        return Err(error::unsupported(format!("the backend lacks the op {missing:?}")));
    }
    Ok((parts, BackendInfo::other(BackendKind::Custom, Reason::Asked)))
}

#[cfg(not(all(test, any(loom, shuttle))))]
fn open_in_memory(
    config: &Builder,
    backend: impl FnOnce(&Wire) -> io::Result<Arc<dyn Backend>>,
) -> io::Result<(memory::Kernel, Sq, Cq)> {
    const ENTRIES_MAX: u32 = 32768;
    let completions = config.completions.unwrap_or(0);
    if !config.clamp && (config.queue_depth > ENTRIES_MAX || completions > ENTRIES_MAX * 2) {
        return Err(error::setup("set-up of a ring in memory", Errno::INVAL));
    }
    let entries = config.queue_depth.min(ENTRIES_MAX).next_power_of_two();
    let completions =
        config.completions.unwrap_or(entries * 2).min(ENTRIES_MAX * 2).next_power_of_two();
    memory::Kernel::open(entries, completions, backend)
}

#[cfg(not(all(test, any(loom, shuttle))))]
fn in_parts((kernel, sq, cq): (memory::Kernel, Sq, Cq)) -> Parts {
    let probe = Probe::of_opcodes((0..=u8::MAX).map(Opcode).filter(|&op| kernel.supports(op)));
    Parts { sq, cq, kernel: Kernel::Memory(kernel), probe, apart: None }
}
