//! Groups of buffers, lent to one op.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;

use super::{BufResult, IoBuf, IoBufMut, StandIn, address};

/// Buffers that the kernel can read from in one op: `Vec`s and arrays of buffers.
///
/// # Safety
/// What `each` is given is as [`IoBuf`] says, for each buffer; the same whenever it is asked.
pub unsafe trait IoVectored: StandIn + Send + Sized + 'static {
    /// Names each buffer in order: where it is and how many bytes.
    fn each(&self, name: &mut dyn FnMut(*const u8, usize));
}

/// Buffers that the kernel can write into in one op: `Vec`s and arrays of buffers.
///
/// # Safety
/// What `each_mut` is given is as [`IoBufMut`] says, for each buffer.
pub unsafe trait IoVectoredMut: IoVectored {
    /// Names each buffer in order: where it is and its capacity.
    fn each_mut(&mut self, name: &mut dyn FnMut(*mut u8, usize));

    /// The first `n` bytes, counted over all buffers in order, have been written.
    ///
    /// # Safety
    /// They are initialised, and `n` is at most the sum of the capacities.
    unsafe fn set_filled(&mut self, n: usize);
}

macro_rules! vectored {
    ($([$($generics:tt)*] $type:ty => $stand_in:expr;)*) => {
        $(impl<B: StandIn, $($generics)*> StandIn for $type {
            fn stand_in() -> Self {
                $stand_in
            }
        }

        // SAFETY: each buffer keeps its own promise.
        unsafe impl<B: IoBuf, $($generics)*> IoVectored for $type {
            fn each(&self, name: &mut dyn FnMut(*const u8, usize)) {
                for buf in self {
                    name(buf.ptr(), buf.len());
                }
            }
        }

        // SAFETY: each buffer keeps its own promise.
        unsafe impl<B: IoBufMut, $($generics)*> IoVectoredMut for $type {
            fn each_mut(&mut self, name: &mut dyn FnMut(*mut u8, usize)) {
                for buf in self {
                    name(buf.ptr_mut(), buf.capacity());
                }
            }

            unsafe fn set_filled(&mut self, mut n: usize) {
                for buf in self {
                    let here = n.min(buf.capacity());
                    // SAFETY: the caller's bytes fill the buffers in order, so the first `here`
                    // of this one are written.
                    unsafe { buf.set_filled(here) };
                    n -= here;
                }
            }
        })*
    };
}

vectored! {
    [] Vec<B> => Self::new();
    [const N: usize] [B; N] => std::array::from_fn(|_| B::stand_in());
}

/// `struct iovec`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct IoVec {
    base: *mut u8,
    len: usize,
}

const _: () = assert!(size_of::<IoVec>() == size_of::<IoSlice<'_>>(), "std says so");

/// Buffers whose addresses the kernel has, or soon will. As [`Lent`](super::Lent), with the
/// array of `iovec`s that the SQE points to.
pub(crate) struct LentVectored<V> {
    bufs: MaybeUninit<V>,
    iovecs: Vec<IoVec>,
}

// SAFETY: the pointers are to memory of the buffers, which are `Send`; they are only handed on.
unsafe impl<V: Send> Send for LentVectored<V> {}

impl<V: IoVectored> LentVectored<V> {
    pub(crate) fn to_read(bufs: V) -> Self {
        let bufs = MaybeUninit::new(bufs);
        let mut iovecs = Vec::new();
        // SAFETY: initialised two lines above.
        unsafe { bufs.assume_init_ref() }
            .each(&mut |base, len| iovecs.push(IoVec { base: base.cast_mut(), len }));
        Self { bufs, iovecs }
    }

    pub(crate) fn into_inner(self) -> V {
        let mut this = std::mem::ManuallyDrop::new(self);
        drop(std::mem::take(&mut this.iovecs));
        // SAFETY: initialised since it was made; `self` is not dropped, so it is read out once.
        unsafe { this.bufs.assume_init_read() }
    }
}

impl<V: IoVectoredMut> LentVectored<V> {
    pub(crate) fn to_fill(bufs: V) -> Self {
        let mut bufs = MaybeUninit::new(bufs);
        let mut iovecs = Vec::new();
        // SAFETY: initialised two lines above.
        unsafe { bufs.assume_init_mut() }
            .each_mut(&mut |base, len| iovecs.push(IoVec { base, len }));
        Self { bufs, iovecs }
    }

    /// # Safety
    /// An `Ok(n)` comes from a kernel that wrote the first `n` bytes over all buffers.
    pub(crate) unsafe fn filled(self, result: io::Result<u32>) -> BufResult<usize, V> {
        let lent: usize = self.iovecs.iter().map(|each| each.len).sum();
        let mut bufs = self.into_inner();
        let result = result.map(|n| n as usize).inspect(|&n| {
            assert!(n <= lent, "the kernel wrote {n} bytes into buffers of {lent}");
            // SAFETY: the caller says that they are written; checked to be in bounds just now.
            unsafe { bufs.set_filled(n) };
        });
        BufResult(result, bufs)
    }
}

impl<V: IoVectored> LentVectored<V> {
    /// The buffers that are to be read, as system calls take them.
    ///
    /// # Safety
    /// It was made by [`to_read`](Self::to_read), and so names what is initialised.
    pub(crate) unsafe fn slices(&self) -> &[IoSlice<'_>] {
        // SAFETY: an `IoSlice` is a `struct iovec`, as std says. The bytes are initialised, as the
        // caller says; in place and changed by nobody for as long as the buffers are here, as
        // `IoVectored` says.
        unsafe { std::slice::from_raw_parts(self.iovecs.as_ptr().cast(), self.iovecs.len()) }
    }
}

impl<V> LentVectored<V> {
    /// The address of the `iovec`s.
    pub(crate) fn address(&self) -> u64 {
        address(self.iovecs.as_ptr())
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> usize {
        self.iovecs.iter().map(|each| each.len).sum()
    }

    pub(crate) fn count(&self) -> usize {
        self.iovecs.len()
    }

    /// The count for an SQE; the op has refused what does not fit.
    pub(crate) fn sqe_count(&self) -> u32 {
        u32::try_from(self.iovecs.len()).unwrap_or(u32::MAX)
    }
}

impl<V> Drop for LentVectored<V> {
    fn drop(&mut self) {
        // SAFETY: initialised since it was made, and `into_inner` does not come here.
        unsafe { self.bufs.assume_init_drop() }
    }
}

impl<V> std::fmt::Debug for LentVectored<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.iovecs).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_fill_the_buffers_in_order() {
        let lent = LentVectored::to_fill([vec![b'x'; 2], Vec::with_capacity(4), vec![]]);
        assert_eq!(lent.count(), 3);
        // SAFETY: the fourth and fifth bytes written are the first two of the second buffer.
        let bufs = unsafe {
            lent.iovecs[1].base.copy_from_nonoverlapping(b"ab".as_ptr(), 2);
            lent.filled(Ok(4))
        };
        assert_eq!(bufs.unwrap().1, [b"xx".to_vec(), b"ab".to_vec(), vec![]]);
    }
}
