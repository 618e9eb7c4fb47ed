//! A ring in motion: admit what waits, submit, wait, reap, wake.
//!
//! One lock, `core`, is on every operation's path; it is never held over a system call or over
//! user code (P11). Whoever has the ring may call everything here from any thread. Not: the states
//! of ops (`inflight/`), nor who decides to wait (`driver/`, or the user).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::backend::uring::{self, Cq, ForkMark, Kernel, Params, Probe, Sq, Uring};
use crate::config::Builder;
use crate::driver::Seat;
use crate::error;
use crate::inflight::{After, CancelOutcome, Completed, Inflight, Pending, Taken, Token};
use crate::notify::Calls;
use crate::op::{Op, Opcode, Outcome, Sqe, poll32};
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};

/// What all handles and clones of a ring share.
pub(crate) struct Shared {
    mark: ForkMark,
    kernel: Kernel,
    probe: Probe,
    core: Mutex<Core>,
    pub(crate) seat: Seat,
    drain_timeout: Duration,
}

/// What only one thread may touch at a time.
struct Core {
    sq: Sq,
    cq: Cq,
    inflight: Inflight,
    /// Ops and cancels given to the kernel so far.
    sqes: u64,
    /// The last `Ring` is gone; nothing is queued any more.
    closed: bool,
    /// The kernel watches the bell of [`Seat`].
    bell_armed: bool,
    /// Lists that a reap fills, kept so that it does not allocate them.
    spare: After,
}

/// How many CQEs are reaped between two unlocks.
const REAP_BATCH: usize = 64;

/// How often a drain tries again to send its cancels, when the kernel has no memory for them.
const DRAIN_RETRY: Duration = Duration::from_millis(10);

/// Ops that were leaked by all rings of this process; see [`leaked_ops`].
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// How many ops this process has leaked: they were in the kernel when their ring was dropped, and
/// did not end within [`Builder::drain_timeout`]. Their memory and descriptors stay as they are
/// until the process exits.
#[must_use]
pub fn leaked_ops() -> u64 {
    LEAKED.load(Ordering::Relaxed)
}

/// What a reap found, and whom it concerns. To be delivered with nothing locked.
#[derive(Default)]
pub(crate) struct Found {
    after: After,
    ops: usize,
    bell: bool,
    graves: bool,
    cancel_again: bool,
}

impl Found {
    pub(crate) const fn any(&self) -> bool {
        self.ops > 0
    }
}

impl Core {
    /// Writes as many SQEs as fit and shows them to the kernel. Returns how many were written now,
    /// and how many the kernel has not taken.
    fn fill(&mut self) -> (u32, u32) {
        self.fill_by(Inflight::admit)
    }

    fn fill_by(&mut self, admit: impl Fn(&mut Inflight, &mut Sqe) -> bool) -> (u32, u32) {
        let mut written = 0;
        while self.sq.push(|sqe| admit(&mut self.inflight, sqe)) {
            written += 1;
        }
        self.sqes += u64::from(written);
        (written, self.sq.publish())
    }

    /// Has the kernel watch the bell, if there is room in the SQ.
    fn arm_bell(&mut self, bell: BorrowedFd<'_>) {
        if self.bell_armed {
            return;
        }
        self.bell_armed = self.sq.push(|sqe| {
            *sqe = Sqe {
                opcode: Opcode::POLL_ADD,
                fd: std::os::fd::AsRawFd::as_raw_fd(&bell),
                op_flags: poll32(rustix::event::PollFlags::IN),
                user_data: Token::BELL.user_data(),
                ..Sqe::EMPTY
            };
            true
        });
    }

