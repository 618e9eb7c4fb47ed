//! From the kernel's answer to the result: C13 to C21, and exactly once (P3).

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use deferring::op::{Nop, Op, Read};
use deferring::{BufResult, CURRENT, Fd, Handle, Pending, Ring};

use crate::support::{
    Answer, BOUND, Count, bounded, builder, drain, errno, finish, pipe, poll_once, ring, run,
    skipped, sqpoll, thread_id, turn_until, until, until_asleep_in_a_ring,
};

#[test]
fn c13_a_wait_is_true_when_a_completion_is_there_and_stays_so_until_it_is_reaped() {
    let ring = ring();
    ring.nop().detach();
    ring.submit().unwrap();
    assert!(ring.wait(Some(BOUND)).unwrap());
    assert!(ring.wait(Some(BOUND)).unwrap() && ring.wait(None).unwrap());
    assert_eq!(ring.reap().unwrap(), 1);
    assert!(!ring.wait(Some(Duration::ZERO)).unwrap());
}

#[test]
fn c13_a_wait_is_false_when_the_time_is_over() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let _read = ring.read(&reader, vec![0; 1], 0);
    ring.submit().unwrap();
    assert!(!ring.wait(Some(Duration::from_millis(10))).unwrap());
    assert!(!ring.wait(Some(Duration::from_nanos(1))).unwrap());
}

#[test]
fn c13_a_wait_is_not_for_what_is_still_queued() {
    let ring = ring();
    let nop = ring.nop();
    assert!(!ring.wait(Some(Duration::from_millis(1))).unwrap());
    assert!(!nop.is_done());
}

#[test]
fn c13_a_wait_without_end_sees_what_another_thread_brings_about() {
    bounded(|| {
        let ring = ring();
        let (reader, mut writer) = pipe();
        let read = ring.read(&reader, vec![0; 1], 0);
        ring.submit().unwrap();
        let waiter = thread_id();
        let other = thread::spawn(move || {
            until_asleep_in_a_ring(waiter);
            writer.write_all(b"x").unwrap();
        });
        assert!(ring.wait(None).unwrap());
        other.join().unwrap();
        assert_eq!(finish(&ring, &read).unwrap().0, 1);
    });
}

#[test]
fn c13_the_longest_time_there_is_is_waited_for_and_is_no_error() {
    bounded(|| {
        for time in [Duration::MAX, Duration::from_secs(i64::MAX.unsigned_abs())] {
            let ring = ring();
            let (reader, mut writer) = pipe();
            let _read = ring.read(&reader, vec![0; 1], 0);
            ring.submit().unwrap();
            let waiter = thread_id();
            let other = thread::spawn(move || {
                until_asleep_in_a_ring(waiter);
                writer.write_all(b"x").unwrap();
                writer
            });
            assert!(ring.wait(Some(time)).unwrap(), "{time:?}");
            drop(other.join().unwrap());
        }
    });
}

#[test]
fn c13_a_signal_ends_a_wait_early_with_false() {
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: the handler does nothing, so it may run anywhere; nobody else here uses SIGWINCH.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGWINCH, &raw const action, std::ptr::null_mut()), 0);
    }
    let (tell, told) = mpsc::channel();
    let waiter = thread::spawn(move || {
        let ring = ring();
        let (reader, _writer) = pipe();
        let read = ring.read(&reader, vec![0; 1], 0);
        ring.submit().unwrap();
        tell.send(thread_id()).unwrap();
        let waited = ring.wait(None);
        (waited, read.is_done())
    });
    let thread = told.recv().unwrap();
    until("the signal ends the wait", || {
        // SAFETY: sends a signal that has a handler to a thread of ours, if it is still there.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGWINCH) };
        waiter.is_finished()
    });
    let (waited, done) = waiter.join().unwrap();
    assert!(!waited.unwrap() && !done);
}

#[test]
fn c14_a_reap_fills_each_result_once_and_says_how_many() {
    let ring = ring();
    assert_eq!(ring.reap().unwrap(), 0);
    let nops: Vec<_> = (0..8).map(|_| ring.nop()).collect();
    assert_eq!(ring.reap().unwrap(), 0, "nothing is submitted");
    ring.submit().unwrap();
    assert!(nops.iter().all(|nop| !nop.is_done()), "nothing is reaped");
    assert_eq!(ring.reap().unwrap(), 8);
    assert_eq!(ring.reap().unwrap(), 0);
    nops.iter().for_each(|nop| nop.try_take().expect("reaped").unwrap());
}

