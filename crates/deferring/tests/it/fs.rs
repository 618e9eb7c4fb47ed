//! Files by convenience: what `std::fs` does, through a ring.

use std::error::Error;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use deferring::fs::{File, OpenOptions};
use deferring::{BufResult, Fd, IoBuf, PathError, ResolveFlags, Ring, block_on};
use futures_util::{FutureExt as _, StreamExt as _};
use tempfile::{TempDir, tempdir};

use crate::support::{drain, pipe, ring};

struct Place {
    ring: Ring,
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { ring: ring(), dir: tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn run<F: IntoFuture>(&self, future: F) -> F::Output {
        block_on(&self.ring, future)
    }
}

#[test]
fn a_file_is_written_and_read_at_offsets() {
    let place = Place::new();
    let path = place.path("file");
    place.run(async {
        let file = OpenOptions::new().read(true).write(true).create_new(true);
        let file = file.open(&place.ring, &path).await.unwrap();
        file.write_all_at("world", 6).await.unwrap();
        file.write_all_at("hello ", 0).await.unwrap();
        let BufResult(n, buf) = file.read_at(Vec::with_capacity(5), 6).await;
        assert_eq!((n.unwrap(), buf), (5, b"world".to_vec()));
        let buf = file.read_exact_at(vec![0; 8].slice(..5), 0).await.unwrap().1;
        assert_eq!(&buf[..], b"hello");
        file.sync_data().await.unwrap();
        file.sync_all().await.unwrap();
        file.set_len(5).await.unwrap();
        assert_eq!(file.metadata().await.unwrap().len(), 5);
        file.close().await.unwrap();
    });
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
}

#[test]
fn a_file_that_ends_before_the_buffer_is_an_error_that_says_so() {
    let place = Place::new();
    std::fs::write(place.path("short"), "abc").unwrap();
    let BufResult(result, buf) = place.run(async {
        let file = File::open(&place.ring, place.path("short")).await.unwrap();
        file.read_exact_at(Vec::with_capacity(8), 0).await
    });
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("short"), "{error}");
    assert_eq!(buf, b"abc", "what there was is in the buffer");
}

#[test]
fn whole_files_are_read_and_written() {
    let place = Place::new();
    for len in [0, 1, 4096, 100_001] {
        let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let path = place.path("whole");
        let back = place.run(async {
            let written = place.ring.fs().write(&path, bytes.clone()).await.unwrap().1;
            assert_eq!(written, bytes, "the buffer comes back");
            place.ring.fs().read(&path).await.unwrap()
        });
        assert_eq!(back, bytes);
    }
}

#[test]
fn a_file_that_does_not_tell_its_length_is_read_to_its_end() {
    let place = Place::new();
    let read = place.run(place.ring.fs().read("/proc/self/mounts")).unwrap();
    assert_eq!(read, std::fs::read("/proc/self/mounts").unwrap());
}

#[test]
fn c40_metadata_says_what_std_says() {
    let place = Place::new();
    let (file, link) = (place.path("file"), place.path("link"));
    std::fs::write(&file, "hello").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("file", &link).unwrap();
    place.run(async {
        let theirs = std::fs::metadata(&link).unwrap();
        let ours = place.ring.fs().metadata(&link).await.unwrap();
        assert!(ours.is_file());
        assert_eq!((ours.len(), ours.mode()), (5, 0o640));
        assert_eq!((ours.ino(), ours.nlink()), (theirs.ino(), 1));
        assert_eq!((ours.uid(), ours.gid()), (theirs.uid(), theirs.gid()));
        assert_eq!(ours.modified().unwrap(), theirs.modified().unwrap());
        assert_eq!(ours.accessed().unwrap(), theirs.accessed().unwrap());
        let ours = place.ring.fs().symlink_metadata(&link).await.unwrap();
        assert!(ours.is_symlink());
        assert!(place.ring.fs().metadata(place.dir.path()).await.unwrap().is_dir());
    });
}

