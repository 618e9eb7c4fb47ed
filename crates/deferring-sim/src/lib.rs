//! A kernel for tests: programs on [`deferring`] run against one that is simulated, in virtual time,
//! and that misbehaves on purpose, from a seed.
//!
//! [`Sim`] is the machine; [`Faults`] is what goes wrong; [`check`] tries many seeds, and says which
//! one fails. docs/simulation.md of the project tells the whole story: a write-ahead log that loses
//! data (`examples/wal`), what is left after a power cut, where the machine differs from Linux, and
//! what keeps a seed from giving the same run again.
//!
//! ```
//! use deferring::{BufResult, fs::File};
//! use deferring_sim::{Faults, check};
//!
//! // What was synced is there after the power has gone.
//! check(0..50, |sim| {
//!     sim.create_dir("/data").unwrap();
//!     sim.write("/data/value", "old").unwrap();
//!     let sim = sim.faults(Faults::all().power_loss(0.02));
//!     let mut synced = false;
//!     let ended = sim.run(async |ring| {
//!         let file = File::options().write(true).open(&ring, "/data/value").await?;
//!         file.write_all_at("new", 0).await.0?;
//!         file.sync_all().await?;
//!         synced = true;
//!         file.close().await
//!     });
//!     let value = sim.read("/data/value").unwrap();
//!     assert!(!synced || value == b"new", "{ended:?}: {value:?}");
//! });
//! ```

mod check;
mod disk;
mod faults;
mod kernel;
mod sim;
mod world;

pub use check::check;
pub use disk::Loss;
pub use faults::{Fault, Faults};
pub use sim::{PowerLost, Sim};
