//! What only a ring with a thread of its own has.
//!
//! Stories that look for the thread in `/proc` have a process of their own. Not: what every host
//! has (`stories.rs`).

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use deferring::{BufResult, Ring, block_on, leaked_ops};

use crate::support::{
    Graveyard, OpenInWorker, Refusal, bounded, builder, check_interrupted, errno, fifo,
    has_io_uring, in_a_fork, in_a_process_of_its_own, lets_go, park_on, pipe, poll_once, refused,
    this_test, until,
};

fn start() -> Ring {
    builder().queue_depth(32).drain_timeout(Duration::MAX).start().unwrap()
}

/// The directories in `/proc` of the threads of this process that turn rings.
fn threads() -> Vec<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let name = |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap_or_default();
    tasks.filter(|task| name(task).trim() == "deferring").collect()
}

#[test]
fn the_thread_has_a_name_blocks_all_signals_but_faults_and_ends_with_the_ring() {
    in_a_process_of_its_own(this_test!(), || {
        assert!(threads().is_empty());
        let ring = start();
        park_on(ring.nop()).unwrap();
        // A thread of the pool's has its maker's name until it gets to its own.
        until("there is one thread", || threads().len() == 1);
        let found = threads();
        let [thread] = &found[..] else { panic!("one thread, not {found:?}") };
        let mask = |task: &std::path::Path| {
            let status = fs::read_to_string(task.join("status")).unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap()
        };
        // All but KILL, STOP, and the two that the C library keeps for itself (32 and 33).
        let set_of =
            |signals: &[i32]| signals.iter().fold(0u64, |set, signal| set | 1 << (signal - 1));
        let all = !set_of(&[libc::SIGKILL, libc::SIGSTOP, 32, 33]);
        // A fault of the thread's own would kill the process past the program's handler.
        let faults =
            [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];
        assert_eq!(mask(thread) & all, all & !set_of(&faults));
        assert_eq!(mask("/proc/thread-self".as_ref()) & all, 0, "the maker's is as before");
        drop(ring);
        until("the thread ends", || !thread.exists());
    });
}

#[test]
fn a_ring_dropped_on_its_own_thread_leaves_no_thread() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = start();
        let (reader, mut writer) = pipe();
        let (other, _silent) = pipe();
        let out = ring.read(&other, vec![7; 3], 0);
        let mut read = ring.read(&reader, vec![0; 1], 0);
        let last = Waker::from(Arc::new(Calls::new(move || drop(ring))));
        assert!(poll_once(&mut read, &last).is_pending());
        writer.write_all(b"x").unwrap();
        let BufResult(result, buf) = park_on(out);
        assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![7; 3]));
        until("the thread ends", || threads().is_empty());
        assert_eq!(read.try_take().expect("it called").unwrap().0, 1);
        assert_eq!(leaked_ops(), 0);
    });
}

#[test]
fn p8_a_thread_that_is_stuck_in_code_of_the_users_is_not_joined() {
    in_a_process_of_its_own(this_test!(), || {
        let time = Duration::from_millis(20);
        let ring = builder().drain_timeout(time).start().unwrap();
        let graveyard = Graveyard::default();
        let [(reader, mut writer), (other, _silent)] = [pipe(), pipe()];
        let (release, released) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let mut read = ring.read(&reader, vec![0; 1], 0);
        let stuck = Calls::new(move || {
            tell.send(()).unwrap();
            let _ = released.recv();
        });
        assert!(poll_once(&mut read, &Waker::from(Arc::new(stuck))).is_pending());
        let hung = ring.read(&other, graveyard.buffer(), 0);
        writer.write_all(b"x").unwrap();
        told.recv().unwrap();
        bounded(move || drop(ring));
        // Nobody could cancel it, so nothing of it was freed.
        assert_eq!((graveyard.freed(), threads().len()), (0, 1));
        drop(release);
        until("the thread ends", || threads().is_empty());
        assert!(hung.is_done());
    });
}

