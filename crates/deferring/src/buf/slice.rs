//! A part of a buffer, lent in its place.

use std::ops::{Bound, Deref, RangeBounds};

use super::{IoBuf, IoBufMut, StandIn};

/// A part of a buffer. Made by [`IoBuf::slice`]; [`into_inner`](Slice::into_inner) gives the
/// whole buffer back.
///
/// ```
/// use deferring::IoBuf;
///
/// let part = b"hello".to_vec().slice(1..3);
/// assert_eq!(&part[..], b"el");
/// assert_eq!(part.into_inner(), b"hello");
/// ```
#[derive(Debug)]
pub struct Slice<B> {
    buf: B,
    start: usize,
    end: usize,
}

const PAST_ALL: &str = "a slice ends before the end of all memory";

impl<B: IoBuf> Slice<B> {
    pub(super) fn new(buf: B, range: impl RangeBounds<usize>) -> Self {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.checked_add(1).expect(PAST_ALL),
            Bound::Unbounded => 0,
        };
        let last = buf.slice_end();
        let end = match range.end_bound() {
            Bound::Included(&included) => included.checked_add(1).expect(PAST_ALL),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => last,
        };
        assert!(start <= end, "a slice from {start} cannot end at {end}");
        assert!(end <= last, "a slice to {end} of a buffer of {last} bytes");
        let len = buf.len();
        assert!(
            start <= len,
            "a slice from {start} would leave a hole behind the {len} first bytes"
        );
        Self { buf, start, end }
    }
}

impl<B> Slice<B> {
    /// The whole buffer.
    pub fn into_inner(self) -> B {
        self.buf
    }

    /// The whole buffer, to look at.
    pub const fn get_ref(&self) -> &B {
        &self.buf
    }
}

impl<B: IoBuf> Deref for Slice<B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `IoBuf` promises `len` initialised bytes from `ptr`.
        unsafe { std::slice::from_raw_parts(self.ptr(), IoBuf::len(self)) }
    }
}

impl<B: StandIn> StandIn for Slice<B> {
    fn stand_in() -> Self {
        Self { buf: B::stand_in(), start: 0, end: 0 }
    }
}

// SAFETY: a part of what the inner buffer promises: `start` is within its initialised bytes.
unsafe impl<B: IoBuf> IoBuf for Slice<B> {
    fn ptr(&self) -> *const u8 {
        // SAFETY: `start` is at most the inner length.
        unsafe { self.buf.ptr().add(self.start) }
    }

    fn len(&self) -> usize {
        self.buf.len().min(self.end) - self.start
    }

    fn slice_end(&self) -> usize {
        self.end - self.start
    }
}

// SAFETY: a part of what the inner buffer promises: `end` is within its capacity.
unsafe impl<B: IoBufMut> IoBufMut for Slice<B> {
    fn ptr_mut(&mut self) -> *mut u8 {
        // SAFETY: `start` is at most the inner length.
        unsafe { self.buf.ptr_mut().add(self.start) }
    }

    fn capacity(&self) -> usize {
        self.end - self.start
    }

    unsafe fn set_filled(&mut self, n: usize) {
        // SAFETY: the bytes before `start` are initialised, the `n` behind it says the caller.
        unsafe { self.buf.set_filled(self.start + n) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_of_a_slice_counts_from_the_inner_start() {
        let part = b"abcdef".to_vec().slice(1..5).slice(1..=2);
        assert_eq!(&part[..], b"cd");
        assert_eq!(part.into_inner().into_inner(), b"abcdef");
    }

    #[test]
    fn a_slice_may_reach_into_the_spare_capacity() {
        let mut buf = Vec::with_capacity(16);
        buf.extend_from_slice(b"ab");
        let mut part = buf.slice(2..10);
        assert_eq!((IoBuf::len(&part), IoBufMut::capacity(&part)), (0, 8));
        // SAFETY: two bytes within the capacity, written before they are counted.
        unsafe {
            part.ptr_mut().copy_from_nonoverlapping(b"cd".as_ptr(), 2);
            part.set_filled(2);
        }
        assert_eq!(part.into_inner(), b"abcd");
    }

    #[test]
    #[should_panic(expected = "would leave a hole behind the 2 first bytes")]
    fn a_slice_cannot_start_in_the_spare_capacity() {
        let mut buf = Vec::with_capacity(16);
        buf.extend_from_slice(b"ab");
        drop(buf.slice(3..));
    }
}
