//! The calling thread turns the ring until a future is ready.

use std::cell::Cell;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

use super::conclude;
use crate::error;
use crate::notify::Calls;
use crate::ring::Ring;
use crate::sync::thread::{self, Thread};
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::turn::{Found, Shared};

/// Runs a future to its end on this thread, and turns the ring meanwhile: what the future queues
/// goes out as one batch whenever it has nothing left to do.
///
/// The future may await anything, not only this ring. Several threads may block on one ring; one
/// of them turns it, for all. A `block_on` inside another one works, but keeps the outer future
/// from going on.
///
/// ```
/// use deferring::{Ring, block_on};
///
/// let ring = Ring::builder().build()?;
/// block_on(&ring, async {
///     let (one, two) = (ring.nop(), ring.nop()); // both queued
///     one.await?;                                // one system call for both
///     two.await
/// })?;
/// assert_eq!(ring.stats().enters, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
/// If the ring was built on another thread with [`single_issuer`](crate::Builder::single_issuer),
/// or the process is a fork of the one that built it.
pub fn block_on<F: IntoFuture>(ring: &Ring, future: F) -> F::Output {
    let mut future = pin!(future.into_future());
    let shared = ring.shared();
    let call = Arc::new(Call {
        woken: AtomicBool::new(true),
        seated: AtomicBool::new(false),
        parked: AtomicBool::new(false),
        thread: thread::current(),
        shared: Arc::clone(shared),
    });
    let waker = Waker::from(Arc::clone(&call));
    let mut cx = Context::from_waker(&waker);
    let _here = Here::begin();
    let mut found = Found::borrowing();
    let (mut turns, mut _indexed) = (0_u32, None);
    loop {
        for _ in 0..POLLS_PER_TURN {
            // To look costs less than to swap.
            if !call.is_woken() || !call.woken.swap(false, Ordering::SeqCst) {
                break;
            }
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                shared.put_back(found);
                return output;
            }
        }
        turn(shared, &call, &mut found);
        turns = turns.saturating_add(1);
        if turns == TURNS_TO_INDEX && shared.check_process().is_ok() {
            _indexed = shared.kernel().index_here();
        }
    }
}

thread_local! {
    /// This thread is in a `block_on`.
    static IS_HERE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a `block_on`: what is polled is nobody's task, unless it has an executor
/// of its own.
#[cfg(feature = "tokio")]
#[inline]
pub(super) fn is_here() -> bool {
    IS_HERE.get()
}

/// The thread is in one, for so long.
struct Here {
    outer: bool,
}

impl Here {
    fn begin() -> Self {
        Self { outer: IS_HERE.replace(true) }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        IS_HERE.set(self.outer);
    }
}

/// How often a future that wakes itself is polled before the ring is turned. Collections of
/// futures wake themselves once more than needed, and a turn costs a system call.
const POLLS_PER_TURN: usize = 4;

/// After so many turns, another is likely enough to have the ring called in the shorter way, which costs
/// two system calls.
const TURNS_TO_INDEX: u32 = 64;

/// One `block_on`, as its wakers know it.
struct Call {
    /// The future is to be polled.
    woken: AtomicBool,
    /// The thread is in the seat: if that sleeps, it is called by the bell.
    seated: AtomicBool,
    /// The thread is parked, or about to be: it is called by `unpark`.
    parked: AtomicBool,
    thread: Thread,
    shared: Arc<Shared>,
}

impl Call {
    fn is_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    /// Parks the thread, if `park` finds that it is to be when others can see that it is.
    fn parked(&self, park: impl FnOnce()) {
        self.parked.store(true, Ordering::SeqCst);
        park();
        self.parked.store(false, Ordering::Relaxed);
    }

    /// Parks the thread until it is woken, or for no reason.
    fn park(&self) {
        self.parked(|| {
            if !self.is_woken() {
                thread::park();
            }
        });
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The order matters on both sides: the thread says that it is parked, or that it is seated,
        // then that the seat is asleep, then looks at `woken`; so one of the two sees the other.
        self.woken.store(true, Ordering::SeqCst);
        if self.shared.check_process().is_err() {
            return; // A fork: the thread is the parent's.
        }
        if self.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        // In this order: who is seen asleep is seen seated. While it is neither, it will look.
        if self.shared.seat.is_asleep() && self.seated.load(Ordering::Acquire) {
            self.shared.seat.call_sleeper();
        }
    }
}

/// Turns the ring once, or waits for the thread that does.
fn turn(shared: &Shared, call: &Call, found: &mut Found) {
    // A future may have forked: the child must not touch the ring, nor a lock that may be held.
    if let Err(error) = shared.check_process() {
        cannot(&error);
    }
    if shared.is_poisoned() {
        // Every handle has its error. What the future may still wait for is not the ring's.
        return call.park();
    }
    if shared.seat.host.is_elsewhere() {
        // Nobody else may.
        let seat = &shared.seat;
        if !call.is_woken() && !seat.host.look_out(seat.is_asleep(), || call.is_woken()) {
            call.park();
        }
        return;
    }
    let Some(seated) = shared.seat.take() else {
        let thread = call.thread.clone();
        return call.parked(|| shared.seat.queue_up(thread, || call.is_woken()));
    };
    // Seen by whoever sees the seat asleep.
    call.seated.store(true, Ordering::Release);
    let sent = if call.is_woken() {
        shared.submit_seated()
    } else {
        shared.sleep_seated(|| call.is_woken())
    };
    shared.collect_seated(found);
    call.seated.store(false, Ordering::Release);
    drop(seated);
    let mut calls = Calls::default();
    let turned = conclude(shared, found, sent, &mut calls);
    calls.resume();
    if let Err(errno) = turned {
        cannot(&error::enter(errno));
    }
}

fn cannot(error: &io::Error) -> ! {
    panic!("the ring cannot be turned from here: {error}")
}
