//! How a ring comes to be, or why it does not: C1 to C6.
//!
//! C6 needs no story: where io_uring is absent the build of a ring is an error (C4), and the crate
//! builds all the same. What each errno says is tested beside it, in `src/error.rs`.

use std::io;
use std::time::Duration;

use deferring::RingError;
use deferring::op::Opcode;

use crate::support::{
    Refusal, builder, drain, has_io_uring, in_a_process_of_its_own, open_descriptors, refused,
    ring, run, skipped, this_test, until,
};

#[test]
fn c01_a_queue_depth_of_zero_is_an_argument_error() {
    let error = builder().queue_depth(0).build().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("queue depth of 0"), "{error}");
    assert!(ring_error(&error).advice().is_some());
    assert_eq!(ring_error(&error).raw_os_error(), None, "the kernel was not asked");
}

#[test]
fn c01_a_queue_depth_is_rounded_up_to_a_power_of_two_and_reported() {
    for (asked, got) in [(1, 1), (2, 2), (3, 4), (8, 8), (100, 128), (4096, 4096)] {
        let ring = builder().queue_depth(asked).build().unwrap();
        assert_eq!(ring.queue_depth(), got, "for {asked}");
        assert_eq!(ring.params().cq_entries, 2 * got, "for {asked}");
    }
}

