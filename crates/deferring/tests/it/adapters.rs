//! `Buffered`: a ring behind the traits of tokio and of the `futures` crates.
//!
//! No runtime runs here: `block_on` turns the ring, or threads of our own await.

use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;

use deferring::fs::{self, OpenOptions};
use deferring::{Buffered, Fd, Ring};
use futures_util::future::join;
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use proptest::prelude::*;
use tempfile::{tempdir, tempfile};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::allocations::allocated_here;
use crate::support::{Count, bounded, builder, drain, errno, park_on, pipe, ring, run, turn_until};

/// Bytes in which no part is like another nearby.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}

fn temporary(content: &[u8]) -> File {
    let mut file = tempfile().unwrap();
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    file
}

fn content(mut file: File) -> Vec<u8> {
    let mut content = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut content)).unwrap();
    content
}

fn buffered(ring: &Ring, fd: impl Into<Fd>) -> Buffered {
    Buffered::new(ring, &fd.into())
}

/// With buffers so small that everything happens.
fn narrow(ring: &Ring, fd: impl Into<Fd>) -> Buffered {
    Buffered::with_capacity(ring, &fd.into(), 7, 5)
}

fn polled<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn tokio_copies_a_file() {
    let (ring, bytes) = (ring(), bytes(1_000_003));
    let target = tempfile().unwrap();
    let mut from = buffered(&ring, temporary(&bytes));
    let mut to = buffered(&ring, target.try_clone().unwrap());
    let copied = run(&ring, async {
        let copied = tokio::io::copy(&mut from, &mut to).await?;
        to.shutdown().await?;
        std::io::Result::Ok(copied)
    });
    assert_eq!(copied.unwrap(), 1_000_003);
    assert_eq!(content(target), bytes);
}

#[test]
fn futures_copies_a_file_by_its_buffer() {
    let (ring, bytes) = (ring(), bytes(1_000_003));
    let target = tempfile().unwrap();
    let mut from = buffered(&ring, temporary(&bytes));
    let mut to = buffered(&ring, target.try_clone().unwrap());
    let copied = run(&ring, async {
        let copied = futures_util::io::copy_buf(&mut from, &mut to).await?;
        futures_util::AsyncWriteExt::close(&mut to).await?;
        std::io::Result::Ok(copied)
    });
    assert_eq!(copied.unwrap(), 1_000_003);
    assert_eq!(content(target), bytes);
}

#[test]
fn a_file_is_opened_buffered_and_read_by_lines() {
    let (ring, dir) = (ring(), tempdir().unwrap());
    let path = dir.path().join("lines");
    let text: String = (0..3000).map(|line| format!("line {line}\n")).collect();
    std::fs::write(&path, &text).unwrap();
    run(&ring, async {
        let file = fs::File::open(&ring, &path).await.unwrap();
        let mut lines = AsyncBufReadExt::lines(file.buffered());
        let mut count = 0;
        while let Some(line) = lines.next_line().await.unwrap() {
            assert_eq!(line, format!("line {count}"));
            count += 1;
        }
        assert_eq!(count, 3000);
        let lines = futures_util::AsyncBufReadExt::lines(file.buffered());
        let lines: Vec<_> = lines.map(|line| line.unwrap() + "\n").collect().await;
        assert_eq!(lines.concat(), text);
    });
}

#[test]
fn a_read_that_is_dropped_while_it_waits_loses_nothing() {
    let ring = ring();
    let (reader, mut writer) = pipe();
    let mut reader = buffered(&ring, reader);
    let mut byte = [0];
    for (at, sent) in bytes(100).into_iter().enumerate() {
        assert!(polled(AsyncReadExt::read(&mut reader, &mut byte)).is_pending());
        ring.submit().unwrap();
        writer.write_all(&[sent]).unwrap();
        if at % 2 == 0 {
            drain(&ring); // The kernel has answered a future that is gone.
        }
        let n = run(&ring, AsyncReadExt::read(&mut reader, &mut byte)).unwrap();
        assert_eq!((n, byte), (1, [sent]));
    }
    drop(writer);
    let mut rest = Vec::new();
    assert_eq!(run(&ring, AsyncReadExt::read_to_end(&mut reader, &mut rest)).unwrap(), 0);
}

