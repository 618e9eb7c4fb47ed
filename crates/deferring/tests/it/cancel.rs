//! To ask for an end before the end: C22 to C28, and that it can always be asked for (P4).
//!
//! C29, the cancel that nobody asked for, is told in `results.rs`; cancels of many in
//! `cancel_many.rs`.

use std::io::Write as _;
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use deferring::{BufResult, CancelOutcome, Fd, Ring};

use crate::support::{
    Answer, Count, OpenInWorker, Refusal, builder, check_interrupted, drain, errno, finish,
    has_io_uring, lets_go, pipe, poll_once, refused, ring, run, turn_until, until,
};

#[test]
fn c22_an_operation_that_is_still_queued_is_cancelled_at_once_and_no_sqe_is_made() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let (count, waker) = Count::new();
    let mut read = ring.read(&reader, vec![7; 3], 0);
    assert!(poll_once(&mut read, &waker).is_pending());
    assert_eq!(read.cancel().outcome(), Some(CancelOutcome::Cancelled));
    assert_eq!(count.get(), 1, "who awaits it is told");
    assert_eq!(ring.pending(), Default::default());
    let BufResult(result, buf) = read.try_take().expect("done");
    assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![7; 3]));

    assert_eq!(ring.submit().unwrap(), 0);
    assert_eq!((ring.stats().sqes, ring.stats().enters), (0, 0));
}

#[test]
fn c22_one_cancelled_in_the_middle_of_the_queue_leaves_the_others_in_order() {
    let ring = ring();
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut nops: Vec<_> = (0..10).map(|_| ring.nop()).collect();
    for (at, nop) in nops.iter_mut().enumerate() {
        assert!(poll_once(nop, &Arc::new(Logs(at, Arc::clone(&log))).into()).is_pending());
    }
    for at in [5, 0, 9] {
        assert_eq!(nops[at].cancel().outcome(), Some(CancelOutcome::Cancelled));
    }
    assert_eq!(ring.submit().unwrap(), 7);
    drain(&ring);
    assert_eq!(*log.lock().unwrap(), [5, 0, 9, 1, 2, 3, 4, 6, 7, 8]);
}

#[test]
fn c23_a_cancel_of_a_finished_operation_changes_nothing() {
    let ring = ring();
    let nop = ring.nop();
    drain(&ring);
    let before = ring.stats();
    assert_eq!(nop.cancel().outcome(), Some(CancelOutcome::Finished));
    assert_eq!((ring.submit().unwrap(), ring.stats()), (0, before));
    nop.try_take().unwrap().unwrap();
    assert_eq!(nop.cancel().outcome(), Some(CancelOutcome::Finished), "taken");
}

#[test]
fn c23_an_operation_that_ended_unreaped_is_not_harmed_by_a_cancel() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let read = ring.read(&reader, vec![0; 1], 0);
    ring.submit().unwrap();
    writer.write_all(b"x").unwrap();
    // Its completion is in the queue already, unseen by us.
    assert!(ring.wait(Some(Duration::from_secs(1))).unwrap());
    let cancel = read.cancel();
    assert_eq!(cancel.outcome(), None);
    drain(&ring);
    assert_eq!(cancel.outcome(), Some(CancelOutcome::Finished));
    assert_eq!(read.try_take().unwrap().into_inner().unwrap(), (1, b"x".to_vec()));
}

#[test]
fn c23_a_result_that_only_looks_like_a_cancel_is_none() {
    let ring = ring();
    let answer = ring.queue(Answer(-libc::ECANCELED));
    drain(&ring);
    assert_eq!(answer.cancel().outcome(), Some(CancelOutcome::Finished), "nobody had asked");
}

#[test]
fn c24_a_cancel_of_one_in_flight_can_be_awaited() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = ring.read(&reader, vec![0; 8], 0);
    ring.submit().unwrap();
    assert_eq!(run(&ring, read.cancel()), CancelOutcome::Cancelled);
    assert_eq!(errno(&run(&ring, read).0), Some(libc::ECANCELED));
}

