//! What a ring has done, and is doing: counters that can be read without a lock.
//!
//! Written by whoever holds the ring's lock, read by anybody. Not: what they count.

use crate::op::{Class, Kind};
use crate::sync::Ordering;
use crate::sync::plain::{AtomicBool, AtomicU64, Mutex};
use crate::trace::{Note, Notes};

/// What a ring has done so far, and what is out. A snapshot: each number is right by itself, as of
/// the last turn of the ring; together they may be of slightly different moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// SQEs given to the kernel: ops, and cancels.
    pub sqes: u64,
    /// SQEs of the ring's own: timeouts, at most one for each tick and deadline, and tests of
    /// whether there are workers. Not the poll by which a sleeping thread is called.
    pub own_sqes: u64,
    /// `io_uring_enter` calls.
    pub enters: u64,
    /// Ops that ended.
    pub ended: u64,
    /// Ops that did not happen, or not in full, since somebody had asked for that.
    pub cancelled: u64,
    /// Ops that wait in the ring, wherever.
    pub queued: usize,
    /// Cancels that wait or that the kernel has not answered.
    pub cancels: usize,
    /// Ops that were found to hold a worker for longer than a tick; each was replaced.
    pub stuck: u64,
    /// How many workers this ring asks the kernel to allow its submitting threads.
    pub workers: u32,
    /// How often that number was raised.
    pub workers_raised: u64,
    /// How often a reap found that completions had not fit into their queue, and fetched them.
    /// (A thread that sleeps in the ring fetches them by that, uncounted.)
    pub overflows: u64,
    /// Ops that the kernel gave back undone, unasked, and that were sent again.
    pub resubmits: u64,
    /// Cancels that were given to the kernel.
    pub cancels_sent: u64,
    /// Cancels that came after their op had ended.
    pub cancels_late: u64,
    /// Ops that were given up at their deadline.
    pub timed_out: u64,
    /// How often ops had to be refused, or taken back, since the system gave no more workers.
    pub saturated: u64,
    /// Ops whose memory stays with the kernel for ever.
    pub leaked: u64,
    /// The kernel refuses the ring's system calls for good.
    pub poisoned: bool,
    classes: [ClassStats; Class::COUNT],
}

/// What is out of one class of ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ClassStats {
    /// Ops that wait for a credit. (Ops that wait for the next submit are of no class yet.)
    pub queued: usize,
    /// Ops that the kernel has.
    pub in_flight: usize,
    /// Those of them that are stuck.
    pub stuck: usize,
    /// How many that are not stuck may be in flight at once; `None` if there is no limit.
    pub credits: Option<usize>,
}

impl Stats {
    /// What is out of one class.
    #[must_use]
    pub fn class(&self, class: Class) -> ClassStats {
        self.classes[class.index()]
    }

    /// How many SQEs each `io_uring_enter` carried, on average. Waits without any count, too.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // A mean of counters.
    pub fn sqes_per_enter(&self) -> f64 {
        if self.enters == 0 { 0.0 } else { self.sqes as f64 / self.enters as f64 }
    }
}

/// A number that only the holder of the ring's lock changes.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Not an atomic addition: nobody else writes.
    pub(crate) fn add(&self, n: u64) {
        self.set(self.get() + n);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.set(self.get() - n);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn size(&self) -> usize {
        usize::try_from(self.get()).unwrap_or(usize::MAX)
    }
}

/// The counters of one ring.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sqes: Counter,
    pub(crate) own_sqes: Counter,
    pub(crate) ended: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) stuck: Counter,
    pub(crate) workers: Counter,
    pub(crate) workers_raised: Counter,
    pub(crate) resubmits: Counter,
    pub(crate) cancels_sent: Counter,
    pub(crate) cancels_late: Counter,
    pub(crate) timed_out: Counter,
    pub(crate) saturated: Counter,
    /// Not under the lock.
    pub(crate) overflows: AtomicU64,
    /// Ops that ended at once, without the ring.
    pub(crate) answered: AtomicU64,
    pub(crate) poisoned: AtomicBool,
    /// What happened outside the lock, to be told with the next reap.
    notes: Mutex<Notes>,
    noted: AtomicBool,
    /// New ops, and others that wait.
    fresh: Counter,
    behind: Counter,
    cancels: Counter,
    leaked: Counter,
    classes: [ClassCounters; Class::COUNT],
}

#[derive(Debug, Default)]
struct ClassCounters {
    queued: Counter,
    in_flight: Counter,
    stuck: Counter,
    credits: Counter,
}

