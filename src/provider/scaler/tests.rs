//! The scaler against tables, and against a simulated pool in virtual time: the scaler is the real one, the pool a model.
//!
//! The model costs what was measured on two cores, roughly: a job handed over takes [`DISPATCH`] to reach its worker in any
//! pool; the supervisor hears the bell after [`WAKE`], starts threads one after the other in [`HIRE`] each, and a thread
//! works [`START`] later. Service times are exponential. After every event the pool's invariants are checked.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::*;
use crate::time::now;

const DISPATCH: u64 = 20_000;
const WAKE: u64 = 30_000;
const HIRE: u64 = 40_000;
const START: u64 = 200_000;
const LOOK: u64 = 250_000_000;
const SECOND: u64 = 1_000_000_000;

/// Where the page's limits are, and the defaults.
const LIMITS: Limits = Limits { min: 10, max: 64 };
const BUFFER: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A caller sends its next job; none for one of an open stream of arrivals.
    Arrive(Option<usize>),
    /// A worker is ready for its first job.
    Up(usize),
    Done(usize),
    Wake,
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Idle,
    Busy { since: u64, caller: Option<usize> },
    Gone,
}

struct Worker {
    state: State,
    starting: bool,
    leaving: bool,
    hired: u64,
}

/// What arrives without waiting for answers: mean jobs a second at a time, in seconds; none for closed loops only.
type Rate = fn(f64) -> f64;

struct Sim {
    scaler: Option<Scaler>,
    min: usize,
    base: Instant,
    random: fastrand::Rng,
    now: u64,
    sequence: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    workers: Vec<Worker>,
    idle: VecDeque<usize>,
    queue: VecDeque<(u64, Option<usize>)>,
    wanted: usize,
    /// Whoever is not gone.
    alive: usize,
    fewest_idle: usize,
    rung: bool,
    mean_service: f64,
    rate: Rate,
    callers: usize,
    jobs: u64,
    served: u64,
    worker_ns: u128,
    /// When each job came and how long it waited.
    waits: Vec<(u64, u64)>,
    changes: Vec<(u64, Change)>,
    last_done: u64,
}

impl Sim {
    fn new(adaptive: bool, seed: u64, mean_service: f64, rate: Rate) -> Self {
        let scaler = adaptive.then(|| Scaler::new(Scaling::default(), LIMITS));
        let wanted = if adaptive { LIMITS.min } else { LIMITS.max };
        let worker = |_| Worker { state: State::Idle, starting: true, leaving: false, hired: 0 };
        let mut sim = Self {
            scaler,
            min: wanted,
            base: now(),
            random: fastrand::Rng::with_seed(seed),
            now: 0,
            sequence: 0,
            events: BinaryHeap::new(),
            workers: (0..wanted).map(worker).collect(),
            idle: (0..wanted).collect(),
            queue: VecDeque::new(),
            wanted,
            alive: wanted,
            fewest_idle: wanted,
            rung: false,
            mean_service,
            rate,
            callers: 0,
            jobs: 0,
            served: 0,
            worker_ns: 0,
            waits: Vec::new(),
            changes: Vec::new(),
            last_done: 0,
        };
        if adaptive {
            sim.at(LOOK, Event::Look);
        }
        if rate(0.0) > 0.0 {
            sim.at(0, Event::Arrive(None));
        }
        sim
    }

    fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((time, self.sequence, event)));
    }

    /// An exponential draw of this mean, in nanoseconds.
    fn draw(&mut self, mean_s: f64) -> u64 {
        (-mean_s * (1.0 - self.random.f64()).ln() * SECOND as f64) as u64
    }

    /// From now on there are so many callers, each of which sends a job as soon as its last one is answered.
    fn set_callers(&mut self, callers: usize) {
        for caller in self.callers..callers {
            self.at(self.now, Event::Arrive(Some(caller)));
        }
        self.callers = callers;
    }

    fn run_until(&mut self, seconds: u64) {
        let end = seconds * SECOND;
        while let Some(Reverse((time, _, event))) = self.events.peek().copied() {
            if time > end {
                break;
            }
            self.events.pop();
            self.pass(time);
            self.happen(event);
            self.check();
        }
        self.pass(end);
    }

    fn pass(&mut self, time: u64) {
        self.worker_ns += u128::from(time - self.now) * self.alive as u128;
        self.now = time;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(caller) => {
                if caller.is_none() {
                    let rate = (self.rate)(self.now as f64 / SECOND as f64);
                    let next = self.now + self.draw(1.0 / rate.max(1e-3));
                    self.at(next, Event::Arrive(None));
                }
                match self.idle.pop_front() {
                    Some(worker) => {
                        self.fewest_idle = self.fewest_idle.min(self.idle.len());
                        self.begin(worker, (self.now, caller));
                    }
                    None => {
                        self.fewest_idle = 0;
                        self.queue.push_back((self.now, caller));
                        self.ring();
                    }
                }
            }
            Event::Up(worker) => self.next_job(worker),
            Event::Done(worker) => {
                let State::Busy { since, caller } = self.workers[worker].state else { unreachable!("it was busy") };
                (self.jobs, self.served, self.last_done) = (self.jobs + 1, self.served + self.now - since, self.now);
                if let Some(caller) = caller.filter(|caller| *caller < self.callers) {
                    self.at(self.now + DISPATCH, Event::Arrive(Some(caller)));
                }
                self.next_job(worker);
            }
            Event::Wake => {
                self.rung = false;
                self.meet_demand();
            }
            Event::Look => {
                self.evaluate();
                self.meet_demand();
                self.at(self.now + LOOK, Event::Look);
            }
        }
    }

    fn next_job(&mut self, worker: usize) {
        if self.workers[worker].leaving {
            self.end(worker);
        } else if let Some(job) = self.queue.pop_front() {
            self.begin(worker, job);
        } else {
            self.workers[worker].state = State::Idle;
            self.idle.push_back(worker);
        }
    }

    fn end(&mut self, worker: usize) {
        self.workers[worker].state = State::Gone;
        self.alive -= 1;
    }

    fn begin(&mut self, worker: usize, (came, caller): (u64, Option<usize>)) {
        self.waits.push((came, self.now - came + DISPATCH));
        self.workers[worker].state = State::Busy { since: self.now, caller };
        let end = self.now + DISPATCH + self.draw(self.mean_service);
        self.at(end, Event::Done(worker));
        if std::mem::take(&mut self.workers[worker].starting) && !self.queue.is_empty() {
            self.ring();
        }
    }

    fn ring(&mut self) {
        if self.scaler.is_some() && !std::mem::replace(&mut self.rung, true) {
            self.at(self.now + WAKE, Event::Wake);
        }
    }

    fn count(&self, of: impl Fn(&Worker) -> bool) -> usize {
        self.workers.iter().filter(|worker| worker.state != State::Gone && of(worker)).count()
    }

    fn meet_demand(&mut self) {
        let crowd = Crowd {
            workers: self.wanted,
            starting: self.count(|worker| worker.starting && !worker.leaving),
            leaving: self.count(|worker| worker.leaving),
            standing: self.queue.len(),
        };
        if let Some(change) = self.scaler.as_ref().and_then(|scaler| scaler.demand(&crowd)) {
            self.carry_out(change);
        }
    }

    fn evaluate(&mut self) {
        let is_busy = |worker: &Worker| matches!(worker.state, State::Busy { .. });
        let running: u64 = self
            .workers
            .iter()
            .map(|worker| if let State::Busy { since, .. } = worker.state { self.now - since } else { 0 })
            .sum();
        let busy = self.count(is_busy);
        let fewest = std::mem::replace(&mut self.fewest_idle, self.idle.len()).min(self.idle.len());
        let load = Load {
            workers: self.wanted,
            leaving: self.count(|worker| worker.leaving),
            busy,
            peak: busy.max(self.count(|worker| !worker.leaving) - fewest),
            waiting: self.queue.len(),
            capacity: BUFFER,
            jobs: self.jobs,
            served: Duration::from_nanos(self.served),
            running: Duration::from_nanos(running),
        };
        let at = self.base + Duration::from_nanos(self.now);
        match self.scaler.as_mut().map(|scaler| scaler.evaluate(at, &load)) {
            Some(Decision::Change(change)) => self.carry_out(change),
            Some(Decision::Hold(_)) | None => {}
        }
    }

    fn carry_out(&mut self, change: Change) {
        match change.direction {
            Direction::Up => {
                for number in 0..(change.to - change.from) as u64 {
                    let id = self.workers.len();
                    let hired = self.now;
                    self.alive += 1;
                    self.workers.push(Worker { state: State::Starting, starting: true, leaving: false, hired });
                    self.at(self.now + (number + 1) * HIRE + START, Event::Up(id));
                }
            }
            Direction::Down => {
                let mut newest: Vec<_> = self.idle.iter().copied().collect();
                newest.sort_unstable_by_key(|id| Reverse((self.workers[*id].hired, *id)));
                for id in newest.into_iter().take(change.from - change.to) {
                    self.idle.retain(|idle| *idle != id);
                    self.end(id);
                }
            }
        }
        self.wanted = self.count(|worker| !worker.leaving);
        let at = self.base + Duration::from_nanos(self.now);
        self.changes.push((self.now, Change { to: self.wanted, ..change }));
        self.scaler.as_mut().expect("it decided").changed(at);
    }

    fn check(&self) {
        let (wanted, alive) = (self.wanted, self.alive);
        assert!((self.min..=LIMITS.max).contains(&wanted) && alive <= LIMITS.max, "{wanted} wanted, {alive} there");
        assert!(self.queue.is_empty() || self.idle.is_empty(), "a job waits while a worker is idle");
        if let [.., (before, _), (at, change)] = self.changes.as_slice() {
            assert_ne!(change.from, change.to);
            assert_eq!(change.to > change.from, change.direction == Direction::Up, "{change:?}");
            let waited = change.reason == Reason::Demand || at - before >= SECOND;
            assert!(waited, "within the interval: {change:?}");
        }
    }

    /// The percentile of the waits of jobs that came since `seconds`.
    fn wait(&self, seconds: u64, percentile: f64) -> u64 {
        let mut waits: Vec<_> =
            self.waits.iter().filter(|(came, _)| *came >= seconds * SECOND).map(|(_, wait)| *wait).collect();
        waits.sort_unstable();
        waits[((waits.len() - 1) as f64 * percentile) as usize]
    }

    /// How often the direction turned.
    fn reversals(&self, since: u64) -> usize {
        let ways: Vec<_> =
            self.changes.iter().filter(|(at, _)| *at >= since * SECOND).map(|(_, change)| change.direction).collect();
        ways.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}

