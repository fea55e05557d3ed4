//! One circuit: closed, open or half-open, by what its calls come to. Pure; `now` is handed in.
//!
//! **Closed**, everybody passes and every end that says something is counted in a sliding window. It opens when so many
//! calls in a row failed, or when of enough calls in the window the share that failed, or was slow, is too high.
//! **Open**, nobody passes for `open_for`, which is constant: what grows with each failure keeps a provider that came back
//! waiting. **Half-open**, a few probes pass. A probe's place is lent for `open_for`: one that hangs keeps nobody from
//! finding out that the provider is back, and what it fails by after that counts for nothing. When all places were taken by
//! probes that went well, the circuit closes; the first bad one opens it again; one that is abandoned gives its place back.
//!
//! Just **closed again**, it ramps: for a moment only a few calls are let in at a time, one more with each that goes well,
//! so that whoever waited does not come down on a provider that has just stood up; and as soon as more of them have failed
//! than gone well, it opens again without waiting for the usual thresholds. A ramp is over after [`RAMP`] whatever came.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::Breaker as Settings;
use crate::time::format_duration;

/// The longest that a ramp lasts; never longer than the circuit was open.
const RAMP: Duration = Duration::from_secs(2);

/// How many calls a ramp lets in at first.
const RAMP_START: u32 = 8;

/// Parts of the sliding window: what is counted is forgotten a tenth of the window at a time.
const PARTS: usize = 10;

/// Where a circuit stands, as `/stats` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// No call passes.
    Open,
    /// Probes pass.
    HalfOpen,
}

impl fmt::Display for BreakerState {
    /// The word that `/stats` has for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What the end of a call says of whom it was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It went well.
    Good,
    /// It went well, and took longer than it should.
    Slow,
    /// It failed by the other's fault.
    Bad,
    /// Nothing: it was abandoned, or failed by another's fault.
    Silent,
}

/// What a call that was let in holds of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// Nothing.
    Free,
    /// The place of a probe, by its number.
    Probe(u64),
    /// A place on the ramp that began as the circuit closed for so many times.
    Ramp(u64),
}

/// How often a circuit changed its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turns {
    pub(crate) opened: u64,
    pub(crate) half_opened: u64,
    pub(crate) closed: u64,
}

/// A change of state, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) to: BreakerState,
    pub(crate) why: String,
}

#[derive(Debug)]
enum State {
    Closed(Option<Ramp>),
    Open { until: Instant },
    HalfOpen { probes: Vec<Probe>, good: u32 },
}

#[derive(Debug)]
struct Probe {
    number: u64,
    since: Instant,
}

impl Probe {
    /// Whether its place is its own still.
    fn is_lent(&self, now: Instant, settings: &Settings) -> bool {
        now.saturating_duration_since(self.since) < settings.open_for
    }
}

#[derive(Debug)]
struct Ramp {
    until: Instant,
    allowed: u32,
    under_way: u32,
    good: u64,
    bad: u64,
}

/// One circuit.
#[derive(Debug)]
pub(crate) struct Circuit {
    state: State,
    in_a_row: u32,
    window: Window,
    turns: Turns,
    probes_sent: u64,
}

impl Circuit {
    /// A closed circuit of which nothing is known.
    pub(crate) fn new(now: Instant, settings: &Settings) -> Self {
        Self {
            state: State::Closed(None),
            in_a_row: 0,
            window: Window::new(now, settings.window),
            turns: Turns::default(),
            probes_sent: 0,
        }
    }

    /// Where it stands; of one that is open and could be probed, [`advance`](Self::advance) comes first.
    pub(crate) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed(_) => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    pub(crate) fn turns(&self) -> Turns {
        self.turns
    }

    /// Whether it lets in everybody, and time alone changes nothing.
    pub(crate) fn is_calm(&self) -> bool {
        matches!(self.state, State::Closed(None))
    }

