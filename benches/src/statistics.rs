//! Medians, and how far they can be trusted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The least confidence an interval is asked to have.
const CONFIDENCE: f64 = 0.95;

/// The middle of some values; the mean of the two in the middle of an even number. 0 of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    let half = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(at(half.saturating_sub(1)), at(half))
    } else {
        at(half)
    }
}

/// A median with an interval around it, made of the values themselves: whatever distribution they
/// come from, its median is inside with this confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Probability that the interval holds the true median, if the rounds are independent. Below
    /// 0.95 only where the whole range of so few values has no more.
    pub confidence: f64,
}

impl Estimate {
    /// Of some values.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let sorted = sorted(values);
        let n = sorted.len();
        // The interval without the `cut` lowest and highest values misses the median if `cut` or
        // fewer values are on one side of it: tails of the binomial distribution of n tosses.
        let confidence = |cut: usize| {
            let tail: f64 = (0..=cut).map(|k| choose(n, k)).sum();
            (1.0 - 2.0 * tail / 2_f64.powi(i32::try_from(n).unwrap_or(i32::MAX))).max(0.0)
        };
        let cut = (0..n / 2).take_while(|cut| confidence(*cut) >= CONFIDENCE).last().unwrap_or(0);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
        Self {
            median: median(values),
            low: at(cut),
            high: at(n.saturating_sub(1 + cut)),
            confidence: confidence(cut),
        }
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Ways to choose `k` of `n`.
fn choose(n: usize, k: usize) -> f64 {
    (0..k).fold(1.0, |ways, i| ways * (n - i) as f64 / (i + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn few_values_give_their_whole_range_and_say_how_little_it_means() {
        let one = Estimate::of(&[0.9]);
        assert_eq!((one.median, one.low, one.high, one.confidence), (0.9, 0.9, 0.9, 0.0));
        let five = Estimate::of(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!((five.low, five.high, five.confidence), (1.0, 5.0, 0.9375));
    }

    #[test]
    fn many_values_leave_the_outermost_out() {
        // Textbook values for the sign test: n = 9 leaves out one at each end (96.1 %), n = 12 two.
        let nine: Vec<_> = (1..=9).map(f64::from).collect();
        let nine = Estimate::of(&nine);
        assert_eq!((nine.median, nine.low, nine.high), (5.0, 2.0, 8.0));
        assert!((nine.confidence - 0.961).abs() < 0.001);
        let twelve: Vec<_> = (1..=12).map(f64::from).collect();
        assert_eq!((Estimate::of(&twelve).low, Estimate::of(&twelve).high), (3.0, 10.0));
    }
}
