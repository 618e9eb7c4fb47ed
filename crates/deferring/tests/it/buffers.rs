//! Buffers lent to the real kernel: each type is read into and written from, and comes back in
//! every case.
//!
//! Not: that buffers stay while the kernel has them (`submission.rs`), nor rings that end with the
//! kernel still at work (`end.rs`).

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use deferring::op::Op;
use deferring::{BufResult, CURRENT, Fd, Handle, IoBuf, IoBufMut, IoVectored, Ring};
use rustix::io::Errno;

use crate::ops::{content, file_with, finish, finish_close, pipe, place, refused};
use crate::support::{ring, skipped};

/// Where each part of a buffer is, and how long.
type Marks = Vec<(usize, usize)>;

fn mark(buf: &impl IoBuf) -> Marks {
    vec![(buf.ptr().addr(), buf.len())]
}

fn marks(bufs: &impl IoVectored) -> Marks {
    let mut marks = Marks::new();
    bufs.each(&mut |ptr, len| marks.push((ptr.addr(), len)));
    marks
}

fn places(marks: &Marks) -> Vec<usize> {
    marks.iter().map(|(place, _)| *place).collect()
}

/// A way to lend a buffer, and where it works, waits and fails.
struct Lending<B, T: Op> {
    make: fn() -> B,
    mark: fn(&B) -> Marks,
    queue: fn(&Ring, &Fd, B) -> Handle<T>,
    works: fn() -> Fd,
    /// With whatever keeps it waiting.
    waits: fn() -> (Fd, UnixStream),
    fails: Vec<(Errno, Fd)>,
}

impl<B: Debug, T: Op<Output = BufResult<usize, B>>> Lending<B, T> {
    /// The buffer that was lent is the buffer that comes back, in every case.
    fn comes_back_in_every_case(&self) {
        let ring = ring();
        self.lend(None, "success", |buf| finish(&ring, (self.queue)(&ring, &(self.works)(), buf)));
        for (errno, fd) in &self.fails {
            self.lend(Some(*errno), "failure", |buf| finish(&ring, (self.queue)(&ring, fd, buf)));
        }
        let canceled = Some(Errno::CANCELED);
        self.lend(canceled, "cancel while queued", |buf| {
            let handle = (self.queue)(&ring, &(self.works)(), buf);
            let _asked = handle.cancel();
            handle.try_take().expect("at once")
        });
        self.lend(canceled, "cancel in the kernel", |buf| {
            let (fd, _peer) = (self.waits)();
            let handle = (self.queue)(&ring, &fd, buf);
            ring.submit().unwrap();
            assert_eq!(ring.pending().in_kernel, 1, "it waits");
            let _asked = handle.cancel();
            finish(&ring, handle)
        });
        self.lend(Some(Errno::BADF), "closed descriptor", |buf| {
            let fd = (self.works)();
            finish_close(&ring, ring.close(&fd)).unwrap();
            (self.queue)(&ring, &fd, buf).try_take().expect("refused at once")
        });
        for submitted in [false, true] {
            let what = format!("ring gone, submitted: {submitted}");
            self.lend(canceled, &what, |buf| {
                let (ring, (fd, _peer)) = (crate::support::ring(), (self.waits)());
                let handle = (self.queue)(&ring, &fd, buf);
                if submitted {
                    ring.submit().unwrap();
                }
                drop(ring);
                handle.try_take().expect("the ring has waited for it")
            });
        }
    }

    fn lend(
        &self,
        failure: Option<Errno>,
        what: &str,
        lend: impl FnOnce(B) -> BufResult<usize, B>,
    ) {
        let buf = (self.make)();
        let before = (self.mark)(&buf);
        let BufResult(result, buf) = lend(buf);
        let after = (self.mark)(&buf);
        match failure {
            Some(errno) => {
                assert_eq!(refused(result), errno, "{what}");
                assert_eq!(after, before, "{what}: the same buffer, as it was");
            }
            None => {
                assert!(result.unwrap() > 0, "{what}");
                assert_eq!(places(&after), places(&before), "{what}: the same buffer");
            }
        }
    }
}

/// A socket that has nothing to read.
fn silent() -> (Fd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours.into(), theirs)
}

/// A socket that has no room to write.
fn full() -> (Fd, UnixStream) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    while ours.write(&[0; 4096]).is_ok() {}
    ours.set_nonblocking(false).unwrap();
    (ours.into(), theirs)
}

