//! What a call costs, for who asks:
//! `cargo test -p deferring-sim --release nanoseconds -- --nocapture`.
//!
//! Not: a bound that is held; machines differ.

use std::hint::black_box;
use std::time::Instant;

use super::super::Disk;
use super::create;

#[test]
fn nanoseconds_of_a_read_and_a_write_in_place() {
    let mut disk = Disk::new();
    for n in 0..1000 {
        let id = create(&mut disk, &format!("{n}"));
        disk.write(id, 0, &[1; 65536]).unwrap();
    }
    let id = create(&mut disk, "f");
    disk.write(id, 0, &[1; 1 << 20]).unwrap();
    for len in [64, 512, 4096] {
        let mut buf = vec![1; len];
        let offsets = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (1 << 20) / 4096 * 4096;
        let read = each(|n| disk.read(id, offsets(n), black_box(&mut buf)).unwrap());
        let write = each(|n| disk.write(id, offsets(n), black_box(&buf)).unwrap());
        let sync = each(|n| {
            disk.write(id, offsets(n), black_box(&buf)).unwrap();
            disk.sync(id, true).unwrap();
            len
        });
        let line =
            format!("{len} bytes: read {read} ns, write {write} ns, write and sync {sync} ns");
        println!("{line}");
    }
    let open = each(|_| {
        let id = create(&mut disk, "new");
        disk.unlink(super::ROOT, b"new", false).unwrap();
        usize::try_from(id.0).unwrap()
    });
    println!("create and unlink: {open} ns");
}

fn each(mut call: impl FnMut(u64) -> usize) -> u128 {
    const CALLS: u64 = if cfg!(debug_assertions) { 1000 } else { 1_000_000 };
    let start = Instant::now();
    for n in 0..CALLS {
        black_box(call(n));
    }
    start.elapsed().as_nanos() / u128::from(CALLS)
}