#[test]
fn p8_a_ring_with_ops_that_hang_ends_within_its_bound() {
    bounded(|| {
        let dir = tempfile::tempdir().unwrap();
        let ring = start();
        let (reader, _silent) = pipe();
        let fifo = fifo(dir.path().join("fifo"));
        let open = ring.queue(OpenInWorker::new(&fifo));
        let reads: Vec<_> = (0..100).map(|_| ring.read(&reader, vec![0; 1], 0)).collect();
        let gone = ring.read(&reader, vec![0; 1], 0);
        gone.detach();
        park_on(ring.nop()).unwrap();
        let _peer = lets_go(&fifo);
        drop(ring);
        for read in reads {
            let BufResult(result, _) = read.try_take().expect("ended");
            assert_eq!(errno(&result), Some(libc::ECANCELED));
        }
        check_interrupted(&open.try_take().expect("ended"));
    });
}

#[test]
fn p9_a_forked_child_of_a_driven_ring_gets_an_error_that_says_so() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = start();
        park_on(ring.nop()).unwrap();
        let (reader, mut writer) = pipe();
        let mut read = ring.read(&reader, vec![0; 1], 0);
        assert!(poll_once(&mut read, Waker::noop()).is_pending());
        let mut ring = Some(ring);
        let status = in_a_fork(|| {
            let ring = ring.take().expect("of the child's own");
            let forked = |error: std::io::Error| {
                let message = error.to_string();
                assert!(message.contains("Make a ring of its own in the child"), "{message}");
            };
            forked(park_on(ring.nop()).unwrap_err());
            forked(ring.submit().unwrap_err());
            forked(ring.wait(None).unwrap_err());
            forked(ring.reap().unwrap_err());
            drop(ring);
            let ring = start();
            park_on(ring.nop()).unwrap();
        });
        assert_eq!(status.exit_status(), Some(0), "the child ended with {status:?}");
        writer.write_all(b"x").unwrap();
        assert_eq!(park_on(read).unwrap().0, 1);
        park_on(ring.expect("the parent's").nop()).unwrap();
    });
}

#[test]
fn a_thread_that_could_not_be_sent_a_message_sleeps_again() {
    let ring = bounded(|| {
        let ring = start();
        // Not enough memory for a message, time and again: the eventfd calls instead.
        refused(libc::SYS_io_uring_register, Refusal::Fails(libc::ENOMEM), || {
            for _ in 0..10 {
                park_on(ring.nop()).unwrap();
            }
        });
        ring
    });
    // A bell that nobody silences would keep the thread from sleeping.
    let before = ring.stats().enters;
    park_on(ring.timeout(Duration::from_millis(50))).unwrap();
    let enters = ring.stats().enters - before;
    assert!(enters < 50, "{enters} calls for one op that sleeps");
}

#[test]
fn whoever_waits_for_a_ring_with_a_thread_falls_asleep_and_so_does_the_thread() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = start();
        // One after the other, so that to look for the next pays.
        block_on(&ring, async {
            for _ in 0..1000 {
                ring.nop().await.unwrap();
            }
        });
        let (reader, mut writer) = pipe();
        let (tell, told) = mpsc::channel();
        let waits = {
            let ring = ring.clone();
            std::thread::spawn(move || {
                let tid = rustix::thread::gettid().as_raw_nonzero();
                tell.send(PathBuf::from(format!("/proc/self/task/{tid}"))).unwrap();
                block_on(&ring, ring.read(&reader, vec![0; 1], 0)).unwrap().0
            })
        };
        let both = [told.recv().unwrap(), threads().pop().unwrap()];
        // Whoever looked for ever would not sleep, and whoever slept a little would do so often.
        let sleeps = |task: &PathBuf| {
            let status = fs::read_to_string(task.join("status")).unwrap();
            let line = |name| status.lines().find(|line| line.starts_with(name)).map(str::to_owned);
            let asleep = line("State:").unwrap().contains("S (sleeping)");
            asleep.then(|| line("voluntary_ctxt_switches:"))
        };
        let seen = || (both.each_ref().map(sleeps), ring.stats().enters);
        until("both sleep, and go on sleeping", || {
            let before = seen();
            std::thread::sleep(Duration::from_millis(50));
            before.0.iter().all(Option::is_some) && seen() == before
        });
        writer.write_all(b"x").unwrap();
        assert_eq!(waits.join().unwrap(), 1);
    });
}

