//! Ftruncate on the real kernel.

use std::fs::File;

use deferring::Fd;
use deferring::op::Opcode;
use rustix::io::Errno;

use super::{content, file_with, finish, refused};
use crate::support::{ring, skipped};

#[test]
fn a_file_is_cut_and_extended() {
    let (fd, file) = file_with("hello");
    let ring = ring();
    if !ring.supports(Opcode::FTRUNCATE) {
        assert_eq!(refused(finish(&ring, ring.ftruncate(&fd, 2))), Errno::INVAL);
        return skipped("ftruncate (Linux 6.9)");
    }
    finish(&ring, ring.ftruncate(&fd, 2)).unwrap();
    assert_eq!(content(&file), b"he");
    finish(&ring, ring.ftruncate(&fd, 4)).unwrap();
    assert_eq!(content(&file), b"he\0\0");
    finish(&ring, ring.ftruncate(&fd, 1 << 33)).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1 << 33, "a hole, of more than 32 bits");
    finish(&ring, ring.ftruncate(&fd, 0)).unwrap();
    assert_eq!(content(&file), b"");
}

#[test]
fn a_file_that_is_not_open_for_writing_is_not_cut() {
    let (fd, _file) = file_with("hello");
    let ring = ring();
    if !ring.supports(Opcode::FTRUNCATE) {
        return skipped("ftruncate (Linux 6.9)");
    }
    assert_eq!(refused(finish(&ring, ring.ftruncate(&fd, u64::MAX))), Errno::INVAL, "negative");
    let null = Fd::from(File::open("/dev/null").unwrap());
    assert_eq!(refused(finish(&ring, ring.ftruncate(&null, 0))), Errno::INVAL);
}
