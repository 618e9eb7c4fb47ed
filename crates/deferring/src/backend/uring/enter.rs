//! The system calls of a running ring: `io_uring_enter`, and `io_uring_register` for eventfds and
//! the limit on workers.
//!
//! Usable from any thread, without a lock. Not: what is submitted (`sq.rs`) or done (`cq.rs`).
#![allow(unsafe_code)] // The calls are unsafe: SQEs carry addresses. `op::Op` keeps that promise.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::io_uring::{
    IoringEnterFlags as Enter, IoringRegisterOp, IoringSqFlags, io_uring_getevents_arg,
    io_uring_ptr, io_uring_register, io_uring_rsrc_update,
};
use rustix::time::Timespec;

use super::mmap::Map;
use super::setup::Params;
use crate::inflight::Token;
use crate::op::{Opcode, Sqe};
use crate::sync::plain::{AtomicU32, AtomicU64, fence};
use crate::sync::{Arc, Ordering};

/// The ring's kernel side, and what can be seen of its counters without a lock.
pub(crate) struct Kernel {
    fd: OwnedFd,
    /// No other of this process has it.
    serial: u64,
    params: Params,
    sq_flags: *const AtomicU32,
    cq_head: *const AtomicU32,
    cq_tail: *const AtomicU32,
    enters: AtomicU64,
    /// How often in a row a call was refused.
    refusals: AtomicU32,
    _map: Arc<[Map; 2]>,
}

// SAFETY: the pointers are to atomics in memory that `_map` keeps.
unsafe impl Send for Kernel {}
// SAFETY: as above; only loads are made through them.
unsafe impl Sync for Kernel {}

impl Kernel {
    /// # Safety
    /// The pointers are to the ring's atomics inside `map`.
    pub(super) unsafe fn new(
        fd: OwnedFd,
        params: Params,
        [sq_flags, cq_head, cq_tail]: [*const AtomicU32; 3],
        map: Arc<[Map; 2]>,
    ) -> Self {
        static SERIALS: AtomicU64 = AtomicU64::new(0);
        let serial = SERIALS.fetch_add(1, Ordering::Relaxed) + 1;
        let (enters, refusals) = (AtomicU64::new(0), AtomicU32::new(0));
        Self { fd, serial, params, sq_flags, cq_head, cq_tail, enters, refusals, _map: map }
    }

    pub(crate) const fn params(&self) -> &Params {
        &self.params
    }

    /// How many `io_uring_enter` calls there were.
    pub(crate) fn enters(&self) -> u64 {
        self.enters.load(Ordering::Relaxed)
    }

    /// How many calls in a row were refused, by the last of them.
    pub(crate) fn refusals(&self) -> u32 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Whether a CQE is there to be popped.
    pub(crate) fn cq_ready(&self) -> bool {
        // SAFETY: `new`'s promise, for both.
        let (head, tail) = unsafe { (&*self.cq_head, &*self.cq_tail) };
        tail.load(Ordering::Acquire) != head.load(Ordering::Relaxed)
    }

    /// Whether the kernel has something for us that it hands over only when asked: CQEs that did
    /// not fit, or completions put off by COOP_TASKRUN or DEFER_TASKRUN.
    pub(crate) fn wants_enter(&self) -> bool {
        let flags = self.flags();
        flags.intersects(IoringSqFlags::CQ_OVERFLOW | IoringSqFlags::TASKRUN)
    }

    /// Whether CQEs that did not fit wait in the kernel.
    pub(crate) fn overflowed(&self) -> bool {
        self.flags().contains(IoringSqFlags::CQ_OVERFLOW)
    }

    fn flags(&self) -> IoringSqFlags {
        // SAFETY: `new`'s promise.
        IoringSqFlags::from_bits_retain(unsafe { &*self.sq_flags }.load(Ordering::Acquire))
    }

