//! Hazard 12: a process that forks with its rings full.
//!
//! Hundreds of ops are out, several times. In the child every call fails, with the error that says
//! why, whatever it does with handles and rings; the parent's results are exact. Not: each call by
//! itself (`../it/processes.rs`).

use std::fs::File;
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Poll, Waker};
use std::time::Duration;

use deferring::op::{Nop, Op, PollAdd, Read, Statx, Timeout};
use deferring::{BufResult, CWD, CancelOutcome, Fd, Handle, Pending, PollFlags, Ring, block_on};

use crate::dice::Dice;
use crate::report::{Hazard, long};
use crate::support::{
    builder, drain, in_a_fork, in_a_process_for, pipe, poll_once, sqpoll, this_test,
};

/// Ops of each of the kinds.
const EACH: usize = 40;

#[test]
fn h12_a_child_gets_errors_from_every_call_and_the_parents_results_are_exact() {
    in_a_process_for(Duration::from_secs(60), this_test!(), || {
        let hazard = Hazard::begin(12);
        let forks = if long() { 100 } else { 10 };
        let mut dice = Dice::new();
        for fork in 0..forks {
            let idle = Duration::from_millis(1);
            let polls = if fork % 5 == 4 { sqpoll(idle) } else { None };
            let ring = polls.unwrap_or_else(builder).queue_depth(32).build().unwrap();
            fork_once(ring, &mut dice);
        }
        hazard.saw(format!(
            "{forks} forks with {} ops out: the child got errors, the parent its results; seed {}",
            5 * EACH,
            dice.seed()
        ));
    });
}

fn fork_once(ring: Ring, dice: &mut Dice) {
    // Each side has these in memory of its own, and takes them out there.
    let mut all = Some(Out::start(ring, dice));
    let before = all.as_ref().map(|out| (out.ring.pending().queued, out.ring.stats()));
    let status = in_a_fork(|| all.take().expect("the child's").fail_in_the_child(dice));
    assert_eq!(status.exit_status(), Some(0), "the child ended with {status:?}");
    let out = all.take().expect("the parent's");
    let after = (out.ring.pending().queued, out.ring.stats());
    assert_eq!(Some(after), before, "nothing was sent meanwhile");
    out.end_in_the_parent();
}

/// Ops that are out, of five kinds; some queued, some in the kernel, some ended.
struct Out {
    ring: Ring,
    pipes: Vec<(Fd, File)>,
    reads: Vec<Handle<Read<Vec<u8>>>>,
    polls: Vec<Handle<PollAdd>>,
    nops: Vec<Handle<Nop>>,
    timeouts: Vec<Handle<Timeout>>,
    stats: Vec<Handle<Statx>>,
}

impl Out {
    fn start(ring: Ring, dice: &mut Dice) -> Self {
        // One for each read, then one for each poll.
        let pipes: Vec<_> = (0..2 * EACH).map(|_| pipe()).collect();
        let (mut reads, mut polls) = (Vec::new(), Vec::new());
        let (mut nops, mut timeouts, mut stats) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..EACH {
            reads.push(ring.read(&pipes[at].0, vec![0; 8], 0));
            polls.push(ring.poll(&pipes[EACH + at].0, PollFlags::IN));
            nops.push(ring.nop());
            timeouts.push(ring.timeout(Duration::from_millis(10)));
            stats.push(ring.queue(Statx::new(CWD, "/proc")));
            if dice.once_in(20) {
                ring.submit().unwrap();
                ring.reap().unwrap();
            }
        }
        Self { ring, pipes, reads, polls, nops, timeouts, stats }
    }

    fn fail_in_the_child(self, dice: &mut Dice) {
        let Self { ring, pipes, reads, polls, nops, timeouts, stats } = self;
        check_calls(&ring);
        let lost = |BufResult(result, buf): BufResult<usize, Vec<u8>>| {
            assert_eq!(buf, [], "the buffer is in the parent");
            result.map(drop)
        };
        give_up(reads, dice, lost);
        give_up(polls, dice, |result| result.map(drop));
        give_up(nops, dice, |result| result);
        give_up(timeouts, dice, |result| result);
        give_up(stats, dice, |result| result.map(drop));
        if dice.once_in(2) {
            drop(ring);
            drop(pipes);
        } // Else the child ends with all of it.
    }

    fn end_in_the_parent(mut self) {
        for (at, (_, writer)) in self.pipes.iter_mut().enumerate() {
            writer.write_all(&at.to_ne_bytes()).unwrap();
        }
        drain(&self.ring);
        for (at, read) in self.reads.iter().enumerate() {
            let (n, buf) = read.try_take().expect("ended").into_inner().unwrap();
            assert_eq!((n, buf), (8, at.to_ne_bytes().to_vec()), "its own bytes");
        }
        for poll in &self.polls {
            assert_eq!(poll.try_take().expect("ended").unwrap(), PollFlags::IN);
        }
        self.nops.iter().for_each(|nop| nop.try_take().expect("ended").unwrap());
        self.timeouts.iter().for_each(|timeout| timeout.try_take().expect("ended").unwrap());
        self.stats.iter().for_each(|stat| assert!(stat.try_take().expect("ended").is_ok()));
        assert!(self.nops.iter().all(|nop| nop.try_take().is_none()), "once");
        assert_eq!(self.ring.pending(), Pending::default());
    }
}

/// Every call on the ring.
fn check_calls(ring: &Ring) {
    let (reader, _writer) = pipe();
    check(ring.submit());
    check(ring.wait(None));
    check(ring.wait(Some(Duration::ZERO)));
    check(ring.reap());
    check(ring.register_eventfd(ring));
    check(ring.unregister_eventfd());
    check(ring.nop().try_take().expect("refused at once"));
    check(block_on(ring, ring.timeout(Duration::from_secs(3600))));
    check(block_on(ring, ring.close(&reader)));
    assert_eq!((ring.pending(), ring.in_flight()), (Pending::default(), 0));
    let turned = catch_unwind(AssertUnwindSafe(|| block_on(ring, std::future::pending::<()>())));
    let panic = turned.expect_err("nothing can be turned");
    let message = panic.downcast_ref::<String>().expect("a message");
    assert!(message.contains("belongs to the process that made it"), "{message}");
}

/// Everything that can be done with a handle, to each one of them.
fn give_up<T: Op>(
    handles: Vec<Handle<T>>,
    dice: &mut Dice,
    result: fn(T::Output) -> io::Result<()>,
) {
    for mut handle in handles {
        assert!(handle.is_done(), "there is nothing to wait for");
        match dice.below(5) {
            0 => drop(handle),
            1 => handle.detach(),
            2 => {
                check(result(handle.try_take().expect("at once")));
                assert!(handle.try_take().is_none(), "once");
            }
            3 => {
                let Poll::Ready(output) = poll_once(&mut handle, Waker::noop()) else {
                    panic!("a handle that is never ready")
                };
                check(result(output));
            }
            _ => assert_eq!(handle.cancel().outcome(), Some(CancelOutcome::Finished)),
        }
    }
}

/// It must be the error for a fork, with advice.
#[track_caller]
fn check<T: std::fmt::Debug>(result: io::Result<T>) {
    let message = result.expect_err("the child used its parent's ring").to_string();
    assert!(message.contains("belongs to the process that made it"), "{message}");
    assert!(message.contains("Make a ring of its own"), "{message}");
}
