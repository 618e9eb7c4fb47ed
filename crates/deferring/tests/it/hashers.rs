//! The hasher of `examples/`, under each driver: it prints what `sha256sum` does.
//!
//! What the drivers promise is told elsewhere; this is that they are enough for a program.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{bounded, example, fifo, skipped};

const DRIVERS: [&str; 6] = ["thread", "tokio", "smol", "block_on", "by_hand", "epoll"];

#[test]
fn the_hasher_prints_under_each_driver_what_sha256sum_prints() {
    if Command::new("sha256sum").arg("--version").output().is_err() {
        return skipped("sha256sum");
    }
    let dir = tempfile::tempdir().unwrap();
    plant(dir.path());
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let roots = [dir.path(), &ours];
    let files = regular_files(&roots);
    assert!(files.len() > 60, "{}", files.len());
    let expected = output("sha256sum", files);
    assert!(expected.status.success(), "{expected:?}");
    for driver in DRIVERS {
        let Some(program) = hasher(driver) else { continue };
        let said = output(program, roots);
        assert!(said.status.success(), "{driver}: {}", lossy(&said.stderr));
        assert_eq!(lossy(&said.stderr), "", "{driver}: no bar where there is no terminal");
        assert_eq!(lossy(&said.stdout), lossy(&expected.stdout), "{driver}");
        assert_eq!(said.stdout, expected.stdout, "{driver}: to the byte");
    }
}

#[test]
fn the_hasher_goes_on_past_what_it_cannot_read_and_says_so_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let [good, none] = ["good", "none"].map(|name| dir.path().join(name));
    fs::write(&good, "").unwrap();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for driver in DRIVERS {
        let Some(program) = hasher(driver) else { continue };
        let said = output(program, [&none, &good]);
        assert_eq!(said.status.code(), Some(1), "{driver}");
        assert_eq!(lossy(&said.stdout), format!("{empty}  {}\n", good.display()), "{driver}");
        let begin = format!("{}: No such file or directory", none.display());
        assert!(lossy(&said.stderr).starts_with(&begin), "{driver}: {}", lossy(&said.stderr));
    }
}

fn hasher(driver: &str) -> Option<PathBuf> {
    let name = format!("hash_{driver}");
    let program = example(&name);
    if program.is_none() {
        skipped(&format!("the example {name}, which `cargo test --all-features` builds"));
    }
    program
}

/// Sizes about the chunk that is read at once, names that need escapes, and what is no file.
fn plant(dir: &Path) {
    let noise: Vec<u8> =
        (0..3_000_000_u32).map(|at| at.wrapping_mul(0x9e37_79b9).to_le_bytes()[3]).collect();
    for len in [0, 1, 65_535, 65_536, 65_537, noise.len()] {
        fs::write(dir.join(format!("{len} bytes")), &noise[..len]).unwrap();
    }
    let below = dir.join("below");
    fs::create_dir(&below).unwrap();
    let names: [&[u8]; 5] = [b"new\nline", b"back\\slash", b"not utf-8 \xff", b" ", b"*star"];
    for (at, name) in names.iter().enumerate() {
        fs::write(below.join(OsStr::from_bytes(name)), &noise[..at * 1000]).unwrap();
    }
    fifo(dir.join("fifo"));
    std::os::unix::fs::symlink("below", dir.join("symlink")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("dangling")).unwrap();
}

fn regular_files(roots: &[&Path]) -> Vec<PathBuf> {
    let entries = roots.iter().flat_map(walkdir::WalkDir::new).map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    let mut files: Vec<_> = files.map(walkdir::DirEntry::into_path).collect();
    files.sort_by(|one, other| one.as_os_str().cmp(other.as_os_str()));
    files
}

fn output<A: Into<OsString>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> Output {
    let mut command = Command::new(program);
    command.args(arguments.into_iter().map(Into::into)).stdin(std::process::Stdio::null());
    bounded(move || command.output()).expect("starts")
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
