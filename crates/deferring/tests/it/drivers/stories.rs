//! The stories, told of every host: what a task does with a ring, whoever turns it.
//!
//! They wait for events only. Not: who the hosts are (`hosts.rs`), nor which story is for which
//! (`mod.rs`).

use std::fs::File;
use std::future::Future;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use deferring::{BufResult, CancelOutcome, Fd, Handle, Ring, RingError};
use futures_util::future::join;

use super::hosts::{Host, Task};
use crate::support::{
    BOUND, Graveyard, OpenInWorker, errno, fifo, in_time, park_on, pipe, poll_once, until,
};

pub(super) fn ten_thousand_ops_from_sixty_four_tasks_all_end(host: Host) {
    const OPS: usize = 10_000;
    const TASKS: usize = 64;
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ended);
    host.tell(1, move |rings| {
        let zero = Fd::from(File::open("/dev/zero").unwrap());
        let task = |number| {
            let (ring, zero, ended) = (rings[0].clone(), zero.clone(), Arc::clone(&counted));
            boxed(async move {
                for op in (number..OPS).step_by(TASKS) {
                    match op % 7 {
                        0 => {
                            let read = ring.read(&zero, vec![1; 8], 0).await;
                            assert_eq!(read.into_inner().unwrap(), (8, vec![0; 8]));
                        }
                        1 => ring.timeout(Duration::from_micros(20)).await.unwrap(),
                        2 => {
                            let (one, two) = join(ring.nop(), ring.nop()).await;
                            one.and(two).unwrap();
                        }
                        _ => ring.nop().await.unwrap(),
                    }
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        (0..TASKS).map(task).collect()
    });
    assert_eq!(ended.load(Ordering::Relaxed), OPS);
}

/// How a handle is given up.
#[derive(Clone, Copy, Debug)]
enum End {
    Cancel,
    CancelAwaited,
    Drop,
    Detach,
}

pub(super) fn an_op_that_is_cancelled_or_dropped_at_any_point_ends_once_and_frees_its_buffer(
    host: Host,
) {
    const TASKS: usize = 8;
    let graveyard = Graveyard::default();
    let buffers = graveyard.clone();
    host.tell(1, move |rings| {
        let task = |_| {
            let (ring, buffers) = (rings[0].clone(), buffers.clone());
            boxed(async move {
                for end in [End::Cancel, End::CancelAwaited, End::Drop, End::Detach] {
                    for point in 0..=WELL_AFTER_DATA {
                        give_up_at(&ring, &buffers, point, end).await;
                    }
                }
            })
        };
        (0..TASKS).map(task).collect()
    });
    assert_eq!(graveyard.freed(), TASKS * 4 * (WELL_AFTER_DATA + 1));
    graveyard.check_undisturbed();
}

// The points at which the read of a pipe is given up: when it was just queued, when it was polled,
// when it is in the kernel, when there is data, when it has most likely ended, when it has surely
// ended.
const POLLED: usize = 1;
const IN_KERNEL: usize = 2;
const AFTER_DATA: usize = 3;
const WELL_AFTER_DATA: usize = 5;

async fn give_up_at(ring: &Ring, buffers: &Graveyard, point: usize, end: End) {
    let (reader, mut writer) = pipe();
    let mut read = ring.read(&reader, buffers.buffer(), 0);
    if point >= POLLED {
        poll_now(&mut read).await;
    }
    if point >= IN_KERNEL {
        ring.nop().await.unwrap();
    }
    if point >= AFTER_DATA {
        writer.write_all(b"x").unwrap();
    }
    if point > AFTER_DATA {
        ring.nop().await.unwrap();
    }
    while point == WELL_AFTER_DATA && !read.is_done() {
        ring.nop().await.unwrap();
    }
    match end {
        End::Cancel => drop(read.cancel()),
        End::CancelAwaited => drop(read.cancel().await),
        End::Drop => {
            drop(read);
            return no_longer_used(ring, reader).await;
        }
        End::Detach => {
            read.detach();
            drop(writer); // So that it ends.
            return no_longer_used(ring, reader).await;
        }
    }
    let BufResult(result, buf) = read.await;
    match result {
        Ok(n) => assert_eq!((n, buf.bytes()[0], point >= AFTER_DATA), (1, b'x', true)),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::ECANCELED), "{end:?} at {point}");
            assert!(point < WELL_AFTER_DATA);
            if point >= AFTER_DATA {
                // What a cancelled read did not take is there for the next one.
                let again = ring.read(&reader, vec![0; 2], 0).await.into_inner().unwrap();
                assert_eq!(again, (1, vec![b'x', 0]));
            }
        }
    }
    no_longer_used(ring, reader).await;
}

