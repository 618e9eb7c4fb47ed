//! Ops that the kernel has, by number and by `user_data`.
//!
//! Not: what becomes of them (`mod.rs`).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use deferring::op::{Opcode, Sqe};

/// Where an op is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It waits for a worker.
    Queued,
    /// It is under way; `worker` is blocked by it meanwhile.
    Running { worker: bool },
    /// It waits for a descriptor.
    Armed,
    /// It waits for a time.
    Timer,
    /// It blocks a worker until somebody opens the other end.
    Opening,
    /// It blocks a worker, and does not end by itself.
    Hung { for_ever: bool },
    /// It is done, and its answer is on the way.
    Answered(i32),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    pub(super) sqe: Sqe,
    pub(super) ring: RingId,
    /// The how manieth op it is.
    pub(super) serial: u64,
    pub(super) state: State,
    /// Of its entries in the agenda this one counts.
    pub(super) entry: u64,
    /// A cancel has come while it ran: it is not to block.
    pub(super) interrupted: bool,
    /// How many cancels have missed it.
    pub(super) misses: u8,
}

/// One of the rings that the machine has served, by its place in their list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RingId(pub(super) u32);

/// Its place in the table, and its serial number, by which it is told from the next one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OpId {
    place: u32,
    pub(super) serial: u64,
}

#[derive(Debug, Default)]
pub(super) struct Ops {
    rows: Vec<Option<Op>>,
    free: Vec<u32>,
    names: HashMap<(RingId, u64), OpId, BuildHasherDefault<Spread>>,
}

impl Ops {
    /// # Panics
    /// If an op of that name is there.
    pub(super) fn add(&mut self, op: Op) -> OpId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.rows.push(None);
            u32::try_from(self.rows.len() - 1).expect("few")
        });
        let id = OpId { place, serial: op.serial };
        let same = self.names.insert((op.ring, op.sqe.user_data), id);
        // A ring may ask for nothing twice.
        let is_bad = same.is_some() && op.sqe.opcode != Opcode::NOP;
        assert!(!is_bad, "two ops in the kernel have one name: {:?}", op.sqe);
        self.rows[place as usize] = Some(op);
        id
    }

    pub(super) fn get(&self, id: OpId) -> Option<&Op> {
        self.rows[id.place as usize].as_ref().filter(|op| op.serial == id.serial)
    }

    pub(super) fn get_mut(&mut self, id: OpId) -> Option<&mut Op> {
        self.rows[id.place as usize].as_mut().filter(|op| op.serial == id.serial)
    }

    pub(super) fn by_name(&self, ring: RingId, user_data: u64) -> Option<OpId> {
        self.names.get(&(ring, user_data)).copied()
    }

    pub(super) fn remove(&mut self, id: OpId) -> Option<Op> {
        self.get(id)?;
        let op = self.rows[id.place as usize].take()?;
        self.free.push(id.place);
        if self.by_name(op.ring, op.sqe.user_data) == Some(id) {
            self.names.remove(&(op.ring, op.sqe.user_data));
        }
        Some(op)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    /// In the order of their places, which is the same in each run.
    pub(super) fn iter(&self) -> impl Iterator<Item = (OpId, &Op)> {
        self.rows.iter().zip(0..).filter_map(|(row, place)| {
            row.as_ref().map(|op| (OpId { place, serial: op.serial }, op))
        })
    }
}

/// Numbers that are one another's neighbours, spread. The same in each process, unlike std's.
#[derive(Debug, Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }

    fn write_i32(&mut self, n: i32) {
        self.write_u64(u64::from(u32::from_ne_bytes(n.to_ne_bytes())));
    }
}
