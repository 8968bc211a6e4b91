//! The search for the highest rate that is forwarded with no more than some loss, as RFC 2544 has
//! it and MLRsearch does it: short trials find about where it is, longer ones within less and less,
//! and what is told has held in several trials of the full length.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::many;

/// A generator that sends so much less than was due was itself the limit.
const SHORT: f64 = 0.99;
/// Below this rate the search gives up.
const LEAST: f64 = 100.0;

/// What is searched for, and how.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Goal {
    /// The share of what is offered that may be lost in a trial.
    pub loss: f64,
    /// How close the rate that held and one that did not are in the end, as a share of the latter.
    pub width: f64,
    /// Length of the first trials, in seconds.
    pub initial: f64,
    /// Length of the last ones.
    pub last: f64,
    /// Lengths that trials have one after the other, the first and the last included. With each
    /// the bounds come closer by a half.
    pub phases: u32,
    /// Trials of the last length in which the rate that is told has to hold.
    pub finals: u32,
    /// The share of these in which it may not.
    pub exceed: f64,
}

impl Goal {
    /// For people.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self { initial, last, phases, finals, .. } = self;
        let [loss, width, exceed] = [self.loss, self.width, self.exceed].map(|share| share * 100.0);
        format!(
            "the highest rate with a loss of {loss} % at most, within {width} %: {} of trials, {initial} \
             to {last} s long, {finals} of the last, {exceed} % of which may lose more",
            many(*phases, "length")
        )
    }
}

/// What a trial has shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Due by the clock.
    pub due: u64,
    /// Of these, offered.
    pub offered: u64,
    /// Of these, lost.
    pub lost: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Where they were lost.
    pub losses: BTreeMap<String, u64>,
    /// What does not add up.
    pub faults: Vec<String>,
}

/// One trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Trial {
    /// The rate that was asked for, a second; nothing where as much as possible was.
    pub asked: Option<f64>,
    /// The rate that was offered.
    pub rate: f64,
    /// How long, in seconds.
    pub seconds: f64,
    /// How much was offered.
    pub offered: u64,
    /// Due and not offered, because the generator was too slow.
    pub unsent: u64,
    /// Lost of what was offered.
    pub lost: u64,
    /// Where.
    pub losses: BTreeMap<String, u64>,
    /// Whether no more was lost than may be.
    pub held: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The rate that held; 0 where none did.
    pub rate: f64,
    /// The lowest rate above it that did not; nothing where the generator could offer no more.
    pub upper: Option<f64>,
    /// Every trial, in order.
    pub trials: Vec<Trial>,
    /// What did not add up in one.
    pub faults: Vec<String>,
    /// Whether the search came to its end, and was not interrupted.
    pub finished: bool,
}

impl Found {
    /// What the trials of an unfinished search have shown.
    #[must_use]
    pub fn so_far(&self) -> String {
        let rates = |held| self.trials.iter().filter(move |t| t.held == held).map(|t| t.rate);
        let lost = rates(false).fold(f64::INFINITY, f64::min);
        let held = rates(true).filter(|rate| *rate < lost).fold(0.0, f64::max);
        let mut said = format!("unfinished search of {}", many(self.trials.len() as u32, "trial"));
        if held > 0.0 {
            said += &format!(", {held:.0}/s held");
        }
        if lost.is_finite() {
            said += &format!(", {lost:.0}/s did not hold");
        }
        said
    }

    /// What kept it from being more: the generator, or the place where most was lost in the trials
    /// above the rate.
    #[must_use]
    pub fn limit(&self) -> String {
        let Some(upper) = self.upper else { return "the generator".to_owned() };
        let above = self.trials.iter().filter(|t| !t.held && t.rate <= upper * 1.1);
        let mut places = BTreeMap::new();
        for (place, count) in above.flat_map(|trial| &trial.losses) {
            *places.entry(place.as_str()).or_insert(0) += count;
        }
        let most = places.into_iter().max_by_key(|(_, count)| *count);
        most.map_or("nothing that was counted", |(place, _)| place).to_owned()
    }
}

/// A search under way.
struct Search<'a, M> {
    goal: &'a Goal,
    measure: M,
    /// The most that the generator can offer, once that is known to hold.
    cap: Option<f64>,
    found: &'a mut Found,
}

