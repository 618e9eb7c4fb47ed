//! What a ring tells to `tracing`: a span for each op, an event for what is out of the ordinary.
//!
//! A subscriber is the user's code (P11): it may use the ring, and it may panic.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use deferring::op::{Op, Opcode, Sqe};
use deferring::{AtFlags, BufResult, CWD, Handle, PollFlags, StatxFlags, leaked_ops};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::support::{
    Answer, Graveyard, Hangs, OpenInWorker, Refusal, bounded, builder, drain, errno, fifo, finish,
    has_io_uring, in_a_process_of_its_own, lets_go, pipe, refused, ring, run, this_test,
    turn_until, until,
};

// Spans.

#[test]
fn an_op_has_a_span_with_its_code_and_its_result_from_the_queue_to_its_end() {
    let told = Told::default();
    with_default(told.clone(), || {
        let ring = ring();
        let (reader, mut writer) = pipe();
        let (nop, read) = (ring.nop(), ring.read(&reader, vec![0; 8], 0));
        assert_eq!(told.spans(), [span("Nop", None, false), span("Read", None, false)]);
        ring.submit().unwrap();
        writer.write_all(b"abc").unwrap();
        assert!(told.spans().iter().all(|span| !span.closed), "nobody has looked");
        drain(&ring);
        // Though nobody has taken the results.
        assert_eq!(told.spans(), [span("Nop", Some(0), true), span("Read", Some(3), true)]);
        drop((nop, read));
        assert_eq!(told.spans().len(), 2);
    });
    assert!(told.levels().iter().all(|&level| level == Level::TRACE), "{:?}", told.levels());
}

#[test]
fn an_op_that_fails_or_is_given_up_has_its_errno_in_its_span() {
    let told = Told::default();
    with_default(told.clone(), || {
        let ring = ring();
        let (reader, _writer) = pipe();
        let poll = || ring.poll(&reader, PollFlags::IN);
        run(&ring, ring.queue(Answer(-libc::ENOENT))).unwrap_err();
        let queued = poll();
        queued.cancel();
        let in_kernel = poll();
        ring.submit().unwrap();
        run(&ring, in_kernel.cancel());
        run(&ring, poll().timeout(Duration::from_millis(1))).unwrap_err();
        drop(poll());
        poll().detach();
        ring.submit().unwrap();
        drop(ring);
    });
    let results: Vec<_> = told.spans().iter().map(|span| span.result).collect();
    let [cancelled, timed_out] =
        [libc::ECANCELED, libc::ETIMEDOUT].map(|code| Some(i64::from(-code)));
    let expected =
        [Some(i64::from(-libc::ENOENT)), cancelled, cancelled, timed_out, cancelled, cancelled];
    assert_eq!(results, expected);
    assert!(told.spans().iter().all(|span| span.closed));
}

#[test]
fn an_op_that_is_refused_has_a_span_that_is_closed_and_no_result() {
    let told = Told::default();
    with_default(told.clone(), || {
        let ring = ring();
        run(&ring, ring.shutdown(std::time::Instant::now()));
        drop(ring.nop());
    });
    assert_eq!(told.spans(), [span("Nop", None, true)]);
}

#[test]
fn each_of_many_ops_has_a_span_of_its_own() {
    let told = Told::default();
    with_default(told.clone(), || {
        let ring = ring();
        for _ in 0..3 {
            let nops: Vec<_> = (0..1000).map(|_| ring.nop()).collect();
            drain(&ring);
            drop(nops);
        }
    });
    let spans = told.spans();
    assert_eq!(spans.len(), 3000);
    assert!(spans.iter().all(|found| *found == span("Nop", Some(0), true)));
}

#[test]
fn a_subscriber_that_does_not_want_them_has_no_spans() {
    let told = Told { most: Some(Level::ERROR), ..Told::default() };
    with_default(told.clone(), || {
        let ring = ring();
        run(&ring, ring.nop()).unwrap();
    });
    assert!(told.spans().is_empty() && told.events().is_empty());
}

// Events.

#[test]
fn an_op_that_is_sent_again_is_told_with_why() {
    let told = Told::default();
    with_default(told.clone(), || {
        let ring = ring();
        let again = ring.queue(NotAtFirst(Answer(-libc::ECANCELED)));
        assert_eq!(finish(&ring, &again).unwrap(), 1);
    });
    let again = told.only("sent again");
    assert_eq!(again.level, Level::DEBUG);
    assert_eq!(again.field("opcode"), "Nop");
    assert_eq!(again.field("result"), (-libc::ECANCELED).to_string());
    assert_eq!(again.field("tries"), "1");
    assert_eq!(told.spans(), [span("Nop", Some(1), true)], "one op, one span");
}

