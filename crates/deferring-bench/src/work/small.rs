//! Question: what do small calls cost that the kernel gives to a worker thread each: a change of one
//! name in a directory, and a write of 4 KiB into the page cache, one at a time and 32 at a time; and
//! what if the thread that queues them makes them itself? Baseline: a loop with the crate `io-uring`.
//!
//! "Plain calls" is ours with `Builder::callers_may_block`. The names are made, renamed and removed:
//! a directory, a symbolic link; all have to be gone in the end. The blocks are all of a file that is
//! in the cache and on the disk, one after the other and again; each has to hold what was written
//! last. "plain" is what the system calls on one thread cost, without anything.
#![allow(unsafe_code)] // SQEs carry addresses, not borrows.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, ensure};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::fs::{AtFlags, Mode};
use tempfile::{NamedTempFile, TempDir};

use super::Files;
use crate::api::{Api, Job, Need, our_lane};
use crate::contest::{Contestant, Kind, Measured, Runner};
use crate::cost::Ran;
use crate::field::Field;
use crate::file::{BLOCK, stamp, take_stamp};
use crate::options::Options;
use crate::raw::Raw;

/// A round of names has so many ops.
pub(crate) const OPS: usize = 5;

/// What links say. It is nowhere.
pub(crate) const TARGET: &str = "nowhere";

/// What a lane calls what it makes.
pub(crate) struct Names {
    pub(crate) made: String,
    pub(crate) linked: String,
    pub(crate) renamed: String,
}

impl Names {
    pub(crate) fn of(lane: usize) -> Self {
        let name = |what| format!("{what}{lane:03}");
        Self { made: name("made"), linked: name("linked"), renamed: name("renamed") }
    }
}

pub(crate) fn run(options: &Options, _: &Files<'_>) -> anyhow::Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for (id, depth) in [("small-path-1", 1), ("small-path-32", 32)] {
        measured.push(names(options, id, depth)?);
    }
    let writes = [
        ("small-write-1", 1, BLOCK),
        ("small-write-32", 32, BLOCK),
        ("small-write-64k", 32, 64 << 10),
    ];
    for (id, depth, bytes) in writes {
        measured.push(overwrites(options, id, depth, bytes)?);
    }
    Ok(measured)
}

fn names(options: &Options, id: &'static str, depth: usize) -> anyhow::Result<Measured> {
    let mut dir = tempfile::Builder::new();
    let dir = &Arc::new(dir.prefix("deferring-bench-small-").tempdir_in(&options.dir)?);
    let title = format!("mkdirat, symlinkat, renameat, unlinkat, rmdir, {depth} at a time");
    let mut field = Field::new(id, title, "call of one name");
    field.may_block = true;
    let raw = move || {
        let mut raw = RawNames::new(dir.path(), depth)?;
        Ok(Runner {
            prepare: Box::new(|_| Ok(())),
            run: Box::new(move |ops| Ok(Ran::entered(raw.all(ops)?))),
            check: Box::new(|_| is_empty(dir.path())),
        })
    };
    let job = move || Ok(Changes { dir: Arc::clone(dir), depth });
    let mut contest = field.contest(options, raw, job);
    contest.others.push(Contestant::new(Kind::Other, PLAIN, move || {
        let (at, Names { made, linked, renamed }) = (File::open(dir.path())?, Names::of(0));
        Ok(Runner::new(move |ops| {
            for _ in 0..ops / OPS {
                rustix::fs::mkdirat(&at, &made, Mode::RWXU)?;
                rustix::fs::symlinkat(TARGET, &at, &linked)?;
                rustix::fs::renameat(&at, &linked, &at, &renamed)?;
                rustix::fs::unlinkat(&at, &renamed, AtFlags::empty())?;
                rustix::fs::unlinkat(&at, &made, AtFlags::REMOVEDIR)?;
            }
            Ok(Ran::default())
        }))
    }));
    let ops = options.quick_or(32 * OPS * 4, 32 * OPS * 16);
    contest.hold(options.counted(9, ops), || Ok(()))
}

const PLAIN: &str = "plain system calls, no ring";

fn is_empty(dir: &Path) -> anyhow::Result<()> {
    let left = fs::read_dir(dir)?.next().transpose()?;
    ensure!(left.is_none(), "{left:?} is left");
    Ok(())
}

