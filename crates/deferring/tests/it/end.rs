//! The end of a ring with ops out: C47, C48, and what outlives it (P1, P3).
//!
//! What can never be given back is counted by the process, so those stories have one of their own.
//! A kernel that does not let go is played by a seccomp filter on the dropping thread.

use std::future::Future as _;
use std::io;
use std::io::Write as _;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use deferring::op::Op;
use deferring::{
    BufResult, CancelOutcome, Handle, PollFlags, Ring, RingError, block_on, leaked_ops,
};

use crate::support::{
    Count, Graveyard, Hangs, OpenInWorker, Refusal, Told, bounded, builder, check_interrupted,
    drain, errno, fifo, has_io_uring, in_a_process_of_its_own, lets_go, open_descriptors, pipe,
    poll_once, refused, ring, run, skipped, this_test,
};

#[test]
fn c47_the_end_cancels_what_is_out_and_every_handle_has_its_result() {
    bounded(|| {
        let ring = ring();
        let (reader, _writer) = pipe();
        let nop = ring.nop();
        let read = ring.read(&reader, vec![7; 3], 0);
        let poll = ring.poll(&reader, PollFlags::IN);
        let timeout = ring.timeout(Duration::from_secs(3600));
        ring.submit().unwrap();
        let queued = ring.read(&reader, vec![8; 3], 0);
        drop(ring);

        nop.try_take().expect("ended").unwrap();
        assert_eq!(errno(&poll.try_take().expect("ended")), Some(libc::ECANCELED));
        assert_eq!(errno(&timeout.try_take().expect("ended")), Some(libc::ECANCELED));
        for (read, bytes) in [(read, [7; 3]), (queued, [8; 3])] {
            let BufResult(result, buf) = read.try_take().expect("ended");
            assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), bytes.to_vec()));
            assert!(read.try_take().is_none(), "once");
        }
        assert!(reader.try_into_owned().is_ok(), "no op uses it");
    });
}

#[test]
fn c47_who_awaits_is_woken_by_the_end_and_once() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let (count, waker) = Count::new();
    let mut in_kernel = ring.read(&reader, vec![0; 1], 0);
    assert!(poll_once(&mut in_kernel, &waker).is_pending());
    ring.submit().unwrap();
    let mut queued = ring.nop();
    assert!(poll_once(&mut queued, &waker).is_pending());
    drop(ring);
    assert_eq!(count.get(), 2);
    assert!(poll_once(&mut in_kernel, &waker).is_ready());
    assert!(poll_once(&mut queued, &waker).is_ready());
}

#[test]
fn c47_a_clone_keeps_the_ring_and_a_handle_does_not() {
    let ring = ring();
    let clone = ring.clone();
    let (first, second) = (ring.nop(), ring.nop());
    drop(ring);
    assert!(!first.is_done());
    drain(&clone);
    first.try_take().expect("reaped").unwrap();
    drop(clone);
    second.try_take().expect("reaped before the end").unwrap();
}

#[test]
fn c47_an_op_that_blocks_a_worker_is_interrupted() {
    bounded(|| {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
        let ring = ring();
        let open = ring.queue(OpenInWorker::new(&fifo));
        ring.submit().unwrap();
        let _peer = lets_go(&fifo);
        drop(ring);
        check_interrupted(&open.try_take().expect("ended"));
    });
}

#[test]
fn c47_detached_ops_end_with_the_ring_and_free_what_they_hold() {
    let ring = ring();
    let graveyard = Graveyard::default();
    let (reader, _writer) = pipe();
    ring.read(&reader, graveyard.buffer(), 0).detach();
    ring.submit().unwrap();
    ring.read(&reader, graveyard.buffer(), 0).detach();
    drop(ring);
    assert_eq!(graveyard.freed(), 2);
    graveyard.check_undisturbed();
    assert!(reader.try_into_owned().is_ok(), "no op uses it");
}

