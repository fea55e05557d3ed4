//! Claims about the pool of reply channels.

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
use crate::sync::{CancelReason, CancelToken};
use crate::transport::{MemoryTransport, Outgoing};
use crate::wire::openai::{ChatReply, ChatRequest};

/// The share of hits that the page calls typical in steady state, at its lower end.
const TYPICAL: f64 = 0.85;

pub(super) fn hit_ratio() -> Verdict {
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
    let pool = gateway.stats().pools.reply_channel;
    let ratio = pool.hit_ratio.ok_or_else(|| Miss::new("nothing was acquired"))?;
    ensure(ratio >= TYPICAL && pool.acquired_total == (CALLERS * CALLS) as u64, || format!("{pool:?}"))?;
    Ok(format!("{:.1} % of {} acquisitions, {} created", ratio * 100.0, pool.acquired_total, pool.created_total))
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
    let options = CallOptions { cancel: Some(token.clone()), ..CallOptions::default() };
    let body = ChatRequest::new("p/x", "late").to_body(false);
    scope(|scope| {
        let mut gate = gate;
        let caller = scope.spawn(|| gateway.chat_raw(body, &options));
        gate.arrived(1)?;
        token.cancel(CancelReason::Caller);
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
        let options = CallOptions { cancel: Some(token.clone()), ..CallOptions::default() };
        let body = ChatRequest::new("p/x", &*said).to_body(false);
        let leaves = (caller + number) % 2 == 1;
        let outcome = scope(|scope| {
            if leaves {
                scope.spawn(|| {
                    let _ = silence.recv_timeout(Duration::from_millis(1));
                    token.cancel(CancelReason::Caller);
                });
            }
            gateway.chat_raw(body, &options)
        });
        match outcome {
            Ok(answer) => {
                own.fetch_add(1, Ordering::Relaxed);
                let got = ChatReply::from_body(&answer.body)?.text().to_owned();
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
