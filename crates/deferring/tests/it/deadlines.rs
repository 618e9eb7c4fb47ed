//! Ops that are given up at a time: `timeout` and `deadline`, of handles and of ops.
//!
//! No story measures time. One that waits for a deadline waits for its result; one that must not
//! see a deadline has one that is far away.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use deferring::op::{Op, Openat2, Read, With};
use deferring::{BufResult, Builder, CWD, CancelOutcome, Fd, Handle, PollFlags, Ring};
use rustix::event::EventfdFlags;

use crate::support::{
    BOUND, Count, Graveyard, OpenInWorker, alone, becomes_readable, bounded, builder, drain, errno,
    fifo, finish, lets_go, on_pool, park_on, pipe, poll_once, ring, run, sqpoll, thread_id,
    turn_until, until, until_asleep_in_a_ring,
};

const SOON: Duration = Duration::from_millis(5);
const LATE: Duration = Duration::from_secs(3600);

// Where an op may be when its time has come.

#[test]
fn an_op_in_the_kernel_is_given_up_and_its_buffer_comes_back() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = ring.read(&reader, vec![7; 3], 0).timeout(SOON);
    check_timed_out(run(&ring, read), &[7; 3]);
    let poll = ring.poll(&reader, PollFlags::IN).deadline(Instant::now() + SOON);
    is_timed_out(&run(&ring, poll));
    assert_eq!((ring.stats().timed_out, ring.in_flight()), (2, 0));
}

#[test]
fn an_op_may_be_asked_for_with_its_deadline() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = ring.queue(Read::new(&reader, vec![7; 3], 0).timeout(SOON));
    check_timed_out(run(&ring, read), &[7; 3]);
    let read = Read::new(&reader, vec![8; 3], 0).deadline(Instant::now() + SOON);
    check_timed_out(run(&ring, ring.queue(read)), &[8; 3]);
}

#[test]
fn an_op_that_is_still_queued_is_given_up_without_reaching_the_kernel() {
    bounded(|| {
        let ring = ring();
        let (reader, _writer) = pipe();
        let (count, waker) = Count::new();
        let mut read = ring.read(&reader, vec![7; 3], 0).timeout(SOON);
        assert!(poll_once(&mut read, &waker).is_pending());
        while !read.is_done() {
            ring.wait(Some(SOON)).unwrap();
            ring.reap().unwrap();
        }
        assert_eq!((count.get(), ring.stats().sqes), (1, 0));
        check_timed_out(read.try_take().unwrap(), &[7; 3]);
    });
}

#[test]
fn an_open_that_blocks_a_worker_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path().join("fifo"));
    alone(|ring| async move {
        let open = || ring.queue(OpenInWorker::new(&fifo));
        is_given_up(open().timeout(SOON), &fifo).await;
        let open = Openat2::new(CWD, &fifo).in_worker().may_block().timeout(SOON);
        is_given_up(ring.queue(open), &fifo).await;
        assert_eq!(ring.in_flight(), 0);
    });
}

/// In a thread of the pool it goes on until it is let go, and opens.
async fn is_given_up<T: Op<Output = io::Result<Fd>>>(open: Handle<T>, fifo: &Path) {
    if !on_pool() {
        return is_timed_out(&open.await);
    }
    let fifo = fifo.to_owned();
    let peer = thread::spawn(move || {
        thread::sleep(4 * SOON);
        lets_go(&fifo)
    });
    match open.await {
        Ok(_opened) => {}
        not_begun => is_timed_out(&not_begun),
    }
    drop(peer.join().unwrap());
}

#[test]
fn an_op_that_waits_for_its_turn_at_a_descriptor_is_given_up_and_the_others_go_on() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let read = || ring.read(&reader, vec![0; 1], 0);
    let (first, second, third) = (read(), read().timeout(SOON), read());
    check_timed_out(run(&ring, second), &[0]);
    assert_eq!((ring.pending().queued, ring.pending().in_kernel), (1, 1));
    io::Write::write_all(&mut writer, b"ab").unwrap();
    assert_eq!(run(&ring, first).into_inner().unwrap(), (1, b"a".to_vec()));
    assert_eq!(run(&ring, third).into_inner().unwrap(), (1, b"b".to_vec()));
}

