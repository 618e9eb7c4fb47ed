//! What somebody may get wrong who writes a log. The store asks for each where it would be made.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A put is acknowledged when its sync is asked for, not when it is done.
    AcksBeforeSync,
    /// A write that took some of the bytes is taken for one that took all.
    TrustsWrite,
    /// The new log gets the old one's name before the disk has its bytes.
    RenamesBeforeSync,
    /// The rename itself is never synced.
    ForgetsDirectory,
    /// A record is taken for whole if there are as many bytes as it says.
    TrustsLength,
    /// What lies behind the last good record stays there when the log grows again.
    KeepsTornTail,
    /// A sync that has failed is tried again, and believed the second time.
    RetriesSync,
}

impl Bug {
    pub(crate) const ALL: [Self; 7] = [
        Self::AcksBeforeSync,
        Self::TrustsWrite,
        Self::RenamesBeforeSync,
        Self::ForgetsDirectory,
        Self::TrustsLength,
        Self::KeepsTornTail,
        Self::RetriesSync,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AcksBeforeSync => "acks-before-sync",
            Self::TrustsWrite => "trusts-write",
            Self::RenamesBeforeSync => "renames-before-sync",
            Self::ForgetsDirectory => "forgets-directory",
            Self::TrustsLength => "trusts-length",
            Self::KeepsTornTail => "keeps-torn-tail",
            Self::RetriesSync => "retries-sync",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Bug {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|bug| bug.name() == name);
        found.ok_or_else(|| format!("there is no bug {name:?}; there are: {}", names()))
    }
}
