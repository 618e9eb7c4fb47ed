//! Making a ring: what to ask for, what to give up on an older kernel, what to insist on.
#![allow(unsafe_code)] // `io_uring_setup`, and the layout of what it gives.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::io_uring::{
    IORING_OFF_SQ_RING, IORING_OFF_SQES, IoringFeatureFlags as Feature, IoringSetupFlags as Setup,
    io_uring_params, io_uring_setup,
};

use super::Keep;
use super::cq::{Cq, CqView};
use super::enter::Kernel;
use super::mmap::Map;
use super::probe::Probe;
use super::sq::{Sq, SqView};
use crate::backend::kernel::{self as backend, Parts};
use crate::config::Builder;
use crate::op::{Cqe, Sqe};
use crate::sync::Arc;
use crate::sync::plain::AtomicU32;

/// How a ring turned out: what was asked for, less what the kernel does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools)] // Flags of the kernel's, each by its name.
pub struct Params {
    /// Entries of the submission queue: how many SQEs one `io_uring_enter` can take.
    pub sq_entries: u32,
    /// Entries of the completion queue.
    pub cq_entries: u32,
    /// A kernel thread submits.
    pub sqpoll: bool,
    /// A bad SQE does not stop the batch (since 5.18).
    pub submit_all: bool,
    /// Completions do not interrupt the submitting thread (since 5.19).
    pub coop_taskrun: bool,
    /// Only the building thread may submit (since 6.0).
    pub single_issuer: bool,
    /// Completions are made only when the building thread waits (since 6.1).
    pub defer_taskrun: bool,
}

/// Why there is no ring.
pub(crate) enum Refusal {
    /// A step failed.
    Errno(&'static str, Errno),
    /// Something is not there, in words.
    Lacks(String),
}

/// What we cannot do without: 5.12 at the latest.
const NEEDED: [(Feature, &str); 5] = [
    (Feature::SINGLE_MMAP, "IORING_FEAT_SINGLE_MMAP (5.4)"),
    (Feature::NODROP, "IORING_FEAT_NODROP (5.5)"),
    (Feature::RW_CUR_POS, "IORING_FEAT_RW_CUR_POS (5.6)"),
    (Feature::EXT_ARG, "IORING_FEAT_EXT_ARG (5.11)"),
    (Feature::NATIVE_WORKERS, "IORING_FEAT_NATIVE_WORKERS (5.12)"),
];

/// Flags that only make things better, the newest first: the order in which they are given up.
const OPTIONAL: [Setup; 5] = [
    Setup::NO_SQARRAY,                              // 6.6: one indirection less.
    Setup::DEFER_TASKRUN,                           // 6.1
    Setup::SINGLE_ISSUER,                           // 6.0
    Setup::COOP_TASKRUN.union(Setup::TASKRUN_FLAG), // 5.19
    Setup::SUBMIT_ALL,                              // 5.18
];

pub(crate) fn open(config: &Builder) -> Result<Parts, Refusal> {
    let failed = |step| move |errno| Refusal::Errno(step, errno);
    let (fd, params) = negotiate(wanted(config), |flags| attempt(config, flags))
        .map_err(failed("io_uring_setup"))?;
    for (feature, name) in NEEDED {
        if !params.features.contains(feature) {
            return Err(Refusal::Lacks(format!("this kernel's io_uring lacks {name}")));
        }
    }
    let probe = Probe::of_ring(fd.as_fd()).map_err(failed("io_uring_register (probe)"))?;
    map(fd, &params, probe).map_err(failed("mmap of the ring"))
}

fn wanted(config: &Builder) -> Setup {
    let mut flags = Setup::SUBMIT_ALL | Setup::NO_SQARRAY;
    flags.set(Setup::CLAMP, config.clamp);
    flags.set(Setup::CQSIZE, config.completions.is_some());
    flags.set(Setup::SQPOLL, config.sqpoll_idle.is_some());
    flags.set(Setup::COOP_TASKRUN | Setup::TASKRUN_FLAG, config.coop_taskrun);
    flags.set(Setup::SINGLE_ISSUER, config.single_issuer || config.defer_taskrun);
    flags.set(Setup::DEFER_TASKRUN | Setup::TASKRUN_FLAG, config.defer_taskrun);
    flags.set(Setup::TASKRUN_FLAG, config.coop_taskrun || config.defer_taskrun);
    flags
}

/// Asks, and on `EINVAL` asks for less, until the kernel agrees or nothing optional is left.
fn negotiate<T>(
    mut flags: Setup,
    mut attempt: impl FnMut(Setup) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let mut optional = OPTIONAL.into_iter();
    loop {
        match attempt(flags) {
            Err(Errno::INVAL) => {
                let given_up = optional.find(|&each| flags.intersects(each));
                flags.remove(given_up.ok_or(Errno::INVAL)?);
                // The flag is for COOP or DEFER, and refused without.
                if !flags.intersects(Setup::COOP_TASKRUN | Setup::DEFER_TASKRUN) {
                    flags.remove(Setup::TASKRUN_FLAG);
                }
            }
            result => return result,
        }
    }
}

fn attempt(config: &Builder, flags: Setup) -> Result<(OwnedFd, io_uring_params), Errno> {
    let mut params = io_uring_params::default();
    params.flags = flags;
    params.cq_entries = config.completions.unwrap_or(0);
    params.sq_thread_idle = config.sqpoll_idle.map_or(0, milliseconds);
    // SAFETY: `ATTACH_WQ` is not set; the kernel reads and writes `params` during the call only.
    let fd = unsafe { io_uring_setup(config.queue_depth, &mut params)? };
    Ok((fd, params))
}

/// At least 1: 0 would be the kernel's own default of a second.
fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)
}

