//! Gates on what repeats: user instructions, allocations, enters and system calls per op.
//!
//! The programs of `crates/deferring-gates` are measured (`measure.rs`, by what `reports.rs` reads)
//! and compared (`compare.rs`) with the numbers in its `gates.toml` (`numbers.rs`). Not: time, which
//! does not repeat; that is `bench.rs`. How to read all this: docs/gates.md.

mod compare;
mod measure;
mod numbers;
mod reports;

use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::project;
use compare::{Bounds, Change};
use measure::{Bench, Measured};
use numbers::{FIGURES, Figure, Figures, Numbers};

/// Where the numbers are.
const FILE: &str = "crates/deferring-gates/gates.toml";

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Compare,
    /// Writes what is measured as what is to be.
    Renew,
    /// Whether slow-downs that were planted are seen.
    Planted,
}

impl Form {
    pub(crate) fn parse(options: &[String]) -> Result<Self, String> {
        match options {
            [] => Ok(Self::Compare),
            [option] if option == "--renew" => Ok(Self::Renew),
            [option] if option == "--planted" => Ok(Self::Planted),
            other => Err(format!("gates takes --renew or --planted, not {other:?}")),
        }
    }
}

/// A program, and what of it is compared.
struct Program {
    name: &'static str,
    figures: &'static [Figure],
    /// The loop by hand that enters as often as this should.
    raw: Option<&'static str>,
    /// How many ops are out at once.
    depth: u32,
    bounds: Bounds,
}

const ALL: &[Figure] = &FIGURES;
/// Of ops that end when a worker has done them, or a time has come: when several are out, the clock
/// decides how many end at once.
const BY_THE_CLOCK: &[Figure] = &[Figure::Allocations];
/// Of two threads, where the clock decides, but not much.
const OF_TWO_THREADS: &[Figure] = &[Figure::Allocations, Figure::Enters];

const fn program(name: &'static str, depth: u32, raw: Option<&'static str>) -> Program {
    Program { name, figures: ALL, raw, depth, bounds: Bounds::USUAL }
}

const fn by_the_clock(name: &'static str) -> Program {
    Program { figures: BY_THE_CLOCK, ..program(name, 32, None) }
}

const PROGRAMS: &[Program] = &[
    program("raw", 32, None),
    program("raw-1", 1, None),
    program("nop", 32, Some("raw")),
    program("nop-1", 1, Some("raw-1")),
    program("zero", 32, Some("raw")),
    program("read", 32, Some("raw")),
    program("write", 1, Some("raw-1")),
    program("statx", 1, Some("raw-1")),
    program("open-close", 1, Some("raw-1")),
    program("timeout", 1, Some("raw-1")),
    program("poll", 32, Some("raw")),
    program("message", 32, Some("raw")),
    by_the_clock("write-32"),
    by_the_clock("statx-32"),
    by_the_clock("timeout-32"),
    Program { figures: OF_TWO_THREADS, bounds: Bounds::WIDE, ..program("start", 32, None) },
    program("tokio", 32, Some("raw")),
];

/// A slow-down that is planted (`crates/deferring/src/planted.rs`), and the gates that it trips.
const PLANTED: &[(&str, &[Figure])] = &[
    ("allocation", &[Figure::Allocations]),
    ("second-lock", &[Figure::Instructions]),
    ("submit-each", &[Figure::Enters, Figure::Syscalls]),
];

/// On which programs they are looked for.
const WITH_PLANTED: &[&str] = &["nop-1", "zero"];

pub(crate) fn run(form: &Form) -> anyhow::Result<()> {
    match form {
        Form::Compare => compare_all(),
        Form::Renew => renew(),
        Form::Planted => WITH_PLANTED.iter().try_fold(Vec::new(), collect).and_then(find_planted),
    }
}

fn compare_all() -> anyhow::Result<()> {
    let path = project::root().join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {FILE}"))?;
    let numbers =
        Numbers::parse(&text).with_context(|| format!("{FILE} is not what is expected"))?;
    check_names(&numbers)?;
    let rustc = measure::rustc()?;
    let is_other_rustc = rustc != numbers.rustc;
    let all = measure_all()?;
    let mut complaints = Vec::new();
    let mut hints = Vec::new();
    for (program, measured) in &all {
        let was = numbers.of(program.name).context("checked before")?;
        let bounds = if is_other_rustc { program.bounds.of_other_rustc() } else { program.bounds };
        for change in compare::changes(was, &measured.figures, bounds) {
            let told = tell(program, measured, &change);
            if change.grew() { complaints.push(told) } else { hints.push(told) }
        }
        complaints.extend(more_than_raw(program, measured, &all));
    }
    if is_other_rustc {
        println!("{}", other_rustc(&numbers.rustc, &rustc));
    }
    if !hints.is_empty() {
        println!("\n{}\n{RENEW}, so that it stays so", hints.join("\n"));
    }
    ensure!(
        complaints.is_empty(),
        "{} figures grew:\n\n{}\n\nif that is meant, {RENEW}, and say why in the \
         commit; how to read this is in docs/gates.md",
        complaints.len(),
        complaints.join("\n")
    );
    println!("gates: nothing grew");
    Ok(())
}