#[test]
fn c14_a_reap_wakes_who_awaits_and_each_once() {
    let ring = ring();
    let (count, waker) = Count::new();
    let mut nops: Vec<_> = (0..8).map(|_| ring.nop()).collect();
    for nop in &mut nops {
        assert!(poll_once(nop, &waker).is_pending() && poll_once(nop, &waker).is_pending());
    }
    ring.submit().unwrap();
    assert_eq!(count.get(), 0);
    ring.reap().unwrap();
    assert_eq!(count.get(), 8);
    assert!(nops.iter_mut().all(|nop| poll_once(nop, &waker).is_ready()));
}

#[test]
fn c14_a_handle_wakes_the_task_that_polled_it_last() {
    let ring = ring();
    let ((first, first_waker), (last, last_waker)) = (Count::new(), Count::new());
    let mut nop = ring.nop();
    assert!(poll_once(&mut nop, &first_waker).is_pending());
    assert!(poll_once(&mut nop, &last_waker).is_pending());
    drain(&ring);
    assert_eq!((first.get(), last.get()), (0, 1));
}

#[test]
fn c14_a_flood_of_new_completions_does_not_keep_a_reap_from_returning() {
    bounded(|| {
        // More than a reap looks at in one go, so that it has a reason to look again.
        const TASKS: usize = 200;
        let ring = builder().queue_depth(256).build().unwrap();
        let flood = Arc::new(Flood { ring: ring.clone(), wakes: AtomicUsize::new(0) });
        (0..TASKS).for_each(|_| flood.go_on());
        for _ in 0..10 {
            let reaped = ring.reap().unwrap();
            assert!((1..=TASKS + 4).contains(&reaped), "{TASKS} were out, {reaped} were reaped");
            assert_eq!(ring.in_flight(), TASKS, "each that ended is followed by one");
        }
        flood.wakes.fetch_add(Flood::LAST, Ordering::SeqCst);
    });
}

#[test]
fn c14_every_mode_of_a_ring_fills_each_result() {
    let idle = Duration::from_millis(1);
    let modes = [
        builder().coop_taskrun(true),
        builder().single_issuer(true),
        builder().coop_taskrun(true).single_issuer(true),
        builder().defer_taskrun(true),
    ];
    let sqpoll = sqpoll(idle).into_iter().flat_map(|one| [one.clone(), one.single_issuer(true)]);
    for builder in modes.into_iter().chain(sqpoll) {
        let ring = builder.queue_depth(4).build().unwrap();
        let (reader, mut writer) = pipe();
        let read = ring.read(&reader, vec![0; 1], 0);
        let nops: Vec<_> = (0..20).map(|_| ring.nop()).collect();
        turn_until(&ring, || nops.iter().all(Handle::is_done));
        writer.write_all(b"x").unwrap();
        assert_eq!(finish(&ring, &read).into_inner().unwrap(), (1, b"x".to_vec()));
        nops.iter().for_each(|nop| nop.try_take().expect("reaped").unwrap());
        // The same through `block_on`, and a cancel.
        let read = ring.read(&reader, vec![0; 1], 0);
        run(&ring, async {
            ring.timeout(Duration::from_millis(1)).await.unwrap();
            assert_eq!(read.cancel().await, deferring::CancelOutcome::Cancelled);
        });
        assert_eq!(errno(&finish(&ring, &read).0), Some(libc::ECANCELED), "{:?}", ring.params());
    }
}

#[test]
fn c15_a_result_is_its_value_or_its_errno_and_unknown_ones_keep_their_number() {
    let ring = ring();
    if finish(&ring, &ring.queue(Answer(7))).map_err(|error| error.raw_os_error()) != Ok(7) {
        return skipped("nops with a result of our choice (Linux 6.10)");
    }
    for value in [0, 1, i32::MAX] {
        let result = finish(&ring, &ring.queue(Answer(value)));
        assert_eq!(result.unwrap(), value.unsigned_abs());
    }
    let answers: Vec<_> = (1..=4095).map(|errno| (errno, ring.queue(Answer(-errno)))).collect();
    drain(&ring);
    for (errno, answer) in answers {
        let expected = match errno {
            // The kernel's own words for "interrupted".
            512..=514 | 516 => libc::EINTR,
            errno => errno,
        };
        assert_eq!(answer.try_take().unwrap().unwrap_err().raw_os_error(), Some(expected));
    }
}

