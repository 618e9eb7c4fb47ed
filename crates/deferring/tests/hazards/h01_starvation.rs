//! Calls that block for ever, in one ring with calls that do not and with those that release them.
//!
//! io-wq has few workers (8 on two processors), and its limit is fixed when the ring's thread first
//! uses one. Eight opens of FIFOs without a peer stop every `statx` and `unlink` of that thread,
//! and the very opens that would release them, with both queues of the ring empty.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use deferring::op::{Fsync, Openat2, Read, Renameat, Statx, Unlinkat, Write};
use deferring::{AtFlags, ResolveFlags};
use deferring::{CWD, Fd, Handle, OFlags, RenameFlags, Ring, StatxFlags};

use crate::fuse::{Control, Fuse, Reads};
use crate::report::{Hazard, long};
use crate::scene::{RW, allow_descriptors, fifos, open_each};
use crate::support::{PAGE, bounded, builder, in_a_process_of_its_own, skipped, this_test};
use crate::way::Way;

#[test]
fn h01_finite_calls_end_while_8_opens_wait_by_hand() {
    in_a_process_of_its_own(this_test!(), || opens_wait(8, Way::ByHand));
}

#[test]
fn h01_finite_calls_end_while_64_opens_wait_by_hand() {
    in_a_process_of_its_own(this_test!(), || opens_wait(64, Way::ByHand));
}

#[test]
fn h01_finite_calls_end_while_1024_opens_wait_by_hand() {
    in_a_process_of_its_own(this_test!(), || opens_wait(1024, Way::ByHand));
}

#[test]
fn h01_finite_calls_end_while_8_opens_wait_under_block_on() {
    in_a_process_of_its_own(this_test!(), || opens_wait(8, Way::BlockOn));
}

#[test]
fn h01_finite_calls_end_while_64_opens_wait_under_block_on() {
    in_a_process_of_its_own(this_test!(), || opens_wait(64, Way::BlockOn));
}

#[test]
fn h01_finite_calls_end_while_1024_opens_wait_under_block_on() {
    in_a_process_of_its_own(this_test!(), || opens_wait(1024, Way::BlockOn));
}

/// One process meets it several times in the long form: workers of the last time are there then.
fn opens_wait(count: usize, way: Way) {
    let rounds = if long() { 10 } else { 1 };
    if !allow_descriptors(2 * count) {
        return skipped(&format!("{} descriptors (ulimit -n)", 2 * count));
    }
    for _ in 0..rounds {
        opens_wait_once(count, way);
    }
}

fn opens_wait_once(count: usize, way: Way) {
    let hazard = Hazard::begin(1);
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let paths = fifos(dir.path(), count);
    // Each that blocks has a thread, where threads do it.
    let threads = u32::try_from(4 * count).unwrap();
    let ring = builder().queue_depth(64).pool_threads_max(threads).build().unwrap();
    let readers = open_each(&ring, &paths, OFlags::RDONLY);
    ring.submit().unwrap();
    let kinds = Finite::queue(&ring, files.path()).finish(&ring, way);
    assert!(readers.iter().all(|open| !open.is_done()), "nobody has opened the other end");

    let writers = open_each(&ring, &paths, OFlags::WRONLY);
    let writers = way.finish_all(&ring, writers);
    let readers = way.finish_all(&ring, readers);
    for (number, (reader, writer)) in readers.into_iter().zip(writers).enumerate() {
        check_pair(number, file(reader.unwrap()), file(writer.unwrap()));
    }
    hazard.saw(format_args!(
        "{count} opens of FIFOs waited, {kinds} finite ops ended meanwhile, then all {} ({way:?})",
        2 * count
    ));
}

fn file(fd: Fd) -> File {
    fd.try_into_owned().expect("no op uses it").into()
}

/// The two ends are of the same FIFO.
fn check_pair(number: usize, mut reader: File, mut writer: File) {
    let number = number.to_string();
    writer.write_all(number.as_bytes()).unwrap();
    drop(writer);
    let mut told = String::new();
    reader.read_to_string(&mut told).unwrap();
    assert_eq!(told, number);
}