const RENEW: &str =
    "write the new numbers by `cargo xtask gates --renew` (crates/deferring-gates/gates.toml)";

fn other_rustc(was: &str, is: &str) -> String {
    format!(
        "the numbers are those of {was:?}, and this is {is:?}: instructions may be {:.0} % more",
        compare::OTHER_RUSTC * 100.0
    )
}

/// Measures all programs, and shows what comes. Without those that need what the machine lacks.
fn measure_all() -> anyhow::Result<Vec<(&'static Program, Measured)>> {
    let start = Instant::now();
    let bench = Bench::build(&[])?;
    let mut all = Vec::new();
    let mut skipped = Vec::new();
    println!("{}", numbers::HEADING);
    for program in PROGRAMS {
        match bench.measure(program, None)? {
            Ok(measured) => {
                println!("{}", measured.figures.row(program.name));
                all.push((program, measured));
            }
            Err(needs) => {
                println!("{}: skipped: needs {needs}", program.name);
                skipped.push(program.name);
            }
        }
    }
    println!("{} programs in {:.0?}; skipped: {}", all.len(), start.elapsed(), skipped.len());
    Ok(all)
}

fn renew() -> anyhow::Result<()> {
    let all = measure_all()?;
    ensure!(
        all.len() == PROGRAMS.len(),
        "renew where nothing is skipped, or what is skipped has no numbers"
    );
    let programs = all.iter().map(|(program, measured)| (program.name.into(), measured.figures));
    let numbers = Numbers { rustc: measure::rustc()?, programs: programs.collect() };
    std::fs::write(project::root().join(FILE), numbers.to_string())?;
    println!("wrote {FILE}: look at what `git diff` says of it before you commit that");
    Ok(())
}

/// The file has each program, with the figures that are measured, and no other.
fn check_names(numbers: &Numbers) -> anyhow::Result<()> {
    for program in PROGRAMS {
        let Some(figures) = numbers.of(program.name) else {
            bail!("{FILE} has no [{}]: {RENEW}", program.name);
        };
        for figure in FIGURES {
            let (is, wanted) = (figures.get(figure).is_some(), program.figures.contains(&figure));
            ensure!(
                is == wanted,
                "{FILE} {} {} of [{}]: {RENEW}",
                if is { "should not have" } else { "lacks" },
                figure.name(),
                program.name
            );
        }
    }
    for (name, _) in &numbers.programs {
        let known = PROGRAMS.iter().any(|program| program.name == name);
        ensure!(known, "{FILE} has [{name}], which is no program: {RENEW}");
    }
    Ok(())
}

/// What a change is, with what may explain it.
fn tell(program: &Program, measured: &Measured, change: &Change) -> String {
    let mut text = format!("{}: {change}", program.name);
    let (of_what, parts) = match change.figure {
        Figure::Instructions => ("by function", &measured.functions),
        Figure::Syscalls => ("by name", &measured.calls),
        Figure::Allocations | Figure::Enters => return text,
    };
    if change.grew() {
        let parts = parts.iter().take(5).filter(|(_, n)| *n >= 0.005);
        let parts: Vec<String> = parts.map(|(name, n)| format!("{n:9.2} {name}")).collect();
        text += &format!("\n  now, {of_what}, the most first:\n    {}", parts.join("\n    "));
    }
    text
}

/// Whatever the numbers say: a ring enters the kernel as often as a loop by hand.
fn more_than_raw(
    program: &Program,
    measured: &Measured,
    all: &[(&Program, Measured)],
) -> Option<String> {
    let name = program.raw?;
    let (_, raw) = all.iter().find(|(other, _)| other.name == name)?;
    let (is, raw) = (measured.figures.get(Figure::Enters)?, raw.figures.get(Figure::Enters)?);
    (is > raw * compare::OF_RAW).then(|| {
        format!(
            "{}: {is:.4} enters per op, and a loop by hand has {raw:.4} ({name}): more than {} \
             times as many",
            program.name,
            compare::OF_RAW
        )
    })
}

type Programs = Vec<&'static Program>;

fn collect(mut programs: Programs, name: &&str) -> anyhow::Result<Programs> {
    let program = PROGRAMS.iter().find(|program| program.name == *name);
    programs.push(program.with_context(|| format!("there is no program {name}"))?);
    Ok(programs)
}