pub(super) fn a_deadline_ends_what_would_not_end(host: Host) {
    host.tell(1, |rings| {
        let task = |number: u64| {
            let ring = rings[0].clone();
            boxed(async move {
                let (reader, mut writer) = pipe();
                for time in [number * 100, 0, 1000].map(Duration::from_micros) {
                    let late = ring.read(&reader, vec![7; 3], 0).timeout(time);
                    let BufResult(result, buf) = late.await;
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
                    assert_eq!(buf, [7; 3]);
                }
                let in_time = ring.read(&reader, vec![7; 3], 0).timeout(2 * BOUND);
                writer.write_all(b"x").unwrap();
                assert_eq!(in_time.await.unwrap().0, 1);
            })
        };
        (0..16).map(task).collect()
    });
}

pub(super) fn select_drops_the_losers_and_their_buffers_are_freed(host: Host) {
    const TASKS: usize = 4;
    const ROUNDS: usize = 25;
    let graveyard = Graveyard::default();
    let buffers = graveyard.clone();
    host.tell(1, move |rings| {
        let task = |number| {
            let (ring, buffers) = (rings[0].clone(), buffers.clone());
            boxed(async move {
                for round in 0..ROUNDS {
                    let winner: usize = (number + round) % 3;
                    let mut pipes = [pipe(), pipe(), pipe()];
                    let [one, two, three] =
                        pipes.each_ref().map(|(reader, _)| ring.read(reader, buffers.buffer(), 0));
                    if round % 2 == 0 {
                        ring.nop().await.unwrap(); // All are in the kernel when the data comes.
                    }
                    pipes[winner].1.write_all(b"x").unwrap();
                    let (which, BufResult(n, buf)) = tokio::select! {
                        first = one => (0, first),
                        second = two => (1, second),
                        third = three => (2, third),
                    };
                    assert_eq!((which, n.unwrap(), buf.bytes()[0]), (winner, 1, b'x'));
                    drop(buf);
                    for (reader, _writer) in pipes {
                        no_longer_used(&ring, reader).await;
                    }
                }
            })
        };
        (0..TASKS).map(task).collect()
    });
    assert_eq!(graveyard.freed(), TASKS * ROUNDS * 3);
    graveyard.check_undisturbed();
}

pub(super) fn a_task_that_never_rests_does_not_keep_another_from_reading(host: Host) {
    host.tell(1, |rings| {
        let done = Arc::new(AtomicBool::new(false));
        let (ring, over) = (rings[0].clone(), Arc::clone(&done));
        let reads = boxed(async move {
            let (reader, mut writer) = pipe();
            for _ in 0..300 {
                let read = ring.read(&reader, vec![0; 1], 0);
                writer.write_all(b"x").unwrap();
                assert_eq!(read.await.unwrap().0, 1);
            }
            over.store(true, Ordering::SeqCst);
        });
        let ring = rings[0].clone();
        let never_rests = boxed(async move {
            while !done.load(Ordering::SeqCst) {
                // Of 64, all but one are ready when they are awaited.
                let nops: Vec<_> = (0..64).map(|_| ring.nop()).collect();
                for nop in nops {
                    nop.await.unwrap();
                }
            }
        });
        vec![never_rests, reads]
    });
}

