//! A provider's whole answer: is it an error, what did it cost, is it all there. Its bytes go on as they are.

use crate::error::{Code, Error, UpstreamAnswer};
use crate::model::{Operation, Usage};
use crate::wire::json::{Scanner, Syntax};

/// The longest message, type, param or code of an upstream's error that is kept, in bytes.
const MAX_WORDS: usize = 8 * 1024;

/// How much of an error answer that is no error object is quoted, in bytes.
const MAX_QUOTE: usize = 500;

/// The status of an error that came inside a good answer.
pub(in crate::wire) const INSIDE_OK: u16 = 502;

/// Judges an answer that was read whole; gives the tokens, if the provider counted them.
///
/// # Errors
/// [`Code::UpstreamError`] with the upstream's own words for a status of 400 or more, or for an error object inside a good
/// one (then with status 502); [`Code::Unsupported`] where the provider answers as one that has no such route does;
/// [`Code::UpstreamBadResponse`] for what is no JSON object, and for a redirect or any other status below 400 that is no
/// success: none is followed, and none is to reach a client. What was forwarded may be anything.
pub fn decode(operation: &Operation, status: u16, body: &[u8]) -> Result<Option<Usage>, Error> {
    let route = super::route(operation).filter(|_| *operation != Operation::ChatCompletions);
    judge_status(route, status, body)?;
    if operation.is_forward() {
        return Ok(look(body).ok().and_then(|seen| seen.usage));
    }
    let seen = look(body).map_err(|what| {
        Error::new(Code::UpstreamBadResponse, format!("the provider's answer is no JSON object: {what}"))
    })?;
    if seen.error {
        return Err(upstream_error(INSIDE_OK, body));
    }
    Ok(seen.usage)
}

/// Judges the status of an answer; `route` is where it was asked for, if not every provider has that.
///
/// # Errors
/// As [`decode`] for a status of 400 or more, or for one that is no success.
pub(in crate::wire) fn judge_status(route: Option<&'static str>, status: u16, body: &[u8]) -> Result<(), Error> {
    if status >= 400 {
        return Err(lacks_route(route, status, body).unwrap_or_else(|| upstream_error(status, body)));
    }
    if !is_success(status) {
        let text = format!("the provider answered with status {status}, which is neither an answer nor an error");
        return Err(Error::new(Code::UpstreamBadResponse, text));
    }
    Ok(())
}

/// Whether an error says that there is no such route: a status that speaks of the route, and no error object, which is what
/// a model that is not there would be told by. Every provider has chat; which else has what changes with each release of
/// theirs, so that a list of it here would refuse what they have.
fn lacks_route(route: Option<&'static str>, status: u16, body: &[u8]) -> Option<Error> {
    let route = route?;
    let speaks = look(body).is_ok_and(|seen| seen.error);
    (matches!(status, 404 | 405 | 501) && !speaks).then(|| {
        let text = format!("this provider has no {route}: it answered with status {status}");
        Error::new(Code::Unsupported, text)
    })
}

/// Whether a status announces an answer.
#[must_use]
pub fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// What one answer, or one event of a stream, holds.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// There is an error object.
    pub(super) error: bool,
    pub(super) usage: Option<Usage>,
    /// `choices` is there, if empty.
    pub(super) has_choices: bool,
    /// How many choices there are.
    pub(super) choices: u32,
    /// The indices of choices, one bit each; past 127 in `beyond`.
    pub(super) indices: u128,
    /// The indices of those that finished.
    pub(super) finished_indices: u128,
    /// A choice has an index that has no bit.
    pub(super) beyond: bool,
    /// A choice's `delta` holds something that a reader would show or act on.
    pub(super) content: bool,
}

/// Whether a text is the answer to a chat, or to a completion.
pub(crate) fn has_choices(text: &[u8]) -> bool {
    look(text).is_ok_and(|seen| seen.has_choices)
}

/// Looks at one object, lenient about everything but its being JSON.
pub(super) fn look(text: &[u8]) -> Result<Seen, String> {
    std::str::from_utf8(text).map_err(|error| format!("no UTF-8 at byte {}", error.valid_up_to()))?;
    let mut scanner = Scanner::new(text);
    scan(&mut scanner, text).map_err(|syntax| syntax.to_string())
}

fn scan(scanner: &mut Scanner<'_>, text: &[u8]) -> Result<Seen, Syntax> {
    let mut seen = Seen::default();
    scanner.enter_object()?;
    let mut first = true;
    while let Some(key) = scanner.next_key(&mut first)? {
        match (&*key.text.key(), scanner.peek()) {
            (b"choices", Some(b'[')) => {
                seen.has_choices = true;
                scanner.enter_array()?;
                let mut first = true;
                while scanner.next_element(&mut first)? {
                    choice(scanner, text, &mut seen)?;
                }
            }
            (b"usage", Some(b'{')) => seen.usage = usage(scanner, text)?.or(seen.usage),
            (b"error", found) => {
                scanner.skip()?;
                seen.error |= found != Some(b'n');
            }
            _ => {
                scanner.skip()?;
            }
        }
    }
    scanner.end()?;
    Ok(seen)
}

