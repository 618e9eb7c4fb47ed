//! Stories of power cuts.

use fastrand::Rng;
use rustix::fs::{Mode, OFlags, RenameFlags};

use super::super::{Disk, InodeId, Loss, ROOT};
use super::{bytes, create, open};

const SEEDS: u64 = 1000;
const LOSSES: [Loss; 3] = [Loss::Everything, Loss::Torn, Loss::Nothing];

/// The power is cut after the same story, each time with other luck. Tells what was found.
fn after_each_loss<T>(
    loss: Loss,
    mut story: impl FnMut(&mut Disk),
    mut find: impl FnMut(&mut Disk) -> T,
) -> Vec<T> {
    let found = (0..SEEDS).map(|seed| {
        let mut disk = Disk::new();
        story(&mut disk);
        disk.lose_power(&mut Rng::with_seed(seed), loss);
        find(&mut disk)
    });
    found.collect()
}

fn find(disk: &Disk, path: &str) -> Option<Vec<u8>> {
    let id = disk.lookup(ROOT, path.as_bytes(), false).ok()?;
    Some(bytes(disk, id))
}

fn rename(disk: &mut Disk, path: &str, path2: &str) {
    disk.rename(ROOT, path.as_bytes(), ROOT, path2.as_bytes(), RenameFlags::empty()).unwrap();
}

/// A file of which nothing can be lost.
fn synced(disk: &mut Disk, path: &str, data: &[u8]) -> InodeId {
    let id = create(disk, path);
    disk.write(id, 0, data).unwrap();
    disk.sync(id, false).unwrap();
    disk.sync(ROOT, false).unwrap();
    id
}

#[test]
fn what_is_synced_with_its_name_survives_every_loss() {
    for loss in LOSSES {
        let story = |disk: &mut Disk| {
            let id = synced(disk, "f", &[7; 9000]);
            disk.write(id, 20_000, &[8; 700]).unwrap();
            disk.sync(id, true).unwrap();
            let other = create(disk, "g");
            disk.write(other, 0, &[1; 5000]).unwrap();
        };
        let expected = [vec![7; 9000], vec![0; 11_000], vec![8; 700]].concat();
        for found in after_each_loss(loss, story, |disk| find(disk, "f")) {
            assert!(found.as_ref() == Some(&expected));
        }
    }
}

#[test]
fn what_is_not_synced_may_vanish_or_not_sector_by_sector() {
    let story = |disk: &mut Disk| {
        let id = synced(disk, "f", &[1; 4096]);
        disk.write(id, 0, &[2; 4096]).unwrap();
    };
    let found = after_each_loss(Loss::Torn, story, |disk| find(disk, "f").unwrap());
    for bytes in &found {
        for sector in bytes.chunks(512) {
            assert!(sector == [1; 512] || sector == [2; 512], "a sector is old or new");
        }
    }
    assert!(found.contains(&vec![1; 4096]) && found.contains(&vec![2; 4096]));
    let torn = |bytes: &&Vec<u8>| bytes.contains(&1) && bytes.contains(&2);
    let late_first = |bytes: &&Vec<u8>| bytes[0] == 1 && bytes[4095] == 2;
    assert!(found.iter().filter(torn).count() > 100);
    assert!(found.iter().filter(late_first).count() > 10, "the later sector without the earlier");
    let all_lost = after_each_loss(Loss::Everything, story, |disk| find(disk, "f").unwrap());
    assert!(all_lost.iter().all(|bytes| *bytes == [1; 4096]));
    let none_lost = after_each_loss(Loss::Nothing, story, |disk| find(disk, "f").unwrap());
    assert!(none_lost.iter().all(|bytes| *bytes == [2; 4096]));
}

#[test]
fn a_size_may_survive_without_its_bytes_and_reads_as_zeros() {
    let story = |disk: &mut Disk| {
        let id = synced(disk, "f", &[1; 100]);
        disk.append(id, &[2; 3000]).unwrap();
    };
    let found = after_each_loss(Loss::Torn, story, |disk| find(disk, "f").unwrap());
    assert!(found.iter().all(|bytes| bytes.starts_with(&[1; 100])));
    assert!(found.iter().any(|bytes| bytes.len() == 100));
    assert!(found.iter().any(|bytes| bytes.len() > 100 && bytes.len() < 3100));
    assert!(found.iter().any(|bytes| bytes.len() == 3100 && bytes[3099] == 0));
    assert!(found.iter().any(|bytes| bytes.len() == 3100 && !bytes.contains(&0)));
}