fn write_only() -> Fd {
    File::options().write(true).open("/dev/null").unwrap().into()
}

fn reads<B: Debug, T: Op<Output = BufResult<usize, B>>>(
    make: fn() -> B,
    mark: fn(&B) -> Marks,
    queue: fn(&Ring, &Fd, B) -> Handle<T>,
) {
    let fails = vec![(Errno::BADF, write_only()), (Errno::ISDIR, place().1)];
    let works = || file_with("four").0;
    Lending { make, mark, queue, works, waits: silent, fails }.comes_back_in_every_case();
}

fn writes<B: Debug, T: Op<Output = BufResult<usize, B>>>(
    make: fn() -> B,
    mark: fn(&B) -> Marks,
    queue: fn(&Ring, &Fd, B) -> Handle<T>,
) {
    let read_only = Fd::from(File::open("/dev/null").unwrap());
    let fails = vec![(Errno::BADF, read_only)];
    let works = || file_with("").0;
    Lending { make, mark, queue, works, waits: full, fails }.comes_back_in_every_case();
}

fn each_read<B: IoBufMut + Debug>(make: fn() -> B) {
    reads(make, mark, |ring, fd, buf| ring.read(fd, buf, 0));
}

fn each_write<B: IoBuf + Debug>(make: fn() -> B) {
    writes(make, mark, |ring, fd, buf| ring.write(fd, buf, 0));
}

#[test]
fn a_buffer_that_is_read_into_comes_back_in_every_case() {
    each_read(|| Vec::with_capacity(8));
    each_read(|| vec![7; 8]);
    each_read(|| vec![7; 8].into_boxed_slice());
    each_read(|| Box::new([7; 8]));
    each_read(|| vec![7; 8].slice(1..6));
    each_read(|| Vec::with_capacity(8).slice(..6));
    each_read(|| vec![7; 16].slice(2..12).slice(1..6));
    #[cfg(feature = "bytes")]
    each_read(|| bytes::BytesMut::with_capacity(8));
}

#[test]
fn a_buffer_that_is_written_comes_back_in_every_case() {
    each_write(|| vec![7; 8]);
    each_write(|| vec![7; 8].into_boxed_slice());
    each_write(|| Box::new([7; 8]));
    each_write(|| Arc::<[u8]>::from([7; 8]));
    each_write::<&'static [u8]>(|| &[7; 8]);
    each_write::<&'static [u8; 8]>(|| &[7; 8]);
    each_write(|| "a static str");
    each_write(|| String::from("a string"));
    each_write(|| vec![7; 8].slice(1..6));
    each_write(|| String::from("a string").slice(..6).slice(1..));
    #[cfg(feature = "bytes")]
    {
        each_write(|| bytes::Bytes::from(vec![7; 8]));
        each_write(|| bytes::BytesMut::from(&b"bytes"[..]));
    }
}

#[test]
fn groups_of_buffers_come_back_in_every_case() {
    type Parts = Vec<Vec<u8>>;
    let group = || vec![vec![7; 2], Vec::with_capacity(2), vec![]];
    reads::<Parts, _>(group, marks, |ring, fd, bufs| ring.readv(fd, bufs, 0));
    let group = || [Box::new([7; 2]), Box::new([8; 2])];
    reads(group, marks, |ring, fd, bufs| ring.readv(fd, bufs, 0));
    writes::<Parts, _>(
        || vec![vec![7; 8], vec![], vec![8; 2]],
        marks,
        |ring, fd, bufs| ring.writev(fd, bufs, 0),
    );
    writes(|| ["two", "parts"], marks, |ring, fd, bufs| ring.writev(fd, bufs, 0));
}

#[test]
fn c32_too_many_buffers_come_back() {
    let (fd, _file) = file_with("four");
    let ring = ring();
    let bufs = vec![vec![7u8; 1]; 1025];
    let before = marks(&bufs);
    let BufResult(result, bufs) = ring.readv(&fd, bufs, 0).try_take().expect("refused at once");
    assert_eq!((refused(result), marks(&bufs)), (Errno::INVAL, before.clone()));
    let BufResult(result, bufs) = ring.writev(&fd, bufs, 0).try_take().expect("refused at once");
    assert_eq!((refused(result), marks(&bufs)), (Errno::INVAL, before));
}

/// What a read of "four" makes of a buffer.
fn read_four<B: IoBufMut>(buf: B) -> B {
    let ((fd, _file), ring) = (file_with("four"), ring());
    let (n, buf) = finish(&ring, ring.read(&fd, buf, 0)).unwrap();
    assert_eq!(n, 4);
    buf
}

