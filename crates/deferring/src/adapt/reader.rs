//! What a `Buffered` has read and not given away, and the read that is under way.
//!
//! Not: where a file is read next (`seeker.rs`), nor who polls (`mod.rs`).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::Source;
use crate::op::Read;
use crate::{BufResult, Handle};

pub(super) struct Reader {
    capacity: usize,
    /// What was read. Without memory while the kernel has it.
    buf: Vec<u8>,
    /// How much of it was given away.
    start: usize,
    asked: Option<Handle<Read<Vec<u8>>>>,
}

impl Reader {
    pub(super) const fn new(capacity: usize) -> Self {
        Self { capacity, buf: Vec::new(), start: 0, asked: None }
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.buf[self.start..]
    }

    pub(super) fn consume(&mut self, n: usize) {
        let unread = self.unread().len();
        assert!(n <= unread, "consumes {n} bytes of {unread}");
        self.start += n;
    }

    /// Throws away what was read ahead, and cancels the read that is under way; true if there is
    /// one, for which somebody may wait.
    pub(super) fn discard(&mut self) -> bool {
        self.start = self.buf.len();
        self.asked.take().is_some()
    }

    /// Reads again when all is given away; ready when the read has ended. Nothing is unread then at
    /// the end of the file.
    pub(super) fn poll_fill(
        &mut self,
        source: &Source,
        offset: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        debug_assert!(self.unread().is_empty(), "what was read is given away first");
        let asked = self.asked.get_or_insert_with(|| {
            let mut buf = std::mem::take(&mut self.buf);
            self.start = 0;
            buf.clear();
            // Only if it is the first, or one that did not come back.
            buf.reserve_exact(self.capacity);
            source.queue(Read::new(&source.fd, buf, offset))
        });
        let BufResult(result, buf) = ready!(Pin::new(asked).poll(cx));
        (self.asked, self.buf) = (None, buf);
        let result = result.map(|n| debug_assert_eq!(n, self.buf.len(), "it was lent empty"));
        Poll::Ready(result)
    }
}