fn map(fd: OwnedFd, params: &io_uring_params, probe: Probe) -> Result<Parts, Errno> {
    let (sq_off, cq_off) = (&params.sq_off, &params.cq_off);
    let (sq_entries, cq_entries) = (params.sq_entries as usize, params.cq_entries as usize);
    let has_array = !params.flags.contains(Setup::NO_SQARRAY);
    let array_end =
        if has_array { sq_off.array as usize + sq_entries * size_of::<u32>() } else { 0 };
    let ring_len = array_end.max(cq_off.cqes as usize + cq_entries * size_of::<Cqe>());
    let ring = Map::of_ring(fd.as_fd(), IORING_OFF_SQ_RING, ring_len)?;
    let sqes = Map::of_ring(fd.as_fd(), IORING_OFF_SQES, sq_entries * size_of::<Sqe>())?;
    if has_array {
        let array = ring.at::<u32>(sq_off.array, sq_entries);
        for at in 0..params.sq_entries {
            // SAFETY: within the array, which the kernel does not read before the first submit.
            unsafe { array.add(at as usize).write(at) };
        }
    }
    let atomic = |offset| ring.at::<AtomicU32>(offset, 1).cast_const();
    let sq = SqView {
        head: atomic(sq_off.head),
        tail: atomic(sq_off.tail),
        sqes: sqes.at(0, sq_entries),
        entries: params.sq_entries,
    };
    let cq = CqView {
        head: atomic(cq_off.head),
        tail: atomic(cq_off.tail),
        cqes: ring.at(cq_off.cqes, cq_entries),
        entries: params.cq_entries,
    };
    let seen = [atomic(sq_off.flags), cq.head, cq.tail];
    let maps = Arc::new([ring, sqes]);
    let report = report(params);
    // SAFETY: the views are as the kernel laid this ring out, inside `maps`, and used once.
    unsafe {
        Ok(Parts {
            sq: Sq::new(sq, Arc::clone(&maps) as Keep),
            cq: Cq::new(cq, Arc::clone(&maps) as Keep),
            kernel: backend::Kernel::Uring(Kernel::new(fd, report, seen, maps), None),
            probe,
            apart: None,
        })
    }
}

fn report(params: &io_uring_params) -> Params {
    Params {
        sq_entries: params.sq_entries,
        cq_entries: params.cq_entries,
        sqpoll: params.flags.contains(Setup::SQPOLL),
        submit_all: params.flags.contains(Setup::SUBMIT_ALL),
        coop_taskrun: params.flags.contains(Setup::COOP_TASKRUN),
        single_issuer: params.flags.contains(Setup::SINGLE_ISSUER),
        defer_taskrun: params.flags.contains(Setup::DEFER_TASKRUN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that knows only these flags.
    fn old_kernel(known: Setup) -> impl FnMut(Setup) -> Result<Setup, Errno> {
        move |flags| if known.contains(flags) { Ok(flags) } else { Err(Errno::INVAL) }
    }

    #[test]
    fn flags_that_an_older_kernel_does_not_know_are_given_up_newest_first() {
        let all = wanted(&Builder::default().coop_taskrun(true).defer_taskrun(true));
        let since_5_15 = Setup::CLAMP | Setup::CQSIZE | Setup::SQPOLL;
        let since_5_18 = since_5_15 | Setup::SUBMIT_ALL;
        let since_5_19 = since_5_18 | Setup::COOP_TASKRUN | Setup::TASKRUN_FLAG;
        let since_6_0 = since_5_19 | Setup::SINGLE_ISSUER;
        let since_6_1 = since_6_0 | Setup::DEFER_TASKRUN;
        for known in [since_5_15, since_5_18, since_5_19, since_6_0, since_6_1] {
            let agreed = negotiate(all, old_kernel(known)).unwrap();
            assert_eq!(agreed, all & known, "no more is given up than must be");
        }
    }

    #[test]
    fn defer_alone_leaves_no_taskrun_flag_behind() {
        let all = wanted(&Builder::default().defer_taskrun(true));
        let known = Setup::CLAMP | Setup::SUBMIT_ALL | Setup::TASKRUN_FLAG;
        let agreed = negotiate(all, old_kernel(known)).unwrap();
        assert_eq!(agreed, Setup::CLAMP | Setup::SUBMIT_ALL);
    }

    #[test]
    fn a_refusal_that_is_not_about_flags_is_final() {
        let mut asked = 0;
        let result = negotiate(Setup::SUBMIT_ALL, |_| {
            asked += 1;
            Err::<(), _>(Errno::PERM)
        });
        assert_eq!((result, asked), (Err(Errno::PERM), 1));
        assert_eq!(negotiate(Setup::all(), |_| Err::<(), _>(Errno::INVAL)), Err(Errno::INVAL));
    }
}
