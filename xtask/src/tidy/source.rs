//! What a Rust file is made of, as far as `tidy` must know: code, comments, literals, paths.
//!
//! A reader of tokens, not a parser: it knows no types, no scopes and no macros. So a check built
//! on it is a heuristic, and says so by being about words. The checks are in `layers.rs` and
//! `every_file.rs`.

/// A file of the project, by its path from the root.
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
    /// The text with comments and literals blanked out. Lines stay where they were.
    pub(super) code: String,
    /// The text with everything but comments blanked out.
    pub(super) comments: String,
}

impl File {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let (code, comments) = if path.ends_with(".rs") { split(text) } else { Default::default() };
        Self { path: path.to_owned(), text: text.to_owned(), code, comments }
    }

    /// The code up to the module of unit tests, which by our style ends a file.
    pub(super) fn code_before_tests(&self) -> &str {
        let mut start = 0;
        for line in self.code.split_inclusive('\n') {
            if line.starts_with("#[cfg(test)]") && opens_a_module(&self.code[start + line.len()..])
            {
                return &self.code[..start];
            }
            start += line.len();
        }
        &self.code
    }
}

/// Whether the item that comes next, past its other attributes, is `mod name {`.
fn opens_a_module(code: &str) -> bool {
    let item = code.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#["));
    item.is_some_and(|line| find_word(line, "mod").is_some() && line.contains('{'))
}

/// The lines that hold `word`, from 1.
pub(super) fn lines_with(text: &str, word: &str) -> Vec<usize> {
    let lines = text.lines().enumerate();
    lines.filter(|(_, line)| find_word(line, word).is_some()).map(|(at, _)| at + 1).collect()
}

/// Finds `word`, not as a part of a longer name. `word` may begin or end with punctuation.
pub(super) fn find_word(text: &str, word: &str) -> Option<usize> {
    let starts_name = word.starts_with(is_of_a_name);
    let ends_name = word.ends_with(is_of_a_name);
    text.match_indices(word).map(|(at, _)| at).find(|&at| {
        let before = text[..at].ends_with(is_of_a_name);
        let after = text[at + word.len()..].starts_with(is_of_a_name);
        !(starts_name && before || ends_name && after)
    })
}

pub(super) fn is_of_a_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// A path that code names: `std::sync::Mutex`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) path: String,
}

/// Every path in `code` that begins with the crate `root`, each group `{…}` spelled out.
///
/// The line is that of `root`. What is behind a renamed import is not seen.
pub(super) fn paths(code: &str, root: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = find_word(&code[from..], root) {
        let start = from + at;
        from = start + root.len();
        let line = code[..start].matches('\n').count() + 1;
        let mut rest = &code[from..];
        spell_out(root, &mut rest, &mut |path| found.push(Named { line, path }));
    }
    found
}

/// Reads what follows `prefix`, and tells each whole path.
fn spell_out(prefix: &str, rest: &mut &str, tell: &mut impl FnMut(String)) {
    let Some(after) = rest.trim_start().strip_prefix("::") else {
        return tell(prefix.to_owned());
    };
    *rest = after.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        *rest = group;
        return spell_out_group(prefix, rest, tell);
    }
    match take_name(rest) {
        // `::<T>` and the like: the path ends before it.
        "" => tell(prefix.to_owned()),
        name => spell_out(&format!("{prefix}::{name}"), rest, tell),
    }
}

/// Reads `a, b::{c, d}, e as f}`; the opening brace has been read.
fn spell_out_group(prefix: &str, rest: &mut &str, tell: &mut impl FnMut(String)) {
    loop {
        let at = rest.find(|c: char| c == '}' || c == '*' || is_of_a_name(c));
        *rest = at.map_or("", |at| &rest[at..]);
        match take_name(rest) {
            "" => {
                // The closing brace, or the end of a file that is cut short.
                *rest = rest.strip_prefix('}').unwrap_or_default();
                return;
            }
            "as" => {
                take_name(rest);
            }
            name => spell_out(&format!("{prefix}::{name}"), rest, tell),
        }
    }
}

/// Takes a name, or `*`, off the front of `rest`; empty if there is none.
fn take_name<'a>(rest: &mut &'a str) -> &'a str {
    let all = rest.trim_start();
    let length = match all.starts_with('*') {
        true => 1,
        false => all.find(|c| !is_of_a_name(c)).unwrap_or(all.len()),
    };
    let (name, after) = all.split_at(length);
    *rest = after;
    name
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// The code and the comments of `text`, each with the rest blanked out.
fn split(text: &str) -> (String, String) {
    let (mut code, mut comments) = (String::new(), String::new());
    let mut at = 0;
    while at < text.len() {
        let (kind, length) = token(&text[at..], text[..at].ends_with(is_of_a_name));
        for character in text[at..at + length].chars() {
            let blank = if character == '\n' { '\n' } else { ' ' };
            code.push(if kind == Kind::Code { character } else { blank });
            comments.push(if kind == Kind::Comment { character } else { blank });
        }
        at += length;
    }
    (code, comments)
}

