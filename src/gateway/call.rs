//! A request's way: from its body to an answer, a running stream or an error, on the thread that waits anyway.
//!
//! **Invariants.** I1: the request's guard is settled before the answer is handed over, and by its drop if a defect loses
//! it; while a stream runs the guard travels in the sink. I5: every wait below has a deadline.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use super::attempts::{self, Outcomes};
use super::house::{House, Plan};
use super::load::{self, Connections, Place};
use super::requests::RequestGuard;
use super::{Gateway, Phase};
use crate::config::{Scope, StreamRecovery};
use crate::error::{Code, Error, Result};
use crate::ids::RequestId;
use crate::model::{Answer, BodyFields, Call, Operation, Priority, Sink, SinkError, StreamEnd, StreamHead, Timing};
use crate::provider::Reached;
use crate::queue::Bytes;
use crate::recycle::Buffer;
use crate::sync::CancelToken;
use crate::time::{Deadline, now};
use crate::wire::openai;

/// What goes with a request beside its body.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// Names the request; made if `None`.
    pub request_id: Option<RequestId>,
    /// Which lane it waits in.
    pub priority: Priority,
    /// Bounds the whole request, a stream whole too; by default only its stages are bounded.
    pub deadline: Option<Deadline>,
    /// Whether a stream is held until its end was seen, so that one that fails before is tried again unseen; `None` leaves it
    /// to the provider's configuration.
    pub stream_recovery: Option<StreamRecovery>,
    /// Cancels it. A token serves one request: once cancelled, by whomever, it cancels whatever it is used for next. `None`
    /// gives each request one of its own.
    pub cancel: Option<CancelToken>,
}

impl CallOptions {
    /// The chat call for `body`, whose fields were parsed already: with no header lines of a client's, and free to name any
    /// model. Another operation is put in by whoever asks for it.
    #[must_use]
    pub fn call(&self, body: impl Into<Buffer>, fields: BodyFields, arrived: Instant) -> Call {
        Call {
            request_id: self.request_id.clone().unwrap_or_else(RequestId::fresh),
            operation: Operation::ChatCompletions,
            prefix: None,
            body: body.into(),
            fields,
            headers: Vec::new(),
            scope: Scope::default(),
            priority: self.priority,
            arrived,
            deadline: self.deadline,
            stream_recovery: self.stream_recovery,
            cancel: self.cancel.clone().unwrap_or_default(),
        }
    }
}

/// How a request ended for the one who waited.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one a request, taken apart as soon as it is made")]
pub enum Handled {
    /// A complete answer, counted already; the request is under way until its guard drops, when the answer is written. If
    /// there was a sink, it comes back unused.
    Answer(Answer, RequestGuard, Option<Box<dyn Sink>>),
    /// A worker relays into the sink.
    Streaming,
    /// It failed; the sink comes back unused.
    Failed(Error, Option<Box<dyn Sink>>),
}

impl Gateway {
    /// Counts a request as received. Its guard goes to [`handle`](Self::handle), or is failed by the one who refuses it.
    pub fn begin(&self, arrived: Instant) -> RequestGuard {
        RequestGuard::begin(&self.0.requests, arrived).in_house(self.house())
    }

    /// Runs a request to its end, or until its stream has begun.
    pub fn handle(&self, call: &Arc<Call>, guard: RequestGuard, sink: Option<Box<dyn Sink>>) -> Handled {
        let mut guard = guard;
        // Kept until the request ends or its stream has begun, so that what it resolved stays there.
        let house = guard.take_house().unwrap_or_else(|| self.house());
        let plan = match self.plan(&house, call) {
            Ok(plan) => plan,
            Err(error) => {
                let spent = Timing::default().spent(call.arrived, now());
                let error = error.with_request_id(&call.request_id).with_spent(spent);
                guard.fail(&error);
                return Handled::Failed(error, sink);
            }
        };
        let (tracked, kept) = match sink {
            Some(inner) => (Some(Box::new(Tracked::new(inner, guard)) as Box<dyn Sink>), None),
            None => (None, Some(guard)),
        };
        let Outcomes { result, progress, sink } = attempts::run(call, &plan, tracked, &self.0.pauses);
        let tracked = sink.and_then(Tracked::of);
        match result {
            Ok(Reached::Streaming) => Handled::Streaming,
            Ok(Reached::Answer(mut answer, held)) => {
                let (sink, guard) = Tracked::open(tracked, kept);
                answer.served.overhead = progress.spent.overhead(call.arrived, now());
                let Some(mut guard) = guard else {
                    let error = Error::new(Code::Internal, "a whole answer came where a stream was asked for");
                    return Handled::Failed(error.with_request_id(&call.request_id), sink);
                };
                if let Some(held) = held {
                    guard.hold(held);
                }
                guard.note_overhead(answer.served.overhead);
                guard.succeed();
                Handled::Answer(answer, guard, sink)
            }
            Err(error) => {
                let spent = progress.spent.spent(call.arrived, now());
                let error = error.with_request_id(&call.request_id).with_attempts(progress.tried).with_spent(spent);
                let tracked = match tracked {
                    // The client has had comments, and the status with them: an error event is all that it can be told.
                    Some(tracked) if tracked.begun => {
                        tracked.finish(StreamEnd::Failed(error));
                        return Handled::Streaming;
                    }
                    tracked => tracked,
                };
                let (sink, mut guard) = Tracked::open(tracked, kept);
                if let Some(guard) = &mut guard {
                    guard.note_overhead(spent.overhead);
                    guard.fail(&error);
                }
                Handled::Failed(error, sink)
            }
        }
    }

