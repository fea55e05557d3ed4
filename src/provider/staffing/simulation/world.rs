//! What goes on around the decisions: callers, jobs, threads and an upstream, by events in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::config::Policy;
use crate::error::{Code, Error};
use crate::model::{Operation, Priority};
use crate::provider::breaker::Ticket;
use crate::provider::figures::{Entry, Running, Unserved};
use crate::provider::series::Asked;
use crate::queue::{Lanes, Permit, Queued, Seat, Shift, Taken};
use crate::sync::Quit;
use crate::time::now;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Upstream {
    Up,
    Down,
    Hangs,
    /// Nobody answers at its address.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Arrive,
    /// A caller's time is over, or it goes.
    Leave(usize),
    /// A new thread listens.
    Listen(usize),
    /// A worker has got what it was handed.
    Handed(usize),
    /// An idle worker has heard that it is to end.
    Told(usize),
    Done {
        worker: usize,
        call: usize,
    },
    /// The supervisor wakes, or would if there were something to wake for.
    Wake,
    Upstream(Upstream),
    Threads {
        to_be_had: bool,
    },
    /// So many calls a second from now on.
    Rate(u32),
}

/// What stands in a lane.
#[derive(Debug)]
pub(super) struct Shell {
    call: usize,
    priority: Priority,
    gone: Arc<AtomicBool>,
}

impl Queued for Shell {
    fn is_tombstone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    fn priority(&self) -> Priority {
        self.priority
    }

    fn since(&self) -> Option<Instant> {
        None
    }
}

pub(super) struct Call {
    pub(super) priority: Priority,
    pub(super) gone: Arc<AtomicBool>,
    pub(super) payload: Option<(Permit, Entry)>,
    pub(super) pass: Option<Ticket>,
    pub(super) model: usize,
    pub(super) worker: Option<usize>,
    pub(super) ends: u32,
}

pub(super) enum State {
    Starting,
    Idle,
    /// A call is on its way to it; it still shows itself idle.
    Handed(usize),
    Busy {
        call: usize,
        since: u64,
        running: Running,
        permit: Permit,
    },
    /// Its thread has ended, and it stands on the roster until somebody looks.
    Over,
}

pub(super) struct Worker {
    pub(super) quit: Option<Quit>,
    pub(super) state: State,
    pub(super) starting: Option<CountGuard>,
    pub(super) seat: Seat<Shell>,
    pub(super) shift: Shift,
    pub(super) tally: Tally,
}

/// What the last steps are told with.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "it is read where it is printed")]
pub(super) struct Step {
    pub(super) at: u64,
    pub(super) event: Event,
    pub(super) wanted: usize,
    pub(super) present: usize,
    pub(super) leaving: usize,
    pub(super) idle: usize,
    pub(super) standing: usize,
}

pub(super) struct World {
    pub(super) staffing: Arc<Staffing>,
    pub(super) figures: Arc<Figures>,
    pub(super) permits: Permits,
    pub(super) lanes: Lanes<Shell>,
    pub(super) policy: Policy,
    pub(super) limits: Limits,
    pub(super) service: f64,
    pub(super) base: Instant,
    pub(super) random: fastrand::Rng,
    pub(super) now: u64,
    pub(super) sequence: u64,
    pub(super) events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    pub(super) trail: VecDeque<Step>,
    pub(super) workers: BTreeMap<usize, Worker>,
    pub(super) hired: usize,
    pub(super) idle: VecDeque<usize>,
    pub(super) fewest_idle: usize,
    pub(super) calls: Vec<Call>,
    /// Callers that wait for a place.
    pub(super) line: VecDeque<(usize, Entry)>,
    pub(super) breaker: Breaker,
    pub(super) upstream: Upstream,
    pub(super) rate: u32,
    /// Whether threads are to be had, and since when.
    pub(super) threads: (bool, u64),
    pub(super) exits: VecDeque<ThreadEnd>,
    pub(super) next_look: u64,
    pub(super) hiring_until: u64,
    pub(super) nobody_since: Option<u64>,
    pub(super) unmet_since: Option<u64>,
    pub(super) succeeded_late: u64,
}

