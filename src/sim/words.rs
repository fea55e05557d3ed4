//! The words that a model's name is made of, and what they make the simulated provider do.
//!
//! Pure: a name reads to a [`Behaviour`], and a behaviour with what is known of the name's earlier calls gives a
//! [`Verdict`]. Words join with `+`; of two that say different things about the same, the last counts. A name without
//! `lorem`, `json` or `tool` echoes.

use std::fmt;
use std::time::Duration;

use super::content::seed;
use crate::time::parse_duration;

/// The most tokens that `lorem-N` gives: about 6 MB.
const MAX_LOREM: u64 = 1_000_000;

/// The words, as they are listed to whoever used another one.
const WORDS: &str = "echo, lorem-N, json, tool, slow-D, ttft-D, gap-D, fail-STATUS, fail-STATUS-once, fail-429-after-D, \
                     flaky-P, hang, reset, reset-once, cut-N, stall-N, garbage-N, no-done, error-in-200, down-D";

/// A name of each kind, for `GET /v1/models`.
pub(super) const SAMPLES: [&str; 8] =
    ["echo", "lorem-100", "json", "tool", "lorem-100+gap-10ms", "echo+slow-1s", "fail-500-once", "flaky-10"];

/// Whether a name may ask for a panic of the gateway's worker: in test builds alone.
const PANIC_ALLOWED: bool = cfg!(debug_assertions);

/// What is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Say {
    /// The last user message.
    #[default]
    Echo,
    /// So many tokens of filler.
    Lorem(u64),
    /// A JSON object.
    Json,
    /// A call of the first tool offered.
    Tool,
}

/// How often something happens to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Often {
    Always,
    /// To its first call alone.
    Once,
}

/// An error answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: u16,
    /// What `Retry-After` says.
    pub(super) retry_after: Option<Duration>,
}

/// What a name asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Behaviour {
    pub(super) say: Say,
    /// The wait before the first byte.
    pub(super) slow: Duration,
    /// The wait between the head and the first event.
    pub(super) ttft: Duration,
    /// The wait between two tokens.
    pub(super) gap: Duration,
    fail: Option<(Failure, Often)>,
    /// Hundredths of a percent.
    flaky: u64,
    hang: bool,
    reset: Option<Often>,
    down: Option<Duration>,
    error_in_200: bool,
    panic: bool,
    /// The connection dies after so many tokens.
    pub(super) cut: Option<u64>,
    /// Silence after so many tokens.
    pub(super) stall: Option<u64>,
    /// The event, counted from one, that is no JSON.
    pub(super) garbage: Option<u64>,
    /// The stream ends without its end marker.
    pub(super) no_done: bool,
}

/// What is known of a name's earlier calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    /// How many there were.
    pub(super) calls: u64,
    /// The time since the first one; zero for the first.
    pub(super) since_first: Duration,
}

/// What becomes of one call, once `slow` has been waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered.
    Answer,
    /// Nothing ever comes.
    Hang,
    /// The connection is reset.
    Reset,
    /// It is answered with an error.
    Fail(Failure),
    /// It is answered with status 200 and an error object.
    ErrorIn200,
    /// It is answered with the marker on which a worker of the gateway panics.
    Panic,
}

/// A name has a word that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnknownWord(String);

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let panic = if PANIC_ALLOWED { ", panic" } else { "" };
        write!(f, "the simulated provider has no word '{}'; join words of these with '+': {WORDS}{panic}", self.0)
    }
}

impl Behaviour {
    /// Reads a model's name.
    pub(super) fn parse(name: &str) -> Result<Self, UnknownWord> {
        let mut behaviour = Self::default();
        for word in name.split('+') {
            behaviour.take(word).ok_or_else(|| UnknownWord(word.chars().take(80).collect()))?;
        }
        Ok(behaviour)
    }

    fn take(&mut self, word: &str) -> Option<()> {
        match word {
            "echo" => self.say = Say::Echo,
            "json" => self.say = Say::Json,
            "tool" => self.say = Say::Tool,
            "hang" => self.hang = true,
            "reset" => self.reset = Some(Often::Always),
            "reset-once" => self.reset = Some(Often::Once),
            "no-done" => self.no_done = true,
            "error-in-200" => self.error_in_200 = true,
            "panic" if PANIC_ALLOWED => self.panic = true,
            _ => {
                let (kind, argument) = word.split_once('-')?;
                match kind {
                    "lorem" => self.say = Say::Lorem(number(argument).filter(|n| *n <= MAX_LOREM)?),
                    "slow" => self.slow = parse_duration(argument).ok()?,
                    "ttft" => self.ttft = parse_duration(argument).ok()?,
                    "gap" => self.gap = parse_duration(argument).ok()?,
                    "fail" => self.fail = Some(failure(argument)?),
                    "flaky" => self.flaky = percent(argument)?,
                    "cut" => self.cut = Some(number(argument)?),
                    "stall" => self.stall = Some(number(argument)?),
                    "garbage" => self.garbage = Some(number(argument).filter(|n| *n > 0)?),
                    "down" => self.down = Some(parse_duration(argument).ok()?),
                    _ => return None,
                }
            }
        }
        Some(())
    }

    /// Whether answering takes time, so that the peer can leave meanwhile.
    pub(super) fn waits(&self) -> bool {
        self.hang || self.stall.is_some() || !(self.slow.is_zero() && self.ttft.is_zero() && self.gap.is_zero())
    }