/// Each lane changes names of its own.
#[derive(Clone)]
struct Changes {
    dir: Arc<TempDir>,
    depth: usize,
}

impl Job for Changes {
    const NEEDS: Need = Need::Names;

    fn lanes(&self) -> usize {
        self.depth
    }

    async fn lane<A: Api>(
        self,
        api: A,
        _: Option<A::File>,
        lane: usize,
        ops: usize,
    ) -> anyhow::Result<()> {
        Ok(api.names(self.dir.path().into(), lane, ops).await?)
    }

    fn check(&self, _: usize) -> anyhow::Result<()> {
        is_empty(self.dir.path())
    }

    our_lane!();
}

/// The baseline: in each lane one op follows the other.
struct RawNames {
    ring: IoUring,
    dir: File,
    target: CString,
    lanes: Vec<Lane>,
}

struct Lane {
    /// How many it has begun.
    begun: usize,
    made: CString,
    linked: CString,
    renamed: CString,
}

impl RawNames {
    fn new(dir: &Path, depth: usize) -> anyhow::Result<Self> {
        let lane = |lane| {
            let Names { made, linked, renamed } = Names::of(lane);
            let (made, linked) = (CString::new(made)?, CString::new(linked)?);
            anyhow::Ok(Lane { begun: 0, made, linked, renamed: CString::new(renamed)? })
        };
        Ok(Self {
            ring: IoUring::new(u32::try_from(depth)?)?,
            dir: File::open(dir)?,
            target: CString::new(TARGET)?,
            lanes: (0..depth).map(lane).collect::<Result<_, _>>()?,
        })
    }

    fn all(&mut self, ops: usize) -> anyhow::Result<u64> {
        let each = ops / self.lanes.len();
        let (mut ended, mut enters) = (0, 0);
        let mut came = Vec::with_capacity(2 * self.lanes.len());
        for lane in 0..self.lanes.len() {
            self.lanes[lane].begun = 0;
            self.push(lane)?;
        }
        while ended < ops {
            self.ring.submit_and_wait(1)?;
            enters += 1;
            came.clear();
            came.extend(self.ring.completion().map(|cqe| (cqe.user_data(), cqe.result())));
            for &(data, result) in &came {
                let lane = usize::try_from(data)?;
                ensure!(result == 0, "errno {} of op {}", -result, self.lanes[lane].begun);
                ended += 1;
                if self.lanes[lane].begun < each {
                    self.push(lane)?;
                }
            }
        }
        Ok(enters)
    }

    fn push(&mut self, at: usize) -> anyhow::Result<()> {
        let (dir, target) = (types::Fd(self.dir.as_raw_fd()), self.target.as_ptr());
        let lane = &mut self.lanes[at];
        let (made, linked) = (lane.made.as_ptr(), lane.linked.as_ptr());
        let renamed = lane.renamed.as_ptr();
        let entry: squeue::Entry = match lane.begun % OPS {
            0 => opcode::MkDirAt::new(dir, made).mode(Mode::RWXU.bits()).build(),
            1 => opcode::SymlinkAt::new(dir, target, linked).build(),
            2 => opcode::RenameAt::new(dir, linked, dir, renamed).build(),
            3 => opcode::UnlinkAt::new(dir, renamed).build(),
            _ => {
                let flags = i32::try_from(AtFlags::REMOVEDIR.bits())?;
                opcode::UnlinkAt::new(dir, made).flags(flags).build()
            }
        };
        lane.begun += 1;
        // SAFETY: names stay until the last completion; an error ends the program.
        unsafe {
            let mut queue = self.ring.submission();
            queue.push(&entry.user_data(at as u64)).expect("as many as there are lanes");
        }
        Ok(())
    }
}

