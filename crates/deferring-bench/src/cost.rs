//! What some ops cost: time by the clock, and of all processors.
//!
//! Processor time is that of the process, user and system, all its threads and the kernel's workers
//! for it: what `getrusage` says, by a clock with finer grains. (The time of a kernel thread that
//! polls a queue would not be in it; nobody here has one.)

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What one op cost, as the mean of many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall_ns: f64,
    pub(crate) cpu_ns: f64,
    /// How often the ring was entered, where that is known.
    pub(crate) enters: Option<f64>,
    /// What else a workload asks for: how late the 99th of 100 was, in ms; the slowest task's time
    /// over the fastest's.
    pub(crate) special: Option<f64>,
}

/// What a run knows of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ran {
    pub(crate) enters: Option<u64>,
    pub(crate) special: Option<f64>,
    /// Processor time that is not the contestant's: of who sends it requests.
    pub(crate) of_others: Duration,
}

impl Ran {
    pub(crate) fn entered(enters: u64) -> Self {
        Self { enters: Some(enters), ..Self::default() }
    }
}

/// Measures so many ops.
pub(crate) fn measure(
    ops: usize,
    run: impl FnOnce(usize) -> anyhow::Result<Ran>,
) -> anyhow::Result<Cost> {
    let (start, cpu) = (Instant::now(), cpu_time());
    let ran = run(ops)?;
    let (wall, cpu) = (start.elapsed(), cpu_time() - cpu);
    let per_op = |total: f64| total / ops as f64;
    Ok(Cost {
        wall_ns: per_op(wall.as_secs_f64() * 1e9),
        cpu_ns: per_op(cpu.saturating_sub(ran.of_others).as_secs_f64() * 1e9),
        enters: ran.enters.map(|enters| per_op(enters as f64)),
        special: ran.special,
    })
}

/// Of the process.
pub(crate) fn cpu_time() -> Duration {
    of(ClockId::ProcessCPUTime)
}

/// Of the calling thread.
pub(crate) fn thread_time() -> Duration {
    of(ClockId::ThreadCPUTime)
}

fn of(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).expect("time goes forward")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_costs_time_and_work_the_processor() {
        let cost = measure(2, |ops| {
            std::thread::sleep(Duration::from_millis(2) * u32::try_from(ops)?);
            Ok(Ran::entered(0))
        })
        .unwrap();
        assert!(cost.wall_ns >= 2e6, "{cost:?}");
        assert_eq!(cost.enters, Some(0.0));
        // Of the whole process, so that other tests may add to it.
        let cost = measure(1, |_| {
            let end = thread_time() + Duration::from_millis(2);
            while thread_time() < end {}
            Ok(Ran::default())
        })
        .unwrap();
        assert!(cost.cpu_ns >= 2e6, "{cost:?}");
    }
}
