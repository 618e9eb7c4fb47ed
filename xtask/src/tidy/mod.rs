//! The house rules that a script can check.
//!
//! A check is a function that reads a file, or the tree, and returns offences; it changes nothing
//! and prints nothing. What needs judgement is not here. The checks:
//! `every_file.rs`, `layers.rs`, `ops.rs`, `docs.rs`. What they read: `tree.rs`, `source.rs`.
//!
//! To add a check, write it beside its kin, list it below, and show it an offence in a test.

mod docs;
mod every_file;
mod layers;
mod ops;
mod source;
mod tree;

use std::fmt;

use anyhow::bail;

use crate::project;
use source::File;
use tree::Tree;

/// Checks that need one file to judge it. Each chooses the files it is about by their path.
const OF_A_FILE: &[fn(&File) -> Vec<Offence>] = &[
    every_file::says_what_it_is,
    every_file::unsafe_is_explained,
    every_file::has_no_stubs,
    every_file::numbers_what_is_left_to_do,
    layers::runtimes_are_named_in_driver_and_adapt_only,
    layers::op_and_inflight_are_pure,
    layers::atomics_and_locks_come_from_sync,
    layers::the_kernel_is_entered_in_one_place,
    layers::memory_is_mapped_in_one_place,
];

/// Checks that compare files.
const OF_THE_TREE: &[fn(&Tree) -> Vec<Offence>] = &[
    ops::each_is_tested_and_documented,
    docs::changelog_has_the_version,
    docs::readme_has_the_test_command,
    docs::promised_tests_exist,
];

/// A broken rule: where, and what to do instead.
#[derive(Debug)]
struct Offence {
    path: String,
    /// From 1; 1 too for what concerns the whole file.
    line: usize,
    message: String,
}

impl Offence {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

pub(crate) fn run() -> anyhow::Result<()> {
    let tree = Tree::read(project::root())?;
    let offences = offences(&tree);
    for offence in &offences {
        eprintln!("{offence}");
    }
    if !offences.is_empty() {
        bail!("not tidy; offences: {}, each with what to do instead", offences.len());
    }
    println!("tidy: {} files are in order", tree.files().len());
    Ok(())
}

/// In the order of the files, so that one visit to each is enough.
fn offences(tree: &Tree) -> Vec<Offence> {
    let of_files =
        tree.files().iter().flat_map(|file| OF_A_FILE.iter().flat_map(move |check| check(file)));
    let of_tree = OF_THE_TREE.iter().flat_map(|check| check(tree));
    let mut all: Vec<Offence> = of_files.chain(of_tree).collect();
    all.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_is_tidy() {
        let tree = Tree::read(project::root()).unwrap();
        let offences: Vec<String> = offences(&tree).iter().map(Offence::to_string).collect();
        assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
    }

    #[test]
    fn offences_are_told_in_the_order_of_the_files() {
        let tree = Tree::of(&[
            ("crates/a/src/b.rs", "//! B.\nfn b() { todo!() }\nfn c() { todo!() }\n"),
            ("crates/a/src/a.rs", "fn a() {}\n"),
        ]);
        let places: Vec<(String, usize)> = offences(&tree)
            .into_iter()
            .map(|offence| (offence.path, offence.line))
            .filter(|(path, _)| path.ends_with(".rs"))
            .collect();
        let place = |path: &str, line| (path.to_owned(), line);
        assert_eq!(
            places,
            [
                place("crates/a/src/a.rs", 1),
                place("crates/a/src/b.rs", 2),
                place("crates/a/src/b.rs", 3),
            ]
        );
    }
}
