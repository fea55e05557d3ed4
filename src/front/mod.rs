//! The data plane: API routes on the HTTP server.
//!
//! [`Front`] judges a request by its head (route, key, load), parses its body, and has the gateway handle it; it writes
//! answers and errors in the shape of the route. It knows nothing of framing, pools or providers.
//!
//! Served are, in OpenAI's shapes, `POST /v1/chat/completions`, `/v1/completions`, `/v1/embeddings` and `/v1/responses`, in
//! Anthropic's `POST /v1/messages` and `/v1/messages/count_tokens`, `GET /v1/models` and `/v1/models/{id}`, whatever else the two
//! have under `/openai/v1/` and `/anthropic/v1/`, Bedrock's `POST /bedrock/model/{id}/` with `converse`, `converse-stream`,
//! `invoke` and `invoke-with-response-stream`, and `GET /livez`, `/readyz` and `/health`. A client sends its gateway key as
//! `Authorization: Bearer KEY`, or as `x-api-key`; signatures of AWS's are not looked at. Requests may bear `x-request-id`,
//! `x-sluicegate-timeout`, `x-sluicegate-priority` and `x-sluicegate-stream-recovery`; answers say `x-request-id` and, in `x-sluicegate-*`, who answered
//! and where the time went.

// Read `admission` for what is refused before a body is read, `keys` and `cors` for whom the gateway answers, `coding` for
// compressed bodies, `sink` for how a stream reaches its client.

mod admission;
mod answer;
mod coding;
mod cors;
mod keys;
mod models;
mod routes;
mod sink;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, Scope, StreamRecovery};
use crate::error::{Code, Error};
use crate::gateway::{CallOptions, Gateway, Handled, Place, RequestGuard, StartError};
use crate::http::{
    Admission, ConnectionStats, Exchange, Finished, Head, Hold, Limits, Request, Response, Server, Service,
    client_address,
};
use crate::ids::{RequestId, Trace};
use crate::model::{Call, Operation, Priority, Sink, Timing};
use crate::plugin::Chain;
use crate::recycle::Buffer;
use crate::sync::Role;
use crate::time::{Deadline, now, parse_duration};
use crate::wire::{self, passing};
use admission::{Admitted, Door, Parts};
use coding::Compressors;
use cors::Cors;
use routes::Route;
use sink::ClientSink;

/// The data plane of a gateway: its listener and what answers there.
///
/// It is ended in this order: no new connection, then the gateway's requests, then the connections that are left.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::Gateway;
/// use sluicegate::front::Front;
///
/// let gateway = Gateway::from_env()?;
/// let front = Front::start(&gateway, "127.0.0.1:0".parse()?)?;
/// println!("http://{}/v1/chat/completions", front.addr());
/// assert_eq!(front.stats().accepted_total, 0);
///
/// front.stop_accepting();
/// gateway.shutdown(Duration::from_secs(30));
/// assert!(front.shutdown(Duration::from_secs(5)).is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Front {
    server: Server,
}

impl Front {
    /// Listens on `listen` and serves `gateway` there.
    ///
    /// # Errors
    /// If the address cannot be listened on, or a thread cannot be started.
    pub fn start(gateway: &Gateway, listen: SocketAddr) -> Result<Self, StartError> {
        let listener = TcpListener::bind(listen).map_err(|error| {
            StartError::Listen(std::io::Error::new(error.kind(), format!("{listen} (server.listen): {error}")))
        })?;
        let config = gateway.config();
        let compressors = Compressors::new();
        let service = Arc::new(Api { gateway: gateway.clone(), door: Door::new(gateway), compressors });
        let mut limits = Limits::of(&config, Role::Conn);
        if let Some(room) = gateway.client_connections() {
            limits.max_turned_away = room.turned_away;
            let most = limits.max_connections;
            if room.most < most as u64 {
                limits.max_connections = room.most as usize;
                log::warn!(
                    "at most {} connections at a time, not {most} (server.max_connections): descriptors run short (ulimit -n)",
                    room.most
                );
            }
        }
        let (threads, watcher) = (gateway.threads().clone(), gateway.watcher()?);
        let server = Server::secured(listener, limits, gateway.certificates(), threads, watcher, service, "http")?;
        Ok(Self { server })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Takes no new connection; what is under way goes on.
    pub fn stop_accepting(&self) {
        self.server.stop_accepting();
    }

    /// Its connections' part of `/stats`.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        self.server.stats()
    }

