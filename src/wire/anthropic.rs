//! A stand-in until the shape is there.
use crate::error::{Error, UpstreamAnswer};
use crate::ids::RequestId;
use crate::model::{BodyFields, Operation, Usage};
use crate::wire::openai::{self, Step};
use crate::wire::sse;
use serde_json::{Value, json};

pub(crate) fn parse(body: &[u8]) -> Result<BodyFields, Error> {
    let mut fields = openai::parse(&Operation::ChatCompletions, body)?;
    fields.include_usage = true;
    fields.choices = 1;
    Ok(fields)
}

pub(crate) fn decode(operation: &Operation, status: u16, body: &[u8]) -> Result<Option<Usage>, Error> {
    let usage = openai::decode(&Operation::ChatCompletions, status, body)?;
    Ok(usage.filter(|_| *operation == Operation::Messages))
}

pub(crate) fn error_body(error: &Error, id: Option<&RequestId>) -> Vec<u8> {
    let ours: Value = serde_json::from_slice(&openai::error_body_for(error, id)).unwrap_or_default();
    let status = error.status();
    let own = error.upstream_answer().and_then(|answer| answer.kind.clone());
    let kind = match status {
        _ if own.is_some() => own.as_deref().unwrap_or_default(),
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    json!({"type":"error","error":{"type":kind,"message":ours["error"]["message"]},"request_id":id.map(RequestId::as_str),"sluicegate":ours["sluicegate"]}).to_string().into_bytes()
}

pub(crate) fn error_event(error: &Error) -> Vec<u8> {
    [b"event: error\ndata: ", &error_body(error, error.request_id())[..], b"\n\n"].concat()
}

#[derive(Debug)]
pub(crate) struct EventStream {
    usage: Option<Usage>,
    done: bool,
    content: bool,
}

impl EventStream {
    pub(crate) fn new() -> Self {
        Self { usage: None, done: false, content: false }
    }
    pub(crate) fn next(&mut self, event: &sse::Event<'_>) -> Step {
        if event.is_comment {
            return Step::Comment;
        }
        let Ok(data) = serde_json::from_slice::<Value>(event.data) else { return Step::Garbage };
        for at in ["/usage", "/message/usage"] {
            if let Some(found) = data.pointer(at) {
                let old = self.usage.unwrap_or_default();
                let n = |name: &str| found[name].as_u64();
                self.usage = Some(Usage {
                    input: n("input_tokens").map_or(old.input, |own| own + n("cache_read_input_tokens").unwrap_or(0)),
                    output: n("output_tokens").unwrap_or(old.output),
                });
            }
        }
        match data["type"].as_str() {
            Some("ping") => Step::Comment,
            Some("message_stop") => {
                self.done = true;
                Step::Last
            }
            Some("error") => Step::Error(Error::upstream(UpstreamAnswer {
                status: 502,
                message: data["error"]["message"].as_str().unwrap_or_default().to_owned(),
                kind: data["error"]["type"].as_str().map(str::to_owned),
                param: None,
                code: None,
            })),
            kind => {
                let content = kind == Some("content_block_delta");
                let first_content = content && !self.content;
                self.content |= content;
                Step::Forward { first_content }
            }
        }
    }
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage
    }
    pub(crate) fn is_complete(&self) -> bool {
        self.done
    }
}

use crate::model::chat::{Event, Lost, Reply, Request};
use crate::wire::chat::{Meta, Read};
pub(crate) fn read_request(_body: &[u8]) -> Result<Request<'_>, Error> { Ok(Request::default()) }
pub(crate) fn write_request(_: &Request<'_>, _model: &str, _out: &mut Vec<u8>) -> Result<Lost, Error> { Ok(Lost::default()) }
pub(crate) fn read_reply<'a>(_body: &'a [u8], model: &'a str) -> Result<Reply<'a>, Error> { Err(Error::invalid(model.to_owned(), "x")) }
pub(crate) fn write_reply(_: &Reply<'_>, _: &Meta<'_>, _: &mut Vec<u8>) {}
#[derive(Debug)]
pub(crate) struct StreamReader;
impl StreamReader { pub(crate) fn new() -> Self { Self }
 pub(crate) fn next(&mut self, _: &sse::Event<'_>, _: &mut dyn FnMut(Event<'_>)) -> Read { Read::Nothing }
 pub(crate) fn is_complete(&self) -> bool { false } }
#[derive(Debug)]
pub(crate) struct StreamWriter;
impl StreamWriter { pub(crate) fn new(_: Meta<'_>) -> Self { Self }
 pub(crate) fn event(&mut self, _: &Event<'_>, _: &mut Vec<u8>) {}
 pub(crate) fn finish(&mut self, _: &mut Vec<u8>) {} }
