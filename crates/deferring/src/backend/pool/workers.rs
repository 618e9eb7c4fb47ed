//! Threads that make blocking calls.
//!
//! They are made when something waits and none is idle, up to a limit that the ring raises for
//! every op that is stuck, and end when they have been idle for a while. Nobody joins them. Not:
//! what they do (`exec.rs`).

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use rustix::io::Errno;

use super::Shared;
use crate::op::Sqe;
use crate::sync::Arc;
use crate::sync::plain::{Condvar, Mutex};
use crate::threads;

/// How long a thread stays without work.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// As the kernel answers an op for which no thread can be made.
const NO_THREAD: Errno = Errno::CANCELED;

pub(super) struct Workers {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    queue: VecDeque<Job>,
    /// By `user_data`.
    running: HashSet<u64>,
    threads: u32,
    idle: u32,
    most: u32,
    ended: bool,
}

struct Job {
    sqe: Sqe,
    /// It may have to wait again.
    waits: bool,
}

impl Workers {
    pub(super) fn new(most: u32) -> Self {
        let state = State {
            queue: VecDeque::new(),
            running: HashSet::new(),
            threads: 0,
            idle: 0,
            most: most.max(1),
            ended: false,
        };
        Self { state: Mutex::new(state), work: Condvar::new() }
    }

    pub(super) fn limit(&self, most: u32) {
        self.state.lock().most = most.max(1);
    }

    pub(super) fn count(&self) -> crate::inflight::Workers {
        let state = self.state.lock();
        let running = state.running.len();
        crate::inflight::Workers { all: state.threads as usize, running }
    }

    pub(super) fn add(shared: &Arc<Shared>, sqe: Sqe, waits: bool) {
        shared.workers.state.lock().queue.push_back(Job { sqe, waits });
        Self::serve(shared);
    }

    /// Sees to it that what waits is done.
    pub(super) fn serve(shared: &Arc<Shared>) {
        let this = &shared.workers;
        let mut state = this.state.lock();
        let waiting = u32::try_from(state.queue.len()).unwrap_or(u32::MAX);
        if waiting <= state.idle || state.threads >= state.most {
            drop(state);
            this.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let kept = Arc::clone(shared);
        if threads::spawn("deferring-pool", move || run(&kept)).is_ok() {
            return;
        }
        let mut state = this.state.lock();
        state.threads -= 1;
        // With others at work, it waits for them. With none, nobody would ever do it.
        let lost =
            if state.threads == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() };
        drop(state);
        for job in lost {
            shared.answer(&job.sqe, Err(NO_THREAD));
        }
    }

    /// Takes an op back that nobody has begun.
    pub(super) fn take(&self, is_it: impl Fn(&Sqe) -> bool) -> Option<Sqe> {
        let mut state = self.state.lock();
        let at = state.queue.iter().position(|job| is_it(&job.sqe))?;
        state.queue.remove(at).map(|job| job.sqe)
    }

    pub(super) fn runs(&self, user_data: u64) -> bool {
        self.state.lock().running.contains(&user_data)
    }

    /// An op is about to be answered, or waits again.
    pub(super) fn over(&self, sqe: &Sqe) {
        self.state.lock().running.remove(&sqe.user_data);
    }

    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        drop(state);
        self.work.notify_all();
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                state.running.insert(job.sqe.user_data);
                return Some(job);
            }
            if state.ended {
                break;
            }
            state.idle += 1;
            let (awake, late) = self.work.wait_timeout(state, IDLE_MAX);
            state = awake;
            state.idle -= 1;
            if late && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        None
    }
}

fn run(shared: &Arc<Shared>) {
    while let Some(job) = shared.workers.next() {
        shared.done_by_worker(job.sqe, job.waits);
    }
}
