//! Claims about the queue and its policies.

use std::thread::scope;
use std::time::Duration;

use serde_json::json;

use super::rig::{
    Gate, Hearing, Miss, NAME, Verdict, ensure, figures, join, one, pool, refused, thrice, timed, until_figures,
};
use crate::config::Config;
use crate::error::{Code, Error};

pub(super) fn overflow_is_queued() -> Verdict {
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(pool(2, 6, "error"), transport)?;
    scope(|scope| {
        let mut gate = gate;
        let mut callers: Vec<_> = (0..2).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))).collect();
        gate.arrived(2)?;
        callers.extend((0..6).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))));
        until_figures(&gateway, "six jobs wait", |figures| figures.queue.depth == 6 && figures.workers.busy == 2)?;
        gate.open();
        for caller in callers {
            join(caller)??;
        }
        let queue = figures(&gateway)?.queue;
        ensure((queue.depth, queue.high_water, queue.completed_total) == (0, 6, 8), || format!("{queue:?}"))?;
        Ok("2 running, 6 waiting, all 8 answered".to_owned())
    })
}

pub(super) fn block() -> Verdict {
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(pool(2, 3, "block"), transport)?;
    scope(|scope| {
        let mut gate = gate;
        let callers: Vec<_> = (0..9).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))).collect();
        until_figures(&gateway, "four callers wait for a place", |figures| {
            figures.queue.blocked_total == 4 && figures.queue.depth == 3
        })?;
        gate.open();
        for caller in callers {
            join(caller)??;
        }
        let queue = figures(&gateway)?.queue;
        ensure((queue.accepted_total, queue.completed_total) == (9, 9), || format!("{queue:?}"))?;
        Ok("2 running, 3 waiting, 4 held back until there was a place; all 9 answered".to_owned())
    })
}

pub(super) fn error() -> Verdict {
    exact("error", Code::QueueFull)
}

pub(super) fn drop() -> Verdict {
    exact("drop", Code::RequestDropped)
}

fn exact(policy: &str, code: Code) -> Verdict {
    const EXCESS: usize = 20;
    let (gate, transport) = Gate::new(Hearing::Good);
    let gateway = one(pool(2, 3, policy), transport)?;
    scope(|scope| {
        let mut gate = gate;
        let callers: Vec<_> = (0..5).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))).collect();
        gate.arrived(2)?;
        until_figures(&gateway, "three jobs wait", |figures| figures.queue.depth == 3)?;
        let (took, outcomes) = timed(|| (0..EXCESS).map(|_| gateway.ask("p/x", "x").map(Box::new)).collect::<Vec<_>>());
        let wrong = outcomes.iter().find(|outcome| refused(outcome) != Some(code));
        ensure(wrong.is_none(), || format!("one past the limit came to {wrong:?}"))?;
        let timely = outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|error| error.retry_after().is_some()));
        ensure(timely, || "a refusal does not say when to come again".to_owned())?;
        gate.open();
        for caller in callers {
            join(caller)??;
        }
        let queue = figures(&gateway)?.queue;
        let counts = (queue.completed_total, queue.rejected_total + queue.dropped_total);
        ensure(counts == (5, EXCESS as u64), || format!("{queue:?}"))?;
        let each = took / u32::try_from(EXCESS).unwrap_or(1);
        Ok(format!("2 + 3 answered, {EXCESS} of {EXCESS} past them {code}, each after {each:.0?}"))
    })
}

