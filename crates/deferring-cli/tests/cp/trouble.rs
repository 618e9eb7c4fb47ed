//! What goes wrong on the way: one file fails, the others go on; nothing half-made is left.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    BOUND, Mount, cp, cp_as_nobody, is_root, place, run, skipped, slow_file, start,
    temporary_files, wait, wait_for_temporary_file,
};

fn assert_no_temporary_files(directory: &Path) {
    assert_eq!(temporary_files(directory), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_unreadable_file_is_reported_and_the_others_are_copied() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir_all(path("src/closed")).unwrap();
    for name in ["before", "secret", "closed/inside", "zebra"] {
        fs::write(path("src").join(name), name).unwrap();
    }
    let mode =
        |name, mode| fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("src/secret", 0o000);
    mode("src/closed", 0o000);
    fs::create_dir(path("dst")).unwrap();
    mode("dst", 0o777);
    let ended = run(cp_as_nobody(place.path(), ["-r", "src/.", "dst"]).current_dir(place.path()));
    let ended = ended.badly(
        1,
        &[
            "deferring: cp: openat2 src/./secret: Permission denied\n",
            "deferring: cp: openat2 src/./closed: Permission denied\n",
        ],
    );
    assert!(ended.out.starts_with("copied 2 files and 1 directories"), "{ended:?}");
    assert!(ended.out.trim_end().ends_with("2 errors"), "{ended:?}");
    assert_eq!(fs::read(path("dst/zebra")).unwrap(), b"zebra");
    assert!(!path("dst/secret").exists() && !path("dst/closed").exists());
    assert_no_temporary_files(&path("dst"));
    mode("src/closed", 0o755);
}

#[test]
fn a_destination_that_cannot_be_written_is_reported() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("dst")).unwrap();
    fs::write(path("a"), "a").unwrap();
    fs::set_permissions(path("dst"), fs::Permissions::from_mode(0o555)).unwrap();
    let ended = run(cp_as_nobody(place.path(), ["a", "dst"]).current_dir(place.path()));
    ended.badly(1, &["deferring: cp: openat2 dst/a: Permission denied\n"]);
    let ended = run(cp(["a", "nowhere/a"]).current_dir(place.path()));
    ended.badly(1, &["deferring: cp: openat2 nowhere/a: No such file or directory\n"]);
}

#[test]
fn p_by_somebody_else_keeps_what_may_be_kept() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::write(path("a"), "a").unwrap();
    fs::set_permissions(path("a"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::create_dir(path("dst")).unwrap();
    fs::set_permissions(path("dst"), fs::Permissions::from_mode(0o777)).unwrap();
    run(cp_as_nobody(place.path(), ["-p", "a", "dst"]).current_dir(place.path())).well();
    let stat = |name| fs::metadata(path(name)).unwrap();
    assert_eq!(stat("dst/a").modified().unwrap(), stat("a").modified().unwrap());
    let expected = if is_root() { 0o755 } else { 0o6755 };
    assert_eq!(stat("dst/a").permissions().mode() & 0o7777, expected);
}

#[test]
fn a_file_and_a_directory_do_not_replace_each_other() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir_all(path("src/a")).unwrap();
    fs::write(path("src/b"), "b").unwrap();
    fs::write(path("src/c"), "c").unwrap();
    fs::create_dir_all(path("dst/b")).unwrap();
    fs::write(path("dst/a"), "a").unwrap();
    let ended = run(cp(["-r", "src/.", "dst"]).current_dir(place.path()));
    ended.badly(
        1,
        &[
            "deferring: cp: mkdirat dst/a: File exists\n",
            "deferring: cp: renameat2 dst/b: Is a directory\n",
        ],
    );
    assert_eq!(fs::read(path("dst/a")).unwrap(), b"a");
    assert!(path("dst/b").is_dir() && path("dst/c").is_file());
    assert_no_temporary_files(&path("dst"));
}

