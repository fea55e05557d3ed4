//! InvokeModel in Claude's own shape, for a client whose provider is not Bedrock: a message of Anthropic's without its model, in
//! an answer that is one whole, and in a stream whose frames hold its events.
//!
//! Source: "Anthropic Claude Messages API" in the Amazon Bedrock user guide: the body says `anthropic_version` and, where it
//! has any, its trials in `anthropic_beta`; "PayloadPart" in the API reference: a frame's `bytes` are an event's data in base64.
//! The shapes of other models' own are not read: nothing but their names tells them apart.

use std::borrow::Cow;

use crate::error::{Code, Error};
use crate::model::chat::{Event, Request, Rest};
use crate::wire::chat::{Meta, push};
use crate::wire::event_stream::{Kind, write};
use crate::wire::{anthropic, base64};

/// What says that a body is a message of Anthropic's.
const VERSION: &str = "anthropic_version";

/// Trials of Anthropic's protocol, which have no meaning elsewhere.
const TRIALS: &str = "anthropic_beta";

/// Reads the body of a request to a model in its own shape, which must be Claude's.
///
/// # Errors
/// [`Code::Unsupported`] if it is in another model's, and [`Code::InvalidRequest`], naming the field where one is at fault.
pub(crate) fn read_invoke(body: &[u8]) -> Result<Request<'_>, Error> {
    let mut request = match anthropic::read_request(body) {
        Ok(request) => request,
        // What was read as a message and says that it is none is told so first.
        Err(_) if !says_version(body) => return Err(other_shape()),
        Err(error) => return Err(error),
    };
    if !request.rest.iter().any(|rest| rest.name == VERSION) {
        return Err(other_shape());
    }
    request.rest.retain(|rest| rest.name != VERSION);
    request.rest.iter_mut().filter(|rest| rest.name == TRIALS).for_each(|rest: &mut Rest<'_>| rest.hint = true);
    Ok(request)
}

fn says_version(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Version {
        anthropic_version: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Version>(body).is_ok_and(|body| body.anthropic_version.is_some())
}

fn other_shape() -> Error {
    let text = "the body has no \"anthropic_version\": this provider is not Bedrock, and of the shapes of InvokeModel only Claude's \
                can be translated";
    Error::new(Code::Unsupported, text).with_param(VERSION)
}

/// A streamed answer, written as the frames in which Claude's events come.
#[derive(Debug)]
pub(crate) struct InvokeWriter {
    writer: anthropic::StreamWriter,
    /// Events as they are framed elsewhere.
    events: Vec<u8>,
}

impl InvokeWriter {
    /// A stream of which nothing has been written.
    pub(crate) fn new(meta: Meta<'_>) -> Self {
        Self { writer: anthropic::StreamWriter::new(meta), events: Vec::new() }
    }

    /// Appends the frames for an event.
    pub(crate) fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        // By what other connections are kept alive.
        if !matches!(event, Event::Ping) {
            self.writer.event(event, &mut self.events);
            self.wrap(out);
        }
    }

    /// Appends what was held back for the end.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        self.writer.finish(&mut self.events);
        self.wrap(out);
    }

    /// Puts the data of each event, which stands on one line, into a frame.
    fn wrap(&mut self, out: &mut Vec<u8>) {
        for data in self.events.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data: ")) {
            write_chunk(data, out);
        }
        self.events.clear();
    }
}

/// A frame that holds an event of a model's own.
#[derive(serde::Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    bytes: Cow<'a, str>,
}

/// What such a frame's payload holds, in base64; none if it is no such payload.
pub(crate) fn read_chunk(payload: &[u8]) -> Option<Cow<'_, str>> {
    serde_json::from_slice::<Chunk<'_>>(payload).ok().map(|chunk| chunk.bytes)
}

/// Appends a frame that holds an event of a model's own.
pub(crate) fn write_chunk(event: &[u8], out: &mut Vec<u8>) {
    write(Kind::Event, "chunk", out, |out| {
        push(out, "{\"bytes\":\"");
        push(out, &base64::encode(event));
        push(out, "\"}");
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event_stream::Decoder;

    #[test]
    fn a_message_of_claudes_is_read_without_what_says_that_it_is_one() {
        let body = br#"{"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["x"],"max_tokens":9,"messages":[]}"#;
        let request = read_invoke(body).expect("it is one");
        assert_eq!(request.max_tokens, Some(9));
        let rest: Vec<_> = request.rest.iter().map(|rest| (&*rest.name, rest.hint)).collect();
        assert_eq!(rest, [("anthropic_beta", true)]);
    }

    #[test]
    fn another_models_shape_is_told_from_a_message_that_is_wrong() {
        let code = |body: &str| read_invoke(body.as_bytes()).map(drop).map_err(|error| error.code());
        for other in [r#"{"inputText":"hi"}"#, r#"{"messages":[{"role":"user","content":"x"}]}"#, "[]", "", "\u{0}"] {
            assert_eq!(code(other), Err(Code::Unsupported), "{other}");
        }
        let wrong = r#"{"anthropic_version":"bedrock-2023-05-31","messages":5}"#;
        assert_eq!(code(wrong), Err(Code::InvalidRequest));
    }

    #[test]
    fn each_event_of_a_message_is_a_frame_of_its_own() {
        let meta = Meta { id: "m", created: 0, model: "claude", stream_usage: true };
        let (mut writer, mut out) = (InvokeWriter::new(meta), Vec::new());
        writer.event(&Event::Begin { id: None, model: None }, &mut out);
        writer.event(&Event::Ping, &mut out);
        writer.finish(&mut out);
        let mut decoder = Decoder::new(1 << 20);
        decoder.push(&out);
        let mut kinds = Vec::new();
        while let Some(frame) = decoder.next() {
            let frame = frame.expect("a good one");
            assert_eq!((frame.kind, frame.name), (Kind::Event, "chunk"));
            let payload: serde_json::Value = serde_json::from_slice(frame.payload).expect("JSON");
            let bytes = base64::decode(payload["bytes"].as_str().expect("text")).expect("base64");
            let event: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
            kinds.push(event["type"].as_str().expect("a type").to_owned());
        }
        assert_eq!(kinds, ["message_start", "message_delta", "message_stop"]);
    }
}