#[test]
fn c24_a_cancel_goes_out_with_the_next_submit_and_a_dropped_one_is_not_taken_back() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = ring.read(&reader, vec![0; 8], 0);
    ring.submit().unwrap();
    read.cancel();
    assert_eq!(ring.pending().cancels, 1);
    assert_eq!(ring.stats().sqes, 1, "only asked for");
    assert_eq!(ring.submit().unwrap(), 1);
    drain(&ring);
    assert_eq!(errno(&read.try_take().unwrap().0), Some(libc::ECANCELED));
}

#[test]
fn c24_what_can_wait_can_be_cancelled() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let timeout = ring.timeout(Duration::from_secs(3600));
    let poll = ring.poll(&reader, deferring::PollFlags::IN);
    ring.submit().unwrap();
    run(&ring, async {
        assert_eq!(timeout.cancel().await, CancelOutcome::Cancelled);
        assert_eq!(poll.cancel().await, CancelOutcome::Cancelled);
        assert_eq!(errno(&timeout.await), Some(libc::ECANCELED));
        assert_eq!(errno(&poll.await), Some(libc::ECANCELED));
    });
}

#[test]
fn c24_a_cancel_that_is_polled_often_wakes_its_task_once() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let (count, waker) = Count::new();
    let read = ring.read(&reader, vec![0; 8], 0);
    ring.submit().unwrap();
    let mut cancel = read.cancel();
    for _ in 0..1000 {
        assert!(poll_once(&mut cancel, &waker).is_pending());
    }
    drain(&ring);
    assert!(poll_once(&mut cancel, &waker).is_ready());
    assert_eq!(count.get(), 1, "one task waits, however often it looked");
}

#[test]
fn c25_a_second_cancel_joins_the_first() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = ring.read(&reader, vec![0; 8], 0);
    ring.submit().unwrap();
    let ((one, one_waker), (two, two_waker)) = (Count::new(), Count::new());
    let (mut first, mut second) = (read.cancel(), read.cancel());
    assert!(poll_once(&mut first, &one_waker).is_pending());
    assert!(poll_once(&mut second, &two_waker).is_pending());
    assert_eq!(ring.pending().cancels, 1);
    assert_eq!(ring.submit().unwrap(), 1, "one cancel");
    read.cancel();
    assert_eq!(ring.submit().unwrap(), 0, "and no other");
    drain(&ring);
    assert_eq!((one.get(), two.get()), (1, 1));
    assert_eq!(first.outcome(), Some(CancelOutcome::Cancelled));
    assert_eq!(second.outcome(), Some(CancelOutcome::Cancelled));
    assert_eq!(ring.stats().sqes, 2);
}

#[test]
fn c26_found_not_found_and_running_are_all_no_errors() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let ring = ring();
    // An open in a worker is found waiting or running, as it happens.
    let mut ran = false;
    until("a running op is cancelled", || {
        let open = ring.queue(OpenInWorker::new(&fifo));
        ring.submit().unwrap();
        thread::yield_now();
        let cancel = open.cancel();
        turn_until(&ring, || cancel.outcome().is_some());
        // `Running` while it runs; when it has ended its own result is what counts.
        ran |= cancel.outcome() == Some(CancelOutcome::Running);
        let _peer = lets_go(&fifo);
        check_interrupted(&finish(&ring, &open));
        ran
    });
    drain(&ring);
}