/// Searches; `measure` makes a trial at a rate, or with as much as can be offered. What its trials
/// have shown is in `found` however it ends.
///
/// # Errors
/// What `measure` says.
pub fn search<E>(
    goal: &Goal,
    found: &mut Found,
    measure: impl FnMut(Option<f64>, Duration) -> Result<Outcome, E>,
) -> Result<(), E> {
    let mut search = Search { goal, measure, cap: None, found };
    let mut rate = search.first()?;
    let phases = goal.phases.max(1);
    let (mut low, mut high) = (0.0, None);
    for phase in 0..phases {
        let share = f64::from(phase) / f64::from(phases.max(2) - 1);
        let share = if phases == 1 { 1.0 } else { share };
        let seconds = goal.initial * (goal.last / goal.initial).powf(share);
        let width = goal.width * 2_f64.powi((phases - 1 - phase).cast_signed());
        (low, high) = search.narrow(rate, Duration::from_secs_f64(seconds), width, 1)?;
        rate = low;
    }
    // What is told has to hold again and again; where it does not, something less may.
    let last = Duration::from_secs_f64(goal.last);
    let mut step = goal.width;
    while low >= LEAST && !search.holds(low, last, goal.finals)? {
        (low, high) = (low * (1.0 - step), Some(low));
        step = (step * 2.0).min(0.5);
    }
    (found.rate, found.upper) = (if low < LEAST { 0.0 } else { low }, high);
    found.finished = true;
    Ok(())
}

