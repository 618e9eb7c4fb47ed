//! The rows of the slot table: what is known of each op beside its bytes.
//!
//! Not: the ops themselves (`cells.rs`), nor what happens to them (`mod.rs`).

use std::task::Waker;

use super::admission::Lane;
use super::cells::Vtable;
use super::queue::{Link, Links, NONE};
use super::slot::{Cancel, State};
use super::token::Token;
use crate::op::{Kind, Place};

/// One op's bookkeeping.
pub(crate) struct Row {
    pub(crate) link: Link,
    pub(crate) generation: u32,
    /// The op's result once it is there.
    pub(crate) result: i32,
    pub(crate) state: State,
    pub(crate) cancel: Cancel,
    pub(crate) cancel_resends: u8,
    /// A CQE with `F_MORE` has brought the result; the last one brings none.
    pub(crate) has_result: bool,
    /// The class, as a number.
    pub(crate) class: u8,
    pub(crate) list: List,
    pub(crate) marks: Marks,
    /// How often the kernel gave the op back undone.
    pub(crate) tries: u8,
    /// Of a worker op: the tick in which it went, or began to wait for a credit. Of one that passes
    /// a turnstile: which.
    pub(crate) key: u32,
    /// The group that the op was put into, 0 for none.
    pub(crate) group: u32,
    pub(crate) vtable: Option<&'static Vtable>,
    /// Who awaits the result.
    pub(crate) waker: Option<Waker>,
    /// Who awaits the outcome of a cancel. Boxed: rarely there, and a row is small.
    pub(crate) watchers: Option<Box<Watchers>>,
}

impl Row {
    /// Of which kind of worker ops it is, if it is one.
    pub(super) fn kind(&self) -> Option<Kind> {
        Kind::ALL.get(usize::from(self.class)).copied()
    }

    /// Whether it needs a worker, or to go to one at once, or its turn.
    pub(super) const fn needs_more_than_room(&self) -> bool {
        self.is_worker() || self.marks.has(Marks::TURNSTILE | Marks::IN_WORKER)
    }

    /// Whether it needs a worker, or to go to one at once.
    pub(super) const fn needs_more_than_its_turn(&self) -> bool {
        self.is_worker() || self.marks.has(Marks::IN_WORKER)
    }

    pub(super) const fn is_worker(&self) -> bool {
        (self.class as usize) < Kind::COUNT
    }

    /// Whether it is on no list, and nobody has asked for its end.
    pub(super) fn is_plain(&self) -> bool {
        // What its place needs, and that it has its turn: neither tells of anybody's wish.
        const OF_ITS_PLACE: u8 =
            Marks::IN_WORKER | Marks::MAY_BLOCK | Marks::DISK | Marks::TURNSTILE | Marks::PASSES;
        Marks(self.marks.0 & !OF_ITS_PLACE) == Marks::NONE
            && self.list == List::None
            && self.cancel == Cancel::None
            && !self.has_result
            && self.watchers.is_none()
    }
}

/// Who awaits the outcome of a cancel.
#[derive(Default)]
pub(crate) struct Watchers {
    pub(crate) wakers: Vec<Waker>,
    /// Cancels of many that this op is among.
    pub(crate) tallies: Vec<u64>,
}

/// The one list that a row is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// None: in the kernel without a credit, done, or free.
    None,
    Lane(Lane),
    Paused,
    /// Until a time, and on no list but that of times.
    Asleep,
    /// Behind another op of its turnstile.
    Behind,
    Holders,
    Stuck,
}

/// What is known of one op, yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks(u8);

impl Marks {
    // What its place needs. With a turnstile, `key` says which.
    pub(crate) const IN_WORKER: u8 = Place::IN_WORKER;
    pub(crate) const MAY_BLOCK: u8 = Place::MAY_BLOCK;
    pub(crate) const DISK: u8 = Place::DISK;
    pub(crate) const TURNSTILE: u8 = Place::TURNSTILE;
    /// It is the one whose turn it is.
    pub(crate) const PASSES: u8 = 1 << 4;
    /// Its deadline has come.
    pub(crate) const TIMED_OUT: u8 = 1 << 5;
    /// Another op has been asked to end it.
    pub(crate) const REMOVED: u8 = 1 << 6;
    /// Cancelled by the ring itself, to learn whether it has a worker.
    pub(crate) const STOLEN: u8 = 1 << 7;

    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    pub(crate) const fn set(&mut self, mark: u8, on: bool) {
        if on {
            self.0 |= mark;
        } else {
            self.0 &= !mark;
        }
    }
}

