//! Who may go to the kernel when: P5, P6 and P12.
//!
//! Ops wait in the ring, not in the kernel's workers: a crowd of one kind delays no other, and
//! nothing waits for ever behind what may block. No story measures time.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use deferring::op::{Class, Kind, Nop, Op, Openat2, Read};
use deferring::{
    AtFlags, CWD, ClassStats, Fd, Handle, Mode, OFlags, PollFlags, ResolveFlags, Ring, StatxFlags,
};

use crate::support::{
    OpenInWorker, Refusal, bounded, builder, drain, errno, fifo, finish, has_io_uring,
    in_a_process_of_its_own, lets_go, pipe, poll_once, refused, ring, run, sqpoll, this_test,
    turn_until,
};

const OPEN: Class = Class::Worker(Kind::Open);
const PATH: Class = Class::Worker(Kind::Path);
const DATA: Class = Class::Worker(Kind::Data);

/// How many worker ops of a kind are in the kernel at once, to begin with.
const CREDITS: usize = 32;

/// So long that nothing counts as stuck.
const NEVER: Duration = Duration::from_secs(3600);

// Credits.

#[test]
fn p5_beyond_the_credits_of_a_kind_ops_wait_in_the_ring_and_all_end() {
    let place = Place::new();
    let ring = builder().stuck_after(NEVER).build().unwrap();
    let opens = place.opens(&ring, 100);
    ring.submit().unwrap();
    let class = ring.stats().class(OPEN);
    assert_eq!((class.in_flight, class.queued, class.stuck), (CREDITS, 100 - CREDITS, 0));
    assert_eq!(class.credits, Some(CREDITS));
    assert_eq!((ring.pending().in_kernel, ring.pending().queued), (CREDITS, 100 - CREDITS));
    let peers = place.peers();
    opens.iter().for_each(|open| drop(finish(&ring, open).unwrap()));
    peers.end();
    assert_eq!(ring.stats().class(OPEN).in_flight, 0);
}

#[test]
fn p5_a_hundred_opens_that_block_are_released_by_opens_of_the_same_ring() {
    bounded(|| {
        let place = Place::new();
        for depth in [1, 64] {
            let ring = builder().queue_depth(depth).build().unwrap();
            let fifos: Vec<_> = (0..100).map(|at| place.fifo(&format!("{depth}.{at}"))).collect();
            let readers: Vec<_> =
                fifos.iter().map(|fifo| ring.queue(OpenInWorker::new(fifo))).collect();
            ring.submit().unwrap();
            // In the same queue, of the same kind, behind all that wait for them.
            let writer = |fifo| Openat2::new(CWD, fifo).flags(OFlags::WRONLY).in_worker();
            let writers: Vec<_> = fifos.iter().map(|fifo| ring.queue(writer(fifo))).collect();
            drain(&ring);
            for open in &readers {
                open.try_take().unwrap().unwrap();
            }
            for open in &writers {
                open.try_take().unwrap().unwrap();
            }
            let stats = ring.stats();
            assert!(stats.stuck >= 64 && stats.workers_raised > 0, "{stats:?}");
        }
    });
}

#[test]
fn p5_a_crowd_of_one_kind_delays_no_other() {
    let place = Place::new();
    let ring = builder().stuck_after(NEVER).build().unwrap();
    let opens = place.opens(&ring, 1000);
    ring.submit().unwrap();
    // Nothing counts as stuck, so that no open is replaced; every other kind goes on.
    run(&ring, async {
        place.one_of_each_kind(&ring).await;
    });
    assert!(opens.iter().all(|open| !open.is_done()));
    place.cancel(&ring, opens);
}