impl<E, M: FnMut(Option<f64>, Duration) -> Result<Outcome, E>> Search<'_, M> {
    /// As much as can be offered: about where to look.
    fn first(&mut self) -> Result<f64, E> {
        let trial = self.trial(None, Duration::from_secs_f64(self.goal.initial))?;
        let arrived = trial.rate * (1.0 - trial.lost as f64 / trial.offered.max(1) as f64);
        Ok(if trial.held { trial.rate } else { arrived.max(LEAST) })
    }

    /// The highest rate that holds and the lowest above it that does not, no further apart than
    /// `width`, in trials of one length, looking from `rate` on.
    fn narrow(
        &mut self,
        rate: f64,
        time: Duration,
        width: f64,
        trials: u32,
    ) -> Result<(f64, Option<f64>), E> {
        let (mut low, mut high) = (0.0, None);
        let (mut next, mut step) = (rate.max(LEAST), width);
        // Ever larger steps until there is one rate that holds and one that does not.
        loop {
            if self.holds(next, time, trials)? {
                low = next;
                if high.is_some() || self.cap.is_some_and(|cap| low >= cap) {
                    break;
                }
                next = low * (1.0 + step);
                next = self.cap.map_or(next, |cap| next.min(cap));
            } else {
                high = Some(next);
                if low > 0.0 || next <= LEAST {
                    break;
                }
                next = (next * (1.0 - step)).max(LEAST);
            }
            step = (step * 2.0).min(0.5);
        }
        while let Some(top) = high.filter(|top| low > 0.0 && top - low > width * top) {
            let middle = f64::midpoint(low, top);
            if self.holds(middle, time, trials)? {
                low = middle;
            } else {
                high = Some(middle);
            }
        }
        Ok((low, high))
    }

    /// Whether a rate holds in so many trials, but for those that may exceed.
    fn holds(&mut self, rate: f64, time: Duration, trials: u32) -> Result<bool, E> {
        // So few trials that a share of them is exact.
        let may_fail = (f64::from(trials) * self.goal.exceed) as u32;
        let (mut held, mut failed) = (0, 0);
        while held < trials - may_fail && failed <= may_fail {
            if self.trial(Some(rate), time)?.held {
                held += 1;
            } else {
                failed += 1;
            }
        }
        Ok(failed <= may_fail)
    }

    fn trial(&mut self, rate: Option<f64>, time: Duration) -> Result<Trial, E> {
        let Outcome { due, offered, lost, seconds, losses, faults } = (self.measure)(rate, time)?;
        let held = lost as f64 <= self.goal.loss * offered as f64 && offered > 0;
        let reached = offered as f64 / seconds.max(1e-9);
        // What the generator reaches is the most that anybody can show to hold.
        if held && rate.is_none_or(|_| (offered as f64) < SHORT * due as f64) {
            self.cap = Some(self.cap.map_or(reached, |cap| cap.min(reached)));
        }
        self.found.faults.extend(faults);
        let unsent = due.saturating_sub(offered);
        let trial =
            Trial { asked: rate, rate: reached, seconds, offered, unsent, lost, losses, held };
        self.found.trials.push(trial.clone());
        Ok(trial)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const GOAL: Goal =
        Goal { loss: 0.0, width: 0.01, initial: 0.1, last: 1.0, phases: 3, finals: 3, exceed: 0.5 };

    /// A device that forwards `capacity` a second and loses the rest, under a generator that
    /// offers `most` at most.
    fn device(capacity: f64, most: f64) -> impl FnMut(Option<f64>, Duration) -> Outcome {
        move |rate, time| {
            let seconds = time.as_secs_f64();
            let due = rate.unwrap_or(most) * seconds;
            let offered = due.min(most * seconds);
            let lost = (offered - capacity * seconds).max(0.0) as u64;
            let losses = BTreeMap::from([("rxRingFull".to_owned(), lost)]);
            let (due, offered) = (due as u64, offered as u64);
            Outcome { due, offered, lost, seconds, losses, faults: Vec::new() }
        }
    }

    fn found(goal: &Goal, mut device: impl FnMut(Option<f64>, Duration) -> Outcome) -> Found {
        let mut found = Found::default();
        let Ok(()) = search(goal, &mut found, |rate, time| Ok::<_, Infallible>(device(rate, time)));
        assert!(found.finished);
        found
    }

    #[test]
    fn an_interrupted_search_tells_what_its_trials_have_shown() {
        let so_far = |trials| {
            let (mut device, mut found, mut left) = (device(0.5e6, 1e6), Found::default(), trials);
            let ended = search(&GOAL, &mut found, |rate, time| {
                if left == 0 {
                    return Err("interrupted");
                }
                left -= 1;
                Ok(device(rate, time))
            });
            assert_eq!((ended, found.finished), (Err("interrupted"), false));
            assert_eq!(found.trials.len(), trials);
            found.so_far()
        };
        assert_eq!(so_far(0), "unfinished search of 0 trials");
        // As much as can be offered, half of which arrives; that half; and a bit more.
        assert_eq!(so_far(1), "unfinished search of 1 trial, 1000000/s did not hold");
        assert_eq!(
            so_far(2),
            "unfinished search of 2 trials, 500000/s held, 1000000/s did not hold"
        );
        assert_eq!(
            so_far(3),
            "unfinished search of 3 trials, 500000/s held, 520000/s did not hold"
        );
    }

    #[test]
    fn the_capacity_is_found_within_the_width() {
        for capacity in [30_000.0, 500_000.0, 999_000.0] {
            let found = found(&GOAL, device(capacity, 1e6));
            let upper = found.upper.expect("an upper bound");
            assert!(found.rate <= capacity + 10.0 && upper > capacity, "{capacity}: {found:?}");
            assert!(upper - found.rate <= 0.01 * upper + 1.0, "{capacity}: {found:?}");
            assert_eq!(found.limit(), "rxRingFull");
            let last: Vec<_> = found.trials.iter().rev().take(2).collect();
            assert!(last.iter().all(|trial| trial.held && trial.seconds == 1.0), "{last:?}");
        }
    }

    #[test]
    fn a_loss_that_is_allowed_is_used() {
        let found = found(&Goal { loss: 0.1, ..GOAL }, device(500_000.0, 1e6));
        assert!((550_000.0..=556_000.0).contains(&found.rate), "{found:?}");
    }

    #[test]
    fn a_generator_that_cannot_do_more_is_the_limit() {
        let found = found(&GOAL, device(2e6, 1e6));
        assert!((found.rate - 1e6).abs() < 1e4, "{found:?}");
        assert_eq!((found.upper, found.limit().as_str()), (None, "the generator"));
    }

    #[test]
    fn a_device_that_forwards_nothing_has_no_rate() {
        let found = found(&GOAL, device(0.0, 1e6));
        assert_eq!(found.rate, 0.0);
    }

    #[test]
    fn short_trials_that_miss_the_loss_do_not_decide() {
        // It loses only what comes after half a second: a queue that fills.
        let mut device_of = device(400_000.0, 1e6);
        let found = found(&GOAL, |rate, time| {
            let outcome = device_of(rate, time);
            let lost = if time < Duration::from_millis(500) { 0 } else { outcome.lost };
            Outcome { lost, ..outcome }
        });
        assert!((390_000.0..=400_010.0).contains(&found.rate), "{found:?}");
    }

    #[test]
    fn a_single_bad_trial_of_the_last_is_forgiven_and_two_are_not() {
        let with_bad = |bad: &[usize]| {
            let (mut device_of, mut full) = (device(500_000.0, 1e6), 0);
            let bad = bad.to_vec();
            found(&Goal { phases: 1, initial: 1.0, ..GOAL }, move |rate, time| {
                let mut outcome = device_of(rate, time);
                full += 1;
                if bad.contains(&full) {
                    outcome.lost += 1;
                }
                outcome
            })
        };
        let trials = with_bad(&[]).trials.len();
        // The finals are the last two where both hold.
        let one = with_bad(&[trials - 1]);
        assert_eq!(one.trials.len(), trials + 1);
        assert_eq!(one.rate, with_bad(&[]).rate);
        assert!(with_bad(&[trials - 1, trials]).rate < one.rate);
    }
}
