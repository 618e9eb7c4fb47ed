//! TimeoutRemove on the real kernel.

use std::time::Duration;

use rustix::io::Errno;

use super::{finish, refused};
use crate::support::{ring, turn_until};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn c39_a_timeout_that_is_removed_ends_with_ecanceled() {
    let ring = ring();
    let (removed, other) = (ring.timeout(HOUR), ring.timeout(HOUR));
    finish(&ring, removed.remove()).unwrap();
    assert_eq!(refused(finish(&ring, removed)), Errno::CANCELED);
    assert!(!other.is_done(), "another one goes on");
}

#[test]
fn c39_a_timeout_that_has_ended_cannot_be_removed() {
    let ring = ring();
    let handle = ring.timeout(Duration::ZERO);
    turn_until(&ring, || handle.is_done());
    assert_eq!(refused(finish(&ring, handle.remove())), Errno::NOENT);
    finish(&ring, handle).expect("its own result stays");
}

#[test]
fn c39_what_names_a_timeout_of_a_ring_that_is_gone_is_refused() {
    let ring = ring();
    let handle = ring.timeout(HOUR);
    ring.submit().unwrap();
    drop(ring);
    assert_eq!(refused(handle.try_take().expect("cancelled")), Errno::CANCELED);
    let late = handle.remove().try_take().expect("refused at once");
    assert!(late.unwrap_err().to_string().contains("the ring was dropped"));
}