#[test]
fn the_op_whose_turn_it_is_is_given_up_and_the_next_one_gets_its_turn() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let first = ring.read(&reader, vec![7; 1], 0).timeout(SOON);
    let second = ring.read(&reader, vec![0; 1], 0);
    check_timed_out(run(&ring, first), &[7]);
    io::Write::write_all(&mut writer, b"x").unwrap();
    assert_eq!(run(&ring, second).into_inner().unwrap(), (1, b"x".to_vec()));
}

#[test]
fn an_op_that_waits_for_a_credit_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path().join("fifo"));
    // Nothing counts as stuck, so that there are as many workers as at the beginning.
    let ring = builder().stuck_after(LATE).build().unwrap();
    let open = || ring.queue(OpenInWorker::new(&fifo));
    let opens: Vec<_> = (0..100).map(|_| open()).collect();
    let last = open().timeout(SOON);
    is_timed_out(&run(&ring, last));
    assert!(ring.pending().queued > 0 && ring.pending().in_kernel < 100, "{:?}", ring.pending());
    drop(opens);
    let _peer = lets_go(&fifo);
    drain(&ring);
}

// Which time counts.

#[test]
fn an_op_that_ends_before_has_its_own_result_and_the_deadline_does_nothing() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let read = ring.read(&reader, vec![0; 1], 0).timeout(LATE);
    io::Write::write_all(&mut writer, b"x").unwrap();
    assert_eq!(run(&ring, read).into_inner().unwrap(), (1, b"x".to_vec()));
    // Another op gets the slot of one whose deadline is still to come.
    run(&ring, ring.nop().timeout(SOON)).unwrap();
    let next = ring.read(&reader, vec![0; 1], 0);
    is_timed_out(&run(&ring, ring.poll(&reader, PollFlags::IN).timeout(2 * SOON)));
    assert!(!next.is_done());
    assert_eq!(ring.stats().timed_out, 1);
    io::Write::write_all(&mut writer, b"y").unwrap();
    assert_eq!(run(&ring, next).into_inner().unwrap(), (1, b"y".to_vec()));
}

#[test]
fn a_deadline_of_an_op_that_has_ended_is_ignored() {
    let ring = ring();
    let nop = ring.nop();
    drain(&ring);
    finish(&ring, &nop.timeout(Duration::ZERO)).unwrap();
    assert_eq!(ring.stats().timed_out, 0);
    let (reader, _writer) = pipe();
    run(&ring, ring.close(&reader)).unwrap();
    let refused = ring.read(&reader, vec![0; 1], 0).timeout(Duration::ZERO);
    assert_eq!(errno(&refused.try_take().expect("refused at once").0), Some(libc::EBADF));
}

#[test]
fn the_earliest_of_several_deadlines_counts() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = || ring.read(&reader, vec![7; 3], 0);
    check_timed_out(run(&ring, read().timeout(SOON).timeout(LATE)), &[7; 3]);
    check_timed_out(run(&ring, read().timeout(LATE).timeout(SOON)), &[7; 3]);
    let read = ring.queue(Read::new(&reader, vec![8; 3], 0).timeout(SOON)).timeout(LATE);
    check_timed_out(run(&ring, read), &[8; 3]);
    let read = ring.queue(Read::new(&reader, vec![8; 3], 0).timeout(LATE)).timeout(SOON);
    check_timed_out(run(&ring, read), &[8; 3]);
    assert_eq!(ring.stats().timed_out, 4, "each is given up once");
}

#[test]
fn the_earliest_of_several_deadlines_counts_for_an_op_that_is_not_queued_yet() {
    let (reader, _writer) = pipe();
    let read = || Read::new(&reader, vec![7; 3], 0);
    let given_up = |read: With<Read<Vec<u8>>>| {
        let ring = ring();
        ring.queue(read).detach();
        // They come in their order.
        is_timed_out(&run(&ring, ring.poll(&reader, PollFlags::IN).timeout(2 * SOON)));
        ring.stats().timed_out == 2
    };
    assert!(given_up(read().timeout(LATE).timeout(SOON)));
    assert!(given_up(read().timeout(SOON).timeout(LATE)));
}

