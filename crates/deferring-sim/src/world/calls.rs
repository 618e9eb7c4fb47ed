//! One SQE as a system call on what is simulated.
//!
//! Not: transfers of pipes and waits (`waits.rs`).

use std::os::fd::{IntoRawFd, RawFd};

use deferring::CURRENT;
use deferring::op::{Opcode, Sqe};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::World;
use super::files::Kind;
use super::memory::{self, Parts};
use super::ops::{OpId, State};
use crate::disk::{self, InodeId, ROOT, Stat};

/// The ops that it has.
pub(crate) const KNOWN: [Opcode; 22] = [
    Opcode::NOP,
    Opcode::READV,
    Opcode::WRITEV,
    Opcode::FSYNC,
    Opcode::POLL_ADD,
    Opcode::POLL_REMOVE,
    Opcode::TIMEOUT,
    Opcode::TIMEOUT_REMOVE,
    Opcode::ASYNC_CANCEL,
    Opcode::FALLOCATE,
    Opcode::CLOSE,
    Opcode::STATX,
    Opcode::READ,
    Opcode::WRITE,
    Opcode::FADVISE,
    Opcode::OPENAT2,
    Opcode::RENAMEAT,
    Opcode::UNLINKAT,
    Opcode::MKDIRAT,
    Opcode::SYMLINKAT,
    Opcode::LINKAT,
    Opcode::FTRUNCATE,
];

/// How long Linux tries in vain to make a worker.
const NO_WORKER: std::time::Duration = std::time::Duration::from_millis(47);

/// What came of a call.
pub(super) enum Outcome {
    Done(Result<i32, Errno>),
    /// It blocks whoever makes it.
    Blocks,
}

impl World {
    // Workers.

    /// A worker is to do it.
    pub(super) fn enqueue(&mut self, id: OpId) {
        if self.workers_allowed() == 0 {
            self.set(id, State::Answered(-Errno::CANCELED.raw_os_error()));
            return self.at(id, self.now + NO_WORKER);
        }
        self.queue.push_back(id);
        self.serve();
    }

    fn workers_allowed(&self) -> u32 {
        self.workers_most.min(self.faults.workers_max)
    }

    fn serve(&mut self) {
        while self.workers < self.workers_allowed() {
            let Some(id) = self.queue.pop_front() else { return };
            self.workers += 1;
            let can_hang = self.ops.get(id).is_some_and(|op| op.sqe.opcode != Opcode::NOP);
            let for_ever = can_hang && self.strikes(|faults| faults.hang_for_ever);
            if for_ever || can_hang && self.strikes(|faults| faults.hang) {
                self.line(|| format!("#{} hangs", id.serial));
                self.set(id, State::Hung { for_ever });
            } else {
                self.set(id, State::Running { worker: true });
                let at = self.now + self.latency();
                self.at(id, at);
            }
        }
    }

    pub(super) fn free_worker(&mut self) {
        self.workers -= 1;
        self.serve();
    }

    /// The time that an op takes is over.
    pub(super) fn run(&mut self, id: OpId) {
        let Some(&op) = self.ops.get(id) else { return };
        if self.is_transfer_of_a_stream(&op.sqe) {
            // Linux waits for the descriptor, not in the worker.
            self.free_worker();
            return self.begin_transfer(id);
        }
        match self.call(id, &op.sqe, true) {
            Outcome::Blocks if op.interrupted => {
                self.leave_fifos(id);
                self.free_worker();
                self.answer(id, Err(Errno::INTR));
            }
            Outcome::Blocks => self.set(id, State::Opening),
            Outcome::Done(result) => {
                if (op.state == State::Running { worker: true }) {
                    self.free_worker();
                }
                self.answer(id, result);
            }
        }
    }

    fn is_transfer_of_a_stream(&self, sqe: &Sqe) -> bool {
        let is_transfer =
            matches!(sqe.opcode, Opcode::READ | Opcode::WRITE | Opcode::READV | Opcode::WRITEV);
        is_transfer && self.is_stream(sqe.fd)
    }

