//! Cancels of many ops at once: of a descriptor, of a group, of a ring.
//!
//! The outcome counts each op once; the ops' own results come all the same. What one cancel does to
//! one op is told in `cancel.rs`.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use deferring::op::{Nop, Op, Openat2, Read};
use deferring::{
    Advice, AtFlags, BufResult, CWD, CancelMany, CancelOutcome, Cancelled, FallocateFlags, Fd,
    Mode, OFlags, PollFlags, RenameFlags, ResolveFlags, Ring, StatxFlags,
};

use crate::support::{
    Came, Count, Graveyard, OpenInWorker, bounded, builder, check_interrupted, drain, errno, fifo,
    finish, in_a_process_of_its_own, lets_go, park_on, pipe, poll_once, ring, run, sqpoll,
    this_test, thread_id, turn_until, until, until_asleep_in_a_ring,
};

// A descriptor.

#[test]
fn a_cancel_of_a_descriptor_ends_all_that_use_it_and_nothing_else() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let (other, mut others_writer) = pipe();
    let (first, second) = (ring.read(&reader, vec![7; 3], 0), ring.read(&reader, vec![8; 3], 0));
    let poll = ring.poll(&reader, PollFlags::IN);
    let others = ring.read(&other, vec![0; 1], 0);
    let others_poll = ring.poll(&other, PollFlags::PRI);
    let timeout = ring.timeout(Duration::from_secs(3600));
    ring.submit().unwrap();
    let queued = ring.read(&reader, vec![9; 3], 0);
    assert_eq!(counts(run(&ring, ring.cancel_fd(&reader))), [4, 0, 0]);
    for (read, byte) in [(first, 7), (second, 8), (queued, 9)] {
        let BufResult(result, buf) = read.try_take().expect("cancelled");
        assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![byte; 3]));
    }
    assert_eq!(errno(&poll.try_take().expect("cancelled")), Some(libc::ECANCELED));
    assert!(!others.is_done() && !others_poll.is_done() && !timeout.is_done());
    others_writer.write_all(b"x").unwrap();
    assert_eq!(run(&ring, others).into_inner().unwrap(), (1, b"x".to_vec()));
}

#[test]
fn a_clone_of_a_descriptor_is_the_same_and_a_duplicate_is_another() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let clone = reader.clone();
    let duplicate = Fd::try_from(reader.lease().try_as_fd().unwrap()).unwrap();
    let own = ring.read(&reader, vec![0; 1], 0);
    let clones = ring.poll(&clone, PollFlags::IN);
    let duplicates = ring.read(&duplicate, vec![0; 1], 0);
    ring.submit().unwrap();
    assert_eq!(counts(run(&ring, ring.cancel_fd(&clone))), [2, 0, 0]);
    assert!(own.is_done() && clones.is_done() && !duplicates.is_done());
    writer.write_all(b"x").unwrap();
    assert_eq!(run(&ring, duplicates).into_inner().unwrap(), (1, b"x".to_vec()));
}

#[test]
fn a_number_that_is_used_again_is_another_descriptor() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = ring();
        let (old, _writer) = pipe();
        let number = old.lease().raw();
        run(&ring, ring.close(&old)).unwrap();
        let (new, mut writer) = pipe();
        assert_eq!(new.lease().raw(), number, "the lowest free number");
        let read = ring.read(&new, vec![0; 1], 0);
        ring.submit().unwrap();
        assert_eq!(counts(run(&ring, ring.cancel_fd(&old))), [0, 0, 0]);
        writer.write_all(b"x").unwrap();
        assert_eq!(run(&ring, read).unwrap().0, 1);
    });
}

#[test]
fn paths_that_start_from_a_directory_use_it() {
    let dir = tempfile::tempdir().unwrap();
    fifo(dir.path().join("fifo"));
    let directory = || Fd::from(std::fs::File::open(dir.path()).unwrap());
    let (one, other) = (directory(), directory());
    let ring = ring();
    let open = |dir: &Fd| ring.queue(Openat2::new(dir, "fifo").in_worker().may_block());
    let (ours, theirs) = (open(&one), open(&other));
    let nowhere = ring.queue(OpenInWorker::new(&dir.path().join("fifo")));
    ring.submit().unwrap();
    let outcome = run(&ring, ring.cancel_fd(&one));
    assert_eq!(outcome.cancelled + outcome.running, 1, "{outcome:?}");
    assert_eq!(ring.stats().cancels_sent, 1);
    assert!(!theirs.is_done() && !nowhere.is_done());
    let peer = lets_go(&dir.path().join("fifo"));
    check_interrupted(&run(&ring, ours));
    assert!(peer.is_some() || !theirs.is_done() && !nowhere.is_done());
    drop((theirs, nowhere));
    drain(&ring);
}