#[test]
fn names_are_made_changed_and_removed() {
    let place = Place::new();
    let ring = &place.ring;
    let path = |name| place.path(name);
    place.run(async {
        ring.fs().create_dir(path("dir")).await.unwrap();
        ring.fs().write(path("dir/a"), "a").await.unwrap();
        ring.fs().rename(path("dir/a"), path("dir/b")).await.unwrap();
        ring.fs().symlink("b", path("dir/link")).await.unwrap();
        assert_eq!(ring.fs().read(path("dir/link")).await.unwrap(), b"a");
        ring.fs().hard_link(path("dir/b"), path("dir/c")).await.unwrap();
        assert_eq!(ring.fs().metadata(path("dir/c")).await.unwrap().nlink(), 2);
        for name in ["dir/b", "dir/c", "dir/link"] {
            ring.fs().remove_file(path(name)).await.unwrap();
        }
        ring.fs().remove_dir(path("dir")).await.unwrap();
    });
    assert_eq!(std::fs::read_dir(place.dir.path()).unwrap().count(), 0);
}

#[test]
fn c37_a_forced_link_unlinks_first() {
    let place = Place::new();
    let (original, link) = (place.path("original"), place.path("link"));
    std::fs::write(&original, "new").unwrap();
    std::fs::write(&link, "old").unwrap();
    place.run(async {
        let error = place.ring.fs().hard_link(&original, &link).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        place.ring.fs().hard_link_force(&original, &link).await.unwrap();
    });
    assert_eq!(std::fs::read(&link).unwrap(), b"new");
    assert_eq!(std::fs::metadata(&link).unwrap().nlink(), 2);
}

#[test]
fn c37_a_forced_link_to_nothing_unlinks_nothing() {
    let place = Place::new();
    let link = place.path("link");
    std::fs::write(&link, "old").unwrap();
    let forced = place.ring.fs().hard_link_force(place.path("missing"), &link);
    assert_eq!(place.run(forced).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(std::fs::read(&link).unwrap(), b"old");
}

#[test]
fn options_open_from_a_directory_and_stay_beneath_it() {
    let place = Place::new();
    std::fs::write(place.path("inside"), "in").unwrap();
    let dir = Fd::from(std::fs::File::open(place.dir.path()).unwrap());
    let open = |path: &'static str| {
        OpenOptions::new()
            .read(true)
            .dir(&dir)
            .resolve(ResolveFlags::BENEATH)
            .open(&place.ring, path)
    };
    let inside = place.run(open("inside")).unwrap();
    assert_eq!(inside.path(), Path::new("inside"));
    let error = place.run(open("../..")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CrossesDevices);
}

