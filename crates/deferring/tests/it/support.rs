//! What the stories share: rings, temporary places, bounds.
//!
//! Nothing here waits without a bound. What a process has only one of (descriptors, limits, the
//! count of leaked ops) is looked at in a process of its own; what a thread has only one of (a
//! seccomp filter) in a thread of its own.

use std::any::Any;
use std::fs::File;
use std::future::{Future, IntoFuture, poll_fn};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use deferring::op::{Op, Opcode, Place, Read, Sqe};
use deferring::{
    BackendKind, BufResult, Builder, Fd, Handle, IoBuf, IoBufMut, Lease, Ring, StandIn, block_on,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags};

/// Longer than anything here takes, shorter than anybody's patience.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) fn ring() -> Ring {
    builder().queue_depth(8).build().expect("a ring")
}

// Which kernel serves.

/// To make rings with: on the pool, if `DEFERRING_TEST_BACKEND` is `pool`; else as it comes.
pub(crate) fn builder() -> Builder {
    let asked = std::env::var_os("DEFERRING_TEST_BACKEND");
    if asked.is_some_and(|asked| asked == "pool") {
        Ring::builder().pool_only()
    } else {
        Ring::builder()
    }
}

/// Whether rings are on the pool: asked for, or where io_uring is refused.
pub(crate) fn on_pool() -> bool {
    static ON_POOL: OnceLock<bool> = OnceLock::new();
    *ON_POOL.get_or_init(|| ring().backend().kind() == BackendKind::Pool)
}

/// Whether there is what a story is about that io_uring alone has; says so if not.
pub(crate) fn has_io_uring(about: &str) -> bool {
    if on_pool() {
        skipped(&format!("io_uring: {about}"));
    }
    !on_pool()
}

/// A builder of rings whose SQEs a thread of the kernel takes, where there are such rings.
pub(crate) fn sqpoll(idle: Duration) -> Option<Builder> {
    has_io_uring("a kernel thread that submits (SQPOLL)").then(|| builder().sqpoll_idle(idle))
}

/// Lets opens of a FIFO go, for as long as the result is kept, where a cancel does not interrupt
/// them: in threads of the pool.
#[must_use]
pub(crate) fn lets_go(fifo: &Path) -> Option<File> {
    on_pool().then(|| both_ways(fifo))
}

/// Opens a FIFO to read and to write, which waits for nobody.
pub(crate) fn both_ways(fifo: &Path) -> File {
    File::options().read(true).write(true).open(fifo).expect("a FIFO")
}

/// Checks the result of an open that was cancelled while it blocked a worker. One in a thread of
/// the pool goes on until it is [let go](lets_go).
#[track_caller]
pub(crate) fn check_interrupted(result: &io::Result<Fd>) {
    let interrupted = matches!(errno(result), Some(libc::ECANCELED | libc::EINTR));
    assert!(interrupted || on_pool() && result.is_ok(), "{result:?}");
}

/// Runs a future on a ring of its own; for stories about one op.
pub(crate) fn alone<F: IntoFuture>(story: impl FnOnce(Ring) -> F) -> F::Output {
    let ring = ring();
    run(&ring, story(ring.clone()))
}

/// `block_on`, within [`BOUND`].
pub(crate) fn run<F: IntoFuture>(ring: &Ring, story: F) -> F::Output {
    block_on(ring, in_time(story))
}

/// The future's output; a panic after [`BOUND`].
pub(crate) async fn in_time<F: IntoFuture>(future: F) -> F::Output {
    let mut future = pin!(future.into_future());
    let mut alarm = None;
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        // Ready because of the alarm is as bad as never.
        alarm.iter().for_each(Alarm::check);
        if polled.is_pending() {
            alarm.get_or_insert_with(Alarm::set).is_for(cx.waker());
        }
        polled
    })
    .await
}

/// Runs a story on a thread of its own, and gives it up after [`BOUND`].
pub(crate) fn bounded<T: Send + 'static>(story: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || tell.send(story()).expect("somebody listens"));
    match told.recv_timeout(BOUND) {
        Ok(value) => {
            thread.join().expect("it has told");
            value
        }
        Err(RecvTimeoutError::Disconnected) => {
            resume_unwind(thread.join().expect_err("it has not told"))
        }
        Err(RecvTimeoutError::Timeout) => panic!("not done in {BOUND:?}"),
    }
}

