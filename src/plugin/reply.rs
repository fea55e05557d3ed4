//! What a plugin answers with: a whole answer, or a stream.

use std::fmt;

use serde_json::{Value, json};

use super::PluginError;
use crate::model::{Answer, Call, Operation, Served, Usage};
use crate::recycle::Buffer;
use crate::wire::chat::Meta;
use crate::wire::openai::DONE;
use crate::wire::{crossing, sse};

/// A whole answer: a provider's, or one of a plugin's own.
///
/// ```
/// use sluicegate::plugin::{Context, Flow, Plugin, PluginError, Reply, Request};
/// use sluicegate::{ChatRequest, Gateway, Usage};
///
/// /// Knows the answer.
/// struct Table;
///
/// impl Plugin for Table {
///     fn name(&self) -> &str {
///         "table"
///     }
///
///     fn pre(&self, _: &mut Request<'_>, _: &mut Context<'_>) -> Result<Flow, PluginError> {
///         let reply = Reply::chat("42").with_usage(Usage { input: 3, output: 1 }).with_header("x-table", "1");
///         Ok(Flow::Answer(reply))
///     }
/// }
///
/// let gateway = Gateway::builder().plugin(Table).build()?;
/// let reply = gateway.chat(&ChatRequest::new("sim/hang", "What is it?"))?;
/// assert_eq!((reply.text(), &*reply.served().provider), ("42", "table"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Buffer,
    pub(super) usage: Option<Usage>,
    pub(super) served: Option<Served>,
    /// Who it is said to come from, if it came from no provider now.
    pub(super) origin: Option<(String, String)>,
}

impl Reply {
    /// An answer of status 200 with this body.
    #[must_use]
    pub fn json(body: &Value) -> Self {
        Self::bytes(body.to_string())
    }

    /// The same of bytes that are JSON.
    #[must_use]
    pub fn bytes(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.into().into(),
            usage: None,
            served: None,
            origin: None,
        }
    }

    /// The answer to a chat that says `text`, whatever the shape that it was asked for in: an answer to a chat in OpenAI's shape
    /// is translated where a plugin gives it.
    #[must_use]
    pub fn chat(text: &str) -> Self {
        Self::json(&json!({
            "id": "chatcmpl-plugin", "object": "chat.completion", "created": 0, "model": "plugin",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0 },
        }))
    }

    /// The HTTP status, below 400.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The header lines that a client may see, names in lower case.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The tokens, if they were counted.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Who answered, if a provider did.
    #[must_use]
    pub fn served(&self) -> Option<&Served> {
        self.served.as_ref()
    }

    /// As the gateway hands it on.
    pub(crate) fn into_answer(self, served: impl FnOnce(Option<(String, String)>) -> Served) -> Answer {
        let Self { status, headers, body, usage, served: known, origin } = self;
        let served = known.unwrap_or_else(|| served(origin));
        Answer { status, headers, body, usage, served }
    }

    /// A plugin's own answer in the shape that `call` has.
    ///
    /// # Errors
    /// If it is the answer to a chat, and cannot be read.
    pub(super) fn in_shape_of(mut self, call: &Call) -> Result<Self, PluginError> {
        if self.served.is_none()
            && let Some(body) = crossing::answered(&call.operation, &self.body, &meta(call))?
        {
            self.body = body.into();
        }
        Ok(self)
    }

    /// The same for who asked for a stream: all of it at once.
    ///
    /// # Errors
    /// If it is no answer of an operation that its events can be made from.
    pub(crate) fn into_stream(self, call: &Call) -> Result<StreamReply, PluginError> {
        if let Some(events) = crossing::streamed(&call.operation, &self.body, meta(call))? {
            return Ok(self.streamed(StreamReply { events, ..StreamReply::new() }));
        }
        let object = match call.operation {
            Operation::ChatCompletions => "chat.completion.chunk",
            Operation::Completions => "text_completion",
            _ => return Err("an answer of this operation cannot be made a stream".into()),
        };
        let mut body: Value = serde_json::from_slice(&self.body)?;
        let fields = body.as_object_mut().ok_or("an answer that is no object")?;
        fields.insert("object".to_owned(), object.into());
        let choices = fields.get_mut("choices").and_then(Value::as_array_mut).ok_or("an answer without choices")?;
        for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
            if let Some(Value::Object(mut message)) = choice.remove("message") {
                // In a delta the calls of tools are counted through.
                if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
                    for (index, call) in calls.iter_mut().enumerate().filter(|(_, call)| call.is_object()) {
                        call["index"] = index.into();
                    }
                }
                choice.insert("delta".to_owned(), Value::Object(message));
            }
        }
        Ok(self.streamed(StreamReply::new().with_event(&body)))
    }

    /// What it has beside its body, with these events.
    fn streamed(self, mut stream: StreamReply) -> StreamReply {
        stream.usage = self.usage;
        stream.origin = self.origin;
        stream.headers = self.headers.into_iter().filter(|(name, _)| name != "content-type").collect();
        stream
    }
}

