//! Timeout on the real kernel.

use std::time::Duration;

use deferring::op::Timeout;
use deferring::{Clock, Ring};
use rustix::io::Errno;

use super::{finish, refused};
use crate::support::{alone, ring};

const CLOCKS: [Clock; 3] = [Clock::Monotonic, Clock::Boottime, Clock::Realtime];
const SHORT: Duration = Duration::from_millis(5);
const HOUR: Duration = Duration::from_secs(3600);

/// A timeout that is under way, and that what went before it has not ended.
fn running(ring: &Ring, timeout: Timeout) -> deferring::Handle<Timeout> {
    let handle = ring.queue(timeout);
    finish(ring, ring.timeout(SHORT)).unwrap();
    assert!(!handle.is_done(), "not yet");
    handle
}

#[test]
fn c39_a_while_is_waited_for_by_each_clock_and_not_less() {
    let ring = ring();
    for clock in CLOCKS {
        let before = Clock::Monotonic.now();
        finish(&ring, ring.queue(Timeout::after(SHORT).clock(clock))).unwrap();
        assert!(Clock::Monotonic.now() - before >= SHORT, "{clock:?}: too early");
    }
}

#[test]
fn c39_a_point_of_each_clock_is_waited_for() {
    let ring = ring();
    for clock in CLOCKS {
        // By another clock it would be decades off, one way or the other.
        let soon = clock.now() + SHORT;
        finish(&ring, ring.queue(Timeout::at(clock, soon))).unwrap();
        assert!(clock.now() >= soon, "{clock:?}: too early");
    }
}

#[test]
fn c39_a_point_in_the_past_comes_at_once() {
    let ring = ring();
    for clock in CLOCKS {
        for past in [Duration::ZERO, Duration::from_nanos(1), clock.now() - SHORT] {
            finish(&ring, ring.queue(Timeout::at(clock, past))).unwrap();
        }
    }
    finish(&ring, ring.timeout(Duration::ZERO)).unwrap();
}

#[test]
fn c39_a_time_that_has_not_come_is_waited_for() {
    let ring = ring();
    for clock in CLOCKS {
        for timeout in [Timeout::at(clock, clock.now() + HOUR), Timeout::after(HOUR).clock(clock)] {
            let handle = running(&ring, timeout);
            let _asked = handle.cancel();
            assert_eq!(refused(finish(&ring, handle)), Errno::CANCELED);
        }
    }
}

#[test]
fn c39_timeouts_end_in_the_order_of_their_times() {
    let ring = ring();
    let late = ring.timeout(HOUR);
    let soon = ring.timeout(SHORT);
    finish(&ring, soon).unwrap();
    assert!(!late.is_done());
}

#[test]
fn c39_the_longest_time_there_is_is_no_error() {
    let ring = ring();
    let handle = running(&ring, Timeout::after(Duration::MAX));
    finish(&ring, handle.remove()).unwrap();
    assert_eq!(refused(finish(&ring, handle)), Errno::CANCELED);
}

#[test]
fn c39_a_timeout_can_be_awaited() {
    alone(|ring| async move { ring.timeout(SHORT).await }).unwrap();
}