    /// Makes the kernel take up to `count` published SQEs. Returns how many it took; under SQPOLL
    /// all, as its thread takes them when it comes to it.
    pub(crate) fn submit(&self, count: u32) -> Result<u32, Errno> {
        if self.params.sqpoll {
            self.wake_sqpoll()?;
            return Ok(count);
        }
        let flags = if self.wants_enter() { Enter::GETEVENTS } else { Enter::empty() };
        self.enter(count, 0, flags, None)
    }

    /// Submits, then waits until a CQE is there, or for the time.
    ///
    /// A submission that was cut short does not wait.
    pub(crate) fn submit_and_wait(&self, count: u32, time: Option<Duration>) -> Result<u32, Errno> {
        if self.params.sqpoll {
            self.wake_sqpoll()?;
            return self.enter(0, 1, Enter::GETEVENTS, time);
        }
        self.enter(count, 1, Enter::GETEVENTS, time)
    }

    /// Has the kernel hand over what it can, without waiting.
    pub(crate) fn flush(&self) -> Result<(), Errno> {
        self.enter(0, 0, Enter::GETEVENTS, None).map(drop)
    }

    /// Waits until the SQPOLL thread has made room in the SQ.
    pub(crate) fn wait_for_room(&self) -> Result<(), Errno> {
        self.enter(0, 0, Enter::SQ_WAIT | Enter::SQ_WAKEUP, None).map(drop)
    }

    fn wake_sqpoll(&self) -> Result<(), Errno> {
        // The tail must be seen before we look whether the thread sleeps; it does the reverse.
        fence(Ordering::SeqCst);
        if self.flags().contains(IoringSqFlags::NEED_WAKEUP) {
            self.enter(0, 0, Enter::SQ_WAKEUP, None)?;
        }
        Ok(())
    }

    fn enter(
        &self,
        submit: u32,
        min_complete: u32,
        flags: Enter,
        time: Option<Duration>,
    ) -> Result<u32, Errno> {
        self.enters.fetch_add(1, Ordering::Relaxed);
        let Index { of, index } = INDEX.get();
        let (ring, flags) = if of == self.serial {
            (libc::c_long::from(index), flags | Enter::REGISTERED_RING)
        } else {
            (libc::c_long::from(self.fd.as_raw_fd()), flags)
        };
        let time = time.map(|time| Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut argument = io_uring_getevents_arg::default();
        let mut argued = (std::ptr::null(), 0, flags);
        if let Some(time) = &time {
            argument.ts = io_uring_ptr::new((&raw const *time).cast_mut().cast());
            argued = (&raw const argument, size_of_val(&argument), flags | Enter::EXT_ARG);
        }
        let (argument, size, flags) = argued;
        // Not rustix's: it takes no number that is no descriptor.
        // SAFETY: the argument and its timespec outlive the call. What the SQEs name is kept by
        // their slots.
        let taken = unsafe {
            let flags = flags.bits();
            libc::syscall(
                libc::SYS_io_uring_enter,
                ring,
                submit,
                min_complete,
                flags,
                argument,
                size,
            )
        };
        let entered = u32::try_from(taken).map_err(|_| last_errno());
        match entered {
            Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => {
                self.refusals.fetch_add(1, Ordering::Relaxed);
            }
            _ if self.refusals() == 0 => {}
            _ => self.refusals.store(0, Ordering::Relaxed),
        }
        entered
    }

    /// From now on, until the return value is dropped, this thread calls the ring by an index that
    /// the kernel keeps for it, which saves looking its descriptor up and holding it (since 5.18; 55
    /// of 440 ns for a nop by itself). `None` if the kernel gives none.
    ///
    /// The kernel keeps the ring for as long as the index: whoever has one has the ring.
    pub(crate) fn index_here(&self) -> Option<Indexed<'_>> {
        const ANY: u32 = u32::MAX;
        let mut update = io_uring_rsrc_update::default();
        update.offset = ANY;
        // A number where others have an address.
        let fd = usize::try_from(self.fd.as_raw_fd()).ok()?;
        update.data = io_uring_ptr::new(std::ptr::without_provenance_mut(fd));
        let op = IoringRegisterOp::RegisterRingFds;
        // SAFETY: points to one update, which is read and written during the call only.
        let done = unsafe { io_uring_register(&self.fd, op, (&raw mut update).cast(), 1) };
        if done != Ok(1) {
            return None;
        }
        let index = i32::try_from(update.offset).ok()?; // One of 16.
        let index = Index { of: self.serial, index };
        Some(Indexed { kernel: self, before: INDEX.replace(index), _of_this_thread: PhantomData })
    }

