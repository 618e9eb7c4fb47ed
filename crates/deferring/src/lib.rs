//! io_uring for any async Rust program.
//!
//! You ask a [`Ring`] for a system call and get a [`Handle`] at once. You await the handle, cancel
//! it, or let it go; what the kernel touches is kept for as long as the kernel may touch it,
//! whatever you do.
//!
//! ```
//! use deferring::{BufResult, Ring, block_on, fs::File};
//!
//! let ring = Ring::builder().build()?;
//! let bytes = block_on(&ring, async {
//!     let file = File::open(&ring, "Cargo.toml").await?;
//!     let BufResult(n, buf) = file.read_at(Vec::with_capacity(4096), 0).await;
//!     assert_eq!(n?, buf.len());
//!     file.close().await?;
//!     Ok::<_, std::io::Error>(buf)
//! })?;
//! assert!(bytes.starts_with(b"[package]"));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Where to go
//!
//! | for | see |
//! |---|---|
//! | making a ring | [`Ring::builder`], [`Builder`] |
//! | files, as in `std::fs` | [`fs`], [`Ring::fs`] |
//! | single system calls | the methods of [`Ring`] that queue one; their structs in [`op`] |
//! | a ring that turns by itself | [`Builder::start`], under any executor; with the features `tokio` and `async-io`, `Builder::start_on_tokio` and `Builder::start_on_async_io` |
//! | no ring to hand around | [`ring`](ring()), the ring of the process; the functions of [`fs`] use it |
//! | turning the ring | [`block_on`]; or by hand, [`Ring::submit`], [`Ring::wait`], [`Ring::reap`] |
//! | a loop of your own | [`Ring::register_eventfd`], or (without `defer_taskrun`) the ring itself, which is [`AsFd`](std::os::fd::AsFd) |
//! | giving up | [`Handle::cancel`], [`Handle::timeout`], [`Handle::detach`], dropping the handle |
//! | giving up many | [`Ring::cancel_fd`], [`Group`], [`Ring::cancel_all`], [`Ring::shutdown`] |
//! | how it goes | [`Ring::stats`]; spans and events with the feature `tracing` |
//! | ops that block | [`Op::may_block`](op::Op::may_block), [`Op::in_worker`](op::Op::in_worker) |
//! | buffers and descriptors | [`IoBuf`], [`IoBufMut`], [`BufResult`]; [`Fd`] |
//! | watching a descriptor | [`Watcher`] |
//! | the traits of tokio and `futures` | [`Buffered`], with the features `tokio` and `futures-io` |
//! | an operation that is missing | [`op::Op`] |
//! | which kernel serves, and one of your own | [`Ring::backend`], [`Builder::auto`], [`Builder::io_uring_only`], [`Builder::pool_only`]; [`backend::Backend`] |
//!
//! # What always holds
//!
//! - *Nothing is freed under the kernel.* An op owns its buffers, paths and leases of descriptors,
//!   and lives in the ring until the kernel's last answer. Handles own nothing of that.
//! - *Nothing is lost.* Each op has one result, through cancels, drops, full queues and the end of
//!   the ring. The buffer comes back with it in every case.
//! - *Operations are queued, not sent.* Any number waits in the ring's own queue, bounded by memory
//!   alone, and goes out in batches, cancels first.
//! - *No op waits behind one that may block for ever.* Of the kernel's worker threads those that a
//!   call blocks are replaced; one crowd delays only itself.
//! - *Any thread* may queue, submit, wait, reap, await and drop; which one, and whether it is still
//!   there, changes no result.
//!
//! On Linux 5.15 or later a ring is an io_uring. Where that is refused, a pool of threads plays the
//! kernel, and the program is the same; [`Ring::backend`] says which it is, and why.

#[cfg(not(target_os = "linux"))]
compile_error!("deferring is for Linux: io_uring is a Linux interface");

mod adapt;
pub mod backend;
mod buf;
mod cancel_many;
mod config;
mod driver;
mod error;
mod fd;
pub mod fs;
mod handle;
mod inflight;
#[cfg(not(all(test, any(loom, shuttle))))]
mod local;
#[cfg(all(test, any(loom, shuttle)))]
mod models;
mod notify;
pub mod op;
mod planted;
mod ring;
mod shutdown;
mod stat;
mod stats;
mod sync;
#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // Stories have their own.
mod threads;
pub mod time;
mod trace;
mod turn;
mod watch;

pub use rustix::event::PollFlags;
pub use rustix::fs::{
    Advice, AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags,
};
pub use rustix::net::{RecvFlags, SendFlags};

pub use adapt::Buffered;
pub use backend::uring::Params;
pub use backend::{BackendInfo, BackendKind, Reason};
pub use buf::{BufResult, IoBuf, IoBufMut, IoVectored, IoVectoredMut, Lent, Slice, StandIn};
pub use cancel_many::{CancelMany, Group};
pub use config::Builder;
pub use driver::{block_on, ring};
pub use error::{PathError, RingError};
pub use fd::{Fd, Lease};
pub use handle::{Cancel, Handle};
pub use inflight::{CancelOutcome, Cancelled, Pending};
#[cfg(not(all(test, any(loom, shuttle))))]
pub use local::{LocalCancel, LocalHandle, LocalRing};
pub use op::{At, CWD};
pub use ring::Ring;
pub use shutdown::{Report, Shutdown};
pub use stat::{Attribute, Device, DirectAlign, FileType, Stat, Timestamp};
pub use stats::{ClassStats, Stats};
pub use time::Clock;
pub use turn::leaked_ops;
pub use watch::Watcher;

/// The offset that stands for the file position: the op uses it and moves it. The kernel's -1.
pub const CURRENT: u64 = u64::MAX;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
