//! A client's body, in OpenAI's shapes and in Anthropic's: checked whole, in one pass, and nothing of it built but the model's name and the fallbacks.
//!
//! Strict where a loose reading could be turned against routing: a second `model`, however its key is written, would let
//! the gateway route by one value and the provider answer by the other.

use std::borrow::Cow;
use std::ops::Range;

use crate::error::{Code, Error};
use crate::model::{BodyFields, Operation};
use crate::wire::json::{Key, Scanner, Text};
use crate::wire::pull::{not_json, text_of};

/// The most fallbacks that one request can name: far above any sensible chain, and a bound on what they take in memory.
const MAX_FALLBACKS: usize = 64;

/// Checks a chat body and finds what routing and encoding need: [`parse`] for the operation that is asked for most.
///
/// # Errors
/// As [`parse`].
pub fn parse_chat(body: &[u8]) -> Result<BodyFields, Error> {
    parse(&Operation::ChatCompletions, body)
}

/// Checks the body of a request for `operation`, and finds what routing and encoding need. Of a forwarded one nothing is
/// looked at.
///
/// Embeddings have no streams, nor has the counting of tokens: what their `stream` says is the provider's to judge. What a
/// shape requires beside `model` is the provider's to judge, too, but for the `messages` of a chat or a message and the
/// `max_tokens` of a message.
///
/// Our own `fallbacks` are names; where those of a message hold what Anthropic means by the field, objects or the word
/// `default`, they go upstream as they are, and count as naming further models of the provider.
///
/// # Errors
/// [`Code::InvalidRequest`], naming the field where one is at fault: the body is no UTF-8, no JSON object or nested over
/// 128 deep; `model`, `stream` or `fallbacks` stand twice, or `model` in capitals; `model` is no non-empty string;
/// `messages` is no array; `max_tokens` is missing or no number; `stream` is neither boolean nor null; `fallbacks` is no array of strings.
pub fn parse(operation: &Operation, body: &[u8]) -> Result<BodyFields, Error> {
    if operation.is_forward() {
        return Ok(BodyFields::default());
    }
    text_of(body)?;
    let mut scanner = Scanner::new(body);
    if scanner.peek() != Some(b'{') {
        return Err(Error::new(Code::InvalidRequest, "the body must be a JSON object"));
    }
    scanner.enter_object().map_err(not_json)?;
    let mut found = Found { start: scanner.at(), ..Found::default() };
    let mut first = true;
    while let Some(key) = scanner.next_key(&mut first).map_err(not_json)? {
        found.end_cut(key.start);
        found.member(operation, body, &key, &mut scanner)?;
    }
    scanner.end().map_err(not_json)?;
    found.into_fields(operation)
}

/// What was found so far.
#[derive(Default)]
struct Found {
    start: usize,
    model: Option<(String, Range<usize>)>,
    /// Whether `messages` is an array, if it is there.
    messages: Option<bool>,
    /// Whether `max_tokens` is a number, if it is there.
    max_tokens: Option<bool>,
    stream: Option<bool>,
    stream_options: Option<(Range<usize>, bool)>,
    fallbacks: Option<Vec<String>>,
    /// Whether `models` is there, and not null.
    models: bool,
    cut: Option<Cut>,
    /// What `n` says.
    n: Option<u32>,
    /// How many prompts there are, each of which is answered for itself.
    prompts: Option<u32>,
}

/// What is cut out for `fallbacks`: with the comma after it, so to the next key; with the one before it, if it is last.
struct Cut {
    comma: Option<usize>,
    key: usize,
    value_end: usize,
    next_key: Option<usize>,
}

impl Found {
    /// A key follows at `at`: a cut that waits for its end gets it.
    fn end_cut(&mut self, at: usize) {
        if let Some(cut) = &mut self.cut {
            cut.next_key.get_or_insert(at);
        }
    }

