//! Signals at the thread that submits, faster than the kernel can make a worker.
//!
//! A signal that is pending while a worker is being made ends the op with ECANCELED: about half of
//! them at a signal every 20 us. Neither that nor EINTR is anything that the user asked for.
#![allow(unsafe_code)] // It handles a signal, and sends it to a thread.

use std::fs;
use std::hint::spin_loop;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use deferring::{AtFlags, CWD, Handle, Ring, StatxFlags, op::Statx};

use crate::report::{Hazard, long};
use crate::support::{BOUND, builder, in_a_process_for, this_test, thread_id};
use crate::way::Way;

const EVERY: Duration = Duration::from_micros(20);
/// Files of as many lengths.
const FILES: usize = 16;
/// What each thread queues: few, as workers are made at the beginning only.
const CALLS: usize = 100;
const CALLS_AT_LEAST: usize = 4_000;

#[test]
fn h05_calls_under_a_rain_of_signals_all_have_right_results_by_hand() {
    in_a_process_for(most(), this_test!(), || signals_rain(Way::ByHand));
}

#[test]
fn h05_calls_under_a_rain_of_signals_all_have_right_results_under_block_on() {
    in_a_process_for(most(), this_test!(), || signals_rain(Way::BlockOn));
}

/// How long it may take: the long form is bound to the signals that arrive.
fn most() -> Duration {
    if long() { Duration::from_secs(300) } else { BOUND }
}

fn signals_rain(way: Way) {
    // As many signals as that have to arrive meanwhile, however busy the machine is.
    let enough = if long() { 100_000 } else { 2_000 };
    handle_the_signal();
    let hazard = Hazard::begin(5);
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = (0..FILES).map(|size| file(dir.path(), size)).collect();
    let mut count = 0;
    while SIGNALS.load(Ordering::Relaxed) < enough || count < CALLS_AT_LEAST {
        // Each thread has workers of its own, so that they have to be made each time.
        thread::scope(|scope| scope.spawn(|| signals_rain_once(&files, way)).join()).unwrap();
        count += CALLS;
    }
    let signals = SIGNALS.load(Ordering::Relaxed);
    hazard.saw(format_args!("{count} statx were right under {signals} signals ({way:?})"));
}

fn signals_rain_once(files: &[PathBuf], way: Way) {
    let ring = builder().queue_depth(64).build().unwrap();
    while_signals_rain(|| call_each(&ring, files, way));
}

/// As many calls as [`CALLS`], of the files in turn.
fn call_each(ring: &Ring, files: &[PathBuf], way: Way) {
    let statx = |path| ring.statx(CWD, path, AtFlags::empty(), StatxFlags::SIZE);
    let calls: Vec<Handle<Statx>> = files.iter().cycle().take(CALLS).map(statx).collect();
    for (number, stat) in way.finish_all(ring, calls).into_iter().enumerate() {
        let stat = stat.unwrap_or_else(|error| panic!("statx {number}: {error}"));
        assert_eq!(stat.size(), Some((number % FILES) as u64));
    }
}

fn file(dir: &Path, size: usize) -> PathBuf {
    let path = dir.join(size.to_string());
    fs::write(&path, vec![b'x'; size]).unwrap();
    path
}

/// How many arrived.
static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// For the whole process, which is ours. Without `SA_RESTART`, so that calls see EINTR.
fn handle_the_signal() {
    let handler: extern "C" fn(libc::c_int) = count_signal;
    // SAFETY: zero is a good value of all its fields.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    // SAFETY: the handler does nothing but count, in an atomic.
    let done = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    assert_eq!(done, 0);
}

/// Another thread sends signals to this one until the story is told, or panics.
fn while_signals_rain(story: impl FnOnce()) {
    let (over, target) = (AtomicBool::new(false), thread_id());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                send_signal(target);
                // A sleep would take longer than that.
                let sent = Instant::now();
                while sent.elapsed() < EVERY {
                    spin_loop();
                }
            }
        });
        let _ends = Ends(&over);
        story();
    });
}

fn send_signal(thread: i32) {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: the thread is ours, it is there until the story is told, and the signal is handled.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
