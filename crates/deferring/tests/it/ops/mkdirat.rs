//! Mkdirat on the real kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use deferring::{CWD, Mode};
use rustix::io::Errno;

use super::{finish, names, place, refused};
use crate::support::{alone, in_a_process_of_its_own, ring, this_test};

#[test]
fn a_directory_is_made_where_the_path_says() {
    let (place, dir) = place();
    let ring = ring();
    finish(&ring, ring.mkdirat(&dir, "a", Mode::RWXU)).unwrap();
    let there = place.path().join("a/b");
    alone(|ring| async move { ring.mkdirat(CWD, there, Mode::RWXU).await }).unwrap();
    assert!(fs::metadata(place.path().join("a/b")).unwrap().is_dir());
}

#[test]
fn a_directory_has_the_permissions_asked_for_less_the_umask() {
    in_a_process_of_its_own(this_test!(), || {
        rustix::process::umask(Mode::from_raw_mode(0o027));
        let ((place, dir), ring) = (place(), ring());
        for (name, asked, got) in [("a", 0o777, 0o750), ("b", 0o705, 0o700), ("c", 0o1755, 0o1750)]
        {
            finish(&ring, ring.mkdirat(&dir, name, Mode::from_raw_mode(asked))).unwrap();
            let mode = fs::metadata(place.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, got, "{name}: {asked:o}");
        }
    });
}

#[test]
fn a_directory_needs_a_free_name_in_a_directory() {
    let (place, dir) = place();
    fs::write(place.path().join("taken"), "").unwrap();
    let ring = ring();
    let mkdir = |path| refused(finish(&ring, ring.mkdirat(&dir, path, Mode::RWXU)));
    assert_eq!(mkdir("taken"), Errno::EXIST);
    assert_eq!(mkdir("no/such"), Errno::NOENT);
    assert_eq!(mkdir("taken/x"), Errno::NOTDIR);
    assert_eq!(names(place.path()), ["taken"]);
}
