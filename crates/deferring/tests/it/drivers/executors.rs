//! Executors of every kind, and loops that turn a ring by hand.
//!
//! Each runs some tasks to their ends. Not: where the rings come from (`hosts.rs`).

use std::future::Future;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use async_executor::Executor;
use deferring::Ring;
use futures_executor::LocalPool;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::task::LocalSpawnExt;
use polling::{Event, Events, PollMode, Poller};
use rustix::event::EventfdFlags;
use tokio::task::{JoinSet, LocalSet};

/// One task of a story.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes the tasks, where they will run.
pub(super) type Make = Box<dyn FnOnce() -> Vec<Task> + Send>;

/// `futures::executor`: one thread, many tasks.
pub(super) fn local_pool(make: Make) {
    let mut pool = LocalPool::new();
    for task in make() {
        pool.spawner().spawn_local(task).expect("the pool is there");
    }
    pool.run();
}

/// The smallest of all: a thread for each task.
pub(super) fn pollster(make: Make) {
    let run = |task| thread::spawn(move || pollster::block_on::<Task>(task));
    let threads: Vec<_> = make().into_iter().map(run).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("the task ends well"));
}

pub(super) fn smol(make: Make) {
    let executor = Executor::new();
    smol::block_on(executor.run(async {
        let tasks: Vec<_> = make().into_iter().map(|task| executor.spawn(task)).collect();
        join_all(tasks).await;
    }));
}

/// As async-std: worker threads and one queue, on async-io.
pub(super) fn global_queue(make: Make) {
    let queue = Executor::new();
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| async_io::block_on(queue.run(stopped.recv())));
        }
        let stop = stop; // Dropped also if a task panics.
        async_io::block_on(async {
            let tasks: Vec<_> = make().into_iter().map(|task| queue.spawn(task)).collect();
            join_all(tasks).await;
        });
        drop(stop);
    });
}

pub(super) fn tokio_current_thread(make: Make) {
    on_tokio(&mut tokio::runtime::Builder::new_current_thread(), make);
}

pub(super) fn tokio_two_workers(make: Make) {
    on_tokio(tokio::runtime::Builder::new_multi_thread().worker_threads(2), make);
}

pub(super) fn tokio_eight_workers(make: Make) {
    on_tokio(tokio::runtime::Builder::new_multi_thread().worker_threads(8), make);
}

fn on_tokio(builder: &mut tokio::runtime::Builder, make: Make) {
    builder.enable_all().build().expect("a runtime").block_on(async {
        let mut tasks: JoinSet<()> = make().into_iter().collect();
        while let Some(ended) = tasks.join_next().await {
            ended.expect("the task ends well");
        }
    });
}

pub(super) fn tokio_local_set(make: Make) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let tasks: Vec<_> = make().into_iter().map(tokio::task::spawn_local).collect();
        for task in tasks {
            task.await.expect("the task ends well");
        }
    });
}

/// Turns the first ring for the tasks; the others have threads of their own.
pub(super) fn block_on(rings: &[Ring], tasks: Vec<Task>) {
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    thread::scope(|scope| {
        for ring in &rings[1..] {
            let stopped = stopped.clone();
            scope.spawn(move || deferring::block_on(ring, async { stopped.recv().await.is_err() }));
        }
        let stop = stop; // Dropped also if a task panics.
        deferring::block_on(&rings[0], join_all(tasks));
        drop(stop);
    });
}

