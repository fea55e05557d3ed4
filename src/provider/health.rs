//! Whether a provider is there: a look at its list of models, at the start and at intervals, made by a worker like any job.
//!
//! **Protocol.** The supervisor looks at its tick whether a check is due; one that is stands in a lane without a place, a
//! call or a waiter, and is counted among no jobs. Where calls succeed, none is made: they have shown it already. A list of
//! models costs nothing at any provider; whatever is answered, but for a server's own failure, says that it is there, since
//! what a key may do is the key's affair. One that is not there is looked at again soon, however long the interval.
//!
//! At most one check is under way. It ends by its own time, or with the pool, whose end cancels it.
//!
//! A check tells of the whole provider, for readiness and for people; whom requests are kept from, the breaker decides by
//! what came of requests themselves.
//!
//! **Invariants.** I2: a [`Check`] that is dropped has ended. I5.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::Serialize;

use super::attempt::add_missing;
use super::pool::{PoolPhase, Shared};
use crate::config;
use crate::metrics::Counter;
use crate::sync::locks::{Leaf, classes};
use crate::sync::{CancelReason, CancelToken};
use crate::time::{Deadline, micros_of, now};
use crate::transport::{Control, Incoming, Outgoing, TransportError};

/// The longest that a check takes, and that a gateway's start waits for all of them together.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// After so long at most, a provider that was not there is looked at again.
const SOON: Duration = Duration::from_secs(5);

/// How far a check keeps from a call that tries whether the provider is back.
const CLEAR: Duration = Duration::from_secs(1);

/// How much of a list of models is read, so that its connection can be used again.
const MOST_READ: usize = 256 << 10;

/// The kind of the event and the alert.
const UNHEALTHY: &str = "provider_unhealthy";

/// How a provider's health is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// It is part of this process, and healthy.
    Needless,
    /// By checks, as configured.
    Made(config::Health),
}

impl Checks {
    /// None is made, and nothing is known but by calls.
    pub const NEVER: Self = Self::Made(config::Health { on_start: false, interval: Duration::ZERO });
}

/// Whether a provider is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HealthState {
    /// Nobody has looked.
    Unknown,
    /// It was when last looked at, or called.
    Healthy,
    /// It was not.
    Unhealthy,
}

impl fmt::Display for HealthState {
    /// The word that `/stats` has for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// `health` in `/stats`.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct HealthStats {
    /// What is known.
    pub state: HealthState,
    /// How long ago the last check ended.
    pub last_check_ms_ago: Option<u64>,
    /// Checks that failed.
    pub failures_total: u64,
}

/// What is known, and when it is looked again. Pure: `now` and the count of calls that succeeded are handed in.
#[derive(Debug)]
struct Book {
    interval: Duration,
    state: HealthState,
    checked: Option<Instant>,
    next: Instant,
    succeeded: u64,
    /// How many calls had ended when that was last looked at, and when there were first so many.
    ended: (u64, Instant),
    under_way: Option<(CancelToken, Instant)>,
    /// How long the first check took.
    first: Option<Duration>,
}

impl Book {
    /// Whether a check is to be made now. `probed_after` is how long an open circuit rests, if one is open: a check then keeps
    /// clear of the calls that try whether the provider is back, so that it is asked at most once a second.
    fn look(&mut self, now: Instant, succeeded: u64, ended: u64, probed_after: Option<Duration>) -> bool {
        if succeeded > self.succeeded {
            (self.succeeded, self.state, self.next) = (succeeded, HealthState::Healthy, now + self.interval);
        }
        if ended != self.ended.0 {
            self.ended = (ended, now);
        }
        let since = now.saturating_duration_since(self.ended.1);
        let is_clear = |rest: Duration| (CLEAR..=rest / 2).contains(&since) || since >= rest.saturating_add(CLEAR);
        let is_due = !self.interval.is_zero() && self.under_way.is_none() && self.next <= now;
        is_due && probed_after.is_none_or(is_clear)
    }

    fn begin(&mut self, now: Instant, token: &CancelToken) {
        self.under_way = Some((token.clone(), now));
        // One that comes to nothing, because its worker panics, is not made again at once.
        self.next = now + self.interval.min(SOON);
    }

