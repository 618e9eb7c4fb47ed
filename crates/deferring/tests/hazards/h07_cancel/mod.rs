//! Hazard 7: cancels. They can always be sent, and are never wrong about their op.
//!
//! Races of a cancel with each kind of op, at any moment of its life. Each target has one result;
//! `Cancelled` means that it did not happen, which is looked up in the file system; `Finished`
//! that it did; `Running` promises neither. Not: cancelled opens and their descriptors
//! (`h08_lost_opens.rs`).

mod kinds;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use deferring::op::Op;
use deferring::{CancelOutcome, Fd, Handle, PollFlags, Ring};

use self::kinds::{KINDS, World};
use crate::dice::Dice;
use crate::report::{Hazard, long};
use crate::support::{Count, builder, drain, errno, on_pool, pipe, poll_once, turn_until};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn h07_with_one_entry_and_ten_thousand_ops_queued_every_cancel_is_sent_and_every_op_ends_once() {
    let hazard = Hazard::begin(7);
    let ring = builder().queue_depth(1).build().unwrap();
    let ops = 10_000;
    let (reader, _writer) = pipe();
    let mut in_kernel = ring.read(&reader, vec![7; 1], 0);
    ring.submit().unwrap();
    let (count, waker) = Count::new();
    let notes = Arc::new(Notes { others: Arc::clone(&count), seen: AtomicUsize::new(0) });
    assert!(poll_once(&mut in_kernel, &Arc::clone(&notes).into()).is_pending());
    let mut handles: Vec<_> = (0..ops).map(|at| Queued::new(&ring, &reader, at)).collect();
    handles.iter_mut().for_each(|handle| handle.poll(&waker));

    // A third is cancelled while it is queued, which takes no SQE.
    handles.iter().step_by(3).for_each(Queued::cancel);
    assert_eq!((ring.stats().sqes, ring.pending().cancels), (1, 0));
    // The cancel of what the kernel has is the next SQE, whatever is queued.
    let cancel = in_kernel.cancel();
    let woken = count.get();
    turn_until(&ring, || cancel.outcome().is_some());
    assert_eq!(notes.seen.load(Ordering::SeqCst), woken, "no other went first");
    assert_eq!(cancel.outcome(), Some(CancelOutcome::Cancelled));
    assert_eq!(errno(&in_kernel.try_take().expect("ended").0), Some(libc::ECANCELED));
    // Then all others, wherever they are.
    handles.iter().for_each(Queued::cancel);
    drain(&ring);
    let cut = handles.iter().filter(|handle| handle.take()).count();
    assert_eq!(count.get(), ops, "each woke its task once");
    hazard.saw(format!("1 SQ entry, {ops} ops queued: {cut} cancelled, each ended once"));
}

/// A waker that notes how many others were woken before.
struct Notes {
    others: Arc<Count>,
    seen: AtomicUsize,
}

impl Wake for Notes {
    fn wake(self: Arc<Self>) {
        self.seen.store(self.others.get(), Ordering::SeqCst);
    }
}

/// An op among many; most end by nothing but a cancel.
enum Queued {
    Nop(Handle<deferring::op::Nop>),
    Poll(Handle<deferring::op::PollAdd>),
    Timeout(Handle<deferring::op::Timeout>),
}

impl Queued {
    fn new(ring: &Ring, silent: &Fd, at: usize) -> Self {
        match at % 4 {
            0 | 1 => Self::Nop(ring.nop()),
            2 => Self::Poll(ring.poll(silent, PollFlags::IN)),
            _ => Self::Timeout(ring.timeout(HOUR)),
        }
    }

    fn poll(&mut self, waker: &std::task::Waker) {
        let pending = match self {
            Self::Nop(handle) => poll_once(handle, waker).is_pending(),
            Self::Poll(handle) => poll_once(handle, waker).is_pending(),
            Self::Timeout(handle) => poll_once(handle, waker).is_pending(),
        };
        assert!(pending, "nothing was turned");
    }