#[test]
fn c01_a_completion_queue_is_rounded_up_too_and_may_not_be_smaller() {
    let ring = builder().queue_depth(5).completions(33).build().unwrap();
    assert_eq!((ring.queue_depth(), ring.params().cq_entries), (8, 64));
    for entries in [0, 4] {
        let error = builder().queue_depth(5).completions(entries).build().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn c01_a_queue_depth_beyond_the_kernels_limit_is_cut_to_it() {
    assert_eq!(builder().queue_depth(u32::MAX).build().unwrap().queue_depth(), 32768);
}

#[test]
fn c02_every_operation_of_the_seed_is_probed_and_there() {
    let ring = ring();
    for opcode in SEEDS {
        assert!(ring.supports(opcode), "{opcode:?}");
    }
    assert!(!ring.supports(Opcode(250)), "no kernel has it");
}

#[test]
fn c02_a_missing_operation_is_an_error_that_names_it() {
    let error = builder().require(Opcode::NOP).require(Opcode(250)).build().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("lacks the op Opcode(250)"), "{error}");
    assert!(ring_error(&error).advice().is_some());
}

#[test]
fn c02_a_probe_that_is_forbidden_is_an_error_that_says_so() {
    if !has_io_uring("its probe") {
        return;
    }
    let error = refused_setup(libc::SYS_io_uring_register, libc::EPERM);
    assert!(error.to_string().contains("probe"), "{error}");
    assert!(error.to_string().contains("io_uring_register"), "{error}");
}

#[test]
fn c03_a_ring_with_an_idle_time_is_served_by_a_kernel_thread() {
    if !has_io_uring("a kernel thread that submits (SQPOLL)") {
        return;
    }
    let ring = builder().sqpoll_idle(Duration::from_millis(20)).build().unwrap();
    assert!(ring.params().sqpoll);
    // It takes its name when it first runs.
    until("a polling thread", || names_of_threads().iter().any(|n| n.starts_with("iou-sqp-")));
    run(&ring, ring.nop()).unwrap();
}

#[test]
fn c03_more_than_the_queue_holds_goes_through_the_kernel_thread() {
    if !has_io_uring("a kernel thread that submits (SQPOLL)") {
        return;
    }
    let idle = Duration::from_millis(1);
    let ring = builder().queue_depth(4).sqpoll_idle(idle).build().unwrap();
    let nops: Vec<_> = (0..1000).map(|_| ring.nop()).collect();
    assert_eq!(ring.submit().unwrap(), 1000);
    drain(&ring);
    nops.iter().for_each(|nop| nop.try_take().expect("reaped").unwrap());
}

#[test]
fn c03_a_kernel_thread_together_with_a_mode_for_submitting_threads_is_an_argument_error() {
    let polling = || builder().sqpoll_idle(Duration::from_millis(1));
    for builder in [polling().coop_taskrun(true), polling().defer_taskrun(true)] {
        assert_eq!(builder.build().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn c04_a_refused_setup_is_an_error_with_advice() {
    for (errno, kind, advice) in [
        (libc::ENOSYS, io::ErrorKind::Unsupported, "Linux 5.15"),
        (libc::EPERM, io::ErrorKind::PermissionDenied, "kernel.io_uring_disabled"),
        (libc::ENOMEM, io::ErrorKind::OutOfMemory, "ulimit -l"),
        (libc::EINVAL, io::ErrorKind::InvalidInput, "queue depth"),
    ] {
        let error = refused_setup(libc::SYS_io_uring_setup, errno);
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(ring_error(&error).raw_os_error(), Some(errno));
        assert!(error.to_string().starts_with("io_uring_setup: "), "{error}");
        assert!(ring_error(&error).advice().unwrap().contains(advice), "{error}");
    }
}

#[test]
fn c04_an_errno_that_nobody_expects_is_an_error_without_advice() {
    let error = refused_setup(libc::SYS_io_uring_setup, libc::EXDEV);
    assert_eq!(ring_error(&error).raw_os_error(), Some(libc::EXDEV));
    assert_eq!(ring_error(&error).advice(), None);
}

#[test]
fn c04_too_large_a_queue_is_refused_with_advice_if_it_is_not_to_be_cut() {
    let error = builder().queue_depth(65536).clamp(false).build().unwrap_err();
    assert_eq!(ring_error(&error).raw_os_error(), Some(libc::EINVAL));
    assert!(error.to_string().contains("queue depth"), "{error}");
}

#[test]
fn c04_without_a_free_descriptor_the_error_says_what_to_raise() {
    in_a_process_of_its_own(this_test!(), || {
        let before = open_descriptors();
        drop(ring());
        limit_descriptors(0);
        let error = builder().build().unwrap_err();
        limit_descriptors(64);
        assert_eq!(ring_error(&error).raw_os_error(), Some(libc::EMFILE));
        assert!(error.to_string().contains("ulimit -n"), "{error}");
        drop(ring());
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn c04_a_setup_that_fails_half_way_leaves_no_descriptor_open() {
    in_a_process_of_its_own(this_test!(), || {
        let before = open_descriptors();
        for call in [libc::SYS_io_uring_register, libc::SYS_eventfd2] {
            refused(call, Refusal::Fails(libc::EPERM), || drop(builder().build()));
        }
        // No thread begins without.
        let maps = || builder().io_uring_only().build().map(drop).unwrap_err();
        refused(libc::SYS_mmap, Refusal::Fails(libc::EPERM), maps);
        drop(builder().require(Opcode(250)).build());
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn c05_the_ring_says_that_a_wait_can_have_a_timeout_and_it_can() {
    let ring = ring();
    assert!(ring.supports_ext_arg());
    assert!(!ring.wait(Some(Duration::from_millis(1))).unwrap());
    assert_eq!(ring.stats().sqes, 0, "no timeout op was needed");
}

#[test]
fn a_mode_that_was_asked_for_and_that_the_kernel_has_is_reported() {
    let ring = builder().coop_taskrun(true).single_issuer(true).build().unwrap();
    let params = *ring.params();
    assert!(!params.sqpoll && !params.defer_taskrun);
    // Each is newer than the one before it, so that a kernel which has the last has them all.
    assert!(params.submit_all >= params.coop_taskrun);
    assert!(params.coop_taskrun >= params.single_issuer);
    let deferred = *builder().defer_taskrun(true).build().unwrap().params();
    assert!(deferred.single_issuer >= deferred.defer_taskrun);
    assert!(params.single_issuer >= deferred.defer_taskrun);
}

/// What the seed's ring needs.
const SEEDS: [Opcode; 12] = [
    Opcode::NOP,
    Opcode::READ,
    Opcode::WRITE,
    Opcode::READV,
    Opcode::WRITEV,
    Opcode::POLL_ADD,
    Opcode::OPENAT2,
    Opcode::CLOSE,
    Opcode::LINKAT,
    Opcode::UNLINKAT,
    Opcode::TIMEOUT,
    Opcode::STATX,
];

/// The error of a build in which this system call fails.
fn refused_setup(call: libc::c_long, errno: i32) -> io::Error {
    refused(call, Refusal::Fails(errno), || builder().io_uring_only().build().unwrap_err())
}

fn ring_error(error: &io::Error) -> &RingError {
    error.get_ref().and_then(|inner| inner.downcast_ref()).expect("a RingError")
}

fn names_of_threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    // One may have ended since.
    tasks.flat_map(|task| std::fs::read_to_string(task.path().join("comm"))).collect()
}

/// How many descriptors this process may have open.
fn limit_descriptors(most: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }).unwrap();
}

#[test]
fn c04_a_submit_from_the_wrong_thread_is_an_error_that_says_where_to_do_it() {
    let ring = builder().single_issuer(true).build().unwrap();
    if !ring.params().single_issuer {
        return skipped("IORING_SETUP_SINGLE_ISSUER (Linux 6.0)");
    }
    ring.nop().detach();
    let error = std::thread::scope(|scope| scope.spawn(|| ring.submit()).join().unwrap());
    let error = error.unwrap_err();
    let inner = error.get_ref().unwrap().downcast_ref::<RingError>().unwrap();
    assert_eq!(inner.raw_os_error(), Some(17));
    assert!(error.to_string().contains("the thread that built the ring"), "{error}");
    assert_eq!(ring.submit().unwrap(), 1, "nothing is lost");
}
