//! The tests where io_uring is refused: by a seccomp filter, with one errno or another; or by the
//! builder, which the stories then ask for the pool.
//!
//! The filter is set on a thread, and cargo and what it starts inherit it. Not: what the stories
//! do about it (`tests/it/support.rs`).
#![allow(unsafe_code)] // Installs a filter.

use std::io;
use std::thread;

use anyhow::{Context, ensure};

use crate::ci::{TEST_COMMAND, run_cargo};

/// How io_uring is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// `io_uring_setup` gives `EPERM`, as where a sysctl or a container forbids it.
    Eperm,
    /// It gives `ENOSYS`, as on an old kernel.
    Enosys,
    /// Nobody asks for it.
    Builder,
}

const ALL: [How; 3] = [How::Eperm, How::Enosys, How::Builder];

/// The stories that can tell the difference between one refusal and the other.
const STORIES: &str = "cargo test --package deferring --all-features --test it";

impl How {
    /// As the command line has it; all of them, if it has none.
    pub(crate) fn parse(options: &[String]) -> Result<Vec<Self>, String> {
        let one = |option: &String| match option.as_str() {
            "EPERM" => Ok(Self::Eperm),
            "ENOSYS" => Ok(Self::Enosys),
            "builder" => Ok(Self::Builder),
            other => {
                Err(format!("refused does not take {other:?}; EPERM, ENOSYS, builder it does"))
            }
        };
        if options.is_empty() { Ok(ALL.into()) } else { options.iter().map(one).collect() }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Eperm => "EPERM",
            Self::Enosys => "ENOSYS",
            Self::Builder => "builder",
        }
    }

    fn run_cargo(self, line: &str) -> anyhow::Result<()> {
        let run = || match self {
            Self::Eperm => run_filtered(libc::EPERM, line),
            Self::Enosys => run_filtered(libc::ENOSYS, line),
            Self::Builder => run_cargo(line, &[("DEFERRING_TEST_BACKEND", "pool")]),
        };
        run().with_context(|| format!("io_uring refused: {}", self.name()))
    }
}

/// All tests, under each refusal.
pub(crate) fn run(hows: &[How]) -> anyhow::Result<()> {
    for how in hows {
        println!("== refused: {}", how.name());
        how.run_cargo(TEST_COMMAND)?;
    }
    Ok(())
}

/// All tests under one refusal, and the stories of the library under the others.
pub(crate) fn run_short() -> anyhow::Result<()> {
    How::Eperm.run_cargo(TEST_COMMAND)?;
    How::Enosys.run_cargo(STORIES)?;
    How::Builder.run_cargo(STORIES)
}

fn run_filtered(errno: i32, line: &str) -> anyhow::Result<()> {
    let run = || {
        filter(errno).context("seccomp")?;
        run_cargo(line, &[])
    };
    let ran = thread::scope(|scope| scope.spawn(run).join());
    ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// From now on `io_uring_setup` gives this errno, to this thread and to all that it starts.
fn filter(errno: i32) -> anyhow::Result<()> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let op = |code: u32, k: u32, jf: u8| -> anyhow::Result<libc::sock_filter> {
        Ok(libc::sock_filter { code: code.try_into()?, jt: 0, jf, k })
    };
    let mut program = [
        op(LOAD, 0, 0)?,
        op(EQUAL, libc::SYS_io_uring_setup.try_into()?, 1)?,
        op(RETURN, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs(), 0)?,
        op(RETURN, libc::SECCOMP_RET_ALLOW, 0)?,
    ];
    let program = libc::sock_fprog { len: program.len().try_into()?, filter: program.as_mut_ptr() };
    // SAFETY: the program is in memory of ours, which the kernel reads during the call only; the
    // filter makes one call fail, as any kernel may.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    ensure!(set, "{}", io::Error::last_os_error());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_refusals_are_the_rule_and_each_can_be_asked_for() {
        assert_eq!(How::parse(&[]), Ok(ALL.into()));
        for how in ALL {
            assert_eq!(How::parse(&[how.name().into()]), Ok(vec![how]));
        }
        assert!(How::parse(&["EIO".into()]).is_err());
    }
}
