//! One SQE as a blocking system call, answered as io_uring answers.
//!
//! Not: ops that wait for a descriptor or a time (`poller.rs`), cancels (`mod.rs`).
#![allow(unsafe_code)] // SQEs carry addresses. `op::Op` keeps them good until the last CQE.

use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr::with_exposed_provenance;

use rustix::fs::{
    Advice, AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Statx,
    StatxFlags,
};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::{RecvFlags, SendFlags};

use crate::CURRENT;
use crate::op::{Opcode, Sqe};

/// The ops that are done by a call here.
pub(in crate::backend) const CALLS: [Opcode; 18] = [
    Opcode::READ,
    Opcode::WRITE,
    Opcode::READV,
    Opcode::WRITEV,
    Opcode::SEND,
    Opcode::RECV,
    Opcode::FSYNC,
    Opcode::FALLOCATE,
    Opcode::CLOSE,
    Opcode::STATX,
    Opcode::FADVISE,
    Opcode::OPENAT2,
    Opcode::RENAMEAT,
    Opcode::UNLINKAT,
    Opcode::MKDIRAT,
    Opcode::SYMLINKAT,
    Opcode::LINKAT,
    Opcode::FTRUNCATE,
];

/// Makes the call. With `nowait`, a transfer that would have to wait gives `EAGAIN`, where the file
/// can tell.
pub(super) fn exec(sqe: &Sqe, nowait: bool) -> i32 {
    let tried = if nowait { at_once(sqe) } else { None };
    tried.unwrap_or_else(|| answer(call(sqe, false)))
}

/// Makes the call of a transfer that does not wait. `None` where the file cannot tell.
pub(super) fn at_once(sqe: &Sqe) -> Option<i32> {
    let result = call(sqe, true);
    (result != Err(Errno::OPNOTSUPP)).then(|| answer(result))
}

fn answer(result: Result<usize, Errno>) -> i32 {
    match result {
        Ok(value) => i32::try_from(value).unwrap_or(i32::MAX),
        Err(errno) => -errno.raw_os_error(),
    }
}

fn call(sqe: &Sqe, nowait: bool) -> Result<usize, Errno> {
    match sqe.opcode {
        Opcode::READ | Opcode::READV => read(sqe, nowait),
        Opcode::WRITE | Opcode::WRITEV => write(sqe, nowait),
        Opcode::SEND => send(sqe, nowait),
        Opcode::RECV => recv(sqe, nowait),
        Opcode::FSYNC => fsync(sqe),
        Opcode::FALLOCATE => {
            let mode = FallocateFlags::from_bits_retain(sqe.len);
            done(rustix::fs::fallocate(fd(sqe.fd)?, mode, sqe.off, sqe.addr))
        }
        // The call looks at the length first.
        Opcode::FTRUNCATE if is_name(sqe.fd) => Err(Errno::BADF),
        Opcode::FTRUNCATE => done(rustix::fs::ftruncate(fd(sqe.fd)?, sqe.off)),
        Opcode::FADVISE => fadvise(sqe),
        Opcode::CLOSE => close(sqe.fd),
        Opcode::STATX => statx(sqe),
        Opcode::OPENAT2 => openat2(sqe),
        Opcode::RENAMEAT => {
            let flags = RenameFlags::from_bits_retain(sqe.op_flags);
            let (from, to) = (path(sqe.addr)?, path(sqe.off)?);
            done(rustix::fs::renameat_with(directory(sqe.fd)?, from, second(sqe)?, to, flags))
        }
        Opcode::UNLINKAT => {
            let flags = AtFlags::from_bits_retain(sqe.op_flags);
            if !AtFlags::REMOVEDIR.contains(flags) {
                return Err(Errno::INVAL);
            }
            done(rustix::fs::unlinkat(directory(sqe.fd)?, path(sqe.addr)?, flags))
        }
        Opcode::MKDIRAT => {
            let mode = Mode::from_bits_retain(sqe.len);
            done(rustix::fs::mkdirat(directory(sqe.fd)?, path(sqe.addr)?, mode))
        }
        Opcode::SYMLINKAT => {
            let (target, link) = (path(sqe.addr)?, path(sqe.off)?);
            done(rustix::fs::symlinkat(target, directory(sqe.fd)?, link))
        }
        Opcode::LINKAT => {
            let flags = AtFlags::from_bits_retain(sqe.op_flags);
            let (from, to) = (path_or_none(sqe.addr, flags)?, path(sqe.off)?);
            done(rustix::fs::linkat(directory(sqe.fd)?, from, second(sqe)?, to, flags))
        }
        _ => Err(Errno::INVAL),
    }
}

