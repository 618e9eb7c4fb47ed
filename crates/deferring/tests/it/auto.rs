//! Which kernel a ring gets where io_uring is refused, and what it says about that.
//!
//! That the program then runs as before is seen by all the other stories: `cargo xtask refused`.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use deferring::{AtFlags, BackendKind, Builder, CWD, Reason, Ring, RingError, StatxFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{
    Refusal, filter, has_io_uring, in_a_process_of_its_own, refused, run, this_test, thread_id,
    until,
};

const SETUP: libc::c_long = libc::SYS_io_uring_setup;

/// Each errno of the set-up, what is told of it, and a word of the advice, if there is some.
const REFUSALS: [(i32, Reason, Option<&str>); 11] = [
    (libc::EPERM, Reason::Forbidden, Some("kernel.io_uring_disabled")),
    (libc::EACCES, Reason::Forbidden, Some("kernel.io_uring_disabled")),
    (libc::ENOSYS, Reason::Absent, Some("5.15")),
    (libc::EOPNOTSUPP, Reason::Absent, Some("5.15")),
    (libc::ENOMEM, Reason::NoMemory, Some("ulimit -l")),
    (libc::EMFILE, Reason::NoDescriptor, Some("ulimit -n")),
    (libc::ENFILE, Reason::NoDescriptor, Some("fs.file-max")),
    (libc::EINVAL, Reason::Failed(libc::EINVAL), Some("queue depth")),
    (libc::EAGAIN, Reason::Failed(libc::EAGAIN), Some("ulimit -u")),
    (libc::EBUSY, Reason::Failed(libc::EBUSY), None),
    (libc::EXDEV, Reason::Failed(libc::EXDEV), None),
];

/// The ring serves: an op that needs a thread, one that needs none, and time.
fn serves(ring: &Ring) {
    run(ring, async {
        ring.nop().await.unwrap();
        ring.statx(CWD, "/", AtFlags::empty(), StatxFlags::SIZE).await.unwrap();
        deferring::time::sleep(ring, Duration::from_millis(1)).await.unwrap();
    });
}

fn ring_error(error: &io::Error) -> &RingError {
    error.get_ref().and_then(|inner| inner.downcast_ref()).expect("a RingError")
}

#[test]
fn a_program_runs_on_the_pool_and_the_ring_says_why() {
    for (errno, reason, _) in REFUSALS {
        refused(SETUP, Refusal::Fails(errno), || {
            let ring = Ring::builder().build().unwrap();
            let backend = ring.backend();
            assert_eq!((backend.kind(), backend.reason()), (BackendKind::Pool, Some(&reason)));
            assert_eq!(backend.to_string(), format!("pool ({reason})"));
            serves(&ring);
        });
    }
}

#[test]
fn who_wants_io_uring_only_gets_the_error_with_advice() {
    let only = || Ring::builder().io_uring_only();
    let sqpoll = || Ring::builder().sqpoll_idle(Duration::from_millis(1));
    for (errno, _, advice) in REFUSALS {
        for builder in [only(), sqpoll()] {
            let error = refused(SETUP, Refusal::Fails(errno), || builder.build().unwrap_err());
            assert_eq!(error.kind(), io::Error::from_raw_os_error(errno).kind(), "{error}");
            let told = ring_error(&error);
            assert_eq!(told.raw_os_error(), Some(errno));
            assert!(error.to_string().starts_with("io_uring_setup: "), "{error}");
            assert_eq!(told.advice().is_some(), advice.is_some(), "{error}");
            assert!(told.advice().unwrap_or_default().contains(advice.unwrap_or("")), "{error}");
        }
    }
}

#[test]
fn a_ring_without_a_probe_is_none() {
    if !has_io_uring("its probe") {
        return;
    }
    for (errno, reason) in
        [(libc::EPERM, Reason::Forbidden), (libc::EINVAL, Reason::Failed(libc::EINVAL))]
    {
        refused(libc::SYS_io_uring_register, Refusal::Fails(errno), || {
            let ring = Ring::builder().build().unwrap();
            assert_eq!(ring.backend().reason(), Some(&reason));
            serves(&ring);
        });
    }
}

#[test]
fn who_asks_for_the_pool_does_not_ask_the_kernel() {
    refused(SETUP, Refusal::Fails(libc::EPERM), || {
        let ring = Ring::builder().pool_only().build().unwrap();
        assert_eq!(ring.backend().reason(), Some(&Reason::Asked));
    });
}

#[test]
fn who_leaves_it_to_the_ring_takes_back_what_was_said_before() {
    refused(SETUP, Refusal::Fails(libc::EPERM), || {
        for builder in [Ring::builder().pool_only(), Ring::builder().io_uring_only()] {
            let ring = builder.auto().build().unwrap();
            // Of the kernel it asked, which refused, and a pool was allowed.
            assert_eq!(ring.backend().reason(), Some(&Reason::Forbidden));
            serves(&ring);
        }
        // Of all three the last one counts.
        let ring = Ring::builder().auto().pool_only().build().unwrap();
        assert_eq!(ring.backend().reason(), Some(&Reason::Asked));
        Ring::builder().auto().io_uring_only().build().unwrap_err();
    });
    if has_io_uring("to be taken") {
        let ring = Ring::builder().pool_only().auto().build().unwrap();
        assert_eq!(ring.backend().kind(), BackendKind::IoUring);
    }
}