pub(super) fn counted_by_policy() -> Verdict {
    let mut words = Vec::new();
    // Submitted, accepted, blocked, rejected, dropped, completed: of one that runs, two that wait, and two too many.
    for (policy, expected) in [
        ("block", [5, 5, 2, 0, 0, 5]),
        ("error", [5, 3, 0, 2, 0, 3]),
        ("drop", [5, 3, 0, 0, 2, 3]),
        ("drop_oldest", [5, 5, 0, 0, 2, 3]),
    ] {
        let (gate, transport) = Gate::new(Hearing::Good);
        let gateway = one(pool(1, 2, policy), transport)?;
        scope(|scope| {
            let mut gate = gate;
            let mut callers = vec![scope.spawn(|| gateway.ask("p/x", "x"))];
            gate.arrived(1)?;
            callers.extend((0..2).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))));
            until_figures(&gateway, "two wait", |figures| figures.queue.depth == 2)?;
            callers.extend((0..2).map(|_| scope.spawn(|| gateway.ask("p/x", "x"))));
            until_figures(&gateway, "two were too many", |figures| {
                let queue = &figures.queue;
                queue.blocked_total + queue.rejected_total + queue.dropped_total == 2
            })?;
            gate.open();
            callers.into_iter().try_for_each(|caller| join(caller).map(std::mem::drop))
        })?;
        let queue = figures(&gateway)?.queue;
        let counted = [
            queue.submitted_total,
            queue.accepted_total,
            queue.blocked_total,
            queue.rejected_total,
            queue.dropped_total,
            queue.completed_total,
        ];
        ensure(counted == expected, || format!("{policy}: {queue:?}"))?;
        let [_, accepted, blocked, rejected, dropped, completed] = counted;
        words.push(format!(
            "{policy}: {accepted} accepted, {blocked} blocked, {rejected} rejected, {dropped} dropped, {completed} completed"
        ));
    }
    Ok(words.join("; "))
}

pub(super) fn wait_limit() -> Verdict {
    thrice(both_waits)
}

fn both_waits() -> Verdict {
    const LIMIT: Duration = Duration::from_millis(100);
    let (gate, transport) = Gate::new(Hearing::Good);
    let mut settings = pool(1, 1, "block");
    settings["queue"]["wait_timeout"] = json!("100ms");
    let gateway = one(settings, transport)?;
    scope(|scope| {
        let mut gate = gate;
        let first = scope.spawn(|| gateway.ask("p/x", "x"));
        gate.arrived(1)?;
        let late: Vec<_> = (0..6).map(|_| scope.spawn(|| timed(|| gateway.ask("p/x", "x")))).collect();
        let mut phases = [0, 0];
        let mut longest = Duration::ZERO;
        for caller in late {
            let (took, outcome) = join(caller)?;
            ensure(refused(&outcome) == Some(Code::QueueTimeout), || format!("{outcome:?}"))?;
            ensure(took >= LIMIT && took < LIMIT * 5, || format!("it ended after {took:?}, the limit is {LIMIT:?}"))?;
            match outcome.as_ref().err().and_then(Error::phase) {
                Some("worker") => phases[0] += 1,
                Some("space") => phases[1] += 1,
                other => return Err(Miss::new(format!("phase {other:?}"))),
            }
            longest = longest.max(took);
        }
        gate.open();
        join(first)??;
        let queue = figures(&gateway)?.queue;
        let counted = [queue.timed_out_worker_total, queue.timed_out_space_total];
        ensure(counted == phases && phases[0] > 0, || format!("phases {phases:?}, counted {counted:?}"))?;
        let [worker, space] = phases;
        Ok(format!(
            "limit {LIMIT:?}: {worker} ended waiting for a worker, {space} for a place, the last after {longest:.0?}"
        ))
    })
}

pub(super) fn refused_by_configuration() -> Verdict {
    let read = |settings: serde_json::Value| {
        Config::from_json(&json!({ "providers": { NAME: settings } }).to_string(), &|_| None)
    };
    let unknown = read(pool(2, 2, "yield")).err().ok_or_else(|| Miss::new("an unknown policy was taken"))?.to_string();
    ensure(["block", "error", "drop"].iter().all(|known| unknown.contains(known)), || unknown.clone())?;
    let both = read(pool(0, 0, "block")).err().ok_or_else(|| Miss::new("a pool of nothing was taken"))?;
    ensure(both.problems.len() == 2, || both.to_string())?;
    let outside = read(pool(2, 2, "block"))?.warnings;
    ensure(outside.len() >= 2, || format!("out of the page's range, and no warning: {outside:?}"))?;
    Ok("the error lists the policies; both sizes of 0 are refused at once; sizes out of the page's range warn"
        .to_owned())
}
