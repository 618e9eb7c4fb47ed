//! A task on tokio turns the ring, whose descriptor is in tokio's reactor.
//!
//! Not: how it waits without losing a call (`host.rs`).

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{coop, yield_now};

use super::host::{poll_turns, reap};
use super::thread::take_over;
use crate::config::Builder;
use crate::error;
use crate::ring::Ring;
use crate::sync::Arc;
use crate::turn::Shared;

pub(super) fn start(mut config: Builder) -> io::Result<Ring> {
    let runtime = Handle::try_current().map_err(|_| error::no_runtime())?;
    // Completions that do not interrupt, where the thread that submits is the one that waits. A worker
    // of several may compute for long while the others need what it has submitted.
    if config.sqpoll_idle.is_none() && runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        config.coop_taskrun = true;
    }
    let shared = Arc::new(Shared::open(&config)?);
    let fd = shared.as_fd().try_clone_to_owned()?;
    // It panics in a runtime without a reactor. It is deprecated for types that may lie about their
    // descriptor; what replaces it is newer than need be.
    #[allow(deprecated)]
    let watch = || AsyncFd::with_interest(fd, Interest::READABLE);
    let watched = catch_unwind(AssertUnwindSafe(watch)).map_err(|_| error::no_reactor())??;
    shared.seat.host.begin(true);
    runtime.spawn(Turner { shared: Arc::clone(&shared), watched }.run());
    Ok(Ring::of(shared))
}

/// The task's state. If the runtime drops it before the ring has ended, a thread takes over.
struct Turner {
    shared: Arc<Shared>,
    watched: AsyncFd<OwnedFd>,
}

impl Turner {
    async fn run(self) {
        loop {
            // Whoever is woken by that may queue more: it goes out with what other tasks of this round
            // queue.
            if reap(&self.shared) {
                yield_now().await;
            }
            let mut rests = false;
            let woken = poll_fn(|cx| {
                if rests {
                    return Poll::Ready(Poll::Pending);
                }
                let turned = poll_turns(&self.shared, cx.waker(), || self.poll_readable(cx));
                rests = turned.is_pending();
                if rests { Poll::Pending } else { Poll::Ready(turned) }
            });
            match woken.await {
                Poll::Pending => {}
                // The ring has ended; or the reactor, and then a thread takes over.
                Poll::Ready(Ok(()) | Err(_)) => return,
            }
        }
    }

    fn poll_readable(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut context = Context::from_waker(cx.waker());
        let mut ready = ready!(self.watched.poll_read_ready(&mut context))?;
        ready.clear_ready();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Turner {
    fn drop(&mut self) {
        take_over(&self.shared);
    }
}

/// Whether the task may go on, or has done so often enough in this round. It is held back once in a
/// row, and woken at once: an executor of another kind inside the task has no next round, and tokio's
/// own way of waking the task would come after it.
pub(super) fn proceed(cx: &mut Context<'_>, held_back: &mut bool) -> Poll<Proceeds> {
    if coop::has_budget_remaining() {
        *held_back = false;
        return coop::poll_proceed(cx).map(|counted| Proceeds(Some(counted)));
    }
    *held_back = !*held_back;
    if *held_back {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    Poll::Ready(Proceeds(None))
}

/// The task goes on; if it does not get anywhere, that is not counted.
pub(crate) struct Proceeds(Option<coop::RestoreOnPending>);

impl Proceeds {
    pub(crate) fn went_on(self) {
        if let Some(counted) = self.0 {
            counted.made_progress();
        }
    }
}
