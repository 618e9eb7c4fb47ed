//! Documents say what is so: the version, the test command, the tests that hold a promise.
//!
//! Whether they are well said is not checked here. The table of ops is checked in `ops.rs`.

use std::collections::BTreeSet;

use super::Offence;
use super::source::{File, find_word, is_of_a_name};
use super::tree::Tree;
use crate::ci::TEST_COMMAND;

/// All crates of the workspace have one version, so ours is it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

const CHANGELOG: &str = "CHANGELOG.md";
const README: &str = "README.md";
const PARITY: &str = "docs/seed-parity.md";
const PROMISES: &str = "docs/promises.md";
const TESTED: &[&str] = &["crates/deferring/src/", "crates/deferring/tests/"];

pub(super) fn changelog_has_the_version(tree: &Tree) -> Vec<Offence> {
    let changelog = match tree.document(CHANGELOG, "what users notice, newest first") {
        Ok(changelog) => changelog,
        Err(absent) => return absent,
    };
    let mut headings = changelog.text.lines().filter(|line| line.starts_with('#'));
    if headings.any(|heading| find_word(heading, VERSION).is_some()) {
        return Vec::new();
    }
    let message = format!(
        "has no heading with the workspace's version; write `## {VERSION}` and what users notice"
    );
    vec![Offence::new(CHANGELOG, 1, message)]
}

pub(super) fn readme_has_the_test_command(tree: &Tree) -> Vec<Offence> {
    let readme = match tree.document(README, "what it is, one example, how to test it") {
        Ok(readme) => readme,
        Err(absent) => return absent,
    };
    if code_block_lines(&readme.text).any(|line| line.trim() == TEST_COMMAND) {
        return Vec::new();
    }
    let message =
        format!("has no code block with the line `{TEST_COMMAND}`, which ci runs; add it");
    vec![Offence::new(README, 1, message)]
}

/// The lines between fences.
fn code_block_lines(markdown: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    markdown.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        inside ^= is_fence;
        inside && !is_fence
    })
}

/// A promise is kept by the tests that a document names, so those tests must be there.
pub(super) fn promised_tests_exist(tree: &Tree) -> Vec<Offence> {
    let documents = [
        (PARITY, "every function of the seed and what became of it"),
        (PROMISES, "each promise, how it holds, its tests"),
    ];
    let tested = tree.files().iter().filter(|file| is_tested(&file.path));
    let functions: BTreeSet<&str> = tested.flat_map(functions).collect();
    documents
        .into_iter()
        .flat_map(|(path, about)| match tree.document(path, about) {
            Ok(document) => absent_tests(path, &document.text, &functions),
            Err(absent) => absent,
        })
        .collect()
}

fn absent_tests(path: &'static str, text: &str, functions: &BTreeSet<&str>) -> Vec<Offence> {
    let absent = promised_tests(text).into_iter().filter(|(_, name)| !functions.contains(name));
    let offence = |(line, name)| {
        let message = format!(
            "names the test `{name}`, which is not in {}; write it, or name the one that keeps \
             the promise",
            TESTED.join(" or ")
        );
        Offence::new(path, line, message)
    };
    absent.map(offence).collect()
}

fn is_tested(path: &str) -> bool {
    TESTED.iter().any(|place| path.starts_with(place))
}

/// The names that follow `fn` in the code of a file.
fn functions(file: &File) -> impl Iterator<Item = &str> {
    let words: Vec<&str> =
        file.code.split(|c| !is_of_a_name(c)).filter(|w| !w.is_empty()).collect();
    let mut after_fn = false;
    words.into_iter().filter(move |word| std::mem::replace(&mut after_fn, *word == "fn"))
}

/// What stands in backticks and ends with a test's name: `c07_queues_only`, `it::c07_queues_only`.
fn promised_tests(markdown: &str) -> Vec<(usize, &str)> {
    let mut promised = Vec::new();
    for (at, line) in markdown.lines().enumerate() {
        let quoted = line.split('`').skip(1).step_by(2);
        let names = quoted.map(|quoted| quoted.rsplit("::").next().unwrap_or(quoted));
        promised.extend(names.filter(|name| is_promise(name)).map(|name| (at + 1, name)));
    }
    promised
}

/// A letter, one or two digits, `_`: a point of the contract (`c07_…`), a promise (`p3_…`) or a
/// hazard (`h09_…`), then a sentence.
fn is_promise(name: &str) -> bool {
    let numbered = matches!(
        name.as_bytes(),
        [b'c' | b'h' | b'p', b'0'..=b'9', b'_', ..]
            | [b'c' | b'h' | b'p', b'0'..=b'9', b'0'..=b'9', b'_', ..]
    );
    numbered && name.chars().all(is_of_a_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(check: fn(&Tree) -> Vec<Offence>, files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).iter().map(Offence::to_string).collect()
    }

    #[test]
    fn a_version_without_a_heading_is_caught() {
        let other = format!("# Changes\n## {VERSION}1\n{VERSION} is not a heading\n");
        let told_of = |text: &str| told(changelog_has_the_version, &[(CHANGELOG, text)]);
        assert!(told_of(&other)[0].contains(&format!("write `## {VERSION}`")));
        for heading in [format!("## {VERSION}"), format!("## [{VERSION}] - unreleased")] {
            assert!(told_of(&heading).is_empty(), "{heading}");
        }
    }

    #[test]
    fn a_readme_that_tests_otherwise_is_caught() {
        let told_of = |text: &str| told(readme_has_the_test_command, &[(README, text)]);
        let outside = format!("```sh\ncargo test\n```\n{TEST_COMMAND}\n");
        assert!(told_of(&outside)[0].contains(TEST_COMMAND));
        assert!(told_of(&format!("Text.\n\n```sh\n{TEST_COMMAND}\n```\n")).is_empty());
    }

    #[test]
    fn a_promised_test_that_is_not_there_is_caught() {
        let parity = "| C7 | `ring.rs` | `c07_queues_only` |\n| C8 | `it::c08_submits` |\n";
        let tests = "// fn c08_submits()\n#[test]\nfn c07_queues_only() {}\n";
        let promises = "Tests: `c07_queues_only`, `p3_once`, `h16_a_soak`.\n";
        let files = [
            (PARITY, parity),
            (PROMISES, promises),
            ("crates/deferring/tests/it/promises.rs", tests),
        ];
        let told = told(promised_tests_exist, &files);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[1].starts_with("docs/promises.md:1: names the test `p3_once`"));
        assert!(told[0].starts_with("docs/seed-parity.md:2: names the test `c08_submits`"));
    }

    #[test]
    fn a_promised_test_may_be_beside_the_code_and_other_names_are_free() {
        let parity = "`c07_queues_only`, `c777_not`, `cargo test`, c09_not_quoted, `C10`\n";
        let code = "mod tests { async fn c07_queues_only() {} }";
        let files = [(PARITY, parity), (PROMISES, ""), ("crates/deferring/src/ring.rs", code)];
        assert!(told(promised_tests_exist, &files).is_empty());
    }

    #[test]
    fn absent_documents_are_caught() {
        for check in OF_DOCUMENTS {
            assert!(told(*check, &[])[0].contains("is absent; write it"));
        }
    }

    const OF_DOCUMENTS: &[fn(&Tree) -> Vec<Offence>] =
        &[changelog_has_the_version, readme_has_the_test_command, promised_tests_exist];
}
