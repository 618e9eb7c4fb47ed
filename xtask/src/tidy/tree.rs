//! The files that `tidy` judges, read once.
//!
//! Not the whole repository: the crates, the chores, the documents. What a file is made of is in
//! `source.rs`.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::Offence;
use super::source::File;

/// Where sources and documents are. What `target/` holds is nobody's to tidy.
const PLACES: &[&str] = &["CHANGELOG.md", "README.md", "crates", "docs", "xtask"];
const KINDS: &[&str] = &["rs", "md"];

pub(super) struct Tree {
    /// Sorted by path.
    files: Vec<File>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        for place in PLACES {
            // An absent document is an offence that a check explains, not a failure to read.
            if root.join(place).exists() {
                read_into(&mut files, root, place)?;
            }
        }
        Ok(Self::sorted(files))
    }

    fn sorted(mut files: Vec<File>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files }
    }

    pub(super) fn files(&self) -> &[File] {
        &self.files
    }

    /// The document at `path`, or the offence that it is absent and what it is for.
    pub(super) fn document(&self, path: &str, purpose: &str) -> Result<&File, Vec<Offence>> {
        self.files.iter().find(|file| file.path == path).ok_or_else(|| {
            vec![Offence::new(path, 1, format!("is absent; write it: it has {purpose}"))]
        })
    }
}

fn read_into(files: &mut Vec<File>, root: &Path, path: &str) -> anyhow::Result<()> {
    let full = root.join(path);
    if !full.is_dir() {
        let kind = full.extension().and_then(|kind| kind.to_str());
        if kind.is_some_and(|kind| KINDS.contains(&kind)) {
            let text = fs::read_to_string(&full).with_context(|| format!("reading {path}"))?;
            files.push(File::new(path, &text));
        }
        return Ok(());
    }
    for entry in fs::read_dir(&full).with_context(|| format!("listing {path}"))? {
        let name = entry.with_context(|| format!("listing {path}"))?.file_name();
        let name = name.to_str().with_context(|| format!("{path} has a name that is not UTF-8"))?;
        if name != "target" {
            read_into(files, root, &format!("{path}/{name}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
impl Tree {
    /// A tree of what a test plants.
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self::sorted(files.iter().map(|(path, text)| File::new(path, text)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_and_documents_are_read_and_build_output_is_not() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text").unwrap();
        };
        for path in ["README.md", "LICENSE-MIT", "crates/a/src/lib.rs", "crates/a/Cargo.toml"] {
            write(path);
        }
        write("crates/a/target/debug/made.rs");
        write("target/made.rs");

        let tree = Tree::read(root.path()).unwrap();
        let paths: Vec<&str> = tree.files().iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["README.md", "crates/a/src/lib.rs"]);
    }

    #[test]
    fn an_absent_document_is_an_offence_that_says_what_it_is_for() {
        let absent = Tree::of(&[]).document("docs/kernel.md", "the table").err().unwrap();
        assert_eq!(
            absent[0].to_string(),
            "docs/kernel.md:1: is absent; write it: it has the table"
        );
    }
}
