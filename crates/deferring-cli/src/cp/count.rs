//! How much there is to copy, for the time left. On a terminal only: it reads the trees once more.
//!
//! A thread of its own with plain calls, so that it does not stand in the way of the copy, and so
//! that the ring's numbers are those of the copy alone.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;

use deferring::FileType;
use walkdir::WalkDir;

use super::item::Item;
use super::report::Progress;

pub(super) struct Count {
    total: Arc<OnceLock<Progress>>,
}

/// Directories that the walk keeps open; of those above it remembers the rest.
const OPEN_MAX: usize = 256;

impl Count {
    pub(super) fn start(roots: &[Item]) -> Self {
        let total = Arc::new(OnceLock::new());
        let roots: Vec<(PathBuf, bool)> =
            roots.iter().map(|root| (root.from.to_path_buf(), !is_link(root))).collect();
        let place = Arc::clone(&total);
        // If there can be no thread, the bar does without. It ends with the process.
        let thread = std::thread::Builder::new().name("count".to_owned());
        let _ = thread.spawn(move || place.set(count(&roots)));
        Self { total }
    }

    /// Once it is known.
    pub(super) fn total(&self) -> Option<Progress> {
        self.total.get().copied()
    }
}

fn is_link(root: &Item) -> bool {
    matches!(root.kind, FileType::Symlink)
}

fn count(roots: &[(PathBuf, bool)]) -> Progress {
    let mut total = Progress::default();
    for (root, follow) in roots {
        add(&mut total, root, *follow);
    }
    total
}

fn add(total: &mut Progress, root: &Path, follow: bool) {
    let walk = WalkDir::new(root).max_open(OPEN_MAX).follow_root_links(follow);
    // What cannot be read is the copy's to report.
    for entry in walk.into_iter().filter_map(Result::ok) {
        let kind = entry.file_type();
        if kind.is_symlink() {
            total.files += 1;
        } else if kind.is_file() {
            total.files += 1;
            let Ok(stat) = entry.metadata() else { continue };
            // Holes are not written; of several names of a file one is.
            let written = stat.len().min(stat.blocks().saturating_mul(512));
            total.bytes += written / stat.nlink().max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_links_and_bytes_are_counted_but_not_directories_and_holes() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("a")).unwrap();
        std::fs::write(path("a/file"), vec![1; 8192]).unwrap();
        std::fs::hard_link(path("a/file"), path("a/other")).unwrap();
        std::os::unix::fs::symlink("nowhere", path("a/link")).unwrap();
        std::fs::File::create(path("hole")).unwrap().set_len(1 << 40).unwrap();
        let total = count(&[(dir.path().to_owned(), true)]);
        assert_eq!(total, Progress { files: 4, bytes: 8192 });
    }
}
