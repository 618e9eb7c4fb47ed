//! Write on the real kernel. Which buffers, and how they come back: `../buffers.rs`.

use std::io::{Seek, SeekFrom};
use std::os::unix::net::UnixStream;

use deferring::{CURRENT, Fd, IoBuf};
use rustix::io::Errno;

use super::{content, file_with, finish, peer_closes, pipe, refused};
use crate::support::{alone, ring};

#[test]
fn c31_an_offset_of_minus_one_writes_at_the_file_position_and_moves_it() {
    let (fd, mut file) = file_with("..........");
    file.seek(SeekFrom::Start(2)).unwrap();
    let ring = ring();
    for word in ["ab", "cd"] {
        assert_eq!(finish(&ring, ring.write(&fd, word, CURRENT)).unwrap().0, 2);
    }
    assert_eq!(content(&file), b"..abcd....");
    assert_eq!(file.stream_position().unwrap(), 6);
}

#[test]
fn c31_a_write_from_zero_up_neither_uses_nor_moves_the_file_position() {
    let (fd, mut file) = file_with("..........");
    file.seek(SeekFrom::Start(3)).unwrap();
    let ring = ring();
    finish(&ring, ring.write(&fd, "ab", 6)).unwrap();
    finish(&ring, ring.write(&fd, "cd", 0)).unwrap();
    assert_eq!(content(&file), b"cd....ab..");
    assert_eq!(file.stream_position().unwrap(), 3);
}

#[test]
fn a_write_past_the_end_leaves_a_hole() {
    let (fd, file) = file_with("ab");
    let ring = ring();
    finish(&ring, ring.write(&fd, "cd", 4)).unwrap();
    assert_eq!(content(&file), b"ab\0\0cd");
}

#[test]
fn a_write_of_a_slice_writes_that_part_only() {
    let (fd, file) = file_with("");
    let ring = ring();
    let (n, part) = finish(&ring, ring.write(&fd, "hello".slice(1..3), 0)).unwrap();
    assert_eq!((n, part.into_inner()), (2, "hello"));
    assert_eq!(content(&file), b"el");
}

#[test]
fn a_write_to_a_pipe_needs_no_offset() {
    let (reader, writer) = pipe();
    let ring = ring();
    finish(&ring, ring.write(&Fd::from(writer), "through", CURRENT)).unwrap();
    let mut buf = [0; 16];
    assert_eq!(rustix::io::read(reader, &mut buf).unwrap(), 7);
    assert_eq!(&buf[..7], b"through");
}

#[test]
fn a_write_can_be_awaited() {
    let (fd, file) = file_with("");
    alone(|ring| async move { ring.write(&fd, "hello", 0).await }).unwrap();
    assert_eq!(content(&file), b"hello");
}

#[test]
fn a_pipe_ignores_an_offset_and_a_socket_refuses_all_but_zero() {
    let ring = ring();
    for offset in [0, 7, CURRENT] {
        let (_reader, writer) = pipe();
        assert_eq!(finish(&ring, ring.write(&Fd::from(writer), "x", offset)).unwrap().0, 1);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        match finish(&ring, ring.write(&Fd::from(ours), "x", offset)).0 {
            Ok(n) => assert!(n == 1 && offset != 7, "socket, {offset}"),
            refusal => assert_eq!((refused(refusal), offset), (Errno::SPIPE, 7)),
        }
    }
}

#[test]
fn a_write_that_nobody_can_read_is_epipe() {
    let (reader, writer) = pipe();
    drop(reader);
    assert!(peer_closes(&writer));
    let ring = ring();
    let result = finish(&ring, ring.write(&Fd::from(writer), "lost", CURRENT));
    assert_eq!((refused(result.0), result.1), (Errno::PIPE, "lost"));
}