    /// Sets how many bounded workers the kernel may make for the calling thread, or for the thread
    /// of SQPOLL (since 5.15). One that has not submitted yet gets it with its first submit. The
    /// kernel cuts it to `RLIMIT_NPROC`.
    pub(crate) fn limit_workers(&self, most: u32) -> Result<(), Errno> {
        // Bounded and unbounded; 0 leaves it as it is.
        let mut limits = [most, 0];
        let op = IoringRegisterOp::RegisterIowqMaxWorkers;
        // SAFETY: points to two numbers, which are read and written during the call only.
        unsafe { io_uring_register(&self.fd, op, (&raw mut limits).cast(), 2) }.map(drop)
    }

    /// Has the kernel signal an eventfd at each CQE. The plain kind: `EVENTFD_ASYNC` loses wake-ups
    ///.
    pub(crate) fn register_eventfd(&self, eventfd: BorrowedFd<'_>) -> Result<(), Errno> {
        let raw: RawFd = eventfd.as_raw_fd();
        let op = IoringRegisterOp::RegisterEventfd;
        // SAFETY: points to one descriptor number, which is only read during the call.
        unsafe { io_uring_register(&self.fd, op, (&raw const raw).cast(), 1) }.map(drop)
    }

    pub(crate) fn unregister_eventfd(&self) -> Result<(), Errno> {
        let op = IoringRegisterOp::UnregisterEventfd;
        // SAFETY: takes no argument.
        unsafe { io_uring_register(&self.fd, op, std::ptr::null(), 0) }.map(drop)
    }
}

/// By which number a thread may call which ring, by its serial; 0 is none.
#[derive(Clone, Copy)]
struct Index {
    of: u64,
    index: i32,
}

thread_local! {
    static INDEX: Cell<Index> = const { Cell::new(Index { of: 0, index: 0 }) };
}

/// While it is there, this thread calls a ring by an index.
pub(crate) struct Indexed<'a> {
    kernel: &'a Kernel,
    before: Index,
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for Indexed<'_> {
    fn drop(&mut self) {
        let Index { index, .. } = INDEX.replace(self.before);
        let mut update = io_uring_rsrc_update::default();
        update.offset = index.unsigned_abs();
        let op = IoringRegisterOp::UnregisterRingFds;
        // SAFETY: points to one update, which is only read during the call. It fails only for what
        // is not registered.
        let _ = unsafe { io_uring_register(&self.kernel.fd, op, (&raw const update).cast(), 1) };
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// `IORING_OP_MSG_RING`; here it is not an op of a ring's.
const MSG_RING: Opcode = Opcode(40);

/// Puts a CQE with this token into a ring, from any thread (`IORING_REGISTER_SEND_MSG_RING`, since
/// 6.13).
pub(crate) fn send_message(ring: BorrowedFd<'_>, token: Token) -> Result<(), Errno> {
    const NO_RING: libc::c_long = -1;
    let message =
        Sqe { opcode: MSG_RING, fd: ring.as_raw_fd(), off: token.user_data(), ..Sqe::EMPTY };
    let op = IoringRegisterOp::RegisterSendMsgRing as libc::c_long;
    // Not rustix's: it takes no number that is no descriptor.
    // SAFETY: points to one SQE, which is only read during the call, and names no memory.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            NO_RING,
            op,
            &raw const message,
            1 as libc::c_long,
        )
    };
    if sent == 0 { Ok(()) } else { Err(last_errno()) }
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