#[test]
fn h01_finite_calls_end_while_8_reads_of_a_dead_server_hang_by_hand() {
    reads_hang(Reads::Async, Way::ByHand);
    reads_hang(Reads::Sync, Way::ByHand);
}

#[test]
fn h01_finite_calls_end_while_8_reads_of_a_dead_server_hang_under_block_on() {
    reads_hang(Reads::Async, Way::BlockOn);
    reads_hang(Reads::Sync, Way::BlockOn);
}

fn reads_hang(reads: Reads, way: Way) {
    const COUNT: usize = 8;
    let hazard = Hazard::begin(1);
    let fuse = match Fuse::mount(reads) {
        Ok(fuse) => fuse,
        Err(needs) => return skipped(&needs),
    };
    let (hung, control) = (fuse.open_hung(COUNT), fuse.control());
    // A submit that blocks is let go by the end of `fuse`, which is here.
    let kinds = bounded(move || while_they_hang(&hung, &control, way));
    hazard.saw(format_args!(
        "{COUNT} reads of a FUSE server hung, {kinds} finite ops ended meanwhile, then all \
         ({reads:?} reads, {way:?})"
    ));
}

fn while_they_hang(hung: &[Fd], control: &Control, way: Way) -> usize {
    let files = tempfile::tempdir().unwrap();
    let ring = builder().queue_depth(64).build().unwrap();
    let read = |fd| ring.read(fd, Vec::with_capacity(PAGE), 0);
    let reads: Vec<Handle<Read<Vec<u8>>>> = hung.iter().map(read).collect();
    ring.submit().unwrap();
    way.turn_until(&ring, || control.held() == hung.len());
    let kinds = Finite::queue(&ring, files.path()).finish(&ring, way);
    assert!(reads.iter().all(|read| !read.is_done()), "nobody has answered");

    control.answer();
    for read in way.finish_all(&ring, reads) {
        let (n, buf) = read.into_inner().unwrap();
        assert_eq!((n, buf), (PAGE, vec![b'x'; PAGE]));
    }
    kinds
}

/// One op of each kind that ends by itself and needs a worker. All are queued together.
struct Finite<'a> {
    place: &'a Path,
    statx: Handle<Statx>,
    unlink: Handle<Unlinkat>,
    rename: Handle<Renameat>,
    fsync: Handle<Fsync>,
    create: Handle<Openat2>,
    write: Handle<Write<Vec<u8>>>,
}

const MIB: usize = 1 << 20;

impl<'a> Finite<'a> {
    fn queue(ring: &Ring, place: &'a Path) -> Self {
        for name in ["stat", "unlink", "rename"] {
            fs::write(place.join(name), "seventeen letters").unwrap();
        }
        let [synced, written] = ["synced", "written"]
            .map(|name| Fd::from(File::create(place.join(name)).expect("a file")));
        let at = |name| place.join(name);
        let create = OFlags::WRONLY | OFlags::CREATE;
        Self {
            place,
            statx: ring.statx(CWD, at("stat"), AtFlags::empty(), StatxFlags::BASIC_STATS),
            unlink: ring.unlinkat(CWD, at("unlink"), AtFlags::empty()),
            rename: ring.renameat2(CWD, at("rename"), CWD, at("renamed"), RenameFlags::empty()),
            fsync: ring.fsync(&synced),
            create: ring.openat2(CWD, at("created"), create, RW, ResolveFlags::empty()),
            write: ring.write(&written, vec![b'w'; MIB], 0),
        }
    }

    /// How many there were; each did what it says.
    fn finish(self, ring: &Ring, way: Way) -> usize {
        assert_eq!(way.finish(ring, self.statx).unwrap().size(), Some(17));
        way.finish(ring, self.unlink).unwrap();
        way.finish(ring, self.rename).unwrap();
        way.finish(ring, self.fsync).unwrap();
        way.finish(ring, self.create).unwrap();
        assert_eq!(way.finish(ring, self.write).0.unwrap(), MIB);

        let mut names: Vec<_> = fs::read_dir(self.place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["created", "renamed", "stat", "synced", "written"]);
        assert!(fs::read(self.place.join("written")).unwrap() == vec![b'w'; MIB]);
        6
    }
}
