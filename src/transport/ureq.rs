//! The one place that knows the HTTP library: ureq writes and reads HTTP/1.1, and everything else here is ours.
//!
//! Its traits for connectors and transports stand outside its promises of compatibility, which is why nothing else names
//! it. What it would do by itself is turned off: no pool (its own hands out the oldest connection and probes it with three
//! system calls under one lock), no look-ups, no time-outs, no redirects, no proxy from the environment, no headers of its
//! own but `Host` and `Content-Length`, no limit on bodies, no status as an error.
//!
//! **Protocol.** [`UreqTransport::send`] puts its attempt into a thread-local and runs the agent, which asks our connector
//! for a [`Wire`]. A wire holds what it is told to transmit until the library waits for input or the buffer is full, so that
//! a small request leaves in one system call. At an answer's clean end by framing, with keep-alive and no byte too many,
//! and only then, the library asks whether the wire is still open: that is when it gives its connection back to the pool
//! and says no, so that the library drops the shell without taking its own pool's lock again.
//!
//! The request's own headers, its key among them, go around the library and are put into the head as it leaves: the
//! library writes every byte that it makes to the log where that is set to trace (I10).

use std::fmt;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Duration;

use ::ureq::config::{AutoHeaderValue, Config};
use ::ureq::http::uri::{Authority, PathAndQuery, Scheme};
use ::ureq::http::{HeaderName, Method, Request, Response, Uri};
use ::ureq::unversioned::resolver as library_resolver;
use ::ureq::unversioned::transport as library;
use ::ureq::unversioned::transport::NextTimeout;
use ::ureq::{Agent, AsSendBody, BodyReader, Error};

use super::attempt::{self, Attempt, Stage};
use super::body::Source;
use super::buffers::{Buffers, MAX_HEAD};
use super::dial::Dialer;
use super::endpoint::{BuildError, Endpoint};
use super::link::Link;
use super::pool::Pool;
use super::tls;
use super::{
    Body, ConnectionCounts, ConnectionStats, Control, Incoming, Outgoing, Resolver, Transport, TransportError,
    TransportErrorKind as Kind,
};
use crate::time::Deadline;

/// How one provider is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Scheme, host, and the path in front of each request's own; a slash at its end is cut.
    pub base_url: String,
    /// How long a connection may wait for its next request.
    pub idle_connection_timeout: Duration,
    /// How many connections may wait.
    pub max_idle: usize,
    /// The certificate authorities that are trusted, instead of the built-in ones.
    pub ca_cert_pem: Option<String>,
    /// Whether a name may lead to an address of this machine or a private network. A base URL that itself names one is
    /// consent already.
    pub allow_private: bool,
}

/// HTTP/1.1 to one provider, over TCP or TLS.
pub struct UreqTransport {
    agent: Agent,
    pool: Arc<Pool>,
    base: Base,
}

/// The parts of the base URL, parsed once.
struct Base {
    scheme: Scheme,
    authority: Authority,
    path: String,
}

impl Base {
    fn parse(base_url: &str) -> Result<Self, BuildError> {
        let wrong = |why: &str| BuildError::new(format!("base_url {why}"));
        let url: Uri = base_url.parse().map_err(|_| wrong("is no URL"))?;
        let parts = url.into_parts();
        let scheme = parts.scheme.filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
        let scheme = scheme.ok_or_else(|| wrong("must begin with http:// or https://"))?;
        let authority = parts.authority.ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("must hold no user and password"));
        }
        if authority.host().is_empty() || authority.as_str().ends_with(':') {
            return Err(wrong("names no host, or no port after its colon"));
        }
        let path = parts.path_and_query.filter(|path| path.as_str() != "/");
        if path.as_ref().is_some_and(|path| path.query().is_some()) {
            return Err(wrong("must hold no query"));
        }
        let path = path.map_or_else(String::new, |path| path.path().trim_end_matches('/').to_owned());
        Ok(Self { scheme, authority, path })
    }

    fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    fn endpoint(&self) -> Endpoint {
        let host = self.authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = self.authority.port_u16().unwrap_or(if self.is_tls() { 443 } else { 80 });
        Endpoint { host: host.to_owned(), port }
    }

    fn uri(&self, path: &str) -> Option<Uri> {
        let mut whole = String::with_capacity(self.path.len() + path.len());
        whole.push_str(&self.path);
        whole.push_str(path);
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(PathAndQuery::try_from(whole).ok()?)
            .build()
            .ok()
    }

    /// At least the bytes of a request's head without its own lines, so that it is written at once.
    fn head_bytes(&self, request: &Outgoing<'_>) -> usize {
        const FIXED: usize = " HTTP/1.1\r\nhost: :65535\r\ncontent-length: 18446744073709551615\r\n\r\n".len() + 64;
        FIXED + request.method.len() + self.path.len() + request.path.len() + self.authority.as_str().len()
    }
}

