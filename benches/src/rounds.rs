//! Comparing figures that were taken in turns, so that a machine which is faster at one time than
//! at another does not decide the outcome.

/// The middle of some figures, and between which of them the true middle lies nineteen times out
/// of twenty, whatever their distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    /// The middle.
    pub value: f64,
    /// Lower and upper end of the 95 % interval; the smallest and largest figure where there are
    /// fewer than six.
    pub interval: (f64, f64),
}

impl Median {
    /// The median of `figures`.
    ///
    /// # Panics
    /// Where there are none, or one of them is not a number.
    #[must_use]
    pub fn of(mut figures: Vec<f64>) -> Self {
        assert!(!figures.is_empty(), "a median of something");
        figures.sort_by(|a, b| a.partial_cmp(b).expect("a number"));
        let count = figures.len();
        let value = (figures[(count - 1) / 2] + figures[count / 2]) / 2.0;
        let outside = outside(count);
        Self { value, interval: (figures[outside], figures[count - 1 - outside]) }
    }
}

/// How many of `count` figures may be left out at each end: each lies on either side of the true
/// middle as a coin falls, so that the chance of at most this many on one side is below 2.5 %.
fn outside(count: usize) -> usize {
    let mut tail = 0.5_f64.powi(i32::try_from(count).expect("few figures"));
    let mut term = tail;
    let mut left_out = 0;
    while tail <= 0.025 && left_out + 1 < count / 2 {
        left_out += 1;
        term *= (count - left_out + 1) as f64 / left_out as f64;
        tail += term;
    }
    left_out.saturating_sub(usize::from(tail > 0.025))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_sign_test() {
        // From any table of the binomial distribution with p = 1/2: figures in order of size,
        // counted from 1, are 1 and 6 of 6, 2 and 9 of 10, 4 and 12 of 15, 6 and 15 of 20.
        for (count, low, high) in [(3, 1, 3), (6, 1, 6), (10, 2, 9), (15, 4, 12), (20, 6, 15)] {
            let figures = (1..=count).map(f64::from).collect();
            let expected = (f64::from(low), f64::from(high));
            assert_eq!(Median::of(figures).interval, expected, "{count}");
        }
    }

    #[test]
    fn the_middle_is_the_middle() {
        assert_eq!(Median::of(vec![3.0, 1.0, 2.0]).value, 2.0);
        assert_eq!(Median::of(vec![4.0, 1.0, 2.0, 3.0]).value, 2.5);
    }
}
