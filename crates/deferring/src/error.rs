//! Results of the kernel as `io::Result`, and the only place where an errno becomes advice.
//!
//! Not: which results are the user's, and what they mean for a slot (`inflight/slot.rs`).

use std::path::{Path, PathBuf};
use std::{error, fmt, io};

use rustix::io::Errno;

use crate::inflight::{POISONED, SATURATED};

/// A kernel result: `Ok` from 0 up, else its errno. Numbers that have no name are kept (C15).
///
/// `ERESTARTSYS` and its kin (512 to 516) are the kernel's own words for "interrupted", which
/// io_uring lets out raw when a submitting thread exits (Linux 6.18); they become `EINTR`.
#[inline]
pub(crate) fn result(raw: i32) -> io::Result<u32> {
    u32::try_from(raw).map_err(|_| failure(raw))
}

#[cold]
fn failure(raw: i32) -> io::Error {
    match raw {
        SATURATED => saturated(),
        POISONED => poisoned(Errno::PERM),
        _ if is_restart(-raw) => Errno::INTR.into(),
        _ => io::Error::from_raw_os_error(-raw),
    }
}

/// `ERESTARTSYS`, `ERESTARTNOINTR`, `ERESTARTNOHAND`, `ERESTART_RESTARTBLOCK`. Not 515, which is
/// `ENOIOCTLCMD`.
pub(crate) const fn is_restart(errno: i32) -> bool {
    matches!(errno, 512..=514 | 516)
}

/// Why a ring could not be set up, or cannot be used, and what to do about it.
///
/// Found inside the `io::Error` of [`Builder::build`](crate::Builder::build), of
/// [`Ring::submit`](crate::Ring::submit) and [`Ring::wait`](crate::Ring::wait), and of the results
/// of ops that were lost, refused, or saturated: `error.get_ref().and_then(|inner|
/// inner.downcast_ref::<RingError>())`.
#[derive(Debug)]
pub struct RingError {
    step: &'static str,
    cause: String,
    errno: Option<Errno>,
    advice: Option<&'static str>,
}

impl RingError {
    /// The errno of the failed step, if a system call failed.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.errno.map(Errno::raw_os_error)
    }

    /// What the reader can do.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        self.advice
    }
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.cause)?;
        match self.advice {
            Some(advice) => write!(f, ". {advice}"),
            None => Ok(()),
        }
    }
}

impl error::Error for RingError {}

/// A system call of the set-up that failed, with advice.
pub(crate) fn setup(step: &'static str, errno: Errno) -> io::Error {
    let advice = match errno {
        Errno::PERM | Errno::ACCESS => Some(
            "sysctl kernel.io_uring_disabled, or a seccomp filter (a container?), forbids \
             io_uring: set the sysctl to 0, or allow io_uring_setup, io_uring_enter and \
             io_uring_register",
        ),
        Errno::NOSYS | Errno::OPNOTSUPP => Some(
            "this kernel has no io_uring (Linux 5.15 or later is needed), or a seccomp filter \
             hides it",
        ),
        Errno::NOMEM => Some(
            "the memory lock limit is too small or still charged for rings that just closed: \
             raise `ulimit -l`, ask for a smaller queue depth, use fewer rings, or try again",
        ),
        Errno::AGAIN => Some(
            "the system gives no more threads: raise RLIMIT_NPROC (`ulimit -u`) or the cgroup's \
             pids.max",
        ),
        Errno::MFILE => Some("this process has too many files open: raise `ulimit -n`"),
        Errno::NFILE => Some("the system has too many files open: raise sysctl fs.file-max"),
        Errno::INVAL => Some(
            "the kernel knows none of the forms tried: check the queue depth, the completion \
             queue size and the flags asked for",
        ),
        _ => None,
    };
    let error =
        RingError { step, cause: io::Error::from(errno).to_string(), errno: Some(errno), advice };
    io::Error::new(io::Error::from(errno).kind(), error)
}

/// A seccomp filter kills those who ask for a ring.
pub(crate) fn setup_kills() -> io::Error {
    let error = RingError {
        step: "io_uring_setup",
        cause: "a seccomp filter kills whoever calls it, as a child has shown".into(),
        errno: None,
        advice: Some(
            "Allow io_uring_setup, io_uring_enter and io_uring_register, or let the pool serve: leave `io_uring_only` off",
        ),
    };
    io::Error::new(io::ErrorKind::PermissionDenied, error)
}