    /// How long it is open still, if it is.
    pub(crate) fn open_until(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            _ => None,
        }
    }

    /// Does what time alone does: half-opens it, and ends a ramp.
    pub(crate) fn advance(&mut self, now: Instant, settings: &Settings) -> Option<Turn> {
        match &self.state {
            State::Open { until } if *until <= now => {
                self.state = State::HalfOpen { probes: Vec::new(), good: 0 };
                self.count(BreakerState::HalfOpen);
                let why = format!("{} may be tried", calls(u64::from(settings.half_open_probes)));
                Some(Turn { to: BreakerState::HalfOpen, why })
            }
            State::Closed(Some(ramp)) if ramp.until <= now => {
                self.state = State::Closed(None);
                None
            }
            _ => None,
        }
    }

    /// Lets a call in.
    ///
    /// # Errors
    /// If it does not: the time after which it may.
    pub(crate) fn admit(&mut self, now: Instant, settings: &Settings) -> Result<Seat, Duration> {
        let left = |until: Instant| until.saturating_duration_since(now);
        match &mut self.state {
            State::Closed(None) => Ok(Seat::Free),
            State::Closed(Some(ramp)) if ramp.under_way < ramp.allowed => {
                ramp.under_way += 1;
                Ok(Seat::Ramp(self.turns.closed))
            }
            State::Closed(Some(ramp)) => Err(left(ramp.until)),
            State::Open { until } => Err(left(*until)),
            State::HalfOpen { probes, good } => {
                probes.retain(|probe| probe.is_lent(now, settings));
                let places = settings.half_open_probes.saturating_sub(*good) as usize;
                if let Some(first) = probes.first().filter(|_| probes.len() >= places) {
                    return Err(left(first.since + settings.open_for));
                }
                self.probes_sent += 1;
                probes.push(Probe { number: self.probes_sent, since: now });
                Ok(Seat::Probe(self.probes_sent))
            }
        }
    }

    /// A stream has begun well: it is no failure, and whether it is a success its end says. A probe's work is done by that.
    pub(crate) fn begun(&mut self, now: Instant, settings: &Settings, seat: Seat) -> Option<Turn> {
        match (&mut self.state, seat) {
            (State::HalfOpen { .. }, Seat::Probe(number)) => {
                self.give_back(now, settings, number);
                self.good_probe(now, settings, 0)
            }
            (State::Closed(Some(ramp)), Seat::Ramp(number)) if number == self.turns.closed => {
                ramp.under_way = ramp.under_way.saturating_sub(1);
                ramp.allowed += 1;
                None
            }
            _ => None,
        }
    }

    /// A call has ended that was let in since the circuit last opened.
    pub(crate) fn end(&mut self, now: Instant, settings: &Settings, seat: Seat, ended: Ended) -> Option<Turn> {
        match &mut self.state {
            State::Closed(_) => self.note(now, settings, seat, ended),
            State::Open { .. } => None,
            State::HalfOpen { .. } => {
                let Seat::Probe(number) = seat else { return None };
                let was_held = self.give_back(now, settings, number);
                match ended {
                    Ended::Good => self.good_probe(now, settings, 1),
                    Ended::Bad if was_held => Some(self.open(now, settings, "a probe failed".to_owned())),
                    Ended::Slow if was_held => Some(self.open(now, settings, "a probe was too slow".to_owned())),
                    Ended::Bad | Ended::Slow | Ended::Silent => None,
                }
            }
        }
    }

    /// Opens it, or begins its time anew.
    fn open(&mut self, now: Instant, settings: &Settings, why: String) -> Turn {
        self.count(BreakerState::Open);
        self.state = State::Open { until: now + settings.open_for };
        let why = format!("for {}: {why}", format_duration(settings.open_for));
        Turn { to: BreakerState::Open, why }
    }

    /// Closes it, with nothing counted and without a ramp; where it stood before.
    pub(crate) fn reset(&mut self, now: Instant, settings: &Settings) -> BreakerState {
        let before = self.state();
        (self.state, self.in_a_row) = (State::Closed(None), 0);
        self.window = Window::new(now, settings.window);
        before
    }

    /// Counts a turn that somebody else decided on.
    pub(crate) fn count(&mut self, to: BreakerState) {
        match to {
            BreakerState::Closed => self.turns.closed += 1,
            BreakerState::Open => self.turns.opened += 1,
            BreakerState::HalfOpen => self.turns.half_opened += 1,
        }
    }

    /// Takes a probe's place back; `false` if it was given up before.
    fn give_back(&mut self, now: Instant, settings: &Settings, number: u64) -> bool {
        let State::HalfOpen { probes, .. } = &mut self.state else { return false };
        let place = probes.iter().position(|probe| probe.number == number);
        place.is_some_and(|place| probes.remove(place).is_lent(now, settings))
    }

    /// A probe went well; `known` is how many calls of the ramp to come have gone well by that.
    fn good_probe(&mut self, now: Instant, settings: &Settings, known: u64) -> Option<Turn> {
        let State::HalfOpen { good, .. } = &mut self.state else { return None };
        *good += 1;
        if *good < settings.half_open_probes {
            return None;
        }
        let why = format!("{} went well", calls(u64::from(*good)));
        self.reset(now, settings);
        self.count(BreakerState::Closed);
        let until = now + settings.open_for.min(RAMP);
        self.state = State::Closed(Some(Ramp { until, allowed: RAMP_START, under_way: 0, good: known, bad: 0 }));
        Some(Turn { to: BreakerState::Closed, why })
    }

    /// Counts an end while closed, and opens if it is one too many.
    fn note(&mut self, now: Instant, settings: &Settings, seat: Seat, ended: Ended) -> Option<Turn> {
        let State::Closed(ramp) = &mut self.state else { return None };
        let mut ramp = ramp.as_mut();
        if let (Some(ramp), Seat::Ramp(number)) = (&mut ramp, seat)
            && number == self.turns.closed
        {
            ramp.under_way = ramp.under_way.saturating_sub(1);
        }
        if ended == Ended::Silent {
            return None;
        }
        self.window.add(now, ended);
        if ended == Ended::Bad {
            self.in_a_row += 1;
        } else {
            self.in_a_row = 0;
        }
        let mut falls = false;
        if let Some(ramp) = ramp {
            match ended {
                Ended::Bad => ramp.bad += 1,
                _ => (ramp.good, ramp.allowed) = (ramp.good + 1, ramp.allowed + 1),
            }
            falls = ramp.bad > ramp.good;
        }
        if ended == Ended::Good {
            return None;
        }
        let why = if falls {
            "more calls failed than went well after it had closed".to_owned()
        } else {
            self.why_open(now, settings)?
        };
        Some(self.open(now, settings, why))
    }

    /// Why it is to open now, if it is.
    fn why_open(&self, now: Instant, settings: &Settings) -> Option<String> {
        if settings.consecutive_failures > 0 && self.in_a_row >= settings.consecutive_failures {
            return Some(format!("{} in a row failed", calls(u64::from(self.in_a_row))));
        }
        let Tally { all, bad, slow } = self.window.sum(now);
        if all < u64::from(settings.min_requests) {
            return None;
        }
        let is_share = |count: u64, share: f64| share > 0.0 && count as f64 >= share * all as f64;
        let within = format_duration(settings.window);
        if is_share(bad, settings.failure_ratio) {
            return Some(format!("{bad} of {} failed within {within}", calls(all)));
        }
        let is_slow = settings.slow_after.is_some() && is_share(slow, settings.slow_ratio);
        is_slow.then(|| format!("{slow} of {} were slow within {within}", calls(all)))
    }
}