#[test]
fn c16_a_completion_does_not_wait_for_those_submitted_before_it() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let (slow, quick) = (ring.read(&reader, vec![0; 1], 0), ring.nop());
    ring.submit().unwrap();
    finish(&ring, &quick).unwrap();
    assert!(!slow.is_done());
    writer.write_all(b"x").unwrap();
    assert_eq!(finish(&ring, &slow).unwrap().0, 1);
}

#[test]
fn c17_a_reap_makes_room_for_completions_that_did_not_fit() {
    let ring = builder().queue_depth(1).completions(2).build().unwrap();
    let nops: Vec<_> = (0..10).map(|_| ring.nop()).collect();
    assert_eq!(ring.submit().unwrap(), 10, "though only two completions fit");
    assert_eq!(ring.pending(), in_kernel(10));
    turn_until(&ring, || ring.in_flight() == 0);
    nops.iter().for_each(|nop| nop.try_take().expect("reaped").unwrap());
}

#[test]
fn c18_what_is_out_can_be_counted_by_where_it_is() {
    let ring = ring();
    assert_eq!(ring.pending(), Pending::default());
    let (reader, _writer) = pipe();
    let polls: Vec<_> = (0..3).map(|_| ring.poll(&reader, deferring::PollFlags::IN)).collect();
    let counts = |pending: Pending| (pending.queued, pending.in_kernel, pending.cancels);
    assert_eq!(counts(ring.pending()), (3, 0, 0));
    ring.submit().unwrap();
    assert_eq!(counts(ring.pending()), (0, 3, 0));
    let nop = ring.nop();
    polls[0].cancel();
    assert_eq!((counts(ring.pending()), ring.in_flight()), ((1, 3, 1), 4));
    drop(polls);
    drain(&ring);
    assert_eq!(ring.pending(), Pending::default());
    nop.try_take().unwrap().unwrap();
}

#[test]
fn c19_the_end_of_a_file_is_zero_and_a_short_transfer_is_its_length() {
    let ring = ring();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"hello").unwrap();
    let file = Fd::from(file);
    let read = |offset| finish(&ring, &ring.read(&file, Vec::with_capacity(64), offset)).unwrap();
    assert_eq!(read(0), (5, b"hello".to_vec()));
    assert_eq!(read(3), (2, b"lo".to_vec()));
    assert_eq!(read(5), (0, vec![]));
    assert_eq!(read(1 << 40), (0, vec![]));
    let (reader, writer) = pipe();
    drop(writer);
    let BufResult(n, buf) = finish(&ring, &ring.read(&reader, vec![9; 8], CURRENT));
    assert_eq!((n.unwrap(), buf), (0, vec![9; 8]));
}

#[test]
fn c19_a_write_that_finds_little_room_is_short_and_no_error() {
    let ring = ring();
    let (_reader, writer) = pipe();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let writer = Fd::from(writer);
    let (written, _) = finish(&ring, &ring.write(&writer, vec![1; 1 << 20], 0)).unwrap();
    assert!((1..1 << 20).contains(&written), "{written} bytes fitted into a pipe");
}

#[test]
fn c20_a_result_is_given_once() {
    let ring = ring();
    let mut nop = ring.nop();
    assert!(nop.try_take().is_none() && !nop.is_done());
    drain(&ring);
    assert!(nop.is_done());
    nop.try_take().expect("reaped").unwrap();
    assert!(nop.try_take().is_none(), "taken");
    assert!(nop.is_done(), "and still done");
    let polled = catch_unwind(AssertUnwindSafe(|| poll_once(&mut nop, Waker::noop())));
    let panic = polled.unwrap_err();
    let message = panic.downcast_ref::<&str>().expect("a message");
    assert!(message.contains("has been taken"), "{message}");
}

