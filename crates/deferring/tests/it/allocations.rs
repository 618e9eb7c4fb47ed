//! A ring in steady state allocates nothing.
//!
//! The allocator of this test binary counts, per thread, so that other stories do not disturb.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

use deferring::op::{Op, Read, Statx};
use deferring::{BufResult, CWD, Fd, Handle, Mode, OFlags, ResolveFlags, Ring};

use crate::support::{Came, builder, has_io_uring, poll_once, run};

const DEPTH: usize = 32;
const READS: usize = 100_000;

/// So many may make the ring grow.
const WARM: usize = 4 * DEPTH;

#[test]
fn a_hundred_thousand_reads_by_hand_allocate_nothing_once_warm() {
    let ring = ring();
    let zero = Fd::from(std::fs::File::open("/dev/zero").unwrap());
    let mut bufs: Vec<_> = (0..DEPTH).map(|_| vec![1; 64]).collect();
    let mut reads: Vec<Handle<Read<Vec<u8>>>> = Vec::with_capacity(DEPTH);
    let mut round = |came: Option<Came>| {
        reads.extend(bufs.drain(..).map(|buf| ring.read(&zero, buf, 0)));
        assert_eq!(ring.submit().unwrap(), DEPTH);
        if let Some(came) = came {
            came.until(DEPTH as u64);
        }
        while ring.in_flight() > 0 {
            ring.wait(None).unwrap();
            ring.reap().unwrap();
        }
        for read in reads.drain(..) {
            let BufResult(result, buf) = read.try_take().expect("reaped");
            assert_eq!((result.unwrap(), buf[63]), (64, 0));
            bufs.push(buf);
        }
    };
    // As many at once as there will ever be.
    round(Some(Came::count(&ring)));
    let allocated = counted(|| (0..READS.div_ceil(DEPTH)).for_each(|_| round(None)));
    assert_eq!(allocated, 0, "allocations in {READS} reads");
}

#[test]
fn a_hundred_thousand_reads_under_block_on_allocate_nothing_once_warm() {
    let ring = ring();
    let zero = Fd::from(std::fs::File::open("/dev/zero").unwrap());
    let mut reads: Vec<_> = (0..DEPTH).map(|_| ring.read(&zero, vec![1; 64], 0)).collect();
    let (mut ended, mut at_start, mut came) = (0, 0, Some(Came::count(&ring)));
    let allocated = run(
        &ring,
        poll_fn(|cx| {
            for read in &mut reads {
                while let Poll::Ready(BufResult(result, buf)) = poll_once(read, cx.waker()) {
                    assert_eq!((result.unwrap(), buf[63]), (64, 0));
                    *read = ring.read(&zero, buf, 0);
                    ended += 1;
                }
            }
            if let Some(came) = came.take() {
                // As many at once as there will ever be.
                ring.submit().unwrap();
                came.until(DEPTH as u64);
            }
            if ended < WARM {
                at_start = COUNT.get();
            }
            if ended < WARM + READS { Poll::Pending } else { Poll::Ready(COUNT.get() - at_start) }
        }),
    );
    assert_eq!(allocated, 0, "allocations in {READS} reads");
}

#[test]
fn a_thousand_statx_one_after_the_other_allocate_nothing_once_warm() {
    let ring = ring();
    let dir = Fd::from(std::fs::File::open("/").unwrap());
    let ask = async |times| {
        for _ in 0..times {
            let stat = ring.queue(Statx::of(&dir).in_worker()).await.unwrap();
            assert!(stat.file_type().unwrap().is_dir());
        }
    };
    let allocated = run(&ring, async {
        ask(WARM).await;
        let before = allocated_here();
        ask(1000).await;
        allocated_here() - before
    });
    assert_eq!(allocated, 0, "allocations in 1000 questions");
}

#[test]
fn a_thousand_answers_at_once_allocate_nothing_once_warm() {
    if !has_io_uring("to be passed by") {
        return;
    }
    let ring = ring();
    let memory = rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let fd = Fd::from(memory);
    let ask = |times| {
        for _ in 0..times {
            let stat = ring.queue(Statx::of(&fd));
            assert!(stat.try_take().expect("at once").unwrap().file_type().unwrap().is_file());
        }
    };
    ask(1);
    assert_eq!(counted(|| ask(1000)), 0, "allocations in 1000 answers");
    // What was refused is kept in the same way, whatever it is.
    let refused = ring.openat2(CWD, "a\0b", OFlags::RDONLY, Mode::empty(), ResolveFlags::empty());
    ask(1);
    assert!(refused.try_take().unwrap().is_err());
    ask(1);
}

/// With one thread at most, where there is no io_uring: one that comes later is not of the ring's
/// steady state.
fn ring() -> Ring {
    builder().queue_depth(32).pool_threads_max(1).build().unwrap()
}

/// How often this thread allocates meanwhile.
fn counted(act: impl FnOnce()) -> u64 {
    let before = allocated_here();
    act();
    allocated_here() - before
}

/// How often this thread has allocated.
pub(crate) fn allocated_here() -> u64 {
    COUNT.get()
}

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// One more. Not `COUNT.set`: a thread allocates while it ends, too.
fn count() {
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: hands everything on to the system's allocator; the counter is no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(old, layout, new_size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(old, layout) }
    }
}
