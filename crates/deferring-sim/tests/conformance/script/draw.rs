//! Scripts from a seed.
//!
//! Paths leave a lane's directory by two levels at most: `..` starts from there only, and is in no
//! symlink. Reads of streams wait only where they are said to. Paths and lengths are in `reach.rs`.
//! Not: what scripts are (`mod.rs`).

use deferring::{
    Advice, AtFlags, CURRENT, FallocateFlags, OFlags, PollFlags, RenameFlags, ResolveFlags,
};
use fastrand::Rng;

use super::{FILES, INPUT, Lane, OUTPUT, ROOM, SLOTS, SOCKETS, Script, Slot, Step};
use crate::worlds::Form;

/// What may be on its way in a stream, well below what any takes.
const HELD_MAX: usize = 16_000;
const PARTS_MAX: usize = 12;

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

pub(super) fn one_lane(seed: u64) -> Script {
    let mut rng = Rng::with_seed(seed);
    let steps = rng.usize(20..80);
    Script { seed, lanes: vec![Lot::lane(&mut rng, steps)] }
}

pub(super) fn several_lanes(seed: u64) -> Script {
    let mut rng = Rng::with_seed(!seed);
    let lanes = rng.usize(2..6);
    Script { seed, lanes: (0..lanes).map(|_| Lot::lane(&mut rng, 40)).collect() }
}

pub(super) struct Lot<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) form: Form,
    pub(super) fifo: bool,
    /// What is written to the stream behind each slot.
    streams: [Stream; SLOTS],
}

#[derive(Clone, Copy, Default)]
struct Stream {
    held: usize,
    parts: usize,
    closed: bool,
}

