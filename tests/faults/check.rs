//! What was seen of a cell held against what it must be, a line for each difference.

use std::time::Duration;

use serde_json::{Value, json};

use super::rows::{AWAITS, Fault, On, Part, Row, Way};
use super::rules::{End, Expected, Wait};
use super::run::Scale;
use crate::client::Answer;
use crate::house::{SLACK, ms};

/// What the threads of a busy machine may add to any wait.
const BUSY: Duration = Duration::from_millis(500);

/// Everything that one caller and the upstreams saw.
pub(crate) struct Seen {
    answer: Answer,
    id: String,
    took: Duration,
    /// Whether the connection was closed after an answer that was not whole.
    closed: bool,
    /// When requests reached each upstream, in milliseconds.
    pub(crate) arrivals: [Vec<u64>; 2],
    /// How many of the first upstream's answers we broke off.
    pub(crate) left: usize,
    /// What `/stats` says of both providers.
    pub(crate) figures: [Value; 2],
}

impl Seen {
    pub(crate) fn new(answer: Answer, id: String, took: Duration, closed: bool) -> Self {
        Self { answer, id, took, closed, arrivals: Default::default(), left: 0, figures: Default::default() }
    }

    /// Between the tries at the first upstream.
    pub(crate) fn waits(&self) -> Vec<u64> {
        self.arrivals[0].windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// The body, or a stream's last event.
    fn last(&self) -> Value {
        let last = self.answer.events().last().map(|data| data.as_bytes().to_vec());
        let text = last.unwrap_or_else(|| self.answer.body.clone());
        serde_json::from_slice(&text).unwrap_or(Value::Null)
    }

    /// What the caller saw, in a few words.
    pub(crate) fn in_short(&self) -> String {
        let code = self.last()["sluicegate"]["code"].as_str().map(str::to_owned);
        match (self.answer.status, code) {
            (200, None) if self.answer.complete => "200 whole".to_owned(),
            (200, code) => format!("200, then {}", code.unwrap_or_else(|| "a cut".to_owned())),
            (status, code) => {
                let again = self.answer.header("retry-after-ms").map(|after| format!(", again in {after} ms"));
                format!("{status} {}{}", code.unwrap_or_default(), again.unwrap_or_default())
            }
        }
    }

    fn header(&self, name: &str) -> Option<u64> {
        self.answer.header(name)?.parse().ok()
    }
}

/// Notes the differences between what is and what should be.
#[derive(Default)]
struct Misses(Vec<String>);

impl Misses {
    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, is: T, wanted: T) {
        if is != wanted {
            self.0.push(format!("{what} is {is:?} and not {wanted:?}"));
        }
    }

    fn holds(&mut self, what: impl FnOnce() -> String, holds: bool) {
        if !holds {
            self.0.push(what());
        }
    }
}

/// What is wrong with a cell.
pub(crate) fn cell(row: &Row, way: Way, expected: &Expected, seen: &Seen, scale: Scale) -> Vec<String> {
    let mut misses = Misses::default();
    end(way, expected, seen, &mut misses);
    headers(expected, seen, &mut misses);
    upstreams(row, expected, seen, &mut misses);
    times(row, expected, seen, scale, &mut misses);
    figures(row, expected, seen, &mut misses);
    misses.0
}

fn end(way: Way, expected: &Expected, seen: &Seen, misses: &mut Misses) {
    let answer = &seen.answer;
    let text = answer.text();
    let dones = text.matches("data: [DONE]").count();
    match &expected.end {
        End::Whole(words) => {
            misses.equal("the status", answer.status, 200);
            misses.equal("the answer's completeness", answer.complete, true);
            if way.streamed {
                misses.equal("the number of [DONE]", dones, 1);
                misses.holds(|| "[DONE] is not the last event".to_owned(), text.ends_with("data: [DONE]\n\n"));
                let said = answer.words();
                let first = expected.tries(1) == 0;
                // The scripted upstream and a tool's arguments say no words that could be counted.
                if let Some(words) = words.filter(|_| first || way.fallback) {
                    misses.equal("the number of words", said.split_whitespace().count(), words);
                }
            } else {
                let body = serde_json::from_str::<Value>(text).unwrap_or_default();
                misses.holds(|| format!("it is no chat answer: {text}"), body["choices"][0]["message"].is_object());
            }
        }
        End::Failed { status, code, words, after } => {
            misses.equal("the status", answer.status, *status);
            misses.equal("the answer's completeness", answer.complete, true);
            let body = serde_json::from_str::<Value>(text).unwrap_or_default();
            error(expected, &body, code, seen, misses);
            if let Some(words) = words {
                misses.equal("error.code", &body["error"]["code"], &json!(words));
            }
            if *code != "upstream_error" {
                misses.equal("error.code", &body["error"]["code"], &json!(code));
            }
            if let Some(after) = after {
                let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                misses.equal("retry-after-ms", seen.header("retry-after-ms"), Some(ms));
                misses.equal("retry-after", seen.header("retry-after"), Some(ms.div_ceil(1000)));
            }
        }
        End::Broken(code) => {
            misses.equal("the status", answer.status, 200);
            misses.equal("the answer's completeness", answer.complete, false);
            misses.equal("the connection's end", seen.closed, true);
            misses.equal("the number of [DONE]", dones, 0);
            error(expected, &seen.last(), code, seen, misses);
        }
    }
}

