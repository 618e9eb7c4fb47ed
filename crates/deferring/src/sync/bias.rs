//! Whose a lock is: that thread goes in and out without an atomic operation.
//!
//! The owner says that it is inside, then looks whether it is the owner still. Who takes that away
//! writes so, then looks whether the owner is inside. Between the two steps of each has to be a
//! barrier, so that one of them sees the other: the owner's is light, as the other's is heavy enough
//! for both (`barrier.rs`). Not: when a lock gets an owner, nor the lock for all others (`lock.rs`).

use super::{AtomicBool, AtomicUsize, Ordering, barrier};

#[derive(Debug)]
pub(crate) struct Bias {
    /// The thread, by its number; 0 if there is none. Written by who has the lock for all.
    owner: AtomicUsize,
    /// It is inside. Written by the owner.
    inside: AtomicBool,
}

impl Bias {
    /// To a thread, or with 0 to none.
    pub(crate) fn to(owner: usize) -> Self {
        Self { owner: AtomicUsize::new(owner), inside: AtomicBool::new(false) }
    }

    /// Whether the thread `me`, which calls, is the owner, and inside by now. It goes out by
    /// [`leave`](Self::leave).
    #[inline]
    pub(crate) fn enter(&self, me: usize) -> bool {
        if self.owner.load(Ordering::Relaxed) != me {
            return false;
        }
        // `Acquire`: another thread may have had this number before, and was inside.
        assert!(!self.inside.load(Ordering::Acquire), "the ring is used while it is in use");
        self.inside.store(true, Ordering::Relaxed);
        barrier::light();
        let still = self.owner.load(Ordering::Relaxed) == me;
        if !still {
            self.inside.store(false, Ordering::Release);
        }
        still
    }

    #[inline]
    pub(crate) fn leave(&self) {
        self.inside.store(false, Ordering::Release);
    }

    // For who has the lock for all.

    pub(crate) fn is_somebodys(&self) -> bool {
        self.owner.load(Ordering::Relaxed) != 0
    }

    /// The thread `me`, which calls, is the owner now, and inside.
    pub(crate) fn give_to(&self, me: usize) {
        self.owner.store(me, Ordering::Relaxed);
        self.inside.store(true, Ordering::Relaxed);
    }

    /// Nobody is the owner any more, nor inside. Waits for the owner to go out.
    ///
    /// # Errors
    /// There is no barrier; then it is the owner's still.
    pub(crate) fn take_back(&self) -> Result<(), barrier::Refused> {
        let owner = self.owner.load(Ordering::Relaxed);
        self.owner.store(0, Ordering::Relaxed);
        if let Err(refused) = barrier::heavy() {
            self.owner.store(owner, Ordering::Relaxed);
            return Err(refused);
        }
        for waits in 0_u32.. {
            if !self.inside.load(Ordering::Acquire) {
                break;
            }
            barrier::pause(waits);
        }
        Ok(())
    }
}
