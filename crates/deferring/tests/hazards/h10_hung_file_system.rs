//! The end of a ring while reads hang in a file system whose server does not answer.
//!
//! Such a read cannot be cancelled, and the thread that submitted it cannot exit before the server
//! answers. The drop of the ring gives up at its deadline all the same; what the kernel still has
//! is leaked, counted, and never freed. And nobody is made to wait for such a server by asking what
//! a file of it is.

use std::fs;
use std::time::{Duration, Instant};

use deferring::op::{Mkdirat, Read, Statx};
use deferring::{
    AtFlags, BufResult, CWD, CancelOutcome, Fd, Handle, Mode, RenameFlags, Ring, RingError,
    StatxFlags, leaked_ops,
};

use crate::fuse::{Control, Fuse, Reads};
use crate::report::{Hazard, long};
use crate::support::{
    Graveyard, PAGE, Told, bounded, builder, in_a_process_of_its_own, skipped, this_test,
};
use crate::way::Way;

const DEADLINE: Duration = Duration::from_millis(100);

#[test]
fn h10_a_ring_ends_by_its_deadline_while_reads_hang_by_hand() {
    in_a_process_of_its_own(this_test!(), || the_ring_ends(Reads::Async, Way::ByHand));
}

#[test]
fn h10_a_ring_ends_by_its_deadline_while_reads_hang_under_block_on() {
    in_a_process_of_its_own(this_test!(), || the_ring_ends(Reads::Async, Way::BlockOn));
}

#[test]
fn h10_a_ring_ends_by_its_deadline_while_reads_hang_that_cannot_wait_apart() {
    in_a_process_of_its_own(this_test!(), || the_ring_ends(Reads::Sync, Way::ByHand));
}

#[test]
fn h10_a_thread_that_may_block_leaves_what_a_server_may_hold_up_to_the_ring() {
    in_a_process_of_its_own(this_test!(), || {
        let hazard = Hazard::begin(10);
        let fuse = match Fuse::mount(Reads::Async) {
            Ok(fuse) => fuse,
            Err(needs) => return skipped(&needs),
        };
        let ring = builder().callers_may_block(true).build().unwrap();
        let (root, fine) = (fuse.root(), fuse.open("fine"));
        let (empty, flags) = (AtFlags::empty(), RenameFlags::empty());
        let place = tempfile::tempdir().unwrap();
        let dir = Fd::from(fs::File::open(place.path()).unwrap());
        let names = [
            ring.queue(Mkdirat::new(&root, "new", Mode::RWXU)),
            ring.queue(Mkdirat::new(&dir, fuse.place().join("new"), Mode::RWXU)),
        ];
        let unlink = ring.unlinkat(&root, "fine", empty);
        let renames = [
            ring.renameat2(&dir, "none", &root, "new", flags),
            ring.renameat2(&root, "fine", &dir, "new", flags),
        ];
        let symlink = ring.symlinkat("anywhere", &root, "new");
        let write = ring.write(&fine, "x", 0);
        let done = [unlink.is_done(), symlink.is_done(), write.is_done()];
        assert!(done == [false; 3] && !names.iter().any(Handle::is_done));
        assert!(!renames.iter().any(Handle::is_done));
        // The server knows none of it; each ends, with an error.
        let results: Vec<_> = Way::ByHand.finish_all(&ring, names.into());
        let results = results.into_iter().chain(Way::ByHand.finish_all(&ring, renames.into()));
        assert!(results.into_iter().all(|result| result.is_err()));
        Way::ByHand.finish(&ring, unlink).unwrap_err();
        Way::ByHand.finish(&ring, symlink).unwrap_err();
        Way::ByHand.finish(&ring, write).0.unwrap_err();
        assert_eq!(ring.stats().sqes, 7);
        at_the_mount_nobody_asks_the_server(&ring, &fuse);
        hazard.saw(format_args!("7 ops on FUSE went through the ring; a mount point is EBUSY"));
    });
}

/// By its name in the directory above, which is on another file system.
fn at_the_mount_nobody_asks_the_server(ring: &Ring, fuse: &Fuse) {
    let above = Fd::from(fs::File::open(fuse.place().parent().unwrap()).unwrap());
    let name = fuse.place().file_name().unwrap();
    let rmdir = ring.unlinkat(&above, name, AtFlags::REMOVEDIR);
    let result = Way::ByHand.finish(ring, rmdir);
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBUSY));
}

/// That the process can exit in the end, in time, is seen by who started it.
fn the_ring_ends(reads: Reads, way: Way) {
    let hazard = Hazard::begin(10);
    let fuse = match Fuse::mount(reads) {
        Ok(fuse) => fuse,
        Err(needs) => return skipped(&needs),
    };
    let (hung, control) = (fuse.open_hung(if long() { 64 } else { 4 }), fuse.control());
    let (count, fine) = (hung.len(), fuse.open("fine"));
    // A submit or a drop that blocks is let go by the end of `fuse`, which is here.
    let (took, graveyard) = bounded(move || drop_while_they_hang(&hung, &fine, &control, way));
    // All is let go: what the kernel had until now was never given to anybody else.
    drop(fuse);
    assert_eq!(graveyard.freed(), 0, "the kernel had the buffers");
    hazard.saw(format_args!(
        "{count} reads hung in FUSE, other ops ended; the ring's drop took {took:.1?} (deadline \
         {DEADLINE:?}), {} ops are leaked ({reads:?} reads, {way:?})",
        leaked_ops()
    ));
}

