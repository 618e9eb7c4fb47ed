//! What only a ring on tokio has: a runtime that ends, threads of its own that come and go.
//!
//! Not: what every host has (`stories.rs`), nor the thread that takes over (`thread.rs`).

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use deferring::{BufResult, Fd, Ring, RingError, block_on};
use tokio::runtime::{Builder, Runtime};

use crate::support::{
    Count, OpenInWorker, bounded, builder, errno, fifo, in_a_process_of_its_own, in_time, lets_go,
    open_descriptors, park_on, pipe, poll_once, this_test, until,
};

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn workers(count: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(count).enable_all().build().unwrap()
}

fn each_runtime(story: impl Fn(Runtime) + Send + 'static) {
    bounded(move || [current_thread(), workers(2)].into_iter().for_each(story));
}

fn start_on(runtime: &Runtime) -> Ring {
    let _guard = runtime.enter();
    builder().queue_depth(32).drain_timeout(Duration::MAX).start_on_tokio().unwrap()
}

#[test]
fn a_runtime_that_shuts_down_while_ops_are_out_leaves_them_to_a_thread() {
    each_runtime(|runtime| {
        let ring = start_on(&runtime);
        let (reader, mut writer) = pipe();
        let outside = ring.read(&reader, vec![0; 1], 0);
        let (began, tasks) = smol::channel::unbounded();
        for _ in 0..8 {
            let (ring, began) = (ring.clone(), began.clone());
            let _running = runtime.spawn(async move {
                let (reader, _writer) = pipe();
                let read = ring.read(&reader, vec![0; 1], 0);
                began.send(()).await.unwrap();
                read.await.0.expect_err("nothing comes");
            });
        }
        runtime.block_on(async {
            for _ in 0..8 {
                tasks.recv().await.unwrap();
            }
        });
        drop(runtime);
        writer.write_all(b"x").unwrap();
        assert_eq!(park_on(outside).unwrap().0, 1);
        park_on(ring.nop()).unwrap();
        until("what the tasks dropped has ended", || ring.in_flight() == 0);
    });
}

/// The drop of a runtime joins its threads, and the kernel waits in their exit for their workers.
#[test]
fn a_runtime_ends_while_opens_block_that_it_submitted_and_they_open_later() {
    for _ in 0..10 {
        each_runtime(|runtime| {
            let ring = start_on(&runtime);
            let dir = tempfile::tempdir().unwrap();
            let fifos = [0, 1, 2].map(|number| fifo(dir.path().join(format!("{number}"))));
            let opens = fifos.each_ref().map(|fifo| ring.queue(OpenInWorker::new(fifo)));
            runtime.block_on(async { ring.nop().await.unwrap() });
            drop(runtime);
            // Both ways, so that it waits for nobody.
            let both = |fifo| File::options().read(true).write(true).open(fifo).unwrap();
            let peers = fifos.each_ref().map(both);
            for open in opens {
                park_on(open).unwrap();
            }
            drop(peers);
        });
    }
}

#[test]
fn a_runtime_that_shuts_down_with_the_last_ring_does_not_hang() {
    each_runtime(|runtime| {
        let ring = start_on(&runtime);
        let (reader, _writer) = pipe();
        let kept = ring.read(&reader, vec![7; 3], 0);
        let dir = tempfile::tempdir().unwrap();
        let path = fifo(dir.path().join("fifo"));
        let open = ring.queue(OpenInWorker::new(&path));
        let _running = runtime.spawn(async move {
            std::future::pending::<()>().await;
            drop(ring);
        });
        runtime.block_on(tokio::task::yield_now());
        let _peer = lets_go(&path);
        runtime.shutdown_background();
        let BufResult(result, buf) = park_on(kept);
        assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![7; 3]));
        assert!(matches!(errno(&park_on(open)), None | Some(libc::ECANCELED | libc::EINTR)));
    });
}

