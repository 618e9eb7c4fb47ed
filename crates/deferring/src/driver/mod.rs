//! Who turns the ring, and where it waits.
//!
//! [`block_on`] is one driver: the calling thread. Driving by hand needs none. What a turn *is*, is
//! in `turn/`; the names of runtimes appear nowhere but in this folder.

#[cfg(not(all(test, any(loom, shuttle))))]
mod bell;
mod block_on;
mod seat;

pub use block_on::block_on;
pub(crate) use seat::Seat;
