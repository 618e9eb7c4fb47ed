//! Ctrl-C and SIGTERM, as something that can be awaited.
//!
//! The handler writes to a socket that the ring reads: no thread, no polling. What is done about it
//! is decided in `schedule.rs` (nothing new is begun) and `file.rs` (data is given up).

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use deferring::{BufResult, CURRENT, Fd, Ring};
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, Shared};
use signal_hook::consts::{SIGINT, SIGTERM};

pub(super) struct Interrupt {
    /// The first, by number; 0 until then.
    signal: Arc<AtomicUsize>,
    came: Shared<LocalBoxFuture<'static, ()>>,
}

impl Interrupt {
    /// From now on, these signals end the copy and not the process.
    pub(super) fn install(ring: &Ring) -> io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        let (ours, handlers) = UnixStream::pair()?;
        for number in [SIGINT, SIGTERM] {
            let value = usize::try_from(number).expect("signals have positive numbers");
            // In this order: who is woken finds the number.
            signal_hook::flag::register_usize(number, Arc::clone(&signal), value)?;
            signal_hook::low_level::pipe::register(number, handlers.try_clone()?)?;
        }
        let came = came(ring.clone(), ours.into(), Arc::clone(&signal)).boxed_local().shared();
        Ok(Self { signal, came })
    }

    /// The first signal that came, by number.
    pub(super) fn signal(&self) -> Option<u8> {
        let number = self.signal.load(Ordering::Relaxed);
        u8::try_from(number).ok().filter(|number| *number > 0)
    }

    /// Ready when one has come.
    pub(super) fn wait(&self) -> Shared<LocalBoxFuture<'static, ()>> {
        self.came.clone()
    }
}

/// Ready when a signal has come, and not before, whatever becomes of a read.
async fn came(ring: Ring, handlers: Fd, signal: Arc<AtomicUsize>) {
    while signal.load(Ordering::Relaxed) == 0 {
        let BufResult(read, _) = ring.read(&handlers, Vec::with_capacity(1), CURRENT).await;
        if read.is_err() {
            // It is seen all the same, when the next thing is done.
            std::future::pending().await
        }
    }
}