    /// Ends it: waits for what is under way until `deadline`, then cuts. Names the threads that did not end.
    pub fn shutdown(self, deadline: impl Into<Deadline>) -> Vec<String> {
        self.server.shutdown(deadline.into())
    }
}

/// The API on a gateway.
struct Api {
    gateway: Gateway,
    door: Door,
    compressors: Compressors,
}

/// What a request with a key turned out to ask for when its head was judged; it travels with the request until it is served.
#[expect(clippy::large_enum_variant, reason = "it is boxed as soon as it is made")]
enum Judged {
    /// A provider, with the name that a bare model means.
    Call(Operation, Option<&'static str>, Admitted),
    /// The list of models, as far as the key has them.
    Models(Scope),
    /// One of them.
    Model(Option<String>, Scope),
}

/// What was judged of the request that holds this.
fn judged(hold: Hold) -> Option<Judged> {
    hold.downcast().ok().map(|judged| *judged)
}

fn bodiless(judged: Judged) -> Admission {
    Admission { max_body: Some(0), hold: Some(Box::new(judged)) }
}

impl Service for Api {
    fn admit(&self, head: &Head, peer: SocketAddr) -> Result<Admission, Response> {
        match self.cors(|cors| cors.preflight(head)) {
            Some(leave) => Err(leave),
            None => self.judge(head, peer).map_err(|refused| self.cors(|cors| cors.dress(head, refused))),
        }
    }

    fn buffer(&self, announced: Option<u64>) -> Buffer {
        self.gateway.buffer(announced)
    }

    fn serve(&self, request: Request, mut exchange: Exchange) -> Finished {
        let Request { head, body, hold, peer, .. } = request;
        exchange.also(self.cors(|cors| cors.lines(&head)));
        match hold.and_then(judged) {
            Some(Judged::Call(operation, prefix, admitted)) => {
                self.call((&head, peer), (operation, prefix), body, admitted, exchange)
            }
            Some(Judged::Models(scope)) => {
                let refresh = models::refreshed(&self.gateway, &head);
                let response = models::dressed(models::list(&self.gateway, &scope), &refresh, &scope);
                exchange.respond(self.compressors.encode(&head, response))
            }
            Some(Judged::Model(id, scope)) => {
                let refresh = models::refreshed(&self.gateway, &head);
                let found = models::one(&self.gateway, id.as_deref(), &scope);
                let response = found.unwrap_or_else(|e| told(&head, &e.with_request_id(&request_id(&head))));
                exchange.respond(models::dressed(response, &refresh, &scope))
            }
            None => exchange.respond(self.probe(&head)),
        }
    }

