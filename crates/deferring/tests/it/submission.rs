//! From `queue` to the kernel: C7 to C12, and what a failed submit must not lose (P3, P12).

use std::io::{self, Write as _};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use deferring::op::Opcode;
use deferring::{BufResult, Fd, Handle, op};
use rustix::io::Errno;

use crate::support::{
    Graveyard, Refusal, bounded, builder, drain, example, finish, has_io_uring, output_of, pipe,
    poll_once, refused, ring, skipped, sqpoll, turn_until, until,
};

#[test]
fn c07_an_operation_only_queues_until_the_submit() {
    let ring = ring();
    let (reader, writer) = pipe();
    let written = ring.write(&Fd::from(writer), "hello", 0);
    assert_eq!(ring.pending().queued, 1);
    assert_eq!((ring.stats().sqes, ring.stats().enters), (0, 0));
    assert!(!written.is_done() && written.try_take().is_none());
    assert_eq!(read_at_once(&reader), Err(Errno::AGAIN), "nothing has reached the kernel");

    assert_eq!(ring.submit().unwrap(), 1);
    assert_eq!((ring.stats().sqes, ring.stats().enters), (1, 1));
    assert_eq!(finish(&ring, &written).unwrap().0, 5);
    assert_eq!(read_at_once(&reader), Ok(5));
}

#[test]
fn c07_a_handle_that_is_only_polled_reaches_nobody_either() {
    let ring = ring();
    let mut nop = ring.nop();
    assert!(poll_once(&mut nop, Waker::noop()).is_pending());
    assert!(!ring.wait(Some(Duration::ZERO)).unwrap());
    assert_eq!((ring.reap().unwrap(), ring.stats().enters), (0, 0));
}

#[test]
fn c08_with_nothing_queued_a_submit_is_zero_and_no_system_call() {
    let ring = ring();
    assert_eq!(ring.submit().unwrap(), 0);
    let nop = ring.nop();
    assert_eq!(ring.submit().unwrap(), 1);
    assert_eq!(ring.submit().unwrap(), 0, "each is sent once");
    assert_eq!(ring.stats().enters, 1);
    finish(&ring, &nop).unwrap();
}

#[test]
fn c08_a_submit_says_how_many_the_kernel_took() {
    let ring = ring();
    for n in [1, 3, 8, 9, 20] {
        let nops: Vec<_> = (0..n).map(|_| ring.nop()).collect();
        let before = ring.stats().enters;
        assert_eq!(ring.submit().unwrap(), n);
        assert_eq!(ring.stats().enters - before, n.div_ceil(8) as u64, "{n} on a ring of 8");
        drain(&ring);
        nops.iter().for_each(|nop| nop.try_take().expect("reaped").unwrap());
    }
}

