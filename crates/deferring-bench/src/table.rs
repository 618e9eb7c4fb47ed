//! From costs to what can be said: medians, ratios within a round, and how far single rounds stray.
//!
//! Numbers in, lines of markdown out.

use crate::cost::Cost;

/// A ratio, or a difference, of costs of the same round: the middle one, the least, the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.collect();
        Self {
            median: median(values.iter().copied()),
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            greatest: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// With so many digits behind the point.
    pub(crate) fn show(&self, digits: usize) -> String {
        let Self { median, least, greatest } = self;
        format!("{median:.digits$} ({least:.digits$} to {greatest:.digits$})")
    }
}

/// What was measured of one contestant, round by round.
pub(crate) type Column = Vec<Cost>;

pub(crate) type Figure = fn(&Cost) -> f64;

pub(crate) const WALL: Figure = |cost| cost.wall_ns;
pub(crate) const CPU: Figure = |cost| cost.cpu_ns;

/// A figure of one relative to that of another, in the same rounds.
pub(crate) fn ratio(one: &[Cost], other: &[Cost], figure: Figure) -> Spread {
    Spread::of(one.iter().zip(other).map(|(one, other)| figure(one) / figure(other)))
}

/// By how much one figure exceeds the other, in the same rounds.
pub(crate) fn excess(one: &[Cost], other: &[Cost], figure: Figure) -> Spread {
    Spread::of(one.iter().zip(other).map(|(one, other)| figure(one) - figure(other)))
}

pub(crate) fn middle(column: &[Cost], figure: Figure) -> f64 {
    median(column.iter().map(figure))
}

pub(crate) fn enters(column: &[Cost]) -> String {
    let known: Option<Vec<f64>> = column.iter().map(|cost| cost.enters).collect();
    known.map_or("-".into(), |enters| format!("{:.3}", median(enters.into_iter())))
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

/// Whether a goal is met, in a word.
pub(crate) fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(walls: &[f64]) -> Column {
        walls.iter().map(|wall| Cost { wall_ns: *wall, cpu_ns: 1.0, enters: None }).collect()
    }

    #[test]
    fn a_ratio_is_of_pairs_and_its_middle_is_the_median_of_those() {
        let (one, other) = (column(&[2.0, 9.0, 4.0]), column(&[1.0, 3.0, 4.0]));
        let spread = ratio(&one, &other, WALL);
        assert_eq!(spread.show(1), "2.0 (1.0 to 3.0)");
        assert_eq!(excess(&one, &other, WALL).show(0), "1 (0 to 6)");
        assert_eq!(middle(&one, WALL), 4.0);
        assert_eq!(enters(&one), "-");
    }
}