#[test]
fn p5_what_blocks_is_found_to_be_stuck_and_others_of_its_kind_go() {
    let place = Place::new();
    let ring = builder().stuck_after(Duration::from_millis(1)).build().unwrap();
    let opens = place.opens(&ring, CREDITS);
    ring.submit().unwrap();
    // By hand: the ticks come in a wait, without a submit.
    let last =
        ring.openat2(CWD, place.file(), OFlags::RDONLY, Mode::empty(), ResolveFlags::empty());
    finish(&ring, &last).unwrap();
    let stats = ring.stats();
    assert!(stats.stuck > 0 && stats.class(OPEN).stuck > 0, "{stats:?}");
    assert!(stats.workers as usize > CREDITS, "{stats:?}");
    assert!(opens.iter().all(|open| !open.is_done()), "what is stuck is not harmed");
    place.cancel(&ring, opens);
}

#[test]
fn p5_credits_grow_when_all_of_a_kind_are_stuck_and_shrink_again() {
    let place = Place::new();
    let ring = builder().stuck_after(Duration::from_millis(1)).build().unwrap();
    let opens = place.opens(&ring, 500);
    // They wait for something that only more of them could bring.
    turn_until(&ring, || ring.stats().class(OPEN).in_flight == 500);
    let class = ring.stats().class(OPEN);
    assert!(class.credits.unwrap() > CREDITS && class.queued == 0, "{class:?}");
    assert_eq!(ring.stats().class(PATH).credits, Some(CREDITS), "of that kind alone");
    place.cancel(&ring, opens);
    // The next tick that finds nothing stuck and nobody waiting takes them back.
    turn_until(&ring, || {
        finish(&ring, &place.statx(&ring)).unwrap();
        ring.stats().class(OPEN).credits == Some(CREDITS)
    });
}

#[test]
fn p5_stuck_after_is_a_millisecond_at_least() {
    let place = Place::new();
    for time in [Duration::ZERO, Duration::from_nanos(1)] {
        place.gets_past_what_blocks(&builder().stuck_after(time).build().unwrap());
    }
}

#[test]
fn p5_stuck_after_may_be_as_long_as_time() {
    in_a_process_of_its_own(this_test!(), || {
        let place = Place::new();
        place.gets_past_what_blocks(&builder().stuck_after(Duration::MAX).build().unwrap());
    });
}

#[test]
fn p5_an_op_that_is_known_to_block_takes_no_credit() {
    let place = Place::new();
    let ring = builder().stuck_after(NEVER).build().unwrap();
    let fifo = place.fifo("fifo");
    let open = || ring.queue(Openat2::new(CWD, &fifo).in_worker().may_block());
    let opens: Vec<_> = (0..200).map(|_| open()).collect();
    ring.submit().unwrap();
    let class = ring.stats().class(OPEN);
    assert_eq!((class.in_flight, class.stuck, class.queued), (200, 200, 0));
    assert!(ring.stats().workers >= 200, "each has a worker: {:?}", ring.stats());
    assert_eq!(ring.stats().stuck, 0, "nobody had to be found");
    // An open that does not block has a credit, and a worker.
    let open = Openat2::new(CWD, place.file()).in_worker();
    drop(finish(&ring, &ring.queue(open)).unwrap());
    drop(opens);
    let _peer = lets_go(&fifo);
    drain(&ring);
}

#[test]
fn p5_several_rings_of_one_thread_have_workers_for_all_that_block() {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    let rings: Vec<_> = (0..4).map(|_| ring()).collect();
    let open = |ring: &Ring| ring.queue(OpenInWorker::new(&fifo));
    let opens: Vec<_> =
        rings.iter().flat_map(|ring| (0..20).map(|_| open(ring)).collect::<Vec<_>>()).collect();
    rings.iter().for_each(|ring| assert_eq!(ring.submit().unwrap(), 20));
    for ring in &rings {
        run(ring, async { place.one_of_each_kind(ring).await });
    }
    drop(opens);
    let _peer = lets_go(&fifo);
    rings.iter().for_each(drain);
}

