//! PollAdd on the real kernel.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use deferring::{Fd, PollFlags};
use rustix::io::Errno;

use super::{file_with, finish, pipe, refused};
use crate::support::{alone, ring};

#[test]
fn c33_a_poll_waits_for_its_event_and_tells_it_once() {
    let (reader, writer) = pipe();
    let reader = Fd::from(reader);
    let ring = ring();
    let handle = ring.poll(&reader, PollFlags::IN);
    ring.submit().unwrap();
    ring.reap().unwrap();
    assert!(!handle.is_done(), "there is nothing to read");
    rustix::io::write(&writer, b"1").unwrap();
    assert_eq!(finish(&ring, handle).unwrap(), PollFlags::IN);
    assert_eq!(ring.in_flight(), 0, "it is over, whatever comes");
    rustix::io::write(&writer, b"2").unwrap();
    assert_eq!(ring.reap().unwrap(), 0);
}

#[test]
fn c33_a_poll_looks_at_what_is_ready_when_it_is_submitted() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut ours_again = ours.try_clone().unwrap();
    let ours = Fd::from(ours);
    let ring = ring();
    theirs.write_all(b"x").unwrap();
    for _ in 0..2 {
        // A level, not an edge: as long as it is not read, it is ready.
        assert_eq!(finish(&ring, ring.poll(&ours, PollFlags::IN)).unwrap(), PollFlags::IN);
    }
    let queued = ring.poll(&ours, PollFlags::IN);
    ours_again.read_exact(&mut [0]).unwrap();
    ring.submit().unwrap();
    ring.reap().unwrap();
    assert!(!queued.is_done(), "at the submit, not when it was queued");
}

#[test]
fn c33_a_poll_for_several_events_tells_all_that_are_there() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let ours = Fd::from(ours);
    let both = PollFlags::IN | PollFlags::OUT;
    let ring = ring();
    assert_eq!(finish(&ring, ring.poll(&ours, both)).unwrap(), PollFlags::OUT);
    theirs.write_all(b"x").unwrap();
    assert_eq!(finish(&ring, ring.poll(&ours, both)).unwrap(), both);
    assert_eq!(finish(&ring, ring.poll(&ours, PollFlags::IN)).unwrap(), PollFlags::IN);
}

#[test]
fn c33_a_hang_up_is_told_unasked() {
    let ring = ring();
    for asked in [PollFlags::IN, PollFlags::empty()] {
        let (reader, writer) = pipe();
        let handle = ring.poll(&Fd::from(reader), asked);
        ring.submit().unwrap();
        ring.reap().unwrap();
        assert!(!handle.is_done());
        drop(writer);
        assert_eq!(finish(&ring, handle).unwrap(), PollFlags::HUP, "asked for {asked:?}");
    }
}

#[test]
fn c33_an_error_is_told_unasked() {
    let ring = ring();
    let (reader, writer) = pipe();
    let handle = ring.poll(&Fd::from(writer), PollFlags::empty());
    drop(reader);
    assert_eq!(finish(&ring, handle).unwrap(), PollFlags::ERR);
}

#[test]
fn c33_a_file_is_always_ready_and_has_no_other_events() {
    let (fd, _file) = file_with("hello");
    let ring = ring();
    let both = PollFlags::IN | PollFlags::OUT;
    assert_eq!(finish(&ring, ring.poll(&fd, both)).unwrap(), both);
    assert_eq!(refused(finish(&ring, ring.poll(&fd, PollFlags::PRI))), Errno::INVAL);
}

#[test]
fn c33_a_poll_can_be_awaited() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"x").unwrap();
    let events = alone(|ring| async move { ring.poll(&Fd::from(ours), PollFlags::IN).await });
    assert_eq!(events.unwrap(), PollFlags::IN);
}