#[test]
fn a_deadline_in_the_past_has_come() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let past = Instant::now();
    let read = ring.read(&reader, vec![7; 3], 0).deadline(past);
    check_timed_out(run(&ring, read), &[7; 3]);
    let read = ring.read(&reader, vec![7; 3], 0);
    ring.submit().unwrap();
    check_timed_out(run(&ring, read.timeout(Duration::ZERO)), &[7; 3]);
}

#[test]
fn a_timeout_longer_than_time_never_comes_and_is_no_error() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let read = ring.read(&reader, vec![0; 1], 0).timeout(Duration::MAX);
    let next = ring.queue(Read::new(&reader, vec![0; 1], 0).timeout(Duration::MAX));
    ring.submit().unwrap();
    // Another deadline comes before it, and is the one that counts.
    is_timed_out(&run(&ring, ring.poll(&reader, PollFlags::IN).timeout(SOON)));
    assert!(!read.is_done() && !next.is_done());
    io::Write::write_all(&mut writer, b"xy").unwrap();
    assert_eq!(run(&ring, read).into_inner().unwrap(), (1, b"x".to_vec()));
    assert_eq!(run(&ring, next).into_inner().unwrap(), (1, b"y".to_vec()));
}

#[test]
fn a_cancel_of_the_users_before_the_deadline_is_that() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = ring.read(&reader, vec![7; 3], 0).timeout(LATE);
    ring.submit().unwrap();
    assert_eq!(run(&ring, read.cancel()), CancelOutcome::Cancelled);
    assert_eq!(errno(&run(&ring, read).0), Some(libc::ECANCELED));

    // The deadline has come before anybody sends the cancel: it was asked for first.
    let read = ring.read(&reader, vec![7; 3], 0);
    ring.submit().unwrap();
    let cancel = read.cancel();
    assert_eq!(cancel.outcome(), None);
    let BufResult(result, _) = run(&ring, read.timeout(Duration::ZERO));
    assert_eq!(errno(&result), Some(libc::ECANCELED));
    assert_eq!(ring.stats().timed_out, 0);
}

#[test]
fn a_cancel_after_the_deadline_says_that_it_is_cancelled() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = ring.read(&reader, vec![7; 3], 0).timeout(SOON);
    turn_until(&ring, || read.is_done());
    assert_eq!(read.cancel().outcome(), Some(CancelOutcome::Cancelled));
    check_timed_out(read.try_take().unwrap(), &[7; 3]);
}

// What becomes of an op that nobody holds.

#[test]
fn a_detached_op_is_given_up_and_frees_what_it_holds() {
    let ring = ring();
    let graveyard = Graveyard::default();
    let (reader, _writer) = pipe();
    for _ in 0..3 {
        // In the kernel, and waiting behind another.
        ring.read(&reader, graveyard.buffer(), 0).timeout(SOON).detach();
    }
    drain(&ring);
    assert_eq!((graveyard.freed(), ring.stats().timed_out), (3, 3));
    graveyard.check_undisturbed();
    assert!(reader.try_into_owned().is_ok(), "no op uses it");
}

#[test]
fn a_handle_that_is_dropped_cancels_its_op_whatever_its_deadline() {
    let ring = ring();
    let graveyard = Graveyard::default();
    let (reader, _writer) = pipe();
    let read = |time| ring.read(&reader, graveyard.buffer(), 0).timeout(time);
    drop(read(SOON));
    let in_kernel = [read(LATE), read(SOON)];
    ring.submit().unwrap();
    drop(in_kernel);
    drain(&ring);
    assert_eq!((graveyard.freed(), ring.in_flight()), (3, 0));
    is_timed_out(&run(&ring, ring.poll(&reader, PollFlags::IN).timeout(2 * SOON)));
    assert_eq!(ring.stats().timed_out, 1, "of the poll");
}

