//! The hasher in a loop that a program has already: the ring's descriptor is one more in its epoll.
//!
//! `cargo run --release --example hash_epoll -- src`
#![allow(unsafe_code)] // A poller is told of descriptors, and does not own them.

#[path = "hasher/mod.rs"]
mod hasher;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use deferring::Ring;
use polling::{Event, Events, PollMode, Poller};

/// What the host calls the ring's descriptor, among its own.
const RING: usize = 1;

fn main() -> io::Result<ExitCode> {
    let ring = Ring::builder().build()?;
    let poller = Arc::new(Poller::new()?);
    // SAFETY: the ring is dropped after the last wait.
    unsafe { poller.add_with_mode(&ring, Event::readable(RING), PollMode::Level)? };

    let mut hashes = pin!(hasher::run(ring.clone()));
    let woken = Arc::new(Woken { yes: AtomicBool::new(true), poller: Arc::clone(&poller) });
    let waker = Waker::from(Arc::clone(&woken));
    let mut events = Events::new();
    let code = loop {
        if woken.yes.swap(false, Ordering::AcqRel) {
            if let Poll::Ready(code) = hashes.as_mut().poll(&mut Context::from_waker(&waker)) {
                break code;
            }
        }
        ring.submit()?; // Once a round, for all that was queued in it.
        events.clear();
        let at_once = woken.yes.load(Ordering::Acquire).then_some(Duration::ZERO);
        poller.wait(&mut events, at_once)?;
        for event in events.iter() {
            match event.key {
                RING => drop(ring.reap()?), // Wakes.
                other => unreachable!("the host's own descriptor {other}"),
            }
        }
    };
    poller.delete(&ring)?;
    code
}

/// The future is to be polled: whoever wakes it, on whatever thread, ends the host's wait.
struct Woken {
    yes: AtomicBool,
    poller: Arc<Poller>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        if !self.yes.swap(true, Ordering::AcqRel) {
            // It fails if the poller is gone, and then nobody waits.
            let _ = self.poller.notify();
        }
    }
}
