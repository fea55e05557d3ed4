//! What a cell of the matrix must come to, derived from the interface and from nothing else: pure rules, written before
//! the loop that they judge.
//!
//! Where the documents leave it open, this is decided here, and said in the table's notes ([`DECIDED`]).

use std::time::Duration;

use super::rows::{Fault, Often, Row, Way};

/// What the documents do not say, and what is expected instead of nothing.
pub(crate) const DECIDED: &[&str] = &[
    "A 401 or 403 of a provider that is sent no key refuses the request and no key of ours: it is passed on like any other 4xx. `credentials_exhausted` is for keys that were refused.",
    "What a 429 without `Retry-After` rests for, 5 s, is a guess: it is waited for by whom has no other target, if it is within `retry_after_patience`; who has one goes there at once. A provider without keys rests as one key does.",
    "A 404 whose words speak of no model is an answer like any other 4xx; one that says that there is no such model leads to the next target.",
    "`upstream_bad_response` and an error inside a 200 are retried on the same target as a 5xx is; one that says that the context is too long goes on to the next target.",
    "A 504 that the upstream answers is an answer, not silence: it is retried.",
    "With `stream_recovery: buffer`, a cut stream is retried on the same target, one that fell silent is a time-out and goes on to the next; when all has failed, the caller has an answer with the status of its code instead of a stream.",
    "`content_filter` as the `error.code` of a 400 is a content-policy refusal as `content_policy_violation` is.",
    "A worker's panic is the gateway's own error: it is not retried, only failed over.",
    "A request whose own deadline has passed tries no further target, and lists none that it did not try.",
    "`attempts[].status` of an error inside a 200 is 502, as that of its answer.",
];

/// The times that the rules speak of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) max_retries: usize,
    pub(crate) backoff_initial: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) patience: Duration,
    /// The limit of an attempt, up to the first event of a stream, and of a stream's silence.
    pub(crate) silence: Duration,
    /// Whether providers' health is checked.
    pub(crate) checked: bool,
}

/// How long a key rests after a 429 that says nothing of it.
const COOLING: Duration = Duration::from_secs(5);

/// What an attempt's failure leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The same target after a wait, then the next one.
    Same,
    /// The next target.
    Other,
    /// Nothing: the caller is told.
    Nowhere,
}

/// Why an attempt failed before anything of it reached the caller.
#[derive(Clone, Copy, Debug)]
struct Failure {
    code: &'static str,
    /// The upstream's own status.
    upstream: Option<u16>,
    /// The status that the caller sees.
    status: u16,
    /// `error.code`, where it is the upstream's own.
    words: Option<&'static str>,
    after: Option<Duration>,
    /// How long the key rests of which nothing was said.
    rests: Option<Duration>,
    next: Next,
}

#[derive(Clone, Copy, Debug)]
enum Try {
    Whole,
    /// It broke after it had begun.
    Broken(Failure),
    Failed(Failure),
}

/// How a request ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A complete answer, of so many words if that is known.
    Whole(Option<usize>),
    /// An answer with an error.
    Failed { status: u16, code: &'static str, words: Option<&'static str>, after: Option<Duration> },
    /// An error event, no `[DONE]`, and a connection closed without the last chunk.
    Broken(&'static str),
}

/// What stands between two tries at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Anything from nothing to this.
    BackOff(Duration),
    /// As long as the provider said.
    RetryAfter(Duration),
}

/// One attempt: at which target, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempted {
    pub(crate) target: usize,
    pub(crate) outcome: &'static str,
    pub(crate) status: Option<u16>,
}

/// What a cell must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) end: End,
    pub(crate) attempts: Vec<Attempted>,
    /// Between the tries at the first target.
    pub(crate) waits: Vec<Wait>,
    /// Attempts that ended by a time-out, so that the upstream sees us leave.
    pub(crate) left: usize,
    /// Requests that came without an attempt of their own: a kept connection had ended before a byte of the answer, and the
    /// attempt was made on a fresh one.
    pub(crate) unseen: usize,
}

impl Expected {
    /// How many attempts are made at a target.
    pub(crate) fn tries(&self, target: usize) -> usize {
        self.attempts.iter().filter(|attempt| attempt.target == target).count()
    }

    /// How many requests reach a target's upstream.
    pub(crate) fn arrivals(&self, row: &Row, target: usize) -> usize {
        match (target, row.fault) {
            (0, Fault::Gone(_, false)) => 0,
            (0, _) => self.tries(target) + self.unseen,
            _ => self.tries(target),
        }
    }
}

