//! The two ways to turn a ring that hazards are told on: by hand, and by `block_on`.
//!
//! Both are bounded, as everything in `support.rs` is.

use std::time::Duration;

use deferring::op::Op;
use deferring::{Handle, Ring};

use crate::support::{run, turn_until};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    ByHand,
    BlockOn,
}

impl Way {
    /// Turns the ring until this op has ended.
    pub(crate) fn finish<T: Op>(self, ring: &Ring, handle: Handle<T>) -> T::Output {
        self.finish_all(ring, vec![handle]).pop().expect("one")
    }

    /// Turns the ring until all of them have ended. Their outputs, in the same order.
    pub(crate) fn finish_all<T: Op>(self, ring: &Ring, handles: Vec<Handle<T>>) -> Vec<T::Output> {
        match self {
            Self::ByHand => by_hand(ring, &handles),
            Self::BlockOn => run(ring, async move {
                let mut outputs = Vec::with_capacity(handles.len());
                for handle in handles {
                    outputs.push(handle.await);
                }
                outputs
            }),
        }
    }

    /// Turns the ring until something is so that the ring does not know of.
    pub(crate) fn turn_until(self, ring: &Ring, mut done: impl FnMut() -> bool) {
        match self {
            Self::ByHand => turn_until(ring, done),
            Self::BlockOn => run(ring, async {
                while !done() {
                    // Nobody wakes us for it, so we look again.
                    ring.timeout(Duration::from_millis(2)).await.expect("a timeout ends");
                }
            }),
        }
    }
}

fn by_hand<T: Op>(ring: &Ring, handles: &[Handle<T>]) -> Vec<T::Output> {
    let mut done = 0;
    turn_until(ring, || {
        done += handles[done..].iter().take_while(|handle| handle.is_done()).count();
        done == handles.len()
    });
    handles.iter().map(|handle| handle.try_take().expect("done, and not taken")).collect()
}
