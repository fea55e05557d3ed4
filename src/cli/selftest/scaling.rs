//! Claims about how many workers there are: who is hired, who goes, and why.

use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{
    Gate, Hearing, Miss, NAME, Shared, Verdict, configured, ensure, figures, join, one, pool, rooted, timed,
    until_figures,
};
use crate::provider::{Change, Direction, Reason, ScalingStats};

/// A pool of `fewest` to `most` workers, as many places, and the times of its scaling.
fn adaptive(fewest: usize, most: usize, min_interval: &str) -> Value {
    let mut settings = pool(most, most, "block");
    settings["concurrency_and_buffer_size"]["min_concurrency"] = json!(fewest);
    settings["scaling"] = json!({ "min_interval": min_interval, "up_threshold": 0.5 });
    settings
}

/// How often nothing was changed for this reason.
fn held(scaling: &ScalingStats, reason: &str) -> u64 {
    scaling.held_total.get(reason).copied().unwrap_or(0)
}

/// More callers at once than a pool may have workers, until all is as it was before.
struct Burst {
    /// While they were there.
    during: ScalingStats,
    most: u64,
    /// The longest wait of those who had a worker started.
    waited_us: u64,
    /// From the last answer until the first worker went.
    began: Duration,
    after: ScalingStats,
    /// The numbers of those who are left.
    left: Vec<u64>,
    /// What the events tell of.
    told: Vec<String>,
}

static BURST: Shared<Burst> = Shared::new();

const FEWEST: usize = 4;
const MOST: usize = 16;
const CALLERS: usize = 26;

fn burst() -> Result<Burst, Miss> {
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(adaptive(FEWEST, MOST, "20ms"), transport)?;
    let (during, most, waited_us) = scope(|scope| {
        // Moved in, so that an early return opens it and nobody is left standing there.
        let mut gate = gate;
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))).collect();
        gate.arrived(MOST)?;
        until_figures(&gateway, "the rest wait, and no more workers are to be had", |figures| {
            figures.queue.depth == (CALLERS - MOST) as u64 && held(&figures.scaling, "at_max") > 0
        })?;
        let seen = figures(&gateway)?;
        gate.open();
        callers.into_iter().try_for_each(|caller| Ok::<_, Miss>(join(caller)?.map(drop)?))?;
        Ok::<_, Miss>((seen.scaling, seen.workers.active, seen.queue.wait_us.max))
    })?;
    let (began, outcome) = timed(|| until_figures(&gateway, "it shrinks", |figures| figures.scaling.down_total > 0));
    outcome?;
    until_figures(&gateway, "the fewest are left, and stay", |figures| {
        figures.workers.active == FEWEST as u64 && held(&figures.scaling, "at_min") > 0
    })?;
    let told = gateway.events().list().into_iter().filter(|event| event.kind == "scaling").map(|event| event.message);
    let figures = figures(&gateway)?;
    let left = figures.per_worker.iter().map(|row| row.id.0).collect();
    Ok(Burst { during, most, waited_us, began, after: figures.scaling, left, told: told.collect() })
}

pub(super) fn grows_on_demand() -> Verdict {
    let Burst { during, waited_us, told, .. } = BURST.of(burst)?;
    let last = during.last.map(|last| (last.change.direction, last.change.to));
    ensure(last == Some((Direction::Up, MOST)), || format!("{during:?}"))?;
    ensure(during.workers_added_total == (MOST - FEWEST) as u64, || format!("{during:?}"))?;
    ensure(told.iter().any(|text| text.contains("(demand)")), || format!("{told:?}"))?;
    let decisions = during.up_total;
    Ok(format!(
        "{FEWEST} -> {MOST} workers in {decisions} decisions; whoever had one by then waited at most {waited_us} µs"
    ))
}

pub(super) fn never_more_than_the_most() -> Verdict {
    let Burst { during, most, .. } = BURST.of(burst)?;
    let held = held(during, "at_max");
    ensure(*most == MOST as u64 && held > 0, || format!("{most} workers, {during:?}"))?;
    Ok(format!("{CALLERS} callers, {most} workers of at most {MOST}: growth was held {held} times"))
}

pub(super) fn shrinks_when_the_load_ends() -> Verdict {
    let Burst { began, after, left, told, .. } = BURST.of(burst)?;
    let limit = Duration::from_secs(2) + Duration::from_millis(20);
    ensure(*began < limit * 5, || format!("it began after {began:?}"))?;
    ensure(after.workers_removed_total == (MOST - FEWEST) as u64, || format!("{after:?}"))?;
    ensure(left.iter().copied().eq(1..=FEWEST as u64), || format!("workers {left:?} are left"))?;
    let sizes = |text: &String| {
        let (from, rest) = text.strip_suffix(" workers (load_ended)")?.split_once(" -> ")?;
        Some((from.parse::<usize>().ok()?, rest.parse::<usize>().ok()?))
    };
    let steps: Vec<_> = told.iter().filter_map(sizes).collect();
    // By a quarter, rounded down as on the page, and to the fewest.
    let in_step = |(from, to): &(usize, usize)| to < from && *to >= (from * 3 / 4).max(FEWEST);
    ensure(steps.len() > 2 && steps.iter().all(in_step), || format!("{told:?}"))?;
    let sizes: Vec<_> = steps.iter().map(|(_, to)| to.to_string()).collect();
    Ok(format!("begun {began:.1?} after it ended: {MOST} -> {}; the first {FEWEST} are left", sizes.join(" -> ")))
}