#[test]
fn c08_a_bad_sqe_does_not_hold_up_those_behind_it() {
    let ring = ring();
    let (first, bad, last) = (ring.nop(), ring.queue(NoSuchOp), ring.nop());
    assert_eq!(ring.submit().unwrap(), 3);
    drain(&ring);
    assert!(first.try_take().unwrap().is_ok() && last.try_take().unwrap().is_ok());
    let error = bad.try_take().unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn c09_many_operations_and_one_submit_are_one_system_call() {
    let ring = builder().queue_depth(64).build().unwrap();
    let zero = Fd::from(std::fs::File::open("/dev/zero").unwrap());
    let reads: Vec<_> = (0..64).map(|_| ring.read(&zero, vec![1; 64], 0)).collect();
    assert_eq!(ring.submit().unwrap(), 64);
    assert_eq!((ring.stats().sqes, ring.stats().enters), (64, 1));
    drain(&ring);
    for read in reads {
        assert_eq!(read.try_take().unwrap().into_inner().unwrap(), (64, vec![0; 64]));
    }
}

#[test]
fn c09_strace_sees_one_system_call_too() {
    if !has_io_uring("its system calls") {
        return;
    }
    let Some(program) = example("one_submit") else {
        return skipped("the example one_submit, which `cargo test` without `--test` builds");
    };
    if Command::new("strace").arg("-V").output().is_err() {
        return skipped("strace");
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=io_uring_enter", "-o"]).arg(&trace).arg(program);
    let (status, output) = output_of(&mut strace);
    if !status.success() && output.contains("Operation not permitted") {
        return skipped("a machine on which strace may trace");
    }
    assert!(status.success(), "{output}");

    let trace = std::fs::read_to_string(trace).unwrap();
    let enters = trace.lines().filter(|line| line.contains("io_uring_enter(")).count();
    assert_eq!(output, format!("64 reads took {enters} io_uring_enter\n"), "{trace}");
    let submits = |line: &&str| line.contains("io_uring_enter(") && !line.contains(", 0, ");
    let submits: Vec<_> = trace.lines().filter(submits).collect();
    assert!(trace.contains(", 64, 0, ") && trace.contains("= 64"), "{trace}");
    assert!(submits.len() <= 1, "{submits:?}");
}

#[test]
fn c10_with_the_submission_queue_full_an_operation_still_gives_a_handle() {
    let ring = builder().queue_depth(1).build().unwrap();
    let nops: Vec<_> = (0..100).map(|_| ring.nop()).collect();
    assert_eq!((ring.pending().queued, ring.stats().enters), (100, 0));
    assert!(nops.iter().all(|nop| !nop.is_done()));
    drain(&ring);
    assert!(nops.iter().all(Handle::is_done));
}

#[test]
fn c11_what_waited_is_admitted_by_itself_with_the_same_result() {
    let ring = builder().queue_depth(2).build().unwrap();
    let file = tempfile::tempfile().unwrap();
    (&file).write_all(b"0123456789").unwrap();
    let file = Fd::from(file);
    let reads: Vec<_> = (0..10).map(|at| ring.read(&file, Vec::with_capacity(1), at)).collect();
    drain(&ring);
    for (read, expected) in reads.into_iter().zip(b'0'..) {
        assert_eq!(read.try_take().unwrap().into_inner().unwrap(), (1, vec![expected]));
    }
}

#[test]
fn c11_operations_that_wait_for_ever_do_not_keep_others_from_being_admitted() {
    let ring = builder().queue_depth(2).completions(2).build().unwrap();
    let (readers, mut writers): (Vec<_>, Vec<_>) = (0..100).map(|_| pipe()).unzip();
    let reads: Vec<_> = readers.iter().map(|reader| ring.read(reader, vec![0; 1], 0)).collect();
    let nop = ring.nop();
    finish(&ring, &nop).unwrap();
    assert_eq!(ring.pending().in_kernel, 100, "bounded by neither queue");
    writers.iter_mut().for_each(|writer| writer.write_all(&[7]).unwrap());
    drain(&ring);
    for read in reads {
        assert_eq!(read.try_take().unwrap().into_inner().unwrap(), (1, vec![7]));
    }
}

#[test]
fn p12_a_hundred_thousand_operations_wait_for_a_ring_of_eight_and_come_in_order() {
    const OPS: usize = 100_000;
    let ring = ring();
    let log = Arc::new(Mutex::new(Vec::with_capacity(OPS)));
    let mut nops: Vec<_> = (0..OPS).map(|_| ring.nop()).collect();
    for (at, nop) in nops.iter_mut().enumerate() {
        let waker = Arc::new(Logs { at, log: Arc::clone(&log) }).into();
        assert!(poll_once(nop, &waker).is_pending());
    }
    assert_eq!(ring.pending().queued, OPS);
    assert_eq!(ring.stats().enters, 0);
    drain(&ring);
    assert!(log.lock().unwrap().iter().copied().eq(0..OPS), "in the order of queueing, each once");
    nops.iter().for_each(|nop| nop.try_take().expect("reaped").unwrap());
    assert_eq!(ring.stats().sqes, OPS as u64, "none was tried twice");
}

#[test]
fn c12_what_the_kernel_writes_stays_when_everything_else_is_dropped() {
    let ring = ring();
    let graveyard = Graveyard::default();
    let (reader, writer) = pipe();
    ring.read(&reader, graveyard.buffer(), 0).detach();
    let written = ring.write(&Fd::from(writer), vec![b'x'; 64], 0);
    drop(reader);
    assert_eq!(graveyard.freed(), 0, "it is still queued");

    assert_eq!(finish(&ring, &written).unwrap().0, 64, "the reading end was kept open");
    drain(&ring);
    assert_eq!(graveyard.freed(), 1);
    graveyard.check_undisturbed();
}

#[test]
fn p1_a_dropped_handles_buffer_is_freed_after_the_last_completion_and_no_sooner() {
    let ring = ring();
    let graveyard = Graveyard::default();
    let (reader, _writer) = pipe();
    let read = ring.read(&reader, graveyard.buffer(), 0);
    assert_eq!(ring.submit().unwrap(), 1);
    drop((read, reader));
    assert_eq!(graveyard.freed(), 0, "dropped, and not cancelled yet");
    assert_eq!(ring.submit().unwrap(), 1, "the cancel");
    assert_eq!(graveyard.freed(), 0, "cancelled, and not reaped");
    drain(&ring);
    assert_eq!(graveyard.freed(), 1);
    graveyard.check_undisturbed();
}

#[test]
fn p1_a_buffer_that_the_kernel_never_saw_is_freed_with_its_handle() {
    let ring = ring();
    let graveyard = Graveyard::default();
    let (reader, _writer) = pipe();
    drop(ring.read(&reader, graveyard.buffer(), 0));
    assert_eq!((graveyard.freed(), ring.in_flight()), (1, 0));
    assert_eq!((ring.submit().unwrap(), ring.stats().sqes), (0, 0));
}

#[test]
#[allow(clippy::mem_forget)] // The point of the story.
fn p1_a_forgotten_handle_keeps_its_buffer_for_ever() {
    let graveyard = Graveyard::default();
    let (reader, mut writer) = pipe();
    let ring = ring();
    std::mem::forget(ring.read(&reader, graveyard.buffer(), 0));
    ring.submit().unwrap();
    writer.write_all(b"x").unwrap();
    drain(&ring);
    drop(ring);
    assert_eq!(graveyard.freed(), 0);
}

#[test]
fn p1_direct_reads_that_are_dropped_in_flight_write_into_nothing_freed() {
    use std::os::unix::fs::OpenOptionsExt;
    const PAGES: u64 = 512;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    std::fs::write(&path, vec![0x11; 4096 * usize::try_from(PAGES).unwrap()]).unwrap();
    let direct = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    let Ok(direct) = direct else {
        return skipped("a temporary directory with O_DIRECT");
    };
    let graveyard = Graveyard::default();
    let direct = Fd::from(direct);
    let ring = builder().queue_depth(64).build().unwrap();
    for round in 0..4 {
        let read = |page| ring.read(&direct, graveyard.buffer(), page * 4096);
        let reads: Vec<_> = (0..PAGES).map(read).collect();
        ring.submit().unwrap();
        // Some are dropped before they end and some after, some with a cancel under way.
        for (at, read) in reads.into_iter().enumerate() {
            match (at + round) % 4 {
                0 => drop(read),
                1 => drop(read.cancel()),
                2 => read.detach(),
                _ => {
                    let BufResult(result, buf) = finish(&ring, &read);
                    assert_eq!(result.unwrap(), 4096);
                    assert!(buf.bytes().iter().all(|&byte| byte == 0x11));
                }
            }
        }
    }
    drop((direct, ring));
    assert_eq!(graveyard.freed(), 4 * usize::try_from(PAGES).unwrap(), "each once, none leaked");
    graveyard.check_undisturbed();
}

#[test]
fn p3_a_refused_submit_loses_nothing_and_sends_nothing_twice() {
    if !has_io_uring("a submit that the kernel may refuse") {
        return;
    }
    for errno in [libc::EAGAIN, libc::EBUSY, libc::ENOMEM] {
        let ring = ring();
        let (reader, mut writer) = pipe();
        let read = ring.read(&reader, vec![0; 8], 0);
        let nops: Vec<_> = (0..20).map(|_| ring.nop()).collect();
        let result = refused(libc::SYS_io_uring_enter, Refusal::Fails(errno), || ring.submit());
        assert_eq!(result.unwrap_err().raw_os_error(), Some(errno));
        assert_eq!(ring.in_flight(), 21);
        assert!(nops.iter().all(|nop| !nop.is_done()));

        assert_eq!(ring.submit().unwrap(), 21, "after errno {errno}");
        turn_until(&ring, || ring.in_flight() == 1);
        nops.iter().for_each(|nop| nop.try_take().expect("reaped").unwrap());
        writer.write_all(b"x").unwrap();
        assert_eq!(finish(&ring, &read).unwrap().0, 1);
        assert_eq!(ring.stats().sqes, 21);
    }
}

#[test]
fn p3_a_submit_of_which_the_kernel_takes_nothing_is_zero_and_loses_nothing() {
    if !has_io_uring("a submit that the kernel may refuse") {
        return;
    }
    let ring = ring();
    let nops: Vec<_> = (0..20).map(|_| ring.nop()).collect();
    let taken = refused(libc::SYS_io_uring_enter, Refusal::TakesNothing, || ring.submit());
    assert_eq!(taken.unwrap(), 0);
    assert_eq!(ring.submit().unwrap(), 20);
    drain(&ring);
    nops.iter().for_each(|nop| nop.try_take().expect("reaped").unwrap());
}

#[test]
fn p3_a_cancel_after_a_refused_submit_is_in_time() {
    if !has_io_uring("a submit that the kernel may refuse") {
        return;
    }
    let ring = ring();
    let (reader, _writer) = pipe();
    let read = ring.read(&reader, vec![0; 8], 0);
    refused(libc::SYS_io_uring_enter, Refusal::Fails(libc::EAGAIN), || ring.submit()).unwrap_err();
    let cancel = read.cancel();
    drain(&ring);
    assert_eq!(cancel.outcome(), Some(deferring::CancelOutcome::Cancelled));
    let BufResult(result, buf) = read.try_take().unwrap();
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    assert_eq!(buf, [0; 8]);
}

#[test]
fn p12_threads_that_queue_and_submit_at_once_lose_nothing() {
    let ring = ring();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..500 {
                    let nops: Vec<_> = (0..round % 20).map(|_| ring.nop()).collect();
                    ring.submit().unwrap();
                    turn_until(&ring, || nops.iter().all(Handle::is_done));
                    nops.iter().for_each(|nop| nop.try_take().expect("done").unwrap());
                }
            });
        }
    });
    assert_eq!(ring.stats().sqes, 4 * (0..500).map(|round| round % 20).sum::<u64>());
    assert_eq!(ring.in_flight(), 0);
}

