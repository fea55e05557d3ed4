//! A custom provider as a transport: what a worker sends reaches the trait, and what the trait gives reads like an upstream's.
//!
//! **Panics.** One of the provider's goes on to the worker, whose end it is as with any job, and fails that request alone; one
//! where models are listed is caught here, and one of its own drop or of a stream's where it is dropped (`own`).
//!
//! **Invariants.** I5: nothing here waits but the provider itself, which no deadline can interrupt; what it gives after the
//! deadline or a cancel is thrown away, so that its limits are kept towards the caller. I9: a cancel is looked at between two
//! events, and handed to the provider with every request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{CallContext, ChunkIter, CustomProvider, Own, ProviderError};
use crate::secret::Secret;
use crate::sync::CancelToken;
use crate::sync::threads::let_go;
use crate::time::unix_ms;
use crate::transport::{
    Body, ConnectionStats, Control, Incoming, Outgoing, Transport, TransportError, TransportErrorKind,
};
use crate::wire::openai::{ChatChunk, ChatRequest, EmbedRequest, Made, framed, stream_end};

/// What its routes begin with: that of a provider without an address.
const PREFIX: &str = "/v1";

const JSON: &str = "application/json";

/// What a request says of how its answer is to come, beside what it asks.
const OF_STREAMS: [&str; 2] = ["stream", "stream_options"];

/// The way to a custom provider.
pub(crate) struct Adaptor(Own<Arc<dyn CustomProvider>>);

impl Adaptor {
    pub(crate) fn new(provider: Own<Arc<dyn CustomProvider>>) -> Self {
        Self(provider)
    }

    fn answer(&self, request: &Outgoing<'_>, control: &Control<'_>) -> Result<Incoming, ProviderError> {
        let route = request.path.strip_prefix(PREFIX).unwrap_or(request.path);
        match (request.method, route) {
            ("GET", "/models") => {
                let model = |id| json!({ "id": id, "object": "model", "created": 0, "owned_by": "program" });
                let data: Vec<_> = self.0.models()?.into_iter().map(model).collect();
                Ok(whole(200, json!({ "object": "list", "data": data }).to_string()))
            }
            ("POST", "/chat/completions") => {
                let mut chat: ChatRequest = read(request.body)?;
                let [streamed, _] = OF_STREAMS.map(|field| chat.extra.shift_remove(field));
                let context = context(request, control, &chat.model);
                let made = made(&chat.model, control);
                if streamed != Some(Value::Bool(true)) {
                    return Ok(whole(200, self.0.chat(&chat, &context)?.into_body(&made)));
                }
                let mut chunks = Own::new(self.0.chat_stream(&chat, &context)?);
                // What it fails by before its first event still has a status of its own.
                let first = chunks.next().transpose()?.map(with_role);
                let events = Events {
                    first: Some(first),
                    chunks: Some(chunks),
                    finished: false,
                    model: chat.model.clone(),
                    id: made.id.to_owned(),
                    created: made.created,
                    cancel: control.cancel.clone(),
                };
                Ok(incoming(200, "text/event-stream", Body::from_pieces(events)))
            }
            ("POST", "/embeddings") => {
                let asked: EmbedRequest = read(&listed(request.body)?)?;
                let vectors = match self.0.embed(&asked, &context(request, control, &asked.model)) {
                    Err(error) if error.is_unsupported() => return Ok(no_such_route()),
                    vectors => vectors?,
                };
                if vectors.count() != asked.input.len() {
                    let (count, texts) = (vectors.count(), asked.input.len());
                    return Err(ProviderError::new(
                        500,
                        format!("the provider gave {count} vectors for {texts} texts"),
                    ));
                }
                Ok(whole(200, vectors.into_body(&asked.model)))
            }
            ("POST", "/completions" | "/responses") => Ok(no_such_route()),
            _ => Err(ProviderError::new(404, "this provider has no such route").with_code("unsupported")),
        }
    }
}

impl Transport for Adaptor {
    fn send(&self, request: &Outgoing<'_>, control: &Control<'_>) -> Result<Incoming, TransportError> {
        if let Some(reason) = control.cancel.reason() {
            return Err(TransportError::cancelled(reason));
        }
        let answer = self.answer(request, control);
        if let Some(reason) = control.cancel.reason() {
            return Err(TransportError::cancelled(reason));
        }
        if control.deadline.passed() {
            return Err(TransportError::new(TransportErrorKind::Timeout, "the provider answered too late"));
        }
        Ok(answer.unwrap_or_else(|error| {
            let mut answer = whole(error.status(), error.object().to_string());
            answer.headers.extend(error.headers());
            answer
        }))
    }

