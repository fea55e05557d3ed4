//! Supervisor, scaler and breaker together, in virtual time: every decision is production code's.
//!
//! Production code: scaler and staffing (`tend` and all below it), lanes with their bell, permits, the ledgers of `figures`,
//! quit signals, the breaker's circuits of a provider and two models. Models: threads, which cost and fail as the seed says;
//! the supervisor's loop, step for step with its lossy exits, its bell and its tick; the set of idle workers, which waits by
//! blocking; the upstream, which can be down, hang, or be out of reach; callers.
//!
//! After every step [`World::check`] looks at the invariants; a run that breaks one says its seed and its last steps.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::config::Scaling;
use crate::provider::supervisor::TICK;
use crate::sync::threads::panic_text;

mod breaker;
mod crew;
mod world;

use breaker::{Breaker, End, MODELS};
use crew::supervise;
use world::{Call, Event, State, Step, World};

const SEEDS: u64 = 300;

/// Times are microseconds. What a hand-over, a wake, a hire and a thread's start take.
const DISPATCH: u64 = 20;
const WAKE: u64 = 30;
const HIRE: u64 = 40;
const START: u64 = 200;
const LOOK: u64 = TICK.as_micros() as u64;
/// The longest that all of these take together for one decision, generously.
const PROMPT: u64 = 5_000;
const SECOND: u64 = 1_000_000;
const FAULTS_END: u64 = 6 * SECOND;
const LOAD_ENDS: u64 = 9 * SECOND;
/// By then the pool is at its least again: some seconds to notice, one more for each quarter less.
const REST: u64 = LOAD_ENDS + 16 * SECOND;
const REQUEST_TIMEOUT: u64 = SECOND;

impl World {
    /// The invariants.
    fn check(&mut self, step: &Step) -> Result<(), String> {
        let &Step { wanted, present, leaving, idle, standing, .. } = step;
        let Limits { min, max } = self.limits;
        let figures = &*self.figures;
        let waiting = figures.waiting.get() as usize;
        let (mut busy, mut resting, mut alive, mut sent_well) = (0, 0, 0, true);
        for worker in self.workers.values() {
            match worker.state {
                State::Busy { since, call, .. } => {
                    busy += 1;
                    let Call { pass, model, .. } = &self.calls[call];
                    sent_well &= self.breaker.may_be_sent(pass.as_ref(), *model, since);
                }
                State::Over => continue,
                State::Idle | State::Starting | State::Handed(_) => resting += 1,
            }
            alive += 1;
        }
        let starting = self.staffing.starting.get() as usize + wanted.saturating_sub(present);
        let unserved = figures.rejected.get()
            + figures.dropped.get()
            + figures.timed_out_space.get()
            + figures.timed_out_worker.get()
            + figures.abandoned.get();
        let outcomes =
            figures.succeeded.get() + figures.failed.get() + figures.timed_out.get() + figures.cancelled.get();
        let in_house = (waiting + self.line.len()) as u64;
        let (to_be_had, threads_since) = self.threads;
        let since = |is: bool, since: Option<u64>| is.then(|| since.unwrap_or(self.now));
        // Nobody can be hired without threads; when they are back, the next look tries.
        self.nobody_since = since(alive == 0 && to_be_had, self.nobody_since);
        let is_unmet = standing > starting && wanted + leaving < max && to_be_had;
        self.unmet_since = since(is_unmet, self.unmet_since);
        let longer = |since: Option<u64>, than: u64| since.is_some_and(|since| self.now - since > than);
        let patience = if self.now - threads_since <= LOOK + PROMPT { LOOK + PROMPT } else { PROMPT };
        let rules = [
            ("the permits taken are who waits and who is served", self.permits.taken() == waiting + busy),
            ("no more permits than there are", self.permits.taken() <= max + self.staffing.buffer()),
            ("who waits for a place waits for none that is free", {
                self.line.is_empty() || self.permits.taken() == self.permits.capacity()
            }),
            ("who is active is busy or idle", alive == busy + resting && idle <= resting),
            ("wanted is within the limits", (min..=max).contains(&wanted)),
            ("no more stay than are wanted", present <= wanted),
            ("never more workers than there may be", present + leaving <= max),
            ("no job waits while a worker is idle", standing == 0 || idle == 0),
            ("workers are there within a tick and a hire", !longer(self.nobody_since, LOOK + PROMPT)),
            ("a job for which there is room has a worker at once", !longer(self.unmet_since, patience)),
            ("each attempt has one end", figures.submitted.get() == figures.completed.get() + unserved + in_house),
            ("each job has one end", figures.completed.get() == outcomes + busy as u64),
            ("what is sent while a circuit is not closed is its probe", sent_well),
            ("no more probes are sent than there are places for", self.breaker.probes_are_few()),
        ];
        let broken = rules.iter().find(|(_, holds)| !holds);
        broken.map_or(Ok(()), |(rule, _)| Err((*rule).to_owned()))
    }