#[test]
fn a_mistake_of_the_callers_is_an_error_and_no_reason_for_the_pool() {
    let sizes = || Ring::builder().clamp(false);
    let sqpoll = || Ring::builder().sqpoll_idle(Duration::from_millis(1));
    let mistakes: [(Builder, &str); 4] = [
        (sizes().queue_depth(32769), "queue depth"),
        (sizes().completions(65537), "completion queue size"),
        (sizes().completions(65537).pool_only(), "completion queue size"),
        (sqpoll().pool_only(), "sqpoll_idle together with pool_only"),
    ];
    for (builder, word) in mistakes {
        let error = builder.build().map(|ring| ring.backend().clone()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_want_of_memory_that_passes_is_none() {
    if !has_io_uring("to be asked again") {
        return;
    }
    in_a_process_of_its_own(this_test!(), || {
        let maximum = getrlimit(Resource::As).maximum;
        let limit = |current| setrlimit(Resource::As, Rlimit { current, maximum }).unwrap();
        let asks = thread_id();
        let attempt = || {
            let [ready, limited, over] = [(); 3].map(|()| AtomicBool::new(false));
            let is = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
            thread::scope(|scope| {
                // When the other has been refused and pauses, there is memory.
                scope.spawn(|| {
                    while !(is(&over) || sleeps(asks) && is(&limited)) {
                        ready.store(true, Ordering::SeqCst);
                    }
                    limit(maximum);
                });
                // Then the helper has what it needs.
                until("the helper looks", || is(&ready));
                limit(Some(in_use() + (1 << 20)));
                limited.store(true, Ordering::SeqCst);
                // Some MiB, which cannot be mapped now.
                let built = Ring::builder().queue_depth(32768).build();
                over.store(true, Ordering::SeqCst);
                built.ok()
            })
        };
        // On a busy machine the helper may miss the pause.
        let ring = (0..100).find_map(|_| attempt()).expect("asked again after a pause");
        assert_eq!(ring.backend().kind(), BackendKind::IoUring);
    });
}

/// How many bytes of addresses this process uses.
fn in_use() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    size.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Whether that thread of ours sleeps for a time. Allocates nothing to speak of.
fn sleeps(thread: i32) -> bool {
    let syscall = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall"));
    syscall.is_ok_and(|line| line.starts_with(&format!("{} ", libc::SYS_clock_nanosleep)))
}

// Filters that kill.

#[test]
fn where_a_filter_kills_the_process_lives_and_the_program_runs_on_the_pool() {
    for call in [SETUP, libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
        in_a_process_of_its_own(this_test!(), || {
            refused(call, Refusal::Kills, || {
                let ring = Ring::builder().build().unwrap();
                assert_eq!(ring.backend().reason(), Some(&Reason::Kills));
                serves(&ring);
                let started = Ring::builder().start().unwrap();
                assert_eq!(started.backend().reason(), Some(&Reason::Kills));
                let error = Ring::builder().io_uring_only().build().unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                assert_eq!(ring_error(&error).raw_os_error(), None);
                assert!(ring_error(&error).advice().unwrap().contains("io_uring_only"), "{error}");
                let sqpoll = Ring::builder().sqpoll_idle(Duration::from_millis(1));
                assert!(sqpoll.build().unwrap_err().to_string().contains("kills"));
            });
        });
    }
}

#[test]
fn a_filter_that_came_later_or_binds_another_thread_is_seen() {
    // The first question was answered once for the process: another thread's filter, or this
    // thread's next, killed it.
    in_a_process_of_its_own(this_test!(), || {
        let before = Ring::builder().build().unwrap().backend().clone();
        refused(libc::SYS_acct, Refusal::Fails(libc::EPERM), || {
            assert_eq!(*Ring::builder().build().unwrap().backend(), before);
            refused(SETUP, Refusal::Kills, || {
                let reason = Ring::builder().build().unwrap().backend().reason().cloned();
                assert_eq!(reason, Some(Reason::Kills));
            });
            filter(SETUP, Refusal::Kills);
            let reason = Ring::builder().build().unwrap().backend().reason().cloned();
            assert_eq!(reason, Some(Reason::Kills));
        });
        assert_eq!(*Ring::builder().build().unwrap().backend(), before);
    });
}

#[test]
fn a_program_that_ignores_or_reaps_its_children_is_told_the_same_and_hears_of_none() {
    // A child that somebody else reaped told nothing, and the process was killed.
    static SIGNALS: AtomicUsize = AtomicUsize::new(0);
    static FORKS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn on_signal(_: libc::c_int) {
        SIGNALS.fetch_add(1, Ordering::SeqCst);
    }
    extern "C" fn on_fork() {
        FORKS.fetch_add(1, Ordering::SeqCst);
    }
    in_a_process_of_its_own(this_test!(), || {
        let handle = |handler| {
            // SAFETY: a handler that may run at any time.
            unsafe { libc::signal(libc::SIGCHLD, handler) };
        };
        let asked = || {
            refused(SETUP, Refusal::Kills, || {
                let ring = Ring::builder().build().unwrap();
                assert_eq!(ring.backend().reason(), Some(&Reason::Kills));
            });
        };
        // SAFETY: it may run in any fork.
        unsafe { libc::pthread_atfork(Some(on_fork), Some(on_fork), Some(on_fork)) };
        handle(libc::SIG_IGN);
        asked();
        handle(on_signal as *const () as libc::sighandler_t);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    // SAFETY: no status is asked for.
                    let reaped = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
                    assert_eq!(reaped, -1, "a child that nobody knows");
                }
            });
            (0..20).for_each(|_| asked());
            done.store(true, Ordering::SeqCst);
        });
        assert_eq!(SIGNALS.load(Ordering::SeqCst) + FORKS.load(Ordering::SeqCst), 0);
    });
}
