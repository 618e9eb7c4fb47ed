//! Other libraries that await io_uring, each in a file of its own, by its own means: its runtime on
//! one thread, its `spawn`.
//!
//! They are there with the feature `peers` and under `--cfg tokio_unstable`, as `cargo xtask bench
//! --peers` builds: their own demands (a newer compiler, a hundred crates) stay out of all other
//! builds, `--all-features` included.

#[cfg(all(feature = "peers", tokio_unstable))]
mod a10;
#[cfg(all(feature = "peers", tokio_unstable))]
mod compio;
#[cfg(all(feature = "peers", tokio_unstable))]
mod kimojio;
#[cfg(all(feature = "peers", tokio_unstable))]
mod monoio;
#[cfg(all(feature = "peers", tokio_unstable))]
mod tokio_uring;

#[cfg(not(all(feature = "peers", tokio_unstable)))]
use crate::api::Job;
#[cfg(not(all(feature = "peers", tokio_unstable)))]
use crate::contest::Contestant;

/// Whether they are.
pub(crate) const BUILT: bool = cfg!(all(feature = "peers", tokio_unstable));

/// Adds all that can do a job; of the others, why they cannot.
#[cfg(not(all(feature = "peers", tokio_unstable)))]
pub(crate) fn join<'a, J: Job>(
    _: &mut Vec<Contestant<'a>>,
    _: &mut Vec<(String, String)>,
    _: &(impl Fn() -> anyhow::Result<J> + Sync + Clone + 'a),
) {
    unreachable!("`--peers` is refused where there are none");
}

#[cfg(all(feature = "peers", tokio_unstable))]
pub(crate) use there::join;

#[cfg(all(feature = "peers", tokio_unstable))]
mod there {
    use super::{a10, compio, kimojio, monoio, tokio_uring};
    use crate::api::{Api, Job, Need};
    use crate::contest::{Contestant, Kind, Runner};
    use crate::cost::Ran;

    /// What runs a job, again and again.
    pub(super) type Run = Box<dyn FnMut(usize) -> anyhow::Result<Ran>>;

    /// A library that awaits io_uring.
    pub(super) trait Peer: Api {
        const NAME: &'static str;

        /// Why it cannot do what is needed.
        fn lacks(need: Need) -> Option<&'static str>;

        /// A runtime of its own, on the calling thread.
        fn start<J: Job>(job: J) -> anyhow::Result<Run>;
    }

    type Others<'a, 'b> = (&'b mut Vec<Contestant<'a>>, &'b mut Vec<(String, String)>);

    /// Adds all that can do a job; of the others, why they cannot.
    pub(crate) fn join<'a, J: Job>(
        contestants: &mut Vec<Contestant<'a>>,
        absent: &mut Vec<(String, String)>,
        make: &(impl Fn() -> anyhow::Result<J> + Sync + Clone + 'a),
    ) {
        let mut others = (contestants, absent);
        one::<a10::A10, J>(&mut others, make);
        one::<compio::Compio, J>(&mut others, make);
        one::<kimojio::Kimojio, J>(&mut others, make);
        one::<monoio::Monoio, J>(&mut others, make);
        one::<tokio_uring::TokioUring, J>(&mut others, make);
    }

    fn one<'a, P: Peer, J: Job>(
        (contestants, absent): &mut Others<'a, '_>,
        make: &(impl Fn() -> anyhow::Result<J> + Sync + Clone + 'a),
    ) {
        if let Some(why) = P::lacks(J::NEEDS) {
            absent.push((P::NAME.into(), why.into()));
            return;
        }
        let make = make.clone();
        contestants.push(Contestant::new(Kind::Peer, P::NAME, move || {
            let job = make()?;
            let (first, last) = (job.clone(), job.clone());
            let mut run = P::start(job.clone())?;
            Ok(Runner {
                prepare: Box::new(move |ops| first.prepare(ops)),
                run: Box::new(move |ops| {
                    job.begin(ops)?;
                    let ran = run(ops)?;
                    Ok(Ran { enters: ran.enters, ..job.end()? })
                }),
                check: Box::new(move |ops| last.check(ops)),
            })
        }));
    }
}
