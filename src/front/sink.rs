//! A client's connection as the sink of a stream: everything that belongs to it moves as one value.
//!
//! **Protocol.** Until the stream begins, the exchange can still be answered with a status of its own. From then on it is
//! SSE: whole events, `data: [DONE]` at a complete end and only there, and at a failure one error event and a connection
//! that closes without its last chunk (P5).

use std::any::Any;

use crate::error::Code;
use crate::gateway::Place;
use crate::http::{Exchange, SendError, StreamWriter};
use crate::ids::RequestId;
use crate::model::{Sink, SinkError, StreamEnd, StreamHead};
use crate::wire::openai;

use super::answer;

/// The end of a complete stream.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// A client that waits for a stream.
#[derive(Debug)]
pub(super) struct ClientSink {
    side: Side,
    request_id: RequestId,
    /// Its place; gone before the stream's last byte is written, so that the client's next request finds it free.
    held: Option<Place>,
}

#[derive(Debug)]
enum Side {
    Waiting(Exchange),
    Streaming(StreamWriter),
    Over,
}

impl ClientSink {
    pub(super) fn new(exchange: Exchange, request_id: RequestId, held: Place) -> Self {
        Self { side: Side::Waiting(exchange), request_id, held: Some(held) }
    }

    /// The exchange, if the stream never began.
    pub(super) fn into_exchange(self) -> Option<Exchange> {
        match self.side {
            Side::Waiting(exchange) => Some(exchange),
            Side::Streaming(_) | Side::Over => None,
        }
    }
}

impl Sink for ClientSink {
    fn begin(&mut self, head: StreamHead) -> Result<(), SinkError> {
        self.side = match std::mem::replace(&mut self.side, Side::Over) {
            Side::Waiting(mut exchange) => {
                exchange.watch_now();
                let head = answer::stream_head(head.headers, &head.served, &self.request_id);
                Side::Streaming(exchange.stream(head))
            }
            begun => begun,
        };
        Ok(())
    }

    fn event(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        match &mut self.side {
            Side::Streaming(writer) => writer.send(bytes).map_err(|error| match error {
                SendError::Gone => SinkError::Gone,
                SendError::TooSlow => SinkError::TooSlow,
            }),
            Side::Waiting(_) | Side::Over => Err(SinkError::Gone),
        }
    }

    fn finish(mut self: Box<Self>, end: StreamEnd) {
        let Side::Streaming(mut writer) = std::mem::replace(&mut self.side, Side::Over) else { return };
        self.held = None;
        match end {
            StreamEnd::Complete => writer.finish_with(DONE),
            StreamEnd::Failed(error) => {
                if !matches!(error.code(), Code::ClientClosed | Code::ClientTooSlow) {
                    let error = error.with_request_id(&self.request_id);
                    // If the client has gone meanwhile, there is nobody left to tell.
                    let _ = writer.send(&openai::error_event(&error));
                }
                writer.abort();
            }
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}