/// An operation that no kernel has.
struct NoSuchOp;

// SAFETY: names no memory.
unsafe impl op::Op for NoSuchOp {
    type Output = io::Result<u32>;
    const CODE: Opcode = Opcode(250);

    fn encode(&mut self, _: &mut op::Sqe) {}

    fn decode(self, result: io::Result<u32>) -> io::Result<u32> {
        result
    }
}

/// A waker that writes its number down.
struct Logs {
    at: usize,
    log: Arc<Mutex<Vec<usize>>>,
}

impl Wake for Logs {
    fn wake(self: Arc<Self>) {
        self.log.lock().unwrap().push(self.at);
    }
}

/// How many bytes a pipe has, up to 64, outside the ring.
fn read_at_once(pipe: &Fd) -> Result<usize, Errno> {
    let lease = pipe.lease();
    let fd = lease.try_as_fd().expect("open");
    rustix::io::ioctl_fionbio(fd, true)?;
    let result = rustix::io::read(fd, &mut [0; 64][..]);
    rustix::io::ioctl_fionbio(fd, false)?;
    result
}

#[test]
fn c08_a_flood_of_requests_does_not_keep_a_submit_from_returning() {
    bounded(|| {
        let idle = Duration::from_millis(10);
        for builder in [builder()].into_iter().chain(sqpoll(idle)) {
            let ring = builder.queue_depth(8).build().unwrap();
            let over = Arc::new(AtomicBool::new(false));
            let flood = {
                let (ring, over) = (ring.clone(), Arc::clone(&over));
                thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        if ring.pending().queued < 5000 {
                            ring.nop().detach();
                        }
                    }
                })
            };
            until("the flood has begun", || ring.pending().queued > 100);
            let sent = ring.submit().unwrap();
            over.store(true, Ordering::Relaxed);
            flood.join().unwrap();
            assert!(sent > 100, "what waited when it began went out: {sent}");
            drain(&ring);
        }
    });
}
