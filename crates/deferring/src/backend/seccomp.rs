//! Whether a seccomp filter kills those who ask for io_uring, found out by a child that asks.
#![allow(unsafe_code)] // A fork.

use std::cell::Cell;
use std::mem::MaybeUninit;

thread_local! {
    /// The filters that were asked, and what came of it. They are the thread's, and only grow.
    static KNOWN: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
}

/// A number or an address as a system call takes it.
const NONE: libc::c_long = 0;

/// Asked once for each thread, and only where there is a filter. What cannot be found out, for want
/// of processes, is taken for harmless.
pub(super) fn kills() -> bool {
    let Some(filters) = filters() else { return false };
    match KNOWN.get() {
        Some((known, kills)) if known == filters => kills,
        _ => {
            let kills = kills_a_child();
            KNOWN.set(kills.map(|kills| (filters, kills)));
            kills.unwrap_or(false)
        }
    }
}

/// How many filters bind this thread, as far as `/proc` tells; since Linux 5.9, and 0 before.
fn filters() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let value = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let count = || value("Seccomp_filters:")?.parse().ok();
    (value("Seccomp:") == Some("2")).then(|| count().unwrap_or(0))
}

/// The child inherits the filters, asks for what the kernel refuses in any case, and exits.
///
/// The program is to notice nothing: no handler of its own runs in the child, neither of a fork nor
/// of a signal; the child's end sends no signal, is not seen by a `wait` for any child, and leaves
/// its status also where those of children are ignored; and it dumps no core.
fn kills_a_child() -> Option<bool> {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: both are sets that the calls fill. Without flags the call is a fork, and the child
    // makes system calls only.
    let child = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let child = libc::syscall(libc::SYS_clone, NONE, NONE, NONE, NONE, NONE);
        if child == 0 {
            ask();
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
        child
    };
    let child = libc::pid_t::try_from(child).ok().filter(|&child| child > 0)?;
    let mut status = 0;
    loop {
        // SAFETY: our own child; `status` is ours.
        let waited = unsafe { libc::waitpid(child, &raw mut status, libc::__WCLONE) };
        if waited == child {
            return Some(libc::WIFSIGNALED(status));
        }
        // SAFETY: as any.
        if unsafe { *libc::__errno_location() } != libc::EINTR {
            return None; // Somebody reaps children of all kinds.
        }
    }
}

/// What the child does.
///
/// # Safety
/// It ends the process.
unsafe fn ask() -> ! {
    const NO_RING: libc::c_long = -1;
    // SAFETY: no entries, no parameters, no ring: `EFAULT`, `EINVAL`, `EBADF`.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::syscall(libc::SYS_io_uring_setup, NONE, NONE);
        libc::syscall(libc::SYS_io_uring_enter, NO_RING, NONE, NONE, NONE, NONE, NONE);
        libc::syscall(libc::SYS_io_uring_register, NO_RING, NO_RING, NONE, NONE);
        libc::_exit(0)
    }
}