#[test]
fn a_ring_may_be_dropped_with_deadlines_to_come() {
    bounded(|| {
        let (reader, _writer) = pipe();
        for time in [Duration::ZERO, SOON, LATE, Duration::MAX] {
            let ring = ring();
            let read = ring.read(&reader, vec![7; 3], 0).timeout(time);
            let queued = ring.read(&reader, vec![7; 3], 0).timeout(time);
            ring.submit().unwrap();
            drop(ring);
            for read in [read, queued] {
                let BufResult(result, buf) = read.try_take().expect("ended");
                assert!(matches!(errno(&result), Some(libc::ECANCELED | libc::ETIMEDOUT)));
                assert_eq!(buf, [7; 3]);
            }
        }
    });
}

// Who turns the ring.

#[test]
fn a_wait_without_end_is_long_enough_for_a_deadline_and_no_longer() {
    bounded(|| {
        let ring = ring();
        let (reader, _writer) = pipe();
        let read = ring.read(&reader, vec![7; 3], 0).timeout(SOON);
        ring.submit().unwrap();
        check_timed_out(await_by_hand(&ring, &read), &[7; 3]);
    });
}

#[test]
fn a_deadline_that_is_set_after_the_submit_counts_in_a_wait_without_end() {
    bounded(|| {
        let ring = ring();
        let (reader, _writer) = pipe();
        let read = ring.read(&reader, vec![7; 3], 0);
        ring.submit().unwrap();
        let read = read.timeout(SOON);
        check_timed_out(await_by_hand(&ring, &read), &[7; 3]);

        // Also if it comes before one that the kernel has been told of.
        let far = ring.poll(&reader, PollFlags::IN).timeout(LATE);
        let read = ring.read(&reader, vec![7; 3], 0);
        ring.submit().unwrap();
        let read = read.timeout(SOON);
        check_timed_out(await_by_hand(&ring, &read), &[7; 3]);
        assert!(!far.is_done());
    });
}

#[test]
fn a_deadline_counts_while_a_thread_sleeps_in_block_on() {
    bounded(|| {
        let ring = ring();
        let (reader, mut writer) = pipe();
        let (watched, sleeper) = (ring.clone(), thread_id());
        let same = reader.clone();
        let other = thread::spawn(move || {
            until_asleep_in_a_ring(sleeper);
            let read = watched.poll(&same, PollFlags::IN);
            until("it is in the kernel", || watched.pending().in_kernel == 2);
            until_asleep_in_a_ring(sleeper);
            is_timed_out(&park_on(read.timeout(SOON)));
            io::Write::write_all(&mut writer, b"x").unwrap();
        });
        assert_eq!(run(&ring, ring.read(&reader, vec![0; 1], 0)).unwrap().0, 1);
        other.join().unwrap();
    });
}

#[test]
fn deadlines_come_in_every_mode_of_a_ring() {
    bounded(|| {
        for builder in modes() {
            let ring = builder.build().unwrap();
            let (reader, _writer) = pipe();
            let read = || ring.read(&reader, vec![7; 3], 0);
            check_timed_out(run(&ring, read().timeout(SOON)), &[7; 3]);
            let read_by_hand = read().timeout(SOON);
            ring.submit().unwrap();
            check_timed_out(await_by_hand(&ring, &read_by_hand), &[7; 3]);
            let later = read();
            ring.submit().unwrap();
            let later = later.timeout(SOON);
            check_timed_out(await_by_hand(&ring, &later), &[7; 3]);
        }
    });
}

#[test]
fn deadlines_come_to_a_loop_that_sleeps_on_an_eventfd() {
    bounded(|| {
        for builder in modes() {
            let ring = builder.build().unwrap();
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let eventfd = rustix::event::eventfd(0, flags).unwrap();
            ring.register_eventfd(&eventfd).unwrap();
            let (reader, _writer) = pipe();
            let read = ring.read(&reader, vec![7; 3], 0).timeout(SOON);
            let behind = ring.read(&reader, vec![7; 3], 0).timeout(2 * SOON);
            // One submit; from then on the loop acts on the eventfd only.
            ring.submit().unwrap();
            while !(read.is_done() && behind.is_done()) {
                assert!(becomes_readable(&eventfd, BOUND / 2), "{:?}", ring);
                let _ = rustix::io::read(&eventfd, &mut [0; 8]);
                ring.reap().unwrap();
            }
            check_timed_out(read.try_take().unwrap(), &[7; 3]);
            check_timed_out(behind.try_take().unwrap(), &[7; 3]);
        }
    });
}