#[test]
fn a_full_disk_is_reported_and_what_fits_is_copied() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("disk")).unwrap();
    let options = ["-t", "tmpfs", "-o", "size=2m", "none"];
    let mounted = is_root().then(|| Mount::new(&options, &path("disk"))).flatten();
    let Some(_mounted) = mounted else { return skipped("root, and the right to mount") };
    fs::create_dir(path("src")).unwrap();
    fs::write(path("src/too-large"), vec![1; 8 << 20]).unwrap();
    fs::write(path("src/small"), "small").unwrap();
    let ended = run(cp(["-r", "src", "disk/dst"]).current_dir(place.path()));
    ended.badly(1, &["deferring: cp: fallocate disk/dst/too-large: No space left on device\n"]);
    assert_eq!(fs::read(path("disk/dst/small")).unwrap(), b"small");
    assert!(!path("disk/dst/too-large").exists());
    assert_no_temporary_files(&path("disk"));

    fs::create_dir(path("many")).unwrap();
    for number in 0..40 {
        fs::write(path(&format!("many/{number}")), vec![1; 100 << 10]).unwrap();
    }
    let ended = run(cp(["-r", "many", "disk"]).current_dir(place.path()));
    let ended = ended.badly(1, &["deferring: cp: write disk/many/", ": No space left on device\n"]);
    let there = fs::read_dir(path("disk/many")).unwrap().count();
    assert!((1..40).contains(&there), "{there}");
    assert_eq!(ended.err.lines().count(), 40 - there, "each is reported");
    for entry in fs::read_dir(path("disk/many")).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().len(), 100 << 10, "only whole files");
    }
}

#[test]
fn a_file_removed_on_the_way_is_reported_and_the_others_are_copied() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    if slow_file(&path("slow"), 2 << 30).is_none() {
        return skipped("2 GiB of room, and fallocate");
    }
    fs::create_dir(path("dst")).unwrap();
    fs::write(path("gone"), "gone").unwrap();
    fs::write(path("kept"), "kept").unwrap();
    // They come one after the other, and were all there when the first was begun.
    let arguments = ["--jobs", "1", "slow", "gone", "kept", "dst"];
    let mut child = start(cp(arguments).current_dir(place.path()));
    wait_for_temporary_file(&mut child, &path("dst"));
    fs::remove_file(path("gone")).unwrap();
    // This one is open: what is left of it can be copied without a name.
    File::options().write(true).open(path("slow")).unwrap().set_len(1000).unwrap();
    fs::remove_file(path("slow")).unwrap();
    let ended = wait(child);
    ended.badly(1, &["deferring: cp: openat2 gone: No such file or directory\n"]);
    assert_eq!(fs::read(path("dst/kept")).unwrap(), b"kept");
    assert!(fs::metadata(path("dst/slow")).unwrap().len() >= 1000);
    assert_no_temporary_files(&path("dst"));
}

#[test]
fn a_file_that_has_become_a_fifo_is_skipped_and_blocks_nobody() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    if slow_file(&path("slow"), 2 << 30).is_none() {
        return skipped("2 GiB of room, and fallocate");
    }
    fs::create_dir(path("dst")).unwrap();
    fs::write(path("changed"), "a file when it was looked at").unwrap();
    fs::write(path("kept"), "kept").unwrap();
    let arguments = ["--jobs", "1", "slow", "changed", "kept", "dst"];
    let mut child = start(cp(arguments).current_dir(place.path()));
    wait_for_temporary_file(&mut child, &path("dst"));
    fs::remove_file(path("changed")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(path("changed")).status().unwrap();
    assert!(fifo.success());
    File::options().write(true).open(path("slow")).unwrap().set_len(1000).unwrap();
    wait(child).badly(0, &["deferring: cp: skipped changed: a fifo\n"]);
    assert_eq!(fs::read(path("dst/kept")).unwrap(), b"kept");
    assert!(!path("dst/changed").exists());
    assert_no_temporary_files(&path("dst"));
}