/// Awaits on this thread, turning no ring: another thread does.
pub(crate) fn park_on<F: IntoFuture>(future: F) -> F::Output {
    let mut future = pin!(future.into_future());
    let waker = Waker::from(Arc::new(Unparks(thread::current())));
    let end = Instant::now() + BOUND;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let left = end.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not done in {BOUND:?}");
        thread::park_timeout(left);
    }
}

/// Turns the ring by hand until `done` says so; panics after [`BOUND`].
pub(crate) fn turn_until(ring: &Ring, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !done() {
        assert!(Instant::now() < end, "not done in {BOUND:?}: {:?}", ring.pending());
        ring.submit().expect("submits");
        ring.wait(Some(Duration::from_millis(100))).expect("waits");
        ring.reap().expect("reaps");
    }
}

/// Turns the ring by hand until nothing is in flight.
pub(crate) fn drain(ring: &Ring) {
    turn_until(ring, || ring.in_flight() == 0 && ring.pending().cancels == 0);
}

/// Turns the ring by hand until the result is here, and takes it.
pub(crate) fn finish<T: Op>(ring: &Ring, handle: &Handle<T>) -> T::Output {
    turn_until(ring, || handle.is_done());
    handle.try_take().expect("done, and not taken")
}

/// Goes on asking until the answer is yes; for what the kernel tells in `/proc` only.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !done() {
        assert!(Instant::now() < end, "not in {BOUND:?}: {what}");
        thread::yield_now();
    }
}

/// Says that a story was not told; not captured, so that it is seen.
pub(crate) fn skipped(needs: &str) {
    let _ = writeln!(io::stderr(), "skipped: needs {needs}");
}

/// The errno of a result.
pub(crate) fn errno<T>(result: &io::Result<T>) -> Option<i32> {
    result.as_ref().err().and_then(io::Error::raw_os_error)
}

/// The descriptors that this process has open, to compare before and after.
pub(crate) fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc").count()
}

/// A pipe: the end to read from, for the ring, and the end to write to.
pub(crate) fn pipe() -> (Fd, File) {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    (reader.into(), writer.into())
}

/// A FIFO with this name.
pub(crate) fn fifo(path: PathBuf) -> PathBuf {
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).expect("a FIFO");
    path
}

/// Waits, outside the ring, until a descriptor is readable.
pub(crate) fn becomes_readable(fd: &impl AsFd, time: Duration) -> bool {
    let time = rustix::time::Timespec::try_from(time).expect("short");
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&time)).expect("polls") > 0
}

/// The kernel's name for the calling thread.
pub(crate) fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Returns when that thread of ours sleeps in a ring.
pub(crate) fn until_asleep_in_a_ring(thread: i32) {
    until("the other thread sleeps", || sleeps_in_a_ring(thread));
}

/// Returns when that thread of ours sleeps in a ring or is parked.
pub(crate) fn until_asleep(thread: i32) {
    until("the other thread sleeps", || {
        sleeps_in_a_ring(thread) || sleeps_in(libc::SYS_futex, thread)
    });
}

fn sleeps_in_a_ring(thread: i32) -> bool {
    // A ring without io_uring is waited for by poll(2).
    let call = if on_pool() { libc::SYS_ppoll } else { libc::SYS_io_uring_enter };
    sleeps_in(call, thread)
}

/// Returns when that thread of ours sleeps in a loop of its own.
pub(crate) fn until_polling(thread: i32) {
    until("the other thread sleeps", || sleeps_in(libc::SYS_ppoll, thread));
}

fn sleeps_in(call: libc::c_long, thread: i32) -> bool {
    let syscall = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall"));
    syscall.expect("a thread of ours").starts_with(&format!("{call} "))
}

/// Counts completions before anybody reaps them. Threads give them a little after what brought them
/// about.
pub(crate) struct Came(Option<OwnedFd>);

impl Came {
    /// Takes the place of the ring's eventfd.
    pub(crate) fn count(ring: &Ring) -> Self {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let eventfd = || rustix::event::eventfd(0, flags).expect("an eventfd");
        let eventfd = on_pool().then(eventfd);
        eventfd.iter().for_each(|eventfd| ring.register_eventfd(eventfd).expect("the only one"));
        Self(eventfd)
    }

