//! Fallocate on the real kernel.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use deferring::{FallocateFlags, Fd, Ring};
use rustix::io::Errno;

use super::{content, file_with, finish, pipe, refused};
use crate::support::{ring, skipped};

/// Runs the op. False where the file system has no such thing.
fn fallocate(ring: &Ring, fd: &Fd, flags: FallocateFlags, offset: u64, len: u64) -> bool {
    let result = finish(ring, ring.fallocate(fd, flags, offset, len));
    let unknown = matches!(&result, Err(error) if error.kind() == io::ErrorKind::Unsupported);
    if unknown {
        skipped("a file system with fallocate");
    } else {
        result.unwrap();
    }
    !unknown
}

fn blocks(file: &File) -> u64 {
    file.metadata().unwrap().blocks()
}

#[test]
fn room_is_made_and_the_file_extended_to_there() {
    let (fd, file) = file_with("ab");
    let ring = ring();
    if !fallocate(&ring, &fd, FallocateFlags::empty(), 4096, 1 << 20) {
        return;
    }
    let len = file.metadata().unwrap().len();
    assert_eq!(len, 4096 + (1 << 20), "from the offset, not from 0");
    assert!(blocks(&file) >= (1 << 20) / 512, "{} blocks", blocks(&file));
    assert_eq!(content(&file)[..3], *b"ab\0");
}

#[test]
fn with_keep_size_the_room_is_there_and_the_length_as_it_was() {
    let (fd, file) = file_with("ab");
    let ring = ring();
    if !fallocate(&ring, &fd, FallocateFlags::KEEP_SIZE, 0, 1 << 20) {
        return;
    }
    assert_eq!(content(&file), b"ab");
    assert!(blocks(&file) >= (1 << 20) / 512, "{} blocks", blocks(&file));
}

#[test]
fn a_hole_is_punched() {
    let (fd, file) = file_with([b'x'; 1 << 16]);
    let ring = ring();
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if !fallocate(&ring, &fd, flags, 4096, 8192) {
        return;
    }
    let mut expected = vec![b'x'; 1 << 16];
    expected[4096..4096 + 8192].fill(0);
    assert!(content(&file) == expected, "zeros there, and only there");
}

#[test]
fn no_room_of_no_length_and_none_in_a_pipe() {
    let (fd, file) = file_with("ab");
    let ring = ring();
    let none = FallocateFlags::empty();
    assert_eq!(refused(finish(&ring, ring.fallocate(&fd, none, 0, 0))), Errno::INVAL);
    let (_reader, writer) = pipe();
    let room = ring.fallocate(&Fd::from(writer), none, 0, 1);
    assert_eq!(refused(finish(&ring, room)), Errno::SPIPE);
    assert_eq!(content(&file), b"ab");
}