#[test]
fn c27_a_cancelled_read_has_the_byte_or_the_pipe_still_has_it() {
    let ring = ring();
    let (reader, writer) = pipe();
    let rounds = 500;
    let barrier = Arc::new(Barrier::new(2));
    let writes = {
        let (barrier, mut writer) = (Arc::clone(&barrier), writer.try_clone().unwrap());
        thread::spawn(move || {
            for _ in 0..rounds {
                barrier.wait();
                writer.write_all(b"x").unwrap();
                barrier.wait();
            }
        })
    };
    let (mut finished, mut cancelled) = (0, 0);
    for round in 0..rounds {
        let read = ring.read(&reader, vec![0; 1], 0);
        ring.submit().unwrap();
        barrier.wait();
        (0..round).for_each(|_| std::hint::spin_loop()); // Meets the write early and late.
        let cancel = read.cancel();
        turn_until(&ring, || read.is_done());
        barrier.wait();
        match cancel.outcome() {
            Some(CancelOutcome::Finished) => finished += 1,
            Some(CancelOutcome::Cancelled) => cancelled += 1,
            other => panic!("{other:?} of an op that is done"),
        }
        let was_cancelled = cancel.outcome() == Some(CancelOutcome::Cancelled);
        let BufResult(result, _) = read.try_take().expect("done");
        if was_cancelled {
            assert!(matches!(errno(&result), Some(libc::ECANCELED | libc::EINTR)), "{result:?}");
            let left = finish(&ring, &ring.read(&reader, vec![0; 8], 0));
            assert_eq!(left.into_inner().unwrap().0, 1, "the byte was not lost");
        } else {
            assert_eq!(result.unwrap(), 1);
        }
    }
    writes.join().unwrap();
    assert_eq!(finished + cancelled, rounds);
}

#[test]
fn c28_after_a_cancel_the_result_comes_once_through_the_handle() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let (count, waker) = Count::new();
    let mut read = ring.read(&reader, vec![7; 3], 0);
    ring.submit().unwrap();
    assert!(poll_once(&mut read, &waker).is_pending());
    read.cancel();
    assert!(read.try_take().is_none(), "asked is not done");
    drain(&ring);
    assert_eq!(count.get(), 1);
    let BufResult(result, buf) = read.try_take().expect("done");
    assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![7; 3]));
    assert!(read.try_take().is_none());
}

#[test]
fn p3_each_of_many_cancelled_operations_ends_once() {
    let ring = builder().queue_depth(8).completions(16).build().unwrap();
    // One read of each pipe: a second one would wait for the first in the ring.
    let pipes: Vec<_> = (0..200).map(|_| pipe()).collect();
    let (count, waker) = Count::new();
    let mut reads: Vec<_> =
        pipes.iter().map(|(reader, _)| ring.read(reader, vec![7; 1], 0)).collect();
    for read in &mut reads {
        assert!(poll_once(read, &waker).is_pending());
    }
    ring.submit().unwrap();
    reads.iter().for_each(|read| {
        read.cancel();
    });
    drain(&ring);
    assert_eq!(count.get(), 200);
    for read in reads {
        let BufResult(result, buf) = read.try_take().expect("done");
        assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![7; 1]));
    }
    assert_eq!(ring.stats().sqes, 400);
}

#[test]
fn p4_with_one_entry_and_ten_thousand_queued_a_cancel_goes_first() {
    let ring = builder().queue_depth(1).build().unwrap();
    let (reader, _writer) = pipe();
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut read = ring.read(&reader, vec![0; 1], 0);
    ring.submit().unwrap();
    let mut nops: Vec<_> = (0..10_000).map(|_| ring.nop()).collect();
    let waker = |at| Waker::from(Arc::new(Logs(at, Arc::clone(&log))));
    for (at, nop) in nops.iter_mut().enumerate() {
        assert!(poll_once(nop, &waker(at + 1)).is_pending());
    }
    assert!(poll_once(&mut read, &waker(0)).is_pending());
    read.cancel();
    drain(&ring);
    assert_eq!(errno(&read.try_take().unwrap().0), Some(libc::ECANCELED));
    assert!(log.lock().unwrap().iter().copied().eq(0..=10_000), "the read, then the others");
}

#[test]
fn p4_a_cancel_of_what_is_queued_costs_no_system_call_however_much_there_is() {
    let ring = builder().queue_depth(1).build().unwrap();
    let nops: Vec<_> = (0..10_000).map(|_| ring.nop()).collect();
    let sent = |ring: &Ring| (ring.stats().sqes, ring.stats().own_sqes, ring.stats().enters);
    let before = sent(&ring);
    for nop in nops.iter().step_by(2) {
        assert_eq!(nop.cancel().outcome(), Some(CancelOutcome::Cancelled));
    }
    drop(nops);
    assert_eq!((ring.in_flight(), ring.submit().unwrap()), (0, 0));
    assert_eq!(sent(&ring), before);
}