#[test]
fn p5_every_mode_of_a_ring_gets_past_what_blocks() {
    let place = Place::new();
    let modes = [
        builder().coop_taskrun(true),
        builder().single_issuer(true),
        builder().defer_taskrun(true),
    ];
    for builder in modes.into_iter().chain(sqpoll(Duration::from_millis(1))) {
        let ring = builder.queue_depth(8).build().unwrap();
        place.gets_past_what_blocks(&ring);
        // An open too, behind those that block.
        let opens = place.opens(&ring, 100);
        let file = Openat2::new(CWD, place.file()).in_worker();
        let opened = run(&ring, ring.queue(file));
        assert!(opened.is_ok(), "{opened:?} in {:?} after {:?}", ring.params(), ring.stats());
        place.cancel(&ring, opens);
    }
}

// Turnstiles.

#[test]
fn p5_one_read_of_a_pipe_at_a_time_is_in_the_kernel_and_they_end_in_their_order() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let log = Arc::<Mutex<Vec<usize>>>::default();
    let mut reads: Vec<_> = (0..1000).map(|_| ring.read(&reader, vec![0; 2], 0)).collect();
    for (at, read) in reads.iter_mut().enumerate() {
        let waker = Waker::from(Arc::new(Logs(at, Arc::clone(&log))));
        assert!(poll_once(read, &waker).is_pending());
    }
    ring.submit().unwrap();
    assert_eq!((ring.pending().in_kernel, ring.pending().queued), (1, 999));
    let bytes: Vec<_> = (0..1000u16).flat_map(u16::to_be_bytes).collect();
    writer.write_all(&bytes).unwrap();
    drain(&ring);
    for (at, read) in reads.iter().enumerate() {
        let (n, buf) = read.try_take().unwrap().into_inner().unwrap();
        assert_eq!((n, usize::from(u16::from_be_bytes([buf[0], buf[1]]))), (2, at));
    }
    assert!(log.lock().unwrap().iter().copied().eq(0..1000));
}

#[test]
fn p5_the_two_directions_of_a_socket_do_not_wait_for_each_other() {
    let ring = ring();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (ours, theirs) = (Fd::from(ours), Fd::from(theirs));
    let reads = [0; 3].map(|_| ring.read(&ours, vec![0; 5], 0));
    ring.submit().unwrap();
    assert_eq!((ring.pending().queued, ring.pending().in_kernel), (2, 1));
    run(&ring, ring.write(&ours, "hello", 0)).unwrap();
    run(&ring, ring.write(&theirs, "world", 0)).unwrap();
    let [first, ..] = reads;
    assert_eq!(run(&ring, first).into_inner().unwrap(), (5, b"world".to_vec()));
}

#[test]
fn p5_writes_to_a_full_pipe_wait_for_each_other_and_keep_their_order() {
    let ring = ring();
    let (reader, writer) = pipe();
    let writer = Fd::from(writer);
    let writes: Vec<_> = (0..8u8).map(|at| ring.write(&writer, vec![at; 40_000], 0)).collect();
    ring.submit().unwrap();
    assert!(ring.pending().in_kernel <= 1 && ring.pending().queued >= 6, "{:?}", ring.pending());
    drop(writer); // The ops keep it open, for as long as there are any.
    let mut bytes = Vec::new();
    loop {
        let (n, buf) = run(&ring, ring.read(&reader, vec![0; 65_536], 0)).into_inner().unwrap();
        bytes.extend_from_slice(&buf[..n]);
        if n == 0 {
            break;
        }
    }
    let written = writes.iter().map(|write| write.try_take().unwrap().unwrap().0);
    assert_eq!(written.sum::<usize>(), bytes.len());
    assert!(bytes.is_sorted(), "each behind the one before it");
}

