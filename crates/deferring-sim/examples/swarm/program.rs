//! One seed: a machine, and a program.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use deferring::Ring;
use deferring::op::Opcode;
use deferring_sim::{Faults, Sim};
use futures_util::future::{FutureExt, LocalBoxFuture, join_all, select};

use crate::actors;
use crate::oracle::Oracle;
use crate::stage::Stage;

/// What is on in a seed, of what can be.
struct Setting {
    faults: Faults,
    hangs: bool,
    fails: bool,
    ring: deferring::Builder,
}

fn setting(seed: u64) -> Setting {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed_5eed);
    // Some are off, so that others are not drowned out.
    let mut chance = |most: f64| if rng.bool() { rng.f64() * most } else { 0.0 };
    let mut faults = Faults::none()
        .late(chance(0.5))
        .short_transfers(chance(0.5))
        .undone(chance(0.3))
        .refused_submits(chance(0.3))
        .interrupted_waits(chance(0.3))
        .dead_submitters(chance(0.003))
        .missed_cancels(chance(0.5))
        .hangs(chance(0.05));
    let fails = rng.u8(..4) == 0;
    if fails {
        for opcode in [Opcode::READ, Opcode::FSYNC, Opcode::STATX] {
            faults = faults.errno(opcode, libc::EIO, 0.1);
        }
    }
    let hangs = rng.u8(..8) == 0;
    if hangs {
        faults = faults.hangs_for_ever(0.02);
    }
    let most = Duration::from_micros(1 << rng.u32(1..14));
    faults = faults.latency(Duration::from_micros(1), most);
    let depth = 1 << rng.u32(0..8);
    let mut ring = Ring::builder().queue_depth(depth);
    if rng.bool() {
        ring = ring.completions(depth * 2);
    }
    Setting { faults, hangs, fails, ring }
}

pub(crate) fn machine(seed: u64, trace: bool) -> Sim {
    let Setting { faults, ring, .. } = setting(seed);
    let sim = Sim::new(seed).ring(ring).faults(faults).patience(Duration::from_secs(100_000));
    if trace { sim.traced() } else { sim }
}

pub(crate) fn run(sim: &Arc<Sim>) {
    const ACTORS_MAX: usize = 12;
    let seed = sim.seed();
    let Setting { hangs, fails, .. } = setting(seed);
    let oracle = Oracle::new(sim, hangs);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x00ac_7075);
    let ended = sim.run(async |ring| {
        let mut playing: Vec<LocalBoxFuture<'_, ()>> = Vec::new();
        for number in 0..rng.usize(1..=ACTORS_MAX) {
            sim.create_dir(format!("/{number}")).expect("a directory");
            let stage = Stage {
                ring: ring.clone(),
                sim: Arc::clone(sim),
                oracle: Arc::clone(&oracle),
                rng: rng.fork(),
                number,
                fails,
            };
            playing.push(match rng.u8(..7) {
                0 => actors::files::play(stage).boxed_local(),
                1 => actors::pipes::play(stage).boxed_local(),
                2 => actors::times::play(stage).boxed_local(),
                3 => actors::names::play(stage).boxed_local(),
                4 => actors::fifos::play(stage).boxed_local(),
                5 => actors::cancels::play(stage).boxed_local(),
                _ => actors::closes::play(stage).boxed_local(),
            });
        }
        let watch = poll_fn(|_| {
            oracle.watch();
            Poll::<()>::Pending
        });
        select(join_all(playing), watch).await;
        end(&ring, &oracle, sim, &mut rng).await;
    });
    ended.expect("the power stays on");
    oracle.at_the_end(sim);
}

/// A ring ends by a shutdown, or by being dropped; in the midst of what was let go, or after it.
async fn end(ring: &Ring, oracle: &Oracle, sim: &Sim, rng: &mut fastrand::Rng) {
    match rng.u8(..4) {
        0 => {
            // The end of time: in virtual time it comes when it is needed.
            let deadline = std::time::Instant::now() + Duration::from_secs(3600);
            ring.shutdown(deadline).await;
        }
        1 => {}
        _ => oracle.at_rest(ring, sim).await,
    }
}
