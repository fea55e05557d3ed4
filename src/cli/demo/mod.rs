//! `demo`: a gateway at work on the simulated provider, scene by scene.
//!
//! Every figure printed is measured in the run: callers speak to the data plane over sockets, and what the gateway says of
//! itself is read from its admin plane. A scene whose point does not hold ends the demo with an error. Read `house` for the
//! gateway and its callers.

mod house;

use std::thread::scope;
use std::time::Duration;

use serde_json::Value;

use super::client::Answer;
use super::output::{Failure, result};
use super::stats;
use crate::time::{Deadline, now};
use house::House;

/// How long a scene waits for what must come.
const FUSE: Duration = Duration::from_secs(5);

pub(super) fn run() -> Result<(), Failure> {
    let start = now();
    let house = House::start()?;
    say(&format!(
        "Sluicegate {}: a gateway on the simulated provider; no network, no key.\n{}\n",
        env!("CARGO_PKG_VERSION"),
        house.addresses()
    ))?;
    let shown = stream(&house)
        .and_then(|()| queueing(&house))
        .and_then(|()| refusal(&house))
        .and_then(|()| scaling(&house))
        .and_then(|()| fallback(&house))
        .and_then(|()| drain(&house))
        .and_then(|()| statistics(&house));
    let report = house.shutdown();
    shown?;
    held(report.stragglers.is_empty(), || format!("threads that did not end: {}", report.stragglers.join(", ")))?;
    let took = since(start).as_secs_f64();
    say(&format!("\nEverything shown held, and every thread has ended: {took:.1} s in all."))
}

/// An answer comes event by event.
fn stream(house: &House) -> Result<(), Failure> {
    const MODEL: &str = "sim/lorem-24+gap-40ms";
    say(&format!("1. A streamed answer: POST /v1/chat/completions, model {MODEL}"))?;
    result("   ")?;
    let stream = house.stream(MODEL)?;
    let overhead = micros(stream.header("x-sluicegate-overhead-us"))?;
    let streamed = stream.read(result)?;
    held(streamed.done, || "the stream ended without its end mark".to_owned())?;
    // An answer that was collected first would come in one piece, at the end.
    held(streamed.first * 2 < streamed.took, || format!("it came all at once: {streamed:?}"))?;
    say(&format!(
        "\n   {} events and [DONE]: the first after {}, the last after {}; the gateway's own share of the first: {}\n",
        streamed.events,
        ms(streamed.first),
        ms(streamed.took),
        ms(overhead)
    ))
}

/// More callers than workers: they wait, first in the queue, then for a place in it.
fn queueing(house: &House) -> Result<(), Failure> {
    const CALLS: usize = 6;
    const MODEL: &str = "sim/echo+slow-400ms";
    say(&format!("2. Queueing: 2 workers, 2 places to wait, policy block; {CALLS} calls of 400 ms at once"))?;
    let mut answers = scope(|scope| {
        let callers: Vec<_> = (0..CALLS).map(|_| scope.spawn(|| house.chat(MODEL))).collect();
        until(house, "2 run, 2 wait, 2 are held back", |snapshot| {
            ["workers/busy", "queue/depth", "queue/blocked_total"]
                .iter()
                .all(|path| number(snapshot, &format!("/providers/sim/{path}")) == Some(2))
        })?;
        say("   in the middle: 2 running, 2 waiting in the queue, 2 held back until it has a place")?;
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap_or_else(|_| Err(panicked())))
            .collect::<Result<Vec<_>, _>>()
    })?;
    answers.sort_by_key(|(took, _)| *took);
    for (index, (took, answer)) in answers.iter().enumerate() {
        let waited = micros(answer.header("x-sluicegate-queue-us"))?;
        held(answer.status == 200, || format!("a call that waited was answered with status {}", answer.status))?;
        let bar = |time: Duration, sign: &str| sign.repeat((time.as_millis() / 40) as usize);
        let (waiting, served) = (bar(waited, "."), bar(took.saturating_sub(waited), "#"));
        say(&format!(
            "   call {}  waited {:>7}  answered after {:>7}  {waiting}{served}",
            index + 1,
            ms(waited),
            ms(*took)
        ))?;
    }
    let peak = number(&house.page("/sim/stats")?, "/peak");
    held(peak == Some(2), || format!("at the provider at once: {peak:?}"))?;
    say(&format!("   all {CALLS} answered, and never more than 2 at a time at the provider\n"))
}

