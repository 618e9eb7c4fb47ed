//! The close of a descriptor, once no op uses it.

use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::{Class, Kind, Op, Opcode, Place, Sqe, zero};
use crate::fd::{Drained, Fd, Nature};
use crate::{Handle, Ring};

/// Closes a descriptor.
///
/// Kernel: `IORING_OP_CLOSE`, since 5.6. [`Ring::close`] queues one when the last op that uses
/// the descriptor has ended.
///
/// # Cancellation
/// An [`Fd`]'s close that never reached the kernel is made by a plain `close(2)`.
///
/// # Errors
/// Those of `close(2)`. Linux has closed the descriptor all the same.
#[derive(Debug)]
#[doc(alias = "IORING_OP_CLOSE")]
pub struct Close {
    what: What,
    /// The kernel may have executed it.
    sent: bool,
}

#[derive(Debug)]
enum What {
    Drained(Drained),
    Raw(RawFd),
}

impl Close {
    /// The close of a bare number.
    ///
    /// # Safety
    /// Nobody else owns the descriptor, and no op uses it.
    #[must_use]
    pub const unsafe fn from_raw(fd: RawFd) -> Self {
        Self { what: What::Raw(fd), sent: false }
    }
}

// SAFETY: names a descriptor that `Drained` owns alone, or that `from_raw` was promised.
unsafe impl Op for Close {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::CLOSE;
    /// An interrupted close has closed.
    const AGAIN: bool = false;

    fn place(&self) -> Place {
        let nature = match &self.what {
            What::Drained(drained) => drained.nature(),
            What::Raw(_) => None,
        };
        match nature {
            Some(
                Nature::Stream | Nature::Ready | Nature::Disk | Nature::Memory | Nature::Local,
            ) => Place::of(Class::Control),
            // A file server is told, and may not answer; a terminal waits until all is written.
            Some(Nature::Remote | Nature::Terminal) | None => Place::worker(Kind::Sync),
        }
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        self.sent = true;
        sqe.fd = match &self.what {
            What::Drained(drained) => drained.raw(),
            What::Raw(raw) => *raw,
        };
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        if let What::Drained(drained) = self.what {
            if self.sent {
                // Linux gives the number back whatever the file system says of its flush, so that
                // an error does not tell that the number is still ours, and closing it again might
                // close another's. (A close that the kernel did not execute leaks it. That takes a
                // ring that goes away, or a thread that exits, in the middle of it, or an
                // io_uring's own descriptor, which it refuses with EBADF.)
                drained.closed();
            } else {
                drop(drained); // Closes.
            }
        }
        zero(result)
    }
}

/// A close under way: await it, or [`try_take`](Closing::try_take) its result.
///
/// Dropping it does not reopen the descriptor: it is closed when its last op has ended, by a plain
/// `close(2)`.
#[derive(Debug)]
#[must_use = "the close waits for the ops that use the descriptor; await it to know its result"]
pub struct Closing {
    ring: Ring,
    fd: Fd,
    handle: Option<Handle<Close>>,
}

impl Closing {
    /// Queues the close if no op uses the descriptor any more. Ready if another close has done it.
    fn advance(&mut self, waker: impl FnOnce() -> Option<Waker>) -> Poll<()> {
        if self.handle.is_some() {
            return Poll::Pending;
        }
        match self.fd.poll_drained(waker()) {
            Poll::Ready(Some(drained)) => {
                self.handle =
                    Some(self.ring.queue(Close { what: What::Drained(drained), sent: false }));
                Poll::Pending
            }
            Poll::Ready(None) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }

    /// The result, if it is here. Queues the close if that has become possible, so that a loop by
    /// hand gets on by asking again.
    pub fn try_take(&mut self) -> Option<io::Result<()>> {
        if self.advance(|| None).is_ready() {
            return Some(Ok(()));
        }
        self.handle.as_ref()?.try_take()
    }
}

impl Future for Closing {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.advance(|| Some(cx.waker().clone())).is_ready() {
            return Poll::Ready(Ok(()));
        }
        match &mut self.handle {
            Some(handle) => Pin::new(handle).poll(cx),
            None => Poll::Pending,
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        match self.handle.take() {
            Some(handle) => handle.detach(),
            None => self.fd.close_unattended(),
        }
    }
}

impl Ring {
    /// Closes a descriptor: refuses it to new ops from now on, waits for those that use it, queues
    /// a [`Close`]. Closing it again, through this or another clone, waits for the first close and
    /// is `Ok`.
    ///
    /// It cancels nothing: an op that waits for ever keeps its descriptor for ever.
    ///
    /// ```
    /// use deferring::{Fd, Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let file = Fd::from(std::fs::File::open("/dev/null")?);
    /// block_on(&ring, ring.close(&file))?;
    /// block_on(&ring, ring.close(&file))?;
    /// assert!(block_on(&ring, ring.read(&file, vec![0; 8], 0)).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close(&self, fd: &Fd) -> Closing {
        fd.start_close();
        let mut closing = Closing { ring: self.clone(), fd: fd.clone(), handle: None };
        // If it is closed already, asking for the result will tell.
        let _ = closing.advance(|| None);
        closing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::check_encode;

    #[test]
    fn encodes() {
        // SAFETY: never queued.
        check_encode(unsafe { Close::from_raw(3) }, "Close fd=3");
    }
}