/// Each of two threads has half of the tasks, and turns all rings between.
pub(super) fn by_hand_from_two_threads(rings: &[Ring], mut tasks: Vec<Task>) {
    let others = tasks.split_off(tasks.len() / 2);
    let left = AtomicUsize::new(2);
    let turn = |tasks: Vec<Task>| {
        let mut pool = LocalPool::new();
        let count = tasks.len();
        let ended = Arc::new(AtomicUsize::new(0));
        for task in tasks {
            let ended = Arc::clone(&ended);
            let task = async move {
                task.await;
                ended.fetch_add(1, Ordering::SeqCst);
            };
            pool.spawner().spawn_local(task).expect("the pool is there");
        }
        let mut all = false;
        // Both stay to the end: they reap for each other.
        while left.load(Ordering::SeqCst) > 0 {
            pool.run_until_stalled();
            if ended.load(Ordering::SeqCst) == count && !std::mem::replace(&mut all, true) {
                left.fetch_sub(1, Ordering::SeqCst);
            }
            for ring in rings {
                ring.submit().expect("submits");
                // The other one may reap what this one waits for.
                ring.wait(Some(Duration::from_micros(200))).expect("waits");
                ring.reap().expect("reaps");
            }
        }
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let _ends = Ends(&left);
            turn(others);
        });
        let ends = Ends(&left);
        turn(tasks);
        drop(ends);
        other.join().expect("the tasks end well");
    });
}

/// If a thread panics, the other one need not wait for it.
struct Ends<'a>(&'a AtomicUsize);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(0, Ordering::SeqCst);
        }
    }
}

/// An event loop in which each ring is one more descriptor.
pub(super) fn epoll_with_the_ring(rings: &[Ring], tasks: Vec<Task>) {
    let rings: Vec<_> = rings.iter().map(|ring| (ring, ring.as_fd())).collect();
    event_loop(&rings, tasks, |_| {});
}

/// An event loop in which an eventfd stands for each ring.
pub(super) fn epoll_with_an_eventfd(rings: &[Ring], tasks: Vec<Task>) {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let watch = |ring: &Ring| {
        let eventfd = rustix::event::eventfd(0, flags).expect("an eventfd");
        ring.register_eventfd(&eventfd).expect("registers");
        eventfd
    };
    let eventfds: Vec<_> = rings.iter().map(watch).collect();
    let watched: Vec<_> =
        rings.iter().zip(&eventfds).map(|(ring, eventfd)| (ring, eventfd.as_fd())).collect();
    event_loop(&watched, tasks, |at| {
        rustix::io::read(&eventfds[at], &mut [0u8; 8]).expect("it was readable");
    });
}

/// Sleeps in epoll alone, without a bound of time: what is forgotten hangs. `quiet` is called
/// before a ring is reaped.
fn event_loop(
    rings: &[(&Ring, std::os::fd::BorrowedFd<'_>)],
    tasks: Vec<Task>,
    quiet: impl Fn(usize),
) {
    let call =
        Arc::new(Call { woken: AtomicBool::new(true), poller: Poller::new().expect("epoll") });
    for (key, (_, fd)) in rings.iter().enumerate() {
        let event = Event::readable(key);
        // SAFETY: it is deleted below, before the descriptor is closed.
        let added = unsafe { call.poller.add_with_mode(fd, event, PollMode::Level) };
        added.expect("epoll takes it");
    }
    let waker = Waker::from(Arc::clone(&call));
    let mut tasks: FuturesUnordered<_> = tasks.into_iter().collect();
    let mut events = Events::new();
    'tasks: loop {
        while call.woken.swap(false, Ordering::SeqCst) {
            match tasks.poll_next_unpin(&mut Context::from_waker(&waker)) {
                Poll::Ready(None) => break 'tasks,
                Poll::Ready(Some(())) => call.woken.store(true, Ordering::SeqCst),
                Poll::Pending => break,
            }
        }
        for (ring, _) in rings {
            ring.submit().expect("submits");
        }
        events.clear();
        call.poller.wait(&mut events, None).expect("waits");
        for event in events.iter() {
            quiet(event.key);
            rings[event.key].0.reap().expect("reaps");
        }
    }
    for (_, fd) in rings {
        call.poller.delete(fd).expect("it was added");
    }
}

/// Calls the loop.
struct Call {
    woken: AtomicBool,
    poller: Poller,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.poller.notify().expect("an eventfd");
    }
}
