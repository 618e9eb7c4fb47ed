//! Descriptors lent to the real kernel: what an [`Fd`] is made of, when it closes, and that it does
//! not while an op uses it.
//!
//! Not: the close itself (`ops/close.rs`).

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use deferring::op::Openat2;
use deferring::{AtFlags, CURRENT, CWD, Fd, Handle, Mode, OFlags, PollFlags, Ring, block_on};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::ops::{
    content, file_with, finish, finish_close, names, peer_closes, peer_is_closed, pipe, place,
    refused,
};
use crate::support::{BOUND, drain, in_a_process_of_its_own, ring, this_test, turn_until, until};

fn read_some(ring: &Ring, fd: &Fd) -> Vec<u8> {
    finish(ring, ring.read(fd, Vec::with_capacity(64), CURRENT)).unwrap().1
}

fn write_all(ring: &Ring, fd: &Fd, text: &'static str) {
    assert_eq!(finish(ring, ring.write(fd, text, CURRENT)).unwrap().0, text.len());
}

#[test]
fn an_fd_is_made_of_each_owner_of_a_stream() {
    let ring = ring();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let tcp = (Fd::from(client), Fd::from(listener.accept().unwrap().0));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let unix = (ours.into(), theirs.into());
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let datagrams = (ours.into(), theirs.into());
    let (one, two) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    one.connect(two.local_addr().unwrap()).unwrap();
    let udp = (one.into(), two.into());
    let (reader, writer) = pipe();
    for (to, from) in [tcp, unix, datagrams, udp, (writer.into(), reader.into())] {
        write_all(&ring, &to, "through");
        assert_eq!(read_some(&ring, &from), b"through", "{to:?} to {from:?}");
    }
}

#[test]
fn an_fd_is_made_of_a_file() {
    let (ring, (fd, file)) = (ring(), file_with("hello"));
    assert_eq!(read_some(&ring, &fd), b"hello");
    let fd = Fd::from(OwnedFd::from(file));
    finish(&ring, ring.write(&fd, "J", 0)).unwrap();
    assert_eq!(finish(&ring, ring.read(&fd, vec![0; 5], 0)).unwrap().1, b"Jello");
}

#[test]
fn an_fd_is_made_of_a_listener() {
    let (ring, (place, _dir)) = (ring(), place());
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let path = place.path().join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let (tcp, unix) = (Fd::from(tcp), Fd::from(unix));
    let comes = [ring.poll(&tcp, PollFlags::IN), ring.poll(&unix, PollFlags::IN)];
    let _clients = (TcpStream::connect(address).unwrap(), UnixStream::connect(path).unwrap());
    for comes in comes {
        assert_eq!(finish(&ring, comes).unwrap(), PollFlags::IN);
    }
}