    /// What becomes of a call with `body`.
    pub(super) fn judge(&self, past: Past, body: &[u8]) -> Verdict {
        let now = |often| often == Often::Always || past.calls == 0;
        let unavailable = Failure { status: 503, retry_after: None };
        if self.panic {
            return Verdict::Panic;
        }
        if self.hang {
            return Verdict::Hang;
        }
        if self.reset.is_some_and(now) {
            return Verdict::Reset;
        }
        if self.down.is_some_and(|down| past.since_first < down) {
            return Verdict::Fail(unavailable);
        }
        if let Some((failure, _)) = self.fail.filter(|(_, often)| now(*often)) {
            return Verdict::Fail(failure);
        }
        if self.flaky > 0 && seed(body) % 10_000 < self.flaky {
            return Verdict::Fail(unavailable);
        }
        if self.error_in_200 { Verdict::ErrorIn200 } else { Verdict::Answer }
    }
}

fn number(text: &str) -> Option<u64> {
    // `parse` alone takes a sign.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A percentage with up to two decimals, in hundredths.
fn percent(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value: f64 = plain.then(|| text.parse().ok()).flatten()?;
    (0.0..=100.0).contains(&value).then_some((value * 100.0).round() as u64)
}

fn failure(argument: &str) -> Option<(Failure, Often)> {
    let (status, rest) = argument.split_once('-').map_or((argument, None), |(status, rest)| (status, Some(rest)));
    let status = number(status).and_then(|n| u16::try_from(n).ok()).filter(|n| (400..600).contains(n))?;
    let (retry_after, often) = match rest {
        None => (None, Often::Always),
        Some("once") => (None, Often::Once),
        Some(rest) => (Some(parse_duration(rest.strip_prefix("after-")?).ok()?), Often::Once),
    };
    Some((Failure { status, retry_after }, often))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Past = Past { calls: 0, since_first: Duration::ZERO };
    const LATER: Past = Past { calls: 3, since_first: Duration::from_secs(2) };

    fn judge(name: &str, past: Past) -> Verdict {
        Behaviour::parse(name).expect("a good name").judge(past, b"{}")
    }

    fn fail(status: u16) -> Verdict {
        Verdict::Fail(Failure { status, retry_after: None })
    }

    #[test]
    fn every_listed_word_is_one() {
        for word in WORDS.split(", ") {
            let word = word.replace("STATUS", "500").replace("-N", "-3").replace("-D", "-5ms").replace("-P", "-10");
            assert!(Behaviour::parse(&word).is_ok(), "{word}");
        }
        assert_eq!(Behaviour::parse("panic").is_ok(), PANIC_ALLOWED);
        for name in SAMPLES {
            assert!(Behaviour::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn words_join() {
        let behaviour = Behaviour::parse("lorem-100+gap-10ms+ttft-1.5s+slow-2ms+cut-7+no-done").expect("good");
        let wanted = Behaviour {
            say: Say::Lorem(100),
            gap: Duration::from_millis(10),
            ttft: Duration::from_millis(1500),
            slow: Duration::from_millis(2),
            cut: Some(7),
            no_done: true,
            ..Behaviour::default()
        };
        assert_eq!(behaviour, wanted);
    }

    #[test]
    fn an_unknown_word_is_named_with_the_known_ones() {
        for name in [
            "",
            "gpt-4o",
            "echo+",
            "Echo",
            "lorem",
            "lorem-",
            "lorem-+5",
            "lorem--5",
            "lorem-1000001",
            "slow-5",
            "slow-",
            "fail-200",
            "fail-600",
            "fail-500-twice",
            "fail-429-after-",
            "flaky-101",
            "flaky--1",
            "flaky-NaN",
            "flaky-",
            "garbage-0",
            "cut",
            "echo lorem-5",
            "fail-+500",
            "down",
        ] {
            let error = Behaviour::parse(name).expect_err(name).to_string();
            assert!(error.contains("lorem-N") && error.contains("down-D"), "{error}");
        }
        assert!(Behaviour::parse("echo+wat").expect_err("unknown").to_string().contains("'wat'"));
    }

    #[test]
    fn a_verdict_follows_from_the_name_and_its_past() {
        for (name, first, later) in [
            ("echo", Verdict::Answer, Verdict::Answer),
            ("fail-500", fail(500), fail(500)),
            ("fail-502-once", fail(502), Verdict::Answer),
            ("reset", Verdict::Reset, Verdict::Reset),
            ("reset-once", Verdict::Reset, Verdict::Answer),
            ("hang", Verdict::Hang, Verdict::Hang),
            ("error-in-200", Verdict::ErrorIn200, Verdict::ErrorIn200),
            ("down-3s", fail(503), fail(503)),
            ("down-1s", fail(503), Verdict::Answer),
            ("flaky-0", Verdict::Answer, Verdict::Answer),
            ("flaky-100", fail(503), fail(503)),
            ("fail-400-once+error-in-200", fail(400), Verdict::ErrorIn200),
        ] {
            assert_eq!((judge(name, FIRST), judge(name, LATER)), (first, later), "{name}");
        }
        if PANIC_ALLOWED {
            assert_eq!(judge("panic+hang", LATER), Verdict::Panic);
        }
        let after = Failure { status: 429, retry_after: Some(Duration::from_secs(2)) };
        assert_eq!(judge("fail-429-after-2s", FIRST), Verdict::Fail(after));
        assert_eq!(judge("fail-429-after-2s", LATER), Verdict::Answer);
    }

    #[test]
    fn flaky_fails_about_its_share_and_the_same_bodies_each_time() {
        let behaviour = Behaviour::parse("flaky-20").expect("good");
        let failed = |n: u32| behaviour.judge(FIRST, format!("body {n}").as_bytes()) != Verdict::Answer;
        let share = (0..10_000).filter(|n| failed(*n)).count();
        assert!((1800..2200).contains(&share), "{share} of 10,000");
        assert!((0..100).all(|n| failed(n) == failed(n)));
    }
}