pub(super) fn two_rings_serve_the_same_tasks(host: Host) {
    host.tell(2, |rings| {
        let task = |_| {
            let [one, two] = [rings[0].clone(), rings[1].clone()];
            boxed(async move {
                let [(reader, writer), (silent, _silent)] = [pipe(), pipe()];
                let writer = Fd::from(writer);
                for round in 0..20 {
                    let read = one.read(&reader, vec![0; 8], 0);
                    let write = two.write(&writer, b"hello".to_vec(), 0);
                    let (read, write) = join(read, write).await;
                    assert_eq!((read.unwrap().0, write.unwrap().0), (5, 5));
                    if round % 4 == 0 {
                        let ready = tokio::select! {
                            _ = one.read(&silent, vec![0; 8], 0) => false,
                            nop = two.nop() => nop.is_ok(),
                        };
                        assert!(ready);
                    }
                }
                no_longer_used(&one, silent).await;
            })
        };
        (0..8).map(task).collect()
    });
}

pub(super) fn handles_go_from_task_to_task(host: Host) {
    host.tell(1, |rings| {
        let mut tasks = Vec::new();
        for number in 0..8 {
            let (give, taken) = smol::channel::bounded::<Handle<deferring::op::Read<Vec<u8>>>>(2);
            let (reader, mut writer) = pipe();
            let ring = rings[0].clone();
            tasks.push(boxed(async move {
                for round in 0..10 {
                    let mut read = ring.read(&reader, vec![0; 1], 0);
                    if (number + round) % 3 > 0 {
                        poll_now(&mut read).await; // By this task, which will not have it.
                    }
                    if (number + round) % 3 > 1 {
                        ring.nop().await.unwrap();
                    }
                    give.send(read).await.expect("somebody takes it");
                }
            }));
            tasks.push(boxed(async move {
                for _ in 0..10 {
                    let read = taken.recv().await.expect("somebody sends");
                    writer.write_all(b"x").unwrap();
                    assert_eq!(read.await.unwrap().0, 1);
                }
            }));
        }
        tasks
    });
}

pub(super) fn ops_of_a_thread_outside_complete(host: Host) {
    host.tell(1, move |rings| {
        let ring = rings[0].clone();
        vec![boxed(async move {
            let outside = ring.clone();
            let (tell, told) = smol::channel::bounded(1);
            let thread = thread::spawn(move || {
                // The loops of their own submit when they are called; drivers see to it.
                let submit = || {
                    if !host.is_driven() {
                        outside.submit().unwrap();
                    }
                };
                for round in 0..20 {
                    let nop = outside.nop();
                    submit();
                    park_on(nop).unwrap();
                    let (reader, mut writer) = pipe();
                    let read = outside.read(&reader, vec![0; 1], 0);
                    let gone = outside.read(&reader, vec![0; 1], 0);
                    submit();
                    if round % 2 == 0 {
                        drop(gone);
                        writer.write_all(b"x").unwrap();
                        submit();
                        assert_eq!(park_on(read).unwrap().0, 1);
                    } else {
                        let cancelled = read.cancel();
                        submit();
                        assert_eq!(park_on(cancelled), CancelOutcome::Cancelled);
                        gone.detach(); // Ends when the writer goes.
                    }
                }
                tell.send_blocking(()).expect("somebody listens");
            });
            // Nothing else is out while the host rests.
            let _ = told.recv().await;
            thread.join().unwrap();
        })]
    });
}

// For drivers.

pub(super) fn a_submit_or_a_wait_by_hand_is_not_needed_and_says_so(host: Host) {
    host.tell(1, |rings| {
        let ring = rings[0].clone();
        vec![boxed(async move {
            for time in [None, Some(Duration::ZERO)] {
                let error = ring.wait(time).unwrap_err();
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<RingError>());
                let advice = inner.and_then(RingError::advice);
                assert!(advice.is_some_and(|advice| advice.contains("Await")), "{error}");
            }
            let nop = ring.nop();
            assert_eq!(ring.submit().unwrap(), 0);
            nop.await.unwrap();
            // A reap by hand takes nothing from anybody.
            let (reader, mut writer) = pipe();
            let read = ring.read(&reader, vec![0; 1], 0);
            writer.write_all(b"x").unwrap();
            ring.submit().unwrap();
            ring.reap().unwrap();
            assert_eq!(read.await.unwrap().0, 1);
        })]
    });
}