#[test]
fn options_create_with_a_mode_and_append_at_the_end() {
    let place = Place::new();
    let path = place.path("log");
    place.run(async {
        for text in ["one ", "two"] {
            let log = OpenOptions::new().append(true).create(true).mode(0o600);
            let log = log.open(&place.ring, &path).await.unwrap();
            log.write_all_at(text, 0).await.unwrap();
        }
        let again = OpenOptions::new().write(true).create_new(true).open(&place.ring, &path).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    });
    assert_eq!(std::fs::read(&path).unwrap(), b"one two");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn c35_a_nul_in_a_path_is_not_found() {
    let place = Place::new();
    let error = place.run(File::open(&place.ring, "a\0b")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn an_error_carries_the_path_the_step_and_the_errno() {
    let place = Place::new();
    let path = place.path("missing");
    let error = place.run(File::open(&place.ring, &path)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let inner = error.get_ref().unwrap().downcast_ref::<PathError>().unwrap();
    assert_eq!((inner.step(), inner.path()), ("openat2", path.as_path()));
    assert_eq!(inner.raw_os_error(), Some(2));
    assert!(inner.source().is_some());
    assert_eq!(
        error.to_string(),
        format!("openat2 {}: No such file or directory (os error 2)", path.display())
    );
}

#[test]
fn an_error_of_a_call_with_two_paths_names_both() {
    let place = Place::new();
    let (from, to) = (place.path("missing"), place.path("new"));
    let link = place.run(place.ring.fs().hard_link(&from, &to)).unwrap_err();
    let rename = place.run(place.ring.fs().rename(&from, &to)).unwrap_err();
    for (error, step) in [(link, "linkat"), (rename, "renameat2")] {
        let inner = error.get_ref().unwrap().downcast_ref::<PathError>().unwrap();
        assert_eq!((inner.path(), inner.to()), (from.as_path(), Some(to.as_path())));
        let start = format!("{step} {} -> {}: No such file", from.display(), to.display());
        assert!(error.to_string().starts_with(&start), "{error}");
    }
}

#[test]
fn a_directory_cannot_be_read_and_the_buffer_comes_back() {
    let place = Place::new();
    let BufResult(result, buf) = place.run(async {
        let dir = File::open(&place.ring, place.dir.path()).await.unwrap();
        dir.read_at(vec![7; 3], 0).await
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(buf, [7; 3]);
}

#[test]
fn clones_of_a_file_read_at_once() {
    let place = Place::new();
    let bytes: Vec<u8> = (0..64u8).flat_map(|block| [block; 512]).collect();
    std::fs::write(place.path("blocks"), &bytes).unwrap();
    let blocks = place.run(async {
        let file = File::open(&place.ring, place.path("blocks")).await.unwrap();
        let reads = (0..64).map(|block| {
            let file = file.clone();
            async move { file.read_exact_at(vec![0; 512], block * 512).await.unwrap().1 }
        });
        futures_util::future::join_all(reads).await
    });
    assert_eq!(blocks.concat(), bytes);
}

#[test]
fn chunks_come_in_order_and_the_last_has_what_is_left() {
    let place = Place::new();
    let path = place.path("whole");
    let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, &bytes).unwrap();
    for (len, lens) in [(100_000, vec![100_000; 4]), (300_000, vec![300_000, 100_000])] {
        let chunks: Vec<_> = place.run(async {
            let file = File::open(&place.ring, &path).await.unwrap();
            file.chunks(len).map(Result::unwrap).collect().await
        });
        assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), lens);
        assert!(chunks.concat() == bytes);
    }
}

#[test]
fn chunks_are_filled_by_short_reads_and_read_one_ahead() {
    let place = Place::new();
    let (reader, mut writer) = pipe();
    let mut chunks = File::from_fd(&place.ring, reader, "a pipe").chunks(4);
    for part in ["ab", "c", "defgh"] {
        assert!(chunks.next().now_or_never().is_none());
        drain_into(&place.ring, &mut writer, part);
    }
    assert_eq!(place.run(chunks.next()).unwrap().unwrap(), b"abcd");
    assert_eq!(place.ring.in_flight(), 1, "the next is being read");
    drop(writer);
    assert_eq!(place.run(chunks.next()).unwrap().unwrap(), b"efgh");
    assert!(place.run(chunks.next()).is_none());
    assert!(place.run(chunks.next()).is_none(), "it stays so");
}

/// Gives a read that waits what it gets.
fn drain_into(ring: &Ring, writer: &mut std::fs::File, part: &str) {
    ring.submit().unwrap();
    writer.write_all(part.as_bytes()).unwrap();
    drain(ring);
}

#[test]
fn chunks_end_after_an_error_that_names_the_path() {
    let place = Place::new();
    place.run(async {
        let dir = File::open(&place.ring, place.dir.path()).await.unwrap();
        let mut chunks = dir.chunks(0);
        let error = chunks.next().await.unwrap().unwrap_err();
        let inner = error.get_ref().unwrap().downcast_ref::<PathError>().unwrap();
        assert_eq!((inner.step(), inner.path()), ("read", place.dir.path()));
        assert!(chunks.next().await.is_none());
    });
}