#[test]
fn h10_whoever_asks_of_a_file_whose_server_hangs_goes_on_by_hand() {
    in_a_process_of_its_own(this_test!(), || nobody_asks_the_server(Way::ByHand));
}

#[test]
fn h10_whoever_asks_of_a_file_whose_server_hangs_goes_on_under_block_on() {
    in_a_process_of_its_own(this_test!(), || nobody_asks_the_server(Way::BlockOn));
}

fn nobody_asks_the_server(way: Way) {
    let hazard = Hazard::begin(10);
    let fuse = match Fuse::mount(Reads::Async) {
        Ok(fuse) => fuse,
        Err(needs) => return skipped(&needs),
    };
    let (stale, again, control) = (fuse.open("stale"), fuse.open("stale"), fuse.control());
    let local = Fd::from(fs::File::open("/").unwrap());
    // A question that blocks is let go by the end of `fuse`, which is here.
    bounded(move || {
        let ring = builder().build().unwrap();
        // What is mounted is known from here on, so that a new descriptor is asked everything.
        way.finish(&ring, ring.queue(Statx::of(&local))).unwrap();
        let asked: Vec<_> = [&stale, &again].map(|fd| ring.queue(Statx::of(fd))).into();
        assert_eq!(control.held(), 0, "it was asked, when that was queued");
        ring.submit().unwrap();
        way.turn_until(&ring, || control.held() == 2);
        way.finish(&ring, ring.nop()).unwrap();
        assert!(asked.iter().all(|stat| !stat.is_done()), "nobody has answered");
        control.answer();
        for stat in way.finish_all(&ring, asked) {
            assert_eq!(stat.unwrap().size(), Some(PAGE as u64));
        }
    });
    hazard.saw(format_args!("2 questions hung in FUSE, which others did not wait for ({way:?})"));
}

/// How long the drop took, before anybody answered.
fn drop_while_they_hang(
    hung: &[Fd],
    fine: &Fd,
    control: &Control,
    way: Way,
) -> (Duration, Graveyard) {
    let ring = builder().queue_depth(64).drain_timeout(DEADLINE).build().unwrap();
    let graveyard = Graveyard::default();
    let read = |fd| ring.read(fd, graveyard.buffer(), 0);
    let mut reads: Vec<Handle<Read<Told>>> = hung.iter().map(read).collect();
    ring.submit().unwrap();
    way.turn_until(&ring, || control.held() == hung.len());
    others_go_on(&ring, fine, way);
    assert!(reads.iter().all(|read| !read.is_done()), "nobody has answered");
    // One that nobody awaits, and one whose cancel cannot help.
    drop(reads.pop());
    assert_ne!(cancel(&ring, reads.last().expect("more"), way), CancelOutcome::Cancelled);

    let start = Instant::now();
    drop(ring);
    let took = start.elapsed();
    assert_eq!((leaked_ops(), graveyard.freed()), (hung.len() as u64, 0));
    reads.iter().for_each(check_lost);
    control.answer();
    (took, graveyard)
}

fn cancel(ring: &Ring, read: &Handle<Read<Told>>, way: Way) -> CancelOutcome {
    let cancel = read.cancel();
    way.turn_until(ring, || cancel.outcome().is_some());
    cancel.outcome().expect("known")
}

/// Ops on that file system and on another.
fn others_go_on(ring: &Ring, fine: &Fd, way: Way) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "seventeen letters").unwrap();
    let statx = |_| ring.statx(CWD, &path, AtFlags::empty(), StatxFlags::SIZE);
    for stat in way.finish_all(ring, (0..100).map(statx).collect()) {
        assert_eq!(stat.unwrap().size(), Some(17));
    }
    let read = ring.read(fine, Vec::with_capacity(PAGE), 0);
    assert_eq!(way.finish(ring, read).into_inner().unwrap().1, [b'x'; PAGE]);
    way.finish(ring, ring.nop()).unwrap();
    way.finish(ring, ring.unlinkat(CWD, &path, AtFlags::empty())).unwrap();
}

/// It says so, and has a buffer in place of the one that it cannot give back.
fn check_lost(read: &Handle<Read<Told>>) {
    let BufResult(result, buf) = read.try_take().expect("ended");
    let error = result.expect_err("the server has not answered");
    let ring_error = error.get_ref().and_then(|inner| inner.downcast_ref::<RingError>());
    assert!(ring_error.is_some() && buf.is_stand_in(), "{error}");
}
