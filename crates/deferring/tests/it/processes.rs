//! A fork of a process that has a ring: P9.
//!
//! Each story runs in a process of its own, forks it, and lets the child try things. A fork of a
//! process with many threads could do next to nothing.

use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Duration;

use deferring::op::Openat2;
use deferring::{
    BufResult, CWD, CancelOutcome, Fd, Mode, OFlags, Pending, ResolveFlags, Ring, block_on,
};

use crate::support::{
    Graveyard, builder, drain, finish, in_a_fork, in_a_process_of_its_own, on_pool, pipe,
    poll_once, ring, run, sqpoll, this_test, turn_until,
};

#[test]
fn p9_every_call_of_a_forked_child_fails_with_an_error_that_says_why() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = ring();
        let (reader, mut writer) = pipe();
        let mut read = ring.read(&reader, vec![0; 8], 0);
        ring.submit().unwrap();
        let nop = ring.nop();
        let before = (ring.pending(), ring.stats());
        forked(|| {
            check(ring.submit());
            check(ring.wait(None));
            check(ring.wait(Some(Duration::ZERO)));
            check(ring.reap());
            check(ring.register_eventfd(&ring));
            check(ring.unregister_eventfd());
            check(ring.nop().try_take().expect("refused at once"));
            let BufResult(result, buf) = ring.read(&reader, vec![7; 3], 0).try_take().unwrap();
            check(result);
            assert_eq!(buf, [7; 3], "what the parent's kernel never saw comes back");
            assert_eq!((ring.pending(), ring.in_flight()), (Pending::default(), 0));
            assert!(ring.queue_depth() == 8 && !format!("{ring:?}").is_empty());
        });
        forked(|| {
            assert!(read.is_done() && nop.is_done(), "there is nothing to wait for");
            assert_eq!(read.cancel().outcome(), Some(CancelOutcome::Finished));
            check(nop.try_take().unwrap());
            assert!(nop.try_take().is_none(), "once");
            let polled = poll_once(&mut read, Waker::noop());
            let std::task::Poll::Ready(BufResult(result, buf)) = polled else {
                panic!("a handle that is never ready")
            };
            check(result);
            assert_eq!(buf, [], "the buffer is in the parent");
        });
        // Nothing of that has touched the parent's ring.
        assert_eq!((ring.pending(), ring.stats()), before);
        writer.write_all(b"hello").unwrap();
        let (n, buf) = finish(&ring, &read).into_inner().unwrap();
        assert_eq!(&buf[..n], b"hello");
        finish(&ring, &nop).unwrap();
    });
}

#[test]
fn p9_a_forked_child_steals_no_completion_and_sends_nothing() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = ring();
        let done: Vec<_> = (0..100).map(|_| ring.nop()).collect();
        ring.submit().unwrap();
        let queued: Vec<_> = (0..100).map(|_| ring.nop()).collect();
        forked(|| {
            check(ring.submit());
            check(ring.reap());
        });
        assert_eq!((ring.pending().queued, ring.pending().in_kernel), (100, 100));
        assert_eq!(ring.stats().sqes, 100);
        assert!(ring.wait(Some(Duration::ZERO)).unwrap(), "they are still there");
        drain(&ring);
        for nop in done.iter().chain(&queued) {
            nop.try_take().expect("reaped").unwrap();
        }
    });
}

#[test]
fn p9_a_forked_child_may_drop_everything_and_the_parents_results_are_exact() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = ring();
        let graveyard = Graveyard::default();
        let [(reader, mut writer), (other, _writer), (third, mut last)] = [pipe(), pipe(), pipe()];
        let read = ring.read(&reader, graveyard.buffer(), 0);
        let dropped = ring.read(&other, graveyard.buffer(), 0);
        ring.submit().unwrap();
        let queued = ring.read(&third, graveyard.buffer(), 0);
        // Each side has these in memory of its own, and takes them out there.
        let mut all = Some((ring, read, dropped, queued));
        forked(|| {
            let (ring, read, dropped, queued) = all.take().unwrap();
            drop(dropped);
            drop(read);
            queued.detach();
            drop(ring);
            assert_eq!(graveyard.freed(), 0, "the kernel writes into the parent's");
        });
        let (ring, read, dropped, queued) = all.take().unwrap();
        assert_eq!((ring.in_flight(), ring.pending().cancels), (3, 0), "nothing was cancelled");
        drop(dropped);
        drain_but_two(&ring);
        writer.write_all(b"x").unwrap();
        last.write_all(b"y").unwrap();
        let bytes = [read, queued].map(|read| finish(&ring, &read).unwrap().1.bytes()[0]);
        assert_eq!(bytes, *b"xy");
    });
}

#[test]
fn p9_a_forked_child_can_have_a_ring_of_its_own_and_so_can_its_child() {
    in_a_process_of_its_own(this_test!(), || {
        let parents = ring();
        let nop = parents.nop();
        forked(|| {
            let childs = ring();
            run(&childs, childs.nop()).unwrap();
            check(parents.submit());
            forked(|| {
                check(parents.submit());
                check(childs.submit());
                let grandchilds = ring();
                run(&grandchilds, grandchilds.nop()).unwrap();
            });
            run(&childs, childs.nop()).unwrap();
        });
        finish(&parents, &nop).unwrap();
    });
}

