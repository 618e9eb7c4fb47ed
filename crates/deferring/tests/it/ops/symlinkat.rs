//! Symlinkat on the real kernel.

use std::fs;
use std::path::Path;

use deferring::CWD;
use rustix::io::Errno;

use super::{finish, names, place, refused};
use crate::support::{alone, ring};

#[test]
fn a_symbolic_link_says_what_it_was_told_to() {
    let (place, dir) = place();
    fs::write(place.path().join("file"), "content").unwrap();
    let ring = ring();
    finish(&ring, ring.symlinkat("file", &dir, "link")).unwrap();
    assert_eq!(fs::read_link(place.path().join("link")).unwrap(), Path::new("file"));
    assert_eq!(fs::read(place.path().join("link")).unwrap(), b"content");
    let there = place.path().join("absolute");
    alone(|ring| async move { ring.symlinkat("file", CWD, there).await }).unwrap();
    assert_eq!(names(place.path()), ["absolute", "file", "link"]);
}

#[test]
fn a_symbolic_link_may_dangle() {
    let (place, dir) = place();
    let ring = ring();
    finish(&ring, ring.symlinkat("/no/such thing", &dir, "link")).unwrap();
    assert_eq!(fs::read_link(place.path().join("link")).unwrap(), Path::new("/no/such thing"));
}

#[test]
fn a_symbolic_link_needs_a_free_name_and_a_target() {
    let (place, dir) = place();
    fs::write(place.path().join("taken"), "").unwrap();
    let ring = ring();
    let link = |target, name| refused(finish(&ring, ring.symlinkat(target, &dir, name)));
    assert_eq!(link("x", "taken"), Errno::EXIST);
    assert_eq!(link("", "new"), Errno::NOENT);
    assert_eq!(link("x", "no/such"), Errno::NOENT);
    assert_eq!(names(place.path()), ["taken"]);
}
