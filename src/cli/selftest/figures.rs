//! Claims about what is counted.

use std::thread::scope;
use std::time::Duration;

use serde_json::json;

use super::rig::{Miss, Verdict, ensure, figures, instant, one, pool, simulated, until};
use crate::gateway::{CallOptions, Gateway};
use crate::model::Operation;
use crate::sync::CancelToken;
use crate::wire::openai::ChatRequest;

/// Callers at once, each of which goes through the list of models once.
const CALLERS: usize = 12;

/// One of everything that can become of a request.
const MODELS: [&str; 8] =
    ["echo", "lorem-20", "fail-500", "reset", "cut-2", "hang", "lorem-50+gap-5ms", "no-such-word"];

pub(super) fn balance() -> Verdict {
    let mut settings = pool(4, 4, "error");
    settings["queue"]["wait_timeout"] = json!("100ms");
    settings["network_config"] = json!({ "default_request_timeout_in_seconds": "60ms" });
    let gateway = simulated(settings)?;
    scope(|scope| {
        for caller in 0..CALLERS {
            let gateway = &gateway;
            scope.spawn(move || storm(gateway, caller));
        }
    });
    until("nothing is under way", || gateway.stats().requests.in_flight == 0)?;
    until("every worker is idle", || figures(&gateway).is_ok_and(|figures| figures.workers.busy == 0))?;
    let (requests, figures) = (gateway.stats().requests, figures(&gateway)?);
    let (queue, jobs) = (&figures.queue, &figures.jobs);
    let unserved = [queue.dropped_total, queue.rejected_total, queue.timed_out_total, queue.abandoned_total];
    let served = [jobs.succeeded_total, jobs.failed_total, jobs.timed_out_total, jobs.cancelled_total];
    let ended = [requests.succeeded_total, requests.failed_total, requests.cancelled_total];
    ensure(queue.submitted_total == queue.completed_total + unserved.iter().sum::<u64>(), || format!("{queue:?}"))?;
    ensure(queue.completed_total == served.iter().sum::<u64>(), || format!("{queue:?} {jobs:?}"))?;
    ensure(requests.received_total == ended.iter().sum::<u64>(), || format!("{requests:?}"))?;
    // Sums of nothing would balance too.
    let happened = served.iter().chain(&ended).all(|count| *count > 0) && queue.rejected_total > 0;
    ensure(happened, || format!("not everything happened: {queue:?} {jobs:?}"))?;
    let [dropped, rejected, timed_out, abandoned] = unserved;
    let [succeeded, failed, late, cancelled] = served;
    Ok(format!(
        "submitted {} = completed {} + dropped {dropped} + rejected {rejected} + timed out {timed_out} + abandoned \
         {abandoned}; completed = {succeeded} succeeded + {failed} failed + {late} timed out + {cancelled} cancelled; \
         received {} = {} + {} + {}",
        queue.submitted_total, queue.completed_total, requests.received_total, ended[0], ended[1], ended[2]
    ))
}

/// Each model once, whole and streamed; every third stream is dropped after its first event, and a call is cancelled.
fn storm(gateway: &Gateway, turn: usize) {
    for (number, model) in MODELS.iter().enumerate() {
        let request = ChatRequest::new(format!("p/{model}"), "x");
        // What becomes of each is counted by the gateway: that is what is looked at.
        let _ = gateway.chat(&request);
        if let Ok(mut stream) = gateway.chat_stream(&request) {
            match (turn + number) % 3 {
                0 => drop(stream.next()),
                _ => drop(stream.by_ref().count()),
            }
        }
        if number == turn % MODELS.len() {
            cancelled(gateway);
        }
    }
}

/// A call that is cancelled while it runs, or while it waits.
fn cancelled(gateway: &Gateway) {
    let token = CancelToken::new();
    let options = CallOptions::new().cancel(token.clone());
    let body = ChatRequest::new("p/hang", "x").to_body(false);
    scope(|scope| {
        scope.spawn(|| gateway.with(&options).raw(Operation::ChatCompletions, body));
        let (_never, silence) = crossbeam_channel::bounded::<()>(0);
        // Long enough to be under way, shorter than the provider's limit.
        let _ = silence.recv_timeout(Duration::from_millis(20));
        token.cancel();
    });
}

pub(super) fn settled() -> Verdict {
    const CALLS: u64 = 60;
    let gateway = one(pool(2, 10, "block"), instant())?;
    for call in 1..=CALLS {
        gateway.ask("p/x", "x")?;
        let (requests, figures) = (gateway.stats().requests, figures(&gateway)?);
        let seen = (requests.succeeded_total, figures.queue.completed_total, figures.jobs.succeeded_total);
        ensure(seen == (call, call, call), || format!("after {call} answers: {seen:?}"))?;
        ensure(requests.in_flight == 0, || format!("{} in flight after {call} answers", requests.in_flight))?;
    }
    let missing = figures(&gateway)?.queue.wait_us.count;
    ensure(missing == CALLS, || format!("{missing} of {CALLS} waits were measured"))?;
    Ok::<_, Miss>(format!("after each of {CALLS} answers request, queue and job counters stood at its number"))
}
