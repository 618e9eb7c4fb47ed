//! Small stories, in every order: leases and closes, the seat and its bell, one result for two.
//!
//! A story that hangs is a wake-up that is lost: loom says "deadlock". The bounds on preemptions
//! are what ends within a minute; each story says its own.

#![allow(unsafe_code)] // A lock of their own.

use std::task::{Poll, Waker};
use std::time::Duration;

use loom::cell::UnsafeCell;

use super::{Ask, Flag, Unparks, alive, begin, host, keeper, park_on, ring};
use crate::backend::toy;
use crate::block_on;
use crate::fd::Fd;
use crate::sync::bias::{Bias, Seated};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, thread};

/// Tells a story in every order with at most so many preemptions of a thread that could go on.
fn tell(preemptions: usize, story: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    model.check(move || {
        begin();
        story();
    });
}

/// Runs a part of a story on a thread with a stack for all of the library.
fn spawn<T: Send + 'static>(
    part: impl FnOnce() -> T + Send + 'static,
) -> loom::thread::JoinHandle<T> {
    loom::thread::Builder::new().stack_size(STACK).spawn(part).unwrap()
}

/// In words.
const STACK: usize = 32 << 10;

// The lock that is somebody's.

/// As the lock of a ring (`sync/lock.rs`), around a number that loom watches.
struct Biased {
    bias: Bias,
    raw: Mutex<()>,
    value: UnsafeCell<u32>,
}

// SAFETY: that is what the story is about; loom fails it otherwise.
unsafe impl Sync for Biased {}

/// The two who own it, by turns.
const NUMBERS: [usize; 2] = [8, 16];

fn seated(thread: usize) -> Seated {
    Seated::at(NUMBERS[thread], thread)
}

impl Biased {
    fn of(bias: Bias) -> Arc<Self> {
        Arc::new(Self { bias, raw: Mutex::new(()), value: UnsafeCell::new(0) })
    }

    fn add_one(&self) {
        // SAFETY: as above.
        self.value.with_mut(|value| unsafe { *value += 1 });
    }

    /// As that thread, who may be the owner.
    fn add_as(&self, thread: usize) {
        if let Some(inside) = self.bias.enter(NUMBERS[thread]) {
            self.add_one();
            inside.leave();
        } else {
            self.add_as_another();
        }
    }

    fn add_as_another(&self) {
        let _guard = self.raw.lock();
        self.take_back();
        self.add_one();
    }

    /// With `raw`.
    fn take_back(&self) {
        if self.bias.is_somebodys() {
            self.bias.take_back().unwrap();
        }
    }

    /// As that thread, who becomes its owner.
    fn own(&self, thread: usize) {
        let guard = self.raw.lock();
        self.take_back();
        let inside = self.bias.give_to(seated(thread));
        drop(guard);
        self.add_one();
        inside.leave();
    }

    fn assert_is(&self, times: u32) {
        // SAFETY: nobody else is there.
        self.value.with(|value| assert_eq!(unsafe { *value }, times));
    }
}

#[test]
fn loom_a_lock_that_is_taken_back_is_had_by_one_at_a_time() {
    tell(4, || {
        let lock = Biased::of(Bias::to(seated(0)));
        let owner = {
            let lock = Arc::clone(&lock);
            spawn(move || {
                lock.add_as(0);
                lock.add_as(0);
            })
        };
        lock.add_as_another();
        owner.join().unwrap();
        lock.assert_is(3);
    });
}

#[test]
fn loom_who_comes_when_a_lock_becomes_somebodys_waits_for_them() {
    tell(4, || {
        let lock = Biased::of(Bias::to_nobody());
        let owner = {
            let lock = Arc::clone(&lock);
            spawn(move || {
                lock.own(0);
                lock.add_as(0);
            })
        };
        lock.add_as_another();
        owner.join().unwrap();
        lock.assert_is(3);
    });
}

