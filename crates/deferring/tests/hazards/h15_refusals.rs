//! Hazard 15: everything that a kernel or an administrator can refuse.
//!
//! Every errno as a result; the smallest rings; seccomp filters before and after the ring is made;
//! limits of locked memory and of descriptors. Each is an error where it belongs, nothing hangs,
//! and what is not concerned goes on. Not: what the errors of a set-up say
//! (`../it/construction.rs`).
#![allow(unsafe_code)] // Becomes an ordinary user.

use std::fs::File;
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::Duration;

use deferring::op::{Nop, PollAdd, Read, Statx};
use deferring::{
    BufResult, CWD, Fd, Handle, Mode, OFlags, PollFlags, ResolveFlags, Ring, RingError, block_on,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::report::{Hazard, long};
use crate::support::{
    Answer, Refusal, bounded, builder, drain, errno, finish, has_io_uring, in_a_process_for,
    in_time, pipe, refused, ring, run, skipped, this_test, until,
};

/// What means "interrupted" and may be sent again when nobody asked for a cancel, and `EFAULT`,
/// which a read that is cut short may give.
const INTERRUPTED: [i32; 7] = [libc::EINTR, libc::ECANCELED, libc::EFAULT, 512, 513, 514, 516];

#[test]
fn h15_every_errno_comes_out_as_it_is() {
    let hazard = Hazard::begin(15);
    let ring = ring();
    // The named ones, and the kernel's own.
    let all =
        if long() { (1..=4095).collect() } else { Vec::from_iter((1..=133).chain(512..=531)) };
    let all: Vec<i32> = all.into_iter().filter(|errno| !INTERRUPTED.contains(errno)).collect();
    let answers: Vec<_> = all.iter().map(|errno| ring.queue(Answer(-errno))).collect();
    drain(&ring);
    for (expected, answer) in all.iter().zip(&answers) {
        let error = answer.try_take().expect("ended").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(*expected), "{error}");
        assert!(answer.try_take().is_none(), "once");
    }
    hazard.saw(format!("{} errnos as results, each as it is", all.len()));
}

#[test]
fn h15_what_means_interrupted_comes_out_in_the_end_too() {
    let hazard = Hazard::begin(15);
    let ring = ring();
    let came = INTERRUPTED.map(|errno| {
        let result = run(&ring, ring.queue(Answer(-errno)));
        let came = self::errno(&result).expect("an error with an errno");
        let restart = errno >= 512;
        assert!(came == errno || restart && came == libc::EINTR, "{errno} came as {came}");
        came
    });
    // And again among others that go on meanwhile.
    let answers: Vec<_> = INTERRUPTED.iter().map(|errno| ring.queue(Answer(-errno))).collect();
    run(&ring, ring.nop()).unwrap();
    drain(&ring);
    assert!(answers.iter().all(|answer| answer.try_take().expect("ended").is_err()));
    hazard.saw(format!("{INTERRUPTED:?} came as {came:?}"));
}

#[test]
fn h15_rings_of_1_to_64_entries_do_all_kinds_of_work() {
    let hazard = Hazard::begin(15);
    let rounds = if long() { 20 } else { 1 };
    let mut ops = 0;
    for _ in 0..rounds {
        for depth in 1..=64 {
            // On a thread of its own: its first ring says how many workers it gets.
            ops += bounded(move || {
                let ring = builder().queue_depth(depth).build().unwrap();
                work(&ring, 5)
            });
        }
    }
    hazard.saw(format!("rings of 1 to 64 entries: {ops} ops, each as it should be"));
}

/// Ops of all kinds at once, all of which end. Returns how many.
fn work(ring: &Ring, times: usize) -> usize {
    let place = tempfile::tempdir().unwrap();
    let at = ring.stats().sqes;
    for time in 0..times {
        let (reader, mut writer) = pipe();
        let (polled, mut other) = pipe();
        let file: Fd = File::create(place.path().join(time.to_string())).unwrap().into();
        let nops: Vec<_> = (0..10).map(|_| ring.nop()).collect();
        let read = ring.read(&reader, vec![0; 4], 0);
        let poll = ring.poll(&polled, PollFlags::IN);
        let timeout = ring.timeout(Duration::from_micros(200));
        let stats: Vec<_> = (0..10).map(|_| ring.queue(Statx::new(CWD, place.path()))).collect();
        let writes: Vec<_> = (0..10).map(|at| ring.write(&file, "8 bytes.", at * 8)).collect();
        let made = ring.mkdirat(CWD, place.path().join(format!("dir{time}")), Mode::RWXU);
        ring.submit().unwrap();
        writer.write_all(b"text").unwrap();
        other.write_all(b"x").unwrap();
        assert_eq!(finish(ring, &read).into_inner().unwrap(), (4, b"text".to_vec()));
        assert_eq!(finish(ring, &poll).unwrap(), PollFlags::IN);
        finish(ring, &timeout).unwrap();
        finish(ring, &made).unwrap();
        nops.iter().for_each(|nop| finish(ring, nop).unwrap());
        stats.iter().for_each(|stat| assert!(finish(ring, stat).is_ok()));
        writes.iter().for_each(|write| assert_eq!(finish(ring, write).0.unwrap(), 8));
        finish(ring, &ring.fsync(&file)).unwrap();
        let content = std::fs::read(place.path().join(time.to_string())).unwrap();
        assert_eq!(content, b"8 bytes.".repeat(10));
    }
    assert_eq!(ring.in_flight(), 0);
    usize::try_from(ring.stats().sqes - at).unwrap()
}