/// An error's own part, with the list of what was tried.
fn error(expected: &Expected, body: &Value, code: &str, seen: &Seen, misses: &mut Misses) {
    let ours = &body["sluicegate"];
    misses.equal("sluicegate.code", &ours["code"], &json!(code));
    misses.equal("sluicegate.request_id", &ours["request_id"], &json!(seen.id));
    let origin = if code == "internal" { "gateway" } else { "provider" };
    misses.equal("sluicegate.origin", &ours["origin"], &json!(origin));
    misses.holds(|| format!("there is no error.message: {body}"), body["error"]["message"].is_string());
    let listed: Vec<_> = ours["attempts"].as_array().into_iter().flatten().collect();
    let outcomes: Vec<_> = listed.iter().map(|row| (row["outcome"].clone(), row["status"].clone())).collect();
    let wanted: Vec<_> =
        expected.attempts.iter().map(|attempt| (json!(attempt.outcome), json!(attempt.status))).collect();
    misses.equal("sluicegate.attempts", outcomes, wanted);
    let letters = listed.iter().zip(&expected.attempts).all(|(row, attempt)| {
        row["provider"].as_str().is_some_and(|name| name.starts_with(['a', 'b'][attempt.target]))
            && row["model"].is_string()
            && row["ms"].is_u64()
    });
    misses.holds(|| format!("an attempt is listed wrongly: {listed:?}"), letters);
}

fn headers(expected: &Expected, seen: &Seen, misses: &mut Misses) {
    misses.equal("x-request-id", seen.answer.header("x-request-id"), Some(&*seen.id));
    let tries = expected.attempts.len() as u64;
    misses.equal("x-sluicegate-attempts", seen.header("x-sluicegate-attempts"), Some(tries));
    let fallbacks = u64::from(expected.tries(1) > 0);
    misses.equal("x-sluicegate-fallbacks", seen.header("x-sluicegate-fallbacks"), Some(fallbacks));
    let provider = seen.answer.header("x-sluicegate-provider").unwrap_or_default();
    // A chain answers with its first target's error.
    let letter = if fallbacks > 0 && matches!(expected.end, End::Whole(_)) { 'b' } else { 'a' };
    misses.holds(|| format!("x-sluicegate-provider is {provider:?}"), provider.starts_with(letter));
    let spent = ["queue", "upstream", "overhead"].map(|name| seen.header(&format!("x-sluicegate-{name}-us")));
    let sum: Option<u64> = spent.into_iter().sum();
    let waited: Duration = expected
        .waits
        .iter()
        .map(|wait| match wait {
            Wait::BackOff(_) => Duration::ZERO,
            Wait::RetryAfter(after) if *after < BUSY => Duration::ZERO,
            Wait::RetryAfter(after) => *after,
        })
        .sum();
    // What the provider said counts from its answer, of which the caller's thread hears a little later: the half of it is
    // sure to have been a pause, and a pause is no overhead.
    let most = seen.took.saturating_sub(waited / 2).as_micros();
    misses.holds(
        || format!("the times are {spent:?}, {waited:?} was waited, and all took {:?}", seen.took),
        sum.is_some_and(|sum| u128::from(sum) <= most),
    );
}