#[test]
fn c47_after_the_end_nothing_can_be_queued_and_the_error_says_why() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let poll = ring.poll(&reader, PollFlags::IN);
    ring.submit().unwrap();
    drop(ring);
    let update = poll.update(PollFlags::OUT).try_take().expect("refused at once");
    let error = update.expect_err("there is no ring");
    assert!(error.to_string().contains("the ring was dropped"), "{error}");
    assert_eq!(poll.cancel().outcome(), Some(CancelOutcome::Cancelled), "by the end");
}

#[test]
fn c47_a_ring_that_ends_leaves_no_descriptor_and_nothing_leaked() {
    in_a_process_of_its_own(this_test!(), || {
        let (reader, _writer) = pipe();
        let before = open_descriptors();
        for _ in 0..50 {
            let ring = ring();
            let _reads: Vec<_> = (0..20).map(|_| ring.read(&reader, vec![0; 8], 0)).collect();
            run(&ring, ring.nop()).unwrap();
        }
        assert_eq!((open_descriptors(), leaked_ops()), (before, 0));
    });
}

#[test]
fn c47_the_end_waits_until_the_deadline_and_then_leaks_and_counts() {
    in_a_process_of_its_own(this_test!(), || {
        let time = Duration::from_millis(50);
        let ring = builder().drain_timeout(time).build().unwrap();
        let graveyard = Graveyard::default();
        let pipes = [pipe(), pipe(), pipe()];
        let (_dir, fifo) = place();
        let hangs = |(reader, _): &_| ring.queue(Hangs::new(reader, &fifo, graveyard.buffer()));
        let [kept, dropped, detached] = pipes.each_ref().map(hangs);
        let finished = ring.nop();
        ring.submit().unwrap();
        Hangs::until_stuck(3);
        let queued = ring.read(&pipes[0].0, graveyard.buffer(), 0);
        drop(dropped);
        detached.detach();
        // The kernel takes no SQE any more, so that the cancels achieve nothing.
        let start = Instant::now();
        refused(libc::SYS_io_uring_enter, Refusal::TakesNothing, || drop(ring));
        assert!(start.elapsed() >= time, "it gave up after {:?}", start.elapsed());
        assert_eq!(leaked_ops(), 3);

        finished.try_take().expect("reaped").unwrap();
        let BufResult(result, buf) = queued.try_take().expect("never submitted");
        assert_eq!((errno(&result), buf.is_stand_in()), (Some(libc::ECANCELED), false));
        check_lost(&kept);
        drop(buf);
        assert_eq!(graveyard.freed(), 1, "the one that the kernel never saw");
        assert_eq!(leaked_ops(), 3, "each is counted once");
    });
}

#[test]
fn c47_a_drain_timeout_without_end_is_allowed() {
    bounded(|| {
        let ring = builder().drain_timeout(Duration::MAX).build().unwrap();
        let (reader, _writer) = pipe();
        let read = ring.read(&reader, vec![0; 1], 0);
        ring.submit().unwrap();
        drop(ring);
        assert_eq!(errno(&read.try_take().expect("ended").0), Some(libc::ECANCELED));
    });
}

#[test]
fn c47_the_end_does_not_panic_when_a_waker_does_and_the_kernel_refuses() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = ring();
        let (reader, _writer) = pipe();
        let mut nop = ring.nop();
        assert!(poll_once(&mut nop, &Waker::from(std::sync::Arc::new(Panics))).is_pending());
        let read = ring.read(&reader, vec![0; 1], 0);
        ring.submit().unwrap();
        // The nop has ended, unseen; the cancel of the read meets a kernel without memory.
        let refusal = Refusal::Fails(libc::EAGAIN);
        let told = refused(libc::SYS_io_uring_enter, refusal, || {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(ring))).is_ok()
        });
        assert!(told, "the drop of a ring panicked");
        nop.try_take().expect("reaped").unwrap();
        assert!(read.is_done());
    });
}

#[test]
fn c47_a_ring_dropped_while_a_panic_unwinds_ends_too() {
    let (reader, _writer) = pipe();
    let (give, given) = std::sync::mpsc::channel();
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let ring = ring();
        give.send(ring.read(&reader, vec![7; 3], 0)).unwrap();
        ring.submit().unwrap();
        panic!("on the way out");
    }));
    assert!(told.is_err());
    let BufResult(result, buf) = given.recv().unwrap().try_take().expect("ended");
    assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![7; 3]));
}

