//! What may go wrong, and how often.
//!
//! Not: where it strikes (`world/`).

use std::time::Duration;

use deferring::op::Opcode;

/// What the simulated kernel does to a program, each thing with its probability.
///
/// [`Faults::none`] is a kernel that never errs and always takes the same time; [`Faults::all`] errs
/// in every way that a correct program survives unharmed; what it has to be told about (an errno, a
/// read of nothing, a call that never ends, lost power) is asked for one by one.
///
/// ```
/// use deferring::op::Opcode;
/// use deferring_sim::Faults;
///
/// let faults = Faults::all().errno(Opcode::FSYNC, 5, 0.01).power_loss(0.001);
/// # let _ = faults;
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    pub(crate) latency: (Duration, Duration),
    chances: [Chance; Fault::ALL.len()],
    pub(crate) workers_max: u32,
    pub(crate) errnos: Vec<(Opcode, i32, Chance)>,
}

/// What may go wrong, as [`Sim::faults_struck`](crate::Sim::faults_struck) counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// [`Faults::late`]
    Late,
    /// [`Faults::short_transfers`]
    ShortTransfer,
    /// [`Faults::zero_transfers`]
    ZeroTransfer,
    /// [`Faults::undone`]
    Undone,
    /// [`Faults::refused_submits`]
    RefusedSubmit,
    /// [`Faults::interrupted_waits`]
    InterruptedWait,
    /// [`Faults::dead_submitters`]
    DeadSubmitter,
    /// [`Faults::missed_cancels`]
    MissedCancel,
    /// [`Faults::hangs`]
    Hang,
    /// [`Faults::hangs_for_ever`]
    HangForEver,
    /// [`Faults::power_loss`]
    PowerLoss,
    /// [`Faults::errno`]
    Errno,
}

impl Fault {
    pub(crate) const ALL: [Self; 12] = [
        Self::Late,
        Self::ShortTransfer,
        Self::ZeroTransfer,
        Self::Undone,
        Self::RefusedSubmit,
        Self::InterruptedWait,
        Self::DeadSubmitter,
        Self::MissedCancel,
        Self::Hang,
        Self::HangForEver,
        Self::PowerLoss,
        Self::Errno,
    ];
}

/// A probability, as what 32 random bits have to be below of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chance(u64);

impl Chance {
    const NEVER: Self = Self(0);

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Between 0 and 2^32.
    fn of(probability: f64) -> Self {
        assert!((0.0..=1.0).contains(&probability), "a probability is between 0 and 1");
        Self((probability * 2f64.powi(32)).ceil() as u64)
    }

    pub(crate) const fn is_possible(self) -> bool {
        self.0 > 0
    }

    pub(crate) fn strikes(self, rng: &mut fastrand::Rng) -> bool {
        // A chance that is none takes no number: what is switched off changes nothing else.
        self.is_possible() && u64::from(rng.u32(..)) < self.0
    }
}

impl Faults {
    /// Nothing goes wrong, and each call takes 10 µs.
    #[must_use]
    pub fn none() -> Self {
        Self {
            latency: (Duration::from_micros(10), Duration::from_micros(10)),
            chances: [Chance::NEVER; Fault::ALL.len()],
            workers_max: u32::MAX,
            errnos: Vec::new(),
        }
    }

    /// All that a correct program does not notice: times that vary a thousandfold, answers that come
    /// late and in another order, short transfers, ops given back undone, submits refused, waits
    /// interrupted, submitters that die, cancels that miss.
    #[must_use]
    pub fn all() -> Self {
        Self::none()
            .latency(Duration::from_micros(1), Duration::from_millis(1))
            .late(0.1)
            .short_transfers(0.1)
            .undone(0.05)
            .refused_submits(0.05)
            .interrupted_waits(0.05)
            .dead_submitters(0.01)
            .missed_cancels(0.1)
    }

    pub(crate) const fn chance(&self, fault: Fault) -> Chance {
        self.chances[fault as usize]
    }

