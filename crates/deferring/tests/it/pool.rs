//! What only the pool has: threads of the ring's own, and how many.
//!
//! That it does what io_uring does is seen by the other stories, where io_uring is refused:
//! `cargo xtask refused`.

use std::io::Write as _;
use std::time::Duration;

use deferring::op::Timeout;
use deferring::{
    AtFlags, Builder, CWD, CancelOutcome, Clock, Fd, Handle, PollFlags, Reason, Ring, StatxFlags,
    leaked_ops,
};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::support::{
    BOUND, OpenInWorker, becomes_readable, both_ways, drain, errno, fifo, finish,
    in_a_process_of_its_own, open_descriptors, pipe, run, skipped, this_test, turn_until, until,
};

fn builder() -> Builder {
    Ring::builder().pool_only()
}

/// How many threads this process has that make calls for a pool, and that wait for one.
fn threads() -> [usize; 2] {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map_while(Result::ok);
    let names = tasks.flat_map(|task| std::fs::read_to_string(task.path().join("comm")));
    let names: Vec<_> = names.collect();
    ["deferring-pool", "deferring-poll"]
        .map(|name| names.iter().filter(|found| found.trim() == name).count())
}

#[test]
fn who_asks_for_the_pool_has_it_and_the_ring_says_so() {
    let ring = builder().build().unwrap();
    assert_eq!(ring.backend().reason(), Some(&Reason::Asked));
    assert_eq!(ring.backend().to_string(), "pool (asked for)");
}

#[test]
fn there_are_no_more_threads_than_the_builder_allows() {
    in_a_process_of_its_own(this_test!(), || {
        const NEVER: Duration = Duration::from_secs(3600);
        let dir = tempfile::tempdir().unwrap();
        let fifo = fifo(dir.path().join("fifo"));
        let ring = builder().pool_threads_max(2).stuck_after(NEVER).build().unwrap();
        let opens: Vec<_> = (0..20).map(|_| ring.queue(OpenInWorker::new(&fifo))).collect();
        let stats = [(); 20].map(|()| ring.statx(CWD, "/", AtFlags::empty(), StatxFlags::SIZE));
        ring.submit().unwrap();
        assert!(threads()[0] <= 2 && threads()[1] <= 1, "{:?}", threads());
        let _peer = both_ways(&fifo);
        drain(&ring);
        assert!(threads()[0] <= 2 && threads()[1] <= 1, "{:?}", threads());
        opens.iter().for_each(|open| drop(open.try_take().unwrap().unwrap()));
        stats.iter().for_each(|stat| assert!(stat.try_take().unwrap().is_ok()));
    });
}

#[test]
fn where_all_threads_are_blocked_an_op_says_that_the_ring_is_saturated() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path().join("fifo"));
    let ring = builder().pool_threads_max(1).build().unwrap();
    let open = ring.queue(OpenInWorker::new(&fifo));
    ring.submit().unwrap();
    let stat = ring.statx(CWD, "/", AtFlags::empty(), StatxFlags::SIZE);
    let error = finish(&ring, &stat).unwrap_err();
    assert!(error.to_string().contains("saturated"), "{error}");
    let _peer = both_ways(&fifo);
    finish(&ring, &open).unwrap();
}

#[test]
fn where_all_threads_are_blocked_what_does_not_wait_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path().join("fifo"));
    let ring = builder().pool_threads_max(1).build().unwrap();
    let open = ring.queue(OpenInWorker::new(&fifo));
    ring.submit().unwrap();
    let (reader, mut writer) = pipe();
    let waits = ring.read(&reader, vec![0; 4], 0);
    ring.submit().unwrap();
    writer.write_all(b"text").unwrap();
    assert_eq!(finish(&ring, &waits).unwrap().0, 4);
    writer.write_all(b"ready").unwrap();
    assert_eq!(finish(&ring, &ring.read(&reader, vec![0; 5], 0)).unwrap().0, 5);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let ours = Fd::from(std::os::fd::OwnedFd::from(ours));
    assert_eq!(finish(&ring, &ring.write(&ours, b"text".to_vec(), 0)).unwrap().0, 4);
    drop(theirs);
    let broken = finish(&ring, &ring.write(&ours, b"text".to_vec(), 0)).0;
    assert_eq!(errno(&broken), Some(libc::EPIPE), "and no signal");
    assert!(!open.is_done());
    let _peer = both_ways(&fifo);
    finish(&ring, &open).unwrap();
}

