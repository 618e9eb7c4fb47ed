//! From costs to what can be said: medians of ratios within a round, how sure they are, and
//! differences of minima.
//!
//! Numbers in, numbers out. Not: what is asked of them (`goal.rs`).

use crate::contest::{Measured, Pair, Row};
use crate::cost::Cost;
use crate::file::Draw;

/// The middle of some values, and where it would lie 95 times of 100 if they were drawn again from
/// what was seen (a bootstrap).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        if values.is_empty() {
            return None;
        }
        let mut draw = Draw::new(values.len() as u64);
        let mut medians: Vec<f64> = (0..DRAWS)
            .map(|_| median((0..values.len()).map(|_| values[draw.below(values.len())])))
            .collect();
        medians.sort_by(f64::total_cmp);
        let (low, high) = (medians[DRAWS / 40], medians[DRAWS - 1 - DRAWS / 40]);
        Some(Self { median: median(values), low, high })
    }

    /// With so many digits behind the point.
    pub(crate) fn show(&self, digits: usize) -> String {
        let Self { median, low, high } = self;
        format!("{median:.digits$} ({low:.digits$} to {high:.digits$})")
    }
}

const DRAWS: usize = 2000;

pub(crate) type Figure = fn(&Cost) -> f64;

pub(crate) const WALL: Figure = |cost| cost.wall_ns;
pub(crate) const CPU: Figure = |cost| cost.cpu_ns;

impl Row {
    /// Relative to the baseline beside it.
    pub(crate) fn ratio(&self, figure: Figure) -> Option<Spread> {
        Spread::of(self.pairs.iter().map(|Pair { cost, raw }| figure(cost) / figure(raw)))
    }

    /// Relative to another, in the same rounds, each relative to the baseline beside it.
    pub(crate) fn ratio_to(&self, other: &Self, figure: Figure) -> Option<Spread> {
        let relative = |pair: &Pair| figure(&pair.cost) / figure(&pair.raw);
        let pairs = self.pairs.iter().zip(&other.pairs);
        Spread::of(pairs.map(|(one, other)| relative(one) / relative(other)))
    }

    /// By how much one exceeds another, in the same rounds.
    pub(crate) fn excess(&self, other: &Self, figure: Figure) -> Option<Spread> {
        let pairs = self.pairs.iter().zip(&other.pairs);
        Spread::of(pairs.map(|(one, other)| figure(&one.cost) - figure(&other.cost)))
    }

    /// The least cost less the least of the baseline: what noise, which only adds, leaves.
    pub(crate) fn minima(&self, figure: Figure) -> f64 {
        let least = |of: fn(&Pair) -> &Cost| {
            self.pairs.iter().map(|pair| figure(of(pair))).fold(f64::INFINITY, f64::min)
        };
        least(|pair| &pair.cost) - least(|pair| &pair.raw)
    }

    pub(crate) fn middle(&self, figure: Figure) -> f64 {
        median(self.pairs.iter().map(|pair| figure(&pair.cost)))
    }

    /// For each op; `None` if it does not know.
    pub(crate) fn enters(&self) -> Option<f64> {
        self.middle_of(|pair| pair.cost.enters)
    }

    /// Relative to the baseline's.
    pub(crate) fn enters_ratio(&self) -> Option<f64> {
        self.middle_of(|pair| Some(pair.cost.enters? / pair.raw.enters?))
    }

    pub(crate) fn special(&self) -> Option<Spread> {
        let values: Option<Vec<f64>> = self.pairs.iter().map(|pair| pair.cost.special).collect();
        Spread::of(values?)
    }

    fn middle_of(&self, of: impl Fn(&Pair) -> Option<f64>) -> Option<f64> {
        let values: Option<Vec<f64>> = self.pairs.iter().map(of).collect();
        values.filter(|values| !values.is_empty()).map(median)
    }
}

impl Measured {
    /// The baseline itself.
    pub(crate) fn raw(&self, figure: Figure) -> f64 {
        let raw = |row: &Row| row.pairs.iter().map(|pair| figure(&pair.raw)).collect::<Vec<_>>();
        median(self.rows.first().map(raw).unwrap_or_default())
    }
}

/// The middle value, or the mean of the two; of nothing, not a number.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::contest::Kind;

    /// One that cost so much, beside a baseline that cost so much.
    pub(crate) fn row(name: &str, kind: Kind, costs: &[(f64, f64)]) -> Row {
        let cost = |ns| Cost { wall_ns: ns, cpu_ns: ns, enters: Some(ns / 100.0), special: None };
        let pairs = costs.iter().map(|(one, raw)| Pair { cost: cost(*one), raw: cost(*raw) });
        Row {
            name: name.into(),
            kind,
            pairs: pairs.collect(),
            allocs: Some(0.0),
            instructions: None,
        }
    }

    #[test]
    fn a_ratio_is_of_pairs_and_its_middle_is_the_median_of_those() {
        let one = row("one", Kind::Ours, &[(2.0, 1.0), (9.0, 3.0), (4.0, 4.0)]);
        let other = row("other", Kind::Peer, &[(4.0, 1.0), (3.0, 3.0), (8.0, 4.0)]);
        assert_eq!(one.ratio(WALL).unwrap().median, 2.0);
        assert_eq!(one.ratio_to(&other, CPU).unwrap().median, 0.5);
        assert_eq!(one.excess(&other, WALL).unwrap().median, -2.0);
        assert_eq!(one.minima(WALL), 1.0);
        assert_eq!((one.middle(WALL), one.enters_ratio()), (4.0, Some(2.0)));
        assert_eq!(one.special(), None);
    }

    #[test]
    fn an_interval_holds_the_median_and_narrows_with_what_was_seen() {
        let few = Spread::of([1.0, 2.0, 3.0]).unwrap();
        assert_eq!((few.median, few.low, few.high), (2.0, 1.0, 3.0));
        let many = Spread::of((0..301).map(|at| 1.0 + f64::from(at) / 150.0)).unwrap();
        assert!(many.low > 1.7 && many.low < 2.0, "{many:?}");
        assert!(many.high < 2.3 && many.high > 2.0, "{many:?}");
        let same = Spread::of([5.0; 9]).unwrap();
        assert_eq!((same.low, same.high), (5.0, 5.0));
        assert_eq!(Spread::of([]), None);
        assert_eq!(same.show(1), "5.0 (5.0 to 5.0)");
    }
}
