//! Results that nobody asked for never reach a user: C29 and P7.
//!
//! The kernel gives ops back undone when the thread that submitted them exits, and when a signal
//! meets a worker being made; the ring sends them again. That a `Watcher` does too is told in
//! `watcher.rs`.

use std::io;
use std::io::Write as _;
use std::os::unix::thread::JoinHandleExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use deferring::op::{Op, Opcode, Sqe};
use deferring::{
    AtFlags, BufResult, CWD, CancelOutcome, Fd, PollFlags, Ring, StatxFlags, block_on,
};
use rustix::event::EventfdFlags;

use crate::support::{
    Answer, BOUND, Count, OpenInWorker, becomes_readable, bounded, drain, errno, fifo, finish,
    has_io_uring, in_a_process_of_its_own, on_pool, park_on, pipe, poll_once, ring, run, this_test,
    thread_id, threads_stuck_in, turn_until, until, until_asleep_in_a_ring,
};

/// How often an op is sent again before it gets what the kernel says (`inflight/slot.rs`).
const TRIES: u64 = 32;

/// How often after `EFAULT`.
const TRIES_AT_ONCE: u64 = 4;

// The thread that submitted exits.

#[test]
fn c29_a_read_of_a_pipe_whose_submitter_has_exited_has_its_data() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    for round in 1..=20 {
        let read = ring.read(&reader, vec![7; 8], 0);
        submit_on_a_thread_that_exits(&ring);
        writer.write_all(&[round]).unwrap();
        let (n, buf) = run(&ring, read).into_inner().unwrap();
        assert_eq!((n, buf[0]), (1, round));
        assert_eq!(ring.stats().resubmits, given_back(round.into()));
    }
}

#[test]
fn c29_a_poll_whose_submitter_has_exited_has_its_event() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let polls = [0; 10].map(|_| ring.poll(&reader, PollFlags::IN));
    submit_on_a_thread_that_exits(&ring);
    writer.write_all(b"x").unwrap();
    for poll in polls {
        assert_eq!(run(&ring, poll).unwrap(), PollFlags::IN);
    }
    assert_eq!(ring.stats().resubmits, given_back(10));
}

#[test]
fn c29_an_open_in_a_worker_whose_submitter_has_exited_opens() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path().join("fifo"));
    let ring = ring();
    for _ in 0..5 {
        let open = ring.queue(OpenInWorker::new(&fifo));
        // It takes its workers with it, and interrupts them if they are at work by then.
        let submits = || {
            ring.submit().unwrap();
            until_its_worker_sleeps(thread_id());
        };
        thread::scope(|scope| scope.spawn(submits).join()).unwrap();
        let peer = opens_for_writing(&fifo);
        let opened = run(&ring, open).expect("somebody opens the other end");
        let mut peer = peer.join().unwrap();
        peer.write_all(b"x").unwrap();
        assert_eq!(run(&ring, ring.read(&opened, vec![0; 1], 0)).unwrap().0, 1);
    }
    assert!(ring.stats().resubmits >= given_back(5));
}

#[test]
fn p7_an_open_that_blocks_outlasts_any_number_of_threads_that_submit_and_exit() {
    let dir = tempfile::tempdir().unwrap();
    let ring = ring();
    let fifo = fifo(dir.path().join("fifo"));
    let open = ring.queue(OpenInWorker::new(&fifo));
    for round in 0..40 {
        let submitter = ring.clone();
        let submits = move || turn_until(&submitter, || submitter.pending().queued == 0);
        bounded(move || thread::spawn(submits).join().unwrap());
        ring.reap().unwrap();
        assert!(!open.is_done(), "round {round}: {:?}", open.try_take());
    }
    let peer = opens_for_writing(&fifo);
    run(&ring, open).expect("somebody opens the other end");
    drop(peer.join().unwrap());
}

/// The kernel waits in a thread's exit for the calls that its workers make, and may fail to
/// interrupt one that begins just then.
#[test]
fn p7_a_thread_that_submits_opens_that_block_exits_at_once_and_they_open_later() {
    let dir = tempfile::tempdir().unwrap();
    let ring = ring();
    for round in 0..50 {
        let fifo = fifo(dir.path().join(round.to_string()));
        let open = ring.queue(OpenInWorker::new(&fifo));
        let submitter = ring.clone();
        bounded(move || {
            thread::spawn(move || submitter.submit().unwrap()).join().unwrap();
        });
        let peer = opens_for_writing(&fifo);
        run(&ring, open).expect("somebody opens the other end");
        drop(peer.join().unwrap());
    }
}