#[test]
fn a_deadline_outlives_the_thread_that_submitted_its_op() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = thread::scope(|scope| {
        let submits = || {
            let read = ring.read(&reader, vec![7; 3], 0).timeout(SOON);
            ring.submit().unwrap();
            read
        };
        scope.spawn(submits).join().unwrap()
    });
    check_timed_out(run(&ring, read), &[7; 3]);
}

// Many.

#[test]
fn ten_thousand_deadlines_are_one_timeout_in_the_kernel() {
    let ring = builder().queue_depth(256).build().unwrap();
    let (reader, _writer) = pipe();
    let reader = &reader;
    let at = Instant::now() + LATE;
    let poll = |after: u64| {
        // Later and later, and then earlier and earlier.
        let at = at + Duration::from_secs(after.min(10_000 - after));
        ring.poll(reader, PollFlags::IN).deadline(at)
    };
    let polls: Vec<_> = (0..10_000).map(poll).collect();
    ring.submit().unwrap();
    assert_eq!((ring.stats().own_sqes, ring.pending().in_kernel), (1, 10_000));
    let far = ring.poll(reader, PollFlags::IN).deadline(at + LATE);
    ring.submit().unwrap();
    assert_eq!(ring.stats().own_sqes, 1, "it comes after the first");
    drop((polls, far));
    drain(&ring);
    assert_eq!(ring.stats().timed_out, 0);
}

#[test]
fn ten_thousand_ops_are_given_up_each_once() {
    let ring = builder().queue_depth(256).build().unwrap();
    let (reader, _writer) = pipe();
    let at = Instant::now() + SOON;
    let micros = Duration::from_micros;
    let poll = |op: u64| ring.poll(&reader, PollFlags::IN).deadline(at + micros(op % 100));
    let polls: Vec<_> = (0..10_000).map(poll).collect();
    drain(&ring);
    polls.iter().for_each(|poll| is_timed_out(&poll.try_take().expect("given up")));
    let stats = ring.stats();
    assert_eq!((stats.timed_out, stats.ended), (10_000, 10_000));
    assert!(stats.own_sqes <= 300, "{} for 100 points of time", stats.own_sqes);
}

#[test]
fn deadlines_race_with_results_and_each_op_has_one_of_them() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let (mut in_time, mut too_late) = (0, 0);
    for round in 0..200 {
        let read = ring.read(&reader, vec![0; 1], 0).timeout(Duration::from_micros(round * 5));
        ring.submit().unwrap();
        io::Write::write_all(&mut writer, b"x").unwrap();
        let BufResult(result, _) = run(&ring, read);
        match result {
            Ok(n) => in_time += n,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                too_late += 1;
                assert_eq!(run(&ring, ring.read(&reader, vec![0; 9], 0)).unwrap().0, 1);
            }
        }
    }
    assert_eq!(in_time + too_late, 200, "no byte was lost or read twice");
}

fn modes() -> Vec<Builder> {
    let modes = [
        builder(),
        builder().coop_taskrun(true),
        builder().single_issuer(true),
        builder().defer_taskrun(true),
    ];
    modes.into_iter().chain(sqpoll(Duration::from_millis(1))).collect()
}

/// The result, by `wait(None)` and `reap` alone.
fn await_by_hand<T: Op>(ring: &Ring, handle: &Handle<T>) -> T::Output {
    loop {
        if let Some(output) = handle.try_take() {
            return output;
        }
        ring.wait(None).unwrap();
        ring.reap().unwrap();
    }
}

#[track_caller]
fn check_timed_out(BufResult(result, buf): BufResult<usize, Vec<u8>>, bytes: &[u8]) {
    is_timed_out(&result);
    assert_eq!(buf, bytes);
}

#[track_caller]
fn is_timed_out<T>(result: &io::Result<T>) {
    let error = result.as_ref().err().expect("it was not given up");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
}
