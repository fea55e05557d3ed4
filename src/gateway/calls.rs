//! What a caller may ask of a gateway, each with the same options: one set of calls, and the gateway's own are those with
//! none.

use std::borrow::Cow;
use std::fmt;

use super::Gateway;
use super::call::whole;
use super::map::{MapOrdered, MapUnordered};
use super::options::CallOptions;
use super::stream::{self, ChatStream, RawStream};
use super::submit::{self, Handle};
use crate::error::{Code, Error, Result};
use crate::model::{Answer, Operation};
use crate::time::now;
use crate::wire::openai::{ChatReply, ChatRequest, EmbedReply, EmbedRequest};

/// What goes with the calls of who asks for nothing.
static NOTHING: CallOptions = CallOptions::new();

/// A gateway's calls, made with the same options each; [`Gateway::with`] gives it.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::{CallOptions, Gateway};
///
/// let gateway = Gateway::from_env()?;
/// let hurried = gateway.with(CallOptions::new().deadline(Duration::from_secs(20)));
/// assert_eq!(hurried.ask("sim/echo", "Hello")?, "Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Calls<'a> {
    gateway: &'a Gateway,
    options: Cow<'a, CallOptions>,
}

impl<'a> Calls<'a> {
    pub(super) fn new(gateway: &'a Gateway, options: Cow<'a, CallOptions>) -> Self {
        Self { gateway, options }
    }

    /// Asks `model` one thing and waits for the text of its answer.
    ///
    /// # Errors
    /// Whatever ends a request; see [`Error::code`].
    pub fn ask(&self, model: &str, prompt: &str) -> Result<String> {
        Ok(self.chat(&ChatRequest::new(model, prompt))?.text().to_owned())
    }

    /// Sends a chat request and waits for its whole answer.
    ///
    /// # Errors
    /// Whatever ends a request; see [`Error::code`].
    pub fn chat(&self, request: &ChatRequest) -> Result<ChatReply> {
        let answer = self.raw(Operation::ChatCompletions, request.to_body(false))?;
        ChatReply::from_answer(&answer)
    }

    /// Asks for the vectors of some texts and waits for them.
    ///
    /// # Errors
    /// Whatever ends a request; see [`Error::code`].
    pub fn embed(&self, request: &EmbedRequest) -> Result<EmbedReply> {
        let reply = EmbedReply::from_answer(&self.raw(Operation::Embeddings, request.to_body())?)?;
        if reply.vectors.len() != request.input.len() {
            let text = format!("{} vectors came for {} texts", reply.vectors.len(), request.input.len());
            return Err(Error::new(Code::UpstreamBadResponse, text));
        }
        Ok(reply)
    }

    /// Sends a chat request and waits until its stream begins; with
    /// [`stream_recovery`](CallOptions::stream_recovery) until its end was seen. Dropping the stream cancels the request
    /// upstream.
    ///
    /// # Errors
    /// Whatever ends a request before its first event, or before its end; see [`Error::code`].
    pub fn chat_stream(&self, request: &ChatRequest) -> Result<ChatStream> {
        self.raw_stream(Operation::ChatCompletions, request.to_body(true)).map(ChatStream::new)
    }

    /// Sends a raw body of any of the operations that name a model, and waits for its whole answer. What the gateway does
    /// not know of it passes through byte for byte, both ways.
    ///
    /// ```
    /// use sluicegate::model::Operation;
    ///
    /// let gateway = sluicegate::Gateway::from_env()?;
    /// let answer = gateway.raw(Operation::Embeddings, r#"{"model":"sim/echo","input":["one","two"]}"#)?;
    /// assert!(answer.body.starts_with(b"{\"object\":\"list\""));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Whatever ends a request, a body that asks for a stream among it.
    pub fn raw(&self, operation: Operation, body: impl Into<Vec<u8>>) -> Result<Answer> {
        let mut guard = self.gateway.begin(now());
        let call = self.gateway.own_call(&mut guard, operation, body.into(), false, &self.options)?;
        whole(self.gateway.handle(&call, guard, None))
    }

    /// Sends a raw body that asks for a stream, and waits until that begins, as [`chat_stream`](Self::chat_stream) does.
    ///
    /// ```
    /// use sluicegate::model::Operation;
    ///
    /// let gateway = sluicegate::Gateway::from_env()?;
    /// let body = r#"{"model":"sim/lorem-3","stream":true,"prompt":"Hello"}"#;
    /// for event in gateway.raw_stream(Operation::Completions, body)? {
    ///     assert!(event?.data.starts_with(b"{"));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Whatever ends a request before its first event, or before its end; a body that asks for no stream among it.
    pub fn raw_stream(&self, operation: Operation, body: impl Into<Vec<u8>>) -> Result<RawStream> {
        stream::open(self.gateway, operation, body.into(), &self.options)
    }

    /// Hands a chat request over to a thread of the gateway's own, and comes back at once. Such threads start when they are
    /// needed and retire when idle for `threads.idle_timeout`.
    ///
    /// # Errors
    /// [`Code::Overloaded`] if it would be one more than `server.max_in_flight` or there is no thread for it, and whatever
    /// is wrong with the request itself. What goes wrong later comes from the handle.
    pub fn submit(&self, request: &ChatRequest) -> Result<Handle<ChatReply>> {
        submit::submit(self.gateway, &self.options, request)
    }

