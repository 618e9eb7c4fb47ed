//! A kernel behind a ring, and a directory to work in: io_uring and the pool in one of the machine's,
//! the simulated one in its own root.
//!
//! All have a umask of zero. Not: what is told there (`stories/`, `script/`).

use std::cell::RefCell;
use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use deferring::{BufResult, Clock, Fd, Mode, OFlags, ResolveFlags, Ring, block_on};
use deferring_sim::Sim;
use futures_util::future::{Either, select};
use rustix::fs::{CWD, FileType, mknodat};
use rustix::pipe::PipeFlags;

/// Longer than anything here takes.
const BOUND: Duration = Duration::from_secs(30);

const EXT4: i64 = 0xef53;

/// When a simulated machine is switched on, by its own clock.
const START: Duration = Duration::from_secs(1000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    IoUring,
    /// The same, and who queues makes small calls itself (`Builder::callers_may_block`).
    Callers,
    Pool,
    Sim,
}

pub(crate) const ALL: [Kernel; 4] = [Kernel::IoUring, Kernel::Callers, Kernel::Pool, Kernel::Sim];

/// A ring, and a directory.
pub(crate) struct World {
    pub(crate) kernel: Kernel,
    pub(crate) ring: Ring,
    /// Empty at first.
    pub(crate) dir: Fd,
    path: PathBuf,
    sim: Option<Rc<Sim>>,
    /// What goes on, for when it does not end.
    step: RefCell<String>,
}

/// What the directory's file system does as ext4 does, and the user as root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) ext4: bool,
    pub(crate) root: bool,
}

impl Form {
    pub(crate) fn here() -> Self {
        Self { ext4: is_ext4(&place()), root: rustix::process::geteuid().is_root() }
    }
}

/// A place for directories: the one that the environment names; else on ext4, if there is one.
fn place() -> PathBuf {
    if let Some(named) = std::env::var_os("DEFERRING_CONFORMANCE_DIR") {
        return named.into();
    }
    let temporary = std::env::temp_dir();
    let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    if !is_ext4(&temporary) && is_ext4(&built) { built } else { temporary }
}

fn is_ext4(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == EXT4)
}

/// Tells a story on a kernel; or not, where the system refuses that one.
pub(crate) fn on<T>(kernel: Kernel, seed: u64, story: impl AsyncFnOnce(&World) -> T) -> Option<T> {
    rustix::process::umask(Mode::empty());
    if kernel == Kernel::Sim {
        let sim = Rc::new(Sim::new(seed));
        sim.create_dir("/work").expect("an empty disk");
        let path = PathBuf::from("/work");
        let told = sim.run(async |ring| {
            let world = World::new(kernel, ring, path, Some(Rc::clone(&sim))).await;
            let told = story(&world).await;
            world.ring.close(&world.dir).await.expect("closes");
            told
        });
        return Some(told.expect("the power stays on"));
    }
    let builder = Ring::builder().queue_depth(32).callers_may_block(kernel == Kernel::Callers);
    let ring = match kernel {
        Kernel::Pool => builder.pool_only().build().expect("a ring on a pool"),
        Kernel::IoUring | Kernel::Callers | Kernel::Sim => match builder.io_uring_only().build() {
            Ok(ring) => ring,
            Err(error) => {
                let _ = writeln!(io::stderr(), "skipped: needs io_uring: {error}");
                return None;
            }
        },
    };
    let dir = tempfile::tempdir_in(place()).expect("a directory");
    Some(block_on(&ring, async {
        let world = World::new(kernel, ring.clone(), dir.path().to_owned(), None).await;
        world.in_time(story(&world)).await
    }))
}

/// Tells a story for its own sake.
pub(crate) fn tell(kernel: Kernel, story: impl AsyncFnOnce(&World)) {
    on(kernel, 1, story);
}

impl World {
    async fn new(kernel: Kernel, ring: Ring, path: PathBuf, sim: Option<Rc<Sim>>) -> Self {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let (mode, resolve) = (Mode::empty(), ResolveFlags::empty());
        let dir =
            ring.openat2(deferring::CWD, &path, flags, mode, resolve).await.expect("is there");
        Self { kernel, ring, dir, path, sim, step: RefCell::default() }
    }

    /// A world in a directory of this one, which is made.
    pub(crate) async fn room(&self, names: &[&str]) -> Self {
        let mut path = self.path.clone();
        for name in names {
            path.push(name);
            match &self.sim {
                Some(sim) => sim.create_dir(&path).expect("is new"),
                None => rustix::fs::mkdir(&path, Mode::from_raw_mode(0o755)).expect("is new"),
            }
        }
        Self::new(self.kernel, self.ring.clone(), path, self.sim.clone()).await
    }

    /// What comes next.
    pub(crate) fn note(&self, step: &str) {
        self.step.replace(step.into());
    }

    /// The simulated machine knows by itself when nothing can happen any more.
    pub(crate) async fn in_time<T>(&self, story: impl Future<Output = T>) -> T {
        if self.sim.is_some() {
            return story.await;
        }
        match select(pin!(story), self.ring.timeout(BOUND)).await {
            Either::Left((told, _)) => told,
            Either::Right(_) => panic!("not done in {BOUND:?}: {}", self.step.borrow()),
        }
    }

    /// By the clock of timeouts.
    pub(crate) fn now(&self) -> Duration {
        self.sim.as_ref().map_or_else(|| Clock::Monotonic.now(), |sim| START + sim.age())
    }

    // By the ring.

    /// Opens, with all permissions for the owner where it makes something.
    pub(crate) async fn open(&self, path: &str, flags: OFlags) -> io::Result<Fd> {
        let makes =
            flags.intersects(OFlags::CREATE | OFlags::TMPFILE.difference(OFlags::DIRECTORY));
        let mode = if makes { Mode::RWXU } else { Mode::empty() };
        self.ring.openat2(&self.dir, path, flags, mode, ResolveFlags::empty()).await
    }

    /// A new file that holds this, open for reading and writing.
    pub(crate) async fn file(&self, path: &str, bytes: &[u8]) -> Fd {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = self.open(path, flags).await.expect("is new");
        let BufResult(written, _) = self.ring.write(&file, bytes.to_vec(), 0).await;
        assert_eq!(written.expect("writes"), bytes.len());
        file
    }

    // From outside.

    pub(crate) fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let path = self.path.join(path);
        match &self.sim {
            Some(sim) => sim.read(path),
            None => std::fs::read(path),
        }
    }

    /// Sorted.
    pub(crate) fn list(&self, path: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let path = self.path.join(path);
        if let Some(sim) = &self.sim {
            return sim.list(path);
        }
        let names = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names: Vec<OsString> = names.collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    }

    pub(crate) fn mkfifo(&self, path: impl AsRef<Path>) {
        let path = self.path.join(path);
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        match &self.sim {
            Some(sim) => sim.mkfifo(path),
            None => mknodat(CWD, path, FileType::Fifo, mode, 0).map_err(io::Error::from),
        }
        .expect("is new");
    }

    /// The end to read from, and the end to write to.
    pub(crate) fn pipe(&self) -> (Fd, Fd) {
        if let Some(sim) = &self.sim {
            return sim.pipe().expect("a pipe");
        }
        let (input, output) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        (input.into(), output.into())
    }

    pub(crate) fn socket_pair(&self) -> (Fd, Fd) {
        if let Some(sim) = &self.sim {
            return sim.socket_pair().expect("two sockets");
        }
        let (one, two) = UnixStream::pair().expect("two sockets");
        (one.into(), two.into())
    }
}
