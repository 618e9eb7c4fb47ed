//! What every `hash_*` example does: it hashes all regular files of some trees, many at a time, and
//! prints what `sha256sum` would.
//!
//! Nothing here knows who turns the ring; that is all that the examples differ in. One task hashes,
//! so one core does; what goes on at once is the files' opens, reads and closes.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use deferring::fs::File;
use deferring::{PathError, Ring};
use futures_util::StreamExt;
use futures_util::stream;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

/// How many files are open at once.
const FILES: usize = 64;

/// How much of a file is read at once.
const CHUNK: usize = 64 * 1024;

/// Hashes the trees that the arguments name, or the working directory.
///
/// Lines come on stdout, sorted by path; errors on stderr, and in the exit code; a bar on stderr if
/// that is a terminal.
pub(crate) async fn run(ring: Ring) -> io::Result<ExitCode> {
    let mut complaints = Vec::new();
    // Plain system calls, before there is anything that they could keep waiting.
    let files = walk(&mut complaints);
    let bar = ProgressBar::new(files.iter().map(|file| file.len).sum());
    bar.set_style(ProgressStyle::with_template(BAR).expect("a template").progress_chars("=> "));

    let hashes = files.into_iter().map(|file| {
        let (ring, bar) = (&ring, &bar);
        async move {
            let hash = hash(ring, &file.path, bar).await;
            (file.path, hash)
        }
    });
    let mut hashes: Vec<_> = stream::iter(hashes).buffer_unordered(FILES).collect().await;
    bar.finish_and_clear();

    hashes.sort_by(|(one, _), (other, _)| one.as_os_str().cmp(other.as_os_str()));
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (path, hash) in hashes {
        match hash {
            Ok(hash) => out.write_all(&line(&hash, &path))?,
            Err(error) => complaints.push(complaint(&path, &error)),
        }
    }
    out.flush()?;
    let mut err = io::stderr().lock();
    for complaint in &complaints {
        writeln!(err, "{complaint}")?;
    }
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const BAR: &str = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec}";

/// A regular file, and how long it was when it was found.
struct Found {
    path: PathBuf,
    len: u64,
}

fn walk(complaints: &mut Vec<String>) -> Vec<Found> {
    let mut roots: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if roots.is_empty() {
        roots.push(".".into());
    }
    let mut files = Vec::new();
    for entry in roots.iter().flat_map(WalkDir::new) {
        let found = entry.and_then(|entry| Ok((entry.metadata()?, entry)));
        match found {
            Ok((metadata, entry)) if metadata.is_file() => {
                files.push(Found { path: entry.into_path(), len: metadata.len() });
            }
            Ok(_) => {}
            Err(error) => {
                let path = error.path().unwrap_or(Path::new("?")).to_owned();
                complaints.push(complaint(&path, &error.into()));
            }
        }
    }
    files
}

/// One file: open, read to its end in chunks, close. The buffer goes to the kernel and comes back.
async fn hash(ring: &Ring, path: &Path, bar: &ProgressBar) -> io::Result<String> {
    let file = File::open(ring, path).await?;
    let mut hash = Sha256::new();
    let mut buf = Vec::with_capacity(CHUNK);
    let mut offset = 0;
    loop {
        let n;
        (n, buf) = file.read_at(buf, offset).await.into_inner()?;
        if n == 0 {
            break;
        }
        // Not all of it: where less came than before, the rest is of before.
        hash.update(&buf[..n]);
        offset += n as u64;
        bar.inc(n as u64);
    }
    file.close().await?;
    Ok(hash.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    }))
}

/// A line as `sha256sum` has it. A name that would break its line is escaped, and the line says so
/// with a backslash at its begin.
fn line(hash: &str, path: &Path) -> Vec<u8> {
    let name = path.as_os_str().as_bytes();
    let mut line = Vec::with_capacity(hash.len() + name.len() + 4);
    if name.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r')) {
        line.push(b'\\');
    }
    line.extend_from_slice(hash.as_bytes());
    line.extend_from_slice(b"  ");
    for byte in name {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            other => line.push(*other),
        }
    }
    line.push(b'\n');
    line
}

/// `path: reason`. The library's errors name the path themselves, and the step; the reason is
/// inside.
fn complaint(path: &Path, error: &io::Error) -> String {
    let inside = error.get_ref();
    let reason = match inside.and_then(|inside| inside.downcast_ref::<PathError>()) {
        Some(error) => error.source().map(ToString::to_string),
        None => inside.and_then(|inside| inside.source()).map(ToString::to_string),
    };
    format!("{}: {}", path.display(), reason.unwrap_or_else(|| error.to_string()))
}
