//! P11: no code of the user's runs under our locks, and a panic in it leaves the ring whole.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{RawWaker, RawWakerVTable, Wake, Waker};
use std::time::Duration;

use deferring::{IoBuf, IoBufMut, Ring, StandIn, block_on};

use crate::support::{Count, bounded, drain, errno, finish, in_time, pipe, poll_once, ring, run};

#[test]
fn p11_a_waker_that_panics_keeps_no_other_from_being_called_and_the_ring_whole() {
    let ring = ring();
    let (count, waker) = Count::new();
    let panics = Waker::from(Arc::new(Calls(|| panic!("a waker of the user's panics"))));
    let mut nops: Vec<_> = (0..9).map(|_| ring.nop()).collect();
    for (at, nop) in nops.iter_mut().enumerate() {
        let waker = if at % 3 == 0 { &panics } else { &waker };
        assert!(poll_once(nop, waker).is_pending());
    }
    ring.submit().unwrap();
    let reaped = catch_unwind(AssertUnwindSafe(|| ring.reap()));
    assert_eq!(message(reaped.unwrap_err()), "a waker of the user's panics");
    assert_eq!(count.get(), 6, "all others");
    nops.iter().for_each(|nop| nop.try_take().expect("reaped").unwrap());
    finish(&ring, &ring.nop()).unwrap();
}

#[test]
fn p11_a_waker_that_panics_when_a_cancel_wakes_it_leaves_the_ring_whole() {
    let ring = ring();
    let panics = Waker::from(Arc::new(Calls(|| panic!("a waker of the user's panics"))));
    let mut nop = ring.nop();
    assert!(poll_once(&mut nop, &panics).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| nop.cancel().outcome())).is_err());
    assert_eq!(errno(&nop.try_take().expect("cancelled")), Some(libc::ECANCELED));
    finish(&ring, &ring.nop()).unwrap();
}

#[test]
fn p11_a_waker_may_do_anything_with_the_ring() {
    bounded(|| {
        let ring = ring();
        let (again, kept) = (ring.clone(), Mutex::new(Vec::new()));
        let calls = Arc::new(AtomicUsize::new(0));
        let called = Arc::clone(&calls);
        let waker = Waker::from(Arc::new(Calls(move || {
            called.fetch_add(1, Ordering::SeqCst);
            again.pending();
            kept.lock().unwrap().push(again.nop());
            drop(again.nop());
            again.nop().cancel();
            again.submit().unwrap();
            again.wait(Some(Duration::ZERO)).unwrap();
            again.reap().unwrap();
            kept.lock().unwrap().retain(|nop| nop.try_take().is_none());
        })));
        let mut nops: Vec<_> = (0..100).map(|_| ring.nop()).collect();
        for nop in &mut nops {
            assert!(poll_once(nop, &waker).is_pending());
        }
        drain(&ring);
        assert_eq!(calls.load(Ordering::SeqCst), 100);
        nops.iter().for_each(|nop| nop.try_take().expect("reaped").unwrap());
    });
}

#[test]
fn p11_wakers_are_cloned_and_dropped_unlocked_too() {
    bounded(|| {
        let ring = ring();
        let (first, second) = (looking_waker(&ring), looking_waker(&ring));
        let (reader, _writer) = pipe();
        let mut read = ring.read(&reader, vec![0; 1], 0);
        for _ in 0..3 {
            assert!(poll_once(&mut read, &first).is_pending());
            assert!(poll_once(&mut read, &second).is_pending());
        }
        ring.submit().unwrap();
        let mut cancel = read.cancel();
        assert!(poll_once(&mut cancel, &first).is_pending());
        assert!(poll_once(&mut cancel, &second).is_pending());
        drain(&ring);
        assert!(
            poll_once(&mut cancel, &first).is_ready() && poll_once(&mut read, &first).is_ready()
        );

        // Handles that go while their wakers are kept: queued, in the kernel, with a cancel.
        for submitted in [false, true] {
            let mut reads: Vec<_> = (0..4).map(|_| ring.read(&reader, vec![0; 1], 0)).collect();
            reads.iter_mut().for_each(|read| assert!(poll_once(read, &first).is_pending()));
            if submitted {
                ring.submit().unwrap();
                assert!(poll_once(&mut reads[0].cancel(), &second).is_pending());
            }
            drop(reads);
            drain(&ring);
        }
    });
}

#[test]
fn p11_a_buffer_may_do_anything_with_the_ring_when_it_is_freed() {
    bounded(|| {
        let ring = ring();
        let (reader, _writer) = pipe();
        let frees = Arc::new(AtomicUsize::new(0));
        let buffer = || {
            let (again, frees) = (ring.clone(), Arc::clone(&frees));
            Fused::new(move || {
                frees.fetch_add(1, Ordering::SeqCst);
                again.nop().detach();
                again.submit().unwrap();
                again.reap().unwrap();
            })
        };
        drop(ring.read(&reader, buffer(), 0)); // Never submitted.
        assert_eq!(frees.load(Ordering::SeqCst), 1);
        let (dropped, cancelled) =
            (ring.read(&reader, buffer(), 0), ring.read(&reader, buffer(), 0));
        ring.submit().unwrap();
        drop(dropped);
        cancelled.cancel();
        drain(&ring);
        assert_eq!(frees.load(Ordering::SeqCst), 2);
        drop(cancelled); // Done, and not taken.
        assert_eq!(frees.load(Ordering::SeqCst), 3);
        drain(&ring);
    });
}

