//! A request of the data plane as HTTP, before it is read as anything else, and the head of its answer.

#[cfg(feature = "front")]
mod drive;

use std::fmt;
use std::net::IpAddr;

use super::PluginError;
use crate::http::{Head, Response};
use crate::model::Tags;

/// A request as it came over HTTP. Its key was let in already.
///
/// ```
/// use sluicegate::plugin::{Context, Flow, HttpReply, HttpRequest, Plugin, PluginError, Request};
/// # use sluicegate::Gateway;
///
/// /// Takes the team out of a header, for whoever asks for it later.
/// struct Team;
///
/// impl Plugin for Team {
///     fn name(&self) -> &str {
///         "team"
///     }
///
///     fn http_request(&self, request: &mut HttpRequest<'_>) -> Result<Option<HttpReply>, PluginError> {
///         if let Some(team) = request.header("x-team").map(str::to_owned) {
///             request.tag("team", &team);
///         }
///         Ok(None)
///     }
///
///     fn pre(&self, request: &mut Request<'_>, context: &mut Context<'_>) -> Result<Flow, PluginError> {
///         if context.tags().get("team") == Some("search") {
///             request.set_model("sim/lorem-3");
///         }
///         Ok(Flow::Continue)
///     }
/// }
/// # #[cfg(feature = "front")] {
/// # let body = r#"{"model":"sim/echo","messages":[{"role":"user","content":"Hello"}]}"#;
/// # let send = |to: std::net::SocketAddr, extra: &str| {
/// #     use std::io::{Read as _, Write as _};
/// #     let mut stream = std::net::TcpStream::connect(to)?;
/// #     write!(stream, "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{extra}")?;
/// #     write!(stream, "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
/// #     let mut answer = String::new();
/// #     stream.read_to_string(&mut answer)?;
/// #     std::io::Result::Ok(answer)
/// # };
/// let gateway = Gateway::builder().plugin(Team).build()?;
/// let front = sluicegate::front::Front::start(&gateway, "127.0.0.1:0".parse()?)?;
/// // A client's request with the line `x-team: search`.
/// let answer = send(front.addr(), "x-team: search\r\n")?;
/// assert!(answer.contains("x-sluicegate-model: lorem-3"), "{answer}");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HttpRequest<'a> {
    head: &'a Head,
    peer: IpAddr,
    body: &'a [u8],
    changed: Option<Vec<u8>>,
    tags: Tags,
}

impl HttpRequest<'_> {
    /// The method, in capitals.
    #[must_use]
    pub fn method(&self) -> &str {
        self.head.method()
    }

    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head.path()
    }

    /// The query, if there is one.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.head.query()
    }

    /// The first value of a header, whose name is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The client's address; that of the last proxy which is not trusted, where there are such.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        self.peer
    }

    /// The body, decompressed.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.changed.as_deref().unwrap_or(self.body)
    }

    /// Puts another body in the place of the one that came.
    pub fn set_body(&mut self, body: impl Into<Vec<u8>>) {
        self.changed = Some(body.into());
    }

    /// Puts a note on the request: what other hooks and plugins find in [`Context::tags`](super::Context::tags). One that makes
    /// no good tag is this hook's failure.
    pub fn tag(&mut self, key: &str, value: &str) {
        self.tags.set(key.to_owned(), value.to_owned());
    }

    /// The notes that plugins have put on it.
    #[must_use]
    pub fn tags(&self) -> &Tags {
        &self.tags
    }
}

