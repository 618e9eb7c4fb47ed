//! A descriptor that is watched: C45.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;

use deferring::{Fd, PollFlags, Watcher};
use futures_util::StreamExt as _;

use crate::support::{Count, drain, errno, pipe, ring, run, until};

#[test]
fn c45_a_watcher_finds_what_is_ready_and_re_arms() {
    let ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut mine = ours.try_clone().unwrap();
    let mut watcher = Watcher::new(&ring, &Fd::from(ours), PollFlags::IN);
    for round in 0..100 {
        theirs.write_all(&[round]).unwrap();
        assert_eq!(run(&ring, watcher.ready()).unwrap(), PollFlags::IN);
        assert_eq!(run(&ring, watcher.ready()).unwrap(), PollFlags::IN, "it still is");
        let mut byte = [0];
        mine.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [round]);
        assert!(look(&mut watcher).is_pending(), "and now it is not");
        drain_but(&ring, 1);
        assert!(look(&mut watcher).is_pending());
    }
}

#[test]
fn c45_the_interest_can_change_and_a_stale_answer_is_ignored() {
    let ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut watcher = Watcher::new(&ring, &Fd::from(ours), PollFlags::IN);
    theirs.write_all(b"x").unwrap();
    ring.submit().unwrap();
    ring.reap().unwrap();
    // The answer "readable" is here, and nobody has looked at it.
    watcher.set_interest(PollFlags::OUT);
    assert_eq!(watcher.interest(), PollFlags::OUT);
    assert_eq!(run(&ring, watcher.ready()).unwrap(), PollFlags::OUT);
    watcher.set_interest(PollFlags::IN | PollFlags::OUT);
    assert_eq!(run(&ring, watcher.ready()).unwrap(), PollFlags::IN | PollFlags::OUT);
}

#[test]
fn c45_an_interest_that_changes_while_the_kernel_waits_is_the_one_that_counts() {
    let ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut watcher = Watcher::new(&ring, &Fd::from(ours), PollFlags::IN);
    let (count, waker) = Count::new();
    assert!(watcher.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    ring.submit().unwrap();
    watcher.set_interest(PollFlags::PRI);
    assert!(watcher.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    theirs.write_all(b"x").unwrap();
    drain_but(&ring, 1);
    assert_eq!(count.get(), 0, "nobody watches for IN any more");
    watcher.set_interest(PollFlags::IN);
    assert_eq!(run(&ring, watcher.ready()).unwrap(), PollFlags::IN);
}

#[test]
fn c45_the_same_interest_again_changes_nothing() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let mut watcher = Watcher::new(&ring, &reader, PollFlags::IN);
    ring.submit().unwrap();
    watcher.set_interest(PollFlags::IN);
    assert_eq!((ring.submit().unwrap(), ring.in_flight()), (0, 1));
}

#[test]
fn c45_a_hang_up_and_an_error_reach_whoever_watches_whatever_for() {
    let ring = ring();
    let (reader, writer) = pipe();
    let mut watcher = Watcher::new(&ring, &reader, PollFlags::PRI);
    ring.submit().unwrap();
    drop(writer);
    assert!(run(&ring, watcher.ready()).unwrap().contains(PollFlags::HUP));
    assert!(run(&ring, watcher.ready()).unwrap().contains(PollFlags::HUP), "and stays");

    let (reader, writer) = pipe();
    let mut watcher = Watcher::new(&ring, &Fd::from(writer), PollFlags::PRI);
    ring.submit().unwrap();
    drop(reader);
    assert!(run(&ring, watcher.ready()).unwrap().contains(PollFlags::ERR));
}

#[test]
fn c45_a_watcher_that_is_dropped_cancels_its_poll() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let watcher = Watcher::new(&ring, &reader, PollFlags::IN);
    ring.submit().unwrap();
    drop(watcher);
    drain(&ring);
    assert!(reader.try_into_owned().is_ok(), "no op uses it");
}

#[test]
fn c45_a_cancel_that_nobody_asked_for_does_not_end_the_watch() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let mut watcher = Watcher::new(&ring, &reader, PollFlags::IN);
    for byte in 0..10 {
        // The thread that submits the poll exits, which makes the kernel end it with `ECANCELED`
        // when the event comes.
        assert!(look(&mut watcher).is_pending());
        thread::scope(|scope| scope.spawn(|| ring.submit().unwrap()).join()).unwrap();
        writer.write_all(&[byte]).unwrap();
        assert_eq!(run(&ring, watcher.ready()).unwrap(), PollFlags::IN);
        let (_, read) = run(&ring, ring.read(&reader, vec![0; 8], 0)).unwrap();
        assert_eq!(read[0], byte);
    }
}

#[test]
fn c45_a_watch_is_a_stream_that_ends_after_an_error() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let mut watcher = Watcher::new(&ring, &reader, PollFlags::IN);
    writer.write_all(b"x").unwrap();
    run(&ring, async {
        assert_eq!(watcher.next().await.unwrap().unwrap(), PollFlags::IN);
        // Nothing is armed now, so that the close finds no op to wait for.
        ring.close(&reader).await.unwrap();
        assert_eq!(errno(&watcher.next().await.unwrap()), Some(libc::EBADF));
        assert!(watcher.next().await.is_none());
        assert_eq!(errno(&watcher.ready().await), Some(libc::EBADF), "an error again");
    });
}

#[test]
fn c45_what_cannot_be_polled_is_ready_or_an_error_and_never_silent() {
    let ring = ring();
    let file = Fd::from(tempfile::tempfile().unwrap());
    let mut watcher = Watcher::new(&ring, &file, PollFlags::IN | PollFlags::OUT);
    match run(&ring, watcher.ready()) {
        Ok(found) => assert_eq!(found, PollFlags::IN | PollFlags::OUT),
        Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
    }
}

/// Looks once, for nobody.
fn look(watcher: &mut Watcher) -> Poll<std::io::Result<PollFlags>> {
    Pin::new(watcher).poll_ready(&mut Context::from_waker(Waker::noop()))
}

/// Turns the ring until only so many ops are out, and those in the kernel.
fn drain_but(ring: &deferring::Ring, ops: usize) {
    until("all else has ended", || {
        ring.submit().unwrap();
        ring.reap().unwrap();
        let pending = ring.pending();
        (pending.queued, pending.in_kernel, pending.cancels) == (0, ops, 0)
    });
}
