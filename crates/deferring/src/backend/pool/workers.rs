//! Threads that make blocking calls.
//!
//! They are made when something waits and none is idle, up to a limit that the ring raises for
//! every op that is stuck, and end when they have been idle for a while. Not: what they do
//! (`exec.rs`), nor who waits for their end (`threads.rs`).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rustix::io::Errno;

use super::Shared;
use super::threads::Threads;
use crate::op::Sqe;
use crate::sync::Arc;
use crate::sync::plain::{Condvar, Mutex};

/// How long a thread stays without work.
const IDLE_MAX: Duration = Duration::from_secs(10);

const NAME: &str = "deferring-pool";

/// How much may wait without a new allocation.
const AT_ONCE: usize = 64;

/// As the kernel answers an op for which no thread can be made.
const NO_THREAD: Errno = Errno::CANCELED;

pub(super) struct Workers {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    queue: VecDeque<Job>,
    /// By `user_data`: what runs, or is ready to; and whether its cancel was asked for.
    running: HashMap<u64, bool>,
    threads: u32,
    idle: u32,
    /// Threads that have not looked for work yet.
    new: u32,
    /// How many the ring allows, and the user.
    most: u32,
    most_ever: u32,
    ended: bool,
}

struct Job {
    sqe: Sqe,
    /// It may have to wait again.
    waits: bool,
    /// Its file cannot tell whether it would.
    blind: bool,
}

/// What a cancel has found.
pub(super) enum Cancelled {
    /// An op that waited, which is its to answer.
    Taken(Sqe),
    Runs,
    Unknown,
}

impl State {
    fn is_busy(&self) -> bool {
        self.waiting() > self.idle + self.new
    }

    fn waiting(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }
}

impl Workers {
    pub(super) fn new(most: u32) -> Self {
        let state = State {
            queue: VecDeque::with_capacity(AT_ONCE),
            running: HashMap::new(),
            threads: 0,
            idle: 0,
            new: 0,
            most: most.max(1),
            most_ever: most.max(1),
            ended: false,
        };
        Self { state: Mutex::new(state), work: Condvar::new() }
    }

    pub(super) fn limit(&self, most: u32) {
        let mut state = self.state.lock();
        state.most = most.clamp(1, state.most_ever);
    }

    pub(super) fn count(&self) -> crate::inflight::Workers {
        let all = self.state.lock().threads as usize;
        // If nobody can tell, some do.
        crate::inflight::Workers { all, running: running().unwrap_or(all) }
    }

    pub(super) fn add(shared: &Arc<Shared>, sqe: Sqe, waits: bool) {
        shared.workers.state.lock().queue.push_back(Job { sqe, waits, blind: false });
        Self::serve(shared);
    }

    /// Sees to it that what waits is done.
    pub(super) fn serve(shared: &Arc<Shared>) {
        let this = &shared.workers;
        // As many as there is to do, if more may be made now than before.
        while this.wants_thread() {
            let kept = Arc::clone(shared);
            if Threads::spawn(&shared.threads, NAME, kept, run).is_err() {
                return this.got_none(shared);
            }
        }
        this.work.notify_one();
    }

    /// Whether somebody is to make a thread. It is counted from now on.
    fn wants_thread(&self) -> bool {
        let mut state = self.state.lock();
        let wants = state.is_busy() && state.threads < state.most;
        if wants {
            state.threads += 1;
            state.new += 1;
        }
        wants
    }

    fn got_none(&self, shared: &Shared) {
        let mut state = self.state.lock();
        state.threads -= 1;
        state.new -= 1;
        // With others at work, it waits for them. With none, nobody would ever do it.
        let lost =
            if state.threads == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() };
        for job in &lost {
            state.running.remove(&job.sqe.user_data);
        }
        drop(state);
        for job in lost {
            shared.answer(&job.sqe, Err(NO_THREAD));
        }
    }

    /// Whether something waits for a thread, and none can be made.
    pub(super) fn are_busy(&self) -> bool {
        self.state.lock().is_busy()
    }

    /// A transfer that waits for a thread, none can be made, and it may need none.
    pub(super) fn next_without_thread(&self) -> Option<Sqe> {
        let mut state = self.state.lock();
        if !state.is_busy() {
            return None;
        }
        let at = state.queue.iter().position(|job| job.waits && !job.blind)?;
        let job = state.queue.remove(at)?;
        state.running.entry(job.sqe.user_data).or_insert(false);
        Some(job.sqe)
    }

    /// An op will be added, and can be cancelled meanwhile.
    pub(super) fn expect(&self, sqe: &Sqe) {
        self.state.lock().running.insert(sqe.user_data, false);
    }

    /// It does need one.
    pub(super) fn give_back(&self, sqe: Sqe) {
        self.state.lock().queue.push_front(Job { sqe, waits: true, blind: true });
        self.work.notify_one();
    }

    /// Takes an op back that nobody has begun; has one that runs not wait again.
    pub(super) fn cancel(&self, user_data: u64) -> Cancelled {
        let mut state = self.state.lock();
        if let Some(at) = state.queue.iter().position(|job| job.sqe.user_data == user_data) {
            state.running.remove(&user_data);
            let job = state.queue.remove(at).expect("just found");
            return Cancelled::Taken(job.sqe);
        }
        match state.running.get_mut(&user_data) {
            Some(asked) => {
                *asked = true;
                Cancelled::Runs
            }
            None => Cancelled::Unknown,
        }
    }

    /// An op is about to be answered, or waits again. Whether its cancel was asked for meanwhile.
    pub(super) fn over(&self, sqe: &Sqe) -> bool {
        self.state.lock().running.remove(&sqe.user_data).unwrap_or(false)
    }

    /// How many threads are in a call.
    pub(super) fn busy(&self) -> usize {
        self.state.lock().running.len()
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
                state.running.entry(job.sqe.user_data).or_insert(false);
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
    shared.workers.state.lock().new -= 1;
    while let Some(job) = shared.workers.next() {
        shared.done_by_worker(job.sqe, job.waits);
    }
}

/// How many threads of all pools run, or wait for a processor: as `/proc` tells.
fn running() -> Option<usize> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?.filter_map(Result::ok);
    // One may have ended meanwhile.
    let runs = |task: &std::fs::DirEntry| {
        let stat = std::fs::read(task.path().join("stat")).unwrap_or_default();
        stat.windows(RUNS.len()).any(|part| part == RUNS)
    };
    Some(tasks.filter(runs).count())
}

/// As `stat` begins, after the number.
const RUNS: &[u8] = b"(deferring-pool) R";
