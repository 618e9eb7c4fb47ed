//! What several hazards are made of: FIFOs, ops that block a worker, limits of a process.

use std::io;
use std::path::{Path, PathBuf};

use deferring::op::{Op, Opcode, Openat2, Sqe};
use deferring::{CWD, Handle, Lease, Mode, OFlags, Ring};
use rustix::fs::FileType;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// To make files with.
pub(crate) const RW: Mode = Mode::RUSR.union(Mode::WUSR);

/// An op that the kernel must give to a worker thread at once (`IOSQE_ASYNC`), and may block there.
pub(crate) struct InWorker<T>(pub(crate) T);

// SAFETY: names what the op inside names, which is moved with it and not used by others.
unsafe impl<T: Op> Op for InWorker<T> {
    type Output = T::Output;
    const CODE: Opcode = T::CODE;

    fn check(&self) -> io::Result<()> {
        self.0.check()
    }

    fn encode(&mut self, sqe: &mut Sqe) {
        const IOSQE_ASYNC: u8 = 1 << 4;
        self.0.encode(sqe);
        sqe.flags |= IOSQE_ASYNC;
    }

    fn let_go(&mut self, leases: &mut Vec<Lease>) {
        self.0.let_go(leases);
    }

    fn decode(self, result: io::Result<u32>) -> T::Output {
        self.0.decode(result)
    }
}

/// The open of a FIFO, that waits for a peer. Without a worker of its own it might be tried inline,
/// where it does not wait: for reading it gives a descriptor, for writing `ENXIO`.
pub(crate) type Waiting = Handle<InWorker<Openat2>>;

/// Queues opens of all these FIFOs.
pub(crate) fn open_each(ring: &Ring, fifos: &[PathBuf], access: OFlags) -> Vec<Waiting> {
    let open = |fifo| ring.queue(InWorker(Openat2::new(CWD, fifo).flags(access)));
    fifos.iter().map(open).collect()
}

/// Makes FIFOs in a directory.
pub(crate) fn fifos(dir: &Path, count: usize) -> Vec<PathBuf> {
    let make = |number| {
        let path = dir.join(format!("fifo{number}"));
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, RW, 0).expect("a FIFO");
        path
    };
    (0..count).map(make).collect()
}

/// Lets this process, which has to be one of its own, have so many descriptors more than usual.
/// False if it may not.
pub(crate) fn allow_descriptors(count: usize) -> bool {
    const USUAL: u64 = 256;
    let wanted = USUAL + count as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return true;
    }
    let maximum_or_more = maximum.map(|maximum| maximum.max(wanted));
    // What an ordinary user may do, then what root may.
    [maximum, maximum_or_more].into_iter().any(|maximum| {
        maximum.is_none_or(|maximum| maximum >= wanted)
            && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok()
    })
}
