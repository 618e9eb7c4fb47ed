//! One kernel or the other, asked in the same words.

use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;

use super::uring::{Cq, Params, Probe, Sq};
use super::{Time, memory, uring};
use crate::inflight::Workers;
use crate::op::Sqe;
use crate::sync::thread;

/// A new ring, in the parts that its owners will hold.
pub(crate) struct Parts {
    pub(crate) sq: Sq,
    pub(crate) cq: Cq,
    pub(crate) kernel: Kernel,
    pub(crate) probe: Probe,
    pub(crate) apart: Option<Apart>,
}

/// Where the CQEs of a pool come that stands beside io_uring.
pub(crate) struct Apart {
    pub(crate) cq: Cq,
    /// What goes there.
    pub(crate) takes: Probe,
    /// The pool's descriptor, which the [`Kernel`] keeps.
    pub(crate) readable: RawFd,
}

/// The ring's kernel side, and what can be seen of its counters without a lock.
pub(crate) enum Kernel {
    /// With a pool for what it does not have, if there is such.
    Uring(uring::Kernel, Option<memory::Kernel>),
    Memory(memory::Kernel),
}

impl Kernel {
    pub(crate) const fn params(&self) -> &Params {
        match self {
            Self::Uring(kernel, _) => kernel.params(),
            Self::Memory(kernel) => kernel.params(),
        }
    }

