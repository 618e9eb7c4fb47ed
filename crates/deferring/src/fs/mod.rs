//! Files by convenience: what `std::fs` has, through a ring.
//!
//! Ordinary async functions over the ops in [`op`](crate::op): a short write is finished, and an
//! error says which step failed on which path ([`PathError`], which also has the errno;
//! `io::Error::raw_os_error` does not see through it). Nothing is queued before the first poll.
//!
//! The functions here use the ring of the process, [`ring`](crate::ring()), on any executor;
//! [`Ring::fs`](crate::Ring::fs) has the same for a ring of yours. [`File`] is in `file.rs`, how to
//! open one in `options.rs`, the functions in `calls.rs`. Not: states, unsafe code, anything that
//! ops cannot.

mod calls;
mod chunks;
mod file;
mod metadata;
mod options;

use std::future::IntoFuture;
use std::io;
use std::path::Path;

pub use calls::Fs;
pub use chunks::Chunks;
pub use file::File;
pub use metadata::Metadata;
pub use options::OpenOptions;

use crate::{BufResult, IoBuf, IoBufMut, PathError};

/// Opens a file for reading.
///
/// # Errors
/// Those of `openat2(2)`, with the path; those of [`ring`](crate::ring()).
pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
    crate::ring()?.fs().open(path).await
}

/// Opens a file for writing, empty: made if it is not there, cut if it is.
///
/// # Errors
/// Those of `openat2(2)`, with the path; those of [`ring`](crate::ring()).
pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
    crate::ring()?.fs().create(path).await
}

/// What a path leads to, following symbolic links.
///
/// # Errors
/// Those of `statx(2)`, with the path; those of [`ring`](crate::ring()).
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    crate::ring()?.fs().metadata(path).await
}

/// What a path names, symbolic links not followed.
///
/// # Errors
/// Those of `statx(2)`, with the path; those of [`ring`](crate::ring()).
pub async fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    crate::ring()?.fs().symlink_metadata(path).await
}

/// Gives a file another name. A symbolic link is linked itself.
///
/// # Errors
/// Those of `linkat(2)`, with both paths; `AlreadyExists` if the name is taken; those of
/// [`ring`](crate::ring()).
pub async fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    crate::ring()?.fs().hard_link(original, link).await
}

/// As [`hard_link`], in place of what has that name; see [`Fs::hard_link_force`].
///
/// # Errors
/// Those of `unlinkat(2)` and `linkat(2)`, with the paths; those of [`ring`](crate::ring()).
pub async fn hard_link_force(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    crate::ring()?.fs().hard_link_force(original, link).await
}

/// Removes a file's name.
///
/// # Errors
/// Those of `unlinkat(2)`, with the path; those of [`ring`](crate::ring()).
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    crate::ring()?.fs().remove_file(path).await
}

/// Removes an empty directory.
///
/// # Errors
/// Those of `unlinkat(2)`, with the path; those of [`ring`](crate::ring()).
pub async fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    crate::ring()?.fs().remove_dir(path).await
}

/// Gives a file another name in place of its own, and replaces what has that name.
///
/// # Errors
/// Those of `renameat2(2)`, with both paths; those of [`ring`](crate::ring()).
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    crate::ring()?.fs().rename(from, to).await
}

/// Makes a directory that everybody may use, less the umask.
///
/// # Errors
/// Those of `mkdirat(2)`, with the path; those of [`ring`](crate::ring()).
pub async fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    crate::ring()?.fs().create_dir(path).await
}

/// Makes a symbolic link that says `original`.
///
/// # Errors
/// Those of `symlinkat(2)`, with what it says and its path; those of [`ring`](crate::ring()).
pub async fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    crate::ring()?.fs().symlink(original, link).await
}

/// A whole file.
///
/// ```
/// # fn any_executor<F: Future>(future: F) -> F::Output { futures_executor::block_on(future) }
/// use deferring::fs;
///
/// let bytes = any_executor(fs::read("Cargo.toml"))?;
/// assert!(bytes.starts_with(b"[package]"));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Those of `openat2(2)`, `statx(2)` and `read(2)`, with the path; `OutOfMemory` if it does not
/// fit; those of [`ring`](crate::ring()).
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    crate::ring()?.fs().read(path).await
}

/// Makes a file of these bytes, in place of what it held.
///
/// # Errors
/// Those of `openat2(2)` and `write(2)`, with the path; those of [`ring`](crate::ring()). The
/// buffer comes back in every case.
pub async fn write<B: IoBuf>(path: impl AsRef<Path>, buf: B) -> BufResult<(), B> {
    match crate::ring() {
        Ok(ring) => ring.fs().write(path, buf).await,
        Err(error) => BufResult(Err(error), buf),
    }
}

