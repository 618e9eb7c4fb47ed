//! A kernel that is simulated: what happens follows from a seed.
//!
//! Not: the library under test, which is `deferring`.

#![allow(dead_code)] // Until the rest of the kernel uses its disk.

mod disk;
