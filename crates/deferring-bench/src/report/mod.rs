//! What is said of a run: tables on the terminal, and docs/performance.md with its plots.
//!
//! The prose is in `performance.md` beside this file: what is measured is put where it says
//! `{{name}}`, so that a new run changes figures and nothing else. Not: the figures.

mod machine;
mod plot;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::contest::{Kind, Measured, Row};
use crate::cost::Cost;
use crate::goal::{self, Figures, Gates, Verdict};
use crate::options::Options;
use crate::stats::{CPU, WALL, median};
use crate::work::scale::Curve;
use crate::work::{self, Workload};

const TEMPLATE: &str = include_str!("performance.md");

/// Where the gates keep what they counted, if they are there.
const GATES: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/gates.toml"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/../deferring-gates/gates.toml"),
];

pub(crate) struct Report<'a> {
    options: &'a Options,
    machine: Vec<(&'static str, String)>,
    gates: Option<Gates>,
    measured: Vec<Measured>,
    curves: Vec<Curve>,
    /// What the template's names stand for.
    parts: BTreeMap<String, String>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(options: &'a Options) -> anyhow::Result<Self> {
        let machine = machine::describe(&options.dir);
        let gates = GATES.iter().find_map(|path| fs::read_to_string(path).ok());
        Ok(Self {
            options,
            machine,
            gates: gates.map(|text| Gates::parse(&text)),
            measured: Vec::new(),
            curves: Vec::new(),
            parts: BTreeMap::new(),
        })
    }

    /// The machine, and how it was run.
    pub(crate) fn head(&self) -> String {
        let mut head = String::new();
        for (what, is) in &self.machine {
            let _ = writeln!(head, "- {what}: {is}");
        }
        let _ = write!(head, "- run: {}", self.kind());
        head
    }

    fn kind(&self) -> String {
        let kind = if self.options.quick {
            "**quick: few and short rounds. It shows that everything runs; do not quote it**"
        } else {
            "full"
        };
        let peers = if self.options.peers { "with peers" } else { "without peers" };
        format!("{kind}; {peers}")
    }

    /// Takes what a workload gave, and says it.
    pub(crate) fn add(&mut self, workload: &Workload, measured: Vec<Measured>) -> String {
        let tables: Vec<String> = measured.iter().map(table).collect();
        let text = format!("{}\n\n{}", quoted(&workload.question()), tables.join("\n"));
        self.parts.insert(workload.name.into(), text.clone());
        self.measured.extend(measured);
        format!("\n## {}\n\n{text}", workload.name)
    }

    pub(crate) fn add_curves(&mut self, curves: Vec<Curve>) -> String {
        let mut all = format!("\n## {}\n\n{}\n", work::SCALE, quoted(&work::scales_question()));
        for curve in &curves {
            let table = curve_table(curve);
            let _ = write!(all, "\n{table}");
            self.parts.insert(format!("scale {}", curve.id), table);
        }
        self.parts.insert(work::SCALE.into(), quoted(&work::scales_question()));
        self.curves = curves;
        all
    }

    /// The table of goals; of those that can be told, unless all are wanted.
    pub(crate) fn goals(&mut self, all: bool) -> String {
        let figures = Figures {
            measured: &self.measured,
            curves: &self.curves,
            gates: self.gates.as_ref(),
            peers: self.options.peers,
        };
        let mut goals = goal::all(&figures);
        goals.retain(|goal| all || !matches!(goal.verdict, Verdict::Open(_)));
        let mut table = String::from("| | goal | seen | verdict |\n|---|---|---|---|\n");
        for goal in &goals {
            let verdict = goal.verdict.show();
            let _ =
                writeln!(table, "| {} | {} | {} | {verdict} |", goal.what, goal.goal, goal.seen);
        }
        let met = goals.iter().filter(|goal| goal.verdict == Verdict::Met).count();
        let open = goals.iter().filter(|goal| matches!(goal.verdict, Verdict::Open(_))).count();
        let missed = goals.len() - met - open;
        let _ = write!(table, "\n{met} met, {missed} missed, {open} not said.");
        self.parts.insert("goals".into(), table.clone());
        format!("\n## Goals\n\n{table}\n")
    }

    /// docs/performance.md, and a directory of plots beside it.
    pub(crate) fn write(&mut self, dir: &Path, took: Duration) -> anyhow::Result<()> {
        let head = format!("{}, in {:.0} minutes", self.head(), took.as_secs_f64() / 60.0);
        self.parts.insert("machine".into(), head);
        let command =
            if self.options.peers { "cargo xtask bench --peers" } else { "cargo xtask bench" };
        self.parts.insert("command".into(), command.into());
        let text = fill(TEMPLATE, &self.parts)?;
        let plots = dir.join("performance");
        fs::create_dir_all(&plots).with_context(|| plots.display().to_string())?;
        for (name, svg) in plot::all(&self.measured, &self.curves)? {
            let path = plots.join(name);
            fs::write(&path, svg).with_context(|| path.display().to_string())?;
        }
        let path = dir.join("performance.md");
        fs::write(&path, text).with_context(|| path.display().to_string())
    }
}

