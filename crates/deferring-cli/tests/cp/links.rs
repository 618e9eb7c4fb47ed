//! Hard links: they stay links, also those that are not kept in memory but as names on the disk.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    BOUND, Closely, Look, Mount, cp, cp_as_nobody, is_root, look, peak_of, place, place_for_many,
    run, skipped, slow_file, start, temporary_files, wait,
};

/// Files with two to five names, in other directories and in the same.
fn plant(root: &Path) {
    for number in 0..60 {
        let name = |copy: usize| root.join(format!("{}/{number}-{copy}", number * copy % 7));
        for copy in 0..2 + number % 4 {
            fs::create_dir_all(name(copy).parent().unwrap()).unwrap();
            match copy {
                0 if number % 10 == 9 => symlink(number.to_string(), name(0)).unwrap(),
                0 => fs::write(name(0), number.to_string()).unwrap(),
                _ => fs::hard_link(name(0), name(copy)).unwrap(),
            }
        }
    }
    // One whose other name is elsewhere.
    fs::write(root.with_extension("elsewhere"), "elsewhere").unwrap();
    fs::hard_link(root.with_extension("elsewhere"), root.join("0/elsewhere")).unwrap();
}

/// Pairs: first names in one directory, second names in another.
fn plant_pairs(root: &Path, pairs: usize) {
    for dir in ["a", "b"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for number in 0..pairs {
        let name = |dir: &str| root.join(dir).join(format!("file-{number:06}"));
        fs::write(name("a"), "").unwrap();
        fs::hard_link(name("a"), name("b")).unwrap();
    }
}

/// Compares two trees, and shows no more than where they differ.
#[track_caller]
fn assert_alike(one: Look, mut other: Look, how: &str) {
    let differs = |(path, what): (PathBuf, String)| match other.remove(&path) {
        Some(same) if same == what => None,
        different => Some((path, what, different)),
    };
    let different: Vec<_> = one.into_iter().filter_map(differs).collect();
    assert!(different.is_empty() && other.is_empty(), "{how}: {different:#?}, and {other:#?}");
}

/// The names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until names are kept in this directory, and returns where.
fn wait_for_names_on_the_disk(child: &mut Child, directory: &Path) -> PathBuf {
    let end = Instant::now() + BOUND;
    loop {
        let is_it = |name: &String| name.starts_with(".deferring-cp.") && name.ends_with(".links");
        if let Some(name) = names(directory).into_iter().find(is_it) {
            return directory.join(name);
        }
        assert!(Instant::now() < end, "none in {BOUND:?}");
        let ended = child.try_wait().expect("waits");
        assert!(ended.is_none(), "ended before names were seen: {ended:?}");
    }
}

#[test]
fn they_stay_links_however_few_are_kept_in_memory() {
    let place = place_for_many();
    let path = |name: &str| place.path().join(name);
    plant(&path("src"));
    fs::create_dir(path("into")).unwrap();
    let expected = look(&path("src"), Closely::Preserved);
    for kept in ["0", "1", "8", "1000"] {
        for jobs in ["1", "64"] {
            let how = format!("{kept} in memory, {jobs} jobs");
            // The second time, something has each name already.
            for _ in 0..2 {
                let arguments =
                    ["-rp", "--links-in-memory", kept, "--jobs", jobs, "src/.", "into/dst"];
                run(cp(arguments).current_dir(place.path())).well();
                let copied = look(&path("into/dst"), Closely::Preserved);
                assert_alike(copied, expected.clone(), &how);
                assert_eq!(names(&path("into")), ["dst"], "{how}");
            }
            fs::remove_dir_all(path("into/dst")).unwrap();
        }
    }
    assert_alike(look(&path("src"), Closely::Preserved), expected, "the source");
}

#[test]
fn they_stay_links_between_several_trees_and_times_are_kept() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    plant(&path("from/src"));
    plant(&path("from/poured"));
    for (number, name) in ["src/0/x", "poured/x", "poured/src-x"].into_iter().enumerate() {
        let first = path("from").join(name);
        fs::write(&first, name).unwrap();
        fs::hard_link(first, path("from/src").join(number.to_string()).join("y")).unwrap();
    }
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::open(path("from/poured")).unwrap().set_modified(old).unwrap();
    fs::create_dir_all(path("into/dst")).unwrap();
    // What is poured into a directory gives that one its times, when all is in it.
    let arguments = ["-rp", "--links-in-memory=0", "from/src", "from/poured/.", "into/dst"];
    run(cp(arguments).current_dir(place.path())).well();
    assert_eq!(fs::metadata(path("into/dst")).unwrap().modified().unwrap(), old);
    assert_eq!(names(&path("into")), ["dst"]);
    for (one, other) in [("x", "src/1/y"), ("src-x", "src/2/y"), ("src/0/x", "src/0/y")] {
        let ino = |name: &str| fs::metadata(path("into/dst").join(name)).unwrap().ino();
        assert_eq!(ino(one), ino(other), "{one} and {other}");
    }
    // Relative to itself, and through a symbolic link that is in the source.
    symlink(path("into/dst"), path("from/src/link")).unwrap();
    let expected = look(&path("from/src"), Closely::Plain);
    for (dir, to) in [("into/dst", "."), ("into/dst/0", ".."), ("", "from/src/link/")] {
        fs::remove_dir_all(path("into/dst")).unwrap();
        fs::create_dir_all(path("into/dst/0")).unwrap();
        let from = path("from/src/.");
        let arguments = ["-r".as_ref(), "--links-in-memory=0".as_ref(), from.as_os_str()];
        run(cp(arguments).arg(to).current_dir(path(dir))).well();
        assert_alike(look(&path("into/dst"), Closely::Plain), expected.clone(), to);
        assert_alike(look(&path("from/src"), Closely::Plain), expected.clone(), to);
        assert_eq!(names(&path("into")), ["dst"], "{to}");
    }
}