#[test]
fn after_the_end_a_read_asks_again() {
    let (ring, mut file) = (ring(), tempfile().unwrap());
    let mut reader = buffered(&ring, file.try_clone().unwrap());
    let mut text = String::new();
    for _ in 0..3 {
        assert_eq!(run(&ring, AsyncReadExt::read(&mut reader, &mut [0])).unwrap(), 0);
        file.write_all(b"more ").unwrap();
        run(&ring, AsyncReadExt::read_to_string(&mut reader, &mut text)).unwrap();
    }
    assert_eq!(text, "more more more ");
}

#[test]
fn the_position_is_its_own_and_begins_where_the_descriptors_is() {
    let (ring, mut file) = (ring(), temporary(b"0123456789"));
    file.seek(SeekFrom::Start(4)).unwrap();
    let mut ahead = buffered(&ring, file.try_clone().unwrap());
    let mut three = [0; 3];
    run(&ring, AsyncReadExt::read_exact(&mut ahead, &mut three)).unwrap();
    assert_eq!(&three, b"456");
    assert_eq!(run(&ring, AsyncSeekExt::stream_position(&mut ahead)).unwrap(), 7);
    assert_eq!(file.stream_position().unwrap(), 4, "as if nobody had read ahead");
}

#[test]
fn a_full_device_is_told_by_the_flush_once() {
    let ring = ring();
    let full = OpenOptions::new().write(true).open(&ring, "/dev/full");
    let mut full = run(&ring, full).unwrap().buffered();
    run(&ring, AsyncWriteExt::write_all(&mut full, b"hello")).unwrap();
    let told = run(&ring, AsyncWriteExt::flush(&mut full));
    assert_eq!(errno(&told), Some(libc::ENOSPC));
    run(&ring, AsyncWriteExt::flush(&mut full)).unwrap();
    assert_eq!(run(&ring, AsyncSeekExt::stream_position(&mut full)).unwrap(), 0, "nothing written");
    // And by a write, when there is one before.
    run(&ring, AsyncWriteExt::write_all(&mut full, &[0; (64 << 10) + 1])).unwrap();
    drain(&ring);
    let told = run(&ring, futures_util::AsyncWriteExt::write(&mut full, b"x"));
    assert_eq!(errno(&told), Some(libc::ENOSPC));
    // Which was of the first buffer; what was in the second one is thrown away with it.
    run(&ring, futures_util::AsyncWriteExt::close(&mut full)).unwrap();
}

