//! The data plane's routes: which there are, and what a wrong one is told.

use crate::error::{Code, Error};
use crate::http::{Head, Response};
use crate::ids::RequestId;
use crate::model::{Forward, Operation};
#[cfg(feature = "bedrock")]
use crate::wire;
use crate::wire::percent::percent_decode;
use crate::wire::{Dialect, passing, route};

use super::answer;

/// A route that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A request for a provider; under a drop-in prefix, a bare model name means the provider of that name.
    Call(Operation, Option<&'static str>),
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/{id}`, percent-decoded; `None` if there is nothing that it could stand for.
    Model(Option<String>),
    /// `GET /livez`, `/readyz` or `/health`.
    Probe,
}

/// Why there is no route.
#[derive(Debug)]
pub(super) struct Refused {
    error: Error,
    allow: Option<&'static str>,
}

impl Refused {
    pub(super) fn response(self, shape: Dialect, id: &RequestId) -> Response {
        let response = answer::error(shape, &self.error.with_request_id(id));
        match self.allow {
            Some(allow) => response.header("allow", allow),
            None => response,
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, allow: None }
    }
}

/// What stands in front of Bedrock's own routes, and the provider that a bare model means there.
const BEDROCK: (&str, &str) = ("/bedrock", "bedrock");

/// What clients put in front of a provider's own routes to reach the one that bears its name, in the shape of these.
const DROP_IN: [(&str, &str, Dialect); 2] =
    [("/openai/v1", "openai", Dialect::OpenAi), ("/anthropic/v1", "anthropic", Dialect::Anthropic)];

/// The methods that are forwarded. `HEAD` asks OpenAI for nothing, and `OPTIONS` is a browser's business with the gateway.
const FORWARDED: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// The shape in which whoever asks under this path is told whatever it is told, a refusal of its head among it.
pub(super) fn shape(path: &str) -> Dialect {
    #[cfg(feature = "bedrock")]
    if is_under(path, BEDROCK.0) {
        return Dialect::Bedrock;
    }
    let is_anthropics = is_under(path, "/v1/messages") || is_under(path, "/anthropic");
    if is_anthropics { Dialect::Anthropic } else { Dialect::OpenAi }
}

/// Whether a path is this one or leads on from it.
fn is_under(path: &str, route: &str) -> bool {
    path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The route of a request.
pub(super) fn find(head: &Head) -> Result<Route, Refused> {
    let (method, path) = (head.method(), head.path());
    let (route, allow) = match path {
        "/livez" | "/readyz" | "/health" => (Route::Probe, "GET, HEAD"),
        "/v1/models" => (Route::Models, "GET, HEAD"),
        _ => match path.strip_prefix("/v1").and_then(operation) {
            Some(operation) => (Route::Call(operation, None), "POST"),
            None => match path.strip_prefix("/v1/models/") {
                Some(id) => (Route::Model(decode(id)), "GET, HEAD"),
                None => return other(head),
            },
        },
    };
    if allow.split(", ").any(|allowed| allowed == method) { Ok(route) } else { Err(wrong_method(head, allow)) }
}

/// The operation of a path behind the version.
fn operation(path: &str) -> Option<Operation> {
    let all = [
        Operation::ChatCompletions,
        Operation::Completions,
        Operation::Embeddings,
        Operation::Responses,
        Operation::Messages,
        Operation::CountTokens,
    ];
    all.into_iter().find(|operation| route(operation) == Some(path))
}

/// A route that is not under `/v1`, or none.
fn other(head: &Head) -> Result<Route, Refused> {
    let path = head.path();
    for (prefix, provider, shape) in DROP_IN {
        if let Some(rest) = path.strip_prefix(prefix).filter(|rest| rest.starts_with('/') && rest.len() > 1) {
            let operation = operation(rest).filter(|operation| Dialect::of(operation) == Some(shape));
            return Ok(match operation.filter(|_| head.method() == "POST") {
                Some(operation) => Route::Call(operation, Some(provider)),
                None => Route::Call(Operation::Forward(forward(head, rest)?), Some(provider)),
            });
        }
    }
    if is_under(path, BEDROCK.0)
        && let Some(found) = bedrock(head)
    {
        return found;
    }
    let shown: String = path.chars().take(120).collect();
    let text = format!(
        "there is no route {shown}; chat is at POST /v1/chat/completions and POST /v1/messages, and what OpenAI and \
         Anthropic have beside the routes of /v1 passes through under /openai/v1 and /anthropic/v1; of Bedrock's routes there are \
         POST /bedrock/model/{{id}}/converse, converse-stream, invoke and invoke-with-response-stream"
    );
    Err(Error::new(Code::NotFound, text).into())
}

/// One of Bedrock's routes, if that is what it is. The path names the model.
#[cfg(feature = "bedrock")]
fn bedrock(head: &Head) -> Option<Result<Route, Refused>> {
    let (prefix, provider) = BEDROCK;
    Some(match wire::bedrock::operation(head.path().strip_prefix(prefix)?)? {
        _ if head.method() != "POST" => Err(wrong_method(head, "POST")),
        Ok(operation) => Ok(Route::Call(operation, Some(provider))),
        Err(error) => Err(error.into()),
    })
}

/// None of them is in this build.
#[cfg(not(feature = "bedrock"))]
fn bedrock(_: &Head) -> Option<Result<Route, Refused>> {
    let (prefix, provider) = BEDROCK;
    let text = format!(
        "the drop-in prefix {prefix} is not built in: sluicegate was built without its cargo feature `{provider}`"
    );
    Some(Err(Error::new(Code::Unsupported, text).into()))
}

fn wrong_method(head: &Head, allow: &'static str) -> Refused {
    let text = format!("{} is not allowed on {}; it takes {allow}", head.method(), head.path());
    Refused { error: Error::new(Code::MethodNotAllowed, text), allow: Some(allow) }
}

/// What is forwarded to the provider, of a request whose path behind the version is `rest`.
fn forward(head: &Head, rest: &str) -> Result<Forward, Refused> {
    let Some(method) = FORWARDED.into_iter().find(|method| *method == head.method()) else {
        return Err(wrong_method(head, "GET, POST, PUT, PATCH, DELETE"));
    };
    let path = match head.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    if leaves(rest) {
        let text = "the path has a segment that leads out of it (\"..\") or nowhere (\".\")";
        return Err(Error::new(Code::InvalidRequest, text).into());
    }
    if path.contains(['<', '>', '"', '`', '\\']) {
        let text = "the path or the query has a character that has to be percent-encoded";
        return Err(Error::new(Code::InvalidRequest, text).into());
    }
    let header = |name: &'static str| match head.headers().find(|(own, _)| own.eq_ignore_ascii_case(name)) {
        None => Ok(None),
        Some((_, value)) => match passing::plain(value) {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(Error::invalid(name, "the header has a character that is not printable ASCII")),
        },
    };
    Ok(Forward { method, path, content_type: header("content-type")?, accept: header("accept")? })
}