    fn cancel(&self) {
        match self {
            Self::Nop(handle) => drop(handle.cancel()),
            Self::Poll(handle) => drop(handle.cancel()),
            Self::Timeout(handle) => drop(handle.cancel()),
        }
    }

    /// Takes the one result. Whether it was cancelled.
    fn take(&self) -> bool {
        match self {
            Self::Nop(handle) => cancelled(handle, |nop| nop),
            Self::Poll(handle) => cancelled(handle, |poll| poll.map(drop)),
            Self::Timeout(handle) => cancelled(handle, |timeout| timeout),
        }
    }
}

fn cancelled<T: Op>(handle: &Handle<T>, result: fn(T::Output) -> io::Result<()>) -> bool {
    let result = result(handle.try_take().expect("ended"));
    assert!(handle.try_take().is_none(), "once");
    match result {
        Ok(()) => false,
        Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => true,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn h07_ten_thousand_cancels_race_every_kind_of_op_and_none_is_wrong_about_it() {
    let hazard = Hazard::begin(7);
    let races = if long() { 200_000 } else { 10_000 };
    let mut dice = Dice::new();
    let world = World::new();
    let ring = builder().queue_depth(8).build().unwrap();
    let mut seen = Seen::default();
    while seen.races < races {
        let racers = (0..1 + dice.below(KINDS.len())).map(|_| {
            let kind = KINDS[dice.below(KINDS.len())];
            Entered { racer: kind(&ring, &world), asked: Asked::at(&mut dice), told: None }
        });
        let racers = racers.collect();
        race(&ring, &mut dice, racers, &mut seen);
    }
    assert_eq!((ring.in_flight(), ring.pending().cancels), (0, 0));
    let Seen { races, cut, ran, running } = seen;
    assert_eq!(cut + ran, races);
    hazard.saw(format!(
        "{races} races over {} kinds of ops: {cut} cancelled, {ran} finished, {running} of them \
         called running meanwhile; seed {}",
        KINDS.len(),
        dice.seed()
    ));
}

#[derive(Default)]
struct Seen {
    races: usize,
    cut: usize,
    ran: usize,
    running: usize,
}

/// When the cancel is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Queued,
    Submitted,
    /// After some turns, if it has not ended by itself.
    Later,
    /// When it has ended, for which it is helped.
    Ended,
}

impl Asked {
    fn at(dice: &mut Dice) -> Self {
        [Self::Queued, Self::Submitted, Self::Submitted, Self::Later, Self::Ended][dice.below(5)]
    }
}

struct Entered {
    racer: Box<dyn Race>,
    asked: Asked,
    /// What the cancel said first.
    told: Option<CancelOutcome>,
}

impl Entered {
    fn ask(&mut self, when: Asked) {
        if self.asked == when {
            self.racer.cancel();
            self.listen();
        }
    }

    fn listen(&mut self) {
        self.told = self.told.or_else(|| self.racer.outcome());
    }

    /// What runs in a thread of the pool is not interrupted by its cancel.
    fn let_go(&mut self) {
        if self.told == Some(CancelOutcome::Running) && on_pool() {
            self.racer.help();
        }
    }
}

/// Has some ops race their cancels, all at once.
fn race(ring: &Ring, dice: &mut Dice, mut racers: Vec<Entered>, seen: &mut Seen) {
    for entered in &mut racers {
        // A queued op whose cancel comes now is over before anything could help it to end.
        if entered.asked != Asked::Queued && dice.once_in(3) {
            entered.racer.help();
        }
        entered.ask(Asked::Queued);
    }
    ring.submit().unwrap();
    for entered in &mut racers {
        dice.spin(300);
        if entered.asked == Asked::Ended || dice.once_in(3) && entered.asked != Asked::Queued {
            entered.racer.help();
        }
        entered.ask(Asked::Submitted);
        if dice.once_in(4) {
            ring.submit().unwrap();
        }
    }
    for _ in 0..dice.below(4) {
        ring.submit().unwrap();
        ring.reap().unwrap();
    }
    racers.iter_mut().for_each(|entered| entered.ask(Asked::Later));
    turn_until(ring, || {
        let asked = |entered: &&mut Entered| entered.asked != Asked::Ended;
        racers.iter_mut().filter(asked).for_each(Entered::listen);
        racers.iter_mut().for_each(Entered::let_go);
        racers.iter().all(|entered| entered.racer.is_done())
    });
    racers.iter_mut().for_each(|entered| entered.ask(Asked::Ended));
    racers.into_iter().for_each(|entered| settle(entered, seen));
    drain(ring); // What helped, and cancels that came too late.
}

/// Compares what the cancel said with what happened.
fn settle(mut entered: Entered, seen: &mut Seen) {
    let (what, when) = (entered.racer.what(), entered.asked);
    let last = entered.racer.outcome().expect("a cancel of what has ended is over");
    let end = entered.racer.settle();
    let (told, context) = (entered.told, format!("{what}, cancel asked {when:?}"));
    assert_eq!(last == CancelOutcome::Cancelled, end == End::Cut, "{context}: {last:?}, {end:?}");
    assert_ne!(last, CancelOutcome::Running, "{context}: it has ended");
    match told {
        Some(CancelOutcome::Running) => seen.running += 1,
        Some(first) => assert_eq!(first, last, "{context}: it changed its mind"),
        None => {}
    }
    match when {
        Asked::Queued => assert_eq!(end, End::Cut, "{context}"),
        Asked::Ended => assert_eq!(end, End::Ran, "{context}"),
        Asked::Submitted | Asked::Later => {}
    }
    seen.races += 1;
    match end {
        End::Cut => seen.cut += 1,
        End::Ran => seen.ran += 1,
    }
}

/// How an op ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It did not happen.
    Cut,
    /// It happened, as without a cancel.
    Ran,
}

