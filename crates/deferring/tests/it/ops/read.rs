//! Read on the real kernel. Which buffers, and how they come back: `../buffers.rs`.

use std::io::{Seek, SeekFrom};
use std::os::unix::net::UnixStream;

use deferring::{CURRENT, Fd, IoBuf};
use rustix::io::Errno;

use super::{file_with, finish, pipe, refused};
use crate::support::{alone, ring};

#[test]
fn c31_an_offset_of_minus_one_reads_at_the_file_position_and_moves_it() {
    let (fd, mut file) = file_with("hello world");
    file.seek(SeekFrom::Start(6)).unwrap();
    let ring = ring();
    let read = || finish(&ring, ring.read(&fd, Vec::with_capacity(3), CURRENT)).unwrap().1;
    assert_eq!((read(), read(), read()), (b"wor".to_vec(), b"ld".to_vec(), vec![]));
    assert_eq!(file.stream_position().unwrap(), 11);
}

#[test]
fn c31_an_offset_from_zero_up_neither_uses_nor_moves_the_file_position() {
    let (fd, mut file) = file_with("hello world");
    file.seek(SeekFrom::Start(3)).unwrap();
    let ring = ring();
    let read = |offset| finish(&ring, ring.read(&fd, Vec::with_capacity(5), offset)).unwrap().1;
    assert_eq!((read(6), read(0)), (b"world".to_vec(), b"hello".to_vec()));
    assert_eq!(file.stream_position().unwrap(), 3);
}

#[test]
fn a_read_of_a_slice_fills_that_part_only() {
    let (fd, _file) = file_with("hello");
    let ring = ring();
    let part = b"..........".to_vec().slice(2..5);
    let (n, part) = finish(&ring, ring.read(&fd, part, 1)).unwrap();
    assert_eq!((n, part.into_inner()), (3, b"..ell.....".to_vec()));
}

#[test]
fn a_read_that_waits_gets_what_comes_later() {
    let (reader, writer) = pipe();
    let ring = ring();
    let handle = ring.read(&Fd::from(reader), Vec::with_capacity(8), CURRENT);
    ring.submit().unwrap();
    assert!(!handle.is_done());
    rustix::io::write(writer, b"late").unwrap();
    assert_eq!(finish(&ring, handle).unwrap().1, b"late");
}

#[test]
fn a_read_can_be_awaited() {
    let (fd, _file) = file_with("hello");
    let result = alone(|ring| async move { ring.read(&fd, vec![0; 5], 0).await });
    assert_eq!(result.unwrap(), (5, b"hello".to_vec()));
}

#[test]
fn a_negative_offset_other_than_minus_one_is_refused() {
    let (fd, _file) = file_with("hello");
    let ring = ring();
    let result = finish(&ring, ring.read(&fd, vec![0; 5], CURRENT - 1));
    assert_eq!(refused(result.0), Errno::INVAL);
}

#[test]
fn a_pipe_ignores_an_offset_and_a_socket_refuses_all_but_zero() {
    let ring = ring();
    for offset in [0, 7, CURRENT] {
        let (reader, writer) = pipe();
        rustix::io::write(writer, b"x").unwrap();
        let (n, _) = finish(&ring, ring.read(&Fd::from(reader), vec![0], offset)).unwrap();
        assert_eq!(n, 1, "pipe, {offset}");
        let (ours, theirs) = UnixStream::pair().unwrap();
        rustix::io::write(theirs, b"x").unwrap();
        match finish(&ring, ring.read(&Fd::from(ours), vec![0], offset)).0 {
            Ok(n) => assert!(n == 1 && offset != 7, "socket, {offset}"),
            refusal => assert_eq!((refused(refusal), offset), (Errno::SPIPE, 7)),
        }
    }
}
