//! The neutral types that travel between the layers: a request on its way, its answer, and where a stream goes.
//!
//! Nothing here knows a provider's shape or a socket. `tags` are a caller's notes on a request, `chat` is what a chat is in no
//! provider's shape.

pub(crate) mod chat;
mod tags;

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use tags::Tags;

pub use crate::recycle::Buffer;

use crate::config::{Scope, StreamRecovery};
use crate::error::{Error, Spent};
use crate::ids::{RequestId, Trace};
use crate::sync::CancelToken;
use crate::time::Deadline;

/// What a request asks a provider to do: which route it goes to, and in which shape body, answer and stream are.
///
/// ```
/// use sluicegate::Gateway;
/// use sluicegate::model::Operation;
/// use sluicegate::serde_json::{self, Value};
///
/// let gateway = Gateway::from_env()?;
/// let answer = gateway.raw(Operation::Responses, r#"{"model":"sim/echo","input":"Hello"}"#)?;
/// let body: Value = serde_json::from_slice(&answer.body)?;
/// assert_eq!(body["object"], "response");
/// assert!(!Operation::Responses.is_forward(), "its body names a model, by which it is routed");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// A chat completion in OpenAI's shape.
    ChatCompletions,
    /// A text completion in OpenAI's shape.
    Completions,
    /// Embeddings in OpenAI's shape.
    Embeddings,
    /// A response in the shape of OpenAI's API of that name.
    Responses,
    /// A message in Anthropic's shape.
    Messages,
    /// What a message would take, in Anthropic's shape.
    CountTokens,
    /// A chat in the shape of Bedrock's Converse.
    #[cfg(feature = "bedrock")]
    Converse(Named),
    /// A request in a model's own shape, in Bedrock's InvokeModel.
    #[cfg(feature = "bedrock")]
    Invoke(Named),
    /// Any other route, whose bytes nobody looks at.
    Forward(Forward),
}

impl Operation {
    /// Whether its bytes go to the provider and back as they came, looked at by nobody.
    #[must_use]
    pub fn is_forward(&self) -> bool {
        matches!(self, Self::Forward(_))
    }
}

/// What the route says of a request whose body says neither.
///
/// ```
/// use sluicegate::model::{Named, Operation};
///
/// let gateway = sluicegate::Gateway::from_env()?;
/// let asked = Operation::Converse(Named { model: "sim/echo".to_owned(), stream: false });
/// let answer = gateway.raw(asked, r#"{"messages":[{"role":"user","content":[{"text":"Hello"}]}]}"#)?;
/// assert!(answer.body.starts_with(br#"{"output":{"message":"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "bedrock")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The model.
    pub model: String,
    /// Whether the answer is a stream, of frames then.
    pub stream: bool,
}

/// A request that goes to a provider as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Forward {
    /// The method, in capitals.
    pub method: &'static str,
    /// What follows the provider's version prefix: path and query as they were sent, with a leading slash.
    pub path: String,
    /// What the body says it is.
    pub content_type: Option<String>,
    /// What the caller takes.
    pub accept: Option<String>,
}

/// Shows no query: it may hold a key.
impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        f.debug_struct("Forward").field("method", &self.method).field("path", &path).finish_non_exhaustive()
    }
}

/// Which lane a job waits in.
///
/// ```
/// use sluicegate::{CallOptions, Gateway, Priority};
///
/// let gateway = Gateway::from_env()?;
/// let nightly = gateway.with(CallOptions::new().priority(Priority::Batch));
/// let answered = nightly.map_unordered((0..20).map(|_| ("sim/echo", "Hello")), 4).filter(|(_, reply)| reply.is_ok());
/// assert_eq!(answered.count(), 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Priority {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// It gets its share of the workers, and the rest of what they leave.
    Batch,
}

