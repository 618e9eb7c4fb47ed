//! Many reads, one system call.
//!
//! `strace -fe trace=io_uring_enter target/debug/examples/one_submit` shows the same number.
#![allow(clippy::print_stdout)] // It shows what it found.

use std::io;

use deferring::{BufResult, Fd, Ring};

const READS: u32 = 64;

fn main() -> io::Result<()> {
    let ring = Ring::builder().queue_depth(READS).build()?;
    let zeros = Fd::from(std::fs::File::open("/dev/zero")?);

    let reads: Vec<_> = (0..READS).map(|_| ring.read(&zeros, vec![1; 64], 0)).collect();
    assert_eq!(ring.stats().enters, 0, "queued, nothing more");
    ring.submit()?;
    assert_eq!(ring.stats().enters, 1, "all of them went out at once");

    while ring.in_flight() > 0 {
        ring.wait(None)?;
        ring.reap()?;
    }
    for read in reads {
        let BufResult(n, buf) = read.try_take().expect("reaped");
        assert_eq!((n?, buf), (64, vec![0; 64]));
    }
    println!("{READS} reads took {} io_uring_enter", ring.stats().enters);
    Ok(())
}
