//! Pipes, sockets and FIFOs, and waiting for them.
//!
//! Not: what ends a wait from our side (`waits.rs`).

use std::time::Duration;

use deferring::op::{Op, Openat2};
use deferring::{AtFlags, BufResult, Fd, OFlags, PollFlags, RecvFlags, SendFlags};
use futures_util::future::{join, join3};
use rustix::io::Errno;

use super::fails;
use crate::worlds::{Kernel, World};

const IN: PollFlags = PollFlags::IN;
const OUT: PollFlags = PollFlags::OUT;

const MOMENT: Duration = Duration::from_millis(2);

pub(crate) async fn a_pipe_gives_what_was_written_and_then_its_end(world: &World) {
    let (input, output) = world.pipe();
    assert_eq!(world.write_at(&output, "one", 0).await.unwrap(), 3);
    assert_eq!(world.write_at(&output, "two", 77).await.unwrap(), 3);
    assert_eq!(world.read_at(&input, 4, 99).await.unwrap(), b"onet");
    assert_eq!(world.read_at(&input, 0, 0).await.unwrap(), b"");
    assert_eq!(world.read_at(&input, 9, deferring::CURRENT).await.unwrap(), b"wo");
    fails(world.read_at(&output, 1, 0).await, Errno::BADF);
    fails(world.write_at(&input, "x", 0).await, Errno::BADF);
    // In the order in which they were asked for.
    let [one, two] = [(); 2].map(|()| world.ring.read(&input, Vec::with_capacity(3), 0));
    let parts = ["fir", "sec", "third"].map(String::from);
    assert_eq!(world.ring.writev(&output, parts, 0).await.0.unwrap(), 11);
    let (two, one) = join(two, one).await;
    assert_eq!((one.1, two.1), (b"fir".to_vec(), b"sec".to_vec()));
    world.ring.close(&output).await.unwrap();
    assert_eq!(world.read_at(&input, 9, 0).await.unwrap(), b"third");
    assert_eq!(world.read_at(&input, 9, 0).await.unwrap(), b"");
    assert_eq!(world.read_at(&input, 9, 0).await.unwrap(), b"");
}

pub(crate) async fn a_pipe_without_readers_breaks(world: &World) {
    let (input, output) = world.pipe();
    world.ring.close(&input).await.unwrap();
    fails(world.write_at(&output, "x", 0).await, Errno::PIPE);
    let (one, other) = world.socket_pair();
    world.ring.close(&one).await.unwrap();
    fails(world.write_at(&other, "x", 0).await, Errno::PIPE);
    assert_eq!(world.read_at(&other, 1, 0).await.unwrap(), b"");
}

pub(crate) async fn a_full_pipe_takes_a_part_and_then_the_rest(world: &World) {
    let (input, output) = world.pipe();
    let n = world.write_at(&output, vec![1; 100_000], 0).await.unwrap();
    assert_eq!(n, 65_536);
    let late = world.ring.write(&output, vec![2; 5000], 0);
    world.ring.nop().await.unwrap();
    assert!(!late.is_done());
    let read = world.read_at(&input, 100_000, 0).await.unwrap();
    assert_eq!(read, vec![1; 65_536]);
    assert_eq!(late.await.0.unwrap(), 5000);
    assert_eq!(world.read_at(&input, 100_000, 0).await.unwrap(), vec![2; 5000]);
}

pub(crate) async fn sockets_go_both_ways(world: &World) {
    let (one, other) = world.socket_pair();
    let (sent, back, got) = join3(
        world.write_at(&one, "there", 0),
        world.write_at(&other, "back", 0),
        world.read_at(&one, 9, 0),
    )
    .await;
    assert_eq!((sent.unwrap(), back.unwrap(), got.unwrap()), (5, 4, b"back".to_vec()));
    assert_eq!(world.read_at(&other, 2, 0).await.unwrap(), b"th");
    assert_eq!(world.read_at(&other, 9, deferring::CURRENT).await.unwrap(), b"ere");
    fails(world.read_at(&other, 9, 5).await, Errno::SPIPE);
    fails(world.write_at(&other, "x", 5).await, Errno::SPIPE);
    world.write_at(&one, "last", 0).await.unwrap();
    world.ring.close(&one).await.unwrap();
    assert_eq!(world.read_at(&other, 9, 0).await.unwrap(), b"last");
    assert_eq!(world.read_at(&other, 9, 0).await.unwrap(), b"");
    // What the other end has not read is lost, and this one told so.
    let (one, other) = world.socket_pair();
    world.write_at(&one, "unread", 0).await.unwrap();
    world.write_at(&other, "answer", 0).await.unwrap();
    world.ring.close(&other).await.unwrap();
    assert_eq!(world.read_at(&one, 9, 0).await.unwrap(), b"answer");
    fails(world.read_at(&one, 9, 0).await, Errno::CONNRESET);
    assert_eq!(world.read_at(&one, 9, 0).await.unwrap(), b"");
}