const NEVER: Rate = |_| 0.0;

/// The 54 callers that come at once wait for their threads to start, some milliseconds, once; they are fewer than one in a
/// hundred jobs of the minute that follows, so that the percentile says what goes on after them, and they are looked at by
/// themselves. A fixed pool's wait is the time of a hand-over and nothing else, which both have.
#[test]
fn after_a_step_from_10_to_64_callers_waits_are_a_fixed_pools() {
    for seed in 0..8 {
        let [mut adaptive, mut fixed] = [true, false].map(|adaptive| Sim::new(adaptive, seed, 0.5, NEVER));
        for sim in [&mut adaptive, &mut fixed] {
            sim.set_callers(10);
            sim.run_until(30);
            sim.set_callers(64);
            sim.run_until(90);
        }
        assert!(adaptive.wait(30, 0.99) <= 2 * fixed.wait(30, 0.99), "seed {seed}: {} ns", adaptive.wait(30, 0.99));
        assert_eq!(adaptive.wanted, 64);
        let slowest = adaptive.wait(30, 1.0);
        assert!(slowest <= 5_000_000, "seed {seed}: one of the first waited {slowest} ns");
    }
}

#[test]
fn a_burst_is_met_at_once_and_by_no_more_workers_than_it_takes() {
    for seed in 0..16 {
        let mut sim = Sim::new(true, seed, 5.0, NEVER);
        sim.run_until(5);
        sim.set_callers(54);
        // Nobody sends a second job.
        sim.callers = 0;
        sim.run_until(6);
        assert_eq!(sim.wanted, 54, "seed {seed}: {:?}", sim.changes);
        assert!(sim.wait(5, 1.0) < 5_000_000, "seed {seed}: one waited {} ns", sim.wait(5, 1.0));
        assert!(sim.changes.iter().all(|(_, change)| change.reason == Reason::Demand), "{:?}", sim.changes);
    }
}