    /// The answers to many requests in the requests' order, at most `concurrency` of them (at least one) at a time, and never
    /// more than the gateway lets run at all. What fails fails alone: its error is the item in its place.
    ///
    /// Requests are sent while the iterator is asked for answers, and not before: each time it takes as many from the source
    /// as there is room for, which may be endless, and sends them. One that is slow holds back the answers behind it, of
    /// which so many are kept that at most `2 * concurrency` requests were taken and are not answered to the caller yet.
    /// Where the gateway's own limits leave no room (`server.max_in_flight`, threads), the next request waits for one of
    /// this iterator's to end, and fails only if none of them runs.
    ///
    /// Dropping the iterator cancels what runs, up to the providers. A [`cancel`](CallOptions::cancel) token of the options
    /// ends all of it: what runs fails, and nothing more is taken. A [`deadline`](CallOptions::deadline) is each request's
    /// own, from when it is sent.
    ///
    /// ```
    /// let gateway = sluicegate::Gateway::from_env()?;
    /// let prompts = ["one", "two", "three"].map(|prompt| ("sim/echo", prompt));
    /// let answers = gateway.map_ordered(prompts, 2).map(|reply| reply.map(|reply| reply.text().to_owned()));
    /// assert_eq!(answers.collect::<Result<Vec<_>, _>>()?, ["one", "two", "three"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn map_ordered<I>(&self, requests: I, concurrency: usize) -> MapOrdered<I::IntoIter>
    where
        I: IntoIterator,
        I::Item: Into<ChatRequest>,
    {
        MapOrdered::new(self.gateway, &self.options, requests.into_iter(), concurrency)
    }

    /// The same as [`map_ordered`](Self::map_ordered), with the answers as they come: each with the number of its request,
    /// from 0.
    ///
    /// ```
    /// let gateway = sluicegate::Gateway::from_env()?;
    /// let prompts = ["one", "two", "three"];
    /// for (number, reply) in gateway.map_unordered(prompts.map(|prompt| ("sim/echo", prompt)), 2) {
    ///     assert_eq!(reply?.text(), prompts[number]);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn map_unordered<I>(&self, requests: I, concurrency: usize) -> MapUnordered<I::IntoIter>
    where
        I: IntoIterator,
        I::Item: Into<ChatRequest>,
    {
        MapUnordered::new(self.gateway, &self.options, requests.into_iter(), concurrency)
    }
}

impl fmt::Debug for Calls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("options", &self.options).finish_non_exhaustive()
    }
}

impl From<CallOptions> for Cow<'_, CallOptions> {
    fn from(options: CallOptions) -> Self {
        Cow::Owned(options)
    }
}

impl<'a> From<&'a CallOptions> for Cow<'a, CallOptions> {
    fn from(options: &'a CallOptions) -> Self {
        Cow::Borrowed(options)
    }
}

impl Gateway {
    /// The same calls, with `options`; these can be lent or given away.
    ///
    /// ```
    /// use sluicegate::{CallOptions, Gateway};
    ///
    /// let gateway = Gateway::from_env()?;
    /// let options = CallOptions::new().fallbacks(["sim/echo"]);
    /// assert_eq!(gateway.with(&options).ask("sim/fail-500", "Hello")?, "Hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with<'a>(&'a self, options: impl Into<Cow<'a, CallOptions>>) -> Calls<'a> {
        Calls::new(self, options.into())
    }

    /// [`Calls::ask`] without options.
    ///
    /// # Errors
    /// Whatever ends a request; see [`Error::code`].
    pub fn ask(&self, model: &str, prompt: &str) -> Result<String> {
        self.with(&NOTHING).ask(model, prompt)
    }

    /// [`Calls::chat`] without options.
    ///
    /// # Errors
    /// Whatever ends a request; see [`Error::code`].
    pub fn chat(&self, request: &ChatRequest) -> Result<ChatReply> {
        self.with(&NOTHING).chat(request)
    }

    /// [`Calls::chat_stream`] without options.
    ///
    /// # Errors
    /// Whatever ends a request before its first event; see [`Error::code`].
    pub fn chat_stream(&self, request: &ChatRequest) -> Result<ChatStream> {
        self.with(&NOTHING).chat_stream(request)
    }

    /// [`Calls::embed`] without options.
    ///
    /// # Errors
    /// Whatever ends a request; see [`Error::code`].
    pub fn embed(&self, request: &EmbedRequest) -> Result<EmbedReply> {
        self.with(&NOTHING).embed(request)
    }

    /// [`Calls::raw`] without options.
    ///
    /// # Errors
    /// Whatever ends a request, a body that asks for a stream among it.
    pub fn raw(&self, operation: Operation, body: impl Into<Vec<u8>>) -> Result<Answer> {
        self.with(&NOTHING).raw(operation, body)
    }

    /// [`Calls::raw_stream`] without options.
    ///
    /// # Errors
    /// Whatever ends a request before its first event; a body that asks for no stream among it.
    pub fn raw_stream(&self, operation: Operation, body: impl Into<Vec<u8>>) -> Result<RawStream> {
        self.with(&NOTHING).raw_stream(operation, body)
    }

    /// [`Calls::submit`] without options.
    ///
    /// # Errors
    /// [`Code::Overloaded`] if it cannot be begun, and whatever is wrong with the request itself.
    pub fn submit(&self, request: &ChatRequest) -> Result<Handle<ChatReply>> {
        self.with(&NOTHING).submit(request)
    }

    /// [`Calls::map_ordered`] without options.
    pub fn map_ordered<I>(&self, requests: I, concurrency: usize) -> MapOrdered<I::IntoIter>
    where
        I: IntoIterator,
        I::Item: Into<ChatRequest>,
    {
        self.with(&NOTHING).map_ordered(requests, concurrency)
    }

    /// [`Calls::map_unordered`] without options.
    pub fn map_unordered<I>(&self, requests: I, concurrency: usize) -> MapUnordered<I::IntoIter>
    where
        I: IntoIterator,
        I::Item: Into<ChatRequest>,
    {
        self.with(&NOTHING).map_unordered(requests, concurrency)
    }
}
