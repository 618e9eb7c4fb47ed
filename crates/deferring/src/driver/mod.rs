//! Who turns the ring, and where it waits.
//!
//! [`block_on`]: the calling thread. `thread.rs`: one of the ring's own. `host.rs`: a task in a
//! reactor, of tokio (`tokio.rs`) or async-io (`async_io.rs`). Driving by hand needs none of them.
//! `seat.rs` lets one turn the ring at a time, `spin.rs` has it wait awake where that pays; `process.rs` has the ring of the whole process. What
//! a turn *is*, is in `turn/`; the names of runtimes appear nowhere but here and in `adapt/`.

#[cfg(all(feature = "async-io", not(all(test, any(loom, shuttle)))))]
mod async_io;
#[cfg(not(all(test, any(loom, shuttle))))]
mod bell;
mod block_on;
#[cfg_attr(not(any(feature = "tokio", feature = "async-io")), allow(dead_code))] // It is for them.
mod host;
mod process;
mod seat;
mod spin;
mod thread;
#[cfg(feature = "tokio")]
mod tokio;

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;

pub use block_on::block_on;
pub(crate) use host::turn_before_first_poll;
pub use process::ring;
pub(crate) use seat::Seat;
pub(crate) use thread::Keeper;
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use thread::spawn as spawn_thread;

use crate::config::Builder;
use crate::notify::Calls;
use crate::ring::Ring;
use crate::turn::{Found, Refused, Shared};

/// What model checkers run.
#[cfg(all(test, any(loom, shuttle)))]
pub(crate) mod models {
    pub(crate) use super::host::poll_turns;
    pub(crate) use super::spin::Spin;
    pub(crate) use super::thread::run;
}

impl Builder {
    /// Makes a ring that a thread of its own turns: for any executor, and for none.
    ///
    /// The thread blocks all signals but those of its own faults, sleeps while there is nothing to
    /// do, and ends with the ring. A task that queues an op wakes it if it sleeps, which costs a
    /// system call; what is queued while it is awake goes out with its next batch. It outlives
    /// every op, so that no op suffers from the exit of the thread that queued it. It is the ring's
    /// only issuer ([`defer_taskrun`](Self::defer_taskrun)), where the kernel has that.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use deferring::{BufResult, Ring, fs::File};
    /// # fn any_executor<F: Future>(future: F) -> F::Output { futures_executor::block_on(future) }
    ///
    /// let ring = Ring::builder().start()?;
    /// let n = any_executor(async {
    ///     let file = File::open(&ring, "Cargo.toml").await?;
    ///     let BufResult(n, buf) = file.read_at(Vec::with_capacity(4096), 0).await;
    ///     assert_eq!(n?, buf.len());
    ///     Ok::<_, std::io::Error>(buf.len())
    /// })?;
    /// assert!(n > 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`build`](Self::build); and if the system gives no thread.
    pub fn start(self) -> io::Result<Ring> {
        self.check()?;
        thread::start(self)
    }

    /// Makes a ring that the current tokio runtime turns: its descriptor is watched by the
    /// runtime's reactor, and a task submits what the tasks of a scheduling round have queued as
    /// one batch. No thread is made. `current_thread` and `multi_thread` both do.
    ///
    /// The ring may be used from anywhere, also from other runtimes. When the runtime ends before
    /// the ring, a thread of the ring's own takes over as soon as there is something to do. A
    /// worker that is blocked for long does not turn the ring, nor does a `current_thread` runtime
    /// that nobody runs: where all workers may be blocked, or others wait meanwhile, use
    /// [`start`](Self::start).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// use deferring::{BufResult, Ring, fs::File};
    ///
    /// let ring = Ring::builder().start_on_tokio()?;
    /// let file = File::open(&ring, "Cargo.toml").await?;
    /// let BufResult(n, buf) = file.read_at(Vec::with_capacity(4096), 0).await;
    /// assert_eq!(n?, buf.len());
    /// # Ok(()) })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`build`](Self::build); outside a runtime, in one without `enable_io`, and for
    /// [`single_issuer`](Self::single_issuer) and [`defer_taskrun`](Self::defer_taskrun).
    #[cfg(feature = "tokio")]
    pub fn start_on_tokio(self) -> io::Result<Ring> {
        self.check()?;
        self.check_any_thread()?;
        tokio::start(self)
    }

    /// Makes a ring that the reactor of async-io turns: for smol, and every executor on async-io.
    /// What is queued goes out as one batch when the reactor is next at work.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use deferring::{BufResult, Ring, fs::File};
    ///
    /// let ring = Ring::builder().start_on_async_io()?;
    /// async_io::block_on(async {
    ///     let file = File::open(&ring, "Cargo.toml").await?;
    ///     let BufResult(n, buf) = file.read_at(Vec::with_capacity(4096), 0).await;
    ///     assert_eq!(n?, buf.len());
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`build`](Self::build); and for [`single_issuer`](Self::single_issuer) and
    /// [`defer_taskrun`](Self::defer_taskrun).
    #[cfg(all(feature = "async-io", not(all(test, any(loom, shuttle)))))]
    pub fn start_on_async_io(self) -> io::Result<Ring> {
        self.check()?;
        self.check_any_thread()?;
        async_io::start(self)
    }
}

/// The rest of a turn, with the seat free for what the user's code may do.
///
/// # Errors
/// If it cannot be turned by this thread.
fn conclude(
    shared: &Shared,
    found: &mut Found,
    sent: Result<(), Errno>,
    calls: &mut Calls,
) -> Result<(), Errno> {
    let any = found.any();
    shared.deliver_to(found, calls);
    match sent {
        Ok(()) => Ok(()),
        // No memory for more requests, or too many unreaped: others' ends may help.
        Err(Errno::AGAIN | Errno::BUSY | Errno::NOMEM) => {
            if !any {
                shared.kernel().rest(SHORT_OF_MEMORY);
            }
            Ok(())
        }
        Err(errno) => match shared.poison_if_final(errno, calls) {
            Refused::ForNow | Refused::ForGood => Ok(()),
            Refused::Here => Err(errno),
        },
    }
}

/// How long to wait when the kernel has no memory for a request, rather than to spin.
const SHORT_OF_MEMORY: Duration = Duration::from_millis(1);

/// Whether the task may go on, or others should have their turn first, as tokio sees it.
/// `held_back` is whether it was told so the last time.
#[cfg(feature = "tokio")]
#[inline]
pub(crate) fn proceed(cx: &mut Context<'_>, held_back: &mut bool) -> Poll<Proceeds> {
    tokio::proceed(cx, held_back)
}

#[cfg(feature = "tokio")]
pub(crate) use tokio::Proceeds;

#[cfg(not(feature = "tokio"))]
pub(crate) const fn proceed(_: &mut Context<'_>, _: &mut bool) -> Poll<Proceeds> {
    Poll::Ready(Proceeds)
}

/// Nobody counts how often a task goes on.
#[cfg(not(feature = "tokio"))]
pub(crate) struct Proceeds;

#[cfg(not(feature = "tokio"))]
impl Proceeds {
    #[allow(clippy::unused_self)] // As tokio's.
    pub(crate) const fn went_on(self) {}
}