/// What the supervisor hears of a thread.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum ThreadEnd {
    Spawned,
    Ended,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = Limits { min: random.usize(1..=3), max: random.usize(4..=16) };
        let buffer = random.usize(2..=30);
        let policy = if random.bool() { Policy::Block } else { Policy::Error };
        let settings = PoolSettings {
            min_concurrency: limits.min,
            policy,
            ..PoolSettings::fixed("simulated", limits.max, buffer)
        };
        let (figures, permits) = (Arc::<Figures>::default(), Permits::new(limits.max + buffer));
        let (base, probes) = (now(), random.u32(1..=2));
        let staffing = Staffing::new(&settings, Arc::clone(&figures), permits.clone(), Events::new());
        let mut world = Self {
            staffing: Arc::new(staffing),
            figures,
            permits,
            lanes: Lanes::new(limits.max + buffer, settings.batch_share),
            policy,
            limits,
            service: [2_000.0, 20_000.0, 100_000.0][random.usize(0..3)],
            base,
            random,
            now: 0,
            sequence: 0,
            events: BinaryHeap::new(),
            trail: VecDeque::new(),
            workers: BTreeMap::new(),
            hired: 0,
            idle: VecDeque::new(),
            fewest_idle: 0,
            calls: Vec::new(),
            line: VecDeque::new(),
            breaker: Breaker::new(base, probes),
            upstream: Upstream::Up,
            rate: 0,
            threads: (true, 0),
            exits: VecDeque::new(),
            next_look: 0,
            hiring_until: 0,
            nobody_since: None,
            unmet_since: None,
            succeeded_late: 0,
        };
        world.schedule();
        world
    }

    /// Load and faults; the last of the load comes after the last fault.
    fn schedule(&mut self) {
        let mut at = 0;
        while at < FAULTS_END {
            let rate = [0, 5, 20, 60, 200][self.random.usize(0..5)];
            self.at(at, Event::Rate(rate));
            at += self.random.u64(SECOND / 4..2 * SECOND);
        }
        self.at(FAULTS_END, Event::Rate(20));
        self.at(LOAD_ENDS, Event::Rate(0));
        for _ in 0..self.random.u32(0..4) {
            let (from, to) = self.span();
            let fault = [Upstream::Down, Upstream::Hangs, Upstream::Gone][self.random.usize(0..3)];
            self.at(from, Event::Upstream(fault));
            self.at(to, Event::Upstream(Upstream::Up));
        }
        for _ in 0..self.random.u32(0..3) {
            let (from, to) = self.span();
            self.at(from, Event::Threads { to_be_had: false });
            self.at(to, Event::Threads { to_be_had: true });
        }
        self.at(0, Event::Arrive);
        self.at(0, Event::Wake);
    }

    fn span(&mut self) -> (u64, u64) {
        let from = self.random.u64(0..FAULTS_END);
        (from, FAULTS_END.min(from + self.random.u64(SECOND / 10..2 * SECOND)))
    }

    pub(super) fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    /// An exponential draw of this mean.
    pub(super) fn draw(&mut self, mean: f64) -> u64 {
        (-mean * (1.0 - self.random.f64()).ln()) as u64
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => {
                // Nobody comes while the rate is 0; it is looked at again.
                let next = if self.rate == 0 { 50_000 } else { 1 + self.draw(1e6 / f64::from(self.rate)) };
                if self.now < REST - SECOND {
                    self.at(self.now + next, Event::Arrive);
                }
                // Now and then many come at once.
                let most = if self.random.u8(0..40) == 0 { 2 * self.limits.max } else { 1 };
                let come = if self.rate == 0 { 0 } else { self.random.usize(1..=most) };
                for _ in 0..come {
                    self.arrive();
                }
            }
            Event::Leave(call) => self.leave(call),
            Event::Listen(worker) | Event::Handed(worker) => self.next_job(worker),
            // One that was handed a job in the same moment serves it first.
            Event::Told(worker) => {
                if self.workers.get(&worker).is_some_and(|worker| matches!(worker.state, State::Idle)) {
                    self.idle.retain(|idle| *idle != worker);
                    self.end_worker(worker);
                }
            }
            Event::Done { worker, call } => self.done(worker, call),
            Event::Upstream(state) => self.upstream = state,
            Event::Threads { to_be_had } => self.threads = (to_be_had, self.now),
            Event::Rate(rate) => self.rate = rate,
            Event::Wake => self.breaker.tick((self.now, self.instant())),
        }
    }

    /// Somebody may come between two steps of the supervisor's.
    pub(super) fn meanwhile(&mut self) {
        if self.rate > 0 && self.random.bool() {
            self.arrive();
        }
    }

    fn arrive(&mut self) {
        let (id, priority) =
            (self.calls.len(), if self.random.u8(0..4) == 0 { Priority::Batch } else { Priority::Interactive });
        let model = self.random.usize(0..MODELS.len());
        let pass = self.breaker.admit((self.now, self.instant()), model, id);
        let (gone, is_refused) = (Arc::default(), pass.is_none());
        self.calls.push(Call { priority, gone, payload: None, pass, model, worker: None, ends: 0 });
        if is_refused {
            return self.end_call(id, End::Silent);
        }
        let patience = self.random.u64(20_000..3 * SECOND);
        self.at(self.now + patience, Event::Leave(id));
        let entry = Entry::open(&self.figures);
        match (self.permits.try_take(), self.policy) {
            (Ok(permit), _) => self.accept(id, permit, entry),
            (Err(_), Policy::Block) => self.line.push_back((id, entry)),
            (Err(_), _) => {
                entry.settle(Unserved::Rejected);
                self.end_call(id, End::Silent);
            }
        }
    }

    fn accept(&mut self, id: usize, permit: Permit, mut entry: Entry) {
        entry.accepted();
        let call = &mut self.calls[id];
        call.payload = Some((permit, entry));
        let shell = Shell { call: id, priority: call.priority, gone: Arc::clone(&call.gone) };
        let Some(worker) = self.idle.pop_front() else {
            self.fewest_idle = 0;
            return self.lanes.push(shell).expect("who has a permit finds a slot");
        };
        self.fewest_idle = self.fewest_idle.min(self.idle.len());
        self.worker(worker).state = State::Handed(id);
        self.at(self.now + DISPATCH, Event::Handed(worker));
    }

    /// Lets in who waits for a place, as far as places are free.
    fn let_in(&mut self) {
        while !self.line.is_empty() {
            let Ok(permit) = self.permits.try_take() else { return };
            let (id, entry) = self.line.pop_front().expect("it was looked at");
            self.accept(id, permit, entry);
        }
    }

    fn leave(&mut self, id: usize) {
        if self.calls[id].ends > 0 {
            return;
        }
        if let Some(place) = self.line.iter().position(|(waiting, _)| *waiting == id) {
            let (_, entry) = self.line.remove(place).expect("it was found");
            entry.settle(Unserved::TimedOutSpace);
            return self.end_call(id, End::Silent);
        }
        if let Some((permit, entry)) = self.calls[id].payload.take() {
            self.calls[id].gone.store(true, Ordering::SeqCst);
            entry.settle(Unserved::TimedOutWorker);
            drop(permit);
            self.lanes.bury(self.calls[id].priority);
            self.end_call(id, End::Silent);
            return self.let_in();
        }
        // The worker hears of it; what the job says of the upstream is its own.
        self.calls[id].ends += 1;
        let worker = self.calls[id].worker.expect("who has neither a place in the line nor a payload is served");
        self.at(self.now + DISPATCH, Event::Done { worker, call: id });
    }

    fn end_call(&mut self, id: usize, ended: End) {
        self.calls[id].ends += 1;
        self.report(id, ended);
    }

    fn report(&mut self, id: usize, ended: End) {
        self.succeeded_late += u64::from(ended == End::Well && self.now > FAULTS_END);
        let now = (self.now, self.instant());
        if let Some(pass) = self.calls[id].pass.take() {
            self.breaker.end(now, &pass, self.calls[id].model, id, ended);
        }
    }

    pub(super) fn worker(&mut self, id: usize) -> &mut Worker {
        self.workers.get_mut(&id).expect("it stands on the roster")
    }

    /// A worker's loop, from where it is handed a job or looks for one to where it waits for something.
    fn next_job(&mut self, id: usize) {
        loop {
            let worker = self.workers.get_mut(&id).expect("it stands on the roster");
            let call = if let State::Handed(call) = worker.state {
                call
            } else {
                let watch = worker.quit.as_ref().map(Quit::watch);
                let Some(watch) = watch else { return self.end_worker(id) };
                match self.lanes.take(&worker.seat, &mut worker.shift, &watch, Duration::ZERO) {
                    Taken::Job(shell) => shell.call,
                    Taken::Quit => return self.end_worker(id),
                    Taken::Tick => {
                        worker.state = State::Idle;
                        return self.idle.push_back(id);
                    }
                }
            };
            worker.state = State::Starting;
            match self.calls[call].payload.take() {
                None => self.lanes.unbury(self.calls[call].priority),
                Some((permit, entry)) => {
                    if worker.starting.take().is_some() {
                        self.lanes.ring_if_standing();
                    }
                    if self.serve(id, call, permit, entry) {
                        return;
                    }
                }
            }
        }
    }

    /// Begins a job; `false` if it is not to be sent.
    fn serve(&mut self, worker: usize, id: usize, permit: Permit, entry: Entry) -> bool {
        let Call { pass, model, .. } = &self.calls[id];
        if !pass.as_ref().is_some_and(|pass| self.breaker.may_send(pass, *model)) {
            entry.settle(Unserved::Rejected);
            drop(permit);
            self.end_call(id, End::Silent);
            self.let_in();
            return false;
        }
        let running = entry.taken(Asked::of(&Operation::ChatCompletions, &"model".into()), now());
        let takes = match self.upstream {
            Upstream::Up => DISPATCH + self.draw(self.service).min(REQUEST_TIMEOUT),
            Upstream::Down | Upstream::Gone => 1_000,
            Upstream::Hangs => REQUEST_TIMEOUT,
        };
        self.calls[id].worker = Some(worker);
        let since = self.now;
        self.worker(worker).state = State::Busy { call: id, since, running, permit };
        self.at(since + takes, Event::Done { worker, call: id });
        true
    }

    fn done(&mut self, id: usize, call: usize) {
        let at = self.now;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        // One that was cancelled has ended already.
        if !matches!(&worker.state, State::Busy { call: current, .. } if *current == call) {
            return;
        }
        let busy = std::mem::replace(&mut worker.state, State::Starting);
        let State::Busy { since, running, permit, .. } = busy else { unreachable!("it was looked at") };
        worker.tally.jobs += 1;
        let took = Duration::from_micros(at - since);
        worker.tally.served += took;
        let panics = self.random.u8(0..50) == 0;
        let has_left = self.calls[call].ends > 0;
        let ended = match self.upstream {
            _ if panics || has_left => End::Silent,
            _ if at - since >= REQUEST_TIMEOUT => End::Late,
            Upstream::Up => End::Well,
            Upstream::Down | Upstream::Hangs => End::Refused,
            Upstream::Gone => End::Unreachable,
        };
        let failed = |code| Error::new(code, "as the test says");
        match ended {
            End::Well => running.succeed(took),
            End::Late => running.fail(&failed(Code::UpstreamTimeout), took),
            End::Refused => running.fail(&failed(Code::UpstreamError), took),
            End::Unreachable => running.fail(&failed(Code::UpstreamConnectError), took),
            End::Silent if panics => drop(running),
            End::Silent => running.fail(&failed(Code::ClientClosed), took),
        }
        drop(permit);
        self.calls[call].ends += u32::from(!has_left);
        self.report(call, ended);
        self.let_in();
        if panics { self.end_worker(id) } else { self.next_job(id) }
    }

    fn end_worker(&mut self, id: usize) {
        let worker = self.worker(id);
        (worker.state, worker.starting) = (State::Over, None);
        self.tell_supervisor(ThreadEnd::Ended);
    }

    /// The channel is bounded and lossy, and now and then it loses for the sake of it.
    pub(super) fn tell_supervisor(&mut self, end: ThreadEnd) {
        if self.exits.len() < (4 * self.limits.max).max(64) && self.random.u8(0..8) > 0 {
            self.exits.push_back(end);
        }
    }

    pub(super) fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    pub(super) fn step(&self, event: Event) -> Step {
        let leaving = self.workers.values().filter(|worker| worker.quit.is_none()).count();
        let (wanted, present) = (self.staffing.wanted(), self.workers.len() - leaving);
        let (idle, standing) = (self.idle.len(), self.lanes.standing());
        Step { at: self.now, event, wanted, present, leaving, idle, standing }
    }
}
