//! The rows of the matrix: every way in which a provider can behave, and the dimensions that each is tried in.
//!
//! What must come of it is not said here: `rules` derives it from the interface.

use std::time::Duration;

use serde_json::{Value, json};

use super::upstream::{Act, Asked, Ending};
use crate::house::word;

/// A part of the gateway that a cell needs beyond one attempt at one provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// `fallbacks` in a body.
    Routes,
    /// `stream_recovery: buffer`.
    Streams,
    /// The key ring.
    Keys,
    /// Configured rate limits.
    Limits,
    /// The breaker, and health checks.
    Breaker,
    /// Reloads.
    Reload,
}

/// The parts that are not merged yet: a cell that needs one of them is not run, and printed as awaiting it, never as
/// passed. Empty it while merging.
pub(crate) const AWAITS: &[Part] = &[];

/// How often something happens to the requests for one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Often {
    Always,
    Once,
}

/// What a provider does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// It answers well, and says this many words if that is known.
    Well(Option<usize>),
    /// It answers with an error status, so often and with this `Retry-After`.
    Status(u16, Often, Option<Duration>),
    /// An error status whose `error.code` says more.
    Says(u16, &'static str),
    /// A good status with an error inside, whose `error.code` may say more.
    InsideOk(Option<&'static str>),
    /// It never answers.
    Silent,
    /// There is no connection, or it ends without an answer; `bool` is whether the request got there.
    Gone(Often, bool),
    /// The connection breaks after so many tokens; not streamed: in the middle.
    Cut(u64),
    /// It falls silent after so many tokens; not streamed: in the middle.
    Stalled(u64),
    /// Its so-manieth event is no JSON; not streamed: the answer is none. `bool` is whether that ends a stream.
    Garbage(u64, bool),
    /// Its bytes are no HTTP, or no answer of its protocol.
    Nonsense,
    /// An error event after the first good event; not streamed: an error inside a good answer.
    FailsMidway,
    /// A worker of ours panics on it.
    Panics,
    /// An error status first, and then it depends: these are the ways that it can go.
    OneOf(&'static [Fault]),
}

/// Who is asked.
#[derive(Clone, Copy)]
pub(crate) enum On {
    /// The simulated provider, by these words.
    Sim(&'static str),
    /// The scripted upstream.
    Script(fn(&Asked) -> Act),
    /// Nobody: the address refuses connections.
    Nobody,
}

/// How long a row takes with the default configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Pace {
    /// A second or two.
    Quick,
    /// Some seconds: it is left to `make faults`.
    Patient,
    /// A minute or more: its limits are shown with short ones alone.
    Endless,
}

/// One behaviour.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) on: On,
    pub(crate) fault: Fault,
    /// Whether a buffered stream can differ from one that is not.
    pub(crate) buffered: bool,
    /// How long it takes with the default configuration.
    pub(crate) pace: Pace,
    /// `x-sluicegate-timeout`, if the row is about it.
    pub(crate) deadline: Option<Duration>,
    /// What its streams need beyond what every one does.
    pub(crate) needs: Option<Part>,
}

/// A row of the simulated provider, by its words.
const fn sim(words: &'static str, fault: Fault) -> Row {
    Row { name: words, on: On::Sim(words), fault, buffered: false, pace: Pace::Quick, deadline: None, needs: None }
}

const fn status(words: &'static str, status: u16) -> Row {
    sim(words, Fault::Status(status, Often::Always, None))
}

const fn once(words: &'static str, status: u16) -> Row {
    sim(words, Fault::Status(status, Often::Once, None))
}

const fn script(name: &'static str, script: fn(&Asked) -> Act, fault: Fault) -> Row {
    Row { name, on: On::Script(script), fault, buffered: false, pace: Pace::Quick, deadline: None, needs: None }
}

impl Row {
    /// It matters whether its stream is buffered.
    const fn buffered(mut self) -> Self {
        self.buffered = true;
        self
    }

    const fn at(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    const fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Changes of its provider's settings.
    pub(crate) fn settings(&self) -> Value {
        match self.fault {
            Fault::Garbage(_, true) => json!({ "stream_garbage": "fail" }),
            _ => json!({}),
        }
    }
}

/// A `Retry-After` that is waited for, and one that is not.
const SOON: Duration = Duration::from_millis(60);
const LATE: Duration = Duration::from_secs(20);

/// What some requests are given in all.
const SHORT: Duration = Duration::from_millis(250);

/// The scripted upstream, beyond what the simulated provider can do.
fn too_long(_: &Asked) -> Act {
    Act::error(400, Some("context_length_exceeded"), Vec::new())
}

fn unwanted(_: &Asked) -> Act {
    Act::error(400, Some("content_policy_violation"), Vec::new())
}

fn filtered(_: &Asked) -> Act {
    Act::error(400, Some("content_filter"), Vec::new())
}

fn no_model(_: &Asked) -> Act {
    Act::error(404, Some("model_not_found"), Vec::new())
}

fn busy_soon(_: &Asked) -> Act {
    Act::error(429, Some("rate_limit_exceeded"), soon())
}

fn down_soon(_: &Asked) -> Act {
    Act::error(503, None, soon())
}

fn full_soon(_: &Asked) -> Act {
    Act::error(529, Some("overloaded_error"), soon())
}

fn late_soon(_: &Asked) -> Act {
    Act::error(408, None, soon())
}

/// Milliseconds go before seconds: what is said more exactly counts.
fn soon() -> Vec<(&'static str, String)> {
    vec![("retry-after", "1".to_owned()), ("retry-after-ms", SOON.as_millis().to_string())]
}

fn busy_late(_: &Asked) -> Act {
    Act::error(429, Some("rate_limit_exceeded"), vec![("retry-after", LATE.as_secs().to_string())])
}

fn down_late(_: &Asked) -> Act {
    Act::error(503, None, vec![("retry-after", LATE.as_secs().to_string())])
}

fn busy_a_second(asked: &Asked) -> Act {
    match asked.number {
        0 => Act::error(429, None, vec![("retry-after", "1".to_owned())]),
        _ => Act::good(asked),
    }
}

fn closes(_: &Asked) -> Act {
    Act::Close
}

fn resets(_: &Asked) -> Act {
    Act::Reset
}

fn no_http(_: &Asked) -> Act {
    Act::Raw("SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned())
}

fn no_json(_: &Asked) -> Act {
    Act::Answer(200, Vec::new(), "<html>welcome</html>".to_owned())
}

fn moved(_: &Asked) -> Act {
    Act::Answer(302, vec![("location", "http://127.0.0.1:1/".to_owned())], String::new())
}

fn gateway_page(_: &Asked) -> Act {
    Act::Answer(502, Vec::new(), "<html>502 Bad Gateway</html>".to_owned())
}

fn empty_stream(asked: &Asked) -> Act {
    if asked.streamed { Act::Stream(Vec::new(), Ending::Clean) } else { no_json(asked) }
}

fn too_long_inside(asked: &Asked) -> Act {
    let Act::Answer(_, _, body) = too_long(asked) else { return Act::Close };
    if asked.streamed {
        return Act::Stream(vec![format!("data: {body}\n\n")], Ending::Clean);
    }
    Act::Answer(200, Vec::new(), body)
}

fn fails_midway(asked: &Asked) -> Act {
    let Act::Answer(_, _, body) = Act::error(500, None, Vec::new()) else { return Act::Close };
    if asked.streamed {
        return Act::Stream(vec![word("one "), format!("data: {body}\n\n")], Ending::Clean);
    }
    Act::Answer(200, Vec::new(), body)
}

/// Every behaviour.
pub(crate) const ROWS: &[Row] = &[
    sim("echo", Fault::Well(Some(2))),
    sim("lorem-20", Fault::Well(Some(20))).buffered(),
    sim("json", Fault::Well(None)),
    sim("tool", Fault::Well(None)),
    sim("echo+slow-30ms", Fault::Well(Some(2))),
    sim("echo+ttft-30ms", Fault::Well(Some(2))).buffered(),
    sim("lorem-9+gap-3ms", Fault::Well(Some(9))).buffered(),
    sim("lorem-9+no-done", Fault::Well(Some(9))).buffered(),
    status("fail-400", 400),
    status("fail-401", 401),
    status("fail-403", 403),
    status("fail-404", 404),
    status("fail-408", 408),
    status("fail-413", 413),
    status("fail-422", 422),
    status("fail-429", 429).at(Pace::Patient),
    status("fail-500", 500),
    status("fail-502", 502),
    status("fail-503", 503),
    status("fail-504", 504),
    status("fail-529", 529),
    once("fail-400-once", 400),
    once("fail-408-once", 408),
    once("fail-429-once", 429).at(Pace::Patient),
    once("fail-500-once", 500),
    once("fail-503-once", 503),
    once("fail-529-once", 529),
    sim("fail-429-after-60ms", Fault::Status(429, Often::Once, Some(SOON))),
    sim("fail-429-after-20s", Fault::Status(429, Often::Once, Some(LATE))),
    sim("unknown-word", Fault::Says(404, "model_not_found")),
    sim("flaky-0", Fault::Well(None)),
    sim("flaky-100", Fault::Status(503, Often::Always, None)),
    sim("flaky-50", Fault::OneOf(&[Fault::Well(None), Fault::Status(503, Often::Always, None)])),
    sim("down-1m", Fault::Status(503, Often::Always, None)),
    sim("down-1ms", Fault::OneOf(&[Fault::Status(503, Often::Once, None), Fault::Status(503, Often::Always, None)])),
    sim("error-in-200", Fault::InsideOk(None)),
    sim("hang", Fault::Silent).at(Pace::Endless),
    sim("reset", Fault::Gone(Often::Always, true)),
    sim("reset-once", Fault::Gone(Often::Once, true)),
    sim("lorem-9+cut-0", Fault::Cut(0)).buffered(),
    sim("lorem-9+cut-3", Fault::Cut(3)).buffered(),
    sim("lorem-9+stall-0", Fault::Stalled(0)).buffered().at(Pace::Endless),
    sim("lorem-9+stall-3", Fault::Stalled(3)).buffered().at(Pace::Endless),
    sim("lorem-9+garbage-1", Fault::Garbage(1, false)).buffered(),
    sim("lorem-9+garbage-3", Fault::Garbage(3, false)).buffered(),
    Row { name: "garbage-1, fail", ..sim("lorem-9+garbage-1", Fault::Garbage(1, true)).buffered() },
    Row { name: "garbage-3, fail", ..sim("lorem-9+garbage-3", Fault::Garbage(3, true)).buffered() },
    sim("panic", Fault::Panics),
    Row { name: "connection refused", on: On::Nobody, ..sim("", Fault::Gone(Often::Always, false)) },
    script("closes unanswered", closes, Fault::Gone(Often::Always, true)),
    script("resets", resets, Fault::Gone(Often::Always, true)),
    script("no HTTP", no_http, Fault::Nonsense),
    Row { needs: Some(Part::Streams), ..script("no JSON", no_json, Fault::Nonsense) },
    script("redirects", moved, Fault::Nonsense),
    script("an empty stream", empty_stream, Fault::Nonsense),
    script("a proxy's 502 page", gateway_page, Fault::Status(502, Often::Always, None)),
    script("429, retry-after-ms 60", busy_soon, Fault::Status(429, Often::Always, Some(SOON))),
    script("503, retry-after-ms 60", down_soon, Fault::Status(503, Often::Always, Some(SOON))),
    script("529, retry-after-ms 60", full_soon, Fault::Status(529, Often::Always, Some(SOON))),
    script("408, retry-after-ms 60", late_soon, Fault::Status(408, Often::Always, Some(SOON))),
    script("429 once, retry-after 1", busy_a_second, Fault::Status(429, Often::Once, Some(Duration::from_secs(1)))),
    script("429, retry-after 20", busy_late, Fault::Status(429, Often::Always, Some(LATE))),
    script("503, retry-after 20", down_late, Fault::Status(503, Often::Always, Some(LATE))),
    script("context length", too_long, Fault::Says(400, "context_length_exceeded")),
    script("context length inside 200", too_long_inside, Fault::InsideOk(Some("context_length_exceeded"))),
    script("content policy", unwanted, Fault::Says(400, "content_policy_violation")),
    script("content filter", filtered, Fault::Says(400, "content_filter")),
    script("model unknown there", no_model, Fault::Says(404, "model_not_found")),
    script("fails in the middle", fails_midway, Fault::FailsMidway).buffered(),
    Row {
        name: "429-after-500ms, 250ms in all",
        ..sim("fail-429-after-500ms", Fault::Status(429, Often::Once, Some(Duration::from_millis(500)))).within(SHORT)
    },
    Row { name: "hang, 250ms in all", ..sim("hang", Fault::Silent).within(SHORT) },
];

/// The policies of a full queue, by their names.
pub(crate) const POLICIES: [&str; 4] = ["block", "error", "drop", "drop_oldest"];

/// What bounds a stream's recovery, and where it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    Off,
    /// By the provider's settings.
    Configured,
    /// By the request's header.
    Asked,
}

/// One cell of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) streamed: bool,
    pub(crate) fallback: bool,
    pub(crate) recovery: Recovery,
    pub(crate) policy: &'static str,
}

impl Way {
    pub(crate) fn is_buffered(self) -> bool {
        self.streamed && self.recovery != Recovery::Off
    }
}

/// The cells of a row: with every policy, or with the default one alone.
pub(crate) fn ways(row: &Row, policies: &'static [&'static str]) -> Vec<Way> {
    let mut ways = Vec::new();
    for streamed in [false, true] {
        for fallback in [false, true] {
            for (n, policy) in policies.iter().enumerate() {
                ways.push(Way { streamed, fallback, recovery: Recovery::Off, policy });
                if streamed && row.buffered {
                    // Of the two places to ask for it, each policy tries one.
                    let recovery = if n % 2 == 0 { Recovery::Configured } else { Recovery::Asked };
                    ways.push(Way { streamed, fallback, recovery, policy });
                }
            }
        }
    }
    ways
}