#[test]
fn c20_two_threads_that_take_at_once_get_one_result() {
    let ring = ring();
    for _ in 0..500 {
        let nop = ring.nop();
        let taken = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    until("the result is there", || {
                        taken.fetch_add(usize::from(nop.try_take().is_some()), Ordering::SeqCst);
                        nop.is_done()
                    });
                    taken.fetch_add(usize::from(nop.try_take().is_some()), Ordering::SeqCst);
                });
            }
            drain(&ring);
        });
        assert_eq!(taken.into_inner(), 1);
    }
}

#[test]
fn c20_a_refused_operation_has_its_result_at_once_and_once() {
    let ring = ring();
    let (reader, _writer) = pipe();
    drop(run(&ring, async { ring.close(&reader).await }));
    let read = ring.read(&reader, vec![7; 3], 0);
    assert!(read.is_done());
    assert_eq!((ring.in_flight(), ring.submit().unwrap()), (0, 0));
    let BufResult(result, buf) = read.try_take().unwrap();
    assert_eq!((errno(&result), buf), (Some(libc::EBADF), vec![7; 3]));
    assert!(read.try_take().is_none() && read.is_done());
}

/// Every state that an op can be in is left by every event that can happen there; the table in
/// `src/inflight/slot.rs` panics at one that cannot.
#[test]
fn c21_no_order_of_events_breaks_the_table_of_states() {
    for seed in 1..=40 {
        let told = catch_unwind(|| Walk::new(seed).run(1000));
        assert!(told.is_ok(), "seed {seed} failed; `Walk::new({seed}).run(1000)` tells it again");
    }
}

#[test]
fn p3_a_hundred_thousand_completions_on_a_queue_of_sixteen_all_come_and_once() {
    const OPS: usize = 100_000;
    let ring = builder().queue_depth(8).completions(16).build().unwrap();
    let (count, waker) = Count::new();
    let mut nops: Vec<_> = (0..OPS).map(|_| ring.nop()).collect();
    for nop in &mut nops {
        assert!(poll_once(nop, &waker).is_pending());
    }
    assert_eq!(ring.submit().unwrap(), OPS, "none is reaped meanwhile");
    assert_eq!((ring.params().cq_entries, ring.pending()), (16, in_kernel(OPS)));
    let mut reaped = 0;
    turn_until(&ring, || {
        reaped += ring.reap().unwrap();
        ring.in_flight() == 0
    });
    // `turn_until` reaps too; whoever did it, each op woke its task once and has one result.
    assert!(reaped <= OPS);
    assert_eq!(count.get(), OPS);
    nops.iter().for_each(|nop| nop.try_take().expect("reaped").unwrap());
    assert!(nops.iter().all(|nop| nop.try_take().is_none()));
}

#[test]
fn p3_while_handles_are_taken_dropped_and_cancelled_elsewhere_each_op_ends_once() {
    const OPS: usize = 20_000;
    let ring = ring();
    let graveyard = crate::support::Graveyard::default();
    let (reader, mut writer) = pipe();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let (give, handles) = mpsc::channel::<Handle<Read<_>>>();
    let mut returned = 0;
    let turning = ring.clone();
    let (queued_all, all_queued) = mpsc::channel::<()>();
    // One thread turns the ring, for all, and stays until everything has ended.
    let turns = thread::spawn(move || {
        turn_until(&turning, || {
            all_queued.try_recv().is_ok() || {
                // A full pipe is left as it is.
                let _ = writer.write(b"x");
                false
            }
        });
        drain(&turning);
    });
    let queues = {
        let (ring, graveyard) = (ring.clone(), graveyard.clone());
        thread::spawn(move || {
            for _ in 0..OPS {
                give.send(ring.read(&reader, graveyard.buffer(), 0)).expect("somebody takes");
            }
            reader
        })
    };
    let mut dice = Dice(7);
    for handle in handles {
        match dice.below(4) {
            0 => drop(handle),
            1 => {
                handle.cancel();
            }
            2 => {
                handle.cancel();
                until("the cancelled op ends", || handle.is_done());
                returned += usize::from(handle.try_take().is_some());
            }
            _ => returned += usize::from(handle.try_take().is_some()),
        }
    }
    queued_all.send(()).unwrap();
    drop(queues.join().unwrap());
    turns.join().unwrap();
    assert_eq!(ring.pending(), Pending::default());
    assert_eq!(graveyard.freed(), OPS, "{returned} came back, the others were freed by the ring");
    graveyard.check_undisturbed();
}

