//! Question: what does it cost to open a file, ask for its length, read its 4 KiB and close it, for
//! 20,000 files, 64 at a time? Baseline: a loop with the crate `io-uring`, four ops for each file.
//!
//! The kernel gives each `statx` to a worker thread, which is what it mostly costs; who asks in
//! another way saves that. All files are in the cache. Each has to be as long as it is, and to hold
//! what it holds. "plain" is what four system calls on one thread cost.
#![allow(unsafe_code)] // SQEs carry addresses, not borrows.

use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::fs::{AtFlags, OFlags, Statx, StatxFlags};
use tempfile::TempDir;

use super::Files;
use crate::api::{Api, Job, Need, our_lane};
use crate::contest::{Contestant, Kind, Measured, Runner};
use crate::cost::Ran;
use crate::field::Field;
use crate::file::{BLOCK, check, stamp};
use crate::options::Options;
use crate::tokios;

const DEPTH: usize = 64;

pub(crate) fn run(options: &Options, _: &Files<'_>) -> anyhow::Result<Vec<Measured>> {
    // A multiple of the depth, so that all lanes have the same to do.
    let count = options.quick_or(2_000_usize, 20_000).next_multiple_of(DEPTH);
    let tree = Tree::make(&options.dir, count)?;
    let title = format!("open + statx + read 4 KiB + close of {count} files, {DEPTH} at a time");
    let mut field = Field::new("w5", title, "file");
    field.files = tokios::Files::ALL;
    let raw = || {
        let mut raw = Raw::new(&tree.paths)?;
        Ok(Runner::new(move |ops| Ok(Ran::entered(raw.visit(ops)?))))
    };
    let job = || Ok(Visits { paths: Arc::clone(&tree.paths) });
    let mut contest = field.contest(options, raw, job);
    contest.others.push(Contestant::new(Kind::Other, "plain system calls, no ring", || {
        Ok(Runner::new(|ops| plain(&tree.paths[..ops])))
    }));
    let warm = || plain(&tree.paths).map(|_| ());
    Ok(vec![contest.hold(options.counted(7, count), warm)?])
}

/// The files, which go when this does.
struct Tree {
    _dir: TempDir,
    paths: Arc<[PathBuf]>,
}

impl Tree {
    fn make(dir: &Path, count: usize) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("deferring-bench-w5-").tempdir_in(dir)?;
        let paths: Arc<[PathBuf]> =
            (0..count).map(|at| dir.path().join(format!("{at:05}"))).collect();
        let mut block = vec![1; BLOCK];
        for (at, path) in (0..).zip(paths.iter()) {
            stamp(&mut block, at);
            fs::write(path, &block).with_context(|| path.display().to_string())?;
        }
        rustix::fs::sync();
        Ok(Self { _dir: dir, paths })
    }
}

fn plain(paths: &[PathBuf]) -> anyhow::Result<Ran> {
    let mut buf = vec![0; BLOCK];
    for (at, path) in (0..).zip(paths) {
        let mut file = fs::File::open(path)?;
        ensure!(file.metadata()?.len() == BLOCK as u64, "{}", path.display());
        file.read_exact(&mut buf)?;
        check(&mut buf, at)?;
    }
    Ok(Ran::default())
}

/// Lane `n` visits files `n`, `n + DEPTH`, and so on.
#[derive(Clone)]
struct Visits {
    paths: Arc<[PathBuf]>,
}

impl Job for Visits {
    const NEEDS: Need = Need::Visit;

    fn lanes(&self) -> usize {
        DEPTH
    }

    async fn lane<A: Api>(
        self,
        api: A,
        _: Option<A::File>,
        lane: usize,
        ops: usize,
    ) -> anyhow::Result<()> {
        let mut buf = vec![0; BLOCK];
        for at in (lane..).step_by(DEPTH).take(ops) {
            let len;
            (len, buf) = api.visit(self.paths[at].clone(), buf).await?;
            ensure!(len == BLOCK as u64, "{len} bytes in {}", self.paths[at].display());
            check(&mut buf, at as u64)?;
        }
        Ok(())
    }

    our_lane!();
}

/// The baseline: in each lane a file goes through its four ops.
struct Raw {
    ring: IoUring,
    paths: Vec<CString>,
    lanes: Vec<Lane>,
}

