//! A request's way: from its body to an answer, a running stream or an error, on the thread that waits anyway.
//!
//! **Invariants.** I1: the request's guard is settled before the answer is handed over, and by its drop if a defect loses
//! it; while a stream runs the guard travels in the sink. I5: every wait below has a deadline.

use std::sync::Arc;
use std::time::Instant;

use super::house::{House, Plan};
use super::load::{self, Connections, Place};
use super::options::CallOptions;
use super::requests::RequestGuard;
use super::way::Way;
use super::{Gateway, Phase};
use crate::error::{Code, Error, Result};
use crate::model::{Answer, BodyFields, Call, Operation, Priority, Sink};
use crate::plugin::{Ended, Pre};
use crate::provider::Progress;
use crate::queue::Bytes;
use crate::wire;

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
    #[doc(hidden)]
    pub fn begin(&self, arrived: Instant) -> RequestGuard {
        RequestGuard::begin(&self.0.requests, arrived).in_house(self.house())
    }

    /// Runs a request to its end, or until its stream has begun.
    #[doc(hidden)]
    pub fn handle(&self, call: &Arc<Call>, guard: RequestGuard, sink: Option<Box<dyn Sink>>) -> Handled {
        let mut guard = guard;
        // Kept until the request ends or its stream has begun, so that what it resolved stays there.
        let house = guard.take_house().unwrap_or_else(|| self.house());
        let plan = match self.plan(&house, call) {
            Ok(plan) => plan,
            Err(error) => return Way { call, guard, sink, plugins: None }.refused(error),
        };
        guard.leads_to(plan.first().provider.asking(&call.operation, &plan.first().model));
        let chain = guard.take_plugins().unwrap_or_else(|| self.0.plugins.in_force());
        let mut way = Way { call, guard, sink, plugins: None };
        let Some(chain) = chain else { return way.attempted(&plan, &self.0.pauses) };
        let mut run = chain.run(call);
        let next = run.pre();
        way.plugins = Some(run);
        match next {
            Pre::Go(None) => way.attempted(&plan, &self.0.pauses),
            Pre::Go(Some((body, fields))) => {
                let changed = Arc::new(call.with_body(body, fields));
                // The one that came stays in memory as long.
                let more = changed.body.len() as u64;
                let room = self.0.load.take_bytes(call.priority, more).map(|bytes| way.guard.hold(bytes));
                match room.and_then(|()| self.plan(&house, &changed)) {
                    Ok(plan) => {
                        let Way { guard, sink, plugins, .. } = way;
                        Way { call: &changed, guard, sink, plugins }.attempted(&plan, &self.0.pauses)
                    }
                    Err(error) => way.failed(error, Progress::default(), false),
                }
            }
            Pre::Ended(Ended::Answer(reply)) => way.answered(reply, Progress::default(), false),
            Pre::Ended(Ended::Stream(stream)) => way.streamed(stream, &Progress::default(), false),
            Pre::Ended(Ended::Failed(error)) => way.failed(error, Progress::default(), false),
        }
    }

    /// Lets a request of the data plane in by what its head says: its priority, and how many bytes its body has at most.
    ///
    /// # Errors
    /// [`Code::Overloaded`] if one of the gateway's own limits is reached.
    #[doc(hidden)]
    pub fn admit(&self, priority: Priority, announced: u64) -> Result<Place> {
        self.0.load.admit(priority, announced)
    }

    /// `bytes` more of the budget, for a body that turned out longer than its head said.
    ///
    /// # Errors
    /// [`Code::Overloaded`] if there is no room for them.
    #[doc(hidden)]
    pub fn take_bytes(&self, priority: Priority, bytes: u64) -> Result<Bytes> {
        self.0.load.take_bytes(priority, bytes)
    }

    /// How many connections clients may have, so that their requests still find the descriptors that they need upstream;
    /// `None` where descriptors are without a limit.
    #[must_use]
    #[doc(hidden)]
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
        let made = self.0.load.take_bytes(options.priority, body.len() as u64).and_then(|held| {
            guard.hold(held);
            self.call_of(operation, body, streamed, options, guard.arrived())
        });
        if let Err(error) = &made {
            guard.fail(error);
        }
        made.map(Arc::new)
    }

    /// The call that a library caller's body makes, which must ask for a stream or must not.
    pub(super) fn call_of(
        &self,
        operation: Operation,
        body: Vec<u8>,
        streamed: bool,
        options: &CallOptions,
        arrived: Instant,
    ) -> Result<Call> {
        let fields = parse(&operation, &body, streamed)?;
        Ok(Call { operation, ..options.call(body, fields, arrived)? })
    }

    fn plan(&self, house: &House, call: &Call) -> Result<Plan> {
        if self.phase() >= Phase::Draining {
            return Err(Error::new(Code::ShuttingDown, "the gateway is shutting down"));
        }
        house.plan(call)
    }
}

/// The whole answer of a request without a sink. The request is under way no more.
pub(super) fn whole(handled: Handled) -> Result<Answer> {
    match handled {
        Handled::Answer(answer, ..) => Ok(answer),
        Handled::Failed(error, _) => Err(error),
        Handled::Streaming => Err(Error::new(Code::Internal, "a stream began that was not asked for")),
    }
}

/// Parses a body and checks that it asks for what its caller can take.
fn parse(operation: &Operation, body: &[u8], streamed: bool) -> Result<BodyFields> {
    let fields = wire::parse(operation, body)?;
    if fields.stream != streamed {
        let text = if streamed { "this call needs \"stream\": true" } else { "this call takes no stream" };
        return Err(Error::invalid("stream", text));
    }
    Ok(fields)
}
