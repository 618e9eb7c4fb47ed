//! A thread of the ring's own that turns it: for any executor, and for none.
//!
//! It blocks all signals but those of its own faults, sleeps nowhere but in the ring, and outlives
//! every op. Nobody joins it without a bound: whoever drops the last `Ring` waits for as long as
//! the drain may take. It also takes over when the runtime ends that turned a ring. Not: what a
//! turn is (`turn/`).

use std::convert::Infallible;
use std::io;
use std::sync::Weak;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::conclude;
use super::spin::{Spin, until};
use crate::config::Builder;
use crate::error;
use crate::notify::Calls;
use crate::ring::Ring;
use crate::sync::thread::{self, ThreadId};
use crate::sync::{Arc, mpsc, panicking};
#[cfg(not(all(test, any(loom, shuttle))))]
use crate::threads;
use crate::turn::{Found, Shared};

const NAME: &str = "deferring";

/// What the owner of a ring knows of its thread.
#[derive(Debug)]
pub(crate) struct Keeper {
    thread: ThreadId,
    /// Nothing comes; it is closed when the thread is done with the ring.
    done: mpsc::Receiver<Infallible>,
}

impl Keeper {
    pub(crate) const fn of(thread: ThreadId, done: mpsc::Receiver<Infallible>) -> Self {
        Self { thread, done }
    }

    /// Waits until the thread is done with the ring, or for the time. The thread itself does not
    /// wait: it goes on when the code of the user's returns that dropped the ring.
    pub(crate) fn wait(&self, time: Duration) {
        if thread::current().id() != self.thread {
            let _ = self.done.recv_timeout(time);
        }
    }
}

/// Makes a ring on a thread of its own.
pub(super) fn start(mut config: Builder) -> io::Result<Ring> {
    if config.sqpoll_idle.is_none() {
        config.defer_taskrun = true;
    }
    let (tell, told) = mpsc::channel();
    let (alive, done) = mpsc::channel();
    let thread = spawn(NAME, move || {
        let shared = match Shared::open(&config) {
            Ok(shared) => shared,
            Err(error) => return drop(tell.send(Err(error))),
        };
        let spin = Spin::new(config.spin);
        shared.seat.host.begin_here(shared.params().single_issuer, &spin);
        shared.seat.call_by_message(shared.kernel());
        if tell.send(Ok(Arc::clone(&shared))).is_ok() {
            keep(&shared, alive, spin);
        }
    })?;
    let shared = told.recv().unwrap_or_else(|_| Err(error::setup("thread", Errno::AGAIN)))?;
    *shared.keeper() = Some(Keeper::of(thread, done));
    Ok(Ring::of(shared))
}

/// Nobody turns the ring any more: a thread does, as soon as there is something to do.
#[cfg_attr(not(any(feature = "tokio", feature = "async-io")), allow(dead_code))]
pub(super) fn take_over(shared: &Arc<Shared>) {
    if shared.is_over() || shared.has_no_use_for_a_task() {
        return;
    }
    let host = &shared.seat.host;
    host.wait(&Waker::from(Arc::new(Starter(Arc::downgrade(shared)))));
    if !shared.is_idle() {
        host.call();
    }
}

/// With this a ring is poisoned for which there is no thread.
const NO_THREAD: Errno = Errno::AGAIN;

/// Starts a thread for a ring when it is called.
struct Starter(Weak<Shared>);

impl Wake for Starter {
    fn wake(self: Arc<Self>) {
        let Some(shared) = self.0.upgrade() else { return };
        let (alive, done) = mpsc::channel();
        let mut keeper = shared.keeper();
        if shared.is_closing() {
            return; // Whoever drops the ring turns it.
        }
        let spin = Spin::new(Builder::SPIN);
        let kept = Arc::clone(&shared);
        match spawn(NAME, move || keep(&kept, alive, spin)) {
            Ok(thread) => *keeper = Some(Keeper::of(thread, done)),
            Err(_) => {
                drop(keeper);
                // Better an error in every handle than a wait for ever.
                shared.poison(NO_THREAD, &mut Calls::default());
            }
        }
    }
}

/// Stories have their own.
#[cfg(all(test, any(loom, shuttle)))]
pub(crate) fn spawn(_: &str, _: impl FnOnce() + Send + 'static) -> io::Result<ThreadId> {
    Err(error::setup("start of the ring's thread", Errno::AGAIN))
}

/// A thread of the library's own.
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<ThreadId> {
    threads::spawn(name, run).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
        error::setup("start of the ring's thread", errno)
    })
}

/// Turns the ring until it has ended. `alive` goes last.
fn keep(shared: &Arc<Shared>, alive: mpsc::Sender<Infallible>, spin: Spin) {
    let keeps = Keeps(shared);
    let indexed = shared.kernel().index_here();
    run(shared, spin);
    drop(indexed);
    drop(keeps);
    drop(alive);
}

/// If the thread ends before the ring, by a panic of ours, everybody learns of it.
struct Keeps<'a>(&'a Shared);

impl Drop for Keeps<'_> {
    fn drop(&mut self) {
        if panicking() {
            self.0.poison(Errno::OWNERDEAD, &mut Calls::default());
        }
        self.0.end_by_keeper();
    }
}

/// Turns the ring until its last owner has gone and nothing is out.
pub(crate) fn run(shared: &Shared, mut spin: Spin) {
    let (mut found, mut watched) = (Found::default(), false);
    let is_done = || shared.is_closing() && !shared.is_owed();
    while !is_done() && !shared.is_poisoned() {
        let Some(seated) = shared.seat.take() else {
            shared.seat.queue_up(thread::current(), is_done);
            continue;
        };
        let mut sent = Ok(());
        let spins = spin.time(watched).is_some_and(|time| {
            sent = shared.submit_seated();
            shared.collect_seated(&mut found);
            // What is there before a look shows that somebody is awake, and counts.
            let came = sent.is_err() || found.any() || look_out(shared, time);
            spin.came(came);
            came
        });
        if !spins {
            sent = shared.sleep_seated(is_done);
            shared.collect_seated(&mut found);
        }
        drop(seated);
        // Before they are woken: then they look no more.
        watched = found.any() && shared.seat.host.is_looked_at();
        // A panic of the user's wakers ends here: the panic hook has reported it.
        if conclude(shared, &mut found, sent, &mut Calls::default()).is_err() {
            // The kernel knows another thread as the owner.
            shared.poison(Errno::EXIST, &mut Calls::default());
        }
    }
}

/// Looks for work without a system call. Whether some came.
fn look_out(shared: &Shared, time: Duration) -> bool {
    let end = until(Instant::now() + time);
    shared.seat.spin(|| shared.wants_turn(), || shared.is_called_for(), end)
}