#[test]
fn an_op_with_two_directories_uses_both() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "a").unwrap();
    let ring = ring();
    for second in [false, true] {
        let directory = || Fd::from(std::fs::File::open(dir.path()).unwrap());
        let (from, to) = (directory(), directory());
        let rename = ring.renameat2(&from, "a", &to, "b", RenameFlags::empty());
        let link = ring.linkat(&from, "a", &to, "c", AtFlags::empty());
        // Still queued: nothing is done.
        let outcome = ring.cancel_fd(if second { &to } else { &from });
        assert_eq!(counts(outcome.outcome().expect("at once")), [2, 0, 0]);
        assert_eq!(errno(&rename.try_take().unwrap()), Some(libc::ECANCELED));
        assert_eq!(errno(&link.try_take().unwrap()), Some(libc::ECANCELED));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn every_op_knows_which_descriptor_it_uses() {
    let ring = ring();
    let (fd, other) = (null(), null());
    let none = AtFlags::empty();
    for (used, count) in [(&fd, 19), (&other, 0)] {
        ring.read(&fd, vec![0; 1], 0).detach();
        ring.readv(&fd, vec![vec![0; 1]], 0).detach();
        ring.write(&fd, "x", 0).detach();
        ring.writev(&fd, vec!["x"], 0).detach();
        ring.poll(&fd, PollFlags::IN).detach();
        ring.fsync(&fd).detach();
        ring.fdatasync(&fd).detach();
        ring.ftruncate(&fd, 0).detach();
        ring.fallocate(&fd, FallocateFlags::empty(), 0, 1).detach();
        ring.fadvise(&fd, 0, 1, Advice::Normal).detach();
        ring.openat2(&fd, "a", OFlags::RDONLY, Mode::empty(), ResolveFlags::empty()).detach();
        ring.statx(&fd, "a", none, StatxFlags::BASIC_STATS).detach();
        ring.unlinkat(&fd, "a", none).detach();
        ring.mkdirat(&fd, "a", Mode::RWXU).detach();
        ring.symlinkat("a", &fd, "b").detach();
        ring.linkat(&fd, "a", CWD, "b", none).detach();
        ring.linkat(CWD, "a", &fd, "b", none).detach();
        ring.renameat2(&fd, "a", CWD, "b", RenameFlags::empty()).detach();
        ring.queue(Read::new(&fd, vec![0; 1], 0).in_worker()).detach();
        ring.nop().detach();
        assert_eq!(counts(ring.cancel_fd(used).outcome().expect("queued")), [count, 0, 0]);
        ring.cancel_all();
    }
    assert_eq!((ring.in_flight(), ring.stats().sqes), (0, 0));
}

#[test]
fn a_close_that_waits_for_the_ops_goes_on() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let reads: Vec<_> = (0..3).map(|_| ring.read(&reader, vec![7; 3], 0)).collect();
    let closing = ring.close(&reader);
    ring.submit().unwrap();
    assert_eq!(counts(run(&ring, ring.cancel_fd(&reader))), [3, 0, 0]);
    run(&ring, closing).unwrap();
    reads.iter().for_each(|read| assert!(read.is_done()));
}

#[test]
fn who_waits_behind_another_does_not_go_when_that_one_is_cancelled_with_it() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let reads: Vec<_> = (0..10).map(|_| ring.read(&reader, vec![7; 3], 0)).collect();
    ring.submit().unwrap();
    writer.write_all(b"x").unwrap();
    // The first has its byte by now, or else the cancel is first; the others never get as far.
    let outcome = run(&ring, ring.cancel_fd(&reader));
    assert_eq!((outcome.cancelled + outcome.finished, outcome.running), (10, 0));
    assert!(outcome.finished <= 1 && ring.in_flight() == 0, "{outcome:?}");
    let taken: usize = reads.iter().filter_map(|read| read.try_take().unwrap().0.ok()).sum();
    assert_eq!(taken, outcome.finished);
    let (next, mut more) = (ring.read(&reader, vec![0; 8], 0), writer);
    more.write_all(b"y").unwrap();
    assert_eq!(run(&ring, next).unwrap().0, 2 - taken, "the turn is free, and no byte is lost");
}

// Groups.

