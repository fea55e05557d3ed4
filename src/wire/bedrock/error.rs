//! Errors in AWS's shape: those of Bedrock read, and the gateway's own written so that an SDK raises the right exception.
//!
//! Source: the errors of "Converse" and "ConverseStream" in the Amazon Bedrock API reference, and "AWS restJson1 protocol" in
//! Smithy's documentation for where a name stands: in the header `x-amzn-errortype`, perhaps with a namespace before it and an
//! address behind it, or in the body.

use serde::{Deserialize, Serialize};

use crate::error::{Error, UpstreamAnswer};
use crate::ids::RequestId;
use crate::wire::event_stream::{Frame, Kind, write};
use crate::wire::openai::{quote, shorten};
use crate::wire::ours::Ours;

/// The names that Bedrock has, with their statuses.
const NAMES: [(&str, u16); 11] = [
    ("AccessDeniedException", 403),
    ("InternalServerException", 500),
    ("ModelErrorException", 424),
    ("ModelNotReadyException", 429),
    ("ModelStreamErrorException", 424),
    ("ModelTimeoutException", 408),
    ("ResourceNotFoundException", 404),
    ("ServiceQuotaExceededException", 400),
    ("ServiceUnavailableException", 503),
    ("ThrottlingException", 429),
    ("ValidationException", 400),
];

/// The status of an error in a stream whose name says none.
const INSIDE_STREAM: u16 = 502;

#[derive(Default, Deserialize)]
struct Words {
    #[serde(alias = "Message", alias = "errorMessage")]
    message: Option<String>,
    #[serde(rename = "__type", alias = "code")]
    kind: Option<String>,
}

/// An error that Bedrock answered with; `error_type` is what its header of that name says.
pub(super) fn of_answer(status: u16, error_type: Option<&str>, body: &[u8]) -> Error {
    let words: Words = serde_json::from_slice(body).unwrap_or_default();
    let kind = error_type.map(str::to_owned).or(words.kind).map(|kind| shorten(bare(&kind)));
    // Throttling comes as a 400 from where requests are counted before they reach a model.
    let status = if kind.as_deref() == Some("ThrottlingException") { 429 } else { status };
    let message = words.message.map(|message| shorten(&message)).unwrap_or_else(|| match quote(body) {
        text if text.is_empty() => format!("the provider answered with status {status} and said nothing"),
        text => text,
    });
    Error::upstream(UpstreamAnswer { status, message, kind, param: None, code: None })
}

/// An error that came as a frame of a stream.
pub(super) fn of_frame(frame: &Frame<'_>) -> Error {
    let mut kind = bare(frame.name).to_owned();
    // Names of frames begin with a small letter.
    if let Some(first) = kind.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let status = NAMES.iter().find(|(name, _)| *name == kind).map_or(INSIDE_STREAM, |(_, status)| *status);
    let words: Words = serde_json::from_slice(frame.payload).unwrap_or_default();
    let message = match words.message.as_deref().unwrap_or(frame.message) {
        "" => format!("the provider's stream ended with {kind:?} and said nothing"),
        message => shorten(message),
    };
    let kind = (!kind.is_empty()).then(|| shorten(&kind));
    Error::upstream(UpstreamAnswer { status, message, kind, param: None, code: None })
}

/// A name without the namespace before it and the address behind it.
fn bare(name: &str) -> &str {
    let name = name.split(':').next().unwrap_or(name);
    name.rsplit('#').next().unwrap_or(name).trim()
}

/// What `x-amzn-errortype` says of an error: the name that Bedrock gave it itself, else the one that its status means.
pub(crate) fn error_name(error: &Error) -> &str {
    let given = error.upstream_answer().and_then(|answer| answer.kind.as_deref());
    let is_name = |name: &&str| name.ends_with("Exception") && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    given.filter(is_name).unwrap_or(match error.status() {
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 | 504 => "ModelTimeoutException",
        424 => "ModelErrorException",
        429 => "ThrottlingException",
        503 | 529 => "ServiceUnavailableException",
        400..=499 => "ValidationException",
        _ => "InternalServerException",
    })
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    sluicegate: Ours<'a>,
}

/// The body that tells `error` to a client, whose header says its [`error_name`].
pub(crate) fn error_body(error: &Error, request_id: Option<&RequestId>) -> Vec<u8> {
    let message = error.upstream_answer().map_or(error.message(), |answer| &answer.message);
    // Strings and numbers alone: there is nothing in it that could fail to be written.
    serde_json::to_vec(&Body { message, sluicegate: Ours::of(error, request_id) }).unwrap_or_default()
}