#[test]
fn a_socket_whose_peer_is_gone_is_told_by_the_flush() {
    let ring = ring();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut ours = buffered(&ring, ours);
    drop(theirs);
    run(&ring, AsyncWriteExt::write_all(&mut ours, b"hello")).unwrap();
    let told = run(&ring, AsyncWriteExt::flush(&mut ours));
    assert_eq!(told.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(run(&ring, AsyncReadExt::read(&mut ours, &mut [0])).unwrap(), 0, "still of use");
}

#[test]
fn a_descriptor_that_was_closed_says_so_and_panics_nobody() {
    let ring = ring();
    let (reader, _writer) = pipe();
    run(&ring, ring.close(&reader)).unwrap();
    let mut closed = Buffered::new(&ring, &reader);
    for _ in 0..2 {
        let told = run(&ring, AsyncReadExt::read(&mut closed, &mut [0]));
        assert_eq!(errno(&told), Some(libc::EBADF));
    }
    run(&ring, AsyncWriteExt::write_all(&mut closed, b"x")).unwrap();
    assert_eq!(errno(&run(&ring, AsyncWriteExt::shutdown(&mut closed))), Some(libc::EBADF));
    assert_eq!(errno(&run(&ring, AsyncWriteExt::shutdown(&mut closed))), Some(libc::EBADF));
}

#[test]
fn what_has_no_position_cannot_seek() {
    let ring = ring();
    let mut reader = buffered(&ring, pipe().0);
    let told = run(&ring, AsyncSeekExt::seek(&mut reader, SeekFrom::Start(0)));
    assert_eq!(told.unwrap_err().kind(), ErrorKind::NotSeekable);
    let told = run(&ring, futures_util::AsyncSeekExt::seek(&mut reader, SeekFrom::End(0)));
    assert_eq!(told.unwrap_err().kind(), ErrorKind::NotSeekable);
    let eventfd = rustix::event::eventfd(3, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    let mut eventfd = buffered(&ring, eventfd);
    let told = run(&ring, AsyncSeekExt::rewind(&mut eventfd));
    assert_eq!(told.unwrap_err().kind(), ErrorKind::NotSeekable, "whatever lseek says");
    assert_eq!(run(&ring, AsyncReadExt::read_u64_le(&mut eventfd)).unwrap(), 3);
}

#[test]
fn a_seek_that_nobody_waits_for_is_taken_back_by_a_read_or_write() {
    // Where the length has to be waited for, which of most files it has not.
    let ring = Ring::builder().pool_only().build().unwrap();
    let file = temporary(b"0123456789");
    let mut seeker = narrow(&ring, file.try_clone().unwrap());
    run(&ring, async {
        assert_eq!(AsyncReadExt::read_u8(&mut seeker).await.unwrap(), b'0');
        assert!(polled(AsyncSeekExt::seek(&mut seeker, SeekFrom::End(-1))).is_pending());
        assert_eq!(AsyncReadExt::read_u8(&mut seeker).await.unwrap(), b'1');
        assert_eq!(AsyncSeekExt::seek(&mut seeker, SeekFrom::Current(-2)).await.unwrap(), 0);
        assert!(polled(AsyncSeekExt::seek(&mut seeker, SeekFrom::End(-1))).is_pending());
        AsyncWriteExt::write_all(&mut seeker, b"abcdefghijklmno").await.unwrap();
        assert_eq!(AsyncSeekExt::stream_position(&mut seeker).await.unwrap(), 15);
        assert_eq!(AsyncSeekExt::seek(&mut seeker, SeekFrom::End(-1)).await.unwrap(), 14);
    });
    assert_eq!(content(file), b"abcdefghijklmno");
}

#[test]
fn a_seek_is_refused_before_the_start_and_moves_nothing() {
    let (ring, file) = (ring(), temporary(b"0123456789"));
    let mut seeker = narrow(&ring, file);
    run(&ring, async {
        assert_eq!(AsyncReadExt::read_u8(&mut seeker).await.unwrap(), b'0');
        for to in [SeekFrom::Current(-2), SeekFrom::End(-11), SeekFrom::Start(u64::MAX)] {
            let told = AsyncSeekExt::seek(&mut seeker, to).await;
            assert_eq!(errno(&told), Some(libc::EINVAL));
        }
        assert_eq!(AsyncReadExt::read_u8(&mut seeker).await.unwrap(), b'1');
    });
}

#[test]
fn it_may_be_sent_shared_and_moved() {
    fn is<T: Send + Sync + Unpin>() {}
    is::<Buffered>();
}

#[test]
fn sixteen_mebibytes_go_through_a_pipe_in_odd_sizes() {
    const ODD: [usize; 7] = [1, 4095, 13, 65_537, 4099, 300_001, 77];
    let (ring, bytes) = (ring(), bytes(16 << 20));
    let (reader, writer) = pipe();
    let mut reader = Buffered::with_capacity(&ring, &reader, 12_345, 1);
    let mut writer = Buffered::with_capacity(&ring, &writer.into(), 1, 54_321);
    let write = async {
        let mut left = &bytes[..];
        for size in ODD.iter().cycle() {
            let (now, later) = left.split_at(left.len().min(*size));
            AsyncWriteExt::write_all(&mut writer, now).await.unwrap();
            left = later;
            if left.is_empty() {
                break;
            }
        }
        AsyncWriteExt::shutdown(&mut writer).await.unwrap();
        drop(writer);
    };
    let read = async {
        let (mut seen, mut buf) = (0, vec![0; 300_001]);
        for size in ODD.iter().rev().cycle() {
            let n = AsyncReadExt::read(&mut reader, &mut buf[..*size]).await.unwrap();
            if n == 0 {
                return seen;
            }
            assert!(buf[..n] == bytes[seen..seen + n], "between {seen} and {}", seen + n);
            seen += n;
        }
        unreachable!("a cycle")
    };
    assert_eq!(run(&ring, join(write, read)).1, 16 << 20);
}

#[test]
fn shutdown_half_closes_a_socket() {
    for as_tokio in [true, false] {
        let ring = ring();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = buffered(&ring, ours);
        run(&ring, async {
            AsyncWriteExt::write_all(&mut ours, b"all of it").await.unwrap();
            if as_tokio {
                AsyncWriteExt::shutdown(&mut ours).await.unwrap();
            } else {
                futures_util::AsyncWriteExt::close(&mut ours).await.unwrap();
            }
        });
        let mut read = String::new();
        theirs.read_to_string(&mut read).unwrap();
        assert_eq!(read, "all of it", "and the end");
        theirs.write_all(b"answer").unwrap();
        drop(theirs);
        let mut answer = String::new();
        run(&ring, AsyncReadExt::read_to_string(&mut ours, &mut answer)).unwrap();
        assert_eq!(answer, "answer");
    }
}

/// Two threads, and the ring turned on this one until both have ended.
fn while_it_turns(ring: &Ring, one: impl FnOnce() + Send, other: impl FnOnce() + Send) {
    let (ends, alive) = pipe();
    let alive_too = alive.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            one();
            drop(alive);
        });
        scope.spawn(move || {
            other();
            drop(alive_too);
        });
        assert_eq!(run(ring, ring.read(&ends, vec![0], 0)).0.unwrap(), 0);
    });
}