#[test]
fn p7_what_a_thread_that_exits_has_asked_back_is_sent_by_the_next_reap_and_not_before() {
    if !has_io_uring("workers that go with the thread that submitted") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ring = ring();
    let fifo = fifo(dir.path().join("fifo"));
    let open = ring.queue(OpenInWorker::new(&fifo));
    let submitter = ring.clone();
    let submits = move || {
        submitter.submit().unwrap();
        until_its_worker_sleeps(thread_id());
    };
    bounded(move || thread::spawn(submits).join().unwrap());
    until("it is back", || ring.pending().queued == 1);
    // Sent by whoever asked for it, it would have to be asked back again when that one ends.
    assert_eq!((ring.pending().in_kernel, ring.stats().resubmits), (0, 1));
    ring.reap().unwrap();
    assert_eq!((ring.pending().queued, ring.pending().in_kernel), (0, 1));
    let peer = opens_for_writing(&fifo);
    run(&ring, open).expect("somebody opens the other end");
    drop(peer.join().unwrap());
}

#[test]
fn c29_whatever_is_submitted_by_threads_that_exit_at_once_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "hello").unwrap();
    let ring = ring();
    let file = Fd::from(std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap());
    for round in 0..50 {
        let stat = ring.statx(CWD, &path, AtFlags::empty(), StatxFlags::SIZE);
        let missing = ring.statx(CWD, "/missing", AtFlags::empty(), StatxFlags::SIZE);
        let made = ring.mkdirat(CWD, dir.path().join(format!("{round}")), deferring::Mode::RWXU);
        let (read, write) = (ring.read(&file, vec![0; 5], 0), ring.write(&file, "hello", 0));
        let (nop, sync) = (ring.nop(), ring.fsync(&file));
        let timeout = ring.timeout(Duration::from_micros(10));
        submit_on_a_thread_that_exits(&ring);
        assert_eq!(run(&ring, stat).unwrap().size(), Some(5));
        assert_eq!(errno(&run(&ring, missing)), Some(libc::ENOENT));
        assert_eq!(run(&ring, read).into_inner().unwrap(), (5, b"hello".to_vec()));
        assert_eq!(run(&ring, write).unwrap().0, 5);
        run(&ring, async {
            made.await.unwrap();
            nop.await.unwrap();
            sync.await.unwrap();
            timeout.await.unwrap();
        });
    }
}

#[test]
fn c29_many_threads_that_submit_for_each_other_and_exit_change_no_result() {
    bounded(|| {
        let ring = ring();
        let pipes: Vec<_> = (0..64).map(|_| pipe()).collect();
        let reads: Vec<_> =
            pipes.iter().map(|(reader, _)| ring.read(reader, vec![0; 1], 0)).collect();
        // A part of them each: some are submitted by one, and given back to another.
        for (_, writer) in &pipes {
            submit_on_a_thread_that_exits(&ring);
            let mut writer = writer;
            writer.write_all(b"x").unwrap();
            thread::scope(|scope| scope.spawn(|| ring.reap().unwrap()).join()).unwrap();
        }
        for read in reads {
            assert_eq!(run(&ring, read).into_inner().unwrap(), (1, b"x".to_vec()));
        }
    });
}

#[test]
fn c29_a_detached_op_is_done_though_its_submitter_has_exited() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    ring.read(&reader, vec![0; 1], 0).detach();
    submit_on_a_thread_that_exits(&ring);
    writer.write_all(b"xy").unwrap();
    drain(&ring);
    assert_eq!(ring.stats().resubmits, given_back(1));
    let (n, buf) = run(&ring, ring.read(&reader, vec![0; 8], 0)).into_inner().unwrap();
    assert_eq!(buf[..n], *b"y", "the detached one took one byte");
}

#[test]
fn c29_an_op_that_is_sent_again_keeps_its_place() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let reads = [0; 5].map(|_| ring.read(&reader, vec![0; 1], 0));
    submit_on_a_thread_that_exits(&ring);
    writer.write_all(b"abcde").unwrap();
    let bytes = reads.map(|read| run(&ring, read).into_inner().unwrap().1[0]);
    assert_eq!(bytes, *b"abcde");
}

