//! A store's life, and how it goes on after power cuts.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::time::Duration;

use deferring::op::Opcode;
use deferring::time::sleep;
use deferring::{PathError, Ring};
use deferring_sim::{Faults, PowerLost, Sim};
use fastrand::Rng;
use futures_util::future::{try_join, try_join_all};

use crate::bug::Bug;
use crate::ledger::Ledger;
use crate::store::Store;

const DIR: &str = "/db";
const CUTS: usize = 16;

const WRITERS: usize = 6;
const PUTS: usize = 4;
const CHECKPOINTS: usize = 2;
const KEYS: u8 = 4;

/// Of a value: more than a sector of a disk, and the same for all, so that records lie where others
/// lay.
const SIZE: usize = 1000;

/// Who puts what, and what it was told.
pub(crate) struct User<'a> {
    pub(crate) ledger: RefCell<Ledger>,
    pub(crate) rng: RefCell<Rng>,
    /// Hears of each acknowledgement.
    pub(crate) note: &'a dyn Fn(String),
}

/// How often the disk cannot be written when it is to be synced.
const SYNCS_FAIL: f64 = 0.02;

/// Runs a store on a simulated machine, which loses its power again and again, and is switched off when
/// its disk has failed. What is wrong, if anything is.
pub(crate) fn story(sim: &Sim, bug: Option<Bug>) -> Result<(), String> {
    let user = User {
        ledger: RefCell::default(),
        rng: RefCell::new(Rng::with_seed(sim.seed())),
        note: &|note| sim.note(note),
    };
    sim.create_dir(DIR).map_err(|error| error.to_string())?;
    for life in 0..=CUTS {
        // Soon or late; the last life is a quiet one.
        let steps = f64::from(1 << user.rng.borrow_mut().u32(5..8));
        let (cut, fail) = if life < CUTS { (1.0 / steps, SYNCS_FAIL) } else { (0.0, 0.0) };
        let faults = Faults::all().power_loss(cut).errno(Opcode::FSYNC, libc::EIO, fail);
        sim.set_faults(faults);
        let ended = sim.run(async |ring| live(&ring, DIR.as_ref(), bug, &user).await);
        match ended {
            // What the log holds is to be read from the disk, not from the cache.
            Ok(Err(error)) if is_of_the_disk(&error) => sim.lose_power(),
            Ok(ended) => ended.map_err(|error| error.to_string())?,
            Err(PowerLost) => {}
        }
    }
    Ok(())
}

fn is_of_the_disk(error: &io::Error) -> bool {
    let step = error.get_ref().and_then(|error| error.downcast_ref::<PathError>());
    step.and_then(PathError::raw_os_error) == Some(libc::EIO)
}

/// Opens a store, sees whether it has what it has promised, and uses it: several writers at once,
/// and checkpoints in between.
pub(crate) async fn live(
    ring: &Ring,
    dir: &Path,
    bug: Option<Bug>,
    user: &User<'_>,
) -> io::Result<()> {
    let store = Store::open(ring, dir, bug).await?;
    user.ledger.borrow_mut().reopen(&store.map()).map_err(io::Error::other)?;
    let writers = (0..WRITERS).map(|_| user.write(ring, &store));
    let checkpoints = async {
        for _ in 0..CHECKPOINTS {
            user.pause(ring, 2000).await?;
            store.checkpoint().await?;
        }
        Ok(())
    };
    try_join(try_join_all(writers), checkpoints).await?;
    store.close().await
}

impl User<'_> {
    async fn write(&self, ring: &Ring, store: &Store) -> io::Result<()> {
        for _ in 0..PUTS {
            self.pause(ring, 50).await?;
            let key = format!("k{}", self.rng.borrow_mut().u8(..KEYS));
            let put = self.ledger.borrow_mut().ask(&key, SIZE);
            store.put(&put.key, &put.value).await?;
            (self.note)(format!("{put} is acknowledged"));
            self.ledger.borrow_mut().acknowledge(&put);
        }
        Ok(())
    }

    async fn pause(&self, ring: &Ring, micros_max: u64) -> io::Result<()> {
        let time = Duration::from_micros(self.rng.borrow_mut().u64(..micros_max));
        sleep(ring, time).await
    }
}
