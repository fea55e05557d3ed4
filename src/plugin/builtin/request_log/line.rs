//! What stands in a line.

use std::time::Duration;

use log::Level;
use serde::{Serialize, Serializer};

use crate::calendar::Timestamp;
use crate::error::{Code, Error, Origin, Spent};
use crate::ids::Trace;
use crate::model::{Operation, Served, Tags};
use crate::plugin::{Context, Outcome};
use crate::time::micros_of;

/// The longest of a caller's own texts in a line, in bytes, bodies aside: a model's name may be as long as a body.
const LONGEST: usize = 512;

/// How a request ended, as `requests` in `/stats` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ended {
    Succeeded,
    Failed,
    /// Its caller has gone, or did not read.
    Cancelled,
}

impl Ended {
    pub(super) fn of(outcome: &Outcome) -> (Self, Level) {
        match outcome.error() {
            None => (Self::Succeeded, Level::Info),
            Some(error) if matches!(error.code(), Code::ClientClosed | Code::ClientTooSlow) => {
                (Self::Cancelled, Level::Info)
            }
            // What callers do wrong is nothing that an operator has to look after.
            Some(error) if error.origin() == Origin::Client => (Self::Failed, Level::Info),
            Some(_) => (Self::Failed, Level::Warn),
        }
    }
}

/// What was asked, as far as it is known only before.
#[derive(Debug, Default)]
pub(super) struct Asked {
    bytes: usize,
    body: Option<String>,
}

impl Asked {
    /// Of a request with this body, of which `bodies` bytes are kept.
    pub(super) fn of(body: &[u8], bodies: Option<usize>) -> Self {
        Self { bytes: body.len(), body: bodies.map(|most| beginning(body, most)) }
    }
}

/// One request at its end. What is not known is `null`; bodies are left out unless they are asked for.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    /// When it ended.
    time: String,
    pub(super) request_id: &'a str,
    pub(super) outcome: Ended,
    /// The gateway key's name.
    pub(super) key: Option<&'a str>,
    pub(super) operation: &'a str,
    /// Of what is forwarded, without the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<&'a str>,
    /// As the caller wrote it.
    pub(super) model: Option<&'a str>,
    /// Who answered, or failed last.
    pub(super) provider: Option<&'a str>,
    /// As it was sent there.
    pub(super) provider_model: Option<&'a str>,
    stream: bool,
    /// What the client has or would have over HTTP.
    pub(super) status: u16,
    /// The error's code; none if it went well.
    pub(super) error: Option<&'static str>,
    /// What the last attempt was answered, where that was an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream_status: Option<u16>,
    pub(super) attempts: u32,
    pub(super) fallbacks: u32,
    pub(super) queue_us: Option<u64>,
    upstream_us: Option<u64>,
    overhead_us: Option<u64>,
    /// From its arrival to the first event of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_token_us: Option<u64>,
    pub(super) total_us: u64,
    pub(super) tokens_in: Option<u64>,
    pub(super) tokens_out: Option<u64>,
    bytes_in: usize,
    bytes_out: u64,
    #[serde(serialize_with = "as_object", skip_serializing_if = "nothing")]
    pub(super) tags: &'a Tags,
    /// The trace that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace_id: Option<String>,
    /// The step of it that its last attempt was.
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<String>,
}

