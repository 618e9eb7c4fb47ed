//! A task in somebody's reactor that turns the ring, whatever the runtime.
//!
//! It turns the ring when it is called, and when the reactor says that the ring is readable. Its
//! wait is free of races: it says that it is idle, then looks whether there is something to do;
//! whoever has something for it says so, then looks whether it is idle. Not: reactors (`tokio.rs`,
//! `async_io.rs`).

use std::io;
use std::sync::OnceLock;
use std::task::{Poll, Waker};
use std::time::Instant;

use rustix::io::Errno;

use super::conclude;
use super::spin::{Spin, look, until};
use crate::notify::Calls;
use crate::sync::here;
use crate::sync::plain;
use crate::sync::thread::{self, ThreadId};
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::turn::{Found, Shared};

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
    /// How often that was the same one.
    streak: plain::AtomicU32,
    /// How often it has turned the ring since it last had to wait.
    in_a_row: plain::AtomicU32,
    /// The thread on which turns may be taken in polls, if not any: see [`here`].
    home: plain::AtomicUsize,
    tied: AtomicBool,
    /// The ring's own thread.
    thread: OnceLock<ThreadId>,
    /// How long others that `block_on` look out for what it does, before they sleep.
    spin: plain::Mutex<Option<Spin>>,
    /// How many of them do now.
    looking: plain::AtomicUsize,
}

/// How many first polls in a row make a task alone. Of a crowd of busy ones, two in a row come
/// often.
const ALONE: u32 = if cfg!(all(test, any(loom, shuttle))) { 1 } else { 16 };

/// The time that it takes to wake a thread, in longest looks.
const WAKING: u32 = 2;

/// How often in a row a task may turn the ring itself. What ends at once would keep it going for
/// ever, and in an executor that does not count that, all others from having their turn.
const IN_A_ROW_MAX: u32 = 64;

impl Host {
    /// From now on a task in a reactor turns the ring, and any thread may. `tied`: in polls of
    /// handles only the one that the task is on, as completions come to the thread that submits.
    pub(crate) fn begin(&self, tied: bool) {
        self.tied.store(tied, Ordering::Relaxed);
        self.in_place.store(true, Ordering::Relaxed);
        self.drives.store(true, Ordering::Relaxed);
    }

    /// From now on this thread turns the ring; if `alone`, no other may.
    pub(crate) fn begin_here(&self, alone: bool, spin: &Spin) {
        *self.spin.lock() = Some(spin.of_who_waits());
        let _ = self.thread.set(thread::current().id());
        self.in_place.store(!alone, Ordering::Relaxed);
        self.drives.store(true, Ordering::Relaxed);
    }

    /// From now on a thread turns the ring that has not begun yet, and no other may.
    #[cfg(all(test, any(loom, shuttle)))]
    pub(crate) fn begin_elsewhere(&self) {
        self.drives.store(true, Ordering::Relaxed);
    }

    /// Whether somebody turns the ring, so that nobody has to by hand.
    pub(crate) fn drives(&self) -> bool {
        self.drives.load(Ordering::Relaxed)
    }

    /// Whether a thread of the ring's own turns it, and no other may.
    pub(crate) fn is_kept(&self) -> bool {
        self.drives() && !self.in_place.load(Ordering::Relaxed)
    }

