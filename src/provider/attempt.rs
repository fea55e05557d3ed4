//! One attempt at one provider: encode, send, read, decode, account, answer.
//!
//! A worker makes one attempt and nothing else: what comes after a failure is decided on the waiting thread. Whole answers
//! end here; streams go on in `relay`, or in `rescue`.
//!
//! **Invariants.** I1: whatever is dropped by a panic, the responder goes behind what counts it (see `Active`). I2. I5: every
//! read has the attempt's deadline.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::credential::Credential;
#[cfg(feature = "bedrock")]
use super::credential::Signature;
use super::face::{Face, WorkerState};
use super::figures::Running;
use super::gate::{Done, Pass};
use super::headers;
use super::job::{Job, Payload, Progress, Reached, Reply, Responder};
use super::keys::KeySettings;
use super::paths::Paths;
use super::pool::{Shared, cancelled};
use super::series::{Asked, Identity};
use super::{relay, rescue, whole};
use crate::config::{Retries, StreamGarbage, StreamRecovery};
use crate::error::{Code, Error};
use crate::model::chat::Lost;
use crate::model::{Answer, Call, Operation, Served, Timing};
use crate::queue::{ByteBudget, Bytes, Permit};
use crate::recycle::{Buffer, Joint};
use crate::secret::{Mask, REDACTED};
use crate::time::{Deadline, format_duration, now, unix_ms};
use crate::transport::{Control, Incoming, Outgoing, Transport, TransportError, TransportErrorKind};
use crate::wire::chat::Meta;
use crate::wire::crossing::{Crossing, Decoded};
use crate::wire::{Dialect, openai};

/// The largest answer held whole, in bytes.
pub(super) const MAX_ANSWER: usize = 64 << 20;

/// The largest error answer read, in bytes: its words are cut shorter still.
const MAX_ERROR_ANSWER: usize = 1 << 20;

/// The header that names what of the request was left out, because its provider has no place for it.
const DROPPED: &str = "x-sluicegate-dropped";

/// What an attempt needs to know of its provider.
#[derive(Clone)]
pub struct AttemptSettings {
    /// What is masked out of the provider's errors: its keys, and the values of headers that the configuration adds.
    pub mask: Mask,
    /// Its keys, of which each attempt goes with one.
    pub keys: Vec<KeySettings>,
    /// Who it is to those who measure.
    pub identity: Identity,
    /// What it speaks, the first of them what others are translated to.
    pub dialects: &'static [Dialect],
    /// Where its routes live, behind the base URL.
    pub paths: Paths,
    /// Names by which its models are asked for, each with what it calls the model; another is called as it is asked for.
    pub deployments: Vec<(String, String)>,
    /// Whether the tokens of a stream are to be asked for.
    pub asks_usage: bool,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// Limit of one attempt that is not streamed.
    pub request_timeout: Duration,
    /// Limit of connecting, TLS included.
    pub connect_timeout: Duration,
    /// Limit of a stream up to its first event.
    pub first_token_timeout: Duration,
    /// Longest silence of a stream.
    pub stream_idle_timeout: Duration,
    /// Longest stream.
    pub stream_max_duration: Duration,
    /// Whether a stream is held until its end, where the request does not say.
    pub stream_recovery: StreamRecovery,
    /// What becomes of an event that is no JSON.
    pub stream_garbage: StreamGarbage,
    /// Whether silence is filled before the first event too.
    pub early_keepalive: bool,
    /// When a failed attempt is made again.
    pub retries: Retries,
}

impl fmt::Debug for AttemptSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| (name, REDACTED)).collect();
        f.debug_struct("AttemptSettings")
            .field("paths", &self.paths)
            .field("headers", &names)
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}

impl AttemptSettings {
    /// Attempts that go to `/v1/chat/completions` in OpenAI's shape without a key, each step of them within `limit`.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self {
            mask: Mask::default(),
            keys: Vec::new(),
            identity: Identity::nobody(),
            dialects: &[Dialect::OpenAi],
            paths: Paths::under("/v1"),
            deployments: Vec::new(),
            asks_usage: true,
            headers: Vec::new(),
            request_timeout: limit,
            connect_timeout: limit,
            first_token_timeout: limit,
            stream_idle_timeout: limit,
            stream_max_duration: limit,
            stream_recovery: StreamRecovery::Off,
            stream_garbage: StreamGarbage::Skip,
            early_keepalive: false,
            retries: Retries::default(),
        }
    }

    /// What the provider calls a model that is asked for.
    fn own_name<'a>(&'a self, model: &'a str) -> &'a str {
        self.deployments.iter().find(|(name, _)| name == model).map_or(model, |(_, own)| own)
    }
}