    fn set(mut self, fault: Fault, probability: f64) -> Self {
        self.chances[fault as usize] = Chance::of(probability);
        self
    }

    /// How long a call takes: between these, mostly less.
    #[must_use]
    pub fn latency(mut self, least: Duration, most: Duration) -> Self {
        self.latency = (least.min(most), most);
        self
    }

    /// Completions that come later than the deed, and so in another order.
    #[must_use]
    pub fn late(self, probability: f64) -> Self {
        self.set(Fault::Late, probability)
    }

    /// Reads and writes that transfer less than they could, but at least a byte.
    #[must_use]
    pub fn short_transfers(self, probability: f64) -> Self {
        self.set(Fault::ShortTransfer, probability)
    }

    /// Reads and writes that transfer nothing and return 0, though there is data, or room. A program
    /// takes such a read for the end of the file, so that it is none of [`all`](Self::all): it is for
    /// programs that ask again, or know how much there is to be.
    #[must_use]
    pub fn zero_transfers(self, probability: f64) -> Self {
        self.set(Fault::ZeroTransfer, probability)
    }

    /// Ops that come back undone, with an `ECANCELED`, `EINTR` or `ERESTART*` that nobody asked for.
    #[must_use]
    pub fn undone(self, probability: f64) -> Self {
        self.set(Fault::Undone, probability)
    }

    /// Submits that take fewer SQEs than there are, or none, with an `EINTR`, `EAGAIN`, `EBUSY` or
    /// `ENOMEM`.
    #[must_use]
    pub fn refused_submits(self, probability: f64) -> Self {
        self.set(Fault::RefusedSubmit, probability)
    }

    /// Waits that a signal ends.
    #[must_use]
    pub fn interrupted_waits(self, probability: f64) -> Self {
        self.set(Fault::InterruptedWait, probability)
    }

    /// For each submit: the thread that submitted what is out has died, and the kernel gives up
    /// what it did for it.
    #[must_use]
    pub fn dead_submitters(self, probability: f64) -> Self {
        self.set(Fault::DeadSubmitter, probability)
    }

    /// Cancels that do not find their op, though it is there.
    #[must_use]
    pub fn missed_cancels(self, probability: f64) -> Self {
        self.set(Fault::MissedCancel, probability)
    }

    /// Calls that end only when they are cancelled.
    #[must_use]
    pub fn hangs(self, probability: f64) -> Self {
        self.set(Fault::Hang, probability)
    }

    /// Calls that never end, whatever is done: a dead file server. Their memory is never free again.
    #[must_use]
    pub fn hangs_for_ever(self, probability: f64) -> Self {
        self.set(Fault::HangForEver, probability)
    }

    /// For each step: the power is lost. [`Sim::run`](crate::Sim::run) then ends with
    /// [`PowerLost`](crate::PowerLost), and what was not synced is gone, whole or in part.
    #[must_use]
    pub fn power_loss(self, probability: f64) -> Self {
        self.set(Fault::PowerLoss, probability)
    }

    /// The machine gives no more workers than these, whatever the ring asks for.
    #[must_use]
    pub fn workers_max(mut self, most: u32) -> Self {
        self.workers_max = most;
        self
    }

    /// Ops of this kind that fail with this errno (`5` is `EIO`), without an effect; but for an `FSYNC`
    /// that fails with `EIO`, `ENOSPC` or `EDQUOT`: as on Linux, what it was to write is still read, is
    /// not on the disk, and will not be, unless it is written again. A second sync says nothing of it.
    ///
    /// # Panics
    /// If it is no errno.
    #[must_use]
    pub fn errno(mut self, opcode: Opcode, errno: i32, probability: f64) -> Self {
        let errno = errno.saturating_abs();
        assert!((1..4096).contains(&errno), "an errno is between 1 and 4095");
        self.errnos.push((opcode, errno, Chance::of(probability)));
        self
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::none()
    }
}