/// A full provider refuses at once, and another one does not notice.
fn refusal(house: &House) -> Result<(), Failure> {
    const CALLS: usize = 5;
    const MODEL: &str = "strict/echo+slow-400ms";
    say(&format!("3. Refusal: provider strict, 1 worker, 1 place, policy error; {CALLS} calls at once"))?;
    let (answers, beside) = scope(|scope| {
        let callers: Vec<_> = (0..CALLS).map(|_| scope.spawn(|| house.chat(MODEL))).collect();
        // The last of them is refused while the first is still served.
        let full = until(house, "all but two are refused", |snapshot| {
            number(snapshot, "/providers/strict/queue/rejected_total") == Some((CALLS - 2) as u64)
        });
        let beside = full.and_then(|_| house.chat("sim/echo"));
        let answers: Result<Vec<_>, _> =
            callers.into_iter().map(|caller| caller.join().unwrap_or_else(|_| Err(panicked()))).collect();
        Ok::<_, Failure>((answers?, beside?))
    })?;
    let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, answer)| answer.status == 200);
    held((served.len(), refused.len()) == (2, CALLS - 2), || {
        format!("{} were answered, 2 have a place", served.len())
    })?;
    let mut slowest = Duration::ZERO;
    for (took, answer) in &refused {
        let (status, code) = (answer.status, code(answer));
        held(status == 429 && code == "queue_full", || format!("the refusal was {status} {code}"))?;
        held(answer.header("retry-after").is_some(), || "the refusal does not say when to come again".to_owned())?;
        slowest = slowest.max(*took);
    }
    say(&format!(
        "   {} answered; {} refused: 429 queue_full with Retry-After, the last after {}",
        served.len(),
        refused.len(),
        ms(slowest)
    ))?;
    held(beside.1.status == 200, || format!("the other provider answered with status {}", beside.1.status))?;
    say(&format!("   meanwhile the other provider answered in {}\n", ms(beside.0)))
}

/// Workers come with the load, and go when it has ended.
fn scaling(house: &House) -> Result<(), Failure> {
    const CALLS: u64 = 24;
    const MODEL: &str = "elastic/echo+slow-1s";
    say(&format!("4. Scaling: provider elastic, 2 to {CALLS} workers; {CALLS} calls of 1 s at once"))?;
    let wanted = |snapshot: &Value| number(snapshot, "/providers/elastic/workers/configured");
    let before = wanted(&house.page("/stats?fresh=1")?);
    let answers = scope(|scope| {
        let callers: Vec<_> = (0..CALLS).map(|_| scope.spawn(|| house.chat(MODEL))).collect();
        until(house, "every call has a worker", |snapshot| {
            number(snapshot, "/providers/elastic/workers/busy") == Some(CALLS)
        })?;
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap_or_else(|_| Err(panicked())))
            .collect::<Result<Vec<_>, _>>()
    })?;
    let ended = now();
    let mut longest = Duration::ZERO;
    for (_, answer) in &answers {
        held(answer.status == 200, || format!("a call was answered with status {}", answer.status))?;
        longest = longest.max(micros(answer.header("x-sluicegate-queue-us"))?);
    }
    held(before == Some(2), || format!("it began with {before:?} workers"))?;
    say(&format!("   from 2 to {CALLS} workers; the call that waited longest for its own waited {}", ms(longest)))?;
    until(house, "it shrinks", |snapshot| wanted(snapshot) < Some(CALLS))?;
    say(&format!("   the load has ended: {} later the first workers are gone", ms(since(ended))))?;
    let snapshot = until(house, "the fewest are left", |snapshot| wanted(snapshot) == Some(2))?;
    say(&format!("   {} later the fewest are left; what it says of that:", ms(since(ended))))?;
    for event in snapshot["events"].as_array().into_iter().flatten() {
        if event["kind"] == "scaling" && event["subject"] == "elastic" {
            say(&format!("     {}", event["message"].as_str().unwrap_or_default()))?;
        }
    }
    say("")
}

/// A target that fails is left for the next, and the caller notices nothing.
fn fallback(house: &House) -> Result<(), Failure> {
    say("5. Fallback: the alias \"answer\" stands for a provider that is down, and has another to fall back on")?;
    let (took, answer) = house.chat("answer")?;
    let header = |name| answer.header(name).unwrap_or("nobody");
    let (provider, model) = (header("x-sluicegate-provider"), header("x-sluicegate-model"));
    let (attempts, left) = (header("x-sluicegate-attempts"), header("x-sluicegate-fallbacks"));
    held((answer.status, provider, left) == (200, "sim", "1"), || {
        format!("the answer was {} by {provider}, {left} targets left", answer.status)
    })?;
    say(&format!("   answered by {provider}/{model} after {}: {attempts} attempts, {left} target left", ms(took)))?;
    let snapshot = house.page("/stats?fresh=1")?;
    let retries = number(&snapshot, "/providers/down/jobs/retries_total");
    held(retries == Some(1), || format!("the provider that is down was asked again {retries:?} times"))?;
    say("   the provider that is down was asked once more before it was left: max_retries 1\n")
}

