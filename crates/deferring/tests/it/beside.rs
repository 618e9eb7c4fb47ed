//! A pool beside io_uring, for what that does not have: two kernels, one ring.

use std::time::Duration;

use deferring::fs::File;
use deferring::op::{Op, Opcode};
use deferring::{AtFlags, BackendKind, CWD, CancelOutcome, Fd, Ring, StatxFlags, block_on};

use crate::support::{
    BOUND, OpenInWorker, becomes_readable, both_ways, bounded, fifo, finish, has_io_uring, in_time,
    park_on, pipe, run,
};

const SOME: [Opcode; 5] =
    [Opcode::READ, Opcode::WRITE, Opcode::OPENAT2, Opcode::FTRUNCATE, Opcode::CLOSE];

/// The pool does some ops, io_uring the others. `None` where there is no io_uring.
fn builder() -> Option<deferring::Builder> {
    let builder = || SOME.into_iter().fold(Ring::builder(), deferring::Builder::on_pool);
    has_io_uring("a pool beside it").then(builder)
}

#[test]
fn the_ring_says_what_the_pool_does() {
    let Some(builder) = builder() else { return };
    let ring = builder.build().unwrap();
    let backend = ring.backend();
    assert_eq!((backend.kind(), backend.reason()), (BackendKind::IoUring, None));
    assert!(SOME.iter().all(|opcode| backend.on_pool().contains(opcode)));
    assert!(
        !backend.on_pool().contains(&Opcode::STATX)
            || !Ring::builder().build().unwrap().supports(Opcode::STATX)
    );
    assert!(SOME.into_iter().all(|opcode| ring.supports(opcode)));
}

#[test]
fn what_cannot_be_asked_of_the_pool_is_refused() {
    let error = Ring::builder().on_pool(Opcode::TIMEOUT).build().unwrap_err();
    assert!(error.to_string().contains("on_pool(Timeout)"), "{error}");
    let error = Ring::builder().io_uring_only().on_pool(Opcode::READ).build().unwrap_err();
    assert!(error.to_string().contains("io_uring_only"), "{error}");
}

async fn a_file_of_both(ring: &Ring) {
    let dir = tempfile::tempdir().unwrap();
    let file = File::options().read(true).write(true).create(true);
    let file = file.open(ring, dir.path().join("file")).await.unwrap();
    file.write_all_at(vec![7; 10_000], 0).await.0.unwrap();
    file.sync_all().await.unwrap(); // io_uring's
    file.set_len(9000).await.unwrap();
    assert_eq!(file.metadata().await.unwrap().len(), 9000); // io_uring's
    let reads: Vec<_> =
        (0..500).map(|n| ring.read(file.fd(), Vec::with_capacity(18), n * 18)).collect();
    for read in reads {
        assert_eq!(read.await.into_inner().unwrap(), (18, vec![7; 18]));
    }
    file.close().await.unwrap();
}

#[test]
fn a_file_is_both_kernels_at_once_under_each_driver() {
    let Some(builder) = builder() else { return };
    let builder = builder.queue_depth(4).completions(8);
    let ring = builder.clone().build().unwrap();
    run(&ring, a_file_of_both(&ring));
    let ring = builder.clone().start().unwrap();
    park_on(in_time(a_file_of_both(&ring)));
    #[cfg(feature = "tokio")]
    for workers in [1, 2] {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(workers).enable_all().build().unwrap();
        let builder = builder.clone();
        runtime.block_on(async {
            let ring = builder.start_on_tokio().unwrap();
            in_time(a_file_of_both(&ring)).await;
        });
    }
}

#[test]
fn whoever_waits_by_hand_hears_of_the_pool() {
    let Some(builder) = builder() else { return };
    let ring = builder.build().unwrap();
    let (input, mut output) = pipe();
    bounded(move || {
        let read = ring.read(&input, Vec::with_capacity(8), 0);
        ring.submit().unwrap();
        assert!(!ring.wait(Some(Duration::from_millis(1))).unwrap());
        let writer = std::thread::spawn(move || {
            std::io::Write::write_all(&mut output, b"hello").unwrap();
            output
        });
        while !read.is_done() {
            ring.wait(None).unwrap();
            ring.reap().unwrap();
        }
        assert_eq!(read.try_take().unwrap().into_inner().unwrap(), (5, b"hello".to_vec()));
        drop(writer.join().unwrap());
    });
}