struct Lane {
    /// Which file.
    at: usize,
    fd: i32,
    step: Step,
    stat: Box<MaybeUninit<Statx>>,
    buf: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Open,
    Stat,
    Read,
    Close,
}

impl Raw {
    fn new(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let c_path = |path: &PathBuf| CString::new(path.as_os_str().as_bytes());
        let lane = |_| Lane {
            at: 0,
            fd: -1,
            step: Step::Open,
            stat: Box::new(MaybeUninit::zeroed()),
            buf: vec![0; BLOCK],
        };
        Ok(Self {
            ring: IoUring::new(u32::try_from(DEPTH)?)?,
            paths: paths.iter().map(c_path).collect::<Result<_, _>>()?,
            lanes: (0..DEPTH).map(lane).collect(),
        })
    }

    fn visit(&mut self, count: usize) -> anyhow::Result<u64> {
        let (mut begun, mut ended, mut enters) = (0, 0, 0);
        let mut came = Vec::with_capacity(2 * DEPTH);
        for lane in 0..self.lanes.len() {
            self.begin(lane, &mut begun, count)?;
        }
        while ended < count {
            self.ring.submit_and_wait(1)?;
            enters += 1;
            came.clear();
            came.extend(self.ring.completion().map(|cqe| (cqe.user_data(), cqe.result())));
            for &(data, result) in &came {
                let lane = usize::try_from(data)?;
                if self.lanes[lane].advance(result)? {
                    self.push(lane)?;
                } else {
                    ended += 1;
                    self.begin(lane, &mut begun, count)?;
                }
            }
        }
        Ok(enters)
    }

    /// The next file, if there is one.
    fn begin(&mut self, lane: usize, begun: &mut usize, count: usize) -> anyhow::Result<()> {
        if *begun < count {
            (self.lanes[lane].at, self.lanes[lane].step) = (*begun, Step::Open);
            *begun += 1;
            self.push(lane)?;
        }
        Ok(())
    }

    fn push(&mut self, lane: usize) -> anyhow::Result<()> {
        let entry = self.lanes[lane].entry(&self.paths)?.user_data(lane as u64);
        // SAFETY: paths and lanes stay until the last completion; an error ends the program.
        unsafe { self.ring.submission().push(&entry).expect("as many as there are lanes") };
        Ok(())
    }
}

impl Lane {
    fn entry(&mut self, paths: &[CString]) -> anyhow::Result<squeue::Entry> {
        let fd = types::Fd(self.fd);
        Ok(match self.step {
            Step::Open => {
                let flags = i32::try_from((OFlags::RDONLY | OFlags::CLOEXEC).bits())?;
                let cwd = types::Fd(rustix::fs::CWD.as_raw_fd());
                opcode::OpenAt::new(cwd, paths[self.at].as_ptr()).flags(flags).build()
            }
            Step::Stat => {
                let flags = i32::try_from(AtFlags::EMPTY_PATH.bits())?;
                let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
                opcode::Statx::new(fd, c"".as_ptr(), self.stat.as_mut_ptr().cast())
                    .flags(flags)
                    .mask(mask.bits())
                    .build()
            }
            Step::Read => {
                let len = u32::try_from(self.buf.len())?;
                opcode::Read::new(fd, self.buf.as_mut_ptr(), len).build()
            }
            Step::Close => opcode::Close::new(fd).build(),
        })
    }

    /// Looks at a result; whether there is more to do for this file.
    fn advance(&mut self, result: i32) -> anyhow::Result<bool> {
        ensure!(result >= 0, "{:?}: errno {}", self.step, -result);
        match self.step {
            Step::Open => (self.fd, self.step) = (result, Step::Stat),
            Step::Stat => {
                // SAFETY: plain numbers, zeroed first.
                let stat = unsafe { self.stat.assume_init_ref() };
                ensure!(stat.stx_size == BLOCK as u64, "{} bytes", stat.stx_size);
                self.step = Step::Read;
            }
            Step::Read => {
                ensure!(usize::try_from(result)? == BLOCK, "{result} bytes");
                check(&mut self.buf, self.at as u64)?;
                self.step = Step::Close;
            }
            Step::Close => return Ok(false),
        }
        Ok(true)
    }
}
