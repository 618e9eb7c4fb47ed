//! The rows of the slot table: what is known of each op beside its bytes.
//!
//! Not: the ops themselves (`cells.rs`), nor what happens to them (`mod.rs`).

use std::task::Waker;

use super::cells::Vtable;
use super::queue::{Link, Links, NONE};
use super::slot::{Cancel, State};
use super::token::Token;

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
    pub(crate) vtable: Option<&'static Vtable>,
    /// Who awaits the result.
    pub(crate) waker: Option<Waker>,
    /// Who awaits the outcome of a cancel. Boxed: rarely there, and a row is small.
    #[allow(clippy::box_collection)] // See above.
    pub(crate) cancel_wakers: Option<Box<Vec<Waker>>>,
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

    /// A free row for a new op, in state `Waiting`.
    pub(crate) fn allocate(&mut self, vtable: &'static Vtable) -> Token {
        let index = match self.free {
            NONE => self.grow(),
            index => {
                self.free = self.rows[index as usize].link.next;
                index
            }
        };
        let row = &mut self.rows[index as usize];
        assert_eq!(row.state, State::Free, "row {index} is in use");
        row.link = Link::UNLINKED;
        row.state = State::Waiting;
        row.cancel = Cancel::None;
        row.cancel_resends = 0;
        row.has_result = false;
        row.vtable = Some(vtable);
        let token = Token::new(index, row.generation);
        self.in_use += 1;
        token
    }

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
            vtable: None,
            waker: None,
            cancel_wakers: None,
        });
        index
    }

    /// Gives a row back whose state has become `Free`. Its old tokens name nothing from now on.
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
    pub(crate) fn get(&mut self, token: Token) -> Option<&mut Row> {
        let row = self.rows.get_mut(token.index() as usize)?;
        (row.generation == token.generation() && row.state != State::Free).then_some(row)
    }

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