impl<'a> Line<'a> {
    /// Of a request that ended at `unix_ms` and `took` so long. `heard` is what was said in a stream.
    pub(super) fn of(
        outcome: &'a Outcome,
        context: &'a Context<'_>,
        asked: &'a Asked,
        heard: Option<Vec<u8>>,
        bodies: Option<usize>,
        unix_ms: u64,
        took: Duration,
    ) -> Self {
        let (operation, path) = named(context.operation());
        let (served, error) = (outcome.served(), outcome.error());
        let last = error.and_then(|error| error.attempts().last());
        let trace = context.trace();
        let counted = served.map(|served| (served.attempts, served.fallbacks));
        let (attempts, fallbacks) = counted.unwrap_or_else(|| error.map_or((0, 0), tried));
        let spent = served.map(spent).or_else(|| error.and_then(Error::spent));
        let reply = outcome.reply();
        // The status of a stream has been sent when it fails.
        let begun = outcome.stream().map(|_| 200);
        let status = begun.or_else(|| error.map(Error::status)).or_else(|| reply.map(|reply| reply.status()));
        // A plugin that answered says in whose name, if it was not its own.
        let of_plugin = || reply.and_then(|reply| reply.origin.as_ref());
        let provider = served.map(|served| &*served.provider).or_else(|| Some(&*of_plugin()?.0));
        let model = served.map(|served| &*served.model).or_else(|| Some(&*of_plugin()?.1));
        let answered = || reply.map(|reply| reply.body());
        let answer = bodies.and_then(|most| heard.as_deref().or_else(answered).map(|body| beginning(body, most)));
        Self {
            time: Timestamp::at(unix_ms).as_str().to_owned(),
            request_id: context.request_id().as_str(),
            outcome: Ended::of(outcome).0,
            key: context.key(),
            operation,
            path: path.map(cut),
            model: Some(context.model()).filter(|model| !model.is_empty()).map(cut),
            provider: provider.or_else(|| last.map(|last| &*last.provider)),
            provider_model: model.or_else(|| last.map(|last| &*last.model)).map(cut),
            stream: context.is_stream(),
            status: status.unwrap_or(500),
            error: error.map(|error| error.code().as_str()),
            upstream_status: last.and_then(|last| last.status),
            attempts,
            fallbacks,
            queue_us: spent.map(|spent| micros_of(spent.queue)),
            upstream_us: spent.map(|spent| micros_of(spent.upstream)),
            overhead_us: spent.map(|spent| micros_of(spent.overhead)),
            first_token_us: outcome.stream().map(|stream| micros_of(until_first(&stream.served))),
            total_us: micros_of(took),
            tokens_in: outcome.usage().map(|usage| usage.input),
            tokens_out: outcome.usage().map(|usage| usage.output),
            bytes_in: asked.bytes,
            bytes_out: outcome.stream().map_or(reply.map_or(0, |reply| reply.body().len() as u64), |s| s.bytes),
            tags: context.tags(),
            trace_id: trace.map(Trace::id),
            span_id: trace.zip(attempts.checked_sub(1)).map(|(trace, last)| trace.step(last)),
            request: asked.body.as_deref(),
            answer,
        }
    }
}

/// Attempts and fallbacks of what failed.
fn tried(error: &Error) -> (u32, u32) {
    let attempts = error.attempts();
    let left = attempts.windows(2).filter(|two| (&two[0].provider, &two[0].model) != (&two[1].provider, &two[1].model));
    (attempts.len() as u32, left.count() as u32)
}

fn spent(served: &Served) -> Spent {
    Spent { queue: served.timing.queue, upstream: served.timing.upstream, overhead: served.overhead }
}

/// An operation's name, and the path of what is forwarded, without its query, which may hold a key.
fn named(operation: &Operation) -> (&'static str, Option<&str>) {
    match operation {
        Operation::ChatCompletions => ("chat.completions", None),
        Operation::Completions => ("completions", None),
        Operation::Embeddings => ("embeddings", None),
        Operation::Responses => ("responses", None),
        Operation::Messages => ("messages", None),
        Operation::CountTokens => ("messages.count_tokens", None),
        #[cfg(feature = "bedrock")]
        Operation::Converse(_) => ("converse", None),
        #[cfg(feature = "bedrock")]
        Operation::Invoke(_) => ("invoke", None),
        Operation::Forward(forward) => (forward.method, forward.path.split('?').next()),
    }
}

/// The first `most` bytes of a body as text, cut where a character ends.
fn beginning(body: &[u8], most: usize) -> String {
    if body.len() <= most {
        return String::from_utf8_lossy(body).into_owned();
    }
    let is_inner = |at: &usize| body[*at] & 0xC0 == 0x80;
    let end = (0..=most).rev().find(|at| !is_inner(at)).unwrap_or(most);
    String::from_utf8_lossy(&body[..end]).into_owned()
}

/// The beginning of a text that may be long.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

/// From a request's arrival to the first event of its stream.
fn until_first(served: &Served) -> Duration {
    served.timing.queue + served.timing.upstream + served.timing.backoff + served.overhead
}

fn nothing(tags: &&Tags) -> bool {
    tags.is_empty()
}

fn as_object<S: Serializer>(tags: &&Tags, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(tags.iter().map(|(key, value)| (key, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_between_characters_and_read_whatever_it_is() {
        assert_eq!(beginning("naïve".as_bytes(), 3), "na");
        assert_eq!(beginning("naïve".as_bytes(), 4), "naï");
        assert_eq!(beginning("naïve".as_bytes(), 99), "naïve");
        assert_eq!(beginning(b"\xff\xfe", 1), "\u{fffd}");
        assert_eq!(beginning(&[0x80; 4], 2), "\u{fffd}\u{fffd}", "no character begins within it");
    }
}
