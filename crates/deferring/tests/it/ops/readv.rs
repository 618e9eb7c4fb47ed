//! Readv on the real kernel. How the buffers come back: `../buffers.rs`.

use std::io::{Seek, SeekFrom};

use deferring::CURRENT;
use rustix::io::Errno;

use super::{file_with, finish, refused};
use crate::support::ring;

#[test]
fn c31_a_vectored_read_uses_the_file_position_only_when_asked() {
    let (fd, mut file) = file_with("abcdefgh");
    file.seek(SeekFrom::Start(4)).unwrap();
    let ring = ring();
    let read = |offset| finish(&ring, ring.readv(&fd, [vec![0; 1], vec![0; 2]], offset)).unwrap().1;
    assert_eq!(read(1), [&b"b"[..], b"cd"]);
    assert_eq!(read(CURRENT), [&b"e"[..], b"fg"]);
    assert_eq!(file.stream_position().unwrap(), 7);
}

#[test]
fn c32_as_many_buffers_as_iov_max_are_read_into_and_one_more_is_an_argument_error() {
    let bytes: Vec<u8> = (0..=255).cycle().take(1024).collect();
    let (fd, _file) = file_with(&bytes);
    let ring = ring();
    let (n, bufs) = finish(&ring, ring.readv(&fd, vec![vec![0u8]; 1024], 0)).unwrap();
    assert_eq!((n, bufs.concat()), (1024, bytes));

    let result = finish(&ring, ring.readv(&fd, vec![vec![7u8]; 1025], 0));
    assert_eq!(result.1, vec![vec![7u8]; 1025], "they come back");
    assert_eq!(refused(result.0), Errno::INVAL);
}

#[test]
fn no_buffers_at_all_read_nothing() {
    let (fd, _file) = file_with("abc");
    let ring = ring();
    assert_eq!(finish(&ring, ring.readv(&fd, Vec::<Vec<u8>>::new(), 0)).unwrap(), (0, vec![]));
}
