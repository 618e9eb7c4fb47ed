//! Whether a figure is what it was.
//!
//! Not: where the two numbers come from (`numbers.rs`, `measure.rs`).

use std::fmt;

use super::numbers::{FIGURES, Figure, Figures};

/// How much more, or less, is the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    /// A part of the number.
    tolerance: f64,
    of_instructions: f64,
}

/// Another compiler makes other instructions of the same program.
pub(super) const OTHER_RUSTC: f64 = 0.10;

/// How many times the enters of a loop by hand a ring may have.
pub(super) const OF_RAW: f64 = 1.02;

impl Bounds {
    pub(super) const USUAL: Self = Self { tolerance: 0.02, of_instructions: 0.02 };
    /// Where the clock has a say: twice as much was seen on a machine that was busy. What was
    /// submitted by the batch and is submitted by the op is 32 times as much.
    pub(super) const WIDE: Self = Self { tolerance: 3.0, ..Self::USUAL };

    /// The same, for numbers that another compiler's program had.
    pub(super) const fn of_other_rustc(self) -> Self {
        Self { of_instructions: OTHER_RUSTC, ..self }
    }

    const fn tolerance(self, figure: Figure) -> f64 {
        match figure {
            Figure::Instructions => self.of_instructions,
            Figure::Allocations | Figure::Enters | Figure::Syscalls => self.tolerance,
        }
    }
}

/// Beside the tolerance: what comes of rounding, and of a call or two that have nothing to do with
/// ops. So a figure that is zero stays zero but for those.
const fn slack(figure: Figure) -> f64 {
    match figure {
        Figure::Instructions => 0.5,
        Figure::Allocations | Figure::Enters => 0.0002,
        Figure::Syscalls => 0.0008,
    }
}

/// A figure that is not what it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) figure: Figure,
    was: f64,
    is: f64,
    tolerance: f64,
}

impl Change {
    pub(super) fn grew(&self) -> bool {
        self.is > self.was
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figure, was, is, tolerance } = *self;
        let (words, digits) = (figure.words(), figure.digits());
        let verb = if self.grew() { "grew" } else { "shrank" };
        write!(f, "{words} {verb} from {was:.digits$} to {is:.digits$} (")?;
        if was > 0.0 {
            write!(
                f,
                "{:+.1} %; {:.0} % are tolerated)",
                (is / was - 1.0) * 100.0,
                tolerance * 100.0
            )
        } else {
            write!(f, "there were none)")
        }
    }
}

/// What is not what it was, of what is in both.
pub(super) fn changes(was: &Figures, is: &Figures, bounds: Bounds) -> Vec<Change> {
    let change = |figure| {
        let (was, is) = (was.get(figure)?, is.get(figure)?);
        let tolerance = bounds.tolerance(figure);
        let same = (is - was).abs() <= was * tolerance + slack(figure);
        (!same).then_some(Change { figure, was, is, tolerance })
    };
    FIGURES.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(figure: Figure, was: f64, is: f64, bounds: Bounds) -> Option<String> {
        let (was, is) = (Figures::of(&[(figure, was)]), Figures::of(&[(figure, is)]));
        changes(&was, &is, bounds).first().map(Change::to_string)
    }

    #[test]
    fn two_per_cent_are_tolerated_and_not_three() {
        let instructions = |is| change(Figure::Instructions, 400.0, is, Bounds::USUAL);
        assert_eq!(instructions(408.0), None);
        assert_eq!(instructions(392.0), None);
        assert_eq!(
            instructions(412.0).unwrap(),
            "instructions per op grew from 400.0 to 412.0 (+3.0 %; 2 % are tolerated)"
        );
        assert_eq!(
            instructions(388.0).unwrap(),
            "instructions per op shrank from 400.0 to 388.0 (-3.0 %; 2 % are tolerated)"
        );
    }

    #[test]
    fn none_stays_none() {
        let allocations = |is| change(Figure::Allocations, 0.0, is, Bounds::USUAL);
        assert_eq!(allocations(0.0), None);
        assert_eq!(allocations(0.0001), None, "one of ten thousand ops, maybe");
        assert_eq!(
            allocations(0.001).unwrap(),
            "allocations per op grew from 0.00000 to 0.00100 (there were none)"
        );
    }

    #[test]
    fn one_enter_more_for_each_32nd_batch_is_seen() {
        let enters = |is| change(Figure::Enters, 0.0313, is, Bounds::USUAL);
        assert_eq!(enters(0.03125), None, "which the file has rounded");
        assert!(enters(0.03125 * 33.0 / 32.0).is_some());
        assert_eq!(change(Figure::Enters, 0.0313, 0.0682, Bounds::WIDE), None);
        assert!(change(Figure::Enters, 0.0313, 1.0, Bounds::WIDE).is_some());
    }

    #[test]
    fn another_compiler_may_need_more_instructions_and_nothing_else() {
        let other = Bounds::USUAL.of_other_rustc();
        assert_eq!(change(Figure::Instructions, 400.0, 430.0, other), None);
        assert!(change(Figure::Instructions, 400.0, 450.0, other).is_some());
        assert!(change(Figure::Syscalls, 1.0, 1.03, other).is_some());
    }

    #[test]
    fn what_is_measured_on_one_side_only_is_no_change() {
        let was = Figures::of(&[(Figure::Enters, 1.0)]);
        let is = Figures::of(&[(Figure::Syscalls, 9.0)]);
        assert_eq!(changes(&was, &is, Bounds::USUAL), []);
    }
}
