//! Whose a lock is: that thread goes in and out without an atomic operation.
//!
//! The owner says that it is inside, then looks whether it is the owner still. Who takes that away
//! writes so, then looks whether the owner is inside. Between the two steps of each has to be a
//! barrier, so that one of them sees the other: the owner's is light, as the other's is heavy enough
//! for both (`barrier.rs`).
//!
//! Who was the owner may say that it is inside long after that was taken away, and take it back when
//! it has looked. So each thread says it at a seat of its own, which no other thread ever gets; there
//! are [`SEATS`], and who comes when they are gone does not become the owner. Not: when a lock gets an
//! owner, nor the lock for all others (`lock.rs`).

use super::{AtomicBool, AtomicUsize, NUMBER_STEP, Ordering, barrier};

/// As many as fit beside a thread's number.
pub(crate) const SEATS: usize = NUMBER_STEP;

#[derive(Debug)]
pub(crate) struct Bias {
    /// The thread's number and its seat; 0 if there is none. Written by who has the lock for all.
    owner: AtomicUsize,
    /// Who sits there is inside. Written by the thread of that seat, and by nobody else.
    inside: [AtomicBool; SEATS],
}

/// A thread that is or was the owner, with the seat that it has for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seated(usize);

impl Seated {
    /// Of whoever has this number, now and after it, at a seat that is theirs.
    pub(crate) fn at(number: usize, seat: usize) -> Self {
        assert!(seat < SEATS && number % NUMBER_STEP == 0, "they do not fit beside");
        Self(number | seat)
    }

    /// Where the thread `me` sits, if this is it.
    #[inline]
    const fn seat_of(self, me: usize) -> Option<usize> {
        let seat = self.0 ^ me;
        if seat < SEATS { Some(seat) } else { None }
    }

    const fn seat(self) -> usize {
        self.0 & (SEATS - 1)
    }
}

/// The flag of the thread that is inside.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a AtomicBool);

impl Inside<'_> {
    #[inline]
    pub(crate) fn leave(&self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Bias {
    pub(crate) fn to_nobody() -> Self {
        Self { owner: AtomicUsize::new(0), inside: std::array::from_fn(|_| AtomicBool::new(false)) }
    }

    pub(crate) fn to(owner: Seated) -> Self {
        let bias = Self::to_nobody();
        bias.owner.store(owner.0, Ordering::Relaxed);
        bias
    }

    /// The thread with the number `me`, which calls, if it is the owner: inside by now. It goes out by
    /// [`leave`](Inside::leave).
    #[inline]
    pub(crate) fn enter(&self, me: usize) -> Option<Inside<'_>> {
        let owner = self.owner.load(Ordering::Relaxed);
        let inside = &self.inside[Seated(owner).seat_of(me)?];
        // `Acquire`: another thread may have had this number before, and was inside.
        assert!(!inside.load(Ordering::Acquire), "the ring is used while it is in use");
        inside.store(true, Ordering::Relaxed);
        barrier::light();
        // Only this thread makes itself the owner again, so it was all the time, if it is.
        if self.owner.load(Ordering::Relaxed) == owner {
            return Some(Inside(inside));
        }
        inside.store(false, Ordering::Release);
        None
    }

    // For who has the lock for all.

    pub(crate) fn is_somebodys(&self) -> bool {
        self.owner.load(Ordering::Relaxed) != 0
    }

    /// The thread `me`, which calls, is the owner now, and inside.
    pub(crate) fn give_to(&self, me: Seated) -> Inside<'_> {
        let inside = &self.inside[me.seat()];
        self.owner.store(me.0, Ordering::Relaxed);
        inside.store(true, Ordering::Relaxed);
        Inside(inside)
    }

    /// Nobody is the owner any more, nor inside. Waits for the owner to go out.
    ///
    /// # Errors
    /// There is no barrier; then it is the owner's still.
    pub(crate) fn take_back(&self) -> Result<(), barrier::Refused> {
        let owner = Seated(self.owner.load(Ordering::Relaxed));
        self.owner.store(0, Ordering::Relaxed);
        if let Err(refused) = barrier::heavy() {
            self.owner.store(owner.0, Ordering::Relaxed);
            return Err(refused);
        }
        let inside = &self.inside[owner.seat()];
        // `Acquire`: what the owner did inside is seen.
        let mut waits = 0;
        while inside.load(Ordering::Acquire) {
            barrier::pause(waits);
            waits = waits.saturating_add(1);
        }
        Ok(())
    }
}
