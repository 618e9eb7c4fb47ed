//! Descriptors that come and go.
//!
//! Not: what they are (`files.rs`), nor opens that wait (`fifos.rs`).

use std::os::fd::{IntoRawFd, RawFd};

use deferring::op::Sqe;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::World;
use super::calls::Outcome;
use super::files::Kind;
use super::memory;
use super::ops::OpId;
use crate::disk::{self, InodeId};

impl World {
    pub(super) fn open(&mut self, id: OpId, sqe: &Sqe, may_block: bool) -> Outcome {
        let opened = self.find_or_make(sqe);
        let (inode, flags) = match opened {
            Ok(opened) => opened,
            Err(errno) => return Outcome::Done(Err(errno)),
        };
        if self.disk.kind(inode) == disk::Kind::Fifo && !flags.contains(OFlags::PATH) {
            return self.open_fifo(id, inode, flags, may_block);
        }
        let kind = if flags.contains(OFlags::PATH) {
            Kind::Name { inode }
        } else if self.disk.kind(inode) == disk::Kind::Directory {
            Kind::Directory { inode }
        } else {
            let access = flags & OFlags::RWMODE;
            Kind::File {
                inode,
                at: 0,
                readable: access != OFlags::WRONLY,
                writable: access != OFlags::RDONLY,
                append: flags.contains(OFlags::APPEND),
                synced: flags.intersects(OFlags::DSYNC | OFlags::SYNC),
            }
        };
        Outcome::Done(self.descriptor(kind))
    }

    fn find_or_make(&mut self, sqe: &Sqe) -> Result<(InodeId, OFlags), Errno> {
        let how = memory::how(sqe)?;
        let path = memory::path(sqe.addr)?;
        let flags = u32::try_from(how.flags).map_err(|_| Errno::INVAL)?;
        let mode = u32::try_from(how.mode).map_err(|_| Errno::INVAL)?;
        let flags = OFlags::from_bits_retain(flags);
        let mode = Mode::from_bits_retain(mode);
        let resolve = ResolveFlags::from_bits_retain(how.resolve);
        let from = self.directory(sqe.fd)?;
        let inode = self.disk.open(from, path, flags, mode, resolve)?;
        Ok((inode, flags))
    }

    /// A new descriptor, which is the program's from now on.
    pub(super) fn descriptor(&mut self, kind: Kind) -> Result<i32, Errno> {
        if let Some(inode) = kind.inode() {
            self.disk.hold(inode);
        }
        let real = self.files.open(kind).inspect_err(|_| {
            if let Some(inode) = kind.inode() {
                self.disk.release(inode); // What has no name is gone.
            }
        })?;
        if self.files.is_sweep_due() {
            self.sweep(|_| true);
        }
        Ok(real.into_raw_fd())
    }

    /// Lets go of what the program has closed by itself.
    pub(super) fn sweep(&mut self, which: impl Fn(Kind) -> bool) {
        for closed in self.files.sweep(which) {
            self.let_go(closed);
        }
    }

    /// A descriptor is closed.
    pub(super) fn let_go(&mut self, kind: Kind) {
        if let Some(inode) = kind.inode() {
            self.disk.release(inode);
        }
        if let Kind::Stream { input, output, .. } = kind {
            if let (true, Some(input), Some(output)) = (kind.is_socket(), input, output) {
                let unread = !self.streams.get(input).bytes.is_empty();
                self.streams.get_mut(output).reset = unread;
                self.streams.get_mut(input).bytes.clear();
            }
            if let Some(input) = input {
                self.streams.get_mut(input).readers -= 1;
                self.pump(input);
            }
            if let Some(output) = output {
                self.streams.get_mut(output).writers -= 1;
                self.pump(output);
            }
        }
    }

    /// Closes what an op names, or what nobody was told of.
    #[allow(unsafe_code)] // A number.
    pub(super) fn close(&mut self, raw: RawFd) -> Result<i32, Errno> {
        if raw < 0 {
            return Err(Errno::BADF);
        }
        if let Some(kind) = self.files.close(raw) {
            self.let_go(kind);
        }
        // SAFETY: an op owns the number, as `Ring::close` waits until nobody uses it; or it was made by
        // `descriptor`, and its owner was never told.
        let closed = unsafe { libc::close(raw) };
        if closed == 0 { Ok(0) } else { Err(Errno::BADF) }
    }

    /// How many descriptors the program has.
    pub(crate) fn open_descriptors(&mut self) -> usize {
        self.sweep(|_| true);
        self.files.count()
    }
}
