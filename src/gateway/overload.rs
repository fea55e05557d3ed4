//! Overload, judged from what was refused: when it begins, whom it hits, and when it is over. No clock, no thread, no lock.
//!
//! The watchdog looks twice a second. What is refused in between is one alert a limit and kind of victim, however many they
//! are: it begins with the first look that finds a refusal, and is over when nobody was refused for [`CALM`], so that a load
//! that comes and goes fills no log.

use std::time::{Duration, Instant};

use super::load::{Limit, Refused};
use super::vitals::Finding;
use crate::metrics::Drain;

/// Requests are refused, of whatever priority.
const OVERLOADED: &str = "overloaded";
/// Batch requests are refused.
const BATCH_SHED: &str = "batch_shed";

/// How long nobody must have been refused for it to be over.
const CALM: Duration = Duration::from_secs(5);

/// What is known from earlier looks.
#[derive(Default)]
pub(super) struct Overload {
    drain: Drain,
    refused: Refused,
    spells: [[Option<Spell>; 2]; Limit::ALL.len()],
}

/// A time of refusals, by one limit and of one priority.
#[derive(Clone, Copy)]
struct Spell {
    /// What had been refused before it.
    before: u64,
    last: Instant,
}

/// What a look comes to.
pub(super) struct Look {
    /// How many requests a second end while others are refused, if that is known.
    pub(super) per_second: Option<f64>,
    /// How many were refused since the last look.
    pub(super) refused: u64,
    pub(super) standing: Vec<Standing>,
}

/// Refusals that are not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) limit: Limit,
    batch: bool,
    count: u64,
}

impl Standing {
    /// For a person, who is told `why`.
    pub(super) fn finding(self, why: &str) -> Finding {
        let (kind, what) = if self.batch { (BATCH_SHED, "batch requests") } else { (OVERLOADED, "requests") };
        let text = format!(
            "{} {what} refused since it began, before their bodies were read: {why}; it is over when none is for {} s",
            self.count,
            CALM.as_secs()
        );
        Finding::new(kind, self.limit.as_str(), text)
    }
}

impl Overload {
    /// Takes note of how many requests that were let in have ended so far, and how many were refused.
    pub(super) fn look(&mut self, now: Instant, freed: u64, refused: Refused) -> Look {
        let total = |refused: &Refused| refused.as_flattened().iter().sum::<u64>();
        let lately = total(&refused) - total(&self.refused);
        let mut standing = Vec::new();
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            for batch in [false, true] {
                let (count, before) = (refused[index][usize::from(batch)], self.refused[index][usize::from(batch)]);
                let spell = &mut self.spells[index][usize::from(batch)];
                if count > before {
                    *spell = Some(Spell { before: spell.map_or(before, |spell| spell.before), last: now });
                }
                *spell = spell.filter(|spell| now.saturating_duration_since(spell.last) < CALM);
                if let Some(spell) = spell {
                    standing.push(Standing { limit, batch, count: count - spell.before });
                }
            }
        }
        self.refused = refused;
        Look { per_second: self.drain.look(now, freed, lately), refused: lately, standing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::retry_after;
    use crate::time::now;

    fn refused(interactive: u64, batch: u64) -> Refused {
        let mut refused = Refused::default();
        refused[Limit::InFlight as usize] = [interactive, batch];
        refused
    }

    #[test]
    fn an_overload_is_one_alert_from_its_first_refusal_until_it_was_calm_for_a_while() {
        let (start, mut overload) = (now(), Overload::default());
        let mut look = |ms: u64, interactive, batch| {
            let look = overload.look(start + Duration::from_millis(ms), 0, refused(interactive, batch));
            look.standing.iter().map(|standing| (standing.batch, standing.count)).collect::<Vec<_>>()
        };
        assert_eq!(look(0, 0, 0), []);
        assert_eq!(look(500, 0, 3), [(true, 3)]);
        assert_eq!(look(1000, 7, 5), [(false, 7), (true, 5)]);
        assert_eq!(look(5900, 7, 6), [(false, 7), (true, 6)]);
        assert_eq!(look(6000, 7, 6), [(true, 6)], "nobody interactive for five seconds");
        assert_eq!(look(10_900, 7, 6), []);
        assert_eq!(look(11_000, 9, 6), [(false, 2)], "a new one counts anew");
    }

    #[test]
    fn those_who_were_refused_are_told_to_come_again_at_the_rate_at_which_places_come_free() {
        let (start, mut overload) = (now(), Overload::default());
        let mut last = None;
        for tick in 0..10 {
            last = Some(overload.look(start + Duration::from_millis(500 * tick), 50 * tick, refused(400 * tick, 0)));
        }
        let look = last.expect("ten looks");
        assert_eq!((look.per_second, look.refused), (Some(100.0), 400));
        assert_eq!(retry_after(look.refused, look.per_second), Duration::from_secs(4));
    }

    #[test]
    fn an_alert_names_its_limit_and_says_what_happens() {
        let finding = Standing { limit: Limit::Bytes, batch: true, count: 3 }.finding("too many bytes");
        assert_eq!((finding.kind, finding.subject.as_str()), ("batch_shed", "max_buffered_bytes"));
        assert!(finding.message.starts_with("3 batch requests refused"), "{}", finding.message);
    }
}
