//! A kernel of one's own (`Builder::build_on`), and what a ring makes of one that takes what it likes.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use deferring::backend::{Backend, Wire, Workers};
use deferring::op::{Cqe, Opcode, Sqe};
use deferring::{BackendKind, Handle, Ring, op::Nop};

use crate::support::errno;

/// Answers everything with 0, and takes of each submit what it is told to take.
struct Picky {
    wire: Wire,
    takes: Mutex<VecDeque<Result<u32, i32>>>,
}

// SAFETY: it touches nothing, and each SQE is answered once.
unsafe impl Backend for Picky {
    fn supports(&self, opcode: Opcode) -> bool {
        opcode == Opcode::NOP
    }

    fn enter(&self, count: u32) -> io::Result<u32> {
        let next = self.takes.lock().unwrap().pop_front().unwrap_or(Ok(count));
        next.map_err(io::Error::from_raw_os_error)
    }

    fn begin(&self, sqe: Sqe) {
        self.wire.give(Cqe { user_data: sqe.user_data, result: 0, flags: 0 });
    }

    fn limit_workers(&self, _: u32) {}

    fn workers(&self) -> Workers {
        Workers::default()
    }
}

fn picky(depth: u32, takes: &[Result<u32, i32>]) -> Ring {
    let takes = Mutex::new(takes.iter().copied().collect());
    let ring = Ring::builder().queue_depth(depth).build_on(|wire| Ok(Picky { wire, takes }));
    ring.unwrap()
}

fn nops(ring: &Ring, count: usize) -> Vec<Handle<Nop>> {
    (0..count).map(|_| ring.nop()).collect()
}

/// Waits and reaps, and submits nothing.
fn wait_for(ring: &Ring, handles: &[Handle<Nop>]) {
    for _ in 0..100 {
        if handles.iter().all(Handle::is_done) {
            return;
        }
        ring.wait(Some(Duration::from_secs(10))).unwrap();
        ring.reap().unwrap();
    }
    panic!("{:?}", ring.pending());
}

#[test]
fn a_ring_runs_on_a_kernel_of_ones_own() {
    let ring = picky(8, &[]);
    assert_eq!((ring.backend().kind(), ring.queue_depth()), (BackendKind::Custom, 8));
    assert!(ring.supports(Opcode::NOP) && !ring.supports(Opcode::READ));
    deferring::block_on(&ring, ring.nop()).unwrap();
    let missing = Ring::builder()
        .require(Opcode::READ)
        .build_on(|wire| Ok(Picky { wire, takes: Mutex::default() }));
    assert!(missing.unwrap_err().to_string().contains("Read"));
}

#[test]
fn what_a_submit_could_not_send_goes_without_another() {
    // Found by the simulation: whoever waited after a submit of which the kernel took a part slept
    // for ever on the rest.
    for takes in
        [&[Ok(1), Err(libc::EAGAIN)][..], &[Ok(1), Ok(0)], &[Ok(1), Ok(0), Err(libc::EBUSY)]]
    {
        for depth in [1, 2, 8] {
            let ring = picky(depth, takes);
            let asked = nops(&ring, 3);
            assert_eq!(ring.submit().unwrap(), 1, "{takes:?} at {depth}");
            let later = ring.nop();
            wait_for(&ring, &asked);
            assert!(!later.is_done() && ring.pending().queued == 1, "nobody has asked for it");
        }
    }
}

#[test]
fn what_a_submit_is_refused_goes_later() {
    for takes in [Err(libc::ENOMEM), Ok(0)] {
        let ring = picky(4, &[takes]);
        let asked = nops(&ring, 3);
        assert_eq!(errno(&ring.submit()), takes.err());
        wait_for(&ring, &asked);
    }
}