#[test]
fn p5_what_never_waits_has_no_turnstile() {
    let ring = ring();
    let (zero, null) = (open("/dev/zero"), open("/dev/null"));
    let place = Place::new();
    let file = open(place.file());
    let zeros: Vec<_> = (0..50).map(|_| ring.read(&zero, vec![1; 8], 0)).collect();
    let nulls: Vec<_> = (0..50).map(|_| ring.read(&null, vec![1; 8], 0)).collect();
    let reads: Vec<_> = (0..20).map(|_| ring.read(&file, vec![0; 5], 0)).collect();
    ring.submit().unwrap();
    assert_eq!(ring.pending().queued, 0, "all of them went");
    drain(&ring);
    zeros.iter().for_each(|read| assert_eq!(read.try_take().unwrap().unwrap().1, [0; 8]));
    nulls.iter().for_each(|read| assert_eq!(read.try_take().unwrap().unwrap().0, 0));
    reads.iter().for_each(|read| assert_eq!(read.try_take().unwrap().unwrap().1, b"hello"));
}

#[test]
fn p5_polls_of_one_descriptor_are_in_the_kernel_all_at_once() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let polls: Vec<_> = (0..2000).map(|_| ring.poll(&reader, PollFlags::IN)).collect();
    ring.submit().unwrap();
    assert_eq!((ring.pending().queued, ring.pending().in_kernel), (0, 2000));
    assert_eq!(ring.stats().class(Class::Control).in_flight, 2000);
    writer.write_all(b"x").unwrap();
    drain(&ring);
    polls.iter().for_each(|poll| assert_eq!(poll.try_take().unwrap().unwrap(), PollFlags::IN));
}

// Workers that are asked for.

#[test]
fn p5_an_op_may_be_sent_to_a_worker_and_then_takes_a_credit_and_no_turn() {
    let ring = builder().stuck_after(NEVER).build().unwrap();
    let (reader, mut writer) = pipe();
    let read = || ring.queue(Read::new(&reader, vec![0; 1], 0).in_worker());
    let reads: Vec<_> = (0..40).map(|_| read()).collect();
    ring.submit().unwrap();
    let class = ring.stats().class(DATA);
    assert_eq!((class.in_flight, class.queued), (CREDITS, 40 - CREDITS));
    writer.write_all(&[7; 40]).unwrap();
    drain(&ring);
    reads.iter().for_each(|read| assert_eq!(read.try_take().unwrap().unwrap().1, [7]));
    run(&ring, ring.queue(Nop::new().in_worker())).unwrap();
}

#[test]
fn p5_a_large_read_goes_to_a_worker_and_a_small_one_does_not() {
    if !has_io_uring("reads that are done while they are submitted") {
        return;
    }
    let ring = ring();
    let zero = open("/dev/zero");
    let in_workers = |len: usize| {
        let read = ring.read(&zero, vec![1; len], 0);
        // What runs while it is submitted has a completion when the submit returns.
        ring.submit().unwrap();
        let ended = ring.wait(Some(Duration::ZERO)).unwrap();
        assert!(finish(&ring, &read).unwrap().0 > 0, "short, maybe");
        !ended
    };
    assert!(!in_workers(1 << 12) && !in_workers(1 << 20));
    assert!(in_workers(256 << 20), "submitting it would have blocked");
}

#[test]
fn p5_files_in_memory_are_read_and_written() {
    let dir = ["/dev/shm", "/tmp"].map(Path::new).into_iter().find(|dir| dir.is_dir()).unwrap();
    let file = Fd::from(tempfile::tempfile_in(dir).unwrap());
    let ring = ring();
    run(&ring, async {
        let writes: Vec<_> =
            (0..64u8).map(|at| ring.write(&file, vec![at; 4096], u64::from(at) * 4096)).collect();
        for write in writes {
            assert_eq!(write.await.unwrap().0, 4096);
        }
        let reads: Vec<_> = (0..64).map(|at| ring.read(&file, vec![0; 4096], at * 4096)).collect();
        for (at, read) in (0u8..).zip(reads) {
            assert_eq!(read.await.into_inner().unwrap(), (4096, vec![at; 4096]));
        }
        let whole = ring.read(&file, vec![0; 2 << 20], 0).await;
        assert_eq!(whole.unwrap().0, 64 * 4096);
        ring.fsync(&file).await.unwrap();
    });
    assert_eq!(ring.stats().class(DATA).in_flight, 0);
}