    /// Returns when so many have come since.
    pub(crate) fn until(self, completions: u64) {
        let Some(eventfd) = self.0 else { return };
        let (mut came, mut more) = (0, [0; 8]);
        until("they come", || {
            let any = rustix::io::read(&eventfd, &mut more).is_ok();
            came += if any { u64::from_ne_bytes(more) } else { 0 };
            came >= completions
        });
    }
}

/// A waker that counts.
#[derive(Default)]
pub(crate) struct Count(AtomicUsize);

impl Count {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self::default());
        (Arc::clone(&count), count.into())
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls a future once.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(waker))
}

struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Wakes a task after [`BOUND`], unless it is dropped before.
struct Alarm {
    waker: Arc<Mutex<Option<Waker>>>,
    end: Instant,
    _dropped: mpsc::Sender<()>,
}

impl Alarm {
    fn set() -> Self {
        let waker = Arc::<Mutex<Option<Waker>>>::default();
        let (_dropped, alive) = mpsc::channel();
        let end = Instant::now() + BOUND;
        let kept = Arc::clone(&waker);
        thread::spawn(move || {
            if alive.recv_timeout(BOUND) == Err(RecvTimeoutError::Timeout) {
                kept.lock().unwrap().take().into_iter().for_each(Waker::wake);
            }
        });
        Self { waker, end, _dropped }
    }

    fn check(&self) {
        assert!(Instant::now() < self.end, "not done in {BOUND:?}");
    }

    fn is_for(&self, waker: &Waker) {
        *self.waker.lock().unwrap() = Some(waker.clone());
    }
}

impl Drop for Alarm {
    /// A waker keeps its ring's descriptors open, and the thread ends when it gets round to it.
    fn drop(&mut self) {
        self.waker.lock().unwrap().take();
    }
}

// What a buffer goes through.

/// A page, aligned as `O_DIRECT` wants it.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

pub(crate) const PAGE: usize = 4096;

/// What a freed buffer is filled with.
const DEAD: u8 = 0xDD;

/// A buffer of one page that tells when it is freed. Its memory is then kept in a [`Graveyard`], to
/// be looked at.
pub(crate) struct Told {
    memory: Vec<Page>,
    graveyard: Option<Graveyard>,
}

/// Where the memory of freed buffers is kept.
#[derive(Clone, Default)]
pub(crate) struct Graveyard(Arc<Mutex<Vec<Vec<Page>>>>);

impl Graveyard {
    pub(crate) fn buffer(&self) -> Told {
        Told { memory: vec![Page([0; PAGE]); 1], graveyard: Some(self.clone()) }
    }

    /// How many buffers were freed.
    pub(crate) fn freed(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Panics if anybody wrote into a buffer after it was freed.
    pub(crate) fn check_undisturbed(&self) {
        for (at, page) in self.0.lock().unwrap().iter().flatten().enumerate() {
            assert!(page.0.iter().all(|&byte| byte == DEAD), "freed buffer {at} was written to");
        }
    }
}

impl Told {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.first().map_or(&[], |page| &page.0)
    }

    /// Whether this took the place of a buffer that stays with the kernel.
    pub(crate) fn is_stand_in(&self) -> bool {
        self.graveyard.is_none()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(Graveyard(memory)) = self.graveyard.take() {
            self.memory.iter_mut().for_each(|page| page.0.fill(DEAD));
            memory.lock().unwrap().push(std::mem::take(&mut self.memory));
        }
    }
}

impl StandIn for Told {
    fn stand_in() -> Self {
        Self { memory: Vec::new(), graveyard: None }
    }
}

// SAFETY: the bytes are those of a `Vec`, initialised, owned alone, and stay in place.
unsafe impl IoBuf for Told {
    fn ptr(&self) -> *const u8 {
        self.memory.as_ptr().cast()
    }

