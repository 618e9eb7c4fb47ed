//! Hosts: who makes a ring, who turns it, and who runs the tasks of a story.
//!
//! Not: what the executors are (`executors.rs`), nor what they are told (`stories.rs`).

use deferring::Ring;

use super::executors::{self, Make};
use crate::support::{bounded, builder, drain, until};

pub(super) use super::executors::Task;

/// A way to run tasks that use a ring.
#[derive(Clone, Copy)]
pub(super) struct Host {
    pub(super) name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A driver turns the rings, which are started where the tasks run.
    Driven { start: fn() -> Ring, run: fn(Make) },
    /// The host turns the rings itself.
    Turns { run: fn(&[Ring], Vec<Task>) },
}

impl Host {
    pub(super) const fn is_driven(self) -> bool {
        matches!(self.kind, Kind::Driven { .. })
    }

    /// Runs the tasks of a story to their ends, within a bound; then looks whether anything is left
    /// in the rings, which whoever turns them has to see to.
    pub(super) fn tell(
        self,
        rings: usize,
        story: impl FnOnce(&[Ring]) -> Vec<Task> + Send + 'static,
    ) {
        bounded(move || match self.kind {
            Kind::Driven { start, run } => {
                let (keep, kept) = std::sync::mpsc::channel();
                run(Box::new(move || {
                    let rings: Vec<_> = (0..rings).map(|_| start()).collect();
                    let tasks = story(&rings);
                    keep.send(rings).expect("somebody listens");
                    tasks
                }));
                // The runtime may be gone by now; the ring goes on.
                for ring in kept.recv().expect("the story has begun") {
                    until("nothing is left", || is_empty(&ring));
                }
            }
            Kind::Turns { run } => {
                let build = |_| builder().queue_depth(32).build().expect("a ring");
                let rings: Vec<_> = (0..rings).map(build).collect();
                run(&rings, story(&rings));
                rings.iter().for_each(drain);
            }
        });
    }

    /// The same, for a story that has the only ring to itself. For driven hosts.
    pub(super) fn give(self, story: impl FnOnce(Ring) -> Vec<Task> + Send + 'static) {
        bounded(move || match self.kind {
            Kind::Driven { start, run } => run(Box::new(move || story(start()))),
            Kind::Turns { .. } => panic!("{} cannot do without its ring", self.name),
        });
    }
}

fn is_empty(ring: &Ring) -> bool {
    ring.in_flight() == 0 && ring.pending().cancels == 0
}

/// No time to wait for what hangs: a story that needs the drain's deadline is wrong.
fn undying() -> deferring::Builder {
    builder().queue_depth(32).drain_timeout(std::time::Duration::MAX)
}

fn own_thread() -> Ring {
    undying().start().expect("a ring with a thread")
}

#[cfg(feature = "async-io")]
fn on_async_io() -> Ring {
    undying().start_on_async_io().expect("a ring on async-io")
}

#[cfg(feature = "tokio")]
fn on_tokio() -> Ring {
    undying().start_on_tokio().expect("a ring on tokio")
}

macro_rules! driven {
    ($($(#[$condition:meta])* $name:ident: $start:ident, $run:ident;)*) => { $(
        $(#[$condition])*
        pub(super) const fn $name() -> Host {
            let kind = Kind::Driven { start: $start, run: executors::$run };
            Host { name: stringify!($name), kind }
        }
    )* };
}

driven! {
    own_thread_futures_executor: own_thread, local_pool;
    own_thread_pollster: own_thread, pollster;
    own_thread_smol: own_thread, smol;
    own_thread_global_queue: own_thread, global_queue;
    own_thread_tokio: own_thread, tokio_two_workers;
    #[cfg(feature = "async-io")]
    async_io_futures_executor: on_async_io, local_pool;
    #[cfg(feature = "async-io")]
    async_io_smol: on_async_io, smol;
    #[cfg(feature = "async-io")]
    async_io_global_queue: on_async_io, global_queue;
    #[cfg(feature = "tokio")]
    tokio_current_thread: on_tokio, tokio_current_thread;
    #[cfg(feature = "tokio")]
    tokio_two_workers: on_tokio, tokio_two_workers;
    #[cfg(feature = "tokio")]
    tokio_eight_workers: on_tokio, tokio_eight_workers;
    #[cfg(feature = "tokio")]
    tokio_local_set: on_tokio, tokio_local_set;
}

macro_rules! turns {
    ($($name:ident)*) => { $(
        pub(super) const fn $name() -> Host {
            Host { name: stringify!($name), kind: Kind::Turns { run: executors::$name } }
        }
    )* };
}

turns! { block_on by_hand_from_two_threads epoll_with_the_ring epoll_with_an_eventfd }