/// What a plugin's answer is told with where it does not say it.
fn meta(call: &Call) -> Meta<'_> {
    let stream_usage = call.fields.include_usage;
    Meta { id: call.request_id.as_str(), created: 0, model: &call.fields.model, stream_usage }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        let Answer { status, headers, body, usage, served } = answer;
        Self { status, headers, body, usage, served: Some(served), origin: None }
    }
}

/// Shows no body: it holds a user's words.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("status", &self.status).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// A stream that a plugin answers with; it is complete, and goes out at once. The stream of a chat in OpenAI's shape is
/// translated for who asks in another.
///
/// ```
/// use sluicegate::plugin::{Context, Flow, Plugin, PluginError, Request, StreamReply};
/// use sluicegate::serde_json::json;
/// use sluicegate::{ChatRequest, Gateway};
///
/// /// Streams what it knows, to who asks for a stream.
/// struct Tale;
///
/// impl Plugin for Tale {
///     fn name(&self) -> &str {
///         "tale"
///     }
///
///     fn pre(&self, request: &mut Request<'_>, _: &mut Context<'_>) -> Result<Flow, PluginError> {
///         if !request.is_stream() {
///             return Ok(Flow::Continue);
///         }
///         let event = |text: &str| json!({ "choices": [{ "index": 0, "delta": { "content": text } }] });
///         Ok(Flow::Stream(StreamReply::new().with_event(&event("Once upon ")).with_event(&event("a time"))))
///     }
/// }
///
/// let gateway = Gateway::builder().plugin(Tale).build()?;
/// let request = ChatRequest::new("sim/echo", "Tell me a tale");
/// assert_eq!(gateway.chat_stream(&request)?.collect_reply()?.text(), "Once upon a time");
/// assert_eq!(gateway.chat(&request)?.text(), "Tell me a tale");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct StreamReply {
    pub(super) events: Vec<u8>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) usage: Option<Usage>,
    pub(super) origin: Option<(String, String)>,
}

impl StreamReply {
    /// No events yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event with this data. One that says its `type` is named so, as responses and messages have it.
    #[must_use]
    pub fn with_event(mut self, data: &Value) -> Self {
        let name = data.get("type").and_then(Value::as_str).unwrap_or_default();
        sse::write(name.as_bytes(), data.to_string().as_bytes(), &mut self.events);
        self
    }

    /// Adds events that are framed already, each with its blank line. Where the last has none it gets one, and a `[DONE]`
    /// at the end is left out: that is the gateway's to say.
    #[must_use]
    pub fn with_framed(mut self, events: &[u8]) -> Self {
        let events = events.strip_suffix(DONE).unwrap_or(events);
        self.events.extend_from_slice(events);
        let blank: [&[u8]; 3] = [b"\n\n", b"\r\n\r\n", b"\r\r"];
        if !events.is_empty() && !blank.iter().any(|blank| events.ends_with(blank)) {
            self.events.extend_from_slice(b"\n\n");
        }
        self
    }
}

/// What goes with an answer beside its bytes is said of a whole one and of a stream alike.
macro_rules! told_beside {
    ($($reply:ty),+) => {$(
        impl $reply {
            /// Says which provider and model it once came from; else it bears the plugin's name.
            #[must_use]
            pub fn with_origin(mut self, provider: &str, model: &str) -> Self {
                self.origin = Some((provider.to_owned(), model.to_owned()));
                self
            }

            /// Adds a header line, its name in lower case.
            #[must_use]
            pub fn with_header(mut self, name: &str, value: &str) -> Self {
                self.headers.push((name.to_owned(), value.to_owned()));
                self
            }

            /// Says how many tokens it stands for.
            #[must_use]
            pub fn with_usage(mut self, usage: Usage) -> Self {
                self.usage = Some(usage);
                self
            }
        }
    )+};
}

told_beside!(Reply, StreamReply);

/// The same, taken apart by the one who sends it.
pub(crate) struct StreamParts {
    pub(crate) events: Vec<u8>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) usage: Option<Usage>,
    pub(crate) origin: Option<(String, String)>,
}

impl StreamReply {
    /// A plugin's own stream in the shape that `call` has.
    ///
    /// # Errors
    /// If it is the stream of a chat, and cannot be read.
    pub(super) fn in_shape_of(mut self, call: &Call) -> Result<Self, PluginError> {
        if let Some(events) = crossing::told(&call.operation, &self.events, meta(call))? {
            self.events = events;
        }
        Ok(self)
    }

    pub(crate) fn into_parts(self) -> StreamParts {
        let Self { events, headers, usage, origin } = self;
        StreamParts { events, headers, usage, origin }
    }
}

/// Shows no events: they hold a user's words.
impl fmt::Debug for StreamReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReply").field("bytes", &self.events.len()).finish_non_exhaustive()
    }
}
