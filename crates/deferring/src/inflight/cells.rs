//! Where the bytes of ops live: cells that never move.
//!
//! An op that fits is stored in its cell; a larger one in a box, and the cell holds the box. The
//! kernel is given addresses into cells (a timespec, an `open_how`), so a cell's address is final,
//! and Rust never forms a reference to a whole cell. Of some ops nothing is kept (`Op::BLANK`): they
//! need no cell. Not: which cells are in use (`table.rs`).
#![allow(unsafe_code)] // Ops are stored without their type.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};

use crate::fd::{Fd, Lease};
use crate::op::{Op, Opcode, Sqe};

/// The bytes of one cell. Every op of ours but `Statx` and `Renameat` fits.
pub(crate) const CELL_BYTES: usize = 128;
const PAGE_CELLS: usize = 64;

#[repr(C, align(16))]
struct Cell(MaybeUninit<[u8; CELL_BYTES]>);

const PAGE: Layout = Layout::new::<[Cell; PAGE_CELLS]>();

/// What the ring does with an op whose type it has forgotten. If nothing is kept of it
/// ([`Op::BLANK`]), none of these looks at its cell.
pub(crate) struct Vtable {
    pub(crate) opcode: Opcode,
    /// Whether the op may be sent again.
    pub(crate) again: bool,
    /// Whether it is there to end others.
    pub(crate) ends_others: bool,
    /// Whether the op uses a descriptor.
    /// # Safety
    /// As for `encode`, but the kernel may hold the op: only its leases are looked at.
    pub(crate) uses: unsafe fn(NonNull<u8>, &Fd) -> bool,
    /// # Safety
    /// The cell holds a live op of this type.
    pub(crate) encode: unsafe fn(NonNull<u8>, &mut Sqe),
    /// Moves out the leases that the op no longer needs.
    /// # Safety
    /// As for `bury`, but the cell stays full.
    pub(crate) let_go: unsafe fn(NonNull<u8>, &mut Vec<Lease>),
    /// Decodes and drops the output; the cell is empty afterwards.
    /// # Safety
    /// As for `encode`, and the kernel has let go of the op.
    bury: unsafe fn(NonNull<u8>, io::Result<u32>),
}

/// An op on its way into a cell. Until it is there it can be looked at, and had back; to move it once
/// costs less than to move it from hand to hand.
pub(crate) struct Moving<T> {
    op: ManuallyDrop<T>,
    moved: bool,
}

impl<T> Moving<T> {
    #[inline(always)]
    pub(crate) const fn new(op: T) -> Self {
        Self { op: ManuallyDrop::new(op), moved: false }
    }

    /// The op, which stays where it is.
    #[inline(always)]
    pub(crate) fn op(&mut self) -> &mut T {
        assert!(!self.moved, "it is in its cell");
        &mut self.op
    }

    /// The op, which goes nowhere.
    #[inline(always)]
    pub(crate) fn back(mut self) -> T {
        self.take()
    }

    #[inline(always)]
    fn take(&mut self) -> T {
        assert!(!self.moved, "it is in its cell");
        self.moved = true;
        // SAFETY: it has not been moved, and will not be dropped.
        unsafe { ManuallyDrop::take(&mut self.op) }
    }
}

impl<T> Drop for Moving<T> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.moved {
            // SAFETY: it has not been moved, and nobody sees it after this.
            unsafe { ManuallyDrop::drop(&mut self.op) }
        }
    }
}

struct VtableOf<T>(std::marker::PhantomData<T>);

const fn fits<T>() -> bool {
    size_of::<T>() <= CELL_BYTES && align_of::<T>() <= align_of::<Cell>()
}

impl<T: Op> VtableOf<T> {
    const VTABLE: Vtable = Vtable {
        opcode: T::CODE,
        again: T::AGAIN,
        ends_others: matches!(
            T::CODE,
            Opcode::ASYNC_CANCEL | Opcode::POLL_REMOVE | Opcode::TIMEOUT_REMOVE
        ),
        uses: Self::uses,
        encode: Self::encode,
        let_go: Self::let_go,
        bury: Self::bury,
    };

