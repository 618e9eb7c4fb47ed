//! What some ops cost: time by the clock, and of all processors.
//!
//! Processor time is that of the process, user and system, all its threads and the kernel's workers
//! for it: what `getrusage` says, by a clock with finer grains.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What one op cost, as the mean of many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) wall_ns: f64,
    pub(crate) cpu_ns: f64,
    /// How often the ring was entered, where that is known.
    pub(crate) enters: Option<f64>,
}

/// Measures what does as many ops as it is told, a multiple of `unit`, and says how often it
/// entered the ring, if it knows. It does a few first, which warms it up and tells how many there
/// is time for.
pub(crate) fn measure<E>(
    time: Duration,
    unit: usize,
    mut run: impl FnMut(usize) -> Result<Option<u64>, E>,
) -> Result<Cost, E> {
    let start = Instant::now();
    run(unit)?;
    let each = start.elapsed().max(Duration::from_nanos(1));
    let units = (time.as_nanos() / each.as_nanos()).clamp(1, 1_000_000);
    let ops = unit * usize::try_from(units).expect("clamped");

    let (start, cpu) = (Instant::now(), cpu_time());
    let entered = run(ops)?;
    let (wall, cpu) = (start.elapsed(), cpu_time() - cpu);
    let per_op = |total: f64| total / ops as f64;
    Ok(Cost {
        wall_ns: per_op(wall.as_secs_f64() * 1e9),
        cpu_ns: per_op(cpu.as_secs_f64() * 1e9),
        enters: entered.map(|entered| per_op(entered as f64)),
    })
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("time goes forward")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_costs_time_and_work_the_processor() {
        let mut runs = Vec::new();
        let cost = measure(Duration::from_millis(20), 2, |ops| {
            runs.push(ops);
            std::thread::sleep(Duration::from_millis(2) * u32::try_from(ops).unwrap());
            Ok::<_, ()>(Some(0))
        })
        .unwrap();
        assert_eq!(runs[0], 2, "a little first");
        assert!(cost.wall_ns >= 2e6, "{cost:?}");
        assert_eq!(cost.enters, Some(0.0));
        // Of the whole process, so that other tests may add to it.
        let cost = measure(Duration::from_millis(1), 1, |ops| {
            let end = cpu_time() + Duration::from_millis(2) * u32::try_from(ops).unwrap();
            while cpu_time() < end {}
            Ok::<_, ()>(None)
        })
        .unwrap();
        assert!(cost.cpu_ns >= 2e6, "{cost:?}");
    }
}
