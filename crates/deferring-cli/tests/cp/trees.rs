//! Trees: what is in them is in their copies.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom, Timespec, Timestamps};

use crate::support::{
    Closely, cp, is_root, look, place, place_for_many, run, skipped, temporary_files,
};

/// Something of everything.
fn plant(root: &Path) {
    let path = |name: &str| root.join(name);
    fs::create_dir_all(path("full/of/directories")).unwrap();
    fs::create_dir_all(path("empty/directory")).unwrap();
    fs::write(path("empty/file"), "").unwrap();
    for len in [1, 4095, 4096, 4097, 262_143, 262_144, 262_145, 3_000_000] {
        let content: Vec<u8> =
            (0..len).map(|at: u32| at.to_le_bytes()[usize::from(at % 3 == 0)]).collect();
        fs::write(path(&format!("full/of/{len}")), content).unwrap();
    }
    for name in [&b"a\nb"[..], b"-rf", b"\xff\x80", b"*", b"'\"\\", &[b'n'; 255]] {
        fs::write(path("full").join(OsStr::from_bytes(name)), name).unwrap();
        fs::create_dir(path("full/of/directories").join(OsStr::from_bytes(name))).unwrap();
    }
    symlink("full/of/1", path("link")).unwrap();
    symlink("/nowhere/at/all", path("full/dangling")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\n"), path("full/odd")).unwrap();
    symlink("..", path("full/of/circle")).unwrap();
    for name in ["one", "full/two", "full/of/directories/three"] {
        fs::hard_link(path("full/of/4097"), path(name)).unwrap();
    }
    fs::hard_link(path("full/odd"), path("full/odd-too")).unwrap();
    for (name, mode) in [("one", 0o640), ("full/of/1", 0o755), ("full/of/4096", 0o400)] {
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(path("empty"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(path("full/of"), fs::Permissions::from_mode(0o750)).unwrap();
}

/// So that it can be removed by anybody.
fn uproot(root: &Path) {
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_copy_is_like_its_original_however_many_jobs() {
    let place = place();
    let src = place.path().join("src");
    plant(&src);
    let expected = look(&src, Closely::Plain);
    for jobs in ["1", "2", "64", "1024"] {
        let dst = place.path().join(jobs);
        let arguments =
            [OsStr::new("-r"), "--jobs".as_ref(), jobs.as_ref(), src.as_ref(), dst.as_ref()];
        run(&mut cp(arguments)).well();
        assert_eq!(look(&dst, Closely::Plain), expected, "{jobs} jobs");
        assert!(temporary_files(&dst).is_empty());
        uproot(&dst);
    }
    uproot(&src);
}

#[test]
fn permissions_are_those_of_cp_without_p() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("src")).unwrap();
    // Sticky directories stay sticky; what lends somebody's rights goes; the umask takes its part.
    let cases =
        [("a", 0o1777, 0o1750), ("b", 0o2775, 0o750), ("c", 0o555, 0o550), ("d", 0o070, 0o050)];
    for (name, mode, _) in cases {
        fs::create_dir(path("src").join(name)).unwrap();
        fs::write(path("src").join(name).join("file"), "").unwrap();
        let file = path("src").join(format!("{name}-file"));
        fs::write(&file, "").unwrap();
        let _ = fs::set_permissions(&file, fs::Permissions::from_mode(mode | 0o4400));
        fs::set_permissions(path("src").join(name), fs::Permissions::from_mode(mode | 0o500))
            .unwrap();
    }
    let script = "umask 027; exec \"$0\" cp -r src dst";
    let mut command = std::process::Command::new("sh");
    run(command.args(["-c", script, crate::support::PROGRAM]).current_dir(place.path())).well();
    let mode = |name: &str| fs::metadata(path("dst").join(name)).unwrap().mode() & 0o7777;
    for (name, original, expected) in cases {
        assert_eq!(mode(name), expected | 0o500, "{name}");
        assert_eq!(
            mode(&format!("{name}-file")),
            (original | 0o400) & 0o777 & !0o027,
            "{name}-file"
        );
        assert!(path("dst").join(name).join("file").exists());
        for tree in ["src", "dst"] {
            fs::set_permissions(path(tree).join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}

#[test]
fn p_keeps_modes_owners_and_times() {
    let place = place();
    let src = place.path().join("src");
    plant(&src);
    age(&src);
    let dst = place.path().join("dst");
    let expected = look(&src, Closely::Preserved);
    run(&mut cp([OsStr::new("-rp"), src.as_ref(), dst.as_ref()])).well();
    assert_eq!(look(&dst, Closely::Preserved), expected);
    // Once more, over what is there.
    uproot(&dst);
    run(cp(["-rp", "src/.", "dst"]).current_dir(place.path())).well();
    assert_eq!(look(&dst, Closely::Preserved), expected);
    uproot(&src);
    uproot(&dst);
}

/// Gives everything an old time of its own, and, if we may, another owner and set-id bits.
fn age(root: &Path) {
    let mut paths: Vec<_> = look(root, Closely::Plain).into_keys().collect();
    // Deepest first: a change inside changes the time of the directory.
    paths.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for (number, path) in (1..).zip(paths) {
        let full = root.join(path);
        if is_root() {
            std::os::unix::fs::lchown(&full, Some(1000 + number), Some(2000)).unwrap();
        }
        if !full.is_symlink() && full.is_file() && number % 3 == 0 {
            fs::set_permissions(&full, fs::Permissions::from_mode(0o6755)).unwrap();
        }
        let time = Timespec { tv_sec: 1_000_000_000 - i64::from(number), tv_nsec: 123_456_789 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, &full, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

#[test]
fn without_p_the_copy_is_new() {
    let place = place();
    let (src, dst) = (place.path().join("src"), place.path().join("dst"));
    fs::write(&src, "").unwrap();
    let old = SystemTime::now() - Duration::from_secs(10_000);
    File::open(&src).unwrap().set_modified(old).unwrap();
    run(&mut cp([&src, &dst])).well();
    assert!(fs::metadata(&dst).unwrap().modified().unwrap() > old + Duration::from_secs(5_000));
}

#[test]
fn holes_stay_holes_also_beyond_four_gibibytes() {
    const GIB: u64 = 1 << 30;
    let place = place();
    let (src, dst) = (place.path().join("src"), place.path().join("dst"));
    let file = File::options().read(true).write(true).create_new(true).open(&src).unwrap();
    let pieces = [
        (0, &b"at the start"[..]),
        (GIB + 5, b"odd"),
        (5 * GIB - 3, b"across"),
        (6 * GIB, b"late"),
    ];
    for (at, piece) in pieces {
        file.write_all_at(piece, at).unwrap();
    }
    file.set_len(7 * GIB).unwrap();
    if file.metadata().unwrap().blocks() * 512 > GIB {
        return skipped("a file system with holes");
    }
    run(&mut cp([&src, &dst])).well();
    let copy = File::open(&dst).unwrap();
    assert_eq!(copy.metadata().unwrap().len(), 7 * GIB);
    assert!(copy.metadata().unwrap().blocks() * 512 < 4 << 20, "holes are not filled");
    for (at, piece) in pieces {
        let mut read = vec![0; piece.len() + 1];
        copy.read_exact_at(&mut read, at).unwrap();
        assert_eq!(read, [piece, b"\0"].concat());
    }
    assert_same_data(&file, &copy);
    assert_same_data(&copy, &file);
}

/// Where one has data, the other says the same.
fn assert_same_data(one: &File, other: &File) {
    let mut end = 0;
    while let Ok(start) = rustix::fs::seek(one, SeekFrom::Data(end)) {
        end = rustix::fs::seek(one, SeekFrom::Hole(start)).unwrap();
        let read = |file: &File| {
            let mut buf = vec![0; usize::try_from(end - start).unwrap()];
            file.read_exact_at(&mut buf, start).map(|()| buf).unwrap()
        };
        assert!(read(one) == read(other), "they differ between {start} and {end}");
    }
}

#[test]
fn a_hole_at_the_end_and_a_file_of_nothing_but_a_hole_keep_their_length() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("src")).unwrap();
    for (name, data, len) in [("all", 0, 1), ("big", 0, 1 << 33), ("end", 10_000, 10_000_000)] {
        let file = File::create(path("src").join(name)).unwrap();
        file.write_all_at(&vec![7; data], 0).unwrap();
        file.set_len(len).unwrap();
    }
    run(cp(["-r", "src", "dst"]).current_dir(place.path())).well();
    for name in ["all", "big", "end"] {
        let stat = |tree: &str| fs::metadata(path(tree).join(name)).unwrap();
        assert_eq!(stat("dst").len(), stat("src").len(), "{name}");
        assert!(stat("dst").blocks() <= stat("src").blocks() + 8, "{name}");
    }
    let copy = fs::read(path("dst/end")).unwrap();
    assert!(
        copy[..10_000].iter().all(|byte| *byte == 7)
            && copy[10_000..].iter().all(|byte| *byte == 0)
    );
}

#[test]
fn a_tree_may_be_deeper_than_a_path_can_be_long() {
    const DEPTH: usize = 300;
    let name = "a-directory-with-a-long-name";
    let place = place();
    let open = |at: &OwnedFd, name: &str| {
        rustix::fs::openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    };
    let top = OwnedFd::from(File::open(place.path()).unwrap());
    let descend = |from: &str, make: bool| {
        let mut dir = open(&top, from).unwrap();
        for _ in 0..DEPTH {
            if make {
                rustix::fs::mkdirat(dir.as_fd(), name, Mode::RWXU).unwrap();
            }
            dir = open(&dir, name).unwrap();
        }
        let flags = OFlags::RDWR | if make { OFlags::CREATE } else { OFlags::empty() };
        File::from(rustix::fs::openat(&dir, "file", flags, Mode::RUSR).unwrap())
    };
    fs::create_dir(place.path().join("src")).unwrap();
    descend("src", true).write_all_at(b"deep", 0).unwrap();
    run(cp(["-rp", "src", "dst"]).current_dir(place.path())).well();
    let flags = OFlags::RDONLY;
    let mut dir = open(&top, "dst").unwrap();
    for _ in 0..DEPTH {
        dir = open(&dir, name).unwrap();
    }
    let copy = File::from(rustix::fs::openat(&dir, "file", flags, Mode::empty()).unwrap());
    let mut read = [0; 4];
    copy.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(&read, b"deep");
}

#[test]
fn directories_side_by_side_and_below_each_other_are_all_copied() {
    let place = place_for_many();
    let src = place.path().join("src");
    for one in 0..40 {
        for two in 0..20 {
            let dir = src.join(format!("{one}/{two}/below/it"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("file"), format!("{one} {two}")).unwrap();
        }
    }
    for jobs in ["1", "3", "200"] {
        let dst = place.path().join(jobs);
        let mut command = cp([&src, &dst]);
        run(command.args(["-r", "--jobs", jobs])).well();
        assert_eq!(look(&dst, Closely::Plain), look(&src, Closely::Plain), "{jobs} jobs");
    }
}

#[test]
fn special_files_are_skipped_with_a_word() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("src")).unwrap();
    fs::write(path("src/file"), "content").unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(path("src/fifo")).status().unwrap();
    assert!(fifo.success());
    let _socket = std::os::unix::net::UnixListener::bind(path("src/socket")).unwrap();
    let ended = run(cp(["-r", "src", "dst", "--json"]).current_dir(place.path()));
    let ended = ended.badly(0, &["skipped src/fifo: a fifo", "skipped src/socket: a socket"]);
    assert!(ended.out.contains(r#""files":1,"#) && ended.out.contains(r#""errors":0,"#));
    assert_eq!(fs::read_dir(path("dst")).unwrap().count(), 1);
    let ended = run(cp(["/dev/null", "null"]).current_dir(place.path()));
    ended.badly(0, &["skipped /dev/null: a character device"]);
    assert!(!path("null").exists());
}