/// Everything that a cell may come to: one thing, unless its row leaves it open.
pub(crate) fn expected(row: &Row, way: Way, times: &Times) -> Vec<Expected> {
    match row.fault {
        Fault::OneOf(faults) => faults.iter().map(|fault| chain(row, *fault, way, times)).collect(),
        // A check of its health may have left a connection, which this fault ends: the first attempt finds it stale.
        Fault::Gone(often, true) if times.checked => {
            let stale = match often {
                Often::Once => Fault::Well(None),
                Often::Always => row.fault,
            };
            vec![chain(row, row.fault, way, times), Expected { unseen: 1, ..chain(row, stale, way, times) }]
        }
        fault => vec![chain(row, fault, way, times)],
    }
}

/// The attempt loop of the interface, over a first target of this fault and a second one that is well.
fn chain(row: &Row, fault: Fault, way: Way, times: &Times) -> Expected {
    let (mut attempts, mut waits, mut left) = (Vec::new(), Vec::new(), 0);
    let limit = row.deadline.unwrap_or(Duration::MAX);
    let is_late = |failure: &Failure| failure.upstream.is_none() && failure.status == 504;
    loop {
        let tried = attempts.len();
        let outcome = tried_once(fault, way, tried);
        let (code, status) = match outcome {
            Try::Whole => ("ok", None),
            Try::Broken(failure) | Try::Failed(failure) => (failure.code, failure.upstream),
        };
        attempts.push(Attempted { target: 0, outcome: code, status });
        let failure = match outcome {
            Try::Whole => return Expected { end: End::Whole(words(fault)), attempts, waits, left, unseen: 0 },
            Try::Broken(failure) => {
                left += usize::from(is_late(&failure));
                return Expected { end: End::Broken(failure.code), attempts, waits, left, unseen: 0 };
            }
            Try::Failed(failure) => failure,
        };
        left += usize::from(is_late(&failure));
        let wait = failure.after.or(failure.rests.filter(|_| !way.fallback));
        let waited = wait.is_none_or(|wait| wait <= times.patience && wait < limit)
            && (wait.is_some() || failure.rests.is_none());
        if failure.next == Next::Same && tried < times.max_retries && waited {
            let cap = times.backoff_initial.saturating_mul(1 << tried).min(times.backoff_max);
            waits.push(wait.map_or(Wait::BackOff(cap), Wait::RetryAfter));
            continue;
        }
        // Its own time is over where silence took all of it.
        let over = is_late(&failure) && row.deadline.is_some();
        if way.fallback && failure.next != Next::Nowhere && !over {
            attempts.push(Attempted { target: 1, outcome: "ok", status: None });
            return Expected { end: End::Whole(Some(2)), attempts, waits, left, unseen: 0 };
        }
        let Failure { status, code, words, after, .. } = failure;
        return Expected { end: End::Failed { status, code, words, after }, attempts, waits, left, unseen: 0 };
    }
}

/// How many words a whole answer of the first target has, where that is said by its name.
fn words(fault: Fault) -> Option<usize> {
    match fault {
        Fault::Well(words) => words,
        Fault::Garbage(..) => Some(9),
        _ => None,
    }
}

/// What the `nth` try comes to.
fn tried_once(fault: Fault, way: Way, nth: usize) -> Try {
    let ours =
        |code, status, next| Failure { code, upstream: None, status, words: None, after: None, rests: None, next };
    let theirs = |status, words, next| Failure {
        code: "upstream_error",
        upstream: Some(status),
        status,
        words,
        after: None,
        rests: None,
        next,
    };
    // A stream that fails after its first event: unseen while it is buffered.
    let midway = |failure: Failure| match way.is_buffered() {
        true => Try::Failed(failure),
        false => Try::Broken(failure),
    };
    let bad = ours("upstream_bad_response", 502, Next::Same);
    let gone = ours("upstream_connect_error", 502, Next::Same);
    let silent = match way.streamed {
        true => ours("first_token_timeout", 504, Next::Other),
        false => ours("upstream_timeout", 504, Next::Other),
    };
    let inside = theirs(502, None, Next::Same);
    match fault {
        Fault::Well(_) => Try::Whole,
        Fault::Status(_, Often::Once, _) | Fault::Gone(Often::Once, _) if nth > 0 => Try::Whole,
        Fault::Status(status, _, after) => {
            let rests = (status == 429 && after.is_none()).then_some(COOLING);
            Try::Failed(Failure { after, rests, ..theirs(status, None, next(status)) })
        }
        Fault::Says(status, code) => Try::Failed(theirs(status, Some(code), next_of(code))),
        Fault::InsideOk(Some(code)) => Try::Failed(theirs(502, Some(code), next_of(code))),
        Fault::InsideOk(None) => Try::Failed(inside),
        Fault::Silent => Try::Failed(silent),
        Fault::Gone(..) => Try::Failed(gone),
        Fault::Cut(_) | Fault::Garbage(..) if !way.streamed => Try::Failed(bad),
        Fault::Cut(0) => Try::Failed(gone),
        Fault::Cut(_) => midway(ours("stream_cut", 502, Next::Same)),
        Fault::Stalled(0) => Try::Failed(silent),
        Fault::Stalled(_) if !way.streamed => Try::Failed(silent),
        Fault::Stalled(_) => midway(ours("stream_idle_timeout", 504, Next::Other)),
        Fault::Garbage(_, false) => Try::Whole,
        Fault::Garbage(1, true) => Try::Failed(bad),
        Fault::Garbage(..) => midway(bad),
        Fault::Nonsense => Try::Failed(bad),
        Fault::FailsMidway if !way.streamed => Try::Failed(inside),
        Fault::FailsMidway => midway(inside),
        Fault::Panics => Try::Failed(ours("internal", 500, Next::Other)),
        Fault::OneOf(_) => unreachable!("it was taken apart"),
    }
}

