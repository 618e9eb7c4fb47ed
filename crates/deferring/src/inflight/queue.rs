//! Lists of rows, in order of arrival, linked through the rows themselves.
//!
//! Linking through the rows makes a push and a removal from the middle O(1) and free of
//! allocation, and bounds each list by the number of rows. Not: what the lists mean (`mod.rs`).

/// No row.
pub(crate) const NONE: u32 = u32::MAX;

/// A row's place in the one list that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) previous: u32,
    pub(crate) next: u32,
}

impl Link {
    pub(crate) const UNLINKED: Self = Self { previous: NONE, next: NONE };
}

/// Whatever has links by index.
pub(crate) trait Links {
    fn link(&mut self, index: u32) -> &mut Link;
}

/// A first-in, first-out list.
#[derive(Debug)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
    len: usize,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) const fn front(&self) -> Option<u32> {
        if self.head == NONE { None } else { Some(self.head) }
    }

    /// The row after this one, which is in this list.
    #[allow(clippy::unused_self)] // The list says what the links mean.
    pub(crate) fn after(&self, rows: &mut impl Links, index: u32) -> Option<u32> {
        let next = rows.link(index).next;
        (next != NONE).then_some(next)
    }

    pub(crate) fn push_back(&mut self, rows: &mut impl Links, index: u32) {
        *rows.link(index) = Link { previous: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = index,
            tail => rows.link(tail).next = index,
        }
        self.tail = index;
        self.len += 1;
    }

    pub(crate) fn pop_front(&mut self, rows: &mut impl Links) -> Option<u32> {
        let index = self.head;
        if index == NONE {
            return None;
        }
        self.unlink_front(rows.link(index).next);
        Some(index)
    }

    /// Takes out the first row, whose link says that this is next. What that says of the one before
    /// it is stale from now on: nobody looks, as it is the first.
    pub(crate) const fn unlink_front(&mut self, next: u32) {
        self.head = next;
        if next == NONE {
            self.tail = NONE;
        }
        self.len -= 1;
    }

    /// Takes a row out, wherever in this list it is.
    pub(crate) fn remove(&mut self, rows: &mut impl Links, index: u32) {
        let Link { previous, next } = *rows.link(index);
        if self.head == index {
            return self.unlink_front(next);
        }
        rows.link(previous).next = next;
        match next {
            NONE => self.tail = previous,
            next => rows.link(next).previous = previous,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    impl Links for Vec<Link> {
        fn link(&mut self, index: u32) -> &mut Link {
            &mut self[index as usize]
        }
    }

    proptest! {
        /// Against std's deque: any mix of pushes, pops and removals from the middle.
        #[test]
        fn a_queue_keeps_order_like_a_deque(steps in prop::collection::vec((0u8..3, 0u32..16), 0..400)) {
            let mut links = vec![Link::UNLINKED; 16];
            let mut queue = Queue::new();
            let mut model = VecDeque::new();
            for (what, index) in steps {
                match what {
                    0 if !model.contains(&index) => {
                        queue.push_back(&mut links, index);
                        model.push_back(index);
                    }
                    1 => prop_assert_eq!(queue.pop_front(&mut links), model.pop_front()),
                    _ => {
                        if let Some(at) = model.iter().position(|&each| each == index) {
                            queue.remove(&mut links, index);
                            model.remove(at);
                        }
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }
}
