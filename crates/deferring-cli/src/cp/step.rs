//! One step of a copy: a call that is made again if it was interrupted, and whose failure says
//! which step it was, on which path, and why.

use std::ffi::OsStr;
use std::future::IntoFuture;
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

/// Makes a ring call, again while it did not happen for a reason that is not ours.
///
/// `ECANCELED` too: nobody here cancels a call and then awaits it, and a signal that arrives while
/// the kernel makes a worker thread ends the call in this way (kernel.md 2).
pub(super) async fn again<T, F>(mut call: impl FnMut() -> F) -> io::Result<T>
where
    F: IntoFuture<Output = io::Result<T>>,
{
    const TRIES: usize = 16;
    for _ in 1..TRIES {
        match call().await {
            Err(error) if is_passing(&error) => {}
            result => return result,
        }
    }
    call().await
}

/// Whether the same call may succeed the next time.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::INTR | Errno::CANCELED))
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
    use std::cell::Cell;
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

    #[test]
    fn an_interrupted_call_is_made_again_but_not_for_ever() {
        let calls = Cell::new(0);
        let call = |errno: Errno, times: usize| {
            let calls = &calls;
            calls.set(0);
            again(move || {
                calls.set(calls.get() + 1);
                let result = if calls.get() > times { Ok(()) } else { Err(errno.into()) };
                std::future::ready(result)
            })
        };
        let run = futures_util::FutureExt::now_or_never;
        assert!(run(call(Errno::INTR, 3)).expect("ready").is_ok());
        assert!(run(call(Errno::CANCELED, usize::MAX)).expect("ready").is_err());
        assert!(calls.get() > 3);
        assert!(run(call(Errno::NOENT, 1)).expect("ready").is_err());
        assert_eq!(calls.get(), 1, "no such file will not appear by asking twice");
    }
}