    /// Moves slots on by up to `most` CQEs. Returns how many there were.
    ///
    /// The bell's CQE is for the thread in the seat. If that one may be about to sleep, another
    /// leaves the CQE where it is, and stops there: nobody oversleeps a CQE that is in the CQ.
    fn reap_batch(&mut self, most: usize, leave_bell: bool, found: &mut Found) -> usize {
        let mut popped = 0;
        while popped < most {
            let Some(cqe) = self.cq.pop() else { break };
            match self.inflight.complete(cqe, &mut found.after) {
                Completed::Op => found.ops += 1,
                Completed::Other => {}
                Completed::CancelAgain => found.cancel_again = true,
                Completed::Bell if leave_bell => {
                    self.cq.put_back();
                    break;
                }
                Completed::Bell => {
                    self.bell_armed = false;
                    found.bell = true;
                }
            }
            popped += 1;
        }
        self.cq.give_back();
        found.graves |= self.inflight.has_graves();
        popped
    }
}

impl Shared {
    pub(crate) fn open(config: &Builder) -> io::Result<Self> {
        let mark = ForkMark::of_this_process()
            .map_err(|errno| error::setup("madvise(MADV_WIPEONFORK)", errno))?;
        let Uring { sq, cq, kernel, probe } = uring::open(config)?;
        let seat = Seat::new().map_err(|errno| error::setup("eventfd", errno))?;
        let core = Core {
            sq,
            cq,
            inflight: Inflight::new(),
            sqes: 0,
            closed: false,
            bell_armed: false,
            spare: After::default(),
        };
        Ok(Self {
            mark,
            kernel,
            probe,
            core: Mutex::new(core),
            seat,
            drain_timeout: config.drain_timeout,
        })
    }

