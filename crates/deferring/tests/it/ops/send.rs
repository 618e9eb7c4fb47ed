//! Send on the real kernel. Which buffers, and how they come back: `../buffers.rs`.

use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::{UnixDatagram, UnixStream};

use deferring::op::{Op, Send};
use deferring::{CURRENT, CancelOutcome, Fd, IoBuf, SendFlags};
use rustix::io::Errno;

use super::{file_with, finish, pipe, refused};
use crate::support::{alone, drain, in_a_process_of_its_own, ring, this_test};

const USUAL: SendFlags = SendFlags::empty();

fn pair() -> (Fd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("two sockets");
    (ours.into(), theirs)
}

/// Has a socket take all that it can. Returns how much that was.
fn fill(ring: &deferring::Ring, fd: &Fd) -> usize {
    let mut sent = 0;
    loop {
        match finish(ring, ring.send(fd, vec![b'.'; 4096], SendFlags::DONTWAIT)).0 {
            Ok(n) => sent += n,
            full => {
                assert_eq!(refused(full), Errno::AGAIN);
                return sent;
            }
        }
    }
}

#[test]
fn what_is_sent_arrives_in_the_order_in_which_it_was_queued_by_send_or_write() {
    let (ours, mut theirs) = pair();
    let ring = ring();
    let handles = (
        ring.send(&ours, "one", USUAL),
        ring.write(&ours, "two", CURRENT),
        ring.send(&ours, "three", SendFlags::MORE),
    );
    drain(&ring);
    assert_eq!(finish(&ring, handles.0).unwrap(), (3, "one"));
    assert_eq!(finish(&ring, handles.1).unwrap(), (3, "two"));
    assert_eq!(finish(&ring, handles.2).unwrap(), (5, "three"));
    let mut buf = [0; 11];
    theirs.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"onetwothree");
}

#[test]
fn a_send_of_a_slice_sends_that_part_only() {
    let (ours, mut theirs) = pair();
    let ring = ring();
    let (n, part) = finish(&ring, ring.send(&ours, "hello".slice(1..3), USUAL)).unwrap();
    assert_eq!((n, part.into_inner()), (2, "hello"));
    let mut buf = [0; 8];
    assert_eq!(theirs.read(&mut buf).unwrap(), 2);
    assert_eq!(&buf[..2], b"el");
}

#[test]
fn a_send_can_be_awaited() {
    let (ours, mut theirs) = pair();
    alone(|ring| async move { ring.send(&ours, "hello", USUAL).await }).unwrap();
    let mut text = String::new();
    theirs.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn a_send_waits_for_room_and_one_that_must_not_wait_does_not() {
    let (ours, mut theirs) = pair();
    let ring = ring();
    let before = fill(&ring, &ours);
    let waits = ring.send(&ours, "the last", USUAL);
    ring.submit().unwrap();
    assert!(!waits.is_done());
    let overtakes = ring.send(&ours, vec![b'x'; 4096], SendFlags::DONTWAIT);
    assert_eq!(refused(finish(&ring, overtakes).0), Errno::AGAIN);
    assert!(!waits.is_done());
    let mut buf = vec![0; before];
    theirs.read_exact(&mut buf).unwrap();
    assert_eq!(finish(&ring, waits).unwrap(), (8, "the last"));
    theirs.read_exact(&mut buf[..8]).unwrap();
    assert_eq!(&buf[..8], b"the last");
}

#[test]
fn a_cancelled_send_has_sent_nothing() {
    let (ours, mut theirs) = pair();
    alone(|ring| async move {
        let before = {
            let mut sent = 0;
            while let Ok(n) = ring.send(&ours, vec![0; 4096], SendFlags::DONTWAIT).await.0 {
                sent += n;
            }
            sent
        };
        let waits = ring.send(&ours, "never", USUAL);
        assert_eq!(waits.cancel().await, CancelOutcome::Cancelled);
        let (result, buf) = waits.await.into_parts();
        assert_eq!((result.unwrap_err().raw_os_error(), buf), (Some(125), "never"));
        drop(ours);
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), before);
    });
}

#[test]
fn where_nobody_receives_it_is_epipe_and_no_signal() {
    in_a_process_of_its_own(this_test!(), || {
        // As the kernel has it, not as Rust's runtime does: a signal would end the process.
        // SAFETY: of a process that does nothing else.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let (ours, theirs) = pair();
        theirs.shutdown(Shutdown::Both).unwrap();
        let ring = ring();
        for flags in [USUAL, SendFlags::DONTWAIT] {
            let (result, buf) = finish(&ring, ring.send(&ours, "lost", flags)).into_parts();
            assert_eq!((refused(result), buf), (Errno::PIPE, "lost"));
        }
    });
}

#[test]
fn an_empty_datagram_arrives() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let fd = Fd::from(std::os::fd::OwnedFd::from(ours));
    let ring = ring();
    assert_eq!(finish(&ring, ring.send(&fd, "", USUAL)).unwrap().0, 0);
    assert_eq!(finish(&ring, ring.send(&fd, "after", USUAL)).unwrap().0, 5);
    let mut buf = [0; 8];
    assert_eq!((theirs.recv(&mut buf).unwrap(), theirs.recv(&mut buf).unwrap()), (0, 5));
}

#[test]
fn what_is_no_socket_refuses_it() {
    let (file, _) = file_with("");
    let (input, output) = pipe();
    let ring = ring();
    for fd in [&file, &Fd::from(input), &Fd::from(output)] {
        let (result, buf) = finish(&ring, ring.send(fd, "x", USUAL)).into_parts();
        assert_eq!((refused(result), buf), (Errno::NOTSOCK, "x"));
    }
}

#[test]
fn flags_with_which_the_kernel_keeps_the_buffer_are_an_argument_error() {
    const ZEROCOPY: u32 = 0x400_0000;
    let (ours, _theirs) = pair();
    let ring = ring();
    let send = Send::new(&ours, "kept").flags(SendFlags::from_bits_retain(ZEROCOPY));
    let (result, buf) = finish(&ring, ring.queue(send)).into_parts();
    assert_eq!((refused(result), buf), (Errno::INVAL, "kept"));
    assert_eq!(ring.stats().sqes, 0, "the kernel is not asked");
}

#[test]
fn a_send_in_a_worker_arrives_too() {
    let (ours, mut theirs) = pair();
    let ring = ring();
    assert_eq!(finish(&ring, ring.queue(Send::new(&ours, "by it").in_worker())).unwrap().0, 5);
    let mut buf = [0; 5];
    theirs.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"by it");
}
