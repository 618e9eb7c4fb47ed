//! Pipes: bytes on their way, and who waits for them. A socket is two of them.
//!
//! Not: descriptors (`files.rs`).

use std::collections::VecDeque;

use rustix::event::PollFlags;

use super::ops::OpId;

/// What Linux gives a pipe.
pub(super) const CAPACITY: usize = 64 << 10;

/// What is written at once or not at all.
const ATOMIC: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId(usize);

#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) bytes: VecDeque<u8>,
    pub(super) readers: usize,
    pub(super) writers: usize,
    /// How many writers there have been.
    pub(super) writers_ever: u64,
    /// The other socket was closed before it had read all, and nobody was told yet.
    pub(super) reset: bool,
    /// Reads and writes that wait, in order.
    pub(super) reads: VecDeque<OpId>,
    pub(super) writes: VecDeque<OpId>,
    pub(super) polls: Vec<OpId>,
    /// Opens of a FIFO that wait for the other end.
    pub(super) opens: Vec<OpId>,
}

impl Stream {
    /// How many bytes of so many can be written now.
    pub(super) fn room_for(&self, len: usize) -> usize {
        let room = CAPACITY - self.bytes.len();
        if len <= ATOMIC && room < len { 0 } else { room.min(len) }
    }

    /// To one who opened it after so many writers, without waiting for one.
    pub(super) fn input_events(&self, since: u64) -> PollFlags {
        let mut events = PollFlags::empty();
        if !self.bytes.is_empty() {
            events |= PollFlags::IN | PollFlags::RDNORM;
        }
        // Who comes before all writers has not been left by them.
        if self.writers == 0 && self.writers_ever != since {
            events |= PollFlags::HUP;
        }
        events
    }

    pub(super) fn add_writers(&mut self, n: usize) {
        self.writers += n;
        self.writers_ever += n as u64;
    }

    /// What a socket is ready for, by what comes to it, besides what it can send.
    pub(super) fn socket_events(&self) -> PollFlags {
        let mut events = self.input_events(0);
        if self.writers == 0 {
            events |= PollFlags::IN | PollFlags::RDNORM | PollFlags::RDHUP;
        }
        if self.reset {
            events |= PollFlags::ERR;
        }
        events
    }

    pub(super) fn output_events(&self) -> PollFlags {
        let mut events = PollFlags::empty();
        // By whole pages, as a pipe has slots.
        if CAPACITY - self.bytes.len() >= ATOMIC {
            events |= PollFlags::OUT | PollFlags::WRNORM;
        }
        if self.readers == 0 {
            events |= PollFlags::ERR;
        }
        events
    }
}

#[derive(Debug, Default)]
pub(super) struct Streams(Vec<Stream>);

impl Streams {
    pub(super) fn add(&mut self) -> StreamId {
        self.0.push(Stream::default());
        StreamId(self.0.len() - 1)
    }

    pub(super) fn get(&self, id: StreamId) -> &Stream {
        &self.0[id.0]
    }

    pub(super) fn get_mut(&mut self, id: StreamId) -> &mut Stream {
        &mut self.0[id.0]
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = StreamId> + use<> {
        (0..self.0.len()).map(StreamId)
    }

    /// Whether anybody waits for an end of them to go away.
    pub(super) fn has_waiters(&self) -> bool {
        self.0.iter().any(|stream| {
            !(stream.reads.is_empty() && stream.writes.is_empty() && stream.polls.is_empty())
        })
    }

    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }
}
