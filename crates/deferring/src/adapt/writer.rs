//! What a `Buffered` has yet to write: a buffer in the kernel, and one that fills meanwhile.
//!
//! | `going` \ `filling` | empty          | some                             | full          |
//! |---------------------|----------------|----------------------------------|---------------|
//! | none                | all is written | files: until more; streams: goes | goes          |
//! | some                | takes more     | takes more                       | a write waits |
//!
//! Not: who polls (`mod.rs`), nor where a file is written after a seek (`seeker.rs`).

use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use super::Source;
use crate::op::Write;
use crate::sync::{Arc, Mutex};
use crate::{BufResult, Handle, IoBuf, Slice};

/// How long a stream may take nothing when its `Buffered` is gone: a peer that does not read would
/// keep the descriptor open for ever. Tests do not wait that long.
const LINGER: Duration =
    if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(30) };

pub(super) struct Writer {
    source: Source,
    capacity: usize,
    /// Where the first byte goes that is not written yet, so the position of a file if there is
    /// none.
    at: u64,
    filling: Vec<u8>,
    /// Empty; its memory is for `filling` when that goes to the kernel.
    spare: Vec<u8>,
    going: Option<Handle<Write<Slice<Vec<u8>>>>>,
    /// How much of the buffer in `going` was written by shorter writes before, and its length.
    done: usize,
    len: usize,
    error: Option<io::Error>,
    /// The `Buffered` is gone.
    lingers: bool,
}

impl Writer {
    pub(super) const fn new(source: Source, capacity: usize, at: u64) -> Self {
        Self {
            source,
            capacity,
            at,
            filling: Vec::new(),
            spare: Vec::new(),
            going: None,
            done: 0,
            len: 0,
            error: None,
            lingers: false,
        }
    }

    /// Bytes that were taken and that the kernel has not written.
    pub(super) fn unwritten(&self) -> usize {
        self.len - self.done + self.filling.len()
    }

    /// The position of a file when all will be written.
    #[cfg(feature = "tokio")]
    pub(super) fn end(&self) -> u64 {
        self.at.saturating_add(self.unwritten() as u64)
    }

    /// The position of a file of which all is written.
    pub(super) fn position(&self) -> u64 {
        debug_assert_eq!(self.unwritten(), 0, "who asks has flushed");
        self.at
    }

    pub(super) fn set_position(&mut self, at: u64) {
        debug_assert_eq!(self.unwritten(), 0, "who seeks has flushed");
        self.at = at;
    }

    /// So many bytes were read.
    pub(super) fn move_on(&mut self, n: usize) {
        self.set_position(self.position() + n as u64);
    }

