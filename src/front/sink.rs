//! A client's connection as the sink of a stream: everything that belongs to it moves as one value.
//!
//! **Protocol.** Until the stream begins, the exchange can still be answered with a status of its own. From then on it is
//! SSE: whole events, in OpenAI's shape `data: [DONE]` at a complete end and only there, and at a failure one error event
//! in the shape of the route and a connection that closes without its last chunk (P5). The `[DONE]` goes for the Responses
//! API, too, whose streams have none of their own: one rule for all, and the SDKs stop at it as at any other's. A stream of
//! bytes gets no word of ours, but for the error event where they are events.

use std::any::Any;
use std::sync::Arc;

use crate::error::Code;
use crate::gateway::Place;
use crate::http::{Exchange, Response, SendError, StreamWriter};
use crate::ids::RequestId;
use crate::model::{Sink, SinkError, StreamEnd, StreamHead, StreamKind};
use crate::plugin::Chain;
use crate::wire::Dialect;

use super::answer;

/// The most that is written at a time: what is written is copied, and a stream that was held may be long.
const CHUNK: usize = 64 << 10;

/// A client that waits for a stream.
#[derive(Debug)]
pub(super) struct ClientSink {
    side: Side,
    /// In which shape it is told whatever is ours.
    shape: Dialect,
    request_id: RequestId,
    /// Its place; gone before the stream's last byte is written, so that the client's next request finds it free.
    held: Option<Place>,
    /// What sees the head of what it sends.
    plugins: Option<Arc<Chain>>,
}

#[derive(Debug)]
enum Side {
    Waiting(Exchange),
    Streaming(StreamWriter, Words),
    Over,
}

/// What of ours can stand at a stream's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    /// What ends it, or an error event.
    EndOrError,
    /// An error event, behind what may be the middle of another.
    Error,
    /// Nothing.
    None,
}

impl ClientSink {
    pub(super) fn new(
        exchange: Exchange,
        shape: Dialect,
        request_id: RequestId,
        held: Place,
        plugins: Option<Arc<Chain>>,
    ) -> Self {
        Self { side: Side::Waiting(exchange), shape, request_id, held: Some(held), plugins }
    }

    fn dressed(&self, response: Response) -> Response {
        match &self.plugins {
            Some(plugins) => plugins.http_response(response),
            None => response,
        }
    }

    /// The exchange, if the stream never began.
    pub(super) fn into_exchange(self) -> Option<Exchange> {
        match self.side {
            Side::Waiting(exchange) => Some(exchange),
            Side::Streaming(..) | Side::Over => None,
        }
    }
}

impl Sink for ClientSink {
    fn begin(&mut self, head: StreamHead) -> Result<(), SinkError> {
        self.side = match std::mem::replace(&mut self.side, Side::Over) {
            Side::Waiting(mut exchange) => {
                exchange.watch_now();
                let StreamHead { kind, headers, served } = head;
                let words = match kind {
                    StreamKind::Events => Words::EndOrError,
                    StreamKind::Bytes { events: true, .. } => Words::Error,
                    StreamKind::Bytes { .. } => Words::None,
                };
                let head = answer::stream_head(self.shape, kind, headers, &served, &self.request_id);
                Side::Streaming(exchange.stream(self.dressed(head)), words)
            }
            begun => begun,
        };
        Ok(())
    }

    fn event(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        match &mut self.side {
            Side::Streaming(writer, _) => {
                bytes.chunks(CHUNK).try_for_each(|chunk| writer.send(chunk)).map_err(|error| match error {
                    SendError::Gone => SinkError::Gone,
                    SendError::TooSlow => SinkError::TooSlow,
                })
            }
            Side::Waiting(_) | Side::Over => Err(SinkError::Gone),
        }
    }

    fn finish(mut self: Box<Self>, end: StreamEnd) {
        let side = std::mem::replace(&mut self.side, Side::Over);
        self.held = None;
        let (mut writer, words) = match side {
            Side::Streaming(writer, words) => (writer, words),
            Side::Waiting(exchange) => {
                // It never began: it can still be answered with a status of its own.
                if let StreamEnd::Failed(error) = end {
                    let error = error.with_request_id(&self.request_id);
                    drop(exchange.respond(self.dressed(answer::error(self.shape, &error))));
                }
                return;
            }
            Side::Over => return,
        };
        match end {
            StreamEnd::Complete(_) if words == Words::EndOrError && !self.shape.stream_end().is_empty() => {
                writer.finish_with(self.shape.stream_end());
            }
            StreamEnd::Complete(_) => writer.finish(),
            StreamEnd::Failed(error) => {
                let gone = matches!(error.code(), Code::ClientClosed | Code::ClientTooSlow);
                if !gone && words != Words::None {
                    let event = self.shape.error_event(&error.with_request_id(&self.request_id));
                    let before: &[u8] = if words == Words::Error { b"\n\n" } else { b"" };
                    // If the client has gone meanwhile, there is nobody left to tell.
                    let _ = writer.send(&[before, &event].concat());
                }
                writer.abort();
            }
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}
