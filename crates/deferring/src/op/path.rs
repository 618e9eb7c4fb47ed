//! Paths and the directories they start from, as ops own them.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;

use super::address;
use crate::fd::{Fd, Lease};

/// The directory that a relative path starts from.
///
/// Made from an `&Fd`, or [`CWD`]. An absolute path ignores it.
#[derive(Debug)]
pub struct At(Option<Lease>);

/// The current working directory, as the start of a relative path (`AT_FDCWD`).
pub const CWD: At = At(None);

const AT_FDCWD: RawFd = -100;

impl At {
    /// The number for an SQE.
    #[must_use]
    pub fn raw(&self) -> RawFd {
        self.0.as_ref().map_or(AT_FDCWD, Lease::raw)
    }

    /// The number of a second directory, which an SQE holds where others have a length.
    #[must_use]
    #[allow(clippy::cast_sign_loss)] // The same 32 bits.
    pub fn sqe_len(&self) -> u32 {
        self.raw() as u32
    }

    /// Whether this is that directory; see [`Op::uses`](super::Op::uses).
    #[must_use]
    pub fn is_of(&self, fd: &Fd) -> bool {
        self.0.as_ref().is_some_and(|lease| lease.is_of(fd))
    }

    /// The descriptor, if it is one.
    pub(super) const fn lease(&self) -> Option<&Lease> {
        self.0.as_ref()
    }

    /// The name of one thing in a directory on a local disk or in memory: whoever asks for it asks
    /// no server.
    pub(super) fn is_local_with(&self, name: &PathArg) -> bool {
        name.is_name() && self.0.as_ref().is_some_and(Lease::is_local)
    }

    /// Asks, and gives the directory up.
    pub(super) fn call(&mut self, call: impl FnOnce(&Lease) -> io::Result<u32>) -> io::Result<u32> {
        let dir = self.0.take();
        dir.as_ref().map_or(Err(Errno::BADF.into()), call)
    }

    /// Moves the lease out; see [`Op::let_go`](super::Op::let_go).
    pub fn let_go(&mut self, leases: &mut Vec<Lease>) {
        if let Some(lease) = self.0.take() {
            leases.push(lease);
        }
    }

    /// Refuses a directory that is closed.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn check(&self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), Lease::check)
    }
}

impl From<&Fd> for At {
    fn from(dir: &Fd) -> Self {
        Self(Some(dir.lease()))
    }
}

/// A path that an op owns: NUL-terminated, in place until the last CQE.
#[derive(Debug)]
pub struct PathArg(Option<Cow<'static, CStr>>);

impl PathArg {
    /// Copies a path.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().as_os_str().as_bytes();
        if path.is_empty() {
            return Self(Some(Cow::Borrowed(c"")));
        }
        Self(CString::new(path).ok().map(Cow::Owned))
    }

    /// Whether it names what it starts from.
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_some_and(|path| path.is_empty())
    }

    /// Whether it is the name of one thing in the directory that it starts from: it leads nowhere
    /// else.
    pub(super) fn is_name(&self) -> bool {
        let name = self.as_c_str().to_bytes();
        !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/')
    }

    /// For a system call; nothing, if it was refused.
    pub(super) fn as_c_str(&self) -> &CStr {
        self.0.as_deref().unwrap_or_default()
    }

    /// Refuses a path with a NUL in it, which names no file. (The kernel would cut it there.)
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn check(&self) -> io::Result<()> {
        if self.0.is_some() { Ok(()) } else { Err(Errno::NOENT.into()) }
    }

    /// The address for an SQE.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.0.as_ref().map_or(0, |path| address(path.as_ptr()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c35_a_nul_in_a_path_is_not_found() {
        let error = PathArg::new("a\0b").check().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(PathArg::new("a").check().is_ok());
    }
}
