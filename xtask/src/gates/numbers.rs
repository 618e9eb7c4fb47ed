//! The file of numbers: what each program's ops cost, when somebody last looked and agreed.
//!
//! A small part of TOML, as it is written here: one string, then sections of numbers. Not: whether
//! what is measured agrees with it (`compare.rs`).

use std::fmt;

use anyhow::{Context, bail, ensure};

/// What is counted, per op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    Instructions,
    Allocations,
    Enters,
    Syscalls,
}

pub(super) const FIGURES: [Figure; 4] =
    [Figure::Instructions, Figure::Allocations, Figure::Enters, Figure::Syscalls];

impl Figure {
    /// In the file.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Allocations => "allocations",
            Self::Enters => "enters",
            Self::Syscalls => "syscalls",
        }
    }

    /// In a message.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Instructions => "instructions per op",
            Self::Allocations => "allocations per op",
            Self::Enters => "enters (io_uring_enter) per op",
            Self::Syscalls => "system calls per op",
        }
    }

    /// How many digits behind the point say something.
    pub(super) const fn digits(self) -> usize {
        match self {
            Self::Instructions => 1,
            Self::Allocations | Self::Enters | Self::Syscalls => 5,
        }
    }
}

/// What an op of one program costs, as far as that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub(super) struct Figures([Option<f64>; FIGURES.len()]);

pub(super) const HEADING: &str = "\
program      instructions  allocations   enters  system calls, per op";

impl Figures {
    #[cfg(test)]
    pub(super) fn of(figures: &[(Figure, f64)]) -> Self {
        let mut all = Self::default();
        figures.iter().for_each(|&(figure, number)| all.set(figure, number));
        all
    }

    pub(super) const fn get(&self, figure: Figure) -> Option<f64> {
        self.0[figure as usize]
    }

    pub(super) const fn set(&mut self, figure: Figure, number: f64) {
        self.0[figure as usize] = Some(number);
    }

    /// A line of a table under [`HEADING`].
    pub(super) fn row(&self, name: &str) -> String {
        let [instructions, allocations, enters, syscalls] = FIGURES.map(|figure| {
            let digits = figure.digits();
            self.get(figure).map_or_else(|| "-".into(), |number| format!("{number:.digits$}"))
        });
        format!("{name:<12} {instructions:>12}  {allocations:>11}  {enters:>7}  {syscalls:>12}")
    }
}

/// The whole file.
#[derive(Debug, PartialEq)]
pub(super) struct Numbers {
    /// What rustc says that it is.
    pub(super) rustc: String,
    pub(super) programs: Vec<(String, Figures)>,
}

impl Numbers {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let (mut rustc, mut programs) = (None, Vec::<(String, Figures)>::new());
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let place = || format!("line {}: {line}", at + 1);
            if let Some(name) = line.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
                ensure!(programs.iter().all(|(other, _)| other != name), "{}: twice", place());
                programs.push((name.to_owned(), Figures::default()));
                continue;
            }
            let (key, value) = line.split_once('=').with_context(place)?;
            let (key, value) = (key.trim(), value.trim());
            match (key, programs.last_mut()) {
                ("rustc", None) => rustc = Some(value.trim_matches('"').to_owned()),
                (_, None) => bail!("{}: a number of no program", place()),
                (_, Some((_, figures))) => {
                    let figure = FIGURES.into_iter().find(|figure| figure.name() == key);
                    let figure = figure.with_context(|| format!("{}: no figure", place()))?;
                    let number = value.parse::<f64>().ok().filter(|number| *number >= 0.0);
                    let number = number.with_context(|| format!("{}: no number", place()))?;
                    ensure!(figures.get(figure).is_none(), "{}: twice", place());
                    figures.set(figure, number);
                }
            }
        }
        Ok(Self { rustc: rustc.context("no line says which rustc")?, programs })
    }

    pub(super) fn of(&self, program: &str) -> Option<&Figures> {
        self.programs.iter().find(|(name, _)| name == program).map(|(_, figures)| figures)
    }
}

const PREFACE: &str = "\
# What an op costs, by program of this crate. `cargo xtask gates` measures, and fails if something
# is more than 2 % above these numbers. It is written by `cargo xtask gates --renew`: a commit that
# changes a number says why. How to read it: docs/gates.md.
";

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{PREFACE}\nrustc = {:?}", self.rustc)?;
        for (name, figures) in &self.programs {
            writeln!(f, "\n[{name}]")?;
            for figure in FIGURES {
                if let Some(number) = figures.get(figure) {
                    let digits = figure.digits();
                    writeln!(f, "{} = {number:.digits$}", figure.name())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let zero = Figures::of(&[(Figure::Instructions, 400.1), (Figure::Allocations, 0.0)]);
        let programs = vec![("zero".into(), zero), ("a-1".into(), Figures::default())];
        let numbers = Numbers { rustc: "rustc 1.95.0 (5 2026)".into(), programs };
        let text = numbers.to_string();
        assert!(text.ends_with("[zero]\ninstructions = 400.1\nallocations = 0.00000\n\n[a-1]\n"));
        assert_eq!(Numbers::parse(&text).unwrap(), numbers);
    }

    #[test]
    fn what_is_no_number_is_refused_with_its_line() {
        let told = |text: &str| format!("{:#}", Numbers::parse(text).unwrap_err());
        assert!(told("[a]\nenters = 1\n").contains("which rustc"));
        assert!(told("rustc = \"r\"\nenters = 1\n").contains("line 2: enters = 1: a number of no"));
        assert!(told("rustc = \"r\"\n[a]\nenters = many\n").contains("line 3"));
        assert!(told("rustc = \"r\"\n[a]\nenters = -1\n").contains("no number"));
        assert!(told("rustc = \"r\"\n[a]\nenters = NaN\n").contains("no number"));
        assert!(told("rustc = \"r\"\n[a]\nexits = 1\n").contains("no figure"));
        assert!(told("rustc = \"r\"\n[a]\n[a]\n").contains("twice"));
        assert!(told("rustc = \"r\"\n[a]\nenters = 1\nenters = 1\n").contains("twice"));
        assert!(told("rustc = \"r\"\n[a]\nenters\n").contains("line 3: enters"));
    }

    #[test]
    fn a_row_stands_under_the_heading_and_says_what_is_not_measured() {
        let figures = Figures::of(&[(Figure::Instructions, 1612.97), (Figure::Enters, 0.03125)]);
        assert_eq!(
            figures.row("zero"),
            "zero               1613.0            -  0.03125             -"
        );
    }
}
