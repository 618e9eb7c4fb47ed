//! The user's claim on an op's output: await, take, cancel, detach, drop.
//!
//! A handle owns nothing that the kernel can touch (P1): the op is in its slot. So dropping a
//! handle, forgetting it, or moving it to another thread is sound at any time. Not: states
//! (`inflight/slot.rs`).

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::driver;
use crate::inflight::{CancelOutcome, Token};
use crate::op::Op;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::turn::Shared;

/// A claim on the output of an op that has been queued.
///
/// - Await it, on any executor, while somebody turns the ring.
/// - [`try_take`](Handle::try_take) it after a [`reap`](crate::Ring::reap).
/// - [`cancel`](Handle::cancel) it, best effort. Its result comes all the same, once.
/// - Drop it: that asks for a cancel and gives up the output. What the op borrowed is freed when
///   the kernel is done with it; a descriptor that comes late is closed.
/// - [`detach`](Handle::detach) it: the op runs to its end, and the output is dropped then.
#[must_use = "dropping a handle cancels its op; use `.detach()` to let it run"]
pub struct Handle<T: Op> {
    shared: Arc<Shared>,
    claim: Claim<T>,
    /// The result has been taken, or given up.
    over: AtomicBool,
    /// How often the ring had been reaped when the op was queued.
    reaps: u32,
    polled: bool,
    /// The last poll was put off so that other tasks have their turn.
    held_back: bool,
}

enum Claim<T> {
    Slot(Token),
    /// The op ended before it got a slot: it was refused, or answered at once.
    Over(Mutex<Option<Kept<T>>>),
}

/// An op that has no slot, and what became of it.
pub(crate) type Over<T> = (T, io::Result<u32>);

/// The same where a handle has it, which would otherwise be as large as its op. `None` when it has
/// been taken.
type Kept<T> = Box<Option<Over<T>>>;

thread_local! {
    /// A thread keeps the memory of one, empty, for the next of the same kind.
    static SPARE: Cell<Option<Box<dyn Any>>> = const { Cell::new(None) };
}

#[inline(never)] // Most ops have a slot.
fn keep<T: Op>(over: Over<T>) -> Kept<T> {
    // A thread that ends has none any more.
    let spare = SPARE.try_with(Cell::take).ok().flatten();
    match spare.map(<Box<dyn Any>>::downcast::<Option<Over<T>>>) {
        Some(Ok(mut spare)) => {
            *spare = Some(over);
            spare
        }
        Some(Err(_)) | None => Box::new(Some(over)),
    }
}

#[inline(never)]
fn decode<T: Op>(mut kept: Kept<T>) -> T::Output {
    let (op, result) = kept.take().expect("taken once");
    let _ = SPARE.try_with(|spare| spare.set(Some(kept)));
    op.decode(result)
}

// Nothing is pinned: the op is elsewhere.
impl<T: Op> Unpin for Handle<T> {}

impl<T: Op> Handle<T> {
    #[inline]
    pub(crate) fn new(shared: Arc<Shared>, queued: Result<Token, Over<T>>) -> Self {
        let claim = match queued {
            Ok(token) => Claim::Slot(token),
            Err(over) => Claim::Over(Mutex::new(Some(keep(over)))),
        };
        let reaps = shared.reaps();
        let over = AtomicBool::new(false);
        Self { shared, claim, over, reaps, polled: false, held_back: false }
    }

    /// The output, if it is here and has not been taken. It is here after a
    /// [`reap`](crate::Ring::reap) that saw the op end.
    #[doc(alias = "syscall_result")]
    pub fn try_take(&self) -> Option<T::Output> {
        if self.over.load(Ordering::Acquire) {
            return None;
        }
        match &self.claim {
            Claim::Slot(token) => self.shared.try_take::<T>(*token, &self.over),
            Claim::Over(over) => {
                let over = over.lock().take()?;
                self.over.store(true, Ordering::Release);
                Some(decode(over))
            }
        }
    }

    /// Whether the output is here, or has been taken.
    pub fn is_done(&self) -> bool {
        match &self.claim {
            Claim::Slot(token) => self.over.load(Ordering::Acquire) || self.shared.is_done(*token),
            Claim::Over(_) => true,
        }
    }

