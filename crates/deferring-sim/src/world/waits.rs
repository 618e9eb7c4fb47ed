//! Ops that wait: for a time, a pipe, the other end of a FIFO.
//!
//! Not: how they are cancelled (`cancel.rs`).

use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use deferring::CURRENT;
use deferring::op::{Opcode, Sqe};
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::World;
use super::calls::{Outcome, count, position};
use super::files::Kind;
use super::memory::{self, Parts};
use super::ops::{OpId, State};
use super::streams::StreamId;
use crate::disk::InodeId;

/// What a file is always ready for.
const READY: PollFlags =
    PollFlags::IN.union(PollFlags::OUT).union(PollFlags::RDNORM).union(PollFlags::WRNORM);

const ABSOLUTE: u32 = 1;

impl World {
    // Times.

    pub(super) fn begin_timeout(&mut self, id: OpId, sqe: &Sqe) {
        // BOOTTIME, REALTIME: all clocks are one here.
        const CLOCKS: u32 = 1 << 2 | 1 << 3;
        // The last says how chains go on.
        const KNOWN: u32 = ABSOLUTE | CLOCKS | 1 << 5;
        let flags = sqe.op_flags;
        if flags & !KNOWN != 0 || flags & CLOCKS == CLOCKS || sqe.len != 1 || sqe.off != 0 {
            return self.answer_now(id, Err(Errno::INVAL));
        }
        match memory::time(sqe.addr) {
            Ok(time) => self.strike_at(id, time, sqe.op_flags),
            Err(errno) => self.answer_now(id, Err(errno)),
        }
    }

    pub(super) fn strike_at(&mut self, id: OpId, time: Duration, flags: u32) {
        self.set(id, State::Timer);
        let absolute = flags & ABSOLUTE != 0;
        let due = if absolute { time } else { self.now.saturating_add(time) };
        self.at(id, due.max(self.now));
    }

    // Pipes.

    pub(super) fn is_stream(&self, raw: i32) -> bool {
        matches!(self.files.get(raw), Ok(Kind::Stream { .. }))
    }

    /// Two ends of a new pipe.
    pub(crate) fn pipe(&mut self) -> Result<[OwnedFd; 2], Errno> {
        let stream = self.streams.add();
        let input = self.stream_end(None, Some(stream), None)?;
        Ok([input, self.stream_end(None, None, Some(stream))?])
    }

    /// Two connected sockets.
    pub(crate) fn socket_pair(&mut self) -> Result<[OwnedFd; 2], Errno> {
        let (there, back) = (self.streams.add(), self.streams.add());
        let one = self.stream_end(None, Some(back), Some(there))?;
        Ok([one, self.stream_end(None, Some(there), Some(back))?])
    }

    #[allow(unsafe_code)] // A number that has just been made.
    fn stream_end(
        &mut self,
        inode: Option<InodeId>,
        input: Option<StreamId>,
        output: Option<StreamId>,
    ) -> Result<OwnedFd, Errno> {
        let raw = self.descriptor(Kind::Stream { inode, input, output, since: 0 })?;
        if let Some(input) = input {
            self.streams.get_mut(input).readers += 1;
        }
        if let Some(output) = output {
            self.streams.get_mut(output).add_writers(1);
        }
        // SAFETY: given up for us by `descriptor`.
        Ok(unsafe { OwnedFd::from_raw_fd(raw) })
    }

    pub(super) fn begin_transfer(&mut self, id: OpId) {
        let Some(op) = self.ops.get(id) else { return };
        let sqe = op.sqe;
        let stream = match self.stream_of(&sqe) {
            Ok(stream) => stream,
            Err(errno) => return self.answer(id, Err(errno)),
        };
        if let Err(errno) = self.check_position(&sqe) {
            return self.answer(id, Err(errno));
        }
        let is_read = is_read(&sqe);
        if !is_read {
            // Whether somebody reads is asked now; a read may wait to hear that nobody writes.
            self.sweep_streams();
        }
        let waiting = self.streams.get(stream);
        let first = if is_read { waiting.reads.is_empty() } else { waiting.writes.is_empty() };
        let done = if first { self.transfer(&sqe, stream) } else { None };
        if let Some(result) = done {
            self.answer(id, result);
            return self.pump(stream);
        }
        self.set(id, State::Armed);
        let stream = self.streams.get_mut(stream);
        if is_read { &mut stream.reads } else { &mut stream.writes }.push_back(id);
    }

    /// Sockets take no offset; pipes ignore it, if it is one.
    fn check_position(&self, sqe: &Sqe) -> Result<(), Errno> {
        position(sqe, 0, Parts::of(sqe)?.len())?;
        let has_one = sqe.off != 0 && sqe.off != CURRENT;
        if has_one && self.files.get(sqe.fd)?.is_socket() { Err(Errno::SPIPE) } else { Ok(()) }
    }

    fn stream_of(&self, sqe: &Sqe) -> Result<StreamId, Errno> {
        let Kind::Stream { input, output, .. } = self.files.get(sqe.fd)? else {
            return Err(Errno::BADF);
        };
        if is_read(sqe) { input } else { output }.ok_or(Errno::BADF)
    }

