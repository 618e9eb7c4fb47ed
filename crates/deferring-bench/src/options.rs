//! What is measured, and how: as the command line has it.

use std::path::PathBuf;
use std::time::Duration;

use crate::contest::{Amount, Only, Plan};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Names of workloads; all if there are none.
    pub(crate) which: Vec<String>,
    pub(crate) quick: bool,
    pub(crate) peers: bool,
    pub(crate) rounds: Option<usize>,
    pub(crate) mib: Option<usize>,
    pub(crate) tasks: usize,
    pub(crate) dir: PathBuf,
    /// Nothing but this is run.
    pub(crate) only: Option<Only>,
    /// Where performance.md and its plots go.
    pub(crate) out: Option<PathBuf>,
}

impl Options {
    /// `known` are the names of workloads.
    pub(crate) fn parse(
        words: impl Iterator<Item = String>,
        known: &[&str],
    ) -> Result<Self, String> {
        let mut options = Self {
            which: Vec::new(),
            quick: false,
            peers: false,
            rounds: None,
            mib: None,
            tasks: 128,
            dir: std::env::temp_dir(),
            only: None,
            out: None,
        };
        let mut words = words.peekable();
        while let Some(name) = words.next_if(|word| !word.starts_with("--")) {
            if !known.contains(&name.as_str()) {
                return Err(format!("there is no workload {name:?}: {}", known.join(", ")));
            }
            options.which.push(name);
        }
        while let Some(name) = words.next() {
            match name.as_str() {
                "--quick" => {
                    options.quick = true;
                    continue;
                }
                "--peers" => {
                    options.peers = true;
                    continue;
                }
                name if !name.starts_with("--") => {
                    return Err(format!("workloads go first: {name:?} does not"));
                }
                _ => {}
            }
            let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || {
                let number = value.parse().ok().filter(|number| *number > 0);
                number.ok_or_else(|| format!("{name} is a number from 1, not {value:?}"))
            };
            match name.as_str() {
                "--rounds" => options.rounds = Some(number()?),
                "--mib" => options.mib = Some(number()?),
                "--tasks" => options.tasks = number()?,
                "--dir" => options.dir = value.into(),
                "--out" => options.out = Some(value.into()),
                "--only" => options.only = Some(only(&value)?),
                _ => return Err(format!("there is no {name:?}")),
            }
        }
        if options.out.is_some() && !options.which.is_empty() {
            return Err("--out is for all workloads: leave out their names".into());
        }
        Ok(options)
    }

    /// Whether a workload is to be run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.which.is_empty() || self.which.iter().any(|which| which == name)
    }

    /// Rounds of so long each; quick ones are few and short.
    pub(crate) fn timed(&self, rounds: usize, millis: u64, unit: usize) -> Plan {
        let millis = if self.quick { 15 } else { millis };
        let amount = Amount::Time(Duration::from_millis(millis));
        Plan { rounds: self.rounds(rounds), amount, unit }
    }

    /// Rounds of so many ops each.
    pub(crate) fn counted(&self, rounds: usize, ops: usize) -> Plan {
        Plan { rounds: self.rounds(rounds), amount: Amount::Ops(ops), unit: 1 }
    }

    fn rounds(&self, full: usize) -> usize {
        self.rounds.unwrap_or(if self.quick { 2 } else { full })
    }

    /// The one or the other.
    pub(crate) const fn quick_or<T: Copy>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The size of the file that is read.
    pub(crate) fn mib(&self) -> usize {
        self.mib.unwrap_or(self.quick_or(256, 1024))
    }
}

/// `CONTEST:CONTESTANT:OPS`.
fn only(value: &str) -> Result<Only, String> {
    let parsed = value.split_once(':').and_then(|(contest, rest)| {
        let (contestant, ops) = rest.rsplit_once(':')?;
        let ops = ops.parse().ok().filter(|ops| *ops > 0)?;
        Some(Only { contest: contest.into(), contestant: contestant.into(), ops })
    });
    parsed.ok_or_else(|| format!("--only is CONTEST:CONTESTANT:OPS, not {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned), &["w2", "w9", "hop"])
    }

    #[test]
    fn options_have_defaults_and_may_be_given() {
        let options = parse("").unwrap();
        assert_eq!((options.quick, options.peers, options.rounds), (false, false, None));
        assert_eq!((options.mib(), options.tasks), (1024, 128));
        assert!(options.wants("w2") && options.wants("hop"));
        let options = parse("w9 hop --mib 64 --quick --rounds 3 --tasks 8 --dir /a").unwrap();
        assert_eq!((options.quick, options.rounds, options.mib()), (true, Some(3), 64));
        assert_eq!((options.tasks, options.dir.clone()), (8, PathBuf::from("/a")));
        assert!(options.wants("w9") && !options.wants("w2"));
        let options = parse("--peers --out docs").unwrap();
        assert_eq!((options.peers, options.out), (true, Some(PathBuf::from("docs"))));
        let only = parse("w2 --only w2-1:a10:64").unwrap().only.unwrap();
        assert_eq!((only.contest, only.contestant, only.ops), ("w2-1".into(), "a10".into(), 64));
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        assert_eq!(parse("--mib").err().unwrap(), "--mib needs a value");
        assert!(parse("--mib 0").err().unwrap().contains("a number from 1"));
        assert!(parse("--speed 3").err().unwrap().contains("there is no"));
        assert!(parse("--quick w9").err().unwrap().contains("go first"));
        assert!(parse("w10").err().unwrap().contains("w2, w9, hop"));
        assert!(parse("w9 --out docs").err().unwrap().contains("all workloads"));
        assert!(parse("w2 --only w2-1:a10").err().unwrap().contains("CONTEST:CONTESTANT:OPS"));
    }

    #[test]
    fn a_quick_run_is_short() {
        let quick = parse("--quick").unwrap().timed(20, 200, 1);
        assert_eq!(quick.rounds, 2);
        let Amount::Time(time) = quick.amount else { panic!("{quick:?}") };
        assert!(time < Duration::from_millis(20));
        assert_eq!(parse("--rounds 4").unwrap().counted(9, 1).rounds, 4);
    }
}
