//! Writev on the real kernel. How the buffers come back: `../buffers.rs`.

use std::io::{Seek, SeekFrom};

use deferring::CURRENT;
use rustix::io::Errno;

use super::{content, file_with, finish, refused};
use crate::support::ring;

#[test]
fn c31_a_vectored_write_uses_the_file_position_only_when_asked() {
    let (fd, mut file) = file_with("........");
    file.seek(SeekFrom::Start(4)).unwrap();
    let ring = ring();
    let write = |bufs, offset| finish(&ring, ring.writev(&fd, bufs, offset)).unwrap();
    assert_eq!(write(["a", "bc"], 0), (3, ["a", "bc"]));
    assert_eq!(write(["d", "ef"], CURRENT).0, 3);
    assert_eq!(content(&file), b"abc.def.");
    assert_eq!(file.stream_position().unwrap(), 7);
}

#[test]
fn c32_as_many_buffers_as_iov_max_are_written_and_one_more_is_an_argument_error() {
    let bytes: Vec<u8> = (0..=255).cycle().take(1024).collect();
    let (fd, file) = file_with("");
    let ring = ring();
    let bufs: Vec<_> = bytes.iter().map(|&byte| vec![byte]).collect();
    assert_eq!(finish(&ring, ring.writev(&fd, bufs, 0)).unwrap().0, 1024);
    assert_eq!(content(&file), bytes);

    let result = finish(&ring, ring.writev(&fd, vec!["x"; 1025], 0));
    assert_eq!(result.1, vec!["x"; 1025], "they come back");
    assert_eq!(refused(result.0), Errno::INVAL);
    assert_eq!(content(&file), bytes, "nothing was written");
}

#[test]
fn empty_buffers_among_others_write_nothing() {
    let (fd, file) = file_with("");
    let ring = ring();
    assert_eq!(finish(&ring, ring.writev(&fd, ["", "a", "", "b", ""], 0)).unwrap().0, 2);
    assert_eq!(content(&file), b"ab");
}
