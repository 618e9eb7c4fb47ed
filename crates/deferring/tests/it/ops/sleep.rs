//! Sleeps, which the ring keeps itself.
//!
//! No story measures time but to see that a sleep was not too short.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use deferring::op::{Op, Sleep};
use deferring::{CancelOutcome, time};
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rustix::event::EventfdFlags;

use crate::support::{
    BOUND, becomes_readable, bounded, builder, drain, errno, ring, run, turn_until,
};

const SOON: Duration = Duration::from_millis(5);
const LATE: Duration = Duration::from_secs(3600);

#[test]
fn a_sleep_is_as_long_as_it_was_asked_to_be_and_the_kernel_hears_of_the_earliest_only() {
    bounded(|| {
        let (ring, begin) = (ring(), Instant::now());
        run(&ring, time::sleep(&ring, SOON)).unwrap();
        assert!(begin.elapsed() >= SOON);
        let stats = ring.stats();
        assert_eq!((stats.sqes, stats.ended, stats.timed_out, stats.cancelled), (0, 1, 0, 0));
        run(&ring, ring.sleep(Duration::ZERO)).unwrap();
        assert_eq!((ring.in_flight(), ring.stats().sqes), (0, 0));
    });
}

#[test]
fn of_ten_thousand_sleeps_none_is_too_short_and_many_end_together() {
    bounded(|| {
        let (ring, begin) = (ring(), Instant::now());
        let step = Duration::from_micros(5);
        let sleep = |at: u32| {
            let (ring, time) = (ring.clone(), SOON + at * step);
            async move {
                time::sleep(&ring, time).await.unwrap();
                assert!(begin.elapsed() >= time);
            }
        };
        // Not queued in the order of their times.
        let sleeps: FuturesUnordered<_> = (0..10_000).map(|at| sleep(at * 7919 % 10_000)).collect();
        run(&ring, sleeps.collect::<()>());
        let stats = ring.stats();
        assert_eq!((stats.sqes, stats.ended), (0, 10_000));
        assert!(stats.own_sqes < 1000, "{} timeouts in the kernel", stats.own_sqes);
    });
}

#[test]
fn a_sleep_that_is_cancelled_ends_at_once_and_costs_no_system_call() {
    let ring = ring();
    let sleep = ring.sleep(LATE);
    ring.submit().unwrap();
    let enters = ring.stats().enters;
    assert_eq!(sleep.cancel().outcome(), Some(CancelOutcome::Cancelled));
    assert_eq!(errno(&sleep.try_take().unwrap()), Some(libc::ECANCELED));
    drop(ring.sleep(LATE));
    assert_eq!((ring.in_flight(), ring.stats().enters), (0, enters));
    // All of them at once, and one that nobody waits for.
    let sleeps: Vec<_> = (0..10).map(|_| ring.sleep(LATE)).collect();
    ring.sleep(LATE).detach();
    run(&ring, ring.cancel_all());
    assert!(sleeps.iter().all(|sleep| errno(&sleep.try_take().unwrap()) == Some(libc::ECANCELED)));
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn a_deadline_of_a_sleep_is_told_from_its_end() {
    bounded(|| {
        let ring = ring();
        let (late, soon) = (ring.sleep(LATE).timeout(SOON), ring.sleep(SOON).timeout(LATE));
        let asked = ring.queue(Sleep::new(LATE).timeout(SOON));
        run(&ring, async {
            assert_eq!(late.await.unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(asked.await.unwrap_err().kind(), ErrorKind::TimedOut);
            soon.await.unwrap();
        });
        assert_eq!((ring.stats().timed_out, ring.in_flight()), (2, 0));
    });
}

#[test]
fn sleeps_end_by_hand_and_in_a_loop_that_sleeps_on_an_eventfd() {
    bounded(|| {
        let ring = ring();
        let sleep = ring.sleep(SOON);
        // By waits alone.
        turn_until(&ring, || sleep.is_done());
        sleep.try_take().unwrap().unwrap();
        // By reaps alone.
        let sleep = ring.sleep(SOON);
        while !sleep.is_done() {
            ring.reap().unwrap();
        }
        let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let eventfd = eventfd.unwrap();
        ring.register_eventfd(&eventfd).unwrap();
        let sleeps = [ring.sleep(SOON), ring.sleep(2 * SOON)];
        assert_eq!(ring.submit().unwrap(), 0, "the kernel takes none");
        let mut reaped = 0;
        while !sleeps.iter().all(|sleep| sleep.is_done()) {
            assert!(becomes_readable(&eventfd, BOUND / 2), "{ring:?}");
            let _ = rustix::io::read(&eventfd, &mut [0; 8]);
            reaped += ring.reap().unwrap();
        }
        assert_eq!(reaped, 2);
    });
}

#[test]
fn a_ring_that_ends_waits_for_no_sleep() {
    bounded(|| {
        let ring = ring();
        let sleep = ring.sleep(LATE);
        drop(ring);
        assert_eq!(errno(&sleep.try_take().unwrap()), Some(libc::ECANCELED));
    });
}

#[test]
fn sleeps_end_on_a_thread_of_the_rings_own_whoever_asks() {
    bounded(|| {
        let ring = builder().start().unwrap();
        let sleeps = || join_all((0..100).map(|at| ring.sleep(SOON + at * SOON / 100)));
        let results = futures_executor::block_on(sleeps());
        assert!(results.iter().all(Result::is_ok));
        // It sleeps until something far away; an earlier one calls it.
        let far = ring.sleep(LATE);
        futures_executor::block_on(ring.sleep(SOON)).unwrap();
        assert!(!far.is_done());
    });
}

#[test]
fn a_sleep_that_ends_after_another_wakes_no_thread_when_it_is_queued() {
    bounded(|| {
        let ring = builder().start().unwrap();
        let mut sleeps = vec![ring.sleep(LATE)];
        for _ in 0..50 {
            // Most often the thread is asleep by then.
            std::thread::sleep(Duration::from_millis(1));
            sleeps.push(ring.sleep(2 * LATE));
        }
        let enters = ring.stats().enters;
        assert!(enters < 25, "{enters} enters for 51 sleeps");
        futures_executor::block_on(ring.sleep(SOON)).unwrap();
        assert!(sleeps.iter().all(|sleep| !sleep.is_done()));
    });
}

#[test]
fn what_nobody_takes_of_a_sleep_is_freed() {
    bounded(|| {
        let ring = ring();
        ring.sleep(SOON).detach();
        turn_until(&ring, || ring.in_flight() == 0);
        drain(&ring);
        assert_eq!(ring.stats().ended, 1);
    });
}
