//! Question: what does it cost that code runs between two calls of the kernel, beyond its own time?
//! Baseline: the loop by hand, one op at a time, with nothing between.
//!
//! A processor keeps the code that it ran last; the kernel's and ours share the place. So what more
//! code costs depends on how much of the kernel an op needs, and no profile of either shows it. The
//! code here does nothing: one instruction in each line of the cache, and on to the next.
#![allow(unsafe_code)] // Code made by hand; SQEs carry addresses.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use anyhow::ensure;
use io_uring::{IoUring, opcode, squeue, types};

use super::Files;
use crate::contest::{Contest, Contestant, Kind, Measured, Runner};
use crate::cost::Ran;
use crate::file::{BLOCK, Offsets, check};
use crate::options::Options;

/// How many lines are run.
const LINES: [usize; 3] = [50, 100, 150];
const LINES_MAX: usize = 150;

/// Bytes.
const LINE: usize = 64;

std::arch::global_asm!(
    ".p2align 12",
    "deferring_bench_lines:",
    ".rept 150",
    ".p2align 6",
    "nop",
    ".endr",
    ".p2align 6",
    "ret",
);

unsafe extern "C" {
    /// The first of [`LINES_MAX`] lines, each of which runs into the next.
    fn deferring_bench_lines();
}

/// Runs so many lines.
#[inline]
fn walk(lines: usize) {
    if lines > 0 {
        let first = (deferring_bench_lines as *const ()).wrapping_byte_add(
            (LINES_MAX - lines) * LINE, // The last of them.
        );
        // SAFETY: a line begins there, which runs to the return behind the last one and changes
        // nothing.
        let run: unsafe extern "C" fn() = unsafe { std::mem::transmute(first) };
        // SAFETY: as above.
        unsafe { run() };
    }
}

/// What is done, one at a time.
#[derive(Clone)]
enum What {
    Nop,
    /// So many bytes of this file, from its start.
    Start(Arc<File>, usize),
    /// A block, anywhere.
    Block(Arc<File>, Offsets),
}

pub(crate) fn run(options: &Options, files: &Files<'_>) -> anyhow::Result<Vec<Measured>> {
    let cached = files.cached()?;
    let (zeros, file) = (Arc::new(File::open("/dev/zero")?), cached.shared()?);
    let contests = [
        ("code-nop", "code beside a nop", "nop", What::Nop),
        ("code-zero", "code beside 64 bytes of /dev/zero", "read", What::Start(zeros, 64)),
        (
            "code-start",
            "code beside 64 bytes of the cache, always the same",
            "read",
            What::Start(Arc::clone(&file), 64),
        ),
        (
            "code-read",
            "code beside 4 KiB at random from the cache",
            "read",
            What::Block(file, cached.offsets(0)),
        ),
    ];
    let measured = contests.map(|(id, title, op, what)| {
        let start = |lines: usize, what: &What| {
            let what = what.clone();
            move || {
                let (mut what, mut ring, mut buf) =
                    (what.clone(), IoUring::new(1)?, vec![0; BLOCK]);
                Ok(Runner::new(move |ops| {
                    for _ in 0..ops {
                        one(&mut ring, &mut what, &mut buf)?;
                        walk(lines);
                    }
                    Ok(Ran::entered(ops as u64))
                }))
            }
        };
        let raw = Contestant::new(Kind::Other, "raw loop", start(0, &what));
        let again = Contestant::new(Kind::Again, "raw loop again (noise)", start(0, &what));
        let with = |lines| {
            let name = format!("and {lines} lines of code");
            Contestant::new(Kind::Other, name, start(lines, &what))
        };
        let others = [again].into_iter().chain(LINES.map(with)).collect();
        let title = title.to_owned();
        let contest = Contest { id, title, op, special: None, raw, others, absent: Vec::new() };
        contest.hold(options.timed(11, 100, 16), || cached.settle())
    });
    measured.into_iter().collect()
}

fn one(ring: &mut IoUring, what: &mut What, buf: &mut [u8]) -> anyhow::Result<()> {
    let read = |file: &File, buf: &mut [u8], offset| {
        let fd = types::Fd(file.as_raw_fd());
        let len = u32::try_from(buf.len()).expect("a block is small");
        opcode::Read::new(fd, buf.as_mut_ptr(), len).offset(offset).build()
    };
    let mut at = 0;
    let (entry, len): (squeue::Entry, usize) = match what {
        What::Nop => (opcode::Nop::new().build(), 0),
        What::Start(file, len) => (read(file, &mut buf[..*len], 0), *len),
        What::Block(file, offsets) => {
            at = offsets.draw();
            (read(file, buf, at), buf.len())
        }
    };
    // SAFETY: the file and the buffer are there until the completion, which is waited for.
    unsafe { ring.submission().push(&entry)? };
    ring.submit_and_wait(1)?;
    let result = ring.completion().next().map(|cqe| cqe.result());
    ensure!(result == i32::try_from(len).ok(), "{result:?} for {len}");
    if matches!(what, What::Block(..)) {
        check(buf, at)?;
    }
    Ok(())
}
