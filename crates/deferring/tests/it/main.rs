//! Stories on the real kernel.