// Fairness.

#[test]
fn p6_a_flood_of_nops_does_not_starve_a_statx() {
    let place = Place::new();
    for depth in [1, 8] {
        let ring = builder().queue_depth(depth).build().unwrap();
        let flood = Flood::of(&ring, |ring| ring.nop().detach());
        for _ in 0..100 {
            assert_eq!(run(&ring, place.statx(&ring)).unwrap().size(), Some(5));
        }
        flood.end();
    }
}

#[test]
fn p6_a_flood_of_statx_does_not_starve_a_nop_nor_another_kind() {
    let place = Place::new();
    for depth in [1, 8] {
        let ring = builder().queue_depth(depth).build().unwrap();
        let path = place.file();
        let flood = Flood::of(&ring, move |ring| {
            ring.statx(CWD, &path, AtFlags::empty(), StatxFlags::SIZE).detach();
        });
        let file = open(place.file());
        for _ in 0..100 {
            run(&ring, ring.nop()).unwrap();
            run(&ring, ring.fsync(&file)).unwrap();
        }
        flood.end();
    }
}

#[test]
fn p6_what_has_waited_for_a_credit_goes_before_what_comes_after_it() {
    let place = Place::new();
    // Nothing counts as stuck, so that no more are in the kernel than there are credits.
    let ring = builder().queue_depth(8).stuck_after(NEVER).build().unwrap();
    let log = Arc::<Mutex<Vec<usize>>>::default();
    let mut stats: Vec<_> = (0..500).map(|_| place.statx(&ring)).collect();
    for (at, stat) in stats.iter_mut().enumerate() {
        let waker = Waker::from(Arc::new(Logs(at, Arc::clone(&log))));
        assert!(poll_once(stat, &waker).is_pending());
    }
    drain(&ring);
    // Workers end as they like. But an op goes when all before it have gone, and those that have
    // gone and not ended hold a credit each.
    for (at, &ended) in log.lock().unwrap().iter().enumerate() {
        assert!(ended < at + CREDITS, "the op {ended} was the {at}th to end");
    }
}

// What a submit says.

#[test]
fn p12_a_submit_counts_ops_and_cancels_and_nothing_else() {
    let place = Place::new();
    let ring = builder().stuck_after(Duration::from_millis(1)).build().unwrap();
    let (reader, _writer) = pipe();
    let poll = ring.poll(&reader, PollFlags::IN).timeout(NEVER);
    let opens = place.opens(&ring, 3);
    assert_eq!(ring.submit().unwrap(), 4, "not the timeout for the deadline and the tick");
    assert!(ring.stats().own_sqes > 0);
    assert_eq!(ring.stats().sqes, 4);
    drop(poll);
    opens.iter().for_each(|open| {
        open.cancel();
    });
    assert_eq!(ring.submit().unwrap(), 4, "the cancels");
    let _peer = lets_go(&place.blocks());
    drain(&ring);
    let reads = [0; 5].map(|_| ring.read(&reader, vec![0; 1], 0));
    assert_eq!(ring.submit().unwrap(), 1, "the others wait behind it");
    drop(reads);
    drain(&ring);
}

#[test]
fn p12_a_ring_with_nothing_to_do_asks_for_nothing() {
    let place = Place::new();
    let ring = builder().stuck_after(Duration::from_millis(1)).build().unwrap();
    run(&ring, place.statx(&ring)).unwrap();
    // The ticks that were asked for come; then there are no more.
    turn_until(&ring, || {
        let before = ring.stats().own_sqes;
        ring.wait(Some(Duration::from_millis(5))).unwrap();
        ring.stats().own_sqes == before
    });
}

