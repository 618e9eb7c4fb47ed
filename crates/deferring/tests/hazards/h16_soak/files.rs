//! Files of one owner, and a model of what is in them.
//!
//! What was awaited is known. What was cancelled half way, dropped or detached may have happened,
//! in part or not: then the file is closed, which waits for its ops, and looked at; each byte is
//! what it was or what was written.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use deferring::op::Op;
use deferring::{BufResult, CWD, Fd, Handle, Mode, OFlags, ResolveFlags, block_on};
use tempfile::TempDir;

use super::Soaker;

const FILES: usize = 8;
const LARGEST: usize = 20_000;

pub(super) struct Files {
    place: TempDir,
    files: Vec<Owned>,
    /// A new name for each thing that is made.
    names: usize,
}

/// A file, and what is in it.
struct Owned {
    path: PathBuf,
    fd: Fd,
    model: Vec<u8>,
}

/// A change that may have taken place.
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Files {
    pub(super) fn soak(soaker: &mut Soaker) {
        let place = tempfile::tempdir().unwrap();
        let files = (0..FILES).map(|at| Owned::new(place.path().join(at.to_string()))).collect();
        let mut files = Self { place, files, names: 0 };
        let ring = soaker.ring.clone();
        while soaker.goes_on() {
            block_on(&ring, async {
                for _ in 0..20 {
                    soaker.goes_on();
                    files.step(soaker).await;
                }
            });
        }
        block_on(&ring, async {
            for file in &mut files.files {
                file.close_and_look(soaker, &[]).await;
            }
        });
    }

    async fn step(&mut self, soaker: &mut Soaker) {
        let at = soaker.dice.below(FILES);
        match soaker.dice.below(10) {
            0..4 => self.files[at].read(soaker).await,
            4..6 => self.files[at].write(soaker).await,
            6 => self.files[at].set_length(soaker).await,
            7 => self.files[at].ask(soaker).await,
            8 => self.files[at].close_and_look(soaker, &[]).await,
            _ => self.make_something(soaker).await,
        }
    }

    /// Names in the directory: made, and seen to be there; or given up, and not asked after.
    async fn make_something(&mut self, soaker: &mut Soaker) {
        self.names += 1;
        let path = self.place.path().join(format!("new{}", self.names));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let (mode, resolve) = (Mode::RUSR | Mode::WUSR, ResolveFlags::empty());
        let open = soaker.ring.openat2(CWD, &path, flags, mode, resolve);
        match soaker.dice.below(5) {
            0 => drop(open),
            1 => open.detach(),
            2 => drop(soaker.cancel(open).await), // A descriptor that came is dropped.
            _ => {
                let new = soaker.settle(open).await.expect("a new file");
                soaker.ring.close(&new).await.expect("closes");
                let to = self.place.path().join(format!("renamed{}", self.names));
                let (flags, rename) = (deferring::RenameFlags::empty(), &soaker.ring);
                let rename = rename.renameat2(CWD, &path, CWD, &to, flags);
                soaker.settle(rename).await.expect("renamed");
                assert!(to.exists() && !path.exists());
                let unlink = soaker.ring.unlinkat(CWD, &to, deferring::AtFlags::empty());
                soaker.settle(unlink).await.expect("unlinked");
                assert!(!to.exists());
            }
        }
    }
}

impl Owned {
    fn new(path: PathBuf) -> Self {
        drop(File::create_new(&path).unwrap());
        let fd = open(&path);
        Self { path, fd, model: Vec::new() }
    }

    async fn read(&mut self, soaker: &mut Soaker) {
        let at = soaker.dice.below(LARGEST);
        let buf = vec![0xEE; 1 + soaker.dice.below(4096)];
        let read = soaker.ring.read(&self.fd, buf, at as u64);
        let which = soaker.dice.below(6);
        let BufResult(result, buf) = match which {
            0 => return drop(read),
            1 => return read.detach(),
            2 => soaker.cancel(read).await,
            _ => soaker.settle(read).await,
        };
        // A read that is cancelled between two pages ends short.
        let cancelled = which == 2;
        let there = self.model.get(at..).unwrap_or_default();
        match result {
            Ok(n) => {
                let all = there.len().min(buf.len());
                assert!(n == all || cancelled && n < all, "{n} of {all} that are there");
                assert!(buf[..n] == there[..n], "{n} bytes at {at} are not the model's");
                let end = if n < all { all } else { n };
                assert!(buf[end..].iter().all(|&byte| byte == 0xEE), "behind the end");
            }
            Err(error) => check_cut(&error),
        }
    }

