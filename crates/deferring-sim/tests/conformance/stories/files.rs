//! Bytes in files.
//!
//! Not: their names (`names.rs`).

use deferring::{Advice, BufResult, CURRENT, FallocateFlags, OFlags};
use rustix::io::Errno;

use super::fails;
use crate::worlds::{Form, World};

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

pub(crate) async fn bytes_come_back_from_where_they_were_put(world: &World) {
    let file = world.file("a", b"hello").await;
    assert_eq!(world.write_at(&file, "y, world", 4).await.unwrap(), 8);
    assert_eq!(world.read_at(&file, 100, 0).await.unwrap(), b"helly, world");
    assert_eq!(world.read_at(&file, 3, 5).await.unwrap(), b", w");
    assert_eq!(world.read_at(&file, 0, 5).await.unwrap(), b"");
    assert_eq!(world.write_at(&file, "", 5).await.unwrap(), 0);
    assert_eq!(world.read("a").unwrap(), b"helly, world");
    let read_only = world.open("a", OFlags::RDONLY).await.unwrap();
    fails(world.write_at(&read_only, "x", 0).await, Errno::BADF);
    fails(world.write_at(&read_only, "", 0).await, Errno::BADF);
    let write_only = world.open("a", OFlags::WRONLY).await.unwrap();
    fails(world.read_at(&write_only, 1, 0).await, Errno::BADF);
    fails(world.read_at(&world.dir, 1, 0).await, Errno::ISDIR);
    fails(world.write_at(&world.dir, "x", 0).await, Errno::BADF);
    let named_only = world.open("a", OFlags::PATH).await.unwrap();
    fails(world.read_at(&named_only, 1, 0).await, Errno::BADF);
    fails(world.write_at(&named_only, "x", 0).await, Errno::BADF);
}

pub(crate) async fn the_position_moves_with_what_asks_for_it(world: &World) {
    let file = world.file("a", b"").await;
    assert_eq!(world.write_at(&file, "one", CURRENT).await.unwrap(), 3);
    assert_eq!(world.write_at(&file, "two", CURRENT).await.unwrap(), 3);
    assert_eq!(world.read_at(&file, 10, CURRENT).await.unwrap(), b"");
    assert_eq!(world.write_at(&file, "ONE", 0).await.unwrap(), 3);
    assert_eq!(world.write_at(&file, "three", CURRENT).await.unwrap(), 5);
    assert_eq!(world.read("a").unwrap(), b"ONEtwothree");
    let other = world.open("a", OFlags::RDONLY).await.unwrap();
    assert_eq!(world.read_at(&other, 4, CURRENT).await.unwrap(), b"ONEt");
    assert_eq!(world.read_at(&other, 4, 6).await.unwrap(), b"thre");
    assert_eq!(world.read_at(&other, 4, CURRENT).await.unwrap(), b"woth");
}

pub(crate) async fn several_buffers_are_one_transfer(world: &World) {
    let file = world.file("a", b"").await;
    let parts = ["one", "", "two", "three"].map(String::from);
    assert_eq!(world.ring.writev(&file, parts, 2).await.0.unwrap(), 11);
    assert_eq!(world.read("a").unwrap(), b"\0\0onetwothree");
    let room = [Vec::with_capacity(4), Vec::new(), Vec::with_capacity(3), Vec::with_capacity(99)];
    let BufResult(n, [first, none, second, third]) = world.ring.readv(&file, room, 1).await;
    assert_eq!((n.unwrap(), none.len()), (12, 0));
    assert_eq!((&first[..], &second[..], &third[..]), (&b"\0one"[..], &b"two"[..], &b"three"[..]));
    let none: Vec<Vec<u8>> = Vec::new();
    assert_eq!(world.ring.readv(&file, none.clone(), 0).await.0.unwrap(), 0);
    assert_eq!(world.ring.writev(&file, none, 0).await.0.unwrap(), 0);
    fails(world.ring.writev(&file, vec![vec![1u8]; 1025], 0).await.0, Errno::INVAL);
    let room = vec![vec![0u8]; 1024];
    let BufResult(n, room) = world.ring.readv(&file, room, 0).await;
    assert_eq!((n.unwrap(), room.concat().starts_with(b"\0\0onetwothree\0")), (13, true));
}

