//! A user who may have no more threads (RLIMIT_NPROC): the kernel cannot make workers.
//!
//! With none at all, it ends every op that needs one with ECANCELED after a while. With a few,
//! which calls that block for ever then hold, the others wait without a word. Here each ends: it is
//! done, or says that the machine is saturated.
#![allow(unsafe_code)] // It becomes another user: root has no such limit.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use deferring::op::{Fsync, Statx, Unlinkat};
use deferring::{AtFlags, CWD, Fd, Handle, OFlags, Ring, StatxFlags};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::report::{Hazard, long};
use crate::scene::{fifos, open_each};
use crate::support::{builder, in_a_process_of_its_own, skipped, this_test};
use crate::way::Way;

const OPENS: usize = 64;

#[test]
fn h06_with_two_workers_every_finite_call_ends_or_says_saturated() {
    in_a_process_of_its_own(this_test!(), || no_more_threads_than(2, 54_321));
}

#[test]
fn h06_without_any_worker_every_finite_call_ends_or_says_saturated() {
    in_a_process_of_its_own(this_test!(), || no_more_threads_than(0, 54_322));
}

#[test]
fn h06_without_any_worker_and_nothing_that_blocks_every_call_ends_or_says_saturated() {
    in_a_process_of_its_own(this_test!(), || {
        let hazard = Hazard::begin(6);
        if !become_user(54_323) {
            return skipped("to be root, to become a user without processes");
        }
        let ring = builder().queue_depth(64).build().unwrap();
        let files = tempfile::tempdir().unwrap();
        allow_more_threads(0);
        let tally = Finite::queue(&ring, files.path()).finish(&ring);
        hazard.saw(format_args!("no worker at all, and nothing that blocks: {tally}"));
    });
}

/// Many opens that wait, and finite ops behind them, when the kernel can make so many workers.
///
/// No thread of ours can be made either, so the ring is turned by hand.
fn no_more_threads_than(workers: u64, user: u32) {
    let hazard = Hazard::begin(6);
    if !become_user(user) {
        return skipped("to be root, to become a user without processes");
    }
    let ring = builder().queue_depth(64).build().unwrap();
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let paths = fifos(dir.path(), OPENS);
    allow_more_threads(workers);
    let opens = open_each(&ring, &paths, OFlags::RDONLY);
    ring.submit().unwrap();
    let finite = Finite::queue(&ring, files.path()).finish(&ring);

    let _peers = open_both_ends(&paths);
    let mut tally = Tally::default();
    for open in Way::ByHand.finish_all(&ring, opens) {
        tally.count(&open.map(drop));
    }
    hazard.saw(format_args!(
        "room for {workers} workers: of the finite ops {finite}; of {OPENS} opens of FIFOs {tally}"
    ));
}

/// Opens that do not wait, outside the ring: who waits for a peer has one then.
fn open_both_ends(fifos: &[PathBuf]) -> Vec<File> {
    let open = |fifo| File::options().read(true).write(true).open(fifo).expect("a FIFO");
    fifos.iter().map(open).collect()
}

/// Makes this process, which has to be one of its own, that of an ordinary user. False if we may
/// not.
fn become_user(user: u32) -> bool {
    // SAFETY: no memory is involved; it is for all threads of the process.
    let became = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setgid(user) == 0
            && libc::setuid(user) == 0
    };
    assert!(became || rustix::process::getuid().as_raw() != 0, "{}", io::Error::last_os_error());
    became
}

/// Lets our user have so many threads more than there are: workers of the kernel count as threads.
fn allow_more_threads(more: u64) {
    let tasks = fs::read_dir("/proc/self/task").unwrap().count() as u64;
    let limit = Some(tasks + more);
    setrlimit(Resource::Nproc, Rlimit { current: limit, maximum: limit }).unwrap();
    if more == 0 {
        let refused = std::thread::Builder::new().spawn(|| ());
        assert!(refused.is_err(), "the limit does not hold");
    }
}

/// Ops that end by themselves, and need a worker.
struct Finite {
    stats: Vec<Handle<Statx>>,
    syncs: Vec<Handle<Fsync>>,
    unlinks: Vec<(PathBuf, Handle<Unlinkat>)>,
}

impl Finite {
    fn queue(ring: &Ring, dir: &Path) -> Self {
        let [stats, syncs, unlinks] = if long() { [4_000, 60, 3_000] } else { [120, 20, 60] };
        let path = dir.join("file");
        fs::write(&path, "seventeen letters").unwrap();
        let file = Fd::from(File::options().write(true).open(&path).unwrap());
        let names = (0..unlinks).map(|number| dir.join(number.to_string()));
        let unlinks = names.map(|name| {
            fs::write(&name, "").unwrap();
            let unlink = ring.unlinkat(CWD, &name, AtFlags::empty());
            (name, unlink)
        });
        let statx = || ring.statx(CWD, &path, AtFlags::empty(), StatxFlags::SIZE);
        Self {
            stats: (0..stats).map(|_| statx()).collect(),
            syncs: (0..syncs).map(|_| ring.fsync(&file)).collect(),
            unlinks: unlinks.collect(),
        }
    }

    fn finish(self, ring: &Ring) -> Tally {
        let mut tally = Tally::default();
        for stat in Way::ByHand.finish_all(ring, self.stats) {
            tally.count(&stat.map(|stat| assert_eq!(stat.size(), Some(17))));
        }
        for sync in Way::ByHand.finish_all(ring, self.syncs) {
            tally.count(&sync);
        }
        let (names, unlinks): (Vec<_>, Vec<_>) = self.unlinks.into_iter().unzip();
        for (name, result) in names.iter().zip(Way::ByHand.finish_all(ring, unlinks)) {
            tally.count(&result);
            assert_eq!(name.exists(), result.is_err(), "it is done if it says so, and only then");
        }
        tally
    }
}

/// How ops ended: there are two ways.
#[derive(Default)]
struct Tally {
    done: usize,
    saturated: usize,
}

impl Tally {
    fn count(&mut self, result: &io::Result<()>) {
        match result {
            Ok(()) => self.done += 1,
            Err(error) => {
                assert!(error.to_string().contains("saturated"), "not a reason: {error}");
                self.saturated += 1;
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} were done, {} said saturated", self.done, self.saturated)
    }
}
