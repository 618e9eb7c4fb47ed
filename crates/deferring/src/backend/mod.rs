//! Whoever takes SQEs and gives CQEs: a kernel, or something that plays its part.
//!
//! [`uring`] is Linux. `loopback` is the smallest thing that can stand in its place, and the first
//! to read; `toy` is a kernel for model checkers, under the whole library. Not: what an SQE means
//! to us (`op/`) or which op it belongs to (`inflight/`).

#[cfg(test)]
mod loopback;
#[cfg(all(test, any(loom, shuttle)))]
pub(crate) mod toy;
#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy stands in its place.
pub(crate) mod uring;

#[cfg(all(test, any(loom, shuttle)))]
pub(crate) use toy::{Kernel, Uring, open};
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use uring::{Kernel, Uring, open};