#[test]
fn h15_where_the_set_up_is_forbidden_there_is_an_error_with_advice() {
    let hazard = Hazard::begin(15);
    for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_register] {
        for refusal in [libc::EPERM, libc::ENOSYS, libc::ENOMEM] {
            let error = refused(call, Refusal::Fails(refusal), || {
                Ring::builder().io_uring_only().build().expect_err("the kernel refuses")
            });
            assert!(advice(&error).is_some_and(|advice| !advice.is_empty()), "{error}");
        }
    }
    let ring = ring();
    run(&ring, ring.nop()).expect("a thread that is allowed");
    hazard.saw("set-up and register forbidden: errors with advice");
}

fn advice(error: &io::Error) -> Option<&'static str> {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<RingError>());
    inner.and_then(RingError::advice)
}

#[test]
fn h15_a_ring_that_may_not_register_anything_any_more_goes_on() {
    if !has_io_uring("a ring that may be refused io_uring_register") {
        return;
    }
    let hazard = Hazard::begin(15);
    let ring = ring();
    let mut ops = work(&ring, 1);
    for refusal in [libc::EPERM, libc::ENOSYS, libc::EINVAL] {
        ops += refused(libc::SYS_io_uring_register, Refusal::Fails(refusal), || {
            let error = ring.register_eventfd(&ring).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(refusal), "{error}");
            // More than the kernel's workers and our own bounds take at once.
            let stats: Vec<_> = (0..200).map(|_| ring.queue(Statx::new(CWD, "/"))).collect();
            stats.iter().for_each(|stat| assert!(finish(&ring, stat).is_ok()));
            200 + work(&ring, 3)
        });
    }
    hazard.saw(format!("io_uring_register forbidden to a ring that runs: {ops} ops all the same"));
}

/// Ops of a ring that will be refused everything: ended and not reaped, in the kernel, queued.
struct Out {
    ended: Handle<Nop>,
    in_kernel: Vec<Handle<Read<Vec<u8>>>>,
    polls: Vec<Handle<PollAdd>>,
    queued: Vec<Handle<Read<Vec<u8>>>>,
    /// Of one pipe only the first read would be with the kernel.
    _pipes: Vec<(Fd, File)>,
}

impl Out {
    fn start(ring: &Ring, reader: &Fd) -> Self {
        let pipes: Vec<_> = (0..40).map(|_| pipe()).collect();
        let read = |(reader, _): &(Fd, File)| ring.read(reader, vec![7; 3], 0);
        let ended = ring.nop();
        let in_kernel = pipes[..20].iter().map(read).collect();
        let polls = (0..20).map(|_| ring.poll(reader, PollFlags::IN)).collect();
        ring.submit().unwrap();
        let queued = pipes[20..].iter().map(read).collect();
        Self { ended, in_kernel, polls, queued, _pipes: pipes }
    }

    fn is_done(&self) -> bool {
        self.ended.is_done()
            && self.in_kernel.iter().chain(&self.queued).all(Handle::is_done)
            && self.polls.iter().all(Handle::is_done)
    }

    /// The errors of all that had not ended. Each handle has one result.
    fn errors(self) -> Vec<String> {
        // Its completion may be seen, though nothing more can be asked.
        if let Err(error) = self.ended.try_take().expect("done") {
            assert!(error.to_string().contains("poisoned"), "{error}");
        }
        let reads = self.in_kernel.iter().chain(&self.queued);
        let reads = reads.map(|read| read.try_take().expect("done").0.map(drop));
        let polls = self.polls.iter().map(|poll| poll.try_take().expect("done").map(drop));
        let all = reads.chain(polls).map(|result| result.unwrap_err().to_string()).collect();
        assert!(self.polls.iter().all(|poll| poll.try_take().is_none()), "once");
        all
    }
}

