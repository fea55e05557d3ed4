//! The ends of a request that has its plan: an answer, a stream, an error, and what plugins make of each of them.
//!
//! **Invariants.** I1: the request's guard is settled before its answer is handed over. What comments have begun ends as a
//! stream, whatever it comes to.

use std::sync::Arc;

use super::attempts::{self, Outcomes, Pauses};
use super::call::Handled;
use super::house::Plan;
use super::requests::RequestGuard;
use super::tracked::Tracked;
use crate::error::{Code, Error};
use crate::model::{Answer, Call, Served, Sink, SinkError, StreamEnd, StreamHead, StreamKind};
use crate::plugin::{self, Reply, StreamParts, StreamReply};
use crate::provider::{Progress, Reached, cancelled};
use crate::sync::CancelReason;
use crate::time::now;

/// A request that has its plan: what belongs to it on its way to one of its ends.
pub(super) struct Way<'a> {
    pub(super) call: &'a Arc<Call>,
    pub(super) guard: RequestGuard,
    pub(super) sink: Option<Box<dyn Sink>>,
    /// The plugins whose `pre` it has passed; none when their `post` has run.
    pub(super) plugins: Option<plugin::Run>,
}

impl Way<'_> {
    /// Runs its attempts.
    pub(super) fn attempted(self, plan: &Plan, pauses: &Pauses) -> Handled {
        let Self { call, guard, sink, plugins } = self;
        let (tracked, kept) = match sink {
            Some(inner) => (Some(Box::new(Tracked::new(inner, guard, plugins, false)) as Box<dyn Sink>), None),
            None => (None, Some((guard, plugins))),
        };
        let Outcomes { result, progress, sink } = attempts::run(call, plan, tracked, pauses);
        if matches!(result, Ok(Reached::Streaming)) {
            return Handled::Streaming;
        }
        let tracked = sink.and_then(Tracked::of);
        if tracked.as_ref().is_some_and(|tracked| tracked.is_over()) {
            return Handled::Streaming;
        }
        let begun = tracked.as_ref().is_some_and(|tracked| tracked.begun);
        let (sink, kept) = Tracked::open(tracked, kept);
        let Some((guard, plugins)) = kept else {
            // The sink went with a worker that was lost, and its drop has counted the request.
            let error = result.err().unwrap_or_else(|| Error::new(Code::Internal, "the stream was lost"));
            return Handled::Failed(told(error, call, progress), sink);
        };
        let mut way = Way { call, guard, sink, plugins };
        match result {
            Ok(Reached::Answer(answer, held)) => {
                if let Some(held) = held {
                    way.guard.hold(held);
                }
                way.answered(answer, progress, begun)
            }
            Ok(Reached::Streaming) => Handled::Streaming,
            Err(error) => way.failed(error, progress, begun),
        }
    }

    /// It comes to a whole answer, of a provider or a plugin.
    pub(super) fn answered(mut self, answer: impl Into<Whole>, progress: Progress, begun: bool) -> Handled {
        let whole = match (self.plugins.take(), answer.into()) {
            (None, whole) => Ok(whole),
            (Some(mut run), whole) => run.answered(whole).map(Whole::Reply),
        };
        match whole {
            Ok(whole) => self.over(whole, progress, begun),
            Err(error) => self.lost(error, progress, begun),
        }
    }

    /// It comes to an error, unless a plugin makes something else of it.
    pub(super) fn failed(mut self, error: Error, progress: Progress, begun: bool) -> Handled {
        let Some(mut run) = self.plugins.take() else { return self.lost(error, progress, begun) };
        match run.failed(told(error, self.call, progress.clone())) {
            Ok(reply) => self.over(Whole::Reply(reply), progress, begun),
            Err(error) => self.lost(error, progress, begun),
        }
    }

    /// It is answered.
    fn over(mut self, whole: Whole, progress: Progress, begun: bool) -> Handled {
        let call = self.call;
        if self.call.fields.stream && self.sink.is_some() {
            // Only a plugin answers who asked for a stream with a whole answer.
            let Whole::Reply(reply) = whole else {
                return self.lost(
                    Error::new(Code::Internal, "a whole answer came where a stream was asked for"),
                    progress,
                    begun,
                );
            };
            return match reply.into_stream(call) {
                Ok(stream) => self.streamed(stream, &progress, begun),
                Err(error) => {
                    let text = format!("a plugin's answer cannot be streamed: {error}");
                    self.lost(Error::new(Code::Internal, text), progress, begun)
                }
            };
        }
        let mut answer = match whole {
            Whole::Answer(answer) => answer,
            Whole::Reply(reply) => reply.into_answer(|origin| served_by_plugin(origin, call, &progress)),
        };
        answer.served.overhead = progress.spent.overhead(call.arrived, now());
        self.guard.note_overhead(answer.served.overhead);
        self.guard.succeed();
        Handled::Answer(answer, self.guard, self.sink)
    }

    /// A plugin answers it with a stream, which goes out here and now.
    pub(super) fn streamed(self, stream: StreamReply, progress: &Progress, begun: bool) -> Handled {
        let Self { call, guard, sink, plugins } = self;
        let Some(inner) = sink else {
            let way = Way { call, guard, sink: None, plugins };
            return way.lost(
                Error::new(Code::Internal, "a plugin's stream has nowhere to go"),
                progress.clone(),
                begun,
            );
        };
        let StreamParts { events, headers, usage, origin } = stream.into_parts();
        let mut sink = Box::new(Tracked::new(inner, guard, plugins, begun));
        let served = served_by_plugin(origin, call, progress);
        let sent = sink.begin(StreamHead { kind: StreamKind::Events, headers, served });
        let sent = sent.and_then(|()| if events.is_empty() { Ok(()) } else { sink.event(&events) });
        sink.finish(match sent {
            Ok(()) => StreamEnd::Complete(usage),
            Err(error) => StreamEnd::Failed(gone(error, call)),
        });
        Handled::Streaming
    }

    /// It ends with `error`.
    fn lost(self, error: Error, progress: Progress, begun: bool) -> Handled {
        let Self { call, mut guard, sink, .. } = self;
        let error = told(error, call, progress);
        let sink = match sink {
            // The client has had comments, and the status with them: an error event is all that it can be told.
            Some(inner) if begun => {
                Box::new(Tracked::new(inner, guard, None, begun)).finish(StreamEnd::Failed(error));
                return Handled::Streaming;
            }
            sink => sink,
        };
        if let Some(spent) = error.spent() {
            guard.note_overhead(spent.overhead);
        }
        guard.fail(&error);
        Handled::Failed(error, sink)
    }

    /// It leads nowhere, and no plugin has heard of it.
    pub(super) fn refused(self, error: Error) -> Handled {
        let Self { call, mut guard, sink, .. } = self;
        let error = told(error, call, Progress::default());
        guard.fail(&error);
        Handled::Failed(error, sink)
    }
}

