//! The workloads, each of which opens with its question and its baseline.
//!
//! Not: how they are measured (`contest.rs`), who takes part (`field.rs`), what is asked of the
//! figures (`goal.rs`).

pub(crate) mod code;
pub(crate) mod fairness;
pub(crate) mod hop;
pub(crate) mod nop;
pub(crate) mod scale;
pub(crate) mod small;
pub(crate) mod w2;
pub(crate) mod w3;
pub(crate) mod w4;
pub(crate) mod w5;
pub(crate) mod w6;
pub(crate) mod w7;
pub(crate) mod w9;
pub(crate) mod zero;

use crate::contest::Measured;
use crate::file::Cached;
use crate::options::Options;

/// A workload, by its name on the command line.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Its source, whose head has the question and the baseline.
    source: &'static str,
    pub(crate) run: fn(&Options, &Files<'_>) -> anyhow::Result<Vec<Measured>>,
}

pub(crate) const ALL: &[Workload] = &[
    Workload { name: "nop", source: include_str!("nop.rs"), run: nop::run },
    Workload { name: "zero", source: include_str!("zero.rs"), run: zero::run },
    Workload { name: "w2", source: include_str!("w2.rs"), run: w2::run },
    Workload { name: "w3", source: include_str!("w3.rs"), run: w3::run },
    Workload { name: "w4", source: include_str!("w4.rs"), run: w4::run },
    Workload { name: "w5", source: include_str!("w5.rs"), run: w5::run },
    Workload { name: "small", source: include_str!("small.rs"), run: small::run },
    Workload { name: "w6", source: include_str!("w6.rs"), run: w6::run },
    Workload { name: "w7", source: include_str!("w7.rs"), run: w7::run },
    Workload { name: "w9", source: include_str!("w9/mod.rs"), run: w9::run },
    Workload { name: "hop", source: include_str!("hop.rs"), run: hop::run },
    Workload { name: "code", source: include_str!("code.rs"), run: code::run },
    Workload { name: "fairness", source: include_str!("fairness.rs"), run: fairness::run },
];

/// The one that gives curves.
pub(crate) const SCALE: &str = "scale";

/// The question of what gives curves.
pub(crate) fn scales_question() -> String {
    question(include_str!("scale.rs"))
}

impl Workload {
    pub(crate) fn question(&self) -> String {
        question(self.source)
    }
}

/// The first paragraph of a file.
fn question(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//! "));
    lines.collect::<Vec<_>>().join("\n")
}

/// The file that most of them read; made when it is first asked for.
pub(crate) struct Files<'a> {
    options: &'a Options,
    cached: std::sync::OnceLock<Cached>,
}

impl<'a> Files<'a> {
    pub(crate) const fn new(options: &'a Options) -> Self {
        Self { options, cached: std::sync::OnceLock::new() }
    }

    pub(crate) fn cached(&self) -> anyhow::Result<&Cached> {
        if self.cached.get().is_none() {
            let made = Cached::make(&self.options.dir, self.options.mib())?;
            let _ = self.cached.set(made);
        }
        Ok(self.cached.get().expect("just made"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_workload_opens_with_its_question_and_its_baseline() {
        for question in ALL.iter().map(Workload::question).chain([scales_question()]) {
            assert!(question.starts_with("Question: "), "{question}");
            assert!(question.contains("Baseline: "), "{question}");
        }
    }
}
