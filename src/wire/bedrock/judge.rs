//! Bedrock's answers where they pass through: is it an error, what did it cost, is it all there. Their bytes go on as they are.
//!
//! Source: "Converse", "InvokeModel" and their streams in the Amazon Bedrock API reference; "Anthropic Claude Messages API" in
//! its user guide for what Claude says there.

use serde::Deserialize;

use super::error::{of_answer, of_frame};
use super::input::{Input, Wrong};
use super::invoke::read_chunk;
use super::reply;
use crate::error::{Code, Error, UpstreamAnswer};
use crate::model::{BodyFields, Named, Operation, Usage};
use crate::wire::base64;
use crate::wire::event_stream::{Frame, Kind};
use crate::wire::openai::{Step, is_success};

/// The status of an error that a model tells within its stream.
const INSIDE_STREAM: u16 = 502;

/// Checks the body of a request whose model and stream the route has told.
///
/// # Errors
/// [`Code::InvalidRequest`] if the body of a Converse request is no JSON object, or nested over 128 deep. What goes to a model
/// in its own shape may be anything.
pub(crate) fn parse(operation: &Operation, body: &[u8]) -> Result<BodyFields, Error> {
    let is_object = || {
        let mut input = Input::lenient(body)?;
        input.object(|_, _| Ok(false))?;
        input.end()
    };
    let Named { model, stream } = match operation {
        Operation::Converse(named) => {
            is_object().map_err(Wrong::of_request)?;
            named.clone()
        }
        Operation::Invoke(named) => named.clone(),
        _ => return Ok(BodyFields::default()),
    };
    Ok(BodyFields { model, stream, include_usage: true, ..BodyFields::default() })
}

/// Judges an answer that was read whole; gives the tokens, if they were counted. `error_type` is what the answer's header
/// `x-amzn-errortype` says.
///
/// # Errors
/// [`Code::UpstreamError`] with Bedrock's own words for a status of 400 or more; [`Code::UpstreamBadResponse`] for any other
/// that is no success, and for an answer of Converse that is none. What a model answers in its own shape may be anything.
pub(crate) fn decode(
    operation: &Operation,
    (status, error_type): (u16, Option<&str>),
    body: &[u8],
) -> Result<Option<Usage>, Error> {
    if status >= 400 {
        return Err(of_answer(status, error_type, body));
    }
    if !is_success(status) {
        let text = format!("the provider answered with status {status}, which is neither an answer nor an error");
        return Err(Error::new(Code::UpstreamBadResponse, text));
    }
    if is_invoke(operation) {
        let answer: ModelAnswer = serde_json::from_slice(body).unwrap_or_default();
        return Ok(answer.usage.map(Usage::from));
    }
    converse(body).map_err(Wrong::of_reply)
}

/// Whether it is asked for, and answered, in a model's own shape.
fn is_invoke(operation: &Operation) -> bool {
    matches!(operation, Operation::Invoke(_))
}

