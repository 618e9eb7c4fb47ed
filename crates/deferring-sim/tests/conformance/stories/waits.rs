//! Times, cancels, deadlines, and what is refused.
//!
//! Not: what streams do meanwhile (`streams.rs`).
#![allow(unsafe_code)] // Ops that no op of the library's asks for.

use std::io;
use std::time::Duration;

use deferring::op::{Mkdirat, Op, Opcode, Sqe};
use deferring::{CancelOutcome, Clock, PollFlags};
use futures_util::future::join_all;
use rustix::io::Errno;

use super::fails;
use crate::worlds::World;

const MOMENT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(1000);

/// An SQE as it is.
struct Raw<const CODE: u8>(Sqe);

// SAFETY: the stories ask for nothing with memory, and for no descriptor.
unsafe impl<const CODE: u8> Op for Raw<CODE> {
    type Output = io::Result<u32>;
    const CODE: Opcode = Opcode(CODE);
    const AGAIN: bool = false;

    fn encode(&mut self, sqe: &mut Sqe) {
        let Sqe { opcode, user_data, .. } = *sqe;
        *sqe = Sqe { opcode, user_data, ..self.0 };
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<u32> {
        result
    }
}

pub(crate) async fn times_pass(world: &World) {
    let start = world.now();
    world.ring.timeout(MOMENT).await.unwrap();
    assert!(world.now() >= start + MOMENT);
    world.ring.timeout(Duration::ZERO).await.unwrap();
    for clock in [Clock::Monotonic, Clock::Boottime, Clock::Realtime] {
        world.ring.queue(deferring::op::Timeout::after(MOMENT).clock(clock)).await.unwrap();
        world.ring.queue(deferring::op::Timeout::at(clock, MOMENT)).await.unwrap();
    }
    let start = world.now();
    let at = deferring::op::Timeout::at(Clock::Monotonic, start + MOMENT);
    world.ring.queue(at).await.unwrap();
    assert!(world.now() >= start + MOMENT);
    // The earlier one is over first.
    let late = world.ring.timeout(LONG);
    world.ring.timeout(MOMENT).await.unwrap();
    assert!(!late.is_done());
}

pub(crate) async fn times_can_be_changed_and_removed(world: &World) {
    let late = world.ring.timeout(LONG);
    world.ring.nop().await.unwrap();
    late.update(MOMENT).await.unwrap();
    late.await.unwrap();
    let late = world.ring.timeout(LONG);
    world.ring.nop().await.unwrap();
    late.update_at(world.now() + MOMENT).await.unwrap();
    late.await.unwrap();
    let late = world.ring.timeout(LONG);
    world.ring.nop().await.unwrap();
    late.remove().await.unwrap();
    let again = late.remove();
    fails(late.await, Errno::CANCELED);
    fails(again.await, Errno::NOENT);
}

pub(crate) async fn a_cancel_ends_what_waits(world: &World) {
    let (input, output) = world.pipe();
    let read = world.ring.read(&input, Vec::with_capacity(9), 0);
    let poll = world.ring.poll(&input, PollFlags::IN);
    let time = world.ring.timeout(LONG);
    world.ring.nop().await.unwrap();
    assert_eq!(read.cancel().await, CancelOutcome::Cancelled);
    assert_eq!(poll.cancel().await, CancelOutcome::Cancelled);
    assert_eq!(time.cancel().await, CancelOutcome::Cancelled);
    fails(read.await.0, Errno::CANCELED);
    fails(poll.await, Errno::CANCELED);
    fails(time.await, Errno::CANCELED);
    world.write_at(&output, "still there", 0).await.unwrap();
    assert_eq!(world.read_at(&input, 99, 0).await.unwrap(), b"still there");
    // Of several the one that is meant.
    let reads: Vec<_> = (0..4).map(|_| world.ring.read(&input, Vec::with_capacity(1), 0)).collect();
    world.ring.nop().await.unwrap();
    assert_eq!(reads[1].cancel().await, CancelOutcome::Cancelled);
    world.write_at(&output, "abc", 0).await.unwrap();
    let got: Vec<_> = join_all(reads).await.into_iter().map(|read| read.1).collect();
    assert_eq!(got, [&b"a"[..], b"", b"b", b"c"]);
}

pub(crate) async fn a_cancel_of_what_has_not_begun_or_is_over(world: &World) {
    // In a worker: else one whose caller may block is over when it is queued.
    let never = Mkdirat::new(&world.dir, "never", deferring::Mode::RWXU).in_worker();
    let never = world.ring.queue(never);
    assert_eq!(never.cancel().await, CancelOutcome::Cancelled);
    fails(never.await, Errno::CANCELED);
    let done = world.ring.nop();
    world.ring.nop().await.unwrap();
    assert_eq!(done.cancel().await, CancelOutcome::Finished);
    done.await.unwrap();
    assert!(world.list("").unwrap().is_empty());
    let (input, _output) = world.pipe();
    let read = world.ring.read(&input, Vec::with_capacity(9), 0);
    world.ring.nop().await.unwrap();
    let cancelled = world.ring.cancel_fd(&input).await;
    assert_eq!((cancelled.cancelled, cancelled.finished), (1, 0));
    fails(read.await.0, Errno::CANCELED);
}

pub(crate) async fn a_deadline_gives_up(world: &World) {
    let (input, output) = world.pipe();
    let read = world.ring.read(&input, vec![5; 9], 0).timeout(MOMENT).await;
    fails(read.0, Errno::TIMEDOUT);
    assert_eq!(read.1, [5; 9]);
    fails(world.ring.poll(&input, PollFlags::IN).timeout(MOMENT).await, Errno::TIMEDOUT);
    fails(world.ring.timeout(LONG).timeout(MOMENT).await, Errno::TIMEDOUT);
    world.ring.timeout(MOMENT).timeout(LONG).await.unwrap();
    world.write_at(&output, "in time", 0).await.unwrap();
    let read = world.ring.read(&input, Vec::with_capacity(9), 0).timeout(LONG).await;
    assert_eq!(read.1, b"in time");
}

pub(crate) async fn dropped_handles_leave_nothing_behind(world: &World) {
    let (input, output) = world.pipe();
    drop(world.ring.read(&input, Vec::with_capacity(9), 0));
    let sent = world.ring.read(&input, Vec::with_capacity(9), 0);
    world.ring.nop().await.unwrap();
    drop(sent);
    drop(world.ring.timeout(LONG));
    world.ring.mkdirat(&world.dir, "made", deferring::Mode::RWXU).detach();
    while world.list("").unwrap().is_empty() {
        world.ring.timeout(MOMENT).await.unwrap();
    }
    // What the dropped ones would have taken is for the next.
    let read = world.ring.read(&input, Vec::with_capacity(9), 0);
    world.ring.timeout(MOMENT).await.unwrap();
    world.write_at(&output, "for the next", 0).await.unwrap();
    assert_eq!(read.await.1, b"for the n");
    world.ring.close(&input).await.unwrap();
    assert_eq!(world.list("").unwrap(), ["made"]);
    fails(world.write_at(&output, "x", 0).await, Errno::PIPE);
}

pub(crate) async fn what_no_kernel_knows_is_refused(world: &World) {
    async fn refused<const CODE: u8>(world: &World, sqe: Sqe, errno: Errno) {
        fails(world.ring.queue(Raw::<CODE>(sqe)).await, errno);
    }
    let none = Sqe { fd: -1, ..Sqe::EMPTY };
    refused::<250>(world, none, Errno::INVAL).await;
    // No such descriptor.
    refused::<{ Opcode::READ.0 }>(world, none, Errno::BADF).await;
    refused::<{ Opcode::FSYNC.0 }>(world, none, Errno::BADF).await;
    refused::<{ Opcode::POLL_ADD.0 }>(world, none, Errno::BADF).await;
    refused::<{ Opcode::FTRUNCATE.0 }>(world, none, Errno::BADF).await;
    refused::<{ Opcode::FALLOCATE.0 }>(world, none, Errno::BADF).await;
    refused::<{ Opcode::FADVISE.0 }>(world, none, Errno::BADF).await;
    refused::<{ Opcode::CLOSE.0 }>(world, none, Errno::BADF).await;
    // Flags that no op of these has.
    let flags = Sqe { op_flags: 1 << 30, ..none };
    refused::<{ Opcode::FSYNC.0 }>(world, flags, Errno::INVAL).await;
    refused::<{ Opcode::TIMEOUT.0 }>(world, Sqe { len: 1, ..flags }, Errno::INVAL).await;
    refused::<{ Opcode::TIMEOUT_REMOVE.0 }>(world, flags, Errno::INVAL).await;
    refused::<{ Opcode::POLL_REMOVE.0 }>(world, Sqe { len: 1 << 9, ..none }, Errno::INVAL).await;
    refused::<{ Opcode::ASYNC_CANCEL.0 }>(world, Sqe { op_flags: 1 << 20, ..none }, Errno::INVAL)
        .await;
}