    /// It is done while it is submitted.
    pub(super) fn run_inline(&mut self, id: OpId) {
        let Some(&op) = self.ops.get(id) else { return };
        match self.call(id, &op.sqe, false) {
            Outcome::Done(result) => self.answer(id, result),
            Outcome::Blocks => unreachable!("an inline call does not block"),
        }
    }

    /// Whether the kernel has all in its caches that an open needs.
    pub(super) fn is_warm(&mut self, sqe: &Sqe) -> bool {
        const MAKES: OFlags = OFlags::CREATE.union(OFlags::TRUNC).union(OFlags::TMPFILE);
        let how = memory::how(sqe);
        let makes = how.is_ok_and(|how| how.flags & u64::from(MAKES.bits()) != 0);
        !makes && self.rng.bool()
    }

    // Calls.

    fn call(&mut self, id: OpId, sqe: &Sqe, may_block: bool) -> Outcome {
        match sqe.opcode {
            Opcode::OPENAT2 => self.open(id, sqe, may_block),
            _ => Outcome::Done(self.finite_call(sqe)),
        }
    }

    fn finite_call(&mut self, sqe: &Sqe) -> Result<i32, Errno> {
        match sqe.opcode {
            Opcode::NOP => Ok(nop(sqe)),
            Opcode::READ | Opcode::READV => self.read(sqe),
            Opcode::WRITE | Opcode::WRITEV => self.write(sqe),
            Opcode::FSYNC => self.fsync(sqe),
            Opcode::FALLOCATE => done(self.fallocate(sqe)),
            Opcode::FTRUNCATE => done(self.truncate(sqe)),
            Opcode::FADVISE => done(self.advise(sqe)),
            Opcode::CLOSE => self.close(sqe.fd),
            Opcode::STATX => self.statx(sqe),
            Opcode::RENAMEAT => {
                let flags = RenameFlags::from_bits_retain(sqe.op_flags);
                let (from, to) = (memory::path(sqe.addr)?, memory::path(sqe.off)?);
                let (one, two) = (self.directory(sqe.fd)?, self.directory(second(sqe))?);
                done(self.disk.rename(one, from, two, to, flags))
            }
            Opcode::UNLINKAT => {
                let flags = AtFlags::from_bits_retain(sqe.op_flags);
                if !AtFlags::REMOVEDIR.contains(flags) {
                    return Err(Errno::INVAL);
                }
                let from = self.directory(sqe.fd)?;
                let is_directory = flags == AtFlags::REMOVEDIR;
                done(self.disk.unlink(from, memory::path(sqe.addr)?, is_directory))
            }
            Opcode::MKDIRAT => {
                let mode = Mode::from_bits_retain(sqe.len);
                let from = self.directory(sqe.fd)?;
                self.disk.mkdir(from, memory::path(sqe.addr)?, mode).map(|_| 0)
            }
            Opcode::SYMLINKAT => {
                let (target, link) = (memory::path(sqe.addr)?, memory::path(sqe.off)?);
                let from = self.directory(sqe.fd)?;
                self.disk.symlink(target, from, link).map(|_| 0)
            }
            Opcode::LINKAT => {
                let flags = AtFlags::from_bits_retain(sqe.op_flags);
                let from = memory::path_or_none(sqe.addr, flags)?;
                let to = memory::path(sqe.off)?;
                let (one, two) = (self.directory(sqe.fd)?, self.directory(second(sqe))?);
                done(self.disk.link(one, from, two, to, flags))
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// The directory that a path starts from.
    fn directory(&self, raw: RawFd) -> Result<InodeId, Errno> {
        if raw == libc::AT_FDCWD {
            return Ok(ROOT);
        }
        self.files.get(raw)?.inode().ok_or(Errno::NOTDIR)
    }

    // Contents.

    /// How much of a transfer is made.
    pub(super) fn part_of(&mut self, len: usize) -> usize {
        if len > 1 && self.strikes(|faults| faults.short) {
            1 + self.rng.usize(..len - 1)
        } else {
            len
        }
    }

    fn read(&mut self, sqe: &Sqe) -> Result<i32, Errno> {
        let (inode, at) = match self.files.get_open(sqe.fd)? {
            Kind::File { inode, at, readable: true, .. } => (inode, at),
            Kind::Directory { .. } => {
                // Linux asks no directory for nothing.
                let len = Parts::of(sqe)?.len();
                position(sqe, 0, len)?;
                return if len == 0 { Ok(0) } else { Err(Errno::ISDIR) };
            }
            Kind::File { .. } | Kind::Name { .. } | Kind::Stream { .. } => {
                return Err(Errno::BADF);
            }
        };
        read_flags(sqe)?;
        let parts = Parts::of(sqe)?;
        let start = position(sqe, at, parts.len())?;
        let left = self.disk.size(inode).saturating_sub(start);
        let len = parts.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let len = self.part_of(len);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(len, 0);
        let n = self.disk.read(inode, start, &mut scratch);
        let put = n.and_then(|n| parts.put(&scratch[..n]).map(|()| n));
        self.scratch = scratch;
        let n = put?;
        if sqe.off == CURRENT {
            self.files.move_to(sqe.fd, start + n as u64);
        }
        count(n)
    }

    pub(super) fn write(&mut self, sqe: &Sqe) -> Result<i32, Errno> {
        const SYNC: u32 = 2 | 4;
        const APPEND: u32 = 16;
        let Kind::File { inode, at, writable: true, append, synced, .. } =
            self.files.get(sqe.fd)?
        else {
            return Err(Errno::BADF);
        };
        let flags = read_flags(sqe)?;
        let parts = Parts::of(sqe)?;
        let asked = position(sqe, at, parts.len())?;
        let append = (append || flags & APPEND != 0) && parts.len() > 0;
        let start = if append { self.disk.size(inode) } else { asked };
        let most = self.part_of(parts.len());
        let mut end = start;
        let disk = &mut self.disk;
        let n = parts.take(most, |bytes| {
            let n = match append {
                true => disk.append(inode, bytes)?,
                false => disk.write(inode, end, bytes)?,
            };
            end += n as u64;
            Ok(n)
        })?;
        if synced || flags & SYNC != 0 {
            self.disk.sync(inode, true)?;
        }
        if sqe.off == CURRENT {
            self.files.move_to(sqe.fd, end);
        }
        count(n)
    }

    fn fsync(&mut self, sqe: &Sqe) -> Result<i32, Errno> {
        const DATASYNC: u32 = 1;
        if sqe.op_flags > DATASYNC {
            return Err(Errno::INVAL);
        }
        match self.files.get_open(sqe.fd)? {
            Kind::File { inode, .. } | Kind::Directory { inode } => {
                done(self.disk.sync(inode, sqe.op_flags == DATASYNC))
            }
            Kind::Stream { .. } | Kind::Name { .. } => Err(Errno::INVAL),
        }
    }

    // Descriptors.

    fn open(&mut self, id: OpId, sqe: &Sqe, may_block: bool) -> Outcome {
        let opened = self.find_or_make(sqe);
        let (inode, flags) = match opened {
            Ok(opened) => opened,
            Err(errno) => return Outcome::Done(Err(errno)),
        };
        if self.disk.kind(inode) == disk::Kind::Fifo && !flags.contains(OFlags::PATH) {
            return self.open_fifo(id, inode, flags, may_block);
        }
        let kind = if flags.contains(OFlags::PATH) {
            Kind::Name { inode }
        } else if self.disk.kind(inode) == disk::Kind::Directory {
            Kind::Directory { inode }
        } else {
            let access = flags & OFlags::RWMODE;
            Kind::File {
                inode,
                at: 0,
                readable: access != OFlags::WRONLY,
                writable: access != OFlags::RDONLY,
                append: flags.contains(OFlags::APPEND),
                synced: flags.intersects(OFlags::DSYNC | OFlags::SYNC),
            }
        };
        Outcome::Done(self.descriptor(kind))
    }

    fn find_or_make(&mut self, sqe: &Sqe) -> Result<(InodeId, OFlags), Errno> {
        let how = memory::how(sqe)?;
        let path = memory::path(sqe.addr)?;
        let flags = u32::try_from(how.flags).map_err(|_| Errno::INVAL)?;
        let mode = u32::try_from(how.mode).map_err(|_| Errno::INVAL)?;
        let flags = OFlags::from_bits_retain(flags);
        let mode = Mode::from_bits_retain(mode);
        let resolve = ResolveFlags::from_bits_retain(how.resolve);
        let from = self.directory(sqe.fd)?;
        let inode = self.disk.open(from, path, flags, mode, resolve)?;
        Ok((inode, flags))
    }

    /// A new descriptor, which is the program's from now on.
    pub(super) fn descriptor(&mut self, kind: Kind) -> Result<i32, Errno> {
        let real = self.files.open(kind)?;
        if let Some(inode) = kind.inode() {
            self.disk.hold(inode);
        }
        if self.files.is_sweep_due() {
            self.sweep(|_| true);
        }
        Ok(real.into_raw_fd())
    }

    /// Lets go of what the program has closed by itself.
    pub(super) fn sweep(&mut self, which: impl Fn(Kind) -> bool) {
        for closed in self.files.sweep(which) {
            self.let_go(closed);
        }
    }

    /// A descriptor is closed.
    pub(super) fn let_go(&mut self, kind: Kind) {
        if let Some(inode) = kind.inode() {
            self.disk.release(inode);
        }
        if let Kind::Stream { input, output, .. } = kind {
            if let (true, Some(input), Some(output)) = (kind.is_socket(), input, output) {
                let unread = !self.streams.get(input).bytes.is_empty();
                self.streams.get_mut(output).reset = unread;
                self.streams.get_mut(input).bytes.clear();
            }
            if let Some(input) = input {
                self.streams.get_mut(input).readers -= 1;
                self.pump(input);
            }
            if let Some(output) = output {
                self.streams.get_mut(output).writers -= 1;
                self.pump(output);
            }
        }
    }

    #[allow(unsafe_code)] // A number that an op owns.
    fn close(&mut self, raw: RawFd) -> Result<i32, Errno> {
        if raw < 0 {
            return Err(Errno::BADF);
        }
        if let Some(kind) = self.files.close(raw) {
            self.let_go(kind);
        }
        // SAFETY: the op owns the number: `close` waits until nobody uses it.
        let closed = unsafe { libc::close(raw) };
        if closed == 0 { Ok(0) } else { Err(Errno::BADF) }
    }

    fn statx(&mut self, sqe: &Sqe) -> Result<i32, Errno> {
        const RESERVED: u32 = 1 << 31;
        const SYNCS: u32 = 0x6000;
        let flags = AtFlags::from_bits_retain(sqe.op_flags);
        let known = AtFlags::EMPTY_PATH
            | AtFlags::SYMLINK_NOFOLLOW
            | AtFlags::NO_AUTOMOUNT
            | AtFlags::from_bits_retain(SYNCS);
        let path = memory::path_or_none(sqe.addr, flags)?;
        if !known.contains(flags) || sqe.len & RESERVED != 0 || sqe.op_flags & SYNCS == SYNCS {
            return Err(Errno::INVAL);
        }
        let inode = if path.is_empty() {
            if sqe.fd == libc::AT_FDCWD {
                ROOT
            } else {
                let kind = self.files.get(sqe.fd)?;
                match kind.inode() {
                    Some(inode) => inode,
                    None => {
                        memory::put_stat(sqe.off, &nameless(kind.is_socket()))?;
                        return Ok(0);
                    }
                }
            }
        } else {
            let follow = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
            self.disk.lookup(self.directory(sqe.fd)?, path, follow)?
        };
        memory::put_stat(sqe.off, &answer(&self.disk.stat(inode)))?;
        Ok(0)
    }
}

/// What statx tells of a file.
#[allow(clippy::cast_possible_truncation)] // 16 bits of a mode.
fn answer(stat: &Stat) -> libc::statx {
    let kind = match stat.kind {
        disk::Kind::File => libc::S_IFREG,
        disk::Kind::Directory => libc::S_IFDIR,
        disk::Kind::Symlink => libc::S_IFLNK,
        disk::Kind::Fifo => libc::S_IFIFO,
    };
    let time = |time: std::time::Duration, to: &mut libc::statx_timestamp| {
        to.tv_sec = time.as_secs().try_into().unwrap_or(i64::MAX);
        to.tv_nsec = time.subsec_nanos();
    };
    let mut told = nothing();
    told.stx_mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    told.stx_mode = (kind | stat.mode) as u16;
    told.stx_blksize = 4096;
    told.stx_nlink = stat.nlink;
    told.stx_ino = stat.ino;
    told.stx_size = stat.size;
    told.stx_blocks = stat.blocks;
    time(stat.btime, &mut told.stx_btime);
    time(stat.mtime, &mut told.stx_mtime);
    time(stat.mtime, &mut told.stx_atime);
    time(stat.ctime, &mut told.stx_ctime);
    told
}

/// What statx tells of a pipe or a socket.
#[allow(clippy::cast_possible_truncation)] // 16 bits of a mode.
fn nameless(is_socket: bool) -> libc::statx {
    let mode = if is_socket { libc::S_IFSOCK | 0o777 } else { libc::S_IFIFO | 0o600 };
    let mut told = nothing();
    told.stx_mask = libc::STATX_BASIC_STATS;
    told.stx_mode = mode as u16;
    told.stx_blksize = 4096;
    told.stx_nlink = 1;
    told
}

#[allow(unsafe_code)] // Zeros that are numbers.
fn nothing() -> libc::statx {
    // SAFETY: plain numbers, for which zero is one.
    unsafe { std::mem::zeroed() }
}

/// What the user has asked it to answer, or nothing.
fn nop(sqe: &Sqe) -> i32 {
    const INJECT_RESULT: u32 = 1;
    if sqe.op_flags & INJECT_RESULT != 0 { second(sqe) } else { 0 }
}

/// The descriptor of the second path, or a result, in `len`.
#[allow(clippy::cast_possible_wrap)] // The same 32 bits.
const fn second(sqe: &Sqe) -> RawFd {
    sqe.len as RawFd
}

fn done(result: Result<(), Errno>) -> Result<i32, Errno> {
    result.map(|()| 0)
}

pub(super) fn count(n: usize) -> Result<i32, Errno> {
    i32::try_from(n).map_err(|_| Errno::INVAL)
}

/// Where a transfer of so many bytes begins. Offsets are signed in the kernel.
pub(super) fn position(sqe: &Sqe, at: u64, len: usize) -> Result<u64, Errno> {
    let from = if sqe.off == CURRENT { at } else { sqe.off };
    let to = from.checked_add(len as u64).filter(|&to| i64::try_from(to).is_ok());
    to.map(|_| from).ok_or(Errno::INVAL)
}

/// `RWF_*`, as far as they are known.
fn read_flags(sqe: &Sqe) -> Result<u32, Errno> {
    const KNOWN: u32 = 0x1f;
    if sqe.op_flags & !KNOWN == 0 { Ok(sqe.op_flags) } else { Err(Errno::OPNOTSUPP) }
}