fn choice(scanner: &mut Scanner<'_>, text: &[u8], seen: &mut Seen) -> Result<(), Syntax> {
    if scanner.peek() != Some(b'{') {
        return scanner.skip().map(drop);
    }
    let (mut index, mut finished) = (0u64, false);
    scanner.enter_object()?;
    let mut first = true;
    while let Some(key) = scanner.next_key(&mut first)? {
        match (&*key.text.key(), scanner.peek()) {
            (b"delta", Some(b'{')) => seen.content |= delta(scanner, text)?,
            // A chunk of `/v1/completions` has its text here.
            (b"text", Some(b'"')) => seen.content |= !scanner.text()?.is_empty(),
            (b"finish_reason", Some(b'"')) => finished = !scanner.text()?.is_empty(),
            (b"index", _) => index = whole_number(&text[scanner.skip()?]).unwrap_or(u64::MAX),
            _ => {
                scanner.skip()?;
            }
        }
    }
    seen.choices += 1;
    match u32::try_from(index).ok().and_then(|index| 1u128.checked_shl(index)) {
        Some(bit) => {
            seen.indices |= bit;
            seen.finished_indices |= if finished { bit } else { 0 };
        }
        None => seen.beyond = true,
    }
    Ok(())
}

/// Whether a delta holds more than a role: text, a refusal, reasoning, a tool call, whatever a provider thinks of.
fn delta(scanner: &mut Scanner<'_>, text: &[u8]) -> Result<bool, Syntax> {
    let mut content = false;
    scanner.enter_object()?;
    let mut first = true;
    while let Some(key) = scanner.next_key(&mut first)? {
        let value = scanner.skip()?;
        content |= *key.text.key() != *b"role" && !matches!(&text[value], b"null" | b"\"\"" | b"[]" | b"{}");
    }
    Ok(content)
}

/// The tokens of a `usage` object, under the names of either of OpenAI's generations.
pub(super) fn usage(scanner: &mut Scanner<'_>, text: &[u8]) -> Result<Option<Usage>, Syntax> {
    let (mut input, mut output) = (None, None);
    scanner.enter_object()?;
    let mut first = true;
    while let Some(key) = scanner.next_key(&mut first)? {
        let value = whole_number(&text[scanner.skip()?]);
        match &*key.text.key() {
            b"prompt_tokens" | b"input_tokens" => input = value.or(input),
            b"completion_tokens" | b"output_tokens" => output = value.or(output),
            _ => {}
        }
    }
    let known = input.is_some() || output.is_some();
    Ok(known.then(|| Usage { input: input.unwrap_or(0), output: output.unwrap_or(0) }))
}

fn whole_number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// An upstream's own error out of an answer's body or a stream's event, in whichever of the usual forms it comes.
pub(in crate::wire) fn upstream_error(status: u16, body: &[u8]) -> Error {
    use serde_json::Value;
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let object = parsed.as_ref().and_then(Value::as_object);
    let inner = object.and_then(|object| object.get("error")).filter(|error| !error.is_null());
    // `{"error":{…}}` is OpenAI's; `{"error":"…"}`, `{"message":…}` and `{"detail":…}` stand in servers that resemble it.
    let fields = inner.and_then(Value::as_object).or(object);
    let word = |name: &str| fields.and_then(|fields| fields.get(name)).and_then(words);
    let message = match inner {
        Some(Value::String(text)) => Some(shorten(text)),
        _ => word("message").or_else(|| word("detail")),
    };
    let message = message.unwrap_or_else(|| match quote(body) {
        text if text.is_empty() => format!("the provider answered with status {status} and said nothing"),
        text => text,
    });
    Error::upstream(UpstreamAnswer { status, message, kind: word("type"), param: word("param"), code: word("code") })
}

fn words(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(shorten(text)),
        other => Some(shorten(&other.to_string())),
    }
}

/// The beginning of a body that is no error object.
pub(in crate::wire) fn quote(body: &[u8]) -> String {
    let beginning = &body[..body.len().min(MAX_QUOTE)];
    String::from_utf8_lossy(beginning).trim().to_owned()
}

