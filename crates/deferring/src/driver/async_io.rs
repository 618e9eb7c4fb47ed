//! The reactor of async-io turns the ring.
//!
//! There is no executor to put a task on, so the ring is turned where its task is woken: on the
//! thread that has the reactor, where wakers are called anyway. Whoever queues calls it by a bell
//! in the reactor. Not: how it waits without losing a call (`host.rs`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, Wake, Waker};

use async_io::Async;

use super::bell::Bell;
use super::host::poll_turns;
use super::thread::take_over;
use crate::config::Builder;
use crate::ring::Ring;
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering};
use crate::turn::Shared;

pub(super) fn start(config: Builder) -> io::Result<Ring> {
    let shared = Shared::open(&config)?;
    let bell = Arc::new(Bell::new()?);
    let watched = Watched {
        ring: Async::new_nonblocking(shared.as_fd().try_clone_to_owned()?)?,
        bell: Async::new_nonblocking(bell.as_fd().try_clone_to_owned()?)?,
    };
    shared.seat.host.begin(config.coop_taskrun);
    let turner = Arc::new(Turner {
        shared: Arc::clone(&shared),
        call: Waker::from(Arc::new(Caller(Arc::clone(&bell)))),
        bell,
        watched: Mutex::new(Some(watched)),
        state: AtomicUsize::new(RESTS),
    });
    turner.wake();
    Ok(Ring::of(shared))
}

/// A task that runs where it is woken. The reactor keeps it, by its wakers, until the ring has
/// ended.
struct Turner {
    shared: Arc<Shared>,
    call: Waker,
    bell: Arc<Bell>,
    /// `None` while it runs, and when the ring has ended.
    watched: Mutex<Option<Watched>>,
    state: AtomicUsize,
}

struct Watched {
    ring: Async<OwnedFd>,
    bell: Async<OwnedFd>,
}

const RESTS: usize = 0;
const RUNS: usize = 1;
/// It was woken while it ran.
const RUNS_AGAIN: usize = 2;

/// How often it runs again before the reactor goes on with others.
const RUNS_MAX: usize = 4;

impl Wake for Turner {
    fn wake(self: Arc<Self>) {
        if self.state.swap(RUNS_AGAIN, Ordering::SeqCst) != RESTS {
            return; // Whoever runs it sees that.
        }
        let waker = Waker::from(Arc::clone(&self));
        let mut runs = 0;
        loop {
            self.state.store(RUNS, Ordering::SeqCst);
            self.run(&waker);
            runs += 1;
            let rests = self
                .state
                .compare_exchange(RUNS, RESTS, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
            if rests {
                return;
            }
            if runs >= RUNS_MAX && self.watches_bell(&waker) {
                // The bell brings the reactor back.
                self.state.store(RESTS, Ordering::SeqCst);
                self.bell.ring();
                return;
            }
        }
    }
}

impl Turner {
    /// Has the reactor watch the bell; false if it has rung already.
    fn watches_bell(&self, waker: &Waker) -> bool {
        let watched = self.watched.lock();
        let mut cx = Context::from_waker(waker);
        watched.as_ref().is_none_or(|fds| fds.bell.poll_readable(&mut cx).is_pending())
    }

    fn run(&self, waker: &Waker) {
        // One thread at a time is here, and the user's wakers run without a lock.
        let Some(fds) = self.watched.lock().take() else { return };
        let mut cx = Context::from_waker(waker);
        let turned = poll_turns(&self.shared, &self.call, || {
            let called = fds.bell.poll_readable(&mut cx);
            if called.is_ready() {
                self.bell.silence();
            }
            let readable = fds.ring.poll_readable(&mut cx);
            match (called, readable) {
                (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => {
                    Poll::Ready(Err(error))
                }
                (Poll::Pending, Poll::Pending) => Poll::Pending,
                _ => Poll::Ready(Ok(())),
            }
        });
        if turned.is_pending() {
            *self.watched.lock() = Some(fds);
        } else {
            drop(fds);
            // If it was the reactor that ended.
            take_over(&self.shared);
        }
    }
}

/// Calls the reactor's thread to the ring.
struct Caller(Arc<Bell>);

impl Wake for Caller {
    fn wake(self: Arc<Self>) {
        self.0.ring();
    }
}