#[test]
fn a_cancel_of_a_group_ends_what_is_in_it_and_nothing_else() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let poll = || ring.poll(&reader, PollFlags::IN);
    let (one, other) = (ring.group(), ring.group());
    let ours = [one.add(poll()), one.clone().add(poll())];
    let queued_by = one.queue(deferring::op::PollAdd::new(&reader, PollFlags::IN));
    let theirs = other.add(poll());
    let nobodys = poll();
    ring.submit().unwrap();
    assert_eq!(counts(run(&ring, one.cancel())), [3, 0, 0]);
    assert!(ours.iter().all(|poll| poll.is_done()) && queued_by.is_done());
    assert!(!theirs.is_done() && !nobodys.is_done());
}

#[test]
fn an_op_is_of_the_group_that_it_was_put_into_last() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let (first, second) = (ring.group(), ring.group());
    let poll = second.add(first.add(ring.poll(&reader, PollFlags::IN)));
    ring.submit().unwrap();
    assert_eq!(counts(run(&ring, first.cancel())), [0, 0, 0]);
    assert_eq!(counts(run(&ring, second.cancel())), [1, 0, 0]);
    assert!(poll.is_done());
}

#[test]
fn a_group_can_be_used_again_and_dropping_it_cancels_nothing() {
    let ring = ring();
    let group = ring.group();
    let (reader, _writer) = pipe();
    for _ in 0..3 {
        let poll = group.add(ring.poll(&reader, PollFlags::IN));
        ring.submit().unwrap();
        assert_eq!(counts(run(&ring, group.cancel())), [1, 0, 0]);
        assert!(poll.is_done());
    }
    let poll = group.add(ring.poll(&reader, PollFlags::IN));
    drop(group);
    run(&ring, ring.nop()).unwrap();
    assert!(!poll.is_done());
}

#[test]
fn an_op_that_has_ended_stays_as_it_is_in_a_group_and_its_slot_leaves_it() {
    let ring = ring();
    let group = ring.group();
    let (nop, taken) = (ring.nop(), ring.nop());
    drain(&ring);
    let nop = group.add(nop);
    taken.try_take().unwrap().unwrap();
    let taken = group.add(taken);
    assert_eq!(counts(group.cancel().outcome().expect("at once")), [0, 0, 0]);
    nop.try_take().unwrap().unwrap();
    assert!(taken.try_take().is_none());
    // The same slots, other ops.
    let nops = [ring.nop(), ring.nop()];
    assert_eq!(counts(group.cancel().outcome().expect("at once")), [0, 0, 0]);
    nops.iter().for_each(|nop| finish(&ring, nop).unwrap());
}

#[test]
fn a_group_takes_no_op_of_another_ring() {
    let (ring, other) = (ring(), ring());
    let group = ring.group();
    assert!(catch_unwind(AssertUnwindSafe(|| group.add(other.nop()))).is_err());
    assert_eq!((ring.in_flight(), other.in_flight()), (0, 0), "the nop went with its handle");
}

// All, and what is counted.

#[test]
fn a_cancel_of_all_ends_all_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path().join("fifo"));
    let ring = builder().stuck_after(Duration::from_secs(3600)).build().unwrap();
    let (reader, _writer) = pipe();
    let graveyard = Graveyard::default();
    let opens: Vec<_> = (0..60).map(|_| ring.queue(OpenInWorker::new(&fifo))).collect();
    let held = ring.read(&reader, graveyard.buffer(), 0);
    ring.read(&reader, graveyard.buffer(), 0).detach();
    let dropped = ring.poll(&reader, PollFlags::IN);
    ring.submit().unwrap();
    drop(dropped);
    ring.read(&reader, graveyard.buffer(), 0).detach();
    drop(ring.nop()); // Never submitted: gone at once.
    let nop = ring.nop();
    // In workers, waiting for credits, waiting behind another, dropped, detached, queued.
    let outcome = run(&ring, ring.cancel_all());
    let _peer = lets_go(&fifo);
    drain(&ring);
    assert_eq!(outcome.cancelled + outcome.running, 60 + 5, "{outcome:?}");
    assert_eq!((outcome.finished, graveyard.freed()), (0, 2));
    assert!(held.is_done() && nop.is_done() && opens.iter().all(|open| open.is_done()));
    graveyard.check_undisturbed();
}

