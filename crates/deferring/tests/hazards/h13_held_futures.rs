//! Hazard 13: futures that are held and not polled. They hold nothing up.
//!
//! The classic of async Rust: a task keeps many futures in a collection, does not poll it, and
//! awaits one more. Where a future must be polled to make room, that hangs. Here results are reaped
//! whoever polls. Not: too many completions as such (`../it/completion.rs`).

use std::fs::File;
use std::io::Write as _;
use std::task::{Context, Waker};
use std::time::Duration;

use deferring::{BufResult, CWD, Fd, PollFlags, Ring, block_on};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::report::{Hazard, long};
use crate::support::{builder, in_time, pipe};

/// A small ring, and four times as many futures as its CQ holds.
const COMPLETIONS: u32 = 16;
const HELD: usize = 4 * COMPLETIONS as usize;

fn small_ring() -> Ring {
    builder().queue_depth(8).completions(COMPLETIONS).build().unwrap()
}

#[test]
fn h13_futures_that_are_held_and_not_polled_hold_no_other_up() {
    let hazard = Hazard::begin(13);
    let rounds = if long() { 1_000 } else { 50 };
    let mut awaited = 0;
    for round in 0..rounds {
        let polled = round % 2 == 1;
        awaited += beside_nops(polled);
        awaited += beside_reads_of_pipes(polled);
        awaited += beside_what_workers_do(polled);
        awaited += beside_what_never_ends(polled);
    }
    hazard.saw(format!(
        "beside {HELD} futures in a FuturesUnordered that nobody polls, on a CQ of {COMPLETIONS}, \
         {awaited} others were awaited"
    ));
}

/// Polls everything once, if asked to, as a task does that has looked in before; nobody does again.
fn look<F: Future>(held: &mut FuturesUnordered<F>, polled: bool) {
    if polled {
        let _ = held.poll_next_unpin(&mut Context::from_waker(Waker::noop()));
    }
}

/// Awaits ops of several kinds, one after the other. Returns how many.
async fn await_others(ring: &Ring) -> usize {
    let zero = Fd::from(File::open("/dev/zero").unwrap());
    ring.nop().await.unwrap();
    assert_eq!(ring.read(&zero, vec![1; 8], 0).await.into_inner().unwrap(), (8, vec![0; 8]));
    ring.timeout(Duration::from_micros(100)).await.unwrap();
    ring.queue(deferring::op::Statx::new(CWD, "/")).await.unwrap();
    4
}

/// Awaits others beside these, then these.
fn beside<T>(
    ring: &Ring,
    mut held: FuturesUnordered<impl Future<Output = T>>,
    polled: bool,
    mut check: impl FnMut(T),
) -> usize {
    let story = async {
        look(&mut held, polled);
        let others = await_others(ring).await;
        let mut came = 0;
        while let Some(output) = held.next().await {
            check(output);
            came += 1;
        }
        assert_eq!(came, HELD, "what was held is there, too");
        others
    };
    block_on(ring, in_time(std::pin::pin!(story)))
}

fn beside_nops(polled: bool) -> usize {
    let ring = small_ring();
    let held: FuturesUnordered<_> = (0..HELD).map(|_| ring.nop()).collect();
    beside(&ring, held, polled, |nop| nop.unwrap())
}

fn beside_reads_of_pipes(polled: bool) -> usize {
    let ring = small_ring();
    let mut pipes: Vec<_> = (0..HELD).map(|_| pipe()).collect();
    let held = pipes.iter().map(|(reader, _)| ring.read(reader, vec![0; 1], 0)).collect();
    pipes.iter_mut().for_each(|(_, writer)| writer.write_all(b"x").unwrap());
    beside(&ring, held, polled, |BufResult(n, _)| assert_eq!(n.unwrap(), 1))
}

fn beside_what_workers_do(polled: bool) -> usize {
    let ring = small_ring();
    let stat = |_| ring.queue(deferring::op::Statx::new(CWD, "/proc"));
    beside(&ring, (0..HELD).map(stat).collect(), polled, |stat| assert!(stat.is_ok()))
}

/// Those are given up at last.
fn beside_what_never_ends(polled: bool) -> usize {
    let ring = small_ring();
    let (reader, _writer) = pipe();
    let mut held: FuturesUnordered<_> =
        (0..HELD).map(|_| ring.poll(&reader, PollFlags::IN)).collect();
    block_on(
        &ring,
        in_time(std::pin::pin!(async {
            look(&mut held, polled);
            let others = await_others(&ring).await;
            drop(held);
            others + await_others(&ring).await
        })),
    )
}
