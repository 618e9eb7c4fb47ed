//! Hazard 11: descriptor numbers that are used again. No op touches another's file.
//!
//! An op is out on a descriptor; every clone of its [`Fd`] is dropped, and the process opens other
//! files at once, which take the lowest free numbers. Before the kernel has the op, after, behind a
//! link, in a worker, with SQPOLL. Not: that the descriptor closes in the end
//! (`../it/descriptors.rs`), though this would run out of them.
#![allow(unsafe_code)] // Ops of our own, with flags; and one that keeps no lease, to show the trap.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use deferring::op::{Op, Opcode, Sqe};
use deferring::{BufResult, Fd, Handle, Lease, Mode, Ring};
use tempfile::TempDir;

use crate::dice::Dice;
use crate::report::Hazard;
use crate::support::{
    builder, drain, finish, has_io_uring, in_a_process_for, open_descriptors, this_test, turn_until,
};

const TRIALS: usize = 1_000;

#[test]
fn h11_no_op_touches_the_file_that_gets_its_number() {
    in_a_process_for(Duration::from_secs(60), this_test!(), || {
        let hazard = Hazard::begin(11);
        let mut dice = Dice::new();
        let trap = Trap::new();
        let mut ways = vec![Way::Queued, Way::Submitted, Way::InWorker];
        if has_io_uring("links, and a kernel thread that submits (SQPOLL)") {
            ways.extend([Way::Linked, Way::Sqpoll]);
        }
        for way in ways {
            let ring = ring_for(way);
            finish(&ring, &ring.nop()).unwrap();
            let before = open_descriptors();
            (0..TRIALS).for_each(|trial| try_once(&ring, way, trial, &trap, &mut dice));
            assert_eq!(open_descriptors(), before, "{way:?}: each was closed in the end");
        }
        let caught = trap_without_leases(&trap);
        hazard.saw(format!(
            "{TRIALS} numbers reused under ops that were queued, submitted, linked, in a worker \
             and with SQPOLL: no wrong file; without leases {caught} of {TRIALS}; seed {}",
            dice.seed()
        ));
    });
}

/// How an op is out when its descriptor is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Queued,
    Submitted,
    Linked,
    InWorker,
    Sqpoll,
}

fn ring_for(way: Way) -> Ring {
    let builder = builder().queue_depth(8);
    match way {
        Way::Sqpoll => builder.sqpoll_idle(Duration::from_millis(20)),
        Way::Queued | Way::Submitted | Way::Linked | Way::InWorker => builder,
    }
    .build()
    .unwrap()
}

fn try_once(ring: &Ring, way: Way, trial: usize, trap: &Trap, dice: &mut Dice) {
    match trial % 4 {
        0 | 1 => truncate_once(ring, way, trap, dice),
        2 => write_once(ring, way, trap, dice),
        _ => mkdir_once(ring, way, trap, dice),
    }
}

fn truncate_once(ring: &Ring, way: Way, trap: &Trap, dice: &mut Dice) {
    let (fd, number, file) = trap.target();
    let pause = (way == Way::Linked).then(|| ring.queue(LinkedPause));
    let truncate = ring.queue(Truncate { fd: fd.lease(), in_worker: way == Way::InWorker });
    let decoys = spring(ring, way, fd, number, trap, dice, &truncate);
    finish(ring, &truncate).expect("the right file is open");
    pause.iter().for_each(|pause| finish(ring, pause).unwrap());
    assert_eq!(file.metadata().unwrap().len(), 0, "it touched its own file");
    trap.check(decoys, way);
}

fn write_once(ring: &Ring, way: Way, trap: &Trap, dice: &mut Dice) {
    let (fd, number, file) = trap.target();
    let pause = (way == Way::Linked).then(|| ring.queue(LinkedPause));
    let write = ring.write(&fd, "marked", 0);
    let decoys = spring(ring, way, fd, number, trap, dice, &write);
    let BufResult(result, _) = finish(ring, &write);
    assert_eq!(result.expect("the right file is open"), 6);
    pause.iter().for_each(|pause| finish(ring, pause).unwrap());
    let mut bytes = [0; 6];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"marked");
    trap.check(decoys, way);
}

/// The number of a directory from which a path starts.
fn mkdir_once(ring: &Ring, way: Way, trap: &Trap, dice: &mut Dice) {
    let place = tempfile::tempdir_in(trap.place.path()).unwrap();
    let dir = File::open(place.path()).unwrap();
    let number = dir.as_raw_fd();
    let dir = Fd::from(dir);
    let pause = (way == Way::Linked).then(|| ring.queue(LinkedPause));
    let mkdir = ring.mkdirat(&dir, "made", Mode::RWXU);
    let decoys = spring(ring, way, dir, number, trap, dice, &mkdir);
    finish(ring, &mkdir).expect("the right directory is open");
    pause.iter().for_each(|pause| finish(ring, pause).unwrap());
    assert!(place.path().join("made").is_dir(), "it worked in its own directory");
    trap.check(decoys, way);
}