/// The kind and the length of what `rest` begins with; `rest` is not empty.
fn token(rest: &str, after_name: bool) -> (Kind, usize) {
    if rest.starts_with("//") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, block_comment(rest));
    }
    if let Some(length) = raw_string(rest).filter(|_| !after_name) {
        return (Kind::Literal, length);
    }
    if rest.starts_with('"') {
        return (Kind::Literal, quoted(rest, '"'));
    }
    if is_char_literal(rest) {
        return (Kind::Literal, quoted(rest, '\''));
    }
    (Kind::Code, rest.chars().next().map_or(0, char::len_utf8))
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of `r"…"`, `r#"…"#`, `br"…"`, `cr"…"`.
fn raw_string(rest: &str) -> Option<usize> {
    let opening = ["r", "br", "cr"].iter().find_map(|letters| rest.strip_prefix(letters))?;
    let hashes = opening.len() - opening.trim_start_matches('#').len();
    let body = opening[hashes..].strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&closing).map_or(body.len(), |at| at + closing.len());
    Some(rest.len() - body.len() + length)
}

/// The length of a literal that ends at the next `quote` without a backslash before it.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `'a'` and `'\n'`, but not the lifetime `'a`.
fn is_char_literal(rest: &str) -> bool {
    let mut characters = rest.chars();
    characters.next() == Some('\'')
        && match characters.next() {
            Some('\\') => true,
            Some(_) => characters.next() == Some('\''),
            None => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        File::new("a.rs", text).code
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(code("a /* b /* c */ d\n*/ e"), "a               \n   e");
        assert_eq!(code(r#"a("b \" c", d)"#), "a(        , d)");
        assert_eq!(code(r##"a(r#"b " c"#, d)"##), "a(          , d)");
        assert_eq!(code(r#"a(br"\", c)"#), "a(     , c)");
        assert_eq!(code(r"a('b', '\'', '/')"), "a(   ,     ,    )");
    }

    #[test]
    fn lifetimes_names_and_divisions_are_code() {
        for text in ["fn a<'b>(c: &'b str) -> &'static str", "for_r + b / c", "r#type"] {
            assert_eq!(code(text), text);
        }
    }

    #[test]
    fn what_is_cut_short_is_read_to_its_end() {
        for text in ["\"a", "/* a", "r#\"a", "'\\", "'", "a::", "use a::{b", "a::{"] {
            assert_eq!(code(text).len(), text.len());
            assert!(paths(text, "a").len() <= 1);
        }
    }

    #[test]
    fn comments_keep_their_lines() {
        let file = File::new("a.rs", "a \"// no\" // b\n/* c\nd */ e");
        assert_eq!(file.comments, "          // b\n/* c\nd */  ");
    }

    #[test]
    fn a_word_is_not_a_part_of_a_name() {
        assert_eq!(find_word("start_on_tokio tokio", "tokio"), Some(15));
        assert_eq!(find_word("tokios", "tokio"), None);
        assert_eq!(find_word("(waker.wake())", ".wake()"), Some(6));
        assert_eq!(lines_with("a\nb a\nab", "a"), [1, 2]);
    }

    #[test]
    fn groups_of_paths_are_spelled_out() {
        let code = "fn f() {}\nuse a::{b, c::{self, D as E}, f::*};\na::g(a :: H::<T>::I, b::a);";
        let told: Vec<(usize, String)> =
            paths(code, "a").into_iter().map(|named| (named.line, named.path)).collect();
        let expected = [
            (2, "a::b"),
            (2, "a::c::self"),
            (2, "a::c::D"),
            (2, "a::f::*"),
            (3, "a::g"),
            (3, "a::H"),
            (3, "a"),
        ];
        assert_eq!(told, expected.map(|(line, path)| (line, path.to_owned())));
    }

    #[test]
    fn the_tests_of_a_file_begin_at_their_module() {
        let before = |text| File::new("a.rs", text).code_before_tests().to_owned();
        assert_eq!(before("a\n#[cfg(test)]\nmod tests {\nb\n}\n"), "a\n");
        assert_eq!(before("a\n#[cfg(test)]\n#[path = 1]\npub(crate) mod t {}\n"), "a\n");
        for whole in [
            "#[cfg(test)]\nmod tests;\nb\n",
            "#[cfg(test)]\nuse c;\nb\n",
            "impl A {\n    #[cfg(test)]\n    fn b() {}\n}\nc\n",
        ] {
            assert_eq!(before(whole), whole);
        }
    }
}
