//! A program with no async at all: queue, submit, wait, reap, take.
//!
//! Prints how much of each file given as an argument (else of itself) one read brings.
#![allow(clippy::print_stdout)] // It shows what it found.

use std::fs::File;
use std::path::PathBuf;
use std::{env, io};

use deferring::{BufResult, Fd, Ring};

fn main() -> io::Result<()> {
    let mut paths: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    if paths.is_empty() {
        paths.push(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/seeds_own_loop.rs").into());
    }
    let open = |path| File::open(path).map(Fd::from);
    let files: Vec<Fd> = paths.iter().map(open).collect::<io::Result<_>>()?;

    let ring = Ring::builder().queue_depth(64).build()?;
    let reads: Vec<_> = files.iter().map(|file| ring.read(file, vec![0; 4096], 0)).collect();
    ring.submit()?;
    while ring.in_flight() > 0 {
        ring.wait(None)?;
        ring.reap()?;
    }
    for (path, read) in paths.iter().zip(reads) {
        let BufResult(n, buf) = read.try_take().expect("reaped");
        let lines = buf[..n?].iter().filter(|&&byte| byte == b'\n').count();
        println!("{}: {lines} lines", path.display());
    }
    Ok(())
}