/// A peer on loopback that sends back what it gets, and ends when we end.
fn echo() -> (TcpStream, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    let echo = thread::spawn(move || {
        std::io::copy(&mut theirs.try_clone().unwrap(), &mut theirs).unwrap();
    });
    (ours, echo)
}

#[test]
fn halves_of_a_socket_are_used_at_once_as_tokio_splits_it() {
    let (ring, bytes) = (ring(), bytes(3 << 20));
    let (ours, echo) = echo();
    let (mut read, mut write) = tokio::io::split(buffered(&ring, ours));
    let write = async {
        AsyncWriteExt::write_all(&mut write, &bytes).await.unwrap();
        AsyncWriteExt::shutdown(&mut write).await.unwrap();
    };
    let mut back = Vec::new();
    let read = AsyncReadExt::read_to_end(&mut read, &mut back);
    run(&ring, join(write, read)).1.unwrap();
    assert!(back == bytes);
    echo.join().unwrap();
}

#[test]
fn halves_of_a_socket_are_used_by_two_threads_as_futures_splits_it() {
    let (ring, ours_and_echo, bytes) = (ring(), echo(), bytes(3 << 20));
    let (ours, echo) = ours_and_echo;
    // One small enough that the two wait for each other's progress all the time.
    let ours = Buffered::with_capacity(&ring, &ours.into(), 9999, 7777);
    let (mut read, mut write) = futures_util::AsyncReadExt::split(ours);
    let mut back = vec![0; bytes.len()];
    while_it_turns(
        &ring,
        || {
            park_on(async {
                write.write_all(&bytes).await.unwrap();
                write.flush().await.unwrap();
            });
        },
        || park_on(read.read_exact(&mut back)).unwrap(),
    );
    assert!(back == bytes);
    drop((read, write));
    drain(&ring);
    echo.join().unwrap();
}

#[test]
fn halves_of_a_file_wake_each_other_though_both_wait_for_one_write() {
    let (ring, file) = (ring(), tempfile().unwrap());
    let (mut read, mut write) = tokio::io::split(narrow(&ring, file.try_clone().unwrap()));
    while_it_turns(
        &ring,
        || {
            for _ in 0..2000 {
                park_on(AsyncWriteExt::write_all(&mut write, b"0123456789")).unwrap();
            }
            park_on(AsyncWriteExt::flush(&mut write)).unwrap();
        },
        || {
            // At the end, mostly: what counts is that each comes back.
            for _ in 0..2000 {
                park_on(AsyncReadExt::read(&mut read, &mut [0; 3])).unwrap();
            }
        },
    );
    assert_eq!(content(file).len(), 20_000);
}

#[test]
fn a_read_that_waits_holds_up_no_write() {
    let ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut ours = buffered(&ring, ours);
    let mut byte = [0];
    assert!(polled(AsyncReadExt::read(&mut ours, &mut byte)).is_pending());
    run(&ring, async {
        AsyncWriteExt::write_all(&mut ours, b"q").await.unwrap();
        AsyncWriteExt::flush(&mut ours).await.unwrap();
    });
    theirs.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"q");
}

