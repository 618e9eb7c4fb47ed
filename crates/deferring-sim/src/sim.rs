//! A simulation: a machine with a seed, programs that run on it, and what can be seen of it from
//! outside.
//!
//! Not: what the machine does (`world/`), nor many seeds (`check.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use deferring::{Builder, Fd, Ring};

use crate::disk::Loss;
use crate::faults::{Fault, Faults};
use crate::kernel::Kernel;
use crate::world::{Power, World};

/// A machine that does what its seed says.
///
/// It has a disk, pipes, sockets, a clock and an io_uring, all in memory; programs get the
/// [`Ring`] that they would get anywhere. The same seed, faults and program give the same run, step
/// by step.
///
/// ```
/// use std::time::Duration;
/// use deferring::{BufResult, fs::File};
/// use deferring_sim::{Faults, Sim};
///
/// let sim = Sim::new(7).faults(Faults::all());
/// sim.run(async |ring| {
///     deferring::time::sleep(&ring, Duration::from_secs(600)).await?; // takes no time
///     let file = File::create(&ring, "/log").await?;
///     let BufResult(n, _) = file.write_at("hello", 0).await;
///     assert!(n? <= 5); // a short write is one of the faults
///     file.close().await
/// })??;
/// assert!(sim.age() >= Duration::from_secs(600));
/// assert!("hello".as_bytes().starts_with(&sim.read("/log").unwrap()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sim {
    kernel: Kernel,
    builder: Builder,
}

/// The power was lost before the program had ended. What it had not synced is gone, whole or in
/// part; the next [`Sim::run`] finds the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerLost;

impl fmt::Display for PowerLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated machine has lost its power")
    }
}

impl std::error::Error for PowerLost {}

