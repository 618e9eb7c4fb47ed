//! One step of a copy: its failure says which step it was, on which path, and why.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use rustix::io::Errno;

/// Why something was not copied.
#[derive(Debug)]
pub(super) enum Failure {
    Step {
        /// The name of the system call.
        step: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    /// Ctrl-C came first. Nothing to report.
    Interrupted,
}

impl Failure {
    pub(super) fn new(step: &'static str, path: PathBuf, error: impl Into<io::Error>) -> Self {
        Self::Step { step, path, error: error.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step { step, path, error } => {
                write!(f, "{step} {}: {}", Shown(path), reason(error))
            }
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

pub(super) fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

/// An error in words, without the number that std adds.
pub(super) fn reason(error: &impl fmt::Display) -> String {
    let text = format!("{error:#}");
    let number = text.find(" (os error ").and_then(|start| {
        let len = text[start..].find(')')?;
        Some(start..=start + len)
    });
    match number {
        Some(number) => [&text[..*number.start()], &text[number.end() + 1..]].concat(),
        None => text,
    }
}

/// A path as it can be shown on a terminal: one with control characters, or that is not UTF-8, in
/// quotes and with escapes.
pub(super) struct Shown<'a>(pub(super) &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: &OsStr = self.0.as_os_str();
        match name.to_str() {
            Some(text) if !text.chars().any(char::is_control) => f.write_str(text),
            Some(_) | None => write!(f, "{name:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_failure_says_step_path_and_reason() {
        let failure = Failure::new("openat2", PathBuf::from("/a b"), Errno::ACCESS);
        assert_eq!(failure.to_string(), "openat2 /a b: Permission denied");
    }

    #[test]
    fn only_the_number_is_left_out_of_a_reason() {
        let advised = io::Error::other("setup: No memory (os error 12). Raise it (`ulimit -l`)");
        assert_eq!(reason(&advised), "setup: No memory. Raise it (`ulimit -l`)");
        assert_eq!(reason(&io::Error::other("(none)")), "(none)");
    }

    #[test]
    fn a_name_cannot_play_with_the_terminal() {
        let shown = |name: &[u8]| Shown(Path::new(OsStr::from_bytes(name))).to_string();
        assert_eq!(shown("grüße".as_bytes()), "grüße");
        assert_eq!(shown(b"a\nb\x1b"), r#""a\nb\u{1b}""#);
        assert_eq!(shown(b"a\xff"), r#""a\xFF""#);
    }
}
