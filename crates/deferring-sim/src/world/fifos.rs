//! Opens of FIFOs, whose ends wait for each other.
//!
//! Not: what is then read and written (`pipes.rs`).

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::World;
use super::calls::Outcome;
use super::files::Kind;
use super::memory;
use super::ops::{OpId, State};
use super::streams::StreamId;
use crate::disk::InodeId;

impl World {
    /// Linux lets the two ends of a FIFO wait for each other.
    pub(super) fn open_fifo(
        &mut self,
        id: OpId,
        inode: InodeId,
        flags: OFlags,
        may_block: bool,
    ) -> Outcome {
        let stream = self.fifo(inode);
        self.sweep_streams();
        let access = flags & OFlags::RWMODE;
        let (reads, writes) = (access != OFlags::WRONLY, access != OFlags::RDONLY);
        let there = self.streams.get(stream);
        let alone = if reads { there.writers == 0 } else { there.readers == 0 };
        let waits = alone && !(reads && writes);
        if waits && (!may_block || flags.contains(OFlags::NONBLOCK)) && writes {
            return Outcome::Done(Err(Errno::NXIO));
        }
        let since = if waits { there.writers_ever } else { 0 };
        let there = self.streams.get_mut(stream);
        there.readers += usize::from(reads);
        there.add_writers(writes.into());
        if waits && may_block && !flags.contains(OFlags::NONBLOCK) {
            self.disk.hold(inode);
            self.streams.get_mut(stream).opens.push(id);
            return Outcome::Blocks;
        }
        let opened = self.open_end(inode, stream, reads, writes, since);
        for other in self.streams.get(stream).opens.clone() {
            let Some((other_reads, other_writes)) = self.access_of(other) else { continue };
            if other_reads && writes || other_writes && reads {
                self.streams.get_mut(stream).opens.retain(|&left| left != other);
                self.finish_open(other, inode, stream);
            }
        }
        Outcome::Done(opened)
    }

    /// Its counts are added already.
    fn open_end(
        &mut self,
        inode: InodeId,
        stream: StreamId,
        reads: bool,
        writes: bool,
        since: u64,
    ) -> Result<i32, Errno> {
        let input = reads.then_some(stream);
        let output = writes.then_some(stream);
        let opened = self.descriptor(Kind::Stream { inode: Some(inode), input, output, since });
        if opened.is_err() {
            let there = self.streams.get_mut(stream);
            there.readers -= usize::from(reads);
            there.writers -= usize::from(writes);
        }
        opened
    }

    /// The other end has come.
    fn finish_open(&mut self, id: OpId, inode: InodeId, stream: StreamId) {
        let Some((reads, writes)) = self.access_of(id) else { return };
        let opened = self.open_end(inode, stream, reads, writes, 0);
        self.disk.release(inode);
        self.set(id, State::Running { worker: false });
        self.free_worker();
        self.answer(id, opened);
    }

    fn access_of(&self, id: OpId) -> Option<(bool, bool)> {
        let how = memory::how(&self.ops.get(id)?.sqe).ok()?;
        let access = how.flags & u64::from(OFlags::RWMODE.bits());
        let is = |flags: OFlags| access == u64::from(flags.bits());
        Some((!is(OFlags::WRONLY), !is(OFlags::RDONLY)))
    }

    /// An open waits no more.
    pub(super) fn leave_fifos(&mut self, id: OpId) {
        let Some((reads, writes)) = self.access_of(id) else { return };
        for (inode, stream) in self.fifos.clone() {
            let there = self.streams.get_mut(stream);
            if there.opens.contains(&id) {
                there.opens.retain(|&other| other != id);
                there.readers -= usize::from(reads);
                there.writers -= usize::from(writes);
                self.disk.release(inode);
            }
        }
    }

    fn fifo(&mut self, inode: InodeId) -> StreamId {
        let known = self.fifos.iter().find(|(fifo, _)| *fifo == inode);
        if let Some((_, stream)) = known {
            return *stream;
        }
        let stream = self.streams.add();
        self.fifos.push((inode, stream));
        stream
    }
}