impl Sim {
    /// A machine with an empty disk and without faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { kernel: Kernel::new(World::new(seed)), builder: Ring::builder() }
    }

    /// What goes wrong from now on.
    #[must_use]
    pub fn faults(self, faults: Faults) -> Self {
        self.set_faults(faults);
        self
    }

    /// As [`faults`](Self::faults), in between.
    pub fn set_faults(&self, faults: Faults) {
        self.world().set_faults(faults);
    }

    /// How rings are to be: the depth of their queues, their times.
    #[must_use]
    pub fn ring(mut self, builder: Builder) -> Self {
        self.builder = builder;
        self
    }

    /// How much virtual time each program may take, an hour if this is not said.
    #[must_use]
    pub fn patience(self, time: Duration) -> Self {
        self.world().set_patience(time);
        self
    }

    /// Writes down what happens, for [`trace`](Self::trace).
    #[must_use]
    pub fn traced(self) -> Self {
        self.world().begin_trace();
        self
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.kernel.world()
    }

    /// Runs a program to its end, in virtual time, on a new ring. When it has ended, what it left in
    /// the ring is cancelled, and the ring is gone.
    ///
    /// Whatever the program awaits has to come from the ring: time passes only there. It may run as
    /// many futures at once as it likes, by `join!` and its kin. One program runs at a time.
    ///
    /// # Errors
    /// [`PowerLost`], if that was among the faults.
    ///
    /// # Panics
    /// If the program panics. If it waits for what cannot come: it is deadlocked. If it does not
    /// end in an hour of virtual time ([`patience`](Self::patience)), or wakes itself for ever. If
    /// another runs on this machine. If the ring cannot be made.
    pub fn run<T>(&self, program: impl AsyncFnOnce(Ring) -> T) -> Result<T, PowerLost> {
        self.world().begin_run();
        let _running = Running(&self.kernel);
        let ring = self.new_ring().expect("a ring in memory");
        let ended = {
            let mut program = pin!(program(ring.clone()));
            self.turn(&ring, program.as_mut())
        };
        self.world().end_program();
        drop(ring);
        ended
    }

    fn new_ring(&self) -> io::Result<Ring> {
        let kernel = &self.kernel;
        self.builder.clone().build_on(|wire| Ok(kernel.port(wire)))
    }

    fn turn<T>(
        &self,
        ring: &Ring,
        mut program: Pin<&mut dyn Future<Output = T>>,
    ) -> Result<T, PowerLost> {
        let call = Arc::new(Call(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&call));
        let mut cx = Context::from_waker(&waker);
        loop {
            if self.world().power() == Power::Lost {
                return Err(PowerLost);
            }
            // Now and then a future is polled that nobody has woken.
            if call.0.swap(false, Ordering::Relaxed) || self.world().choose(16) == 0 {
                if let Poll::Ready(output) = program.as_mut().poll(&mut cx) {
                    return Ok(output);
                }
                if call.0.load(Ordering::Relaxed) {
                    self.world().poll_again();
                }
            }
            self.turn_ring(ring, || call.0.load(Ordering::Relaxed));
        }
    }

    /// Submits, waits if there is nothing else to do, and reaps.
    fn turn_ring(&self, ring: &Ring, is_woken: impl Fn() -> bool) {
        let passes = |result: io::Result<()>| {
            let Err(error) = result else { return };
            let errno = error.raw_os_error().unwrap_or_default();
            // What refuses now may not the next time. A ring that is poisoned says so to all.
            let again = [libc::EINTR, libc::EAGAIN, libc::EBUSY, libc::ENOMEM].contains(&errno);
            let off = self.world().power() == Power::Lost;
            assert!(again || off || is_woken(), "the ring cannot be turned: {error}");
        };
        // What a submit could not send goes while this waits.
        passes(ring.submit().map(drop));
        if !is_woken() {
            passes(ring.wait(None).map(drop));
        }
        passes(ring.reap().map(drop));
    }

    pub(crate) fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    // From outside.

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.world().seed()
    }

    /// How much virtual time has passed.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.world().age()
    }

    /// How many steps were taken: SQEs, CQEs, and what happened in between.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.world().steps()
    }

    /// How often a fault has struck.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.world().struck().iter().sum()
    }

    /// Which faults have struck, and how often: whether a test has met what it is about.
    #[must_use]
    pub fn faults_struck(&self) -> BTreeMap<Fault, u64> {
        let world = self.world();
        let all = Fault::ALL.into_iter().zip(world.struck().iter().copied());
        all.filter(|(_, times)| *times > 0).collect()
    }

    /// What has happened so far, a line each, if it was to be [`traced`](Self::traced). The same for
    /// the same seed, faults and program.
    #[must_use]
    pub fn trace(&self) -> String {
        self.world().trace().to_owned()
    }

    /// Writes a line of one's own into the trace, if there is one: what the program has been told, or
    /// what the test thinks of it.
    pub fn note(&self, note: impl fmt::Display) {
        let is_traced = self.world().is_traced();
        if is_traced {
            let note = note.to_string(); // It may look at the machine.
            self.world().note(&note);
        }
    }

    /// How many calls hang now, by [`hangs`](Faults::hangs) or [`hangs_for_ever`](Faults::hangs_for_ever).
    #[must_use]
    pub fn hung(&self) -> usize {
        self.world().hung()
    }

    /// How many SQEs the kernel has not answered, the ring's own too (its alarm clock stays with a
    /// ring that has ended).
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.world().in_flight()
    }

    /// How many of its descriptors the program has not closed.
    #[must_use]
    pub fn open_descriptors(&self) -> usize {
        self.world().open_descriptors()
    }

    /// Whether an op that is out names any of this memory, so that the kernel may touch it. For
    /// buffers that check whether they are dropped too early.
    #[must_use]
    pub fn may_touch(&self, start: *const u8, len: usize) -> bool {
        self.world().names_memory(start.addr(), len)
    }

    /// Switches the power off, in the middle of whatever goes on: [`run`](Self::run) ends with
    /// [`PowerLost`].
    pub fn lose_power(&self) {
        self.lose(Loss::Torn);
    }

    /// As [`lose_power`](Self::lose_power), with this much of what was not synced.
    pub fn lose(&self, loss: Loss) {
        self.world().lose_power(loss);
    }

    /// Switches the power off when so many [`steps`](Self::steps) are done, or as soon after as one ends.
    /// So a test can cut a short program at each of its steps.
    ///
    /// ```
    /// use deferring::fs::File;
    /// use deferring_sim::Sim;
    ///
    /// for step in 0.. {
    ///     let sim = Sim::new(7);
    ///     sim.write("/value", "old").unwrap();
    ///     sim.lose_power_at(step);
    ///     let ended = sim.run(async |ring| {
    ///         let file = File::create(&ring, "/new").await.unwrap();
    ///         file.write_all_at("new", 0).await.0.unwrap();
    ///         file.sync_all().await.unwrap();
    ///         ring.fs().rename("/new", "/value").await.unwrap();
    ///     });
    ///     let value = sim.read("/value").unwrap();
    ///     assert!(value == b"old" || value == b"new");
    ///     if ended.is_ok() {
    ///         break; // it was over before
    ///     }
    /// }
    /// ```
    pub fn lose_power_at(&self, step: u64) {
        self.world().set_cut(step);
    }

    /// Two ends of a new pipe: the first is for reading.
    ///
    /// # Errors
    /// `EMFILE`: each is a descriptor of this process.
    pub fn pipe(&self) -> io::Result<(Fd, Fd)> {
        let [input, output] = self.world().pipe()?;
        Ok((input.into(), output.into()))
    }

    /// Two connected stream sockets.
    ///
    /// # Errors
    /// As [`pipe`](Self::pipe).
    pub fn socket_pair(&self) -> io::Result<(Fd, Fd)> {
        let [one, two] = self.world().socket_pair()?;
        Ok((one.into(), two.into()))
    }

    // The disk, without a ring and without faults. What is written is durable, and nothing else.

    /// What a file holds now.
    ///
    /// # Errors
    /// As of `open(2)` and `read(2)`.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        self.world().read_file(path.as_ref())
    }

    /// Makes a file, or replaces what it holds. It is durable then; with a new name all changes of
    /// names are that came before.
    ///
    /// # Errors
    /// As of `open(2)` and `write(2)`.
    pub fn write(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.world().write_file(path.as_ref(), bytes.as_ref())
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// As of `mkdir(2)`.
    pub fn create_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.world().make_directory(path.as_ref())
    }

    /// Makes a FIFO.
    ///
    /// # Errors
    /// As of `mkfifo(3)`.
    pub fn mkfifo(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.world().make_fifo(path.as_ref())
    }

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// As of `open(2)`.
    pub fn list(&self, path: impl AsRef<Path>) -> io::Result<Vec<std::ffi::OsString>> {
        self.world().names_in(path.as_ref())
    }

    /// What a symbolic link says.
    ///
    /// # Errors
    /// As of `readlink(2)`.
    pub fn read_link(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        self.world().read_link(path.as_ref())
    }

    /// Makes durable what is on the disk, as `sync(2)`.
    pub fn sync(&self) {
        self.world().disk.sync_all();
    }

    /// A number that two disks share if they hold the same.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.world().disk.digest()
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, steps, age) = (self.seed(), self.steps(), self.age());
        f.debug_struct("Sim")
            .field("seed", &seed)
            .field("steps", &steps)
            .field("age", &age)
            .finish_non_exhaustive()
    }
}

/// Until it is dropped, a program or its ring is there.
struct Running<'a>(&'a Kernel);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.world().end_run();
    }
}

/// The program is to be polled.
struct Call(AtomicBool);

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