impl fmt::Debug for HttpRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// The head of an answer that is about to be sent.
///
/// ```
/// use sluicegate::plugin::{HttpResponse, Plugin, PluginError};
/// # use sluicegate::Gateway;
///
/// /// Tells no client who answered.
/// struct Discreet;
///
/// impl Plugin for Discreet {
///     fn name(&self) -> &str {
///         "discreet"
///     }
///
///     fn http_response(&self, response: &mut HttpResponse<'_>) -> Result<(), PluginError> {
///         if response.status() == 200 {
///             response.remove_header("x-sluicegate-provider");
///             response.set_header("x-served-by", "us");
///         }
///         Ok(())
///     }
/// }
/// # #[cfg(feature = "front")] {
/// # let body = r#"{"model":"sim/echo","messages":[{"role":"user","content":"Hello"}]}"#;
/// # let send = |to: std::net::SocketAddr, extra: &str| {
/// #     use std::io::{Read as _, Write as _};
/// #     let mut stream = std::net::TcpStream::connect(to)?;
/// #     write!(stream, "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{extra}")?;
/// #     write!(stream, "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
/// #     let mut answer = String::new();
/// #     stream.read_to_string(&mut answer)?;
/// #     std::io::Result::Ok(answer)
/// # };
/// let gateway = Gateway::builder().plugin(Discreet).build()?;
/// let front = sluicegate::front::Front::start(&gateway, "127.0.0.1:0".parse()?)?;
/// let answer = send(front.addr(), "")?;
/// assert!(answer.contains("x-served-by: us") && !answer.contains("x-sluicegate-provider"), "{answer}");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HttpResponse<'a> {
    response: &'a Response,
    edits: Vec<(String, Option<String>)>,
}

impl HttpResponse<'_> {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.status
    }

    /// The first value of a header, whose name is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.edits.iter().rev().find(|(known, _)| known == name) {
            Some((_, value)) => value.as_deref(),
            None => self.response.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()),
        }
    }

    /// Sets a header, in the place of all of that name. Framing is the server's: `content-length` and its like stay as they
    /// are.
    pub fn set_header(&mut self, name: &str, value: &str) {
        self.edits.push((name.to_ascii_lowercase(), Some(value.to_owned())));
    }

    /// Takes a header away.
    pub fn remove_header(&mut self, name: &str) {
        self.edits.push((name.to_ascii_lowercase(), None));
    }
}

impl fmt::Debug for HttpResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// What a plugin answers over HTTP, in whatever shape it likes.
///
/// ```
/// use sluicegate::plugin::{HttpReply, HttpRequest, Plugin, PluginError};
/// # use sluicegate::Gateway;
///
/// /// Lets only this machine in.
/// struct Here;
///
/// impl Plugin for Here {
///     fn name(&self) -> &str {
///         "here"
///     }
///
///     fn http_request(&self, request: &mut HttpRequest<'_>) -> Result<Option<HttpReply>, PluginError> {
///         if request.client().is_loopback() && request.header("x-forwarded-for").is_none() {
///             return Ok(None);
///         }
///         Ok(Some(HttpReply::new(403)?.with_body("Not from there.", "text/plain")))
///     }
/// }
/// # #[cfg(feature = "front")] {
/// # let body = r#"{"model":"sim/echo","messages":[{"role":"user","content":"Hello"}]}"#;
/// # let send = |to: std::net::SocketAddr, extra: &str| {
/// #     use std::io::{Read as _, Write as _};
/// #     let mut stream = std::net::TcpStream::connect(to)?;
/// #     write!(stream, "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{extra}")?;
/// #     write!(stream, "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
/// #     let mut answer = String::new();
/// #     stream.read_to_string(&mut answer)?;
/// #     std::io::Result::Ok(answer)
/// # };
/// let gateway = Gateway::builder().plugin(Here).build()?;
/// let front = sluicegate::front::Front::start(&gateway, "127.0.0.1:0".parse()?)?;
/// assert!(send(front.addr(), "")?.starts_with("HTTP/1.1 200"));
/// let answer = send(front.addr(), "x-forwarded-for: 192.0.2.1\r\n")?;
/// assert!(answer.starts_with("HTTP/1.1 403") && answer.ends_with("Not from there."), "{answer}");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct HttpReply(Response);

impl HttpReply {
    /// An answer of this status.
    ///
    /// # Errors
    /// If it is no status of a last answer: 200 to 599.
    pub fn new(status: u16) -> Result<Self, PluginError> {
        if (200..600).contains(&status) {
            Ok(Self(Response::new(status)))
        } else {
            Err("no status of an answer".into())
        }
    }

    /// Adds a header line.
    #[must_use]
    pub fn with_header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name.to_ascii_lowercase(), value))
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>, content_type: &str) -> Self {
        self.0.body = body.into().into();
        self.with_header("content-type", content_type)
    }
}

/// Shows no body.
impl fmt::Debug for HttpReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpReply").field("status", &self.0.status).finish_non_exhaustive()
    }
}
