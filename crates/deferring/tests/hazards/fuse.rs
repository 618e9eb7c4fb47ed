//! A file system whose reads hang until its server is told to answer: FUSE, over `/dev/fuse`.
//!
//! A file named `hung…` (with a number, as `hung7`) holds its reads, one named `fine` answers, and
//! one named `stale` holds whoever asks what it is. All are a page of `x`. Nothing can be written,
//! made or listed.
//!
//! The server is a fork of this process that has no descriptor but its own three. A thread would
//! not do: a process with a hung read cannot exit before the server answers, nor can its server
//! go away with it then. The fork allocates nothing, as other threads may have held locks.
#![allow(unsafe_code)] // It mounts, forks, and speaks with the kernel in bytes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deferring::Fd;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::support::{BOUND, PAGE};

/// Whether the kernel may wait for reads apart (`FUSE_ASYNC_READ`), or whoever asks waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    Async,
    Sync,
}

/// A mounted file system and its server. Both end with it, and what hangs is let go with an error.
pub(crate) struct Fuse {
    server: Pid,
    control: Control,
    // After the rest: it is the mount point.
    place: tempfile::TempDir,
}

/// How the server is told, and asked. A clone is the same.
#[derive(Clone)]
pub(crate) struct Control {
    orders: Arc<OwnedFd>,
    /// A byte for each question that is held, or was.
    held: Arc<OwnedFd>,
}

impl Fuse {
    /// Mounts one. The error says what the machine or the user lacks.
    pub(crate) fn mount(reads: Reads) -> Result<Self, String> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let device = rustix::fs::open("/dev/fuse", flags, Mode::empty())
            .map_err(|errno| format!("/dev/fuse: {errno}"))?;
        let place = tempfile::tempdir().expect("a place");
        let path = CString::new(place.path().as_os_str().as_bytes()).expect("no NUL");
        mount(&device, &path).map_err(|error| format!("to be root, to mount: {error}"))?;
        let (orders_given, orders) = pipe();
        let (held, held_told) = pipe();
        let server = Server {
            device: device.as_raw_fd(),
            orders: orders_given.as_raw_fd(),
            held: held_told.as_raw_fd(),
            reads,
            answers: false,
            waiting: [None; WAITING_MAX],
        };
        let server = serve_in_a_fork(server, &path);
        let control = Control { orders: Arc::new(orders), held: Arc::new(held) };
        Ok(Self { server, control, place })
    }

    pub(crate) fn control(&self) -> Control {
        self.control.clone()
    }

    /// Opens a file of it.
    pub(crate) fn open(&self, name: &str) -> Fd {
        std::fs::File::open(self.path(name)).expect("the server answers opens").into()
    }

    /// `hung0`, `hung1`, and so on.
    pub(crate) fn open_hung(&self, count: usize) -> Vec<Fd> {
        (0..count).map(|number| self.open(&format!("hung{number}"))).collect()
    }

    /// Its root, as a place for paths to start from.
    pub(crate) fn root(&self) -> Fd {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::open(self.place.path(), flags, Mode::empty()).expect("is mounted").into()
    }

    /// Where it is mounted.
    pub(crate) fn place(&self) -> &Path {
        self.place.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }
}

impl Control {
    /// Has the server answer what it holds, and what comes from now on.
    pub(crate) fn answer(&self) {
        rustix::io::write(&*self.orders, b"a").expect("the server is there");
    }

    /// How many reads, or others, have hung so far.
    pub(crate) fn held(&self) -> usize {
        usize::try_from(rustix::io::ioctl_fionread(&*self.held).expect("a pipe")).expect("few")
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // The kernel aborts the connection when nobody has the device any more.
        let _ = kill_process(self.server, Signal::KILL);
        let _ = waitpid(Some(self.server), WaitOptions::empty());
        let path = self.place.path().as_os_str().as_bytes();
        unmount(&CString::new(path).expect("no NUL"));
    }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("a pipe")
}

