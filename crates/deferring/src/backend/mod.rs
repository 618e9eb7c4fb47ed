//! Whoever takes SQEs and gives CQEs: a kernel, or something that plays its part.
//!
//! [`uring`] is Linux; [`pool`] an old kernel made of threads, on [`memory`], whose two ends are in
//! [`loopback`], the smallest thing that can stand in a kernel's place, and the first to read;
//! `auto.rs` chooses. `toy` is a kernel for model checkers, under the whole library. Not: what an
//! SQE means to us (`op/`) or which op it belongs to (`inflight/`).

#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy stands in its place.
mod auto;
#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy stands in its place.
mod kernel;
mod loopback;
#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy stands in its place.
pub(crate) mod memory;
#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy stands in its place.
mod pool;
#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy stands in its place.
mod seccomp;
#[cfg(all(test, any(loom, shuttle)))]
pub(crate) mod toy;
#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy stands in its place.
pub(crate) mod uring;

pub(crate) use auto::Choice;
pub use auto::{Backend, BackendKind, Reason};
#[cfg(all(test, any(loom, shuttle)))]
pub(crate) use toy::{Kernel, Parts, open};
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use {
    auto::open,
    kernel::{Kernel, Parts},
};