#[test]
fn loom_who_was_the_owner_does_not_let_others_in_to_the_next_one() {
    tell(4, || {
        let lock = Biased::of(Bias::to(seated(0)));
        let former = {
            let lock = Arc::clone(&lock);
            spawn(move || lock.add_as(0))
        };
        lock.own(1);
        lock.add_as(1);
        former.join().unwrap();
        lock.assert_is(3);
    });
}

#[test]
fn loom_a_lock_goes_from_owner_to_owner_and_back() {
    tell(3, || {
        let lock = Biased::of(Bias::to(seated(0)));
        let first = {
            let lock = Arc::clone(&lock);
            spawn(move || {
                lock.add_as(0);
                lock.own(0);
                lock.add_as(0);
            })
        };
        lock.own(1);
        lock.add_as(1);
        first.join().unwrap();
        lock.assert_is(5);
    });
}

// Leases and closes.

/// Uses a descriptor as an op does, if it can be had.
fn use_it(fd: &Fd) {
    let lease = fd.lease();
    if lease.check().is_ok() {
        assert!(toy::is_open(lease.raw()), "open while the lease lasts");
        let raw = lease.raw();
        loom::thread::yield_now();
        assert!(toy::is_open(raw), "and to its end");
    }
}

/// Closes as `Closing` does, and sleeps until it is closed.
fn close_it(fd: &Fd) {
    fd.start_close();
    assert!(fd.lease().check().is_err(), "no new leases");
    loop {
        let waker = Waker::from(Arc::new(Unparks(thread::current())));
        match fd.poll_drained(Some(waker)) {
            Poll::Ready(Some(drained)) => {
                toy::close(drained.raw());
                drained.closed();
                return;
            }
            Poll::Ready(None) => return,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn loom_a_close_waits_for_the_lease_and_is_made_once() {
    tell(4, || {
        let raw = toy::new_number();
        let fd = Fd::of_toy(raw);
        let user = {
            let fd = fd.clone();
            spawn(move || use_it(&fd))
        };
        close_it(&fd);
        assert!(!toy::is_open(raw));
        user.join().unwrap();
    });
}

#[test]
fn loom_of_two_closers_one_closes_and_both_go_on() {
    tell(3, || {
        let raw = toy::new_number();
        let fd = Fd::of_toy(raw);
        let part = |part: fn(&Fd)| {
            let fd = fd.clone();
            spawn(move || part(&fd))
        };
        let (user, closer) = (part(use_it), part(close_it));
        close_it(&fd);
        assert!(!toy::is_open(raw));
        user.join().unwrap();
        closer.join().unwrap();
    });
}

#[test]
fn loom_a_close_that_nobody_waits_for_is_made_by_whoever_is_last() {
    tell(4, || {
        let raw = toy::new_number();
        let fd = Fd::of_toy(raw);
        let users = [(); 2].map(|()| {
            let fd = fd.clone();
            spawn(move || use_it(&fd))
        });
        fd.start_close();
        // It asks once, then gives up, as a `Closing` that is dropped.
        match fd.poll_drained(Some(Waker::noop().clone())) {
            Poll::Ready(drained) => drop(drained),
            Poll::Pending => fd.close_unattended(),
        }
        for each in users {
            each.join().unwrap();
        }
        assert!(!toy::is_open(raw), "though there is a clone still");
        drop(fd);
    });
}

#[test]
fn loom_a_descriptor_that_nobody_closes_is_closed_with_its_last_lease() {
    tell(4, || {
        let raw = toy::new_number();
        let fd = Fd::of_toy(raw);
        let users = [(); 2].map(|()| {
            let fd = fd.clone();
            spawn(move || use_it(&fd))
        });
        drop(fd);
        for each in users {
            each.join().unwrap();
        }
        assert!(!toy::is_open(raw));
    });
}

// The seat and its bell.

#[test]
fn loom_whoever_wakes_a_sleeping_block_on_is_heard() {
    tell(4, || {
        let (ring, flag) = (ring(4), Arc::new(Flag::default()));
        let other = {
            let flag = Arc::clone(&flag);
            spawn(move || flag.raise())
        };
        block_on(&ring, flag.wait());
        other.join().unwrap();
    });
}

#[test]
fn loom_what_another_thread_queues_is_sent_by_the_sleeper() {
    tell(4, || {
        let (ring, handle) = (ring(4), Arc::new(Mutex::new(None)));
        let flag = Arc::new(Flag::default());
        let other = {
            let (ring, handle, flag) = (ring.clone(), Arc::clone(&handle), Arc::clone(&flag));
            spawn(move || {
                *handle.lock() = Some(ring.queue(Ask::now()));
                flag.raise();
            })
        };
        let result = block_on(&ring, async {
            flag.wait().await;
            let handle = handle.lock().take().unwrap();
            handle.await
        });
        assert_eq!(result.unwrap(), 0);
        other.join().unwrap();
    });
}

/// Nobody wakes the future before the op has ended: only the bell tells the sleeper to send it.
#[test]
fn loom_an_op_queued_beside_a_sleeper_ends_without_its_waker() {
    tell(4, || {
        let (ring, ended) = (ring(4), Arc::new(Flag::default()));
        let other = {
            let (ring, ended) = (ring.clone(), Arc::clone(&ended));
            spawn(move || {
                let mut handle = std::pin::pin!(ring.queue(Ask::now()));
                let waker = Waker::from(Arc::new(Unparks(thread::current())));
                let mut cx = std::task::Context::from_waker(&waker);
                while handle.as_mut().poll(&mut cx).is_pending() {
                    thread::park();
                }
                ended.raise();
            })
        };
        block_on(&ring, ended.wait());
        other.join().unwrap();
    });
}

#[test]
fn loom_of_two_that_block_on_one_ring_both_get_on() {
    tell(4, || {
        let ring = ring(4);
        let other = {
            let ring = ring.clone();
            spawn(move || block_on(&ring, ring.queue(Ask::now())).unwrap())
        };
        block_on(&ring, ring.queue(Ask::now())).unwrap();
        other.join().unwrap();
    });
}

/// One of them waits for the other, and may have the seat meanwhile or not.
#[test]
fn loom_whoever_queued_up_for_the_seat_gets_it_when_it_is_free() {
    tell(4, || {
        let (ring, flag) = (ring(4), Arc::new(Flag::default()));
        let other = {
            let (ring, flag) = (ring.clone(), Arc::clone(&flag));
            spawn(move || {
                block_on(&ring, async {
                    ring.queue(Ask::now()).await.unwrap();
                    flag.raise();
                });
            })
        };
        block_on(&ring, flag.wait());
        other.join().unwrap();
    });
}

#[test]
fn loom_a_reap_by_hand_does_not_eat_the_bell_of_a_sleeper() {
    tell(4, || {
        let (ring, flag) = (ring(4), Arc::new(Flag::default()));
        let waker = {
            let flag = Arc::clone(&flag);
            spawn(move || flag.raise())
        };
        let reaper = {
            let ring = ring.clone();
            spawn(move || ring.reap().unwrap())
        };
        block_on(&ring, flag.wait());
        waker.join().unwrap();
        reaper.join().unwrap();
    });
}

/// The waiter sets the alarm for it, if it is told in time.
#[test]
fn loom_a_deadline_that_is_set_beside_a_wait_by_hand_comes() {
    tell(3, || {
        let ring = ring(4);
        let handle = ring.queue(Ask::never());
        ring.submit().unwrap();
        let other = spawn(move || handle.timeout(Duration::from_secs(1)));
        assert!(ring.wait(None).unwrap());
        assert_eq!(ring.reap().unwrap(), 1);
        let handle = other.join().unwrap();
        let error = handle.try_take().expect("given up").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    });
}

// Drivers.

#[test]
fn loom_a_thread_of_the_rings_own_hears_of_what_is_queued_and_of_the_end() {
    tell(3, || {
        let ring = ring(4);
        let keeper = spawn(keeper(&ring));
        park_on(ring.queue(Ask::now())).unwrap();
        drop(ring);
        keeper.join().unwrap();
        assert_eq!(alive(), 0);
    });
}

/// They end in one reap; whoever is awake calls the second waker.
#[test]
fn loom_of_two_that_a_thread_of_the_rings_own_wakes_none_is_forgotten() {
    tell(2, || {
        let ring = ring(4);
        let handles = [ring.queue(Ask::now()), ring.queue(Ask::now())];
        let keeper = spawn(keeper(&ring));
        let [one, two] = handles;
        let other = spawn(move || park_on(two).unwrap());
        park_on(one).unwrap();
        park_on(ring.queue(Ask::now())).unwrap(); // Its poll wakes the other, if that is to be done.
        other.join().unwrap();
        drop(ring);
        keeper.join().unwrap();
        assert_eq!(alive(), 0);
    });
}

#[test]
fn loom_a_thread_of_the_rings_own_ends_what_is_out_with_the_ring() {
    tell(3, || {
        let ring = ring(4);
        let keeper = spawn(keeper(&ring));
        let handle = ring.queue(Ask::never());
        drop(ring);
        keeper.join().unwrap();
        assert!(park_on(handle).is_err());
        assert_eq!(alive(), 0);
    });
}

#[test]
fn loom_a_task_that_turns_the_ring_hears_of_what_is_queued_and_of_the_end() {
    tell(3, || {
        let ring = ring(4);
        let host = spawn(host(&ring));
        park_on(async {
            ring.queue(Ask::now()).await.unwrap();
            ring.queue(Ask::now()).await.unwrap(); // May go without the task: this one is alone.
        });
        drop(ring);
        host.join().unwrap();
        assert_eq!(alive(), 0);
    });
}

// One result for two threads.

#[test]
fn loom_of_two_that_take_one_result_one_gets_it() {
    tell(4, || {
        let ring = ring(4);
        let handle = Arc::new(ring.queue(Ask::now()));
        ring.submit().unwrap();
        let other = {
            let (ring, handle) = (ring.clone(), Arc::clone(&handle));
            spawn(move || {
                ring.reap().unwrap();
                handle.try_take().is_some()
            })
        };
        ring.reap().unwrap();
        let ours = handle.try_take().is_some();
        let theirs = other.join().unwrap();
        let left = handle.try_take().is_some();
        assert_eq!(usize::from(ours) + usize::from(theirs) + usize::from(left), 1);
        assert!(handle.is_done());
        drop((handle, ring));
        assert_eq!(alive(), 0);
    });
}

#[test]
fn loom_a_cancel_beside_a_take_asks_nothing_of_another_op() {
    tell(4, || {
        let ring = ring(4);
        let handle = Arc::new(ring.queue(Ask::never()));
        ring.submit().unwrap();
        let other = {
            let (ring, handle) = (ring.clone(), Arc::clone(&handle));
            spawn(move || {
                ring.reap().unwrap();
                let taken = handle.try_take().is_some();
                // Takes the row of the first, if that has ended.
                (taken, ring.queue(Ask::now()))
            })
        };
        let cancel = handle.cancel();
        ring.submit().unwrap();
        let _ = cancel.outcome();
        let (taken, second) = other.join().unwrap();
        ring.submit().unwrap();
        ring.reap().unwrap();
        assert_eq!(second.try_take().unwrap().unwrap(), 0, "the second was not cancelled");
        assert_eq!(handle.try_take().is_some(), !taken);
    });
}

#[test]
fn loom_a_handle_dropped_beside_a_reap_frees_its_op_once() {
    tell(4, || {
        let ring = ring(4);
        let handle = ring.queue(Ask::now());
        ring.submit().unwrap();
        let other = {
            let ring = ring.clone();
            spawn(move || ring.reap().unwrap())
        };
        drop(handle);
        other.join().unwrap();
        drop(ring);
        assert_eq!(alive(), 0);
    });
}
