//! Claims about the object pools: reply channels, job shells, answers' bodies and requests' bodies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::scope;
use std::time::Duration;

use serde_json::json;

use super::rig::{
    Gate, Hearing, Miss, NAME, Verdict, configured, echo, ensure, figures, instant, join, one, pool, refused, rooted,
    until_figures,
};
use crate::error::Code;
use crate::gateway::CallOptions;
use crate::model::Operation;
use crate::recycle::{Buffers, KEPT, Limits};
use crate::sync::CancelToken;
use crate::time::now;
use crate::transport::{MemoryTransport, Outgoing};
use crate::wire::openai::{ChatReply, ChatRequest};

/// Sizes of pools that are tried by themselves.
fn limits(max_idle: usize) -> Limits {
    Limits { initial: 0, max_idle, idle_max_age: Duration::from_secs(60), alert_below: 0.85 }
}

pub(super) fn hit_ratios() -> Verdict {
    const CALLERS: usize = 8;
    const CALLS: usize = 100;
    // Nothing is made beforehand: what is hit was used and given back.
    let mut settings = rooted(vec![(NAME, pool(4, 100, "block"))]);
    settings["client"] = json!({ "initial_pool_size": 0 });
    let gateway = configured(&settings, vec![(NAME, instant())])?;
    scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| scope.spawn(|| (0..CALLS).try_for_each(|_| gateway.ask("p/x", "x").map(drop))))
            .collect();
        callers.into_iter().try_for_each(|caller| Ok::<_, Miss>(join(caller)??))
    })?;
    let pools = gateway.stats().pools;
    // What the page calls typical, at its lower end.
    let typical = [
        ("channels", pools.reply_channel, 0.85),
        ("jobs", pools.job, 0.80),
        ("responses", pools.response, 0.70),
        ("buffers", pools.buffer, 0.70),
    ];
    let mut found = Vec::with_capacity(typical.len());
    for (name, pool, typical) in typical {
        let ratio = pool.hit_ratio.ok_or_else(|| Miss::new("nothing was acquired"))?;
        ensure(ratio >= typical && pool.acquired_total == (CALLERS * CALLS) as u64, || format!("{name}: {pool:?}"))?;
        found.push(format!("{name} {:.1} %", ratio * 100.0));
    }
    Ok(format!("{} of {} acquisitions each", found.join(", "), CALLERS * CALLS))
}

pub(super) fn reset() -> Verdict {
    let pool = Buffers::new(limits(8));
    let mut buffer = pool.buffer();
    buffer.extend_from_slice(b"another's words");
    let memory = buffer.as_ptr();
    drop(buffer);
    let next = pool.buffer();
    ensure(next.is_empty() && next.as_ptr() == memory, || format!("{} bytes were left in it", next.len()))?;
    // What its owner keeps, what has grown too long and what is marked for one use are never used again.
    drop(next.into_vec());
    pool.buffer().resize(KEPT + 1, 0);
    let mut once = pool.acquire();
    once.use_once();
    once.give_back();
    let stats = pool.stats();
    ensure((stats.returned_total, stats.discarded_total, stats.live) == (1, 3, 0), || format!("{stats:?}"))?;
    Ok("the same memory came back empty; kept, too long and use-once ones were discarded and counted".to_owned())
}

pub(super) fn bounded() -> Verdict {
    const MAX_IDLE: usize = 8;
    let pool = Buffers::new(limits(MAX_IDLE));
    drop((0..MAX_IDLE * 3).map(|_| pool.buffer()).collect::<Vec<_>>());
    let held = pool.stats();
    ensure(held.idle == MAX_IDLE as u64 && held.live == held.idle, || format!("{held:?}"))?;
    let _ = pool.tend(now());
    ensure(pool.stats().idle == held.idle, || "a sweep took what was just returned".to_owned())?;
    let _ = pool.tend(now() + limits(0).idle_max_age + Duration::from_secs(1));
    let swept = pool.stats();
    let balanced = swept.created_total == swept.live + swept.discarded_total + swept.evicted_total;
    ensure((swept.idle, swept.evicted_total) == (0, held.idle) && balanced, || format!("{swept:?}"))?;
    Ok(format!("{} of {} kept, {} bytes; none after a minute", held.idle, held.created_total, held.bytes_held))
}