fn in_kernel(ops: usize) -> Pending {
    let mut pending = Pending::default();
    pending.in_kernel = ops;
    pending
}

/// A task that queues and submits the next op whenever one ends.
struct Flood {
    ring: Ring,
    wakes: AtomicUsize,
}

impl Flood {
    /// So that a reap that never ends does end, too late.
    const LAST: usize = 100_000;

    fn go_on(self: &Arc<Self>) {
        if self.wakes.load(Ordering::SeqCst) >= Self::LAST {
            return;
        }
        let mut nop = self.ring.nop();
        let waker = Arc::clone(self).into();
        assert!(poll_once(&mut nop, &waker).is_pending());
        self.ring.submit().unwrap();
        // Nobody takes the result; the handle stays, so that the waker is called.
        KEPT.with_borrow_mut(|kept| kept.push(nop));
    }
}

thread_local! {
    static KEPT: std::cell::RefCell<Vec<Handle<Nop>>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Wake for Flood {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        self.go_on();
    }
}

/// Numbers that look random and are the same for each seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// A ring on which anything happens, in any order, and what must be true after each step.
struct Walk {
    dice: Dice,
    ring: Ring,
    reader: Fd,
    writer: std::fs::File,
    nops: Vec<Handle<Nop>>,
    reads: Vec<Handle<Read<Vec<u8>>>>,
    queued: usize,
    ended: usize,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let ring = builder().queue_depth(2).completions(4).build().unwrap();
        let (reader, writer) = pipe();
        let (nops, reads) = (Vec::new(), Vec::new());
        let dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Self { dice, ring, reader, writer, nops, reads, queued: 0, ended: 0 }
    }

    fn run(mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            assert_eq!(self.queued, self.ended + self.ring.in_flight(), "{:?}", self.ring);
        }
        let (nops, reads) = (std::mem::take(&mut self.nops), std::mem::take(&mut self.reads));
        match self.dice.below(3) {
            // The handles first, the ring first, or the results.
            0 => drop((nops, reads)),
            1 => {
                drop(self.ring);
                assert!(nops.iter().all(|nop| nop.try_take().is_some()));
                assert!(reads.iter().all(|read| read.try_take().is_some()));
            }
            _ => {
                reads.iter().for_each(|read| {
                    read.cancel();
                });
                // For those that are detached: nobody can cancel them.
                self.writer.write_all(&[b'x'; 1000]).unwrap();
                drain(&self.ring);
                assert!(nops.iter().all(|nop| nop.try_take().is_some()));
                assert!(reads.iter().all(|read| read.try_take().is_some()));
            }
        }
    }

    fn step(&mut self) {
        match self.dice.below(12) {
            0 | 1 => {
                self.nops.push(self.ring.nop());
                self.queued += 1;
            }
            2 | 3 => {
                self.reads.push(self.ring.read(&self.reader, vec![0; 1], 0));
                self.queued += 1;
            }
            4 => drop(self.ring.submit().unwrap()),
            5 | 6 => self.ended += self.ring.reap().unwrap(),
            7 => self.writer.write_all(b"x").unwrap(),
            what @ 8..=11 if self.dice.below(2) == 0 => {
                let queued = self.ring.pending().queued;
                act(&mut self.nops, &mut self.dice, what);
                self.ended += queued - self.ring.pending().queued;
            }
            what => {
                let queued = self.ring.pending().queued;
                act(&mut self.reads, &mut self.dice, what);
                self.ended += queued - self.ring.pending().queued;
            }
        }
    }
}

/// Does something to one of the handles.
fn act<T: Op>(handles: &mut Vec<Handle<T>>, dice: &mut Dice, what: usize) {
    if handles.is_empty() {
        return;
    }
    let at = dice.below(handles.len());
    match what {
        8 => drop(handles.swap_remove(at)),
        9 => handles.swap_remove(at).detach(),
        10 => {
            let first = handles[at].cancel().outcome();
            assert!(first.is_none_or(|first| handles[at].cancel().outcome() == Some(first)));
        }
        _ => {
            if handles[at].is_done() {
                assert!(handles[at].try_take().is_some(), "done, and not taken");
                assert!(handles[at].try_take().is_none(), "taken");
                drop(handles.swap_remove(at));
            } else {
                assert!(handles[at].try_take().is_none());
            }
        }
    }
}