pub(crate) async fn messages_go_by_sockets_and_nothing_else(world: &World) {
    let (plain, no_wait) = (RecvFlags::empty(), RecvFlags::DONTWAIT);
    let recv = async |fd: &Fd, len, flags| {
        let BufResult(n, buf) = world.ring.recv(fd, Vec::with_capacity(len), flags).await;
        assert_eq!(n.as_ref().copied().unwrap_or(0), buf.len());
        n.map(|_| buf)
    };
    let send =
        async |fd: &Fd, bytes: &[u8], flags| world.ring.send(fd, bytes.to_vec(), flags).await.0;
    let usual = SendFlags::empty();
    let (one, other) = world.socket_pair();
    fails(recv(&other, 9, no_wait).await, Errno::AGAIN);
    assert_eq!(send(&one, b"there", usual).await.unwrap(), 5);
    assert_eq!(recv(&other, 9, RecvFlags::PEEK).await.unwrap(), b"there");
    assert_eq!(recv(&other, 2, plain).await.unwrap(), b"th");
    assert_eq!(recv(&other, 0, plain).await.unwrap(), b"");
    assert_eq!(recv(&other, 9, no_wait).await.unwrap(), b"ere");
    // In the order in which they were asked for, whatever they are called.
    let first = world.ring.recv(&other, Vec::with_capacity(3), plain);
    let second = world.ring.read(&other, Vec::with_capacity(3), 0);
    let nothing = world.ring.recv(&other, Vec::new(), plain);
    world.ring.nop().await.unwrap();
    assert!(!first.is_done() && !second.is_done() && !nothing.is_done());
    fails(recv(&other, 9, no_wait).await, Errno::AGAIN);
    assert_eq!(send(&one, b"firsecrest", SendFlags::DONTWAIT).await.unwrap(), 10);
    assert_eq!((first.await.1, second.await.1), (b"fir".to_vec(), b"sec".to_vec()));
    assert_eq!(nothing.await.0.unwrap(), 0);
    assert_eq!(recv(&other, 9, plain).await.unwrap(), b"rest");
    // Full, and nobody waits.
    while send(&one, &[7; 4096], SendFlags::DONTWAIT).await.is_ok() {}
    fails(send(&one, &[7; 4096], SendFlags::DONTWAIT).await, Errno::AGAIN);
    let (one, other) = world.socket_pair();
    let waits = world.ring.recv(&other, Vec::with_capacity(9), plain);
    world.ring.nop().await.unwrap();
    world.ring.close(&one).await.unwrap();
    assert_eq!(waits.await.0.unwrap(), 0);
    fails(send(&other, b"x", usual).await, Errno::PIPE);
    let file = world.file("a", b"bytes").await;
    let (input, output) = world.pipe();
    for fd in [&file, &world.dir, &input, &output] {
        fails(recv(fd, 9, plain).await, Errno::NOTSOCK);
        fails(send(fd, b"x", usual).await, Errno::NOTSOCK);
    }
}

pub(crate) async fn an_end_that_closes_ends_those_who_wait(world: &World) {
    let (input, output) = world.pipe();
    let read = world.ring.read(&input, Vec::with_capacity(9), 0);
    world.ring.nop().await.unwrap();
    world.ring.close(&output).await.unwrap();
    assert_eq!(read.await.0.unwrap(), 0);
    let (input, output) = world.pipe();
    world.write_at(&output, vec![0; 65_536], 0).await.unwrap();
    let write = world.ring.write(&output, "more", 0);
    world.ring.nop().await.unwrap();
    drop(input); // Closes.
    fails(write.await.0, Errno::PIPE);
    let (one, other) = world.socket_pair();
    let read = world.ring.read(&one, Vec::with_capacity(9), 0);
    world.ring.nop().await.unwrap();
    world.ring.close(&other).await.unwrap();
    assert_eq!(read.await.0.unwrap(), 0);
}