    /// What must hold once all is over.
    fn check_rest(&self) -> Result<(), String> {
        let step = self.step(Event::Wake);
        let min = self.limits.min;
        let rules = [
            ("it is back at its least", (step.wanted, step.present, step.leaving) == (min, min, 0)),
            ("every caller has ended once", self.calls.iter().all(|call| call.ends == 1 && call.pass.is_none())),
            ("nobody is in the house", self.permits.taken() == 0 && self.line.is_empty() && step.standing == 0),
            ("nobody starts for ever", self.staffing.starting.get() <= min as u64),
            ("every circuit has closed again", self.breaker.is_calm()),
            ("calls succeed again", self.succeeded_late > 0),
        ];
        let broken = rules.iter().find(|(_, holds)| !holds);
        broken.map_or(Ok(()), |(rule, _)| Err((*rule).to_owned()))
    }

    fn tell(&self, seed: u64, rule: &str) -> String {
        let steps: Vec<_> = self.trail.iter().map(|step| format!("{step:?}")).collect();
        format!("seed {seed}: it does not hold: {rule}\n{}", steps.join("\n"))
    }
}

/// One step, and whether everything holds after it.
fn turn(world: &RefCell<World>, event: Event) -> Result<(), String> {
    let held = if event == Event::Wake { supervise(world) } else { Ok(()) };
    let mut world = world.borrow_mut();
    world.happen(event);
    if !world.exits.is_empty() || !world.lanes.bell().channel().is_empty() {
        let wakes = (world.now + WAKE).max(world.hiring_until);
        world.at(wakes, Event::Wake);
    }
    let step = world.step(event);
    if world.trail.len() == 20 {
        world.trail.pop_front();
    }
    world.trail.push_back(step);
    held.and_then(|()| world.check(&step))
}

/// One run, to its end or to the first rule that it breaks. `sabotage` is done before each step.
fn run(seed: u64, sabotage: impl Fn(&mut World)) -> Result<World, String> {
    let world = RefCell::new(World::new(seed));
    let next = || {
        let mut world = world.borrow_mut();
        let Reverse((at, _, event)) = world.events.pop().filter(|Reverse((at, ..))| *at <= REST)?;
        world.now = at;
        sabotage(&mut world);
        Some(event)
    };
    while let Some(event) = next() {
        // A panic of production code is told with its seed, too.
        let held = catch_unwind(AssertUnwindSafe(|| turn(&world, event)));
        if let Err(rule) = held.unwrap_or_else(|panic| Err(panic_text(&*panic).to_owned())) {
            return Err(world.borrow().tell(seed, &rule));
        }
    }
    let world = world.into_inner();
    world.check_rest().map_err(|rule| world.tell(seed, &rule))?;
    Ok(world)
}

#[test]
fn supervisor_scaler_and_breaker_keep_the_invariants_at_each_step_of_seeded_faults() {
    let (mut opened, mut failed, mut refused, mut downs) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let world = run(seed, |_| {}).unwrap_or_else(|told| panic!("{told}"));
        let stats = world.staffing.scaling_stats(world.instant());
        opened += world.breaker.board.turns().opened;
        refused += stats.held_total["thread_limit"];
        downs += stats.down_total;
        failed += world.figures.failed.get();
    }
    // What is to be survived did happen.
    assert!(
        [opened, failed, refused, downs].iter().all(|count| *count > SEEDS / 4),
        "{opened} {failed} {refused} {downs}"
    );
}

#[test]
fn a_run_that_breaks_a_rule_tells_its_seed_and_its_last_20_steps() {
    let told = run(7, |world| {
        if world.now > SECOND {
            world.idle.clear();
            world.idle.extend(0..100);
        }
    });
    let told = told.err().expect("nobody has a hundred idle workers");
    assert!(told.starts_with("seed 7: it does not hold: "), "{told}");
    assert_eq!(told.lines().count(), 21, "{told}");
}