#[test]
fn what_ended_before_its_cancel_came_is_counted_as_finished() {
    let ring = ring();
    let came = Came::count(&ring);
    let pipes = [pipe(), pipe(), pipe()];
    let reads = pipes.each_ref().map(|(reader, _)| ring.read(reader, vec![0; 1], 0));
    let nop = ring.nop();
    ring.submit().unwrap();
    // Two completions are in the queue, unseen by us.
    (&pipes[0].1).write_all(b"x").unwrap();
    came.until(2);
    assert!(ring.wait(Some(Duration::from_secs(1))).unwrap());
    assert_eq!(counts(run(&ring, ring.cancel_all())), [2, 0, 2]);
    nop.try_take().unwrap().unwrap();
    let ended = reads.map(|read| read.try_take().unwrap().0.is_ok());
    assert_eq!(ended, [true, false, false]);
}

#[test]
fn an_op_that_runs_is_counted_as_that_or_as_what_became_of_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path().join("fifo"));
    let ring = ring();
    let mut ran = 0;
    until("a running op is cancelled", || {
        let opens: Vec<_> = (0..4).map(|_| ring.queue(OpenInWorker::new(&fifo))).collect();
        ring.submit().unwrap();
        thread::yield_now();
        let many = ring.cancel_all();
        turn_until(&ring, || many.outcome().is_some());
        let outcome = many.outcome().unwrap();
        assert_eq!(counts(outcome).iter().sum::<usize>(), 4, "{outcome:?}");
        ran += outcome.running;
        let _peer = lets_go(&fifo);
        opens.iter().for_each(|open| check_interrupted(&finish(&ring, open)));
        assert_eq!(many.outcome(), Some(outcome), "it does not change when they end");
        ran > 0
    });
    drain(&ring);
}

#[test]
fn two_cancels_of_the_same_ops_both_count_them() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let group = ring.group();
    let polls = [0; 5].map(|_| group.add(ring.poll(&reader, PollFlags::IN)));
    ring.submit().unwrap();
    let one_by_one = polls[0].cancel();
    let (first, second, third) = (group.cancel(), ring.cancel_fd(&reader), ring.cancel_all());
    assert_eq!(ring.pending().cancels, 5, "each op is cancelled once");
    drain(&ring);
    for many in [first, second, third] {
        assert_eq!(counts(many.outcome().expect("all ended")), [5, 0, 0]);
    }
    assert_eq!(one_by_one.outcome(), Some(CancelOutcome::Cancelled));
    assert_eq!(counts(run(&ring, group.cancel())), [0, 0, 0], "nothing is left");
}

#[test]
fn a_cancel_of_nothing_is_ready_at_once() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let (count, waker) = Count::new();
    for mut many in [ring.cancel_all(), ring.cancel_fd(&reader), ring.group().cancel()] {
        assert_eq!(many.outcome(), Some(Cancelled::default()));
        assert_eq!(poll_once(&mut many, &waker), Poll::Ready(Cancelled::default()));
        assert_eq!(poll_once(&mut many, &waker), Poll::Ready(Cancelled::default()), "and stays");
    }
    assert_eq!((count.get(), ring.submit().unwrap(), ring.stats().enters), (0, 0, 0));
}

#[test]
fn a_cancel_of_what_is_queued_costs_no_system_call_and_wakes_who_awaits() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let (count, waker) = Count::new();
    let mut reads: Vec<_> = (0..100).map(|_| ring.read(&reader, vec![7; 1], 0)).collect();
    reads.iter_mut().for_each(|read| assert!(poll_once(read, &waker).is_pending()));
    assert_eq!(counts(ring.cancel_fd(&reader).outcome().expect("at once")), [100, 0, 0]);
    assert_eq!((count.get(), ring.pending()), (100, deferring::Pending::default()));
    assert_eq!((ring.stats().sqes, ring.stats().enters), (0, 0));
}

#[test]
fn a_dropped_one_takes_nothing_back_and_wakes_nobody() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let (count, waker) = Count::new();
    let polls = [0; 5].map(|_| ring.poll(&reader, PollFlags::IN));
    ring.submit().unwrap();
    let mut many = ring.cancel_all();
    assert!(poll_once(&mut many, &waker).is_pending());
    drop(many);
    drain(&ring);
    assert_eq!(count.get(), 0);
    drop(waker);
    assert_eq!(std::sync::Arc::strong_count(&count), 1, "the waker is dropped");
    polls.iter().for_each(|poll| {
        assert_eq!(errno(&poll.try_take().expect("cancelled")), Some(libc::ECANCELED));
    });
}