impl Counters {
    /// Keeps what is to be told with the next reap: a subscriber is the user's code, and whoever
    /// notes something may hold the seat.
    pub(crate) fn note(&self, note: Note) {
        self.notes.lock().push(note);
        self.noted.store(true, Ordering::Release);
    }

    pub(crate) fn take_notes(&self, notes: &mut Notes) {
        if self.noted.load(Ordering::Acquire) {
            self.take_noted(notes);
        }
    }

    #[cold]
    fn take_noted(&self, notes: &mut Notes) {
        self.noted.store(false, Ordering::Release);
        notes.append(&mut self.notes.lock());
    }

    /// So many ops have not been looked at, and so many wait in all.
    pub(crate) fn publish_queued(&self, fresh: usize, waiting: usize) {
        self.fresh.set(fresh as u64);
        self.behind.set(waiting.saturating_sub(fresh) as u64);
    }

    /// So many ops have not been looked at.
    pub(crate) fn queued(&self, fresh: usize) {
        self.fresh.set(fresh as u64);
    }

    pub(crate) fn publish(&self, queued: usize, cancels: usize, leaked: usize) {
        self.behind.set((queued as u64).saturating_sub(self.fresh.get()));
        self.cancels.set(cancels as u64);
        self.leaked.set(leaked as u64);
    }

    /// Ops of a class that an SQE names.
    pub(crate) fn in_kernel(&self, class: u8) -> &Counter {
        &self.classes[usize::from(class)].in_flight
    }

    /// Ops that an SQE names.
    pub(crate) fn submitted(&self) -> usize {
        self.classes.iter().map(|class| class.in_flight.size()).sum()
    }

    /// The ring is given up, and with it what the kernel has.
    pub(crate) fn none_submitted(&self) {
        self.classes.iter().for_each(|class| class.in_flight.set(0));
    }

    /// What of a kind waits, holds a credit, has lost one by being stuck; and how many there are.
    pub(crate) fn publish_crew(&self, kind: Kind, [queued, _, stuck, credits]: [usize; 4]) {
        let counters = &self.classes[Class::Worker(kind).index()];
        counters.queued.set(queued as u64);
        counters.stuck.set(stuck as u64);
        counters.credits.set(credits as u64);
    }

    pub(crate) fn snapshot(&self, enters: u64) -> Stats {
        // Of what needs no worker there are none.
        let limited = |credits: &Counter| (credits.get() > 0).then(|| credits.size());
        let class = |counters: &ClassCounters| ClassStats {
            queued: counters.queued.size(),
            in_flight: counters.in_flight.size(),
            stuck: counters.stuck.size(),
            credits: limited(&counters.credits),
        };
        Stats {
            sqes: self.sqes.get(),
            own_sqes: self.own_sqes.get(),
            enters,
            ended: self.ended.get() + self.answered.load(Ordering::Relaxed),
            cancelled: self.cancelled.get(),
            queued: self.fresh.size() + self.behind.size(),
            cancels: self.cancels.size(),
            stuck: self.stuck.get(),
            workers: u32::try_from(self.workers.get()).unwrap_or(u32::MAX),
            workers_raised: self.workers_raised.get(),
            overflows: self.overflows.load(Ordering::Relaxed),
            resubmits: self.resubmits.get(),
            cancels_sent: self.cancels_sent.get(),
            cancels_late: self.cancels_late.get(),
            timed_out: self.timed_out.get(),
            saturated: self.saturated.get(),
            leaked: self.leaked.get(),
            poisoned: self.poisoned.load(Ordering::Relaxed),
            classes: self.classes.each_ref().map(class),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_says_what_was_published() {
        let counters = Counters::default();
        counters.queued(3);
        counters.publish(5, 1, 2);
        let class = ClassStats { queued: 2, in_flight: 7, stuck: 1, credits: Some(32) };
        counters.publish_crew(Kind::Path, [2, 0, 1, 32]);
        let path = u8::try_from(Class::Worker(Kind::Path).index()).unwrap();
        counters.in_kernel(path).add(8);
        counters.in_kernel(path).sub(1);
        counters.sqes.add(10);
        let stats = counters.snapshot(4);
        assert_eq!((stats.queued, stats.cancels, stats.leaked), (5, 1, 2));
        assert_eq!(stats.class(Class::Worker(Kind::Path)), class);
        assert_eq!(stats.class(Class::Control), ClassStats::default());
        assert!((stats.sqes_per_enter() - 2.5).abs() < f64::EPSILON);
    }
}