#[test]
fn p9_block_on_in_a_forked_child_gives_errors_and_never_hangs() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = ring();
        run(&ring, ring.nop()).unwrap();
        let (reader, _writer) = pipe();
        let read = ring.read(&reader, vec![0; 1], 0);
        ring.submit().unwrap();
        forked(|| {
            // A handle is ready, with the error.
            check(block_on(&ring, ring.nop()));
            check(block_on(&ring, async { ring.timeout(Duration::from_secs(3600)).await }));
        });
        forked(|| {
            // Anything else would have to turn the ring, which is the documented panic.
            let told = catch_unwind(AssertUnwindSafe(|| {
                block_on(&ring, std::future::pending::<()>());
            }));
            let panic = told.expect_err("it cannot end");
            let message = panic.downcast_ref::<String>().expect("a message");
            assert!(message.contains("belongs to the process that made it"), "{message}");
        });
        assert!(!read.is_done());
        assert_eq!(ring.in_flight(), 1);
    });
}

#[test]
fn p9_a_descriptor_that_is_shared_with_a_forked_child_is_closed_on_each_side_once() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = ring();
        let (reader, writer) = pipe();
        let mut writer = Some(Fd::from(writer));
        forked(|| drop(writer.take()));
        // The parent's is open still.
        let writer = writer.take().unwrap();
        assert_eq!(finish(&ring, &ring.write(&writer, "x", 0)).unwrap().0, 1);
        run(&ring, ring.close(&writer)).unwrap();
        let read = |n| finish(&ring, &ring.read(&reader, vec![0; n], 0)).unwrap().0;
        assert_eq!((read(8), read(8)), (1, 0), "the byte, then the end");
    });
}

#[test]
fn p9_a_ring_with_a_kernel_thread_stays_the_parents_too() {
    in_a_process_of_its_own(this_test!(), || {
        let idle = Duration::from_millis(1);
        let Some(builder) = sqpoll(idle) else { return };
        let mut ring = Some(builder.build().unwrap());
        let nop = ring.as_ref().unwrap().nop();
        forked(|| {
            let ring = ring.take().unwrap();
            check(ring.submit());
            check(ring.nop().try_take().unwrap());
        });
        let ring = ring.take().unwrap();
        finish(&ring, &nop).unwrap();
        finish(&ring, &ring.nop()).unwrap();
    });
}

#[test]
fn p9_every_descriptor_of_a_ring_and_of_its_ops_is_closed_when_another_program_starts() {
    in_a_process_of_its_own(this_test!(), || {
        on_pool(); // Made and gone.
        let before = descriptors();
        let dir = tempfile::tempdir().unwrap();
        let idle = Duration::from_millis(1);
        let modes = [builder(), builder().single_issuer(true), builder().defer_taskrun(true)];
        let rings: Vec<_> =
            modes.into_iter().chain(sqpoll(idle)).map(|one| one.build().unwrap()).collect();
        let (mut opened, mut files) = (Vec::new(), Vec::new());
        for (at, ring) in rings.iter().enumerate() {
            let path = dir.path().join(at.to_string());
            let open = |path, flags, mode| {
                run(ring, ring.openat2(CWD, path, flags, mode, ResolveFlags::empty())).unwrap()
            };
            let file = OFlags::CREATE | OFlags::RDWR;
            opened.push(open(path.as_path(), file, Mode::RUSR));
            opened.push(open(dir.path(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()));
            opened.push(open(dir.path(), OFlags::PATH, Mode::empty()));
            opened.push(run(ring, ring.queue(Openat2::new(CWD, "/dev/null"))).unwrap());
            let file = run(ring, deferring::fs::File::open(ring, "/dev/null")).unwrap();
            files.push(file);
        }
        let ours: Vec<_> = descriptors().into_iter().filter(|fd| !before.contains(fd)).collect();
        // Of each ring, its own and that of its bell; and what was opened.
        assert!(ours.len() >= rings.len() * 2 + opened.len() + files.len(), "{ours:?}");
        for fd in ours {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
            let what = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
            assert!(flags & libc::O_CLOEXEC != 0, "{} stays open in programs", what.display());
        }
    });
}

/// The numbers that are open, but for the one that looks.
fn descriptors() -> Vec<i32> {
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap();
    let mut numbers: Vec<i32> = numbers
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    numbers.retain(|number| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok());
    numbers
}

/// Tells a story in a fork, and panics if it panicked there.
#[track_caller]
fn forked(story: impl FnOnce()) {
    let status = in_a_fork(story);
    assert_eq!(status.exit_status(), Some(0), "the child ended with {status:?}");
}

/// It must be the error for a fork, with advice.
#[track_caller]
fn check<T: std::fmt::Debug>(result: io::Result<T>) {
    let error = result.expect_err("the child used its parent's ring");
    let message = error.to_string();
    assert!(message.contains("belongs to the process that made it"), "{message}");
    assert!(message.contains("Make a ring of its own"), "{message}");
}

/// Turns the ring until two ops are left in the kernel.
fn drain_but_two(ring: &Ring) {
    turn_until(ring, || {
        let pending = ring.pending();
        (pending.queued, pending.in_kernel, pending.cancels) == (0, 2, 0)
    });
}
