//! Scripts: ops drawn by lot, played on every kernel, whose answers are held against one another.
//!
//! A script has lanes. Each has a directory, a pipe and two sockets of its own, and awaits one op
//! after the other; all lanes run at once. Where there are several, ops are cancelled now and then,
//! and asked for again if the cancel came in time: so an op that was cancelled and happened all the
//! same is seen, too. What is allowed to differ is not drawn, or not told: the sizes of directories,
//! where a file system counts otherwise; how much a full socket takes.
//!
//! `draw.rs` and `reach.rs` make them, `play.rs` and `answer.rs` play them, `tree.rs` looks at what
//! they leave, `judge.rs` compares.

mod answer;
mod draw;
mod judge;
mod play;
mod reach;
mod tree;

use deferring::{Advice, AtFlags, FallocateFlags, OFlags, PollFlags, RenameFlags, ResolveFlags};

/// A descriptor, by its place among those of a lane.
pub(crate) type Slot = usize;

/// The lane's directory.
const ROOM: Slot = 0;
/// What opens fill.
const FILES: std::ops::Range<Slot> = 1..7;
/// A pipe's two ends.
const INPUT: Slot = 7;
const OUTPUT: Slot = 8;
const SOCKETS: [Slot; 2] = [9, 10];
const SLOTS: usize = 11;

pub(crate) struct Script {
    seed: u64,
    lanes: Vec<Lane>,
}

#[derive(Clone)]
pub(crate) struct Lane {
    steps: Vec<Step>,
    /// There is a FIFO, and no open waits.
    fifo: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Open {
        from: Slot,
        path: String,
        flags: OFlags,
        mode: u32,
        resolve: ResolveFlags,
        to: Slot,
    },
    Close(Slot),
    /// Without the ring.
    Drop(Slot),
    Read {
        fd: Slot,
        len: usize,
        at: u64,
    },
    /// A read that would wait for ever: it is cancelled when it waits.
    ReadInVain {
        fd: Slot,
        len: usize,
    },
    Readv {
        fd: Slot,
        lens: Vec<usize>,
        at: u64,
    },
    Write {
        fd: Slot,
        len: usize,
        fill: u8,
        at: u64,
    },
    Writev {
        fd: Slot,
        lens: Vec<usize>,
        fill: u8,
        at: u64,
    },
    Sync {
        fd: Slot,
        data_only: bool,
    },
    Truncate {
        fd: Slot,
        len: u64,
    },
    Allocate {
        fd: Slot,
        flags: FallocateFlags,
        at: u64,
        len: u64,
    },
    Advise {
        fd: Slot,
        at: u64,
        len: u64,
        advice: Advice,
    },
    Stat {
        from: Slot,
        path: String,
        flags: AtFlags,
    },
    StatOf(Slot),
    Mkdir {
        from: Slot,
        path: String,
        mode: u32,
    },
    Unlink {
        from: Slot,
        path: String,
        flags: AtFlags,
    },
    Rename {
        from: Slot,
        path: String,
        to: Slot,
        path2: String,
        flags: RenameFlags,
    },
    Link {
        from: Slot,
        path: String,
        to: Slot,
        path2: String,
        flags: AtFlags,
    },
    Symlink {
        target: String,
        from: Slot,
        path: String,
    },
    /// Cancelled if nothing is ready.
    Poll {
        fd: Slot,
        events: PollFlags,
    },
    Nop,
    Time {
        micros: u64,
    },
}

impl Script {
    /// One lane, and no cancels.
    fn of(seed: u64, lane: Lane) -> Self {
        Self { seed, lanes: vec![lane] }
    }
}

impl Step {
    /// Whether what comes later may wait for ever without it.
    fn is_of_a_stream(&self) -> bool {
        matches!(
            self,
            Self::Close(fd)
            | Self::Drop(fd)
            | Self::Read { fd, .. }
            | Self::Readv { fd, .. }
            | Self::Write { fd, .. }
            | Self::Writev { fd, .. } if *fd >= INPUT
        )
    }
}

#[test]
fn ops_one_after_the_other_are_answered_alike() {
    judge::all_alike(150, draw::one_lane);
}

#[test]
fn ops_at_once_and_cancelled_are_answered_alike() {
    judge::all_alike(50, draw::several_lanes);
}