    /// Sends a raw chat body, and waits for its whole answer.
    ///
    /// # Errors
    /// Whatever ends a request, a body that asks for a stream among it.
    pub fn chat_raw(&self, body: Vec<u8>, options: &CallOptions) -> Result<Answer> {
        self.raw(Operation::ChatCompletions, body, options)
    }

    /// Sends a raw body of any of the operations that name a model, and waits for its whole answer.
    ///
    /// ```
    /// use sluicegate::model::Operation;
    ///
    /// let gateway = sluicegate::Gateway::from_env()?;
    /// let body = br#"{"model":"sim/echo","input":["one","two"]}"#.to_vec();
    /// let answer = gateway.raw(Operation::Embeddings, body, &Default::default())?;
    /// assert!(answer.body.starts_with(b"{\"object\":\"list\""));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Whatever ends a request, a body that asks for a stream among it.
    pub fn raw(&self, operation: Operation, body: Vec<u8>, options: &CallOptions) -> Result<Answer> {
        let mut guard = self.begin(now());
        let call = self.own_call(&mut guard, operation, body, false, options)?;
        match self.handle(&call, guard, None) {
            Handled::Answer(answer, ..) => Ok(answer),
            Handled::Failed(error, _) => Err(error),
            Handled::Streaming => Err(Error::new(Code::Internal, "a stream began that was not asked for")),
        }
    }

    /// Lets a request of the data plane in by what its head says: its priority, and how many bytes its body has at most.
    ///
    /// # Errors
    /// [`Code::Overloaded`] if one of the gateway's own limits is reached.
    pub fn admit(&self, priority: Priority, announced: u64) -> Result<Place> {
        self.0.load.admit(priority, announced)
    }

    /// `bytes` more of the budget, for a body that turned out longer than its head said.
    ///
    /// # Errors
    /// [`Code::Overloaded`] if there is no room for them.
    pub fn take_bytes(&self, priority: Priority, bytes: u64) -> Result<Bytes> {
        self.0.load.take_bytes(priority, bytes)
    }

    /// How many connections clients may have, so that their requests still find the descriptors that they need upstream;
    /// `None` where descriptors are without a limit.
    #[must_use]
    pub fn client_connections(&self) -> Option<Connections> {
        load::connections(&self.config())
    }

    /// The call of a library caller's body, which is held until the request ends.
    pub(super) fn own_call(
        &self,
        guard: &mut RequestGuard,
        operation: Operation,
        body: Vec<u8>,
        streamed: bool,
        options: &CallOptions,
    ) -> Result<Arc<Call>> {
        let parsed = self.0.load.take_bytes(options.priority, body.len() as u64).and_then(|held| {
            guard.hold(held);
            parse(&operation, &body, streamed)
        });
        match parsed {
            Ok(fields) => Ok(Arc::new(Call { operation, ..options.call(body, fields, guard.arrived()) })),
            Err(error) => {
                guard.fail(&error);
                Err(error)
            }
        }
    }

    fn plan(&self, house: &House, call: &Call) -> Result<Plan> {
        if self.phase() >= Phase::Draining {
            return Err(Error::new(Code::ShuttingDown, "the gateway is shutting down"));
        }
        house.plan(call)
    }
}

/// Parses a body and checks that it asks for what its caller can take.
fn parse(operation: &Operation, body: &[u8], streamed: bool) -> Result<BodyFields> {
    let fields = openai::parse(operation, body)?;
    if fields.stream != streamed {
        let text = if streamed { "this call needs \"stream\": true" } else { "this call takes no stream" };
        return Err(Error::invalid("stream", text));
    }
    Ok(fields)
}

/// A sink with the guard of its request: the request ends when the stream does.
struct Tracked {
    inner: Option<Box<dyn Sink>>,
    guard: Option<RequestGuard>,
    /// Whether the client has heard something; comments that keep it alive come before any attempt has succeeded.
    begun: bool,
}

impl Tracked {
    fn new(inner: Box<dyn Sink>, guard: RequestGuard) -> Self {
        Self { inner: Some(inner), guard: Some(guard), begun: false }
    }

    /// A sink that came back.
    fn of(sink: Box<dyn Sink>) -> Option<Box<Self>> {
        sink.into_any().downcast().ok()
    }

    /// The parts of a sink that came back unused; where there was none, the guard `kept`.
    fn open(tracked: Option<Box<Self>>, kept: Option<RequestGuard>) -> (Option<Box<dyn Sink>>, Option<RequestGuard>) {
        match tracked {
            Some(mut tracked) => (tracked.inner.take(), tracked.guard.take()),
            None => (None, kept),
        }
    }
}

impl Sink for Tracked {
    fn begin(&mut self, head: StreamHead) -> std::result::Result<(), SinkError> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        if let Some(guard) = &self.guard {
            guard.note_overhead(head.served.overhead);
        }
        self.inner.as_mut().map_or(Err(SinkError::Gone), |inner| inner.begin(head))
    }

    fn event(&mut self, bytes: &[u8]) -> std::result::Result<(), SinkError> {
        self.inner.as_mut().map_or(Err(SinkError::Gone), |inner| inner.event(bytes))
    }

    fn finish(mut self: Box<Self>, end: StreamEnd) {
        // Counted before the last byte is written; in flight until it is.
        let guard = self.guard.take().map(|mut guard| {
            match &end {
                StreamEnd::Complete => guard.succeed(),
                StreamEnd::Failed(error) => guard.fail(error),
            }
            guard
        });
        if let Some(inner) = self.inner.take() {
            inner.finish(end);
        }
        drop(guard);
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

impl Drop for Tracked {
    /// Lost by a panic between its taking and its end: counted before the inner sink's own drop tells the client.
    fn drop(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.fail(&Error::new(Code::Internal, "the stream was lost"));
        }
    }
}
