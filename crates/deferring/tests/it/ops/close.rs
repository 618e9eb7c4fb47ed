//! Close on the real kernel. That it waits for the ops of its descriptor: `../descriptors.rs`.

use std::os::fd::IntoRawFd;

use deferring::Fd;
use deferring::op::Close;
use rustix::io::Errno;

use super::{finish, finish_close, peer_closes, peer_is_closed, pipe, refused};
use crate::support::{alone, drain, ring};

#[test]
fn c36_a_close_is_zero_and_the_descriptor_is_closed() {
    let (reader, writer) = pipe();
    let ring = ring();
    let closing = ring.close(&Fd::from(reader));
    assert!(!peer_is_closed(&writer), "only queued");
    finish_close(&ring, closing).unwrap();
    assert!(peer_closes(&writer));
    assert_eq!(ring.stats().sqes, 1, "by the kernel's own op");
}

#[test]
fn c36_a_close_can_be_awaited() {
    let (reader, writer) = pipe();
    alone(|ring| async move { ring.close(&Fd::from(reader)).await }).unwrap();
    assert!(peer_closes(&writer));
}

#[test]
fn c36_a_bare_number_is_closed_and_one_that_is_not_open_is_ebadf() {
    let (reader, writer) = pipe();
    let ring = ring();
    // SAFETY: owned by nobody since `into_raw_fd`, and named by no op.
    let close = unsafe { Close::from_raw(reader.into_raw_fd()) };
    finish(&ring, ring.queue(close)).unwrap();
    assert!(peer_closes(&writer));
    for number in [-1, i32::MAX] {
        // SAFETY: never a descriptor, so nobody's.
        let close = unsafe { Close::from_raw(number) };
        assert_eq!(refused(finish(&ring, ring.queue(close))), Errno::BADF, "{number}");
    }
}

#[test]
fn c36_a_close_whose_ring_goes_away_unsubmitted_closes_all_the_same() {
    let (reader, writer) = pipe();
    let (reader, ring) = (Fd::from(reader), ring());
    drop(ring.close(&reader));
    assert_eq!(ring.pending().queued, 1);
    drop(ring);
    assert!(peer_closes(&writer));
    drop(reader);
}

#[test]
fn c36_a_close_that_nobody_awaits_is_done() {
    let (reader, writer) = pipe();
    let (reader, ring) = (Fd::from(reader), ring());
    drop(ring.close(&reader));
    drain(&ring);
    assert!(peer_closes(&writer));
    drop(reader);
}