    async fn write(&mut self, soaker: &mut Soaker) {
        let at = soaker.dice.below(LARGEST / 2);
        let bytes = vec![soaker.dice.byte(); 1 + soaker.dice.below(LARGEST / 2)];
        let write = soaker.ring.write(&self.fd, bytes.clone(), at as u64);
        let change = Change::Write { at, bytes };
        self.change(soaker, write, change, |BufResult(result, bytes)| {
            result.map(|n| assert_eq!(n, bytes.len(), "a file takes all"))
        })
        .await;
    }

    async fn set_length(&mut self, soaker: &mut Soaker) {
        let len = soaker.dice.below(LARGEST);
        let truncate = soaker.ring.ftruncate(&self.fd, len as u64);
        self.change(soaker, truncate, Change::Length(len), |result| result).await;
    }

    /// Makes a change, and knows afterwards whether it was made.
    async fn change<T: Op>(
        &mut self,
        soaker: &mut Soaker,
        handle: Handle<T>,
        change: Change,
        result: fn(T::Output) -> io::Result<()>,
    ) {
        let result = match soaker.dice.below(6) {
            0 => {
                drop(handle);
                return self.close_and_look(soaker, &[change]).await;
            }
            1 => {
                handle.detach();
                return self.close_and_look(soaker, &[change]).await;
            }
            2 => result(soaker.cancel(handle).await),
            _ => result(soaker.settle(handle).await),
        };
        match result {
            Ok(()) => change.make(&mut self.model),
            Err(error) => {
                check_cut(&error);
                self.close_and_look(soaker, &[change]).await;
            }
        }
    }

    /// What the file system says of it.
    async fn ask(&mut self, soaker: &mut Soaker) {
        let sync = soaker.ring.fsync(&self.fd);
        if soaker.dice.once_in(8) {
            soaker.settle(sync).await.expect("synced");
        } else {
            drop(sync);
        }
        let stat = soaker.ring.queue(deferring::op::Statx::of(&self.fd));
        let stat = soaker.settle(stat).await.expect("is there");
        assert_eq!(stat.size(), Some(self.model.len() as u64));
    }

    /// Closes the file, after which no op works on it, and compares it with the model and with what
    /// may have changed.
    async fn close_and_look(&mut self, soaker: &mut Soaker, changes: &[Change]) {
        soaker.ring.close(&self.fd).await.expect("closes");
        let found = std::fs::read(&self.path).unwrap();
        let mut changed = self.model.clone();
        changes.iter().for_each(|change| change.make(&mut changed));
        let lengths = self.model.len().min(changed.len())..=self.model.len().max(changed.len());
        assert!(lengths.contains(&found.len()), "{} bytes, not {lengths:?}", found.len());
        for (at, byte) in found.iter().enumerate() {
            let (before, after) = (self.model.get(at), changed.get(at));
            let either = before == Some(byte) || after == Some(byte);
            assert!(either, "byte {at} is {byte}, not {before:?} nor {after:?}");
        }
        self.model = found;
        self.fd = open(&self.path);
    }
}

impl Change {
    fn make(&self, model: &mut Vec<u8>) {
        match self {
            Self::Length(len) => model.resize(*len, 0),
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                model.resize(model.len().max(end), 0);
                model[*at..end].copy_from_slice(bytes);
            }
        }
    }
}

fn open(path: &PathBuf) -> Fd {
    File::options().read(true).write(true).open(path).unwrap().into()
}

fn check_cut(error: &io::Error) {
    let errno = error.raw_os_error();
    assert!(matches!(errno, Some(libc::ECANCELED | libc::EINTR)), "{error}");
}