#[test]
fn p4_a_stale_cancel_hits_no_new_operation() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    for round in 0..200 {
        let old = ring.read(&reader, vec![0; 1], 0);
        ring.submit().unwrap();
        writer.write_all(b"x").unwrap();
        // It ends, unseen by us, and then its cancel is asked for.
        assert!(ring.wait(Some(Duration::from_secs(1))).unwrap());
        old.cancel();
        if round % 2 == 0 {
            // The cancel reaches the kernel, in front of a new op.
            ring.reap().unwrap();
        }
        // The result is taken, which frees the slot for the new op.
        if old.try_take().is_none() {
            ring.reap().unwrap();
            assert_eq!(old.try_take().expect("reaped").into_inner().unwrap().0, 1);
        }
        let new = ring.read(&reader, vec![0; 1], 0);
        ring.submit().unwrap();
        turn_until(&ring, || ring.pending().cancels == 0);
        assert!(!new.is_done(), "round {round}: the cancel was not for this one");
        assert_eq!(old.cancel().outcome(), Some(CancelOutcome::Finished));
        writer.write_all(b"y").unwrap();
        assert_eq!(finish(&ring, &new).into_inner().unwrap(), (1, b"y".to_vec()));
    }
}

#[test]
fn p4_a_cancel_that_was_held_up_hits_no_new_operation_in_the_same_slot() {
    if !has_io_uring("a submit that the kernel may refuse") {
        return;
    }
    let ring = ring();
    let (reader, mut writer) = pipe();
    let old = ring.read(&reader, vec![0; 1], 0);
    ring.submit().unwrap();
    old.cancel();
    // The cancel is shown to the kernel, which does not look yet.
    let refusal = Refusal::Fails(libc::ENOMEM);
    refused(libc::SYS_io_uring_enter, refusal, || ring.submit()).unwrap_err();
    writer.write_all(b"x").unwrap();
    until("the old op ends by itself", || {
        ring.reap().unwrap();
        old.is_done()
    });
    assert_eq!(old.try_take().unwrap().unwrap().0, 1);

    let new = ring.read(&reader, vec![0; 1], 0);
    assert_eq!(ring.submit().unwrap(), 2, "the cancel, and the new op in the old one's slot");
    until("the cancel is answered", || {
        ring.reap().unwrap();
        ring.pending().cancels == 0
    });
    assert_eq!((new.is_done(), ring.submit().unwrap()), (false, 0));
    writer.write_all(b"y").unwrap();
    assert_eq!(finish(&ring, &new).into_inner().unwrap(), (1, b"y".to_vec()));
}

#[test]
fn p4_a_dropped_handle_cancels_its_operation_and_a_detached_one_does_not() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    // Of another descriptor of the same pipe: of the same one it would wait in the ring.
    let again = Fd::try_from(reader.lease().try_as_fd().unwrap()).unwrap();
    let (dropped, detached) = (ring.read(&again, vec![0; 1], 0), ring.read(&reader, vec![0; 1], 0));
    ring.submit().unwrap();
    drop(dropped);
    detached.detach();
    assert_eq!((ring.pending().in_kernel, ring.pending().cancels), (2, 1));
    turn_until(&ring, || ring.pending().cancels == 0 && ring.in_flight() == 1);
    writer.write_all(b"xy").unwrap();
    drain(&ring);
    let left = finish(&ring, &ring.read(&reader, vec![0; 8], 0));
    assert_eq!(left.into_inner().unwrap().0, 1, "the detached one took one byte");
}

/// A waker that writes its number down.
struct Logs(usize, Arc<Mutex<Vec<usize>>>);

impl Wake for Logs {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
    }
}