/// One request on its way, whole and checked. Shared, never changed.
#[derive(Debug)]
#[doc(hidden)]
pub struct Call {
    /// Names it in logs, errors and headers.
    pub request_id: RequestId,
    /// What is asked for.
    pub operation: Operation,
    /// The provider that a bare model name means: that of a drop-in route, which bears its name.
    pub prefix: Option<&'static str>,
    /// The client's body, byte for byte.
    pub body: Buffer,
    /// What routing and encoding need of the body.
    pub fields: BodyFields,
    /// What goes upstream of the client's header lines, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// Which models it may name.
    pub scope: Scope,
    /// The name of the gateway key that it came with, if it came with one.
    pub key: Option<Arc<str>>,
    /// Which lane it waits in.
    pub priority: Priority,
    /// When it arrived: every limit runs from here.
    pub arrived: Instant,
    /// When it ends, whatever stage it is in; a stream is bounded whole only if the caller said so.
    pub deadline: Option<Deadline>,
    /// Whether a stream is held until its end was seen; `None` leaves it to the provider's configuration.
    pub stream_recovery: Option<StreamRecovery>,
    /// The trace that it belongs to, if its caller has one.
    pub trace: Option<Trace>,
    /// The caller's notes on it; nothing sends them upstream.
    pub tags: Tags,
    /// Cancels it everywhere.
    pub cancel: CancelToken,
}

impl Call {
    /// The same request with another body, whose fields were parsed.
    #[must_use]
    pub fn with_body(&self, body: impl Into<Buffer>, fields: BodyFields) -> Self {
        Self {
            request_id: self.request_id.clone(),
            operation: self.operation.clone(),
            prefix: self.prefix,
            body: body.into(),
            fields,
            headers: self.headers.clone(),
            scope: self.scope.clone(),
            key: self.key.clone(),
            priority: self.priority,
            arrived: self.arrived,
            deadline: self.deadline,
            stream_recovery: self.stream_recovery,
            trace: self.trace.clone(),
            tags: self.tags.clone(),
            cancel: self.cancel.clone(),
        }
    }
}

/// What routing and encoding need of a body, with the places where it stands, so that everything else can pass
/// through byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[doc(hidden)]
pub struct BodyFields {
    /// `model` as the client wrote it.
    pub model: String,
    /// Where its value stands, quotes included.
    pub model_span: Range<usize>,
    /// Just after the body's opening brace, where a field can be put in.
    pub start: usize,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// Where the value of `stream_options` stands, if the client sent one.
    pub stream_options_span: Option<Range<usize>>,
    /// Whether usage in the stream is the client's to see: it asked for it, or its shape always has it.
    pub include_usage: bool,
    /// How many answers it asks for at once; 0 stands for the usual one.
    pub choices: u32,
    /// Our own `fallbacks`, which never go upstream.
    pub fallbacks: Vec<String>,
    /// What is to be cut out of the body for that: key, value and one comma.
    pub fallbacks_span: Option<Range<usize>>,
    /// Whether it names further `models`, by any of which the provider may answer; OpenRouter has such a field.
    pub models: bool,
}

/// Tokens, as a provider counts them.
///
/// ```
/// use sluicegate::{ChatRequest, Gateway, Usage};
///
/// let gateway = Gateway::from_env()?;
/// let mut spent = Usage::default();
/// for _ in 0..2 {
///     let usage = gateway.chat(&ChatRequest::new("sim/lorem-12", "Hello"))?.usage.unwrap_or_default();
///     spent = Usage { input: spent.input + usage.input, output: spent.output + usage.output };
/// }
/// assert_eq!(spent.output, 24);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the request.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
}

/// Where the time of a request went, summed over its attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// Waiting for a place and a worker.
    pub queue: Duration,
    /// From the worker's sending to the answer's end; for a stream to its first event.
    pub upstream: Duration,
    /// Between attempts.
    pub backoff: Duration,
}

impl std::ops::AddAssign for Timing {
    fn add_assign(&mut self, other: Self) {
        self.queue += other.queue;
        self.upstream += other.upstream;
        self.backoff += other.backoff;
    }
}

impl Timing {
    /// What the gateway itself took: total less queue, upstream and back-off.
    #[must_use]
    #[doc(hidden)]
    pub fn overhead(&self, arrived: Instant, now: Instant) -> Duration {
        let elsewhere = self.queue + self.upstream + self.backoff;
        now.saturating_duration_since(arrived).saturating_sub(elsewhere)
    }

    /// The same as a failure tells it, for a request that ends at `now`.
    #[must_use]
    #[doc(hidden)]
    pub fn spent(&self, arrived: Instant, now: Instant) -> Spent {
        Spent { queue: self.queue, upstream: self.upstream, overhead: self.overhead(arrived, now) }
    }
}

