//! PollUpdate on the real kernel.

use std::os::unix::net::UnixStream;

use deferring::{Fd, PollFlags};
use rustix::io::Errno;

use super::{finish, finish_close, pipe, refused};
use crate::support::ring;

#[test]
fn c33_an_update_changes_what_a_poll_waits_for() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let ring = ring();
    let handle = ring.poll(&Fd::from(ours), PollFlags::IN);
    ring.submit().unwrap();
    ring.reap().unwrap();
    assert!(!handle.is_done(), "nothing to read");
    finish(&ring, handle.update(PollFlags::OUT)).unwrap();
    assert_eq!(finish(&ring, handle).unwrap(), PollFlags::OUT, "but room to write");
}

#[test]
fn c33_an_update_takes_the_old_events_away() {
    let (reader, writer) = pipe();
    let ring = ring();
    let handle = ring.poll(&Fd::from(reader), PollFlags::IN);
    finish(&ring, handle.update(PollFlags::PRI)).unwrap();
    rustix::io::write(&writer, b"x").unwrap();
    finish(&ring, ring.nop()).unwrap();
    assert!(!handle.is_done(), "to read is not asked for any more");
    finish(&ring, handle.update(PollFlags::IN)).unwrap();
    assert_eq!(finish(&ring, handle).unwrap(), PollFlags::IN);
}

#[test]
fn c33_an_update_may_be_queued_right_behind_its_poll() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let ring = ring();
    let handle = ring.poll(&Fd::from(ours), PollFlags::IN);
    let update = handle.update(PollFlags::OUT);
    assert_eq!(ring.pending().queued, 2);
    finish(&ring, update).unwrap();
    assert_eq!(finish(&ring, handle).unwrap(), PollFlags::OUT);
}

#[test]
fn c33_a_poll_that_has_ended_cannot_be_updated() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let ours = Fd::from(ours);
    let ring = ring();
    let handle = ring.poll(&ours, PollFlags::OUT);
    ring.submit().unwrap();
    ring.reap().unwrap();
    assert!(handle.is_done());
    assert_eq!(refused(finish(&ring, handle.update(PollFlags::IN))), Errno::NOENT);
    assert_eq!(handle.try_take().unwrap().unwrap(), PollFlags::OUT, "its own result stays");

    finish_close(&ring, ring.close(&ours)).unwrap();
    let handle = ring.poll(&ours, PollFlags::OUT);
    assert_eq!(refused(finish(&ring, handle.update(PollFlags::IN))), Errno::NOENT, "or refused");
}
