//! Ops that wait for a time, or for a descriptor to be ready.
//!
//! Not: transfers that wait (`pipes.rs`), nor how all these are cancelled (`cancel.rs`).

use std::time::Duration;

use deferring::op::Sqe;
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::World;
use super::files::Kind;
use super::memory;
use super::ops::{OpId, State};

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
}
