//! Ten thousand reads that wait, and the writes that release them behind them in the same ring.
//!
//! A cap on ops in flight would never let the writes in. And each event of a descriptor wakes all
//! who wait for it in the kernel: reads of one descriptor had better go there one at a time.

use std::collections::BTreeSet;

use deferring::op::{Read, Write};
use deferring::{BufResult, Fd, Handle, Ring};

use crate::report::{Hazard, long};
use crate::support::{bounded, builder, pipe};
use crate::way::Way;

const COUNT: u16 = 10_000;

type ReadTwo = Handle<Read<Vec<u8>>>;
type WriteTwo = Handle<Write<Vec<u8>>>;

#[test]
fn h02_reads_of_one_pipe_all_end_and_each_pair_of_bytes_comes_once_by_hand() {
    bounded(|| reads_then_writes(1, Way::ByHand));
}

#[test]
fn h02_reads_of_one_pipe_all_end_and_each_pair_of_bytes_comes_once_under_block_on() {
    bounded(|| reads_then_writes(1, Way::BlockOn));
}

#[test]
fn h02_reads_of_100_pipes_all_end_and_each_pair_of_bytes_comes_once_by_hand() {
    bounded(|| reads_then_writes(100, Way::ByHand));
}

#[test]
fn h02_reads_of_100_pipes_all_end_and_each_pair_of_bytes_comes_once_under_block_on() {
    bounded(|| reads_then_writes(100, Way::BlockOn));
}

/// As many reads as [`COUNT`], of these pipes in turn.
fn reads_then_writes(pipes: u16, way: Way) {
    let hazard = Hazard::begin(2);
    let rounds = if long() { 5 } else { 1 };
    let ring = small_ring();
    let pipes: Vec<(Fd, Fd)> = (0..pipes)
        .map(|_| {
            let (reader, writer) = pipe();
            (reader, writer.into())
        })
        .collect();
    for _ in 0..rounds {
        let (reads, writes) = queue(&ring, &pipes);
        let writes = way.finish_all(&ring, writes);
        assert!(writes.into_iter().all(|BufResult(n, _)| n.expect("writes") == 2));
        let reads = way.finish_all(&ring, reads);
        check_each_came_once(&reads, pipes.len());
    }
    hazard.saw(format_args!(
        "{COUNT} reads waited, pipes: {}, with as many writes behind them; all ended, each pair of \
         bytes came once, times: {rounds} ({way:?})",
        pipes.len()
    ));
}

fn small_ring() -> Ring {
    builder().queue_depth(8).build().unwrap()
}

fn queue(ring: &Ring, pipes: &[(Fd, Fd)]) -> (Vec<ReadTwo>, Vec<WriteTwo>) {
    let in_turn = || (0..COUNT).zip(pipes.iter().cycle());
    let reads = in_turn().map(|(_, (reader, _))| ring.read(reader, vec![0; 2], 0)).collect();
    // The reads are in the kernel before the first write is asked for.
    ring.submit().unwrap();
    let write = |number: u16, writer| ring.write(writer, number.to_ne_bytes().to_vec(), 0);
    let writes = in_turn().map(|(number, (_, writer))| write(number, writer)).collect();
    (reads, writes)
}

/// Each number came once, and out of the pipe that it went into.
fn check_each_came_once(reads: &[BufResult<usize, Vec<u8>>], pipes: usize) {
    let mut numbers = BTreeSet::new();
    for (at, BufResult(n, buf)) in reads.iter().enumerate() {
        assert_eq!(n.as_ref().expect("reads"), &2);
        let number = number(buf);
        assert_eq!(usize::from(number) % pipes, at % pipes, "the data of another pipe");
        assert!(numbers.insert(number), "{number} came twice");
    }
    assert!(numbers.into_iter().eq(0..COUNT));
}

fn number(buf: &[u8]) -> u16 {
    u16::from_ne_bytes(buf.try_into().expect("two bytes"))
}

#[test]
fn h02_reads_of_one_pipe_get_its_data_in_the_order_in_which_they_were_queued() {
    bounded(|| {
        let hazard = Hazard::begin(2);
        let ring = small_ring();
        let (reader, writer) = pipe();
        let reads: Vec<_> = (0..COUNT).map(|_| ring.read(&reader, vec![0; 2], 0)).collect();
        ring.submit().unwrap();
        // One write, so that there is no doubt of the order in the pipe.
        let bytes: Vec<u8> = (0..COUNT).flat_map(u16::to_ne_bytes).collect();
        let write = ring.write(&writer.into(), bytes, 0);
        let BufResult(n, bytes) = Way::ByHand.finish(&ring, write);
        assert_eq!(n.unwrap(), bytes.len());
        let reads = Way::ByHand.finish_all(&ring, reads);
        let numbers = reads.into_iter().map(|read| number(&read.into_inner().expect("reads").1));
        assert!(numbers.eq(0..COUNT), "not in the order of the reads");
        hazard.saw(format_args!("{COUNT} waiting reads of one pipe got one write's data in order"));
    });
}
