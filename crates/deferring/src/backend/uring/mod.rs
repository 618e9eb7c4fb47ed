//! Linux io_uring.
//!
//! `setup.rs` makes a ring and steps down where the kernel is older; `mmap.rs` maps its memory;
//! `sq.rs` and `cq.rs` are the two ends; `enter.rs` is the only caller of `io_uring_enter`;
//! `probe.rs` says what the kernel can do. Not: what waits, or who waits (`turn/`).

use std::any::Any;

use crate::sync::Arc;

mod cq;
mod enter;
mod mmap;
mod probe;
mod setup;
mod sq;

/// Whatever keeps the memory of a ring where it is.
pub(crate) type Keep = Arc<dyn Any + Send + Sync>;

pub(crate) use cq::Cq;
pub(crate) use cq::CqView;
pub(crate) use mmap::ForkMark;
pub(crate) use probe::Probe;
pub use setup::Params;
pub(crate) use sq::Sq;
pub(crate) use sq::SqView;
pub(crate) use {
    enter::{Indexed, Kernel, send_message},
    setup::{Refusal, open},
};