const _: () = assert!(size_of::<Row>() <= 64, "a row is a cache line at most");

/// All rows. Never shrinks; free rows are used again, the last freed first (its cell is warm).
pub(crate) struct Table {
    rows: Vec<Row>,
    free: u32,
    in_use: usize,
}

impl Table {
    pub(crate) const fn new() -> Self {
        Self { rows: Vec::new(), free: NONE, in_use: 0 }
    }

    /// A free row for a new op, in state `Waiting`, to be put into the lane of what is new.
    #[inline(always)] // As `Inflight::insert`.
    pub(crate) fn allocate(&mut self, vtable: &'static Vtable, place: &Place) -> Token {
        let index = match self.free {
            NONE => self.grow(),
            index => {
                self.free = self.rows[index as usize].link.next;
                index
            }
        };
        let row = &mut self.rows[index as usize];
        assert_eq!(row.state, State::Free, "row {index} is in use");
        let (needs, turnstile) = place.needs();
        row.state = State::Waiting;
        row.cancel = Cancel::None;
        row.cancel_resends = 0;
        row.has_result = false;
        row.class = place.class_index();
        row.list = List::Lane(Lane::Fresh);
        row.marks = Marks(needs);
        row.tries = 0;
        row.key = turnstile;
        row.group = 0;
        row.vtable = Some(vtable);
        let token = Token::new(index, row.generation);
        self.in_use += 1;
        token
    }

    #[cold]
    fn grow(&mut self) -> u32 {
        let index = u32::try_from(self.rows.len()).unwrap_or(NONE);
        assert!(index <= Token::INDEX_MAX, "2^30 ops are in flight on one ring");
        self.rows.push(Row {
            link: Link::UNLINKED,
            generation: 0,
            result: 0,
            state: State::Free,
            cancel: Cancel::None,
            cancel_resends: 0,
            has_result: false,
            class: 0,
            list: List::None,
            marks: Marks::NONE,
            tries: 0,
            key: 0,
            group: 0,
            vtable: None,
            waker: None,
            watchers: None,
        });
        index
    }

    /// Gives a row back whose state has become `Free`. Its old tokens name nothing from now on.
    #[inline]
    pub(crate) fn release(&mut self, index: u32) {
        let free = self.free;
        let row = self.at(index);
        assert_eq!(row.state, State::Free, "row {index} is still in use");
        assert!(row.waker.is_none(), "row {index} has somebody waiting");
        row.generation = row.generation.wrapping_add(1);
        row.vtable = None;
        row.link = Link { previous: NONE, next: free };
        self.free = index;
        self.in_use -= 1;
    }

    pub(crate) const fn is_all_free(&self) -> bool {
        self.in_use == 0
    }

    /// The row of a token, unless it is another op's by now.
    #[inline]
    pub(crate) fn get(&mut self, token: Token) -> Option<&mut Row> {
        let row = self.rows.get_mut(token.index() as usize)?;
        (row.generation == token.generation() && row.state != State::Free).then_some(row)
    }

    /// Whether a token's op has not ended.
    pub(crate) fn is_out(&self, token: Token) -> bool {
        let row = self.rows.get(token.index() as usize);
        row.is_some_and(|row| row.generation == token.generation() && row.state.is_out())
    }

    #[inline]
    pub(crate) fn at(&mut self, index: u32) -> &mut Row {
        &mut self.rows[index as usize]
    }

    pub(crate) fn token(&self, index: u32) -> Token {
        Token::new(index, self.rows[index as usize].generation)
    }

    pub(crate) fn indices(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.rows.len()).unwrap_or(NONE)
    }
}

impl Links for Table {
    fn link(&mut self, index: u32) -> &mut Link {
        &mut self.at(index).link
    }
}