    fn member(
        &mut self,
        operation: &Operation,
        body: &[u8],
        key: &Key<'_>,
        scanner: &mut Scanner<'_>,
    ) -> Result<(), Error> {
        match &*key.text.key() {
            b"model" => {
                once("model", self.model.is_some())?;
                let wrong = || Error::invalid("model", "'model' must be a non-empty string");
                let (range, text) = string(scanner)?;
                let name = text.filter(|text| !text.is_empty()).and_then(|text| text.decode()).ok_or_else(wrong)?;
                self.model = Some((name.into_owned(), range));
            }
            b"messages" => {
                self.messages = Some(scanner.peek() == Some(b'['));
                scanner.skip().map_err(not_json)?;
            }
            b"max_tokens" => {
                self.max_tokens = match scanner.peek() {
                    Some(b'n') => None,
                    found => Some(matches!(found, Some(b'0'..=b'9'))),
                };
                scanner.skip().map_err(not_json)?;
            }
            b"n" => {
                let value = scanner.skip().map_err(not_json)?;
                self.n = std::str::from_utf8(&body[value]).ok().and_then(|text| text.parse().ok());
            }
            b"prompt" => self.prompts = prompts(scanner)?,
            b"stream" => {
                once("stream", self.stream.is_some())?;
                let value = scanner.skip().map_err(not_json)?;
                self.stream = Some(match &body[value] {
                    b"true" => true,
                    b"false" | b"null" => false,
                    _ => return Err(Error::invalid("stream", "'stream' must be true, false or null")),
                });
            }
            b"stream_options" => {
                let value = scanner.skip().map_err(not_json)?;
                let asked = usage_option(&body[value.clone()]).is_some_and(|option| option.wanted);
                // Of two, the last: that is the one that readers of JSON take.
                self.stream_options = Some((value, asked));
            }
            // Anthropic has a field of this name, too: objects, or the word `default`, which name more models of its own.
            b"fallbacks" if is_anthropics(operation) && are_anthropics(scanner) => {
                once("fallbacks", self.fallbacks.is_some())?;
                (self.fallbacks, self.models) = (Some(Vec::new()), true);
                scanner.skip().map_err(not_json)?;
            }
            b"fallbacks" => {
                once("fallbacks", self.fallbacks.is_some())?;
                self.fallbacks = Some(fallbacks_in(scanner)?);
                self.cut = Some(Cut { comma: key.comma, key: key.start, value_end: scanner.at(), next_key: None });
            }
            b"models" => {
                self.models |= scanner.peek() != Some(b'n');
                scanner.skip().map_err(not_json)?;
            }
            // Some readers of JSON, Go's above all, take it for `model`, and the last of the two for the one that counts.
            other if other.eq_ignore_ascii_case(b"model") => {
                let shown = String::from_utf8_lossy(other);
                return Err(Error::invalid("model", format!("'{shown}' could be taken for a second 'model'")));
            }
            _ => {
                scanner.skip().map_err(not_json)?;
            }
        }
        Ok(())
    }

    fn into_fields(self, operation: &Operation) -> Result<BodyFields, Error> {
        use Operation::{ChatCompletions, Completions, CountTokens, Embeddings, Messages, Responses};
        let (model, model_span) = self.model.ok_or_else(|| Error::invalid("model", "'model' is missing"))?;
        if matches!(operation, ChatCompletions | Messages | CountTokens) {
            match self.messages {
                None => return Err(Error::invalid("messages", "'messages' is missing")),
                Some(false) => return Err(Error::invalid("messages", "'messages' must be an array")),
                Some(true) => {}
            }
        }
        if *operation == Messages {
            match self.max_tokens {
                None => return Err(Error::invalid("max_tokens", "'max_tokens' is missing")),
                Some(false) => return Err(Error::invalid("max_tokens", "'max_tokens' must be a whole number")),
                Some(true) => {}
            }
        }
        // Only OpenAI's shapes have options for streams, and usage there that must be asked for.
        let (stream_options_span, include_usage) = match (operation, self.stream_options) {
            (Messages | CountTokens, _) => (None, true),
            (Responses, options) => (options.map(|(span, _)| span), true),
            (_, options) => options.map_or((None, false), |(span, usage)| (Some(span), usage)),
        };
        let choices = match operation {
            ChatCompletions => self.n,
            Completions => Some(self.n.unwrap_or(1).saturating_mul(self.prompts.unwrap_or(1))),
            _ => None,
        };
        let fallbacks_span = self.cut.map(|cut| match (cut.next_key, cut.comma) {
            (Some(next), _) => cut.key..next,
            (None, Some(comma)) => comma..cut.value_end,
            (None, None) => cut.key..cut.value_end,
        });
        Ok(BodyFields {
            model,
            model_span,
            start: self.start,
            stream: self.stream.unwrap_or(false) && !matches!(operation, Embeddings | CountTokens),
            stream_options_span,
            include_usage,
            choices: choices.unwrap_or(1),
            fallbacks: self.fallbacks.unwrap_or_default(),
            fallbacks_span,
            models: self.models,
        })
    }
}

/// Whether it is asked for in Anthropic's shape.
fn is_anthropics(operation: &Operation) -> bool {
    matches!(operation, Operation::Messages | Operation::CountTokens)
}

