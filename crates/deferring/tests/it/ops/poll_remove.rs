//! PollRemove on the real kernel.

use std::os::unix::net::UnixStream;

use deferring::{Fd, PollFlags};
use rustix::io::Errno;

use super::{finish, refused};
use crate::support::ring;

#[test]
fn c33_a_poll_that_is_removed_ends_with_ecanceled() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let ours = Fd::from(ours);
    let ring = ring();
    let (removed, other) = (ring.poll(&ours, PollFlags::IN), ring.poll(&ours, PollFlags::IN));
    finish(&ring, removed.remove()).unwrap();
    assert_eq!(refused(finish(&ring, removed)), Errno::CANCELED);
    assert!(!other.is_done(), "another poll of the same descriptor goes on");
}

#[test]
fn c33_a_poll_that_has_ended_cannot_be_removed() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let ring = ring();
    let handle = ring.poll(&Fd::from(ours), PollFlags::OUT);
    ring.submit().unwrap();
    ring.reap().unwrap();
    assert_eq!(refused(finish(&ring, handle.remove())), Errno::NOENT);
    assert_eq!(finish(&ring, handle).unwrap(), PollFlags::OUT, "its own result stays");
}

#[test]
fn c33_a_late_remove_does_not_hit_a_newer_poll() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let ours = Fd::from(ours);
    let ring = ring();
    let old = ring.poll(&ours, PollFlags::OUT);
    ring.submit().unwrap();
    ring.reap().unwrap();
    let late = old.remove();
    assert_eq!(finish(&ring, old).unwrap(), PollFlags::OUT);
    let newer = ring.poll(&ours, PollFlags::IN); // may well live where the old one did
    assert_eq!(refused(finish(&ring, late)), Errno::NOENT);
    finish(&ring, ring.nop()).unwrap();
    assert!(!newer.is_done());
}