/// An op that comes to nothing at first.
struct NotAtFirst(Answer);

// SAFETY: names no memory.
unsafe impl Op for NotAtFirst {
    type Output = std::io::Result<u32>;
    const CODE: Opcode = Answer::CODE;

    fn encode(&mut self, sqe: &mut Sqe) {
        self.0.encode(sqe);
        self.0 = Answer(1);
    }

    fn decode(self, result: std::io::Result<u32>) -> std::io::Result<u32> {
        self.0.decode(result)
    }
}

#[test]
fn what_is_stuck_and_the_workers_that_replace_it_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path().join("fifo"));
    let told = Told::default();
    with_default(told.clone(), || {
        let ring = builder().stuck_after(Duration::from_millis(1)).build().unwrap();
        let opens: Vec<_> = (0..3).map(|_| ring.queue(OpenInWorker::new(&fifo))).collect();
        turn_until(&ring, || ring.stats().stuck == 3);
        drop(opens);
        let _peer = lets_go(&fifo);
        drain(&ring);
    });
    let stuck: usize =
        told.all("stuck").iter().map(|event| event.field("ops").parse::<usize>().unwrap()).sum();
    assert_eq!(stuck, 3, "{:?}", told.events());
    assert!(told.all("stuck").iter().all(|event| event.level == Level::DEBUG));
    let limit = told.all("limit on workers was changed");
    assert!(!limit.is_empty(), "{:?}", told.events());
    assert!(limit.iter().all(|event| event.field("limit").parse::<u32>().unwrap() > 0));
}

#[test]
fn completions_that_did_not_fit_are_told() {
    let told = Told::default();
    with_default(told.clone(), || {
        let ring = builder().queue_depth(8).completions(16).build().unwrap();
        (0..100).for_each(|_| ring.nop().detach());
        ring.submit().unwrap();
        drain(&ring);
        assert!(ring.stats().overflows > 0);
    });
    assert!(!told.all("overflowed").is_empty(), "{:?}", told.events());
}

#[test]
fn a_limit_that_cannot_be_changed_is_told_once() {
    if !has_io_uring("a limit on workers that the kernel may refuse to raise") {
        return;
    }
    in_a_process_of_its_own(this_test!(), || {
        let told = Told::default();
        let ring = ring();
        refused(libc::SYS_io_uring_register, Refusal::Fails(libc::EPERM), || {
            with_default(told.clone(), || {
                for _ in 0..10 {
                    let fields = StatxFlags::TYPE;
                    run(&ring, ring.statx(CWD, "/", AtFlags::empty(), fields)).unwrap();
                }
            });
        });
        let fixed = told.only("cannot be changed");
        assert_eq!(fixed.level, Level::WARN);
        assert_eq!(fixed.field("errno"), libc::EPERM.to_string());
    });
}

#[test]
fn a_leak_is_told() {
    in_a_process_of_its_own(this_test!(), || {
        let told = Told::default();
        let ring = builder().drain_timeout(Duration::ZERO).build().unwrap();
        let pipes = [pipe(), pipe()];
        let dir = tempfile::tempdir().unwrap();
        let fifo = fifo(dir.path().join("fifo"));
        let hangs =
            |(reader, _): &_| ring.queue(Hangs::new(reader, &fifo, Graveyard::default().buffer()));
        let reads = pipes.each_ref().map(hangs);
        ring.submit().unwrap();
        Hangs::until_stuck(2);
        refused(libc::SYS_io_uring_enter, Refusal::TakesNothing, || {
            with_default(told.clone(), || drop(ring));
        });
        let leak = told.only("leaked");
        assert_eq!((leak.level, leak.field("ops").as_str()), (Level::ERROR, "2"));
        assert_eq!(leaked_ops(), 2);
        assert!(reads.iter().all(Handle::is_done));
    });
}

#[test]
fn a_ring_that_is_poisoned_is_told_once() {
    if !has_io_uring("a ring that the kernel may refuse for good") {
        return;
    }
    in_a_process_of_its_own(this_test!(), || {
        let told = Told::default();
        refused(libc::SYS_io_uring_enter, Refusal::Fails(libc::EPERM), || {
            with_default(told.clone(), || {
                let ring = ring();
                let nop = ring.nop();
                until("the refusals are final", || {
                    ring.submit().unwrap_err();
                    ring.stats().poisoned
                });
                ring.submit().unwrap_err();
                nop.try_take().unwrap().unwrap_err();
            });
        });
        let poisoned = told.only("poisoned");
        assert_eq!(poisoned.level, Level::ERROR);
        assert_eq!(poisoned.field("errno"), libc::EPERM.to_string());
    });
}

