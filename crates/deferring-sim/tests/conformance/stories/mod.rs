//! What is known of the answers: one story for each matter, told on every kernel.
//!
//! Not: what is drawn by lot (`script/`).

pub(crate) mod files;
pub(crate) mod names;
pub(crate) mod streams;
pub(crate) mod waits;

use std::fmt::Debug;
use std::io;

use deferring::{BufResult, Fd};
use rustix::io::Errno;

use crate::worlds::World;

/// The call has failed so.
#[track_caller]
fn fails<T: Debug>(result: io::Result<T>, errno: Errno) {
    match result {
        Ok(value) => panic!("Ok({value:?}), not {errno}"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()), "{error}"),
    }
}

impl World {
    /// What a read of so many bytes gives.
    async fn read_at(&self, fd: &Fd, len: usize, offset: u64) -> io::Result<Vec<u8>> {
        let BufResult(n, buf) = self.ring.read(fd, Vec::with_capacity(len), offset).await;
        assert_eq!(n.as_ref().copied().unwrap_or(0), buf.len());
        n.map(|_| buf)
    }

    async fn write_at(&self, fd: &Fd, bytes: impl Into<Vec<u8>>, offset: u64) -> io::Result<usize> {
        self.ring.write(fd, bytes.into(), offset).await.0
    }
}