/// Makes a call, and says where it failed.
async fn on<T, F>(path: &Path, step: &'static str, call: impl FnOnce() -> F) -> io::Result<T>
where
    F: IntoFuture<Output = io::Result<T>>,
{
    call().await.map_err(|error| PathError::wrap(step, path, error))
}

/// As [`on`], for a call that has two paths.
async fn on_two<T, F>(
    paths: [&Path; 2],
    step: &'static str,
    call: impl FnOnce() -> F,
) -> io::Result<T>
where
    F: IntoFuture<Output = io::Result<T>>,
{
    call().await.map_err(|error| PathError::wrap_two(step, paths, error))
}

/// As [`on`], for a call that borrows a buffer.
async fn with_buf<T, B, F>(
    path: &Path,
    step: &'static str,
    call: impl FnOnce() -> F,
) -> BufResult<T, B>
where
    F: IntoFuture<Output = BufResult<T, B>>,
{
    let BufResult(result, buf) = call().await;
    BufResult(result.map_err(|error| PathError::wrap(step, path, error)), buf)
}

/// Lends the rest of a buffer, piece by piece, until `total` bytes are through.
async fn all<B: IoBuf, F>(
    mut buf: B,
    total: usize,
    mut call: impl FnMut(crate::Slice<B>, usize) -> F,
    at_zero: impl FnOnce() -> io::Error,
) -> BufResult<(), B>
where
    F: IntoFuture<Output = BufResult<usize, crate::Slice<B>>>,
{
    let mut done = 0;
    while done < total {
        let BufResult(result, part) = call(buf.slice(done..total), done).await;
        buf = part.into_inner();
        match result {
            Ok(0) => return BufResult(Err(at_zero()), buf),
            Ok(n) => done += n,
            Err(error) => return BufResult(Err(error), buf),
        }
    }
    BufResult(Ok(()), buf)
}

fn unexpected_end(path: &Path) -> io::Error {
    let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before the buffer");
    PathError::wrap("read", path, error)
}

fn nothing_written(path: &Path) -> io::Error {
    let error = io::Error::new(io::ErrorKind::WriteZero, "the file takes no more bytes");
    PathError::wrap("write", path, error)
}

/// Reads until the buffer is full to its capacity.
async fn read_exact<B: IoBufMut>(file: &File, buf: B, offset: u64) -> BufResult<(), B> {
    let total = buf.capacity();
    let call = |part, done| file.read_at(part, offset + done as u64);
    all(buf, total, call, || unexpected_end(file.path())).await
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::future::ready;

    use futures_util::FutureExt;
    use rustix::io::Errno;

    use super::*;

    /// Calls that end as told, one after the other.
    struct Script<T>(RefCell<VecDeque<Result<T, Errno>>>);

    impl<T> Script<T> {
        fn new(results: impl IntoIterator<Item = Result<T, Errno>>) -> Self {
            Self(RefCell::new(results.into_iter().collect()))
        }

        fn next(&self) -> io::Result<T> {
            let result = self.0.borrow_mut().pop_front().expect("a call too many");
            result.map_err(io::Error::from)
        }
    }

    #[test]
    fn a_short_write_is_finished() {
        let script = Script::new([Ok(2), Ok(1), Ok(2)]);
        let seen = RefCell::new(Vec::new());
        let call = |part: crate::Slice<&'static str>, done| {
            seen.borrow_mut().push((done, String::from_utf8_lossy(&part).into_owned()));
            ready(BufResult(script.next(), part))
        };
        let all = all("hello", 5, call, || unreachable!());
        assert_eq!(all.now_or_never().unwrap().unwrap().1, "hello");
        let seen = seen.into_inner();
        assert_eq!(seen, [(0, "hello".into()), (2, "llo".into()), (3, "lo".into())]);
    }

    #[test]
    fn a_write_that_takes_nothing_is_an_error_and_not_a_loop() {
        let script = Script::new([Ok(2), Ok(0)]);
        let call = |part, _| ready(BufResult(script.next(), part));
        let all = all("hello", 5, call, || nothing_written(Path::new("p")));
        let BufResult(result, buf) = all.now_or_never().unwrap();
        assert_eq!((result.unwrap_err().kind(), buf), (io::ErrorKind::WriteZero, "hello"));
    }
}