impl UreqTransport {
    /// A transport to one provider; nothing is connected yet.
    ///
    /// # Errors
    /// If the base URL is not one of `http` or `https` with a host and without credentials or query, or the certificates
    /// cannot be read.
    pub fn new(settings: Settings, resolver: Arc<Resolver>) -> Result<Self, BuildError> {
        Self::counting(settings, resolver, Arc::default())
    }

    /// The same, for one that takes the place of another whose `counts` go on.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn counting(
        settings: Settings,
        resolver: Arc<Resolver>,
        counts: Arc<ConnectionCounts>,
    ) -> Result<Self, BuildError> {
        let base = Base::parse(&settings.base_url)?;
        let endpoint = Arc::new(base.endpoint());
        let tls =
            base.is_tls().then(|| tls::Client::new(&endpoint.host, settings.ca_cert_pem.as_deref())).transpose()?;
        let dialer = Dialer { endpoint, tls, resolver, allow_private: settings.allow_private };
        let pool = Arc::new(Pool::new(dialer, settings.max_idle, settings.idle_connection_timeout, counts));
        let agent = Agent::with_parts(config(), Connector(Arc::clone(&pool)), NoResolver);
        Ok(Self { agent, pool, base })
    }

    fn try_once(&self, request: &Outgoing<'_>, attempt: Attempt) -> Result<Incoming, TransportError> {
        let mut head = Request::new(());
        *head.method_mut() = Method::from_bytes(request.method.as_bytes()).map_err(|_| unfit("its method".into()))?;
        *head.uri_mut() = self.base.uri(request.path).ok_or_else(|| unfit("its path".into()))?;
        let bodyless = request.body.is_empty() && !matches!(request.method, "POST" | "PUT" | "PATCH");
        let _entered = attempt::enter(attempt);
        let answer = if bodyless { self.run(head, ()) } else { self.run(head, request.body) };
        answer.map(incoming)
    }

    fn run(&self, head: Request<()>, body: impl AsSendBody) -> Result<Response<::ureq::Body>, TransportError> {
        let request = head.map(|()| body);
        self.agent.run(request).map_err(|error| ours(error, self.pool.endpoint()))
    }
}

impl Transport for UreqTransport {
    fn send(&self, request: &Outgoing<'_>, control: &Control<'_>) -> Result<Incoming, TransportError> {
        if let Some(reason) = control.cancel.reason() {
            return Err(TransportError::cancelled(reason));
        }
        if control.deadline.passed() {
            let message = format!("{}: the time was over before it was sent", self.pool.endpoint());
            return Err(TransportError::new(Kind::Timeout, message));
        }
        let lines = header_lines(request.headers)?;
        let attempt = |fresh, lines: Vec<u8>| Attempt {
            cancel: control.cancel.clone(),
            deadline: control.deadline,
            connect_by: Deadline::after(control.connect_timeout),
            fresh,
            head_bytes: self.base.head_bytes(request) + lines.len(),
            lines,
            body_bytes: request.body.len(),
        };
        match self.try_once(request, attempt(false, lines)) {
            Err(error) if error.is_stale() => {
                self.pool.count_stale();
                self.try_once(request, attempt(true, header_lines(request.headers)?))
            }
            other => other,
        }
    }

    fn counts(&self) -> Option<Arc<ConnectionCounts>> {
        Some(self.pool.counts())
    }

    fn connections(&self) -> ConnectionStats {
        self.pool.stats()
    }

    fn close_idle(&self) {
        self.pool.sweep();
    }

    fn retire(&self) {
        self.pool.retire();
    }
}

impl fmt::Debug for UreqTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UreqTransport")
            .field("endpoint", &format_args!("{}", self.pool.endpoint()))
            .field("connections", &self.pool.stats())
            .finish()
    }
}

/// The request's own header lines, each with its line end.
fn header_lines(headers: &[(&str, &str)]) -> Result<Vec<u8>, TransportError> {
    const OURS: [&str; 4] = ["host", "content-length", "transfer-encoding", "expect"];
    let mut lines = Vec::with_capacity(headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum());
    for (name, value) in headers {
        let is_name = HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| !OURS.contains(&name.as_str()));
        if !is_name || !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
            // The value stays out of the message: it may be a key.
            return Err(unfit(format!("its header {name:?}")));
        }
        for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            lines.extend_from_slice(part);
        }
    }
    Ok(lines)
}

fn unfit(what: String) -> TransportError {
    TransportError::new(Kind::Protocol, format!("the request cannot be sent: {what}"))
}

fn config() -> Config {
    Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .save_redirect_history(false)
        .proxy(None)
        .max_idle_connections(0)
        .max_idle_connections_per_host(0)
        .max_response_header_size(MAX_HEAD)
        .user_agent(AutoHeaderValue::None)
        .accept(AutoHeaderValue::None)
        .accept_encoding(AutoHeaderValue::None)
        .timeout_await_100(None)
        .build()
}

fn incoming(response: Response<::ureq::Body>) -> Incoming {
    let (head, body) = response.into_parts();
    let headers = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let length = body.content_length();
    Incoming { status: head.status.as_u16(), headers, body: Body::new(length, Box::new(Reader(body.into_reader()))) }
}

