//! A request of the data plane as HTTP, before it is read as anything else, and the head of its answer.

#[cfg(feature = "front")]
mod drive;

use std::fmt;
use std::net::IpAddr;

use super::PluginError;
use crate::http::{Head, Response};
use crate::model::Tags;

/// A request as it came over HTTP. Its key was let in already.
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
