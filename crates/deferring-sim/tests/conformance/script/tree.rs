//! What a script leaves behind: a line for each name.
//!
//! Not: what its ops answered (`play.rs`).

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use deferring::{AtFlags, FileType, Stat};

use crate::worlds::{Form, World};

/// What is read whole.
const WHOLE_MAX: u64 = 1 << 20;

#[allow(clippy::wildcard_enum_match_arm)] // Others have nothing inside.
pub(super) async fn tree(world: &World) -> Vec<String> {
    let mut lines = Vec::new();
    let mut seen = BTreeMap::new();
    // The deepest last: a list of what is to do, as an async function does not call itself.
    let mut todo = vec![String::from(".")];
    while let Some(dir) = todo.pop() {
        for name in world.list(&dir).expect("a directory").into_iter().rev() {
            let path = format!("{dir}/{}", name.to_string_lossy());
            let stat =
                world.ring.statx(&world.dir, &path, AtFlags::SYMLINK_NOFOLLOW, Stat::EVERYTHING);
            let stat = stat.await.expect("is there");
            let mut line = format!("{path}: {}", tell(&stat));
            match stat.file_type() {
                Some(FileType::Directory) => todo.push(path),
                Some(FileType::Regular) => {
                    let first = seen.entry(stat.ino()).or_insert_with(|| path.clone());
                    if *first != path {
                        line += &format!(", as {first}");
                    }
                    if stat.size().is_some_and(|size| size <= WHOLE_MAX) {
                        line += &format!(", {:x}", hash(&world.read(&path).expect("reads")));
                    }
                }
                _ => {}
            }
            lines.push(line);
        }
    }
    lines
}

/// What must agree.
#[allow(clippy::wildcard_enum_match_arm)] // Directories alone are counted in several ways.
pub(super) fn tell(stat: &Stat) -> String {
    let kind = stat.file_type().expect("has a type");
    let mode = stat.mode().expect("has a mode").bits();
    let (nlink, size) = (stat.nlink().expect("a number"), stat.size().expect("a size"));
    match kind {
        FileType::Directory if Form::here().ext4 => format!("{kind:?} {mode:o} {nlink}"),
        FileType::Directory => format!("{kind:?} {mode:o}"),
        _ => format!("{kind:?} {mode:o} {nlink} {size}"),
    }
}

pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