/// Looks for each slow-down that is planted, beside the same build without one. (The switch itself
/// costs some instructions, so that the numbers of the file are not those of this build.)
fn find_planted(programs: Programs) -> anyhow::Result<()> {
    let start = Instant::now();
    let bench = Bench::build(&["deferring_planted"])?;
    let measure = |planted| -> anyhow::Result<Result<Vec<Figures>, String>> {
        let measured = programs.iter().map(|program| bench.measure(program, planted));
        let measured = measured.collect::<anyhow::Result<Result<Vec<_>, _>>>()?;
        Ok(measured.map(|all| all.iter().map(|one| one.figures).collect()))
    };
    let before = match measure(None)? {
        Ok(before) => before,
        Err(needs) => {
            println!("skipped: needs {needs}");
            return Ok(());
        }
    };
    let grown = |now: &[Figures]| -> Vec<(&str, Change)> {
        let pairs = programs.iter().zip(before.iter().zip(now));
        let grown = pairs.flat_map(|(program, (was, is))| {
            let changes = compare::changes(was, is, program.bounds);
            changes.into_iter().filter(Change::grew).map(|change| (program.name, change))
        });
        grown.collect()
    };
    let again = measure(None)?.map_err(anyhow::Error::msg)?;
    let nothing = grown(&again);
    ensure!(nothing.is_empty(), "nothing is planted, and yet: {nothing:?}");
    println!("nothing: trips nothing");
    for (bug, figures) in PLANTED {
        let now = measure(Some(bug))?.map_err(anyhow::Error::msg)?;
        let grown = grown(&now);
        for figure in *figures {
            let found = grown.iter().find(|(_, change)| change.figure == *figure);
            let Some((program, change)) = found else {
                bail!("{bug} is planted, and the gate of {} is not tripped", figure.name());
            };
            println!("{bug}: tripped: {program}: {change}");
        }
    }
    println!("gates: what is planted is seen, in {:.0?}", start.elapsed());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_one_or_none() {
        let parse = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.into()).collect();
            Form::parse(&words)
        };
        assert_eq!(parse(&[]), Ok(Form::Compare));
        assert_eq!(parse(&["--renew"]), Ok(Form::Renew));
        assert_eq!(parse(&["--planted"]), Ok(Form::Planted));
        assert!(parse(&["--renew", "--planted"]).is_err());
        assert!(parse(&["--faster"]).is_err());
    }

    #[test]
    fn the_file_of_numbers_has_each_program_as_it_is_measured() {
        let text = std::fs::read_to_string(project::root().join(FILE)).unwrap();
        let numbers = Numbers::parse(&text).unwrap();
        check_names(&numbers).unwrap();
        assert_eq!(numbers.to_string(), text, "as it is written by --renew");
    }

    #[test]
    fn a_program_or_figure_that_the_file_lacks_or_that_nobody_measures_is_told() {
        let text = std::fs::read_to_string(project::root().join(FILE)).unwrap();
        let told =
            |text: &str| check_names(&Numbers::parse(text).unwrap()).unwrap_err().to_string();
        assert!(told(&text.replace("[zero]", "[nought]")).contains("has no [zero]"));
        assert!(told(&(text + "[nought]\n")).contains("[nought], which is no program"));
        let numbers = "rustc = \"r\"\n[raw]\nallocations = 0\n";
        assert!(told(numbers).contains("lacks instructions of [raw]"));
    }

    fn measured(enters: f64) -> Measured {
        let figures = Figures::of(&[(Figure::Enters, enters), (Figure::Instructions, 500.0)]);
        let functions = (1..9).map(|n| (format!("function{n}"), 90.0 - f64::from(n))).collect();
        Measured { figures, functions, calls: Vec::new() }
    }

    #[test]
    fn instructions_that_grew_are_told_with_the_five_functions_that_have_most() {
        let program = program("zero", 32, None);
        let was = Figures::of(&[(Figure::Instructions, 400.0)]);
        let measured = measured(1.0);
        let [change] = &compare::changes(&was, &measured.figures, Bounds::USUAL)[..] else {
            panic!("one change")
        };
        let told = tell(&program, &measured, change);
        assert!(told.starts_with("zero: instructions per op grew from 400.0 to 500.0 (+25.0 %"));
        assert!(told.contains("89.00 function1\n") && told.contains("85.00 function5"), "{told}");
        assert!(!told.contains("function6"), "{told}");
    }

    #[test]
    fn more_enters_than_a_loop_by_hand_has_are_told_whatever_the_numbers_say() {
        let (raw, zero) = (program("raw", 32, None), program("zero", 32, Some("raw")));
        let all = |enters| vec![(&raw, measured(1.0)), (&zero, measured(enters))];
        let told = |enters| more_than_raw(&zero, &measured(enters), &all(enters));
        assert_eq!(told(1.02), None);
        let message = told(1.03).unwrap();
        assert!(message.contains("zero: 1.0300 enters per op"), "{message}");
        assert_eq!(more_than_raw(&raw, &measured(9.0), &all(1.0)), None);
    }

    #[test]
    fn each_slow_down_that_is_planted_is_looked_for_where_its_figures_are_measured() {
        let programs = WITH_PLANTED.iter().try_fold(Vec::new(), collect).unwrap();
        for (bug, figures) in PLANTED {
            let measured = |figure| programs.iter().any(|program| program.figures.contains(figure));
            assert!(figures.iter().all(measured), "{bug}");
        }
    }
}
