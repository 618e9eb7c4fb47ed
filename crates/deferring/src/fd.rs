//! Descriptors that can be lent to the kernel: counted, so that none is closed under an op.
//!
//! An [`Fd`] owns a descriptor; each op that names it holds a [`Lease`]. The number is given back
//! to the system only when no lease is out. Not: the close itself (`op/close.rs`), nor descriptors
//! registered with the kernel.
#![allow(unsafe_code)] // The one place where a number becomes an owned descriptor.

mod mounts;
mod nature;
mod plain;

use std::fs::File;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::ptr::NonNull;
use std::task::{Poll, Waker};
use std::{fmt, io};

use rustix::fs::{AtFlags, Statx, StatxFlags};
use rustix::io::Errno;

pub(crate) use nature::Nature;

use crate::notify;
use crate::sync::plain::AtomicU8;
use crate::sync::{Arc, AtomicU32, Mutex, Ordering};

/// A descriptor that ops can use. A clone is the same descriptor, counted.
///
/// It is closed when the last clone is dropped and the last op that uses it has ended, or by
/// [`Ring::close`](crate::Ring::close), which waits for the ops and tells the result.
/// A plain `close(2)` by the last drop may block (a file system whose server is slow).
///
/// ```
/// use deferring::Fd;
///
/// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
/// let ours = Fd::from(ours);
/// assert!(!ours.is_closed());
/// # drop(theirs);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Fd {
    shared: Arc<Shared>,
}

struct Shared {
    raw: RawFd,
    /// How many leases are out, and [`CLOSING`]. While there is any, they have one reference to this
    /// between them: whoever makes the first takes it, whoever drops the last gives it up.
    leases: AtomicU32,
    /// What is behind it, in the low bits, and [`DIRECT_KNOWN`]; 0 until somebody asks.
    nature: AtomicU8,
    close: Mutex<CloseState>,
}

/// What of that is the nature; and that it was found by what is mounted, as it is a file's.
const NATURE: u8 = 0b111;
const BY_MOUNT: u8 = 1 << 5;

/// It has been asked whether transfers go past the page cache; they do with [`DIRECT`]. And
/// whether a write waits for the disk each time: with [`SYNC`].
const DIRECT_KNOWN: u8 = 1 << 6;
const DIRECT: u8 = 1 << 7;
const SYNC: u8 = 1 << 4;

/// Set by the first close: no new leases.
const CLOSING: u32 = 1 << 31;

/// So many leases of one descriptor are too many; far from where they would be taken for a close.
const LEASES_MAX: u32 = 1 << 30;

struct CloseState {
    stage: Stage,
    /// Whoever began the close does not wait for it: the last lease closes.
    unattended: bool,
    /// Who waits for the last lease, or for the end of the close.
    wakers: Vec<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Open,
    /// Whoever sees the last lease gone may take the descriptor.
    Draining,
    /// Taken, to be closed by the taker.
    Taken,
    Closed,
}

impl Fd {
    /// Takes over a number.
    ///
    /// # Safety
    /// The number is an open descriptor that nobody else owns or closes.
    #[must_use]
    pub unsafe fn from_raw(raw: RawFd) -> Self {
        // SAFETY: passed on.
        Self::from(unsafe { OwnedFd::from_raw_fd(raw) })
    }

    /// The right to name this descriptor in an op. If it is closed, a lease that says so.
    #[must_use]
    #[inline]
    pub fn lease(&self) -> Lease {
        // `Acquire` pairs with the release of `start_close`: who sees it closing gives up.
        let before = self.shared.leases.fetch_add(1, Ordering::Acquire);
        if before == 0 {
            Shared::refer(&self.shared);
        } else if before >= LEASES_MAX {
            return self.refused(before);
        }
        Lease(NonNull::new(Arc::as_ptr(&self.shared).cast_mut()))
    }

    /// No lease of one that is closing, or of which there are very many, which was counted already.
    #[cold]
    fn refused(&self, before: u32) -> Lease {
        if before == CLOSING {
            Shared::refer(&self.shared);
        }
        drop(Lease(NonNull::new(Arc::as_ptr(&self.shared).cast_mut())));
        assert!(before & CLOSING != 0, "2^30 ops use one descriptor");
        Lease(None)
    }