#[test]
fn c48_buffers_of_a_ring_that_is_forgotten_are_never_freed_under_the_kernel() {
    let graveyard = Graveyard::default();
    let (reader, mut writer) = pipe();
    let ring = ring();
    let read = ring.read(&reader, graveyard.buffer(), 0);
    ring.submit().unwrap();
    forget(ring);
    drop(read);
    drop(reader);
    writer.write_all(b"x").expect("the op keeps the reading end open");
    assert_eq!(graveyard.freed(), 0);
}

#[test]
fn c48_buffers_that_a_ring_leaks_are_never_freed_either() {
    in_a_process_of_its_own(this_test!(), || {
        let graveyard = Graveyard::default();
        const READS: usize = 30;
        let (mut readers, mut writers): (Vec<_>, Vec<_>) = (0..READS).map(|_| pipe()).unzip();
        let ring = builder().drain_timeout(Duration::ZERO).build().unwrap();
        let (_dir, fifo) = place();
        let read = |reader| ring.queue(Hangs::new(reader, &fifo, graveyard.buffer()));
        let reads: Vec<_> = readers.iter().map(read).collect();
        ring.submit().unwrap();
        Hangs::until_stuck(READS);
        refused(libc::SYS_io_uring_enter, Refusal::TakesNothing, || drop(ring));
        assert_eq!(leaked_ops(), READS as u64);
        reads[..READS / 2].iter().for_each(check_lost);
        drop(reads);
        readers.clear();
        let _peer = lets_go(&fifo);
        // The ring's descriptor is closed, which is no barrier; a write finds readers or none.
        for writer in &mut writers {
            let _ = writer.write(&[1]);
        }
        assert_eq!(graveyard.freed(), 0);
        graveyard.check_undisturbed();
    });
}

#[test]
fn p1_the_end_waits_for_direct_reads_that_cannot_be_cancelled() {
    use std::os::unix::fs::OpenOptionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    std::fs::write(&path, vec![0x11; 4096 * 256]).unwrap();
    let direct = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    let Ok(direct) = direct else {
        return skipped("a temporary directory with O_DIRECT");
    };
    let graveyard = Graveyard::default();
    let ring = ring();
    let direct = direct.into();
    let reads: Vec<_> =
        (0..256).map(|page| ring.read(&direct, graveyard.buffer(), page * 4096)).collect();
    ring.submit().unwrap();
    drop(ring);
    for read in reads {
        let BufResult(result, buf) = read.try_take().expect("ended");
        match result {
            Ok(n) => assert!(n == 4096 && buf.bytes().iter().all(|&byte| byte == 0x11)),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ECANCELED)),
        }
    }
    assert_eq!(graveyard.freed(), 256);
    graveyard.check_undisturbed();
}

#[test]
fn p3_a_handle_whose_ring_went_with_the_op_in_the_kernel_says_so_once() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = builder().drain_timeout(Duration::ZERO).build().unwrap();
        let graveyard = Graveyard::default();
        let pipes = [pipe(), pipe(), pipe(), pipe()];
        let (_dir, fifo) = place();
        let (count, waker) = Count::new();
        let hangs = |(reader, _): &_| ring.queue(Hangs::new(reader, &fifo, graveyard.buffer()));
        let [taken, mut awaited, cancelled, _untouched] = pipes.each_ref().map(hangs);
        assert!(poll_once(&mut awaited, &waker).is_pending());
        ring.submit().unwrap();
        Hangs::until_stuck(4);
        let mut cancel = cancelled.cancel();
        assert!(poll_once(&mut cancel, &waker).is_pending());
        refused(libc::SYS_io_uring_enter, Refusal::TakesNothing, || drop(ring));

        assert_eq!(count.get(), 2, "who awaited the op, and who awaited the cancel");
        check_lost(&taken);
        let mut awaited = pin!(awaited);
        assert!(awaited.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        assert_eq!(cancel.outcome(), Some(CancelOutcome::Running));
        assert_eq!((leaked_ops(), graveyard.freed()), (4, 0));
    });
}

