//! A task in somebody's reactor that turns the ring, whatever the runtime.
//!
//! It turns the ring when it is called, and when the reactor says that the ring is readable. Its
//! wait is free of races: it says that it is idle, then looks whether there is something to do;
//! whoever has something for it says so, then looks whether it is idle. Not: reactors (`tokio.rs`,
//! `async_io.rs`).

use std::io;
use std::task::{Poll, Waker};

use rustix::io::Errno;

use super::conclude;
use crate::notify::Calls;
use crate::sync::plain;
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::turn::Shared;

/// How a ring's task can be called.
#[derive(Debug, Default)]
pub(crate) struct Host {
    /// It waits to be called.
    idle: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// It found the seat taken.
    missed: AtomicBool,
    /// Nobody turns the ring by hand.
    drives: AtomicBool,
    /// Any thread may turn the ring, also in polls of handles.
    in_place: AtomicBool,
    /// The task that polled a handle last, as far as its waker tells.
    last_task: plain::AtomicUsize,
    /// How often it has done so since it last had to wait.
    alone: plain::AtomicUsize,
}

/// How often a task in a row may turn the ring itself. What ends at once would keep it going for ever,
/// and in an executor that does not count that, all others from having their turn.
const ALONE_MAX: usize = 64;

impl Host {
    /// From now on somebody turns the ring; `in_place` if any thread may.
    pub(crate) fn begin(&self, in_place: bool) {
        self.drives.store(true, Ordering::Relaxed);
        self.in_place.store(in_place, Ordering::Relaxed);
    }

    /// Whether somebody turns the ring, so that nobody has to by hand.
    pub(crate) fn drives(&self) -> bool {
        self.drives.load(Ordering::Relaxed)
    }

    /// Whether a thread of the ring's own turns it, and no other may.
    pub(super) fn is_thread(&self) -> bool {
        self.drives() && !self.in_place.load(Ordering::Relaxed)
    }

    /// Whether a task that awaits an op alone may turn the ring itself: it polled a handle the last
    /// time, too. Where there are several, their ops go out together.
    fn is_alone(&self, waker: &Waker) -> bool {
        if !self.in_place.load(Ordering::Relaxed) {
            return false;
        }
        let task = waker.data().addr();
        self.last_task.swap(task, Ordering::Relaxed) == task
            && self.alone.fetch_add(1, Ordering::Relaxed) < ALONE_MAX
    }

    /// A task that awaits an op has to wait, so that others have their turn.
    pub(crate) fn rests(&self) {
        // Most often it is so already, and a look is cheaper than a store.
        if self.alone.load(Ordering::Relaxed) > 0 {
            self.alone.store(0, Ordering::Relaxed);
        }
    }

    /// Calls the task, if it waits.
    pub(crate) fn call(&self) {
        if self.idle.load(Ordering::SeqCst) && self.idle.swap(false, Ordering::SeqCst) {
            let waker = self.waker.lock().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// The seat is free.
    pub(super) fn call_if_missed(&self) {
        if self.missed.load(Ordering::SeqCst) && self.missed.swap(false, Ordering::SeqCst) {
            self.call();
        }
    }

    /// From now on, a call wakes this one. To be followed by a look at what there is to do.
    pub(super) fn wait(&self, waker: &Waker) {
        let waker = waker.clone();
        let replaced = self.waker.lock().replace(waker);
        drop(replaced);
        self.idle.store(true, Ordering::SeqCst);
    }

    /// There is something to do: calls are not needed.
    fn stay(&self) {
        self.idle.store(false, Ordering::SeqCst);
    }
}

/// How many batches go out before other tasks have their turn.
const TURNS_PER_POLL: usize = 4;

/// Turns the ring until there is nothing to do; a call of the ring's wakes `call` then. `readable` is to
/// say whether the reactor has seen the ring readable, forget that, and see to a waking when it is
/// again. Ready when the ring has ended.
///
/// # Errors
/// Of the reactor: it does not watch the ring any more.
pub(crate) fn poll_turns(
    shared: &Shared,
    call: &Waker,
    mut readable: impl FnMut() -> Poll<io::Result<()>>,
) -> Poll<io::Result<()>> {
    let host = &shared.seat.host;
    for _ in 0..TURNS_PER_POLL {
        if shared.is_over() {
            return Poll::Ready(Ok(()));
        }
        let turned = take_turn(shared, Shared::submit_seated);
        while let Poll::Ready(watched) = readable() {
            watched?;
        }
        if !turned {
            // Whoever has the seat calls when it is free, unless it is by now.
            host.missed.store(true, Ordering::SeqCst);
        }
        host.wait(call);
        let may = turned || shared.seat.is_free();
        let rests = !(may && shared.wants_turn());
        if rests && !shared.is_over() {
            return Poll::Pending;
        }
        host.stay();
    }
    call.wake_by_ref();
    Poll::Pending
}

/// Wakes those whose ops have ended, and sends nothing. Whether there were any, or there is something
/// to send.
#[cfg(feature = "tokio")]
pub(super) fn reap(shared: &Shared) -> bool {
    let mut any = false;
    if shared.has_completions() {
        any = take_turn(shared, |_| Ok(()));
    }
    any || shared.wants_turn()
}

/// Turns the ring once, if nobody else does.
fn take_turn(shared: &Shared, send: impl FnOnce(&Shared) -> Result<(), Errno>) -> bool {
    if shared.is_poisoned() {
        return true;
    }
    let Some(seated) = shared.seat.take() else { return false };
    let sent = send(shared);
    let found = shared.collect_seated();
    drop(seated);
    // A panic of the user's wakers is not the reactor's: the panic hook has reported it.
    let _ = conclude(shared, found, sent, &mut Calls::default());
    true
}

/// What is queued goes out now, if the task that polls is alone: what ends at once is there at once,
/// without a way through the reactor.
pub(crate) fn turn_before_first_poll(shared: &Shared, waker: &Waker) {
    if shared.seat.host.is_alone(waker) && !shared.is_over() {
        take_turn(shared, Shared::submit_seated);
    }
}
