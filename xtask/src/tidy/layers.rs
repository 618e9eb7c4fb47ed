//! Who may name what: the absences that keep the library's layers apart.
//!
//! Words in code, not types: what is behind a renamed import passes. Tests may do what the code
//! they test may not, where a check says so. The map of the layers is ARCHITECTURE.md.

use super::Offence;
use super::source::{File, is_of_a_name, lines_with, paths};

const LIBRARY: &str = "crates/deferring/src/";
/// Who turns the ring for a runtime, and who speaks its traits.
const OF_RUNTIMES: &[&str] = &["crates/deferring/src/driver/", "crates/deferring/src/adapt/"];
const SYNC: &str = "crates/deferring/src/sync.rs";
const ENTER: &str = "crates/deferring/src/backend/uring/enter.rs";
const MMAP: &str = "crates/deferring/src/backend/uring/mmap.rs";
const PURE: &[&str] = &["crates/deferring/src/op/", "crates/deferring/src/inflight/"];

const RUNTIMES: &[&str] = &["tokio", "async_io", "smol", "async_std"];

pub(super) fn runtimes_are_named_in_driver_and_adapt_only(file: &File) -> Vec<Offence> {
    let is_theirs = OF_RUNTIMES.iter().any(|place| file.path.starts_with(place));
    if !file.path.starts_with(LIBRARY) || is_theirs {
        return Vec::new();
    }
    let mut offences = Vec::new();
    for runtime in RUNTIMES {
        for line in lines_with(&file.code, runtime) {
            let message = format!(
                "names `{runtime}`; runtimes are named in driver/ and adapt/ only: put what turns \
                 the ring into driver/ and what implements traits into adapt/, and let its \
                 mod.rs offer it under a name of ours"
            );
            offences.push(Offence::new(&file.path, line, message));
        }
    }
    offences
}

const WITHOUT_THREADS: &str = "return what to do: a driver has the threads";

/// Acts that pure code leaves to others, and who does them.
const ACTS: &[(&str, &str)] = &[
    ("Instant::now", "take the time as an argument"),
    ("SystemTime::now", "take the time as an argument"),
    ("Mutex", "take `&mut self`: turn/ holds the lock"),
    ("RwLock", "take `&mut self`: turn/ holds the lock"),
    ("std::thread", WITHOUT_THREADS),
    ("std::fs", "encode an SQE: a backend does the call"),
    (".wake()", "return the waker: turn/ wakes it, unlocked"),
    (".wake_by_ref()", "return the waker: turn/ wakes it, unlocked"),
];

pub(super) fn op_and_inflight_are_pure(file: &File) -> Vec<Offence> {
    let is_tests = file.path.ends_with("/tests.rs") || file.path.contains("/tests/");
    if !PURE.iter().any(|place| file.path.starts_with(place)) || is_tests {
        return Vec::new();
    }
    let code = file.code_before_tests();
    let mut offences = Vec::new();
    for (act, instead) in ACTS {
        for line in lines_with(code, act) {
            offences.push(impure(file, line, act, instead));
        }
    }
    // `rustix::thread` has types too; it is judged with the rest of rustix.
    for line in lines_with(&code.replace("rustix::thread::", ""), "thread::") {
        offences.push(impure(file, line, "thread::", WITHOUT_THREADS));
    }
    for named in paths(code, "rustix").iter().filter(|named| is_system_call(&named.path)) {
        let instead = "encode an SQE: a backend does the call; import types by their names";
        offences.push(impure(file, named.line, &named.path, instead));
    }
    offences
}

fn impure(file: &File, line: usize, act: &str, instead: &str) -> Offence {
    let message = format!("has `{act}`; op/ and inflight/ decide and do not act: {instead}");
    Offence::new(&file.path, line, message)
}

/// Parts of rustix that hold types and constants of the ABI, whatever their case.
const ABI: &[&str] = &["rustix::ffi::", "rustix::fd::", "rustix::io_uring::"];
/// Functions of rustix that compute and do not call.
const COMPUTED: &[&str] = &["rustix::fs::makedev", "rustix::fs::major", "rustix::fs::minor"];
/// The calls of io_uring, which are among its types.
const RING_CALLS: &[&str] = &[
    "io_uring_enter",
    "io_uring_enter_arg",
    "io_uring_enter_reg_wait",
    "io_uring_enter_sigmask",
    "io_uring_register",
    "io_uring_register_with",
    "io_uring_setup",
];

