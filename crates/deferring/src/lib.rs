//! io_uring for any async Rust program.
//!
//! You ask the [`Ring`] for a system call and get a [`Handle`] at once; you await the handle,
//! cancel it, or let it go.
//!
//! # The words
//!
//! An *op* is one request: a struct that owns what the kernel will touch ([`op`]). It lives in a
//! *slot* of the ring from [`queue`](Ring::queue) to its last completion, whatever becomes of its
//! *handle*.

#[cfg(not(target_os = "linux"))]
compile_error!("deferring is for Linux: io_uring is a Linux interface");

mod backend;
mod buf;
mod config;
mod driver;
mod error;
mod fd;
pub mod fs;
mod handle;
mod inflight;
mod notify;
pub mod op;
mod ring;
mod stat;
mod sync;
pub mod time;
mod turn;
mod watch;

pub use rustix::event::PollFlags;
pub use rustix::fs::{
    Advice, AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags,
};

pub use backend::uring::Params;
pub use buf::{BufResult, IoBuf, IoBufMut, IoVectored, IoVectoredMut, Lent, Slice, StandIn};
pub use config::Builder;
pub use driver::block_on;
pub use error::{PathError, RingError};
pub use fd::{Fd, Lease};
pub use handle::{Cancel, Handle};
pub use inflight::{CancelOutcome, Pending};
pub use op::{At, CWD};
pub use ring::{Ring, Stats};
pub use stat::{Attribute, Device, DirectAlign, FileType, Stat, Timestamp};
pub use time::Clock;
pub use turn::leaked_ops;
pub use watch::Watcher;

/// The offset that stands for the file position: the op uses it and moves it. The kernel's -1.
pub const CURRENT: u64 = u64::MAX;
