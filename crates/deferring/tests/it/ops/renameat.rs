//! Renameat on the real kernel.

use std::fs;

use deferring::{CWD, RenameFlags};
use rustix::io::Errno;
use tempfile::TempDir;

use super::{finish, names, place, refused};
use crate::support::{alone, ring};

fn text(place: &TempDir, name: &str) -> String {
    fs::read_to_string(place.path().join(name)).unwrap()
}

#[test]
fn a_rename_gives_another_name_and_replaces_what_has_it() {
    let (place, dir) = place();
    fs::write(place.path().join("a"), "a").unwrap();
    fs::write(place.path().join("b"), "b").unwrap();
    let ring = ring();
    finish(&ring, ring.renameat2(&dir, "a", &dir, "c", RenameFlags::empty())).unwrap();
    assert_eq!(names(place.path()), ["b", "c"]);
    finish(&ring, ring.renameat2(&dir, "c", &dir, "b", RenameFlags::empty())).unwrap();
    assert_eq!(names(place.path()), ["b"]);
    assert_eq!(text(&place, "b"), "a");
}

#[test]
fn a_rename_with_noreplace_leaves_what_has_the_name() {
    let (place, dir) = place();
    fs::write(place.path().join("a"), "a").unwrap();
    fs::write(place.path().join("b"), "b").unwrap();
    let ring = ring();
    let rename = |to| finish(&ring, ring.renameat2(&dir, "a", &dir, to, RenameFlags::NOREPLACE));
    assert_eq!(refused(rename("b")), Errno::EXIST);
    assert_eq!((text(&place, "a"), text(&place, "b")), ("a".into(), "b".into()));
    rename("c").unwrap();
    assert_eq!(names(place.path()), ["b", "c"]);
}

#[test]
fn a_rename_with_exchange_swaps_two_names() {
    let (place, dir) = place();
    fs::write(place.path().join("a"), "a").unwrap();
    fs::write(place.path().join("b"), "b").unwrap();
    let ring = ring();
    let swap = |to| finish(&ring, ring.renameat2(&dir, "a", &dir, to, RenameFlags::EXCHANGE));
    swap("b").unwrap();
    assert_eq!((text(&place, "a"), text(&place, "b")), ("b".into(), "a".into()));
    assert_eq!(refused(swap("c")), Errno::NOENT, "both must be there");
}

#[test]
fn each_path_of_a_rename_starts_from_its_own_directory() {
    let ((from, from_dir), (to, to_dir)) = (place(), place());
    fs::write(from.path().join("a"), "").unwrap();
    let ring = ring();
    finish(&ring, ring.renameat2(&from_dir, "a", &to_dir, "b", RenameFlags::empty())).unwrap();
    assert_eq!((names(from.path()), names(to.path())), (vec![], vec!["b".into()]));
    let back = from.path().join("c");
    alone(
        |ring| async move { ring.renameat2(&to_dir, "b", CWD, back, RenameFlags::empty()).await },
    )
    .unwrap();
    assert_eq!((names(from.path()), names(to.path())), (vec!["c".into()], vec![]));
}

#[test]
fn a_directory_cannot_be_moved_into_itself() {
    let (place, dir) = place();
    fs::create_dir(place.path().join("dir")).unwrap();
    let ring = ring();
    let rename = ring.renameat2(&dir, "dir", &dir, "dir/inside", RenameFlags::empty());
    assert_eq!(refused(finish(&ring, rename)), Errno::INVAL);
    let rename = ring.renameat2(&dir, "none", &dir, "x", RenameFlags::empty());
    assert_eq!(refused(finish(&ring, rename)), Errno::NOENT);
}
