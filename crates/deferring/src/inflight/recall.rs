//! Ops that the ring wants back from the kernel's workers, because the thread that sent them ends.
//!
//! They are cancelled without anybody's wish, so that their results say "undone", and go again.
//! Not: who asks, and when (`turn/leave.rs`).

use super::slot::{Cancel, State};
use super::table::{Marks, Row};
use super::{Inflight, Token};

/// In `Row::cancel_resends`: the op is wanted back. Whoever wants it asks again by themselves.
pub(super) const RECALLED: u8 = u8::MAX;

impl Inflight {
    /// What the kernel's workers have, or may have; but not `elsewhere`.
    pub(crate) fn in_workers(&mut self, elsewhere: impl Fn(Token) -> bool) -> Vec<Token> {
        let mut found = Vec::new();
        for index in self.table.indices() {
            let token = self.table.token(index);
            if is_in_worker(self.table.at(index)) && !elsewhere(token) {
                found.push(token);
            }
        }
        found
    }

    /// Those are wanted back from now on.
    pub(crate) fn want_back(&mut self, wanted: &[Token]) {
        for token in wanted {
            self.table.at(token.index()).cancel_resends = RECALLED;
        }
    }

    /// Asks for what is wanted back and has not come, and forgets the rest.
    pub(crate) fn recall(&mut self, wanted: &mut Vec<Token>) {
        wanted.retain(|&token| {
            let Some(row) = self.table.get(token) else { return false };
            let is_there = is_in_worker(row) && row.cancel_resends == RECALLED;
            if is_there {
                self.cancel_lane.push_back(token);
            }
            is_there
        });
        self.own_cancels |= !wanted.is_empty();
    }
}

/// Whether a worker of the kernel's may have it, and it may be sent twice. An op that somebody has
/// cancelled is asked for as well: the interruption may have been missed.
fn is_in_worker(row: &Row) -> bool {
    let worker = row.is_worker() || row.marks.has(Marks::IN_WORKER);
    let again = row.vtable.is_some_and(|vtable| vtable.again);
    let linked = row.cancel == Cancel::None && row.marks.has(Marks::REMOVED);
    matches!(row.state, State::Submitted | State::Orphaned) && worker && again && !linked
}