// Numbers.

#[test]
fn p12_the_numbers_of_a_class_say_where_its_ops_are() {
    let place = Place::new();
    let ring = builder().stuck_after(NEVER).build().unwrap();
    let (reader, _writer) = pipe();
    let opens = place.opens(&ring, 40);
    let reads = [0; 3].map(|_| ring.read(&reader, vec![0; 1], 0));
    let polls = [0; 4].map(|_| ring.poll(&reader, PollFlags::IN));
    assert_eq!(ring.stats().queued, 47);
    ring.submit().unwrap();
    let stats = ring.stats();
    assert_eq!(numbers(stats.class(OPEN)), (8, 32, 0, Some(32)));
    assert_eq!(numbers(stats.class(Class::Pollable)), (0, 1, 0, None));
    assert_eq!(numbers(stats.class(Class::Control)), (0, 4, 0, None));
    assert_eq!(numbers(stats.class(PATH)), (0, 0, 0, Some(32)));
    assert_eq!((stats.queued, stats.sqes, stats.cancels), (10, 37, 0));
    let cancelled = ring.cancel_all();
    ring.submit().unwrap();
    let _peer = lets_go(&place.blocks());
    drain(&ring);
    drop((opens, reads, polls, cancelled));
    let stats = ring.stats();
    assert_eq!((stats.queued, stats.cancels, stats.ended), (0, 0, 47));
    assert_eq!(stats.cancels_sent, 37);
    for class in [OPEN, PATH, DATA, Class::Control, Class::Pollable] {
        assert_eq!(stats.class(class).in_flight, 0);
    }
}

#[test]
fn p12_the_numbers_can_be_asked_for_from_anywhere() {
    bounded(|| {
        let ring = ring();
        let asked = Arc::new(AtomicUsize::new(0));
        let (again, counts) = (ring.clone(), Arc::clone(&asked));
        let waker = Waker::from(Arc::new(Calls(move || {
            assert!(again.stats().ended <= 100);
            counts.fetch_add(1, Ordering::SeqCst);
        })));
        let mut nops: Vec<_> = (0..100).map(|_| ring.nop()).collect();
        nops.iter_mut().for_each(|nop| assert!(poll_once(nop, &waker).is_pending()));
        drain(&ring);
        assert_eq!(asked.load(Ordering::SeqCst), 100);
        // With the ring locked: an op of the user's own may look while it is written.
        let looks = Looks { ring: ring.clone() };
        run(&ring, ring.queue(looks)).unwrap();
    });
}

#[test]
fn p5_without_the_right_to_raise_the_limit_what_does_not_block_goes_on() {
    if !has_io_uring("a limit on workers that the kernel may refuse to raise") {
        return;
    }
    in_a_process_of_its_own(this_test!(), || {
        let place = Place::new();
        let refusal = Refusal::Fails(libc::EPERM);
        let ring = builder().queue_depth(8).build().unwrap();
        refused(libc::SYS_io_uring_register, refusal, || {
            run(&ring, async {
                for _ in 0..50 {
                    place.one_of_each_kind(&ring).await;
                }
            });
            let stats: Vec<_> = (0..200).map(|_| place.statx(&ring)).collect();
            drain(&ring);
            stats.iter().for_each(|stat| assert!(stat.try_take().unwrap().is_ok()));
            let credits = ring.stats().class(PATH).credits.unwrap();
            assert!((1..CREDITS).contains(&credits), "{credits} of eight workers");
        });
    });
}

