//! Stories on the real kernel, one test for each point of the contract (`c07_…`).
//!
//! `support.rs` has what they share. Points that one file can show by itself are tested beside the
//! code; docs/seed-parity.md says where each is.
#![allow(unsafe_code)] // Some stories fork, or count allocations.

mod support;

#[cfg(all(feature = "tokio", feature = "futures-io"))]
mod adapters;
mod admission;
mod allocations;
mod auto;
mod backend;
mod beside;
mod buffers;
mod callers;
mod cancel;
mod cancel_many;
mod completion;
mod construction;
mod deadlines;
mod descriptors;
mod drivers;
mod end;
mod fs;
mod hashers;
mod host;
mod local;
mod ops;
mod pool;
mod process_ring;
mod processes;
mod results;
mod shutdown;
mod submission;
#[cfg(feature = "tracing")]
mod tracing_;
mod user_code;
mod watcher;
