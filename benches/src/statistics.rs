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

/// How the values of one sample stand to those of another: the median of all ratios of a pair,
/// with the interval that belongs to the test of Mann and Whitney. Whatever distributions the two
/// come from, if they differ by a factor it is inside with this confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The estimate of Hodges and Lehmann: the median of the ratios.
    pub ratio: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Probability that the interval holds the true factor. Below 0.95 only where so few values
    /// have no more.
    pub confidence: f64,
}

/// Pairs of values up to which the test's distribution is counted out; above it is as good as
/// normal.
const COUNTED: usize = 10_000;

impl Comparison {
    /// Of `these` to `those`; two zeros are equal.
    #[must_use]
    pub fn of(these: &[f64], those: &[f64]) -> Self {
        let ratio = |this: f64, that: f64| if this == that { 1.0 } else { this / that };
        let pairs = these.iter().flat_map(|this| those.iter().map(move |that| ratio(*this, *that)));
        let ratios = sorted(&pairs.collect::<Vec<_>>());
        let (cut, confidence) = mann_whitney(these.len(), those.len());
        let at = |index: usize| ratios.get(index).copied().unwrap_or(f64::NAN);
        Self {
            ratio: median(&ratios),
            low: at(cut),
            high: at(ratios.len().saturating_sub(1 + cut)),
            confidence,
        }
    }

    /// Whether a factor other than 1 is shown.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.confidence >= CONFIDENCE && (self.low > 1.0 || self.high < 1.0)
    }
}

/// How many of the sorted ratios of pairs can be left out at each end, and with what confidence
/// the rest holds the true one.
fn mann_whitney(m: usize, n: usize) -> (usize, f64) {
    if m == 0 || n == 0 {
        return (0, 0.0);
    }
    let pairs = m * n;
    if pairs > COUNTED {
        let (mean, deviation) =
            (pairs as f64 / 2.0, (pairs as f64 * (m + n + 1) as f64 / 12.0).sqrt());
        return ((mean - 1.96 * deviation).max(0.0) as usize, CONFIDENCE);
    }
    // Of all orders of m and n values, how many have each number of pairs in which the one is the
    // larger: the coefficients of a Gaussian binomial.
    let mut ways = vec![0.0; pairs + 1];
    ways[0] = 1.0;
    for i in 1..=m {
        for at in (n + i..=pairs).rev() {
            ways[at] -= ways[at - n - i];
        }
        for at in i..=pairs {
            ways[at] += ways[at - i];
        }
    }
    let all: f64 = ways.iter().sum();
    let mut tail = 0.0;
    let mut found = None;
    for (cut, ways) in ways.iter().enumerate().take(pairs / 2) {
        tail += ways;
        let confidence = 1.0 - 2.0 * tail / all;
        if found.is_some() && confidence < CONFIDENCE {
            break;
        }
        found = Some((cut, confidence));
    }
    found.unwrap_or((0, 0.0))
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

    #[test]
    fn two_samples_are_compared_as_mann_and_whitney_have_it() {
        // Tables of the two-sided test at 5 %: critical values of U are 0 for 4 and 4, 5 for 6 and
        // 6, 23 for 10 and 10; the interval begins one pair later.
        for ((m, n), cut) in [((4, 4), 0), ((6, 6), 5), ((10, 10), 23), ((5, 9), 7)] {
            assert_eq!(mann_whitney(m, n).0, cut, "{m} and {n}");
            assert!(mann_whitney(m, n).1 >= CONFIDENCE);
        }
        assert!((mann_whitney(4, 4).1 - (1.0 - 2.0 / 70.0)).abs() < 1e-12);
        assert!((mann_whitney(3, 3).1 - 0.9).abs() < 1e-12);
        // Where the normal one takes over they agree.
        let (counted, _) = mann_whitney(100, 100);
        let (normal, _) = mann_whitney(101, 100);
        assert!(normal.abs_diff(counted) < 100, "{counted} and {normal}");
    }

    #[test]
    fn a_factor_is_found_and_noise_is_none() {
        let base: Vec<_> = (0..8).map(|n| 100.0 + f64::from(n)).collect();
        let faster: Vec<_> = base.iter().map(|value| value * 1.2).collect();
        let shown = Comparison::of(&faster, &base);
        assert!(shown.differs() && (shown.ratio - 1.2).abs() < 0.02, "{shown:?}");
        assert!(shown.low > 1.1 && shown.high < 1.3, "{shown:?}");
        assert!(!Comparison::of(&base, &base).differs());
        // Three rounds cannot show anything.
        assert!(!Comparison::of(&faster[..3], &base[..3]).differs());
        let none = Comparison::of(&[0.0; 5], &[0.0; 5]);
        assert_eq!((none.ratio, none.differs()), (1.0, false));
    }
}