pub(crate) async fn polls_tell_what_is_ready(world: &World) {
    let poll = |fd, events| world.ring.poll(fd, events);
    let file = world.file("a", b"").await;
    let normal = PollFlags::RDNORM | PollFlags::WRNORM;
    for fd in [&file, &world.dir] {
        assert_eq!(poll(fd, IN | OUT).await.unwrap(), IN | OUT);
        assert_eq!(poll(fd, normal | PollFlags::PRI).await.unwrap(), normal);
    }
    let (input, output) = world.pipe();
    assert_eq!(poll(&output, OUT | IN).await.unwrap(), OUT);
    let waits = poll(&input, IN);
    world.write_at(&output, "x", 0).await.unwrap();
    assert_eq!(waits.await.unwrap(), IN);
    assert_eq!(poll(&input, IN | OUT).await.unwrap(), IN);
    world.ring.close(&output).await.unwrap();
    assert_eq!(poll(&input, IN).await.unwrap(), IN | PollFlags::HUP);
    world.read_at(&input, 9, 0).await.unwrap();
    assert_eq!(poll(&input, IN).await.unwrap(), PollFlags::HUP);
    let (input, output) = world.pipe();
    let waits = poll(&output, PollFlags::PRI);
    world.ring.nop().await.unwrap();
    world.ring.close(&input).await.unwrap();
    assert_eq!(waits.await.unwrap(), PollFlags::ERR);
    assert_eq!(poll(&output, OUT).await.unwrap(), OUT | PollFlags::ERR);
    let (one, other) = world.socket_pair();
    assert_eq!(poll(&one, IN | OUT).await.unwrap(), OUT);
    world.write_at(&other, "x", 0).await.unwrap();
    assert_eq!(poll(&one, IN | OUT).await.unwrap(), IN | OUT);
    world.ring.close(&other).await.unwrap();
    let gone = PollFlags::HUP | PollFlags::RDHUP;
    assert_eq!(poll(&one, IN | OUT | PollFlags::RDHUP).await.unwrap(), IN | OUT | gone);
    assert_eq!(poll(&one, PollFlags::PRI).await.unwrap(), gone);
    let named_only = world.open("a", OFlags::PATH).await.unwrap();
    fails(poll(&named_only, IN).await, Errno::BADF);
}

pub(crate) async fn polls_can_be_changed_and_removed(world: &World) {
    let (one, other) = world.socket_pair();
    let poll = world.ring.poll(&one, IN);
    world.ring.nop().await.unwrap();
    poll.update(PollFlags::PRI).await.unwrap();
    world.write_at(&other, "x", 0).await.unwrap();
    world.ring.nop().await.unwrap();
    assert!(!poll.is_done());
    poll.update(IN | OUT).await.unwrap();
    assert_eq!(poll.await.unwrap(), IN | OUT);
    let poll = world.ring.poll(&one, PollFlags::PRI);
    world.ring.nop().await.unwrap();
    poll.remove().await.unwrap();
    let update = poll.update(IN);
    fails(poll.await, Errno::CANCELED);
    fails(update.await, Errno::NOENT);
}

pub(crate) async fn fifos_wait_for_each_other(world: &World) {
    world.mkfifo("f");
    let open = |flags: OFlags| {
        let open = Openat2::new(&world.dir, "f").flags(flags);
        world.ring.queue(open.may_block())
    };
    fails(open(OFlags::WRONLY | OFlags::NONBLOCK).await, Errno::NXIO);
    let (output, input) = join(open(OFlags::WRONLY), open(OFlags::RDONLY)).await;
    let (output, input) = (output.unwrap(), input.unwrap());
    world.write_at(&output, "through", 0).await.unwrap();
    assert_eq!(world.read_at(&input, 9, 0).await.unwrap(), b"through");
    fails(world.ring.fsync(&input).await, Errno::INVAL);
    let late = open(OFlags::WRONLY | OFlags::NONBLOCK).await.unwrap();
    world.ring.close(&output).await.unwrap();
    let read = world.ring.read(&input, Vec::with_capacity(9), 0);
    world.ring.nop().await.unwrap();
    assert!(!read.is_done());
    world.ring.close(&late).await.unwrap();
    assert_eq!(read.await.0.unwrap(), 0);
    world.ring.close(&input).await.unwrap();
    // One that goes its own way takes both ends.
    let both = open(OFlags::RDWR).await.unwrap();
    world.write_at(&both, "echo", 0).await.unwrap();
    assert_eq!(world.read_at(&both, 9, 0).await.unwrap(), b"echo");
    world.ring.close(&both).await.unwrap();
    // One that does not wait for its other end, and reads wait all the same.
    let input = open(OFlags::RDONLY | OFlags::NONBLOCK).await.unwrap();
    assert_eq!(world.read_at(&input, 9, 0).await.unwrap(), b"");
    let output = open(OFlags::WRONLY).await.unwrap();
    let read = world.ring.read(&input, Vec::with_capacity(9), 0);
    world.ring.timeout(MOMENT).await.unwrap();
    assert!(!read.is_done());
    world.write_at(&output, "late", 0).await.unwrap();
    assert_eq!(read.await.1, b"late");
    world.ring.close(&input).await.unwrap();
    world.ring.close(&output).await.unwrap();
    // A cancel ends one that waits. The pool does not hear of it, nor does Linux now and then.
    let waits = open(OFlags::RDONLY);
    world.ring.timeout(MOMENT).await.unwrap();
    let _ = waits.cancel().await;
    while !waits.is_done() {
        assert!(world.kernel != Kernel::Sim);
        let _ = open(OFlags::WRONLY | OFlags::NONBLOCK).await;
        world.ring.timeout(MOMENT).await.unwrap();
    }
    if let Err(error) = waits.await {
        assert!([4, 125].map(Some).contains(&error.raw_os_error()), "{error}");
    }
    world.ring.unlinkat(&world.dir, "f", AtFlags::empty()).await.unwrap();
}