pub(crate) async fn what_is_past_the_end_is_nothing_and_what_is_between_is_zeros(world: &World) {
    let file = world.file("a", b"start").await;
    assert_eq!(world.read_at(&file, 9, 5).await.unwrap(), b"");
    assert_eq!(world.read_at(&file, 9, 1 << 40).await.unwrap(), b"");
    assert_eq!(world.write_at(&file, "end", 9000).await.unwrap(), 3);
    let bytes = world.read_at(&file, 20_000, 0).await.unwrap();
    assert!(bytes.starts_with(b"start\0") && bytes.ends_with(b"\0end"));
    assert_eq!((bytes.len(), bytes.iter().filter(|&&byte| byte == 0).count()), (9003, 8995));
}

pub(crate) async fn an_append_goes_to_the_end(world: &World) {
    let file = world.file("a", b"12345").await;
    let append = world.open("a", OFlags::RDWR | OFlags::APPEND).await.unwrap();
    assert_eq!(world.write_at(&append, "six", 1).await.unwrap(), 3);
    assert_eq!(world.write_at(&append, "seven", CURRENT).await.unwrap(), 5);
    assert_eq!(world.read_at(&append, 9, CURRENT).await.unwrap(), b"");
    assert_eq!(world.read_at(&append, 4, 3).await.unwrap(), b"45si");
    assert_eq!(world.write_at(&file, "8", 13).await.unwrap(), 1);
    assert_eq!(world.read("a").unwrap(), b"12345sixseven8");
}

pub(crate) async fn offsets_and_lengths_that_are_none(world: &World) {
    let file = world.file("a", b"").await;
    for offset in [1 << 63, u64::MAX - 1, u64::MAX - 4096] {
        fails(world.read_at(&file, 1, offset).await, Errno::INVAL);
        fails(world.write_at(&file, "x", offset).await, Errno::INVAL);
    }
    let last = i64::MAX.unsigned_abs();
    assert_eq!(world.read_at(&file, 0, last).await.unwrap(), b"");
    fails(world.read_at(&file, 2, last).await, Errno::INVAL);
    fails(world.write_at(&file, "xx", last).await, Errno::INVAL);
    fails(world.ring.ftruncate(&file, 1 << 63).await, Errno::INVAL);
    for (offset, len) in [(0, 0), (1 << 63, 1), (1, 1 << 63)] {
        let empty = FallocateFlags::empty();
        fails(world.ring.fallocate(&file, empty, offset, len).await, Errno::INVAL);
    }
    fails(world.ring.fallocate(&file, FallocateFlags::empty(), last, last).await, Errno::FBIG);
    assert_eq!(world.read("a").unwrap(), b"");
}

pub(crate) async fn a_file_has_the_length_it_is_given(world: &World) {
    let file = world.file("a", b"0123456789").await;
    world.ring.ftruncate(&file, 4).await.unwrap();
    assert_eq!(world.read("a").unwrap(), b"0123");
    world.ring.ftruncate(&file, 6).await.unwrap();
    assert_eq!(world.read("a").unwrap(), b"0123\0\0");
    let read_only = world.open("a", OFlags::RDONLY).await.unwrap();
    fails(world.ring.ftruncate(&read_only, 0).await, Errno::INVAL);
    fails(world.ring.ftruncate(&world.dir, 0).await, Errno::INVAL);
    let (input, output) = world.pipe();
    fails(world.ring.ftruncate(&input, 0).await, Errno::INVAL);
    fails(world.ring.ftruncate(&output, 0).await, Errno::INVAL);
    let named_only = world.open("a", OFlags::PATH).await.unwrap();
    fails(world.ring.ftruncate(&named_only, 0).await, Errno::BADF);
}

