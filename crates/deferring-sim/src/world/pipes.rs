//! Pipes and sockets: what is read and written, at once or when it can be.
//!
//! Not: the bytes on their way (`streams.rs`), nor opens of FIFOs (`fifos.rs`).

use std::os::fd::{FromRawFd, OwnedFd};

use deferring::CURRENT;
use deferring::op::{Opcode, Sqe};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::World;
use super::contents::{count, position};
use super::files::Kind;
use super::memory::Parts;
use super::ops::{OpId, State};
use super::streams::StreamId;
use crate::disk::InodeId;

/// Of a message: it does not wait; and it leaves what it reads.
const DONTWAIT: u32 = RecvFlags::DONTWAIT.bits();
const PEEK: u32 = RecvFlags::PEEK.bits();

impl World {
    pub(super) fn is_socket(&self, raw: i32) -> bool {
        self.files.get(raw).is_ok_and(Kind::is_socket)
    }

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
        let at_once = has(&sqe, DONTWAIT);
        let done = if first || at_once { self.transfer(&sqe, stream) } else { None };
        let done = if at_once { done.or(Some(Err(Errno::AGAIN))) } else { done };
        if let Some(result) = done {
            self.answer(id, result);
            return self.pump(stream);
        }
        self.set(id, State::Armed);
        let stream = self.streams.get_mut(stream);
        if is_read { &mut stream.reads } else { &mut stream.writes }.push_back(id);
    }

    /// Sockets take no offset; pipes ignore it, if it is one. A message has none, but flags.
    fn check_position(&self, sqe: &Sqe) -> Result<(), Errno> {
        const NOSIGNAL: u32 = SendFlags::NOSIGNAL.bits();
        if is_message(sqe) {
            let known = DONTWAIT | if is_read(sqe) { PEEK } else { NOSIGNAL };
            return if sqe.op_flags & !known == 0 { Ok(()) } else { Err(Errno::INVAL) };
        }
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
            if there.bytes.is_empty() {
                if len > 0 && std::mem::take(&mut self.streams.get_mut(stream).reset) {
                    return Some(Err(Errno::CONNRESET));
                }
                let there = self.streams.get(stream);
                // A receive of nothing waits as any other.
                let end = len == 0 && !is_message(sqe) || there.writers == 0;
                return end.then_some(Ok(0));
            }
            let n = self.part_of(n);
            let bytes: Vec<u8> = self.streams.get(stream).bytes.iter().take(n).copied().collect();
            if !has(sqe, PEEK) {
                self.streams.get_mut(stream).bytes.drain(..n);
            }
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

    pub(super) fn sweep_streams(&mut self) {
        if self.files.has_closed_stream() {
            self.sweep_all_streams();
        }
    }

    /// Whether there was something to let go of. A witness is not told of what was closed while a child
    /// of the process has it, which is until its `exec`.
    pub(super) fn sweep_all_streams(&mut self) -> bool {
        let before = self.files.count();
        self.sweep(|kind| matches!(kind, Kind::Stream { .. }));
        self.files.count() < before
    }
}

fn is_read(sqe: &Sqe) -> bool {
    matches!(sqe.opcode, Opcode::READ | Opcode::READV | Opcode::RECV)
}

fn is_message(sqe: &Sqe) -> bool {
    matches!(sqe.opcode, Opcode::SEND | Opcode::RECV)
}

fn has(sqe: &Sqe, flag: u32) -> bool {
    is_message(sqe) && sqe.op_flags & flag != 0
}