/// Whether a path into rustix is a function, or a module or glob that would hide one.
///
/// Names decide: types and constants have a capital in them, functions have none.
fn is_system_call(path: &str) -> bool {
    let leaf = leaf(path);
    if ABI.iter().any(|module| path.starts_with(module)) {
        return leaf == "*" || RING_CALLS.contains(&leaf);
    }
    !COMPUTED.contains(&path) && !path.contains(|letter: char| letter.is_ascii_uppercase())
}

fn leaf(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

const FROM_SYNC: &[&str] = &["atomic", "Mutex", "MutexGuard", "RwLock", "Condvar"];

/// So that one file decides whether they are std's or a model checker's.
pub(super) fn atomics_and_locks_come_from_sync(file: &File) -> Vec<Offence> {
    if !file.path.starts_with(LIBRARY) || file.path == SYNC {
        return Vec::new();
    }
    let named = ["std", "core"].map(|root| paths(&file.code, root)).into_iter().flatten();
    let mut offences = Vec::new();
    for named in named {
        let mut parts = named.path.split("::").skip(1);
        let (module, item) = (parts.next(), parts.next());
        let hides = matches!(item, None | Some("*" | "self"));
        if module == Some("sync") && (hides || item.is_some_and(|item| FROM_SYNC.contains(&item))) {
            let message = format!(
                "names `{}`; atomics and locks come from sync.rs: use `crate::sync`",
                named.path
            );
            offences.push(Offence::new(&file.path, named.line, message));
        }
    }
    offences
}

pub(super) fn the_kernel_is_entered_in_one_place(file: &File) -> Vec<Offence> {
    let calls = |name: &str| name.starts_with("io_uring_enter");
    called_only_in(file, ENTER, calls, "go through its functions")
}

pub(super) fn memory_is_mapped_in_one_place(file: &File) -> Vec<Offence> {
    called_only_in(file, MMAP, |name| name == "mmap", "borrow from the maps it keeps")
}

/// Catches calls of a function by any path, and imports of it from rustix.
fn called_only_in(
    file: &File,
    place: &str,
    is_the_function: fn(&str) -> bool,
    instead: &str,
) -> Vec<Offence> {
    if !file.path.starts_with("crates/") || file.path == place {
        return Vec::new();
    }
    let imports = paths(&file.code, "rustix");
    let imports = imports.iter().map(|named| (named.line, leaf(&named.path)));
    let mut uses: Vec<(usize, &str)> =
        calls(&file.code).chain(imports).filter(|(_, name)| is_the_function(name)).collect();
    uses.sort_unstable();
    uses.dedup();
    let offence = |(line, name)| {
        let message = format!("uses `{name}`; that is done in {place} only: {instead}");
        Offence::new(&file.path, line, message)
    };
    uses.into_iter().map(offence).collect()
}

/// The line and the name of each `name(` that is not a method.
fn calls(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(at, line)| {
        line.match_indices('(').filter_map(move |(end, _)| {
            let before = line[..end].trim_end_matches(is_of_a_name);
            (!before.ends_with('.')).then_some((at + 1, &line[before.len()..end]))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&File) -> Vec<Offence>;

    const OP: &str = "crates/deferring/src/op/nop.rs";
    const SLOT: &str = "crates/deferring/src/inflight/slot.rs";
    const RING: &str = "crates/deferring/src/ring.rs";

    #[track_caller]
    fn caught(check: Check, path: &str, text: &str) {
        let lines: Vec<usize> =
            check(&File::new(path, text)).iter().map(|offence| offence.line).collect();
        assert_eq!(lines, [1], "in {path}: {text}");
    }

    #[track_caller]
    fn passes(check: Check, path: &str, text: &str) {
        let told = check(&File::new(path, text));
        assert!(told.is_empty(), "in {path}: {text}\n{told:?}");
    }

    #[test]
    fn a_runtime_outside_driver_and_adapt_is_caught() {
        for text in ["use tokio::net;", "a(async_io::B)", "smol::spawn(a)", "async_std::b();"] {
            caught(runtimes_are_named_in_driver_and_adapt_only, RING, text);
        }
    }

    #[test]
    fn drivers_adapters_features_and_documentation_may_name_runtimes() {
        let check = runtimes_are_named_in_driver_and_adapt_only;
        passes(check, "crates/deferring/src/driver/tokio.rs", "use tokio::net;");
        passes(check, "crates/deferring/src/adapt/tokio_io.rs", "use tokio::io::AsyncRead;");
        passes(check, "crates/deferring/examples/tokio.rs", "use tokio::net;");
        passes(check, RING, "//! Under tokio: `tokio::spawn`.");
        passes(check, RING, "#[cfg(feature = \"tokio\")] fn start_on_tokio() {}");
    }

    #[test]
    fn an_act_in_pure_code_is_caught() {
        for text in [
            "let now = std::time::Instant::now();",
            "let now = SystemTime::now();",
            "use crate::sync::Mutex;",
            "use std::thread;",
            "thread::sleep(a);",
            "std::fs::read(a);",
            "waker.wake();",
            "waker.wake_by_ref();",
            "rustix::fs::open(a);",
            "use rustix::fs::{OFlags, openat};",
            "use rustix::{fs, io::Errno};",
            "use rustix::fs::{self, OFlags};",
            "use rustix::event::*;",
            "use rustix::io_uring::{io_uring_sqe, io_uring_enter};",
            "use rustix::io_uring::*;",
        ] {
            caught(op_and_inflight_are_pure, OP, text);
            caught(op_and_inflight_are_pure, SLOT, text);
        }
    }

    #[test]
    fn types_wakers_and_words_are_no_acts() {
        for text in [
            "use rustix::fs::{AtFlags, OFlags};",
            "use rustix::io_uring::{IoringOp, io_uring_sqe, open_how};",
            "use rustix::thread::ClockId;",
            "let errno = rustix::io::Errno::from_raw_os_error(5);",
            "rustix::fs::makedev(a, b)",
            "use std::task::Waker; use std::time::Instant;",
            "kept.will_wake(current)",
            "// A Mutex is held by ring.rs, which calls .wake().",
        ] {
            passes(op_and_inflight_are_pure, OP, text);
        }
    }

    #[test]
    fn tests_of_pure_code_and_impure_code_may_act() {
        let act = "use std::thread;\n";
        passes(op_and_inflight_are_pure, SLOT, &format!("#[cfg(test)]\nmod tests {{\n{act}}}\n"));
        passes(op_and_inflight_are_pure, "crates/deferring/src/inflight/tests.rs", act);
        passes(op_and_inflight_are_pure, "crates/deferring/src/driver/thread.rs", act);
    }

    #[test]
    fn an_atomic_or_lock_of_std_is_caught() {
        for text in [
            "use std::sync::atomic::AtomicU32;",
            "use std::sync::{Arc, Mutex};",
            "static A: std::sync::Condvar = b;",
            "use core::sync::atomic;",
            "use std::{io, sync};",
            "use std::sync::*;",
        ] {
            caught(atomics_and_locks_come_from_sync, RING, text);
        }
    }

    #[test]
    fn sync_itself_and_what_is_neither_atomic_nor_lock_pass() {
        let check = atomics_and_locks_come_from_sync;
        passes(check, SYNC, "use std::sync::{Mutex, atomic::AtomicU32};");
        passes(check, RING, "use std::sync::{Arc, OnceLock}; use crate::sync::Mutex;");
        passes(check, "crates/deferring-cli/src/main.rs", "use std::sync::Mutex;");
    }

    #[test]
    fn entering_the_kernel_elsewhere_is_caught() {
        let check = the_kernel_is_entered_in_one_place;
        caught(check, RING, "unsafe { rustix::io_uring::io_uring_enter(a, b) };");
        caught(check, RING, "use rustix::io_uring::{IoringOp, io_uring_enter_arg as enter};");
        caught(check, "crates/deferring-cli/src/main.rs", "sys::io_uring_enter(a);");
        passes(check, ENTER, "io_uring_enter(a, b)");
        passes(check, RING, "// then io_uring_enter(2) is called\nenter(\"io_uring_enter\")");
    }

    #[test]
    fn mapping_memory_elsewhere_is_caught() {
        let check = memory_is_mapped_in_one_place;
        caught(check, RING, "mmap(a, b)");
        caught(check, RING, "use rustix::mm::{MapFlags, mmap};");
        passes(check, MMAP, "rustix::mm::mmap(a, b)");
        passes(check, RING, "mod mmap; use super::mmap::Region; map.mmap(1); mmap::open(2);");
    }
}