pub(super) fn block_on_beside_the_driver_works(host: Host) {
    host.tell(1, |rings| {
        let ring = rings[0].clone();
        vec![boxed(async move {
            let (tell, told) = smol::channel::bounded(1);
            let outside = ring.clone();
            let thread = thread::spawn(move || {
                for _ in 0..30 {
                    let (reader, mut writer) = pipe();
                    let story = async {
                        let read = outside.read(&reader, vec![0; 1], 0);
                        outside.nop().await.unwrap();
                        outside.timeout(Duration::from_micros(100)).await.unwrap();
                        writer.write_all(b"x").unwrap();
                        read.await.unwrap().0
                    };
                    assert_eq!(deferring::block_on(&outside, in_time(story)), 1);
                }
                drop(outside);
                tell.send_blocking(()).expect("somebody listens");
            });
            for _ in 0..30 {
                ring.timeout(Duration::from_micros(50)).await.unwrap();
                ring.nop().await.unwrap();
            }
            let _ = told.recv().await;
            thread.join().unwrap();
            ring.nop().await.unwrap();
        })]
    });
}

pub(super) fn detached_ops_complete_though_nobody_polls(host: Host) {
    host.tell(1, |rings| {
        let ring = rings[0].clone();
        vec![boxed(async move {
            for _ in 0..20 {
                let (reader, writer) = rustix::pipe::pipe().unwrap();
                let (tell, told) = smol::channel::bounded(1);
                let thread = thread::spawn(move || {
                    let mut word = [0; 5];
                    File::from(reader).read_exact(&mut word).unwrap();
                    tell.send_blocking(word).expect("somebody listens");
                });
                ring.write(&writer.into(), "hello", 0).detach();
                assert_eq!(&told.recv().await.expect("it tells"), b"hello");
                thread.join().unwrap();
            }
        })]
    });
}

pub(super) fn a_ring_dropped_inside_a_completion_ends(host: Host) {
    host.give(|ring| {
        vec![boxed(async move {
            let [(reader, mut writer), (other, _other)] = [pipe(), pipe()];
            let others = ring.read(&other, vec![7; 3], 0);
            let mut read = ring.read(&reader, vec![0; 1], 0);
            let last = Waker::from(Arc::new(DropsRing(Mutex::new(Some(ring)))));
            assert!(poll_once(&mut read, &last).is_pending());
            drop(last);
            writer.write_all(b"x").unwrap();
            let BufResult(result, buf) = others.await;
            assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![7; 3]));
            assert_eq!(read.try_take().expect("it called").unwrap().0, 1);
        })]
    });
}

/// A waker that has the last `Ring`.
struct DropsRing(Mutex<Option<Ring>>);

impl Wake for DropsRing {
    fn wake(self: Arc<Self>) {
        let ring = self.0.lock().unwrap().take();
        drop(ring);
    }
}

pub(super) fn a_ring_dropped_with_ops_out_gives_each_its_result(host: Host) {
    let graveyard = Graveyard::default();
    let buffers = graveyard.clone();
    host.give(move |ring| {
        let ring = Arc::new(Mutex::new(Some(ring)));
        let waiting = Arc::new(AtomicUsize::new(0));
        let task = |number| {
            let (ring, buffers) = (Arc::clone(&ring), buffers.clone());
            let waiting = Arc::clone(&waiting);
            boxed(async move {
                let (reader, _writer) = pipe();
                let mut read = ring.lock().unwrap().as_ref().expect("there").read(
                    &reader,
                    buffers.buffer(),
                    0,
                );
                poll_now(&mut read).await;
                // The last of them drops the ring.
                if waiting.fetch_add(1, Ordering::SeqCst) == 15 {
                    let last = ring.lock().unwrap().take();
                    drop(last);
                }
                let BufResult(result, buf) = read.await;
                assert_eq!(errno(&result), Some(libc::ECANCELED), "task {number}");
                assert!(!buf.is_stand_in());
            })
        };
        (0..16).map(task).collect()
    });
    assert_eq!(graveyard.freed(), 16);
}

