//! What came of the requests to one target, counted under one leaf lock.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::metrics::{Dist, Tally as Times};
use crate::transport::TransportErrorKind;

/// Kinds of errors that are told apart; those beyond count as one.
const MOST_KINDS: usize = 64;

/// The longest example of an error, in characters.
const MOST_WORDS: usize = 160;

/// So many failures of one kind that time will not mend, and no success before, end the run.
const HOPELESS: u64 = 10;

/// A request that was sent by so much later than it was due was late, in microseconds.
const LATE_US: u64 = 1_000;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What kind: an HTTP status with the code beside it, or how the connection failed.
    pub(super) kind: String,
    /// What was said of it, for a person.
    pub(super) words: String,
    /// Whether the next request will fare the same.
    lasting: bool,
}

/// What is counted.
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) late: u64,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    /// By kind: how many, and the first one's words.
    pub(super) errors: BTreeMap<String, (u64, String)>,
    lasting: u64,
    latency: Times,
    lateness: Times,
    first: Times,
    gap: Times,
}

/// The distributions so far, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dists {
    /// From when a request was due to the end of its answer; answers that were whole alone.
    pub(super) latency: Option<Dist>,
    /// From when a request was due until it was sent.
    pub(super) lateness: Option<Dist>,
    /// From when a request was due to its stream's first event.
    pub(super) first: Option<Dist>,
    /// Between two events of a stream.
    pub(super) gap: Option<Dist>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            sent: 0,
            late: 0,
            succeeded: 0,
            failed: 0,
            errors: BTreeMap::new(),
            lasting: 0,
            latency: Times::precise(),
            lateness: Times::precise(),
            first: Times::precise(),
            gap: Times::precise(),
        }
    }

    /// A request goes out, so much later than it was due.
    pub(super) fn sends(&mut self, late_us: u64) {
        self.sent += 1;
        self.late += u64::from(late_us >= LATE_US);
        self.lateness.record(late_us);
    }

    /// A stream's first event came, so long after its request was due.
    pub(super) fn begins(&mut self, us: u64) {
        self.first.record(us);
    }

    /// A stream's next event came, so long after the one before.
    pub(super) fn goes_on(&mut self, us: u64) {
        self.gap.record(us);
    }

    /// A whole answer, so long after its request was due.
    pub(super) fn succeeds(&mut self, us: u64) {
        self.succeeded += 1;
        self.latency.record(us);
    }

    /// A request failed.
    pub(super) fn fails(&mut self, fault: Fault) {
        self.failed += 1;
        self.lasting += u64::from(fault.lasting);
        let full = self.errors.len() >= MOST_KINDS && !self.errors.contains_key(&fault.kind);
        let kind = if full { "other".to_owned() } else { fault.kind };
        self.errors.entry(kind).or_insert_with(|| (0, fault.words)).0 += 1;
    }

    /// Whether nothing but failures came that time will not mend.
    pub(super) fn is_hopeless(&self) -> bool {
        self.succeeded == 0 && self.lasting == self.failed && self.failed >= HOPELESS
    }

    pub(super) fn dists(&self) -> Dists {
        Dists {
            latency: self.latency.dist(),
            lateness: self.lateness.dist(),
            first: self.first.dist(),
            gap: self.gap.dist(),
        }
    }
}

impl Fault {
    /// An answer with a status that is no success.
    pub(super) fn status(status: u16, body: &[u8]) -> Self {
        let (code, words) = read(body);
        let kind = code.map_or_else(|| status.to_string(), |code| format!("{status} {code}"));
        Self { kind, words, lasting: matches!(status, 401 | 403 | 404 | 405) }
    }

    /// An error in a stream.
    pub(super) fn event(data: &[u8]) -> Self {
        let (code, words) = read(data);
        Self { kind: format!("stream: {}", code.as_deref().unwrap_or("error")), words, lasting: false }
    }

    /// A stream that ended without its end.
    pub(super) fn cut() -> Self {
        Self { kind: "stream: no end".to_owned(), words: "it ended before its end mark".to_owned(), lasting: false }
    }

    /// What is no answer at all.
    pub(super) fn transport(kind: TransportErrorKind, words: &str) -> Self {
        use TransportErrorKind as Kind;
        let (name, lasting) = match kind {
            Kind::Resolve => ("name not found", true),
            Kind::Connect | Kind::Refused => ("connect", true),
            Kind::ConnectTimeout => ("connect timeout", true),
            Kind::Tls => ("tls", true),
            Kind::Timeout => ("timeout", false),
            Kind::Send | Kind::NoAnswer => ("closed unanswered", false),
            Kind::Cut => ("cut", false),
            Kind::TooLarge => ("answer too large", false),
            Kind::Protocol => ("not http", false),
            Kind::Cancelled(_) => ("cancelled", false),
        };
        Self { kind: name.to_owned(), words: clean(words), lasting }
    }
}

/// An error's code, ours if there is one, and its message.
fn read(body: &[u8]) -> (Option<String>, String) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return (None, clean(&String::from_utf8_lossy(body)));
    };
    let text = |path: &str| value.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
    let code = ["/sluicegate/code", "/error/code", "/error/type"].into_iter().find_map(text);
    let message = ["/error/message", "/message"].into_iter().find_map(text);
    (code.map(clean), message.map(clean).unwrap_or_default())
}

/// Others' words on one line, and not too many of them.
fn clean(words: &str) -> String {
    let text: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_WORDS).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_called_by_its_status_and_our_code_before_the_upstreams() {
        let ours = br#"{"error":{"message":"full","code":"x"},"sluicegate":{"code":"queue_full"}}"#;
        for (body, kind) in [
            (&ours[..], "429 queue_full"),
            (br#"{"error":{"code":"rate_limit_exceeded","type":"t"}}"#, "429 rate_limit_exceeded"),
            (br#"{"type":"error","error":{"type":"overloaded_error"}}"#, "429 overloaded_error"),
            (b"<html>", "429"),
        ] {
            assert_eq!(Fault::status(429, body).kind, kind);
        }
        assert_eq!(Fault::event(ours).kind, "stream: queue_full");
        assert_eq!(Fault::status(500, b"a\x1b[2Jb").words, "a [2Jb");
    }

    #[test]
    fn only_failures_that_last_and_no_success_are_hopeless() {
        let refused = || Fault::transport(TransportErrorKind::Connect, "refused");
        let mut tally = Tally::new();
        (0..9).for_each(|_| tally.fails(refused()));
        assert!(!tally.is_hopeless());
        tally.fails(refused());
        assert!(tally.is_hopeless() && tally.errors["connect"] == (10, "refused".to_owned()));
        tally.fails(Fault::status(503, b""));
        assert!(!tally.is_hopeless(), "a refusal of another kind says that somebody is there");
    }

    #[test]
    fn kinds_are_bounded() {
        let mut tally = Tally::new();
        for code in 0..100 {
            tally.fails(Fault::status(500, format!(r#"{{"error":{{"code":"c{code}"}}}}"#).as_bytes()));
        }
        assert_eq!((tally.errors.len(), tally.errors["other"].0), (MOST_KINDS + 1, 36));
    }
}