    fn refusal(
        &self,
        head: Option<&Head>,
        status: u16,
        error: &Error,
        hold: Option<Box<dyn std::any::Any + Send>>,
    ) -> Response {
        let id = match hold.and_then(judged) {
            Some(Judged::Call(.., admitted)) => admitted.refuse(error),
            _ => head.map_or_else(RequestId::fresh, request_id),
        };
        let shape = routes::shape(head.map_or("", Head::path));
        let refusal = answer::refusal(shape, status, error, &id);
        match head {
            Some(head) => self.cors(|cors| cors.dress(head, refusal)),
            None => refusal,
        }
    }
}

impl Api {
    /// What the origins that are admitted now make of something.
    fn cors<T>(&self, say: impl FnOnce(Cors<'_>) -> T) -> T {
        self.gateway.with_config(|config| say(Cors::new(&config.server.cors_origins)))
    }

    /// Whether a request is served, by its head.
    fn judge(&self, head: &Head, peer: SocketAddr) -> Result<Admission, Response> {
        let route =
            routes::find(head).map_err(|refused| refused.response(routes::shape(head.path()), &request_id(head)))?;
        match route {
            Route::Probe => Ok(Admission { max_body: Some(0), hold: None }),
            // No request to a provider: it is judged by its key, and not counted.
            Route::Models => Ok(bodiless(Judged::Models(self.known(head, peer)?))),
            Route::Model(id) => Ok(bodiless(Judged::Model(id, self.known(head, peer)?))),
            Route::Call(operation, prefix) => {
                let admitted = self.door.admit(&self.gateway, head, peer).map_err(|error| {
                    let answer = told(head, &error);
                    // One who is to come again need not connect again for it.
                    if error.code() == Code::Overloaded { answer.discard_body() } else { answer }
                })?;
                Ok(Admission { max_body: None, hold: Some(Box::new(Judged::Call(operation, prefix, admitted))) })
            }
        }
    }

    fn probe(&self, head: &Head) -> Response {
        match head.path() {
            "/livez" => answer::text(200, "ok\n"),
            "/readyz" if self.gateway.is_ready() => answer::text(200, "ready\n"),
            "/readyz" => answer::text(503, "not ready\n").header("retry-after", "1"),
            _ => answer::health(&self.gateway),
        }
    }

    /// What a caller may use whose request is not counted.
    fn known(&self, head: &Head, peer: SocketAddr) -> Result<Scope, Response> {
        self.door
            .client(&self.gateway, head, peer)
            .map(|client| client.scope)
            .map_err(|error| told(head, &error.with_request_id(&request_id(head))))
    }

    /// A request for a provider, streamed or not.
    fn call(
        &self,
        (head, peer): (&Head, SocketAddr),
        (operation, prefix): (Operation, Option<&'static str>),
        body: Buffer,
        admitted: Admitted,
        mut exchange: Exchange,
    ) -> Finished {
        let Parts { mut guard, scope, key, request_id, mut held } = admitted.open();
        held.settle(body.len());
        let shape = routes::shape(head.path());
        let forwarded = operation.is_forward();
        let plugins = self.gateway.http_plugins();
        guard.keep_plugins(plugins.clone());
        let dressed = |response| match &plugins {
            Some(plugins) => plugins.http_response(response),
            None => response,
        };
        let asked = Asked { head, operation, prefix, peer, request_id: &request_id, arrived: guard.arrived() };
        let call = match self.read(asked, body, plugins.as_deref(), &mut held) {
            Ok(call) => Arc::new(Call { scope, key, ..call }),
            Err(NoCall::Answered(response)) => {
                note_answered(&mut guard, response.status);
                drop((guard, held));
                return exchange.respond(dressed(response.header("x-request-id", request_id.as_str())));
            }
            Err(NoCall::Refused(error)) => {
                let spent = Timing::default().spent(guard.arrived(), now());
                let error = error.with_request_id(&request_id).with_spent(spent);
                guard.fail(&error);
                // The client's next request, on whatever connection, finds its place free.
                drop((guard, held));
                return exchange.respond(dressed(told(head, &error)));
            }
        };
        exchange.watch(&call.cancel);
        if !call.fields.stream && !forwarded {
            let handled = self.gateway.handle(&call, guard, None);
            drop(held);
            return match handled {
                Handled::Answer(whole, guard, _) => {
                    let response = self.compressors.encode(head, dressed(answer::whole(shape, whole, &call)));
                    let finished = exchange.respond(response);
                    // A drain waits until the answer is written, however slowly its client reads.
                    drop(guard);
                    finished
                }
                Handled::Failed(error, _) => exchange.respond(dressed(told(head, &error))),
                Handled::Streaming => exchange.respond(told(head, &lost(&request_id))),
            };
        }
        let sink = ClientSink::new(exchange, shape, request_id, held, plugins.clone());
        match self.gateway.handle(&call, guard, Some(Box::new(sink))) {
            Handled::Streaming => Finished::moved(),
            Handled::Failed(error, sink) => match sink.and_then(ClientSink::exchange) {
                Some(exchange) => exchange.respond(dressed(told(head, &error))),
                // The worker that had the sink panicked: the sink's own drop has answered.
                None => Finished::moved(),
            },
            // What was forwarded was answered briefly.
            Handled::Answer(whole, guard, sink) => match sink.and_then(ClientSink::exchange) {
                Some(exchange) => {
                    let finished = exchange.respond(dressed(answer::whole(shape, whole, &call)));
                    drop(guard);
                    finished
                }
                // The sink went with the job, and its drop has answered.
                None => Finished::moved(),
            },
        }
    }

    /// What a request asks for, its body decompressed, seen by the plugins and parsed.
    fn read(&self, asked: Asked<'_>, body: Buffer, plugins: Option<&Chain>, held: &mut Place) -> Result<Call, NoCall> {
        let Asked { head, operation, prefix, peer, request_id, arrived } = asked;
        let mut options = options(head, request_id)?;
        let mut body = if coding::is_gzip(head)? {
            let most = self.gateway.with_config(|config| config.server.max_body_bytes);
            let plain = coding::gunzip(&body, most, |more| {
                held.absorb(self.gateway.take_bytes(options.priority, more)?);
                Ok(())
            })?;
            drop(body);
            held.settle(plain.len());
            plain.into()
        } else {
            body
        };
        if let Some(plugins) = plugins {
            let trusted = |config: &Config| client_address(head, peer, &config.server.trusted_proxies);
            let seen = plugins.http_request(head, self.gateway.with_config(trusted), &body)?;
            if let Some(reply) = seen.reply {
                return Err(NoCall::Answered(reply));
            }
            options.tags = seen.tags;
            if let Some(changed) = seen.body {
                let grown = changed.len().saturating_sub(body.len()) as u64;
                held.absorb(self.gateway.take_bytes(options.priority, grown)?);
                body = changed.into();
            }
        }
        if let Operation::Forward(forward) = &operation
            && matches!(forward.method, "GET" | "DELETE")
            && !body.is_empty()
        {
            let text = format!("a {} is forwarded without a body", forward.method);
            return Err(Error::new(Code::InvalidRequest, text).into());
        }
        let fields = wire::parse(&operation, &body)?;
        let mut headers = passing::upstream(head.headers())?;
        let trace = Trace::taken_from(&mut headers);
        Ok(Call { operation, prefix, headers, trace, ..options.call(body, fields, arrived)? })
    }
}

/// A request by its head, and who sent it.
struct Asked<'a> {
    head: &'a Head,
    operation: Operation,
    /// The provider that a bare model means.
    prefix: Option<&'static str>,
    peer: SocketAddr,
    request_id: &'a RequestId,
    arrived: Instant,
}

/// Why a request goes no further.
enum NoCall {
    Refused(Error),
    /// A plugin has answered it.
    Answered(Response),
}

impl From<Error> for NoCall {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Counts a request that a plugin answered with this status.
fn note_answered(guard: &mut RequestGuard, status: u16) {
    let code = match status {
        ..400 => return guard.succeed(),
        401 => Code::Unauthorized,
        403 => Code::Forbidden,
        429 => Code::RateLimited,
        400..500 => Code::InvalidRequest,
        _ => Code::Internal,
    };
    guard.fail(&Error::new(code, "a plugin refused it"));
}

/// An error in the shape of the route that was asked.
fn told(head: &Head, error: &Error) -> Response {
    answer::error(routes::shape(head.path()), error)
}

fn lost(id: &RequestId) -> Error {
    Error::new(Code::Internal, "a stream began that was not asked for").with_request_id(id)
}

/// The id that the client sent, or a fresh one.
fn request_id(head: &Head) -> RequestId {
    head.header("x-request-id").and_then(RequestId::from_client).unwrap_or_else(RequestId::fresh)
}

/// Whether somebody waits for the answer, as the request says.
fn priority(head: &Head) -> Result<Priority, Error> {
    match head.header("x-sluicegate-priority") {
        None | Some("interactive") => Ok(Priority::Interactive),
        Some("batch") => Ok(Priority::Batch),
        Some(_) => {
            let text = "the priority is neither \"interactive\" nor \"batch\"";
            Err(Error::invalid("x-sluicegate-priority", text))
        }
    }
}

/// What the request's own headers ask for.
fn options(head: &Head, request_id: &RequestId) -> Result<CallOptions, Error> {
    let mut options = CallOptions::new().request_id(request_id.clone()).priority(priority(head)?);
    if let Some(text) = head.header("x-sluicegate-timeout") {
        let limit = parse_duration(text).map_err(|error| Error::invalid("x-sluicegate-timeout", error.to_string()))?;
        if limit < Duration::from_millis(1) {
            return Err(Error::invalid("x-sluicegate-timeout", "the time limit must be at least 1ms"));
        }
        options = options.deadline(limit);
    }
    let recovery = match head.header("x-sluicegate-stream-recovery") {
        None => return Ok(options),
        Some("off") => StreamRecovery::Off,
        Some("buffer") => StreamRecovery::Buffer,
        Some(_) => {
            let text = "the stream recovery is neither \"off\" nor \"buffer\"";
            return Err(Error::invalid("x-sluicegate-stream-recovery", text));
        }
    };
    Ok(options.stream_recovery(recovery))
}

impl ClientSink {
    /// The exchange of a sink that came back unused.
    fn exchange(sink: Box<dyn Sink>) -> Option<Exchange> {
        sink.into_any().downcast::<Self>().ok().and_then(|sink| sink.into_exchange())
    }
}