fn mount(device: &OwnedFd, path: &CString) -> io::Result<()> {
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let options = CString::new(options).expect("no NUL");
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: all strings end in a NUL and outlive the call; the mount point is a place of ours.
    let mounted = unsafe {
        let (source, kind) = (c"deferring-test".as_ptr(), c"fuse".as_ptr());
        libc::mount(source, path.as_ptr(), kind, flags, options.as_ptr().cast())
    };
    if mounted == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn unmount(path: &CString) {
    // SAFETY: the string ends in a NUL; what is mounted there is ours.
    unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
}

// In the fork. No allocation, no lock, no panic that gets out.

/// The server ends by itself after this time, whatever happened to us: longer than the longest
/// bound of `support.rs`, and what hung until then is let go.
const LIFE_SECONDS: u64 = 3 * BOUND.as_secs();

/// Reads that can be held at a time. More are answered with `EBUSY`.
const WAITING_MAX: usize = 256;

fn serve_in_a_fork(server: Server, path: &CString) -> Pid {
    // SAFETY: the child calls nothing but system calls, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let served = catch_unwind(AssertUnwindSafe(|| {
            server.close_all_others();
            server.serve();
        }));
        unmount(path);
        // SAFETY: ends the process, without anything of the parent's being run.
        unsafe { libc::_exit(i32::from(served.is_err())) };
    }
    Pid::from_raw(child).expect("forks")
}

struct Server {
    device: RawFd,
    orders: RawFd,
    held: RawFd,
    reads: Reads,
    answers: bool,
    waiting: [Option<Held>; WAITING_MAX],
}

/// Who waits, by name, and for what.
#[derive(Clone, Copy)]
struct Held {
    unique: u64,
    wants: Wants,
}

#[derive(Clone, Copy)]
enum Wants {
    Data(usize),
    Attributes(u64),
}

/// What the kernel asks; `struct fuse_in_header` and what follows it.
struct Request<'a> {
    opcode: u32,
    unique: u64,
    node: u64,
    body: &'a [u8],
}

const ROOT: u64 = 1;
const FINE: u64 = 2;
const STALE: u64 = 3;
/// And all above.
const HUNG: u64 = 100;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

impl Server {
    fn close_all_others(&self) {
        let mut kept = [self.device, self.orders, self.held];
        kept.sort_unstable();
        let mut from = 0;
        for kept in kept.map(i32::unsigned_abs) {
            close_up_to(from, kept);
            from = kept + 1;
        }
        close_up_to(from, u32::MAX);
    }

    fn serve(mut self) {
        let mut request = [0_u8; 4 * PAGE];
        let end = now() + LIFE_SECONDS;
        while now() < end {
            let [device, orders] = self.poll();
            if orders && !self.obey() {
                return;
            }
            if device {
                match Request::read(self.device, &mut request) {
                    Ok(Some(request)) => self.answer(&request),
                    Ok(None) => {}
                    // Unmounted.
                    Err(()) => return,
                }
            }
        }
    }

    /// Which of the two has something to say; neither after a second.
    fn poll(&self) -> [bool; 2] {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [poll(self.device), poll(self.orders)];
        // SAFETY: two descriptors, in memory of ours.
        unsafe { libc::poll(fds.as_mut_ptr(), 2, 1000) };
        fds.map(|fd| fd.revents != 0)
    }

    /// False if there is nobody to give orders.
    fn obey(&mut self) -> bool {
        let mut order = [0_u8];
        // SAFETY: one byte, of ours.
        let n = unsafe { libc::read(self.orders, order.as_mut_ptr().cast(), 1) };
        self.answers = true;
        let waiting = std::mem::replace(&mut self.waiting, [None; WAITING_MAX]);
        waiting.into_iter().flatten().for_each(|held| self.give(held));
        n == 1
    }

    fn answer(&mut self, request: &Request<'_>) {
        let unique = request.unique;
        match request.opcode {
            INIT => self.init(unique),
            LOOKUP => self.lookup(request),
            GETATTR => {
                let wants = Wants::Attributes(request.node);
                self.give_or_hold(Held { unique, wants }, request.node == STALE);
            }
            OPEN => Reply::ok(unique).u64(0).u32(0).u32(0).send(self.device),
            READ => {
                let size = request.body.get(16..20).map_or(0, |bytes| u32_of(bytes) as usize);
                let wants = Wants::Data(size);
                self.give_or_hold(Held { unique, wants }, request.node >= HUNG);
            }
            STATFS => Reply::ok(unique).zeros(80).send(self.device),
            RELEASE | FLUSH => Reply::ok(unique).send(self.device),
            // Not answered. One who is interrupted goes on waiting.
            FORGET | BATCH_FORGET | INTERRUPT => {}
            _ => Reply::error(unique, libc::ENOSYS).send(self.device),
        }
    }

    fn init(&self, unique: u64) {
        const ASYNC_READ: u32 = 1;
        let flags = if self.reads == Reads::Async { ASYNC_READ } else { 0 };
        // Version 7.31, no readahead, many requests in the background, writes of a page.
        let reply = Reply::ok(unique).u32(7).u32(31).u32(0).u32(flags);
        reply.u16(1024).u16(1024).u32(4096).u32(1).zeros(36).send(self.device);
    }

