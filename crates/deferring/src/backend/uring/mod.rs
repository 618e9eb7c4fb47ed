//! Linux io_uring.
//!
//! `setup.rs` makes a ring and steps down where the kernel is older; `mmap.rs` maps its memory;
//! `sq.rs` and `cq.rs` are the two ends; `enter.rs` is the only caller of `io_uring_enter`;
//! `probe.rs` says what the kernel can do. Not: what waits, or who waits (`turn/`).

mod cq;
mod enter;
mod mmap;
mod probe;
mod setup;
mod sq;

pub(crate) use cq::Cq;
#[cfg(test)]
pub(crate) use cq::CqView;
pub(crate) use mmap::ForkMark;
pub(crate) use probe::Probe;
pub use setup::Params;
pub(crate) use sq::Sq;
#[cfg(test)]
pub(crate) use sq::SqView;
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use {
    enter::{Kernel, send_message},
    setup::{Uring, open},
};
