//! The tests under AddressSanitizer, with its search for leaks.
//!
//! Stable's own runtime works, asked as if it were a nightly one. What the kernel writes is not
//! instrumented: stories about freed memory fill it and look (`tests/it/support.rs`). Not
//! ThreadSanitizer: without an instrumented std it reports what is not there.

use anyhow::{Context, ensure};

use crate::project;

/// Stories that leak on purpose: memory that the kernel may still write into is never freed, a
/// forgotten handle keeps its op, and a panic's payload that panics when it is dropped is given up.
/// Their own checks say how much it is.
const LEAK_ON_PURPOSE: &[&str] = &[
    "a_leak_is_told",
    "a_panic_whose_payload_panics_ends_here",
    "a_ring_that_is_poisoned_is_told_once",
    "c47_the_end_does_not_panic_when_a_waker_does_and_the_kernel_refuses",
    "c47_the_end_waits_until_the_deadline_and_then_leaks_and_counts",
    "c48_buffers_",
    "h10_a_ring_ends_by_its_deadline_while_reads_hang_",
    "h14_handles_that_are_forgotten_moved_and_polled_too_often_do_no_harm",
    "h14_wakers_and_buffers_that_misbehave_leave_the_ring_to_others",
    "h15_a_ring_whose_enter_fails_for_good_",
    "h15_block_on_a_ring_whose_enter_fails_for_good_",
    "p1_a_forgotten_handle_keeps_its_buffer_for_ever",
    "p3_a_cancel_that_is_answered_after_its_ring_was_poisoned_is_no_harm",
    "p3_a_deferred_ring_dropped_by_another_thread_loses_no_result",
    "p3_a_handle_whose_ring_went_with_the_op_in_the_kernel_says_so_once",
    "p3_a_ring_that_the_kernel_refuses_for_good_is_poisoned_and_loses_no_result",
    "p8_a_drop_after_a_shutdown_that_leaked_does_not_wait",
    "p8_a_ring_that_is_poisoned_has_nothing_to_shut_down",
    "p8_a_second_shutdown_does_not_tell_of_the_leaks_of_the_first",
    "p8_the_deadline_holds_though_the_kernel_",
    "p8_what_ends_after_it_was_leaked_changes_nothing",
    "p8_what_the_kernel_does_not_let_go_of_is_leaked_at_the_deadline_and_counted",
    "p8_when_the_ring_goes_",
];

/// Stories that the sanitizer itself breaks: they take memory or threads from the process, of which
/// it needs its own, or look how much memory there is.
const NOT_HERE: &[&str] = &[
    "c04_a_setup_that_fails_half_way_leaves_no_descriptor_open",
    "h06_",
    "h16_a_soak_of_everything_agrees_with_the_model_and_leaves_nothing_behind",
];

pub(crate) fn run() -> anyhow::Result<()> {
    let target = host()?;
    for leaks in [Leaks::NotSearched, Leaks::Searched] {
        tests(&target, leaks)?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaks {
    /// All tests, those too that leak on purpose.
    NotSearched,
    /// All but those.
    Searched,
}

fn tests(target: &str, leaks: Leaks) -> anyhow::Result<()> {
    let mut cargo = project::cargo();
    cargo.args(["test", "--package", "deferring", "--all-features", "--target", target]);
    cargo.args(["--lib", "--test", "it", "--test", "hazards", "--"]);
    NOT_HERE.iter().for_each(|test| {
        cargo.args(["--skip", test]);
    });
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    if leaks == Leaks::Searched {
        LEAK_ON_PURPOSE.iter().for_each(|test| {
            cargo.args(["--skip", test]);
        });
        cargo.env("ASAN_OPTIONS", "detect_leaks=1");
        println!("== sanitize: with a search for leaks");
    } else {
        cargo.env("ASAN_OPTIONS", "detect_leaks=0");
        println!("== sanitize: what leaks on purpose, too");
    }
    let status = cargo.status().context("could not start cargo")?;
    ensure!(status.success(), "AddressSanitizer or a test complains; what it says is above");
    Ok(())
}

/// The target that tests run on. Named, since flags for rustc then do not reach build scripts.
fn host() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = std::process::Command::new(rustc).arg("-vV").output().context("rustc -vV")?;
    let text = String::from_utf8(output.stdout).context("rustc -vV")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}
