//! A ring inside somebody else's loop: C41 to C44.
//!
//! C45 is told in `watcher.rs`, C46 in `descriptors.rs`, somebody else's code inside the ring in
//! `user_code.rs`.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use deferring::{CancelOutcome, Fd, Ring, block_on};
use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll};
use rustix::io::Errno;

use crate::support::{
    BOUND, becomes_readable, bounded, builder, errno, example, finish, output_of, park_on, pipe,
    poll_once, ring, skipped, sqpoll, thread_id, turn_until, until, until_asleep,
    until_asleep_in_a_ring, until_polling,
};

#[test]
fn c41_an_eventfd_becomes_readable_when_a_completion_comes() {
    let ring = ring();
    let eventfd = eventfd();
    ring.register_eventfd(&eventfd).unwrap();
    let (reader, mut writer) = pipe();
    let read = ring.read(&reader, vec![0; 1], 0);
    ring.submit().unwrap();
    assert!(!becomes_readable(&eventfd, Duration::ZERO));
    writer.write_all(b"x").unwrap();
    assert!(becomes_readable(&eventfd, BOUND));
    assert_eq!(ring.reap().unwrap(), 1);
    assert_eq!(read.try_take().unwrap().unwrap().0, 1);
}

#[test]
fn c41_one_signal_may_stand_for_many_and_is_a_hint() {
    let ring = ring();
    let eventfd = eventfd();
    ring.register_eventfd(&eventfd).unwrap();
    let nops: Vec<_> = (0..16).map(|_| ring.nop()).collect();
    ring.submit().unwrap();
    let signals = take_signals(&eventfd).expect("signalled");
    assert!((1..=16).contains(&signals), "{signals} signals for 16 completions");
    assert_eq!(ring.reap().unwrap(), 16, "all of them, at one look");
    assert_eq!(take_signals(&eventfd), Err(Errno::AGAIN));
    drop(nops);

    // Reaped by somebody who did not ask the eventfd: the signal is left, the completion is not.
    ring.nop().detach();
    ring.submit().unwrap();
    ring.reap().unwrap();
    assert_eq!(take_signals(&eventfd), Ok(1));
    assert_eq!(ring.reap().unwrap(), 0);
}

#[test]
fn c41_a_ring_has_one_eventfd_and_can_be_rid_of_it() {
    let ring = ring();
    let eventfd = eventfd();
    assert_eq!(errno(&ring.unregister_eventfd()), Some(libc::ENXIO));
    ring.register_eventfd(&eventfd).unwrap();
    assert_eq!(errno(&ring.register_eventfd(&eventfd)), Some(libc::EBUSY));
    ring.unregister_eventfd().unwrap();
    finish(&ring, &ring.nop()).unwrap();
    assert_eq!(take_signals(&eventfd), Err(Errno::AGAIN));
    ring.register_eventfd(&eventfd).unwrap();
    finish(&ring, &ring.nop()).unwrap();
    assert_eq!(take_signals(&eventfd), Ok(1));
}

#[test]
fn c41_a_reap_leaves_nothing_in_the_kernel_of_which_no_signal_will_tell() {
    for builder in [builder().defer_taskrun(true), builder().coop_taskrun(true)] {
        let ring = builder.build().unwrap();
        let eventfd = eventfd();
        ring.register_eventfd(&eventfd).unwrap();
        let (reader, mut writer) = pipe();
        let read = ring.read(&reader, vec![0; 1], 0);
        let nop = ring.nop();
        ring.submit().unwrap();
        writer.write_all(b"x").unwrap();
        // The nop's completion is there; the read's will be when the ring is entered.
        while !read.is_done() {
            assert!(becomes_readable(&eventfd, BOUND / 2), "the read is forgotten: {ring:?}");
            take_signals(&eventfd).unwrap();
            ring.reap().unwrap();
        }
        assert_eq!(read.try_take().unwrap().unwrap().0, 1);
        nop.try_take().expect("reaped").unwrap();
    }
}

#[test]
fn c41_a_reap_takes_what_did_not_fit_as_well() {
    // As many as a reap takes at once, and one more.
    let ring = builder().queue_depth(64).completions(64).build().unwrap();
    let eventfd = eventfd();
    ring.register_eventfd(&eventfd).unwrap();
    let nops: Vec<_> = (0..65).map(|_| ring.nop()).collect();
    ring.submit().unwrap();
    take_signals(&eventfd).unwrap();
    assert_eq!(ring.reap().unwrap(), 65, "of the last one nobody would tell");
    nops.iter().for_each(|nop| nop.try_take().expect("reaped").unwrap());
}