    unsafe fn uses(cell: NonNull<u8>, fd: &Fd) -> bool {
        if T::BLANK.is_some() {
            return false;
        }
        // SAFETY: the caller promises a live `T`. The kernel may write into parts of it, which
        // `Op::uses` is not to look at.
        unsafe { locate::<T>(cell).as_ref() }.uses(fd)
    }

    unsafe fn encode(cell: NonNull<u8>, sqe: &mut Sqe) {
        assert!(T::BLANK.is_none(), "an op without a cell never goes to the kernel");
        // SAFETY: the caller promises a live `T` in the cell; the table's lock makes the access
        // exclusive, and the kernel has no SQE of it.
        unsafe { locate::<T>(cell).as_mut() }.encode(sqe);
    }

    unsafe fn let_go(cell: NonNull<u8>, leases: &mut Vec<Lease>) {
        if T::BLANK.is_some() {
            return;
        }
        // SAFETY: the caller promises a live `T` that the kernel has let go of; the table's lock
        // makes the access exclusive.
        unsafe { locate::<T>(cell).as_mut() }.let_go(leases);
    }

    unsafe fn bury(cell: NonNull<u8>, result: io::Result<u32>) {
        // SAFETY: passed on.
        drop(unsafe { take::<T>(cell) }.decode(result));
    }
}

/// Where the op itself is: in the cell, or in the box that the cell holds.
///
/// # Safety
/// The cell holds a live `T` that [`put`] stored.
unsafe fn locate<T>(cell: NonNull<u8>) -> NonNull<T> {
    if fits::<T>() {
        cell.cast()
    } else {
        // SAFETY: `put` wrote this pointer.
        unsafe { cell.cast::<NonNull<T>>().read() }
    }
}

/// Stores an op in an empty cell.
///
/// # Safety
/// The cell is empty, and nobody else touches it meanwhile.
#[inline]
unsafe fn put<T: Op>(cell: NonNull<u8>, moving: &mut Moving<T>) {
    if fits::<T>() {
        moving.moved = true;
        // SAFETY: it fits in size and alignment, and the caller vouches for the cell. The op is not
        // used where it was any more.
        unsafe { ptr::copy_nonoverlapping(&raw const *moving.op, cell.cast::<T>().as_ptr(), 1) };
    } else {
        let op = moving.take();
        // A raw pointer, not a `Box`: moving a `Box` claims what it points to for itself alone,
        // while the kernel may hold an address in there.
        let boxed = NonNull::from(Box::leak(Box::new(op)));
        // SAFETY: a pointer always fits.
        unsafe { cell.cast::<NonNull<T>>().write(boxed) };
    }
}

/// Takes the op out; the cell is empty afterwards.
///
/// # Safety
/// The cell holds a live `T`, or `T` is kept in none ([`Op::BLANK`]), and the kernel has let go of
/// it.
#[inline]
pub(crate) unsafe fn take<T: Op>(cell: NonNull<u8>) -> T {
    if let Some(blank) = T::BLANK {
        return blank();
    }
    // SAFETY: passed on.
    let op = unsafe { locate::<T>(cell) };
    if fits::<T>() {
        // SAFETY: a live `T`, which the caller gives up.
        unsafe { op.read() }
    } else {
        // SAFETY: `put` leaked this box.
        *unsafe { Box::from_raw(op.as_ptr()) }
    }
}

/// An op moved out of its cell, to be decoded and dropped once the ring is unlocked.
pub(crate) struct Corpse {
    bytes: Cell,
    vtable: &'static Vtable,
    result: i32,
}

impl Corpse {
    /// Decodes and drops: closes an fd that came too late, frees the buffers.
    pub(crate) fn bury(mut self) {
        let cell = NonNull::from(&mut self.bytes).cast();
        let result = crate::error::result(self.result);
        // SAFETY: `exhume` moved the live op in here, and ops may move once the kernel let go.
        unsafe { (self.vtable.bury)(cell, result) }
    }
}

