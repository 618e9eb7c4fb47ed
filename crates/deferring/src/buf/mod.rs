//! Memory that can be lent to the kernel, and how it comes back.
//!
//! [`IoBuf`] and [`IoBufMut`] say where the bytes are; [`Lent`] keeps them while the kernel has
//! their address; [`BufResult`] hands them back. Parts of buffers are in `slice.rs`, groups of
//! buffers in `vectored.rs`. Not: buffers registered with the kernel.
#![allow(unsafe_code)] // Buffers are lent as bare addresses.

mod slice;
mod vectored;

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::ops::RangeBounds;
use std::sync::Arc;

pub use slice::Slice;
pub(crate) use vectored::LentVectored;
pub use vectored::{IoVectored, IoVectoredMut};

/// Something that can take a buffer's place when the buffer will not come back.
///
/// Needed in one case only: the ring was dropped while the kernel held the buffer and did not let
/// go in time. The buffer is then leaked, and the [`BufResult`] holds a stand-in.
pub trait StandIn {
    /// An empty buffer, made without failing.
    fn stand_in() -> Self;
}

/// A buffer that the kernel can read from.
///
/// # Safety
///
/// [`ptr`](IoBuf::ptr) points to [`len`](IoBuf::len) initialised bytes that stay valid, and in
/// place, and are changed by nobody, until the value is dropped or used through a `&mut` to it,
/// wherever the value itself is moved. The length stays the same as long; so does
/// [`slice_end`](IoBuf::slice_end), which is the length, or the capacity of an [`IoBufMut`].
pub unsafe trait IoBuf: StandIn + Send + Sized + 'static {
    /// Where the bytes are.
    fn ptr(&self) -> *const u8;

    /// How many bytes are initialised.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of the buffer, to lend in its place. `slice(..n)`, `slice(n..)` and so on; the
    /// upper end may lie in the uninitialised part of a buffer that is to be read into.
    ///
    /// # Panics
    /// If the range starts behind the initialised bytes or ends behind the capacity.
    fn slice(self, range: impl RangeBounds<usize>) -> Slice<Self> {
        Slice::new(self, range)
    }

    /// The end of what [`slice`](IoBuf::slice) may name: the capacity, if there is one.
    fn slice_end(&self) -> usize {
        self.len()
    }
}

/// A buffer that the kernel can write into.
///
/// # Safety
///
/// As [`IoBuf`], and: [`ptr_mut`](IoBufMut::ptr_mut) points to [`capacity`](IoBufMut::capacity)
/// writable bytes, of which the first [`len`](IoBuf::len) are initialised, and that nobody else
/// reads or writes.
pub unsafe trait IoBufMut: IoBuf {
    /// Where the bytes are.
    fn ptr_mut(&mut self) -> *mut u8;

    /// How many bytes may be written.
    fn capacity(&self) -> usize;

    /// The first `n` bytes have been written: the length becomes at least `n`.
    ///
    /// # Safety
    /// The first `n` bytes are initialised, and `n` is at most the capacity.
    unsafe fn set_filled(&mut self, n: usize);
}

/// The result of an op that borrowed a buffer: the buffer comes back in every case.
///
/// ```
/// use deferring::BufResult;
///
/// fn use_it(result: BufResult<usize, Vec<u8>>) -> std::io::Result<Vec<u8>> {
///     let (n, mut buf) = result.into_inner()?; // the error, or both
///     buf.truncate(n);
///     Ok(buf)
/// }
/// assert_eq!(use_it(BufResult(Ok(2), b"abc".to_vec())).unwrap(), b"ab");
/// ```
#[must_use = "holds the result, which may be an error, and the buffer"]
#[derive(Debug)]
pub struct BufResult<T, B>(
    /// What the op gave.
    pub io::Result<T>,
    /// The buffer that it borrowed.
    pub B,
);

impl<T, B> BufResult<T, B> {
    /// Both, or the error; the buffer is dropped with an error. For use with `?`.
    ///
    /// # Errors
    /// The op's.
    pub fn into_inner(self) -> io::Result<(T, B)> {
        let Self(result, buf) = self;
        Ok((result?, buf))
    }

    /// The two halves.
    pub fn into_parts(self) -> (io::Result<T>, B) {
        (self.0, self.1)
    }

    /// Changes the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> BufResult<U, B> {
        BufResult(self.0.map(f), self.1)
    }

    /// Changes the buffer.
    pub fn map_buf<C>(self, f: impl FnOnce(B) -> C) -> BufResult<T, C> {
        BufResult(self.0, f(self.1))
    }

    /// Whether the op succeeded.
    pub const fn is_ok(&self) -> bool {
        self.0.is_ok()
    }

    /// Whether the op failed.
    pub const fn is_err(&self) -> bool {
        self.0.is_err()
    }

    /// The value and the buffer.
    ///
    /// # Panics
    /// If the op failed, with its error.
    pub fn unwrap(self) -> (T, B)
    where
        T: fmt::Debug,
    {
        (self.0.unwrap(), self.1)
    }
}

