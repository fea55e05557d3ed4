//! Claims about the gateway's own threads: limits, health, restarts, leaks.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use serde_json::json;

use super::faults::{STACK, ended};
use super::rig::{FUSE, Hearing, Miss, Verdict, configured, ensure, instant, one, pass, pool, rooted, until};
use crate::events::Events;
use crate::gateway::{CallOptions, Gateway};
use crate::model::Operation;
#[cfg(not(debug_assertions))]
use crate::sync::Quit;
use crate::sync::threads::{Threads, count_job};
use crate::sync::{CancelToken, Role, State, limits, threads};
use crate::time::{micros_of, now};

/// How many ended threads are remembered.
const KEPT: usize = 256;

pub(super) fn derived_limit() -> Verdict {
    let (limit, set_by) = limits::derive();
    let maps =
        std::fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse::<u64>().ok());
    ensure(maps.is_none_or(|maps| limit * 4 < maps.max(5000)), || format!("{limit} threads of {maps:?} maps"))?;
    let threads = Threads::limited(1, set_by, STACK);
    let (hold, held) = bounded::<()>(0);
    let first = threads.spawn(Role::Watchdog, "held", move || _ = held.recv_timeout(FUSE))?;
    let refusal = threads.spawn(Role::Watchdog, "past", || ()).err().map(|error| error.to_string()).unwrap_or_default();
    drop(hold);
    ended(first)?;
    ensure(refusal.contains(set_by), || format!("a refusal said {refusal:?}"))?;
    Ok(format!("{limit} threads, set by {set_by}, which a refusal names"))
}

pub(super) fn states() -> Verdict {
    let threads = Threads::new(4, STACK);
    let (tell, told) = bounded(0);
    let (go, goes) = bounded::<()>(0);
    let thread = threads.spawn(Role::Worker, "states", move || {
        for state in [State::Running, State::WaitingChannel, State::WaitingLock, State::Io] {
            let _state = threads::enter(state);
            count_job();
            if tell.send(state).is_err() || goes.recv_timeout(FUSE).is_err() {
                return;
            }
        }
    })?;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let state = told.recv_timeout(FUSE)?;
        let shown = threads.list().first().map(|row| row.state);
        ensure(shown == Some(state), || format!("{state:?} is shown as {shown:?}"))?;
        seen.push(format!("{state:?}"));
        go.send_timeout((), FUSE).map_err(|error| Miss::new(error.to_string()))?;
    }
    ended(thread)?;
    let jobs = threads.stats().by_role.get(&Role::Worker).map(|row| row.jobs_total);
    ensure(jobs == Some(4), || format!("{jobs:?} jobs counted"))?;
    Ok(format!("seen as {}; 4 jobs counted, also after its end", seen.join(", ")))
}

pub(super) fn ended_ring() -> Verdict {
    let threads = Threads::new(4, STACK);
    for number in 0..KEPT + 10 {
        let thread = threads.spawn(Role::Worker, &format!("worker-{number}"), || ())?;
        ended(thread)?;
    }
    let stats = threads.stats();
    let (kept, first) = (stats.ended.len(), stats.ended.first().map(|ended| ended.name.to_string()));
    ensure((kept, first.as_deref()) == (KEPT, Some("worker-10")), || format!("{kept} kept, from {first:?} on"))?;
    Ok(format!("{} ended, the last {KEPT} are remembered", stats.finished_total))
}

pub(super) fn kept_free() -> Verdict {
    const LIMIT: u64 = 16;
    let threads = Threads::new(LIMIT, STACK);
    let (hold, held) = bounded::<()>(0);
    let start = |role| {
        let held = held.clone();
        threads.spawn(role, "held", move || _ = held.recv_timeout(FUSE))
    };
    let mut running = Vec::new();
    let mut found = Vec::new();
    // An eighth is kept from connections, half of that from workers.
    for (role, fit) in [(Role::Conn, LIMIT - 2), (Role::Worker, 1), (Role::Admin, 1)] {
        let mut had = 0;
        while let Ok(thread) = start(role) {
            running.push(thread);
            had += 1;
        }
        found.push((role.as_str(), had, fit));
    }
    drop(hold);
    running.into_iter().try_for_each(ended)?;
    ensure(found.iter().all(|(_, had, fit)| had == fit), || format!("role, had, expected: {found:?}"))?;
    Ok(format!("of {LIMIT} threads: connections {}, one more worker, one more for who looks after them", LIMIT - 2))
}

pub(super) fn lifetimes() -> Verdict {
    const THREADS: u64 = 8;
    const HELD: Duration = Duration::from_millis(10);
    let threads = Threads::new(THREADS, STACK);
    let (hold, held) = bounded::<()>(0);
    let begun = now();
    let mut running = Vec::new();
    for number in 0..THREADS {
        let held = held.clone();
        running.push(threads.spawn(Role::Watchdog, &format!("held-{number}"), move || _ = held.recv_timeout(FUSE))?);
    }
    pass(now(), HELD)?;
    drop(hold);
    running.into_iter().try_for_each(ended)?;
    let most = micros_of(now().saturating_duration_since(begun));
    let stats = threads.stats();
    let row = stats.by_role.get(&Role::Watchdog).ok_or_else(|| Miss::new("the role has no figures"))?;
    let lived = row.lifetime_us;
    let bounds = micros_of(HELD)..=most;
    ensure(lived.count == THREADS && row.active == 0, || format!("{row:?}"))?;
    ensure(stats.ended.iter().all(|ended| bounds.contains(&ended.lifetime_us)), || format!("{bounds:?}: {stats:?}"))?;
    Ok(format!("{THREADS} of a role, held for {HELD:?}: median {} µs, longest {} µs", lived.p50, lived.max))
}