fn overwrites(
    options: &Options,
    id: &'static str,
    depth: usize,
    bytes: usize,
) -> anyhow::Result<Measured> {
    let target = &Arc::new(Overwritten::make(&options.dir, bytes)?);
    let title = format!("{} KiB written over what is cached, {depth} at a time", bytes >> 10);
    let mut field = Field::new(id, title, "write");
    field.may_block = true;
    let raw = move || {
        let mut raw = Raw::new(depth, bytes)?;
        Ok(target.runner(move |ops| {
            let what = |nth| target.what(nth);
            Ok(Ran::entered(raw.overwrite(target.file(), ops, target.blocks, what)?))
        }))
    };
    let job = move || Ok(Overwrites { target: Arc::clone(target), depth });
    let mut contest = field.contest(options, raw, job);
    contest.others.push(Contestant::new(Kind::Other, PLAIN, move || {
        let mut buf = vec![0; bytes];
        Ok(target.runner(move |ops| {
            for nth in 0..ops as u64 {
                stamp(&mut buf, target.what(nth));
                target.file().write_all_at(&buf, target.offset(nth))?;
            }
            Ok(Ran::default())
        }))
    }));
    contest.hold(options.timed(11, 100, depth * 16), || target.settle())
}

/// A file that is written over.
struct Overwritten {
    file: NamedTempFile,
    bytes: usize,
    blocks: u64,
    /// Counts runs, so that what is there from the last one is not what this one writes.
    run: AtomicU64,
}

impl Overwritten {
    fn make(dir: &Path, bytes: usize) -> anyhow::Result<Self> {
        const SIZE: usize = 16 << 20;
        let mut file =
            tempfile::Builder::new().prefix("deferring-bench-small-").tempfile_in(dir)?;
        file.write_all(&vec![1; SIZE]).context("filling the file")?;
        let blocks = (SIZE / bytes) as u64;
        let made = Self { file, bytes, blocks, run: AtomicU64::new(0) };
        made.settle()?;
        Ok(made)
    }

    /// Nothing of it is left to be written.
    fn settle(&self) -> anyhow::Result<()> {
        self.file().sync_all().context("fsync")
    }

    fn file(&self) -> &File {
        self.file.as_file()
    }

    /// What the n-th write of this run writes.
    fn what(&self, nth: u64) -> u64 {
        self.run.load(Ordering::Relaxed) << 32 | nth
    }

    fn offset(&self, nth: u64) -> u64 {
        nth % self.blocks * self.bytes as u64
    }

    fn runner<'a>(&'a self, run: impl FnMut(usize) -> anyhow::Result<Ran> + 'a) -> Runner<'a> {
        Runner {
            prepare: Box::new(|_| {
                self.begin();
                Ok(())
            }),
            run: Box::new(run),
            check: Box::new(|ops| self.check(ops)),
        }
    }

    fn begin(&self) {
        self.run.fetch_add(1, Ordering::Relaxed);
    }

    /// Each block holds what was written there last.
    fn check(&self, ops: usize) -> anyhow::Result<()> {
        let mut ends = [0; 16];
        for block in 0..self.blocks.min(ops as u64) {
            let last = (ops as u64 - 1 - block) / self.blocks * self.blocks + block;
            let offset = self.offset(block);
            self.file().read_exact_at(&mut ends[..8], offset)?;
            self.file().read_exact_at(&mut ends[8..], offset + self.bytes as u64 - 8)?;
            ensure!(take_stamp(&mut ends, self.what(last)), "block {block} is not write {last}");
        }
        Ok(())
    }
}

/// Write `n` is by lane `n % depth`, which so has blocks of its own.
#[derive(Clone)]
struct Overwrites {
    target: Arc<Overwritten>,
    depth: usize,
}

impl Job for Overwrites {
    const NEEDS: Need = Need::Write;

    fn lanes(&self) -> usize {
        self.depth
    }

    fn file(&self) -> anyhow::Result<Option<File>> {
        Ok(Some(self.target.file().try_clone()?))
    }

    fn prepare(&self, _: usize) -> anyhow::Result<()> {
        self.target.begin();
        Ok(())
    }

    async fn lane<A: Api>(
        self,
        api: A,
        file: Option<A::File>,
        lane: usize,
        ops: usize,
    ) -> anyhow::Result<()> {
        let file = file.context("the job has a file")?;
        let mut buf = vec![0; self.target.bytes];
        for at in 0..ops {
            let nth = (at * self.depth + lane) as u64;
            stamp(&mut buf, self.target.what(nth));
            buf = api.write(&file, buf, self.target.offset(nth)).await?;
        }
        Ok(())
    }

    fn check(&self, ops: usize) -> anyhow::Result<()> {
        self.target.check(ops)
    }

    our_lane!();
}