#[test]
fn a_question_that_was_not_flushed_is_answered_if_somebody_reads() {
    const LEN: usize = 1 << 20;
    let (ring, question) = (ring(), bytes(LEN));
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let peer = thread::spawn(move || {
        let mut question = vec![0; LEN];
        theirs.read_exact(&mut question).unwrap();
        theirs.write_all(b"!").unwrap();
        question
    });
    // One buffer for all, more than the socket takes at once: the first write is a short one.
    let ours = Buffered::with_capacity(&ring, &ours.into(), 16, LEN);
    let (mut read, mut write) = tokio::io::split(ours);
    let read = AsyncReadExt::read_u8(&mut read);
    let write = AsyncWriteExt::write_all(&mut write, &question);
    let (answer, written) = run(&ring, join(read, write));
    assert_eq!(answer.unwrap(), b'!');
    written.unwrap();
    assert!(peer.join().unwrap() == question);
}

#[test]
fn a_socket_in_non_blocking_mode_is_waited_for() {
    let (ring, bytes) = (ring(), bytes(2 << 20));
    let (ours, echo) = echo();
    ours.set_nonblocking(true).unwrap();
    let (mut read, mut write) = tokio::io::split(buffered(&ring, ours));
    let write = async {
        AsyncWriteExt::write_all(&mut write, &bytes).await.unwrap();
        AsyncWriteExt::shutdown(&mut write).await.unwrap();
    };
    let mut back = Vec::new();
    let read = AsyncReadExt::read_to_end(&mut read, &mut back);
    run(&ring, join(write, read)).1.unwrap();
    assert!(back == bytes);
    echo.join().unwrap();
}

#[test]
fn a_terminal_in_non_blocking_mode_is_waited_for() {
    const LEN: usize = 1 << 20;
    let (ring, sent) = (ring(), bytes(LEN));
    let (mut theirs, ours) = terminal();
    rustix::fs::fcntl_setfl(&ours, rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut ours = buffered(&ring, ours);
    let mut byte = [0];
    assert!(polled(AsyncReadExt::read(&mut ours, &mut byte)).is_pending());
    drain_but_one(&ring);
    let peer = thread::spawn(move || {
        let mut read = vec![0; LEN];
        theirs.read_exact(&mut read).unwrap();
        theirs.write_all(b"!").unwrap();
        (read, theirs)
    });
    run(&ring, async {
        AsyncWriteExt::write_all(&mut ours, &sent).await.unwrap();
        AsyncWriteExt::flush(&mut ours).await.unwrap();
        assert_eq!(AsyncReadExt::read(&mut ours, &mut byte).await.unwrap(), 1);
    });
    assert_eq!(&byte, b"!");
    assert!(peer.join().unwrap().0 == sent);
}

/// The two ends of a terminal that changes no byte.
fn terminal() -> (File, File) {
    let (mut master, mut slave) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: two numbers to be written, and nothing else.
    let made = unsafe {
        libc::openpty(&raw mut master, &raw mut slave, none, std::ptr::null(), std::ptr::null())
    };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: new, and nobody else's.
    let ends = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
    let mut mode = mode_of(slave);
    // SAFETY: a whole struct.
    unsafe { libc::cfmakeraw(&raw mut mode) };
    // SAFETY: a whole struct.
    assert_eq!(unsafe { libc::tcsetattr(slave, libc::TCSANOW, &raw const mode) }, 0);
    ends
}

fn mode_of(terminal: i32) -> libc::termios {
    // SAFETY: plain numbers.
    let mut mode = unsafe { std::mem::zeroed() };
    // SAFETY: to be written as a whole.
    assert_eq!(unsafe { libc::tcgetattr(terminal, &raw mut mode) }, 0);
    mode
}

/// Turns the ring until nothing is left to be sent.
fn drain_but_one(ring: &Ring) {
    turn_until(ring, || ring.pending().queued == 0);
}

#[test]
fn a_write_that_takes_a_read_of_the_file_back_calls_who_waits_for_it() {
    let (ring, file) = (ring(), temporary(b"0123456789"));
    let mut both = narrow(&ring, file);
    let (count, waker) = Count::new();
    let cx = &mut Context::from_waker(&waker);
    assert!(both.poll_read(cx, &mut [0]).is_pending());
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(both.poll_write(cx, b"a").is_ready());
    assert_eq!(count.get(), 1);
    assert_eq!(run(&ring, AsyncReadExt::read_u8(&mut both)).unwrap(), b'1');
}

#[test]
fn what_a_dropped_file_had_not_written_is_written_when_the_ring_is_turned() {
    let (ring, file) = (ring(), tempfile().unwrap());
    let mut writer = Buffered::with_capacity(&ring, &file.try_clone().unwrap().into(), 1, 1000);
    // One buffer is given to the ring, another one fills.
    let written = bytes(1500);
    assert!(polled(AsyncWriteExt::write_all(&mut writer, &written)).is_ready());
    drop(writer);
    drain(&ring);
    assert_eq!(content(file), written);
}

#[test]
fn what_a_dropped_stream_had_not_written_is_written_to_its_end() {
    let (ring, written) = (ring(), bytes(1 << 20));
    let (mut theirs, ours) = UnixStream::pair().unwrap();
    let mut ours = Buffered::with_capacity(&ring, &ours.into(), 1, 600_000);
    assert!(polled(AsyncWriteExt::write_all(&mut ours, &written)).is_ready());
    drop(ours);
    let peer = thread::spawn(move || {
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).unwrap();
        read
    });
    drain(&ring);
    assert!(peer.join().unwrap() == written, "and then the descriptor is closed");
}