const FOR_GOOD: [i32; 3] = [libc::EPERM, libc::ENOSYS, libc::EBADR];

#[test]
fn h15_a_ring_whose_enter_fails_for_good_is_poisoned_and_every_handle_says_so() {
    if !has_io_uring("a ring that the kernel may refuse for good") {
        return;
    }
    in_a_process_for(Duration::from_secs(60), this_test!(), || {
        let hazard = Hazard::begin(15);
        let errors: Vec<_> = FOR_GOOD.into_iter().flat_map(poison).collect();
        for error in &errors {
            assert!(error.contains("poisoned"), "{error}");
        }
        hazard.saw(format!("io_uring_enter refused for good: {} errors say so", errors.len()));
    });
}

/// The errors of the handles of a ring that can never enter the kernel again.
fn poison(refusal: i32) -> Vec<String> {
    let ring = builder().drain_timeout(Duration::from_millis(50)).build().unwrap();
    let (reader, _writer) = pipe();
    let out = Out::start(&ring, &reader);
    refused(libc::SYS_io_uring_enter, Refusal::Fails(refusal), || {
        until("every handle has a result", || {
            let _refused = ring.submit();
            let _refused = ring.reap();
            out.is_done()
        });
        let late = ring.nop();
        until("so has what is queued now", || {
            let _refused = ring.submit();
            late.is_done()
        });
        assert!(late.try_take().expect("done").is_err());
        out.errors()
    })
}

#[test]
fn h15_a_ring_whose_enter_fails_for_good_ends_and_every_handle_has_a_result() {
    if !has_io_uring("a ring that the kernel may refuse for good") {
        return;
    }
    in_a_process_for(Duration::from_secs(10), this_test!(), || {
        let hazard = Hazard::begin(15);
        let mut errors = 0;
        for refusal in FOR_GOOD {
            let ring = builder().drain_timeout(Duration::from_millis(50)).build().unwrap();
            let (reader, _writer) = pipe();
            let out = Out::start(&ring, &reader);
            let out = refused(libc::SYS_io_uring_enter, Refusal::Fails(refusal), || {
                assert!(ring.submit().is_err(), "{refusal}");
                drop(ring);
                assert!(out.is_done(), "{refusal}: a handle without a result");
                out
            });
            errors += out.errors().len();
        }
        hazard.saw(format!("io_uring_enter refused, then the ring dropped: {errors} errors"));
    });
}

#[test]
fn h15_block_on_a_ring_whose_enter_fails_for_good_ends_with_an_error_or_a_clear_panic() {
    if !has_io_uring("a ring that the kernel may refuse for good") {
        return;
    }
    in_a_process_for(Duration::from_secs(10), this_test!(), || {
        let hazard = Hazard::begin(15);
        let mut said = Vec::new();
        for refusal in FOR_GOOD {
            let ring = builder().drain_timeout(Duration::from_millis(50)).build().unwrap();
            let (reader, _writer) = pipe();
            let told = refused(libc::SYS_io_uring_enter, Refusal::Fails(refusal), || {
                let read = ring.read(&reader, vec![0; 1], 0);
                let blocked = AssertUnwindSafe(|| block_on(&ring, in_time(read)));
                match catch_unwind(blocked) {
                    Ok(BufResult(result, _)) => result.unwrap_err().to_string(),
                    Err(panic) => panic.downcast_ref::<String>().expect("a message").clone(),
                }
            });
            assert!(told.contains("poisoned") || told.contains("cannot be turned"), "{told}");
            said.push(told);
        }
        hazard.saw(format!("block_on of {} rings that are refused: each says so", said.len()));
    });
}

#[test]
fn h15_an_ordinary_user_without_locked_memory_gets_a_ring_or_advice() {
    in_a_process_for(Duration::from_secs(30), this_test!(), || {
        if !rustix::process::geteuid().is_root() {
            return skipped("root, to become an ordinary user");
        }
        let hazard = Hazard::begin(15);
        let rounds = if long() { 2_000 } else { 200 };
        // SAFETY: no memory is named; the process is the story's own.
        assert_eq!(unsafe { libc::setuid(65_534) }, 0, "{}", io::Error::last_os_error());
        let mut said = Vec::new();
        for most in [8 << 20, 64 << 10, 0] {
            limit(Resource::Memlock, most);
            let made = (0..rounds).filter(|_| ring_of_an_ordinary_user()).count();
            said.push(format!("{made} of {rounds} with {} KiB", most >> 10));
        }
        hazard.saw(format!("rings of an ordinary user, else ENOMEM: {}", said.join(", ")));
    });
}