    /// Refuses a forked child (P9).
    pub(crate) fn check_process(&self) -> io::Result<()> {
        if self.mark.is_this_process() { Ok(()) } else { Err(error::forked()) }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    pub(crate) const fn params(&self) -> &Params {
        self.kernel.params()
    }

    pub(crate) const fn supports(&self, opcode: Opcode) -> bool {
        self.probe.supports(opcode)
    }

    pub(crate) fn pending(&self) -> Pending {
        if self.check_process().is_err() {
            return Pending::default();
        }
        self.lock().inflight.pending()
    }

    /// Given to the kernel so far, and how many calls that took.
    pub(crate) fn sqes_and_enters(&self) -> (u64, u64) {
        if self.check_process().is_err() {
            return (0, 0);
        }
        (self.lock().sqes, self.kernel.enters())
    }

    pub(crate) fn register_eventfd(&self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        self.check_process()?;
        Ok(self.kernel.register_eventfd(eventfd)?)
    }

    pub(crate) fn unregister_eventfd(&self) -> io::Result<()> {
        self.check_process()?;
        Ok(self.kernel.unregister_eventfd()?)
    }

    /// Gives an op its slot. An op that cannot have one comes back with the reason.
    pub(crate) fn queue<T: Op>(&self, op: T) -> Result<Token, (T, io::Error)> {
        if let Err(error) = self.check_process().and_then(|()| op.check()) {
            return Err((op, error));
        }
        let mut core = self.lock();
        if core.closed {
            drop(core);
            return Err((op, error::closed()));
        }
        let token = core.inflight.insert(op);
        drop(core);
        self.seat.call_sleeper();
        Ok(token)
    }

    /// Sends everything that waits, in as many batches as it takes. Returns how many SQEs the
    /// kernel took.
    pub(crate) fn submit(&self) -> io::Result<usize> {
        self.check_process()?;
        let mut calls = Calls::default();
        let sent = self.submit_by(Core::fill, &mut calls);
        calls.resume();
        Ok(sent?)
    }

    /// As [`submit`](Self::submit), for the thread in the seat: without user code.
    pub(crate) fn submit_seated(&self) -> Result<(), Errno> {
        let (_, count) = self.lock().fill();
        if count == 0 {
            return Ok(());
        }
        self.kernel.submit(count).map(drop)
    }

    fn submit_by(
        &self,
        fill: impl Fn(&mut Core) -> (u32, u32),
        calls: &mut Calls,
    ) -> Result<usize, Errno> {
        if self.params().sqpoll {
            return self.submit_by_sqpoll(fill);
        }
        let mut taken = 0;
        loop {
            let (_, count) = fill(&mut self.lock());
            if count == 0 {
                return Ok(taken);
            }
            match self.kernel.submit(count) {
                // Another thread's submit took them.
                Ok(0) if self.lock().sq.unconsumed() < count => {}
                Ok(0) => return Ok(taken),
                Ok(n) => taken += n as usize,
                Err(Errno::INTR) => {}
                // Too much is unreaped, or there is no memory for more: what can be reaped helps.
                Err(Errno::BUSY | Errno::AGAIN) if self.reap_into(calls) > 0 => {}
                Err(_) if taken > 0 => return Ok(taken),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn submit_by_sqpoll(&self, fill: impl Fn(&mut Core) -> (u32, u32)) -> Result<usize, Errno> {
        let mut taken = 0;
        loop {
            let mut core = self.lock();
            let (written, unconsumed) = fill(&mut core);
            let full = core.sq.room() == 0;
            drop(core);
            taken += written as usize;
            if unconsumed > 0 {
                self.kernel.submit(unconsumed)?;
            }
            // What did not fit goes on when the kernel's thread has made room.
            if !full {
                return Ok(taken);
            }
            match self.kernel.wait_for_room() {
                Ok(()) | Err(Errno::INTR) => {}
                Err(_) if taken > 0 => return Ok(taken),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Waits until a CQE is there. False if none came in the time, or a signal did.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.check_process()?;
        if self.kernel.cq_ready() {
            return Ok(true);
        }
        let waited = if timeout == Some(Duration::ZERO) {
            if !self.kernel.wants_enter() {
                return Ok(false);
            }
            self.kernel.flush()
        } else {
            self.kernel.submit_and_wait(0, timeout).map(drop)
        };
        match waited {
            Ok(()) | Err(Errno::TIME | Errno::INTR) => Ok(self.kernel.cq_ready()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Fills results and wakes who awaits them. Returns how many ops ended.
    pub(crate) fn reap(&self) -> io::Result<usize> {
        self.check_process()?;
        let mut calls = Calls::default();
        let ops = self.reap_into(&mut calls);
        calls.resume();
        Ok(ops)
    }

    fn reap_into(&self, calls: &mut Calls) -> usize {
        let mut ops = 0;
        let Some(mut left) = self.begin_reap() else { return ops };
        loop {
            let mut found = Found::default();
            let popped = self.collect(REAP_BATCH.min(left), false, &mut found);
            left -= popped;
            ops += found.ops;
            self.deliver_to(found, calls);
            if left == 0 || !self.has_more_than(popped) {
                return ops;
            }
        }
    }

    /// As [`reap`](Self::reap), for the thread in the seat: what follows is delivered later, when
    /// the seat is free for what the user's code may do.
    pub(crate) fn collect_seated(&self) -> Found {
        let mut found = Found::default();
        let Some(mut left) = self.begin_reap() else { return found };
        loop {
            let popped = self.collect(REAP_BATCH.min(left), true, &mut found);
            left -= popped;
            if left == 0 || !self.has_more_than(popped) {
                break;
            }
        }
        if found.bell {
            self.seat.silence();
        }
        found
    }

    /// How many CQEs a reap may take: as many as were out when it began, so that new ones do not
    /// keep it for ever. `None` if there is nothing to reap.
    fn begin_reap(&self) -> Option<usize> {
        if self.check_process().is_err() {
            return None;
        }
        if self.kernel.wants_enter() && !self.kernel.cq_ready() {
            // What is not handed over now will be at the next wait.
            let _ = self.kernel.flush();
        }
        if !self.kernel.cq_ready() {
            return None;
        }
        let Pending { in_kernel, cancels, .. } = self.lock().inflight.pending();
        Some(in_kernel + cancels + 1)
    }

    fn collect(&self, most: usize, seated: bool, found: &mut Found) -> usize {
        let mut core = self.lock();
        if !found.after.has_room() {
            found.after = std::mem::take(&mut core.spare);
        }
        let leave_bell = !seated && self.seat.is_asleep();
        core.reap_batch(most, leave_bell, found)
    }

    /// Whether a reap that found so many should look again.
    fn has_more_than(&self, popped: usize) -> bool {
        popped == REAP_BATCH
            || popped > 0 && self.kernel.overflowed() && self.kernel.flush().is_ok()
    }

    /// Calls whom it concerns.
    pub(crate) fn deliver(&self, found: Found) {
        let mut calls = Calls::default();
        self.deliver_to(found, &mut calls);
        calls.resume();
    }

    fn deliver_to(&self, mut found: Found, calls: &mut Calls) {
        calls.follow(&mut found.after);
        if found.graves {
            self.bury(calls);
        }
        if found.cancel_again {
            // Nobody knows that there is something to submit. Cancels only: ops wait until asked.
            let cancels = |core: &mut Core| core.fill_by(Inflight::admit_cancel);
            let _ = self.submit_by(cancels, calls);
        }
        if found.after.has_room() {
            self.lock().spare = found.after;
        }
    }

    /// Drops what nobody will take.
    fn bury(&self, calls: &mut Calls) {
        loop {
            // The guard is gone before user code runs.
            let corpse = self.lock().inflight.exhume();
            match corpse {
                Some(corpse) => calls.bury(corpse),
                None => return,
            }
        }
    }

    /// Changes the table, then calls whom that concerns.
    fn change<R>(&self, calls: &mut Calls, f: impl FnOnce(&mut Inflight, &mut After) -> R) -> R {
        let mut after = After::default();
        let mut core = self.lock();
        let result = f(&mut core.inflight, &mut after);
        let has_graves = core.inflight.has_graves();
        let has_waiting = core.inflight.has_waiting();
        drop(core);
        calls.follow(&mut after);
        if has_graves {
            self.bury(calls);
        }
        if has_waiting {
            self.seat.call_sleeper();
        }
        result
    }

    /// The op's output if it is here; else `cx` is woken when it is.
    ///
    /// `over` is set, under the lock, once the result is taken: two threads that take at once get
    /// it once.
    pub(crate) fn poll_op<T: Op>(
        &self,
        token: Token,
        first: bool,
        cx: &Context<'_>,
        over: &AtomicBool,
    ) -> Poll<T::Output> {
        if self.check_process().is_err() {
            over.store(true, Ordering::Release);
            return Poll::Ready(T::Output::lost(error::forked()));
        }
        // Cloning a waker is user code, so it is done before locking; almost always the first
        // poll keeps it and the later ones find it there.
        let mut offered = first.then(|| cx.waker().clone());
        loop {
            let mut core = self.lock();
            let taken = core.inflight.take::<T>(token, Some(cx.waker()), &mut offered);
            over.store(taken.is_over(), Ordering::Release);
            drop(core);
            match taken {
                Taken::Ready(op, result) => {
                    return Poll::Ready(op.decode(error::result(result)));
                }
                Taken::Lost => return Poll::Ready(T::Output::lost(error::lost())),
                Taken::Pending => return Poll::Pending,
                Taken::WakerNeeded => offered = Some(cx.waker().clone()),
            }
        }
    }

    /// The op's output if it is here. `over` as for [`poll_op`](Self::poll_op).
    pub(crate) fn try_take<T: Op>(&self, token: Token, over: &AtomicBool) -> Option<T::Output> {
        if self.check_process().is_err() {
            over.store(true, Ordering::Release);
            return Some(T::Output::lost(error::forked()));
        }
        let mut core = self.lock();
        if over.load(Ordering::Acquire) {
            return None;
        }
        let taken = core.inflight.take::<T>(token, None, &mut None);
        over.store(taken.is_over(), Ordering::Release);
        drop(core);
        match taken {
            Taken::Ready(op, result) => Some(op.decode(error::result(result))),
            Taken::Lost => Some(T::Output::lost(error::lost())),
            Taken::Pending | Taken::WakerNeeded => None,
        }
    }

    pub(crate) fn is_done(&self, token: Token) -> bool {
        self.check_process().is_err() || self.lock().inflight.is_done(token)
    }

    /// The handle lets go of its op. For destructors: panics of user code are reported and end here.
    pub(crate) fn let_go(&self, token: Token, detach: bool) {
        if self.check_process().is_err() {
            return;
        }
        let mut calls = Calls::default();
        let left = self.change(&mut calls, |inflight, _| inflight.let_go(token, detach));
        calls.drop_quietly(left);
    }

    pub(crate) fn cancel(&self, token: Token) {
        if self.check_process().is_err() {
            return;
        }
        let mut calls = Calls::default();
        self.change(&mut calls, |inflight, after| inflight.cancel(token, after));
        calls.resume();
    }

    pub(crate) fn cancel_outcome(
        &self,
        token: Token,
        mut waker: Option<Waker>,
    ) -> Option<CancelOutcome> {
        if self.check_process().is_err() {
            return Some(CancelOutcome::Finished);
        }
        let mut core = self.lock();
        let outcome = core.inflight.cancel_outcome(token, &mut waker);
        // What is left of `waker` is the user's, and dropped after this.
        drop(core);
        outcome
    }

    /// The last `Ring` is gone: cancels what is out, waits for the kernel to let go of it until
    /// the deadline, then leaks what it still holds.
    pub(crate) fn close(&self) {
        if self.check_process().is_err() {
            return;
        }
        let mut calls = Calls::default();
        self.lock().closed = true;
        self.change(&mut calls, Inflight::cancel_all);
        // None: never, which is what a timeout beyond the end of time asks for.
        let deadline = Instant::now().checked_add(self.drain_timeout);
        while self.drain_once(deadline, &mut calls) {}
        let leaked = self.change(&mut calls, Inflight::ring_gone);
        LEAKED.fetch_add(leaked as u64, Ordering::Relaxed);
    }

    /// One round of the drain; false when there is nothing left to hope for.
    fn drain_once(&self, deadline: Option<Instant>, calls: &mut Calls) -> bool {
        // It may fail, on the wrong thread of a single-issuer ring or for want of memory; what is
        // out may end all the same.
        let sent = self.submit_by(Core::fill, calls);
        self.reap_into(calls);
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let core = self.lock();
        let (owed, waiting) = (core.inflight.is_owed(), core.inflight.has_waiting());
        drop(core);
        if !owed || left == Some(Duration::ZERO) {
            return false;
        }
        let wait = match sent {
            // A cancel that missed is to be sent again at once; else something will come.
            Ok(_) if waiting => Some(Duration::ZERO),
            Ok(_) => left,
            Err(_) => Some(left.map_or(DRAIN_RETRY, |left| left.min(DRAIN_RETRY))),
        };
        self.wait(wait).is_ok()
    }

    /// One round for the thread in the seat: submits and sleeps until something comes, in one
    /// system call where all that waits fits into the SQ. Returns at once if `awake` says so when
    /// others can see that we are asleep.
    pub(crate) fn sleep_seated(&self, awake: impl Fn() -> bool) -> Result<(), Errno> {
        let asleep = self.seat.fall_asleep();
        if awake() {
            return Ok(());
        }
        let mut core = self.lock();
        core.arm_bell(self.seat.bell());
        let (_, count) = core.fill();
        // Never sleep on what could be sent (P5): the first to be sent may wait for the last.
        let all_sent = core.bell_armed && !core.inflight.has_waiting();
        drop(core);
        let entered = if all_sent && !self.kernel.cq_ready() {
            self.kernel.submit_and_wait(count, None).map(drop)
        } else {
            self.kernel.submit(count).map(drop).and_then(|()| {
                let must_wait = self.params().sqpoll && !all_sent;
                if must_wait { self.kernel.wait_for_room() } else { Ok(()) }
            })
        };
        drop(asleep);
        match entered {
            Ok(()) | Err(Errno::INTR | Errno::TIME) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.kernel.as_fd()
    }
}
