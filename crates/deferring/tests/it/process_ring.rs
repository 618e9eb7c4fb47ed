//! The ring of the process, for code that is not handed one.

use std::io::ErrorKind;
use std::thread;

use deferring::{RingError, fs};
use futures_executor::block_on;

use crate::support::{builder, in_a_process_of_its_own, in_time, this_test};

#[test]
fn functions_that_are_given_no_ring_use_the_ring_of_the_process_on_any_executor() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    block_on(in_time(async {
        fs::create_dir(path("dir")).await.unwrap();
        fs::write(path("dir/a"), "hello").await.unwrap();
        fs::rename(path("dir/a"), path("dir/b")).await.unwrap();
        fs::symlink("b", path("dir/link")).await.unwrap();
        assert_eq!(fs::read(path("dir/link")).await.unwrap(), b"hello");
        assert!(fs::symlink_metadata(path("dir/link")).await.unwrap().file_type().is_symlink());
        fs::hard_link(path("dir/b"), path("dir/c")).await.unwrap();
        fs::hard_link_force(path("dir/b"), path("dir/c")).await.unwrap();
        assert_eq!(fs::metadata(path("dir/c")).await.unwrap().nlink(), 2);
        let file = fs::open(path("dir/c")).await.unwrap();
        assert_eq!(file.metadata().await.unwrap().len(), 5);
        drop(fs::create(path("dir/c")).await.unwrap());
        assert_eq!(file.metadata().await.unwrap().len(), 0, "one file, cut");
        for name in ["dir/b", "dir/c", "dir/link"] {
            fs::remove_file(path(name)).await.unwrap();
        }
        fs::remove_dir(path("dir")).await.unwrap();
        let error = fs::read(path("dir/c")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }));
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn threads_that_ask_for_the_ring_of_the_process_at_once_get_one_ring() {
    in_a_process_of_its_own(this_test!(), || {
        let asking = [(); 8].map(|()| thread::spawn(|| deferring::ring().unwrap()));
        let rings = asking.map(|thread| thread.join().unwrap());
        assert!(rings.iter().all(|ring| std::ptr::eq(*ring, rings[0])));
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        let names = threads.map(|task| std::fs::read(task.unwrap().path().join("comm")).unwrap());
        assert_eq!(names.filter(|name| name == b"deferring\n").count(), 1);
    });
}

#[test]
fn the_ring_of_the_process_is_configured_once_before_it_is_used() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = builder().queue_depth(8).start_for_process().unwrap();
        assert!(std::ptr::eq(ring, deferring::ring().unwrap()));
        assert_eq!(deferring::ring().unwrap().queue_depth(), 8);
        let error = builder().start_for_process().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<RingError>()).unwrap();
        assert!(inner.advice().unwrap().contains("Start it once"));
    });
}
