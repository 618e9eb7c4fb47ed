//! The builder of rings; each default explained.
//!
//! Not: what the kernel is then asked (`backend/uring/setup.rs`).

use std::io;
use std::time::Duration;

use crate::backend::{self, Backend, Choice, Wire};
use crate::error;
use crate::op::Opcode;
use crate::ring::Ring;

/// How a ring is to be. Made by [`Ring::builder`].
///
/// ```
/// use deferring::Ring;
///
/// let ring = Ring::builder().queue_depth(100).build()?;
/// assert_eq!(ring.queue_depth(), 128, "rounded up to a power of two");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "does nothing until `build`"]
pub struct Builder {
    pub(crate) queue_depth: u32,
    pub(crate) completions: Option<u32>,
    pub(crate) clamp: bool,
    pub(crate) sqpoll_idle: Option<Duration>,
    pub(crate) coop_taskrun: bool,
    pub(crate) single_issuer: bool,
    /// See `LocalRing`.
    pub(crate) of_one_thread: bool,
    pub(crate) defer_taskrun: bool,
    pub(crate) required: Vec<Opcode>,
    pub(crate) on_pool: Vec<Opcode>,
    pub(crate) drain_timeout: Duration,
    pub(crate) stuck_after: Duration,
    pub(crate) spin: Duration,
    pub(crate) choice: Choice,
    pub(crate) pool_threads_max: u32,
    pub(crate) callers_may_block: bool,
    pub(crate) biased_lock: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            queue_depth: 256,
            completions: None,
            clamp: true,
            sqpoll_idle: None,
            coop_taskrun: false,
            single_issuer: false,
            of_one_thread: false,
            defer_taskrun: false,
            required: Vec::new(),
            on_pool: Vec::new(),
            drain_timeout: Self::DRAIN_TIMEOUT,
            stuck_after: Self::STUCK_AFTER,
            spin: Self::SPIN,
            choice: Choice::Auto,
            pool_threads_max: Self::POOL_THREADS_MAX,
            callers_may_block: false,
            biased_lock: true,
        }
    }
}

/// What the seed's operations need. Others are asked for when they are used, and answered with
/// `EINVAL` by a kernel that does not have them.
const REQUIRED: [Opcode; 16] = [
    Opcode::NOP,
    Opcode::READ,
    Opcode::WRITE,
    Opcode::READV,
    Opcode::WRITEV,
    Opcode::POLL_ADD,
    Opcode::POLL_REMOVE,
    Opcode::OPENAT2,
    Opcode::CLOSE,
    Opcode::LINKAT,
    Opcode::UNLINKAT,
    Opcode::TIMEOUT,
    Opcode::TIMEOUT_REMOVE,
    Opcode::STATX,
    Opcode::ASYNC_CANCEL,
    Opcode::FSYNC,
];

impl Builder {
    /// The default of [`drain_timeout`](Self::drain_timeout).
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

    /// The default of [`stuck_after`](Self::stuck_after).
    pub const STUCK_AFTER: Duration = Duration::from_millis(10);

    /// The default of [`pool_threads_max`](Self::pool_threads_max).
    pub const POOL_THREADS_MAX: u32 = 512;

    /// The default of [`spin`](Self::spin).
    pub const SPIN: Duration = Duration::from_micros(10);

    /// How many SQEs one `io_uring_enter` can take: 1 to 32768, rounded up to a power of two.
    /// Default 256, a batch that hides the cost of the system call.
    ///
    /// It bounds neither what can be queued nor what can be in flight: ops wait in the ring's own
    /// queue, bounded by memory alone.
    pub const fn queue_depth(mut self, entries: u32) -> Self {
        self.queue_depth = entries;
        self
    }

    /// The size of the completion queue (`IORING_SETUP_CQSIZE`), at least the queue depth, rounded
    /// up to a power of two. Default twice the queue depth, as the kernel has it. Completions
    /// beyond it are not lost: the kernel keeps them in a list, which costs more.
    #[doc(alias = "IORING_SETUP_CQSIZE")]
    pub const fn completions(mut self, entries: u32) -> Self {
        self.completions = Some(entries);
        self
    }

