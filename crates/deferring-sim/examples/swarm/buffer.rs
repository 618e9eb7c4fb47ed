//! A buffer that sees whether it is freed too early.
#![allow(unsafe_code)] // `unsafe impl IoBuf`.

use std::sync::Arc;

use deferring::{IoBuf, IoBufMut, StandIn};

use crate::oracle::Oracle;

/// What is in a byte that nobody has written.
pub(crate) const BLANK: u8 = 0xee;

/// Bytes, all of them initialised, and who watches over them.
pub(crate) struct Watched {
    bytes: Box<[u8]>,
    oracle: Option<Arc<Oracle>>,
}

impl Watched {
    pub(crate) fn new(oracle: &Arc<Oracle>, bytes: Vec<u8>) -> Self {
        oracle.buffer_made();
        Self { bytes: bytes.into_boxed_slice(), oracle: Some(Arc::clone(oracle)) }
    }

    pub(crate) fn blank(oracle: &Arc<Oracle>, len: usize) -> Self {
        Self::new(oracle, vec![BLANK; len])
    }

    /// What was read; the rest must be as it was.
    pub(crate) fn read(&self, n: usize) -> &[u8] {
        if let Some(oracle) = &self.oracle {
            oracle.buffer_is_ours(&self.bytes);
        }
        let (read, rest) = self.bytes.split_at(n);
        assert!(rest.iter().all(|&byte| byte == BLANK), "bytes beyond a read have changed");
        read
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(oracle) = &self.oracle {
            oracle.buffer_freed();
            oracle.buffer_is_ours(&self.bytes);
        }
    }
}

impl StandIn for Watched {
    fn stand_in() -> Self {
        Self { bytes: Box::default(), oracle: None }
    }
}

// SAFETY: a boxed slice is where it is, and as long as it is, until it is dropped.
unsafe impl IoBuf for Watched {
    fn ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: as above; all of it is initialised from the start.
unsafe impl IoBufMut for Watched {
    fn ptr_mut(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }

    unsafe fn set_filled(&mut self, _: usize) {}
}
