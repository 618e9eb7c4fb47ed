//! A descriptor watched for as long as one likes, on one-shot polls.
//!
//! Not: the poll itself (`op/poll_add.rs`).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use rustix::event::PollFlags;

use crate::fd::Fd;
use crate::op::PollAdd;
use crate::{Handle, Ring};

/// Watches a descriptor: each item is what it was ready for.
///
/// Level-triggered: as long as the descriptor stays ready, each look finds it so. An answer to an
/// interest that has been changed meanwhile is ignored. `ERR` and `HUP` come whatever the
/// interest. The stream ends after an error, such as `EBADF` when the descriptor was closed.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::io::Write;
/// use deferring::{Fd, PollFlags, Ring, Watcher, block_on};
///
/// let ring = Ring::builder().build()?;
/// let (ours, mut theirs) = std::os::unix::net::UnixStream::pair()?;
/// let mut watcher = Watcher::new(&ring, &Fd::from(ours), PollFlags::IN);
/// theirs.write_all(b"hello")?;
/// assert_eq!(block_on(&ring, watcher.ready())?, PollFlags::IN);
/// watcher.set_interest(PollFlags::OUT);
/// assert_eq!(block_on(&ring, watcher.ready())?, PollFlags::OUT);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Watcher {
    ring: Ring,
    fd: Fd,
    interest: PollFlags,
    poll: Option<Handle<PollAdd>>,
    ended: bool,
}

impl Watcher {
    /// Watches for any of these events. The first poll is queued at once.
    pub fn new(ring: &Ring, fd: &Fd, interest: PollFlags) -> Self {
        let (ring, fd) = (ring.clone(), fd.clone());
        let mut watcher = Self { ring, fd, interest, poll: None, ended: false };
        watcher.arm();
        watcher
    }

    /// What is watched for.
    #[must_use]
    pub const fn interest(&self) -> PollFlags {
        self.interest
    }

    /// Watches for other events from now on. What was found of the old interest and not yet looked
    /// at is dropped.
    pub fn set_interest(&mut self, interest: PollFlags) {
        if interest != self.interest {
            self.interest = interest;
            // Dropping the handle cancels the old poll and gives its answer up.
            self.arm();
        }
    }

    /// The next readiness. After an error it is an error again.
    ///
    /// # Errors
    /// Those of [`PollAdd`].
    pub async fn ready(&mut self) -> io::Result<PollFlags> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await
    }

    /// As [`ready`](Self::ready), for hand-written futures.
    ///
    /// # Errors
    /// Those of [`PollAdd`].
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<PollFlags>> {
        if self.poll.is_none() {
            self.arm();
        }
        let Some(poll) = &mut self.poll else { return Poll::Pending };
        let found = std::task::ready!(Pin::new(poll).poll(cx));
        self.poll = None;
        Poll::Ready(found)
    }

    fn arm(&mut self) {
        self.poll = Some(self.ring.poll(&self.fd, self.interest));
    }
}

impl Stream for Watcher {
    type Item = io::Result<PollFlags>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        this.poll_ready(cx).map(|found| {
            this.ended = found.is_err();
            Some(found)
        })
    }
}