/// Has `watched` of the ring wake a loop that sleeps on it, ten times. `quiet` takes back what it
/// said the time before.
fn wakes_a_sleeping_loop(ring: &Ring, watched: &impl AsFd, quiet: impl Fn()) {
    let (reader, writer) = pipe();
    for _ in 0..10 {
        quiet();
        let read = ring.read(&reader, vec![0; 1], 0);
        ring.submit().unwrap();
        let (host, mut writer) = (thread_id(), writer.try_clone().unwrap());
        let other = thread::spawn(move || {
            until_polling(host);
            writer.write_all(b"x").unwrap();
        });
        assert!(becomes_readable(watched, BOUND), "{:?}", ring.params());
        other.join().unwrap();
        turn_until(ring, || read.is_done());
        assert_eq!(read.try_take().unwrap().unwrap().0, 1);
    }
}

#[test]
fn c41_an_eventfd_wakes_a_sleeping_loop_in_every_mode() {
    let idle = Duration::from_millis(1);
    let modes = [
        builder(),
        builder().coop_taskrun(true),
        builder().single_issuer(true),
        builder().defer_taskrun(true),
    ];
    for builder in modes.into_iter().chain(sqpoll(idle)) {
        let ring = builder.build().unwrap();
        let eventfd = eventfd();
        ring.register_eventfd(&eventfd).unwrap();
        wakes_a_sleeping_loop(&ring, &eventfd, || {
            let _ = take_signals(&eventfd);
        });
    }
}

#[test]
fn c41_the_rings_own_descriptor_wakes_a_sleeping_loop_except_with_defer_taskrun() {
    let idle = Duration::from_millis(1);
    let modes = [builder(), builder().coop_taskrun(true), builder().single_issuer(true)];
    for builder in modes.into_iter().chain(sqpoll(idle)) {
        let ring = builder.build().unwrap();
        wakes_a_sleeping_loop(&ring, &ring, || {});
    }
}

#[test]
fn c42_a_host_that_submits_each_cycle_and_reaps_when_the_eventfd_says_so_serves_all() {
    bounded(|| {
        let ring = ring();
        let (signal, poke) = (eventfd(), Arc::new(eventfd()));
        ring.register_eventfd(&signal).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let (ring, poke) = (ring.clone(), Arc::clone(&poke));
                thread::spawn(move || {
                    let zero = Fd::from(std::fs::File::open("/dev/zero").unwrap());
                    for _ in 0..300 {
                        let read = ring.read(&zero, vec![1; 8], 0);
                        ring_the(&poke); // What a scheduler does when a task has run.
                        assert_eq!(park_on(read).into_inner().unwrap(), (8, vec![0; 8]));
                    }
                })
            })
            .collect();
        let end = {
            let (over, poke) = (Arc::clone(&over), Arc::clone(&poke));
            thread::spawn(move || {
                tasks.into_iter().for_each(|task| task.join().unwrap());
                over.store(true, Ordering::SeqCst);
                ring_the(&poke);
            })
        };
        while !over.load(Ordering::SeqCst) {
            ring.submit().unwrap();
            let mut fds = [PollFd::new(&signal, PollFlags::IN), PollFd::new(&*poke, PollFlags::IN)];
            rustix::event::poll(&mut fds, None).unwrap();
            let _ = take_signals(&poke);
            if take_signals(&signal).is_ok() {
                ring.reap().unwrap();
            }
        }
        end.join().unwrap();
        assert_eq!(ring.in_flight(), 0);
    });
}

#[test]
fn c42_the_rings_own_descriptor_is_one_more_in_an_epoll() {
    let ring = ring();
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    epoll::add(&poller, &ring, epoll::EventData::new_u64(7), epoll::EventFlags::IN).unwrap();
    let (reader, mut writer) = pipe();
    for _ in 0..10 {
        let read = ring.read(&reader, vec![0; 1], 0);
        ring.submit().unwrap();
        assert!(!becomes_readable(&poller, Duration::ZERO));
        writer.write_all(b"x").unwrap();
        assert!(becomes_readable(&poller, BOUND));
        ring.reap().unwrap();
        assert_eq!(read.try_take().unwrap().unwrap().0, 1);
    }
}

#[test]
fn c43_while_one_thread_waits_in_the_ring_others_queue_submit_and_look() {
    bounded(|| {
        let ring = ring();
        let (tell, told) = mpsc::channel();
        let loops = {
            let ring = ring.clone();
            thread::spawn(move || {
                tell.send(thread_id()).unwrap();
                while ring.wait(None).unwrap() {
                    if ring.reap().unwrap() > 0 && ring.stats().sqes == 200 {
                        return;
                    }
                }
            })
        };
        let waiter = told.recv().unwrap();
        for _ in 0..100 {
            until_asleep_in_a_ring(waiter);
            let nop = ring.nop();
            assert_eq!((ring.pending().queued, ring.in_flight()), (1, 1));
            drop(nop);
            let (one, two) = (ring.nop(), ring.nop());
            // The drop has woken the other thread, which may send what it finds written.
            assert!(ring.submit().unwrap() <= 2);
            park_on(one).unwrap();
            park_on(two).unwrap();
        }
        loops.join().unwrap();
    });
}