    fn end(&mut self, now: Instant) {
        if let Some((_, since)) = self.under_way.take() {
            self.first.get_or_insert(now.saturating_duration_since(since));
        }
    }

    fn note(&mut self, now: Instant, is_there: bool) {
        let (state, after) = match is_there {
            true => (HealthState::Healthy, self.interval),
            false => (HealthState::Unhealthy, self.interval.min(SOON)),
        };
        (self.state, self.checked, self.next) = (state, Some(now), now + after);
    }
}

/// A provider's health.
#[derive(Debug)]
pub(crate) struct Health {
    book: Leaf<Book>,
    failures: Arc<Counter>,
    /// Whether it tells of the provider: not before it has taken the place of another, nor once another has taken its own.
    speaks: AtomicBool,
}

impl Health {
    /// What nobody has looked at yet. One that takes the place of `before` goes on counting where that one stands.
    pub(crate) fn new(checks: Checks, now: Instant, before: Option<&Self>) -> Self {
        let (interval, state) = match checks {
            Checks::Needless => (Duration::ZERO, HealthState::Healthy),
            Checks::Made(wish) => (wish.interval, HealthState::Unknown),
        };
        let next = now + interval;
        let book =
            Book { interval, state, checked: None, next, succeeded: 0, ended: (0, now), under_way: None, first: None };
        Self {
            book: Leaf::new(&classes::HEALTH, book),
            failures: before.map(|before| Arc::clone(&before.failures)).unwrap_or_default(),
            speaks: AtomicBool::new(before.is_none()),
        }
    }

    /// Tells of the provider from now on, or tells nothing more.
    pub(crate) fn speak(&self, speaks: bool) {
        self.speaks.store(speaks, Ordering::SeqCst);
    }

    /// Whether it was there when last looked at; true if nobody has.
    pub(crate) fn is_good(&self) -> bool {
        self.book.lock().state != HealthState::Unhealthy
    }

    /// How long the first check took, once there was one.
    pub(crate) fn first_took(&self) -> Option<Duration> {
        self.book.lock().first
    }

    pub(crate) fn stats(&self, now: Instant) -> HealthStats {
        let book = self.book.lock();
        let ago = |checked: Instant| micros_of(now.saturating_duration_since(checked)) / 1000;
        let (state, last_check_ms_ago) = (book.state, book.checked.map(ago));
        drop(book);
        HealthStats { state, last_check_ms_ago, failures_total: self.failures.get() }
    }

    /// Ends the check that is under way, if there is one.
    pub(crate) fn cancel(&self) {
        let under_way = self.book.lock().under_way.clone();
        if let Some((token, _)) = under_way {
            token.cancel_for(CancelReason::Shutdown);
        }
    }
}

/// The right to make the one check; dropped, it has ended.
#[derive(Debug)]
pub(crate) struct Check {
    health: Arc<Health>,
    token: CancelToken,
    /// Closes at the end.
    _over: Sender<()>,
}

impl Drop for Check {
    fn drop(&mut self) {
        self.health.book.lock().end(now());
    }
}

/// Nobody tells of the provider any more.
pub(super) fn fall_silent(shared: &Shared) {
    shared.health.speak(false);
    shared.events.clear(UNHEALTHY, &shared.settings.name);
}

/// Looks whether a check is due, and has a worker make it.
pub(super) fn look(shared: &Shared, now: Instant) {
    let (is_due, is_good) = {
        let figures = &shared.figures;
        let (succeeded, ended) = (figures.served.get(), figures.completed.get());
        let probed_after = shared.gate.breaker.rests_for();
        let mut book = shared.health.book.lock();
        (book.look(now, succeeded, ended, probed_after), book.state != HealthState::Unhealthy)
    };
    let wrong = (!is_good).then(|| "it did not answer when its list of models was asked for".to_owned());
    if shared.health.speaks.load(Ordering::SeqCst) {
        shared.events.set(UNHEALTHY, &shared.settings.name, wrong);
    }
    if is_due && shared.phase() < PoolPhase::Draining {
        drop(begin(shared, now));
    }
}