fn converse(body: &[u8]) -> Result<Option<Usage>, Wrong> {
    let mut input = Input::lenient(body)?;
    let (mut usage, mut output) = (None, false);
    input.object(|input, key| {
        match key {
            "usage" => usage = Some(reply::usage(input)?.into()),
            // A service that does not know the call says so in an answer without one.
            "output" => {
                input.raw()?;
                output = true;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match output {
        true => input.end().map(|_| usage),
        false => input.missing("output"),
    }
}

/// What a model answers in its own shape, as far as it is known.
#[derive(Default, Deserialize)]
struct ModelAnswer {
    #[serde(default)]
    usage: Option<ModelUsage>,
}

/// Tokens as models count them: Claude and those that resemble it, those that resemble OpenAI's, Nova.
#[derive(Deserialize)]
struct ModelUsage {
    #[serde(default, alias = "prompt_tokens", alias = "inputTokens")]
    input_tokens: Option<u64>,
    #[serde(default, alias = "completion_tokens", alias = "outputTokens")]
    output_tokens: Option<u64>,
    /// Claude counts these beside the others.
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
}

impl From<ModelUsage> for Usage {
    fn from(usage: ModelUsage) -> Self {
        let input = [usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens];
        Self {
            input: input.into_iter().flatten().fold(0, u64::saturating_add),
            output: usage.output_tokens.unwrap_or(0),
        }
    }
}

/// The state of one stream that passes through.
#[derive(Debug)]
pub(crate) struct FrameStream {
    invoke: bool,
    usage: Option<Usage>,
    content: bool,
    /// The shape's own end was seen.
    done: bool,
    /// Whose events they are, of a stream in a model's own shape.
    speaker: Speaker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    /// Nothing was said yet.
    Nobody,
    /// Claude, whose end is known.
    Claude,
    /// A model whose end may not be known.
    Other,
}

/// A model's own event, as far as it is known.
#[derive(Deserialize)]
struct ModelEvent<'a> {
    #[serde(default, borrow, rename = "type")]
    kind: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    message: Option<ModelAnswer>,
    #[serde(default)]
    usage: Option<ModelUsage>,
    #[serde(default)]
    error: Option<ModelError>,
    /// What Bedrock puts into the last event of whatever model it is.
    #[serde(default, rename = "amazon-bedrock-invocationMetrics")]
    metrics: Option<Metrics>,
}

#[derive(Deserialize)]
struct ModelError {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    input_token_count: Option<u64>,
    output_token_count: Option<u64>,
}

impl FrameStream {
    /// A stream of which nothing has come.
    pub(crate) fn new(operation: &Operation) -> Self {
        Self { invoke: is_invoke(operation), usage: None, content: false, done: false, speaker: Speaker::Nobody }
    }

    /// Judges the next frame.
    pub(crate) fn next(&mut self, frame: &Frame<'_>) -> Step {
        if frame.kind != Kind::Event {
            return Step::Error(of_frame(frame));
        }
        match self.invoke {
            true => self.chunk(frame).unwrap_or(Step::Garbage),
            false => self.event(frame).unwrap_or(Step::Garbage),
        }
    }

    /// The tokens, once they were told.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether the end was seen: `messageStop`, or the end that the model itself has. Of a model whose events are not known,
    /// an end of the frames is one, once it has said something.
    pub(crate) fn is_complete(&self) -> bool {
        self.done || self.speaker == Speaker::Other
    }

    fn event(&mut self, frame: &Frame<'_>) -> Result<Step, Wrong> {
        let mut input = Input::lenient(frame.payload)?;
        let (mut usage, mut content) = (None, false);
        input.object(|input, key| {
            match key {
                "usage" => usage = Some(reply::usage(input)?.into()),
                "start" | "delta" => content = input.raw()? != r#"{"text":""}"#,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        input.end()?;
        self.usage = usage.or(self.usage);
        self.done |= frame.name == "messageStop";
        Ok(match frame.name {
            "metadata" if self.done => Step::Last,
            _ => self.forward(content),
        })
    }

    /// One of the model's own events; `None` if it is no JSON object.
    fn chunk(&mut self, frame: &Frame<'_>) -> Option<Step> {
        if frame.name != "chunk" {
            return Some(self.forward(false));
        }
        let bytes = base64::decode(&read_chunk(frame.payload)?)?;
        let event: ModelEvent<'_> = serde_json::from_slice(&bytes).ok()?;
        let kind = event.kind.as_deref().unwrap_or_default();
        if kind == "error" {
            let error = event.error;
            let (kind, message) = error.map(|error| (error.kind, error.message)).unwrap_or_default();
            let message =
                message.unwrap_or_else(|| "the model's stream ended with an error and said nothing".to_owned());
            let answer = UpstreamAnswer { status: INSIDE_STREAM, message, kind, param: None, code: None };
            return Some(Step::Error(Error::upstream(answer)));
        }
        if self.speaker == Speaker::Nobody {
            self.speaker = if kind == "message_start" { Speaker::Claude } else { Speaker::Other };
        }
        for usage in [event.message.and_then(|message| message.usage), event.usage].into_iter().flatten() {
            self.count(usage.into());
        }
        if let Some(Metrics { input_token_count: Some(input), output_token_count: Some(output) }) = event.metrics {
            self.usage.get_or_insert(Usage { input, output });
            self.done |= self.speaker == Speaker::Other;
        }
        self.done |= kind == "message_stop";
        if self.done {
            return Some(Step::Last);
        }
        let content = match self.speaker {
            Speaker::Claude => kind == "content_block_delta",
            _ => true,
        };
        Some(self.forward(content))
    }

    /// Claude says the tokens of the request when it begins, and those of the answer when it ends.
    fn count(&mut self, told: Usage) {
        let known = self.usage.get_or_insert_default();
        known.input = known.input.max(told.input);
        known.output = known.output.max(told.output);
    }

    fn forward(&mut self, content: bool) -> Step {
        let first_content = content && !self.content;
        self.content |= content;
        Step::Forward { first_content }
    }
}
