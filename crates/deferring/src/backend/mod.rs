//! Whoever takes SQEs and gives CQEs: a kernel, or something that plays its part.
//!
//! [`uring`] is Linux. `loopback` is the smallest thing that can stand in its place, and the first
//! to read. Not: what an SQE means to us (`op/`) or which op it belongs to (`inflight/`).

#[cfg(test)]
mod loopback;
pub(crate) mod uring;
