//! What is refused: nothing is copied, the message says why, and the exit status is 2.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::{Closely, Mount, cp, is_root, look, place, run, skipped};

/// A place with a file, a directory, and ways around.
fn plant(root: &Path) {
    fs::create_dir_all(root.join("dir/below")).unwrap();
    fs::write(root.join("dir/a"), "a").unwrap();
    fs::write(root.join("file"), "file").unwrap();
    fs::hard_link(root.join("file"), root.join("hard")).unwrap();
    symlink("file", root.join("soft")).unwrap();
    symlink("dir", root.join("way")).unwrap();
    fs::create_dir(root.join("into")).unwrap();
    symlink("../dir/below", root.join("into/back")).unwrap();
}

#[track_caller]
fn refused(arguments: &[&str], message: &str) {
    let place = place();
    plant(place.path());
    let before = look(place.path(), Closely::Plain);
    let ended = run(cp(arguments).current_dir(place.path()));
    let ended = ended.badly(2, &[message]);
    assert!(ended.out.starts_with("copied 0 files and 0 directories"), "{ended:?}");
    assert_eq!(look(place.path(), Closely::Plain), before, "nothing has changed");
}

#[test]
fn a_directory_without_r_is_refused() {
    refused(&["dir", "new"], "deferring: cp: dir is a directory: -r copies directories\n");
    refused(&["way", "new"], "deferring: cp: way is a directory: -r copies directories\n");
}

#[test]
fn what_is_no_file_is_not_replaced() {
    let place = place();
    plant(place.path());
    let fifo = place.path().join("into/file");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    symlink("/dev/null", place.path().join("null")).unwrap();
    let before = look(place.path(), Closely::Plain);
    let a_device = "null is a character device: it is not replaced";
    for (arguments, message) in [
        (&["file", "into"][..], "into/file is a fifo: it is not replaced; remove it, or name"),
        (&["-r", "dir", "null"], a_device),
        (&["file", "null"], a_device),
    ] {
        run(cp(arguments).current_dir(place.path())).badly(2, &[message]);
    }
    assert_eq!(look(place.path(), Closely::Plain), before, "nothing has changed");
}

#[test]
fn a_directory_and_a_file_do_not_replace_each_other() {
    let message = "deferring: cp: dir is a directory, and file is none: it is not replaced\n";
    refused(&["-r", "dir", "file"], message);
    let place = place();
    plant(place.path());
    fs::create_dir(place.path().join("into/file")).unwrap();
    let message = "into/file is a directory, and file is none: it is not replaced";
    run(cp(["file", "into"]).current_dir(place.path())).badly(2, &[message]);
    assert!(place.path().join("into/file").is_dir());
}

#[test]
fn a_missing_source_is_refused() {
    let message = "deferring: cp: statx nowhere: No such file or directory\n";
    refused(&["nowhere", "new"], message);
    refused(&["-r", "nowhere", "into"], message);
    refused(&["file", "nowhere", "into"], message);
    refused(&["file/below", "new"], "deferring: cp: statx file/below: Not a directory\n");
}

#[test]
fn the_same_file_is_refused_whatever_it_is_called() {
    for (from, to) in [("file", "file"), ("file", "hard"), ("file", "soft"), ("soft", "file")] {
        for option in ["-p", "-r"] {
            let message = format!("deferring: cp: {from} and {to} are the same file\n");
            refused(&[option, from, to], &message);
        }
    }
    refused(&["dir/a", "way"], "deferring: cp: dir/a and way/a are the same file\n");
    refused(&["-r", "dir/.", "way"], "deferring: cp: dir/. and way are the same file\n");
    refused(&["-r", "dir", "."], "deferring: cp: dir and ./dir are the same file\n");
}

#[test]
fn a_directory_into_itself_is_refused_whatever_the_way() {
    for to in ["dir/new", "dir/below", "way/below/new", "into/back", "./dir/../dir/below/"] {
        refused(&["-r", "dir", to], "inside it: it cannot be copied into itself\n");
    }
    refused(&["-r", ".", "into"], "inside it: it cannot be copied into itself\n");
    refused(&["-r", "/", "into"], "inside it: it cannot be copied into itself\n");
}

#[test]
fn a_directory_beside_one_whose_name_begins_alike_is_not_inside_it() {
    let place = place();
    plant(place.path());
    run(cp(["-r", "dir", "dir-too"]).current_dir(place.path())).well();
}

#[test]
fn several_sources_need_a_directory() {
    refused(
        &["file", "dir/a", "new"],
        "deferring: cp: new is not a directory: several sources need",
    );
    refused(&["-r", "file", "dir", "hard"], "deferring: cp: hard is not a directory: several");
    refused(&["file", "new/"], "deferring: cp: new/ is not a directory\n");
}

#[test]
fn two_sources_of_one_name_are_refused() {
    refused(&["file", "./file", "into"], "more than one source would become into/file\n");
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let place = place();
    plant(place.path());
    let ended = run(cp(["dir", "nowhere", "file", "into", "--json"]).current_dir(place.path()));
    let ended = ended.badly(2, &["dir is a directory", "statx nowhere"]);
    assert!(ended.out.contains(r#""files":0,"#) && ended.out.contains(r#""errors":2,"#));
    assert!(!place.path().join("into/file").exists());
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    for arguments in
        [&["one"][..], &["--jobs", "0", "a", "b"], &["--jobs", "x", "a", "b"], &["-z", "a", "b"]]
    {
        let ended = run(&mut cp(arguments));
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(ended.err.contains("Usage: ") || ended.err.contains("--help"), "{ended:?}");
    }
}

#[test]
fn a_copy_that_meets_itself_through_a_mount_leaves_itself_out() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir_all(path("src/mount")).unwrap();
    fs::create_dir(path("outside")).unwrap();
    fs::write(path("outside/file"), "content").unwrap();
    let bind = [std::ffi::OsStr::new("--bind"), path("outside").as_os_str()].map(ToOwned::to_owned);
    let mounted = is_root().then(|| Mount::new(&bind, &path("src/mount"))).flatten();
    let Some(_mounted) = mounted else { return skipped("root, and the right to mount") };
    let ended = run(cp(["-r", "src", "outside/dst"]).current_dir(place.path()));
    ended.badly(1, &["deferring: cp: copy src/mount/dst: this is where the copy goes"]);
    assert_eq!(fs::read(path("outside/dst/mount/file")).unwrap(), b"content");
}
