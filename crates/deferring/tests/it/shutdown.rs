//! The end of a ring that can be awaited (P8): what it tells, and what it leaves.
//!
//! The end by a drop is told in `end.rs`. What can never be given back is counted by the process,
//! so that those stories have one of their own; a kernel that does not let go is played by a
//! seccomp filter.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use deferring::{
    BufResult, CancelOutcome, Cancelled, Fd, Handle, PollFlags, Report, Ring, block_on, leaked_ops,
};

use rustix::event::PollFd;
use tempfile::TempDir;

use crate::support::{
    BOUND, Came, Count, Graveyard, Hangs, OpenInWorker, Refusal, alone, bounded, builder,
    check_interrupted, drain, errno, fifo, has_io_uring, in_a_fork, in_a_process_of_its_own,
    lets_go, park_on, pipe, poll_once, refused, ring, run, sqpoll, this_test, thread_id, until,
    until_asleep,
};

const SOON: Duration = Duration::from_millis(5);

#[test]
fn p8_a_shutdown_cancels_what_is_out_and_tells_how_much() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let nop = ring.nop();
    let first = ring.read(&reader, vec![7; 3], 0);
    let behind = ring.read(&reader, vec![8; 3], 0);
    let poll = ring.poll(&reader, PollFlags::IN);
    let timeout = ring.timeout(Duration::from_secs(3600));
    ring.submit().unwrap();
    let queued = ring.read(&reader, vec![9; 3], 0);
    let report = run(&ring, ring.shutdown(later()));
    // The nop had ended, and nobody had looked.
    assert_eq!(counts(report), [5, 1, 0]);
    nop.try_take().expect("ended").unwrap();
    for (read, byte) in [(first, 7), (behind, 8), (queued, 9)] {
        let BufResult(result, buf) = read.try_take().expect("ended");
        assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![byte; 3]));
    }
    assert_eq!(errno(&poll.try_take().expect("ended")), Some(libc::ECANCELED));
    assert_eq!(errno(&timeout.try_take().expect("ended")), Some(libc::ECANCELED));
    assert!(reader.try_into_owned().is_ok(), "no op uses it");
}

#[test]
fn p8_a_shutdown_of_an_idle_ring_is_ready_at_once() {
    let ring = ring();
    run(&ring, ring.nop()).unwrap();
    let before = ring.stats();
    let mut shutdown = ring.shutdown(later());
    assert_eq!(poll_once(&mut shutdown, Waker::noop()).map(counts), Poll::Ready([0; 3]));
    assert_eq!((ring.submit().unwrap(), ring.stats()), (0, before));
}

#[test]
fn p8_an_op_that_blocks_a_worker_is_interrupted_and_counts_as_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path().join("fifo"));
    for round in 0..20 {
        let ring = ring();
        let opens: Vec<_> = (0..4).map(|_| ring.queue(OpenInWorker::new(&fifo))).collect();
        ring.submit().unwrap();
        (0..round).for_each(|_| thread::yield_now()); // Some run by then.
        let shutdown = ring.shutdown(later());
        ring.submit().unwrap();
        let _peer = lets_go(&fifo);
        let report = run(&ring, shutdown);
        let mut opened = 0;
        for open in opens {
            let result = open.try_take().expect("ended");
            check_interrupted(&result);
            opened += usize::from(result.is_ok());
        }
        assert_eq!(counts(report), [4 - opened, opened, 0], "none of the cancelled ones happened");
    }
}

#[test]
fn p8_detached_and_dropped_ops_end_and_free_what_they_hold() {
    let ring = ring();
    let graveyard = Graveyard::default();
    let (reader, _writer) = pipe();
    let read = || ring.read(&reader, graveyard.buffer(), 0);
    read().detach();
    read().detach();
    let poll = ring.poll(&reader, PollFlags::IN);
    ring.submit().unwrap();
    drop(poll);
    read().detach();
    assert_eq!(counts(run(&ring, ring.shutdown(later()))), [4, 0, 0]);
    assert_eq!(graveyard.freed(), 3);
    graveyard.check_undisturbed();
    assert!(reader.try_into_owned().is_ok(), "no op uses it");
}

#[test]
fn p8_ops_that_end_as_if_nothing_had_happened_are_counted_as_finished() {
    let ring = ring();
    let came = Came::count(&ring);
    let (reader, mut writer) = pipe();
    let read = ring.read(&reader, vec![0; 1], 0);
    let nops = [ring.nop(), ring.nop()];
    ring.submit().unwrap();
    writer.write_all(b"x").unwrap();
    came.until(3);
    let report = run(&ring, ring.shutdown(later()));
    assert_eq!(counts(report), [0, 3, 0]);
    assert_eq!(read.try_take().unwrap().unwrap().0, 1);
    nops.iter().for_each(|nop| nop.try_take().unwrap().unwrap());
}

