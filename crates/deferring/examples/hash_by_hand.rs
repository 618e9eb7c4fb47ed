//! The hasher on a ring that is turned by hand: submit, wait, reap.
//!
//! `cargo run --release --example hash_by_hand -- src`

#[path = "hasher/mod.rs"]
mod hasher;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use deferring::Ring;

fn main() -> io::Result<ExitCode> {
    let ring = Ring::builder().build()?;
    let mut hashes = pin!(hasher::run(ring.clone()));
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    loop {
        if woken.0.swap(false, Ordering::AcqRel) {
            if let Poll::Ready(code) = hashes.as_mut().poll(&mut Context::from_waker(&waker)) {
                return code;
            }
        }
        ring.submit()?;
        // Polling has woken it again, if it was not done: then there is no time to wait.
        if !woken.0.load(Ordering::Acquire) {
            ring.wait(None)?;
        }
        ring.reap()?; // Wakes.
    }
}

/// The future is to be polled.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}