/// The same as the last frame of a stream that failed. Streams know fewer names.
pub(crate) fn error_event(error: &Error) -> Vec<u8> {
    let name = match (error.status(), error_name(error)) {
        (_, "ThrottlingException") => "throttlingException",
        (_, "ServiceUnavailableException") => "serviceUnavailableException",
        // The stream broke, or stood still: to be asked for again.
        (_, "ModelStreamErrorException" | "ModelErrorException" | "ModelTimeoutException") | (502, _) => {
            "modelStreamErrorException"
        }
        (400..=499, _) => "validationException",
        _ => "internalServerException",
    };
    let mut out = Vec::new();
    write(Kind::Exception, name, &mut out, |out| out.extend_from_slice(&error_body(error, error.request_id())));
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::error::Code;
    use crate::wire::event_stream::Decoder;

    fn answer(error: &Error) -> UpstreamAnswer {
        assert_eq!(error.code(), Code::UpstreamError);
        error.upstream_answer().expect("the provider's own").clone()
    }

    #[test]
    fn an_answers_name_and_words_are_kept_wherever_they_stand() {
        for (status, header, body, told) in [
            (429, Some("ThrottlingException"), r#"{"message":"slow"}"#, (429, "slow", Some("ThrottlingException"))),
            (
                400,
                Some("ValidationException:http://internal.amazon.com/coral/com.amazon.bedrock/"),
                r#"{"message":"Input is too long"}"#,
                (400, "Input is too long", Some("ValidationException")),
            ),
            (403, None, r#"{"Message":"no"}"#, (403, "no", None)),
            (
                400,
                None,
                r##"{"__type":"com.amazon.x#ThrottlingException","message":"m"}"##,
                (429, "m", Some("ThrottlingException")),
            ),
            (403, Some("UnrecognizedClientException"), "{}", (403, "{}", Some("UnrecognizedClientException"))),
            (503, None, "", (503, "the provider answered with status 503 and said nothing", None)),
            (502, None, "<html>bad gateway</html>", (502, "<html>bad gateway</html>", None)),
        ] {
            let answer = answer(&of_answer(status, header, body.as_bytes()));
            assert_eq!((answer.status, &*answer.message, answer.kind.as_deref()), told, "{body}");
        }
    }

    #[test]
    fn a_frames_name_says_the_status() {
        let of = |kind, name: &str, payload: &str| {
            let mut bytes = Vec::new();
            write(kind, name, &mut bytes, |out| out.extend_from_slice(payload.as_bytes()));
            let mut decoder = Decoder::new(1 << 20);
            decoder.push(&bytes);
            let frame = decoder.next().expect("a frame").expect("a good one");
            let answer = answer(&of_frame(&frame));
            (answer.status, answer.message, answer.kind.unwrap_or_default())
        };
        for (name, status) in [
            ("internalServerException", 500),
            ("modelStreamErrorException", 424),
            ("validationException", 400),
            ("throttlingException", 429),
            ("serviceUnavailableException", 503),
            ("modelTimeoutException", 408),
            ("somethingNewException", 502),
        ] {
            let (found, message, kind) = of(Kind::Exception, name, r#"{"message":"m"}"#);
            assert_eq!((found, &*message), (status, "m"), "{name}");
            assert!(kind.eq_ignore_ascii_case(name) && kind.starts_with(|c: char| c.is_ascii_uppercase()), "{kind}");
        }
        assert_eq!(of(Kind::Error, "InternalError", "").0, 502);
        assert!(of(Kind::Exception, "throttlingException", "").1.contains("ThrottlingException"));
    }

    /// An error of the gateway's, and what boto3 is shown of it.
    #[derive(Deserialize)]
    struct Golden {
        code: String,
        status: u16,
        name: String,
        event: String,
        body: Value,
    }

    #[test]
    fn an_error_is_told_by_the_name_that_boto3_raises_and_with_ours_beside() {
        let text = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bedrock/errors.json"));
        let golden: Vec<Golden> = serde_json::from_slice(&text.expect("the errors")).expect("errors");
        let id = RequestId::from_client("abc").expect("good");
        for Golden { code, status, name, event, body } in golden {
            let code = Code::ALL.into_iter().find(|known| known.as_str() == code).expect("a code");
            let error = Error::new(code, "naïve words").with_provider("up").with_request_id(&id);
            assert_eq!((error.status(), error_name(&error)), (status, &*name), "{code}");
            assert_eq!(serde_json::from_slice::<Value>(&error_body(&error, Some(&id))).expect("JSON"), body, "{code}");
            let bytes = error_event(&error);
            let mut decoder = Decoder::new(1 << 20);
            decoder.push(&bytes);
            let frame = decoder.next().expect("a frame").expect("a good one");
            assert_eq!((frame.kind, frame.name), (Kind::Exception, &*event), "{code}");
            assert_eq!(serde_json::from_slice::<Value>(frame.payload).expect("JSON"), body, "{code}");
        }
    }

    #[test]
    fn bedrocks_own_names_pass_on_and_others_give_way_to_the_statuss() {
        let of = |status, kind: &str| {
            let answer =
                UpstreamAnswer { status, message: "m".into(), kind: Some(kind.into()), param: None, code: None };
            error_name(&Error::upstream(answer)).to_owned()
        };
        assert_eq!(of(400, "ServiceQuotaExceededException"), "ServiceQuotaExceededException");
        assert_eq!(of(529, "overloaded_error"), "ServiceUnavailableException");
        assert_eq!(of(400, "x\r\nException"), "ValidationException");
    }
}
