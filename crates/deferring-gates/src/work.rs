//! What is done: ops of one kind, in buffers that are used again and again.
//!
//! Not: how many are out at once, nor who turns the ring (`turned.rs`).

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use deferring::op::{Nop, Op, PollAdd, Read, Statx, Timeout, Write};
use deferring::{BufResult, Fd, Handle, PollFlags, Ring};
use rustix::event::{EventfdFlags, eventfd};
use tempfile::NamedTempFile;

use crate::Lacks;

/// How many ops come first, uncounted. A multiple of all depths.
pub(crate) const WARM_UP: usize = 3200;

/// How long a read of /dev/zero is.
pub(crate) const ZERO_LEN: usize = 64;

const BLOCK: usize = 4096;

/// Ops of one kind, one in each place.
pub(crate) trait Work {
    type Op: Op;

    /// Queues the op of a place, which is free.
    fn queue(&mut self, ring: &Ring, place: usize) -> Handle<Self::Op>;

    /// Looks at what it gave. The place is free again.
    fn take(&mut self, place: usize, output: <Self::Op as Op>::Output);
}

/// Nothing.
pub(crate) struct Nops;

impl Nops {
    pub(crate) fn new(_: usize) -> anyhow::Result<Self> {
        Ok(Self)
    }
}

impl Work for Nops {
    type Op = Nop;

    fn queue(&mut self, ring: &Ring, _: usize) -> Handle<Nop> {
        ring.nop()
    }

    fn take(&mut self, _: usize, output: std::io::Result<()>) {
        output.expect("a nop cannot fail");
    }
}

/// Reads, each place at an offset of its own.
pub(crate) struct Reads {
    fd: Fd,
    bufs: Vec<Vec<u8>>,
    len: usize,
    /// If it is one that was made for this.
    _file: Option<NamedTempFile>,
}

impl Reads {
    pub(crate) fn of_zero(depth: usize) -> anyhow::Result<Self> {
        let fd = Fd::from(File::open("/dev/zero").context("/dev/zero")?);
        Ok(Self { fd, bufs: vec![vec![1; ZERO_LEN]; depth], len: ZERO_LEN, _file: None })
    }

    /// Of blocks that were just written, and so are in memory.
    pub(crate) fn of_a_file(depth: usize) -> anyhow::Result<Self> {
        let file = made_file(depth)?;
        let fd = Fd::from(file.reopen()?);
        Ok(Self { fd, bufs: vec![vec![1; BLOCK]; depth], len: BLOCK, _file: Some(file) })
    }
}

impl Work for Reads {
    type Op = Read<Vec<u8>>;

    fn queue(&mut self, ring: &Ring, place: usize) -> Handle<Self::Op> {
        let buf = std::mem::take(&mut self.bufs[place]);
        ring.read(&self.fd, buf, (place * self.len) as u64)
    }

    fn take(&mut self, place: usize, BufResult(n, buf): BufResult<usize, Vec<u8>>) {
        assert_eq!(n.expect("a read"), self.len);
        self.bufs[place] = buf;
    }
}

/// Writes, each place at an offset of its own.
pub(crate) struct Writes {
    fd: Fd,
    bufs: Vec<Vec<u8>>,
    _file: NamedTempFile,
}

impl Writes {
    pub(crate) fn new(depth: usize) -> anyhow::Result<Self> {
        let file = made_file(depth)?;
        let fd = Fd::from(OwnedFd::from(file.as_file().try_clone()?));
        Ok(Self { fd, bufs: vec![vec![2; BLOCK]; depth], _file: file })
    }
}

impl Work for Writes {
    type Op = Write<Vec<u8>>;

    fn queue(&mut self, ring: &Ring, place: usize) -> Handle<Self::Op> {
        let buf = std::mem::take(&mut self.bufs[place]);
        ring.write(&self.fd, buf, (place * BLOCK) as u64)
    }

    fn take(&mut self, place: usize, BufResult(n, buf): BufResult<usize, Vec<u8>>) {
        assert_eq!(n.expect("a write"), BLOCK);
        self.bufs[place] = buf;
    }
}

/// The attributes of a file that is open.
pub(crate) struct Statxs {
    fd: Fd,
    _file: NamedTempFile,
}

impl Statxs {
    pub(crate) fn new(_: usize) -> anyhow::Result<Self> {
        let file = made_file(1)?;
        Ok(Self { fd: Fd::from(file.reopen()?), _file: file })
    }
}

impl Work for Statxs {
    type Op = Statx;

    fn queue(&mut self, ring: &Ring, _: usize) -> Handle<Statx> {
        ring.queue(Statx::of(&self.fd))
    }

    fn take(&mut self, _: usize, output: std::io::Result<deferring::Stat>) {
        assert_eq!(output.expect("a statx").size(), Some(BLOCK as u64));
    }
}

/// Waits for no time.
pub(crate) struct Timeouts;

impl Timeouts {
    pub(crate) fn new(_: usize) -> anyhow::Result<Self> {
        Ok(Self)
    }
}

impl Work for Timeouts {
    type Op = Timeout;

    fn queue(&mut self, ring: &Ring, _: usize) -> Handle<Timeout> {
        ring.timeout(Duration::ZERO)
    }

    fn take(&mut self, _: usize, output: std::io::Result<()>) {
        output.expect("a time that comes");
    }
}

/// Polls of something that is always ready.
pub(crate) struct Polls {
    fd: Fd,
}

impl Polls {
    pub(crate) fn new(_: usize) -> anyhow::Result<Self> {
        Ok(Self { fd: Fd::from(eventfd(1, EventfdFlags::CLOEXEC)?) })
    }
}

impl Work for Polls {
    type Op = PollAdd;

    fn queue(&mut self, ring: &Ring, _: usize) -> Handle<PollAdd> {
        ring.poll(&self.fd, PollFlags::IN)
    }

    fn take(&mut self, _: usize, output: std::io::Result<PollFlags>) {
        assert_eq!(output.expect("a poll"), PollFlags::IN);
    }
}

/// A file of some blocks, on a disk: elsewhere the ring sends ops another way.
pub(crate) fn made_file(blocks: usize) -> anyhow::Result<NamedTempFile> {
    let dir = std::env::temp_dir();
    if !is_on_a_disk(&dir)? {
        let needs = format!("TMPDIR on ext4, xfs or btrfs, which {} is not", dir.display());
        return Err(Lacks(needs).into());
    }
    let mut file = NamedTempFile::new_in(&dir).with_context(|| format!("in {}", dir.display()))?;
    file.write_all(&vec![1; blocks * BLOCK])?;
    Ok(file)
}

fn is_on_a_disk(dir: &Path) -> anyhow::Result<bool> {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    let found = rustix::fs::statfs(dir).with_context(|| dir.display().to_string())?;
    Ok([EXT4, XFS, BTRFS].iter().any(|&magic| i128::from(found.f_type) == i128::from(magic)))
}