    /// Whether a close has begun.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.leases.load(Ordering::Acquire) & CLOSING != 0
    }

    /// The descriptor back, if this is the only clone, no op uses it and no close has begun.
    ///
    /// # Errors
    /// The `Fd` itself, if any of that is not so.
    pub fn try_into_owned(self) -> Result<OwnedFd, Self> {
        let mut shared = Arc::try_unwrap(self.shared).map_err(|shared| Self { shared })?;
        // The only reference to it: no lease either, as those have one.
        let state = shared.close.get_mut();
        if state.stage != Stage::Open {
            return Err(Self { shared: Arc::new(shared) });
        }
        state.stage = Stage::Taken;
        // SAFETY: owned since `From`, and `Taken` keeps everybody else from closing it.
        Ok(unsafe { OwnedFd::from_raw_fd(shared.raw) })
    }

    /// Begins a close: no new leases from now on. Idempotent.
    pub(crate) fn start_close(&self) {
        self.shared.leases.fetch_or(CLOSING, Ordering::AcqRel);
        let mut state = self.shared.close.lock();
        if state.stage == Stage::Open {
            state.stage = Stage::Draining;
        }
    }

    /// After [`start_close`](Self::start_close): ready with the descriptor for the first who asks
    /// when no lease is out; with `None` when it is closed; pending (and `waker` kept) until then.
    pub(crate) fn poll_drained(&self, waker: Option<Waker>) -> Poll<Option<Drained>> {
        let mut state = self.shared.close.lock();
        match state.stage {
            Stage::Open => unreachable!("a close begins with `start_close`"),
            Stage::Closed => return Poll::Ready(None),
            // The lock orders this with a lease that is just being dropped: it wakes us under it.
            Stage::Draining if self.shared.leases.load(Ordering::Acquire) == CLOSING => {
                state.stage = Stage::Taken;
                return Poll::Ready(Some(Drained { shared: Arc::clone(&self.shared) }));
            }
            Stage::Draining | Stage::Taken => {}
        }
        if let Some(waker) = waker {
            let left = state.wakers.iter().position(|kept| kept.will_wake(&waker));
            match left {
                Some(_) => {
                    drop(state);
                    drop(waker);
                }
                None => state.wakers.push(waker),
            }
        }
        Poll::Pending
    }

    /// Whoever began the close will not ask again: it happens when the last lease goes, or now.
    pub(crate) fn close_unattended(&self) {
        self.shared.close.lock().unattended = true;
        Shared::close_if_drained(&self.shared);
    }

    #[cfg(test)]
    pub(crate) fn numbered_for_tests(raw: RawFd) -> Self {
        Self::of_a_disk(raw, Stage::Closed)
    }

    /// A number of the toy kernel's.
    #[cfg(all(test, any(loom, shuttle)))]
    pub(crate) fn of_toy(raw: RawFd) -> Self {
        Self::of_a_disk(raw, Stage::Open)
    }

    /// Taken for a disk's: there is nothing to ask.
    #[cfg(test)]
    fn of_a_disk(raw: RawFd, stage: Stage) -> Self {
        let close = CloseState { stage, unattended: false, wakers: Vec::new() };
        let nature = AtomicU8::new(Nature::Disk.to_byte() | DIRECT_KNOWN);
        let shared = Shared { raw, leases: AtomicU32::new(0), nature, close: Mutex::new(close) };
        Self { shared: Arc::new(shared) }
    }
}

impl Shared {
    /// The reference that all leases have between them, for the first.
    fn refer(this: &Arc<Self>) {
        let _ = Arc::into_raw(Arc::clone(this)); // `end_leases` makes an `Arc` of it again.
    }