    fn len(&self) -> usize {
        self.memory.len() * PAGE
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Told {
    fn ptr_mut(&mut self) -> *mut u8 {
        self.memory.as_mut_ptr().cast()
    }

    fn capacity(&self) -> usize {
        self.len()
    }

    unsafe fn set_filled(&mut self, n: usize) {
        assert!(n <= self.len());
    }
}

/// A nop that gives the result that it was asked for (`IORING_NOP_INJECT_RESULT`, since 6.10).
pub(crate) struct Answer(pub(crate) i32);

// SAFETY: names no memory.
unsafe impl Op for Answer {
    type Output = io::Result<u32>;
    const CODE: Opcode = Opcode::NOP;

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.op_flags = 1;
        sqe.len = u32::from_ne_bytes(self.0.to_ne_bytes());
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<u32> {
        result
    }
}

/// The open of a FIFO in a worker thread (`IOSQE_ASYNC`), where it waits for a peer.
pub(crate) struct OpenInWorker(std::ffi::CString);

impl OpenInWorker {
    pub(crate) fn new(path: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        Self(std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL"))
    }
}

/// `struct open_how` of an open for reading.
static HOW: [u64; 3] = [libc::O_CLOEXEC as u64, 0, 0];

// SAFETY: names the path, which is on the heap and owned, and a static.
unsafe impl Op for OpenInWorker {
    type Output = io::Result<Fd>;
    const CODE: Opcode = Opcode::OPENAT2;

    fn encode(&mut self, sqe: &mut Sqe) {
        sqe.flags = 1 << 4;
        sqe.fd = libc::AT_FDCWD;
        sqe.addr = self.0.as_ptr().expose_provenance() as u64;
        sqe.off = HOW.as_ptr().expose_provenance() as u64;
        sqe.len = 24;
    }

    fn decode(self, result: io::Result<u32>) -> io::Result<Fd> {
        let raw = i32::try_from(result?).expect("a descriptor is an int");
        // SAFETY: the kernel has just made it, for us.
        Ok(unsafe { Fd::from_raw(raw) })
    }
}

/// A read that its kernel does not let go of: of a pipe, while a test refuses the ring's system
/// calls. The pool's cannot be refused, so that there it is the open of a FIFO.
pub(crate) struct Hangs {
    read: Read<Told>,
    open: Option<OpenInWorker>,
}

impl Hangs {
    pub(crate) fn new(pipe: &Fd, fifo: &Path, buf: Told) -> Self {
        let open = on_pool().then(|| OpenInWorker::new(fifo));
        Self { read: Read::new(pipe, buf, 0), open }
    }

    /// Returns when so many of them hang.
    pub(crate) fn until_stuck(count: usize) {
        until("they hang", || !on_pool() || threads_stuck_in(libc::SYS_openat2) == count);
    }
}

/// How many threads of the pool sleep in this system call.
pub(crate) fn threads_stuck_in(call: libc::c_long) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("proc").map_while(Result::ok);
    let stuck = |task: &std::fs::DirEntry| {
        // It may have ended meanwhile.
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        read("comm") == "deferring-pool\n" && read("syscall").starts_with(&format!("{call} "))
    };
    tasks.filter(stuck).count()
}

// SAFETY: as one op inside or the other, which are moved with it.
unsafe impl Op for Hangs {
    type Output = BufResult<usize, Told>;
    const CODE: Opcode = Opcode::READ;

    fn place(&self) -> Place {
        self.open.as_ref().map_or_else(|| self.read.place(), Op::place)
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        if let Some(open) = &mut self.open {
            sqe.opcode = OpenInWorker::CODE;
            open.encode(sqe);
        } else {
            self.read.encode(sqe);
        }
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.read.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> BufResult<usize, Told> {
        self.read.decode(result)
    }
}

// Processes, and kernels that refuse.

/// The name of the test that this stands in, as `--exact` wants it.
macro_rules! this_test {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        name.strip_suffix("::here").and_then(|name| name.split_once("::")).expect("in a test").1
    }};
}
pub(crate) use this_test;

const CHILD: &str = "DEFERRING_TEST_CHILD";

/// Tells a story in a process of its own, where nothing else runs.
pub(crate) fn in_a_process_of_its_own(test: &str, story: impl FnOnce()) {
    in_a_process_for(BOUND, test, story);
}

/// The same, for a story that may take so long; and some time to start and end.
pub(crate) fn in_a_process_for(time: Duration, test: &str, story: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return story();
    }
    let mut command = Command::new(std::env::current_exe().expect("our path"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    let (status, output) = output_within(time + BOUND, &mut command);
    assert!(status.success() && output.contains("1 passed"), "{test}: {status}\n{output}");
    let begin = format!("test {test} ... ");
    let lines = output.lines().map(|line| line.strip_prefix(&begin).unwrap_or(line));
    for line in lines.filter(|line| line.starts_with("skipped: ") || line.starts_with("hazard ")) {
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Runs a command to its end, within twice [`BOUND`]. What it wrote, to both ends, comes back.
pub(crate) fn output_of(command: &mut Command) -> (ExitStatus, String) {
    output_within(2 * BOUND, command)
}

fn output_within(time: Duration, command: &mut Command) -> (ExitStatus, String) {
    let mut file = tempfile::tempfile().expect("a file");
    let out = || Stdio::from(file.try_clone().expect("a descriptor"));
    command.stdin(Stdio::null()).stdout(out()).stderr(out());
    let mut child = command.spawn().expect("starts");
    let ended = ends_in_time(Pid::from_child(&child), time);
    if !ended {
        child.kill().expect("our child");
    }
    let status = child.wait().expect("our child");
    let mut output = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut output)).expect("reads");
    let output = String::from_utf8_lossy(&output).into_owned();
    assert!(ended, "{command:?} had to be killed:\n{output}");
    (status, output)
}

fn ends_in_time(child: Pid, time: Duration) -> bool {
    let child = rustix::process::pidfd_open(child, PidfdFlags::empty()).expect("our child");
    becomes_readable(&child, time)
}

/// Tells a story in a fork of this process, which has to be a [process of our
/// own](in_a_process_of_its_own): all other threads are gone there. Returns how it ended.
pub(crate) fn in_a_fork(story: impl FnOnce()) -> rustix::process::WaitStatus {
    // SAFETY: the only other thread waits for this test to end, and holds no lock meanwhile.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(story));
        // SAFETY: ends the process, without anything of the parent's being run.
        unsafe { libc::_exit(i32::from(told.is_err())) };
    }
    let child = Pid::from_raw(child).expect("forks");
    if !ends_in_time(child, 2 * BOUND) {
        rustix::process::kill_process(child, rustix::process::Signal::KILL).expect("our child");
    }
    let waited = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
    waited.expect("our child").expect("it has ended").1
}

/// A program of `examples/`, if it was built: `cargo test` does, `cargo test --test it` does not.
pub(crate) fn example(name: &str) -> Option<PathBuf> {
    let ours = std::env::current_exe().expect("our path");
    let path = ours.parent()?.parent()?.join("examples").join(name);
    path.exists().then_some(path)
}

/// What a system call will meet in this thread from now on.
#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    /// It is not made, and fails with this errno.
    Fails(i32),
    /// Whoever makes it is killed, and all of its process.
    Kills,
    /// If its second argument is not 0, it is not made, and returns 0: an `io_uring_enter` that
    /// takes no SQE.
    TakesNothing,
}