#[test]
fn a_rename_without_a_sync_of_the_bytes_can_leave_an_empty_file() {
    let story = |disk: &mut Disk| {
        synced(disk, "config", b"old");
        let id = create(disk, "config.new");
        disk.write(id, 0, b"new").unwrap();
        rename(disk, "config.new", "config");
        disk.sync(ROOT, false).unwrap();
    };
    let found = after_each_loss(Loss::Torn, story, |disk| find(disk, "config").unwrap());
    assert!(found.contains(&vec![]));
    assert!(found.contains(&b"new".to_vec()));
    assert!(!found.contains(&b"old".to_vec()), "the rename was synced");
}

#[test]
fn a_replacement_synced_before_its_rename_is_the_old_file_or_the_new_one() {
    for loss in LOSSES {
        let story = |disk: &mut Disk| {
            synced(disk, "config", b"old");
            let id = create(disk, "config.new");
            disk.write(id, 0, b"new").unwrap();
            disk.sync(id, false).unwrap();
            rename(disk, "config.new", "config");
        };
        for found in after_each_loss(loss, story, |disk| find(disk, "config").unwrap()) {
            assert!(found == b"old" || found == b"new");
        }
    }
}

#[test]
fn a_synced_file_whose_directory_is_not_synced_can_be_gone() {
    let story = |disk: &mut Disk| {
        let id = create(disk, "f");
        disk.write(id, 0, b"bytes").unwrap();
        disk.sync(id, false).unwrap();
    };
    let found = after_each_loss(Loss::Torn, story, |disk| find(disk, "f"));
    assert!(found.contains(&None));
    assert!(found.iter().flatten().all(|bytes| bytes == b"bytes"));
    assert!(found.iter().any(Option::is_some));
}

#[test]
fn of_the_changes_of_names_the_first_few_survive() {
    let story = |disk: &mut Disk| {
        for n in 0..8 {
            create(disk, &n.to_string());
        }
        disk.sync(ROOT, false).unwrap();
        for n in 0..8 {
            rename(disk, &n.to_string(), &format!("new{n}"));
        }
    };
    let names = |disk: &mut Disk| -> Vec<String> {
        let list = disk.list(ROOT).unwrap().into_iter();
        list.map(|(name, ..)| String::from_utf8(name.into()).unwrap()).collect()
    };
    let found = after_each_loss(Loss::Torn, story, names);
    for survive in 0..=8 {
        let old = (survive..8).map(|n| n.to_string());
        let names: Vec<String> = old.chain((0..survive).map(|n| format!("new{n}"))).collect();
        assert!(found.contains(&names), "{survive} survive");
    }
    assert!(found.iter().all(|names| names.len() == 8), "each is there under one name");
}

#[test]
fn a_sync_of_one_directory_leaves_later_changes_elsewhere_at_risk() {
    let story = |disk: &mut Disk| {
        for path in ["a", "b"] {
            disk.mkdir(ROOT, path.as_bytes(), Mode::RWXU).unwrap();
        }
        create(disk, "a/f");
        create(disk, "b/f");
        let a = disk.lookup(ROOT, b"a", false).unwrap();
        disk.sync(a, false).unwrap();
    };
    let both = |disk: &mut Disk| (find(disk, "a/f").is_some(), find(disk, "b/f").is_some());
    let found = after_each_loss(Loss::Torn, story, both);
    assert!(found.contains(&(true, true)) && found.contains(&(true, false)));
    assert!(found.iter().all(|(a, _)| *a));
}

#[test]
fn a_removed_file_can_come_back_with_its_bytes() {
    let story = |disk: &mut Disk| {
        synced(disk, "f", b"bytes");
        disk.unlink(ROOT, b"f", false).unwrap();
    };
    let found = after_each_loss(Loss::Torn, story, |disk| find(disk, "f"));
    assert!(found.contains(&None) && found.contains(&Some(b"bytes".to_vec())));
}

#[test]
fn a_sync_that_fails_forgets_what_it_was_to_write_and_the_next_one_lies() {
    for loss in LOSSES {
        let story = |disk: &mut Disk| {
            let id = synced(disk, "f", &[1; 4096]);
            disk.write(id, 0, &[2; 6000]).unwrap();
            assert_eq!(disk.fail_sync(id), 12);
            assert_eq!(bytes(disk, id), [2; 6000], "it is in the cache");
            disk.write_back(&mut Rng::with_seed(0));
            disk.sync(id, false).unwrap();
        };
        for found in after_each_loss(loss, story, |disk| find(disk, "f").unwrap()) {
            assert!(found == [vec![1; 4096], vec![0; 6000 - 4096]].concat(), "{loss:?}");
        }
    }
}