/// A provider's way upstream.
pub(crate) struct Attempt {
    pub(crate) settings: AttemptSettings,
    pub(crate) transport: Arc<dyn Transport>,
    /// What answers that are held whole may take.
    pub(crate) bytes: ByteBudget,
}

impl Attempt {
    /// Why an attempt ran out of time: the message names the limit, so that it can be raised. `own` is whether the
    /// request's own deadline came before the provider's limit.
    pub(crate) fn late(&self, streamed: bool, own: bool) -> Error {
        let (code, what) = match streamed {
            true => (Code::FirstTokenTimeout, "first event"),
            false => (Code::UpstreamTimeout, "whole answer"),
        };
        if own {
            return Error::new(code, format!("the provider gave no {what} in the time that the request allows"));
        }
        let first = streamed && self.settings.first_token_timeout <= self.settings.request_timeout;
        let key = if first { "first_token_timeout" } else { "default_request_timeout_in_seconds" };
        let limit = format_duration(self.limit(streamed));
        Error::new(code, format!("the provider gave no {what} within {limit} ({key})"))
    }

    /// Whether the answer to `call` is a stream that is held until its end was seen.
    pub(crate) fn holds(&self, call: &Call) -> bool {
        let recovery = call.stream_recovery.unwrap_or(self.settings.stream_recovery);
        call.fields.stream && !call.operation.is_forward() && recovery == StreamRecovery::Buffer
    }

    /// The longest that a running attempt at `call` takes until it answers its waiter.
    pub(crate) fn longest(&self, call: &Call) -> Duration {
        let held = if self.holds(call) { self.settings.stream_max_duration } else { Duration::ZERO };
        self.limit(call.fields.stream).saturating_add(held)
    }

    /// The longest that a running attempt takes until its whole answer is there, or the first event of a stream.
    pub(crate) fn limit(&self, streamed: bool) -> Duration {
        if streamed {
            self.settings.first_token_timeout.min(self.settings.request_timeout)
        } else {
            self.settings.request_timeout
        }
    }
}

/// What a worker writes and reads with. The memory is the pool's, and had only while it is needed: thousands of workers
/// that each kept their own would hold what only those at work use.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) body: Buffer,
    pub(crate) read: Buffer,
    pub(crate) out: Buffer,
    /// Answers until the next one whose headers are asked for the provider's rate limit.
    unasked: u32,
}

/// One answer in so many, and a worker's first, is asked for the provider's rate limit: it seldom changes, and looking
/// through a head is dearer than counting down.
const ASK_EVERY: u32 = 16;

impl Scratch {
    /// Gives the memory back.
    fn empty(&mut self) {
        *self = Self { unasked: self.unasked, ..Self::default() };
    }
}

/// An attempt under way. Field order is drop order: the place goes back, the job is counted, and then its waiter hears.
pub(super) struct Active {
    pub(super) pass: Pass,
    pub(super) permit: Permit,
    pub(super) running: Running,
    /// Held only as long as a sink may stand in it: the waiter gives the shell back once nobody else holds it.
    pub(super) job: Option<Joint<Job>>,
    pub(super) responder: Responder,
    pub(super) call: Arc<Call>,
    pub(super) crossing: Crossing,
    /// What of the request could not be said to the provider.
    pub(super) lost: Lost,
    pub(super) model: Arc<str>,
    pub(super) progress: Progress,
    pub(super) taken: Instant,
    pub(super) queue: Duration,
}

impl Active {
    /// The timing of an attempt that ends now.
    pub(super) fn timing(&self) -> Timing {
        let upstream = now().saturating_duration_since(self.taken);
        Timing { queue: self.queue, upstream, ..Timing::default() }
    }

