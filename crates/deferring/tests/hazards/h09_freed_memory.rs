//! Hazard 9: memory that is freed while the disk writes into it.
//!
//! Direct reads go to their buffers by DMA, whatever became of who asked. Futures are dropped, then
//! the ring; what was freed is kept, filled with a pattern, and looked at. Not: buffers of pipes,
//! or of rings that give up (`../it/end.rs`).

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use deferring::{BufResult, Fd, leaked_ops};
use tempfile::TempDir;

use crate::dice::Dice;
use crate::report::Hazard;
use crate::support::{Graveyard, PAGE, builder, errno, in_a_process_for, skipped, this_test};

const ROUNDS: usize = 200;
const READS: usize = 128;
const PAGES: usize = 4096;
const FILL: u8 = 0x11;

#[test]
fn h09_futures_dropped_and_then_the_ring_with_direct_reads_out_write_into_no_freed_memory() {
    in_a_process_for(Duration::from_secs(60), this_test!(), || {
        let hazard = Hazard::begin(9);
        let Some((_place, file)) = direct_file() else {
            return skipped("a directory with O_DIRECT, for temporary files or in target/");
        };
        let mut dice = Dice::new();
        let graveyard = Graveyard::default();
        let mut out = 0;
        for round in 0..ROUNDS {
            out += round_of_reads(&file, &graveyard, &mut dice);
            assert_eq!(graveyard.freed(), (round + 1) * READS, "nothing is kept");
            if round % 20 == 19 {
                graveyard.check_undisturbed();
            }
        }
        graveyard.check_undisturbed();
        assert_eq!(leaked_ops(), 0);
        hazard.saw(format!(
            "{ROUNDS} rings dropped with {out} direct reads out: {} freed pages, none written to; \
             seed {}",
            graveyard.freed(),
            dice.seed()
        ));
    });
}

/// One ring with reads, and its end. Returns how many were out when it was dropped.
fn round_of_reads(file: &Fd, graveyard: &Graveyard, dice: &mut Dice) -> usize {
    let ring = builder().queue_depth(64).build().unwrap();
    let mut reads: Vec<_> = (0..READS)
        .map(|_| ring.read(file, graveyard.buffer(), (dice.below(PAGES) * PAGE) as u64))
        .collect();
    ring.submit().unwrap();
    let kept = reads.split_off(dice.below(READS));
    for read in reads {
        match dice.below(3) {
            0 => read.detach(),
            1 => {
                read.cancel();
            }
            _ => drop(read),
        }
    }
    if dice.once_in(2) {
        ring.submit().unwrap(); // The cancels go out before the end.
    }
    if dice.once_in(4) {
        ring.reap().unwrap();
    }
    let out = ring.pending().in_kernel;
    drop(ring);
    for read in kept {
        let BufResult(result, buf) = read.try_take().expect("ended with the ring");
        match result {
            Ok(n) => assert!(n == PAGE && buf.bytes().iter().all(|&byte| byte == FILL)),
            Err(_) => assert_eq!(errno(&result), Some(libc::ECANCELED)),
        }
    }
    out
}

/// A file to be read directly, where that is possible.
fn direct_file() -> Option<(TempDir, Fd)> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let places = [tempfile::tempdir(), tempfile::tempdir_in(target)];
    places.into_iter().flatten().find_map(|place| {
        let path = place.path().join("pages");
        std::fs::write(&path, vec![FILL; PAGES * PAGE]).ok()?;
        let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(&path).ok()?;
        Some((place, file.into()))
    })
}