    /// Transfers what can be now. `None` if it has to wait.
    fn transfer(&mut self, sqe: &Sqe, stream: StreamId) -> Option<Result<i32, Errno>> {
        let parts = match Parts::of(sqe) {
            Ok(parts) => parts,
            Err(errno) => return Some(Err(errno)),
        };
        let len = parts.len();
        if is_read(sqe) {
            let there = self.streams.get(stream);
            let n = there.bytes.len().min(len);
            if n == 0 {
                if len > 0 && std::mem::take(&mut self.streams.get_mut(stream).reset) {
                    return Some(Err(Errno::CONNRESET));
                }
                let there = self.streams.get(stream);
                let end = len == 0 || there.writers == 0;
                return end.then_some(Ok(0));
            }
            let n = self.part_of(n);
            let bytes: Vec<u8> = self.streams.get_mut(stream).bytes.drain(..n).collect();
            return Some(parts.put(&bytes).and_then(|()| count(n)));
        }
        let there = self.streams.get(stream);
        // A pipe lets nothing pass, whoever reads; a socket does not.
        let of_a_pipe = !self.files.get(sqe.fd).is_ok_and(Kind::is_socket);
        if there.readers == 0 && !(len == 0 && of_a_pipe) {
            return Some(Err(Errno::PIPE));
        }
        let n = there.room_for(len);
        if n == 0 {
            return (len == 0).then_some(Ok(0));
        }
        let n = self.part_of(n);
        let there = self.streams.get_mut(stream);
        let written = parts.take(n, |bytes| {
            there.bytes.extend(bytes);
            Ok(bytes.len())
        });
        Some(written.and_then(count))
    }

    /// A pipe has changed: whoever can go on, does.
    pub(super) fn pump(&mut self, stream: StreamId) {
        loop {
            let there = self.streams.get(stream);
            let (read, write) = (there.reads.front().copied(), there.writes.front().copied());
            let read = read.is_some_and(|id| self.try_again(id, stream));
            let write = write.is_some_and(|id| self.try_again(id, stream));
            if !read && !write {
                break;
            }
        }
        for id in self.streams.get(stream).polls.clone() {
            let Some(op) = self.ops.get(id) else { continue };
            let events = self.events_now(&op.sqe.clone());
            if events.is_empty() {
                continue;
            }
            self.stop_polling(id);
            self.answer(id, Ok(events.bits().into()));
        }
    }

    fn try_again(&mut self, id: OpId, stream: StreamId) -> bool {
        let Some(op) = self.ops.get(id) else { return false };
        let sqe = op.sqe;
        let Some(result) = self.transfer(&sqe, stream) else { return false };
        let there = self.streams.get_mut(stream);
        if is_read(&sqe) { &mut there.reads } else { &mut there.writes }.pop_front();
        self.answer(id, result);
        true
    }

    /// The program may have closed ends of pipes without asking us.
    pub(super) fn hang_up(&mut self) {
        if self.streams.has_waiters() {
            self.sweep_streams();
        }
    }

    fn sweep_streams(&mut self) {
        if self.files.has_closed_stream() {
            self.sweep(|kind| matches!(kind, Kind::Stream { .. }));
        }
    }

    /// How many descriptors the program has.
    pub(crate) fn open_descriptors(&mut self) -> usize {
        self.sweep(|_| true);
        self.files.len()
    }

    // Polls.

    pub(super) fn begin_poll(&mut self, id: OpId, sqe: &Sqe) {
        const MULTISHOT: u32 = 1;
        if sqe.len & MULTISHOT != 0 {
            return self.answer_now(id, Err(Errno::INVAL));
        }
        if let Err(errno) = self.files.get_open(sqe.fd) {
            return self.answer_now(id, Err(errno));
        }
        self.set(id, State::Armed);
        self.sweep_streams();
        let events = self.events_now(sqe);
        if !events.is_empty() {
            return self.answer(id, Ok(events.bits().into()));
        }
        if !self.is_stream(sqe.fd) {
            // It never changes.
            return self.answer(id, Err(Errno::INVAL));
        }
        self.start_polling(id, sqe);
    }

    pub(super) fn start_polling(&mut self, id: OpId, sqe: &Sqe) {
        if let Ok(Kind::Stream { input, output, .. }) = self.files.get(sqe.fd) {
            for stream in input.into_iter().chain(output) {
                self.streams.get_mut(stream).polls.push(id);
            }
        }
    }

    pub(super) fn stop_polling(&mut self, id: OpId) {
        for stream in self.streams.ids() {
            self.streams.get_mut(stream).polls.retain(|&other| other != id);
        }
    }

    /// What a poll would tell now.
    pub(super) fn events_now(&self, sqe: &Sqe) -> PollFlags {
        #[allow(clippy::cast_possible_truncation)] // The bits of poll(2).
        let asked = PollFlags::from_bits_retain(sqe.op_flags as u16);
        // The last one unlike poll(2).
        let told = asked | PollFlags::HUP | PollFlags::ERR | PollFlags::RDHUP;
        let events = match self.files.get(sqe.fd) {
            Ok(Kind::Stream { inode: None, input: Some(input), output: Some(output), .. }) => {
                let output = self.streams.get(output).output_events() - PollFlags::ERR;
                self.streams.get(input).socket_events() | output
            }
            Ok(Kind::Stream { input, output, since, .. }) => {
                let input = input.map(|id| self.streams.get(id).input_events(since));
                let output = output.map(|id| self.streams.get(id).output_events());
                input.unwrap_or(PollFlags::empty()) | output.unwrap_or(PollFlags::empty())
            }
            Ok(_) => READY,
            Err(_) => PollFlags::ERR,
        };
        events & told
    }

    // FIFOs.

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

fn is_read(sqe: &Sqe) -> bool {
    matches!(sqe.opcode, Opcode::READ | Opcode::READV)
}
