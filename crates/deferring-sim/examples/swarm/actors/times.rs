//! Time: what is to come comes, and not too early.

use std::time::Duration;

use deferring::Ring;
use futures_util::future::join_all;

use crate::stage::Stage;

pub(crate) async fn play(mut stage: Stage) {
    let ring = stage.ring.clone();
    for _ in 0..stage.rng.usize(1..8) {
        let time = Duration::from_micros(1 << stage.rng.u32(..24));
        match stage.rng.u8(..4) {
            0 => sleep(&stage, &ring, time).await,
            1 => {
                let sleeps: Vec<_> = (0..stage.rng.u32(1..64))
                    .map(|_| Duration::from_micros(stage.rng.u64(..5000)))
                    .collect();
                join_all(sleeps.into_iter().map(|time| sleep(&stage, &ring, time))).await;
            }
            2 => {
                let long = ring.timeout(Duration::from_secs(1 << 20));
                let updated = long.update(time);
                let Some(updated) = stage.oracle.result(&ring, "an update", updated).await else {
                    return;
                };
                if updated.is_ok() {
                    stage.oracle.result(&ring, "a timeout that was updated", long).await;
                }
            }
            _ => {
                let long = ring.timeout(Duration::from_secs(1 << 20));
                let removed = long.remove();
                let Some(removed) = stage.oracle.result(&ring, "a removal", removed).await else {
                    return;
                };
                if removed.is_ok() {
                    let ended =
                        stage.oracle.result(&ring, "a timeout that was removed", long).await;
                    assert!(ended.is_some_and(|ended| ended.is_err()));
                }
            }
        }
    }
}

async fn sleep(stage: &Stage, ring: &Ring, time: Duration) {
    let begun = stage.sim.age();
    let slept = stage.oracle.result(ring, "a sleep", deferring::time::sleep(ring, time)).await;
    slept.expect("sleeps do not hang").expect("a sleep");
    assert!(stage.sim.age() >= begun + time, "a sleep is too short");
}
