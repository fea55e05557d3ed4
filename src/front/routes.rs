//! The data plane's routes: which there are, which are to come, and what a wrong one is told.

use crate::error::{Code, Error};
use crate::http::{Head, Response};
use crate::ids::RequestId;

use super::answer;

/// A route that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `GET /livez`, `/readyz` or `/health`.
    Probe,
}

impl Route {
    pub(super) fn is_probe(self) -> bool {
        self == Self::Probe
    }
}

/// Why there is no route.
#[derive(Debug)]
pub(super) struct Refused {
    error: Error,
    allow: Option<&'static str>,
}

impl Refused {
    pub(super) fn error(&self) -> &Error {
        &self.error
    }

    /// Whether the route is one of the interface's that is to come.
    pub(super) fn is_unbuilt(&self) -> bool {
        self.error.code() == Code::Unsupported
    }

    pub(super) fn response(self, id: &RequestId) -> Response {
        let response = answer::error(&self.error.with_request_id(id));
        match self.allow {
            Some(allow) => response.header("allow", allow),
            None => response,
        }
    }
}

/// Routes of the interface whose part is not built yet, and what it is called there.
const UNBUILT: [(&str, &str); 8] = [
    ("/v1/completions", "the completions route"),
    ("/v1/embeddings", "the embeddings route"),
    ("/v1/responses", "the responses route"),
    ("/v1/messages", "the Anthropic messages route"),
    ("/v1/models", "the list of models"),
    ("/openai", "the drop-in prefix /openai"),
    ("/anthropic", "the drop-in prefix /anthropic"),
    ("/bedrock", "the drop-in prefix /bedrock"),
];

/// The route of a request.
pub(super) fn find(head: &Head) -> Result<Route, Refused> {
    let (method, path) = (head.method(), head.path());
    let (route, allow) = match path {
        "/v1/chat/completions" => (Route::Chat, "POST"),
        "/livez" | "/readyz" | "/health" => (Route::Probe, "GET, HEAD"),
        _ => return Err(Refused { error: unknown(path), allow: None }),
    };
    if allow.split(", ").any(|allowed| allowed == method) {
        return Ok(route);
    }
    let text = format!("{method} is not allowed on {path}; it takes {allow}");
    Err(Refused { error: Error::new(Code::MethodNotAllowed, text), allow: Some(allow) })
}

fn unknown(path: &str) -> Error {
    let under = |route: &str| path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match UNBUILT.iter().find(|(route, _)| under(route)) {
        Some((_, name)) => Error::new(Code::Unsupported, format!("{name} is not built yet in this version")),
        None => {
            let shown: String = path.chars().take(120).collect();
            Error::new(Code::NotFound, format!("there is no route {shown}; chat is at POST /v1/chat/completions"))
        }
    }
}
