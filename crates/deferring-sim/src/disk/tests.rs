//! Stories of the disk.
//!
//! Not: those of a part of it, which are beside the part.
