//! One op, one file, its headings, its tests, one line in the table.
//!
//! The table is in docs/kernel.md: opcode, since which kernel, on our side. What an op may not do
//! is in `layers.rs`.

use super::Offence;
use super::source::{File, find_word};
use super::tree::Tree;

const OPS: &str = "crates/deferring/src/op/";
const STORIES: &str = "crates/deferring/tests/it/ops/";
const TABLE: &str = "docs/kernel.md";

/// Files beside the ops that are not ops, and why they are there.
const NOT_OPS: &[(&str, &str)] = &[
    ("mod.rs", "the trait, and the list of ops"),
    ("sleep.rs", "a wait that the ring keeps itself, and never asks the kernel for"),
    ("sqe.rs", "the question as the kernel reads it"),
    ("sqe_text.rs", "the same in words"),
    ("path.rs", "paths as several ops lend them to the kernel"),
    ("place.rs", "where ops run in the kernel"),
    ("target.rs", "another op, as ops that change or end it name it"),
    ("with.rs", "an op with wishes, which is any op"),
];

pub(super) fn each_is_tested_and_documented(tree: &Tree) -> Vec<Offence> {
    let table = match tree.document(TABLE, "the table of opcodes: opcode, since, on our side") {
        Ok(table) => table,
        Err(absent) => return absent,
    };
    let ops: Vec<&File> = tree.files().iter().filter(|file| is_op(&file.path)).collect();
    if ops.is_empty() {
        let message = "has no ops; if they moved, say where in xtask/src/tidy/ops.rs";
        return vec![Offence::new(OPS, 1, message)];
    }
    let of_op = |op: &&File| {
        let mut offences = undocumented(op, &table.text);
        offences.extend(untested(op));
        if find_word(&op.code, "unsafe impl").is_some() {
            offences.extend(without_headings(op));
            offences.extend(without_a_story(op, tree));
        }
        offences
    };
    ops.iter().flat_map(of_op).collect()
}

/// What the docs of every op say, in this order.
const HEADINGS: &[&str] = &["/// Kernel: ", "/// # Cancellation", "/// # Errors"];

fn without_headings(op: &File) -> Vec<Offence> {
    let missing = HEADINGS.iter().filter(|heading| !op.text.contains(*heading));
    let offence = |heading: &&str| {
        let message = format!("has no line `{heading}…`; say it in the docs of the op");
        Offence::new(&op.path, 1, message)
    };
    missing.map(offence).collect()
}

fn without_a_story(op: &File, tree: &Tree) -> Option<Offence> {
    let story = format!("{STORIES}{}", op.path.strip_prefix(OPS).unwrap_or(&op.path));
    let message = format!("has no {story}; tell there what it does on a real kernel");
    let told = tree.files().iter().any(|file| file.path == story);
    (!told).then(|| Offence::new(&op.path, 1, message))
}

fn is_op(path: &str) -> bool {
    let name = path.strip_prefix(OPS).filter(|name| name.ends_with(".rs"));
    name.is_some_and(|name| NOT_OPS.iter().all(|(other, _)| *other != name))
}

fn untested(op: &File) -> Option<Offence> {
    let message = "has no `#[test]`; write the one-line test of what it encodes, or, if this is \
                   not an op, name it with its reason in xtask/src/tidy/ops.rs";
    (!op.code.contains("#[test]")).then(|| Offence::new(&op.path, 1, message))
}

fn undocumented(op: &File, table: &str) -> Vec<Offence> {
    let opcodes = opcodes(&op.text);
    if opcodes.is_empty() {
        let message = "names no opcode; write `#[doc(alias = \"IORING_OP_…\")]` above the op, so \
                       that a search for the kernel's name finds it";
        return vec![Offence::new(&op.path, 1, message)];
    }
    let absent = opcodes.into_iter().filter(|(_, opcode)| find_word(table, opcode).is_none());
    let offence = |(line, opcode): (usize, &str)| {
        let message = format!("{opcode} is not in {TABLE}; add its line to the table there");
        Offence::new(&op.path, line, message)
    };
    absent.map(offence).collect()
}

/// The opcodes that a file gives as aliases, with their lines.
fn opcodes(text: &str) -> Vec<(usize, &str)> {
    let mut opcodes = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let quoted = line.split('"').skip(1).step_by(2);
        let aliases = quoted.filter(|quoted| quoted.starts_with("IORING_OP_"));
        if find_word(line, "alias").is_some() {
            opcodes.extend(aliases.map(|opcode| (at + 1, opcode)));
        }
    }
    opcodes
}

#[cfg(test)]
mod tests {
    use super::*;

    const OP: &str =
        "#[doc(alias = \"IORING_OP_READ\")]\npub struct Read;\n#[test]\nfn encodes() {}";

    /// What is said about `op` in a tree with this table.
    fn told(op: &str, table: &str) -> Vec<String> {
        let tree = Tree::of(&[("crates/deferring/src/op/read.rs", op), (TABLE, table)]);
        each_is_tested_and_documented(&tree).iter().map(Offence::to_string).collect()
    }

    #[track_caller]
    fn only(told: Vec<String>, expected: &str) {
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(expected), "{told:?}");
    }

    #[test]
    fn an_op_with_test_and_line_passes() {
        assert!(told(OP, "| `IORING_OP_READ` | 5.6 | `op::Read` |").is_empty());
    }

    #[test]
    fn an_op_without_a_test_is_caught() {
        let table = "IORING_OP_READ";
        only(told(&OP.replace("#[test]", "// #[test]"), table), "has no `#[test]`");
    }

    #[test]
    fn an_op_that_is_not_in_the_table_is_caught() {
        only(told(OP, "IORING_OP_READV IORING_OP_READ_FIXED"), "IORING_OP_READ is not in");
    }

    #[test]
    fn every_opcode_of_a_file_is_looked_up() {
        let op = OP.replace(")]\npub", ", alias = \"IORING_OP_READV\")]\npub");
        only(told(&op, "IORING_OP_READ"), "read.rs:1: IORING_OP_READV is not in");
    }

    #[test]
    fn an_op_without_its_kernel_name_is_caught() {
        only(told("#[test]\nfn encodes() {}", ""), "names no opcode");
    }

    #[test]
    fn helpers_are_no_ops_and_a_tree_without_ops_is_suspicious() {
        let tree = Tree::of(&[("crates/deferring/src/op/mod.rs", "//! Ops."), (TABLE, "")]);
        let told = each_is_tested_and_documented(&tree).iter().map(Offence::to_string).collect();
        only(told, "has no ops");
    }

    #[test]
    fn an_absent_table_is_caught() {
        let tree = Tree::of(&[("crates/deferring/src/op/read.rs", OP)]);
        let told = each_is_tested_and_documented(&tree).iter().map(Offence::to_string).collect();
        only(told, "docs/kernel.md:1: is absent");
    }

    #[test]
    fn an_op_without_headings_or_a_story_is_told_of_each() {
        let op = format!("{OP}\n/// # Errors\nunsafe impl Op for Read {{}}");
        let told = told(&op, "IORING_OP_READ");
        let expected = ["Kernel: ", "# Cancellation", "tests/it/ops/read.rs"];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{told}");
        }
    }
}
