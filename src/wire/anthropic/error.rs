//! The gateway's errors in Anthropic's shape, with the `sluicegate` block beside it.

use serde::Serialize;

use crate::error::Error;
use crate::ids::RequestId;
use crate::wire::ours::Ours;

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Words<'a>,
    request_id: Option<&'a str>,
    sluicegate: Ours<'a>,
}

#[derive(Serialize)]
struct Words<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
}

/// The body that tells `error` to a client: an upstream's own words stay the upstream's. The error may not know its request.
#[must_use]
pub(crate) fn error_body(error: &Error, request_id: Option<&RequestId>) -> Vec<u8> {
    let (own, message) = match error.upstream_answer() {
        Some(answer) => (answer.kind.as_deref(), answer.message.as_str()),
        None => (None, error.message()),
    };
    let error_words = Words { kind: own.unwrap_or_else(|| kind_of(error.status())), message };
    let body = Body {
        kind: "error",
        error: error_words,
        request_id: request_id.map(RequestId::as_str),
        sluicegate: Ours::of(error, request_id),
    };
    // Strings and numbers alone: there is nothing in it that could fail to be written.
    serde_json::to_vec(&body).unwrap_or_default()
}

/// The same as the last event of a stream that failed.
#[must_use]
pub(crate) fn error_event(error: &Error) -> Vec<u8> {
    [b"event: error\ndata: ", &error_body(error, error.request_id())[..], b"\n\n"].concat()
}

/// What Anthropic calls an error of this status ("Errors", HTTP errors). 503 is not among them, but all of ours that have it
/// ask to come again later, which `overloaded_error` says there, too.
fn kind_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::error::{Code, UpstreamAnswer};

    fn body(error: &Error, id: Option<&RequestId>) -> Value {
        serde_json::from_slice(&error_body(error, id)).expect("JSON")
    }

    #[test]
    fn our_own_errors_have_the_type_of_their_status_and_our_code_beside_it() {
        let id = RequestId::from_client("abc").expect("good");
        let error = Error::new(Code::QueueTimeout, "waited").with_phase("space").with_provider("claude");
        let wanted = json!({
            "type": "error",
            "error": {"type": "timeout_error", "message": "waited"},
            "request_id": "abc",
            "sluicegate": {"code": "queue_timeout", "origin": "gateway", "provider": "claude", "request_id": "abc",
                "phase": "space", "attempts": []},
        });
        assert_eq!(body(&error, Some(&id)), wanted);
        for (code, kind) in [
            (Code::InvalidRequest, "invalid_request_error"),
            (Code::Unsupported, "invalid_request_error"),
            (Code::Unauthorized, "authentication_error"),
            (Code::Forbidden, "permission_error"),
            (Code::ModelNotFound, "not_found_error"),
            (Code::BodyTooLarge, "request_too_large"),
            (Code::QueueFull, "rate_limit_error"),
            (Code::Overloaded, "overloaded_error"),
            (Code::UpstreamTimeout, "timeout_error"),
            (Code::Internal, "api_error"),
            (Code::UpstreamConnectError, "api_error"),
        ] {
            assert_eq!(body(&Error::new(code, "x"), None)["error"]["type"], kind, "{code}");
        }
    }

    #[test]
    fn an_upstreams_words_stay_its_own() {
        let answer = |kind: Option<&str>| UpstreamAnswer {
            status: 529,
            message: "Overloaded".into(),
            kind: kind.map(str::to_owned),
            param: None,
            code: None,
        };
        let error = Error::upstream(answer(Some("their_type")));
        let told = body(&error, None);
        assert_eq!((&told["error"]["type"], &told["error"]["message"]), (&json!("their_type"), &json!("Overloaded")));
        assert_eq!(told["sluicegate"]["code"], "upstream_error");
        assert_eq!(error.status(), 529);
        assert_eq!(body(&Error::upstream(answer(None)), None)["error"]["type"], "overloaded_error");
    }

    #[test]
    fn an_event_has_its_name_and_one_line_of_data() {
        let event = error_event(&Error::new(Code::StreamCut, "line\nbreak"));
        assert!(event.starts_with(b"event: error\ndata: {\"type\":\"error\"") && event.ends_with(b"}\n\n"));
        assert_eq!(event.iter().filter(|b| **b == b'\n').count(), 3);
    }
}