/// Whether a path has a dot segment, however it is written: what is percent-decoded on the way must not lead to another
/// route of the provider's than the one that was judged here.
fn leaves(path: &str) -> bool {
    let (decoded, _) = percent_decode(path);
    decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| matches!(segment, b"." | b".."))
}

/// A model's id as a path has it; `None` if it is no text.
fn decode(id: &str) -> Option<String> {
    String::from_utf8(percent_decode(id).0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_id_is_percent_decoded_and_must_be_text() {
        for (id, wanted) in [
            ("sim/echo", Some("sim/echo")),
            ("sim%2Fecho", Some("sim/echo")),
            ("sim%2fecho%2Bslow-1s", Some("sim/echo+slow-1s")),
            ("a%2", Some("a%2")),
            ("a%zz%", Some("a%zz%")),
            ("", Some("")),
            ("%ff", None),
        ] {
            assert_eq!(decode(id).as_deref(), wanted, "{id}");
        }
    }

    #[test]
    fn dot_segments_are_seen_however_they_are_written() {
        for path in ["/..", "/a/../b", "/a/.", "/./a", "/%2e%2E/b", "/a/.%2e", "/a%2f..%2fb", "/a/..%5cb", "/a\\..\\b"]
        {
            assert!(leaves(path), "{path}");
        }
        for path in ["/files", "/a..b/c.d", "/...", "/files/%2e%2e%2e", "/%252e%252e", "/a/%2E.txt"] {
            assert!(!leaves(path), "{path}");
        }
    }
}