#[test]
fn c29_what_is_sent_again_goes_out_by_a_reap_and_by_a_wait() {
    bounded(|| {
        let ring = ring();
        let (reader, mut writer) = pipe();
        let read = ring.read(&reader, vec![0; 1], 0);
        submit_on_a_thread_that_exits(&ring);
        writer.write_all(b"x").unwrap();
        // No submit of the user's.
        while !read.is_done() {
            ring.wait(None).unwrap();
            ring.reap().unwrap();
        }
        assert_eq!(read.try_take().unwrap().unwrap().0, 1);
        assert_eq!(ring.stats().resubmits, given_back(1));
    });
}

#[test]
fn c29_what_is_sent_again_does_not_need_more_than_an_eventfd_to_be_watched() {
    let ring = ring();
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let eventfd = rustix::event::eventfd(0, flags).unwrap();
    ring.register_eventfd(&eventfd).unwrap();
    let (reader, mut writer) = pipe();
    let read = ring.read(&reader, vec![0; 1], 0);
    let pauses = ring.queue(Answer(-libc::ECANCELED));
    submit_on_a_thread_that_exits(&ring);
    writer.write_all(b"x").unwrap();
    while !(read.is_done() && pauses.is_done()) {
        assert!(becomes_readable(&eventfd, BOUND), "{ring:?}");
        let _ = rustix::io::read(&eventfd, &mut [0; 8]);
        ring.reap().unwrap();
    }
    assert_eq!(read.try_take().unwrap().unwrap().0, 1);
}

#[test]
fn p7_a_thread_that_turned_the_ring_and_exited_is_not_missed() {
    bounded(|| {
        let ring = ring();
        for _ in 0..50 {
            // It had the kernel watch the bell.
            let turns = ring.clone();
            thread::spawn(move || {
                block_on(&turns, turns.timeout(Duration::from_micros(1))).unwrap();
            })
            .join()
            .unwrap();
            let (queues, sleeper) = (ring.clone(), thread_id());
            let (reader, mut writer) = pipe();
            let other = thread::spawn(move || {
                until_asleep_in_a_ring(sleeper);
                park_on(queues.nop()).unwrap();
                writer.write_all(b"x").unwrap();
            });
            assert_eq!(run(&ring, ring.read(&reader, vec![0; 1], 0)).unwrap().0, 1);
            other.join().unwrap();
        }
    });
}

// Signals.

#[test]
fn p7_signals_that_meet_a_submitter_change_no_result() {
    in_a_process_of_its_own(this_test!(), || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "hello").unwrap();
        interrupt_on(libc::SIGUSR1);
        let ring = ring();
        let done = Arc::new(AtomicBool::new(false));
        let submits = {
            let (ring, done) = (ring.clone(), Arc::clone(&done));
            thread::spawn(move || {
                for _ in 0..300 {
                    stats_and_reads(&ring, &path);
                }
                done.store(true, Ordering::SeqCst);
            })
        };
        let mut signals = 0u64;
        while !done.load(Ordering::SeqCst) && !submits.is_finished() {
            // SAFETY: the thread has not been joined.
            unsafe { libc::pthread_kill(submits.as_pthread_t(), libc::SIGUSR1) };
            signals += 1;
            // About as fast as it can take them.
            (0..1000).for_each(|_| std::hint::spin_loop());
        }
        submits.join().expect("no result was a signal's");
        assert!(signals > 0);
    });
}

/// Ops that need workers, and one that waits; each must end as if there were no signals.
fn stats_and_reads(ring: &Ring, path: &Path) {
    let (reader, mut writer) = pipe();
    block_on(ring, async {
        let read = ring.read(&reader, vec![0; 1], 0);
        let stats =
            [0; 8].map(|_| ring.statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS));
        for stat in stats {
            assert_eq!(stat.await.expect("it is there").size(), Some(5));
        }
        writer.write_all(b"x").expect("room");
        assert_eq!(read.await.into_inner().expect("a byte").0, 1);
    });
}

/// Handles a signal by nothing, without restarting what it interrupts.
fn interrupt_on(signal: i32) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: a zeroed action has an empty mask and no flags; the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
}

// What was asked for, and what is the op's own.

#[test]
fn c29_a_cancel_that_was_asked_for_is_delivered_whoever_submitted() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = ring.read(&reader, vec![7; 3], 0);
    submit_on_a_thread_that_exits(&ring);
    let cancel = read.cancel();
    turn_until(&ring, || read.is_done());
    assert_eq!(cancel.outcome(), Some(CancelOutcome::Cancelled));
    let BufResult(result, buf) = read.try_take().unwrap();
    assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![7; 3]));
    assert_eq!(ring.stats().resubmits, 0);
}