// A subscriber is the user's code.

#[test]
fn p11_a_subscriber_may_use_the_ring_from_everything_it_is_told() {
    bounded(|| {
        let dir = tempfile::tempdir().unwrap();
        let fifo = fifo(dir.path().join("fifo"));
        let ring = builder()
            .queue_depth(8)
            .completions(16)
            .stuck_after(Duration::from_millis(1))
            .build()
            .unwrap();
        let again = ring.clone();
        let uses = Does::new(move |_| {
            again.nop().detach();
            drop(again.nop());
            again.nop().cancel();
            again.pending();
            again.stats();
            again.submit().unwrap();
            again.reap().unwrap();
            again.wait(Some(Duration::ZERO)).unwrap();
        });
        let calls = uses.calls();
        with_default(uses, || {
            let (reader, _writer) = pipe();
            let polls: Vec<_> = (0..50).map(|_| ring.poll(&reader, PollFlags::IN)).collect();
            let open = ring.queue(OpenInWorker::new(&fifo));
            turn_until(&ring, || ring.stats().stuck > 0);
            run(&ring, ring.queue(Answer(-libc::EINTR))).unwrap_err();
            run(&ring, ring.cancel_all());
            drop((polls, open));
            let _peer = lets_go(&fifo);
            drain(&ring);
            run(&ring, ring.shutdown(std::time::Instant::now() + crate::support::BOUND));
        });
        assert!(calls.load(Ordering::SeqCst) >= 100, "{calls:?}");
    });
}

#[test]
fn p11_a_subscriber_that_panics_leaves_the_ring_whole() {
    // A panic while another unwinds would end the process.
    in_a_process_of_its_own(this_test!(), || {
        for when in [Call::NewSpan, Call::Record, Call::Event, Call::Close] {
            let ring = builder().queue_depth(8).completions(16).build().unwrap();
            let (reader, mut writer) = pipe();
            let reads: Vec<_> = (0..3).map(|_| ring.read(&reader, vec![0; 1], 0)).collect();
            let nops: Vec<_> = (0..100).map(|_| ring.nop()).collect();
            let mut late = Vec::new();
            with_default(Does::panic_on(when), || {
                late.extend(quietly(|| ring.nop()));
                quietly(|| ring.submit());
                writer.write_all(b"xyz").unwrap();
                quietly(|| ring.reap());
                quietly(|| run(&ring, ring.queue(Answer(-libc::EINTR))));
                quietly(|| drop(ring.nop()));
            });
            drain(&ring);
            reads.iter().for_each(|read| assert_eq!(read.try_take().unwrap().unwrap().0, 1));
            nops.iter().chain(&late).for_each(|nop| nop.try_take().expect("done").unwrap());
            finish(&ring, &ring.nop()).unwrap();
        }
    });
}

#[test]
fn p11_a_subscriber_that_panics_whenever_many_spans_are_closed_ends_no_process() {
    in_a_process_of_its_own(this_test!(), || {
        let ring = ring();
        let nops: Vec<_> = with_default(Does::panic_on(Call::Close), || {
            let nops: Vec<_> = (0..50).map(|_| ring.nop()).collect();
            ring.submit().unwrap();
            quietly(|| ring.reap());
            nops
        });
        drain(&ring);
        nops.iter().for_each(|nop| nop.try_take().expect("done").unwrap());
    });
}

#[test]
fn p11_the_end_of_a_ring_does_not_panic_when_a_subscriber_does() {
    in_a_process_of_its_own(this_test!(), || {
        let dir = tempfile::tempdir().unwrap();
        let fifo = fifo(dir.path().join("fifo"));
        for when in [Call::Record, Call::Event] {
            let ring = builder().completions(16).queue_depth(8).build().unwrap();
            let (reader, _writer) = pipe();
            let open = ring.queue(OpenInWorker::new(&fifo));
            let read = ring.read(&reader, vec![7; 3], 0);
            let polls: Vec<_> = (0..50).map(|_| ring.poll(&reader, PollFlags::IN)).collect();
            ring.submit().unwrap();
            let _peer = lets_go(&fifo);
            // A thread that has not submitted before is told what its workers' limit is.
            let told = thread::scope(|scope| {
                let drops = || {
                    with_default(Does::panic_on(when), || {
                        catch_unwind(AssertUnwindSafe(|| drop(ring))).is_ok()
                    })
                };
                scope.spawn(drops).join().unwrap()
            });
            assert!(told, "the drop of a ring panicked, at {when:?}");
            let BufResult(result, buf) = read.try_take().expect("ended");
            assert_eq!((errno(&result), buf), (Some(libc::ECANCELED), vec![7; 3]));
            assert!(open.is_done() && polls.iter().all(Handle::is_done));
        }
        assert_eq!(leaked_ops(), 0);
    });
}

