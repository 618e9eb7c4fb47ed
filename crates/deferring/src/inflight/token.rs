//! A slot's name as it travels in `user_data`: index, kind and generation.
//!
//! Not: the slot (`slot.rs`), nor where it lives (`table.rs`).

use std::fmt;

/// What a CQE with this token answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The op in the slot.
    Op,
    /// A cancel of the op in the slot.
    Cancel,
    /// The ring's own, without a slot.
    Own(Own),
}

/// Requests that the ring makes for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// The poll of the bell that calls a sleeping driver.
    Bell,
    /// The timeout for whatever must happen by itself.
    Alarm,
    /// A change of that timeout.
    Rewind,
    /// What tells whether there are workers.
    Canary,
    /// As the bell, sent by whoever calls.
    Message,
    /// The poll of the pool that does what the kernel does not have.
    Aside,
}

impl Own {
    /// Whether it is for whoever sleeps in the ring.
    pub(crate) const fn is_call(self) -> bool {
        matches!(self, Self::Bell | Self::Message)
    }
}

/// Index (30 bits), kind (2 bits), generation (32 bits).
///
/// A row's generation grows each time the row is freed, so that a late CQE or a late cancel finds
/// either its own op or none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub(crate) struct Token(u64);

const _: () = assert!(size_of::<Token>() == size_of::<u64>(), "must fit sqe.user_data");

const INDEX_BITS: u32 = 30;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const KIND_MASK: u64 = 0b11;

impl Token {
    /// More rows than this cannot be named.
    pub(crate) const INDEX_MAX: u32 = (1 << INDEX_BITS) - 1;

    pub(crate) const fn own(own: Own) -> Self {
        Self(2 << INDEX_BITS | own as u64)
    }

    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        assert!(index <= Self::INDEX_MAX);
        Self((generation as u64) << 32 | index as u64)
    }

    /// The name of a cancel of this op.
    pub(crate) const fn cancel(self) -> Self {
        Self(self.0 | 1 << INDEX_BITS)
    }

    /// The name of the op that this token is about.
    pub(crate) const fn op(self) -> Self {
        Self(self.0 & !(KIND_MASK << INDEX_BITS))
    }

    pub(crate) const fn from_user_data(user_data: u64) -> Self {
        Self(user_data)
    }

    pub(crate) const fn user_data(self) -> u64 {
        self.0
    }

    pub(crate) const fn index(self) -> u32 {
        (self.0 & INDEX_MASK) as u32
    }

    #[allow(clippy::cast_possible_truncation)] // The upper half, on purpose.
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Which of the ring's own requests this names, if any.
    pub(crate) const fn own_kind(self) -> Option<Own> {
        match self.kind() {
            Kind::Own(own) => Some(own),
            Kind::Op | Kind::Cancel => None,
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        match (self.0 >> INDEX_BITS) & KIND_MASK {
            0 => Kind::Op,
            1 => Kind::Cancel,
            _ => Kind::Own(match self.index() {
                0 => Own::Bell,
                1 => Own::Alarm,
                2 => Own::Rewind,
                3 => Own::Canary,
                4 => Own::Message,
                _ => Own::Aside,
            }),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}.{}", self.kind(), self.index(), self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_journey_through_user_data() {
        for (index, generation) in [(0, 0), (7, u32::MAX), (Token::INDEX_MAX, 1)] {
            let token = Token::new(index, generation);
            let back = Token::from_user_data(token.user_data());
            assert_eq!((back.index(), back.generation()), (index, generation));
            assert_eq!(back.kind(), Kind::Op);
            assert_eq!(token.cancel().kind(), Kind::Cancel);
            assert_eq!(token.cancel().op(), token);
        }
        for own in [Own::Bell, Own::Alarm, Own::Rewind, Own::Canary, Own::Message, Own::Aside] {
            assert_eq!(Token::own(own).kind(), Kind::Own(own));
        }
    }
}
