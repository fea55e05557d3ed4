//! What stands in a line.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::calendar::Utc;
use crate::error::{Error, Spent};
use crate::model::{Operation, Served, Tags};
use crate::plugin::{Context, Outcome};
use crate::time::micros_of;

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
    request_id: &'a str,
    /// The gateway key's name.
    key: Option<&'a str>,
    operation: &'a str,
    /// Of what is forwarded, without the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    /// As the caller wrote it.
    model: Option<&'a str>,
    /// Who answered, or failed last.
    provider: Option<&'a str>,
    /// As it was sent there.
    provider_model: Option<&'a str>,
    stream: bool,
    /// What the client has or would have over HTTP.
    status: u16,
    /// The error's code; none if it went well.
    error: Option<&'static str>,
    attempts: u32,
    fallbacks: u32,
    queue_us: Option<u64>,
    upstream_us: Option<u64>,
    overhead_us: Option<u64>,
    total_us: u64,
    tokens_in: Option<u64>,
    tokens_out: Option<u64>,
    bytes_in: usize,
    bytes_out: u64,
    #[serde(serialize_with = "as_object", skip_serializing_if = "nothing")]
    tags: &'a Tags,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
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
            time: rfc3339(unix_ms),
            request_id: context.request_id().as_str(),
            key: context.key(),
            operation,
            path,
            model: Some(context.model()).filter(|model| !model.is_empty()),
            provider: provider.or_else(|| last.map(|last| &*last.provider)),
            provider_model: model.or_else(|| last.map(|last| &*last.model)),
            stream: context.is_stream(),
            status: status.unwrap_or(500),
            error: error.map(|error| error.code().as_str()),
            attempts,
            fallbacks,
            queue_us: spent.map(|spent| micros_of(spent.queue)),
            upstream_us: spent.map(|spent| micros_of(spent.upstream)),
            overhead_us: spent.map(|spent| micros_of(spent.overhead)),
            total_us: micros_of(took),
            tokens_in: outcome.usage().map(|usage| usage.input),
            tokens_out: outcome.usage().map(|usage| usage.output),
            bytes_in: asked.bytes,
            bytes_out: outcome.stream().map_or(reply.map_or(0, |reply| reply.body().len() as u64), |s| s.bytes),
            tags: context.tags(),
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

fn nothing(tags: &&Tags) -> bool {
    tags.is_empty()
}

fn as_object<S: Serializer>(tags: &&Tags, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(tags.iter().map(|(key, value)| (key, value)))
}

/// A time in UTC with milliseconds, as RFC 3339 writes it.
fn rfc3339(unix_ms: u64) -> String {
    let (Utc { year, month, day, hour, minute, second }, ms) = (Utc::at(unix_ms / 1000), unix_ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_says() {
        for (ms, wanted) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_001, "2024-02-29T23:59:59.001Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), wanted);
        }
    }

    #[test]
    fn a_body_is_cut_between_characters_and_read_whatever_it_is() {
        assert_eq!(beginning("naïve".as_bytes(), 3), "na");
        assert_eq!(beginning("naïve".as_bytes(), 4), "naï");
        assert_eq!(beginning("naïve".as_bytes(), 99), "naïve");
        assert_eq!(beginning(b"\xff\xfe", 1), "\u{fffd}");
        assert_eq!(beginning(&[0x80; 4], 2), "\u{fffd}\u{fffd}", "no character begins within it");
    }
}