/// Runs something that may panic, since the subscriber does.
fn quietly<T>(f: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(f)).ok()
}

/// One span, as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    opcode: String,
    result: Option<i64>,
    closed: bool,
}

fn span(opcode: &str, result: Option<i64>, closed: bool) -> Span {
    Span { opcode: opcode.into(), result, closed }
}

/// One event, as it was told.
#[derive(Clone, Debug)]
struct Said {
    level: Level,
    fields: BTreeMap<String, String>,
}

impl Said {
    #[track_caller]
    fn field(&self, name: &str) -> String {
        self.fields.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).clone()
    }
}

/// A span: its level, its fields, whether it is closed.
type Kept = (Level, BTreeMap<String, String>, bool);

/// A subscriber that keeps what it is told.
#[derive(Clone, Default)]
struct Told {
    /// What it wants to be told at most.
    most: Option<Level>,
    spans: Arc<Mutex<Vec<Kept>>>,
    events: Arc<Mutex<Vec<Said>>>,
}

impl Told {
    fn spans(&self) -> Vec<Span> {
        let spans = self.spans.lock().unwrap();
        let span = |(_, fields, closed): &Kept| Span {
            opcode: fields["opcode"].clone(),
            result: fields.get("result").map(|result| result.parse().unwrap()),
            closed: *closed,
        };
        spans.iter().map(span).collect()
    }

    fn levels(&self) -> Vec<Level> {
        self.spans.lock().unwrap().iter().map(|(level, ..)| *level).collect()
    }

    fn events(&self) -> Vec<Said> {
        self.events.lock().unwrap().clone()
    }

    /// The events whose message has these words.
    fn all(&self, words: &str) -> Vec<Said> {
        let mut events = self.events();
        events.retain(|event| event.field("message").contains(words));
        events
    }

    #[track_caller]
    fn only(&self, words: &str) -> Said {
        let found = self.all(words);
        assert_eq!(found.len(), 1, "`{words}` in {:?}", self.events());
        found[0].clone()
    }
}

fn index(id: &Id) -> usize {
    usize::try_from(id.into_u64() - 1).unwrap()
}

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.most.is_none_or(|most| *metadata.level() <= most)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        let mut spans = self.spans.lock().unwrap();
        spans.push((*attributes.metadata().level(), fields, false));
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let (_, fields, closed) = &mut self.spans.lock().unwrap()[index(id)];
        assert!(!*closed, "recorded after it was closed");
        values.record(&mut Fields(fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        let level = *event.metadata().level();
        self.events.lock().unwrap().push(Said { level, fields });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn try_close(&self, id: Id) -> bool {
        let closed = &mut self.spans.lock().unwrap()[index(&id)].2;
        assert!(!std::mem::replace(closed, true), "closed twice");
        true
    }
}

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }
}

/// What a subscriber is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    NewSpan,
    Record,
    Event,
    Close,
}

/// A subscriber that does something whenever it is called, but not while it does so.
struct Does<F> {
    does: F,
    busy: AtomicBool,
    calls: Arc<AtomicUsize>,
    spans: AtomicU64,
}

impl<F: Fn(Call)> Does<F> {
    fn new(does: F) -> Self {
        let (busy, calls) = (AtomicBool::new(false), Arc::default());
        Self { does, busy, calls, spans: AtomicU64::new(0) }
    }

    fn calls(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.calls)
    }

    fn called(&self, call: Call) {
        if !self.busy.swap(true, Ordering::SeqCst) {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let done = catch_unwind(AssertUnwindSafe(|| (self.does)(call)));
            self.busy.store(false, Ordering::SeqCst);
            if let Err(panic) = done {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Does<fn(Call)> {
    fn panic_on(when: Call) -> Does<impl Fn(Call) + Send + Sync + 'static> {
        Does::new(move |call| assert!(call != when, "a subscriber of the user's panics"))
    }
}

impl<F: Fn(Call) + Send + Sync + 'static> Subscriber for Does<F> {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        self.called(Call::NewSpan);
        Id::from_u64(self.spans.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {
        self.called(Call::Record);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.called(Call::Event);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn try_close(&self, _: Id) -> bool {
        self.called(Call::Close);
        true
    }
}