/// What is under way is finished, and nothing new is taken.
fn drain(house: &House) -> Result<(), Failure> {
    const MODEL: &str = "sim/lorem-20+gap-30ms";
    say("6. Drain: two streams open, then POST /drain on the admin plane")?;
    let streams = [house.stream(MODEL)?, house.stream(MODEL)?];
    house.drain()?;
    let ready = house.get("/readyz")?.status;
    let (_, new) = house.chat("sim/echo")?;
    let (status, code) = (new.status, code(&new));
    held(ready == 503, || format!("/readyz says {ready} in the drain"))?;
    held(status == 503 && code == "shutting_down", || format!("a new call was answered with {status} {code}"))?;
    say(&format!("   /readyz says {ready}, and a new call is refused: {status} {code}"))?;
    for stream in streams {
        let streamed = stream.read(|_| Ok(()))?;
        held(streamed.done, || format!("a stream was cut by the drain: {streamed:?}"))?;
        say(&format!(
            "   a stream went on to its end: {} events and [DONE] after {}",
            streamed.events,
            ms(streamed.took)
        ))?;
    }
    say("")
}

/// What the gateway says of all that, and whether it adds up.
fn statistics(house: &House) -> Result<(), Failure> {
    say("7. The statistics: GET /stats on the admin plane")?;
    // A stream is in flight until its last byte is written, which its reader may have before the count goes down.
    let snapshot = until(house, "nothing is in flight", |snapshot| number(snapshot, "/requests/in_flight") == Some(0))?;
    let look = stats::look();
    for line in stats::table(&snapshot, stats::Look { width: look.width.saturating_sub(3), ..look }).lines() {
        say(format!("   {line}").trim_end())?;
    }
    say("")?;
    for provider in ["sim", "strict", "elastic", "down"] {
        let at = |end: &str| {
            let path = format!("/providers/{provider}/queue/{end}_total");
            number(&snapshot, &path).ok_or_else(|| Failure::Job(format!("the statistics lack {path}")))
        };
        let (submitted, completed) = (at("submitted")?, at("completed")?);
        let ends = ["dropped", "rejected", "timed_out", "abandoned"];
        let counts = ends.map(at).into_iter().collect::<Result<Vec<_>, _>>()?;
        held(submitted == completed + counts.iter().sum::<u64>(), || {
            format!("{provider}: submitted {submitted}, completed {completed}, {ends:?} {counts:?}")
        })?;
        let sum: Vec<_> =
            ends.iter().zip(&counts).map(|(end, count)| format!("{count} {}", end.replace('_', " "))).collect();
        say(&format!("   {provider}: submitted {submitted} = completed {completed} + {}", sum.join(" + ")))?;
    }
    Ok(())
}

/// Waits until the statistics are as they should be.
fn until(house: &House, what: &str, reached: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
    let fuse = Deadline::after(FUSE);
    loop {
        let snapshot = house.page("/stats?fresh=1")?;
        if reached(&snapshot) {
            return Ok(snapshot);
        }
        held(!fuse.passed(), || format!("not within {FUSE:?}: {what}"))?;
    }
}

fn number(page: &Value, path: &str) -> Option<u64> {
    page.pointer(path).and_then(Value::as_u64)
}

/// The code of an error answer.
fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body.pointer("/error/code").and_then(Value::as_str).unwrap_or("without a code").to_owned()
}

fn micros(header: Option<&str>) -> Result<Duration, Failure> {
    let us = header.and_then(|value| value.parse().ok());
    us.map(Duration::from_micros).ok_or_else(|| Failure::Job("an answer lacks its timing headers".to_owned()))
}

fn since(start: std::time::Instant) -> Duration {
    now().saturating_duration_since(start)
}

fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// Ends the demo if what it shows does not hold.
fn held(holds: bool, found: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Job(format!("the demo does not hold: {}", found()))) }
}

fn panicked() -> Failure {
    Failure::Job("a caller of the demo panicked".to_owned())
}

fn say(line: &str) -> Result<(), Failure> {
    result(&format!("{line}\n"))
}