    /// Whether sizes beyond the kernel's limit are cut to it (`IORING_SETUP_CLAMP`) rather than
    /// refused. Default true: the size bounds a batch and nothing else.
    #[doc(alias = "IORING_SETUP_CLAMP")]
    pub const fn clamp(mut self, clamp: bool) -> Self {
        self.clamp = clamp;
        self
    }

    /// Lets a kernel thread take what is submitted (`IORING_SETUP_SQPOLL`), asleep after this time
    /// without work, to the millisecond. Default off: it burns a core for as long as there is work
    /// and for the idle time after it, and pays only where cores are plenty.
    #[doc(alias = "IORING_SETUP_SQPOLL")]
    #[doc(alias = "polling_timeout")]
    pub const fn sqpoll_idle(mut self, idle: Duration) -> Self {
        self.sqpoll_idle = Some(idle);
        self
    }

    /// Completions wait for the submitting thread to enter the kernel by itself, instead of
    /// interrupting it (`IORING_SETUP_COOP_TASKRUN`, since 5.19). Default off: where one thread
    /// submits and then computes, and another waits, the waiter would wait for the computing. Turn
    /// it on where one thread does both, as under [`block_on`](crate::block_on).
    #[doc(alias = "IORING_SETUP_COOP_TASKRUN")]
    pub const fn coop_taskrun(mut self, coop: bool) -> Self {
        self.coop_taskrun = coop;
        self
    }

    /// Only the thread that builds the ring will submit to it (`IORING_SETUP_SINGLE_ISSUER`, since
    /// 6.0). Default off: a ring can be used from any thread. Another thread's
    /// [`submit`](Ring::submit) fails with `EEXIST`; queueing and reaping stay free. That thread
    /// has to go on submitting or waiting: what waits in the ring for others to end is sent by it
    /// alone.
    #[doc(alias = "IORING_SETUP_SINGLE_ISSUER")]
    pub const fn single_issuer(mut self, single: bool) -> Self {
        self.single_issuer = single;
        self
    }

    /// Completions are made only when the building thread waits (`IORING_SETUP_DEFER_TASKRUN`,
    /// since 6.1; implies [`single_issuer`](Self::single_issuer)). Default off: only that thread
    /// may submit, wait or register, and when it exits, the ring is dead. Drop the ring on it too:
    /// another thread cannot send the cancels, and leaks what is out. A loop that does not wait in
    /// the ring must watch an eventfd, not the ring's descriptor. The fastest mode for a thread
    /// that drives a ring of its own.
    #[doc(alias = "IORING_SETUP_DEFER_TASKRUN")]
    pub const fn defer_taskrun(mut self, defer: bool) -> Self {
        self.defer_taskrun = defer;
        self
    }

    /// Fails the build if the kernel lacks this operation. The operations of the seed are always
    /// required; those that came later (such as [`Opcode::FTRUNCATE`], 6.9) are not.
    pub fn require(mut self, opcode: Opcode) -> Self {
        self.required.push(opcode);
        self
    }

    /// How long the drop of the last [`Ring`] waits for the kernel to let go of ops that it has
    /// been asked to cancel. Default [5 s](Self::DRAIN_TIMEOUT): file reads finish in milliseconds,
    /// and a call that hangs longer (a dead file server) is not worth hanging with. What is still
    /// out then is leaked, never freed.
    pub const fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// How long an op may hold one of the kernel's worker threads before it counts as stuck, and a
    /// thread more is allowed in its place. Default 10 ms, at least 1 ms: longer than an op of a
    /// disk, shorter than anybody minds. What is stuck is not harmed; a file server that takes this
    /// long for each op is merely given more threads.
    pub const fn stuck_after(mut self, time: Duration) -> Self {
        self.stuck_after = if time.as_millis() < 1 { Duration::from_millis(1) } else { time };
        self
    }

    /// io_uring, or a pool of threads where it is refused; [`Ring::backend`] says which, and why.
    /// The default: it takes back [`io_uring_only`](Self::io_uring_only) and
    /// [`pool_only`](Self::pool_only). Of the three the last one said counts.
    pub const fn auto(mut self) -> Self {
        self.choice = Choice::Auto;
        self
    }

    /// io_uring or nothing: where it is refused, the build fails with an error that says why,
    /// instead of a pool as with [`auto`](Self::auto).
    pub const fn io_uring_only(mut self) -> Self {
        self.choice = Choice::IoUringOnly;
        self
    }