#[test]
fn p8_after_a_shutdown_nothing_can_be_queued() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let poll = ring.poll(&reader, PollFlags::IN);
    ring.submit().unwrap();
    let shutdown = ring.shutdown(later());
    // From the moment it is asked for.
    let BufResult(result, buf) = ring.read(&reader, vec![7; 3], 0).try_take().expect("at once");
    assert!(result.unwrap_err().to_string().starts_with("ring: "));
    assert_eq!(buf, [7; 3]);
    assert_eq!(counts(run(&ring, shutdown)), [1, 0, 0]);
    assert!(ring.nop().try_take().expect("at once").is_err());
    assert!(poll.update(PollFlags::OUT).try_take().expect("at once").is_err());
    assert!(ring.group().queue(deferring::op::Nop::new()).try_take().expect("at once").is_err());
    assert_eq!(poll.cancel().outcome(), Some(CancelOutcome::Cancelled), "by the shutdown");
    assert_eq!((ring.submit().unwrap(), ring.reap().unwrap(), ring.in_flight()), (0, 0, 0));
    assert_eq!(ring.cancel_all().outcome(), Some(Cancelled::default()));
}

#[test]
fn p8_a_close_after_a_shutdown_closes_all_the_same() {
    let ring = ring();
    let (reader, writer) = pipe();
    run(&ring, ring.shutdown(later()));
    let _ = run(&ring, ring.close(&reader));
    assert!(reader.is_closed());
    until_nobody_reads(&writer);
}

#[test]
fn p8_a_close_that_waits_for_ops_goes_on_when_they_are_cancelled() {
    let ring = ring();
    let (reader, writer) = pipe();
    let read = ring.read(&reader, vec![0; 1], 0);
    let closing = ring.close(&reader);
    ring.submit().unwrap();
    let report = run(&ring, async {
        let report = ring.shutdown(later()).await;
        let _ = closing.await;
        report
    });
    assert_eq!((counts(report), read.is_done()), ([1, 0, 0], true));
    until_nobody_reads(&writer);
}

#[test]
fn p8_who_awaits_an_op_or_the_shutdown_is_woken_once() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let ((ops, ops_waker), (ends, ends_waker)) = (Count::new(), Count::new());
    let mut polls = [0; 3].map(|_| ring.poll(&reader, PollFlags::IN));
    polls.iter_mut().for_each(|poll| assert!(poll_once(poll, &ops_waker).is_pending()));
    ring.submit().unwrap();
    let mut shutdown = ring.shutdown(later());
    for _ in 0..100 {
        assert!(poll_once(&mut shutdown, &ends_waker).is_pending());
    }
    drain(&ring);
    assert_eq!((ops.get(), ends.get()), (3, 1), "one task waits, however often it looked");
    assert_eq!(poll_once(&mut shutdown, &ends_waker).map(counts), Poll::Ready([3, 0, 0]));
}

#[test]
fn p8_a_second_shutdown_finds_what_the_first_has_left() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = ring.read(&reader, vec![7; 3], 0);
    ring.submit().unwrap();
    let (first, second) = (ring.shutdown(later()), ring.shutdown(later()));
    let (first, second) = run(&ring, async { (first.await, second.await) });
    assert_eq!((counts(first), counts(second)), ([1, 0, 0], [1, 0, 0]), "both saw it cancelled");
    assert_eq!(counts(run(&ring, ring.shutdown(later()))), [0, 0, 0], "nothing was out");
    assert!(read.is_done());
}

#[test]
fn p8_a_shutdown_that_nobody_awaits_is_one_all_the_same() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let (count, waker) = Count::new();
    let read = ring.read(&reader, vec![7; 3], 0);
    ring.submit().unwrap();
    let mut shutdown = ring.shutdown(later());
    assert!(poll_once(&mut shutdown, &waker).is_pending());
    drop(shutdown);
    assert!(ring.nop().try_take().expect("at once").is_err());
    drain(&ring);
    assert_eq!(errno(&read.try_take().unwrap().0), Some(libc::ECANCELED));
    drop(waker);
    assert_eq!(std::sync::Arc::strong_count(&count), 1, "nobody keeps the waker");
}

