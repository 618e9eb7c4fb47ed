//! A task on tokio turns the ring, whose descriptor is in tokio's reactor.
//!
//! Not: how it waits without losing a call (`host.rs`).

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::task::{Context, Poll, RawWakerVTable, Wake, Waker, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::coop;

use super::block_on::is_here;
use super::host::{poll_turns, reap};
use super::thread::take_over;
use crate::config::Builder;
use crate::error;
use crate::ring::Ring;
use crate::sync::plain::AtomicPtr;
use crate::sync::{Arc, Mutex, Ordering};
use crate::turn::Shared;

pub(super) fn start(mut config: Builder) -> io::Result<Ring> {
    let runtime = Handle::try_current().map_err(|_| error::no_runtime())?;
    // Completions that do not interrupt, where the thread that submits is the one that waits. A
    // worker of several may compute for long while the others need what it has submitted.
    if config.sqpoll_idle.is_none() && runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        config.coop_taskrun = true;
    }
    let shared = Shared::open(&config)?;
    let fd = shared.as_fd().try_clone_to_owned()?;
    // It panics in a runtime without a reactor. It is deprecated for types that may lie about their
    // descriptor; what replaces it is newer than need be.
    #[allow(deprecated)]
    let watch = || AsyncFd::with_interest(fd, Interest::READABLE);
    let watched = catch_unwind(AssertUnwindSafe(watch)).map_err(|_| error::no_reactor())??;
    shared.seat.host.begin(config.coop_taskrun);
    let nudge = Arc::new(Nudge::default());
    if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
        runtime.spawn(stand_in_line(Arc::clone(&shared), Arc::clone(&nudge)));
    }
    let call = Waker::from(Arc::clone(&nudge));
    runtime.spawn(Turner { shared: Arc::clone(&shared), watched, nudge, call }.run());
    Ok(Ring::of(shared))
}

/// Calls the ring's task, and then one that does nothing.
///
/// A worker keeps the task that was woken last for itself, where no other worker may take it from:
/// if that one is the ring's, and the worker goes on computing, the ring stands still. Whoever is
/// woken next pushes it into the line from which others take.
#[derive(Default)]
struct Nudge {
    turner: Mutex<Option<Waker>>,
    next: Mutex<Option<Waker>>,
}

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        for waker in [&self.turner, &self.next] {
            let waker = waker.lock().clone();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// Is woken after the ring's task, and does nothing, until the ring ends.
async fn stand_in_line(shared: Arc<Shared>, nudge: Arc<Nudge>) {
    poll_fn(|cx| {
        keep(&nudge.next, cx);
        if shared.has_no_use_for_a_task() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    *nudge.next.lock() = None;
}

/// Keeps the waker of a task.
fn keep(place: &Mutex<Option<Waker>>, cx: &Context<'_>) {
    let known = place.lock().as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
    if !known {
        let waker = cx.waker().clone();
        let replaced = place.lock().replace(waker);
        drop(replaced);
    }
}

/// The task's state. If the runtime drops it before the ring has ended, a thread takes over.
struct Turner {
    shared: Arc<Shared>,
    watched: AsyncFd<OwnedFd>,
    nudge: Arc<Nudge>,
    /// Of `nudge`.
    call: Waker,
}

/// Lets the tasks go first that are ready now.
///
/// Not tokio's `yield_now`: that keeps the task where no other worker may take it, until this one has
/// nothing to do; so while this one computes for long, the ring would stand still. A task that wakes
/// itself goes to the end of the line from which others take.
async fn let_others() {
    let mut woken = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut woken, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Turner {
    async fn run(self) {
        loop {
            // Whoever is woken by that may queue more: it goes out with what other tasks of this
            // round queue.
            if reap(&self.shared) {
                let_others().await;
            }
            let mut rests = false;
            let woken = poll_fn(|cx| {
                if rests {
                    return Poll::Ready(Poll::Pending);
                }
                keep(&self.nudge.turner, cx);
                TASK.store(ptr::from_ref(cx.waker().vtable()).cast_mut(), Ordering::Relaxed);
                let turned = poll_turns(&self.shared, &self.call, || self.poll_readable(cx));
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
        // Tasks are not kept by their own wakers; the other one may have to end, too.
        let ours = self.nudge.turner.lock().take();
        drop(ours);
        let next = self.nudge.next.lock().take();
        next.into_iter().for_each(Waker::wake);
        take_over(&self.shared);
    }
}

/// What tokio's tasks are woken by, as far as it is known.
static TASK: AtomicPtr<RawWakerVTable> = AtomicPtr::new(ptr::null_mut());

/// Whether that wakes a task of tokio's, and nothing inside one.
fn is_task(waker: &Waker) -> bool {
    ptr::eq(TASK.load(Ordering::Relaxed), waker.vtable())
}

/// Whether the task may go on, or has done so often enough in this round. A task of tokio's is
/// woken when the others have had their turn. Who is not known to be one is held back once in a
/// row, and woken at once: an executor of another kind inside a task has no next round.
#[inline]
pub(super) fn proceed(cx: &mut Context<'_>, held_back: &mut bool) -> Poll<Proceeds> {
    if is_here() {
        return Poll::Ready(Proceeds(None)); // There are no others.
    }
    if let Poll::Ready(counted) = coop::poll_proceed(cx) {
        *held_back = false;
        return Poll::Ready(Proceeds(Some(counted)));
    }
    spent(cx, held_back)
}

/// It has done so often enough.
#[cold]
fn spent(cx: &Context<'_>, held_back: &mut bool) -> Poll<Proceeds> {
    if is_task(cx.waker()) {
        return Poll::Pending; // It will be woken.
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