fn done(result: Result<(), Errno>) -> Result<usize, Errno> {
    result.map(|()| 0)
}

// What SQEs name.

pub(super) fn fd<'a>(raw: RawFd) -> Result<BorrowedFd<'a>, Errno> {
    if raw < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the op's lease keeps it open until the last CQE.
    Ok(unsafe { BorrowedFd::borrow_raw(raw) })
}

/// The directory that a path starts from.
fn directory<'a>(raw: RawFd) -> Result<BorrowedFd<'a>, Errno> {
    if raw == libc::AT_FDCWD { Ok(rustix::fs::CWD) } else { fd(raw) }
}

/// The directory of the second path, in `len`.
#[allow(clippy::cast_possible_wrap)] // The same 32 bits.
fn second<'a>(sqe: &Sqe) -> Result<BorrowedFd<'a>, Errno> {
    directory(sqe.len as RawFd)
}

fn at<T>(address: u64) -> Result<*const T, Errno> {
    let address = usize::try_from(address).map_err(|_| Errno::FAULT)?;
    if address == 0 { Err(Errno::FAULT) } else { Ok(with_exposed_provenance(address)) }
}

/// io_uring takes paths in before it looks at anything else of an op.
fn path<'a>(address: u64) -> Result<&'a CStr, Errno> {
    path_or_none(address, AtFlags::empty())
}

/// The same of a path that may be empty, if the flags say so.
fn path_or_none<'a>(address: u64, flags: AtFlags) -> Result<&'a CStr, Errno> {
    const PATH_MAX: usize = 4096;
    // SAFETY: a path of the op's, which ends with a NUL and stays until the last CQE.
    let path = unsafe { CStr::from_ptr(at(address)?) };
    match path.to_bytes().len() {
        0 if !flags.contains(AtFlags::EMPTY_PATH) => Err(Errno::NOENT),
        PATH_MAX.. => Err(Errno::NAMETOOLONG),
        _ => Ok(path),
    }
}

/// The buffers of a transfer: the op's array of them, or the one that the SQE itself names, which
/// is put into `one`.
fn buffers(sqe: &Sqe, one: &mut libc::iovec) -> Result<(*mut libc::iovec, usize), Errno> {
    let len = sqe.len as usize;
    if matches!(sqe.opcode, Opcode::READV | Opcode::WRITEV) {
        return if len == 0 {
            Ok((one, 0))
        } else {
            Ok((at::<libc::iovec>(sqe.addr)?.cast_mut(), len))
        };
    }
    let base = if len == 0 { std::ptr::null() } else { at::<libc::c_void>(sqe.addr)? };
    *one = libc::iovec { iov_base: base.cast_mut(), iov_len: len };
    Ok((one, 1))
}

const NOWHERE: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

// Calls.

fn flags(sqe: &Sqe, nowait: bool) -> ReadWriteFlags {
    let asked = ReadWriteFlags::from_bits_retain(sqe.op_flags);
    if nowait { asked | ReadWriteFlags::NOWAIT } else { asked }
}

