//! Hazards: what io_uring does to those who trust it, each played on the real kernel.
//!
//! One file for each hazard, `h01_…`; what it saw is said in a line of its own on stderr. Small
//! ones by default; `DEFERRING_HAZARDS=long` asks for large ones, `DEFERRING_SEED` for the same
//! random numbers again. Not the contract of single calls: that is in `tests/it`, whose support is
//! used here too.
#![allow(unsafe_code)] // Some stories fork, mount, send signals, or change who they are.

#[path = "../it/support.rs"]
#[allow(dead_code)] // Shared: each binary uses a part of it.
mod support;

mod dice;
mod fuse;
mod report;
mod scene;
mod way;

mod h01_starvation;
mod h02_many_reads;
mod h03_overflow;
mod h04_threads_that_exit;
mod h05_signals;
mod h06_no_more_threads;
mod h07_cancel;
mod h08_lost_opens;
mod h09_freed_memory;
mod h10_hung_file_system;
mod h11_reused_numbers;
mod h12_fork;
mod h13_held_futures;
mod h14_user_code;
mod h15_refusals;
mod h16_soak;
