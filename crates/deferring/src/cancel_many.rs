//! Cancels of many ops at once: of a descriptor, of a group, of a ring.
//!
//! The ring's own slots are searched, not the kernel's: a descriptor is meant as such, whatever
//! number it has. Not: what a cancel does to one op (`inflight/slot.rs`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::fd::Fd;
use crate::inflight::{Cancelled, Which};
use crate::op::Op;
use crate::sync::Arc;
use crate::turn::Shared;
use crate::{Handle, Ring};

/// What a cancel of many ops achieved, to be awaited or looked at. The ops' own results come all
/// the same, through their handles. Dropping it takes nothing back.
pub struct CancelMany {
    shared: Arc<Shared>,
    tally: Option<u64>,
}

impl CancelMany {
    fn new(ring: &Ring, which: Which<'_>) -> Self {
        let shared = Arc::clone(ring.shared());
        let tally = shared.cancel_many(which);
        Self { shared, tally }
    }

    /// The outcome, if it is known of all of them by now.
    #[must_use]
    pub fn outcome(&self) -> Option<Cancelled> {
        self.tally.map_or(Some(Cancelled::default()), |tally| self.shared.tallied(tally, None))
    }
}

impl Future for CancelMany {
    type Output = Cancelled;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cancelled> {
        let Some(tally) = self.tally else { return Poll::Ready(Cancelled::default()) };
        match self.shared.tallied(tally, Some(cx.waker().clone())) {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

impl Drop for CancelMany {
    fn drop(&mut self) {
        if let Some(tally) = self.tally {
            self.shared.end_tally(tally);
        }
    }
}

impl fmt::Debug for CancelMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelMany").field(&self.outcome()).finish()
    }
}

/// Ops that can be cancelled together. Dropping it cancels nothing.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use deferring::{Fd, PollFlags, Ring, block_on};
///
/// let ring = Ring::builder().build()?;
/// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
/// let fd = Fd::from(ours);
/// let group = ring.group();
/// let readable = group.add(ring.poll(&fd, PollFlags::IN)); // never comes
/// let hung_up = ring.poll(&fd, PollFlags::HUP);
/// let outcome = block_on(&ring, group.cancel());
/// assert_eq!((outcome.cancelled, outcome.running, outcome.finished), (1, 0, 0));
/// assert!(block_on(&ring, readable).is_err());
/// assert!(!hung_up.is_done());
/// # drop(theirs);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Group {
    ring: Ring,
    number: u32,
}

impl Group {
    /// Puts an op into this group, and takes it out of the one that it was in. One that has ended
    /// stays as it is.
    ///
    /// # Panics
    /// If the op is of another ring.
    pub fn add<T: Op>(&self, handle: Handle<T>) -> Handle<T> {
        handle.join_group(self.ring.shared(), self.number);
        handle
    }

    /// Queues an op that is of this group.
    pub fn queue<T: Op>(&self, op: T) -> Handle<T> {
        self.add(self.ring.queue(op))
    }

    /// Asks for a cancel of all ops of this group that have not ended, now. The group can be used
    /// again.
    pub fn cancel(&self) -> CancelMany {
        CancelMany::new(&self.ring, Which::Group(self.number))
    }
}

impl Ring {
    /// A group, into which ops can be put to be cancelled together.
    pub fn group(&self) -> Group {
        Group { ring: self.clone(), number: self.shared().new_group() }
    }

    /// Asks for a cancel of all ops of this ring that use this descriptor, or a clone of it: to
    /// read, to write, to watch, or as the directory that a path starts from. Those that were
    /// dropped or detached, too. A [`close`](Ring::close) that waits for them goes on then.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use deferring::{Fd, Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let fd = Fd::from(ours);
    /// let read = ring.read(&fd, vec![0; 64], 0); // nothing comes
    /// ring.submit()?;
    /// assert_eq!(block_on(&ring, ring.cancel_fd(&fd)).cancelled, 1);
    /// assert_eq!(block_on(&ring, read).1.len(), 64);
    /// # drop(theirs);
    /// # Ok(()) }
    /// ```
    pub fn cancel_fd(&self, fd: &Fd) -> CancelMany {
        CancelMany::new(self, Which::Using(fd))
    }

    /// Asks for a cancel of all ops of this ring that have not ended.
    pub fn cancel_all(&self) -> CancelMany {
        CancelMany::new(self, Which::All)
    }
}