    fn lookup(&self, request: &Request<'_>) {
        let name = request.body.split(|&byte| byte == 0).next().unwrap_or_default();
        let node = match name.strip_prefix(b"hung") {
            Some(digits) => HUNG + number(digits),
            None if name == b"fine" => FINE,
            None if name == b"stale" => STALE,
            None => return Reply::error(request.unique, libc::ENOENT).send(self.device),
        };
        // Names and attributes are good for an hour, or attributes no longer than this.
        let good = if node == STALE { 0 } else { 3600 };
        let reply = Reply::ok(request.unique).u64(node).u64(0).u64(3600).u64(good).u64(0);
        reply.attributes(node).send(self.device);
    }

    fn give_or_hold(&mut self, held: Held, hold: bool) {
        if self.answers || !hold {
            return self.give(held);
        }
        match self.waiting.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(held),
            None => return Reply::error(held.unique, libc::EBUSY).send(self.device),
        }
        // SAFETY: one byte, of ours.
        unsafe { libc::write(self.held, c"h".as_ptr().cast(), 1) };
    }

    /// Each file is as long as the longest read gets.
    fn give(&self, Held { unique, wants }: Held) {
        let reply = Reply::ok(unique);
        let reply = match wants {
            Wants::Data(size) => reply.put(&[b'x'; PAGE][..size.min(PAGE)]),
            Wants::Attributes(node) => reply.u64(0).u64(0).attributes(node),
        };
        reply.send(self.device);
    }
}

impl<'a> Request<'a> {
    /// None if there was none after all.
    fn read(device: RawFd, buf: &'a mut [u8]) -> Result<Option<Self>, ()> {
        const HEADER: usize = 40;
        // SAFETY: the buffer is ours, and as long as it says.
        let n = unsafe { libc::read(device, buf.as_mut_ptr().cast(), buf.len()) };
        let Ok(n) = usize::try_from(n) else {
            let gone = io::Error::last_os_error().raw_os_error() == Some(libc::ENODEV);
            return if gone { Err(()) } else { Ok(None) };
        };
        let Some((header, body)) = buf[..n].split_at_checked(HEADER) else {
            return Ok(None);
        };
        let (opcode, unique) = (u32_of(&header[4..8]), u64_of(&header[8..16]));
        Ok(Some(Self { opcode, unique, node: u64_of(&header[16..24]), body }))
    }
}

/// An answer: `struct fuse_out_header` and what follows it.
struct Reply {
    bytes: [u8; 2 * PAGE],
    len: usize,
}

impl Reply {
    fn ok(unique: u64) -> Self {
        Self::error(unique, 0)
    }

    fn error(unique: u64, errno: i32) -> Self {
        // The length is written last.
        let reply = Self { bytes: [0; 2 * PAGE], len: 0 };
        reply.u32(0).put(&(-errno).to_ne_bytes()).u64(unique)
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
        self
    }

    fn u16(self, value: u16) -> Self {
        self.put(&value.to_ne_bytes())
    }

    fn u32(self, value: u32) -> Self {
        self.put(&value.to_ne_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.put(&value.to_ne_bytes())
    }

    fn zeros(mut self, count: usize) -> Self {
        self.len += count;
        self
    }

    /// `struct fuse_attr`.
    fn attributes(self, node: u64) -> Self {
        let (mode, size) = match node {
            ROOT => (libc::S_IFDIR | 0o755, 0),
            _ => (libc::S_IFREG | 0o444, PAGE as u64),
        };
        let reply = self.u64(node).u64(size).u64(size.div_ceil(512)).zeros(36);
        // Mode, names; owner, group and device 0; the unit to read in, and flags.
        reply.u32(mode).u32(1).zeros(12).u32(4096).u32(0)
    }

    fn send(mut self, device: RawFd) {
        let len = u32::try_from(self.len).unwrap_or_default();
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        // It fails if nobody waits for the answer any more.
        // SAFETY: the bytes are ours, and as many as it says.
        unsafe { libc::write(device, self.bytes.as_ptr().cast(), self.len) };
    }
}

fn u32_of(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_ne_bytes)
}

fn u64_of(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_ne_bytes)
}

/// What decimal digits say.
fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, &digit| 10 * number + u64::from(digit.wrapping_sub(b'0')))
}

/// Closes descriptors from one on, up to another that stays.
fn close_up_to(first: u32, kept: u32) {
    if first < kept {
        // SAFETY: nobody uses them in this process.
        unsafe { libc::syscall(libc::SYS_close_range, first, kept - 1, 0) };
    }
}

/// Seconds, since some time.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is ours to be written.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or_default()
}
