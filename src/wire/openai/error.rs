//! The gateway's errors in OpenAI's shape, with the `sluicegate` block beside it.

use serde::Serialize;

use crate::error::Error;
use crate::ids::RequestId;
use crate::wire::ours::Ours;

#[derive(Serialize)]
struct Body<'a> {
    error: Words<'a>,
    sluicegate: Ours<'a>,
}

#[derive(Serialize)]
struct Words<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

/// The body that tells `error` to a client: an upstream's own words stay the upstream's, ours carry our code. The error may not
/// know its request.
#[must_use]
pub fn error_body(error: &Error, request_id: Option<&RequestId>) -> Vec<u8> {
    let words = match error.upstream_answer() {
        Some(answer) => Words {
            message: &answer.message,
            kind: answer.kind.as_deref(),
            param: answer.param.as_deref(),
            code: answer.code.as_deref(),
        },
        None => Words {
            message: error.message(),
            kind: Some(error.code().openai_type()),
            param: error.param(),
            code: Some(error.code().as_str()),
        },
    };
    // Strings and numbers alone: there is nothing in it that could fail to be written.
    serde_json::to_vec(&Body { error: words, sluicegate: Ours::of(error, request_id) }).unwrap_or_default()
}

/// The same as the last event of a stream that failed.
#[must_use]
pub fn error_event(error: &Error) -> Vec<u8> {
    [b"data: ", &error_body(error, error.request_id())[..], b"\n\n"].concat()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::error::{Attempt, Code, UpstreamAnswer};

    fn body(error: &Error) -> Value {
        serde_json::from_slice(&error_body(error, error.request_id())).expect("JSON")
    }

    #[test]
    fn our_own_errors_carry_our_code() {
        let id = RequestId::from_client("abc").expect("good");
        let attempt =
            Attempt { provider: "sim".into(), model: "echo".into(), outcome: "queue_timeout", status: None, ms: 5 };
        let error = Error::new(Code::QueueTimeout, "waited")
            .with_phase("space")
            .with_provider("sim")
            .with_request_id(&id)
            .with_attempts(vec![attempt]);
        let wanted = json!({
            "error": {"message":"waited","type":"server_error","param":null,"code":"queue_timeout"},
            "sluicegate": {"code":"queue_timeout","origin":"gateway","provider":"sim","request_id":"abc","phase":"space",
                "attempts":[{"provider":"sim","model":"echo","outcome":"queue_timeout","status":null,"ms":5}]},
        });
        assert_eq!(body(&error), wanted);
    }

    #[test]
    fn an_upstreams_words_stay_its_own() {
        let answer = UpstreamAnswer {
            status: 400,
            message: "too long".into(),
            kind: Some("their_type".into()),
            param: Some("messages".into()),
            code: Some("context_length_exceeded".into()),
        };
        let wanted = json!({
            "error": {"message":"too long","type":"their_type","param":"messages","code":"context_length_exceeded"},
            "sluicegate": {"code":"upstream_error","origin":"provider","provider":null,"request_id":null,"attempts":[]},
        });
        assert_eq!(body(&Error::upstream(answer)), wanted);
    }

    #[test]
    fn an_event_is_one_line_of_data() {
        let event = error_event(&Error::new(Code::StreamCut, "line\nbreak"));
        assert!(event.starts_with(b"data: {\"error\":") && event.ends_with(b"}\n\n"));
        assert_eq!(event.iter().filter(|b| **b == b'\n').count(), 2);
    }
}