pub(super) fn a_ring_dropped_while_workers_are_blocked_ends_when_they_let_go(host: Host) {
    // Whoever drops it and whoever turns it see the last completions at the same time.
    for _ in 0..10 {
        host.give(|ring| {
            let dir = tempfile::tempdir().unwrap();
            vec![boxed(async move {
                let fifos: Vec<_> =
                    (0..3).map(|number| fifo(dir.path().join(format!("{number}")))).collect();
                let open = |fifo: &PathBuf| ring.queue(OpenInWorker::new(fifo));
                let opens: Vec<_> = fifos.iter().map(open).collect();
                ring.nop().await.unwrap();
                let (tell, told) = smol::channel::bounded(1);
                let drops = thread::spawn(move || {
                    drop(ring);
                    tell.send_blocking(()).expect("somebody listens");
                });
                // A worker whose submitter exits at the wrong moment cannot be cancelled by
                // anybody: so the opens are given what they wait for, too.
                let ends = told.clone();
                let releases = thread::spawn(move || {
                    thread::yield_now();
                    let open = |fifo| File::options().read(true).write(true).open(fifo).unwrap();
                    let held: Vec<_> = fifos.iter().map(open).collect();
                    until("the ring has ended", || !ends.is_empty() || ends.is_closed());
                    drop(held);
                });
                let _ = told.recv().await;
                drops.join().unwrap();
                releases.join().unwrap();
                for open in opens {
                    let result = open.try_take().expect("ended");
                    assert!(matches!(errno(&result), None | Some(libc::ECANCELED | libc::EINTR)));
                }
            })]
        });
    }
}

pub(super) fn a_waker_that_panics_leaves_the_ring_whole(host: Host) {
    host.tell(1, |rings| {
        let ring = rings[0].clone();
        vec![boxed(async move {
            for _ in 0..3 {
                let [(reader, mut writer), (other, mut last)] = [pipe(), pipe()];
                let panics = Waker::from(Arc::new(Panics));
                let mut read = ring.read(&reader, vec![0; 1], 0);
                assert!(poll_once(&mut read, &panics).is_pending());
                let mut beside = ring.read(&other, vec![0; 1], 0);
                poll_now(&mut beside).await;
                writer.write_all(b"x").unwrap();
                last.write_all(b"x").unwrap();
                assert_eq!(beside.await.unwrap().0, 1);
                while !read.is_done() {
                    ring.nop().await.unwrap();
                }
                assert_eq!(read.try_take().unwrap().unwrap().0, 1);
            }
        })]
    });
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        // Not a panic of the hook's: it would be told in the output of every run.
        std::panic::resume_unwind(Box::new("a waker of the user's panics"));
    }
}

// What the stories share.

fn boxed(task: impl Future<Output = ()> + Send + 'static) -> Task {
    Box::pin(task)
}

/// Polls once, with the waker of the task. What it polls is not ready.
async fn poll_now<F: Future + Unpin>(future: &mut F) {
    std::future::poll_fn(|cx| {
        assert!(Pin::new(&mut *future).poll(cx).is_pending(), "nothing to be ready for");
        Poll::Ready(())
    })
    .await;
}

/// Turns the ring until no op uses the descriptor, which is the last of its name.
async fn no_longer_used(ring: &Ring, fd: Fd) {
    let mut fd = Some(fd);
    while let Some(used) = fd.take() {
        match used.try_into_owned() {
            Ok(owned) => drop(owned),
            Err(used) => {
                ring.nop().await.unwrap();
                fd = Some(used);
            }
        }
    }
}
