//! A provider's whole answer on its way to a client that speaks the same shape: is it an error, what did it cost.

use super::Ask;
use super::words::Counts;
use crate::error::Error;
use crate::model::Usage;
use crate::wire::openai::{INSIDE_OK, judge_status, upstream_error};
use crate::wire::pull::{Pull, Wrong, answer_text};

/// Judges an answer that was read whole; gives the tokens, if the provider counted them. Those that a cache had or got count
/// as the request's. A count of tokens costs nothing.
///
/// # Errors
/// As for OpenAI's answers: the upstream's own words for a status of 400 or more, or for an error inside a good answer; that a
/// provider lacks the counting of tokens, where it says so; what is no JSON object.
pub(crate) fn decode(ask: Ask, status: u16, body: &[u8]) -> Result<Option<Usage>, Error> {
    let route = (ask == Ask::CountTokens).then_some(ask.route());
    judge_status(route, status, body)?;
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
    Ok(counts.tokens().map(Usage::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::wire::anthropic::golden;

    #[test]
    fn a_good_answer_says_its_usage() {
        let usage = |body: &str| decode(Ask::Messages, 200, body.as_bytes()).expect("good");
        assert_eq!(usage(golden::REPLY_TEXT), Some(Usage { input: 12, output: 6 }));
        assert_eq!(usage(golden::REPLY_CACHED), Some(Usage { input: 2051, output: 9 }), "the cache counts, too");
        assert_eq!(usage(r#"{"content":[],"usage":null,"error":null}"#), None);
        let counted = decode(Ask::CountTokens, 200, br#"{"input_tokens":14}"#).expect("good");
        assert_eq!(counted, None, "counting costs nothing");
    }

    #[test]
    fn an_upstreams_error_keeps_its_words() {
        for (status, body, kind, message) in [
            (529, golden::ERROR_OVERLOADED, "overloaded_error", "Overloaded"),
            (404, golden::ERROR_NOT_FOUND, "not_found_error", "model: claude-none"),
        ] {
            let error = decode(Ask::Messages, status, body.as_bytes()).expect_err("an error");
            let answer = error.upstream_answer().expect("the upstream's own");
            assert_eq!((error.status(), answer.kind.as_deref(), &*answer.message), (status, Some(kind), message));
        }
        let inside = decode(Ask::Messages, 200, golden::ERROR_OVERLOADED.as_bytes()).expect_err("an error");
        assert_eq!((inside.code(), inside.status()), (Code::UpstreamError, 502));
    }

    #[test]
    fn a_provider_that_cannot_count_says_so() {
        let lacks = |ask, body: &str| decode(ask, 404, body.as_bytes()).expect_err("an error").code();
        assert_eq!(lacks(Ask::CountTokens, r#"{"detail":"Not Found"}"#), Code::Unsupported);
        assert_eq!(lacks(Ask::CountTokens, golden::ERROR_NOT_FOUND), Code::UpstreamError);
        assert_eq!(lacks(Ask::Messages, r#"{"detail":"Not Found"}"#), Code::UpstreamError);
    }

    #[test]
    fn what_is_no_answer_is_a_bad_response() {
        for (status, body) in
            [(200, &b""[..]), (200, b"[]"), (200, b"{\"a\":"), (200, b"{}x"), (200, b"{\"a\":\"\xff\"}"), (302, b"{}")]
        {
            let error = decode(Ask::Messages, status, body).expect_err("bad");
            assert_eq!(error.code(), Code::UpstreamBadResponse, "{status} {body:?}");
        }
    }
}
