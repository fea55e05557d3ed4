//! Claims about panics and threads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::rig::{FUSE, Miss, NAME, Verdict, echo, ensure, figures, one, pool, refused, until, until_figures};
use crate::error::Code;
use crate::gateway::CallOptions;
use crate::ids::RequestId;
use crate::model::Operation;
use crate::sync::threads::{STEADY, SpawnError, ThreadEvent, Threads};
use crate::sync::{Role, Thread};
use crate::time::{Deadline, now};
use crate::transport::{MemoryTransport, Outgoing};
use crate::wire::openai::ChatRequest;

/// Stack of a thread that does next to nothing, in bytes.
pub(super) const STACK: usize = 256 << 10;

pub(super) fn worker_panics() -> Verdict {
    const PANICS: u64 = 5;
    let transport = MemoryTransport::new(|request: &Outgoing<'_>, _| {
        let fatal = request.body.windows(4).any(|bytes| bytes == b"boom");
        assert!(!fatal, "asked for by the self-test");
        Ok(echo(request))
    });
    let gateway = one(pool(2, 10, "block"), Arc::new(transport))?;
    for _ in 0..PANICS {
        let outcome = gateway.ask("p/x", "boom");
        ensure(refused(&outcome) == Some(Code::Internal), || format!("the request came to {outcome:?}"))?;
        let next = gateway.ask("p/x", "fine")?;
        ensure(next == "fine", || format!("the next request was answered {next:?}"))?;
    }
    until_figures(&gateway, "the workers are replaced", |figures| {
        figures.workers.active == 2 && figures.workers.spawned_total == 2 + PANICS
    })?;
    let panics = figures(&gateway)?.workers.panics_total;
    let told = gateway.events().list().iter().filter(|event| event.kind == "panic").count() as u64;
    ensure((panics, told) == (PANICS, PANICS), || format!("{panics} counted, {told} events"))?;
    Ok(format!(
        "{PANICS} panics: {PANICS} requests answered `internal`, every next one served, {PANICS} workers replaced"
    ))
}

pub(super) fn panics_are_told() -> Verdict {
    let transport = MemoryTransport::new(|_, _| panic!("asked for by the self-test"));
    let gateway = one(pool(1, 4, "block"), Arc::new(transport))?;
    let id = RequestId::from_client("selftest-1").ok_or_else(|| Miss::new("the request's name was refused"))?;
    let options = CallOptions::new().request_id(id);
    let outcome = gateway.with(&options).raw(Operation::ChatCompletions, ChatRequest::new("p/x", "x").to_body(false));
    ensure(refused(&outcome) == Some(Code::Internal), || format!("the request came to {outcome:?}"))?;
    let words = ["selftest-1", "asked for by the self-test"];
    // Whoever asked is answered first.
    let event = || gateway.events().list().into_iter().find(|event| event.kind == "panic");
    let notes = || gateway.threads().recent_panics(now(), STEADY);
    until("it is told", || event().is_some() && !notes().is_empty())?;
    let (told, notes) = (event().ok_or_else(|| Miss::new("the event is gone"))?, notes());
    ensure(told.subject == NAME && words.iter().all(|word| told.message.contains(word)), || format!("{told:?}"))?;
    let [note] = notes.as_slice() else { return Err(Miss::new(format!("{notes:?}"))) };
    ensure(&*note.name == "p-worker-1" && words.iter().all(|word| note.text.contains(word)), || format!("{note:?}"))?;
    Ok(format!("{} panicked {}; an event of {} says so, too", note.name, note.text, told.subject))
}

/// Waits for a thread's end.
pub(super) fn ended(thread: Thread) -> Result<(), Miss> {
    thread.join(Deadline::after(FUSE)).map_err(|thread| Miss::new(format!("{} did not end", thread.name())))
}

pub(super) fn thread_panics() -> Verdict {
    let threads = Threads::new(4, STACK);
    let (tell, told) = bounded(4);
    let thread = threads.spawn_owned(Role::Worker, "dies", tell, || panic!("asked for by the self-test"))?;
    let id = thread.id();
    ended(thread)?;
    let heard = [told.recv_timeout(FUSE)?, told.recv_timeout(FUSE)?];
    let expected = [ThreadEvent::Spawned(id), ThreadEvent::Ended { id, panicked: true }];
    ensure(heard == expected, || format!("the owner heard {heard:?}"))?;
    let mut rounds = 0;
    ended(threads.service(Role::Stats, "goes-on", move || {
        rounds += 1;
        assert!(rounds > 2, "asked for by the self-test");
    })?)?;
    let panics = threads.stats().panics_total;
    ensure(panics == 3, || format!("{panics} panics counted"))?;
    Ok("1 thread ended and its owner heard; 1 service went on after 2 panics; 3 counted".to_owned())
}

pub(super) fn thread_limit() -> Verdict {
    const LIMIT: u64 = 8;
    // A role for which nothing is kept free.
    const ROLE: Role = Role::Watchdog;
    let threads = Threads::new(LIMIT, STACK);
    let (hold, held) = bounded::<()>(0);
    let mut running = Vec::new();
    for number in 0..LIMIT {
        let held = held.clone();
        running.push(threads.spawn(ROLE, &format!("held-{number}"), move || {
            // Its end is the channel's closing.
            let _ = held.recv_timeout(FUSE);
        })?);
    }
    let past = threads.spawn(ROLE, "past", || ());
    let refused = matches!(past, Err(SpawnError::Limit { limit: LIMIT, .. }));
    drop(hold);
    running.into_iter().try_for_each(ended)?;
    ensure(refused, || format!("one past the limit came to {past:?}"))?;
    ended(threads.spawn(ROLE, "again", || ())?)?;
    let stats = threads.stats();
    let counts = (stats.active, stats.peak, stats.spawned_total, stats.refused_total);
    ensure(counts == (0, LIMIT, LIMIT + 1, 1), || format!("{counts:?}"))?;
    Ok(format!("{LIMIT} ran, the next was refused with an error, and one more ran once they had ended"))
}

pub(super) fn tracking() -> Verdict {
    const THREADS: usize = 20;
    let threads = Threads::new(64, STACK);
    for number in 0..THREADS {
        ended(threads.spawn(Role::Worker, &format!("worker-{number}"), || ())?)?;
    }
    let stats = threads.stats();
    let ids: BTreeSet<_> = stats.ended.iter().map(|ended| ended.id).collect();
    let names: BTreeSet<_> = stats.ended.iter().map(|ended| Arc::clone(&ended.name)).collect();
    ensure((ids.len(), names.len()) == (THREADS, THREADS), || format!("{} ids, {} names", ids.len(), names.len()))?;
    let longest = stats.ended.iter().map(|ended| ended.lifetime_us).max().unwrap_or(0);
    let counted = (stats.active, stats.finished_total);
    ensure(counted == (0, THREADS as u64), || format!("{counted:?}"))?;
    Ok(format!(
        "{THREADS} threads, {THREADS} numbers and names; the longest lived {:.1?}",
        Duration::from_micros(longest)
    ))
}
