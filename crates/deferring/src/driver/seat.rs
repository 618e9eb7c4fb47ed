//! The seat: one thread at a time turns the ring, and others can call it.
//!
//! Not: what a turn is (`turn/`), nor who sits down (the other files here).

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;

#[cfg(not(all(test, any(loom, shuttle))))]
use super::bell::Bell;
use super::host::Host;
use super::spin::look;
use crate::backend::Kernel;
#[cfg(all(test, any(loom, shuttle)))]
use crate::backend::toy::Bell;
use crate::sync::thread::{self, Thread};
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering, park_timeout};

/// The place from which one thread at a time turns the ring and sleeps in the kernel.
///
/// Others may queue, submit and reap meanwhile. What they queue, or wake, calls the sleeper by a
/// bell: an eventfd that the ring itself watches. Only the thread in the seat silences the bell,
/// so that a call made just before it sleeps is not lost. (In a ring to which one thread alone may
/// submit, that one does so, too, when it waits by hand.)
pub(crate) struct Seat {
    taken: AtomicBool,
    /// Whether the thread in the seat sleeps: [`AWAKE`], [`ASLEEP`], [`CALLED`].
    rest: AtomicUsize,
    /// The thread in the seat looks for work before it falls asleep, until this is false.
    spins: AtomicBool,
    /// How many threads wait by hand in a ring to which one thread alone may submit.
    waiting: AtomicUsize,
    bell: Bell,
    pub(crate) host: Host,
    /// Threads that found the seat taken, asleep until it is free or their task is woken.
    queue: Mutex<Vec<Thread>>,
    queued: AtomicUsize,
}

/// What the thread in the seat does; and that somebody has called it since it fell asleep.
const AWAKE: usize = 0;
const ASLEEP: usize = 1;
const CALLED: usize = 2;