/// What stands for the cell of an op that has none. Nobody writes there.
static NO_CELL: Cell = Cell(MaybeUninit::zeroed());

/// All cells of a ring, in pages.
pub(crate) struct Cells {
    pages: Vec<NonNull<u8>>,
    leaked: bool,
}

// SAFETY: the pages are ours alone, and ops are `Send`.
unsafe impl Send for Cells {}

impl Cells {
    pub(crate) const fn new() -> Self {
        Self { pages: Vec::new(), leaked: false }
    }

    pub(crate) fn vtable<T: Op>() -> &'static Vtable {
        &VtableOf::<T>::VTABLE
    }

    /// The address of a cell that was made, which is final.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> NonNull<u8> {
        let (page, cell) = (index as usize / PAGE_CELLS, index as usize % PAGE_CELLS);
        // SAFETY: `cell` is below `PAGE_CELLS`, so the result is inside the page.
        unsafe { self.pages[page].add(cell * CELL_BYTES) }
    }

    /// The same, for an op that may have none ([`Op::BLANK`]): then nobody looks at what is there.
    pub(crate) fn at_if_any(&self, index: u32) -> NonNull<u8> {
        let has_page = self.pages.len() > index as usize / PAGE_CELLS;
        if has_page { self.at(index) } else { NonNull::from(&NO_CELL).cast() }
    }

    /// The same, where the op's type is known.
    #[inline]
    pub(crate) fn of<T: Op>(&self, index: u32) -> NonNull<u8> {
        if T::BLANK.is_some() { NonNull::from(&NO_CELL).cast() } else { self.at(index) }
    }

    /// Makes the cell's page, if it is new.
    #[inline]
    fn make(&mut self, index: u32) {
        if self.pages.len() <= index as usize / PAGE_CELLS {
            self.grow(index);
        }
    }

    #[cold]
    fn grow(&mut self, index: u32) {
        while self.pages.len() <= index as usize / PAGE_CELLS {
            // SAFETY: `PAGE` is not of size zero.
            let new = unsafe { alloc(PAGE) };
            self.pages.push(NonNull::new(new).unwrap_or_else(|| handle_alloc_error(PAGE)));
        }
    }

    /// Stores an op, if it is to be kept at all.
    ///
    /// # Safety
    /// The cell of this index is empty.
    #[inline]
    pub(crate) unsafe fn put<T: Op>(&mut self, index: u32, moving: &mut Moving<T>) {
        if T::BLANK.is_some() {
            const { assert!(T::BLANK.is_none() || !std::mem::needs_drop::<T>(), "it owns nothing") };
            return;
        }
        self.make(index);
        // SAFETY: passed on; `&mut self` keeps others away.
        unsafe { put(self.at(index), moving) }
    }

    /// Moves an op of unknown type out of its cell.
    ///
    /// # Safety
    /// The cell holds a live op of this vtable's type, and the kernel has let go of it. The cell
    /// counts as empty afterwards.
    pub(crate) unsafe fn exhume(
        &mut self,
        index: u32,
        vtable: &'static Vtable,
        result: i32,
    ) -> Corpse {
        // SAFETY: the cell is readable in whole, and `Cell` does not ask that it be initialised.
        let bytes = unsafe { self.at_if_any(index).cast::<Cell>().read() };
        Corpse { bytes, vtable, result }
    }

    /// The pages will never be freed: the kernel may still write there.
    pub(crate) fn leak(&mut self) {
        self.leaked = true;
    }
}

impl Drop for Cells {
    /// The table has seen to it that no cell holds an op, or has called [`Cells::leak`].
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        for page in self.pages.drain(..) {
            // SAFETY: made by `grow` with this layout, and freed nowhere else.
            unsafe { dealloc(page.as_ptr(), PAGE) }
        }
    }
}