/// A builder's argument that makes no sense.
pub(crate) fn argument(cause: impl Into<String>, advice: &'static str) -> io::Error {
    let error =
        RingError { step: "ring builder", cause: cause.into(), errno: None, advice: Some(advice) };
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// Something that this kernel does not have.
pub(crate) fn unsupported(cause: impl Into<String>) -> io::Error {
    let advice = Some("Linux 5.15 or later is needed; 6.1 or later for everything");
    let error = RingError { step: "io_uring probe", cause: cause.into(), errno: None, advice };
    io::Error::new(io::ErrorKind::Unsupported, error)
}

/// A registration that failed.
pub(crate) fn register(errno: Errno) -> io::Error {
    if errno != Errno::EXIST {
        return errno.into();
    }
    let error = RingError {
        step: "io_uring_register",
        cause: io::Error::from(errno).to_string(),
        errno: Some(errno),
        advice: Some(
            "only the thread that owns this ring may register: a ring for a loop of your own is made \
             by `build`, without single_issuer",
        ),
    };
    io::Error::new(io::Error::from(errno).kind(), error)
}

/// A driver turns the ring.
pub(crate) fn driven() -> io::Error {
    let error = RingError {
        step: "wait",
        cause: "a driver turns this ring, and takes its completions".into(),
        errno: None,
        advice: Some(
            "Await the handles, or ask them with is_done and try_take; wait is for a ring that `build` made",
        ),
    };
    io::Error::new(io::ErrorKind::Unsupported, error)
}

/// There is no tokio runtime here.
#[cfg(feature = "tokio")]
pub(crate) fn no_runtime() -> io::Error {
    let error = RingError {
        step: "start on tokio",
        cause: "there is no tokio runtime here".into(),
        errno: None,
        advice: Some(
            "Call it in a task, in `block_on`, or after `Runtime::enter`; without tokio, use `start`",
        ),
    };
    io::Error::new(io::ErrorKind::NotConnected, error)
}

/// The tokio runtime has no reactor.
#[cfg(feature = "tokio")]
pub(crate) fn no_reactor() -> io::Error {
    let error = RingError {
        step: "start on tokio",
        cause: "this runtime watches no descriptors".into(),
        errno: None,
        advice: Some(
            "Build it with `enable_io` or `enable_all`; or use `start`, which needs no reactor",
        ),
    };
    io::Error::new(io::ErrorKind::Unsupported, error)
}

/// The ring of the process is there.
pub(crate) fn already_started() -> io::Error {
    let error = RingError {
        step: "ring of the process",
        cause: "it has been started".into(),
        errno: None,
        advice: Some("Start it once, at the beginning of `main`, before `deferring::ring()` does"),
    };
    io::Error::new(io::ErrorKind::AlreadyExists, error)
}

/// The ring is another process's: we are its child (P9).
pub(crate) fn forked() -> io::Error {
    let error = RingError {
        step: "ring",
        cause: "this ring belongs to the process that made it, and this is a fork of it".into(),
        errno: None,
        advice: Some("Make a ring of its own in the child"),
    };
    io::Error::other(error)
}

/// A submit or a wait that the kernel refused. Most errnos say enough; this one does not.
pub(crate) fn enter(errno: Errno) -> io::Error {
    if errno != Errno::EXIST {
        return errno.into();
    }
    let error = RingError {
        step: "io_uring_enter",
        cause: "the ring was built for another thread".into(),
        errno: Some(errno),
        advice: Some(
            "With `single_issuer` only the thread that built the ring may submit, with \
             `defer_taskrun` it alone may wait, too: do it there, or build the ring without",
        ),
    };
    io::Error::new(io::Error::from(errno).kind(), error)
}

/// The last `Ring` was dropped while the kernel held the op, and did not let go in time (P8).
pub(crate) fn lost() -> io::Error {
    let error = RingError {
        step: "ring",
        cause: "the ring was dropped or shut down while the kernel still worked on this op".into(),
        errno: None,
        advice: Some(
            "The op's memory is leaked, as the kernel may still write there. Keep the `Ring` \
             until its ops are done, or give the end more time (`Builder::drain_timeout`, the deadline \
             of `Ring::shutdown`)",
        ),
    };
    io::Error::other(error)
}

/// The kernel refuses the ring's system calls, and will not change its mind.
pub(crate) fn poisoned(errno: Errno) -> io::Error {
    if errno == Errno::AGAIN {
        return io::Error::other(RingError {
            step: "ring",
            cause: "its runtime has ended, and the system gives no thread to turn it".into(),
            errno: Some(errno),
            advice: Some(
                "Ops that it had are leaked, others were not sent. Let the ring end before its \
                 runtime, use a ring with a thread of its own (`start`), or raise the limit on threads",
            ),
        });
    }
    let error = RingError {
        step: "ring",
        cause: format!(
            "the ring is poisoned: the kernel refused io_uring_enter for good ({})",
            io::Error::from(errno)
        ),
        errno: Some(errno),
        advice: Some(
            "Ops that it had are leaked, others were not sent. Make a new ring, and look for a \
             seccomp filter that came after the first one (EPERM, ENOSYS), or for completions \
             lost for want of memory (EBADR)",
        ),
    };
    io::Error::other(error)
}

/// The system gives no more threads for the kernel's workers.
pub(crate) fn saturated() -> io::Error {
    let error = RingError {
        step: "ring",
        cause: "the ring is saturated: all of the kernel's workers are blocked, and the system \
                gives no more"
            .into(),
        errno: Some(Errno::AGAIN),
        advice: Some(
            "The op did not run. Raise RLIMIT_NPROC (`ulimit -u`) or the cgroup's pids.max, or let \
             fewer calls block at once (opens of FIFOs, dead file servers)",
        ),
    };
    io::Error::new(io::ErrorKind::ResourceBusy, error)
}

/// The last `Ring` is gone, so that nothing can be queued.
pub(crate) fn closed() -> io::Error {
    let error = RingError {
        step: "ring",
        cause: "the ring was dropped or shut down".into(),
        errno: None,
        advice: Some("Keep a clone of the `Ring` for as long as there is work for it"),
    };
    io::Error::other(error)
}

/// A step of a file operation that failed, and on which path.
///
/// Found inside the `io::Error` of the functions in [`fs`](crate::fs):
/// `error.get_ref().and_then(|inner| inner.downcast_ref::<PathError>())`.
#[derive(Debug)]
pub struct PathError {
    step: &'static str,
    path: PathBuf,
    /// The second path of calls that have two, such as a new name.
    to: Option<PathBuf>,
    source: io::Error,
}

impl PathError {
    /// The step that failed, as the name of its system call.
    #[must_use]
    pub fn step(&self) -> &'static str {
        self.step
    }

    /// The path it failed on; the first one, of calls that have two.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The second path of calls that have two: the new name of a rename or a link.
    #[must_use]
    pub fn to(&self) -> Option<&Path> {
        self.to.as_deref()
    }

    /// The errno, if a system call failed.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    pub(crate) fn wrap(step: &'static str, path: &Path, source: io::Error) -> io::Error {
        let path = path.to_owned();
        io::Error::new(source.kind(), Self { step, path, to: None, source })
    }

    pub(crate) fn wrap_two(
        step: &'static str,
        [path, to]: [&Path; 2],
        source: io::Error,
    ) -> io::Error {
        let (path, to) = (path.to_owned(), Some(to.to_owned()));
        io::Error::new(source.kind(), Self { step, path, to, source })
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.step, self.path.display())?;
        if let Some(to) = &self.to {
            write!(f, " -> {}", to.display())?;
        }
        write!(f, ": {}", self.source)
    }
}

