//! The answers of the kernels, held against one another.
//!
//! Of scripts that are answered differently the first is cut down to what it takes, and shown.

use std::io::{self, Write as _};

use super::play::{Told, play};
use super::{Lane, Script};
use crate::worlds::{ALL, Kernel, on};

/// How many are played on one ring.
const BATCH: u64 = 50;

/// Plays so many scripts, or as many as the environment asks for, or the one that it names.
pub(super) fn all_alike(count: u64, draw: impl Fn(u64) -> Script) {
    let asked = |name: &str| {
        let value = std::env::var(name).ok()?;
        Some(value.parse::<u64>().unwrap_or_else(|_| panic!("{name}={value:?} is no number")))
    };
    let seeds = match asked("DEFERRING_CONFORMANCE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..asked("DEFERRING_CONFORMANCE_SEEDS").unwrap_or(count),
    };
    let (mut steps, mut first) = (0, seeds.start);
    while first < seeds.end {
        let scripts: Vec<Script> = (first..seeds.end.min(first + BATCH)).map(&draw).collect();
        compare(&scripts);
        steps += scripts
            .iter()
            .flat_map(|script| &script.lanes)
            .map(|lane| lane.steps.len())
            .sum::<usize>();
        first += BATCH;
    }
    let _ =
        writeln!(io::stderr(), "{} scripts, {steps} ops on each kernel", seeds.end - seeds.start);
}

fn compare(scripts: &[Script]) {
    let told = ALL.map(|kernel| (kernel, play_all(kernel, scripts)));
    let mut told: Vec<_> =
        told.into_iter().filter_map(|(kernel, all)| Some((kernel, all?.into_iter()))).collect();
    for script in scripts {
        let all = told.iter_mut().map(|(kernel, all)| (*kernel, all.next().expect("one for each")));
        let all: Answers = all.collect();
        assert!(all.iter().all(|(_, other)| *other == all[0].1), "{}", explain(script, &all));
    }
}

/// `None` if the system refuses the kernel.
fn play_all(kernel: Kernel, scripts: &[Script]) -> Option<Vec<Told>> {
    if kernel == Kernel::Sim {
        // A machine for each, and its seed.
        let one = |script: &Script| {
            on(kernel, script.seed, async |world| play(world, "script", script).await)
        };
        return scripts.iter().map(one).collect();
    }
    on(kernel, 0, async |world| {
        let mut all = Vec::new();
        for (n, script) in scripts.iter().enumerate() {
            all.push(world.in_time(play(world, &n.to_string(), script)).await);
        }
        all
    })
}

// When it goes wrong.

type Answers = Vec<(Kernel, Told)>;

fn explain(script: &Script, told: &Answers) -> String {
    let mut text = format!("seed {}: not answered alike\n", script.seed);
    for (n, lane) in script.lanes.iter().enumerate() {
        match shortest(script.seed, lane.clone()) {
            Some((lane, told)) => show(&mut text, 0, &lane, &told),
            None if first_difference(told, n).is_some() => {
                text += "only with its other lanes:\n";
                let mut lane = lane.clone();
                lane.steps.truncate(first_difference(told, n).map_or(0, |at| at + 1));
                show(&mut text, n, &lane, told);
            }
            None => {}
        }
    }
    if text.lines().count() == 1 {
        text += "only all lanes at once leave other trees\n";
        show_trees(&mut text, told);
    }
    text
}

/// The shortest lane that is answered differently, played alone. `None` if it is answered alike.
fn shortest(seed: u64, lane: Lane) -> Option<(Lane, Answers)> {
    let (mut lane, mut told) = (lane.clone(), differs(seed, lane)?);
    if let Some(at) = first_difference(&told, 0) {
        lane.steps.truncate(at + 1);
    }
    for at in (0..lane.steps.len()).rev() {
        if lane.steps[at].is_of_a_stream() {
            continue;
        }
        let mut without = lane.clone();
        without.steps.remove(at);
        if let Some(other) = differs(seed, without.clone()) {
            (lane, told) = (without, other);
        }
    }
    Some((lane, told))
}

fn differs(seed: u64, lane: Lane) -> Option<Answers> {
    let script = [Script::of(seed, lane)];
    let all =
        ALL.into_iter().filter_map(|kernel| Some((kernel, play_all(kernel, &script)?.pop()?)));
    let told: Answers = all.collect();
    told.iter().any(|(_, other)| *other != told[0].1).then_some(told)
}

/// The first step of a lane that was answered differently.
fn first_difference(told: &Answers, lane: usize) -> Option<usize> {
    let first = &told[0].1.answers[lane];
    (0..first.len()).find(|&at| told.iter().any(|(_, told)| told.answers[lane][at] != first[at]))
}

fn show(text: &mut String, lane_at: usize, lane: &Lane, told: &Answers) {
    *text += if lane.fifo { "there is a FIFO, \"f\"\n" } else { "" };
    for (at, step) in lane.steps.iter().enumerate() {
        *text += &format!("  {step:?}\n");
        let answers: Vec<&String> =
            told.iter().map(|(_, told)| &told.answers[lane_at][at]).collect();
        if answers.iter().all(|answer| *answer == answers[0]) {
            *text += &format!("    {}\n", answers[0]);
        } else {
            for ((kernel, _), answer) in told.iter().zip(answers) {
                *text += &format!("    {kernel:?}: {answer}\n");
            }
        }
    }
    show_trees(text, told);
}

/// What is not in all.
fn show_trees(text: &mut String, told: &Answers) {
    for (kernel, one) in told {
        let alone = |line: &&String| !told.iter().all(|(_, other)| other.tree.contains(line));
        for line in one.tree.iter().filter(alone) {
            *text += &format!("  left by {kernel:?}: {line}\n");
        }
    }
}
