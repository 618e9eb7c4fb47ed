//! The baseline: a loop by hand on one thread, with the crate `io-uring` and nothing around it.
//!
//! It keeps `depth` ops in flight, in buffers of its own, and looks at each result. Not: anything
//! that a program would need beyond that; the loops whose ops follow from one another, which are
//! with their workloads.
#![allow(unsafe_code)] // SQEs carry addresses, not borrows.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use anyhow::ensure;
use io_uring::{IoUring, opcode, squeue, types};

use crate::file::{self, Offsets};

pub(crate) struct Raw {
    ring: IoUring,
    bufs: Vec<Vec<u8>>,
    /// Where what is read into each comes from.
    offsets: Vec<u64>,
    idle: Vec<usize>,
}

impl Raw {
    pub(crate) fn new(depth: usize, len: usize) -> io::Result<Self> {
        let entries = u32::try_from(depth).map_err(io::Error::other)?;
        let ring = IoUring::new(entries)?;
        let bufs = (0..depth).map(|_| vec![0xff; len]).collect();
        Ok(Self { ring, bufs, offsets: vec![0; depth], idle: (0..depth).collect() })
    }

    pub(crate) fn nop(&mut self, count: usize) -> anyhow::Result<u64> {
        self.keep(count, 0, |_, _| opcode::Nop::new().build(), |_, _| Ok(()))
    }

    /// Reads blocks so many times, and looks at each. Returns how often it entered the kernel.
    pub(crate) fn read(
        &mut self,
        file: &File,
        count: usize,
        offsets: &mut Offsets,
    ) -> anyhow::Result<u64> {
        let fd = types::Fd(file.as_raw_fd());
        let entry = |buf: &mut Vec<u8>, at: &mut u64| {
            *at = offsets.draw();
            opcode::Read::new(fd, buf.as_mut_ptr(), len(buf)).offset(*at).build()
        };
        self.keep(count, self.len(), entry, |buf, at| Ok(file::check(buf, at)?))
    }

    /// The same of a device that gives zeros.
    pub(crate) fn read_zeros(&mut self, file: &File, count: usize) -> anyhow::Result<u64> {
        let fd = types::Fd(file.as_raw_fd());
        let entry = |buf: &mut Vec<u8>, _: &mut u64| {
            opcode::Read::new(fd, buf.as_mut_ptr(), len(buf)).build()
        };
        self.keep(count, self.len(), entry, |buf, _| {
            ensure!(take_zeros(buf), "there are no zeros in the buffer");
            Ok(())
        })
    }

    /// Writes block after block, from the first on.
    pub(crate) fn write(&mut self, file: &File, count: usize) -> anyhow::Result<u64> {
        let fd = types::Fd(file.as_raw_fd());
        let (size, mut next) = (self.len() as u64, 0);
        let entry = |buf: &mut Vec<u8>, _: &mut u64| {
            let offset = next;
            next += size;
            file::stamp(buf, offset);
            opcode::Write::new(fd, buf.as_ptr(), len(buf)).offset(offset).build()
        };
        self.keep(count, self.len(), entry, |_, _| Ok(()))
    }

    /// Writes over a file of so many blocks, again and again. `what` says what the n-th holds.
    pub(crate) fn overwrite(
        &mut self,
        file: &File,
        count: usize,
        blocks: u64,
        what: impl Fn(u64) -> u64,
    ) -> anyhow::Result<u64> {
        let fd = types::Fd(file.as_raw_fd());
        let (size, mut next) = (self.len(), 0);
        let entry = |buf: &mut Vec<u8>, _: &mut u64| {
            file::stamp(buf, what(next));
            let offset = next % blocks * u64::from(size);
            next += 1;
            opcode::Write::new(fd, buf.as_ptr(), len(buf)).offset(offset).build()
        };
        self.keep(count, size, entry, |_, _| Ok(()))
    }

    pub(crate) fn fsync(&mut self, file: &File) -> anyhow::Result<u64> {
        let fd = types::Fd(file.as_raw_fd());
        self.keep(1, 0, |_, _| opcode::Fsync::new(fd).build(), |_, _| Ok(()))
    }

    fn len(&self) -> u32 {
        self.bufs.first().map_or(0, |buf| len(buf))
    }

    fn keep(
        &mut self,
        count: usize,
        result: u32,
        mut entry: impl FnMut(&mut Vec<u8>, &mut u64) -> squeue::Entry,
        mut look: impl FnMut(&mut Vec<u8>, u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        let (mut sent, mut done, mut enters) = (0, 0, 0);
        while done < count {
            while sent < count {
                let Some(at) = self.idle.pop() else { break };
                let entry = entry(&mut self.bufs[at], &mut self.offsets[at]).user_data(at as u64);
                // SAFETY: the buffer and the file are ours, and stay until `drop` at the earliest;
                // the loop does not end before the last completion. (An error that ends it early
                // ends the program.)
                unsafe { self.ring.submission().push(&entry).expect("as many as the depth") };
                sent += 1;
            }
            self.ring.submit_and_wait(1)?;
            enters += 1;
            for cqe in self.ring.completion() {
                assert_eq!(u32::try_from(cqe.result()), Ok(result), "as it was asked");
                let at = usize::try_from(cqe.user_data()).expect("one of ours");
                look(&mut self.bufs[at], self.offsets[at])?;
                self.idle.push(at);
                done += 1;
            }
        }
        Ok(enters)
    }
}

fn len(buf: &[u8]) -> u32 {
    u32::try_from(buf.len()).expect("a block is small")
}

/// Whether a buffer has zeros at both ends, which are then spoilt.
#[inline]
pub(crate) fn take_zeros(buf: &mut [u8]) -> bool {
    let [first, .., last] = buf else { return false };
    let zeros = (*first, *last) == (0, 0);
    (*first, *last) = (0xff, 0xff);
    zeros
}
