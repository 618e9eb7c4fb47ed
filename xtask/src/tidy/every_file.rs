//! Rules for every Rust file of the project.
//!
//! Who may name what is in `layers.rs`.

use super::Offence;
use super::source::{File, find_word, lines_with};

/// Code that is not finished, or was meant for one run.
const STUBS: &[(&str, &str)] = &[
    ("todo!", "write it, or return an error that says it is not supported"),
    ("unimplemented!", "write it, or return an error that says it is not supported"),
    ("dbg!", "take it out"),
    ("#[ignore", "make the test run everywhere: let it print `skipped: needs …` and return"),
];

const LEFT_TO_DO: &[&str] = &["TODO", "FIXME", "XXX"];

/// A file begins with what it is, what it is not, and where to go next.
pub(super) fn says_what_it_is(file: &File) -> Vec<Offence> {
    if !is_ours_to_introduce(&file.path) || file.text.starts_with("//!") {
        return Vec::new();
    }
    let message = "begins without `//!`; say there what the file is, what it is not, \
                   and where to go next";
    vec![Offence::new(&file.path, 1, message)]
}

/// Sources, and the tests of the library; examples begin with what they show.
fn is_ours_to_introduce(path: &str) -> bool {
    let in_src = path.starts_with("crates/") && path.split('/').nth(2) == Some("src");
    let wanted = path.starts_with("xtask/src/") || path.starts_with("crates/deferring/tests/");
    path.ends_with(".rs") && (in_src || wanted)
}

/// Unsafe code has an address, and says why it is there.
pub(super) fn unsafe_is_explained(file: &File) -> Vec<Offence> {
    let mut offences = Vec::new();
    for line in lines_with(&file.code, "allow(unsafe_code)") {
        let explained = file.text.lines().nth(line - 1).is_some_and(|text| text.contains("//"));
        if !explained {
            let message = "allows unsafe code and does not say why; write `// …` behind it";
            offences.push(Offence::new(&file.path, line, message));
        }
    }
    offences
}

pub(super) fn has_no_stubs(file: &File) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (stub, instead) in STUBS {
        for line in lines_with(&file.code, stub) {
            offences.push(Offence::new(&file.path, line, format!("has `{stub}`; {instead}")));
        }
    }
    offences
}

pub(super) fn numbers_what_is_left_to_do(file: &File) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (at, line) in file.comments.lines().enumerate() {
        let mark = LEFT_TO_DO.iter().find(|mark| find_word(line, mark).is_some());
        if let Some(mark) = mark.filter(|_| !names_an_issue(line)) {
            let message = format!("{mark} without a number; do it now, or write `{mark}(#12): …`");
            offences.push(Offence::new(&file.path, at + 1, message));
        }
    }
    offences
}

fn names_an_issue(line: &str) -> bool {
    line.split('#').skip(1).any(|after| after.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "crates/deferring/src/op/nop.rs";

    fn lines(check: fn(&File) -> Vec<Offence>, path: &str, text: &str) -> Vec<usize> {
        check(&File::new(path, text)).iter().map(|offence| offence.line).collect()
    }

    #[test]
    fn a_file_without_an_introduction_is_caught() {
        for path in [PATH, "xtask/src/ci.rs", "crates/deferring/tests/it/ops/nop.rs"] {
            assert_eq!(lines(says_what_it_is, path, "use std::io;\n"), [1], "{path}");
            assert!(lines(says_what_it_is, path, "//! Nop.\n").is_empty(), "{path}");
        }
    }

    #[test]
    fn examples_and_documents_need_no_introduction() {
        for path in ["crates/deferring/examples/cat.rs", "README.md"] {
            assert!(lines(says_what_it_is, path, "text\n").is_empty(), "{path}");
        }
    }

    #[test]
    fn stubs_are_caught() {
        for stub in ["todo!()", "unimplemented!(\"b\")", "dbg!(1)", "#[ignore = \"slow\"]"] {
            assert_eq!(lines(has_no_stubs, PATH, &format!("\nfn a() {{ {stub} }}")), [2], "{stub}");
        }
    }

    #[test]
    fn words_about_stubs_are_not_stubs() {
        let text = "// No todo!() here.\nfn my_todo() { say(\"dbg!\") }\n";
        assert!(lines(has_no_stubs, PATH, text).is_empty());
    }

    #[test]
    fn a_mark_without_a_number_is_caught() {
        for mark in LEFT_TO_DO {
            let text = format!("fn a() {{}} // {mark}: later\n/* {mark} # */\n// {mark}(#12): b\n");
            assert_eq!(lines(numbers_what_is_left_to_do, PATH, &text), [1, 2], "{mark}");
        }
    }

    #[test]
    fn code_and_longer_words_are_no_marks() {
        let text = "const TODO: u8 = 0; // TODOS, \"XXXL\"\n";
        assert!(lines(numbers_what_is_left_to_do, PATH, text).is_empty());
    }

    #[test]
    fn unsafe_code_that_does_not_say_why_is_told() {
        let of = |text| unsafe_is_explained(&File::new("crates/deferring/src/a.rs", text)).len();
        assert_eq!(of("//! A.\n#![allow(unsafe_code)]\n"), 1);
        assert_eq!(of("//! A.\n#![allow(unsafe_code)] // Maps memory.\n"), 0);
    }
}
