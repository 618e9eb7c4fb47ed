//! Where a `Buffered` file is read and written next, as far as the file has to be asked.
//!
//! The position itself is the writer's, which knows how far it came. Not: what becomes of what was
//! read ahead (`mod.rs`).

use std::future::Future;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::{OFlags, StatxFlags};
use rustix::io::Errno;

use super::Source;
use super::writer::Writer;
use crate::Handle;
use crate::op::Statx;

pub(super) struct Seeker {
    /// The file is in append mode.
    appends: bool,
    /// The position is the end of the file, and nobody has asked yet where that is.
    is_at_end: bool,
    /// The question where it is.
    asked: Option<Handle<Statx>>,
    #[cfg(feature = "tokio")]
    begun: Option<SeekFrom>,
}

impl Seeker {
    pub(super) fn new(source: &Source) -> Self {
        let lease = source.fd.lease();
        let flags = lease.try_as_fd().map(rustix::fs::fcntl_getfl);
        let appends = matches!(flags, Ok(Ok(flags)) if flags.contains(OFlags::APPEND));
        Self {
            appends: appends && !source.is_stream,
            is_at_end: false,
            asked: None,
            #[cfg(feature = "tokio")]
            begun: None,
        }
    }

    /// Something else is done: a seek that was not waited for is none, and an end that it asked for
    /// is old.
    pub(super) fn abandon(&mut self) {
        #[cfg(feature = "tokio")]
        {
            self.begun = None;
        }
        if !self.is_at_end {
            self.asked = None;
        }
    }

    pub(super) fn has_written(&mut self) {
        self.is_at_end = self.appends;
        self.asked = None;
    }

    #[cfg(feature = "tokio")]
    pub(super) fn begin(&mut self, to: SeekFrom) {
        self.begun = Some(to);
    }

    #[cfg(feature = "tokio")]
    pub(super) const fn begun(&self) -> Option<SeekFrom> {
        self.begun
    }

    /// The position, of a file of which all is written.
    pub(super) fn poll_position(
        &mut self,
        source: &Source,
        writer: &mut Writer,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<u64>> {
        if self.is_at_end {
            let end = ready!(self.poll_end(source, cx))?;
            writer.set_position(end);
            self.is_at_end = false;
        }
        Poll::Ready(Ok(writer.position()))
    }

    /// Moves the position, of a file of which all is written.
    pub(super) fn poll_seek(
        &mut self,
        source: &Source,
        writer: &mut Writer,
        to: SeekFrom,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<u64>> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => {
                ready!(self.poll_position(source, writer, cx))?.checked_add_signed(by)
            }
            SeekFrom::End(by) => ready!(self.poll_end(source, cx))?.checked_add_signed(by),
        };
        // The kernel's offsets are signed.
        let at = at.filter(|&at| i64::try_from(at).is_ok()).ok_or(Errno::INVAL)?;
        writer.set_position(at);
        self.is_at_end = false;
        self.asked = None;
        Poll::Ready(Ok(at))
    }

    fn poll_end(&mut self, source: &Source, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let asked = self.asked.get_or_insert_with(|| {
            source.queue(Statx::of(&source.fd).mask(StatxFlags::TYPE | StatxFlags::SIZE))
        });
        let stat = ready!(Pin::new(asked).poll(cx));
        self.asked = None;
        let stat = stat?;
        let is_regular = stat.file_type().is_some_and(|kind| kind.is_file());
        if let (true, Some(len)) = (is_regular, stat.size()) {
            return Poll::Ready(Ok(len));
        }
        // What a disk holds, statx does not say; and asking for it waits for nothing.
        let lease = source.fd.lease();
        let end = rustix::fs::seek(lease.try_as_fd()?, rustix::fs::SeekFrom::End(0));
        Poll::Ready(end.map_err(io::Error::from))
    }
}