/// As much of an upstream's words as is kept.
pub(in crate::wire) fn shorten(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_WORDS)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Forward;

    const CHAT: Operation = Operation::ChatCompletions;

    fn answer(status: u16, body: &str) -> (Error, UpstreamAnswer) {
        let error = decode(&CHAT, status, body.as_bytes()).expect_err("an error");
        let answer = error.upstream_answer().expect("the upstream's own").clone();
        (error, answer)
    }

    #[test]
    fn a_good_answer_says_its_usage() {
        let usage = |body: &str| decode(&CHAT, 200, body.as_bytes()).expect("good");
        let both = Some(Usage { input: 3, output: 4 });
        let body = r#"{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
        assert_eq!(usage(body), both);
        let body = r#"{"object":"response","status":"completed","error":null,"usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":1},"output_tokens":4}}"#;
        assert_eq!(usage(body), both);
        let body = r#"{"object":"list","data":[],"usage":{"prompt_tokens":3,"total_tokens":3}}"#;
        assert_eq!(usage(body), Some(Usage { input: 3, output: 0 }));
        for body in [r#"{"choices":[],"usage":null,"error":null}"#, r#"{"choices":5,"usage":[]}"#, "{}"] {
            assert_eq!(usage(body), None, "{body}");
        }
    }

    #[test]
    fn a_route_that_is_not_there_is_told_from_a_model_that_is_not() {
        for (status, body, code) in [
            (404, r#"{"detail":"Not Found"}"#, Code::Unsupported),
            (404, "404 page not found", Code::Unsupported),
            (405, "", Code::Unsupported),
            (501, "{}", Code::Unsupported),
            (404, r#"{"error":{"message":"no such model","code":"model_not_found"}}"#, Code::UpstreamError),
            (400, r#"{"detail":"Not Found"}"#, Code::UpstreamError),
        ] {
            for operation in [Operation::Completions, Operation::Embeddings, Operation::Responses] {
                let error = decode(&operation, status, body.as_bytes()).expect_err("an error");
                assert_eq!(error.code(), code, "{operation:?} {status} {body}");
            }
            let chat = decode(&CHAT, status, body.as_bytes()).expect_err("an error");
            assert_eq!((chat.code(), chat.status()), (Code::UpstreamError, status), "every provider has chat");
        }
    }

    #[test]
    fn what_was_forwarded_may_be_answered_by_anything() {
        let forward = Forward { method: "GET", path: "/files".into(), content_type: None, accept: None };
        let forward = Operation::Forward(forward);
        assert_eq!(decode(&forward, 200, b"\xff\x00").expect("good"), None);
        assert_eq!(decode(&forward, 204, b"").expect("good"), None);
        let image = br#"{"data":[],"usage":{"input_tokens":1,"output_tokens":2}}"#;
        assert_eq!(decode(&forward, 200, image).expect("good"), Some(Usage { input: 1, output: 2 }));
        assert_eq!(decode(&forward, 404, b"no").expect_err("an error").code(), Code::UpstreamError);
        assert_eq!(decode(&forward, 302, b"").expect_err("no redirect").code(), Code::UpstreamBadResponse);
    }

    #[test]
    fn an_upstreams_error_keeps_its_words() {
        let body = r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
        let (error, answer) = answer(400, body);
        assert_eq!((error.code(), error.status(), error.message()), (Code::UpstreamError, 400, "too long"));
        assert_eq!(answer.kind.as_deref(), Some("invalid_request_error"));
        assert_eq!(
            (answer.param.as_deref(), answer.code.as_deref()),
            (Some("messages"), Some("context_length_exceeded"))
        );
    }

    #[test]
    fn an_error_in_any_form_gives_a_message() {
        for (body, message) in [
            (r#"{"error":"plain"}"#, "plain"),
            (r#"{"object":"error","message":"flat","code":40001}"#, "flat"),
            (r#"{"detail":"not here"}"#, "not here"),
            (r#"{"detail":[{"loc":["body"]}]}"#, r#"[{"loc":["body"]}]"#),
            ("<html>Bad Gateway</html>", "<html>Bad Gateway</html>"),
            ("", "the provider answered with status 503 and said nothing"),
        ] {
            assert_eq!(answer(503, body).1.message, message);
        }
        assert_eq!(answer(503, r#"{"error":{"message":"m","code":429}}"#).1.code.as_deref(), Some("429"));
        assert!(answer(500, &"é".repeat(MAX_QUOTE)).1.message.len() <= MAX_QUOTE + 3);
    }

    #[test]
    fn an_error_inside_a_good_answer_is_a_502() {
        let (error, _) = answer(200, r#"{"error":{"message":"sorry","code":"x"},"choices":[]}"#);
        assert_eq!((error.code(), error.status()), (Code::UpstreamError, 502));
    }

    #[test]
    fn what_is_no_json_object_is_a_bad_response() {
        for body in [&b""[..], b"ok", b"[]", b"{\"a\":", b"{}x", b"{\"a\":\"\xff\"}"] {
            let error = decode(&CHAT, 200, body).expect_err("bad");
            assert_eq!(error.code(), Code::UpstreamBadResponse, "{body:?}");
        }
    }
}
