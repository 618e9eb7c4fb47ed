//! Larger stories, in random orders: threads that do anything on one ring.
//!
//! A story that hangs is a deadlock to shuttle, and one that spins reaches its bound of steps. What
//! fails prints its schedule: put it into `shuttle::replay` to see it again.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

use super::{Ask, Flag, alive, begin, host, keeper, park_on, ring};
use crate::backend::toy;
use crate::op::{Class, Direction, Kind, Place};
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, thread};
use crate::{Fd, Handle, Ring, block_on};

const ITERATIONS: usize = 10_000;

/// A time that the toy does not wait for.
const BEYOND_PATIENCE: Duration = Duration::from_secs(100 * 3600);

/// Tells a story in so many orders: half of them with equal chances, half with few preemptions.
fn tell(iterations: usize, story: impl Fn() + Copy + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    let whole = move || {
        begin();
        story();
        assert_eq!(alive(), 0, "no op is left");
    };
    Runner::new(RandomScheduler::new(iterations / 2), config.clone()).run(whole);
    Runner::new(PctScheduler::new(3, iterations / 2), config).run(whole);
}

fn one_of(n: usize) -> usize {
    thread_rng().gen_range(0..n)
}

/// Somewhere in the kernel.
fn somewhere() -> Place {
    match one_of(6) {
        0 => Place::worker(Kind::Open),
        1 => Place::worker(Kind::Data).in_worker(),
        2 => Place::worker(Kind::Path).may_block(),
        3 => Place::through(5, Direction::In),
        4 => Place::of(Class::Pollable).with(Place::DISK),
        _ => Place::of(Class::Control),
    }
}

fn something() -> Ask {
    match one_of(4) {
        0 => Ask::now(),
        1 => Ask::never(),
        _ => Ask::later(),
    }
    .at(somewhere())
}

/// One thread of a crowd that turns the ring by hand.
fn do_anything(ring: &Ring, steps: usize) {
    let mut handles: Vec<Handle<Ask>> = Vec::new();
    for _ in 0..steps {
        let which = one_of(handles.len().max(1));
        match one_of(10) {
            0..=2 => handles.push(ring.queue(something())),
            3 => drop(ring.submit()),
            4 => drop(ring.reap()),
            5 => drop(ring.wait(Some(Duration::from_millis(1)))),
            6 if !handles.is_empty() => drop(handles.swap_remove(which)),
            7 if !handles.is_empty() => handles.swap_remove(which).detach(),
            8 if !handles.is_empty() => drop(handles[which].cancel()),
            _ if !handles.is_empty() && handles[which].try_take().is_some() => {
                assert!(handles[which].is_done() && handles[which].try_take().is_none());
                drop(handles.swap_remove(which));
            }
            _ => {}
        }
    }
}

#[test]
fn shuttle_threads_that_do_anything_leave_nothing_behind() {
    tell(ITERATIONS, || {
        let ring = ring(2);
        let threads = [(); 3].map(|()| {
            let ring = ring.clone();
            thread::spawn(move || do_anything(&ring, 12))
        });
        for each in threads {
            each.join().unwrap();
        }
        drop(ring);
    });
}

#[test]
fn shuttle_threads_that_block_on_one_ring_all_get_their_results() {
    tell(ITERATIONS, || {
        let ring = ring(2);
        let parts = [(); 3].map(|()| {
            let ring = ring.clone();
            thread::spawn(move || {
                block_on(&ring, async {
                    let several = (0..3).map(|_| ring.queue(Ask::later().at(somewhere())));
                    for result in join_all(several).await {
                        assert_eq!(result.unwrap(), 0, "what nobody asked for is sent again");
                    }
                    ring.queue(Ask::now()).await.unwrap();
                });
            })
        });
        for each in parts {
            each.join().unwrap();
        }
    });
}

