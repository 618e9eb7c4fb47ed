//! One op at a time for each direction of a descriptor that waits without a worker.
//!
//! Many that wait for one event are woken by it all at once, and then run after each other's
//! leavings on thousands of threads. So the second waits here for the first, and order is kept.
//! Not: the ops that go (`admission.rs`).

use super::queue::{Links, Queue};

/// All turnstiles, by the descriptor's number, which is nobody else's as long as an op uses it.
/// Bounded by the highest number: 48 bytes each.
#[derive(Debug, Default)]
pub(crate) struct Turnstiles {
    turns: Vec<Turn>,
    waiting: usize,
}

#[derive(Debug)]
struct Turn {
    taken: bool,
    behind: Queue,
}

impl Turnstiles {
    pub(crate) const fn new() -> Self {
        Self { turns: Vec::new(), waiting: 0 }
    }

    /// How many ops wait behind others.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    #[inline]
    fn at(&mut self, key: u32) -> &mut Turn {
        let key = key as usize;
        if self.turns.len() <= key {
            self.grow(key);
        }
        &mut self.turns[key]
    }

    #[cold]
    fn grow(&mut self, key: usize) {
        self.turns.resize_with(key + 1, || Turn { taken: false, behind: Queue::new() });
    }

    /// Takes the turn if it is free; then nobody waits behind.
    #[inline]
    pub(crate) fn take(&mut self, key: u32) -> bool {
        !std::mem::replace(&mut self.at(key).taken, true)
    }

    /// Takes the turn if it is free; else the row waits behind.
    pub(crate) fn pass(&mut self, rows: &mut impl Links, key: u32, index: u32) -> bool {
        let free = self.take(key);
        if !free {
            self.at(key).behind.push_back(rows, index);
            self.waiting += 1;
        }
        free
    }

    /// The row no longer waits behind.
    pub(crate) fn leave(&mut self, rows: &mut impl Links, key: u32, index: u32) {
        self.at(key).behind.remove(rows, index);
        self.waiting -= 1;
    }

    /// Whoever has the turn gives it up: to the row returned, if one waits.
    #[inline]
    pub(crate) fn give_up(&mut self, rows: &mut impl Links, key: u32) -> Option<u32> {
        let turn = self.at(key);
        let next = turn.behind.pop_front(rows);
        turn.taken = next.is_some();
        self.waiting -= usize::from(next.is_some());
        next
    }
}

#[cfg(test)]
impl Turnstiles {
    /// Each turnstile that there is: its key, whether it is taken, and who waits behind.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, bool, &Queue)> {
        (0..).zip(&self.turns).map(|(key, turn)| (key, turn.taken, &turn.behind))
    }
}