    /// The pool of threads, also where there is io_uring: to try what a program does without.
    pub const fn pool_only(mut self) -> Self {
        self.choice = Choice::PoolOnly;
        self
    }

    /// The most threads that a ring without io_uring has at once, at least 1. Default
    /// [512](Self::POOL_THREADS_MAX). They come when ops wait for one, and go after 10 s without
    /// work.
    pub const fn pool_threads_max(mut self, most: u32) -> Self {
        self.pool_threads_max = if most == 0 { 1 } else { most };
        self
    }

    /// Has the pool of threads do this operation, also where io_uring has it: for one that a kernel
    /// does badly. Control ops (nop, poll, timeout, cancel) stay where they are. What io_uring does not
    /// have goes to the pool by itself, if the pool has it; [`BackendInfo::on_pool`] says what that
    /// is.
    ///
    /// [`BackendInfo::on_pool`]: crate::BackendInfo::on_pool
    pub fn on_pool(mut self, opcode: Opcode) -> Self {
        self.on_pool.push(opcode);
        self
    }

    /// Whether a thread that queues an op may block for as long as a local disk takes. Then it makes
    /// the small calls itself for which the kernel would wake a worker: the handle is ready at once.
    /// Default false: only you know whether such a thread has others to serve, and can wait.
    ///
    /// - [`Write`](crate::op::Write) and [`Writev`](crate::op::Writev) of 64 KiB at most to a file on
    ///   a local disk or in memory, by what is mounted there, that was not opened with `O_DIRECT`,
    ///   `O_SYNC` or `O_DSYNC`. Not if there is a limit on the size of files (`RLIMIT_FSIZE`) when the
    ///   ring is built: beyond it a plain write is a signal.
    /// - [`Mkdirat`](crate::op::Mkdirat), [`Unlinkat`](crate::op::Unlinkat),
    ///   [`Symlinkat`](crate::op::Symlinkat) and [`Renameat`](crate::op::Renameat) of names without
    ///   a slash, in a directory on a local disk or in memory that is given as an [`Fd`](crate::Fd).
    ///   A path from [`CWD`](crate::CWD), or of several names, goes through the ring.
    ///
    /// What is to be run otherwise goes through the ring, too: with
    /// [`in_worker`](crate::op::Op::in_worker), [`may_block`](crate::op::Op::may_block), a timeout
    /// or a deadline, or [`on_pool`](Self::on_pool); all ops of a ring that has another kernel than
    /// io_uring; and one of 128 such ops, so that a loop of them lets others have their turn.
    ///
    /// Results are the same. What is not: such an op passes what is queued before it, and has
    /// happened when it is queued, so that a cancel, a deadline or a drop of its handle comes too
    /// late. It is made with the rights and the umask of the thread that queues it, under its seccomp
    /// filter.
    ///
    /// *What it may wait for*: the lock of the file or directory; reads of what is not cached; the
    /// journal; other blocks to be written out, when too many are dirty; and the removal of the last
    /// name of a large file, which may take 100 ms. A disk that does not answer, a file system
    /// that is frozen, and whoever watches by fanotify or holds the lock on purpose keep the thread
    /// for as long as they please. A file server does not, unless a name that is removed or
    /// replaced is where it is mounted in another mount namespace, or the buffer is a map of its file.
    ///
    /// ```
    /// use deferring::{Fd, Ring};
    ///
    /// let ring = Ring::builder().callers_may_block(true).build()?;
    /// let file = Fd::from(tempfile::tempfile()?);
    /// let write = ring.write(&file, "hello", 0);
    /// # ring.submit()?;
    /// # while !write.is_done() { ring.wait(None)?; ring.reap()?; }
    /// let written = write.try_take().expect("done already, if the file is on a local disk");
    /// assert_eq!(written.unwrap().0, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub const fn callers_may_block(mut self, may: bool) -> Self {
        self.callers_may_block = may;
        self
    }

    /// Whether a thread that alone uses the ring for long does so without atomic operations (a biased
    /// lock), until another thread comes. Default true. After some hundred ops of one thread the ring
    /// looks once whether `membarrier(2)` can be had, and uses it each time another thread comes: say
    /// false in a program that forbids itself that system call after the ring was built (seccomp).
    /// Where it is refused when it is looked for, the lock is an ordinary one.
    #[doc(alias = "membarrier")]
    pub const fn biased_lock(mut self, biased: bool) -> Self {
        self.biased_lock = biased;
        self
    }

    /// What the kernel, or the pool beside it, has to have.
    pub(crate) fn needed(&self) -> impl Iterator<Item = Opcode> + '_ {
        REQUIRED.iter().chain(&self.required).copied()
    }

    /// Whether a pool may do what io_uring does not have.
    pub(crate) fn may_use_pool(&self) -> bool {
        self.choice != Choice::IoUringOnly
    }

    /// Whether it asks for what only io_uring has.
    pub(crate) fn is_tied_to_io_uring(&self) -> bool {
        self.sqpoll_idle.is_some()
    }

    /// How long the thread of a ring that was [`start`](Self::start)ed looks for work before it
    /// falls asleep, and a [`block_on`](crate::block_on) on such a ring for what the thread does
    /// (three times as long if the thread has to be woken). Default [10 µs](Self::SPIN): about what
    /// it costs to be woken. They look for as long as that has paid lately, and not at all on a
    /// machine with one core. Zero: never.
    pub const fn spin(mut self, most: Duration) -> Self {
        self.spin = most;
        self
    }

    /// Makes the ring. It is turned by [`block_on`](crate::block_on), or by hand with
    /// [`submit`](Ring::submit), [`wait`](Ring::wait) and [`reap`](Ring::reap). For other
    /// executors, see [`start`](Self::start).
    ///
    /// # Errors
    /// An argument that makes no sense; a kernel that lacks io_uring or an operation, or refuses.
    /// The message says what to do; see [`RingError`](crate::RingError).
    #[doc(alias = "create")]
    #[doc(alias = "io_uring_setup")]
    pub fn build(self) -> io::Result<Ring> {
        self.check()?;
        Ring::open(self)
    }

    /// The ring on a kernel of your own, which `make` makes; turned by hand or by
    /// [`block_on`](crate::block_on). Of the builder's settings those apply that are not io_uring's
    /// own: [`queue_depth`](Self::queue_depth), the sizes, the times.
    ///
    /// # Errors
    /// As [`build`](Self::build), and those of `make`.
    #[cfg(not(all(test, any(loom, shuttle))))]
    pub fn build_on<B: Backend>(
        self,
        make: impl FnOnce(Wire) -> io::Result<B>,
    ) -> io::Result<Ring> {
        self.check()?;
        Ring::open_on(self, make)
    }

    /// Refuses what ties a ring to one thread.
    #[cfg(any(feature = "tokio", feature = "async-io"))]
    pub(crate) fn check_any_thread(&self) -> io::Result<()> {
        if self.single_issuer || self.defer_taskrun {
            return Err(error::argument(
                "single_issuer or defer_taskrun in a runtime's reactor",
                "Any thread of the runtime may turn the ring: leave them off, or use `start`",
            ));
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        if self.queue_depth == 0 {
            return Err(error::argument(
                "a queue depth of 0",
                "Ask for at least 1; it bounds a batch, not what can be queued",
            ));
        }
        if self.completions.is_some_and(|entries| entries < self.queue_depth) {
            return Err(error::argument(
                "a completion queue smaller than the queue depth",
                "Ask for at least the queue depth; the default is twice that",
            ));
        }
        if let Some(opcode) = self.on_pool.iter().find(|&&opcode| !backend::pool_has(opcode)) {
            return Err(error::argument(
                format!("on_pool({opcode:?})"),
                "The pool does what a blocking call does: reads, writes, opens, and so on",
            ));
        }
        if !self.on_pool.is_empty() && !self.may_use_pool() {
            return Err(error::argument(
                "on_pool together with io_uring_only",
                "Leave out the one or the other",
            ));
        }
        if self.sqpoll_idle.is_some() && self.choice == Choice::PoolOnly {
            return Err(error::argument(
                "sqpoll_idle together with pool_only",
                "Only io_uring has a kernel thread that submits: leave out the one or the other",
            ));
        }
        if self.sqpoll_idle.is_some() && (self.coop_taskrun || self.defer_taskrun) {
            return Err(error::argument(
                "sqpoll_idle together with coop_taskrun or defer_taskrun",
                "With SQPOLL a kernel thread submits and completes: leave the others off",
            ));
        }
        Ok(())
    }
}