    /// So many leases end, which are the caller's.
    ///
    /// # Safety
    /// `this` is of so many leases that are not used any more.
    unsafe fn end_leases(this: NonNull<Self>, count: u32) {
        // SAFETY: while there are leases they have a reference between them.
        let shared = unsafe { this.as_ref() };
        // `Release` orders the ops' use of the number before the close; the closer acquires.
        let before = shared.leases.fetch_sub(count, Ordering::AcqRel);
        if before & !CLOSING != count {
            return;
        }
        // SAFETY: the last of them has it, and gives it up. It was made of an `Arc` in `refer`.
        let shared = unsafe { Arc::from_raw(this.as_ptr().cast_const()) };
        if before & CLOSING != 0 {
            Self::close_if_drained(&shared);
            shared.wake_closers(None);
        }
    }

    fn found(&self, nature: Nature, by_mount: bool) {
        let found = nature.to_byte() | if by_mount { BY_MOUNT } else { 0 };
        self.nature.fetch_or(found, Ordering::Relaxed);
    }

    /// Closes, by a plain system call, what nobody uses and nobody else will close.
    fn close_if_drained(this: &Arc<Self>) {
        let mut state = this.close.lock();
        if state.unattended
            && state.stage == Stage::Draining
            && this.leases.load(Ordering::Acquire) == CLOSING
        {
            state.stage = Stage::Taken;
            drop(state);
            drop(Drained { shared: Arc::clone(this) });
        }
    }

    /// Wakes those who wait for a change of stage, unlocked.
    fn wake_closers(&self, stage: Option<Stage>) {
        let mut state = self.close.lock();
        if let Some(stage) = stage {
            state.stage = stage;
        }
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        notify::wake_all_quietly(wakers);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        match self.close.get_mut().stage {
            // SAFETY: owned since `From`, and nobody has taken it.
            Stage::Open | Stage::Draining => unsafe { give_back(self.raw) },
            Stage::Taken | Stage::Closed => {}
        }
    }
}

/// Closes a number, by a plain system call.
///
/// # Safety
/// The caller owns it, and gives it up.
#[cfg(not(all(test, any(loom, shuttle))))]
unsafe fn give_back(raw: RawFd) {
    // SAFETY: passed on.
    drop(unsafe { OwnedFd::from_raw_fd(raw) });
}

/// Under a model checker numbers are the toy's.
#[cfg(all(test, any(loom, shuttle)))]
unsafe fn give_back(raw: RawFd) {
    crate::backend::toy::close(raw);
}

/// A descriptor that no op uses any more, for the one who closes it.
///
/// Dropped without [`closed`](Self::closed), it closes the descriptor itself.
pub(crate) struct Drained {
    shared: Arc<Shared>,
}

impl Drained {
    pub(crate) fn raw(&self) -> RawFd {
        self.shared.raw
    }

    /// What was found behind it, if anybody asked.
    pub(crate) fn nature(&self) -> Option<Nature> {
        Nature::from_byte(self.shared.nature.load(Ordering::Relaxed) & NATURE)
    }

    /// The kernel has closed it: its number is no longer ours.
    pub(crate) fn closed(self) {
        // First, so that nothing below can lead to a second close.
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so the reference is moved out once.
        let shared = unsafe { std::ptr::read(&this.shared) };
        shared.wake_closers(Some(Stage::Closed));
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        // SAFETY: `Taken` by us alone; not closed yet, or `closed` would have been called.
        unsafe { give_back(self.shared.raw) };
        self.shared.wake_closers(Some(Stage::Closed));
    }
}

/// The right of one op to name a descriptor. While it lasts, the descriptor stays open.
pub struct Lease(Option<NonNull<Shared>>);

// SAFETY: what it points to is `Send` and `Sync`, and stays while there are leases, on whichever threads.
unsafe impl Send for Lease {}
// SAFETY: as above; a shared lease is only looked at.
unsafe impl Sync for Lease {}

impl Lease {
    #[inline]
    fn shared(&self) -> Option<&Shared> {
        // SAFETY: while there are leases they have a reference between them.
        self.0.as_ref().map(|shared| unsafe { shared.as_ref() })
    }