impl<T, B> From<(io::Result<T>, B)> for BufResult<T, B> {
    fn from((result, buf): (io::Result<T>, B)) -> Self {
        Self(result, buf)
    }
}

/// The address of something that the kernel will read or write.
pub(crate) fn address<T: ?Sized>(pointer: *const T) -> u64 {
    pointer.cast::<u8>().expose_provenance() as u64
}

/// A buffer whose address the kernel has, or soon will.
///
/// The address is taken once, here, so that no code of the buffer's runs while the ring is locked.
/// The buffer is kept as `MaybeUninit`: moving a `Box` tells the compiler that nobody else has its
/// address, moving a `MaybeUninit` does not. For ops of your own; see [`Op`](crate::op::Op).
pub struct Lent<B> {
    buf: MaybeUninit<B>,
    ptr: *mut u8,
    len: usize,
}

// SAFETY: the pointer is to memory of the buffer's, which is `Send`; it is only handed on.
unsafe impl<B: Send> Send for Lent<B> {}

impl<B: IoBuf> Lent<B> {
    /// Lends the initialised bytes, to be read by the kernel.
    pub fn to_read(buf: B) -> Self {
        let buf = MaybeUninit::new(buf);
        // SAFETY: initialised in the line above.
        let this = unsafe { buf.assume_init_ref() };
        let (ptr, len) = (this.ptr().cast_mut(), this.len());
        Self { buf, ptr, len }
    }

    /// Takes the buffer back. The kernel must be done with it, which it is in `decode`.
    pub fn into_inner(self) -> B {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: initialised since `to_read` or `to_fill`; `self` is not dropped, so it is read
        // out once.
        unsafe { this.buf.assume_init_read() }
    }
}

impl<B: IoBufMut> Lent<B> {
    /// Lends the whole capacity, to be written by the kernel.
    pub fn to_fill(buf: B) -> Self {
        let mut buf = MaybeUninit::new(buf);
        // SAFETY: initialised in the line above.
        let this = unsafe { buf.assume_init_mut() };
        let (ptr, len) = (this.ptr_mut(), this.capacity());
        Self { buf, ptr, len }
    }

    /// Takes the buffer back after a read, its length grown to what was read.
    ///
    /// # Safety
    /// An `Ok(n)` comes from a kernel that wrote the first `n` bytes.
    pub unsafe fn filled(self, result: io::Result<u32>) -> BufResult<usize, B> {
        let lent = self.len;
        let mut buf = self.into_inner();
        let result = result.map(|n| n as usize).inspect(|&n| {
            assert!(n <= lent, "the kernel wrote {n} bytes into a buffer of {lent}");
            // SAFETY: the caller says that the first `n` bytes are written; checked to be in
            // bounds just now.
            unsafe { buf.set_filled(n) };
        });
        BufResult(result, buf)
    }
}

impl<B: IoBuf> Lent<B> {
    /// The bytes that are to be read.
    ///
    /// # Safety
    /// It was made by [`to_read`](Self::to_read), and so names what is initialised.
    pub(crate) unsafe fn bytes(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: initialised, as the caller says; in place and changed by nobody for as long as
        // the buffer is here, as `IoBuf` says.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl<B> Lent<B> {
    /// The address for an SQE.
    #[must_use]
    pub fn address(&self) -> u64 {
        address(self.ptr)
    }

    /// How many bytes are lent.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes are lent.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<B> Drop for Lent<B> {
    fn drop(&mut self) {
        // SAFETY: initialised since it was made, and `into_inner` does not come here.
        unsafe { self.buf.assume_init_drop() }
    }
}

impl<B> fmt::Debug for Lent<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {:p}", self.len, self.ptr)
    }
}