/// Tells a story on a thread of its own that meets a seccomp filter.
pub(crate) fn refused<T: Send>(
    call: libc::c_long,
    refusal: Refusal,
    story: impl FnOnce() -> T + Send,
) -> T {
    let told: Result<T, Box<dyn Any + Send>> = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            filter(call, refusal);
            story()
        });
        thread.join()
    });
    told.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Installs a seccomp filter on the calling thread, by hand.
pub(crate) fn filter(call: libc::c_long, refusal: Refusal) {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let (answer, spare) = match refusal {
        Refusal::Fails(errno) => (libc::SECCOMP_RET_ERRNO | errno.unsigned_abs(), 0),
        Refusal::Kills => (libc::SECCOMP_RET_KILL_PROCESS, 0),
        Refusal::TakesNothing => (libc::SECCOMP_RET_ERRNO, 1),
    };
    // The low half of the second argument, in `struct seccomp_data`.
    let argument = if cfg!(target_endian = "big") { 28 } else { 24 };
    let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: u16::try_from(code).expect("a BPF code"),
        jt,
        jf,
        k,
    };
    let mut program = [
        op(LOAD, 0, 0, 0),
        op(EQUAL, u32::try_from(call).expect("a call"), 0, 3),
        op(LOAD, argument, 0, 0),
        op(EQUAL, 0, spare, 0),
        op(RETURN, answer, 0, 0),
        op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: 6, filter: program.as_mut_ptr() };
    // SAFETY: the program is in memory of ours, which the kernel reads during the call only; the
    // filter makes calls fail, as any kernel may.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0, "no_new_privs");
        let set = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
        assert_eq!(set, 0, "seccomp: {}", io::Error::last_os_error());
    }
}
