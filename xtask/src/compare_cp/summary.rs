//! From samples to what can be said: medians, their ratio, and how far single rounds stray.
//!
//! Numbers in, lines out: nothing is run and nothing printed here.

use std::fmt::Write;

use super::timed::Sample;

/// One run of each, close together in time, so that their ratios are fair.
pub(super) struct Round {
    pub(super) deferring: Sample,
    pub(super) cp: Sample,
    pub(super) cp_again: Sample,
}

type Runner = fn(&Round) -> Sample;
type Figure = fn(&Sample) -> f64;

const RUNNERS: [(&str, Runner); 3] = [
    ("deferring cp", |round| round.deferring),
    ("cp", |round| round.cp),
    ("cp again", |round| round.cp_again),
];

const FIGURES: [(&str, Figure); 3] = [
    ("wall", |sample| sample.wall_seconds),
    ("cpu", |sample| sample.cpu_seconds),
    ("rss", |sample| sample.rss_kib),
];

pub(super) const HEADING: &str = "\
round   program         wall s   user+sys s   peak RSS MiB";

pub(super) fn of_round(number: usize, round: &Round) -> String {
    let lines = RUNNERS.map(|(name, sample)| line(&number.to_string(), name, &sample(round)));
    lines.join("\n")
}

fn line(round: &str, name: &str, sample: &Sample) -> String {
    let Sample { wall_seconds, cpu_seconds, rss_kib } = sample;
    let rss_mib = rss_kib / 1024.0;
    format!("{round:<7} {name:<13} {wall_seconds:>8.3} {cpu_seconds:>12.2} {rss_mib:>14.1}")
}

pub(super) fn of_all(rounds: &[Round]) -> String {
    let mut text = String::new();
    for (name, sample) in RUNNERS {
        let middle = |figure: Figure| median(rounds.iter().map(|round| figure(&sample(round))));
        let [wall_seconds, cpu_seconds, rss_kib] = FIGURES.map(|(_, figure)| middle(figure));
        text += &line("median", name, &Sample { wall_seconds, cpu_seconds, rss_kib });
        text.push('\n');
    }
    text += "\nratio of the medians (least to greatest ratio within a round)\n";
    text += &ratios("deferring cp / cp", rounds, |round| round.deferring);
    text += &ratios("cp again / cp (noise)", rounds, |round| round.cp_again);
    text
}

/// `runner` against `cp`, figure by figure.
fn ratios(name: &str, rounds: &[Round], runner: Runner) -> String {
    let mut text = format!("{name:<22}");
    for (figure_name, figure) in FIGURES {
        let of_runner = || rounds.iter().map(|round| figure(&runner(round)));
        let of_cp = || rounds.iter().map(|round| figure(&round.cp));
        let paired = || of_runner().zip(of_cp()).map(|(ours, theirs)| ours / theirs);

        let ratio = median(of_runner()) / median(of_cp());
        let least = paired().fold(f64::INFINITY, f64::min);
        let greatest = paired().fold(f64::NEG_INFINITY, f64::max);
        write!(text, " {figure_name} {ratio:.2} ({least:.2} to {greatest:.2})")
            .expect("a String takes all");
    }
    text.push('\n');
    text
}

/// The middle value, or the mean of the two; there is at least one.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(wall_seconds: f64) -> Sample {
        Sample { wall_seconds, cpu_seconds: 2.0 * wall_seconds, rss_kib: 2048.0 }
    }

    fn round(deferring: f64, cp: f64, cp_again: f64) -> Round {
        Round { deferring: sample(deferring), cp: sample(cp), cp_again: sample(cp_again) }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median([7.0].into_iter()), 7.0);
    }

    #[test]
    fn a_ratio_is_of_medians_and_its_range_of_pairs() {
        let rounds = [round(1.0, 2.0, 2.0), round(2.0, 4.0, 2.0), round(3.0, 3.0, 3.0)];
        assert_eq!(
            ratios("a / b", &rounds, |round| round.deferring),
            "a / b                  wall 0.67 (0.50 to 1.00) cpu 0.67 (0.50 to 1.00) \
             rss 1.00 (1.00 to 1.00)\n"
        );
    }

    #[test]
    fn columns_stand_under_their_heading() {
        let text = of_round(12, &round(1.25, 2.0, 3.0));
        assert_eq!(
            text.lines().next(),
            Some("12      deferring cp     1.250         2.50            2.0")
        );
        assert!(text.lines().all(|line| line.len() == HEADING.len()), "{text}");
    }

    #[test]
    fn the_summary_has_each_program_and_the_noise() {
        let text = of_all(&[round(1.0, 2.0, 2.0)]);
        for part in ["median  deferring cp", "median  cp ", "deferring cp / cp", "(noise)"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
