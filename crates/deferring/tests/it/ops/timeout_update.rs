//! TimeoutUpdate on the real kernel.

use std::time::Duration;

use deferring::Clock;
use deferring::op::Timeout;
use rustix::io::Errno;

use super::{finish, refused};
use crate::support::ring;

const SHORT: Duration = Duration::from_millis(5);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn c39_a_timeout_is_given_a_shorter_while() {
    let ring = ring();
    let handle = ring.timeout(HOUR);
    finish(&ring, handle.update(SHORT)).unwrap();
    finish(&ring, handle).unwrap();
}

#[test]
fn c39_a_timeout_is_given_a_longer_while() {
    let ring = ring();
    let handle = ring.timeout(Duration::from_secs(5));
    finish(&ring, handle.update(HOUR)).unwrap();
    finish(&ring, handle.update(2 * HOUR)).unwrap();
    finish(&ring, ring.timeout(SHORT)).unwrap();
    assert!(!handle.is_done());
}

#[test]
fn c39_a_timeout_is_given_a_point_of_its_own_clock() {
    let ring = ring();
    for clock in [Clock::Monotonic, Clock::Boottime, Clock::Realtime] {
        let handle = ring.queue(Timeout::after(HOUR).clock(clock));
        let soon = clock.now() + SHORT;
        finish(&ring, handle.update_at(soon)).unwrap();
        finish(&ring, handle).unwrap();
        assert!(clock.now() >= soon, "{clock:?}: too early");

        let handle = ring.queue(Timeout::after(HOUR).clock(clock));
        finish(&ring, handle.update_at(Duration::from_nanos(1))).unwrap();
        finish(&ring, handle).expect("in the past, so at once");

        let handle = ring.queue(Timeout::at(clock, clock.now() + HOUR));
        finish(&ring, handle.update_at(clock.now() + 2 * HOUR)).unwrap();
        finish(&ring, ring.timeout(SHORT)).unwrap();
        assert!(!handle.is_done(), "{clock:?}: too early");
    }
}

#[test]
fn c39_an_update_may_be_queued_right_behind_its_timeout() {
    let ring = ring();
    let handle = ring.timeout(HOUR);
    let update = handle.update(SHORT);
    assert_eq!(ring.pending().queued, 2);
    finish(&ring, handle).unwrap();
    finish(&ring, update).unwrap();
}

#[test]
fn c39_a_timeout_that_has_ended_cannot_be_updated() {
    let ring = ring();
    let handle = ring.timeout(Duration::ZERO);
    crate::support::turn_until(&ring, || handle.is_done());
    assert_eq!(refused(finish(&ring, handle.update(HOUR))), Errno::NOENT);
    assert_eq!(refused(finish(&ring, handle.update_at(HOUR))), Errno::NOENT);
    finish(&ring, handle).expect("its own result stays");
}