/// What is told about an answer beside its bytes: the `x-sluicegate-*` headers.
///
/// ```
/// use sluicegate::{ChatRequest, Gateway, ProviderSetup};
///
/// let gateway = Gateway::builder().provider(ProviderSetup::sim("sim").max_retries(0)).build()?;
/// let reply = gateway.chat(&ChatRequest::new("sim/fail-503", "Hello").with_fallback("sim/echo"))?;
/// let served = reply.served();
/// assert_eq!((&*served.provider, served.model.as_str()), ("sim", "echo"));
/// assert_eq!((served.attempts, served.fallbacks), (2, 1));
/// println!("{:?} in the queue, {:?} with providers", served.timing.queue, served.timing.upstream);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// The provider that answered.
    pub provider: Arc<str>,
    /// The model as sent there.
    pub model: String,
    /// Attempts made, this one included.
    pub attempts: u32,
    /// Targets left for another.
    pub fallbacks: u32,
    /// Where the time went.
    pub timing: Timing,
    /// What the gateway itself took: up to the answer, or up to a stream's first event.
    pub overhead: Duration,
}

/// A complete answer.
///
/// ```
/// use sluicegate::Gateway;
/// use sluicegate::model::Operation;
///
/// let gateway = Gateway::from_env()?;
/// let answer = gateway.raw(Operation::Embeddings, r#"{"model":"sim/echo","input":"Hello"}"#)?;
/// assert_eq!((answer.status, answer.served.model.as_str()), (200, "echo"));
/// assert!(answer.headers.contains(&("content-type".to_owned(), "application/json".to_owned())));
/// assert!(answer.body.starts_with(b"{"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The upstream's status, below 400.
    pub status: u16,
    /// The upstream's headers that a client may see.
    pub headers: Vec<(String, String)>,
    /// The body, as the upstream sent it. Its memory goes back to the gateway's pool when it is dropped;
    /// [`into_vec`](Buffer::into_vec) keeps it.
    pub body: Buffer,
    /// Tokens, if the upstream counted them.
    pub usage: Option<Usage>,
    /// Who answered, and where the time went.
    pub served: Served,
}

/// What a stream is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum StreamKind {
    /// Events, whose complete end the sink tells.
    Events,
    /// Bytes as they came, of an answer with this status: nothing is put among them, and their end says nothing more.
    Bytes {
        /// The upstream's status.
        status: u16,
        /// Whether they are events, by their content type: then an error event can stand at their end.
        events: bool,
    },
}

/// How a stream begins.
#[derive(Debug)]
#[doc(hidden)]
pub struct StreamHead {
    /// What it is made of.
    pub kind: StreamKind,
    /// The upstream's headers that a client may see.
    pub headers: Vec<(String, String)>,
    /// Who answers, and where the time went until the first event.
    pub served: Served,
}

/// How a stream ended.
#[derive(Debug)]
#[doc(hidden)]
pub enum StreamEnd {
    /// Its shape's own end was seen; with the tokens, if the provider counted them.
    Complete(Option<Usage>),
    /// It failed after it began; the error goes to the client as the last event, unless it says that the client has gone.
    Failed(Error),
}

/// Why a sink takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum SinkError {
    /// Whoever read has gone.
    Gone,
    /// Whoever reads was too slow for too long in all.
    TooSlow,
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the reader has gone",
            Self::TooSlow => "the reader was too slow for too long",
        })
    }
}

impl std::error::Error for SinkError {}

/// Where a stream is relayed to: a client's connection, or a library caller's channel.
///
/// `begin` is called once, then `event`, which brings comments that keep a connection alive as well, then `finish` once. Only
/// where nothing but such comments has been sent may `begin` be called again, by the next attempt, and changes nothing. A
/// sink that is dropped without `finish` ends as [`StreamEnd::Failed`] with an internal error.
#[doc(hidden)]
pub trait Sink: Send {
    /// The stream begins: status and headers can go out, with the first event at the latest.
    ///
    /// # Errors
    /// If whoever reads has gone or is too slow.
    fn begin(&mut self, head: StreamHead) -> Result<(), SinkError>;

    /// One event or several that came together, each framed as SSE with its final blank line; on their way before this
    /// returns. `[DONE]` is not among them: it is the sink's to send, at a [`StreamEnd::Complete`]. Of a stream of
    /// [`StreamKind::Bytes`], some of these.
    ///
    /// # Errors
    /// If whoever reads has gone or is too slow.
    fn event(&mut self, bytes: &[u8]) -> Result<(), SinkError>;

    /// The stream is over.
    fn finish(self: Box<Self>, end: StreamEnd);

    /// The sink as it was handed in, for the one who gets it back unused.
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
}

impl fmt::Debug for dyn Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}
