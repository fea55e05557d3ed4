//! A client's body on its way to a provider that speaks the same shape.

use super::Ask;
use crate::error::Error;
use crate::model::BodyFields;
use crate::wire::openai::{Body, parse_as};

/// Checks a body and finds what routing and encoding need, as OpenAI's bodies are: `encode` takes the one as the other.
///
/// Our own `fallbacks` are names; where the field holds what Anthropic means by it, objects or the word `default`, it goes
/// upstream as it is, and counts as naming further models of the provider.
///
/// # Errors
/// [`Code::InvalidRequest`](crate::error::Code::InvalidRequest) as for a chat of OpenAI's; for a message also if
/// `max_tokens` is missing or no number.
pub(crate) fn parse(ask: Ask, body: &[u8]) -> Result<BodyFields, Error> {
    let kind = match ask {
        Ask::Messages => Body::Messages,
        Ask::CountTokens => Body::CountTokens,
    };
    parse_as(kind, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::wire::openai::encode;

    fn good(ask: Ask, body: &str) -> BodyFields {
        parse(ask, body.as_bytes()).expect("it is good")
    }

    fn sent(body: &str) -> String {
        let mut out = Vec::new();
        encode(body.as_bytes(), &good(Ask::Messages, body), "claude", &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn what_routing_needs_is_found() {
        let body = r#"{"max_tokens":5,"messages":[],"model":"a/b","stream":true,"fallbacks":["c"]}"#;
        let fields = good(Ask::Messages, body);
        assert_eq!((fields.model.as_str(), fields.stream, &fields.fallbacks[..]), ("a/b", true, &["c".to_owned()][..]));
        assert!(fields.include_usage, "the shape always has it");
        assert_eq!((fields.choices, fields.models), (1, false));
        let counted = good(Ask::CountTokens, r#"{"messages":[],"model":"m","stream":true}"#);
        assert!(!counted.stream, "it has none, and needs no max_tokens");
    }

    #[test]
    fn an_error_names_the_field() {
        for (body, field) in [
            (r#"{"messages":[],"max_tokens":5}"#, "model"),
            (r#"{"model":"m","max_tokens":5}"#, "messages"),
            (r#"{"model":"m","messages":"hi","max_tokens":5}"#, "messages"),
            (r#"{"model":"m","messages":[]}"#, "max_tokens"),
            (r#"{"model":"m","messages":[],"max_tokens":null}"#, "max_tokens"),
            (r#"{"model":"m","messages":[],"max_tokens":"5"}"#, "max_tokens"),
            (r#"{"model":"m","messages":[],"max_tokens":-5}"#, "max_tokens"),
            (r#"{"model":"m","messages":[],"max_tokens":5,"model":"n"}"#, "model"),
            (r#"{"model":"m","messages":[],"max_tokens":5,"stream":1}"#, "stream"),
            (r#"{"model":"m","messages":[],"max_tokens":5,"fallbacks":{}}"#, "fallbacks"),
            (r#"{"model":"m","messages":[],"max_tokens":5,"fallbacks":"default","fallbacks":[]}"#, "fallbacks"),
            (r#"{"model":"m","messages":[],"max_tokens":5,"fallbacks":["a",{"model":"b"}]}"#, "fallbacks"),
        ] {
            let error = parse(Ask::Messages, body.as_bytes()).expect_err("it must be refused");
            assert_eq!((error.code(), error.param()), (Code::InvalidRequest, Some(field)), "{body}");
        }
    }

    #[test]
    fn only_the_model_and_our_own_fallbacks_change_on_the_way() {
        let body = r#"{"model":"a/b","max_tokens":5,"messages":[ {"role":"user","content":"\u00e9"} ],"stream":true,"stream_options":{"x":1}}"#;
        assert_eq!(sent(body), body.replace("a/b", "claude"), "nothing is asked for that the shape has always");
        let ours = r#"{"model":"m","fallbacks":["x/y"],"max_tokens":5,"messages":[]}"#;
        assert_eq!(sent(ours), r#"{"model":"claude","max_tokens":5,"messages":[]}"#);
        for theirs in [r#""default""#, r#"[{"model":"claude-b"}]"#] {
            let body = format!(r#"{{"model":"m","fallbacks":{theirs},"max_tokens":5,"messages":[]}}"#);
            assert_eq!(sent(&body), body.replace("\"m\"", "\"claude\""));
            let fields = good(Ask::Messages, &body);
            assert!(
                fields.models && fields.fallbacks.is_empty(),
                "whose key may use only some models may not name more"
            );
        }
    }
}