#[test]
fn c43_the_ring_as_the_point_where_a_scheduler_waits() {
    bounded(|| {
        let ring = builder().defer_taskrun(true).coop_taskrun(true).build().unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let ours = Fd::from(ours);
        let peer = thread::spawn(move || {
            let (mut theirs, mut buf) = (theirs, [0; 5]);
            for _ in 0..100 {
                io::Read::read_exact(&mut theirs, &mut buf).unwrap();
                theirs.write_all(&buf).unwrap();
            }
        });
        for _ in 0..100 {
            let echo = ring.read(&ours, vec![0; 5], 0);
            ring.write(&ours, "hello", 0).detach();
            while !echo.is_done() {
                ring.submit().unwrap();
                ring.wait(None).unwrap();
                ring.reap().unwrap();
            }
            assert_eq!(echo.try_take().unwrap().into_inner().unwrap(), (5, b"hello".to_vec()));
        }
        peer.join().unwrap();
    });
}

#[test]
fn c43_several_threads_block_on_one_ring() {
    bounded(|| {
        let ring = ring();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let ring = ring.clone();
                thread::spawn(move || {
                    block_on(&ring, async {
                        for _ in 0..300 {
                            let (one, two) = (ring.nop(), ring.timeout(Duration::from_micros(10)));
                            one.await.unwrap();
                            two.await.unwrap();
                        }
                    });
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(ring.in_flight(), 0);
    });
}

#[test]
fn c43_a_thread_asleep_in_block_on_sends_what_others_queue() {
    bounded(|| {
        let ring = ring();
        let (reader, mut writer) = pipe();
        let (tell, told) = mpsc::channel();
        let sleeper = {
            let ring = ring.clone();
            thread::spawn(move || {
                tell.send(thread_id()).unwrap();
                block_on(&ring, async { ring.read(&reader, vec![0; 1], 0).await.unwrap().0 })
            })
        };
        let sleeper_id = told.recv().unwrap();
        for _ in 0..100 {
            until_asleep_in_a_ring(sleeper_id);
            park_on(ring.nop()).unwrap();
            let (pipe, _writer) = pipe();
            let read = ring.read(&pipe, vec![0; 1], 0);
            assert_eq!(park_on(read.cancel()), CancelOutcome::Cancelled);
        }
        writer.write_all(b"x").unwrap();
        assert_eq!(sleeper.join().unwrap(), 1);
    });
}

#[test]
fn c43_a_short_block_on_beside_a_long_one_leaves_the_long_one_its_bell() {
    bounded(|| {
        let ring = ring();
        for _ in 0..100 {
            let (tell, told) = mpsc::channel();
            let long = {
                let ring = ring.clone();
                thread::spawn(move || {
                    let mut told_once = false;
                    let woken = Arc::new(AtomicBool::new(false));
                    block_on(
                        &ring,
                        std::future::poll_fn(|cx| {
                            if !std::mem::replace(&mut told_once, true) {
                                let wake = (cx.waker().clone(), Arc::clone(&woken), thread_id());
                                tell.send(wake).unwrap();
                            }
                            if woken.load(Ordering::SeqCst) {
                                Poll::Ready(())
                            } else {
                                Poll::Pending
                            }
                        }),
                    );
                })
            };
            let (waker, woken, sleeper) = told.recv().unwrap();
            until_asleep_in_a_ring(sleeper);
            let short = thread_id();
            let (reader, mut writer) = pipe();
            let watched = ring.clone();
            let other = thread::spawn(move || {
                until("the read is in the kernel", || watched.pending().in_kernel == 1);
                // In the kernel or parked, whichever of them has the seat.
                until_asleep(sleeper);
                until_asleep(short);
                writer.write_all(b"x").unwrap();
            });
            block_on(&ring, ring.read(&reader, vec![0; 1], 0)).unwrap();
            other.join().unwrap();
            until_asleep(sleeper);
            woken.store(true, Ordering::SeqCst);
            waker.wake();
            long.join().unwrap();
        }
    });
}

#[test]
fn c43_a_future_that_wakes_itself_costs_no_system_call_for_that() {
    bounded(|| {
        let ring = ring();
        let (reader, mut writer) = pipe();
        let (watched, sleeper) = (ring.clone(), thread_id());
        let other = thread::spawn(move || {
            until("the read is in the kernel", || watched.pending().in_kernel == 1);
            until_asleep_in_a_ring(sleeper);
            writer.write_all(b"x").unwrap();
        });
        let mut read = ring.read(&reader, vec![0; 1], 0);
        let mut polls = 0;
        let (n, _) = block_on(
            &ring,
            std::future::poll_fn(|cx| {
                polls += 1;
                if polls < 3 {
                    cx.waker().wake_by_ref();
                }
                poll_once(&mut read, cx.waker())
            }),
        )
        .unwrap();
        other.join().unwrap();
        assert_eq!((n, ring.stats().enters), (1, 1), "one call that submits and waits");
    });
}

#[test]
fn c43_block_on_wakes_for_what_is_not_the_rings() {
    bounded(|| {
        let ring = ring();
        for _ in 0..100 {
            let task = Arc::new(Mutex::new(None::<Waker>));
            let (rung, waiting) = (Arc::new(AtomicBool::new(false)), Arc::clone(&task));
            let (sleeper, rings) = (thread_id(), Arc::clone(&rung));
            let other = thread::spawn(move || {
                until_asleep_in_a_ring(sleeper);
                rings.store(true, Ordering::SeqCst);
                waiting.lock().unwrap().take().expect("it waits").wake();
            });
            block_on(
                &ring,
                std::future::poll_fn(|cx| {
                    *task.lock().unwrap() = Some(cx.waker().clone());
                    if rung.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
                }),
            );
            other.join().unwrap();
        }
    });
}

#[test]
fn c43_the_seeds_own_loop_reads_files() {
    let Some(program) = example("seeds_own_loop") else {
        return skipped("the example seeds_own_loop, which `cargo test` without `--test` builds");
    };
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..100).map(|at| dir.path().join(format!("{at}"))).collect();
    let mut expected = String::new();
    for (at, path) in paths.iter().enumerate() {
        std::fs::write(path, "line\n".repeat(at)).unwrap();
        expected += &format!("{}: {at} lines\n", path.display());
    }
    let (status, output) = output_of(Command::new(program).args(&paths));
    assert!(status.success(), "{output}");
    assert_eq!(output, expected);
}

#[test]
fn c44_a_wait_of_no_time_does_not_wait_and_costs_no_system_call() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let read = ring.read(&reader, vec![0; 1], 0);
    ring.submit().unwrap();
    for _ in 0..1000 {
        assert!(!ring.wait(Some(Duration::ZERO)).unwrap());
    }
    assert_eq!(ring.stats().enters, 1, "the submit");
    writer.write_all(b"x").unwrap();
    turn_until(&ring, || ring.wait(Some(Duration::ZERO)).unwrap() || read.is_done());
    assert_eq!(finish(&ring, &read).unwrap().0, 1);
}