fn upstreams(row: &Row, expected: &Expected, seen: &Seen, misses: &mut Misses) {
    let arrivals = [0, 1].map(|target| seen.arrivals[target].len());
    // The simulated provider keeps no times of a name that is none; it counts them, and the row looks at that.
    let unnamed = matches!(row.on, On::Sim("unknown-word"));
    if !unnamed {
        misses.equal("the number of requests that came first", arrivals[0], expected.arrivals(row, 0));
    }
    misses.equal("the number of requests that came second", arrivals[1], expected.arrivals(row, 1));
    if matches!(row.fault, Fault::Silent | Fault::Stalled(_)) {
        misses.equal("the number of answers broken off", seen.left, expected.left);
    }
}

fn times(row: &Row, expected: &Expected, seen: &Seen, scale: Scale, misses: &mut Misses) {
    let mut longest = Duration::ZERO;
    let waits = seen.waits();
    for (n, wait) in expected.waits.iter().enumerate() {
        let (least, most) = match *wait {
            Wait::BackOff(cap) => (Duration::ZERO, cap),
            // Times are told in whole milliseconds, each cut off.
            Wait::RetryAfter(after) => (after.saturating_sub(ms(1)), after + scale.times().backoff_max),
        };
        longest += most;
        let Some(waited) = waits.get(n + expected.unseen).map(|waited| ms(*waited)) else { continue };
        misses.holds(
            || format!("try {} came {waited:?} after the one before, not between {least:?} and {most:?}", n + 2),
            waited >= least && waited <= most * SLACK + BUSY,
        );
    }
    let silent = if expected.left > 0 { row.deadline.unwrap_or(scale.times().silence) } else { Duration::ZERO };
    misses.holds(|| format!("it was over after {:?}, before {silent:?}", seen.took), seen.took >= silent);
    let most = (longest + silent) * SLACK + 4 * BUSY;
    misses.holds(|| format!("it took {:?}, more than {most:?}", seen.took), seen.took <= most);
}

/// What `/stats` says of the cell's own providers.
fn figures(row: &Row, expected: &Expected, seen: &Seen, misses: &mut Misses) {
    for (target, figures) in seen.figures.iter().enumerate() {
        if figures.is_null() {
            misses.equal("a target that is not there", expected.tries(target), 0);
            continue;
        }
        let count = |path: &str| figures.pointer(path).and_then(Value::as_u64);
        let letter = ['a', 'b'][target];
        let tries = expected.tries(target) as u64;
        misses.equal(&format!("{letter}: submitted"), count("/queue/submitted_total"), Some(tries));
        let well = expected.attempts.iter().filter(|a| a.target == target && a.outcome == "ok").count() as u64;
        misses.equal(&format!("{letter}: succeeded"), count("/jobs/succeeded_total"), Some(well));
        let panics = if row.fault == Fault::Panics && target == 0 { tries } else { 0 };
        misses.equal(&format!("{letter}: panics"), count("/workers/panics_total"), Some(panics));
        misses.equal(&format!("{letter}: retries"), count("/jobs/retries_total"), Some(tries.saturating_sub(1)));
        if !AWAITS.contains(&Part::Routes) {
            let left = u64::from(target == 0 && expected.tries(1) > 0);
            misses.equal(&format!("{letter}: fallbacks"), count("/jobs/fallbacks_total"), Some(left));
        }
    }
}

/// What is wrong with a row as a whole: its requests were counted as what they came to.
pub(crate) fn row(came_to: &[Expected], stats: &Value) -> Vec<String> {
    let mut misses = Misses::default();
    let whole = came_to.iter().filter(|expected| matches!(expected.end, End::Whole(_))).count();
    let count = |what: &str| stats["requests"][format!("{what}_total")].as_u64();
    misses.equal("requests.received", count("received"), Some(came_to.len() as u64));
    misses.equal("requests.succeeded", count("succeeded"), Some(whole as u64));
    misses.equal("requests.cancelled", count("cancelled"), Some(0));
    let mut errors = std::collections::BTreeMap::<&str, u64>::new();
    for expected in came_to {
        match expected.end {
            End::Whole(_) => {}
            End::Failed { code, .. } | End::Broken(code) => *errors.entry(code).or_default() += 1,
        }
    }
    let counted: std::collections::BTreeMap<&str, u64> = stats["errors"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(code, count)| Some((code.as_str(), count.as_u64().filter(|count| *count > 0)?)))
        .collect();
    misses.equal("errors", counted, errors);
    misses.0
}