/// An op of any kind.
trait Race {
    fn what(&self) -> &'static str;
    fn cancel(&self);
    fn outcome(&self) -> Option<CancelOutcome>;
    fn is_done(&self) -> bool;
    /// Lets it end by itself.
    fn help(&mut self);
    /// Takes the result, which comes once, and checks it.
    fn settle(&mut self) -> End;
}

struct Racer<T: Op> {
    what: &'static str,
    handle: Rc<Handle<T>>,
    judge: Option<Judge<T>>,
    help: Option<Box<dyn FnMut()>>,
    helped: bool,
}

/// Checks an output; told whether the op was helped.
type Judge<T> = Box<dyn FnOnce(<T as Op>::Output, bool) -> End>;

impl<T: Op> Racer<T> {
    fn new(
        what: &'static str,
        handle: Handle<T>,
        judge: impl FnOnce(T::Output, bool) -> End + 'static,
    ) -> Box<Self> {
        let (handle, judge) = (Rc::new(handle), Some(Box::new(judge) as Judge<T>));
        Box::new(Self { what, handle, judge, help: None, helped: false })
    }

    /// What lets it end, once; kept until then.
    fn helped_by(mut self: Box<Self>, help: impl FnMut() + 'static) -> Box<Self> {
        self.help = Some(Box::new(help));
        self
    }
}

impl<T: Op> Race for Racer<T> {
    fn what(&self) -> &'static str {
        self.what
    }

    fn cancel(&self) {
        self.handle.cancel();
    }

    fn outcome(&self) -> Option<CancelOutcome> {
        self.handle.cancel().outcome() // Joins the one that was asked for.
    }

    fn is_done(&self) -> bool {
        self.handle.is_done()
    }

    fn help(&mut self) {
        if !std::mem::replace(&mut self.helped, true) {
            self.help.iter_mut().for_each(|help| help());
        }
    }

    fn settle(&mut self) -> End {
        let output = self.handle.try_take().expect("it is done");
        assert!(self.handle.try_take().is_none(), "{}: once", self.what);
        self.judge.take().expect("judged once")(output, self.helped)
    }
}
