//! Pipes that are hammered: what was written is read, in order, and nothing twice.
//!
//! Numbers go in, one after the other. A read that is awaited, or cancelled, loses none; one that
//! is dropped may take some with it.

use std::fs::File;
use std::io::Write as _;

use deferring::{BufResult, Fd, block_on};

use super::Soaker;
use crate::support::pipe;

const WIDTH: usize = size_of::<u32>();

pub(super) struct Pipes {
    reader: Fd,
    writer: File,
    /// The next number to be written.
    written: u32,
    /// The number that a read gives next, if none was dropped since.
    expected: u32,
    /// How many numbers reads that were dropped may have taken.
    may_be_lost: usize,
}

impl Pipes {
    pub(super) fn soak(soaker: &mut Soaker) {
        let ring = soaker.ring.clone();
        while soaker.goes_on() {
            let (reader, writer) = pipe();
            let mut pipe = Self { reader, writer, written: 0, expected: 0, may_be_lost: 0 };
            // So few that what is written fits into the pipe, read or not.
            let deeds = 1 + soaker.dice.below(40);
            block_on(&ring, async {
                for _ in 0..deeds {
                    soaker.goes_on();
                    pipe.step(soaker).await;
                }
            });
        }
    }

    async fn step(&mut self, soaker: &mut Soaker) {
        let room = 1 + soaker.dice.below(8);
        let read = soaker.ring.read(&self.reader, vec![0; room * WIDTH], 0);
        if soaker.dice.once_in(3) {
            soaker.ring.submit().unwrap();
        }
        // Before what is awaited there is something to be read, whoever was dropped before.
        let lost = self.may_be_lost;
        let result = match soaker.dice.below(4) {
            0 => {
                drop(read);
                self.may_be_lost += room;
                return;
            }
            1 => soaker.cancel(read).await,
            2 => {
                self.write(1 + soaker.dice.below(8));
                soaker.cancel(read).await
            }
            _ => {
                self.write(lost + 1 + soaker.dice.below(8));
                soaker.settle(read).await
            }
        };
        self.check(result);
    }

    /// Numbers, at once: a pipe does not tear what is this short.
    fn write(&mut self, numbers: usize) {
        let mut bytes = Vec::new();
        for _ in 0..numbers {
            bytes.extend(self.written.to_ne_bytes());
            self.written += 1;
        }
        self.writer.write_all(&bytes).unwrap();
    }

    fn check(&mut self, BufResult(result, buf): BufResult<usize, Vec<u8>>) {
        let n = match result {
            Ok(n) => n,
            Err(error) => {
                let errno = error.raw_os_error();
                assert!(matches!(errno, Some(libc::ECANCELED | libc::EINTR)), "{error}");
                return;
            }
        };
        assert!(n > 0 && n % WIDTH == 0, "{n} bytes");
        for bytes in buf[..n].chunks_exact(WIDTH) {
            let number = u32::from_ne_bytes(bytes.try_into().expect("as wide"));
            let lost = number.checked_sub(self.expected).expect("nothing is read twice");
            let lost = usize::try_from(lost).expect("few");
            assert!(lost <= self.may_be_lost, "{lost} lost, of {}", self.may_be_lost);
            self.may_be_lost -= lost;
            self.expected = number + 1;
        }
        assert!(self.expected <= self.written);
    }
}