/// An op that waits for another's, queued by another thread: what blocks must not keep back what
/// would release it.
#[test]
fn shuttle_what_blocks_is_released_by_what_comes_later() {
    tell(ITERATIONS, || {
        let ring = ring(2);
        let place = || match one_of(2) {
            0 => Place::worker(Kind::Open),
            _ => Place::of(Class::Control),
        };
        let parts = [0, 1, 2].map(|me: u64| {
            let ring = ring.clone();
            thread::spawn(move || {
                let blocked = ring.queue(Ask::of(toy::BLOCKED, me).at(place()));
                let release = ring.queue(Ask::of(toy::RELEASE, (me + 1) % 3).at(place()));
                let (one, two) = block_on(&ring, join(blocked, release));
                assert_eq!((one.unwrap(), two.unwrap()), (0, 0));
            })
        });
        for each in parts {
            each.join().unwrap();
        }
    });
}

#[test]
fn shuttle_a_descriptor_is_closed_once_and_never_under_an_op() {
    tell(ITERATIONS, || {
        let raw = toy::new_number();
        let (ring, fd) = (ring(2), Fd::of_toy(raw));
        let users = [(); 2].map(|()| {
            let (ring, fd) = (ring.clone(), fd.clone());
            thread::spawn(move || {
                block_on(&ring, async {
                    for _ in 0..2 {
                        let used = ring.queue(Ask::later().using(&fd).at(somewhere())).await;
                        assert!(used.is_ok() || fd.is_closed());
                    }
                });
            })
        });
        let closer = {
            let (ring, fd) = (ring.clone(), fd.clone());
            thread::spawn(move || {
                let closing = ring.close(&fd);
                if one_of(2) == 0 {
                    block_on(&ring, closing).unwrap();
                    assert!(!toy::is_open(raw));
                }
            })
        };
        for each in users {
            each.join().unwrap();
        }
        closer.join().unwrap();
        block_on(&ring, ring.close(&fd)).unwrap();
        assert!(!toy::is_open(raw));
    });
}

/// Somebody cancels all that others wait for; deadlines come; nobody waits for ever.
#[test]
fn shuttle_cancels_and_deadlines_end_what_never_ends() {
    tell(ITERATIONS, || {
        let ring = ring(2);
        let running = Arc::new(AtomicUsize::new(2));
        let waiting = [(); 2].map(|()| {
            let (ring, running) = (ring.clone(), Arc::clone(&running));
            thread::spawn(move || {
                let group = ring.group();
                let late = ring.queue(Ask::never().at(somewhere())).timeout(Duration::from_secs(1));
                let grouped = group.queue(Ask::never().at(somewhere()));
                let cancelled = ring.queue(Ask::never());
                block_on(&ring, async {
                    let _ = cancelled.cancel().await;
                    let outcome = group.cancel().await;
                    assert!(outcome.cancelled + outcome.running + outcome.finished <= 1);
                    assert!(late.await.is_err() && grouped.await.is_err());
                    assert!(cancelled.await.is_err());
                });
                running.fetch_sub(1, Ordering::SeqCst);
            })
        });
        let other = {
            let (ring, running) = (ring.clone(), Arc::clone(&running));
            thread::spawn(move || {
                if running.load(Ordering::SeqCst) > 0 {
                    let outcome = block_on(&ring, ring.cancel_all());
                    assert!(outcome.finished <= 6);
                }
            })
        };
        for each in waiting {
            each.join().unwrap();
        }
        other.join().unwrap();
    });
}

/// One thread waits by hand for its op; another queues, submits and reaps by the way, then
/// cancels all or
/// ends the ring.
#[test]
fn shuttle_who_waits_by_hand_hears_of_all_that_others_did() {
    tell(ITERATIONS, || {
        let ring = ring(2);
        let handle = ring.queue(if one_of(2) == 0 { Ask::later() } else { Ask::never() });
        while ring.submit().is_err() {}
        let other = {
            let ring = ring.clone();
            thread::spawn(move || {
                for _ in 0..one_of(4) {
                    ring.queue(something()).detach();
                    let _ = ring.submit();
                }
                match one_of(2) {
                    0 => drop(ring.shutdown(Instant::now() + BEYOND_PATIENCE)),
                    _ => drop(ring.cancel_all()),
                }
                while ring.submit().is_err() {}
            })
        };
        while !handle.is_done() {
            ring.wait(None).unwrap();
            ring.reap().unwrap();
        }
        other.join().unwrap();
        drop(handle);
    });
}

