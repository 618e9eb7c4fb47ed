//! Unlinkat on the real kernel.

use std::fs;

use deferring::op::Unlinkat;
use deferring::{AtFlags, CWD};
use rustix::io::Errno;

use super::{finish, names, place, refused};
use crate::support::{alone, ring};

#[test]
fn c38_an_unlink_removes_a_name() {
    let (place, dir) = place();
    fs::write(place.path().join("a"), "").unwrap();
    fs::write(place.path().join("b"), "").unwrap();
    let ring = ring();
    finish(&ring, ring.unlinkat(&dir, "a", AtFlags::empty())).unwrap();
    assert_eq!(names(place.path()), ["b"]);
    let there = place.path().join("b");
    alone(|ring| async move { ring.unlinkat(CWD, there, AtFlags::empty()).await }).unwrap();
    assert!(names(place.path()).is_empty());
}

#[test]
fn c38_an_unlink_with_dir_is_an_rmdir() {
    let (place, dir) = place();
    let ring = ring();
    let unlink = |dirs: bool| finish(&ring, ring.queue(Unlinkat::new(&dir, "dir").dir(dirs)));

    fs::create_dir(place.path().join("dir")).unwrap();
    assert_eq!(refused(unlink(false)), Errno::ISDIR);
    unlink(true).unwrap();
    assert!(names(place.path()).is_empty());
    assert_eq!(refused(unlink(true)), Errno::NOENT);
    assert_eq!(refused(unlink(false)), Errno::NOENT);

    fs::create_dir_all(place.path().join("dir/full")).unwrap();
    assert_eq!(refused(unlink(true)), Errno::NOTEMPTY);
    fs::remove_dir_all(place.path().join("dir")).unwrap();

    fs::write(place.path().join("dir"), "a file, in truth").unwrap();
    assert_eq!(refused(unlink(true)), Errno::NOTDIR);
    let flagged = ring.unlinkat(&dir, "dir", AtFlags::REMOVEDIR);
    assert_eq!(refused(finish(&ring, flagged)), Errno::NOTDIR, "the flag does the same");
    assert_eq!(names(place.path()), ["dir"]);
}

#[test]
fn c38_an_unlink_of_a_symbolic_link_leaves_what_it_points_to() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "").unwrap();
    std::os::unix::fs::symlink("file", place.path().join("link")).unwrap();
    let ring = ring();
    finish(&ring, ring.unlinkat(&dir, "link", AtFlags::empty())).unwrap();
    assert_eq!(names(place.path()), ["file"]);
}
