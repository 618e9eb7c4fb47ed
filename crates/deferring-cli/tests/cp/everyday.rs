//! What people do with `cp` every day, and expect of it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::support::{cp, place, run, temporary_files};

#[test]
fn a_file_is_copied_under_another_name() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::write(path("a"), "content").unwrap();
    run(&mut cp([path("a"), path("b")])).well();
    assert_eq!(fs::read(path("b")).unwrap(), b"content");
    assert_ne!(fs::metadata(path("a")).unwrap().ino(), fs::metadata(path("b")).unwrap().ino());
}

#[test]
fn several_files_are_copied_into_a_directory() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("dst")).unwrap();
    fs::write(path("a"), "one").unwrap();
    fs::write(path("b"), "two").unwrap();
    run(&mut cp([path("a"), path("b"), path("dst")])).well();
    assert_eq!(fs::read(path("dst/a")).unwrap(), b"one");
    assert_eq!(fs::read(path("dst/b")).unwrap(), b"two");
}

#[test]
fn a_directory_becomes_the_destination_or_goes_into_it_or_is_poured() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("src")).unwrap();
    fs::write(path("src/a"), "content").unwrap();
    let copy = |from: &str| run(cp(["-r", from, "dst"]).current_dir(place.path())).well();
    copy("src");
    assert!(path("dst/a").exists());
    copy("src/");
    assert!(path("dst/src/a").exists());
    fs::remove_dir_all(path("dst")).unwrap();
    fs::create_dir(path("dst")).unwrap();
    copy("src/.");
    assert!(path("dst/a").exists());
}

#[test]
fn what_has_the_name_already_is_replaced_and_not_written_through() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("dst")).unwrap();
    fs::write(path("new"), "new").unwrap();
    fs::write(path("old"), "a much longer old content").unwrap();
    fs::hard_link(path("old"), path("dst/new")).unwrap();
    run(&mut cp([path("new"), path("dst")])).well();
    assert_eq!(fs::read(path("dst/new")).unwrap(), b"new");
    assert_eq!(fs::read(path("old")).unwrap(), b"a much longer old content");
    fs::remove_file(path("dst/new")).unwrap();
    symlink("../old", path("dst/new")).unwrap();
    run(&mut cp([path("new"), path("dst")])).well();
    assert!(fs::symlink_metadata(path("dst/new")).unwrap().is_file());
    assert_eq!(fs::read(path("old")).unwrap(), b"a much longer old content");
}

#[test]
fn a_tree_can_be_copied_over_its_earlier_copy() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir_all(path("src/dir")).unwrap();
    fs::write(path("src/dir/a"), "one").unwrap();
    fs::hard_link(path("src/dir/a"), path("src/b")).unwrap();
    symlink("dir/a", path("src/link")).unwrap();
    run(&mut cp([OsStr::new("-r"), path("src").as_os_str(), path("dst").as_os_str()])).well();
    fs::write(path("src/b"), "two").unwrap();
    for _ in 0..2 {
        run(cp(["-r", "src/.", "dst"]).current_dir(place.path())).well();
        assert_eq!(fs::read(path("dst/dir/a")).unwrap(), b"two");
        let ino = |name| fs::metadata(path(name)).unwrap().ino();
        assert_eq!(ino("dst/b"), ino("dst/dir/a"));
        assert_eq!(temporary_files(&path("dst")), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn a_symbolic_link_is_followed_without_r_and_copied_with_it() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::write(path("a"), "content").unwrap();
    symlink("a", path("link")).unwrap();
    run(&mut cp([path("link"), path("file")])).well();
    assert!(fs::symlink_metadata(path("file")).unwrap().is_file());
    run(cp(["-r", "link", "other"]).current_dir(place.path())).well();
    assert_eq!(fs::read_link(path("other")).unwrap().as_os_str(), "a");
}

#[test]
fn names_need_not_be_text() {
    let place = place();
    for name in
        [&b"-r"[..], b"a\nb", b"\xff\xfe", b" ", b"*", b"--", "größe".as_bytes(), &[b'x'; 255]]
    {
        let name = OsStr::from_bytes(name);
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join(name), "content").unwrap();
        let arguments = [OsStr::new("--"), name, OsStr::new("../to")];
        run(cp(arguments).current_dir(&from)).well();
        assert_eq!(fs::read(to.join(name)).unwrap(), b"content", "{name:?}");
        fs::remove_dir_all(&from).unwrap();
        fs::remove_dir_all(&to).unwrap();
    }
}

#[test]
fn a_file_that_does_not_tell_its_length_is_copied_to_its_end() {
    let place = place();
    let to = place.path().join("limits");
    run(&mut cp(["/proc/kallsyms", to.to_str().unwrap()])).well();
    let lines = fs::read_to_string(&to).unwrap().lines().count();
    let expected = fs::read_to_string("/proc/kallsyms").unwrap().lines().count();
    assert!(expected > 1000 && lines == expected, "{lines} of {expected} lines");
}
