//! Descriptors: numbers that the program has, and what they stand for here.
//!
//! Each is a real descriptor of this process, of nothing in particular, so that its number is
//! nobody else's and closing it is what it always is. Not: what is in files (`disk/`) or pipes
//! (`streams.rs`).

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{Timespec, epoll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::ops::Spread;
use super::streams::StreamId;
use crate::disk::InodeId;

/// What a descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File {
        inode: InodeId,
        at: u64,
        readable: bool,
        writable: bool,
        append: bool,
        synced: bool,
    },
    Directory {
        inode: InodeId,
    },
    /// What was opened by `O_PATH`: a place to start from, and nothing else.
    Name {
        inode: InodeId,
    },
    /// A pipe's end, or a socket.
    Stream {
        inode: Option<InodeId>,
        input: Option<StreamId>,
        output: Option<StreamId>,
        /// How many writers there had been when it was opened, if that did not wait for one.
        since: u64,
    },
}

impl Kind {
    pub(super) const fn inode(self) -> Option<InodeId> {
        match self {
            Self::File { inode, .. } | Self::Directory { inode } | Self::Name { inode } => {
                Some(inode)
            }
            Self::Stream { inode, .. } => inode,
        }
    }

    pub(super) const fn is_socket(self) -> bool {
        matches!(self, Self::Stream { inode: None, input: Some(_), output: Some(_), .. })
    }
}

#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) kind: Kind,
    /// The how manieth it is.
    pub(super) serial: u64,
    /// What the real descriptor is, as nothing else in the system.
    identity: (u64, u64),
    /// Of a stream, the other end of the real pipe: it is told when the program's is closed.
    _witness: Option<OwnedFd>,
}

/// A program may close a descriptor by itself, and nobody tells. It is missed at a `sweep`, and only
/// there: which numbers come again, and when, is not the seed's to say.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    open: HashMap<RawFd, Descriptor, BuildHasherDefault<Spread>>,
    /// Closed, as their numbers have come again, and not missed yet.
    closed: Vec<Descriptor>,
    opened: u64,
    /// How many there may be opened before all are looked at.
    sweep_at: u64,
    /// An epoll of all witnesses.
    witnesses: Option<OwnedFd>,
}

impl Descriptors {
    /// A new one.
    pub(super) fn open(&mut self, kind: Kind) -> Result<OwnedFd, Errno> {
        let (real, witness) = match kind {
            Kind::Stream { .. } => {
                let (real, witness) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
                let data = epoll::EventData::new_u64(0);
                epoll::add(self.witnesses()?, &witness, data, epoll::EventFlags::ERR)?;
                (real, Some(witness))
            }
            Kind::File { .. } | Kind::Directory { .. } | Kind::Name { .. } => {
                (rustix::fs::memfd_create("deferring-sim", MemfdFlags::CLOEXEC)?, None)
            }
        };
        let (serial, identity) = (self.opened + 1, identity(real.as_fd())?);
        self.opened = serial;
        let descriptor = Descriptor { kind, serial, identity, _witness: witness };
        self.closed.extend(self.open.insert(real.as_raw_fd(), descriptor));
        Ok(real)
    }

    fn witnesses(&mut self) -> Result<&OwnedFd, Errno> {
        if self.witnesses.is_none() {
            self.witnesses = Some(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        }
        Ok(self.witnesses.as_ref().expect("it was made"))
    }

    /// Whether the program has closed a stream by itself that was not missed yet: one system call,
    /// where a sweep takes one for each.
    pub(super) fn has_closed_stream(&self) -> bool {
        let Some(witnesses) = &self.witnesses else { return false };
        let mut events = [MaybeUninit::uninit(); 1];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let told = epoll::wait(witnesses, &mut events[..], Some(&at_once));
        told.is_ok_and(|(events, _)| !events.is_empty())
    }

    /// Whether so many were opened since the last time that all should be looked at.
    pub(super) fn is_sweep_due(&mut self) -> bool {
        const LEAST: u64 = 16;
        let is_due = self.opened >= self.sweep_at;
        if is_due {
            // With those whose numbers have come again: which do is not the seed's to say.
            self.sweep_at = self.opened + (self.count() as u64).max(LEAST);
        }
        is_due
    }

    pub(super) fn get(&self, raw: RawFd) -> Result<Kind, Errno> {
        self.open.get(&raw).map(|descriptor| descriptor.kind).ok_or(Errno::BADF)
    }

    /// One that more can be done with than to start from it.
    pub(super) fn get_open(&self, raw: RawFd) -> Result<Kind, Errno> {
        self.get(raw).and_then(|kind| match kind {
            Kind::Name { .. } => Err(Errno::BADF),
            Kind::File { .. } | Kind::Directory { .. } | Kind::Stream { .. } => Ok(kind),
        })
    }

    pub(super) fn serial(&self, raw: RawFd) -> Option<u64> {
        self.open.get(&raw).map(|descriptor| descriptor.serial)
    }

    pub(super) fn move_to(&mut self, raw: RawFd, to: u64) {
        if let Some(Descriptor { kind: Kind::File { at, .. }, .. }) = self.open.get_mut(&raw) {
            *at = to;
        }
    }

    pub(super) fn close(&mut self, raw: RawFd) -> Option<Kind> {
        self.open.remove(&raw).map(|descriptor| descriptor.kind)
    }

    /// Forgets those that the program has closed by itself. What they stood for, in the order in
    /// which they were opened.
    pub(super) fn sweep(&mut self, which: impl Fn(Kind) -> bool) -> Vec<Kind> {
        let gone = |raw: RawFd, descriptor: &Descriptor| !is_open(raw, descriptor.identity);
        let closed: Vec<RawFd> = self
            .open
            .iter()
            .filter(|(raw, descriptor)| which(descriptor.kind) && gone(**raw, descriptor))
            .map(|(raw, _)| *raw)
            .collect();
        let mut missed: Vec<_> = closed.iter().filter_map(|raw| self.open.remove(raw)).collect();
        let closed = std::mem::take(&mut self.closed).into_iter();
        let (more, left) = closed.partition(|descriptor| which(descriptor.kind));
        missed.extend::<Vec<_>>(more);
        self.closed = left;
        missed.sort_unstable_by_key(|descriptor| descriptor.serial);
        missed.into_iter().map(|descriptor| descriptor.kind).collect()
    }

    /// How many the program has, as far as is known: sweep before.
    pub(super) fn count(&self) -> usize {
        self.open.len() + self.closed.len()
    }

    /// The machine is off: nothing is open.
    pub(super) fn forget_all(&mut self) {
        self.open.clear();
        self.closed.clear();
    }
}

fn identity(fd: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[allow(unsafe_code)] // A number that may be nobody's.
fn is_open(raw: RawFd, is: (u64, u64)) -> bool {
    // SAFETY: only asked what it is, at once; if it is closed, the answer is an error.
    let fd = unsafe { BorrowedFd::borrow_raw(raw) };
    identity(fd) == Ok(is)
}