#[test]
fn c29_an_op_whose_handle_is_dropped_is_not_sent_again() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let read = ring.read(&reader, vec![0; 1], 0);
    submit_on_a_thread_that_exits(&ring);
    drop(read);
    writer.write_all(b"x").unwrap();
    drain(&ring);
    assert_eq!(ring.stats().resubmits, 0);
}

#[test]
fn c29_a_poll_or_a_timeout_that_is_removed_ends_at_once() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let poll = ring.poll(&reader, PollFlags::IN);
    let timeout = ring.timeout(Duration::from_secs(3600));
    ring.submit().unwrap();
    run(&ring, async {
        poll.remove().await.unwrap();
        assert_eq!(errno(&poll.await), Some(libc::ECANCELED));
        timeout.remove().await.unwrap();
        assert_eq!(errno(&timeout.await), Some(libc::ECANCELED));
    });
    assert_eq!((ring.stats().resubmits, ring.in_flight()), (0, 0));

    // Queued right behind them, too.
    let poll = ring.poll(&reader, PollFlags::IN);
    let timeout = ring.timeout(Duration::from_secs(3600));
    let (one, two) = (poll.remove(), timeout.remove());
    run(&ring, async {
        assert_eq!(errno(&poll.await), Some(libc::ECANCELED));
        assert_eq!(errno(&timeout.await), Some(libc::ECANCELED));
        one.await.unwrap();
        two.await.unwrap();
    });
    assert_eq!((ring.stats().resubmits, ring.in_flight()), (0, 0));
}

#[test]
fn c29_a_remove_that_was_never_sent_asks_for_nothing() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let poll = ring.poll(&reader, PollFlags::IN);
    // Taken back before anybody was asked.
    drop(poll.remove());
    submit_on_a_thread_that_exits(&ring);
    writer.write_all(b"x").unwrap();
    assert_eq!(run(&ring, poll).unwrap(), PollFlags::IN);
}

#[test]
fn c29_an_op_that_must_not_be_sent_twice_gets_what_the_kernel_says() {
    let ring = ring();
    for code in [libc::ECANCELED, libc::EINTR, libc::EFAULT] {
        assert_eq!(errno(&run(&ring, ring.queue(Once(-code)))), Some(code));
    }
    assert_eq!(errno(&run(&ring, ring.queue(Once(-512)))), Some(libc::EINTR));
    assert_eq!(errno(&run(&ring, ring.queue(Once(-libc::EINTR).in_worker()))), Some(libc::EINTR));
    assert_eq!(ring.stats().resubmits, 0);
}

#[test]
fn c29_any_other_error_is_delivered_at_once() {
    let ring = ring();
    let held_back = [libc::ECANCELED, libc::EINTR, libc::EFAULT];
    for code in (1..=133).filter(|code| !held_back.contains(code)) {
        assert_eq!(errno(&run(&ring, ring.queue(Answer(-code)))), Some(code));
    }
    for result in [0, 1, i32::MAX] {
        assert_eq!(run(&ring, ring.queue(Answer(result))).unwrap(), result.unsigned_abs());
    }
    assert_eq!(ring.stats().resubmits, 0);
}

// What does not go away.

#[test]
fn c29_a_result_that_comes_again_and_again_is_delivered_in_the_end() {
    for (code, told) in [
        (libc::ECANCELED, libc::ECANCELED),
        (libc::EINTR, libc::EINTR),
        (512, libc::EINTR),
        (513, libc::EINTR),
        (514, libc::EINTR),
        (516, libc::EINTR),
    ] {
        let ring = ring();
        let (count, waker) = Count::new();
        let mut answer = ring.queue(Answer(-code));
        assert!(poll_once(&mut answer, &waker).is_pending());
        assert_eq!(errno(&finish(&ring, &answer)), Some(told), "{code}");
        assert_eq!((ring.stats().resubmits, count.get()), (TRIES, 1), "{code}");
    }
}

#[test]
fn c29_a_fault_that_is_meant_is_delivered_after_a_few_tries() {
    let ring = ring();
    assert_eq!(errno(&run(&ring, ring.queue(Answer(-libc::EFAULT)))), Some(libc::EFAULT));
    assert_eq!(ring.stats().resubmits, TRIES_AT_ONCE);
}

