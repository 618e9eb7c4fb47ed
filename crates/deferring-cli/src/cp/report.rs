//! What the user is told: failures as they come, and the last line. Counts, and keeps nothing else.
//!
//! The bar of a terminal is in `progress.rs`; it is only asked to make room here.
#![allow(clippy::print_stderr)] // This is where the tool talks.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use deferring::{BackendInfo, BackendKind, FileType};

use super::Session;
use super::count::Count;
use super::item::Item;
use super::progress::Bar;
use super::step::{Failure, Shown};

#[derive(Default)]
pub(super) struct Report {
    files: Cell<u64>,
    directories: Cell<u64>,
    bytes: Cell<u64>,
    errors: Cell<u64>,
    bar: OnceCell<Bar>,
}

/// What has been copied, as it is counted.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Regular files, and links of both kinds.
    File,
    Directory,
}

/// How far a copy is.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// What a special file is called. None for what is copied, or unknown.
pub(super) fn special(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::Fifo => Some("a fifo"),
        FileType::Socket => Some("a socket"),
        FileType::CharDevice => Some("a character device"),
        FileType::BlockDevice => Some("a block device"),
        FileType::Regular | FileType::Directory | FileType::Symlink | FileType::Unknown | _ => None,
    }
}

impl Report {
    pub(super) fn copied(&self, kind: Kind) {
        let counter = match kind {
            Kind::File => &self.files,
            Kind::Directory => &self.directories,
        };
        counter.set(counter.get() + 1);
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    pub(super) fn failure(&self, failure: &Failure) {
        self.refusal(failure);
    }

    /// As a failure: counted, and said.
    pub(super) fn refusal(&self, what: &dyn fmt::Display) {
        self.errors.set(self.errors.get() + 1);
        self.complain(what);
    }

    /// Not a failure: there is nothing to copy in a special file.
    pub(super) fn skipped(&self, path: &Path, kind: FileType) {
        let kind = special(kind).unwrap_or("not a file any more");
        self.complain(format_args!("skipped {}: {kind}", Shown(path)));
    }

    pub(super) fn complain(&self, what: impl fmt::Display) {
        match self.bar.get() {
            Some(bar) => bar.step_aside(|| complain(&what)),
            None => complain(&what),
        }
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.get()
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { files: self.files.get(), bytes: self.bytes.get() }
    }

    /// On a terminal: a bar from now on, and what it measures against. Else nothing.
    pub(super) fn start_progress(&self, roots: &[Item]) -> Option<Count> {
        let bar = Bar::on_terminal()?;
        self.bar.set(bar).ok().expect("one bar for one copy");
        Some(Count::start(roots))
    }

    pub(super) fn bar(&self) -> Option<&Bar> {
        self.bar.get()
    }

    pub(super) fn end_progress(&self) {
        if let Some(bar) = self.bar.get() {
            bar.clear();
        }
    }
}

/// Says something on standard error, under the tool's name.
pub(super) fn complain(what: impl fmt::Display) {
    eprintln!("deferring: cp: {what}");
}

/// The last line.
#[derive(Debug)]
pub(super) struct Summary {
    files: u64,
    directories: u64,
    bytes: u64,
    ops: u64,
    enters: u64,
    errors: u64,
    backend: BackendInfo,
    seconds: f64,
}

impl Summary {
    pub(super) fn new(session: &Session, took: Duration) -> Self {
        let report = &session.report;
        let stats = session.ring.stats();
        Self {
            files: report.files.get(),
            directories: report.directories.get(),
            bytes: report.bytes.get(),
            ops: stats.sqes,
            enters: stats.enters,
            errors: report.errors.get(),
            backend: session.ring.backend().clone(),
            seconds: took.as_secs_f64(),
        }
    }

    pub(super) fn print(&self, json: bool, interrupted: bool) {
        let how = if interrupted { "interrupted: copied" } else { "copied" };
        let line = if json { self.json() } else { format!("{how} {self}") };
        // Nobody may be reading; the exit status says how it went all the same.
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    /// Numbers and one fixed word: nothing that needs escapes.
    fn json(&self) -> String {
        let Self { files, bytes, ops, enters, errors, backend, seconds, .. } = self;
        let backend = backend.kind();
        format!(
            r#"{{"files":{files},"bytes":{bytes},"ops":{ops},"enters":{enters},"errors":{errors},"backend":"{backend}","seconds":{seconds:.3}}}"#
        )
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, directories, bytes, ops, enters, errors, backend, seconds } = self;
        let size = indicatif::BinaryBytes(*bytes);
        write!(f, "{files} files and {directories} directories, {size}, in {seconds:.2} s; ")?;
        match backend.kind() {
            BackendKind::IoUring => {
                write!(f, "{ops} ring ops by io_uring, {enters} io_uring_enter calls; ")?;
            }
            BackendKind::Pool | _ => write!(f, "{ops} ring ops by a {backend}; ")?,
        }
        write!(f, "{errors} errors")
    }
}