    /// Who answers, and where the time of this attempt and of those before it went.
    pub(super) fn served(&self, shared: &Shared, mut timing: Timing) -> Served {
        timing += self.progress.spent;
        Served {
            provider: Arc::clone(&shared.settings.name),
            model: self.model.to_string(),
            attempts: self.progress.attempts + 1,
            fallbacks: self.progress.fallbacks,
            timing,
            overhead: timing.overhead(self.call.arrived, now()),
        }
    }

    /// What the answer is told with, where its provider does not say it.
    pub(super) fn meta(&self) -> Meta<'_> {
        Meta {
            id: self.call.request_id.as_str(),
            created: unix_ms() / 1000,
            model: &self.model,
            stream_usage: self.call.fields.include_usage,
        }
    }

    /// Judges a whole answer, and makes the client's of it.
    fn decode(&self, incoming: &Incoming, body: &[u8]) -> Result<Decoded, Error> {
        let told = (incoming.status, incoming.header("x-amzn-errortype"));
        self.crossing.decode(&self.call.operation, told, body, || self.meta())
    }

    /// The header lines of a good answer that go to the client, and what of the request was left out.
    pub(super) fn headers(&self, shared: &Shared, upstream: Vec<(String, String)>) -> Vec<(String, String)> {
        let forwarded = self.call.operation.is_forward();
        let mut headers = headers::for_client(upstream, &shared.attempt.settings.mask, forwarded);
        if self.crossing.translates() {
            headers.retain(|(name, _)| name != "content-type");
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        if !self.lost.names().is_empty() {
            headers.push((DROPPED.to_owned(), self.lost.names().join(", ")));
        }
        headers
    }

    /// Counts the end, gives the place back, and answers.
    pub(super) fn end(self, shared: &Shared, result: Result<Reached, Error>) {
        let timing = self.timing();
        shared.figures.note_service(timing.queue, timing.upstream);
        let Self { pass, permit, running, job, responder, .. } = self;
        match &result {
            Ok(reached) => {
                let usage = match reached {
                    Reached::Answer(answer, _) => answer.usage,
                    Reached::Streaming => None,
                };
                pass.end(Ok(&Done { usage, took: timing.upstream }));
                running.succeed(timing.upstream);
            }
            Err(error) => {
                pass.end(Err(error));
                running.fail(error, timing.upstream);
            }
        }
        drop((permit, job));
        responder.answer(Reply { result, timing });
    }
}

/// Serves one job.
pub(crate) fn run(
    shared: &Shared,
    face: &Face,
    job: Joint<Job>,
    payload: Payload,
    taken: Instant,
    scratch: &mut Scratch,
) {
    let Payload { pass, permit, entry, responder, call, crossing, model, submitted, progress, .. } = payload;
    let queue = taken.saturating_duration_since(submitted);
    let running = entry.taken(Asked::of(&call.operation, &model), taken);
    let streamed = call.fields.stream;
    let forwarded = call.operation.is_forward();
    let held = shared.attempt.holds(&call);
    // What is forwarded brings its sink, too: whether its answer is relayed is known by the answer's head.
    let job = ((streamed && !held) || forwarded).then_some(job);
    let lost = Lost::default();
    let mut active =
        Active { pass, permit, running, job, responder, call, crossing, lost, model, progress, taken, queue };
    let limit = Deadline::from(taken, shared.attempt.limit(streamed));
    let until = active.call.deadline.map_or(limit, |deadline| deadline.earlier(limit));
    let opened = open(shared, face, &mut active, until, scratch);
    if opened.as_ref().is_ok_and(|incoming| openai::is_success(incoming.status)) {
        active.pass.accepted();
        active.running.accepted();
    }
    match opened {
        Ok(incoming) if openai::is_success(incoming.status) && held => {
            rescue::run(shared, face, active, incoming, until, scratch);
        }
        Ok(incoming)
            if openai::is_success(incoming.status) && (streamed || (forwarded && is_relayed(&active, &incoming))) =>
        {
            relay::run(shared, face, active, incoming, until, scratch);
        }
        Ok(incoming) => {
            let result = read_whole(shared, &active, incoming, until);
            face.enter(WorkerState::Responding);
            active.end(shared, result.map(|(answer, held)| Reached::Answer(answer, held)));
        }
        Err(error) => active.end(shared, Err(error)),
    }
    scratch.empty();
}