#[test]
fn what_the_pool_has_is_cancelled_dropped_and_ends_with_the_ring() {
    let Some(builder) = builder() else { return };
    let ring = builder.build().unwrap();
    let (input, output) = pipe();
    run(&ring, async {
        let read = ring.read(&input, Vec::with_capacity(8), 0);
        deferring::time::sleep(&ring, Duration::from_millis(1)).await.unwrap();
        assert_eq!(read.cancel().await, CancelOutcome::Cancelled);
        read.await.0.unwrap_err();
        let late = ring.read(&input, Vec::with_capacity(8), 0).timeout(Duration::from_millis(1));
        assert_eq!(late.await.0.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        drop(ring.read(&input, Vec::with_capacity(8), 0));
    });
    let left = ring.read(&input, Vec::with_capacity(8), 0);
    block_on(&ring, ring.nop()).unwrap();
    drop(ring);
    assert!(left.try_take().unwrap().0.is_err());
    drop(output);
}

#[test]
fn an_op_in_a_worker_goes_to_the_pool_too() {
    let Some(builder) = builder() else { return };
    let ring = builder.build().unwrap();
    let file = Fd::from(std::fs::File::open("Cargo.toml").unwrap());
    let read = deferring::op::Read::new(&file, Vec::with_capacity(9), 0).in_worker();
    let read = run(&ring, ring.queue(read).timeout(BOUND));
    assert_eq!(read.into_inner().unwrap(), (9, b"[package]".to_vec()));
}

#[test]
fn a_loop_of_ones_own_hears_of_all_that_the_pool_does() {
    const OPS: usize = 5000;
    let Some(builder) = builder() else { return };
    let ring = builder.build().unwrap();
    let file = Fd::from(std::fs::File::open("Cargo.toml").unwrap());
    let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    ring.register_eventfd(&eventfd).unwrap();
    let (mut out, mut ended) = (Vec::new(), 0);
    while ended < OPS {
        while out.len() < 3 {
            out.push(ring.read(&file, Vec::with_capacity(9), 0));
        }
        ring.submit().unwrap();
        assert!(becomes_readable(&eventfd, BOUND / 4), "after {ended}: {:?}", ring.pending());
        rustix::io::read(&eventfd, &mut [0; 8]).unwrap();
        ring.reap().unwrap();
        let before = out.len();
        out.retain(|read| read.try_take().is_none());
        ended += before - out.len();
    }
}

#[test]
fn a_thread_that_exits_leaves_alone_what_the_pool_has() {
    // Its exit asked for them every millisecond, and waited 200 ms.
    let Some(builder) = builder() else { return };
    let ring = builder.build().unwrap();
    let (dir, queued) = (tempfile::tempdir().unwrap(), std::sync::mpsc::channel());
    let fifo = fifo(dir.path().join("fifo"));
    let path = fifo.clone();
    let (tell, submitter) = (queued.0, ring.clone());
    let thread = std::thread::spawn(move || {
        // One in a worker of the kernel's, so that this thread is one that has submitted.
        let stat = submitter.statx(CWD, "/", AtFlags::empty(), StatxFlags::SIZE);
        finish(&submitter, &stat).unwrap();
        let open = submitter.queue(OpenInWorker::new(&path));
        submitter.submit().unwrap();
        tell.send(open).unwrap();
    });
    let open = queued.1.recv().unwrap();
    thread.join().unwrap();
    assert_eq!(ring.pending().cancels, 0, "{:?}", ring.pending());
    let _peer = both_ways(&fifo);
    finish(&ring, &open).unwrap();
    assert_eq!(ring.stats().resubmits, 0);
}