#[test]
fn a_runtime_may_end_at_any_moment_while_others_queue() {
    bounded(|| {
        for round in 0..30 {
            let runtime = if round % 2 == 0 { current_thread() } else { workers(2) };
            let ring = start_on(&runtime);
            let other = ring.clone();
            let thread = thread::spawn(move || {
                for _ in 0..30 {
                    park_on(other.nop()).unwrap();
                    park_on(other.timeout(Duration::from_micros(20))).unwrap();
                }
            });
            runtime.block_on(async {
                for _ in 0..round {
                    ring.nop().await.unwrap();
                }
            });
            drop(runtime);
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_thousand_threads_that_queue_and_exit_change_no_result() {
    const THREADS: usize = 1000;
    const AT_ONCE: usize = 40;
    bounded(|| {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_keep_alive(Duration::from_nanos(1)) // They exit when they have nothing to do.
            .enable_all()
            .build()
            .unwrap();
        let ring = start_on(&runtime);
        runtime.block_on(in_time(async {
            for _ in 0..THREADS / AT_ONCE {
                let queue = |number: usize| {
                    let ring = ring.clone();
                    tokio::task::spawn_blocking(move || {
                        let (reader, writer) = pipe();
                        let mut read = ring.read(&reader, vec![0; 1], 0);
                        let (count, waker) = Count::new();
                        // Polls that come in a row from one task submit by themselves. (The exit of
                        // a thread that has submitted takes the kernel milliseconds.)
                        for _ in 0..if number % 8 == 0 { 2 } else { 0 } {
                            assert!(
                                poll_once(&mut ring.timeout(Duration::MAX), &waker).is_pending()
                            );
                            assert!(poll_once(&mut read, &waker).is_pending());
                        }
                        drop((count, waker));
                        (read, writer)
                    })
                };
                let threads: Vec<_> = (0..AT_ONCE).map(queue).collect();
                for thread in threads {
                    let (read, mut writer) = thread.await.unwrap();
                    writer.write_all(b"x").unwrap();
                    assert_eq!(read.await.unwrap().0, 1);
                }
            }
        }));
    });
}

#[test]
fn a_wait_in_block_in_place_blocks_nobody_else() {
    bounded(|| {
        let runtime = workers(2);
        let ring = start_on(&runtime);
        let blocked = |number: usize| {
            let ring = ring.clone();
            runtime.spawn(async move {
                for _ in 0..10 {
                    let (reader, mut writer) = pipe();
                    let read = ring.read(&reader, vec![0; 1], 0);
                    let later = ring.timeout(Duration::from_micros(100));
                    tokio::spawn(async move {
                        later.await.unwrap();
                        writer.write_all(b"x").unwrap();
                    });
                    let read = tokio::task::block_in_place(|| match number % 3 {
                        0 => park_on(read),
                        1 => block_on(&ring, read),
                        _ => tokio::runtime::Handle::current().block_on(read),
                    });
                    assert_eq!(read.unwrap().0, 1);
                }
            })
        };
        let tasks: Vec<_> = (0..6).map(blocked).collect();
        runtime.block_on(in_time(async {
            for task in tasks {
                task.await.unwrap();
            }
        }));
    });
}

#[test]
fn a_task_that_spins_on_one_worker_does_not_keep_the_other_from_reading() {
    bounded(|| {
        let runtime = workers(2);
        let ring = start_on(&runtime);
        let over = Arc::new(AtomicBool::new(false));
        let spins = {
            let over = Arc::clone(&over);
            runtime.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let reads = runtime.spawn(async move {
            let (reader, mut writer) = pipe();
            for _ in 0..1000 {
                let read = ring.read(&reader, vec![0; 1], 0);
                writer.write_all(b"x").unwrap();
                assert_eq!(read.await.unwrap().0, 1);
            }
        });
        runtime.block_on(async {
            in_time(reads).await.unwrap();
            over.store(true, Ordering::Relaxed);
            spins.await.unwrap();
        });
    });
}

#[test]
fn a_task_that_computes_after_each_op_keeps_no_other_from_getting_on() {
    bounded(|| {
        let runtime = workers(2);
        let ring = start_on(&runtime);
        let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        // Two, as one alone would turn the ring itself.
        let others = [(); 2].map(|()| {
            let (ring, over, done) = (ring.clone(), Arc::clone(&over), Arc::clone(&done));
            runtime.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    ring.nop().await.unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let computes = runtime.spawn(async move {
            for _ in 0..500 {
                ring.nop().await.unwrap();
                // For as long as the others need to turn the ring, and more than once.
                let enough = done.load(Ordering::Relaxed) + 8;
                while done.load(Ordering::Relaxed) < enough {
                    thread::yield_now();
                }
            }
        });
        runtime.block_on(async {
            in_time(computes).await.unwrap();
            over.store(true, Ordering::Relaxed);
            for other in others {
                other.await.unwrap();
            }
        });
    });
}

#[test]
fn a_task_whose_ops_are_always_ready_lets_others_go_on() {
    bounded(|| {
        let runtime = current_thread();
        let ring = start_on(&runtime);
        let raised = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&raised);
        runtime.block_on(in_time(async {
            let other = tokio::spawn(async move {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                    counts.fetch_add(1, Ordering::Relaxed);
                }
            });
            let alone = tokio::spawn(async move {
                while raised.load(Ordering::Relaxed) < 10 {
                    ring.nop().await.unwrap();
                }
            });
            alone.await.unwrap();
            other.await.unwrap();
        }));
    });
}

#[test]
fn two_runtimes_share_a_ring_that_outlives_the_one_it_was_started_on() {
    bounded(|| {
        let (first, second) = (workers(2), current_thread());
        let ring = start_on(&first);
        let work = |ring: Ring| async move {
            let (reader, mut writer) = pipe();
            for _ in 0..50 {
                let read = ring.read(&reader, vec![0; 1], 0);
                ring.nop().await.unwrap();
                writer.write_all(b"x").unwrap();
                assert_eq!(read.await.unwrap().0, 1);
            }
        };
        let there = first.spawn(work(ring.clone()));
        second.block_on(in_time(work(ring.clone())));
        first.block_on(in_time(there)).unwrap();
        let (reader, mut writer) = pipe();
        let read = ring.read(&reader, vec![0; 1], 0);
        drop(first);
        second.block_on(in_time(work(ring.clone())));
        writer.write_all(b"x").unwrap();
        assert_eq!(second.block_on(in_time(read)).unwrap().0, 1);
        drop(second);
        park_on(work(ring));
    });
}

#[test]
fn where_it_cannot_start_the_error_says_what_to_do_and_nothing_is_left_open() {
    in_a_process_of_its_own(this_test!(), || {
        let bare = Builder::new_current_thread().build().unwrap();
        let whole = current_thread();
        drop(whole.block_on(async { builder().start_on_tokio().unwrap() }));
        let before = open_descriptors();
        let refused = |result: std::io::Result<Ring>, word: &str| {
            let error = result.expect_err("it started");
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<RingError>());
            let advice = inner.and_then(RingError::advice).expect("advice");
            assert!(advice.contains(word), "{error}");
        };
        refused(builder().start_on_tokio(), "Runtime::enter");
        bare.block_on(async { refused(builder().start_on_tokio(), "enable_io") });
        whole.block_on(async {
            refused(builder().single_issuer(true).start_on_tokio(), "`start`");
            refused(builder().defer_taskrun(true).start_on_tokio(), "`start`");
            refused(builder().queue_depth(0).start_on_tokio(), "at least 1");
        });
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn a_ring_that_ends_on_a_runtime_leaves_no_descriptor_and_no_thread() {
    in_a_process_of_its_own(this_test!(), || {
        let runtime = workers(2);
        let once = || {
            let ring = start_on(&runtime);
            let (reader, _writer) = pipe();
            let fd: Fd = reader.clone();
            let lost = ring.read(&fd, vec![0; 1], 0);
            runtime.block_on(in_time(async {
                ring.nop().await.unwrap();
                drop(lost);
                ring.nop().await.unwrap();
            }));
        };
        once();
        // The task goes when it is polled next, and with it, before it, its descriptors.
        let settled = || {
            until("the task is gone", || {
                runtime.block_on(tokio::task::yield_now());
                tasks_alive(&runtime) == 0
            });
            open_descriptors()
        };
        let before = settled();
        (0..20).for_each(|_| once());
        assert_eq!(settled(), before);
        let names = std::fs::read_dir("/proc/self/task").unwrap().map(|task| {
            std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
        });
        assert_eq!(names.filter(|name| name.trim() == "deferring").count(), 0);
    });
}

fn tasks_alive(runtime: &Runtime) -> usize {
    runtime.metrics().num_alive_tasks()
}