/// Whether the `fallbacks` that come next are Anthropic's own: a word, or a list whose first element is an object.
fn are_anthropics(scanner: &Scanner<'_>) -> bool {
    let mut ahead = scanner.clone();
    match ahead.peek() {
        Some(b'"') => true,
        Some(b'[') => {
            ahead.enter_array().is_ok()
                && ahead.next_element(&mut true).is_ok_and(|more| more && ahead.peek() == Some(b'{'))
        }
        _ => false,
    }
}

fn once(name: &'static str, seen: bool) -> Result<(), Error> {
    if seen { Err(Error::invalid(name, format!("'{name}' stands twice in the body"))) } else { Ok(()) }
}

/// The value that comes next, as a string if it is one.
fn string<'a>(scanner: &mut Scanner<'a>) -> Result<(Range<usize>, Option<Text<'a>>), Error> {
    if scanner.peek() != Some(b'"') {
        return Ok((scanner.skip().map_err(not_json)?, None));
    }
    let start = scanner.at();
    let text = scanner.text().map_err(not_json)?;
    Ok((start..scanner.at(), Some(text)))
}

/// How many prompts a text completion has: a text and a list of tokens are one, a list of either is as many as it holds.
fn prompts(scanner: &mut Scanner<'_>) -> Result<Option<u32>, Error> {
    if scanner.peek() != Some(b'[') {
        return scanner.skip().map(|_| None).map_err(not_json);
    }
    scanner.enter_array().map_err(not_json)?;
    let (mut count, mut first) = (0, true);
    while scanner.next_element(&mut first).map_err(not_json)? {
        count += u32::from(matches!(scanner.peek(), Some(b'"' | b'[')));
        scanner.skip().map_err(not_json)?;
    }
    Ok(Some(count.max(1)))
}

/// What a body's own `fallbacks` would come to, of names that were given beside it.
///
/// # Errors
/// [`Code::InvalidRequest`] as for those of a body: one of them is empty, or there are too many.
pub fn fallbacks(given: &[String]) -> Result<Vec<String>, Error> {
    let mut names = Vec::with_capacity(given.len());
    given.iter().try_for_each(|name| push_fallback(&mut names, Some(name.as_str().into())))?;
    Ok(names)
}

fn fallbacks_in(scanner: &mut Scanner<'_>) -> Result<Vec<String>, Error> {
    match scanner.peek() {
        Some(b'[') => {}
        // SDKs write an option that was not given as null.
        Some(b'n') => return scanner.skip().map(|_| Vec::new()).map_err(not_json),
        _ => return Err(Error::invalid("fallbacks", "'fallbacks' must be an array of strings")),
    }
    scanner.enter_array().map_err(not_json)?;
    let mut names = Vec::new();
    let mut first = true;
    while scanner.next_element(&mut first).map_err(not_json)? {
        let (_, text) = string(scanner)?;
        push_fallback(&mut names, text.and_then(|text| text.decode()))?;
    }
    Ok(names)
}

/// Takes another fallback in: `None` is one that is no string.
fn push_fallback(names: &mut Vec<String>, name: Option<Cow<'_, str>>) -> Result<(), Error> {
    let wrong = |what: String| Error::invalid("fallbacks", what);
    let name = name
        .filter(|name| !name.is_empty())
        .ok_or_else(|| wrong(format!("'fallbacks[{}]' must be a non-empty string", names.len())))?;
    if names.len() == MAX_FALLBACKS {
        return Err(wrong(format!("'fallbacks' may name at most {MAX_FALLBACKS} models")));
    }
    names.push(name.into_owned());
    Ok(())
}

/// What `stream_options` says about usage.
pub(super) struct UsageOption {
    pub(super) wanted: bool,
    /// Where the value of `include_usage` stands, counted from the object's first byte.
    pub(super) span: Option<Range<usize>>,
    /// Whether the object has no member at all.
    pub(super) empty: bool,
}