/// Whether there was a ring. If so, it has an ordinary user's rights, in the workers, too.
fn ring_of_an_ordinary_user() -> bool {
    match builder().queue_depth(256).build() {
        Ok(ring) => {
            run(&ring, ring.queue(Statx::new(CWD, "/"))).expect("anybody may");
            let (flags, mode) = (OFlags::RDWR | OFlags::CREATE, Mode::RUSR);
            let path = "/proc/1/oom_score_adj";
            let denied = run(&ring, ring.openat2(CWD, path, flags, mode, ResolveFlags::empty()));
            assert_eq!(errno(&denied), Some(libc::EACCES), "an ordinary user's rights");
            true
        }
        Err(error) => {
            assert!(advice(&error).expect("advice").contains("ulimit -l"), "{error}");
            false
        }
    }
}

fn limit(resource: Resource, most: u64) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: Some(most), maximum }).unwrap();
}

#[test]
fn h15_without_a_free_descriptor_opens_fail_and_all_else_goes_on() {
    in_a_process_for(Duration::from_secs(30), this_test!(), || {
        let hazard = Hazard::begin(15);
        let ring = ring();
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("file"), "hello").unwrap();
        let before = getrlimit(Resource::Nofile).current.expect("a limit");
        let file: Fd = File::open(place.path().join("file")).unwrap().into();
        let (reader, mut writer) = pipe();
        let rounds = if long() { 1_000 } else { 50 };
        for round in 0..rounds {
            // The numbers below are all taken, those above are not to be had.
            let taken: Vec<_> = (0..8).map(|_| File::open("/dev/null").unwrap()).collect();
            limit(Resource::Nofile, 3);
            let opens: Vec<_> = (0..20).map(|at| open(&ring, place.path(), at % 2 == 0)).collect();
            let read = ring.read(&file, Vec::with_capacity(8), 0);
            let of_pipe = ring.read(&reader, vec![0; 1], 0);
            let stat = ring.queue(Statx::of(&file));
            let mkdir = ring.mkdirat(CWD, place.path().join(format!("dir{round}")), Mode::RWXU);
            ring.submit().unwrap();
            writer.write_all(b"x").unwrap();
            for open in &opens {
                assert_eq!(errno(&finish(&ring, open)), Some(libc::EMFILE));
            }
            assert_eq!(finish(&ring, &read).into_inner().unwrap(), (5, b"hello".to_vec()));
            assert_eq!(finish(&ring, &of_pipe).0.unwrap(), 1);
            assert_eq!(finish(&ring, &stat).unwrap().size(), Some(5));
            finish(&ring, &mkdir).unwrap();
            let error = builder().build().expect_err("a ring is a descriptor");
            assert!(advice(&error).expect("advice").contains("ulimit -n"), "{error}");
            limit(Resource::Nofile, before);
            drop(taken);
            drop(finish(&ring, &open(&ring, place.path(), true)).expect("there is room again"));
        }
        hazard.saw(format!(
            "{} opens without a free descriptor: EMFILE; reads, polls, mkdirs went on",
            20 * rounds
        ));
    });
}

/// An open of a file that is there, which is made at once, or by a worker.
fn open(ring: &Ring, place: &Path, in_worker: bool) -> Handle<deferring::op::Openat2> {
    let (flags, mode) = if in_worker {
        (OFlags::WRONLY | OFlags::CREATE, Mode::RUSR | Mode::WUSR)
    } else {
        (OFlags::RDONLY, Mode::empty())
    };
    ring.openat2(CWD, place.join("file"), flags, mode, ResolveFlags::empty())
}

#[test]
fn h15_a_thread_that_is_refused_harms_no_other() {
    let hazard = Hazard::begin(15);
    let ring = ring();
    let other = ring.clone();
    // A filter is a thread's: what one may not send, another does.
    let worker = thread::spawn(move || bounded(move || work(&other, 20)));
    for refusal in [libc::EAGAIN, libc::EBUSY, libc::ENOMEM] {
        refused(libc::SYS_io_uring_enter, Refusal::Fails(refusal), || {
            for _ in 0..100 {
                ring.nop().detach();
                let _refused = ring.submit();
                ring.reap().unwrap();
            }
        });
    }
    let ops = worker.join().unwrap();
    drain(&ring);
    hazard.saw(format!("300 submits refused for now to one thread, {ops} ops of another went on"));
}
