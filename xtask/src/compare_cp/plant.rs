//! A tree to copy: the same for the same number of files, on every machine.
//!
//! Shaped like source trees and caches: most files small, a few large, in nested directories, with
//! symbolic and hard links among them. Nothing outside the given directory is touched.

use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context;

const FILES_PER_DIRECTORY: usize = 40;
/// Every so many files there is one of these.
const LARGE_EVERY: usize = 500;
const SYMLINK_EVERY: usize = 50;
const HARD_LINK_EVERY: usize = 100;

const SMALL_MAX_LOG2: u64 = 16;
const LARGE_MIN: usize = 1 << 20;
const LARGE_MAX: usize = 4 << 20;

/// What has been made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Planted {
    files: usize,
    bytes: usize,
    symlinks: usize,
    hard_links: usize,
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, bytes, symlinks, hard_links } = self;
        let mib = bytes >> 20;
        write!(f, "{files} files of {mib} MiB in all, {symlinks} symlinks, {hard_links} hard links")
    }
}

pub(super) fn plant(root: &Path, files: usize) -> anyhow::Result<Planted> {
    let mut chance = Chance(0);
    let noise = chance.bytes(2 * LARGE_MAX);
    let mut planted = Planted::default();
    for number in 0..files {
        let directory = root.join(directory(number / FILES_PER_DIRECTORY));
        if number % FILES_PER_DIRECTORY == 0 {
            fs::create_dir_all(&directory)
                .with_context(|| format!("making {}", directory.display()))?;
        }
        let size = size(number, &mut chance);
        let start = chance.below(LARGE_MAX);
        plant_one(&mut planted, &directory, number, &noise[start..start + size])
            .with_context(|| format!("planting file {number} in {}", directory.display()))?;
    }
    Ok(planted)
}

/// A file and the links to it.
fn plant_one(
    planted: &mut Planted,
    directory: &Path,
    number: usize,
    content: &[u8],
) -> std::io::Result<()> {
    let name = format!("file-{number}");
    let file = directory.join(&name);
    fs::write(&file, content)?;
    planted.files += 1;
    planted.bytes += content.len();
    if number % SYMLINK_EVERY == 0 {
        symlink(&name, directory.join(format!("symlink-{number}")))?;
        planted.symlinks += 1;
    }
    if number % HARD_LINK_EVERY == 0 {
        fs::hard_link(&file, directory.join(format!("hard-link-{number}")))?;
        planted.hard_links += 1;
    }
    Ok(())
}

/// One level for each digit, so that depth grows with the tree: 123 is `d1/d2/d3`.
fn directory(number: usize) -> PathBuf {
    number.to_string().chars().map(|digit| format!("d{digit}")).collect()
}

/// From 0 to 64 KiB, each power of two as likely as the next; now and then 1 to 4 MiB.
fn size(number: usize, chance: &mut Chance) -> usize {
    if number % LARGE_EVERY == LARGE_EVERY - 1 {
        return LARGE_MIN + chance.below(LARGE_MAX - LARGE_MIN);
    }
    let bound = 1_usize << (chance.next() % (SMALL_MAX_LOG2 + 1));
    chance.below(bound + 1)
}

/// SplitMix64: repeatable, and random enough for sizes and bytes.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let chosen = self.next() % u64::try_from(bound).expect("usize fits");
        usize::try_from(chosen).expect("less than a usize")
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_ne_bytes()).flatten().take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_as_told_and_the_same_each_time() {
        let root = tempfile::tempdir().unwrap();
        let planted = plant(&root.path().join("a"), 1000).unwrap();
        assert_eq!(planted, plant(&root.path().join("b"), 1000).unwrap());
        assert_eq!((planted.files, planted.symlinks, planted.hard_links), (1000, 20, 10));

        let same = std::process::Command::new("diff")
            .args(["-r", "--no-dereference", "a", "b"])
            .current_dir(root.path())
            .status();
        assert!(same.unwrap().success());
    }

    #[test]
    fn sizes_are_mixed() {
        let mut chance = Chance(1);
        let sizes: Vec<usize> = (0..5000).map(|number| size(number, &mut chance)).collect();
        let count = |from, to| sizes.iter().filter(|size| (from..to).contains(*size)).count();
        assert_eq!(count(LARGE_MIN, LARGE_MAX), 10);
        assert_eq!(count(64 * 1024 + 1, LARGE_MIN), 0);
        for (from, to) in [(0, 1), (1, 1024), (1024, 8192), (8192, 64 * 1024 + 1)] {
            assert!(count(from, to) > 200, "{from}..{to}: {}", count(from, to));
        }
    }

    #[test]
    fn directories_nest() {
        assert_eq!(directory(0), Path::new("d0"));
        assert_eq!(directory(123), Path::new("d1/d2/d3"));
    }
}