    /// Asks for a cancel, now; await the return value to learn what it achieved.
    ///
    /// An op that the kernel has not been given ends at once, with `ECANCELED`, and costs no
    /// system call. For others the cancel goes out with the next submit, before everything else.
    /// Whatever the outcome, the op's own result comes, once, through this handle. A second cancel
    /// joins the first.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use deferring::{CancelOutcome, Fd, PollFlags, Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let readable = ring.poll(&Fd::from(ours), PollFlags::IN); // never comes
    /// assert_eq!(block_on(&ring, readable.cancel()), CancelOutcome::Cancelled);
    /// assert!(block_on(&ring, readable).is_err());
    /// # drop(theirs);
    /// # Ok(()) }
    /// ```
    pub fn cancel(&self) -> Cancel<'_, T> {
        if let (Claim::Slot(token), false) = (&self.claim, self.over.load(Ordering::Acquire)) {
            self.shared.cancel(*token);
        }
        Cancel { handle: self }
    }

    /// Gives the op up when it has not ended after this time, counted from now: it is cancelled
    /// then, and its result is `ETIMEDOUT` ([`TimedOut`](io::ErrorKind::TimedOut)), with the
    /// buffer.
    ///
    /// Under [`block_on`](crate::block_on) it counts at once; where the ring is turned by hand,
    /// from the next submit, wait or reap. The result comes when the kernel lets go of the op. One
    /// that cannot be stopped, such as a write that runs, ends when it ends, as if there were no
    /// deadline. The earliest of several deadlines counts.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::io::ErrorKind;
    /// use std::time::Duration;
    /// use deferring::{BufResult, Fd, Ring, block_on};
    ///
    /// let ring = Ring::builder().build()?;
    /// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let read = ring.read(&Fd::from(ours), vec![0; 64], 0).timeout(Duration::from_millis(1));
    /// let BufResult(result, buf) = block_on(&ring, read);
    /// assert_eq!((result.unwrap_err().kind(), buf.len()), (ErrorKind::TimedOut, 64));
    /// # drop(theirs);
    /// # Ok(()) }
    /// ```
    pub fn timeout(self, time: Duration) -> Self {
        self.give_up_at(|shared| shared.after(time))
    }

    /// Gives the op up when it has not ended at this time; see [`timeout`](Self::timeout).
    pub fn deadline(self, at: Instant) -> Self {
        self.give_up_at(|shared| shared.at(at))
    }

    fn give_up_at(self, at: impl FnOnce(&Shared) -> Duration) -> Self {
        if let (Claim::Slot(token), false) = (&self.claim, self.over.load(Ordering::Acquire)) {
            self.shared.set_deadline(*token, at(&self.shared));
        }
        self
    }

    /// Gives the output up and lets the op run to its end. Descriptors that it opens are closed,
    /// buffers freed.
    pub fn detach(self) {
        self.let_go(true);
    }

    #[cold]
    fn let_go(&self, detach: bool) {
        if let (Claim::Slot(token), false) = (&self.claim, self.over.swap(true, Ordering::AcqRel)) {
            self.shared.let_go(*token, detach);
        }
    }

    /// The name under which the kernel knows the op, for ops that refer to other ops.
    pub(crate) fn target(&self) -> Option<Token> {
        match self.claim {
            Claim::Slot(token) => Some(token),
            Claim::Over(_) => None,
        }
    }

    /// Puts the op into a group, unless it has ended.
    pub(crate) fn join_group(&self, shared: &Arc<Shared>, group: u32) {
        assert!(Arc::ptr_eq(&self.shared, shared), "a group and its ops are of one ring");
        if let (Claim::Slot(token), false) = (&self.claim, self.over.load(Ordering::Acquire)) {
            self.shared.join_group(*token, group);
        }
    }

    /// Queues another op on the same ring.
    pub(crate) fn queue_beside<U: Op>(&self, op: U) -> Handle<U> {
        Handle::new(Arc::clone(&self.shared), self.shared.queue(op))
    }
}

impl<T: Op> Future for Handle<T> {
    type Output = T::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        let this = self.get_mut();
        assert!(!this.over.load(Ordering::Relaxed), "the result of this handle has been taken");
        let Claim::Slot(token) = this.claim else { return this.poll_over(cx) };
        if !std::mem::replace(&mut this.polled, true) {
            driver::turn_before_first_poll(&this.shared, cx.waker());
            // Most often nothing was reaped since it was queued, so that it is not done.
            if this.reaps == this.shared.reaps() && this.shared.keep_waker(token, cx.waker()) {
                this.shared.seat.host.rests();
                return Poll::Pending;
            }
        }
        let proceeds = ready!(driver::proceed(cx, &mut this.held_back));
        let polled = this.shared.poll_op::<T>(token, cx, &this.over);
        match polled {
            Poll::Ready(_) => proceeds.went_on(),
            Poll::Pending => this.shared.seat.host.rests(),
        }
        polled
    }
}

impl<T: Op> Handle<T> {
    /// The output of an op that has no slot.
    #[cold]
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<T::Output> {
        let proceeds = ready!(driver::proceed(cx, &mut self.held_back));
        let Claim::Over(over) = &mut self.claim else { unreachable!("it has a slot") };
        let over = over.get_mut().take().expect("taken once");
        self.over.store(true, Ordering::Relaxed);
        proceeds.went_on();
        Poll::Ready(decode(over))
    }
}

impl<T: Op> Drop for Handle<T> {
    #[inline]
    fn drop(&mut self) {
        // Most often it is; and to ask costs less than to swap.
        if !self.over.load(Ordering::Acquire) {
            self.let_go(false);
        }
    }
}

impl<T: Op> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what: &dyn fmt::Debug = match &self.claim {
            Claim::Slot(token) => token,
            Claim::Over(_) => &"over",
        };
        f.debug_tuple("Handle").field(&T::CODE).field(what).finish()
    }
}

/// What a cancel achieved, to be awaited or looked at. Dropping it takes nothing back.
#[derive(Debug)]
pub struct Cancel<'a, T: Op> {
    handle: &'a Handle<T>,
}

impl<T: Op> Cancel<'_, T> {
    /// The outcome, if it is known by now.
    pub fn outcome(&self) -> Option<CancelOutcome> {
        self.ask(None)
    }

    fn ask(&self, waker: Option<std::task::Waker>) -> Option<CancelOutcome> {
        match &self.handle.claim {
            Claim::Slot(token) if !self.handle.over.load(Ordering::Acquire) => {
                self.handle.shared.cancel_outcome(*token, waker)
            }
            Claim::Slot(_) | Claim::Over(_) => Some(CancelOutcome::Finished),
        }
    }
}

impl<T: Op> Future for Cancel<'_, T> {
    type Output = CancelOutcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CancelOutcome> {
        match self.ask(Some(cx.waker().clone())) {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}