    /// Drops all, those of one descriptor that stand together at once.
    ///
    /// Who waits for a close is woken, quietly.
    pub(crate) fn end_all(leases: &mut Vec<Self>) {
        let mut leases = leases.drain(..);
        let mut next = leases.next();
        while let Some(lease) = next {
            let Some(shared) = ManuallyDrop::new(lease).0 else {
                next = leases.next();
                continue;
            };
            let mut count = 1;
            next = leases.next();
            while let Some(same) = next.take_if(|lease| lease.0 == Some(shared)) {
                let _counted = ManuallyDrop::new(same);
                count += 1;
                next = leases.next();
            }
            // SAFETY: so many leases of it were taken from the list, and are forgotten.
            unsafe { Shared::end_leases(shared, count) };
        }
    }

    /// The number for an SQE; -1 if the descriptor was closed.
    #[must_use]
    pub fn raw(&self) -> RawFd {
        self.shared().map_or(-1, |shared| shared.raw)
    }

    /// Moves the lease out; see [`Op::let_go`](crate::op::Op::let_go).
    pub fn let_go(&mut self, leases: &mut Vec<Self>) {
        if let Some(shared) = self.0.take() {
            leases.push(Self(Some(shared)));
        }
    }

    /// Whether this is a lease of that descriptor.
    #[must_use]
    pub fn is_of(&self, fd: &Fd) -> bool {
        self.shared().is_some_and(|shared| std::ptr::eq(shared, &*fd.shared))
    }

    /// What is behind it. Asks the kernel the first time, with a system call; and reads the list of
    /// mounts when it meets a mount for the first time.
    #[inline]
    pub(crate) fn nature(&self) -> Nature {
        let Some(shared) = self.shared() else { return Nature::Stream };
        let known = shared.nature.load(Ordering::Relaxed);
        Nature::from_byte(known & NATURE).unwrap_or_else(|| self.find_nature())
    }

    #[cold]
    fn find_nature(&self) -> Nature {
        let (Ok(fd), Some(shared)) = (self.try_as_fd(), self.shared()) else {
            return Nature::Stream;
        };
        let (nature, by_mount) = Nature::of(fd);
        shared.found(nature, by_mount);
        nature
    }

    /// What its file system says of it, where nobody has to wait for that: by a plain system call,
    /// which tells what is behind it, too, if that is not known.
    pub(crate) fn stat_at_once(
        &self,
        flags: AtFlags,
        mask: StatxFlags,
        answer: &mut MaybeUninit<Statx>,
    ) -> Option<io::Result<()>> {
        // A pipe or a device is its file system's, too, which may be a server's.
        let is_local =
            |nature: Nature, by_mount: bool| (by_mount && nature.is_known_at_once()).then_some(());
        let (Ok(fd), Some(shared)) = (self.try_as_fd(), self.shared()) else { return None };
        if shared.nature.load(Ordering::Relaxed) & NATURE == 0 {
            if let Some((nature, by_mount)) = Nature::and_stat(fd, flags, mask, answer) {
                shared.found(nature, by_mount);
                return is_local(nature, by_mount).map(Ok);
            }
        }
        let nature = self.nature();
        is_local(nature, shared.nature.load(Ordering::Relaxed) & BY_MOUNT != 0)?;
        let told = rustix::fs::statx(fd, c"", flags, mask).map(|stat| answer.write(stat));
        Some(told.map(|_| ()).map_err(io::Error::from))
    }

    /// Whether transfers go past the page cache (`O_DIRECT`), as of the first time that somebody
    /// asked.
    pub(crate) fn is_direct(&self) -> bool {
        self.transfers() & DIRECT != 0
    }

    /// [`DIRECT`], [`SYNC`]: how it was opened.
    fn transfers(&self) -> u8 {
        let (Ok(fd), Some(shared)) = (self.try_as_fd(), self.shared()) else { return 0 };
        let known = shared.nature.load(Ordering::Relaxed);
        if known & DIRECT_KNOWN != 0 {
            return known;
        }
        let (direct, sync) = nature::transfers(fd);
        let found = DIRECT_KNOWN | if direct { DIRECT } else { 0 } | if sync { SYNC } else { 0 };
        shared.nature.fetch_or(found, Ordering::Relaxed);
        found
    }