    /// Has this thread call the ring in a shorter way, where there is one.
    pub(crate) fn index_here(&self) -> Option<uring::Indexed<'_>> {
        match self {
            Self::Uring(kernel, _) => kernel.index_here(),
            Self::Memory(_) => None,
        }
    }

    /// Whether its descriptors are Linux's: then a plain system call may be made of one.
    pub(crate) const fn is_linux(&self) -> bool {
        matches!(self, Self::Uring(..))
    }

    /// How many calls of it there were.
    pub(crate) fn enters(&self) -> u64 {
        match self {
            Self::Uring(kernel, _) => kernel.enters(),
            Self::Memory(kernel) => kernel.enters(),
        }
    }

    /// How many calls in a row were refused, by the last of them.
    pub(crate) fn refusals(&self) -> u32 {
        match self {
            Self::Uring(kernel, _) => kernel.refusals(),
            Self::Memory(_) => 0,
        }
    }

    /// Whether a CQE is there to be popped.
    pub(crate) fn cq_ready(&self) -> bool {
        match self {
            Self::Uring(kernel, pool) => {
                kernel.cq_ready() || pool.as_ref().is_some_and(memory::Kernel::cq_ready)
            }
            Self::Memory(kernel) => kernel.cq_ready(),
        }
    }

    /// Whether the kernel has something for us that it hands over only when asked.
    pub(crate) fn wants_enter(&self) -> bool {
        match self {
            Self::Uring(kernel, pool) => {
                kernel.wants_enter() || pool.as_ref().is_some_and(memory::Kernel::overflowed)
            }
            Self::Memory(kernel) => kernel.overflowed(),
        }
    }

    /// Whether CQEs that did not fit wait in the kernel.
    pub(crate) fn overflowed(&self) -> bool {
        match self {
            Self::Uring(kernel, pool) => {
                kernel.overflowed() || pool.as_ref().is_some_and(memory::Kernel::overflowed)
            }
            Self::Memory(kernel) => kernel.overflowed(),
        }
    }

    /// Whose time ops have.
    pub(crate) fn time(&self) -> Time {
        match self {
            Self::Uring(..) => Time::REAL,
            Self::Memory(kernel) => kernel.time(),
        }
    }

    /// Makes the kernel take up to `count` published SQEs. Returns how many it took.
    pub(crate) fn submit(&self, count: u32) -> Result<u32, Errno> {
        match self {
            Self::Uring(kernel, _) => kernel.submit(count),
            Self::Memory(kernel) => kernel.submit(count),
        }
    }

    /// Submits, then waits until a CQE is there, or for the time.
    pub(crate) fn submit_and_wait(&self, count: u32, time: Option<Duration>) -> Result<u32, Errno> {
        match self {
            Self::Uring(kernel, pool) => {
                // What did not fit there is not told by anything that sleeps here.
                pool.iter().for_each(memory::Kernel::hand_over);
                if pool.as_ref().is_some_and(memory::Kernel::cq_ready) {
                    return kernel.submit(count);
                }
                kernel.submit_and_wait(count, time)
            }
            Self::Memory(kernel) => kernel.submit_and_wait(count, time),
        }
    }

    /// Nothing is sent, and nobody waits: as [`Backend::pass`](super::Backend::pass).
    pub(crate) fn pass(&self) {
        match self {
            Self::Uring(..) => {}
            Self::Memory(kernel) => kernel.pass(),
        }
    }

    /// Lets a while go by, or less.
    pub(crate) fn rest(&self, time: Duration) {
        match self {
            Self::Uring(..) => thread::sleep(time),
            Self::Memory(kernel) => kernel.rest(time),
        }
    }

    /// Has the kernel hand over what it can, without waiting.
    pub(crate) fn flush(&self) -> Result<(), Errno> {
        match self {
            Self::Uring(kernel, pool) => {
                pool.iter().for_each(memory::Kernel::flush);
                kernel.flush()
            }
            Self::Memory(kernel) => {
                kernel.flush();
                Ok(())
            }
        }
    }

    /// Waits until the SQPOLL thread has made room in the SQ.
    pub(crate) fn wait_for_room(&self) -> Result<(), Errno> {
        match self {
            Self::Uring(kernel, _) => kernel.wait_for_room(),
            Self::Memory(_) => Ok(()),
        }
    }

    /// Somebody has reaped, and may have left some.
    pub(crate) fn end_reap(&self) {
        match self {
            // Its own descriptor is readable by the CQ itself.
            Self::Uring(_, pool) => pool.iter().for_each(memory::Kernel::end_reap),
            Self::Memory(kernel) => kernel.end_reap(),
        }
    }

    /// Sets how many workers the kernel may make.
    pub(crate) fn limit_workers(&self, most: u32) -> Result<(), Errno> {
        match self {
            Self::Uring(kernel, _) => kernel.limit_workers(most),
            Self::Memory(kernel) => {
                kernel.limit_workers(most);
                Ok(())
            }
        }
    }

    /// Whether a pool stands beside it.
    pub(crate) const fn has_pool(&self) -> bool {
        matches!(self, Self::Uring(_, Some(_)))
    }

    /// Hands SQEs to the pool beside it. Returns how many there were.
    pub(crate) fn begin_aside(&self, sqes: impl FnOnce() -> Vec<Sqe>) -> usize {
        match self {
            Self::Uring(_, Some(pool)) => pool.begin_all(sqes),
            Self::Uring(_, None) | Self::Memory(_) => 0,
        }
    }

    /// Its descriptor, by its number alone: nobody has to tell of anything by it.
    pub(crate) fn unwatched(&self) -> BorrowedFd<'_> {
        match self {
            Self::Uring(kernel, _) => kernel.as_fd(),
            Self::Memory(kernel) => kernel.unwatched(),
        }
    }

    /// Whether it is one of ours.
    pub(crate) const fn is_in_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// Whether its workers are the ring's own, and not those of the thread that submits.
    pub(crate) const fn has_own_workers(&self) -> bool {
        match self {
            Self::Uring(kernel, _) => kernel.params().sqpoll,
            Self::Memory(_) => true,
        }
    }

    /// The workers of this ring, if it has its own and knows.
    pub(crate) fn workers(&self) -> Option<Workers> {
        match self {
            Self::Uring(..) => None,
            Self::Memory(kernel) => Some(kernel.workers()),
        }
    }

    pub(crate) fn register_eventfd(&self, eventfd: BorrowedFd<'_>) -> Result<(), Errno> {
        match self {
            Self::Uring(kernel, _) => kernel.register_eventfd(eventfd),
            Self::Memory(kernel) => kernel.register_eventfd(eventfd),
        }
    }

    pub(crate) fn unregister_eventfd(&self) -> Result<(), Errno> {
        match self {
            Self::Uring(kernel, _) => kernel.unregister_eventfd(),
            Self::Memory(kernel) => kernel.unregister_eventfd(),
        }
    }
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Uring(kernel, _) => kernel.as_fd(),
            Self::Memory(kernel) => kernel.as_fd(),
        }
    }
}
