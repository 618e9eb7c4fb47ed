//! Stories for model checkers: the whole library on a toy kernel, in all orders, or in many.
//!
//! `of_loom.rs` has small stories, told in every order of steps and of memory that matters;
//! `of_shuttle.rs` has larger ones, in random orders. `cargo xtask models` runs both. Under them
//! is `backend/toy.rs`. Not: single-threaded models (`inflight/model.rs`).
#![allow(unsafe_code)] // An op of their own.

#[cfg(loom)]
mod of_loom;
#[cfg(shuttle)]
mod of_shuttle;

use std::cell::Cell;
use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::Ring;
use crate::backend::toy;
use crate::driver::Keeper;
use crate::driver::models::{Spin, poll_turns, run};
use crate::fd::{Fd, Lease};
use crate::op::{Class, Op, Opcode, Place, Sqe};
use crate::sync::thread::{self, Thread};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, mpsc};

thread_local! {
    static NAMES: Cell<u64> = const { Cell::new(0) };
    static ALIVE: Cell<u64> = const { Cell::new(0) };
}

/// Begins a story anew.
fn begin() {
    toy::reset();
    ALIVE.set(0);
}

/// How many ops there are.
fn alive() -> u64 {
    ALIVE.get()
}

fn ring(depth: u32) -> Ring {
    Ring::builder().queue_depth(depth).build().unwrap()
}

/// An op that asks the toy for something, and must not be dropped while the toy has it.
struct Ask {
    name: u64,
    what: u32,
    key: u64,
    place: Place,
    lease: Option<Lease>,
}

impl Ask {
    fn of(what: u32, key: u64) -> Self {
        let name = NAMES.get() + 1;
        NAMES.set(name);
        ALIVE.set(ALIVE.get() + 1);
        Self { name, what, key, place: Place::of(Class::Control), lease: None }
    }

    fn now() -> Self {
        Self::of(toy::NOW, 0)
    }

    #[cfg_attr(loom, allow(dead_code))] // Of larger stories.
    fn later() -> Self {
        Self::of(toy::LATER, 0)
    }

    fn never() -> Self {
        Self::of(toy::NEVER, 0)
    }

    #[cfg_attr(loom, allow(dead_code))] // Of larger stories.
    fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    #[cfg_attr(loom, allow(dead_code))] // Of larger stories.
    fn using(mut self, fd: &Fd) -> Self {
        self.lease = Some(fd.lease());
        self
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        assert!(!toy::holds(self.name), "an op is dropped under the kernel");
        ALIVE.set(ALIVE.get() - 1);
    }
}

// SAFETY: names no memory; the "address" is a name. The lease goes with the last CQE.
unsafe impl Op for Ask {
    type Output = io::Result<u32>;
    const CODE: Opcode = Opcode::NOP;

    fn check(&self) -> io::Result<()> {
        self.lease.as_ref().map_or(Ok(()), Lease::check)
    }

    fn place(&self) -> Place {
        self.place
    }

    fn uses(&self, fd: &Fd) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.is_of(fd))
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        (sqe.addr, sqe.len, sqe.off) = (self.name, self.what, self.key);
        sqe.fd = self.lease.as_ref().map_or(-1, Lease::raw);
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        leases.extend(self.lease.take());
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<u32> {
        result
    }
}

/// A flag that a future can wait for.
#[derive(Default)]
struct Flag {
    raised: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Flag {
    fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            *self.waker.lock() = Some(cx.waker().clone());
            let raised = self.raised.load(Ordering::SeqCst);
            if raised { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Awaits on this thread, which parks, and turns no ring.
fn park_on<F: IntoFuture>(future: F) -> F::Output {
    let mut future = pin!(future.into_future());
    let waker = Waker::from(Arc::new(Unparks(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// What a thread of the ring's own does; to be run on one. Nobody waits for it in the story.
fn keeper(ring: &Ring) -> impl FnOnce() + Send + 'static {
    let shared = Arc::clone(ring.shared());
    shared.seat.host.begin_elsewhere();
    let (_, done) = mpsc::channel();
    *shared.keeper() = Some(Keeper::of(thread::current().id(), done));
    move || run(&shared, Spin::new(Duration::ZERO))
}

/// A runtime with one task, which turns the ring; to be run on a thread.
fn host(ring: &Ring) -> impl FnOnce() + Send + 'static {
    let shared = Arc::clone(ring.shared());
    shared.seat.host.begin(false);
    move || {
        let waker = Waker::from(Arc::new(Unparks(thread::current())));
        while poll_turns(&shared, &waker, || Poll::Pending).is_pending() {
            thread::park();
        }
    }
}

/// A waker for a thread that parks.
struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
