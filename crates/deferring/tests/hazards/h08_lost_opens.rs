//! Hazard 8: opens that nobody waits for any more. No descriptor is left open.
//!
//! Regular files and FIFOs; cancelled and dropped; queued, submitted, running, ended. The numbers
//! in `/proc/self/fd` are the same as before. Not: opens that are detached, or end with their ring
//! (`../it/descriptors.rs`).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deferring::op::{Op, Openat2};
use deferring::{CWD, Fd, Handle, Mode, OFlags, Ring};
use rustix::fs::FileType;
use tempfile::TempDir;

use crate::dice::Dice;
use crate::report::{Hazard, long};
use crate::support::{
    BOUND, OpenInWorker, drain, finish, in_a_process_for, lets_go, ring, this_test, turn_until,
};

#[test]
fn h08_opens_that_are_cancelled_or_dropped_at_any_moment_leave_no_descriptor() {
    in_a_process_for(Duration::from_secs(60), this_test!(), || {
        let hazard = Hazard::begin(8);
        let times = if long() { 5_000 } else { 1_000 };
        let mut dice = Dice::new();
        let mut told = Vec::new();
        for kind in [Kind::Existing, Kind::Created, Kind::Fifo, Kind::FifoInWorker] {
            for drops in [false, true] {
                let lost = lose(&mut dice, kind, drops, times);
                if !drops {
                    told.push(format!("{kind:?} {lost}"));
                }
            }
        }
        hazard.saw(format!(
            "{times} opens of each kind cancelled and as many dropped: no descriptor left ({}); \
             seed {}",
            told.join(", "),
            dice.seed()
        ));
    });
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Opened as it is submitted.
    Existing,
    /// Opened by a worker.
    Created,
    /// Waits for a peer if it gets to a worker, and does not wait otherwise.
    Fifo,
    /// Waits for a peer.
    FifoInWorker,
}

impl Kind {
    fn waits(self) -> bool {
        matches!(self, Self::Fifo | Self::FifoInWorker)
    }
}

/// How far an open has come when it is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    Queued,
    Submitted,
    /// Some time later: a worker may have begun.
    Running,
    /// It has ended, and nobody has looked.
    Ended,
    Reaped,
}

const MOMENTS: [Moment; 5] =
    [Moment::Queued, Moment::Submitted, Moment::Running, Moment::Ended, Moment::Reaped];

/// What became of the opens.
#[derive(Default)]
struct Lost {
    given: usize,
    failed: usize,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} given, {} not", self.given, self.failed)
    }
}

/// Gives up so many opens, and compares what is open before and after. What came of those that
/// were cancelled.
fn lose(dice: &mut Dice, kind: Kind, drops: bool, times: usize) -> Lost {
    let place = tempfile::tempdir().unwrap();
    let ring = ring();
    finish(&ring, &ring.nop()).unwrap();
    let (before, mut lost, mut peers) = (open_numbers(), Lost::default(), Vec::new());
    for at in 0..times {
        let path = path(&place, kind, at);
        let peer = match kind {
            Kind::FifoInWorker => {
                let open = ring.queue(OpenInWorker::new(&path));
                lose_one(&ring, dice, open, kind, drops, &path, &mut lost)
            }
            Kind::Existing | Kind::Created | Kind::Fifo => {
                // With CREATE it goes to a worker.
                let flags = OFlags::RDONLY | OFlags::CREATE;
                let op = Openat2::new(CWD, &path);
                let worker = kind != Kind::Existing;
                let op = if worker { op.flags(flags).mode(Mode::RWXU) } else { op };
                lose_one(&ring, dice, ring.queue(op), kind, drops, &path, &mut lost)
            }
        };
        peers.extend(peer);
        if at % 50 == 49 {
            drain(&ring);
            peers.clear();
            assert_eq!(open_numbers(), before, "after {at} of {kind:?}, dropped: {drops}");
        }
    }
    assert_eq!(deferring::leaked_ops(), 0);
    lost
}

/// The file to open: made, unless the open is to make it.
fn path(place: &TempDir, kind: Kind, at: usize) -> PathBuf {
    let path = place.path().join(at.to_string());
    match kind {
        Kind::Existing => drop(File::create(&path).unwrap()),
        Kind::Created => {}
        Kind::Fifo | Kind::FifoInWorker => {
            rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        }
    }
    path
}

/// Gives up one. What lets it go comes back, if its cancel does not.
fn lose_one<T: Op<Output = std::io::Result<Fd>>>(
    ring: &Ring,
    dice: &mut Dice,
    open: Handle<T>,
    kind: Kind,
    drops: bool,
    path: &Path,
    lost: &mut Lost,
) -> Option<File> {
    let moment = MOMENTS[dice.below(MOMENTS.len())];
    let peer = get_on(ring, dice, &open, moment, kind, path);
    let lets_go = || kind.waits().then(|| lets_go(path)).flatten();
    let mut other = None;
    if drops {
        drop(open);
    } else {
        open.cancel();
        if moment != Moment::Queued {
            ring.submit().unwrap();
        }
        other = lets_go();
        match finish(ring, &open) {
            Ok(_fd) => lost.given += 1,
            Err(error) => {
                let errno = error.raw_os_error();
                assert!(matches!(errno, Some(libc::ECANCELED | libc::EINTR)), "{error}");
                assert!(!matches!(moment, Moment::Ended | Moment::Reaped), "{error}: {moment:?}");
                lost.failed += 1;
            }
        }
    }
    // Of what is dropped, some ends before the next begins.
    if dice.once_in(2) {
        ring.submit().unwrap();
        ring.reap().unwrap();
    }
    drop(peer);
    other.or_else(lets_go)
}

/// Gets an open to a moment of its life. A FIFO's peer, if that takes one, comes back.
fn get_on<T: Op>(
    ring: &Ring,
    dice: &mut Dice,
    open: &Handle<T>,
    moment: Moment,
    kind: Kind,
    path: &Path,
) -> Option<File> {
    let both = || File::options().read(true).write(true).open(path).unwrap();
    let mut peer = None;
    if moment != Moment::Queued {
        ring.submit().unwrap();
    }
    match moment {
        Moment::Queued | Moment::Submitted => {}
        Moment::Running => {
            dice.spin(20_000);
            // The peer comes at the same time as the end.
            peer = (kind.waits() && dice.once_in(2)).then(both);
        }
        Moment::Ended => {
            peer = kind.waits().then(both);
            wait_unreaped(ring);
        }
        Moment::Reaped => {
            peer = kind.waits().then(both);
            turn_until(ring, || open.is_done());
        }
    }
    peer
}

/// Waits until something has ended; reaps what others left before.
fn wait_unreaped(ring: &Ring) {
    assert!(ring.wait(Some(BOUND)).unwrap(), "it ends");
}

/// The descriptors that this process has open.
fn open_numbers() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("proc");
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut numbers: Vec<i32> = names.map(|name| name.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}