/// A whole answer: a provider's as it came, or one that plugins have had in their hands.
pub(super) enum Whole {
    Answer(Answer),
    Reply(Reply),
}

impl From<Answer> for Whole {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl From<Reply> for Whole {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl From<Whole> for Reply {
    fn from(whole: Whole) -> Self {
        match whole {
            Whole::Answer(answer) => answer.into(),
            Whole::Reply(reply) => reply,
        }
    }
}

/// An error with what its request has been through.
fn told(error: Error, call: &Call, progress: Progress) -> Error {
    let spent = progress.spent.spent(call.arrived, now());
    error.with_request_id(&call.request_id).with_attempts(progress.tried).with_spent(spent)
}

/// Who is said to have answered where a plugin did.
fn served_by_plugin(origin: Option<(String, String)>, call: &Call, progress: &Progress) -> Served {
    let (provider, model) = origin.unwrap_or_else(|| ("plugin".to_owned(), call.fields.model.clone()));
    Served {
        provider: provider.into(),
        model,
        attempts: progress.attempts,
        fallbacks: progress.fallbacks,
        timing: progress.spent,
        overhead: progress.spent.overhead(call.arrived, now()),
    }
}

/// Whoever reads has gone, or is too slow.
fn gone(error: SinkError, call: &Call) -> Error {
    let reason = match error {
        SinkError::Gone => CancelReason::ClientGone,
        SinkError::TooSlow => CancelReason::ClientSlow,
    };
    call.cancel.cancel_for(reason);
    cancelled(call.cancel.reason().unwrap_or(reason))
}
