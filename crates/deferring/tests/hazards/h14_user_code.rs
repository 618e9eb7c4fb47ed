//! Hazard 14: code of the user's that misbehaves inside the ring.
//!
//! Wakers and buffers that panic, call the ring, drop it, block; at each place where the ring lets
//! them run, for each way in which an op ends. Handles that are forgotten, moved between threads,
//! polled too often. After each the ring goes on. Not: what a waker may do at its best
//! (`../it/user_code.rs`).
#![allow(unsafe_code)] // A buffer that does something when it is freed.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use deferring::op::{Nop, Read};
use deferring::{Handle, IoBuf, IoBufMut, Ring, StandIn, block_on};

use crate::dice::Dice;
use crate::report::{Hazard, long};
use crate::support::{
    BOUND, bounded, drain, errno, finish, in_time, pipe, poll_once, ring, run, turn_until,
};

#[test]
fn h14_wakers_and_buffers_that_misbehave_leave_the_ring_to_others() {
    let hazard = Hazard::begin(14);
    let rounds = if long() { 100 } else { 3 };
    let (mut done, mut panics) = (0, 0);
    for _ in 0..rounds {
        for deed in DEEDS {
            for place in [Place::Wake, Place::WakerDrop, Place::BufferDrop] {
                for way in WAYS {
                    let story = move || misbehave(deed, place, way);
                    let story = AssertUnwindSafe(|| bounded(story));
                    let told = catch_unwind(story);
                    let panicked = told.unwrap_or_else(|_| panic!("{deed:?}, {place:?}, {way:?}"));
                    panics += usize::from(panicked);
                    done += 1;
                }
            }
        }
    }
    hazard.saw(format!(
        "{done} misdeeds of wakers and buffers, {panics} panics let through to who called: the ring \
         went on"
    ));
}

/// What the user's code does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    Panics,
    Queues,
    Turns,
    BlocksOnTheRing,
    DropsTheRing,
    ForgetsAHandle,
    CancelsAnother,
    TakesItsTime,
}

const DEEDS: [Deed; 8] = [
    Deed::Panics,
    Deed::Queues,
    Deed::Turns,
    Deed::BlocksOnTheRing,
    Deed::DropsTheRing,
    Deed::ForgetsAHandle,
    Deed::CancelsAnother,
    Deed::TakesItsTime,
];

/// Where it does it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Wake,
    WakerDrop,
    BufferDrop,
}

/// How the op ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Reaped,
    BlockedOn,
    CancelledQueued,
    CancelledInKernel,
    DroppedQueued,
    DroppedInKernel,
    DroppedDone,
    WithTheRing,
}

const WAYS: [Way; 8] = [
    Way::Reaped,
    Way::BlockedOn,
    Way::CancelledQueued,
    Way::CancelledInKernel,
    Way::DroppedQueued,
    Way::DroppedInKernel,
    Way::DroppedDone,
    Way::WithTheRing,
];

/// Something to be done once, by whoever comes first.
struct Charge {
    deed: Deed,
    /// The ring to do it with. The last one, for a story that has dropped its own.
    ring: Mutex<Option<Ring>>,
    done: AtomicUsize,
}

impl Charge {
    fn go_off(&self) {
        if self.done.fetch_add(1, Ordering::SeqCst) > 0 {
            return;
        }
        let ring = self.ring.lock().unwrap().take();
        match (self.deed, ring) {
            (Deed::Panics, _) => panic!("the user's code panics"),
            (Deed::TakesItsTime, _) => thread::sleep(Duration::from_millis(1)), // That is its deed.
            (Deed::DropsTheRing, ring) => drop(ring),
            (_, None) => {} // It ends, and nobody has a ring.
            (Deed::Queues, Some(ring)) => ring.nop().detach(),
            (Deed::Turns, Some(ring)) => {
                ring.nop().detach();
                ring.submit().unwrap();
                ring.wait(Some(Duration::ZERO)).unwrap();
                ring.reap().unwrap();
            }
            (Deed::BlocksOnTheRing, Some(ring)) => block_on(&ring, in_time(ring.nop())).unwrap(),
            (Deed::ForgetsAHandle, Some(ring)) => forget(ring.nop()),
            (Deed::CancelsAnother, Some(ring)) => {
                let other = ring.timeout(Duration::from_secs(3600));
                ring.submit().unwrap();
                other.cancel();
            }
        }
    }
}

