//! The baseline: a loop by hand on one thread, with the crate `io-uring` and nothing around it.
//!
//! It keeps `depth` ops in flight, in buffers of its own, and looks at each result. Not: anything
//! that a program would need beyond that.
#![allow(unsafe_code)] // SQEs carry addresses, not borrows.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::{IoUring, opcode, squeue, types};

use crate::file::{BLOCK, Offsets};

pub(crate) struct Raw {
    ring: IoUring,
    file: Arc<File>,
    bufs: Vec<Vec<u8>>,
    idle: Vec<usize>,
}

impl Raw {
    pub(crate) fn new(file: Arc<File>, depth: u32) -> io::Result<Self> {
        let depth_of_all = depth as usize;
        Ok(Self {
            ring: IoUring::new(depth)?,
            file,
            bufs: vec![vec![0; BLOCK]; depth_of_all],
            idle: (0..depth_of_all).collect(),
        })
    }

    /// Reads a block so many times. Returns how often it entered the kernel.
    pub(crate) fn read(&mut self, count: usize, offsets: &mut Offsets) -> io::Result<u64> {
        let fd = types::Fd(self.file.as_raw_fd());
        let len = u32::try_from(BLOCK).expect("a block is small");
        self.keep(count, len, |buf| {
            opcode::Read::new(fd, buf.as_mut_ptr(), len).offset(offsets.draw()).build()
        })
    }

    pub(crate) fn nop(&mut self, count: usize) -> io::Result<u64> {
        self.keep(count, 0, |_| opcode::Nop::new().build())
    }

    fn keep(
        &mut self,
        count: usize,
        result: u32,
        mut entry: impl FnMut(&mut Vec<u8>) -> squeue::Entry,
    ) -> io::Result<u64> {
        let (mut sent, mut done, mut enters) = (0, 0, 0);
        while done < count {
            while sent < count {
                let Some(at) = self.idle.pop() else { break };
                let entry = entry(&mut self.bufs[at]).user_data(at as u64);
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
                self.idle.push(usize::try_from(cqe.user_data()).expect("one of ours"));
                done += 1;
            }
        }
        Ok(enters)
    }
}