/// The first of a batch that is woken may keep the thread from waking the others: here for ever, in
/// life until it sleeps again.
#[test]
fn who_queues_an_op_wakes_those_whom_the_thread_has_not_come_to() {
    if !has_io_uring("a ring that its own thread alone turns") {
        return;
    }
    bounded(|| {
        let ring = start();
        let (release, released) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let (reader, mut writer) = pipe();
        let (open, opened) = mpsc::channel::<()>();
        let here = {
            let tell = tell.clone();
            move || tell.send(std::thread::current().id()).unwrap()
        };
        let waker = |call: Box<dyn FnOnce() + Send>| Waker::from(Arc::new(Calls::new(call)));
        // Two ops end while the thread is busy with something else, and so together.
        let mut before = ring.read(&reader, vec![0; 1], 0);
        let tells = here.clone();
        let busy = waker(Box::new(move || {
            tells();
            let _ = opened.recv();
        }));
        assert!(poll_once(&mut before, &busy).is_pending());
        writer.write_all(b"x").unwrap();
        let thread = told.recv().unwrap();
        let (mut first, mut second) = (ring.nop(), ring.nop());
        let tells = here.clone();
        let keeps = waker(Box::new(move || {
            tells();
            let _ = released.recv();
        }));
        assert!(poll_once(&mut first, &keeps).is_pending());
        assert!(poll_once(&mut second, &waker(Box::new(here))).is_pending());
        drop(open);
        assert_eq!(told.recv(), Ok(thread));
        let mut third = ring.nop();
        assert!(poll_once(&mut third, Waker::noop()).is_pending());
        assert_eq!(told.try_recv(), Ok(std::thread::current().id()), "the second is woken here");
        drop(release);
        third.detach();
    });
}

/// An executor may poll in its wakers; each of these queues another op, and polls it.
#[test]
fn wakers_that_poll_are_not_called_one_inside_the_other_without_end() {
    if !has_io_uring("a ring that its own thread alone turns") {
        return;
    }
    bounded(|| {
        let ring = start();
        let depth = Arc::new(Depth::default());
        let (tell, told) = mpsc::channel();
        let mut handles: Vec<_> = (0..2000).map(|_| ring.nop()).collect();
        for handle in &mut handles {
            let (ring, depth, tell) = (ring.clone(), Arc::clone(&depth), tell.clone());
            let polls = Waker::from(Arc::new(Calls::new(move || {
                depth.within(|| {
                    let mut next = ring.nop();
                    let _ = poll_once(&mut next, Waker::noop());
                    next.detach();
                });
                tell.send(()).unwrap();
            })));
            if poll_once(handle, &polls).is_ready() {
                polls.wake();
            }
        }
        drop(tell);
        assert_eq!(told.into_iter().count(), 2000, "each is called once");
        assert!(depth.most.load(Ordering::Relaxed) <= 4, "{depth:?}");
    });
}

/// How many calls are inside one another on one thread, and the most there were.
#[derive(Debug, Default)]
struct Depth {
    most: AtomicUsize,
}

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

impl Depth {
    fn within(&self, call: impl FnOnce()) {
        DEPTH.set(DEPTH.get() + 1);
        self.most.fetch_max(DEPTH.get(), Ordering::Relaxed);
        call();
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// A waker that does something, once.
struct Calls<F>(Mutex<Option<F>>);

impl<F> Calls<F> {
    fn new(call: F) -> Self {
        Self(Mutex::new(Some(call)))
    }
}

impl<F: FnOnce() + Send + 'static> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        let call = self.0.lock().unwrap().take();
        call.into_iter().for_each(|call| call());
    }
}