/// A gateway whose watchdog looks often.
fn watched(transport: Arc<dyn crate::transport::Transport>) -> Result<Gateway, Miss> {
    let mut provider = pool(1, 4, "block");
    provider["network_config"] = json!({ "default_request_timeout_in_seconds": "20ms", "max_retries": 0 });
    provider["queue"]["wait_timeout"] = json!("50ms");
    let mut settings = rooted(vec![(super::rig::NAME, provider)]);
    settings["threads"] = json!({ "health_interval": "20ms" });
    configured(&settings, vec![(super::rig::NAME, transport)])
}

fn has_alert(events: &Events, kind: &str) -> bool {
    events.alerts().iter().any(|alert| alert.kind == kind)
}

pub(super) fn services_restart() -> Verdict {
    #[cfg(debug_assertions)]
    return each_role_restarts();
    #[cfg(not(debug_assertions))]
    return a_service_restarts();
}

/// A panic of each role that comes round by itself; the others need both planes, and are left to the tests.
#[cfg(debug_assertions)]
fn each_role_restarts() -> Verdict {
    let gateway = watched(instant())?;
    for role in [Role::Supervisor, Role::Watchdog, Role::Worker] {
        let before = gateway.threads().stats().panics_total;
        gateway.threads().inject_panic(role);
        if role == Role::Worker {
            let outcome = gateway.ask("p/x", "hi");
            ensure(outcome.is_err(), || format!("the request came to {outcome:?}"))?;
        }
        until("the panic is counted", || gateway.threads().stats().panics_total == before + 1)?;
        until("the role is active again", || {
            gateway.threads().stats().by_role.get(&role).is_some_and(|row| row.active == 1)
        })?;
        until("the next request is served", || gateway.ask("p/x", "hi").is_ok())?;
    }
    until("it is alerted", || has_alert(gateway.events(), "thread_panic"))?;
    Ok("supervisor, watchdog and worker panicked; each was counted, alerted and active again".to_owned())
}

/// A service of the check's own, since a release gateway takes no panics on demand.
#[cfg(not(debug_assertions))]
fn a_service_restarts() -> Verdict {
    const PANICS: u32 = 3;
    let gateway = watched(instant())?;
    let quit = Quit::new();
    let (signal, mut left) = (quit.watch(), PANICS);
    let thread = gateway.threads().service(Role::Watchdog, "selftest", move || {
        left = left.saturating_sub(1);
        assert!(left == 0, "asked for by the self-test");
        let _ = signal.channel().recv_timeout(FUSE);
    })?;
    until("it is counted and alerted", || {
        gateway.threads().stats().panics_total == u64::from(PANICS - 1) && has_alert(gateway.events(), "thread_panic")
    })?;
    let runs = gateway.threads().list().iter().any(|row| &*row.name == "selftest");
    drop(quit);
    ended(thread)?;
    ensure(runs, || "it did not go on".to_owned())?;
    Ok(format!("a service went on after {} panics, counted and alerted", PANICS - 1))
}

pub(super) fn nothing_leaks() -> Verdict {
    const EACH: usize = 100;
    let (mut gate, transport) = super::rig::Gate::new(Hearing::Good);
    let mut provider = pool(4, 8, "error");
    provider["network_config"] = json!({ "max_retries": 0 });
    let gateway = one(provider, transport)?;
    let before = gateway.threads().active();
    for _ in 0..EACH {
        // Cancelled while a worker has it.
        let token = CancelToken::new();
        let options = CallOptions::new().cancel(token.clone());
        std::thread::scope(|scope| {
            let body = crate::ChatRequest::new("p/x", "hi").to_body(false);
            let caller = scope.spawn(|| gateway.with(&options).raw(Operation::ChatCompletions, body).is_err());
            gate.arrived(1)?;
            token.cancel();
            ensure(super::rig::join(caller)?, || "a cancelled request was answered".to_owned())
        })?;
        // Past its deadline.
        let options = CallOptions::new().deadline(Duration::from_millis(1));
        let late =
            gateway.with(&options).raw(Operation::ChatCompletions, crate::ChatRequest::new("p/x", "hi").to_body(false));
        ensure(late.is_err(), || "a late request was answered".to_owned())?;
        let unknown = gateway.ask("nobody/x", "hi");
        ensure(unknown.is_err(), || "an unknown model was answered".to_owned())?;
    }
    gate.open();
    for _ in 0..EACH {
        gateway.ask("p/x", "hi")?;
    }
    until("nothing is left", || {
        let stats = gateway.stats();
        let workers = stats.providers.get(super::rig::NAME).map(|provider| provider.workers.busy);
        stats.requests.in_flight == 0 && workers == Some(0) && gateway.threads().active() == before
    })?;
    let live = gateway.stats().pools.reply_channel;
    ensure(live.live == live.idle, || format!("{} reply channels, {} of them idle", live.live, live.idle))?;
    Ok(format!(
        "{} requests of 4 outcomes; {} threads before and after, nothing in flight or lent out",
        4 * EACH,
        before
    ))
}