    /// Takes bytes in; pending if there is no room.
    pub(super) fn poll_write<'b>(
        &mut self,
        cx: &mut Context<'_>,
        parts: impl Iterator<Item = &'b [u8]>,
    ) -> Poll<io::Result<usize>> {
        let _ = if self.source.is_stream { self.poll_drained(cx) } else { self.poll_going(cx) };
        self.take_error()?;
        if self.room() == 0 {
            if self.going.is_some() {
                return Poll::Pending;
            }
            self.start();
        }
        let n = self.take_in(parts);
        let is_due = if self.source.is_stream { n > 0 } else { self.room() == 0 };
        if is_due && self.going.is_none() {
            self.start();
            if self.source.is_stream {
                // So that a reader that waits for an answer is called, to send the rest of a short
                // write; the writer may not come again.
                let _ = self.poll_going(cx);
            }
        }
        Poll::Ready(Ok(n))
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drained(cx));
        Poll::Ready(self.take_error())
    }

    /// Ready when all is written, or when an error is kept that says why not.
    pub(super) fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.poll_going(cx));
            if self.filling.is_empty() {
                return Poll::Ready(());
            }
            self.start();
        }
    }

    /// Nobody polls any more: what is left goes on by itself.
    pub(super) fn part(&mut self) {
        if self.unwritten() == 0 {
            return;
        }
        let source = self.source.clone();
        let mut rest = mem::replace(self, Self::new(source, self.capacity, self.at));
        if rest.source.is_stream {
            rest.lingers = true;
            rest.going = rest.going.map(|write| write.timeout(LINGER));
        }
        Arc::new(Legacy(Mutex::new(rest))).wake();
    }

    fn room(&self) -> usize {
        self.capacity - self.filling.len()
    }

    fn take_error(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }

    fn take_in<'b>(&mut self, parts: impl Iterator<Item = &'b [u8]>) -> usize {
        let before = self.filling.len();
        // Only if it is one of the first two, or one that did not come back.
        self.filling.reserve_exact(self.room());
        for part in parts {
            let n = part.len().min(self.room());
            self.filling.extend_from_slice(&part[..n]);
        }
        self.filling.len() - before
    }

    /// Ready when nothing is in the kernel.
    fn poll_going(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(write) = &mut self.going {
            let BufResult(result, part) = ready!(Pin::new(write).poll(cx));
            self.going = None;
            self.written(result, part.into_inner());
        }
        Poll::Ready(())
    }

    fn written(&mut self, result: io::Result<usize>, buf: Vec<u8>) {
        match result {
            Ok(0) => {
                let error = io::Error::new(io::ErrorKind::WriteZero, "it takes no more bytes");
                self.give_up(error, buf);
            }
            Ok(n) => {
                self.done += n;
                if !self.source.is_stream {
                    self.at += n as u64;
                }
                if self.done < self.len { self.send(buf) } else { self.put_by(buf) }
            }
            Err(error) => self.give_up(error, buf),
        }
    }

    fn give_up(&mut self, error: io::Error, buf: Vec<u8>) {
        self.error = Some(error);
        self.filling.clear();
        self.put_by(buf);
    }

    fn put_by(&mut self, mut buf: Vec<u8>) {
        buf.clear();
        self.spare = buf;
        (self.done, self.len) = (0, 0);
    }

    fn start(&mut self) {
        debug_assert!(self.going.is_none(), "one write at a time");
        let buf = mem::replace(&mut self.filling, mem::take(&mut self.spare));
        (self.done, self.len) = (0, buf.len());
        self.send(buf);
    }

    fn send(&mut self, buf: Vec<u8>) {
        let part = buf.slice(self.done..self.len);
        let write = self.source.queue(Write::new(&self.source.fd, part, self.at));
        self.going = Some(if self.lingers { write.timeout(LINGER) } else { write });
    }
}

/// What a `Buffered` leaves to be written: kept by the op that is under way, whose end wakes it to
/// queue the next. It does not keep the ring from ending, which ends the op, and so this.
struct Legacy(Mutex<Writer>);

impl Wake for Legacy {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        // Held while it polls: a wake in between waits, and finds what there is to do. Of the
        // user's code only a subscriber of `tracing` is reached from there.
        let mut writer = self.0.lock();
        let _ = writer.poll_drained(&mut Context::from_waker(&waker));
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use crate::{Buffered, Ring};

    #[test]
    fn a_peer_that_does_not_read_keeps_no_descriptor_open() {
        let ring = Ring::builder().build().unwrap();
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut ours = Buffered::with_capacity(&ring, &ours.into(), 1, 1 << 20);
        let cx = &mut super::Context::from_waker(super::Waker::noop());
        assert!(ours.poll_write(cx, &[7; 1 << 20]).is_ready());
        drop(ours);
        let end = Instant::now() + std::time::Duration::from_secs(20);
        while ring.in_flight() > 0 {
            assert!(Instant::now() < end, "{:?}", ring.pending());
            ring.submit().unwrap();
            ring.wait(Some(super::LINGER)).unwrap();
            ring.reap().unwrap();
        }
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).unwrap();
        assert!(!read.is_empty() && read.len() < 1 << 20, "{}", read.len());
    }
}