/// Puts parts in place of their names; each name has a part, and each part is used.
fn fill(template: &str, parts: &BTreeMap<String, String>) -> anyhow::Result<String> {
    let (mut text, mut used) = (String::new(), 0);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").context("a {{ without its }}")?;
        let part =
            parts.get(name).with_context(|| format!("nothing is known of {{{{{name}}}}}"))?;
        text.push_str(before);
        text.push_str(part.trim_end());
        (rest, used) = (after, used + 1);
    }
    ensure!(
        used == parts.len(),
        "performance.md names {used} parts, and there are {}",
        parts.len()
    );
    Ok(text + rest)
}

fn quoted(text: &str) -> String {
    text.lines().map(|line| format!("> {line}")).collect::<Vec<_>>().join("\n")
}

const HEADING: &str = "\
| | CPU, x raw | time, x raw | CPU ns/op | time ns/op | over raw, ns | enters/op | allocations/op | instructions/op |";

/// One contest: the baseline, then all others.
fn table(measured: &Measured) -> String {
    let Measured { title, op, special, rows, absent, ops, rounds, .. } = measured;
    let mut table =
        format!("**{title}** ({rounds} rounds of {ops} ops; an op is a {op})\n\n{HEADING}");
    let columns = HEADING.matches('|').count() - 1 + usize::from(special.is_some());
    if let Some(special) = special {
        let _ = write!(table, " {special} |");
    }
    let _ = write!(table, "\n|{}\n", "---|".repeat(columns));
    let (cpu, wall) = (measured.raw(CPU), measured.raw(WALL));
    let beside = |of: fn(&Cost) -> Option<f64>| {
        let raws = rows.first()?.pairs.iter().map(|pair| of(&pair.raw));
        let raws: Option<Vec<f64>> = raws.collect();
        raws.filter(|raws| !raws.is_empty()).map(median)
    };
    let enters = beside(|raw| raw.enters);
    let _ = write!(
        table,
        "| raw loop | 1 | 1 | {cpu:.0} | {wall:.0} | 0 | {} | - | {} |",
        number(enters, 3),
        number(measured.raw_instructions, 0)
    );
    if special.is_some() {
        let _ = write!(table, " {} |", number(beside(|raw| raw.special), 2));
    }
    table.push('\n');
    for row in rows {
        let _ = writeln!(table, "{}", line(row, special.is_some()));
    }
    for (name, why) in absent {
        let _ = writeln!(table, "| {name} |{} not there: {why} |", " |".repeat(columns - 2));
    }
    table
}

fn line(row: &Row, special: bool) -> String {
    let ratio = |figure| row.ratio(figure).map_or("-".into(), |spread| spread.show(2));
    let mut line = format!(
        "| {} | {} | {} | {:.0} | {:.0} | {:+.0} | {} | {} | {} |",
        name(row),
        ratio(CPU),
        ratio(WALL),
        row.middle(CPU),
        row.middle(WALL),
        row.minima(CPU),
        number(row.enters(), 3),
        number(row.allocs, 2),
        number(row.instructions, 0),
    );
    if special {
        let special = row.special().map_or("-".into(), |spread| spread.show(2));
        let _ = write!(line, " {special} |");
    }
    line
}

