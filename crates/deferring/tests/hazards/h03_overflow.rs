//! Many more completions than the completion queue holds, and nobody reaps.
//!
//! The kernel keeps the rest in a list of its own. None may be lost, none may come twice.

use deferring::Ring;

use crate::report::{Hazard, long};
use crate::support::{Answer, bounded, builder, drain, finish, skipped};

fn count() -> i32 {
    if long() { 1_000_000 } else { 100_000 }
}

fn ring(queue_depth: u32) -> Ring {
    let ring = builder().queue_depth(queue_depth).completions(16).build().unwrap();
    assert_eq!(ring.params().cq_entries, 16);
    ring
}

#[test]
fn h03_nops_that_nobody_reaps_all_end_on_a_queue_of_16() {
    bounded(|| {
        for queue_depth in [8, 16] {
            let hazard = Hazard::begin(3);
            let ring = ring(queue_depth);
            let nops: Vec<_> = (0..count()).map(|_| ring.nop()).collect();
            send_all(&ring);
            drain(&ring);
            for nop in &nops {
                nop.try_take().expect("reaped").unwrap();
                assert!(nop.try_take().is_none(), "once");
            }
            hazard.saw(format_args!(
                "{} nops ended on a queue of 16 that was reaped last, {queue_depth} at a time",
                nops.len()
            ));
        }
    });
}

#[test]
fn h03_each_op_gets_its_own_result_through_an_overflow() {
    bounded(|| {
        let hazard = Hazard::begin(3);
        let ring = ring(8);
        if finish(&ring, &ring.queue(Answer(7))).is_err() {
            return skipped("Linux 6.10 (nops that answer as asked)");
        }
        let nops: Vec<_> = (0..count()).map(|number| ring.queue(Answer(number))).collect();
        send_all(&ring);
        drain(&ring);
        for (number, nop) in nops.iter().enumerate() {
            let result = nop.try_take().expect("reaped").unwrap();
            assert_eq!(usize::try_from(result), Ok(number));
        }
        hazard.saw(format_args!("{} nops each had their own result, in the end", nops.len()));
    });
}

/// Submits everything, and reaps nothing.
fn send_all(ring: &Ring) {
    while ring.pending().queued > 0 {
        ring.submit().expect("a full queue does not stop a submit");
    }
}