impl Seat {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self {
            taken: AtomicBool::new(false),
            rest: AtomicUsize::new(AWAKE),
            spins: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            bell: Bell::new()?,
            host: Host::default(),
            queue: Mutex::new(Vec::new()),
            queued: AtomicUsize::new(0),
        })
    }

    /// The seat, if it is free; given back when the return value is dropped.
    pub(super) fn take(&self) -> Option<Seated<'_>> {
        let free =
            self.taken.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        // Not `then_some`: a `Seated` that is made and dropped would free the other's seat.
        free.then(|| Seated { seat: self })
    }

    /// The same, when whoever has it has got up; `None` if it is too late then. Nobody sits for
    /// long in a ring that nobody has, unless submitting blocks.
    pub(crate) fn take_in_time(&self, left: impl Fn() -> Duration) -> Option<Seated<'_>> {
        loop {
            let seated = self.take();
            let left = left();
            if seated.is_some() || left.is_zero() {
                return seated;
            }
            self.stand_in_line(thread::current());
            if self.taken.load(Ordering::SeqCst) {
                park_timeout(left);
            }
        }
    }

    /// Whether nobody has it now.
    #[cfg_attr(not(any(feature = "tokio", feature = "async-io")), allow(dead_code))]
    pub(super) fn is_free(&self) -> bool {
        !self.taken.load(Ordering::SeqCst)
    }

    /// Sleeps until the seat may be free or `awake` may be true. Both may be false still.
    pub(super) fn queue_up(&self, thread: Thread, awake: impl Fn() -> bool) {
        self.stand_in_line(thread);
        if self.taken.load(Ordering::SeqCst) && !awake() {
            thread::park();
        }
    }

    /// Whoever frees the seat looks at the line after that, and unparks all; so look at the seat
    /// after this.
    fn stand_in_line(&self, thread: Thread) {
        let mut queue = self.queue.lock();
        if !queue.iter().any(|queued| queued.id() == thread.id()) {
            queue.push(thread);
        }
        self.queued.store(queue.len(), Ordering::SeqCst);
    }

    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// From now on, until the return value is dropped, calls ring the bell.
    pub(crate) fn fall_asleep(&self) -> Asleep<'_> {
        // A call that came before is not needed, as what it is for is seen.
        self.rest.store(ASLEEP, Ordering::SeqCst);
        Asleep { seat: self }
    }

    #[inline]
    pub(crate) fn is_asleep(&self) -> bool {
        self.rest.load(Ordering::SeqCst) != AWAKE
    }

    /// Whether the caller is the first to call the sleeper, and there is one.
    #[cold]
    fn is_first_to_call(&self) -> bool {
        // Not a swap: it may be awake by now, and nobody must take it for asleep then.
        let called = self.rest.compare_exchange(ASLEEP, CALLED, Ordering::SeqCst, Ordering::SeqCst);
        called.is_ok()
    }

    /// Calls whoever turns the ring, if they rest: there is something to send.
    #[inline]
    pub(crate) fn call_sleeper(&self) {
        if self.is_asleep() {
            if self.is_first_to_call() {
                self.bell.ring();
            }
        } else if self.spins.load(Ordering::SeqCst) {
            self.spins.store(false, Ordering::SeqCst);
        }
        self.host.call();
    }

    /// Calls whoever may submit what the caller may not, if it sleeps in the ring.
    pub(crate) fn call_submitter(&self) {
        let sleeper = self.is_asleep() && self.is_first_to_call();
        if sleeper || self.waiting.load(Ordering::SeqCst) > 0 {
            self.bell.ring();
        }
        self.host.call();
    }

    /// Calls by messages, if the kernel can.
    pub(crate) fn call_by_message(&self, kernel: &Kernel) -> bool {
        self.bell.call_by_message(kernel)
    }

    /// Whether the kernel has to watch the bell.
    pub(crate) fn needs_a_watch(&self) -> bool {
        self.bell.needs_a_watch()
    }

    /// For the thread in the seat: looks for work until `time` is over. Whether some came; `first`
    /// is asked once, when callers know that this thread looks.
    pub(super) fn spin(
        &self,
        first: impl FnOnce() -> bool,
        is_there: impl Fn() -> bool,
        time: impl Fn() -> bool,
    ) -> bool {
        self.spins.store(true, Ordering::SeqCst);
        let called = || !self.spins.load(Ordering::Relaxed) || is_there();
        let came = first() || look(called, time);
        self.spins.store(false, Ordering::SeqCst);
        came
    }

    /// Whether a thread sleeps in the ring that the bell is for.
    pub(crate) fn is_awaited(&self) -> bool {
        self.is_asleep() || self.waiting.load(Ordering::SeqCst) > 0
    }

    /// From now on, until the return value is dropped, [`call_submitter`](Self::call_submitter)
    /// rings the bell.
    pub(crate) fn wait_for_calls(&self) -> Waits<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waits { seat: self }
    }

    /// For the thread in the seat, awake: what the bell called for will be looked at now.
    pub(crate) fn silence(&self) {
        self.bell.silence();
    }

    /// For any other, that found it ringing while nobody was asleep. Somebody may be by now, and
    /// have been called since.
    pub(crate) fn silence_unseated(&self) {
        self.bell.silence();
        if self.is_awaited() {
            self.bell.ring();
        }
    }
}

/// The seat, taken.
pub(crate) struct Seated<'a> {
    seat: &'a Seat,
}

impl Drop for Seated<'_> {
    fn drop(&mut self) {
        self.seat.taken.store(false, Ordering::SeqCst);
        self.seat.host.call_if_missed();
        if self.seat.queued.load(Ordering::SeqCst) > 0 {
            let mut queue = self.seat.queue.lock();
            let threads = std::mem::take(&mut *queue);
            self.seat.queued.store(0, Ordering::SeqCst);
            drop(queue);
            threads.iter().for_each(Thread::unpark);
        }
    }
}

/// A thread waits by hand, or is about to.
pub(crate) struct Waits<'a> {
    seat: &'a Seat,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.seat.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The thread in the seat sleeps, or is about to.
pub(crate) struct Asleep<'a> {
    seat: &'a Seat,
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        // Who sees this late calls for nothing. (A thread that leaves a call in the CQ for a sleeper
        // that is awake leaves it to that one, which looks next.)
        self.seat.rest.store(AWAKE, Ordering::Release);
    }
}