/// One sleeps in the ring, for nothing of the ring's; another wakes it; a third reaps by hand what it
/// has sent, and comes by the call that is not for it.
#[test]
fn shuttle_a_reap_by_hand_leaves_the_call_to_the_sleeper() {
    tell(30 * ITERATIONS, || {
        let (ring, flag) = (ring(4), Arc::new(Flag::default()));
        let waker = {
            let flag = Arc::clone(&flag);
            thread::spawn(move || flag.raise())
        };
        let reaper = {
            let ring = ring.clone();
            thread::spawn(move || {
                ring.queue(Ask::now()).detach();
                let _ = ring.submit();
                ring.reap().unwrap();
            })
        };
        block_on(&ring, flag.wait());
        waker.join().unwrap();
        reaper.join().unwrap();
    });
}

/// Whoever turns the ring, everybody gets what they wait for, and the end comes.
#[test]
fn shuttle_a_driver_serves_all_and_ends_with_the_ring() {
    tell(ITERATIONS, || {
        let ring = ring(2);
        let driver = match one_of(2) {
            0 => thread::spawn(keeper(&ring)),
            _ => thread::spawn(host(&ring)),
        };
        let users = [(); 3].map(|()| {
            let ring = ring.clone();
            thread::spawn(move || {
                for _ in 0..3 {
                    match one_of(4) {
                        0 => drop(ring.queue(Ask::never().at(somewhere()))),
                        1 => ring.queue(Ask::now().at(somewhere())).detach(),
                        2 => {
                            let never = ring.queue(Ask::never().at(somewhere()));
                            park_on(never.cancel());
                            assert!(park_on(never).is_err());
                        }
                        _ => assert_eq!(park_on(ring.queue(Ask::now())).unwrap(), 0),
                    }
                }
            })
        });
        for each in users {
            each.join().unwrap();
        }
        drop(ring);
        driver.join().unwrap();
    });
}

/// The ring's own thread wakes many at once; who is woken first queues more, and wakes others.
#[test]
fn shuttle_all_that_a_thread_of_the_rings_own_wakes_are_woken() {
    tell(ITERATIONS, || {
        let ring = ring(4);
        let driver = thread::spawn(keeper(&ring));
        let users = [(); 3].map(|()| {
            let ring = ring.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    let several = (0..2).map(|_| ring.queue(Ask::now().at(somewhere())));
                    let wait = join_all(several);
                    let results =
                        if one_of(2) == 0 { park_on(wait) } else { block_on(&ring, wait) };
                    assert!(results.into_iter().all(|result| result.unwrap() == 0));
                }
            })
        });
        for each in users {
            each.join().unwrap();
        }
        drop(ring);
        driver.join().unwrap();
    });
}

/// A shutdown beside threads that block on the ring, and one that goes on queueing.
#[test]
fn shuttle_a_shutdown_lets_everybody_go() {
    tell(ITERATIONS, || {
        let ring = ring(2);
        let kept = Arc::new(Mutex::new(Vec::new()));
        let parts = [(); 2].map(|()| {
            let (ring, kept) = (ring.clone(), Arc::clone(&kept));
            thread::spawn(move || {
                let _ = block_on(&ring, ring.queue(something()));
                kept.lock().push(ring.queue(something()));
            })
        });
        let deadline = Instant::now() + BEYOND_PATIENCE;
        let report = block_on(&ring, ring.shutdown(deadline));
        assert_eq!(report.leaked, 0);
        for each in parts {
            each.join().unwrap();
        }
        for handle in kept.lock().drain(..) {
            let _ = block_on(&ring, handle);
        }
    });
}
