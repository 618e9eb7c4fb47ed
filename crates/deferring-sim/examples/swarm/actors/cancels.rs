//! Cancels: each tells something, and what it tells is true.

use std::time::Duration;

use deferring::op::{Op, Openat2};
use deferring::{BufResult, CWD, CancelOutcome, Fd, Handle, OFlags, PollFlags, Ring};
use futures_util::future::join;

use crate::buffer::Watched;
use crate::stage::Stage;

pub(crate) async fn play(mut stage: Stage) {
    let (input, output) = stage.pipe();
    let ring = stage.ring.clone();
    let fifo = stage.path("fifo");
    stage.sim.mkfifo(&fifo).expect("a fifo");
    for _ in 0..stage.rng.usize(1..30) {
        match stage.rng.u8(..6) {
            0 => cancel(&mut stage, ring.poll(&input, PollFlags::IN)).await,
            1 => cancel(&mut stage, ring.timeout(Duration::from_secs(1 << 20))).await,
            2 => {
                let open = Openat2::new(CWD, &fifo).flags(OFlags::RDONLY).in_worker();
                cancel(&mut stage, ring.queue(open)).await;
            }
            3 => cancel_a_read(&mut stage, &input, &output).await,
            4 => let_go(&mut stage, &ring, &input).await,
            _ => many(&mut stage, &ring, &input).await,
        }
    }
    drop(output);
}

/// Whatever there is time for between two things.
async fn pause(stage: &mut Stage) {
    let time = Duration::from_micros(stage.rng.u64(..500));
    if stage.rng.bool() {
        deferring::time::sleep(&stage.ring, time).await.expect("a sleep");
    }
}

/// An op that does not end by itself.
async fn cancel<T: Op<Output = std::io::Result<O>>, O>(stage: &mut Stage, handle: Handle<T>) {
    pause(stage).await;
    let what = "a cancel";
    let (outcome, result) = {
        let ring = &stage.ring;
        let outcome = stage.oracle.result(ring, what, handle.cancel()).await;
        (outcome, stage.oracle.result(ring, "an op that was cancelled", handle).await)
    };
    match (outcome, result) {
        (Some(CancelOutcome::Cancelled), Some(result)) => {
            assert!(result.is_err(), "P4: it has ended")
        }
        (Some(_), Some(_)) => {}
        // It hangs for ever; the oracle has seen to it that it may.
        (_, None) => {}
        (None, Some(_)) => panic!("P4: a cancel told nothing of an op that has ended"),
    }
}

/// A read that may get its bytes just then.
async fn cancel_a_read(stage: &mut Stage, input: &Fd, output: &Fd) {
    let ring = stage.ring.clone();
    let read = ring.read(input, Watched::blank(&stage.oracle, 16), 0);
    pause(stage).await;
    let write = ring.write(output, Watched::new(&stage.oracle, vec![1]), 0);
    let oracle = stage.oracle.clone();
    let (outcome, sent) = join(
        oracle.result(&ring, "the cancel of a read", read.cancel()),
        oracle.result(&ring, "a write", write),
    )
    .await;
    assert!(sent.is_some_and(|BufResult(n, _)| n.is_ok_and(|n| n == 1)));
    let Some(BufResult(n, buffer)) = oracle.result(&ring, "a read that was cancelled", read).await
    else {
        panic!("reads from pipes do not hang");
    };
    match n {
        Ok(n) => {
            assert_eq!(buffer.read(n), [1]);
            assert!(outcome.is_some_and(|outcome| outcome != CancelOutcome::Cancelled), "P4");
        }
        Err(error) => {
            assert!(outcome.is_some());
            let cancelled =
                [libc::ECANCELED, libc::EINTR].map(Some).contains(&error.raw_os_error());
            assert!(cancelled || stage.fails, "{error}");
            // Its byte is there for another.
            let again = ring.read(input, Watched::blank(&oracle, 16), 0);
            let again = oracle.result(&ring, "a read of what is there", again).await;
            let got = again.is_some_and(|BufResult(n, _)| n.is_ok_and(|n| n == 1));
            assert!(got || stage.fails, "a read that was cancelled has taken a byte");
            if !got {
                drain(stage, &ring, input).await;
            }
        }
    }
}

/// Takes the byte that a failed read has left.
async fn drain(stage: &Stage, ring: &Ring, input: &Fd) {
    loop {
        let read = ring.read(input, Watched::blank(&stage.oracle, 16), 0);
        let read = stage.oracle.result(ring, "a read of what is there", read).await;
        if read.is_some_and(|BufResult(n, _)| n.is_ok()) {
            return;
        }
    }
}

/// Nobody waits for it any more: its memory is freed when the kernel lets go.
async fn let_go(stage: &mut Stage, ring: &Ring, input: &Fd) {
    let poll = ring.poll(input, PollFlags::IN);
    let sleep = ring.timeout(Duration::from_millis(stage.rng.u64(..20)));
    let open = ring.queue(Openat2::new(CWD, stage.path("")).flags(OFlags::RDONLY));
    pause(stage).await;
    drop(poll);
    match stage.rng.bool() {
        true => sleep.detach(),
        false => drop(sleep),
    }
    match stage.rng.bool() {
        true => open.detach(),
        false => drop(open),
    }
}

/// Many at once.
async fn many(stage: &mut Stage, ring: &Ring, input: &Fd) {
    let group = ring.group();
    let count = stage.rng.usize(1..50);
    let polls: Vec<_> = (0..count).map(|_| group.add(ring.poll(input, PollFlags::IN))).collect();
    pause(stage).await;
    let told = match stage.rng.bool() {
        true => stage.oracle.result(ring, "a cancel of many", group.cancel()).await,
        false => stage.oracle.result(ring, "a cancel of many", ring.cancel_fd(input)).await,
    };
    let told = told.expect("polls do not hang");
    // Polls that were let go before may be among them.
    assert!(told.cancelled + told.running + told.finished >= count, "P4: {count}, {told:?}");
    for poll in polls {
        let result = stage.oracle.result(ring, "a poll that was cancelled", poll).await;
        assert!(result.is_some_and(|result| result.is_err()));
    }
}
