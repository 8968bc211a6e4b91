//! What was expected of a ratio (spec BENCH-16).

use std::fmt;

use benches::statistics::Estimate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How sure the interval of a figure that holds has to be: few rounds have no more than their
/// range.
const SURE: f64 = 0.95;
/// How wide the interval of a figure that holds may be.
const NARROW: f64 = 0.06;

/// What was expected of a ratio, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expectation {
    /// The ratio asked for.
    pub ratio: f64,
    /// Whether the median reaches it.
    pub reached: bool,
    /// Whether, besides, the interval is narrow enough to trust it: less than 0.06.
    pub holds: bool,
}

impl Expectation {
    /// That a ratio is at least so much.
    #[must_use]
    pub fn least(ratio: f64, found: Estimate) -> Self {
        Self::of(ratio, found.median >= ratio, found)
    }

    /// That a ratio is at most so much.
    #[must_use]
    pub fn most(ratio: f64, found: Estimate) -> Self {
        Self::of(ratio, found.median <= ratio, found)
    }

    fn of(ratio: f64, reached: bool, found: Estimate) -> Self {
        let sure = found.confidence >= SURE && found.high - found.low < NARROW;
        Self { ratio, reached, holds: reached && sure }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = match (self.reached, self.holds) {
            (true, true) => "holds",
            (true, false) => "reached, interval wide",
            (false, _) => "NOT REACHED",
        };
        write!(f, "{}: {found}", self.ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_holds_where_the_interval_is_narrow_and_sure() {
        let found = |low, high, confidence| Estimate { median: 0.9, low, high, confidence };
        let narrow = found(0.88, 0.92, 0.96);
        for (expectation, said) in [
            (Expectation::least(0.9, narrow), "0.9: holds"),
            (Expectation::most(0.9, narrow), "0.9: holds"),
            (Expectation::least(0.91, narrow), "0.91: NOT REACHED"),
            (Expectation::most(0.89, narrow), "0.89: NOT REACHED"),
            (Expectation::least(0.9, found(0.86, 0.93, 0.96)), "0.9: reached, interval wide"),
            (Expectation::least(0.9, found(0.88, 0.92, 0.5)), "0.9: reached, interval wide"),
        ] {
            assert_eq!(expectation.to_string(), said);
        }
    }
}
