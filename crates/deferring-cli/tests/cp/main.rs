//! Stories about `deferring cp`, told to the built program. What they share is in `support.rs`.
//!
//! Each makes its own place and removes it; nothing waits longer than `support::BOUND`.

mod everyday;
mod links;
mod output;
mod refusals;
mod refused;
mod support;
mod trees;
mod trouble;