#[test]
fn one_that_is_polled_often_wakes_the_last_task_once() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let ((first, first_waker), (last, last_waker)) = (Count::new(), Count::new());
    let _polls = [0; 5].map(|_| ring.poll(&reader, PollFlags::IN));
    ring.submit().unwrap();
    let mut many = ring.cancel_all();
    for _ in 0..100 {
        assert!(poll_once(&mut many, &first_waker).is_pending());
        assert!(poll_once(&mut many, &last_waker).is_pending());
    }
    drain(&ring);
    assert_eq!((first.get(), last.get()), (0, 1));
    assert!(poll_once(&mut many, &last_waker).is_ready());
}

#[test]
fn handles_that_are_dropped_meanwhile_are_counted_all_the_same() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let (count, waker) = Count::new();
    let polls = [0; 5].map(|_| ring.poll(&reader, PollFlags::IN));
    ring.submit().unwrap();
    let mut many = ring.cancel_all();
    assert!(poll_once(&mut many, &waker).is_pending());
    let [dropped, detached, ..] = polls;
    drop(dropped);
    detached.detach();
    drain(&ring);
    assert_eq!((many.outcome().map(counts), count.get()), (Some([5, 0, 0]), 1));
}

#[test]
fn the_end_of_the_ring_tells_what_became_of_them() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let poll = ring.poll(&reader, PollFlags::IN);
    ring.submit().unwrap();
    let many = ring.cancel_all();
    drop(ring);
    assert_eq!(counts(many.outcome().expect("the ring is gone")), [1, 0, 0]);
    assert!(poll.is_done());
}

#[test]
fn from_another_thread_it_is_sent_by_the_one_that_sleeps_in_the_ring() {
    bounded(|| {
        let ring = ring();
        let (reader, _writer) = pipe();
        let (sleeper, cancels, same) = (thread_id(), ring.clone(), reader.clone());
        let other = thread::spawn(move || {
            until_asleep_in_a_ring(sleeper);
            counts(park_on(cancels.cancel_fd(&same)))
        });
        let BufResult(result, _) = run(&ring, ring.read(&reader, vec![0; 1], 0));
        assert_eq!(errno(&result), Some(libc::ECANCELED));
        // Whoever turned the ring last has reaped the cancel's answer too, or does so now.
        drain(&ring);
        assert_eq!(other.join().unwrap(), [1, 0, 0]);
    });
}

#[test]
fn five_thousand_ops_are_cancelled_at_once() {
    for builder in [builder()].into_iter().chain(sqpoll(Duration::from_millis(1))) {
        let ring = builder.queue_depth(8).completions(16).build().unwrap();
        let (reader, _writer) = pipe();
        let group = ring.group();
        let polls: Vec<_> =
            (0..5_000).map(|_| group.add(ring.poll(&reader, PollFlags::IN))).collect();
        ring.submit().unwrap();
        let queued: Vec<_> = (0..5_000).map(|_| group.queue(Nop::new())).collect();
        assert_eq!(counts(run(&ring, group.cancel())), [10_000, 0, 0]);
        drain(&ring);
        for result in polls.iter().map(|poll| errno(&poll.try_take().unwrap())) {
            assert_eq!(result, Some(libc::ECANCELED));
        }
        assert!(queued.iter().all(|nop| nop.is_done()));
        assert_eq!(ring.stats().cancels_sent, 5_000);
    }
}

#[test]
fn threads_that_queue_and_cancel_at_once_lose_no_op() {
    bounded(|| {
        let ring = ring();
        let (reader, _writer) = pipe();
        let queues = |reader: Fd, ring: Ring| {
            move || {
                let polls: Vec<_> = (0..500).map(|_| ring.poll(&reader, PollFlags::IN)).collect();
                polls.into_iter().for_each(|poll| {
                    assert_eq!(errno(&park_on(poll)), Some(libc::ECANCELED));
                });
            }
        };
        let threads: Vec<_> =
            (0..3).map(|_| thread::spawn(queues(reader.clone(), ring.clone()))).collect();
        let mut ended = 0;
        let mut open: Vec<CancelMany> = Vec::new();
        while ended < 1_500 {
            open.push(ring.cancel_fd(&reader));
            ring.submit().unwrap();
            ring.reap().unwrap();
            open.retain(|many| {
                many.outcome().is_none_or(|outcome| {
                    ended += outcome.cancelled;
                    assert_eq!((outcome.running, outcome.finished), (0, 0));
                    false
                })
            });
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        drain(&ring);
    });
}

fn counts(outcome: Cancelled) -> [usize; 3] {
    [outcome.cancelled, outcome.running, outcome.finished]
}

fn null() -> Fd {
    std::fs::File::open("/dev/null").unwrap().into()
}