#[test]
fn a_ring_that_ends_keeps_nothing_of_what_was_dropped() {
    bounded(|| {
        let ring = builder().queue_depth(8).build().unwrap();
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut ours = Buffered::with_capacity(&ring, &ours.into(), 1, 600_000);
        assert!(polled(AsyncWriteExt::write_all(&mut ours, &[7; 1 << 20])).is_ready());
        assert!(polled(AsyncReadExt::read(&mut ours, &mut [0])).is_pending());
        ring.submit().unwrap();
        drop(ring);
        drop(ours);
        // Reads to the end only if all descriptors were closed.
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).unwrap();
        assert!(read.iter().all(|&byte| byte == 7));
    });
}

#[test]
fn appends_go_to_the_end_and_the_position_follows() {
    let (ring, dir) = (ring(), tempdir().unwrap());
    let path = dir.path().join("log");
    std::fs::write(&path, "one two ").unwrap();
    run(&ring, async {
        let log = OpenOptions::new().read(true).append(true).open(&ring, &path).await.unwrap();
        let mut log = log.buffered();
        let mut word = [0; 4];
        AsyncReadExt::read_exact(&mut log, &mut word).await.unwrap();
        AsyncWriteExt::write_all(&mut log, b"three").await.unwrap();
        assert_eq!(AsyncReadExt::read(&mut log, &mut word).await.unwrap(), 0, "at the end");
        assert_eq!(AsyncSeekExt::stream_position(&mut log).await.unwrap(), 13);
    });
    assert_eq!(std::fs::read(&path).unwrap(), b"one two three");
}

#[test]
fn vectored_writes_take_one_buffer_after_the_other() {
    let (ring, file) = (ring(), tempfile().unwrap());
    let mut writer = narrow(&ring, file.try_clone().unwrap());
    let parts = ["ab", "", "cdef", "g"].map(|part| std::io::IoSlice::new(part.as_bytes()));
    run(&ring, async {
        assert_eq!(AsyncWriteExt::write_vectored(&mut writer, &parts).await.unwrap(), 5);
        let n = poll_fn(|cx| writer.poll_write_vectored(cx, &parts[3..])).await.unwrap();
        assert_eq!(n, 1);
        AsyncWriteExt::flush(&mut writer).await.unwrap();
    });
    assert_eq!(content(file), b"abcdeg");
}

#[test]
fn in_steady_state_nothing_is_allocated() {
    // A thread of the pool that comes later is not of the steady state.
    let ring = builder().queue_depth(8).pool_threads_max(1).build().unwrap();
    let open = |path| OpenOptions::new().read(true).write(true).open(&ring, path);
    let mut zero = run(&ring, open("/dev/zero")).unwrap().buffered();
    let mut null = run(&ring, open("/dev/null")).unwrap().buffered();
    let mut buf = vec![0; 10_000];
    let allocated = run(&ring, async {
        let mut round = async |rounds| {
            for _ in 0..rounds {
                AsyncReadExt::read_exact(&mut zero, &mut buf).await.unwrap();
                AsyncWriteExt::write_all(&mut null, &buf).await.unwrap();
            }
        };
        round(100).await;
        let before = allocated_here();
        round(5000).await;
        allocated_here() - before
    });
    assert_eq!(allocated, 0);
}

