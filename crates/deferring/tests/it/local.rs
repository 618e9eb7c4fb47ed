//! A ring for one thread: it does what any ring does, and stays where it is.

use std::future::poll_fn;
use std::io::{ErrorKind, Write};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use deferring::op::{Nop, PollAdd, Read, Write as WriteOp};
use deferring::{BufResult, CancelOutcome, LocalRing, PollFlags};

use crate::support::{builder, pipe};

fn ring() -> LocalRing {
    builder().build_local().unwrap()
}

#[test]
fn a_ring_of_one_thread_does_what_others_do() {
    let ring = ring();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"some words").unwrap();
    let file = deferring::Fd::from(file);
    let words = ring.block_on(async {
        let written = ring.queue(WriteOp::new(&file, b"more".to_vec(), 0));
        assert_eq!(written.await.into_inner().unwrap().0, 4);
        let reads: Vec<_> =
            (0..100).map(|_| ring.queue(Read::new(&file, Vec::with_capacity(64), 0))).collect();
        let mut words = Vec::new();
        for read in reads {
            words.push(read.await.into_inner().unwrap().1);
        }
        words
    });
    assert!(words.iter().all(|words| words == b"more words"));
    assert_eq!((ring.in_flight(), ring.stats().ended), (0, 101));
}

#[test]
fn a_ring_of_one_thread_is_turned_by_hand() {
    let ring = ring();
    let nops: Vec<_> = (0..10).map(|_| ring.queue(Nop::new())).collect();
    assert_eq!(ring.pending().queued, 10);
    assert_eq!(ring.submit().unwrap(), 10);
    while ring.in_flight() > 0 {
        ring.wait(Some(Duration::from_secs(10))).unwrap();
        ring.reap().unwrap();
    }
    assert!(nops.iter().all(|nop| nop.try_take().unwrap().is_ok()));
}

#[test]
fn an_op_of_a_ring_of_one_thread_can_be_cancelled_and_given_up() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let poll = ring.queue(PollAdd::new(&reader, PollFlags::IN));
    ring.submit().unwrap();
    assert_eq!(ring.block_on(poll.cancel()), CancelOutcome::Cancelled);
    assert!(ring.block_on(poll).is_err());
    let read = ring.queue(Read::new(&reader, vec![0; 8], 0)).timeout(Duration::from_millis(1));
    let BufResult(result, buf) = ring.block_on(read);
    assert_eq!((result.unwrap_err().kind(), buf.len()), (ErrorKind::TimedOut, 8));
}

#[test]
fn another_thread_wakes_whoever_blocks_on_a_ring_of_one_thread() {
    let ring = ring();
    for _ in 0..200 {
        let waker = Arc::new(Mutex::new(None::<Waker>));
        let (reader, _writer) = pipe();
        let _out = ring.queue(PollAdd::new(&reader, PollFlags::IN));
        let done = Arc::clone(&waker);
        let other = thread::spawn(move || {
            loop {
                if let Some(waker) = done.lock().unwrap().take() {
                    return waker.wake();
                }
                thread::yield_now();
            }
        });
        let mut polled = false;
        ring.block_on(poll_fn(|cx| {
            if polled && waker.lock().unwrap().is_none() {
                return Poll::Ready(());
            }
            polled = true;
            *waker.lock().unwrap() = Some(cx.waker().clone());
            Poll::Pending
        }));
        other.join().unwrap();
    }
}

#[test]
fn what_is_out_when_a_ring_of_one_thread_is_dropped_ends_first() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = ring.queue(Read::new(&reader, vec![7; 8], 0));
    ring.submit().unwrap();
    drop(ring);
    let BufResult(result, buf) = read.try_take().expect("the drop waits for it");
    assert_eq!((result.is_err(), buf), (true, vec![7; 8]));
}