/// A waker that goes off when it is called, or when the last of its clones is dropped.
struct Charged {
    charge: Arc<Charge>,
    place: Place,
}

impl Wake for Charged {
    fn wake(self: Arc<Self>) {
        if self.place == Place::Wake {
            self.charge.go_off();
        }
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        if self.place == Place::WakerDrop {
            self.charge.go_off();
        }
    }
}

/// One op, in whose life somebody misbehaves. Whether a panic came through.
fn misbehave(deed: Deed, place: Place, way: Way) -> bool {
    let ring = ring();
    let (reader, mut writer) = pipe();
    // With the ring's end, what holds the ring would keep it from ending.
    let theirs = (way != Way::WithTheRing).then(|| ring.clone());
    let charge = Charge { deed, ring: Mutex::new(theirs), done: AtomicUsize::new(0) };
    let charge = Arc::new(charge);
    let buffer = Buffer::new((place == Place::BufferDrop).then(|| Arc::clone(&charge)));
    let mut read = ring.read(&reader, buffer, 0);
    let waker = Waker::from(Arc::new(Charged { charge: Arc::clone(&charge), place }));
    assert!(poll_once(&mut read, &waker).is_pending());
    drop(waker); // The ring has the last one.
    if !matches!(way, Way::CancelledQueued | Way::DroppedQueued) {
        ring.submit().unwrap();
    }
    // So that theirs may be the last ring, where the handle alone does what follows.
    let alone =
        deed == Deed::DropsTheRing && matches!(way, Way::CancelledQueued | Way::DroppedQueued);
    let ring = if alone {
        drop(ring);
        None
    } else {
        Some(ring)
    };
    let panicked = end_it(ring, read, way, &mut writer);
    let done = charge.done.load(Ordering::SeqCst);
    assert_eq!(done > 0, goes_off(place, way), "{done}");
    if place == Place::BufferDrop {
        assert_eq!(charge.done.load(Ordering::SeqCst), 1, "freed once");
    }
    panicked
}

/// Whether the way leads over the place. A handle that is dropped wakes nobody.
fn goes_off(place: Place, way: Way) -> bool {
    let dropped = matches!(way, Way::DroppedQueued | Way::DroppedInKernel);
    place != Place::Wake || !dropped
}

/// Brings the op to its end, and sees whether the ring goes on. A panic of the user's code comes
/// through where it may.
fn end_it(
    ring: Option<Ring>,
    read: Handle<Read<Buffer>>,
    way: Way,
    writer: &mut std::fs::File,
) -> bool {
    if way == Way::WithTheRing {
        return never(|| drop(ring)) | take(&read);
    }
    let panicked = end_alone(ring.as_ref(), read, way, writer);
    ring.iter().for_each(goes_on);
    panicked
}

/// Brings the op to its end, and lets the ring be.
fn end_alone(
    ring: Option<&Ring>,
    read: Handle<Read<Buffer>>,
    way: Way,
    writer: &mut std::fs::File,
) -> bool {
    let ring = || ring.expect("only a handle can do without");
    match way {
        Way::Reaped | Way::DroppedDone => {
            writer.write_all(b"x").unwrap();
            let reaped = allow(|| turn_until(ring(), || read.is_done()));
            // A result that nobody took is freed by the handle, quietly.
            reaped | if way == Way::DroppedDone { never(|| drop(read)) } else { take(&read) }
        }
        Way::BlockedOn => {
            writer.write_all(b"x").unwrap();
            let blocked = allow(|| {
                let done = std::future::poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if read.is_done() { ().into() } else { std::task::Poll::Pending }
                });
                run(ring(), done);
            });
            blocked | take(&read)
        }
        Way::CancelledQueued => allow(|| cancel(&read)) | take(&read),
        Way::CancelledInKernel => {
            read.cancel();
            allow(|| turn_until(ring(), || read.is_done())) | take(&read)
        }
        Way::DroppedQueued => never(|| drop(read)),
        Way::DroppedInKernel => never(|| drop(read)) | allow(|| drain(ring())),
        Way::WithTheRing => unreachable!("its end is the ring's"),
    }
}

fn cancel(read: &Handle<Read<Buffer>>) {
    read.cancel();
}