#[test]
fn a_read_fills_from_the_start_and_makes_no_buffer_shorter() {
    assert_eq!(read_four(Vec::with_capacity(8)), b"four");
    assert_eq!(read_four(Vec::with_capacity(4)), b"four");
    assert_eq!(read_four(vec![b'.'; 6]), b"four..");
    assert_eq!(*read_four(vec![b'.'; 6].into_boxed_slice()), *b"four..");
    assert_eq!(*read_four(Box::new([b'.'; 6])), *b"four..");
    let mut longer = Vec::with_capacity(8);
    longer.extend_from_slice(b"ab");
    assert_eq!(read_four(longer), b"four");
    #[cfg(feature = "bytes")]
    {
        assert_eq!(read_four(bytes::BytesMut::with_capacity(8)), b"four"[..]);
        assert_eq!(read_four(bytes::BytesMut::from(&b"......"[..])), b"four.."[..]);
    }
}

#[test]
fn a_read_into_a_slice_fills_that_part_only() {
    assert_eq!(read_four(vec![b'.'; 8].slice(2..6)).into_inner(), b"..four..");
    assert_eq!(read_four(vec![b'.'; 8].slice(2..)).into_inner(), b"..four..");
    assert_eq!(
        read_four(vec![b'.'; 10].slice(1..9).slice(2..)).into_inner().into_inner(),
        b"...four..."
    );
    // Behind what is there already, into what is not initialised.
    let mut started = Vec::with_capacity(16);
    started.extend_from_slice(b"one,");
    assert_eq!(read_four(started.slice(4..)).into_inner(), b"one,four");
    #[cfg(feature = "bytes")]
    {
        let mut started = bytes::BytesMut::with_capacity(16);
        started.extend_from_slice(b"one,");
        assert_eq!(read_four(started.slice(4..12)).into_inner(), b"one,four"[..]);
    }
}

#[test]
fn a_vectored_read_fills_each_buffer_before_the_next() {
    let ((fd, _file), ring) = (file_with("abcdefgh"), ring());
    let room = Vec::with_capacity;
    let bufs = vec![room(2), room(0), vec![b'.'; 3], room(4), room(1)];
    let capacities: Vec<_> = bufs.iter().map(Vec::capacity).collect();
    assert_eq!(capacities, [2, 0, 3, 4, 1], "what is to be filled");
    let (n, bufs) = finish(&ring, ring.readv(&fd, bufs, 0)).unwrap();
    assert_eq!((n, &*bufs.concat()), (8, &b"abcdefgh"[..]));
    assert_eq!(bufs.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 3, 3, 0]);

    let parts = [vec![b'.'; 4].slice(1..3), vec![b'.'; 4].slice(..2)];
    let (n, parts) = finish(&ring, ring.readv(&fd, parts, 4)).unwrap();
    assert_eq!((n, parts.map(|part| part.into_inner())), (4, [b".ef.".to_vec(), b"gh..".to_vec()]));
}

/// What a write of a buffer makes of an empty file.
fn written<B: IoBuf>(buf: B) -> String {
    let ((fd, file), ring) = (file_with(""), ring());
    let len = buf.len();
    assert_eq!(finish(&ring, ring.write(&fd, buf, 0)).unwrap().0, len);
    String::from_utf8(content(&file)).unwrap()
}