#[test]
fn c44_a_wait_of_no_time_fetches_what_the_kernel_hands_over_only_when_asked() {
    for builder in [builder().coop_taskrun(true), builder().defer_taskrun(true)] {
        let ring = builder.build().unwrap();
        let (reader, mut writer) = pipe();
        let read = ring.read(&reader, vec![0; 1], 0);
        ring.submit().unwrap();
        assert!(!ring.wait(Some(Duration::ZERO)).unwrap());
        writer.write_all(b"x").unwrap();
        until("a look fetches it", || ring.wait(Some(Duration::ZERO)).unwrap());
        ring.reap().unwrap();
        assert_eq!(read.try_take().unwrap().unwrap().0, 1);
    }
}

fn eventfd() -> OwnedFd {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn take_signals(eventfd: impl AsFd) -> Result<u64, Errno> {
    let mut count = [0; 8];
    rustix::io::read(eventfd, &mut count)?;
    Ok(u64::from_ne_bytes(count))
}

fn ring_the(bell: impl AsFd) {
    rustix::io::write(bell, &1u64.to_ne_bytes()).unwrap();
}

#[test]
fn c43_a_thread_may_block_on_many_rings_for_long_one_after_the_other_and_inside_each_other() {
    // More than a thread may have the kernel know by an index (16), each for long enough for one.
    const TURNS: u64 = 200;
    let nops = async |ring: &Ring| {
        for _ in 0..TURNS {
            ring.nop().await.unwrap();
        }
    };
    for _ in 0..40 {
        let ring = ring();
        block_on(&ring, nops(&ring));
        assert_eq!(ring.stats().ended, TURNS);
    }
    let rings: Vec<Ring> = (0..20).map(|_| ring()).collect();
    nested(&rings);
    // Each is still turned by itself, also by hand.
    for ring in &rings {
        finish(ring, &ring.nop()).unwrap();
        block_on(ring, nops(ring));
    }

    fn nested(rings: &[Ring]) {
        let Some((ring, rest)) = rings.split_first() else { return };
        block_on(ring, async {
            for _ in 0..100 {
                ring.nop().await.unwrap();
            }
            nested(rest);
            for _ in 0..100 {
                ring.nop().await.unwrap();
            }
        });
    }
}