pub(super) fn starved() -> Verdict {
    const AT_ONCE: usize = 10;
    let (pool, start) = (Buffers::new(limits(1)), now());
    let mut second = 0;
    let mut tend = |at_once: usize| {
        // Nothing is waited for: the pool is told what time it is.
        (0..AT_ONCE / at_once).for_each(|_| drop((0..at_once).map(|_| pool.buffer()).collect::<Vec<_>>()));
        second += 1;
        (second, pool.tend(start + Duration::from_secs(second)))
    };
    let raised = (0..60).map(|_| tend(AT_ONCE)).find_map(|(second, alert)| Some((second, alert?)));
    let (raised, words) = raised.ok_or_else(|| Miss::new("no alert was raised"))?;
    let cleared = (0..120).map(|_| tend(1)).find(|(_, alert)| alert.is_none());
    let (cleared, _) = cleared.ok_or_else(|| Miss::new("the alert was never cleared"))?;
    ensure(!pool.stats().alert, || "the alert stands in the statistics".to_owned())?;
    Ok(format!("raised at {raised} s ({}), cleared at {cleared} s", words.split(';').next().unwrap_or_default()))
}

pub(super) fn late_results() -> Verdict {
    let discarded = one_late_result()?;
    let (own, left) = many_late_results()?;
    Ok(format!("{discarded} discarded and counted; {own} callers beside {left} that left early got their own answer"))
}

/// A caller leaves, and its worker, who does not hear of it, answers all the same.
fn one_late_result() -> Result<u64, Miss> {
    let (gate, deaf) = Gate::new(Hearing::Deaf);
    let gateway = one(pool(1, 4, "block"), deaf)?;
    let token = CancelToken::new();
    let options = CallOptions::new().cancel(token.clone());
    let body = ChatRequest::new("p/x", "late").to_body(false);
    scope(|scope| {
        let mut gate = gate;
        let caller = scope.spawn(|| gateway.with(&options).raw(Operation::ChatCompletions, body));
        gate.arrived(1)?;
        token.cancel();
        let outcome = join(caller)?;
        ensure(refused(&outcome) == Some(Code::ClientClosed), || format!("the caller got {outcome:?}"))?;
        gate.open();
        until_figures(&gateway, "the late result is counted", |figures| figures.jobs.results_discarded_total == 1)?;
        let next = gateway.ask("p/x", "next")?;
        ensure(next == "next", || format!("the next caller got {next:?}"))?;
        let channels = gateway.stats().pools.reply_channel.discarded_total;
        ensure(channels == 1, || format!("{channels} channels were thrown away with it"))?;
        Ok(figures(&gateway)?.jobs.results_discarded_total)
    })
}

/// Callers that leave early among callers that stay, on the same few channels, with a provider that hears of neither; how
/// many there were of either.
fn many_late_results() -> Result<(u64, u64), Miss> {
    const CALLERS: usize = 8;
    const CALLS: usize = 40;
    let (_never, silence) = crossbeam_channel::bounded::<()>(0);
    let provider = silence.clone();
    let transport = MemoryTransport::new(move |request: &Outgoing<'_>, _| {
        // Nothing is ever sent: this is what the provider takes for an answer.
        let _ = provider.recv_timeout(Duration::from_millis(2));
        Ok(echo(request))
    });
    let gateway = one(pool(8, 100, "block"), Arc::new(transport))?;
    let (own, left) = (AtomicU64::new(0), AtomicU64::new(0));
    let call = |caller: usize, number: usize| {
        let said = format!("{caller}-{number}");
        let token = CancelToken::new();
        let options = CallOptions::new().cancel(token.clone());
        let body = ChatRequest::new("p/x", &*said).to_body(false);
        let leaves = (caller + number) % 2 == 1;
        let outcome = scope(|scope| {
            if leaves {
                scope.spawn(|| {
                    let _ = silence.recv_timeout(Duration::from_millis(1));
                    token.cancel();
                });
            }
            gateway.with(&options).raw(Operation::ChatCompletions, body)
        });
        match outcome {
            Ok(answer) => {
                own.fetch_add(1, Ordering::Relaxed);
                let got = ChatReply::from_answer(&answer)?.text().to_owned();
                ensure(got == said, || format!("the caller of {said} got {got}"))
            }
            Err(error) if leaves && error.code() == Code::ClientClosed => {
                left.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    };
    scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let call = &call;
                scope.spawn(move || (0..CALLS).try_for_each(|number| call(caller, number)))
            })
            .collect();
        callers.into_iter().try_for_each(|caller| join(caller)?)
    })?;
    let discarded = figures(&gateway)?.jobs.results_discarded_total;
    let (own, left) = (own.into_inner(), left.into_inner());
    ensure(left > 0 && discarded > 0, || format!("{left} left early, {discarded} results came too late"))?;
    Ok((own, left))
}