/// Whether an answer to what was forwarded goes on as it comes: events, and what is long or of unknown length. A short
/// one is read whole, and so is JSON whose length is not told, which most often is short.
fn is_relayed(active: &Active, incoming: &Incoming) -> bool {
    let unknown = if is_of(incoming, "application/json") { 0 } else { u64::MAX };
    let long = incoming.body.content_length().unwrap_or(unknown) > whole::OWN as u64;
    (long || is_of(incoming, "text/event-stream")) && active.job.as_ref().is_some_and(|job| job.sink.is_held())
}

/// Sends the request and reads the answer's head.
fn open(
    shared: &Shared,
    face: &Face,
    active: &mut Active,
    until: Deadline,
    scratch: &mut Scratch,
) -> Result<Incoming, Error> {
    let (settings, call, crossing) = (&shared.attempt.settings, &active.call, active.crossing);
    let model = settings.own_name(&active.model);
    let (method, body, content_type, accept) = match &call.operation {
        Operation::Forward(forward) => {
            let accept = forward.accept.as_deref().unwrap_or("*/*");
            (forward.method, &*call.body, forward.content_type.as_deref(), accept)
        }
        _ => {
            scratch.body = shared.stock.buffers.buffer_for(Some(call.body.len() as u64));
            active.lost = crossing.encode(call, model, settings.asks_usage, &mut scratch.body)?;
            ("POST", &*scratch.body, Some("application/json"), crossing.accept(call.fields.stream))
        }
    };
    let key = active.pass.send_key();
    let mut headers = Vec::with_capacity(settings.headers.len() + call.headers.len() + 4);
    headers.extend(content_type.map(|content_type| ("content-type", content_type)));
    // Whoever says nothing of codings takes any (RFC 9110, section 12.5.3), and bytes that pass through are not unpacked.
    headers.extend([("accept", accept), ("accept-encoding", "identity")]);
    let own = settings
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .chain(key.and_then(Credential::line));
    headers.extend(own.clone());
    // What the configuration says goes before what a client says.
    let configured = |wanted: &str| own.clone().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
    // A retry and a fallback are steps of their own.
    let step = call.trace.as_ref().map(|trace| (trace.parent_of(active.progress.attempts), trace.state()));
    if let Some((parent, state)) = &step {
        let lines = [("traceparent", Some(parent.as_str())), ("tracestate", *state)];
        let said = lines.into_iter().filter(|(name, _)| !configured(name));
        headers.extend(said.filter_map(|(name, value)| Some((name, value?))));
    }
    let passing = call.headers.iter().filter(|(name, _)| crossing.takes(name) && !configured(name));
    headers.extend(passing.map(|(name, value)| (*name, value.as_str())));
    add_missing(crossing.headers(), &mut headers);
    let path = settings.paths.of(crossing.asks(&call.operation), model, call.fields.stream);
    #[cfg(feature = "bedrock")]
    let signature = match key {
        Some(Credential::Signature(signer)) => Some(signer.sign(method, &path, &headers, body)),
        _ => None,
    };
    #[cfg(feature = "bedrock")]
    headers.extend(signature.iter().flat_map(Signature::lines));
    let outgoing = Outgoing { method, path: &path, headers: &headers, body };
    let control = Control {
        request_id: Some(&call.request_id),
        cancel: &call.cancel,
        deadline: until,
        connect_timeout: settings.connect_timeout,
    };
    face.enter(WorkerState::ApiCall);
    let sent = shared.attempt.transport.send(&outgoing, &control);
    scratch.body = Buffer::default();
    let incoming = sent.map_err(|error| transport_error(shared, active, error))?;
    active.pass.note_headers(&incoming.headers);
    if scratch.unasked == 0 {
        scratch.unasked = ASK_EVERY;
        if let Some(rate) = headers::rate_limit(&incoming.headers) {
            shared.figures.rate_limit.set(rate);
        }
    }
    scratch.unasked -= 1;
    if let Some(coding) = headers::coding(&incoming.headers)
        && call.fields.stream
        && openai::is_success(incoming.status)
        && !call.operation.is_forward()
    {
        return Err(coded(coding));
    }
    // The simulated provider asks for a panic by this header, so that tests can see one contained.
    if cfg!(debug_assertions) && incoming.header("x-sluicegate-sim") == Some("panic") {
        panic!("the simulated provider asked for a panic");
    }
    Ok(incoming)
}