#[test]
fn what_is_initialised_is_written() {
    let mut roomy = Vec::with_capacity(64);
    roomy.extend_from_slice(b"hello");
    assert_eq!(written(roomy.clone()), "hello");
    roomy.reserve(64);
    assert_eq!(written(roomy.slice(1..60)), "ello", "and not what is not");
    assert_eq!(written(b"hello".to_vec().into_boxed_slice()), "hello");
    assert_eq!(written(Box::new(*b"hello")), "hello");
    assert_eq!(written(Arc::<[u8]>::from(*b"hello")), "hello");
    assert_eq!(written::<&'static [u8]>(b"hello"), "hello");
    assert_eq!(written(b"hello"), "hello");
    assert_eq!(written("hello"), "hello");
    assert_eq!(written(String::from("hello")), "hello");
    assert_eq!(written("hello".slice(1..).slice(..=1)), "el");
    assert_eq!(written(Vec::new()), "");
    #[cfg(feature = "bytes")]
    {
        let bytes = bytes::Bytes::from_static(b"hello world");
        assert_eq!(written(bytes.slice(6..)), "world", "a part that shares");
        assert_eq!(written(bytes::BytesMut::from(&b"hello"[..])), "hello");
    }
}

#[test]
fn a_shared_buffer_can_be_written_many_times_at_once() {
    let ((fd, file), ring) = (file_with(""), ring());
    let shared = Arc::<[u8]>::from(*b"abc");
    let handles: Vec<_> = (0..20).map(|at| ring.write(&fd, Arc::clone(&shared), at * 3)).collect();
    for handle in handles {
        assert_eq!(finish(&ring, handle).unwrap().0, 3);
    }
    assert_eq!(content(&file), b"abc".repeat(20));
    assert_eq!(Arc::strong_count(&shared), 1, "none is kept");
}

#[test]
fn c19_the_end_of_a_file_is_zero() {
    let ring = ring();
    let (file, _std) = file_with("four");
    let null = Fd::from(File::open("/dev/null").unwrap());
    let (reader, writer) = pipe();
    let (socket, peer) = UnixStream::pair().unwrap();
    drop((writer, peer));
    for (what, fd, offset) in [
        ("file", &file, 4),
        ("device", &null, 4),
        ("pipe", &reader.into(), CURRENT),
        ("socket", &socket.into(), CURRENT),
    ] {
        let BufResult(n, buf) = finish(&ring, ring.read(fd, vec![7; 8], offset));
        assert_eq!((n.unwrap(), buf), (0, vec![7; 8]), "{what}");
        let BufResult(n, bufs) = finish(&ring, ring.readv(fd, [vec![7; 8], vec![8; 8]], offset));
        assert_eq!((n.unwrap(), bufs), (0, [vec![7; 8], vec![8; 8]]), "{what}, vectored");
    }
}

#[test]
fn c19_a_short_read_is_how_much_there_was() {
    let ring = ring();
    let (file, _std) = file_with("four");
    let (n, buf) = finish(&ring, ring.read(&file, vec![b'.'; 8], 1)).unwrap();
    assert_eq!((n, buf), (3, b"our.....".to_vec()));
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(b"ab").unwrap();
    let theirs = Fd::from(theirs);
    let (n, buf) = finish(&ring, ring.read(&theirs, Vec::with_capacity(8), CURRENT)).unwrap();
    assert_eq!((n, buf), (2, b"ab".to_vec()), "and the rest is not waited for");
}

#[test]
fn c19_a_short_write_is_how_much_there_was_room_for() {
    let (reader, writer) = pipe();
    let room = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, deferring::OFlags::NONBLOCK).unwrap();
    let (writer, ring) = (Fd::from(writer), ring());
    let (n, _) = finish(&ring, ring.write(&writer, vec![b'x'; room + 4096], CURRENT)).unwrap();
    assert_eq!(n, room);
    drop(writer);
    assert_eq!(rest_of(reader).len(), room, "no more, and no less");
}

fn rest_of(reader: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut File::from(reader), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_buffer_without_room_reads_nothing() {
    let ((fd, _file), ring) = (file_with("four"), ring());
    assert_eq!(finish(&ring, ring.read(&fd, Vec::new(), 0)).unwrap(), (0, vec![]));
    assert_eq!(finish(&ring, ring.read(&fd, Box::new([0; 0]), 0)).unwrap().0, 0);
}

#[test]
#[cfg(target_pointer_width = "64")]
fn a_transfer_of_more_than_2_gib_is_a_short_one() {
    const HUGE: usize = (1 << 32) + 5; // 5, if it were cut to 32 bits
    const MOST: usize = 0x7fff_f000;
    let ((fd, _file), ring) = (file_with("0123456789"), ring());
    let mut buf = Vec::new();
    if buf.try_reserve_exact(HUGE).is_err() {
        return skipped("4 GiB of addresses");
    }
    let (n, buf) = finish(&ring, ring.read(&fd, buf, 0)).unwrap();
    assert_eq!((n, &*buf), (10, &b"0123456789"[..]));
    drop(buf);
    // Zeros that are never touched: they come from the kernel as such, and go to /dev/null.
    let null = write_only();
    let (n, zeros) = finish(&ring, ring.write(&null, vec![0u8; HUGE], 0)).unwrap();
    assert_eq!((n, zeros.len()), (MOST, HUGE));
    assert_eq!(finish(&ring, ring.writev(&null, [zeros], 0)).unwrap().0, MOST);
}
