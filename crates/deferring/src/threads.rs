//! Threads of the library's own: named, and without signals but those of their own faults.
#![allow(unsafe_code)] // The mask of signals.

use std::io;
use std::mem::MaybeUninit;
use std::thread::{Builder, ThreadId};

/// What a thread brings upon itself: blocked, it would kill the process past the program's handler.
const FAULTS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// Starts a thread that no other signal is delivered to. Nobody joins it.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<ThreadId> {
    // A thread inherits the mask of its maker: so there is no moment at which it could be
    // signalled.
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: both are sets that the calls fill.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        for fault in FAULTS {
            libc::sigdelset(all.as_mut_ptr(), fault);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let spawned = Builder::new().name(name.into()).spawn(run);
    // SAFETY: filled by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    spawned.map(|thread| thread.thread().id())
}