/// The interface's "5xx, 429, 408, 529 …: yes; content policy and other 4xx: no".
fn next(status: u16) -> Next {
    match status {
        408 | 429 | 500..=599 => Next::Same,
        _ => Next::Nowhere,
    }
}

/// What an error's own words say beyond its status.
fn next_of(code: &str) -> Next {
    match code {
        "context_length_exceeded" | "model_not_found" => Next::Other,
        _ => Next::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::rows::{On, ROWS, Recovery, ways};

    const TIMES: Times = Times {
        max_retries: 2,
        backoff_initial: Duration::from_millis(500),
        backoff_max: Duration::from_secs(5),
        patience: Duration::from_secs(10),
        silence: Duration::from_secs(60),
        checked: false,
    };

    fn row(name: &str) -> &'static Row {
        ROWS.iter().find(|row| row.name == name).expect(name)
    }

    fn only(name: &str, streamed: bool, fallback: bool) -> Expected {
        let way = Way { streamed, fallback, recovery: Recovery::Off, policy: "block" };
        expected(row(name), way, &TIMES).remove(0)
    }

    /// Rules that are derived have to be looked at from the other side, too: these are written out by hand.
    #[test]
    fn some_cells_written_out_by_hand_are_what_the_rules_say() {
        let down = only("fail-503", false, true);
        assert_eq!((down.tries(0), down.tries(1), &down.end), (3, 1, &End::Whole(Some(2))));
        let caps = [500, 1000].map(|ms| Wait::BackOff(Duration::from_millis(ms)));
        assert_eq!(down.waits, caps);
        let refused = only("fail-400", true, true);
        assert_eq!((refused.tries(0), refused.tries(1)), (1, 0));
        let silent = only("hang", true, false);
        let end = End::Failed { status: 504, code: "first_token_timeout", words: None, after: None };
        assert_eq!((silent.tries(0), silent.left, silent.end), (1, 1, end));
        let cut = only("lorem-9+cut-3", true, true);
        assert_eq!((cut.end, cut.attempts.len()), (End::Broken("stream_cut"), 1));
        let late = only("429, retry-after 20", false, true);
        assert_eq!((late.tries(0), late.tries(1)), (1, 1));
        let panics = only("panic", false, false);
        assert_eq!(panics.attempts, [Attempted { target: 0, outcome: "internal", status: None }]);
    }

    #[test]
    fn every_behaviour_is_there_with_and_without_everything() {
        for words in ["echo", "json", "tool", "slow", "ttft", "gap", "once", "after", "flaky", "hang", "reset", "cut"] {
            assert!(ROWS.iter().any(|row| row.name.contains(words)), "{words}");
        }
        for words in ["stall", "garbage", "no-done", "error-in-200", "down", "panic"] {
            assert!(ROWS.iter().any(|row| row.name.contains(words)), "{words}");
        }
        for status in [400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504, 529] {
            assert!(ROWS.iter().any(|row| row.name == format!("fail-{status}")), "{status}");
        }
        assert!(ROWS.iter().any(|row| matches!(row.on, On::Nobody)));
        assert_eq!(ways(row("echo"), &["block", "error"]).len(), 8);
        let names: std::collections::BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
    }
}