impl error::Error for PathError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_without_a_name_keeps_its_number() {
        assert_eq!(result(-9999).unwrap_err().raw_os_error(), Some(9999));
        assert_eq!(result(-2).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(result(i32::MAX).unwrap(), 0x7fff_ffff);
    }

    #[test]
    fn the_kernels_own_restart_codes_are_an_interrupt() {
        for raw in [-512, -513, -514, -516] {
            assert_eq!(result(raw).unwrap_err().kind(), io::ErrorKind::Interrupted, "{raw}");
        }
        assert_eq!(
            result(-515).unwrap_err().raw_os_error(),
            Some(515),
            "ENOIOCTLCMD is no restart"
        );
    }

    #[test]
    fn a_refused_setup_says_what_to_do() {
        for (errno, word) in [
            (Errno::PERM, "seccomp"),
            (Errno::ACCESS, "seccomp"),
            (Errno::NOSYS, "5.15"),
            (Errno::OPNOTSUPP, "5.15"),
            (Errno::AGAIN, "ulimit -u"),
            (Errno::NOMEM, "ulimit -l"),
            (Errno::MFILE, "ulimit -n"),
            (Errno::INVAL, "queue depth"),
        ] {
            let error = setup("io_uring_setup", errno);
            assert!(error.to_string().contains(word), "{error}");
            let inner = error.get_ref().unwrap().downcast_ref::<RingError>().unwrap();
            assert_eq!(inner.raw_os_error(), Some(errno.raw_os_error()));
        }
    }
}
