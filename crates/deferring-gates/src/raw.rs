//! The baseline: a loop by hand with the crate `io-uring` and nothing around it.
//!
//! It keeps so many ops out, in buffers of its own, and looks at each result. Not: anything that a
//! program would need beyond that.
#![allow(unsafe_code)] // SQEs carry addresses, not borrows.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use anyhow::Context;
use io_uring::{IoUring, opcode, squeue, types};

use crate::count::Counts;
use crate::no_ring;
use crate::work::{WARM_UP, ZERO_LEN};

/// 64-byte reads of /dev/zero, 32 at once.
pub(crate) fn zero(ops: usize) -> anyhow::Result<Counts> {
    let file = File::open("/dev/zero").context("/dev/zero")?;
    let len = u32::try_from(ZERO_LEN)?;
    let fd = types::Fd(file.as_raw_fd());
    let read = |buf: &mut [u8; ZERO_LEN]| opcode::Read::new(fd, buf.as_mut_ptr(), len).build();
    Raw::new(32, len)?.counted(ops, read)
}

/// Nops, one at a time.
pub(crate) fn nop(ops: usize) -> anyhow::Result<Counts> {
    Raw::new(1, 0)?.counted(ops, |_| opcode::Nop::new().build())
}

struct Raw {
    // Before the buffers: it goes first.
    ring: IoUring,
    bufs: Box<[[u8; ZERO_LEN]]>,
    idle: Vec<usize>,
    /// What each op is to give.
    result: u32,
    enters: u64,
}

impl Raw {
    fn new(depth: u32, result: u32) -> anyhow::Result<Self> {
        let ring = IoUring::new(depth).map_err(no_ring)?;
        let bufs = vec![[0; ZERO_LEN]; depth as usize].into();
        Ok(Self { ring, bufs, idle: (0..depth as usize).collect(), result, enters: 0 })
    }

    fn counted(
        mut self,
        ops: usize,
        mut entry: impl FnMut(&mut [u8; ZERO_LEN]) -> squeue::Entry,
    ) -> anyhow::Result<Counts> {
        self.keep(WARM_UP, &mut entry)?;
        let before = Counts::now(self.enters);
        self.keep(ops, &mut entry)?;
        Ok(Counts::now(self.enters).since(before))
    }

    fn keep(
        &mut self,
        ops: usize,
        entry: &mut impl FnMut(&mut [u8; ZERO_LEN]) -> squeue::Entry,
    ) -> io::Result<()> {
        let (mut sent, mut done) = (0, 0);
        while done < ops {
            while sent < ops {
                let Some(at) = self.idle.pop() else { break };
                let entry = entry(&mut self.bufs[at]).user_data(at as u64);
                // SAFETY: the buffer and the file stay until the last completion, which the loop
                // waits for. (An error that ends it early ends the program.)
                unsafe { self.ring.submission().push(&entry).expect("as many as the depth") };
                sent += 1;
            }
            self.ring.submit_and_wait(1)?;
            self.enters += 1;
            for cqe in self.ring.completion() {
                assert_eq!(u32::try_from(cqe.result()), Ok(self.result), "as it was asked");
                self.idle.push(usize::try_from(cqe.user_data()).expect("one of ours"));
                done += 1;
            }
        }
        Ok(())
    }
}
