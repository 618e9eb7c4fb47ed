//! Recv on the real kernel. Which buffers, and how they come back: `../buffers.rs`.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};

use deferring::op::{Op, Recv};
use deferring::{CURRENT, CancelOutcome, Fd, IoBuf, RecvFlags};
use rustix::io::Errno;

use super::{file_with, finish, pipe, refused};
use crate::support::{alone, ring, run};

const USUAL: RecvFlags = RecvFlags::empty();

/// Two sockets: one for the ring, and std's.
fn pair() -> (Fd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("two sockets");
    (ours.into(), theirs)
}

#[test]
fn a_recv_that_waits_gets_what_comes_later_and_zero_is_the_end() {
    let (ours, mut theirs) = pair();
    let ring = ring();
    let handle = ring.recv(&ours, Vec::with_capacity(8), USUAL);
    ring.submit().unwrap();
    assert!(!handle.is_done());
    theirs.write_all(b"late").unwrap();
    assert_eq!(finish(&ring, handle).unwrap(), (4, b"late".to_vec()));
    theirs.shutdown(Shutdown::Write).unwrap();
    assert_eq!(finish(&ring, ring.recv(&ours, vec![7; 3], USUAL)).unwrap(), (0, vec![7; 3]));
}

#[test]
fn a_recv_of_a_slice_fills_that_part_only() {
    let (ours, mut theirs) = pair();
    theirs.write_all(b"hello").unwrap();
    let ring = ring();
    let part = b"..........".to_vec().slice(2..5);
    let (n, part) = finish(&ring, ring.recv(&ours, part, USUAL)).unwrap();
    assert_eq!((n, part.into_inner()), (3, b"..hel.....".to_vec()));
}

#[test]
fn a_recv_can_be_awaited() {
    let (ours, mut theirs) = pair();
    theirs.write_all(b"hello").unwrap();
    let result = alone(|ring| async move { ring.recv(&ours, vec![0; 5], USUAL).await });
    assert_eq!(result.unwrap(), (5, b"hello".to_vec()));
}

#[test]
fn receives_and_reads_of_one_socket_get_its_bytes_in_the_order_in_which_they_were_queued() {
    let (ours, mut theirs) = pair();
    let ring = ring();
    let first = ring.recv(&ours, Vec::with_capacity(2), USUAL);
    let second = ring.read(&ours, Vec::with_capacity(2), CURRENT);
    let third = ring.recv(&ours, Vec::with_capacity(2), USUAL);
    ring.submit().unwrap();
    assert_eq!(ring.stats().sqes, 1, "one waits in the kernel, the others in the ring");
    theirs.write_all(b"abcdef").unwrap();
    assert_eq!(finish(&ring, third).unwrap().1, b"ef");
    assert_eq!(finish(&ring, second).unwrap().1, b"cd");
    assert_eq!(finish(&ring, first).unwrap().1, b"ab");
}

#[test]
fn one_that_must_not_wait_overtakes_those_that_do() {
    let (ours, mut theirs) = pair();
    let ring = ring();
    let recv = |flags| ring.recv(&ours, Vec::with_capacity(8), flags);
    let waits = recv(USUAL);
    ring.submit().unwrap();
    assert_eq!(refused(finish(&ring, recv(RecvFlags::DONTWAIT)).0), Errno::AGAIN);
    assert!(!waits.is_done());
    theirs.write_all(b"x").unwrap();
    assert_eq!(finish(&ring, waits).unwrap().1, b"x");
    theirs.write_all(b"yz").unwrap();
    assert_eq!(finish(&ring, recv(RecvFlags::DONTWAIT | RecvFlags::PEEK)).unwrap().1, b"yz");
    assert_eq!(finish(&ring, recv(RecvFlags::DONTWAIT)).unwrap().1, b"yz");
}

#[test]
fn a_socket_that_never_blocks_its_callers_is_waited_for_all_the_same() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let ring = ring();
    let handle = ring.recv(&Fd::from(ours), Vec::with_capacity(8), USUAL);
    ring.submit().unwrap();
    assert!(!handle.is_done());
    theirs.write_all(b"late").unwrap();
    assert_eq!(finish(&ring, handle).unwrap().1, b"late");
}

#[test]
fn a_cancelled_recv_has_taken_nothing() {
    let (ours, mut theirs) = pair();
    alone(|ring| async move {
        let waits = ring.recv(&ours, vec![0; 8], USUAL);
        assert_eq!(waits.cancel().await, CancelOutcome::Cancelled);
        let (result, buf) = waits.await.into_parts();
        assert_eq!((result.unwrap_err().raw_os_error(), buf.len()), (Some(125), 8));
        theirs.write_all(b"kept").unwrap();
        assert_eq!(ring.recv(&ours, Vec::with_capacity(8), USUAL).await.unwrap().1, b"kept");
    });
}

#[test]
fn what_of_a_datagram_does_not_fit_is_gone_and_not_counted() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let fd = Fd::from(std::os::fd::OwnedFd::from(ours));
    theirs.send(b"long one").unwrap();
    theirs.send(b"next").unwrap();
    let ring = ring();
    let recv = || finish(&ring, ring.recv(&fd, Vec::with_capacity(4), USUAL)).unwrap();
    assert_eq!((recv(), recv()), ((4, b"long".to_vec()), (4, b"next".to_vec())));
}

#[test]
fn what_gives_no_bytes_refuses_at_once() {
    let (file, _) = file_with("hello");
    let (input, output) = pipe();
    let ring = ring();
    let recv = |fd: &Fd| refused(finish(&ring, ring.recv(fd, vec![0; 8], USUAL)).0);
    for fd in [&file, &Fd::from(input), &Fd::from(output)] {
        assert_eq!(recv(fd), Errno::NOTSOCK);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert_eq!(recv(&Fd::from(listener)), Errno::NOTCONN);
    let (ours, _theirs) = pair();
    let closed = ours.clone();
    run(&ring, ring.close(&ours)).unwrap();
    assert_eq!(recv(&closed), Errno::BADF);
}

#[test]
fn flags_that_the_library_cannot_vouch_for_are_an_argument_error_and_the_buffer_comes_back() {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let fd = Fd::from(udp);
    let ring = ring();
    for flags in [RecvFlags::TRUNC, RecvFlags::WAITALL, RecvFlags::ERRQUEUE, RecvFlags::OOB] {
        let recv = Recv::new(&fd, vec![7; 3]).flags(flags | RecvFlags::DONTWAIT);
        let (result, buf) = finish(&ring, ring.queue(recv)).into_parts();
        assert_eq!((refused(result), buf), (Errno::INVAL, vec![7; 3]), "{flags:?}");
    }
    assert_eq!(ring.stats().sqes, 0, "the kernel is not asked");
}

#[test]
fn a_recv_in_a_worker_waits_too() {
    let (ours, mut theirs) = pair();
    let ring = ring();
    let handle = ring.queue(Recv::new(&ours, Vec::with_capacity(8)).in_worker());
    ring.submit().unwrap();
    theirs.write_all(b"late").unwrap();
    assert_eq!(finish(&ring, handle).unwrap().1, b"late");
}