/// Looks into the value of `stream_options`, known to be JSON; `None` if it is no object.
pub(super) fn usage_option(value: &[u8]) -> Option<UsageOption> {
    let mut scanner = Scanner::new(value);
    scanner.enter_object().ok()?;
    let mut option = UsageOption { wanted: false, span: None, empty: true };
    let mut first = true;
    while let Some(key) = scanner.next_key(&mut first).ok()? {
        option.empty = false;
        let span = scanner.skip().ok()?;
        if *key.text.key() == *b"include_usage" {
            option.wanted = value[span.clone()] == *b"true";
            option.span = Some(span);
        }
    }
    Some(option)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: impl AsRef<[u8]>) -> (Option<String>, String) {
        let error = parse_chat(body.as_ref()).expect_err("it must be refused");
        assert_eq!(error.code(), Code::InvalidRequest);
        (error.param().map(str::to_owned), error.message().to_owned())
    }

    #[test]
    fn fields_are_found_where_they_stand() {
        let body =
            br#" { "messages" : [ ] , "model" : "a\/b" , "stream":true, "stream_options": {"include_usage":true} }"#;
        let fields = parse_chat(body).expect("it is good");
        assert_eq!((fields.model.as_str(), &body[fields.model_span.clone()]), ("a/b", &br#""a\/b""#[..]));
        assert!(fields.stream && fields.include_usage);
        assert_eq!(&body[fields.stream_options_span.clone().expect("there")], br#"{"include_usage":true}"#);
        assert_eq!(body[fields.start - 1], b'{');
        assert_eq!(fields.fallbacks_span, None);
    }

    #[test]
    fn an_error_names_the_field() {
        for (body, field) in [
            (r#"{"messages":[]}"#, "model"),
            (r#"{"model":"","messages":[]}"#, "model"),
            (r#"{"model":5,"messages":[]}"#, "model"),
            (r#"{"model":null,"messages":[]}"#, "model"),
            (r#"{"model":["a"],"messages":[]}"#, "model"),
            (r#"{"model":"\ud800","messages":[]}"#, "model"),
            (r#"{"model":"a"}"#, "messages"),
            (r#"{"model":"a","messages":{}}"#, "messages"),
            (r#"{"model":"a","messages":null}"#, "messages"),
            (r#"{"model":"a","messages":[],"stream":"true"}"#, "stream"),
            (r#"{"model":"a","messages":[],"stream":1}"#, "stream"),
            (r#"{"model":"a","messages":[],"fallbacks":"b"}"#, "fallbacks"),
            (r#"{"model":"a","messages":[],"fallbacks":["b",1]}"#, "fallbacks"),
            (r#"{"model":"a","messages":[],"fallbacks":[""]}"#, "fallbacks"),
            (r#"{"model":"a","messages":[],"fallbacks":{}}"#, "fallbacks"),
        ] {
            assert_eq!(refused(body).0.as_deref(), Some(field), "{body}");
        }
        let many = format!(r#"{{"model":"a","messages":[],"fallbacks":[{}"x"]}}"#, r#""x","#.repeat(MAX_FALLBACKS));
        assert_eq!(refused(many).0.as_deref(), Some("fallbacks"));
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_however_it_is_written() {
        for (body, field) in [
            (r#"{"model":"a","model":"b","messages":[]}"#, "model"),
            (r#"{"model":"a","mod\u0065l":"b","messages":[]}"#, "model"),
            (r#"{"\u006dodel":"a","messages":[],"model":"a"}"#, "model"),
            (r#"{"model":"a","stream":true,"messages":[],"str\u0065am":false}"#, "stream"),
            (r#"{"model":"a","stream":null,"messages":[],"stream":null}"#, "stream"),
            (r#"{"model":"a","fallbacks":[],"messages":[],"fallback\u0073":null}"#, "fallbacks"),
        ] {
            let (param, message) = refused(body);
            assert_eq!(param.as_deref(), Some(field), "{body}");
            assert!(message.contains("twice"), "{message}");
        }
        // Deeper down, and for other keys, it is not ours to judge.
        assert!(parse_chat(br#"{"model":"a","x":{"model":1,"model":2},"x":1,"messages":[],"messages":[]}"#).is_ok());
    }

    #[test]
    fn a_key_that_only_some_readers_tell_from_model_is_refused() {
        for body in [
            r#"{"model":"a","Model":"b","messages":[]}"#,
            r#"{"MODEL":"b","messages":[],"model":"a"}"#,
            r#"{"model":"a","messages":[],"mode\u004c":"b"}"#,
            r#"{"Model":"a","messages":[]}"#,
        ] {
            assert_eq!(refused(body).0.as_deref(), Some("model"), "{body}");
        }
        assert!(parse_chat(br#"{"model":"a","x":{"Model":1},"models_":1,"messages":[]}"#).is_ok());
    }

    #[test]
    fn further_models_are_seen_where_there_are_some() {
        for (models, seen) in [("[\"b\"]", true), ("[]", true), ("\"b\"", true), ("null", false)] {
            let body = format!(r#"{{"model":"a","messages":[],"mod\u0065ls":{models}}}"#);
            assert_eq!(parse_chat(body.as_bytes()).expect("it is good").models, seen, "{body}");
        }
        assert!(!parse_chat(br#"{"model":"a","messages":[{"models":["b"]}]}"#).expect("it is good").models);
    }

    #[test]
    fn an_escaped_key_alone_is_that_key() {
        let fields = parse_chat(br#"{"m\u006fdel":"\u0061","messages":[]}"#).expect("it is good");
        assert_eq!(fields.model, "a");
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for body in [
            "",
            " ",
            "[]",
            "null",
            "\"a\"",
            "{",
            "{\"model\":\"a\",\"messages\":[]",
            "{\"model\":\"a\",\"messages\":[]}}",
        ] {
            assert_eq!(refused(body).0, None, "{body}");
        }
        assert_eq!(refused(b"{\"model\":\"\xff\",\"messages\":[]}").1, "the body is not UTF-8: byte 10");
        assert!(refused("\u{feff}{\"model\":\"a\",\"messages\":[]}").1.contains("object"));
        let nested = |n: usize| format!(r#"{{"model":"a","messages":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(parse_chat(nested(127).as_bytes()).is_ok());
        assert!(refused(nested(128)).1.contains("128"));
    }

    #[test]
    fn null_asks_for_nothing() {
        let fields = parse_chat(br#"{"model":"a","messages":[],"stream":null,"fallbacks":null,"stream_options":null}"#)
            .expect("it is good");
        assert!(!fields.stream && !fields.include_usage && fields.fallbacks.is_empty());
        assert!(fields.fallbacks_span.is_some(), "it is cut out all the same");
    }

    #[test]
    fn each_operation_asks_for_its_own_fields() {
        let fields = |operation: &Operation, rest: &str| {
            parse(operation, format!(r#"{{"model":"a"{rest}}}"#).as_bytes()).expect("it is good")
        };
        for (operation, rest, choices) in [
            (Operation::ChatCompletions, r#","messages":[],"n":3"#, 3),
            (Operation::ChatCompletions, r#","messages":[],"n":null,"prompt":["a","b"]"#, 1),
            (Operation::Completions, "", 1),
            (Operation::Completions, r#","prompt":"a","n":2"#, 2),
            (Operation::Completions, r#","n":2,"prompt":["a","b","c"]"#, 6),
            (Operation::Completions, r#","prompt":[1,2,3]"#, 1),
            (Operation::Completions, r#","prompt":[[1,2],[3]]"#, 2),
            (Operation::Completions, r#","prompt":[]"#, 1),
            (Operation::Responses, r#","n":5"#, 1),
        ] {
            assert_eq!(fields(&operation, rest).choices, choices, "{operation:?} {rest}");
        }
        let streamed = r#","stream":true"#;
        assert!(fields(&Operation::Completions, streamed).stream && fields(&Operation::Responses, streamed).stream);
        assert!(!fields(&Operation::Embeddings, streamed).stream, "they have none");
        assert!(fields(&Operation::Responses, streamed).include_usage, "it is there unasked");
        assert!(parse(&Operation::Embeddings, b"{\"input\":\"x\"}").is_err(), "a model is named always");
    }
}

#[cfg(test)]
mod messages {
    use crate::error::Code;
    use crate::model::{BodyFields, Operation};
    use crate::wire::openai::{encode, parse};

    fn good(operation: &Operation, body: &str) -> BodyFields {
        parse(operation, body.as_bytes()).expect("it is good")
    }

    fn sent(body: &str) -> String {
        let mut out = Vec::new();
        encode(body.as_bytes(), &good(&Operation::Messages, body), "claude", &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn what_routing_needs_is_found() {
        let body = r#"{"max_tokens":5,"messages":[],"model":"a/b","stream":true,"fallbacks":["c"]}"#;
        let fields = good(&Operation::Messages, body);
        assert_eq!((fields.model.as_str(), fields.stream, &fields.fallbacks[..]), ("a/b", true, &["c".to_owned()][..]));
        assert!(fields.include_usage, "the shape always has it");
        assert_eq!((fields.choices, fields.models), (1, false));
        let counted = good(&Operation::CountTokens, r#"{"messages":[],"model":"m","stream":true}"#);
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
            let error = parse(&Operation::Messages, body.as_bytes()).expect_err("it must be refused");
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
            let fields = good(&Operation::Messages, &body);
            assert!(
                fields.models && fields.fallbacks.is_empty(),
                "whose key may use only some models may not name more"
            );
        }
    }
}