/// Has a worker make a check, behind whoever waits; what it gives closes when the check has ended.
pub(super) fn begin(shared: &Shared, now: Instant) -> Receiver<()> {
    let (over, is_over) = bounded(0);
    let token = CancelToken::new();
    shared.health.book.lock().begin(now, &token);
    let check = Check { health: Arc::clone(&shared.health), token, _over: over };
    let job = shared.stock.jobs.acquire(|job| job.fill_check(check));
    if shared.lanes.push(job).is_err() {
        log::error!("{}: a lane had no slot for a check", shared.settings.name);
    }
    is_over
}

/// Asks for the list of models at `path`.
pub(super) fn ask(
    shared: &Shared,
    path: &str,
    cancel: &CancelToken,
    until: Deadline,
) -> Result<Incoming, TransportError> {
    let settings = &shared.attempt.settings;
    let own = settings.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let usual = [("accept", "application/json"), ("accept-encoding", "identity")];
    let mut headers: Vec<_> = usual.into_iter().chain(own).chain(shared.gate.keys.for_check()).collect();
    add_missing(settings.dialects.first().map_or(&[], |dialect| dialect.headers()), &mut headers);
    let control = Control { request_id: None, cancel, deadline: until, connect_timeout: settings.connect_timeout };
    let outgoing = Outgoing { method: "GET", path, headers: &headers, body: b"" };
    shared.attempt.transport.send(&outgoing, &control)
}

/// Makes a check.
pub(super) fn run(shared: &Shared, check: Check) {
    let until = Deadline::after(CHECK_TIMEOUT);
    let answer = ask(shared, shared.attempt.settings.paths.models(), &check.token, until);
    let is_there = answer.as_ref().is_ok_and(|answer| answer.status < 500);
    // One that the pool's end has cut says nothing.
    if is_there || !check.token.is_cancelled() {
        shared.health.book.lock().note(now(), is_there);
        shared.health.failures.add(u64::from(!is_there));
    }
    if let Ok(mut answer) = answer {
        let (mut piece, mut read) = ([0; 4096], 0);
        while let Ok(n @ 1..) = answer.body.read(&mut piece, until)
            && read < MOST_READ
        {
            read += n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_calls_succeed_no_check_is_made_and_one_that_was_not_there_is_looked_at_soon() {
        let (start, interval) = (now(), Duration::from_secs(30));
        let health = Health::new(Checks::Made(config::Health { on_start: false, interval }), start, None);
        let mut book = health.book.lock();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!book.look(at(29), 0, 0, None) && book.look(at(30), 0, 0, None));
        assert!(!book.look(at(30), 1, 1, None), "calls have succeeded since");
        assert_eq!(
            (book.state, book.look(at(59), 1, 1, None), book.look(at(60), 1, 1, None)),
            (HealthState::Healthy, false, true)
        );
        book.begin(at(60), &CancelToken::new());
        assert!(!book.look(at(99), 1, 1, None), "one at a time");
        book.note(at(99), false);
        book.end(at(99));
        assert_eq!(
            (book.state, book.look(at(103), 1, 1, None), book.look(at(104), 1, 1, None)),
            (HealthState::Unhealthy, false, true)
        );
        assert!(!book.look(at(104), 2, 2, None) && book.state == HealthState::Healthy, "a call has shown it");
    }

    #[test]
    fn while_a_circuit_is_open_a_check_keeps_clear_of_the_calls_that_try_the_provider() {
        let (start, interval) = (now(), Duration::from_secs(1));
        let health = Health::new(Checks::Made(config::Health { on_start: false, interval }), start, None);
        let mut book = health.book.lock();
        let rest = Some(Duration::from_secs(4));
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!book.look(at(10_000), 0, 1, rest), "a call has just ended");
        for (ms, due) in
            [(10_999, false), (11_000, true), (12_000, true), (12_001, false), (14_999, false), (15_000, true)]
        {
            assert_eq!(book.look(at(ms), 0, 1, rest), due, "{ms}");
        }
        assert!(book.look(at(10_500), 0, 1, None), "nothing is to be kept clear of while all circuits are closed");
    }

    #[test]
    fn without_an_interval_nothing_is_looked_at() {
        let start = now();
        for checks in [Checks::NEVER, Checks::Needless] {
            assert!(!Health::new(checks, start, None).book.lock().look(
                start + Duration::from_secs(86_400),
                0,
                0,
                None
            ));
        }
    }
}
