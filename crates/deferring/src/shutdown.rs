//! The end of a ring that can be awaited, and tells what became of its ops.
//!
//! Not: what the end does (`turn/end.rs`).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::Ring;
use crate::turn::Ending;

/// What became of the ops that were out when a ring was shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// Ops that did not happen, or not in full.
    pub cancelled: usize,
    /// Ops that ended as if nothing had happened.
    pub finished: usize,
    /// Ops that the kernel had not let go of at the deadline. Their memory and descriptors stay as
    /// they are for ever.
    pub leaked: usize,
}

/// A shutdown under way, to be awaited. The ring has to be turned meanwhile.
#[derive(Debug)]
#[must_use = "the ring ends whether this is awaited or not, but only this tells what was lost"]
pub struct Shutdown {
    ring: Ring,
    /// `None` in a forked child.
    ending: Option<Ending>,
}

impl Future for Shutdown {
    type Output = Report;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        let Some(ending) = &self.ending else { return Poll::Ready(Report::default()) };
        match self.ring.shared().shut_down(ending, cx.waker().clone()) {
            Some(report) => Poll::Ready(report),
            None => Poll::Pending,
        }
    }
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        if let Some(ending) = &self.ending {
            self.ring.shared().forget_shutdown(ending);
        }
    }
}

impl Ring {
    /// Ends the ring: nothing can be queued from now on, everything that is out is cancelled, and
    /// what the kernel has not let go of at the deadline is leaked, never freed. Handles give their
    /// results as always. Where the ring is turned by hand, the deadline counts from the next
    /// submit, wait or reap. What a drop of the last `Ring` does, without blocking a thread.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::time::{Duration, Instant};
    /// use deferring::{Fd, Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let read = ring.read(&Fd::from(ours), vec![0; 64], 0); // nothing comes
    /// ring.submit()?;
    /// let report = block_on(&ring, ring.shutdown(Instant::now() + Duration::from_secs(5)));
    /// assert_eq!((report.cancelled, report.finished, report.leaked), (1, 0, 0));
    /// assert!(block_on(&ring, ring.nop()).is_err(), "nothing can be queued");
    /// assert_eq!(block_on(&ring, read).1.len(), 64, "the buffer is back");
    /// # drop(theirs);
    /// # Ok(()) }
    /// ```
    pub fn shutdown(&self, deadline: Instant) -> Shutdown {
        Shutdown { ring: self.clone(), ending: self.shared().begin_shutdown(deadline) }
    }
}