// Against std.

#[derive(Clone, Debug)]
enum Step {
    Read(usize),
    Write(usize),
    Seek(SeekFrom),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let seek = prop_oneof![
        (0..60u64).prop_map(SeekFrom::Start),
        (-30..30i64).prop_map(SeekFrom::Current),
        (-60..20i64).prop_map(SeekFrom::End),
    ];
    let step = prop_oneof![
        4 => (0..25usize).prop_map(Step::Read),
        4 => (0..25usize).prop_map(Step::Write),
        2 => seek.prop_map(Step::Seek),
        1 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 1..30)
}

/// What std does at each step: bytes read, or the position.
fn by_std(mut file: &File, step: &Step, filler: &[u8]) -> Result<Vec<u8>, ErrorKind> {
    match step {
        Step::Read(n) => {
            let mut read = Vec::new();
            let result = file.take(*n as u64).read_to_end(&mut read);
            result.map(|_| read)
        }
        Step::Write(n) => file.write_all(&filler[..*n]).map(|()| Vec::new()),
        Step::Seek(to) => file.seek(*to).map(|at| at.to_le_bytes().to_vec()),
        Step::Flush => Ok(Vec::new()),
    }
    .map_err(|error| error.kind())
}

async fn by_tokio(file: &mut Buffered, step: &Step, filler: &[u8]) -> Result<Vec<u8>, ErrorKind> {
    match step {
        Step::Read(n) => {
            let mut read = Vec::new();
            let result = AsyncReadExt::take(file, *n as u64).read_to_end(&mut read).await;
            result.map(|_| read)
        }
        Step::Write(n) => AsyncWriteExt::write_all(file, &filler[..*n]).await.map(|()| Vec::new()),
        Step::Seek(to) => AsyncSeekExt::seek(file, *to).await.map(|at| at.to_le_bytes().to_vec()),
        Step::Flush => AsyncWriteExt::flush(file).await.map(|()| Vec::new()),
    }
    .map_err(|error| error.kind())
}

async fn by_futures(file: &mut Buffered, step: &Step, filler: &[u8]) -> Result<Vec<u8>, ErrorKind> {
    use futures_util::{AsyncSeekExt, AsyncWriteExt};
    match step {
        Step::Read(n) => {
            let mut read = Vec::new();
            let mut part = futures_util::AsyncReadExt::take(file, *n as u64);
            let result = futures_util::AsyncReadExt::read_to_end(&mut part, &mut read).await;
            result.map(|_| read)
        }
        Step::Write(n) => AsyncWriteExt::write_all(file, &filler[..*n]).await.map(|()| Vec::new()),
        Step::Seek(to) => AsyncSeekExt::seek(file, *to).await.map(|at| at.to_le_bytes().to_vec()),
        Step::Flush => AsyncWriteExt::flush(file).await.map(|()| Vec::new()),
    }
    .map_err(|error| error.kind())
}

/// Two files of the same content, in append mode or not.
fn twins(appends: bool) -> [File; 2] {
    [(); 2].map(|()| {
        let file = temporary(&bytes(40));
        let flags = if appends { rustix::fs::OFlags::APPEND } else { rustix::fs::OFlags::empty() };
        rustix::fs::fcntl_setfl(&file, flags).unwrap();
        file
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn reads_writes_and_seeks_do_what_std_does(
        steps in steps(),
        capacities in (1..40usize, 1..40usize),
        appends: bool,
        as_tokio: bool,
    ) {
        let ring = ring();
        let [theirs, ours] = twins(appends);
        let fd = Fd::from(ours.try_clone().unwrap());
        let mut buffered = Buffered::with_capacity(&ring, &fd, capacities.0, capacities.1);
        run(&ring, async {
            for (at, step) in steps.iter().enumerate() {
                let filler = [b'A' + u8::try_from(at).unwrap(); 25];
                let ours = if as_tokio {
                    by_tokio(&mut buffered, step, &filler).await
                } else {
                    by_futures(&mut buffered, step, &filler).await
                };
                prop_assert_eq!(by_std(&theirs, step, &filler), ours, "step {}", at);
            }
            Ok(())
        })?;
        drop(buffered);
        drain(&ring);
        prop_assert_eq!(content(theirs), content(ours));
    }
}