macro_rules! stand_in {
    ($($(#[$attr:meta])* [$($generics:tt)*] $type:ty => $value:expr;)*) => {
        $($(#[$attr])* impl<$($generics)*> StandIn for $type {
            fn stand_in() -> Self {
                $value
            }
        })*
    };
}

stand_in! {
    [] Vec<u8> => Self::new();
    [] Box<[u8]> => Self::default();
    [const N: usize] Box<[u8; N]> => Self::new([0; N]);
    [] Arc<[u8]> => Self::from([]);
    [] &'static [u8] => &[];
    [const N: usize] &'static [u8; N] => &[0; N];
    [] &'static str => "";
    [] String => Self::new();
    #[cfg(feature = "bytes")]
    [] bytes::Bytes => Self::new();
    #[cfg(feature = "bytes")]
    [] bytes::BytesMut => Self::new();
}

macro_rules! io_buf {
    ($($(#[$attr:meta])* [$($generics:tt)*] $type:ty;)*) => {
        $($(#[$attr])*
        // SAFETY: the bytes are on the heap or static, stay where they are when the value is
        // moved, and are initialised up to `len`; shared ones are immutable.
        unsafe impl<$($generics)*> IoBuf for $type {
            fn ptr(&self) -> *const u8 {
                self.as_ptr()
            }

            fn len(&self) -> usize {
                let bytes: &[u8] = self.as_ref();
                bytes.len()
            }
        })*
    };
}

io_buf! {
    [] Box<[u8]>;
    [const N: usize] Box<[u8; N]>;
    [] Arc<[u8]>;
    [] &'static [u8];
    [const N: usize] &'static [u8; N];
    [] &'static str;
    [] String;
    #[cfg(feature = "bytes")]
    [] bytes::Bytes;
}

macro_rules! growing {
    ($($(#[$attr:meta])* $type:ty;)*) => {
        $($(#[$attr])*
        // SAFETY: as for the others; the initialised bytes come first.
        unsafe impl IoBuf for $type {
            fn ptr(&self) -> *const u8 {
                self.as_ptr()
            }

            fn len(&self) -> usize {
                self.len()
            }

            fn slice_end(&self) -> usize {
                self.capacity()
            }
        }

        $(#[$attr])*
        // SAFETY: `capacity` bytes from the pointer are allocated, and owned alone.
        unsafe impl IoBufMut for $type {
            fn ptr_mut(&mut self) -> *mut u8 {
                self.as_mut_ptr()
            }

            fn capacity(&self) -> usize {
                self.capacity()
            }

            unsafe fn set_filled(&mut self, n: usize) {
                if n > self.len() {
                    // SAFETY: the caller says that they are initialised and in bounds.
                    unsafe { self.set_len(n) }
                }
            }
        })*
    };
}

growing! {
    Vec<u8>;
    #[cfg(feature = "bytes")]
    bytes::BytesMut;
}

macro_rules! fixed {
    ($($(#[$attr:meta])* [$($generics:tt)*] $type:ty;)*) => {
        $(// SAFETY: all bytes are initialised and owned alone.
        unsafe impl<$($generics)*> IoBufMut for $type {
            fn ptr_mut(&mut self) -> *mut u8 {
                self.as_mut_ptr()
            }

            fn capacity(&self) -> usize {
                IoBuf::len(self)
            }

            unsafe fn set_filled(&mut self, n: usize) {
                debug_assert!(n <= IoBuf::len(self));
            }
        })*
    };
}

fixed! {
    [] Box<[u8]>;
    [const N: usize] Box<[u8; N]>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_makes_a_buffer_longer_and_never_shorter() {
        let fill = |buf: Vec<u8>, bytes: &[u8]| {
            let lent = Lent::to_fill(buf);
            // SAFETY: within the capacity, as `bytes` are few; nobody else has the buffer.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), lent.ptr, bytes.len()) };
            let n = u32::try_from(bytes.len()).unwrap();
            // SAFETY: written in the line above.
            unsafe { lent.filled(Ok(n)) }.unwrap().1
        };
        assert_eq!(fill(Vec::with_capacity(8), b"abc"), b"abc");
        assert_eq!(fill(vec![b'x'; 5], b"abc"), b"abcxx");
    }

    #[test]
    fn an_error_leaves_the_buffer_as_it_was() {
        let error = io::Error::from(rustix::io::Errno::IO);
        // SAFETY: not an `Ok`.
        let BufResult(result, buf) = unsafe { Lent::to_fill(vec![1, 2]).filled(Err(error)) };
        assert_eq!((result.is_err(), buf), (true, vec![1, 2]));
    }

    #[test]
    #[should_panic(expected = "the kernel wrote 9 bytes into a buffer of 8")]
    fn a_result_past_the_end_is_a_bug_that_stops() {
        // SAFETY: panics before it believes it.
        drop(unsafe { Lent::to_fill(Box::new([0; 8])).filled(Ok(9)) });
    }

    #[test]
    fn every_buffer_has_a_stand_in_and_a_place() {
        fn look<B: IoBuf>(buf: B) -> usize {
            drop(B::stand_in());
            Lent::to_read(buf).len()
        }
        assert_eq!(look(vec![1; 3]), 3);
        assert_eq!(look(vec![1; 3].into_boxed_slice()), 3);
        assert_eq!(look(Box::new([1; 3])), 3);
        assert_eq!(look(Arc::<[u8]>::from([1; 3])), 3);
        assert_eq!(look::<&'static [u8]>(&[1; 3]), 3);
        assert_eq!(look(b"abc"), 3);
        assert_eq!(look("abc"), 3);
        assert_eq!(look(String::from("abc")), 3);
        #[cfg(feature = "bytes")]
        {
            assert_eq!(look(bytes::Bytes::from_static(b"abc")), 3);
            assert_eq!(look(bytes::BytesMut::from(&b"abc"[..])), 3);
        }
    }
}