#[test]
fn without_a_thread_the_build_is_an_error_that_says_what_to_raise() {
    // The ring's alarm was refused at once, and set again, for as long as there was none.
    in_a_process_of_its_own(this_test!(), || {
        // SAFETY: no memory is involved; root has no such limit.
        if unsafe { libc::setuid(54_324) } != 0 {
            return skipped("root, to become an ordinary user");
        }
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        setrlimit(Resource::Nproc, none).unwrap();
        let error = builder().build().map(drop).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
        assert!(error.to_string().contains("ulimit -u"), "{error}");
    });
}

#[test]
fn a_large_read_waits_without_a_thread_and_can_be_cancelled() {
    const LEN: usize = 4 << 20;
    let ring = builder().build().unwrap();
    let (reader, mut writer) = pipe();
    let read = ring.read(&reader, vec![0; LEN], 0);
    ring.submit().unwrap();
    assert_eq!(run(&ring, read.cancel()), CancelOutcome::Cancelled);
    assert_eq!(errno(&finish(&ring, &read).0), Some(libc::ECANCELED));
    let read = ring.read(&reader, vec![0; LEN], 0);
    ring.submit().unwrap();
    writer.write_all(b"text").unwrap();
    assert_eq!(finish(&ring, &read).unwrap().0, 4);
}

#[test]
fn a_crowd_of_timeouts_is_cancelled_the_last_first() {
    // Each cancel looked through all of them: that took 0.6 s, and 3.3 s for twice as many.
    const CROWD: u64 = 20_000;
    let ring = builder().build().unwrap();
    let clocks = [Clock::Monotonic, Clock::Boottime, Clock::Realtime].into_iter().cycle();
    let timeouts: Vec<_> = (0..CROWD)
        .zip(clocks)
        .map(|(n, clock)| ring.queue(Timeout::after(Duration::from_secs(3600 + n)).clock(clock)))
        .collect();
    // One of them stays, as do those that wait for a descriptor.
    let (reader, mut writer) = pipe();
    let (poll, read) = (ring.poll(&reader, PollFlags::IN), ring.read(&reader, vec![0; 4], 0));
    ring.submit().unwrap();
    assert_eq!(ring.pending().in_kernel, timeouts.len() + 2);
    let (stays, go) = timeouts.split_first().unwrap();
    for timeout in go.iter().rev() {
        let _asked = timeout.cancel();
    }
    turn_until(&ring, || go.iter().all(Handle::is_done) && ring.pending().cancels == 0);
    for timeout in go {
        assert_eq!(errno(&timeout.try_take().unwrap()), Some(libc::ECANCELED));
    }
    assert!(!stays.is_done() && !poll.is_done() && !read.is_done());
    // What has been answered is found by nobody, and what waits still is.
    assert_eq!(run(&ring, stays.cancel()), CancelOutcome::Cancelled);
    writer.write_all(b"text").unwrap();
    assert!(finish(&ring, &poll).unwrap().contains(PollFlags::IN));
    assert_eq!(finish(&ring, &read).unwrap().0, 4);
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn the_rings_descriptor_is_silent_when_the_rings_own_was_all_there_was() {
    // A wait took it, and left the descriptor readable: a loop that watches that went round and
    // round.
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path().join("fifo"));
    let ring = builder().stuck_after(Duration::from_millis(50)).build().unwrap();
    let open = ring.queue(OpenInWorker::new(&fifo));
    ring.submit().unwrap();
    assert!(becomes_readable(&ring, BOUND), "a tick");
    until("it is found to be stuck, and all is quiet", || {
        assert!(!ring.wait(Some(Duration::ZERO)).unwrap());
        !becomes_readable(&ring, Duration::from_millis(200))
    });
    let _peer = both_ways(&fifo);
    finish(&ring, &open).unwrap();
}

#[test]
fn a_ring_that_ends_leaves_no_thread_and_no_descriptor() {
    in_a_process_of_its_own(this_test!(), || {
        let (reader, _writer) = pipe();
        let before = open_descriptors();
        for _ in 0..20 {
            let ring = builder().build().unwrap();
            let read = ring.read(&reader, vec![0; 1], 0);
            let stat = ring.statx(CWD, "/", AtFlags::empty(), StatxFlags::SIZE);
            ring.submit().unwrap();
            turn_until(&ring, || stat.is_done());
            drop((stat, read, ring));
            assert_eq!(open_descriptors(), before);
        }
        // They have let go of all they had; the exit of the last may take a moment.
        until("the last thread has ended", || threads() == [0, 0]);
        assert_eq!(leaked_ops(), 0);
    });
}