#[test]
fn p3_a_deferred_ring_dropped_by_another_thread_loses_no_result() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = builder().defer_taskrun(true).build().unwrap();
        if !ring.params().defer_taskrun {
            return skipped("IORING_SETUP_DEFER_TASKRUN (Linux 6.1)");
        }
        let graveyard = Graveyard::default();
        let (reader, _writer) = pipe();
        let read = ring.read(&reader, graveyard.buffer(), 0);
        ring.submit().unwrap();
        let queued = ring.nop();
        // That thread may not submit a cancel.
        std::thread::spawn(move || drop(ring)).join().unwrap();
        assert_eq!(errno(&queued.try_take().expect("never submitted")), Some(libc::ECANCELED));
        check_lost(&read);
        assert_eq!((leaked_ops(), graveyard.freed()), (1, 0));
    });
}

#[test]
fn p3_a_ring_that_the_kernel_refuses_for_good_is_poisoned_and_loses_no_result() {
    if !has_io_uring("a ring that the kernel may refuse for good") {
        return;
    }
    in_a_process_of_its_own(this_test!(), || {
        let graveyard = Graveyard::default();
        let (reader, _writer) = pipe();
        let ring = ring();
        let refusal = Refusal::Fails(libc::EPERM);
        let in_kernel = ring.read(&reader, graveyard.buffer(), 0);
        let behind = ring.read(&reader, graveyard.buffer(), 0);
        ring.submit().unwrap();
        let (tried, after) = refused(libc::SYS_io_uring_enter, refusal, || {
            let tried = ring.nop();
            // The thread may be confined alone: it takes a few, with no success in between.
            for _ in 0..3 {
                assert_eq!(errno(&ring.submit()), Some(libc::EPERM));
            }
            (tried, ring.read(&reader, graveyard.buffer(), 0))
        });
        let poisoned = |error: &io::Error| error.to_string().contains("is poisoned");
        // It is so for every thread: nobody knows what the kernel would do with the rest.
        assert!(poisoned(&ring.submit().unwrap_err()) && poisoned(&ring.wait(None).unwrap_err()));
        assert!(ring.stats().poisoned);
        let BufResult(result, buf) = in_kernel.try_take().expect("a result, at once");
        assert!(poisoned(&result.unwrap_err()) && buf.is_stand_in());
        for never_sent in [behind, after] {
            let BufResult(result, buf) = never_sent.try_take().expect("never submitted");
            assert!(poisoned(&result.unwrap_err()) && !buf.is_stand_in());
        }
        // This one was shown to the kernel, which may or may not have looked.
        assert!(poisoned(&tried.try_take().expect("ended").unwrap_err()));
        assert!(tried.try_take().is_none());
        assert!(poisoned(&block_on(&ring, ring.nop()).unwrap_err()));
        assert_eq!((graveyard.freed(), leaked_ops(), ring.stats().leaked), (2, 2, 2));
        drop(ring);
        assert_eq!(leaked_ops(), 2, "each is counted once");
    });
}

/// The op's memory stays with the kernel: an error that says so, a stand-in, once.
fn check_lost<T: Op<Output = BufResult<usize, Told>>>(handle: &Handle<T>) {
    assert!(handle.is_done());
    let BufResult(result, buf) = handle.try_take().expect("lost is a result too");
    let error = result.unwrap_err();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<RingError>());
    assert!(inner.expect("a RingError").advice().expect("advice").contains("drain_timeout"));
    assert!(buf.is_stand_in() && buf.bytes().is_empty());
    assert!(handle.try_take().is_none() && handle.is_done());
}

/// A FIFO for ops that hang.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path().join("fifo"));
    (dir, fifo)
}

#[allow(clippy::mem_forget)] // The point of the story.
fn forget(ring: Ring) {
    std::mem::forget(ring);
}

/// A waker that panics.
struct Panics;

impl std::task::Wake for Panics {
    fn wake(self: std::sync::Arc<Self>) {
        panic!("a waker of the user's panics");
    }
}
