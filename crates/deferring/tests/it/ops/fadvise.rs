//! Fadvise on the real kernel. Advice has no result to look at; what is refused shows that the
//! arguments arrive.

use deferring::{Advice, Fd};
use rustix::io::Errno;

use super::{content, file_with, finish, pipe, refused};
use crate::support::{ring, skipped};

#[test]
fn every_advice_is_taken() {
    let (fd, file) = file_with("hello");
    let ring = ring();
    for advice in [
        Advice::Normal,
        Advice::Sequential,
        Advice::Random,
        Advice::NoReuse,
        Advice::WillNeed,
        Advice::DontNeed,
    ] {
        finish(&ring, ring.fadvise(&fd, 0, 0, advice)).unwrap();
        finish(&ring, ring.fadvise(&fd, 1, 2, advice)).unwrap();
    }
    assert_eq!(content(&file), b"hello");
}

#[test]
fn a_length_of_more_than_32_bits_arrives_whole() {
    let (fd, _file) = file_with("hello");
    let ring = ring();
    let advise = |len| finish(&ring, ring.fadvise(&fd, 0, len, Advice::Normal));
    advise(u32::MAX.into()).unwrap();
    if advise(1 << 33).is_err() {
        return skipped("fadvise of 4 GiB and more (Linux 6.10)");
    }
    // Cut to 32 bits it would be 1, and fine; whole it is negative.
    assert_eq!(refused(advise(1 << 63 | 1)), Errno::INVAL);
}

#[test]
fn advice_about_a_pipe_is_espipe() {
    let (reader, _writer) = pipe();
    let ring = ring();
    let advice = ring.fadvise(&Fd::from(reader), 0, 0, Advice::Sequential);
    assert_eq!(refused(finish(&ring, advice)), Errno::SPIPE);
}