fn take(read: &Handle<Read<Buffer>>) -> bool {
    allow(|| drop(read.try_take().expect("done")))
}

/// Calls what may let a panic of the user's code through, and nothing else.
fn allow(call: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(()) => false,
        Err(panic) => {
            let message = panic.downcast_ref::<&str>().copied();
            assert_eq!(message, Some("the user's code panics"));
            true
        }
    }
}

/// Calls what must not panic: a destructor.
fn never(call: impl FnOnce()) -> bool {
    assert!(catch_unwind(AssertUnwindSafe(call)).is_ok(), "a destructor of ours panicked");
    false
}

fn goes_on(ring: &Ring) {
    drain(ring);
    run(ring, ring.nop()).unwrap();
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn h14_a_waker_or_buffer_that_blocks_holds_nobody_else_up() {
    let hazard = Hazard::begin(14);
    for place in [Place::Wake, Place::BufferDrop] {
        for blocks_on in [false, true] {
            bounded(move || held_up(place, blocks_on));
        }
    }
    hazard.saw("while a waker or a buffer blocks in the ring, other threads use it");
}

/// One thread is held up by the user's code inside the ring, until another has used the ring.
fn held_up(place: Place, blocks_on: bool) {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let (inside, is_inside) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    let blocks = Mutex::new(Some((inside, gone)));
    let block = move || {
        let Some((inside, gone)) = blocks.lock().unwrap().take() else { return };
        inside.send(()).unwrap();
        gone.recv_timeout(BOUND).expect("nobody else could use the ring");
    };
    let mut read = ring.read(&reader, Buffer::new(None), 0);
    let other = ring.clone();
    let stuck = match place {
        Place::Wake => {
            let waker = Waker::from(Arc::new(Calls(block)));
            assert!(poll_once(&mut read, &waker).is_pending());
            Some(read)
        }
        Place::WakerDrop | Place::BufferDrop => {
            ring.read(&reader, Buffer::calling(block), 0).detach();
            None
        }
    };
    let thread = thread::spawn(move || {
        writer.write_all(b"xy").unwrap();
        if blocks_on {
            run(&other, other.timeout(Duration::from_millis(5))).unwrap();
            drain(&other);
        } else {
            drain(&other);
        }
    });
    is_inside.recv_timeout(BOUND).expect("it goes off");
    for _ in 0..100 {
        run(&ring, ring.nop()).unwrap();
        finish(&ring, &ring.nop()).unwrap();
    }
    go.send(()).unwrap();
    thread.join().unwrap();
    assert!(stuck.is_none_or(|read| read.try_take().is_some()));
}

#[test]
fn h14_handles_that_are_forgotten_moved_and_polled_too_often_do_no_harm() {
    let hazard = Hazard::begin(14);
    let rounds = if long() { 50_000 } else { 2_000 };
    let mut dice = Dice::new();
    bounded(|| {
        let ring = ring();
        polled_too_often(&ring);
        forgotten(&ring);
        drop(ring);
    });
    let moved = moved_between_threads(&mut dice, rounds);
    hazard.saw(format!(
        "handles forgotten, polled after their end (which panics, clearly), and {moved} passed on \
         between 3 threads; seed {}",
        dice.seed()
    ));
}

fn polled_too_often(ring: &Ring) {
    let (reader, _writer) = pipe();
    let mut nop = ring.nop();
    run(ring, &mut nop).unwrap();
    let again = catch_unwind(AssertUnwindSafe(|| poll_once(&mut nop, Waker::noop()).is_ready()));
    let panic = again.expect_err("it has no second result");
    let message = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap();
    assert!(message.contains("has been taken"), "{message}");
    goes_on(ring);

    // The same by way of `try_take`, and of a cancel, which may be asked for ever.
    let read = ring.read(&reader, vec![0; 1], 0);
    let cancel = read.cancel();
    assert_eq!(errno(&finish(ring, &read).0), Some(libc::ECANCELED));
    assert!(read.try_take().is_none() && read.is_done());
    assert!(cancel.outcome().is_some() && cancel.outcome().is_some());
    goes_on(ring);
}

fn forgotten(ring: &Ring) {
    let (reader, mut writer) = pipe();
    for submitted in [false, true] {
        forget(ring.nop());
        forget(ring.read(&reader, vec![0; 1], 0));
        if submitted {
            ring.submit().unwrap();
        }
        writer.write_all(b"x").unwrap();
        goes_on(ring);
    }
    // In the kernel when the ring ends.
    forget(ring.read(&reader, vec![0; 1], 0));
    ring.submit().unwrap();
}

/// Three threads pass handles round; each does something with one. All rings go on.
fn moved_between_threads(dice: &mut Dice, rounds: usize) -> usize {
    let ring = ring();
    let (reader, writer) = pipe();
    let channels: Vec<_> = (0..3).map(|_| mpsc::channel::<Passed>()).collect();
    let together = Arc::new(Barrier::new(3));
    let (givers, takers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
    let threads: Vec<_> = takers
        .into_iter()
        .enumerate()
        .map(|(at, taker)| {
            let next = givers[(at + 1) % 3].clone();
            let mut passer = Passer {
                ring: ring.clone(),
                reader: reader.clone(),
                writer: writer.try_clone().unwrap(),
                dice: dice.for_thread(at),
                next,
            };
            let together = Arc::clone(&together);
            thread::spawn(move || {
                together.wait();
                (0..rounds).map(|_| passer.pass(&taker)).sum::<usize>()
            })
        })
        .collect();
    drop(givers);
    let moved = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    goes_on(&ring);
    moved
}

enum Passed {
    Nop(Handle<Nop>),
    Read(Handle<Read<Vec<u8>>>),
}

struct Passer {
    ring: Ring,
    reader: deferring::Fd,
    writer: std::fs::File,
    dice: Dice,
    next: mpsc::Sender<Passed>,
}

impl Passer {
    /// Sends a handle on, new or somebody's. Returns how many were somebody's.
    fn pass(&mut self, from: &mpsc::Receiver<Passed>) -> usize {
        let new = if self.dice.once_in(2) {
            Passed::Nop(self.ring.nop())
        } else {
            Passed::Read(self.ring.read(&self.reader, vec![0; 1], 0))
        };
        let _ = self.next.send(new); // That one may have ended.
        match self.dice.below(3) {
            0 => drop(self.ring.submit().unwrap()),
            1 => drop(self.ring.reap().unwrap()),
            _ => {}
        }
        let taken: Vec<_> = from.try_iter().take(2).collect();
        let moved = taken.len();
        for passed in taken {
            match passed {
                Passed::Nop(nop) => run(&self.ring, nop).unwrap(),
                Passed::Read(mut read) => self.end_of_a_read(&mut read),
            }
        }
        moved
    }

    fn end_of_a_read(&mut self, read: &mut Handle<Read<Vec<u8>>>) {
        let _ = poll_once(read, Waker::noop()).is_ready();
        match self.dice.below(3) {
            0 => {
                read.cancel();
            }
            // Goes to this read or to another one; what is left over does no harm.
            1 => self.writer.write_all(b"x").unwrap(),
            _ => {}
        }
        // Whatever became of it, it is dropped by its caller.
    }
}

#[allow(clippy::mem_forget)] // The point of the story.
fn forget<T>(value: T) {
    std::mem::forget(value);
}

/// A waker that calls a function.
struct Calls<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// A buffer that does something when it is freed.
struct Buffer {
    memory: Vec<u8>,
    freed: Option<Box<dyn FnOnce() + Send>>,
}

impl Buffer {
    fn new(charge: Option<Arc<Charge>>) -> Self {
        match charge {
            Some(charge) => Self::calling(move || charge.go_off()),
            None => Self { memory: vec![0; 1], freed: None },
        }
    }

    fn calling(freed: impl FnOnce() + Send + 'static) -> Self {
        Self { memory: vec![0; 1], freed: Some(Box::new(freed)) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(freed) = self.freed.take() {
            freed();
        }
    }
}

impl StandIn for Buffer {
    fn stand_in() -> Self {
        Self { memory: Vec::new(), freed: None }
    }
}

// SAFETY: the bytes are those of a `Vec`, initialised, owned alone, and stay in place.
unsafe impl IoBuf for Buffer {
    fn ptr(&self) -> *const u8 {
        self.memory.as_ptr()
    }

    fn len(&self) -> usize {
        self.memory.len()
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Buffer {
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
