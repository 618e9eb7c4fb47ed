//! The ring of the whole process: started when it is first needed, for code that is not handed one.

use std::io;
use std::sync::OnceLock;

use crate::config::Builder;
use crate::error;
use crate::ring::Ring;
use crate::sync::plain::Mutex;

static RING: OnceLock<Ring> = OnceLock::new();

/// Held while it is started.
static STARTING: Mutex<()> = Mutex::new(());

/// The ring of this process. The first call starts it, with a thread of its own and the defaults,
/// unless [`Builder::start_for_process`] did before. It is never dropped.
///
/// Few rings are better than many, and one is the normal case. The functions of [`fs`](crate::fs) that
/// are given no ring use this one.
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
    let starting = STARTING.lock();
    let ring = match RING.get() {
        Some(ring) => ring,
        None => {
            let ring = Ring::builder().start()?;
            RING.get_or_init(|| ring)
        }
    };
    drop(starting);
    Ok(ring)
}

impl Builder {
    /// Starts the ring of this process as this builder says, once, before it is used: see
    /// [`ring`](crate::ring()).
    ///
    /// # Errors
    /// As [`start`](Self::start); `AlreadyExists` if there is one.
    pub fn start_for_process(self) -> io::Result<&'static Ring> {
        let starting = STARTING.lock();
        if RING.get().is_some() {
            return Err(error::already_started());
        }
        let ring = self.start()?;
        let ring = RING.get_or_init(|| ring);
        drop(starting);
        Ok(ring)
    }
}
