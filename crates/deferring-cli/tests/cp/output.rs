//! What is said, and what it takes: the last line, JSON, the bar of a terminal, memory.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{
    Closely, NOBODY, PROGRAM, backend, cp, cp_as_nobody, is_root, look, peak_of, place,
    place_for_many, run, skipped, slow_file, start, wait,
};

/// Many directories, and many files in some of them.
fn plant_many(root: &Path, files: usize) {
    for number in 0..files {
        // Half of them in one directory.
        let dir = if number % 2 == 0 {
            "wide".to_owned()
        } else {
            format!("{}/{}", number % 7, number % 500)
        };
        let dir = root.join(dir);
        if !dir.exists() {
            fs::create_dir_all(&dir).unwrap();
        }
        let len = if number % 8 == 0 { number % 5000 } else { 0 };
        fs::write(dir.join(format!("file-{number}")), vec![b'x'; len]).unwrap();
    }
}

#[test]
fn the_last_line_says_how_much_and_what_it_took() {
    let place = place_for_many();
    let path = |name: &str| place.path().join(name);
    plant_many(&path("src"), 2000);
    let ended = run(cp(["-r", "src", "dst"]).current_dir(place.path())).well();
    let words: Vec<&str> = ended.out.split_whitespace().collect();
    assert_eq!(words[..4], ["copied", "2000", "files", "and"], "{ended:?}");
    let by = format!(" ring ops by {}", if backend() == "pool" { "a pool" } else { "io_uring" });
    assert!(ended.out.contains(&by) && ended.out.ends_with("; 0 errors\n"), "{ended:?}");
    assert_eq!(ended.out.contains(" io_uring_enter calls; "), backend() == "io_uring");
}

#[test]
fn json_is_one_object_with_every_number() {
    let place = place_for_many();
    let path = |name: &str| place.path().join(name);
    plant_many(&path("src"), 2000);
    let ended = run(cp(["-r", "--json", "src", "dst"]).current_dir(place.path())).well();
    let object: Value = serde_json::from_str(&ended.out).expect("JSON");
    let mut keys: Vec<&String> = object.as_object().expect("an object").keys().collect();
    keys.sort();
    assert_eq!(keys, ["backend", "bytes", "enters", "errors", "files", "ops", "seconds"]);
    let number = |key: &str| object[key].as_u64().unwrap_or_else(|| panic!("{key} in {object}"));
    let bytes: usize = (0..2000).step_by(8).map(|number| number % 5000).sum();
    assert_eq!((number("files"), number("bytes"), number("errors")), (2000, bytes as u64, 0));
    assert!(number("enters") * 2 < number("ops"), "far fewer calls than ops: {object}");
    assert_eq!(object["backend"], backend());
    assert!(object["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
}

#[test]
fn a_failure_keeps_json_whole() {
    let place = place();
    fs::create_dir_all(place.path().join("dst/src/a")).unwrap();
    fs::create_dir(place.path().join("src")).unwrap();
    fs::write(place.path().join("src/a"), "a").unwrap();
    let ended = run(cp(["-r", "--json", "src", "dst"]).current_dir(place.path()));
    let ended = ended.badly(1, &["renameat2 dst/src/a: Is a directory"]);
    let object: Value = serde_json::from_str(&ended.out).expect("JSON");
    assert_eq!((&object["errors"], &object["files"]), (&Value::from(1), &Value::from(0)));
}

#[test]
fn a_name_in_a_message_cannot_play_with_the_terminal() {
    let place = place();
    let ended = run(cp(["a\x1b[2J\nb", "c"]).current_dir(place.path()));
    ended.badly(2, &[r#"statx "a\u{1b}[2J\nb": No such file or directory"#]);
}

#[test]
fn nobody_reading_does_not_change_the_exit_status() {
    let place = place();
    fs::write(place.path().join("a"), "a").unwrap();
    let script = "{ \"$0\" cp a b; echo $? >status; } | true";
    let mut command = Command::new("bash");
    let status = command.args(["-c", script, PROGRAM]).current_dir(place.path()).status();
    assert!(status.unwrap().success());
    assert_eq!(fs::read_to_string(place.path().join("status")).unwrap(), "0\n");
}

#[test]
fn a_terminal_has_a_bar_with_bytes_files_rate_and_time_left() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("src")).unwrap();
    if Command::new("script").arg("--version").output().is_err() {
        return skipped("script(1)");
    }
    if slow_file(&path("src/slow"), 512 << 20).is_none() {
        return skipped("512 MiB of room, and fallocate");
    }
    let line = format!("stty cols 120; '{PROGRAM}' cp -r src dst");
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").current_dir(place.path());
    let ended = wait(start(&mut script));
    assert_eq!(ended.status, Some(0), "{ended:?}");
    for part in [" MiB of 512.00 MiB", "of 1 files", "/s", " left"] {
        assert!(ended.out.contains(part), "{part:?} is not in {ended:?}");
    }
    let last = ended.out.lines().last().expect("a last line");
    assert!(last.contains("copied 1 files and 1 directories, 512.00 MiB"), "{last:?}");
}

#[test]
fn memory_stays_small_however_large_the_tree() {
    let place = place_for_many();
    let path = |name: &str| place.path().join(name);
    plant_many(&path("src"), 20_000);
    // And large files enough that every buffer is used.
    for number in 0..40 {
        fs::write(path(&format!("src/large-{number}")), vec![1; 1 << 20]).unwrap();
    }
    for jobs in ["64", "1024"] {
        let arguments = ["-r", "--jobs", jobs, "src", jobs];
        let child = start(cp(arguments).current_dir(place.path()));
        let (peak, ended) = peak_of(child);
        ended.well();
        assert!(peak < 64 << 10, "{peak} KiB with {jobs} jobs");
        assert!(peak > 0);
    }
    assert_eq!(look(&path("src"), Closely::Plain), look(&path("64"), Closely::Plain));
}

#[test]
fn without_locked_memory_it_copies_all_the_same() {
    let place = place();
    fs::write(place.path().join("a"), "a").unwrap();
    fs::create_dir(place.path().join("dst")).unwrap();
    fs::set_permissions(place.path().join("dst"), fs::Permissions::from_mode(0o777)).unwrap();
    // Some kernels charge rings to this limit, root's to none: then the pool copies.
    let nobody = cp_as_nobody(place.path(), ["a", "dst"]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -l 0; exec \"$0\" \"$@\""]).arg(nobody.get_program());
    command.args(nobody.get_args()).current_dir(place.path());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    run(&mut command).well();
    assert_eq!(fs::read_to_string(place.path().join("dst/a")).unwrap(), "a");
}

#[test]
fn help_says_what_the_exit_status_means() {
    let ended = run(&mut cp([OsStr::new("--help")])).out;
    for word in ["SRC", "DST", "--recursive", "--preserve", "--jobs", "--json", "Exit status: 0"] {
        assert!(ended.contains(word), "{word} in {ended}");
    }
}