#[test]
fn an_fd_is_made_of_a_childs_streams() {
    let ring = ring();
    let mut child = Command::new("sh")
        .args(["-c", "cat; echo done >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh");
    let stdin = Fd::from(child.stdin.take().unwrap());
    let stdout = Fd::from(child.stdout.take().unwrap());
    let stderr = Fd::from(child.stderr.take().unwrap());
    write_all(&ring, &stdin, "there and back");
    assert_eq!(read_some(&ring, &stdout), b"there and back");
    drop(stdin);
    assert_eq!(read_some(&ring, &stderr), b"done\n");
    assert_eq!(read_some(&ring, &stdout), b"", "the end");
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_fd_is_made_of_a_duplicate_of_somebody_elses() {
    let (ring, (reader, writer)) = (ring(), pipe());
    let fd = Fd::try_from(writer.as_fd()).unwrap();
    write_all(&ring, &fd, "one");
    finish_close(&ring, ring.close(&fd)).unwrap();
    rustix::io::write(&writer, b", two").expect("still theirs");
    assert_eq!(read_some(&ring, &reader.into()), b"one, two");
}

#[test]
fn an_fd_that_nobody_uses_is_closed_by_its_last_clone() {
    let (reader, writer) = pipe();
    let fd = Fd::from(reader);
    let clone = fd.clone();
    drop(fd);
    assert!(!peer_is_closed(&writer));
    drop(clone);
    assert!(peer_closes(&writer));
}

#[test]
fn an_fd_can_be_had_back_when_nobody_else_uses_it() {
    let (ring, (reader, writer)) = (ring(), pipe());
    let number = reader.as_raw_fd();
    let fd = Fd::from(reader);
    let handle = ring.read(&fd, vec![0; 4], CURRENT);
    let fd = fd.try_into_owned().expect_err("an op is queued");
    ring.submit().unwrap();
    let fd = fd.try_into_owned().expect_err("an op is in the kernel");
    let clone = fd.clone();
    write_all(&ring, &Fd::from(writer), "four");
    assert_eq!(finish(&ring, handle).unwrap().1, b"four");
    let fd = fd.try_into_owned().expect_err("there is a clone");
    drop(clone);
    let owned = fd.try_into_owned().expect("nobody else");
    assert_eq!(owned.as_raw_fd(), number);
    assert_eq!(rustix::io::read(&owned, &mut [0; 4]).unwrap(), 0, "and it is open");

    let fd = Fd::from(owned);
    finish_close(&ring, ring.close(&fd)).unwrap();
    fd.try_into_owned().expect_err("it is closed");
}

/// Opens many files, and says whether one got this number.
fn is_taken_by_another(number: i32) -> bool {
    let files: Vec<_> = (0..64).map(|_| File::open("/dev/null").unwrap()).collect();
    files.iter().any(|file| file.as_raw_fd() == number)
}

#[test]
fn c46_a_descriptor_is_not_closed_under_an_op_nor_its_number_used_again() {
    for submitted in [false, true] {
        let (ring, (reader, writer)) = (ring(), pipe());
        let number = reader.as_raw_fd();
        let fd = Fd::from(reader);
        let handle = ring.read(&fd, Vec::with_capacity(8), CURRENT);
        if submitted {
            ring.submit().unwrap();
        }
        drop(fd);
        assert!(!peer_is_closed(&writer), "submitted: {submitted}");
        assert!(!is_taken_by_another(number), "submitted: {submitted}");
        rustix::io::write(&writer, b"hello").unwrap();
        assert_eq!(finish(&ring, handle).unwrap().1, b"hello");
        assert!(peer_closes(&writer), "with its last op");
    }
}

#[test]
fn c46_a_descriptor_is_not_closed_under_an_op_whose_handle_is_gone() {
    let (ring, (reader, writer)) = (ring(), pipe());
    let number = reader.as_raw_fd();
    let fd = Fd::from(reader);
    ring.read(&fd, Vec::with_capacity(8), CURRENT).detach();
    let dropped = ring.read(&fd, Vec::with_capacity(8), CURRENT);
    drop(fd);
    ring.submit().unwrap();
    drop(dropped);
    turn_until(&ring, || ring.in_flight() == 1);
    assert!(!peer_is_closed(&writer));
    assert!(!is_taken_by_another(number));
    rustix::io::write(&writer, b"hello").unwrap();
    drain(&ring);
    assert!(peer_closes(&writer));
}

#[test]
fn c46_a_close_waits_for_the_ops_of_its_descriptor() {
    for submitted in [false, true] {
        let (ring, (reader, writer)) = (ring(), pipe());
        let fd = Fd::from(reader);
        let mut handles =
            vec![ring.read(&fd, vec![0; 4], CURRENT), ring.read(&fd, vec![0; 4], CURRENT)];
        if submitted {
            ring.submit().unwrap();
        }
        let mut closing = ring.close(&fd);
        assert!(fd.is_closed());
        while !handles.is_empty() {
            assert!(closing.try_take().is_none());
            finish(&ring, ring.nop()).unwrap();
            assert!(closing.try_take().is_none(), "submitted: {submitted}");
            assert!(!peer_is_closed(&writer));
            rustix::io::write(&writer, b"four").unwrap();
            // Either of them may get it.
            turn_until(&ring, || handles.iter().any(Handle::is_done));
            let done = handles.iter().position(Handle::is_done).unwrap();
            assert_eq!(finish(&ring, handles.remove(done)).unwrap().1, b"four");
        }
        finish_close(&ring, closing).unwrap();
        assert!(peer_closes(&writer));
    }
}

#[test]
fn c46_a_close_cancels_nothing_but_a_cancel_lets_it_go_on() {
    let (ring, (reader, writer)) = (ring(), pipe());
    let fd = Fd::from(reader);
    let handle = ring.read(&fd, vec![0; 4], CURRENT);
    ring.submit().unwrap();
    let mut closing = ring.close(&fd);
    finish(&ring, ring.nop()).unwrap();
    assert!(closing.try_take().is_none() && !handle.is_done());
    drop(handle);
    finish_close(&ring, closing).unwrap();
    assert!(peer_closes(&writer));
}

#[test]
fn c46_after_a_close_ops_are_refused_and_give_their_buffers_back() {
    let (ring, (reader, writer)) = (ring(), pipe());
    let fd = Fd::from(reader);
    let before = ring.read(&fd, Vec::with_capacity(4), CURRENT);
    let closing = ring.close(&fd);
    let late = fd.clone();
    let result = ring.read(&late, vec![7; 4], CURRENT).try_take().expect("refused at once");
    assert_eq!((refused(result.0), result.1), (Errno::BADF, vec![7; 4]));
    let result = ring.writev(&late, ["a", "b"], 0).try_take().expect("refused at once");
    assert_eq!((refused(result.0), result.1), (Errno::BADF, ["a", "b"]));
    let poll = ring.poll(&late, PollFlags::IN).try_take().expect("refused at once");
    assert_eq!(refused(poll), Errno::BADF);
    let refusals = [
        ring.fsync(&late).try_take(),
        ring.ftruncate(&late, 0).try_take(),
        ring.unlinkat(&late, "x", AtFlags::empty()).try_take(),
    ];
    assert_eq!(refusals.map(|result| refused(result.unwrap())), [Errno::BADF; 3]);
    rustix::io::write(&writer, b"four").unwrap();
    assert_eq!(finish(&ring, before).unwrap().1, b"four", "what came before goes on");
    finish_close(&ring, closing).unwrap();
}

#[test]
fn c46_a_second_close_joins_the_first() {
    let (ring, (reader, writer)) = (ring(), pipe());
    let fd = Fd::from(reader);
    let handle = ring.read(&fd, vec![0; 4], CURRENT);
    let (first, second) = (ring.close(&fd), ring.close(&fd.clone()));
    rustix::io::write(&writer, b"four").unwrap();
    finish(&ring, handle).unwrap();
    let sqes = ring.stats().sqes;
    finish_close(&ring, second).unwrap();
    finish_close(&ring, first).unwrap();
    finish_close(&ring, ring.close(&fd)).expect("and a third, after the fact");
    assert_eq!(ring.stats().sqes - sqes, 1, "it is closed once");
}

#[test]
fn c46_two_threads_may_close_one_descriptor() {
    for _ in 0..50 {
        let (ring, (reader, writer)) = (ring(), pipe());
        let fd = Fd::from(reader);
        let handle = ring.read(&fd, vec![0; 4], CURRENT);
        let (results, closed) = mpsc::channel();
        for _ in 0..2 {
            let (ring, fd, results) = (ring.clone(), fd.clone(), results.clone());
            thread::spawn(move || results.send(block_on(&ring, ring.close(&fd))));
        }
        rustix::io::write(&writer, b"four").unwrap();
        finish(&ring, handle).unwrap();
        for _ in 0..2 {
            closed.recv_timeout(BOUND).expect("in time").unwrap();
        }
        assert!(peer_closes(&writer));
    }
}

#[test]
fn c46_a_close_that_is_given_up_half_way_closes_all_the_same() {
    // While it waits for an op.
    let (ring, (reader, writer)) = (ring(), pipe());
    let fd = Fd::from(reader);
    let handle = ring.read(&fd, vec![0; 4], CURRENT);
    drop(ring.close(&fd));
    drop(fd);
    rustix::io::write(&writer, b"four").unwrap();
    finish(&ring, handle).unwrap();
    drain(&ring);
    assert!(peer_closes(&writer));

    // While the close is in the kernel, or about to be; with the descriptor still held.
    for submitted in [false, true] {
        let (reader, writer) = pipe();
        let fd = Fd::from(reader);
        let closing = ring.close(&fd);
        if submitted {
            ring.submit().unwrap();
        }
        drop(closing);
        drain(&ring);
        assert!(peer_closes(&writer), "submitted: {submitted}");
        finish_close(&ring, ring.close(&fd)).expect("closed already");
    }

    // While it waits for an op; and another close takes it on.
    let (reader, writer) = pipe();
    let fd = Fd::from(reader);
    let handle = ring.read(&fd, vec![0; 4], CURRENT);
    let (given_up, kept) = (ring.close(&fd), ring.close(&fd));
    drop(given_up);
    rustix::io::write(&writer, b"four").unwrap();
    finish(&ring, handle).unwrap();
    finish_close(&ring, kept).unwrap();
    assert!(peer_closes(&writer));
}

#[test]
fn c46_a_close_that_is_given_up_closes_when_the_last_op_ends_though_the_fd_is_held() {
    let (ring, (reader, writer)) = (ring(), pipe());
    let fd = Fd::from(reader);
    let handle = ring.read(&fd, vec![0; 4], CURRENT);
    drop(ring.close(&fd));
    rustix::io::write(&writer, b"four").unwrap();
    finish(&ring, handle).unwrap();
    drain(&ring);
    assert!(peer_closes(&writer), "{fd:?} is said to be closed when its last op has ended");
}

#[test]
fn c46_a_close_waits_for_the_end_of_ops_and_not_for_who_takes_their_results() {
    let (ring, (reader, writer)) = (ring(), pipe());
    let fd = Fd::from(reader);
    let handle = ring.read(&fd, vec![0; 4], CURRENT);
    let closing = ring.close(&fd);
    rustix::io::write(&writer, b"four").unwrap();
    finish_close(&ring, closing).unwrap();
    assert!(peer_closes(&writer));
    assert_eq!(handle.try_take().expect("long done").unwrap().1, b"four");
}

/// An open that waits in the kernel, from a directory: for a FIFO's other end.
fn waiting_open(ring: &Ring) -> (Handle<Openat2>, TempDir, Fd) {
    let (place, dir) = place();
    let fifo = place.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    // With CREATE the kernel always uses a worker, and the worker waits.
    let flags = OFlags::RDONLY | OFlags::CREATE;
    (ring.queue(Openat2::new(&dir, "fifo").flags(flags)), place, dir)
}

#[test]
fn c46_a_close_waits_for_paths_that_start_from_its_directory() {
    for submitted in [false, true] {
        let ring = ring();
        let (handle, place, dir) = waiting_open(&ring);
        if submitted {
            ring.submit().unwrap();
        }
        let mut closing = ring.close(&dir);
        finish(&ring, ring.nop()).unwrap();
        assert!(!handle.is_done() && closing.try_take().is_none());
        // Both ends at once: this open does not wait, and lets the other one go.
        let fifo = place.path().join("fifo");
        let mut both = File::options().read(true).write(true).open(fifo).unwrap();
        let reader = finish(&ring, handle).expect("the directory was there for it");
        finish_close(&ring, closing).unwrap();
        both.write_all(b"hello").unwrap();
        assert_eq!(read_some(&ring, &reader), b"hello");
    }
}

#[test]
fn c46_a_directory_that_is_dropped_stays_for_the_paths_that_start_from_it() {
    let (ring, (place, dir)) = (ring(), place());
    fs::write(place.path().join("file"), "hello").unwrap();
    let open = ring.queue(Openat2::new(&dir, "file"));
    let mkdir = ring.mkdirat(&dir, "dir", Mode::RWXU);
    let rename = ring.renameat2(&dir, "file", &dir, "renamed", deferring::RenameFlags::empty());
    drop(dir);
    let _others: Vec<_> = (0..64).map(|_| File::open("/").unwrap()).collect();
    assert_eq!(read_some(&ring, &finish(&ring, open).unwrap()), b"hello");
    finish(&ring, mkdir).unwrap();
    finish(&ring, rename).unwrap();
    assert_eq!(names(place.path()), ["dir", "renamed"]);
}

#[test]
fn a_descriptor_that_was_opened_by_the_ring_is_used_and_closed_by_it() {
    let (ring, (place, dir)) = (ring(), place());
    let flags = OFlags::RDWR | OFlags::CREATE;
    let op = Openat2::new(&dir, "file").flags(flags).mode(Mode::RUSR | Mode::WUSR);
    let fd = finish(&ring, ring.queue(op)).unwrap();
    write_all(&ring, &fd, "hello");
    assert_eq!(content(&File::open(place.path().join("file")).unwrap()), b"hello");
    finish_close(&ring, ring.close(&fd)).unwrap();
}

/// The numbers that this process has open.
fn open_numbers() -> Vec<i32> {
    let mut numbers: Vec<i32> =
        names("/proc/self/fd".as_ref()).iter().map(|name| name.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// Opens a thousand files in ways that nobody takes the descriptor of; none may be left open.
/// Returns how many opens took place.
fn lose_a_thousand(lose: impl Fn(&Ring, Handle<Openat2>, &Path)) -> usize {
    let (place, dir) = place();
    let ring = ring();
    finish(&ring, ring.nop()).unwrap();
    let before = open_numbers();
    for at in 0..1_000 {
        // With CREATE it runs on a worker, in its own time.
        let (flags, name) = (OFlags::WRONLY | OFlags::CREATE, at.to_string());
        let op = Openat2::new(&dir, &name).flags(flags).mode(Mode::RWXU);
        lose(&ring, ring.queue(op), &place.path().join(name));
        if at % 100 == 99 {
            drain(&ring);
            assert_eq!(open_numbers(), before, "after {at}");
        }
    }
    names(place.path()).len()
}

/// Submits an open, and has every other one go so far that a cancel comes too late.
fn start(ring: &Ring, path: &Path) {
    let number: u32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let odd = number % 2 == 1;
    // Those before have ended or not; this one is not to wait for a credit of theirs.
    until("others end", || {
        ring.reap().unwrap();
        ring.pending().in_kernel < 8
    });
    ring.submit().unwrap();
    if odd {
        until("the file is made", || path.exists());
    }
}

#[test]
fn p2_a_late_descriptor_of_a_dropped_open_is_closed() {
    in_a_process_of_its_own(this_test!(), || {
        let opened = lose_a_thousand(|ring, handle, path| {
            start(ring, path);
            drop(handle);
        });
        assert!(opened > 0, "none was late");
    });
}

#[test]
fn p2_a_late_descriptor_that_came_before_the_drop_is_closed() {
    in_a_process_of_its_own(this_test!(), || {
        let opened = lose_a_thousand(|ring, handle, _| {
            ring.submit().unwrap();
            until("it is there", || ring.wait(Some(BOUND)).unwrap());
            drop(handle); // not reaped
            drain(ring);
        });
        assert_eq!(opened, 1_000);
        let opened = lose_a_thousand(|ring, handle, _| {
            turn_until(ring, || handle.is_done());
            drop(handle); // not taken
        });
        assert_eq!(opened, 1_000);
    });
}

#[test]
fn p2_a_late_descriptor_of_a_detached_open_is_closed() {
    in_a_process_of_its_own(this_test!(), || {
        assert_eq!(lose_a_thousand(|_, handle, _| handle.detach()), 1_000);
    });
}

#[test]
fn p2_a_late_descriptor_of_a_cancelled_open_is_given_or_closed() {
    in_a_process_of_its_own(this_test!(), || {
        let given = Cell::new(0);
        let opened = lose_a_thousand(|ring, handle, path| {
            start(ring, path);
            let _asked = handle.cancel();
            match finish(ring, handle) {
                Ok(_fd) => given.set(given.get() + 1),
                Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
            }
        });
        assert!(opened >= given.get() && given.get() > 0, "{opened}, {given:?}");
        lose_a_thousand(|ring, handle, path| {
            start(ring, path);
            let _asked = handle.cancel();
            ring.submit().unwrap();
            drop(handle); // whatever it was
        });
    });
}

#[test]
fn p2_an_open_that_is_dropped_unsubmitted_opens_nothing() {
    let (ring, (place, dir)) = (ring(), place());
    let flags = OFlags::WRONLY | OFlags::CREATE;
    drop(ring.queue(Openat2::new(&dir, "file").flags(flags).mode(Mode::RWXU)));
    drain(&ring);
    assert_eq!(ring.stats().sqes, 0);
    assert!(names(place.path()).is_empty());
}

#[test]
fn p2_a_ring_that_goes_away_leaves_no_descriptor() {
    in_a_process_of_its_own(this_test!(), || {
        let (place, _) = place();
        let before = open_numbers();
        for at in 0..20 {
            let ring = ring();
            let handles: Vec<_> = (0..20)
                .map(|each| {
                    let flags = OFlags::WRONLY | OFlags::CREATE;
                    let path = place.path().join(format!("{at}.{each}"));
                    ring.queue(Openat2::new(CWD, path).flags(flags).mode(Mode::RWXU))
                })
                .collect();
            ring.submit().unwrap();
            drop(ring);
            drop(handles);
            assert_eq!(open_numbers(), before);
        }
        assert_eq!(deferring::leaked_ops(), 0);
    });
}

#[test]
fn a_read_of_a_child_that_says_nothing_is_let_go() {
    let ring = ring();
    let mut child =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cat");
    let stdout = Fd::from(child.stdout.take().unwrap());
    let handle = ring.read(&stdout, vec![0; 4], CURRENT);
    ring.submit().unwrap();
    let _asked = handle.cancel();
    assert_eq!(refused(finish(&ring, handle).0), Errno::CANCELED);
    let mut stdout = File::from(stdout.try_into_owned().expect("not in use"));
    child.stdin.take().unwrap().write_all(b"x").unwrap();
    assert_eq!(stdout.read(&mut [0; 4]).unwrap(), 1);
    assert!(child.wait().unwrap().success());
}