pub(super) fn gives_its_reasons() -> Verdict {
    let Burst { after, told, .. } = BURST.of(burst)?;
    let reasons: Vec<_> = after.held_total.iter().filter(|(_, count)| **count > 0).collect();
    let changes = after.up_total + after.down_total;
    let sum: u64 = after.held_total.values().sum();
    ensure(after.evaluations_total > 0 && sum + changes >= after.evaluations_total, || format!("{after:?}"))?;
    ensure(told.len() as u64 == changes, || format!("{changes} changes, told: {told:?}"))?;
    Ok(format!("{} evaluations; {changes} changes, all told of; held: {reasons:?}", after.evaluations_total))
}

/// A pool that is busy, grows, and may not grow again for a minute.
struct Busy {
    grown: Change,
    waiting: u64,
    held: u64,
    /// What a crowd that came then had.
    demanded: Change,
}

static BUSY: Shared<Busy> = Shared::new();

fn busy() -> Result<Busy, Miss> {
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(adaptive(4, 16, "60s"), transport)?;
    let last = || figures(&gateway)?.scaling.last.ok_or_else(|| Miss::new("nothing was changed"));
    scope(|scope| {
        let mut gate = gate;
        let mut callers = Vec::new();
        for _ in 0..4 {
            // One after the other: each finds somebody idle.
            callers.push(scope.spawn(|| gateway.ask("p/x", "x")));
            gate.arrived(1)?;
        }
        until_figures(&gateway, "it grows", |figures| figures.scaling.up_total > 0)?;
        let (grown, waiting) = (last()?.change, figures(&gateway)?.queue.depth);
        until_figures(&gateway, "an evaluation is held back", |figures| held(&figures.scaling, "interval") > 0)?;
        let held = held(&figures(&gateway)?.scaling, "interval");
        callers.extend((0..5).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))));
        gate.arrived(5)?;
        until_figures(&gateway, "it says so", |figures| figures.scaling.up_total > 1)?;
        let demanded = last()?.change;
        gate.open();
        callers.into_iter().try_for_each(|caller| Ok::<_, Miss>(join(caller)?.map(drop)?))?;
        Ok(Busy { grown, waiting, held, demanded })
    })
}

pub(super) fn grows_before_anybody_waits() -> Verdict {
    let Busy { grown, waiting, .. } = BUSY.of(busy)?;
    let expected = Change { direction: Direction::Up, from: 4, to: 6, reason: Reason::Utilisation };
    ensure(*grown == expected && *waiting == 0, || format!("{grown:?}, {waiting} waiting"))?;
    Ok(format!(
        "all 4 busy, up_threshold 50 %, up_factor 1.5: {} -> {} workers, and nobody waited",
        grown.from, grown.to
    ))
}

pub(super) fn interval() -> Verdict {
    let Busy { held, demanded, .. } = BUSY.of(busy)?;
    let by_demand = demanded.reason == Reason::Demand && demanded.from == 6 && demanded.to >= 9;
    ensure(*held > 0 && by_demand, || format!("held {held} times, {demanded:?}"))?;
    let Change { from, to, .. } = demanded;
    Ok(format!("min_interval 60 s: growth ahead held {held} times, while 5 callers more had {from} -> {to} at once"))
}

pub(super) fn held_by_the_thread_limit() -> Verdict {
    let (gate, transport) = Gate::new(Hearing::Good);
    let mut settings = rooted(vec![(NAME, adaptive(4, 32, "20ms"))]);
    settings["threads"] = json!({ "max": 32 });
    let gateway = configured(&settings, vec![(NAME, transport)])?;
    scope(|scope| {
        let mut gate = gate;
        let callers: Vec<_> = (0..40).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))).collect();
        until_figures(&gateway, "growth is held", |figures| held(&figures.scaling, "thread_limit") > 0)?;
        until_figures(&gateway, "no more are wanted than there are", |figures| {
            figures.workers.configured == figures.workers.active
        })?;
        let workers = figures(&gateway)?.workers;
        gate.open();
        callers.into_iter().try_for_each(|caller| Ok::<_, Miss>(join(caller)?.map(drop)?))?;
        ensure((5..32).contains(&workers.active), || format!("{workers:?}"))?;
        let told = gateway.events().list().into_iter().filter(|event| event.message.contains("thread_limit")).count();
        ensure(told == 1, || format!("it was told {told} times"))?;
        Ok(format!(
            "32 threads, up to 32 workers wanted: {} came, told of once, all 40 callers answered",
            workers.active
        ))
    })
}
