//! The `deferring` tool.

fn main() {}
