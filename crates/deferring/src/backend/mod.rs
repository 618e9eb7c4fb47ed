//! Whoever takes SQEs and gives CQEs: a kernel, or something that plays its part.
//!
//! A ring is served by Linux's io_uring, or where that is refused by a pool of threads; which, and
//! why, [`Ring::backend`](crate::Ring::backend) says. [`Backend`] is the seam: with
//! [`Builder::build_on`](crate::Builder::build_on) anybody's can play the kernel's part. The crate
//! `deferring-sim` does, to test programs against a kernel that misbehaves on purpose.

// `uring/` is Linux; `pool/` an old kernel made of threads, on `memory.rs`, whose two ends are in
// `loopback.rs`, the smallest thing that can stand in a kernel's place, and the first to read;
// `auto.rs` chooses. `toy.rs` is a kernel for model checkers, under the whole library. Not: what an
// SQE means to us (`op/`) or which op it belongs to (`inflight/`).

#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy stands in its place.
mod auto;
#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy stands in its place.
mod kernel;
mod loopback;
#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy stands in its place.
pub(crate) mod memory;
#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy stands in its place.
mod pool;
mod seam;
#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy stands in its place.
mod seccomp;
#[cfg(all(test, any(loom, shuttle)))]
pub(crate) mod toy;
#[cfg_attr(all(test, any(loom, shuttle)), allow(dead_code))] // The toy stands in its place.
pub(crate) mod uring;

pub use auto::{BackendInfo, BackendKind, Reason};
pub(crate) use auto::{Choice, pool_has};
pub use memory::Wire;
pub use seam::Backend;
pub(crate) use seam::Time;

pub use crate::inflight::Workers;
pub(crate) use kernel::Apart;
#[cfg(all(test, any(loom, shuttle)))]
pub(crate) use toy::{Kernel, Parts, open};
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use {
    auto::{open, open_on},
    kernel::{Kernel, Parts},
};