struct Reader(BodyReader<'static>);

impl Source for Reader {
    fn read(&mut self, buf: &mut [u8], deadline: Deadline) -> Result<usize, TransportError> {
        let _bound = attempt::bound(deadline, Stage::Body);
        self.0.read(buf).map_err(|error| broken_body(Error::from(error)))
    }
}

fn broken_body(error: Error) -> TransportError {
    match error {
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            TransportError::new(Kind::Cut, "the connection ended before the answer did")
        }
        Error::Other(error) => own(error).unwrap_or_else(|error| foreign("the answer's body", error)),
        error => foreign("the answer's body", error),
    }
}

/// The library's error as ours: nearly always one that our own connector or transport made.
fn ours(error: Error, endpoint: &Endpoint) -> TransportError {
    match error {
        Error::Other(error) => own(error).unwrap_or_else(|error| foreign(endpoint, error)),
        Error::LargeResponseHeader(..) => {
            let message = format!("{endpoint}: the answer's head is larger than {MAX_HEAD} bytes");
            TransportError::new(Kind::TooLarge, message)
        }
        error => foreign(endpoint, error),
    }
}

type Boxed = Box<dyn std::error::Error + Send + Sync>;

fn own(error: Boxed) -> Result<TransportError, Boxed> {
    error.downcast().map(|error| *error)
}

fn foreign(whose: impl fmt::Display, error: impl Into<Boxed>) -> TransportError {
    TransportError::because(Kind::Protocol, whose, error)
}

fn theirs(error: TransportError) -> Error {
    Error::Other(Box::new(error))
}

#[derive(Debug)]
struct Connector(Arc<Pool>);

impl library::Connector for Connector {
    type Out = Wire;

    fn connect(&self, _details: &library::ConnectionDetails<'_>, _none: Option<()>) -> Result<Option<Wire>, Error> {
        let wire = attempt::with(|attempt| {
            let (link, mut buffers) = self.0.take(attempt)?;
            buffers.output.prepare(attempt.head_bytes, attempt.body_bytes);
            let lines = Some(std::mem::take(&mut attempt.lines));
            Ok(Wire { link: Some(link), buffers, lines, pool: Arc::clone(&self.0) })
        });
        // There is no attempt only if somebody runs the agent past `send`, which nobody can.
        wire.ok_or(Error::ConnectionFailed)?.map(Some).map_err(theirs)
    }
}

/// A connection in the library's hands.
struct Wire {
    /// `None` once given back.
    link: Option<Link>,
    buffers: Buffers,
    /// The request's own header lines, until the head is written.
    lines: Option<Vec<u8>>,
    pool: Arc<Pool>,
}

impl Wire {
    fn send_held(&mut self) -> Result<(), Error> {
        let Buffers { input, output } = &mut self.buffers;
        let link = self.link.as_mut().ok_or(Error::ConnectionFailed)?;
        link.send(output.take(), input, attempt::wait().0).map_err(theirs)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its buffers hold keys and users' words (I10).
        f.debug_struct("Wire").field("endpoint", self.pool.endpoint()).finish_non_exhaustive()
    }
}

impl library::Transport for Wire {
    fn buffers(&mut self) -> &mut dyn library::Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _timeout: NextTimeout) -> Result<(), Error> {
        let output = &mut self.buffers.output;
        let full = match self.lines.take() {
            Some(lines) => output.hold_head(amount, &lines).ok_or(Error::ConnectionFailed)?,
            None => output.hold(amount),
        };
        if full { self.send_held() } else { Ok(()) }
    }

    fn await_input(&mut self, _timeout: NextTimeout) -> Result<bool, Error> {
        if self.buffers.output.holds_any() {
            self.send_held()?;
            self.buffers.output.shrink();
            if self.buffers.input.can_use() {
                return Ok(true);
            }
        }
        let link = self.link.as_mut().ok_or(Error::ConnectionFailed)?;
        link.receive(&mut self.buffers.input, attempt::wait()).map_err(theirs)
    }

    fn is_open(&mut self) -> bool {
        if !self.buffers.output.holds_any()
            && let Some(link) = self.link.take()
        {
            self.pool.give_back(link, std::mem::take(&mut self.buffers));
        }
        false
    }

    fn is_tls(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_tls)
    }
}

impl library::Buffers for Buffers {
    fn output(&mut self) -> &mut [u8] {
        self.output.room()
    }

    fn input(&self) -> &[u8] {
        self.input.bytes()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.input.room()
    }

    fn input_appended(&mut self, amount: usize) {
        self.input.filled(amount);
    }

    fn input_consume(&mut self, amount: usize) {
        self.input.consume(amount);
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        // The first is for chunked requests, of which there are none: every body's length is known.
        (&mut [], self.output.room())
    }

    fn can_use_input(&self) -> bool {
        self.input.can_use()
    }
}

/// Looks nothing up: the library asks on every call, and our connector knows whether it needs an address.
#[derive(Debug)]
struct NoResolver;

impl library_resolver::Resolver for NoResolver {
    fn resolve(
        &self,
        _uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<library_resolver::ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}
