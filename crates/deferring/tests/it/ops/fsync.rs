//! Fsync on the real kernel. That the data is on the disk then cannot be seen from here; that the
//! kernel was asked, and for which of the two, can.

use deferring::Fd;
use rustix::io::Errno;

use super::{file_with, finish, pipe, place, refused};
use crate::support::{alone, ring};

#[test]
fn an_fsync_after_a_write_succeeds_of_data_and_of_everything() {
    let (fd, _file) = file_with("");
    let ring = ring();
    finish(&ring, ring.write(&fd, "on the disk", 0)).unwrap();
    finish(&ring, ring.fdatasync(&fd)).unwrap();
    finish(&ring, ring.fsync(&fd)).unwrap();
    alone(|ring| async move { ring.fsync(&fd).await }).unwrap();
    assert_eq!(ring.stats().sqes, 3, "each was asked of the kernel");
}

#[test]
fn a_directory_can_be_synced() {
    let (_place, dir) = place();
    let ring = ring();
    finish(&ring, ring.fsync(&dir)).unwrap();
}

#[test]
fn what_has_no_disk_cannot_be_synced() {
    let (_reader, writer) = pipe();
    let (writer, ring) = (Fd::from(writer), ring());
    assert_eq!(refused(finish(&ring, ring.fsync(&writer))), Errno::INVAL);
    assert_eq!(refused(finish(&ring, ring.fdatasync(&writer))), Errno::INVAL);
}
