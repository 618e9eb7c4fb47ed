//! The ring of the whole process: started when it is first needed, for code that is not handed one.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use crate::config::Builder;
use crate::error;
use crate::ring::Ring;
use crate::sync::Ordering;
use crate::sync::plain::AtomicU32;

static RING: OnceLock<Ring> = OnceLock::new();

/// The process that is starting it; 0 if none is. Not a lock, which a child would inherit.
static STARTING: AtomicU32 = AtomicU32::new(0);

/// The ring of this process. The first call starts it, with a thread of its own and the defaults,
/// unless [`Builder::start_for_process`] did before. It is never dropped.
///
/// Few rings are better than many, and one is the normal case. The functions of [`fs`](crate::fs)
/// that are given no ring use this one.
///
/// ```
/// let ring = deferring::ring()?;
/// assert_eq!(ring.queue_depth(), deferring::ring()?.queue_depth(), "the same");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As [`Builder::start`]. The next call tries again.
pub fn ring() -> io::Result<&'static Ring> {
    if let Some(ring) = RING.get() {
        return Ok(ring);
    }
    start_once(|| Ring::builder().start())
}

/// The ring of the process, made by `start` if there is none yet.
fn start_once(start: impl FnOnce() -> io::Result<Ring>) -> io::Result<&'static Ring> {
    let _starting = Starting::begin()?;
    match RING.get() {
        Some(ring) => Ok(ring),
        None => {
            let ring = start()?;
            Ok(RING.get_or_init(|| ring))
        }
    }
}

/// One thread at a time starts it.
struct Starting;

/// How often it is looked whether another thread is ready.
const LOOK: Duration = Duration::from_micros(100);

impl Starting {
    fn begin() -> io::Result<Self> {
        let me = std::process::id();
        loop {
            match STARTING.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(Self),
                Err(other) if other == me => std::thread::sleep(LOOK),
                // A fork, while the parent was at it.
                Err(_) => return Err(error::forked()),
            }
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        STARTING.store(0, Ordering::Release);
    }
}

impl Builder {
    /// Starts the ring of this process as this builder says, once, before it is used: see
    /// [`ring`](crate::ring()).
    ///
    /// # Errors
    /// As [`start`](Self::start); `AlreadyExists` if there is one.
    pub fn start_for_process(self) -> io::Result<&'static Ring> {
        let mut ours = false;
        let ring = start_once(|| {
            ours = true;
            self.start()
        })?;
        if ours { Ok(ring) } else { Err(error::already_started()) }
    }
}