/// A number of calls in words.
fn calls(count: u64) -> String {
    if count == 1 { "1 call".to_owned() } else { format!("{count} calls") }
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    all: u64,
    bad: u64,
    slow: u64,
}

/// Whole nanoseconds, which a number of 64 bits has room for in centuries.
fn nanos_of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What was counted in the last [`PARTS`] parts of time, the one that is running among them.
#[derive(Debug)]
struct Window {
    begin: Instant,
    part_ns: u64,
    /// Each with the number of the part that it was counted in.
    tallies: [(u64, Tally); PARTS],
}

impl Window {
    fn new(now: Instant, length: Duration) -> Self {
        let part_ns = (nanos_of(length) / PARTS as u64).max(1);
        Self { begin: now, part_ns, tallies: Default::default() }
    }

    /// The number of the part that `now` is in.
    fn part_of(&self, now: Instant) -> u64 {
        nanos_of(now.saturating_duration_since(self.begin)) / self.part_ns
    }

    fn add(&mut self, now: Instant, ended: Ended) {
        let part = self.part_of(now);
        let (number, tally) = &mut self.tallies[(part % PARTS as u64) as usize];
        if *number < part {
            (*number, *tally) = (part, Tally::default());
        }
        tally.all += 1;
        tally.bad += u64::from(ended == Ended::Bad);
        tally.slow += u64::from(ended == Ended::Slow);
    }

    fn sum(&self, now: Instant) -> Tally {
        let part = self.part_of(now);
        let recent = self.tallies.iter().filter(|(number, _)| number + PARTS as u64 > part);
        recent.fold(Tally::default(), |sum, (_, tally)| Tally {
            all: sum.all + tally.all,
            bad: sum.bad + tally.bad,
            slow: sum.slow + tally.slow,
        })
    }
}