fn read(sqe: &Sqe, nowait: bool) -> Result<usize, Errno> {
    let (fd, mut one) = (fd(sqe.fd)?, NOWHERE);
    let (first, count) = buffers(sqe, &mut one)?;
    // SAFETY: `IoSliceMut` has the layout of an iovec; each is memory of the op's to be filled.
    // Nobody reads it, nor touches the array, before the last CQE.
    let parts = unsafe { std::slice::from_raw_parts_mut(first.cast::<IoSliceMut<'_>>(), count) };
    transfer(sqe, nowait, |at, flags| rustix::io::preadv2(fd, parts, at, flags))
}

fn write(sqe: &Sqe, nowait: bool) -> Result<usize, Errno> {
    let (fd, mut one) = (fd(sqe.fd)?, NOWHERE);
    let (first, count) = buffers(sqe, &mut one)?;
    if is_empty_message(sqe) {
        let flags = if nowait { SendFlags::DONTWAIT } else { SendFlags::empty() };
        return rustix::net::send(fd, &[], flags | SendFlags::NOSIGNAL);
    }
    // SAFETY: `IoSlice` has the layout of an iovec; each is memory of the op's, filled.
    let parts = unsafe { std::slice::from_raw_parts(first.cast::<IoSlice<'_>>(), count) };
    transfer(sqe, nowait, |at, flags| rustix::io::pwritev2(fd, parts, at, flags))
}

/// io_uring ignores the offset of what has none, but for sockets, which take zero.
fn transfer(
    sqe: &Sqe,
    nowait: bool,
    mut call: impl FnMut(u64, ReadWriteFlags) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let flags = flags(sqe, nowait);
    match call(sqe.off, flags) {
        // The calls look at the offset first.
        Err(Errno::INVAL) if is_negative(sqe) && is_wrong_way(sqe) => Err(Errno::BADF),
        Err(Errno::SPIPE) if sqe.off == 0 || !is_socket(sqe.fd) => call(CURRENT, flags),
        result => result,
    }
}

fn send(sqe: &Sqe, nowait: bool) -> Result<usize, Errno> {
    let asked = SendFlags::from_bits_retain(sqe.op_flags) | SendFlags::NOSIGNAL;
    let flags = if nowait { asked | SendFlags::DONTWAIT } else { asked };
    let fd = fd(sqe.fd)?;
    if sqe.len == 0 {
        return rustix::net::send(fd, &[], flags);
    }
    let buf = at::<u8>(sqe.addr)?;
    // SAFETY: memory of the op's, of that length and filled, to which nobody writes before the last CQE.
    let buf = unsafe { std::slice::from_raw_parts(buf, sqe.len as usize) };
    rustix::net::send(fd, buf, flags)
}

fn recv(sqe: &Sqe, nowait: bool) -> Result<usize, Errno> {
    let asked = RecvFlags::from_bits_retain(sqe.op_flags);
    let flags = if nowait { asked | RecvFlags::DONTWAIT } else { asked };
    let fd = fd(sqe.fd)?;
    let mut nothing: [MaybeUninit<u8>; 0] = [];
    if sqe.len == 0 {
        return rustix::net::recv(fd, &mut nothing, flags).map(|(_, n)| n);
    }
    let buf = at::<MaybeUninit<u8>>(sqe.addr)?.cast_mut();
    // SAFETY: memory of the op's, of that length, to be filled, which nobody else uses before the last
    // CQE.
    let buf = unsafe { std::slice::from_raw_parts_mut(buf, sqe.len as usize) };
    rustix::net::recv(fd, buf, flags).map(|(_, n)| n)
}

fn is_message(sqe: &Sqe) -> bool {
    matches!(sqe.opcode, Opcode::SEND | Opcode::RECV)
}

/// Whether a `send` or `recv` waits for nobody: it was asked not to, or its descriptor is no socket, or
/// one that gives connections and no bytes.
fn is_message_over_at_once(sqe: &Sqe) -> bool {
    // The bit is the same for both.
    let dontwait = sqe.op_flags & SendFlags::DONTWAIT.bits() != 0;
    let listens = || fd(sqe.fd).and_then(rustix::net::sockopt::socket_acceptconn);
    dontwait || !is_socket(sqe.fd) || listens() == Ok(true)
}

/// Whether a transfer waits for nobody, whatever is behind the descriptor: one of nothing, or one
/// that is refused.
pub(super) fn is_over_at_once(sqe: &Sqe) -> bool {
    if is_message(sqe) {
        return is_message_over_at_once(sqe);
    }
    let is_of_nothing = len(sqe) == 0 && !is_empty_message(sqe);
    let is_bad = sqe.off != 0 && sqe.off != CURRENT && (is_negative(sqe) || is_socket(sqe.fd));
    is_of_nothing || is_bad || is_wrong_way(sqe)
}

fn len(sqe: &Sqe) -> usize {
    let mut one = NOWHERE;
    let Ok((first, count)) = buffers(sqe, &mut one) else { return 0 };
    // SAFETY: an array of the op's, of that many, or `one`.
    let parts = unsafe { std::slice::from_raw_parts(first, count) };
    parts.iter().map(|part| part.iov_len).sum()
}

/// What `pwritev2` does not trouble a socket with, and io_uring does.
fn is_empty_message(sqe: &Sqe) -> bool {
    let writes = matches!(sqe.opcode, Opcode::WRITE | Opcode::WRITEV);
    writes && len(sqe) == 0 && (sqe.off == 0 || sqe.off == CURRENT) && is_socket(sqe.fd)
}

/// Whether a read may be at its end without being ready for it: `poll(2)` does not tell the end of a
/// FIFO that was opened before its first writer.
pub(super) fn may_end_untold(sqe: &Sqe) -> bool {
    let reads = matches!(sqe.opcode, Opcode::READ | Opcode::READV);
    let flags = fd(sqe.fd).and_then(rustix::fs::fcntl_getfl);
    reads
        && flags.is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
        && is_of_type(sqe.fd, FileType::Fifo)
}

/// Whether a descriptor is open, but not for this.
fn is_wrong_way(sqe: &Sqe) -> bool {
    let wrong = match sqe.opcode {
        Opcode::READ | Opcode::READV => OFlags::WRONLY,
        _ => OFlags::RDONLY,
    };
    let flags = fd(sqe.fd).and_then(rustix::fs::fcntl_getfl);
    flags.is_ok_and(|flags| flags & OFlags::RWMODE == wrong || flags.contains(OFlags::PATH))
}

/// Whether a descriptor was opened by `O_PATH`.
fn is_name(raw: RawFd) -> bool {
    let flags = fd(raw).and_then(rustix::fs::fcntl_getfl);
    flags.is_ok_and(|flags| flags.contains(OFlags::PATH))
}

/// Offsets are signed in the kernel.
fn is_negative(sqe: &Sqe) -> bool {
    sqe.off != CURRENT && i64::try_from(sqe.off).is_err()
}

fn is_socket(raw: RawFd) -> bool {
    is_of_type(raw, FileType::Socket)
}

fn is_of_type(raw: RawFd, kind: FileType) -> bool {
    file_type(raw) == Ok(kind)
}

/// What a descriptor is. A file server is not asked, as it may not answer: whoever submits asks.
pub(super) fn file_type(raw: RawFd) -> Result<FileType, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let mode = match rustix::fs::statx(fd(raw)?, "", flags, StatxFlags::TYPE) {
        Ok(stat) => stat.stx_mode.into(),
        // It is hidden by a filter.
        Err(_) => rustix::fs::fstat(fd(raw)?)?.st_mode,
    };
    Ok(FileType::from_raw_mode(mode))
}

fn fsync(sqe: &Sqe) -> Result<usize, Errno> {
    const DATASYNC: u32 = 1;
    match sqe.op_flags {
        0 => done(rustix::fs::fsync(fd(sqe.fd)?)),
        DATASYNC => done(rustix::fs::fdatasync(fd(sqe.fd)?)),
        _ => Err(Errno::INVAL),
    }
}

fn fadvise(sqe: &Sqe) -> Result<usize, Errno> {
    const ADVICES: [Advice; 6] = [
        Advice::Normal,
        Advice::Random,
        Advice::Sequential,
        Advice::WillNeed,
        Advice::DontNeed,
        Advice::NoReuse,
    ];
    let advice = ADVICES.into_iter().find(|&advice| advice as u32 == sqe.op_flags);
    let len = if sqe.len == 0 { sqe.addr } else { sqe.len.into() };
    let advice = advice.ok_or(Errno::INVAL)?;
    done(rustix::fs::fadvise(fd(sqe.fd)?, sqe.off, std::num::NonZeroU64::new(len), advice))
}

fn close(raw: RawFd) -> Result<usize, Errno> {
    if raw < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the op owns the number: `close` waits until nobody uses it.
    let closed = unsafe { libc::close(raw) };
    if closed == 0 { Ok(0) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn statx(sqe: &Sqe) -> Result<usize, Errno> {
    let flags = AtFlags::from_bits_retain(sqe.op_flags);
    let mask = StatxFlags::from_bits_retain(sqe.len);
    let answer = at::<Statx>(sqe.off)?.cast_mut();
    let path = path_or_none(sqe.addr, flags)?;
    let statx = rustix::fs::statx(directory(sqe.fd)?, path, flags, mask)?;
    // SAFETY: the op's room for the answer, which has this layout.
    unsafe { answer.write(statx) };
    Ok(0)
}

/// `struct open_how`, of which the op says how much it knows.
#[repr(C)]
struct How {
    flags: u64,
    mode: u64,
    resolve: u64,
}

fn openat2(sqe: &Sqe) -> Result<usize, Errno> {
    if sqe.len as usize != size_of::<How>() {
        return Err(Errno::INVAL);
    }
    // SAFETY: the op's, of that length.
    let how = unsafe { at::<How>(sqe.off)?.read() };
    let path = path(sqe.addr)?;
    // The call refuses what it does not know; what does not fit into its types it cannot know.
    let flags = u32::try_from(how.flags).map_err(|_| Errno::INVAL)?;
    let mode = u32::try_from(how.mode).map_err(|_| Errno::INVAL)?;
    let flags = OFlags::from_bits_retain(flags);
    let resolve = ResolveFlags::from_bits_retain(how.resolve);
    let from = directory(sqe.fd)?;
    let mode = Mode::from_bits_retain(mode);
    let opened = rustix::fs::openat2(from, path, flags, mode, resolve)?;
    Ok(usize::try_from(std::os::fd::IntoRawFd::into_raw_fd(opened)).unwrap_or(usize::MAX))
}
