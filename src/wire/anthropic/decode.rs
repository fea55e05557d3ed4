//! A provider's whole answer on its way to a client that speaks the same shape: is it an error, what did it cost.

use super::words::Counts;
use crate::error::Error;
use crate::model::{Operation, Usage};
use crate::wire::openai::{INSIDE_OK, judge_status, upstream_error};
use crate::wire::pull::{Pull, Wrong, answer_text};
use crate::wire::route;

/// Judges an answer that was read whole; gives the tokens, if the provider counted them. Those that a cache had or got count
/// as the request's. A count of tokens costs nothing.
///
/// # Errors
/// As for OpenAI's answers: the upstream's own words for a status of 400 or more, or for an error inside a good answer; that a
/// provider lacks the counting of tokens, where it says so; what is no JSON object.
pub(crate) fn decode(operation: &Operation, status: u16, body: &[u8]) -> Result<Option<Usage>, Error> {
    let is_count = *operation == Operation::CountTokens;
    judge_status(route(operation).filter(|_| is_count), status, body)?;
    let (mut counts, mut failed) = (Counts::default(), false);
    let mut pull = Pull::new(answer_text(body)?);
    let read = pull.object(|pull, key| match &*key {
        b"usage" => counts.take(pull),
        b"error" => {
            failed |= !pull.value()?.is_null();
            Ok(())
        }
        _ => pull.value().map(drop),
    });
    read.and_then(|()| pull.end()).map_err(Wrong::unreadable)?;
    if failed {
        return Err(upstream_error(INSIDE_OK, body));
    }
    // It is known, so that nobody guesses at it by the length of the bodies.
    Ok(if is_count { Some(Usage::default()) } else { counts.tokens().map(Usage::from) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::wire::anthropic::golden;

    #[test]
    fn a_good_answer_says_its_usage() {
        let usage = |body: &str| decode(&Operation::Messages, 200, body.as_bytes()).expect("good");
        assert_eq!(usage(golden::REPLY_TEXT), Some(Usage { input: 12, output: 6 }));
        assert_eq!(usage(golden::REPLY_CACHED), Some(Usage { input: 2051, output: 9 }), "the cache counts, too");
        assert_eq!(usage(r#"{"content":[],"usage":null,"error":null}"#), None);
        let counted = decode(&Operation::CountTokens, 200, br#"{"input_tokens":14}"#).expect("good");
        assert_eq!(counted, Some(Usage::default()), "counting costs nothing");
    }

    #[test]
    fn an_upstreams_error_keeps_its_words() {
        for (status, body, kind, message) in [
            (529, golden::ERROR_OVERLOADED, "overloaded_error", "Overloaded"),
            (404, golden::ERROR_NOT_FOUND, "not_found_error", "model: claude-none"),
        ] {
            let error = decode(&Operation::Messages, status, body.as_bytes()).expect_err("an error");
            let answer = error.upstream_answer().expect("the upstream's own");
            assert_eq!((error.status(), answer.kind.as_deref(), &*answer.message), (status, Some(kind), message));
        }
        let inside = decode(&Operation::Messages, 200, golden::ERROR_OVERLOADED.as_bytes()).expect_err("an error");
        assert_eq!((inside.code(), inside.status()), (Code::UpstreamError, 502));
    }

    #[test]
    fn a_provider_that_cannot_count_says_so() {
        let lacks = |operation, body: &str| decode(operation, 404, body.as_bytes()).expect_err("an error").code();
        assert_eq!(lacks(&Operation::CountTokens, r#"{"detail":"Not Found"}"#), Code::Unsupported);
        assert_eq!(lacks(&Operation::CountTokens, golden::ERROR_NOT_FOUND), Code::UpstreamError);
        assert_eq!(lacks(&Operation::Messages, r#"{"detail":"Not Found"}"#), Code::UpstreamError);
    }

    #[test]
    fn what_is_no_answer_is_a_bad_response() {
        for (status, body) in
            [(200, &b""[..]), (200, b"[]"), (200, b"{\"a\":"), (200, b"{}x"), (200, b"{\"a\":\"\xff\"}"), (302, b"{}")]
        {
            let error = decode(&Operation::Messages, status, body).expect_err("bad");
            assert_eq!(error.code(), Code::UpstreamBadResponse, "{status} {body:?}");
        }
    }
}