#[test]
fn p8_the_last_ring_may_be_dropped_in_the_middle_of_a_shutdown() {
    bounded(|| {
        let ring = ring();
        let (reader, _writer) = pipe();
        let read = ring.read(&reader, vec![7; 3], 0);
        ring.submit().unwrap();
        drop(ring.shutdown(later()));
        drop(ring);
        let BufResult(result, buf) = read.try_take().expect("ended");
        assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![7; 3]));
    });
}

#[test]
fn p8_a_shutdown_goes_on_by_hand() {
    bounded(|| {
        let ring = ring();
        let (reader, _writer) = pipe();
        let polls: Vec<_> = (0..100).map(|_| ring.poll(&reader, PollFlags::IN)).collect();
        ring.submit().unwrap();
        let mut shutdown = ring.shutdown(later());
        ring.submit().unwrap();
        let report = loop {
            if let Poll::Ready(report) = poll_once(&mut shutdown, Waker::noop()) {
                break report;
            }
            ring.wait(None).unwrap();
            ring.reap().unwrap();
        };
        assert_eq!(counts(report), [100, 0, 0]);
        assert!(polls.iter().all(Handle::is_done));
    });
}

#[test]
fn p8_every_mode_of_a_ring_can_be_shut_down() {
    let modes = [
        builder().coop_taskrun(true),
        builder().single_issuer(true),
        builder().defer_taskrun(true),
    ];
    for builder in modes.into_iter().chain(sqpoll(Duration::from_millis(1))) {
        let ring = builder.build().unwrap();
        let (reader, _writer) = pipe();
        let polls: Vec<_> = (0..1000).map(|_| ring.poll(&reader, PollFlags::IN)).collect();
        ring.submit().unwrap();
        let queued = ring.read(&reader, vec![7; 3], 0);
        assert_eq!(counts(run(&ring, ring.shutdown(later()))), [1001, 0, 0]);
        assert!(polls.iter().all(Handle::is_done) && queued.is_done());
    }
}

#[test]
fn p8_threads_that_are_blocked_on_the_same_ring_get_their_results() {
    bounded(|| {
        let ring = ring();
        let (tell, told) = mpsc::channel();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (ring, tell) = (ring.clone(), tell.clone());
                thread::spawn(move || {
                    let (reader, _writer) = pipe();
                    tell.send(thread_id()).unwrap();
                    block_on(&ring, async {
                        let BufResult(result, buf) = ring.read(&reader, vec![7; 3], 0).await;
                        assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![7; 3]));
                        ring.nop().await.unwrap_err();
                    });
                })
            })
            .collect();
        told.iter().take(4).for_each(until_asleep);
        until("all reads are in the kernel", || ring.pending().in_kernel == 4);
        // One of them turns the ring, for all.
        assert_eq!(counts(park_on(ring.shutdown(later()))), [4, 0, 0]);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn p8_a_deadline_that_never_comes_is_allowed_and_one_that_has_come_loses_nothing_that_is_queued() {
    alone(|ring| async move {
        let nop = ring.nop();
        let years = Duration::from_secs(100 * 365 * 24 * 3600);
        assert_eq!(counts(ring.shutdown(Instant::now() + years).await), [1, 0, 0]);
        assert_eq!(errno(&nop.await), Some(libc::ECANCELED));
    });
    alone(|ring| async move {
        let nop = ring.nop();
        assert_eq!(counts(ring.shutdown(Instant::now()).await), [1, 0, 0]);
        assert_eq!(errno(&nop.await), Some(libc::ECANCELED));
    });
}

#[test]
fn p8_what_the_kernel_does_not_let_go_of_is_leaked_at_the_deadline_and_counted() {
    in_a_process_of_its_own(this_test!(), || {
        let story = Unstoppable::new();
        let behind = story.ring.read(&story.pipes[0].0, vec![7; 3], 0);
        assert_eq!(counts(story.shut_down()), [1, 0, 3], "who waited behind another was cancelled");
        assert_eq!((leaked_ops(), story.ring.stats().leaked), (3, 3));
        story.reads.iter().for_each(check_lost);
        let BufResult(result, buf) = behind.try_take().expect("never submitted");
        assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![7; 3]));
        assert_eq!((story.ring.in_flight(), story.graveyard.freed()), (0, 0));
        drop(story.ring);
        assert_eq!((leaked_ops(), story.graveyard.freed()), (3, 0), "each is counted once");
    });
}

