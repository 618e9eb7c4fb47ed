//! Threads that queue an op, submit it perhaps, and exit before it ends.
//!
//! The kernel ties an op to the thread that submitted it: a pipe's read ends with ECANCELED when
//! its data comes and the thread is gone. (Other ops end with EFAULT, a short count, or -512.)

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::thread;

use deferring::op::Read;
use deferring::{Fd, Handle, Ring};

use crate::report::{Hazard, long};
use crate::scene::allow_descriptors;
use crate::support::{
    builder, in_a_process_of_its_own, pipe, skipped, this_test, thread_id, until,
};
use crate::way::Way;

#[test]
fn h04_reads_of_threads_that_are_gone_have_right_results_by_hand() {
    in_a_process_of_its_own(this_test!(), || threads_exit(Way::ByHand));
}

#[test]
fn h04_reads_of_threads_that_are_gone_have_right_results_under_block_on() {
    in_a_process_of_its_own(this_test!(), || threads_exit(Way::BlockOn));
}

fn threads_exit(way: Way) {
    let hazard = Hazard::begin(4);
    let count = if long() { 2_000 } else { 200 };
    if !allow_descriptors(2 * count) {
        return skipped(&format!("{} descriptors (ulimit -n)", 2 * count));
    }
    let ring = builder().queue_depth(8).build().unwrap();
    let (mut reads, mut writers) = (Vec::new(), Vec::new());
    for number in 0..count {
        let (reader, writer) = pipe();
        reads.push(queued_by_a_thread(&ring, reader, number % 2 == 0));
        writers.push(writer);
    }
    assert!(reads.iter().all(|read| !read.is_done()), "there is no data");
    for (number, writer) in writers.iter_mut().enumerate() {
        tell(writer, number);
    }
    for (number, read) in way.finish_all(&ring, reads).into_iter().enumerate() {
        let (n, buf) = read.into_inner().unwrap_or_else(|error| panic!("read {number}: {error}"));
        assert_eq!((n, buf), (8, number.to_ne_bytes().to_vec()));
    }
    hazard.saw(format_args!(
        "{count} threads queued a read and exited, half of them after a submit: {count} right \
         results ({way:?})"
    ));
}

/// Returns when the thread is gone, for the kernel too.
fn queued_by_a_thread(ring: &Ring, reader: Fd, submits: bool) -> Handle<Read<Vec<u8>>> {
    let ring = ring.clone();
    let thread = thread::spawn(move || {
        let read = ring.read(&reader, vec![0; 8], 0);
        if submits {
            ring.submit().unwrap();
        }
        (read, thread_id())
    });
    let (read, id) = thread.join().unwrap();
    let task = format!("/proc/self/task/{id}");
    until("the thread is gone", || !Path::new(&task).exists());
    read
}

fn tell(writer: &mut File, number: usize) {
    writer.write_all(&number.to_ne_bytes()).unwrap();
}