impl<'a> Lot<'a> {
    fn lane(rng: &'a mut Rng, steps: usize) -> Lane {
        let fifo = rng.u8(..4) == 0;
        let mut lot = Self { rng, form: Form::here(), fifo, streams: [Stream::default(); SLOTS] };
        Lane { steps: (0..steps).map(|_| lot.step()).collect(), fifo }
    }

    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    pub(super) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.rng.usize(..all.len())]
    }

    fn step(&mut self) -> Step {
        match self.rng.u8(..100) {
            0..20 => self.open(),
            20..32 => self.write(),
            32..42 => self.read(),
            42..54 => self.stream(),
            54..64 => self.about_a_file(),
            64..94 => self.about_names(),
            _ => self.other(),
        }
    }

    fn open(&mut self) -> Step {
        let (from, path) = self.place();
        let mut flags = self.of(&[OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR, OFlags::RDWR]);
        let mut some = vec![
            (OFlags::CREATE, 2),
            (OFlags::EXCL, 6),
            (OFlags::TRUNC, 8),
            (OFlags::APPEND, 8),
            (OFlags::DIRECTORY, 8),
            (OFlags::NOFOLLOW, 8),
            (OFlags::DSYNC, 30),
            (OFlags::from_bits_retain(1 << 30), 100),
        ];
        if self.form.ext4 {
            some.push((OFlags::TMPFILE, 16));
        }
        for (flag, seldom) in some {
            if self.one_in(seldom) {
                flags |= flag;
            }
        }
        if self.one_in(10) {
            flags = OFlags::PATH | flags & (OFlags::DIRECTORY | OFlags::NOFOLLOW);
        } else if self.fifo {
            flags |= OFlags::NONBLOCK;
        }
        let makes = flags.intersects(OFlags::CREATE | (OFlags::TMPFILE - OFlags::DIRECTORY));
        let mode = match self.rng.u8(..50) {
            0 => 0o10_600,
            1 => 0o600,
            _ if makes => self.of(&[0o600, 0o755, 0o700, 0o640]),
            _ => 0,
        };
        let mut resolve = ResolveFlags::empty();
        for (flag, seldom) in [
            (ResolveFlags::BENEATH, 10),
            (ResolveFlags::IN_ROOT, 10),
            (ResolveFlags::NO_SYMLINKS, 10),
            (ResolveFlags::NO_XDEV, 10),
            (ResolveFlags::from_bits_retain(1 << 20), 200),
        ] {
            if self.one_in(seldom) {
                resolve |= flag;
            }
        }
        Step::Open { from, path, flags, mode, resolve, to: self.rng.usize(FILES) }
    }

    fn write(&mut self) -> Step {
        let (fd, at, fill) = (self.rng.usize(FILES), self.offset_of_transfer(), self.rng.u8(..));
        if self.one_in(4) {
            return Step::Writev { fd, lens: self.lens(), fill, at };
        }
        Step::Write { fd, len: self.len(), fill, at }
    }

    fn read(&mut self) -> Step {
        let (fd, at) = (self.rng.usize(ROOM..FILES.end), self.offset_of_transfer());
        if self.one_in(4) {
            return Step::Readv { fd, lens: self.lens(), at };
        }
        Step::Read { fd, len: self.len(), at }
    }

    /// A transfer of a pipe or a socket.
    fn stream(&mut self) -> Step {
        let fd = self.rng.usize(INPUT..SLOTS);
        let mut at = self.of(&[0, 0, CURRENT]);
        if self.one_in(8) {
            at = self.of(&[7, 1 << 62, 1 << 63]);
        }
        let len = if self.one_in(10) { 0 } else { self.rng.usize(1..4097) };
        let fill = self.rng.u8(..);
        let reads = if self.one_in(16) { fd != INPUT } else { fd == INPUT || self.rng.bool() };
        let is_socket = SOCKETS.contains(&fd);
        let at_once = self.streams[fd].closed
            || len == 0
            || i64::try_from(at).is_err() && at != CURRENT
            || is_socket && at != CURRENT && at != 0
            || !is_socket && reads != (fd == INPUT);
        let other = other_end(fd);
        if at_once {
            // As it comes.
        } else if reads {
            let is_ended = self.streams[other].closed;
            let stream = &mut self.streams[fd];
            if stream.held == 0 && !is_ended {
                return Step::ReadInVain { fd, len };
            }
            stream.held -= len.min(stream.held);
            stream.parts = if stream.held == 0 { 0 } else { stream.parts };
        } else if !self.streams[other].closed {
            let stream = &mut self.streams[other];
            if stream.held + len > HELD_MAX || stream.parts == PARTS_MAX {
                return Step::Nop;
            }
            stream.held += len;
            stream.parts += 1;
        }
        let lens = vec![len / 2, 0, len - len / 2];
        match (reads, self.one_in(4)) {
            (true, true) => Step::Readv { fd, lens, at },
            (true, false) => Step::Read { fd, len, at },
            (false, true) => Step::Writev { fd, lens, fill, at },
            (false, false) => Step::Write { fd, len, fill, at },
        }
    }

    fn about_a_file(&mut self) -> Step {
        let fd = if self.one_in(8) { self.rng.usize(..SLOTS) } else { self.rng.usize(FILES) };
        let at = self.offset();
        match self.rng.u8(..10) {
            0..2 => Step::Sync { fd, data_only: self.rng.bool() },
            2..5 => Step::Truncate { fd, len: at },
            5..8 => {
                let mut all = vec![FallocateFlags::empty(), FallocateFlags::KEEP_SIZE];
                if self.form.ext4 {
                    all.extend([
                        PUNCH,
                        FallocateFlags::ZERO_RANGE,
                        FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
                        PUNCH | FallocateFlags::ZERO_RANGE,
                    ]);
                }
                all.extend([FallocateFlags::PUNCH_HOLE, FallocateFlags::from_bits_retain(1 << 20)]);
                let mut lens = vec![0, 1, 511, 4096, 5000, 40_000, 1 << 63];
                if self.form.ext4 {
                    lens.push(i64::MAX as u64);
                }
                let len = self.of(&lens);
                Step::Allocate { fd, flags: self.of(&all), at, len }
            }
            _ => {
                let all = [Advice::Normal, Advice::Sequential, Advice::WillNeed, Advice::DontNeed];
                let len = self.of(&[0, 1, 1 << 20, 1 << 40, 1 << 63]);
                Step::Advise { fd, at, len, advice: self.of(&all) }
            }
        }
    }

    fn about_names(&mut self) -> Step {
        let (from, path) = self.place();
        let (to, path2) = self.place();
        match self.rng.u8(..30) {
            0..6 => Step::Mkdir { from, path, mode: self.of(&[0o700, 0o755, 0o1777, 0o4711]) },
            6..11 => {
                let flags = self.of(&[0, 0, 0, 0x200, 0x200, 1]);
                Step::Unlink { from, path, flags: AtFlags::from_bits_retain(flags) }
            }
            11..17 => {
                let flags = RenameFlags::from_bits_retain(self.of(&[0, 0, 0, 1, 2, 3, 1 << 9]));
                Step::Rename { from, path, to, path2, flags }
            }
            17..21 => {
                let mut flags = AtFlags::from_bits_retain(self.of(&[0, 0, 0x400, 0x200]));
                let empty = self.form.root && self.one_in(4);
                flags.set(AtFlags::EMPTY_PATH, empty);
                let path = if empty { String::new() } else { path };
                Step::Link { from, path, to, path2, flags }
            }
            21..25 => Step::Symlink { target: self.target(), from, path },
            25..28 => {
                let flags = self.of(&[0, 0x100, 0x100, 0x1000, 0x200, 0x6000]);
                Step::Stat { from, path, flags: AtFlags::from_bits_retain(flags) }
            }
            _ => Step::StatOf(self.rng.usize(..SLOTS)),
        }
    }

    fn other(&mut self) -> Step {
        match self.rng.u8(..8) {
            0..2 => Step::Close(self.rng.usize(FILES)),
            2 => Step::Drop(self.rng.usize(FILES)),
            3 if self.one_in(3) => {
                let fd = self.rng.usize(INPUT..SLOTS);
                self.streams[fd].closed = true;
                if self.rng.bool() { Step::Close(fd) } else { Step::Drop(fd) }
            }
            3..6 => {
                let some = [PollFlags::IN, PollFlags::OUT, PollFlags::PRI, PollFlags::RDNORM];
                let events = self.of(&some) | self.of(&some);
                Step::Poll { fd: self.rng.usize(..SLOTS), events }
            }
            6 => Step::Time { micros: self.of(&[0, 50]) },
            _ => Step::Nop,
        }
    }
}

fn other_end(fd: Slot) -> Slot {
    match fd {
        INPUT => OUTPUT,
        OUTPUT => INPUT,
        socket => SOCKETS[0] + SOCKETS[1] - socket,
    }
}
