//! The provider-optimization formula: how many workers, how much buffer, which time-out and which retries fit a provider.
//!
//! Source: `CalculateOptimalConcurrency` of the concurrency page. By Little's law a provider that takes `rate` requests a
//! second and holds each for `latency` has `rate × latency` of them under way; failures are tried again, so there are
//! `1 + error rate` times as many. Departure: the page's whole seconds give 0 workers for any latency below one.
//!
//! Pure: what is not known is none, and so is whatever follows from it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::config::Optimization;

/// Places to wait for each worker.
pub(super) const BUFFER_FACTOR: usize = 3;

/// The shortest time-out that is proposed.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);

/// The share of requests that may still fail after the last try.
const RESIDUAL: f64 = 0.01;

/// The most retries: a provider that needs more of them is down.
const MOST_RETRIES: u32 = 5;

/// The first wait before a retry where nothing fails, and the longest first wait.
const BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// How much longer than the first the longest wait is.
const BACKOFF_SPAN: u32 = 10;

/// What makes a product that is whole but for rounding whole again: 70/s × 0.1 s is 7, not 8.
const ROUNDING: f64 = 1.0 - 1e-12;

/// What is proposed for a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Plan {
    /// Workers: `max(1, ceil(rate × latency × (1 + error rate)))`; an error rate that is not known counts as 0.
    pub workers: Option<usize>,
    /// Places to wait: three for each worker.
    pub buffer: Option<usize>,
    /// The limit of an attempt: twice the latency, at least a second.
    pub timeout: Option<Duration>,
    /// How to try again.
    pub retries: Option<RetryStrategy>,
}

/// How to try again, under the names of the keys in `network_config`.
///
/// As few retries as leave at most one request in a hundred failed, if failures are independent: `error rate ^ (1 + n)`.
/// The wait before the first is the configuration's default where nothing fails and grows by `1 / (1 − error rate)`, since a
/// provider that fails more often needs longer to recover; the longest wait is ten times that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RetryStrategy {
    /// Tries after the first.
    pub max_retries: u32,
    /// The wait before the first of them, in milliseconds.
    pub retry_backoff_initial: u64,
    /// The longest wait, in milliseconds.
    pub retry_backoff_max: u64,
}

/// Why nothing is proposed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PlanError {
    /// The rate is no number of requests.
    Rate(f64),
    /// The error rate is no share.
    ErrorRate(f64),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(found) => write!(f, "the rate limit is {found}; write requests per second, 0 or more"),
            Self::ErrorRate(found) => write!(f, "the error rate is {found}; write a share from 0 to 1"),
        }
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    /// The plan for a provider that is like this.
    ///
    /// # Errors
    /// If a figure is negative, infinite or no number, or the error rate is more than 1.
    pub fn of(known: &Optimization) -> Result<Self, PlanError> {
        if let Some(rate) = known.rate_limit.filter(|rate| !rate.is_finite() || *rate < 0.0) {
            return Err(PlanError::Rate(rate));
        }
        if let Some(share) = known.error_rate.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(PlanError::ErrorRate(share));
        }
        let workers = known.rate_limit.zip(known.avg_latency).map(|(rate, latency)| {
            let under_way = rate * latency.as_secs_f64() * (1.0 + known.error_rate.unwrap_or(0.0));
            // A float too large saturates.
            ((under_way * ROUNDING).ceil() as usize).max(1)
        });
        Ok(Self {
            workers,
            buffer: workers.map(|workers| workers.saturating_mul(BUFFER_FACTOR)),
            timeout: known.avg_latency.map(|latency| latency.saturating_mul(2).max(LEAST_TIMEOUT)),
            retries: known.error_rate.map(RetryStrategy::of),
        })
    }
}

impl RetryStrategy {
    fn of(error_rate: f64) -> Self {
        let max_retries = (0..MOST_RETRIES).find(|n| error_rate.powi(*n as i32 + 1) <= RESIDUAL * (1.0 + 1e-9));
        let grown = BACKOFF.as_secs_f64() / (1.0 - error_rate).max(f64::MIN_POSITIVE);
        let initial = Duration::try_from_secs_f64(grown).map_or(LONGEST_BACKOFF, |wait| wait.min(LONGEST_BACKOFF));
        let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Self {
            max_retries: max_retries.unwrap_or(MOST_RETRIES),
            retry_backoff_initial: millis(initial),
            retry_backoff_max: millis(initial * BACKOFF_SPAN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(rate: f64, latency: f64, error_rate: f64) -> Optimization {
        Optimization {
            rate_limit: Some(rate),
            avg_latency: Some(Duration::from_secs_f64(latency)),
            error_rate: Some(error_rate),
        }
    }

    #[test]
    fn golden_rows() {
        for (rate, latency, error_rate, workers, buffer, timeout) in [
            (100.0, 0.5, 0.05, 53, 159, 1.0),
            (0.2, 1.0, 0.0, 1, 3, 2.0),
            (10.0, 2.0, 0.0, 20, 60, 4.0),
            (10.0, 2.0, 1.0, 40, 120, 4.0),
            // Whole but for rounding: 7.000000000000001 in floats.
            (70.0, 0.1, 0.0, 7, 21, 1.0),
            (0.0, 0.0, 0.0, 1, 3, 1.0),
        ] {
            let plan = Plan::of(&known(rate, latency, error_rate)).expect("a plan");
            let timeout = Duration::from_secs_f64(timeout);
            let found = (plan.workers, plan.buffer, plan.timeout);
            assert_eq!(found, (Some(workers), Some(buffer), Some(timeout)), "{rate}/s x {latency} s, {error_rate}");
        }
    }

    #[test]
    fn what_is_no_rate_and_no_share_is_refused_and_said_clearly() {
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            assert!(matches!(Plan::of(&known(wrong, 1.0, 0.0)), Err(PlanError::Rate(_))), "{wrong}");
        }
        for wrong in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
            let error = Plan::of(&known(1.0, 1.0, wrong)).expect_err("no share");
            assert!(error.to_string().contains("from 0 to 1"), "{error}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let latency = Some(Duration::from_secs(3));
        let plan = Plan::of(&Optimization { avg_latency: latency, ..Optimization::default() }).expect("a plan");
        assert_eq!((plan.workers, plan.buffer, plan.retries), (None, None, None));
        assert_eq!(plan.timeout, Some(Duration::from_secs(6)));
        assert_eq!(Plan::of(&Optimization::default()), Ok(Plan::default()));
    }

    #[test]
    fn the_more_fails_the_more_and_the_later_is_retried() {
        for (error_rate, retries, initial, max) in [
            (0.0, 0, 500, 5000),
            (0.01, 0, 505, 5050),
            (0.05, 1, 526, 5263),
            (0.1, 1, 555, 5555),
            (0.5, 5, 1000, 10_000),
            (1.0, 5, 5000, 50_000),
        ] {
            let RetryStrategy { max_retries, retry_backoff_initial, retry_backoff_max } = RetryStrategy::of(error_rate);
            assert_eq!(
                (max_retries, retry_backoff_initial, retry_backoff_max),
                (retries, initial, max),
                "{error_rate}"
            );
        }
    }
}