#[test]
fn p8_the_deadline_holds_though_the_kernel_takes_no_request_of_ours() {
    in_a_process_of_its_own(this_test!(), || {
        bounded(|| {
            let ring = ring();
            let (reader, _writer) = pipe();
            let dir = tempfile::tempdir().unwrap();
            let fifo = fifo(dir.path().join("fifo"));
            let read = ring.queue(Hangs::new(&reader, &fifo, Graveyard::default().buffer()));
            ring.submit().unwrap();
            Hangs::until_stuck(1);
            let report = refused(libc::SYS_io_uring_enter, Refusal::TakesNothing, || {
                block_on(&ring, ring.shutdown(Instant::now() + SOON))
            });
            assert_eq!((counts(report), leaked_ops()), ([0, 0, 1], 1));
            check_lost(&read);
        });
    });
}

#[test]
fn p8_the_deadline_holds_though_the_kernel_has_no_memory() {
    in_a_process_of_its_own(this_test!(), || {
        bounded(|| {
            let ring = ring();
            let (reader, _writer) = pipe();
            let dir = tempfile::tempdir().unwrap();
            let fifo = fifo(dir.path().join("fifo"));
            let read = ring.queue(Hangs::new(&reader, &fifo, Graveyard::default().buffer()));
            ring.submit().unwrap();
            Hangs::until_stuck(1);
            let refusal = Refusal::Fails(libc::EAGAIN);
            let report = refused(libc::SYS_io_uring_enter, refusal, || {
                block_on(&ring, ring.shutdown(Instant::now() + SOON))
            });
            assert_eq!((counts(report), leaked_ops()), ([0, 0, 1], 1));
            check_lost(&read);
        });
    });
}

#[test]
fn p8_a_drop_after_a_shutdown_that_leaked_does_not_wait() {
    in_a_process_of_its_own(this_test!(), || {
        let Unstoppable { ring, pipes: _pipes, reads, .. } = {
            let story = Unstoppable::new();
            story.shut_down();
            story
        };
        // It was given all the time there is to drain, and nothing is left to wait for.
        bounded(|| drop(ring));
        reads.iter().for_each(check_lost);
        assert_eq!(leaked_ops(), 3);
    });
}

#[test]
fn p8_what_ends_after_it_was_leaked_changes_nothing() {
    in_a_process_of_its_own(this_test!(), || {
        let mut story = Unstoppable::new();
        story.shut_down();
        check_lost(&story.reads[0]);
        // The kernel takes requests again: the cancels that were written go out, the ops end.
        story.pipes[0].1.write_all(b"x").unwrap();
        let _peer = lets_go(&story.fifo);
        for _ in 0..10 {
            story.ring.submit().unwrap();
            story.ring.wait(Some(SOON)).unwrap();
            story.ring.reap().unwrap();
        }
        story.reads[1..].iter().for_each(check_lost);
        assert_eq!((story.ring.in_flight(), story.ring.pending().cancels), (0, 0));
        assert_eq!((leaked_ops(), story.graveyard.freed()), (3, 0));
    });
}

#[test]
fn p8_a_second_shutdown_does_not_tell_of_the_leaks_of_the_first() {
    in_a_process_of_its_own(this_test!(), || {
        let story = Unstoppable::new();
        assert_eq!(counts(story.shut_down()), [0, 0, 3]);
        let again = run(&story.ring, story.ring.shutdown(later()));
        assert_eq!((counts(again), leaked_ops()), ([0, 0, 0], 3), "nothing was out");
    });
}

#[test]
fn p8_what_has_ended_by_the_deadline_is_not_leaked() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = builder().queue_depth(256).build().unwrap();
        let (reader, _writer) = pipe();
        let alarm = ring.poll(&reader, PollFlags::IN).timeout(Duration::from_micros(1));
        let polls: Vec<_> = (0..200).map(|_| ring.poll(&reader, PollFlags::IN)).collect();
        ring.submit().unwrap();
        thread::sleep(2 * SOON); // The alarm's completion is first in the queue.
        let mut shutdown = ring.shutdown(Instant::now());
        // All cancels have been answered, and all ops have ended; nobody has looked.
        ring.submit().unwrap();
        ring.reap().unwrap();
        let report = poll_once(&mut shutdown, Waker::noop());
        assert_eq!(report.map(counts), Poll::Ready([201, 0, 0]));
        assert!(alarm.is_done() && polls.iter().all(Handle::is_done));
        assert_eq!(leaked_ops(), 0);
    });
}

#[test]
fn p8_a_ring_that_is_poisoned_has_nothing_to_shut_down() {
    if !has_io_uring("a ring that the kernel may refuse for good") {
        return;
    }
    in_a_process_of_its_own(this_test!(), || {
        let (ring, cancel) = poisoned_with_a_cancel_out();
        let mut shutdown = ring.shutdown(later());
        let report = poll_once(&mut shutdown, Waker::noop());
        assert!(report.is_ready(), "{report:?}");
        // The read, and what the kernel was shown when it refused.
        assert_eq!((leaked_ops(), cancel), (2, Some(CancelOutcome::Running)));
    });
}

