//! Claims about providers that fail: the circuit breaker, and the checks of their health.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use super::rig::{Verdict, echo, ensure, figures, one, pool, refused, until, until_figures};
use crate::error::Code;
use crate::provider::{BreakerState, HealthState};
use crate::transport::{MemoryTransport, Outgoing, TransportError, TransportErrorKind};

/// A provider that can be put down, the calls that have reached it, and the looks at its models.
#[derive(Default)]
struct Patient {
    is_up: AtomicBool,
    calls: AtomicU64,
    looks: AtomicU64,
}

impl Patient {
    fn transport(self: &Arc<Self>) -> Arc<MemoryTransport> {
        let patient = Arc::clone(self);
        Arc::new(MemoryTransport::new(move |request: &Outgoing<'_>, _| {
            let count = if request.method == "GET" { &patient.looks } else { &patient.calls };
            count.fetch_add(1, Ordering::SeqCst);
            let down = || TransportError::new(TransportErrorKind::Refused, "put down by the self-test");
            if patient.is_up.load(Ordering::SeqCst) { Ok(echo(request)) } else { Err(down()) }
        }))
    }
}

pub(super) fn breaks_and_comes_back() -> Verdict {
    const IN_A_ROW: u64 = 5;
    const MORE: u64 = 200;
    let patient = Arc::new(Patient::default());
    let mut settings = pool(2, 10, "block");
    settings["breaker"] = json!({ "open_for": "1s" });
    let gateway = one(settings, patient.transport())?;
    for _ in 0..IN_A_ROW {
        let outcome = gateway.ask("p/x", "x");
        ensure(refused(&outcome) == Some(Code::UpstreamConnectError), || format!("a call came to {outcome:?}"))?;
    }
    let mut refusals = 0;
    for _ in 0..MORE {
        refusals += u64::from(refused(&gateway.ask("p/x", "x")) == Some(Code::CircuitOpen));
    }
    let reached = patient.calls.load(Ordering::SeqCst) - IN_A_ROW;
    // On a machine that is busy a probe may have fallen among them.
    ensure(reached + refusals == MORE && reached <= 2, || format!("{reached} reached it, {refusals} were refused"))?;
    let told = || gateway.events().alerts().into_iter().any(|alert| alert.kind == "breaker_open");
    ensure(told(), || "no alert stands".to_owned())?;
    patient.is_up.store(true, Ordering::SeqCst);
    until("it comes back", || gateway.ask("p/x", "x").is_ok())?;
    let breaker = figures(&gateway)?.breaker;
    ensure(breaker.state == BreakerState::Closed && !told(), || format!("{breaker:?}"))?;
    let kinds = gateway.events().list().iter().filter(|event| event.kind == "breaker").count();
    ensure(kinds >= 3, || format!("{kinds} events"))?;
    Ok(format!("{IN_A_ROW} failures, {refusals} of the next {MORE} refused unsent; back by one probe, {kinds} events"))
}

pub(super) fn checked_at_the_start() -> Verdict {
    let patient = Arc::new(Patient::default());
    let mut settings = pool(2, 10, "block");
    settings["kind"] = json!("openai");
    settings["network_config"]["base_url"] = json!("http://127.0.0.1:9");
    settings["health"] = json!({ "interval": "100ms" });
    let gateway = one(settings, patient.transport())?;
    let start = figures(&gateway)?;
    let seen = (start.health.state, start.workers.active, gateway.is_ready());
    ensure(seen == (HealthState::Unhealthy, 2, false), || format!("{seen:?}"))?;
    let took = start.startup_us.check.unwrap_or_default();
    patient.is_up.store(true, Ordering::SeqCst);
    until_figures(&gateway, "it is healthy", |figures| figures.health.state == HealthState::Healthy)?;
    let figures = figures(&gateway)?;
    let counted = (figures.queue.submitted_total, patient.calls.load(Ordering::SeqCst), gateway.is_ready());
    ensure(counted == (0, 0, true), || format!("{counted:?}"))?;
    let looks = patient.looks.load(Ordering::SeqCst);
    Ok(format!("unhealthy after {took} µs with its workers up; healthy by {looks} looks at its models and no call"))
}