#[test]
fn a_file_cut_short_on_the_way_is_copied_to_its_new_end() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    if slow_file(&path("slow"), 2 << 30).is_none() {
        return skipped("2 GiB of room, and fallocate");
    }
    fs::create_dir(path("dst")).unwrap();
    let mut child = start(cp(["slow", "dst"]).current_dir(place.path()));
    wait_for_temporary_file(&mut child, &path("dst"));
    File::options().write(true).open(path("slow")).unwrap().set_len(1000).unwrap();
    wait(child).well();
    let stat = fs::metadata(path("dst/slow")).unwrap();
    assert!((1000..2 << 30).contains(&stat.len()), "{}", stat.len());
}

#[test]
fn ctrl_c_and_sigterm_end_a_copy_at_once_and_leave_nothing_half_made() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("src")).unwrap();
    if slow_file(&path("src/slow"), 2 << 30).is_none() {
        return skipped("2 GiB of room, and fallocate");
    }
    for number in 0..20 {
        fs::write(path(&format!("src/{number}")), "small").unwrap();
    }
    for (signal, status, json) in [(Signal::INT, 130, "--json"), (Signal::TERM, 143, "--recursive")]
    {
        let arguments = ["-r", "src", "dst"];
        let mut child = start(cp(arguments).arg(json).current_dir(place.path()));
        wait_for_temporary_file(&mut child, &path("dst"));
        let begun = Instant::now();
        while !(0..20).all(|number| path(&format!("dst/{number}")).exists()) {
            assert!(begun.elapsed() < BOUND, "the small ones are not done in {BOUND:?}");
            std::thread::yield_now();
        }
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).unwrap();
        let signalled = Instant::now();
        let ended = wait(child);
        assert!(signalled.elapsed() < Duration::from_secs(5), "{:?}", signalled.elapsed());
        assert_eq!((ended.status, ended.err.as_str()), (Some(status), ""), "{ended:?}");
        if json == "--json" {
            assert!(ended.out.contains(r#""backend":""#), "{ended:?}");
        } else {
            assert!(ended.out.starts_with("interrupted: copied "), "{ended:?}");
        }
        assert_no_temporary_files(&path("dst"));
        assert!(!path("dst/slow").exists());
        fs::remove_dir_all(path("dst")).unwrap();
    }
}

#[test]
fn ctrl_c_in_the_middle_of_a_tree_leaves_whole_files_only() {
    let place = crate::support::place_for_many();
    let path = |name: &str| place.path().join(name);
    for number in 0..4000 {
        let dir = path(&format!("src/{}", number % 50));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(number.to_string()), [1; 1000]).unwrap();
    }
    let mut child =
        start(cp([OsStr::new("-r"), path("src").as_ref(), path("dst").as_ref()]).arg("--jobs=8"));
    wait_for_temporary_file(&mut child, &path("dst"));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = wait(child);
    assert_eq!(ended.status, Some(130), "{ended:?}");
    assert_no_temporary_files(&path("dst"));
    for dir in fs::read_dir(path("dst")).unwrap() {
        for file in fs::read_dir(dir.unwrap().path()).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().len(), 1000);
        }
    }
}

#[test]
fn a_fifo_in_the_way_is_not_replaced_and_the_others_are_copied() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir_all(path("src")).unwrap();
    fs::create_dir_all(path("dst/src")).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(path("src").join(name), name).unwrap();
    }
    fs::write(path("dst/src/a"), "old").unwrap();
    let fifo = path("dst/src/b");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let ended = run(cp(["-r", "src", "dst"]).current_dir(place.path()));
    ended.badly(1, &["renameat2 dst/src/b: a fifo has that name, and is not replaced"]);
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    assert_eq!(fs::read(path("dst/src/a")).unwrap(), b"a", "a file is replaced");
    assert_eq!(fs::read(path("dst/src/c")).unwrap(), b"c");
    assert_eq!(fs::read_dir(path("dst/src")).unwrap().count(), 3, "no temporary file is left");
}
