//! One request's right to be answered, and what comes back once it is.
//!
//! **Protocol.** An [`Exchange`] owns its connection. Answering consumes it and gives a [`Finished`], in which the
//! connection travels back: returned from `serve`, to the thread that serves it, which goes on with the next request;
//! dropped anywhere else, to the server, which finds a thread for it or parks it.
//!
//! **Invariants.** I1: an exchange dropped unanswered answers 500 and closes. I9: the watch is undone before the answer is
//! written, so before the connection can be used again.

use std::borrow::Cow;
use std::time::Instant;

use super::connection::Connection;
use super::head::{Head, Version};
use super::refusal::Refusal;
use super::response::{Ending, Response};
use super::stream::StreamWriter;
use super::watcher::Watch;
use crate::sync::CancelToken;

/// The right, and the duty, to answer one request. It may move to another thread.
#[derive(Debug)]
pub struct Exchange {
    /// Gone once it is answered.
    connection: Option<Box<Connection>>,
    head: Head,
    close: bool,
    arrived: Instant,
    watch: Option<Watch>,
    /// What the answer's head says beside its own lines.
    also: Vec<(Cow<'static, str>, String)>,
}

impl Exchange {
    pub(super) fn new(connection: Box<Connection>, head: Head, close: bool, arrived: Instant) -> Self {
        Self { connection: Some(connection), head, close, arrived, watch: None, also: Vec::new() }
    }

    /// Has `token` cancelled when the client leaves: within 100 ms of it, or 150 ms after the request's arrival. The
    /// client's FIN counts as leaving. The watch ends when the exchange is answered.
    ///
    /// A request answered within 50 ms pays for two short locks and no system call.
    pub fn watch(&mut self, token: &CancelToken) {
        if let Some(connection) = &self.connection {
            self.watch = Some(connection.server().watcher().watch(connection, token, self.arrived));
        }
    }

    /// Has the client watched from now on, however short the request has run: for what is known to take long. Does
    /// nothing without [`watch`](Self::watch).
    pub fn watch_now(&mut self) {
        if let Some(watch) = &self.watch {
            watch.hurry();
        }
    }

    /// Has the answer's head say `lines` beside its own, whatever the answer will be.
    pub fn also(&mut self, lines: Vec<(Cow<'static, str>, String)>) {
        self.also = lines;
    }

    /// Answers: head and body in one write.
    pub fn respond(mut self, mut response: Response) -> Finished {
        self.watch = None;
        response.headers.append(&mut self.also);
        let Some(connection) = self.connection.take() else { return Finished::moved() };
        Finished(connection.respond(&response, self.head_only(), self.close, false))
    }

    /// Ends the connection by a reset, with nothing answered: what a provider that crashes looks like.
    pub fn reset(mut self) -> Finished {
        self.watch = None;
        if let Some(connection) = self.connection.take() {
            connection.reset();
        }
        Finished::moved()
    }

    /// Begins an answer whose length is not known: chunked, or until the connection's end to a client of HTTP/1.0. The
    /// head goes out with the first bytes. The body of `head` is not sent.
    #[must_use = "a stream that is dropped is aborted"]
    pub fn stream(mut self, mut head: Response) -> StreamWriter {
        head.headers.append(&mut self.also);
        let close = self.close
            || head.wants_close()
            || self.connection.as_ref().is_none_or(|connection| connection.server().is_stopping());
        let bodiless = self.head_only() || !head.may_have_body();
        let ending = match self.head.version() {
            Version::Http11 => Ending::Chunks,
            Version::Http10 => Ending::Close,
        };
        StreamWriter::new(self.connection.take(), self.watch.take(), &head, ending, bodiless, close)
    }

    fn head_only(&self) -> bool {
        self.head.method() == "HEAD"
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.watch = None;
        if let Some(connection) = self.connection.take() {
            connection.refuse(Some(&self.head), &Refusal::unanswered(), None);
        }
    }
}

/// An answered request. Return it from `serve`, or drop it where it was answered.
#[derive(Debug)]
#[must_use = "return it from `serve`, so that the connection stays on its thread"]
pub struct Finished(Option<Box<Connection>>);

impl Finished {
    /// What `serve` returns when the exchange, or its stream, has moved to another thread.
    pub fn moved() -> Self {
        Self(None)
    }

    /// The connection, for the thread that serves it.
    pub(super) fn take(mut self) -> Option<Box<Connection>> {
        self.0.take()
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.resume();
        }
    }
}
