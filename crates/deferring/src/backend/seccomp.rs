//! Whether a seccomp filter kills those who ask for io_uring, found out by a child that asks.
#![allow(unsafe_code)] // A fork.

use std::sync::OnceLock;

/// Asked once for the process, and only where there is a filter.
pub(super) fn kills() -> bool {
    static KILLS: OnceLock<bool> = OnceLock::new();
    *KILLS.get_or_init(|| has_filter() && kills_a_child())
}

/// Whether a filter binds this thread, as far as `/proc` tells.
fn has_filter() -> bool {
    const FILTER: &str = "Seccomp:\t2";
    let status = std::fs::read_to_string("/proc/thread-self/status");
    status.is_ok_and(|status| status.lines().any(|line| line == FILTER))
}

/// The child inherits the filter, asks for what the kernel refuses in any case, and exits.
fn kills_a_child() -> bool {
    const ALIVE: libc::c_int = 0;
    // SAFETY: the child makes system calls only, and no other code of this process's runs in it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above. No entries, no parameters: `EFAULT` or `EINVAL`.
        unsafe {
            libc::syscall(libc::SYS_io_uring_setup, 0, std::ptr::null::<libc::c_void>());
            libc::_exit(ALIVE);
        }
    }
    if child < 0 {
        return false;
    }
    let mut status = 0;
    loop {
        // SAFETY: our own child; `status` is ours.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        if waited == child {
            return libc::WIFSIGNALED(status);
        }
        // SAFETY: as any.
        if unsafe { *libc::__errno_location() } != libc::EINTR {
            return false; // Somebody else reaps the children of this process.
        }
    }
}