    fn connections(&self) -> ConnectionStats {
        ConnectionStats::default()
    }

    fn close_idle(&self) {}

    fn retire(&self) {}
}

/// The models that `provider` says it has, for whoever lists them: none if it fails at that.
pub(crate) fn models(name: &str, provider: &dyn CustomProvider) -> Vec<String> {
    match catch_unwind(AssertUnwindSafe(|| provider.models())) {
        Ok(Ok(models)) => models,
        Ok(Err(error)) => {
            log::warn!("provider {name}: its models are not known: {error}");
            Vec::new()
        }
        Err(panic) => {
            log::error!("provider {name}: it panicked when it was asked for its models");
            // What a panic carries is the provider's, and so is its drop.
            let_go("a custom provider's", panic);
            Vec::new()
        }
    }
}

/// The events of a stream as an upstream sends them.
struct Events {
    /// What was asked for before the status; within it none if the stream has no event.
    first: Option<Option<ChatChunk>>,
    /// None once it has ended.
    chunks: Option<Own<ChunkIter>>,
    /// Whether an event has said why the answer finished.
    finished: bool,
    model: String,
    id: String,
    created: u64,
    cancel: CancelToken,
}

impl Iterator for Events {
    type Item = Result<Vec<u8>, TransportError>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunks = self.chunks.as_mut()?;
        if let Some(reason) = self.cancel.reason() {
            self.chunks = None;
            return Some(Err(TransportError::cancelled(reason)));
        }
        let next = self.first.take().map_or_else(|| chunks.next(), |first| first.map(Ok));
        let made = Made { model: &self.model, id: &self.id, created: self.created };
        Some(Ok(match next {
            Some(Ok(chunk)) => {
                self.finished |= says_why(&chunk);
                chunk.into_event(&made)
            }
            Some(Err(error)) => {
                self.chunks = None;
                framed(&error.object())
            }
            None => {
                self.chunks = None;
                stream_end(&made, self.finished)
            }
        }))
    }
}

fn says_why(chunk: &ChatChunk) -> bool {
    let choices = chunk.raw.get("choices").and_then(Value::as_array).into_iter().flatten();
    choices.into_iter().any(|choice| choice.get("finish_reason").is_some_and(|reason| !reason.is_null()))
}

/// A stream's first event says whose words follow.
fn with_role(mut chunk: ChatChunk) -> ChatChunk {
    if let Some(delta) = chunk.raw.pointer_mut("/choices/0/delta").and_then(Value::as_object_mut) {
        delta.entry("role").or_insert_with(|| "assistant".into());
    }
    chunk
}

fn context<'a>(request: &Outgoing<'_>, control: &'a Control<'a>, model: &'a str) -> CallContext<'a> {
    let sent = request.headers.iter().find(|(name, _)| *name == "authorization").map(|(_, value)| *value);
    let key = sent.map(|value| Secret::new(value.strip_prefix("Bearer ").unwrap_or(value)));
    CallContext { model, key, control }
}

fn made<'a>(model: &'a str, control: &'a Control<'_>) -> Made<'a> {
    let id = control.request_id.map_or("custom", |id| id.as_str());
    Made { model, id, created: unix_ms() / 1000 }
}

/// Reads a request's body. What does not fit is the request's fault.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ProviderError> {
    serde_json::from_slice(body)
        .map_err(|error| ProviderError::new(400, format!("this provider cannot read the request: {error}")))
}

/// The body of a request for embeddings, in which a single text is a list, too.
fn listed(body: &[u8]) -> Result<Vec<u8>, ProviderError> {
    let mut asked: Value = read(body)?;
    if let Some(input) = asked.get_mut("input").filter(|input| input.is_string()) {
        *input = json!([input.take()]);
    }
    Ok(asked.to_string().into_bytes())
}

/// The answer of a provider that lacks a route, which says so by having no error to tell.
fn no_such_route() -> Incoming {
    whole(501, "{}")
}

fn whole(status: u16, body: impl Into<Vec<u8>>) -> Incoming {
    incoming(status, JSON, Body::from_bytes(body))
}

fn incoming(status: u16, content_type: &str, body: Body) -> Incoming {
    Incoming { status, headers: vec![("content-type".to_owned(), content_type.to_owned())], body }
}