#[test]
fn p11_a_buffer_that_panics_when_it_is_freed_leaves_the_ring_whole() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let buffer = || Fused::new(|| panic!("a buffer of the user's panics"));
    drop(ring.read(&reader, buffer(), 0)); // The drop of a handle never panics.
    let (one, two) = (ring.read(&reader, buffer(), 0), ring.read(&reader, buffer(), 0));
    let nop = ring.nop();
    ring.submit().unwrap();
    drop((one, two));
    ring.submit().unwrap();
    let reaped = catch_unwind(AssertUnwindSafe(|| ring.reap()));
    assert_eq!(message(reaped.unwrap_err()), "a buffer of the user's panics");
    nop.try_take().expect("reaped all the same").unwrap();
    drain(&ring);
    // The drop of a ring never panics either.
    ring.read(&reader, buffer(), 0).detach();
    ring.read(&reader, buffer(), 0).detach();
    ring.submit().unwrap();
    drop(ring);
}

#[test]
fn p11_the_last_ring_may_be_dropped_by_a_waker_or_a_buffer() {
    bounded(|| {
        // By a buffer that is freed with its handle, which is all that is left of the ring.
        let ring = ring();
        let (reader, _writer) = pipe();
        let mut others: Vec<_> = (0..3).map(|_| ring.read(&reader, vec![7; 1], 0)).collect();
        ring.submit().unwrap();
        let last = Mutex::new(Some(ring.clone()));
        let read = ring.read(&reader, Fused::new(move || drop(last.lock().unwrap().take())), 0);
        drop(ring);
        drop(read);
        for read in &mut others {
            let deferring::BufResult(result, buf) = read.try_take().expect("the ring has ended");
            assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![7; 1]));
        }

        // By a waker that a cancel calls.
        let ring = crate::support::ring();
        let mut nop = ring.nop();
        let other = ring.nop();
        let last = Mutex::new(Some(ring));
        let waker = Arc::new(Calls(move || drop(last.lock().unwrap().take()))).into();
        assert!(poll_once(&mut nop, &waker).is_pending());
        nop.cancel();
        assert_eq!(errno(&other.try_take().expect("the ring has ended")), Some(libc::ECANCELED));
    });
}

#[test]
fn p11_a_panic_of_the_future_leaves_the_ring_to_others() {
    let ring = ring();
    let (reader, _writer) = pipe();
    let told = catch_unwind(AssertUnwindSafe(|| {
        block_on(&ring, async {
            let _read = ring.read(&reader, vec![0; 1], 0);
            ring.nop().await.unwrap();
            panic!("the future panics");
        })
    }));
    assert!(told.is_err());
    run(&ring, ring.nop()).unwrap();
    drain(&ring);
}

#[test]
fn p11_a_waker_that_panics_inside_block_on_gives_the_seat_back() {
    let ring = ring();
    let panics = Waker::from(Arc::new(Calls(|| panic!("a waker of the user's panics"))));
    let mut nop = ring.nop();
    assert!(poll_once(&mut nop, &panics).is_pending());
    let told = catch_unwind(AssertUnwindSafe(|| block_on(&ring, in_time(ring.nop()))));
    assert_eq!(message(told.unwrap_err()), "a waker of the user's panics");
    nop.try_take().expect("reaped").unwrap();
    run(&ring, ring.nop()).unwrap();
}

fn message(panic: Box<dyn std::any::Any + Send>) -> String {
    match panic.downcast::<&str>() {
        Ok(message) => (*message).to_owned(),
        Err(panic) => *panic.downcast::<String>().expect("a message"),
    }
}

/// A waker that calls a function.
struct Calls<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// A waker that looks at the ring, which takes its lock, in each of its functions.
fn looking_waker(ring: &Ring) -> Waker {
    fn raw(ring: &Ring) -> RawWaker {
        RawWaker::new(Box::into_raw(Box::new(ring.clone())).cast(), &VTABLE)
    }
    fn look(data: *const ()) {
        // SAFETY: `raw` made it of a boxed `Ring`, which `drop` alone frees.
        unsafe { &*data.cast::<Ring>() }.pending();
    }
    static VTABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            look(data);
            // SAFETY: as in `look`.
            raw(unsafe { &*data.cast::<Ring>() })
        },
        |data| {
            look(data);
            // SAFETY: as in `look`; a wake by value is the last use.
            drop(unsafe { Box::from_raw(data.cast_mut().cast::<Ring>()) });
        },
        look,
        |data| {
            look(data);
            // SAFETY: as in `look`; the last use.
            drop(unsafe { Box::from_raw(data.cast_mut().cast::<Ring>()) });
        },
    );
    // SAFETY: the functions keep `RawWaker`'s contract: a clone is a box of its own, and a `Ring`
    // may be used and dropped on any thread.
    unsafe { Waker::from_raw(raw(ring)) }
}

/// A buffer that calls a function when it is freed.
struct Fused {
    memory: Vec<u8>,
    freed: Option<Box<dyn FnOnce() + Send>>,
}

impl Fused {
    fn new(freed: impl FnOnce() + Send + 'static) -> Self {
        Self { memory: vec![0; 8], freed: Some(Box::new(freed)) }
    }
}

impl Drop for Fused {
    fn drop(&mut self) {
        if let Some(freed) = self.freed.take() {
            freed();
        }
    }
}

impl StandIn for Fused {
    fn stand_in() -> Self {
        Self { memory: Vec::new(), freed: None }
    }
}

// SAFETY: the bytes are those of a `Vec`, initialised, owned alone, and stay in place.
unsafe impl IoBuf for Fused {
    fn ptr(&self) -> *const u8 {
        self.memory.as_ptr()
    }

    fn len(&self) -> usize {
        self.memory.len()
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Fused {
    fn ptr_mut(&mut self) -> *mut u8 {
        self.memory.as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        self.memory.len()
    }

    unsafe fn set_filled(&mut self, n: usize) {
        assert!(n <= self.memory.len());
    }
}
