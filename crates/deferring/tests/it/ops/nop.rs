//! Nop on the real kernel.

use super::finish;
use crate::support::{alone, ring};

#[test]
fn c30_a_nop_is_zero() {
    let ring = ring();
    finish(&ring, ring.nop()).unwrap();
    assert_eq!(ring.stats().sqes, 1, "the kernel was asked");
}

#[test]
fn c30_a_nop_can_be_awaited() {
    alone(|ring| async move { ring.nop().await }).unwrap();
}
