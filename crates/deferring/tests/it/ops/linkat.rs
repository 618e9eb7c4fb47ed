//! Linkat on the real kernel.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use deferring::op::Linkat;
use deferring::{AtFlags, CWD};
use rustix::io::Errno;

use super::{finish, names, place, refused};
use crate::support::{alone, ring};

#[test]
fn c37_a_link_is_another_name_of_the_same_file() {
    let (place, dir) = place();
    fs::write(place.path().join("a"), "content").unwrap();
    let ring = ring();
    finish(&ring, ring.linkat(&dir, "a", &dir, "b", AtFlags::empty())).unwrap();
    let [a, b] = ["a", "b"].map(|name| fs::metadata(place.path().join(name)).unwrap());
    assert_eq!((a.ino(), b.nlink()), (b.ino(), 2));
}

#[test]
fn c37_a_symbolic_link_is_linked_itself_or_followed() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "").unwrap();
    symlink("file", place.path().join("symlink")).unwrap();
    let ring = ring();
    let link = |name, follow| {
        let op = Linkat::new(&dir, "symlink", &dir, name).follow(follow);
        finish(&ring, ring.queue(op)).unwrap();
        fs::symlink_metadata(place.path().join(name)).unwrap().ino()
    };
    let ino = |name| fs::symlink_metadata(place.path().join(name)).unwrap().ino();
    assert_eq!(link("not followed", false), ino("symlink"));
    assert_eq!(link("followed", true), ino("file"));
    // The flag does the same.
    let flagged = ring.linkat(&dir, "symlink", &dir, "flagged", AtFlags::SYMLINK_FOLLOW);
    finish(&ring, flagged).unwrap();
    assert_eq!(ino("flagged"), ino("file"));
}

#[test]
fn c37_a_name_that_is_taken_is_eexist() {
    let (place, dir) = place();
    fs::write(place.path().join("a"), "a").unwrap();
    fs::write(place.path().join("b"), "b").unwrap();
    let ring = ring();
    let link = ring.linkat(&dir, "a", &dir, "b", AtFlags::empty());
    assert_eq!(refused(finish(&ring, link)), Errno::EXIST);
    assert_eq!(fs::read(place.path().join("b")).unwrap(), b"b", "as it was");
}

#[test]
fn c37_each_path_starts_from_its_own_directory() {
    let ((from, from_dir), (to, to_dir)) = (place(), place());
    fs::write(from.path().join("a"), "").unwrap();
    let ring = ring();
    finish(&ring, ring.linkat(&from_dir, "a", &to_dir, "b", AtFlags::empty())).unwrap();
    finish(&ring, ring.linkat(CWD, from.path().join("a"), &to_dir, "c", AtFlags::empty())).unwrap();
    let back = from.path().join("d");
    alone(|ring| async move { ring.linkat(&to_dir, "b", CWD, back, AtFlags::empty()).await })
        .unwrap();
    assert_eq!(names(from.path()), ["a", "d"]);
    assert_eq!(names(to.path()), ["b", "c"]);
}

#[test]
fn c37_a_target_that_is_not_there_is_enoent() {
    let (place, dir) = place();
    let ring = ring();
    let link = ring.linkat(&dir, "a", &dir, "b", AtFlags::empty());
    assert_eq!(refused(finish(&ring, link)), Errno::NOENT);
    assert!(names(place.path()).is_empty());
}