#[test]
fn files_without_a_tree_stay_links_too() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("dst")).unwrap();
    fs::write(path("a"), "a").unwrap();
    fs::hard_link(path("a"), path("b")).unwrap();
    run(cp(["--links-in-memory=0", "a", "b", "dst"]).current_dir(place.path())).well();
    assert_eq!(fs::metadata(path("dst/a")).unwrap().nlink(), 2);
    assert_eq!(names(&path("dst")), ["a", "b"]);
}

#[test]
fn where_no_names_can_be_kept_beside_the_tree_they_are_kept_in_it() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    plant(&path("src"));
    fs::create_dir_all(path("closed/dst")).unwrap();
    let mode =
        |name, mode| fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("closed/dst", 0o777);
    mode("closed", 0o555);
    let arguments = ["-r", "--links-in-memory=0", "src/.", "closed/dst"];
    run(cp_as_nobody(place.path(), arguments).current_dir(place.path())).well();
    let mut expected = look(&path("src"), Closely::Plain);
    let mut copied = look(&path("closed/dst"), Closely::Plain);
    let top = Path::new("");
    assert!(expected.remove(top).is_some() && copied.remove(top).is_some(), "has its own mode");
    assert_alike(copied, expected, "without names on the disk");
    assert_eq!(names(&path("closed")), ["dst"]);
    mode("closed", 0o755);
}

#[test]
fn a_mount_point_can_be_copied_into() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir_all(path("around/disk")).unwrap();
    let mount = || is_root().then(|| Mount::new(&["-t", "tmpfs", "none"], &path("around/disk")));
    let Some(_disk) = mount().flatten() else { return skipped("root, and the right to mount") };
    plant(&path("src"));
    // The directory that contains it is another file system. Then, one below it that is as well.
    run(cp(["-rp", "--links-in-memory=0", "src/.", "around/disk"]).current_dir(place.path()))
        .well();
    let expected = look(&path("src"), Closely::Preserved);
    assert_alike(look(&path("around/disk"), Closely::Preserved), expected, "a mount point");
    assert_eq!(names(&path("around")), ["disk"]);
    let modified = |name: &str| fs::metadata(path(name)).unwrap().modified().unwrap();
    assert_eq!(modified("around/disk"), modified("src"), "its times are kept too");

    fs::create_dir_all(path("around/dst/1")).unwrap();
    let Some(_below) = Mount::new(&["-t", "tmpfs", "none"], &path("around/dst/1")) else {
        return skipped("the right to mount");
    };
    run(cp(["-rp", "--links-in-memory=0", "src/.", "around/dst"]).current_dir(place.path())).well();
    let content = |root: &str| -> Vec<_> {
        let kind = |(path, what): (PathBuf, String)| {
            (path, what.split(" one of ").next().map(str::to_owned))
        };
        look(&path(root), Closely::Preserved).into_iter().map(kind).collect()
    };
    assert_eq!(content("around/dst"), content("src"));
    assert_eq!(names(&path("around")), ["disk", "dst"]);
}