/// Drops every clone of the descriptor and opens other files at once, around the submit.
fn spring<T: Op>(
    ring: &Ring,
    way: Way,
    fd: Fd,
    number: RawFd,
    trap: &Trap,
    dice: &mut Dice,
    op: &Handle<T>,
) -> Vec<File> {
    let clone = fd.clone();
    if way != Way::Queued {
        ring.submit().unwrap();
        dice.spin(100);
    }
    drop((fd, clone));
    let decoys = trap.open();
    assert!(decoys.iter().all(|decoy| decoy.as_raw_fd() != number), "{way:?}: under an op");
    assert!(!op.is_done(), "nobody has reaped");
    decoys
}

/// Files that stand about, to be touched by mistake.
struct Trap {
    place: TempDir,
    decoys: Vec<PathBuf>,
}

const DECOY: &[u8] = b"a decoy";

impl Trap {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let decoys: Vec<_> = (0..4).map(|at| place.path().join(format!("decoy{at}"))).collect();
        decoys.iter().for_each(|path| std::fs::write(path, DECOY).unwrap());
        Self { place, decoys }
    }

    /// A file with something in it, its number, and another view of it.
    fn target(&self) -> (Fd, RawFd, File) {
        let file = tempfile::tempfile_in(self.place.path()).unwrap();
        file.write_all_at(b"target", 0).unwrap();
        let view = file.try_clone().unwrap();
        let number = file.as_raw_fd();
        (file.into(), number, view)
    }

    fn open(&self) -> Vec<File> {
        let open = |path| File::options().read(true).write(true).open(path).unwrap();
        self.decoys.iter().map(open).collect()
    }

    #[track_caller]
    fn check(&self, decoys: Vec<File>, way: Way) {
        assert_eq!(self.touched(&decoys), 0, "{way:?}: a wrong file was touched");
    }

    /// How many decoys are not as they were.
    fn touched(&self, decoys: &[File]) -> usize {
        let is_touched = |decoy: &&File| {
            let mut bytes = [0; DECOY.len() + 1];
            let n = decoy.read_at(&mut bytes, 0).unwrap();
            &bytes[..n] != DECOY
        };
        decoys.iter().filter(is_touched).count()
    }
}

/// That the trap catches: the same with an op that names a bare number. Returns how often.
fn trap_without_leases(trap: &Trap) -> usize {
    let ring = ring_for(Way::Queued);
    let mut caught = 0;
    for _ in 0..TRIALS {
        let (fd, number, _file) = trap.target();
        let truncate = ring.queue(BareTruncate(number));
        drop(fd);
        let decoys = trap.open();
        turn_until(&ring, || truncate.is_done());
        caught += trap.touched(&decoys);
        decoys.iter().for_each(|decoy| decoy.write_all_at(DECOY, 0).unwrap());
    }
    drain(&ring);
    assert!(caught > TRIALS / 2, "the trap catches nothing: {caught}");
    caught
}

/// `ftruncate` to nothing, in a worker if asked to (`IOSQE_ASYNC`).
struct Truncate {
    fd: Lease,
    in_worker: bool,
}

// SAFETY: names a descriptor, of which it owns a lease, and no memory.
unsafe impl Op for Truncate {
    type Output = io::Result<u32>;
    const CODE: Opcode = Opcode::FTRUNCATE;

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.fd.raw();
        sqe.flags = u8::from(self.in_worker) << 4;
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.fd.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<u32> {
        result
    }
}

/// As [`Truncate`], of a number that may be anybody's.
struct BareTruncate(RawFd);

// SAFETY: none in general: it names a descriptor that nobody keeps for it. Here whatever may have
// the number is a file of this test's, in a process of its own, and to be cut short is all that can
// happen to it.
unsafe impl Op for BareTruncate {
    type Output = io::Result<u32>;
    const CODE: Opcode = Opcode::FTRUNCATE;

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.fd = self.0;
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<u32> {
        result
    }
}

/// A short timeout, at the end of which the next SQE begins (`IOSQE_IO_LINK`).
struct LinkedPause;

/// 100 us, as `struct __kernel_timespec`.
static PAUSE: [i64; 2] = [0, 100_000];

// SAFETY: names a static.
unsafe impl Op for LinkedPause {
    type Output = io::Result<()>;
    const CODE: Opcode = Opcode::TIMEOUT;

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.flags = 1 << 2;
        sqe.addr = PAUSE.as_ptr().expose_provenance() as u64;
        sqe.len = 1;
        sqe.op_flags = 1 << 5; // ETIME_SUCCESS: its end does not break the link.
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<()> {
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            other => other.map(drop),
        }
    }
}