    /// The same, and this is another.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.is_kept() && self.thread.get().is_none_or(|thread| *thread != thread::current().id())
    }

    /// Looks whether something comes from the ring's own thread, which is elsewhere, for as long as
    /// that has paid lately. If the thread has to be woken for it, that takes as long again. Whether
    /// it came; if not, it may come yet.
    pub(super) fn look_out(&self, is_asleep: bool, is_there: impl Fn() -> bool) -> bool {
        let waking = if is_asleep { WAKING } else { 0 };
        let time = self.spin.lock().as_mut().and_then(|spin| {
            let time = spin.time(false)?;
            Some(time + spin.most() * waking)
        });
        let Some(time) = time else { return false };
        self.looking.fetch_add(1, Ordering::Relaxed);
        let came = look(is_there, until(Instant::now() + time));
        self.looking.fetch_sub(1, Ordering::Relaxed);
        if let Some(spin) = &mut *self.spin.lock() {
            spin.came(came);
        }
        came
    }

    /// Whether somebody looks out for what this thread does.
    pub(super) fn is_looked_at(&self) -> bool {
        self.looking.load(Ordering::Relaxed) > 0
    }

    /// Whether a task that awaits an op alone may turn the ring itself: for some time nobody else
    /// has polled a handle. Where there are several, their ops go out together.
    fn is_alone(&self, waker: &Waker) -> bool {
        let task = waker.data().addr();
        if self.last_task.load(Ordering::Relaxed) != task {
            self.last_task.store(task, Ordering::Relaxed);
            self.streak.store(0, Ordering::Relaxed);
            return false;
        }
        let streak = self.streak.load(Ordering::Relaxed);
        if streak < ALONE {
            self.streak.store(streak + 1, Ordering::Relaxed);
            return false;
        }
        let away = self.tied.load(Ordering::Relaxed) && self.home.load(Ordering::Relaxed) != here();
        !away && self.in_a_row.fetch_add(1, Ordering::Relaxed) < IN_A_ROW_MAX
    }

    /// A task that awaits an op has to wait, so that others have their turn.
    pub(crate) fn rests(&self) {
        // Most often it is so already, and a look is cheaper than a store.
        if self.in_a_row.load(Ordering::Relaxed) > 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Calls the task, if it waits.
    #[inline]
    pub(crate) fn call(&self) {
        if self.idle.load(Ordering::SeqCst) {
            self.call_idle();
        }
    }

    #[cold]
    fn call_idle(&self) {
        if self.idle.swap(false, Ordering::SeqCst) {
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

/// Turns the ring until there is nothing to do; a call of the ring's wakes `call` then. `readable`
/// is to say whether the reactor has seen the ring readable, forget that, and see to a waking when
/// it is again. Ready when the ring ends, or can be turned no more.
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
        if shared.has_no_use_for_a_task() {
            return Poll::Ready(Ok(()));
        }
        host.home.store(here(), Ordering::Relaxed);
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
        if rests && !shared.has_no_use_for_a_task() {
            return Poll::Pending;
        }
        host.stay();
    }
    call.wake_by_ref();
    Poll::Pending
}

/// Wakes those whose ops have ended, and sends nothing. Whether there were any, or there is
/// something to send.
#[cfg(feature = "tokio")]
pub(super) fn reap(shared: &Shared) -> bool {
    let mut any = false;
    if !shared.has_no_use_for_a_task() && shared.has_completions() {
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
    if shared.is_closing() {
        return true; // Whoever drops the ring turns it, and waits for each CQE.
    }
    let sent = send(shared);
    let mut found = Found::borrowing();
    shared.collect_seated(&mut found);
    drop(seated);
    // A panic of the user's wakers is not the reactor's: the panic hook has reported it.
    let _ = conclude(shared, &mut found, sent, &mut Calls::default());
    shared.put_back(found);
    true
}

/// What is queued goes out now, if the task that polls is alone: what ends at once is there at
/// once, without a way through the reactor. On a ring with a thread of its own, which may be waking
/// many: others are woken first, so that what they queue goes out together.
#[inline]
pub(crate) fn turn_before_first_poll(shared: &Shared, waker: &Waker) {
    if shared.needs_help() {
        shared.help_to_wake();
    }
    let host = &shared.seat.host;
    if host.in_place.load(Ordering::Relaxed)
        && host.is_alone(waker)
        && !shared.has_no_use_for_a_task()
    {
        take_turn(shared, Shared::submit_seated);
    }
}
