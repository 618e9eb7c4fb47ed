//! Files by convenience: what `std::fs` has, through a ring.
//!
//! Ordinary async functions over the ops in [`op`](crate::op): a short write is finished, and an
//! error says which step failed on which path ([`PathError`], which also has the errno; `io::Error::raw_os_error` does not see through it).
//! Nothing is queued before the first poll. [`File`] is in
//! `file.rs`, how to open one in `options.rs`. Not: states, unsafe code, anything that ops cannot.

mod file;
mod metadata;
mod options;

use std::future::IntoFuture;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, RenameFlags, StatxFlags};

pub use file::File;
pub use metadata::Metadata;
pub use options::OpenOptions;

use crate::{BufResult, CWD, IoBuf, IoBufMut, PathError, Ring};

/// What a path leads to, following symbolic links.
///
/// # Errors
/// Those of `statx(2)`, with the path.
pub async fn metadata(ring: &Ring, path: impl AsRef<Path>) -> io::Result<Metadata> {
    stat(ring, path.as_ref(), AtFlags::empty()).await
}

/// What a path names, symbolic links not followed.
///
/// # Errors
/// Those of `statx(2)`, with the path.
pub async fn symlink_metadata(ring: &Ring, path: impl AsRef<Path>) -> io::Result<Metadata> {
    stat(ring, path.as_ref(), AtFlags::SYMLINK_NOFOLLOW).await
}

async fn stat(ring: &Ring, path: &Path, flags: AtFlags) -> io::Result<Metadata> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let stat = on(path, "statx", || ring.statx(CWD, path, flags, mask)).await?;
    Ok(Metadata::new(stat))
}

/// Gives a file another name. A symbolic link is linked itself.
///
/// # Errors
/// Those of `linkat(2)`, with both paths; `AlreadyExists` if the name is taken.
pub async fn hard_link(
    ring: &Ring,
    original: impl AsRef<Path>,
    link: impl AsRef<Path>,
) -> io::Result<()> {
    let (original, link) = (original.as_ref(), link.as_ref());
    let call = || ring.linkat(CWD, original, CWD, link, AtFlags::empty());
    on_two([original, link], "linkat", call).await
}

/// As [`hard_link`], in place of what has that name: it is unlinked first.
///
/// For a moment nothing has the name. If somebody else takes it in that moment, it is unlinked
/// again, a few times.
///
/// # Errors
/// Those of `unlinkat(2)` and `linkat(2)`, with the paths.
pub async fn hard_link_force(
    ring: &Ring,
    original: impl AsRef<Path>,
    link: impl AsRef<Path>,
) -> io::Result<()> {
    const TRIES: usize = 16;
    let (original, link) = (original.as_ref(), link.as_ref());
    // Nothing is unlinked for the sake of a link that cannot be made.
    symlink_metadata(ring, original).await?;
    let mut result = hard_link(ring, original, link).await;
    for _ in 0..TRIES {
        match &result {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Ok(()) | Err(_) => break,
        }
        match remove_file(ring, link).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        result = hard_link(ring, original, link).await;
    }
    result
}

/// Removes a file's name.
///
/// # Errors
/// Those of `unlinkat(2)`, with the path.
pub async fn remove_file(ring: &Ring, path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    on(path, "unlinkat", || ring.unlinkat(CWD, path, AtFlags::empty())).await
}

/// Removes an empty directory.
///
/// # Errors
/// Those of `unlinkat(2)`, with the path.
pub async fn remove_dir(ring: &Ring, path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    on(path, "unlinkat", || ring.unlinkat(CWD, path, AtFlags::REMOVEDIR)).await
}

/// Gives a file another name in place of its own, and replaces what has that name.
///
/// # Errors
/// Those of `renameat2(2)`, with both paths.
pub async fn rename(ring: &Ring, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let call = || ring.renameat2(CWD, from, CWD, to, RenameFlags::empty());
    on_two([from, to], "renameat2", call).await
}

/// Makes a directory that everybody may use, less the umask.
///
/// # Errors
/// Those of `mkdirat(2)`, with the path.
pub async fn create_dir(ring: &Ring, path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    on(path, "mkdirat", || ring.mkdirat(CWD, path, Mode::from_raw_mode(0o777))).await
}

/// Makes a symbolic link that says `original`.
///
/// # Errors
/// Those of `symlinkat(2)`, with what it says and its path.
pub async fn symlink(
    ring: &Ring,
    original: impl AsRef<Path>,
    link: impl AsRef<Path>,
) -> io::Result<()> {
    let (original, link) = (original.as_ref(), link.as_ref());
    on_two([original, link], "symlinkat", || ring.symlinkat(original, CWD, link)).await
}

/// A whole file.
///
/// ```
/// use deferring::{Ring, block_on, fs};
///
/// let ring = Ring::builder().build()?;
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("greeting");
/// block_on(&ring, async {
///     fs::write(&ring, &path, "hello").await.into_inner()?;
///     assert_eq!(fs::read(&ring, &path).await?, b"hello");
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Those of `openat2(2)`, `statx(2)` and `read(2)`, with the path; `OutOfMemory` if it does not fit.
pub async fn read(ring: &Ring, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    /// For files that do not tell their length, such as those in `/proc`.
    const GROWTH_MIN: usize = 8192;
    let path = path.as_ref();
    let file = File::open(ring, path).await?;
    let len = usize::try_from(file.metadata().await?.len()).unwrap_or(usize::MAX);
    let mut buf = Vec::new();
    loop {
        // One byte more than expected tells the end without growing.
        let room = len.saturating_sub(buf.len()).saturating_add(1);
        let room = if buf.is_empty() && len > 0 { room } else { room.max(GROWTH_MIN) };
        if buf.len() == buf.capacity() {
            buf.try_reserve(room)
                .map_err(|error| PathError::wrap("allocate for", path, error.into()))?;
        }
        let end = buf.len();
        let (n, part) = file.read_next(buf.slice(end..)).await.into_inner()?;
        buf = part.into_inner();
        if n == 0 {
            return Ok(buf);
        }
    }
}

/// Makes a file of these bytes, in place of what it held.
///
/// # Errors
/// Those of `openat2(2)` and `write(2)`, with the path. The buffer comes back in every case.
pub async fn write<B: IoBuf>(ring: &Ring, path: impl AsRef<Path>, buf: B) -> BufResult<(), B> {
    match File::create(ring, path).await {
        Ok(file) => file.write_all_at(buf, 0).await,
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