#[test]
fn ctrl_c_leaves_no_names_behind() {
    let place = place_for_many();
    let path = |name: &str| place.path().join(name);
    plant_pairs(&path("src"), 3000);
    let mut interrupted = 0;
    for (delay, signal) in
        [(0, Signal::INT), (10, Signal::TERM), (40, Signal::INT), (160, Signal::TERM)]
    {
        fs::create_dir(path("into")).unwrap();
        let arguments = ["-r", "--links-in-memory=0", "--jobs=8", "src", "into/dst"];
        let mut child = start(cp(arguments).current_dir(place.path()));
        wait_for_names_on_the_disk(&mut child, &path("into"));
        std::thread::sleep(Duration::from_millis(delay));
        kill_process(Pid::from_child(&child), signal).unwrap();
        let ended = wait(child);
        let expected = if signal == Signal::INT { 130 } else { 143 };
        assert!(ended.status == Some(expected) || delay > 0, "{ended:?}");
        interrupted += usize::from(ended.status == Some(expected));
        assert_eq!(ended.err, "");
        assert_eq!(names(&path("into")), ["dst"]);
        assert!(temporary_files(&path("into")).is_empty());
        fs::remove_dir_all(path("into")).unwrap();
    }
    assert!(interrupted > 0);
}

#[test]
fn names_that_cannot_be_removed_are_reported() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    if slow_file(&path("slow"), 2 << 30).is_none() {
        return skipped("2 GiB of room, and fallocate");
    }
    plant_pairs(&path("src"), 3);
    fs::create_dir(path("dst")).unwrap();
    let arguments = ["-r", "--links-in-memory=0", "--jobs=1", "src", "slow", "dst"];
    let mut child = start(cp(arguments).current_dir(place.path()));
    let kept = wait_for_names_on_the_disk(&mut child, &path("dst"));
    assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o7777, 0o700 & !crate::support::umask());
    // The slow one is begun, and so all that comes before it is done.
    let is_temporary = |name: &String| name.starts_with('.') && !name.ends_with(".links");
    let end = Instant::now() + BOUND;
    while !names(&path("dst")).iter().any(is_temporary) {
        assert!(Instant::now() < end, "not begun in {BOUND:?}");
    }
    assert_eq!(names(&kept).len(), 3);
    fs::rename(&kept, path("away")).unwrap();
    let ended = wait(child);
    let shown = kept.strip_prefix(place.path()).unwrap().display();
    let message = format!("deferring: cp: unlinkat {shown}: No such file or directory\n");
    let ended = ended.badly(1, &[&message]);
    assert!(ended.out.starts_with("copied 7 files and 3 directories"), "{ended:?}");
    assert!(names(&path("away")).is_empty(), "what is in it can be removed all the same");
}

#[test]
fn memory_stays_small_however_many_names_are_still_to_come() {
    const PAIRS: usize = 40_000;
    let place = place_for_many();
    let path = |name: &str| place.path().join(name);
    plant_pairs(&path("src"), PAIRS);
    let arguments = ["-r", "--links-in-memory=1000", "src", "dst"].map(OsStr::new);
    let (peak, ended) = peak_of(start(cp(arguments).current_dir(place.path())));
    ended.well();
    assert!(peak > 0 && peak < 64 << 10, "{peak} KiB");
    // With all of them in memory it is 13 MiB.
    assert!(peak < 10 << 10, "{peak} KiB");
    for entry in fs::read_dir(path("dst/a")).unwrap() {
        let entry = entry.unwrap();
        let (one, other) = (entry.metadata().unwrap(), path("dst/b").join(entry.file_name()));
        assert_eq!((one.ino(), one.nlink()), (fs::metadata(other).unwrap().ino(), 2));
    }
    assert_eq!(fs::read_dir(path("dst/a")).unwrap().count(), PAIRS);
    assert_eq!(names(place.path()), ["dst", "src"]);
}