#[test]
fn shrinking_begins_within_two_seconds_and_an_interval_after_a_load_has_ended() {
    for seed in 0..32 {
        let mut sim = Sim::new(true, seed, 0.2, NEVER);
        sim.set_callers(40);
        sim.run_until(10 + seed % 3);
        sim.set_callers(0);
        sim.run_until(40);
        let down = sim.changes.iter().find(|(_, change)| change.direction == Direction::Down).expect("it shrinks").0;
        let after = down.saturating_sub(sim.last_done);
        assert!(after <= 3 * SECOND, "seed {seed}: after {after} ns");
        assert_eq!(sim.wanted, LIMITS.min, "{:?}", sim.changes);
    }
}

#[test]
fn a_steady_load_turns_the_direction_at_most_once_a_minute() {
    const MINUTES: u64 = 20;
    // Jobs under way on average: within the fewest workers, around them, and far above; jobs of one second and of a tenth.
    const RATES: [(f64, Rate); 10] = [
        (1.0, |_| 2.0),
        (1.0, |_| 5.0),
        (1.0, |_| 8.0),
        (1.0, |_| 12.0),
        (1.0, |_| 30.0),
        (1.0, |_| 50.0),
        (0.1, |_| 40.0),
        (0.1, |_| 80.0),
        (0.1, |_| 120.0),
        (0.1, |_| 300.0),
    ];
    for seed in 0..3 {
        for (index, (service, rate)) in RATES.into_iter().enumerate() {
            let mut sim = Sim::new(true, seed, service, rate);
            sim.run_until((MINUTES + 1) * 60);
            // The first minute is the way there.
            let reversals = sim.reversals(60);
            assert!(reversals as u64 <= MINUTES, "seed {seed}, load {index}: {reversals} in {MINUTES} minutes");
        }
    }
}

/// A day in an hour, for a pool of 64: working hours that rise to 40 jobs under way between nights with 2; and one without
/// a night, which rises to half of the pool. What is left is mostly the page's threshold: on the way down nobody goes before
/// fewer than 30 % are busy, so that a day without a night that rises to 40 comes to 64 %.
#[test]
fn over_a_day_the_workers_are_there_for_at_most_six_tenths_of_a_fixed_pools_time() {
    const DAY: u64 = 3600;
    const WAY: fn(f64) -> f64 = |t| t * std::f64::consts::TAU / DAY as f64;
    const OFFICE: Rate = |t| 2.0 * (2.0 + 38.0 * WAY(t).sin().max(0.0));
    const WORLD: Rate = |t| 2.0 * (2.0 + 15.0 * (1.0 - WAY(t).cos()));
    for (seed, rate) in [(0, OFFICE), (1, OFFICE), (0, WORLD), (1, WORLD)] {
        let [mut adaptive, mut fixed] = [true, false].map(|adaptive| Sim::new(adaptive, seed, 0.5, rate));
        adaptive.run_until(DAY);
        fixed.run_until(DAY);
        let share = adaptive.worker_ns as f64 / fixed.worker_ns as f64;
        assert!(share <= 0.6, "seed {seed}: {share}");
        assert!(adaptive.wait(0, 0.99) <= 2 * fixed.wait(0, 0.99), "seed {seed}: {} ns", adaptive.wait(0, 0.99));
    }
}

const SECONDS: fn(f64) -> Duration = Duration::from_secs_f64;

/// A scaler that has looked each quarter of a second for two seconds at `load`, and what it said last.
fn after_two_seconds_of(load: Load) -> Decision {
    let (mut scaler, start) = (Scaler::new(Scaling::default(), LIMITS), now());
    let mut decision = Decision::Hold(Hold::NoHistory);
    for look in 0..9u32 {
        let at = f64::from(look) / 4.0;
        let so_far = Load { served: load.served.mul_f64(at), jobs: (load.jobs as f64 * at) as u64, ..load };
        decision = scaler.evaluate(start + SECONDS(at), &so_far);
    }
    decision
}

