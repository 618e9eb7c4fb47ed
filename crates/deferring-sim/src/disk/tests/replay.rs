//! Stories of disks that chance has made.
//!
//! Not: what a power cut may leave of a given one (`power.rs`).

use std::time::Duration;

use fastrand::Rng;
use rustix::fs::{Mode, OFlags, RenameFlags};

use super::super::{Disk, Kind, Loss, ROOT};
use super::open;

const SEEDS: u64 = 1000;

/// What chance makes of a disk, some of it synced; some syncs fail, if they may.
fn random_disk(rng: &mut Rng, syncs_fail: bool) -> Disk {
    let mut disk = Disk::new();
    for step in 0..rng.u64(0..60) {
        disk.set_time(Duration::from_secs(step));
        let path = rng.choice(["a", "b", "d", "d/a", "d/b", "e", "e/a"]).unwrap();
        let path2 = rng.choice(["a", "b", "d", "d/a", "d/b", "e", "e/a"]).unwrap();
        let (path, path2) = (path.as_bytes(), path2.as_bytes());
        let id = disk.lookup(ROOT, path, false);
        let file = id.ok().filter(|&id| disk.kind(id) == Kind::File);
        let _ = match (rng.u8(0..12), file) {
            (0..=3, Some(id)) => disk.write(id, rng.u64(0..9000), &[rng.u8(..); 700]).map(drop),
            (4, Some(id)) => disk.truncate(id, rng.u64(0..9000)),
            (5, Some(id)) if syncs_fail && rng.bool() => {
                disk.fail_sync(id);
                Ok(())
            }
            (5, Some(id)) => disk.sync(id, true),
            (6, _) => disk.sync(ROOT, false),
            (7, _) => disk.mkdir(ROOT, path, Mode::RWXU).map(drop),
            (8, _) => disk.rename(ROOT, path, ROOT, path2, RenameFlags::empty()),
            (9, _) => disk.rename(ROOT, path, ROOT, path2, RenameFlags::EXCHANGE),
            (10, _) => disk.unlink(ROOT, path, rng.bool()),
            _ => {
                let flags = OFlags::CREATE | OFlags::RDWR;
                open(&mut disk, std::str::from_utf8(path).unwrap(), flags).map(drop)
            }
        };
        if rng.u8(0..20) == 0 {
            disk.write_back(rng);
        }
    }
    disk
}

#[test]
fn a_loss_of_nothing_changes_nothing_and_after_any_loss_all_is_durable() {
    for seed in 0..SEEDS {
        let rng = &mut Rng::with_seed(seed);
        let mut disk = random_disk(rng, false);
        let before = disk.digest();
        let report = disk.lose_power(rng, Loss::Nothing);
        assert_eq!((disk.digest(), report), (before, Default::default()), "seed {seed}");

        let mut disk = random_disk(rng, true);
        disk.lose_power(rng, Loss::Torn);
        let after = disk.digest();
        let report = disk.lose_power(rng, Loss::Everything);
        assert_eq!((disk.digest(), report), (after, Default::default()), "seed {seed}");

        let mut disk = random_disk(rng, false);
        disk.sync_all();
        let before = disk.digest();
        disk.lose_power(rng, Loss::Everything);
        assert_eq!(disk.digest(), before, "seed {seed}");
    }
}

#[test]
fn the_same_seed_loses_the_same() {
    let told = |seed| {
        let rng = &mut Rng::with_seed(seed);
        let mut disk = random_disk(rng, true);
        let report = disk.lose_power(rng, Loss::Torn);
        (report.to_string(), disk.digest())
    };
    let twice: Vec<_> = (0..SEEDS).map(|seed| (told(seed), told(seed))).collect();
    assert!(twice.iter().all(|(first, second)| first == second));
}