#[test]
fn what_is_written_again_after_a_sync_that_failed_is_durable() {
    for loss in LOSSES {
        let story = |disk: &mut Disk| {
            let id = synced(disk, "f", &[1; 4096]);
            disk.write(id, 0, &[2; 4096]).unwrap();
            disk.fail_sync(id);
            disk.write(id, 512, &[2; 1024]).unwrap();
            disk.sync(id, false).unwrap();
        };
        let expected = [vec![1; 512], vec![2; 1024], vec![1; 2560]].concat();
        for found in after_each_loss(loss, story, |disk| find(disk, "f").unwrap()) {
            assert!(found == expected, "{loss:?}");
        }
    }
}

#[test]
fn a_truncation_is_durable_with_the_next_sync_whatever_one_before_has_lost() {
    for loss in LOSSES {
        for len in [0u16, 700, 4096, 5000] {
            let story = |disk: &mut Disk| {
                let id = synced(disk, "f", &[1; 8192]);
                disk.truncate(id, len.into()).unwrap();
                disk.write(id, len.into(), &[2; 3000]).unwrap();
                disk.fail_sync(id);
                disk.sync(id, false).unwrap();
            };
            for found in after_each_loss(loss, story, |disk| find(disk, "f").unwrap()) {
                let (old, new) = found.split_at(len.into());
                assert!(old.iter().all(|&byte| byte == 1), "{loss:?}, {len}");
                assert!(new.len() == 3000 && new.iter().all(|&byte| byte == 0), "{loss:?}, {len}");
            }
        }
    }
}

#[test]
fn a_truncation_survives_as_a_whole_or_not_at_all() {
    let story = |disk: &mut Disk| {
        synced(disk, "f", &[1; 8192]);
        let id = open(disk, "f", OFlags::RDWR | OFlags::TRUNC).unwrap();
        disk.write(id, 0, &[2; 8192]).unwrap();
    };
    let found = after_each_loss(Loss::Torn, story, |disk| find(disk, "f").unwrap());
    for bytes in &found {
        assert!(!(bytes.contains(&1) && bytes.contains(&2)), "old bytes beside new ones");
        assert!(!bytes.contains(&1) || *bytes == [1; 8192], "the old file is whole");
    }
    let seen = |expected: &[u8]| found.iter().any(|bytes| bytes == expected);
    assert!(seen(&[1; 8192]) && seen(&[2; 8192]) && seen(&[]));
}

#[test]
fn what_the_kernel_wrote_back_unasked_may_be_an_earlier_state() {
    let mut seen = Vec::new();
    for seed in 0..SEEDS {
        let mut rng = Rng::with_seed(seed);
        let mut disk = Disk::new();
        let id = synced(&mut disk, "f", b"");
        for record in [b"one.", b"two.", b"all."] {
            disk.append(id, record).unwrap();
            if rng.bool() {
                disk.write_back(&mut rng);
            }
        }
        disk.lose_power(&mut rng, Loss::Torn);
        seen.push(find(&disk, "f").unwrap());
    }
    for expected in ["", "one.", "one.two.", "one.two.all."] {
        assert!(seen.iter().any(|bytes| bytes == expected.as_bytes()), "{expected:?}");
    }
}

#[test]
fn files_that_nothing_leads_to_and_all_holds_are_gone() {
    let mut disk = Disk::new();
    let held = synced(&mut disk, "held", b"bytes");
    disk.hold(held);
    disk.unlink(ROOT, b"held", false).unwrap();
    disk.sync_all();
    disk.mkdir(ROOT, b"d", Mode::RWXU).unwrap();
    let inside = create(&mut disk, "d/f");
    disk.sync(inside, false).unwrap();
    disk.lose_power(&mut Rng::with_seed(0), Loss::Everything);
    assert_eq!(disk.inodes.iter().flatten().count(), 1, "the root");
    assert_eq!((disk.used, disk.stat(ROOT).nlink), (0, 2));
}

#[test]
fn the_report_says_in_words_what_was_lost() {
    let mut disk = Disk::new();
    let id = synced(&mut disk, "log", &[1; 1000]);
    disk.append(id, &[2; 1000]).unwrap();
    disk.write(id, 0, &[3; 10]).unwrap();
    create(&mut disk, "new");
    rename(&mut disk, "log", "log.old");
    let report = disk.lose_power(&mut Rng::with_seed(0), Loss::Everything);
    let words = "create /new: undone; rename /log to /log.old: undone; \
                 /log: 1010 bytes and 4 of 4 sectors lost, size 1000 not 2000";
    assert_eq!(report.to_string(), words);
    let report = disk.lose_power(&mut Rng::with_seed(0), Loss::Torn);
    assert_eq!(report.to_string(), "nothing lost");
}