pub(crate) async fn room_is_taken_and_holes_are_made(world: &World) {
    let file = world.file("a", &[7; 10_000]).await;
    let allocate = |flags, offset, len| world.ring.fallocate(&file, flags, offset, len);
    allocate(FallocateFlags::empty(), 5000, 7000).await.unwrap();
    assert_eq!(world.read("a").unwrap().len(), 12_000);
    allocate(FallocateFlags::KEEP_SIZE, 12_000, 7000).await.unwrap();
    assert_eq!(world.read("a").unwrap(), [&[7; 10_000][..], &[0; 2000]].concat());
    let unknown = FallocateFlags::from_bits_retain(1 << 20);
    fails(allocate(unknown, 0, 1).await, Errno::OPNOTSUPP);
    fails(allocate(FallocateFlags::PUNCH_HOLE, 0, 1).await, Errno::OPNOTSUPP);
    if Form::here().ext4 {
        allocate(PUNCH, 1000, 5000).await.unwrap();
        allocate(FallocateFlags::ZERO_RANGE, 8000, 5000).await.unwrap();
        let bytes = [&[7; 1000][..], &[0; 5000], &[7; 2000], &[0; 5000]].concat();
        assert_eq!(world.read("a").unwrap(), bytes);
    }
    let read_only = world.open("a", OFlags::RDONLY).await.unwrap();
    let empty = FallocateFlags::empty();
    fails(world.ring.fallocate(&read_only, empty, 0, 1).await, Errno::BADF);
    fails(world.ring.fallocate(&world.dir, empty, 0, 1).await, Errno::BADF);
    let (input, output) = world.pipe();
    fails(world.ring.fallocate(&output, empty, 0, 1).await, Errno::SPIPE);
    fails(world.ring.fallocate(&input, empty, 0, 1).await, Errno::BADF);
}

pub(crate) async fn syncs_and_advice(world: &World) {
    let file = world.file("a", b"bytes").await;
    let read_only = world.open("a", OFlags::RDONLY).await.unwrap();
    for fd in [&file, &read_only, &world.dir] {
        world.ring.fsync(fd).await.unwrap();
        world.ring.fdatasync(fd).await.unwrap();
        world.ring.fadvise(fd, 0, 0, Advice::WillNeed).await.unwrap();
        world.ring.fadvise(fd, 3, 1 << 33, Advice::DontNeed).await.unwrap();
    }
    let (pipe, socket) = (world.pipe(), world.socket_pair());
    for fd in [&pipe.0, &pipe.1, &socket.0] {
        fails(world.ring.fsync(fd).await, Errno::INVAL);
        fails(world.ring.fdatasync(fd).await, Errno::INVAL);
    }
    for fd in [&pipe.0, &pipe.1] {
        fails(world.ring.fadvise(fd, 0, 0, Advice::Normal).await, Errno::SPIPE);
    }
    let named_only = world.open("a", OFlags::PATH).await.unwrap();
    fails(world.ring.fsync(&named_only).await, Errno::BADF);
    fails(world.ring.fadvise(&named_only, 0, 0, Advice::Normal).await, Errno::BADF);
}

pub(crate) async fn what_is_closed_cannot_be_used(world: &World) {
    let file = world.file("a", b"bytes").await;
    let clone = file.clone();
    world.ring.close(&file).await.unwrap();
    world.ring.close(&clone).await.unwrap();
    fails(world.read_at(&clone, 1, 0).await, Errno::BADF);
    fails(world.write_at(&clone, "x", 0).await, Errno::BADF);
    fails(world.ring.fsync(&clone).await, Errno::BADF);
    fails(world.ring.ftruncate(&clone, 0).await, Errno::BADF);
    let append = OFlags::WRONLY | OFlags::APPEND;
    let (mode, resolve) = (deferring::Mode::empty(), deferring::ResolveFlags::empty());
    fails(world.ring.openat2(&clone, "a", append, mode, resolve).await, Errno::BADF);
    assert_eq!(world.read("a").unwrap(), b"bytes");
    // What is on its way when the close begins goes on.
    let (input, output) = world.pipe();
    let read = world.ring.read(&input, Vec::with_capacity(9), 0);
    let closing = world.ring.close(&input);
    assert_eq!(world.write_at(&output, "late", 0).await.unwrap(), 4);
    assert_eq!(read.await.1, b"late");
    closing.await.unwrap();
    fails(world.write_at(&output, "later", 0).await, Errno::PIPE);
}