#[test]
fn p3_a_cancel_that_is_answered_after_its_ring_was_poisoned_is_no_harm() {
    if !has_io_uring("a ring that the kernel may refuse for good") {
        return;
    }
    in_a_process_of_its_own(this_test!(), || {
        let (ring, _) = poisoned_with_a_cancel_out();
        ring.reap().unwrap();
        assert_eq!((ring.in_flight(), ring.pending().cancels), (0, 0));
        assert_eq!(leaked_ops(), 2, "the read, and what the kernel was shown when it refused");
    });
}

#[test]
fn p9_a_forked_child_cannot_shut_its_parents_ring_down() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = ring();
        let (reader, _writer) = pipe();
        let poll = ring.poll(&reader, PollFlags::IN);
        ring.submit().unwrap();
        let status = in_a_fork(|| {
            let mut shutdown = ring.shutdown(later());
            let report = poll_once(&mut shutdown, Waker::noop());
            assert_eq!(report, Poll::Ready(Report::default()));
            assert_eq!(ring.cancel_all().outcome(), Some(Cancelled::default()));
        });
        assert_eq!(status.exit_status(), Some(0));
        assert!(!poll.is_done());
        run(&ring, ring.nop()).unwrap();
    });
}

fn later() -> Instant {
    Instant::now() + BOUND
}

/// Returns when the reading end of a pipe is closed, here and in children that are being started.
fn until_nobody_reads(writer: &File) {
    until("the reading end is closed", || {
        let mut fds = [PollFd::new(writer, PollFlags::empty())];
        let found = rustix::event::poll(&mut fds, Some(&rustix::time::Timespec::default()));
        found.expect("polls") == 1 && fds[0].revents().contains(PollFlags::ERR)
    });
}

fn counts(report: Report) -> [usize; 3] {
    [report.cancelled, report.finished, report.leaked]
}

/// A ring with three reads in the kernel and an alarm that is set there, so that it does not need
/// to be taken any more.
struct Unstoppable {
    ring: Ring,
    graveyard: Graveyard,
    reads: [Handle<Hangs>; 3],
    pipes: [(Fd, File); 3],
    fifo: PathBuf,
    _dir: TempDir,
}

impl Unstoppable {
    fn new() -> Self {
        let ring = builder().drain_timeout(Duration::MAX).build().unwrap();
        let graveyard = Graveyard::default();
        let pipes = [pipe(), pipe(), pipe()];
        let dir = tempfile::tempdir().unwrap();
        let fifo = fifo(dir.path().join("fifo"));
        let hangs = |(reader, _): &_| ring.queue(Hangs::new(reader, &fifo, graveyard.buffer()));
        let reads = pipes.each_ref().map(hangs);
        // The kernel is told of the deadline of an op that ends before.
        let (reader, mut writer) = pipe();
        writer.write_all(b"x").unwrap();
        let ends = ring.read(&reader, vec![0; 1], 0).timeout(4 * SOON);
        ring.submit().unwrap();
        drop(run(&ring, ends));
        Hangs::until_stuck(3);
        Self { ring, graveyard, reads, pipes, fifo, _dir: dir }
    }

    /// By a kernel that takes nothing more, no cancel either.
    fn shut_down(&self) -> Report {
        refused(libc::SYS_io_uring_enter, Refusal::TakesNothing, || {
            run(&self.ring, self.ring.shutdown(Instant::now() + SOON))
        })
    }
}

/// A ring whose one read the kernel keeps, with a cancel that is answered, unseen by us.
fn poisoned_with_a_cancel_out() -> (Ring, Option<CancelOutcome>) {
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = ring.read(&reader, vec![0; 1], 0);
    ring.submit().unwrap();
    let cancel = read.cancel();
    ring.submit().unwrap();
    let refusal = Refusal::Fails(libc::EPERM);
    refused(libc::SYS_io_uring_enter, refusal, || {
        ring.nop().detach();
        until("the refusals are final", || {
            ring.submit().unwrap_err();
            ring.stats().poisoned
        });
    });
    let outcome = cancel.outcome();
    assert!(read.try_take().expect("lost").0.is_err());
    (ring, outcome)
}

/// The op's memory stays with the kernel: an error, a stand-in, once.
#[track_caller]
fn check_lost(handle: &Handle<Hangs>) {
    let BufResult(result, buf) = handle.try_take().expect("lost is a result too");
    assert!(result.is_err() && buf.is_stand_in());
    assert!(handle.try_take().is_none() && handle.is_done());
}