/// A directory with what ops are made on.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "hello").unwrap();
        Self { dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("file")
    }

    fn fifo(&self, name: &str) -> PathBuf {
        fifo(self.dir.path().join(name))
    }

    /// Opens of one FIFO, which block.
    fn opens(&self, ring: &Ring, count: usize) -> Vec<Handle<OpenInWorker>> {
        let path = self.blocks();
        if !path.exists() {
            self.fifo("blocks");
        }
        (0..count).map(|_| ring.queue(OpenInWorker::new(&path))).collect()
    }

    fn blocks(&self) -> PathBuf {
        self.dir.path().join("blocks")
    }

    /// Cancels them, and sees them end.
    fn cancel(&self, ring: &Ring, opens: Vec<Handle<OpenInWorker>>) {
        drop(opens);
        let _peer = lets_go(&self.blocks());
        drain(ring);
    }

    /// Opens that FIFO for writing, which releases the others.
    fn peers(&self) -> Peers {
        let path = self.blocks();
        Peers(thread::spawn(move || File::options().write(true).open(path).unwrap()))
    }

    fn statx(&self, ring: &Ring) -> Handle<deferring::op::Statx> {
        ring.statx(CWD, self.file(), AtFlags::empty(), StatxFlags::BASIC_STATS)
    }

    /// Ops of each kind but opens end, with many opens that block.
    fn gets_past_what_blocks(&self, ring: &Ring) {
        let opens = self.opens(ring, 100);
        ring.submit().unwrap();
        run(ring, async { self.one_of_each_kind(ring).await });
        self.cancel(ring, opens);
    }

    /// Ops of each kind but opens.
    async fn one_of_each_kind(&self, ring: &Ring) {
        let file = Fd::from(File::options().read(true).write(true).open(self.file()).unwrap());
        let sub = self.dir.path().join("sub");
        let (stat, nop) = (self.statx(ring), ring.nop());
        let (write, sync) = (ring.write(&file, "hello", 0), ring.fdatasync(&file));
        let (reader, _writer) = pipe();
        let poll = ring.poll(&reader, PollFlags::OUT).timeout(Duration::from_millis(1));
        assert_eq!(stat.await.unwrap().size(), Some(5));
        nop.await.unwrap();
        assert_eq!(write.await.unwrap().0, 5);
        sync.await.unwrap();
        ring.mkdirat(CWD, &sub, Mode::RWXU).await.unwrap();
        ring.unlinkat(CWD, &sub, AtFlags::REMOVEDIR).await.unwrap();
        assert_eq!(errno(&poll.await), Some(libc::ETIMEDOUT));
        ring.close(&file).await.unwrap();
    }
}

struct Peers(thread::JoinHandle<File>);

impl Peers {
    fn end(self) {
        drop(self.0.join().unwrap());
    }
}

/// Another thread that queues without end, at most so many at once.
struct Flood {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Flood {
    fn of(ring: &Ring, queue: impl Fn(&Ring) + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (ends, ring) = (Arc::clone(&over), ring.clone());
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::SeqCst) {
                while ring.in_flight() < 2000 && !ends.load(Ordering::SeqCst) {
                    queue(&ring);
                }
                ring.submit().unwrap();
                ring.reap().unwrap();
            }
            drain(&ring);
        });
        Self { over, thread }
    }

    fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

/// A nop that looks at its ring's numbers while it is written.
struct Looks {
    ring: Ring,
}

// SAFETY: names no memory.
unsafe impl Op for Looks {
    type Output = std::io::Result<u32>;
    const CODE: deferring::op::Opcode = deferring::op::Opcode::NOP;

    fn encode(&mut self, _: &mut deferring::op::Sqe) {
        self.ring.stats();
    }

    fn decode(self, result: std::io::Result<u32>) -> std::io::Result<u32> {
        result
    }
}

/// A waker that does something.
struct Calls<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// A waker that writes its number down.
struct Logs(usize, Arc<Mutex<Vec<usize>>>);

impl Wake for Logs {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
    }
}

fn open(path: impl AsRef<Path>) -> Fd {
    File::open(path).unwrap().into()
}

/// What waits, is in the kernel, is stuck; and how many may go.
fn numbers(class: ClassStats) -> (usize, usize, usize, Option<usize>) {
    (class.queued, class.in_flight, class.stuck, class.credits)
}