/// Reads and judges a whole answer.
fn read_whole(
    shared: &Shared,
    active: &Active,
    mut incoming: Incoming,
    until: Deadline,
) -> Result<(Answer, Option<Bytes>), Error> {
    let limit = if openai::is_success(incoming.status) { MAX_ANSWER } else { MAX_ERROR_ANSWER };
    let mut body = shared.stock.responses.buffer_for(incoming.body.content_length());
    let held = whole::read(shared, active, &mut incoming.body, limit, until, &mut body)?;
    let forwarded = active.call.operation.is_forward();
    let coding = if forwarded { None } else { headers::coding(&incoming.headers) };
    let decoded = match coding {
        Some(coding) if incoming.status < 400 => Err(coded(coding)),
        // Its words cannot be read; its status can.
        Some(_) => active.decode(&incoming, b""),
        None => active.decode(&incoming, &body),
    };
    let Decoded { usage, body: own } = match decoded {
        Ok(decoded) => decoded,
        Err(error) => {
            let mask = &shared.attempt.settings.mask;
            return Err(headers::with_upstream(masked(error, mask), incoming.headers, mask));
        }
    };
    if let Some(usage) = usage {
        active.running.note_usage(usage);
    }
    let headers = active.headers(shared, incoming.headers);
    let body = own.map_or(body, Buffer::from);
    let answer =
        Answer { status: incoming.status, headers, body, usage, served: active.served(shared, active.timing()) };
    Ok((answer, held))
}

/// Adds of these header lines those that nobody has said.
pub(super) fn add_missing<'a>(lines: &[(&'a str, &'a str)], headers: &mut Vec<(&'a str, &'a str)>) {
    let is_missing = |name: &str| !headers.iter().any(|(said, _)| said.eq_ignore_ascii_case(name));
    let missing: Vec<_> = lines.iter().copied().filter(|(name, _)| is_missing(name)).collect();
    headers.extend(missing);
}

/// The provider was asked for an answer as it is, and sent one in a content coding: what is not read is not passed on.
fn coded(coding: &str) -> Error {
    let text = format!("the provider's answer has the content coding {coding:?}, and was asked for in none");
    Error::new(Code::UpstreamBadResponse, text)
}

/// Whether an answer is of this media type, whatever its parameters.
pub(super) fn is_of(incoming: &Incoming, kind: &str) -> bool {
    let found = incoming.header("content-type").and_then(|found| found.split(';').next());
    found.is_some_and(|found| found.trim().eq_ignore_ascii_case(kind))
}

/// The provider's words without the secrets that it was sent, should it echo them.
pub(super) fn masked(error: Error, mask: &Mask) -> Error {
    let Some(answer) = error.upstream_answer() else { return error };
    let mut masked = answer.clone();
    masked.message = mask.apply(masked.message);
    for text in [&mut masked.kind, &mut masked.param, &mut masked.code] {
        *text = text.take().map(|text| mask.apply(text));
    }
    Error::upstream(masked)
}

/// The gateway's error for a transport's, before a stream's first event.
pub(super) fn transport_error(shared: &Shared, active: &Active, error: TransportError) -> Error {
    use TransportErrorKind as Kind;
    let code = match error.kind {
        Kind::Cancelled(reason) => return cancelled(reason),
        Kind::Timeout => {
            let streamed = active.call.fields.stream;
            let limit = Deadline::from(active.taken, shared.attempt.limit(streamed));
            let own = active.call.deadline.is_some_and(|deadline| deadline < limit);
            return shared.attempt.late(streamed, own).with_source(error);
        }
        Kind::ConnectTimeout => {
            let limit = format_duration(shared.attempt.settings.connect_timeout);
            let text = format!("{} (connect_timeout is {limit})", error.message);
            return Error::new(Code::UpstreamConnectError, text).with_source(error);
        }
        Kind::Protocol | Kind::TooLarge | Kind::Cut => Code::UpstreamBadResponse,
        _ => Code::UpstreamConnectError,
    };
    Error::new(code, error.message.clone()).with_source(error)
}
