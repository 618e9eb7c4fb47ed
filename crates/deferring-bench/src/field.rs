//! Who takes part in a workload: the baseline twice, ours under each driver, tokio's own, peers.
//!
//! Not: what they do.

use crate::api::Job;
use crate::contest::{Contest, Contestant, Kind, Runner};
use crate::local;
use crate::options::Options;
use crate::ours::{self, Driver};
use crate::peers;
use crate::tokios::{self, Files};

/// What a workload says of itself.
pub(crate) struct Field {
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) op: &'static str,
    pub(crate) special: Option<&'static str>,
    /// Of ours.
    pub(crate) drivers: &'static [Driver],
    /// And the same once more, where threads that queue may block.
    pub(crate) may_block: bool,
    /// Of tokio's own.
    pub(crate) files: &'static [Files],
}

impl Field {
    pub(crate) fn new(id: &'static str, title: impl Into<String>, op: &'static str) -> Self {
        Self {
            id,
            title: title.into(),
            op,
            special: None,
            drivers: &Driver::ALL,
            may_block: false,
            files: &[Files::Pool],
        }
    }

    /// `raw` makes the baseline, `job` what all others do.
    pub(crate) fn contest<'a, J: Job>(
        self,
        options: &Options,
        raw: impl Fn() -> anyhow::Result<Runner<'a>> + Sync + Clone + 'a,
        job: impl Fn() -> anyhow::Result<J> + Sync + Clone + 'a,
    ) -> Contest<'a> {
        let again = Contestant::new(Kind::Again, "raw loop again (noise)", raw.clone());
        let mut others = vec![again];
        for driver in self.drivers {
            others.push(ours::contestant(*driver, false, job.clone()));
            if self.may_block {
                others.push(ours::contestant(*driver, true, job.clone()));
            }
        }
        others.extend(local::contestant(job.clone()));
        for files in self.files {
            others.push(tokios::contestant(*files, job.clone()));
        }
        let mut absent = Vec::new();
        if options.peers {
            peers::join(&mut others, &mut absent, &job);
        }
        let Self { id, title, op, special, .. } = self;
        let raw = Contestant::new(Kind::Other, "raw loop", raw);
        Contest { id, title, op, special, raw, others, absent }
    }
}