/// Loads by their rates: `served` and `jobs` are those of a second.
#[test]
fn each_reason_by_its_own_load() {
    use Decision::{Change as Changed, Hold as Held};
    let base = Load { workers: 20, capacity: 500, ..Load::default() };
    let busy = |workers: f64| SECONDS(workers);
    let up = |to, reason| Changed(Change { direction: Direction::Up, from: 20, to, reason });
    let down = |to, reason| Changed(Change { direction: Direction::Down, from: 20, to, reason });
    let rows = [
        ("a queue over 80 %", Load { waiting: 401, ..base }, up(30, Reason::Queue)),
        ("a queue of 80 %", Load { waiting: 400, peak: 20, ..base }, Held(Hold::Steady)),
        (
            "slow answers while work waits",
            Load { waiting: 1, served: busy(15.0), jobs: 1, ..base },
            up(30, Reason::Response),
        ),
        ("slow answers and nobody waits", Load { served: busy(15.0), jobs: 1, ..base }, Held(Hold::Steady)),
        ("busy for over 80 %", Load { served: busy(16.5), jobs: 100, ..base }, up(30, Reason::Utilisation)),
        ("busy for half", Load { served: busy(10.0), jobs: 100, ..base }, Held(Hold::Steady)),
        ("busy for a fifth", Load { served: busy(4.0), jobs: 100, peak: 5, ..base }, down(15, Reason::Utilisation)),
        (
            "busy for a fifth, but at times more",
            Load { served: busy(4.0), peak: 18, ..base },
            down(18, Reason::Utilisation),
        ),
        ("all were busy at once", Load { served: busy(4.0), peak: 20, ..base }, Held(Hold::RecentPeak)),
        ("nothing at all", base, down(15, Reason::LoadEnded)),
        (
            "little work that waits for slow answers",
            Load { waiting: 3, served: busy(5.0), jobs: 1, peak: 5, ..base },
            Held(Hold::SlowResponse),
        ),
        ("some are leaving", Load { workers: 20, leaving: 44, waiting: 401, ..base }, Held(Hold::AtMax)),
        ("nothing, at the fewest", Load { workers: 10, ..base }, Held(Hold::AtMin)),
    ];
    for (what, load, decision) in rows {
        assert_eq!(after_two_seconds_of(load), decision, "{what}");
    }
    let full = Load { workers: 64, waiting: 401, ..base };
    assert_eq!(after_two_seconds_of(full), Held(Hold::AtMax));
    let beyond = Load { workers: 70, ..base };
    let change = Change { direction: Direction::Down, from: 70, to: 64, reason: Reason::Limits };
    assert_eq!(after_two_seconds_of(beyond), Changed(change));
}

#[test]
fn the_interval_holds_evaluations_back_and_not_demand() {
    let (mut scaler, start) = (Scaler::new(Scaling::default(), LIMITS), now());
    let load = Load { workers: 20, capacity: 500, waiting: 450, ..Load::default() };
    assert!(matches!(scaler.evaluate(start, &load), Decision::Change(_)));
    scaler.changed(start);
    assert_eq!(scaler.evaluate(start + SECONDS(0.9), &load), Decision::Hold(Hold::Interval));
    let crowd = Crowd { workers: 20, starting: 0, leaving: 0, standing: 5 };
    assert_eq!(scaler.demand(&crowd).map(|change| change.to), Some(25));
    assert!(matches!(scaler.evaluate(start + SECONDS(1.0), &load), Decision::Change(_)));
}

#[test]
fn demand_counts_who_is_on_the_way_and_ends_at_the_most() {
    let crowd = |workers, starting, leaving, standing| Crowd { workers, starting, leaving, standing };
    for (crowd, wanted) in [
        (crowd(10, 0, 0, 44), 54),
        (crowd(10, 3, 0, 3), 10),
        (crowd(10, 3, 0, 5), 12),
        (crowd(60, 0, 0, 44), 64),
        (crowd(60, 0, 3, 44), 61),
        (crowd(64, 0, 0, 44), 64),
        (crowd(10, 0, 0, 0), 10),
        // The most was lowered: those that are there are not taken away by demand.
        (crowd(70, 0, 0, 9), 70),
    ] {
        assert_eq!(demanded(&crowd, 64), wanted, "{crowd:?}");
    }
}