#[test]
fn c29_a_worker_op_that_never_gets_a_worker_says_that_the_ring_is_saturated() {
    let ring = ring();
    let result = run(&ring, ring.queue(Answer(-libc::ECANCELED).in_worker()));
    let error = result.expect_err("it never ran");
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    assert!(error.to_string().contains("saturated"), "{error}");
    let result = run(&ring, ring.queue(Answer(-libc::EINTR).in_worker()));
    assert_eq!(errno(&result), Some(libc::EINTR), "it had one");
}

#[test]
fn c29_what_comes_again_and_again_holds_up_nobody_else_and_sleeps_meanwhile() {
    let ring = ring();
    let answers: Vec<_> = (0..100).map(|_| ring.queue(Answer(-libc::ECANCELED))).collect();
    for _ in 0..20 {
        run(&ring, ring.nop()).unwrap();
    }
    assert!(!answers[0].is_done(), "each pauses longer than twenty nops take");
    drain(&ring);
    for answer in answers {
        assert_eq!(errno(&answer.try_take().unwrap()), Some(libc::ECANCELED));
    }
    assert_eq!(ring.stats().resubmits, 100 * TRIES);
    // They pause and go together; a ring that spins would enter the kernel each time.
    assert!(ring.stats().enters < 1000, "{:?}", ring.stats());
}

#[test]
fn c29_what_pauses_can_be_cancelled_dropped_and_given_up() {
    let ring = ring();
    let answer = || ring.queue(Answer(-libc::ECANCELED));
    let [cancelled, dropped, timed_out] = [answer(), answer(), answer()];
    answer().detach();
    // They go a few times, and then wait for a tick.
    turn_until(&ring, || ring.stats().resubmits > 4 * TRIES_AT_ONCE);
    let timed_out = timed_out.timeout(Duration::from_millis(1));
    let cancel = cancelled.cancel();
    drop(dropped);
    assert_eq!(errno(&run(&ring, timed_out)), Some(libc::ETIMEDOUT));
    turn_until(&ring, || cancel.outcome().is_some());
    assert_eq!(errno(&run(&ring, cancelled)), Some(libc::ECANCELED));
    drain(&ring);
    assert!(ring.stats().resubmits <= 2 * TRIES + 2 * TRIES_AT_ONCE + 4, "{:?}", ring.stats());

    // A ring may go with some that pause.
    let answers = [answer(), answer()];
    turn_until(&ring, || ring.pending().in_kernel == 0);
    drop(ring);
    answers.iter().for_each(|answer| {
        assert_eq!(errno(&answer.try_take().expect("ended")), Some(libc::ECANCELED));
    });
}

#[test]
fn c29_a_wait_without_end_goes_on_for_what_pauses() {
    bounded(|| {
        let ring = ring();
        let answer = ring.queue(Answer(-libc::EINTR));
        ring.submit().unwrap();
        while !answer.is_done() {
            ring.wait(None).unwrap();
            ring.reap().unwrap();
        }
        assert_eq!(errno(&answer.try_take().unwrap()), Some(libc::EINTR));
    });
}

/// A nop that gives the result that it was asked for, and must not be sent twice.
struct Once(i32);

// SAFETY: names no memory.
unsafe impl Op for Once {
    type Output = io::Result<u32>;
    const CODE: Opcode = Opcode::NOP;
    const AGAIN: bool = false;

    fn encode(&mut self, sqe: &mut Sqe) {
        Answer(self.0).encode(sqe);
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<u32> {
        result
    }
}

/// What the thread leaves in the kernel ends with `ECANCELED` or the like when its event comes.
fn submit_on_a_thread_that_exits(ring: &Ring) {
    thread::scope(|scope| scope.spawn(|| ring.submit().unwrap()).join()).unwrap();
}

/// Returns when a worker of that thread of ours sleeps. A new one begins with work.
/// How many ops that came to nothing the kernel has given back, when their submitter exited; the
/// pool gives none back.
fn given_back(ops: u64) -> u64 {
    if on_pool() { 0 } else { ops }
}

fn until_its_worker_sleeps(thread: i32) {
    let name = format!("(iou-wrk-{thread}) S");
    until("a worker sleeps in a call", || {
        if on_pool() {
            return threads_stuck_in(libc::SYS_openat2) > 0;
        }
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok())
            .any(|stat| stat.contains(&name))
    });
}

fn opens_for_writing(fifo: &Path) -> thread::JoinHandle<std::fs::File> {
    let fifo = fifo.to_owned();
    thread::spawn(move || std::fs::OpenOptions::new().write(true).open(fifo).unwrap())
}