fn name(row: &Row) -> String {
    match row.kind {
        Kind::Ours => format!("**deferring**, {}", row.name),
        Kind::Again | Kind::Tokio | Kind::Peer | Kind::Other => row.name.clone(),
    }
}

fn number(number: Option<f64>, digits: usize) -> String {
    number.map_or("-".into(), |number| format!("{number:.digits$}"))
}

fn curve_table(curve: &Curve) -> String {
    let columns: Vec<_> = curve.lines.iter().chain(&curve.beside).collect();
    let mut table = format!("**{}**\n\n| {} |", curve.title, curve.x);
    for column in &columns {
        let _ = write!(table, " {} |", column.name);
    }
    let _ = writeln!(table, "\n|{}", "---:|".repeat(columns.len() + 1));
    let xs = columns.first().map(|line| line.points.iter().map(|point| point.0));
    for x in xs.into_iter().flatten() {
        let _ = write!(table, "| {x} |");
        for column in &columns {
            let y = column.points.iter().find(|point| point.0 == x).map(|point| point.1);
            let _ = write!(table, " {} |", number(y, 0));
        }
        table.push('\n');
    }
    let _ = writeln!(table, "\nWhat limits it: {}.", curve.limit);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tests::row;
    use crate::work::scale::Line;

    fn contest() -> Measured {
        Measured {
            id: "w2-32",
            title: "reads".into(),
            op: "read",
            special: Some("late"),
            rows: vec![
                row("raw loop again (noise)", Kind::Again, &[(10.0, 10.0)]),
                row("`block_on`", Kind::Ours, &[(15.0, 10.0), (25.0, 10.0)]),
            ],
            raw_instructions: None,
            absent: vec![("glommio".into(), "no such op".into())],
            ops: 64,
            rounds: 2,
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_and_as_many_cells_in_all() {
        let table = table(&contest());
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(lines.len(), 6, "{table}");
        let cells = lines[0].matches('|').count();
        assert!(lines.iter().all(|line| line.matches('|').count() == cells), "{table}");
        assert!(lines[4].starts_with("| **deferring**, `block_on` | 2.00 (1.50 to 2.50) |"));
        assert!(lines[5].contains("not there: no such op"));
    }

    #[test]
    fn a_curve_has_a_line_for_each_point() {
        let line = |name, points: &[(usize, f64)]| Line { name, points: points.into() };
        let table = curve_table(&Curve {
            id: "in-flight",
            title: "ops",
            x: "ops",
            y: "ns",
            lines: vec![line("ours", &[(1, 5.0), (10, 6.0)])],
            beside: vec![line("bytes", &[(10, 400.0)])],
            limit: "memory".into(),
        });
        assert!(table.contains("| 1 | 5 | - |") && table.contains("| 10 | 6 | 400 |"), "{table}");
    }

    #[test]
    fn the_template_has_a_place_for_everything() {
        let names = work::ALL.iter().map(|workload| workload.name.to_owned());
        let curves = ["in-flight", "descriptors", "tasks", "rings"].map(|id| format!("scale {id}"));
        let others = ["goals", "machine", "command", work::SCALE].map(str::to_owned);
        let parts = names.chain(curves).chain(others).map(|name| (name.clone(), name));
        let parts: BTreeMap<String, String> = parts.collect();
        let text = fill(TEMPLATE, &parts).unwrap();
        assert!(!text.contains("{{"), "{text}");
        assert!(fill("{{no}}", &parts).is_err());
        assert!(fill("nothing", &parts).is_err());
    }

    #[test]
    fn plots_are_written_beside_the_text() {
        let dir = tempfile::tempdir().unwrap();
        let plots = plot::all(&[contest()], &[]).unwrap();
        for (name, svg) in plots {
            assert!(svg.starts_with("<svg") && svg.contains("block_on"), "{svg}");
            fs::write(dir.path().join(name), svg).unwrap();
        }
        assert!(dir.path().join("w2-32.svg").exists());
    }
}