    /// Refuses a descriptor that was closed.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn check(&self) -> io::Result<()> {
        if self.0.is_some() { Ok(()) } else { Err(Errno::BADF.into()) }
    }

    /// The descriptor for a plain system call, which the lease keeps open.
    ///
    /// # Errors
    /// `EBADF` if it was closed.
    pub fn try_as_fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.check()?;
        // SAFETY: open for as long as the lease is, which is borrowed for as long.
        Ok(unsafe { BorrowedFd::borrow_raw(self.raw()) })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            // SAFETY: this one, which nobody uses after this.
            unsafe { Shared::end_leases(shared, 1) }
        }
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leases = self.shared.leases.load(Ordering::Relaxed);
        let state = if leases & CLOSING == 0 { "" } else { ", closing" };
        write!(f, "Fd({}, {} ops{state})", self.shared.raw, leases & !CLOSING)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.raw())
    }
}

impl fmt::Debug for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Drained({})", self.shared.raw)
    }
}

impl From<OwnedFd> for Fd {
    fn from(fd: OwnedFd) -> Self {
        let close = CloseState { stage: Stage::Open, unattended: false, wakers: Vec::new() };
        let shared = Shared {
            raw: fd.into_raw_fd(),
            leases: AtomicU32::new(0),
            nature: AtomicU8::new(0),
            close: Mutex::new(close),
        };
        Self { shared: Arc::new(shared) }
    }
}

macro_rules! from_owners {
    ($($owner:ty),* $(,)?) => {
        $(impl From<$owner> for Fd {
            fn from(owner: $owner) -> Self {
                OwnedFd::from(owner).into()
            }
        })*
    };
}

from_owners!(
    File,
    TcpListener,
    TcpStream,
    UdpSocket,
    UnixDatagram,
    UnixListener,
    UnixStream,
    ChildStdin,
    ChildStdout,
    ChildStderr,
);

/// A duplicate of somebody else's descriptor, as an [`Fd`] of its own.
///
/// # Errors
/// Those of `fcntl(F_DUPFD_CLOEXEC)`.
impl TryFrom<BorrowedFd<'_>> for Fd {
    type Error = io::Error;

    fn try_from(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(fd.as_fd().try_clone_to_owned()?.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn is_open(raw: RawFd) -> bool {
        std::fs::symlink_metadata(format!("/proc/self/fd/{raw}")).is_ok()
    }

    #[test]
    fn a_descriptor_stays_open_while_a_lease_is_out() {
        let fd = Fd::from(File::open("/dev/null").unwrap());
        let (lease, raw) = (fd.lease(), fd.shared.raw);
        drop(fd);
        assert!(is_open(raw));
        assert_eq!(lease.try_as_fd().unwrap().as_raw_fd(), raw);
    }

    #[test]
    fn a_close_refuses_new_leases_and_waits_for_the_old() {
        let fd = Fd::from(File::open("/dev/null").unwrap());
        let lease = fd.lease();
        fd.start_close();
        assert!(fd.lease().check().is_err());
        assert!(fd.poll_drained(None).is_pending());
        drop(lease);
        let Poll::Ready(Some(drained)) = fd.poll_drained(None) else { panic!("drained") };
        assert!(fd.poll_drained(None).is_pending(), "one closes, the others wait");
        drop(drained);
        assert!(matches!(fd.poll_drained(None), Poll::Ready(None)));
    }

    #[test]
    fn a_close_that_nobody_waits_for_happens_when_the_last_lease_goes() {
        let fd = Fd::from(File::open("/dev/null").unwrap());
        let (lease, clone) = (fd.lease(), fd.clone());
        fd.start_close();
        fd.close_unattended();
        assert!(clone.poll_drained(None).is_pending());
        drop(lease);
        assert!(matches!(clone.poll_drained(None), Poll::Ready(None)), "closed, clone or not");
    }

    #[test]
    fn an_unused_descriptor_can_be_had_back() {
        let fd = Fd::from(File::open("/dev/null").unwrap());
        let clone = fd.clone();
        let fd = fd.try_into_owned().unwrap_err();
        drop(clone);
        assert!(is_open(fd.try_into_owned().unwrap().as_raw_fd()));
    }
}
