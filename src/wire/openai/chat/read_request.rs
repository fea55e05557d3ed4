//! A client's chat request: the fields beside its messages.
//!
//! Names, types and meanings are those of "Create chat completion" in OpenAI's API reference.

use std::borrow::Cow;

use super::pull::{Fault, Place, Pull};
use super::read_message::messages;
use crate::error::Error;
use crate::model::chat::{Choice, Effort, Format, Request, Rest, Tool};

/// Reads a chat request. `model` and our own `fallbacks` are passed over: routing has read them.
///
/// # Errors
/// [`Code::InvalidRequest`](crate::error::Code::InvalidRequest) that names the field which is not what the shape says, as
/// `messages.2.content`. What it says, but the neutral chat has no place for, is no error: it stands in the rest.
pub(crate) fn read_request(body: &[u8]) -> Result<Request<'_>, Error> {
    read(body).map_err(Fault::in_request)
}

fn read(body: &[u8]) -> Result<Request<'_>, Fault> {
    let mut pull = Pull::new(body)?;
    let mut request = Request::default();
    let (mut talk, mut older_limit, mut older_user) = (false, None, None);
    pull.object(&Place::Top, |pull, name, at| {
        match name {
            "model" | "fallbacks" => drop(pull.raw()?),
            "messages" => {
                talk = true;
                messages(pull, at, &mut request)?;
            }
            "tools" => {
                request.tools.clear();
                tools(pull, at, &mut request)?;
            }
            "tool_choice" => tool_choice(pull, at, &mut request)?,
            "parallel_tool_calls" => request.parallel_tools = Some(pull.truth(at)?),
            "max_completion_tokens" => request.max_tokens = Some(pull.whole(at)?),
            "max_tokens" => older_limit = Some(pull.whole(at)?),
            "temperature" => request.temperature = Some(pull.number(at)?),
            "top_p" => request.top_p = Some(pull.number(at)?),
            "stop" => request.stop = stop(pull, at)?,
            "response_format" => response_format(pull, at, &mut request)?,
            "reasoning_effort" => request.effort = Some(effort(pull, at)?),
            "safety_identifier" => request.user = Some(pull.string(at)?),
            "user" => older_user = Some(pull.string(at)?),
            "stream" => request.stream = pull.truth(at)?,
            "stream_options" => stream_options(pull, at, &mut request)?,
            _ => keep_unless_idle(pull, name, at, &mut request.rest)?,
        }
        Ok(())
    })?;
    pull.end()?;
    if !talk {
        return Err(Place::Member(&Place::Top, "messages").fault("is missing"));
    }
    // The documentation calls these two deprecated for the other two, which therefore go before them.
    request.max_tokens = request.max_tokens.or(older_limit);
    request.user = request.user.or(older_user);
    Ok(request)
}

/// What the answer is as good without, with the reason that the documentation gives for taking it so.
fn is_hint(name: &str) -> bool {
    match name {
        // Labels and keeping for the account's own books: what its dashboard, evals and distillation show.
        "metadata" | "store" => true,
        // When and at which price it is worked on, not what comes of it.
        "service_tier" => true,
        // Where the provider looks in its own cache, and for how long it keeps it.
        "prompt_cache_key" | "prompt_cache_options" | "prompt_cache_retention" => true,
        // What the answer is likely to be, which makes it come sooner.
        "prediction" => true,
        // "Best effort … Determinism is not guaranteed."
        "seed" => true,
        _ => false,
    }
}

/// Whether a field's value asks for nothing but what is done without it: SDKs and programs on top of them write such out.
fn is_idle(name: &str, value: &str) -> bool {
    let short = value.len() <= 32;
    let compact = || value.split_ascii_whitespace().collect::<String>();
    short
        && match name {
            "n" => value == "1",
            "logprobs" | "store" => value == "false",
            "top_logprobs" | "frequency_penalty" | "presence_penalty" => value.parse() == Ok(0.0),
            "logit_bias" | "metadata" => compact() == "{}",
            "modalities" => compact() == "[\"text\"]",
            "functions" => compact() == "[]",
            // Without functions, and with some it is these that are refused.
            "function_call" => matches!(value, "\"none\"" | "\"auto\""),
            "service_tier" => value == "\"auto\"",
            "verbosity" => value == "\"medium\"",
            _ => false,
        }
}

fn keep_unless_idle<'a>(
    pull: &mut Pull<'a>,
    name: &str,
    at: &Place<'_>,
    rest: &mut Vec<Rest<'a>>,
) -> Result<(), Fault> {
    let value = pull.raw()?;
    if !is_idle(name, value) {
        keep(rest, at, value, is_hint(name));
    }
    Ok(())
}

/// Keeps what the neutral chat has no place for.
pub(super) fn keep<'a>(rest: &mut Vec<Rest<'a>>, at: &Place<'_>, value: &'a str, hint: bool) {
    Rest::keep(rest, at.to_string().into(), value, hint);
}

/// Keeps a hint by a name without numbers: what stands at many places is told once.
pub(super) fn keep_hint<'a>(rest: &mut Vec<Rest<'a>>, name: &'static str, value: &'a str) {
    Rest::keep(rest, name.into(), value, true);
}

fn stop<'a>(pull: &mut Pull<'a>, at: &Place<'_>) -> Result<Vec<Cow<'a, str>>, Fault> {
    if pull.peek() == Some(b'"') {
        return Ok(vec![pull.string(at)?]);
    }
    let mut texts = Vec::new();
    pull.array(at, |pull, at| {
        texts.push(pull.string(at)?);
        Ok(())
    })?;
    Ok(texts)
}

fn effort(pull: &mut Pull<'_>, at: &Place<'_>) -> Result<Effort, Fault> {
    let word = pull.string(at)?;
    Effort::of_word(&word).ok_or_else(|| at.fault("must be none, minimal, low, medium, high, xhigh or max"))
}

fn stream_options<'a>(pull: &mut Pull<'a>, at: &Place<'_>, request: &mut Request<'a>) -> Result<(), Fault> {
    pull.object(at, |pull, name, at| {
        match name {
            "include_usage" => request.stream_usage = pull.truth(at)?,
            // Random characters against readers of encrypted traffic: events that are made here have none.
            "include_obfuscation" => {
                let value = pull.raw()?;
                if value != "false" {
                    keep(&mut request.rest, at, value, true);
                }
            }
            _ => keep(&mut request.rest, at, pull.raw()?, false),
        }
        Ok(())
    })
}

fn tools<'a>(pull: &mut Pull<'a>, at: &Place<'_>, request: &mut Request<'a>) -> Result<(), Fault> {
    let Request { tools, rest, .. } = request;
    pull.array(at, |pull, at| {
        let (mut kind, mut tool) = (None, None);
        pull.object(at, |pull, name, at| {
            match name {
                "type" => kind = Some(pull.string(at)?),
                "function" => tool = Some(function(pull, at, rest)?),
                // A tool of another kind; or what the neutral chat knows nothing of.
                _ => keep(rest, at, pull.raw()?, false),
            }
            Ok(())
        })?;
        match (kind.as_deref(), tool) {
            (Some("function"), Some(tool)) => tools.push(tool),
            (None, _) => return Err(Place::Member(at, "type").fault("is missing")),
            (Some("function"), None) => return Err(Place::Member(at, "function").fault("is missing")),
            (Some(_), _) => keep(rest, &Place::Member(at, "type"), "null", false),
        }
        Ok(())
    })
}

fn function<'a>(pull: &mut Pull<'a>, at: &Place<'_>, rest: &mut Vec<Rest<'a>>) -> Result<Tool<'a>, Fault> {
    let (mut name, mut description, mut schema, mut strict) = (None, None, None, None);
    pull.object(at, |pull, member, at| {
        match member {
            "name" => name = Some(pull.string(at)?),
            "description" => description = Some(pull.string(at)?),
            "parameters" => schema = Some(Cow::Borrowed(pull.raw_object(at)?)),
            "strict" => strict = Some(pull.truth(at)?),
            _ => keep(rest, at, pull.raw()?, false),
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| Place::Member(at, "name").fault("is missing"))?;
    Ok(Tool { name, description, schema, strict, cache_mark: false })
}

fn tool_choice<'a>(pull: &mut Pull<'a>, at: &Place<'_>, request: &mut Request<'a>) -> Result<(), Fault> {
    if pull.peek() == Some(b'"') {
        request.tool_choice = Some(match &*pull.string(at)? {
            "auto" => Choice::Auto,
            "none" => Choice::None,
            "required" => Choice::Any,
            _ => return Err(at.fault("must be auto, none, required or an object that names a function")),
        });
        return Ok(());
    }
    let value = pull.raw_object(at)?;
    let (mut kind, mut name) = (None, None);
    Pull::new(value.as_bytes())?.object(at, |pull, member, at| {
        match member {
            "type" => kind = Some(pull.string(at)?),
            "function" => pull.object(at, |pull, member, at| match member {
                "name" => pull.string(at).map(|said| name = Some(said)),
                _ => pull.raw().map(drop),
            })?,
            _ => drop(pull.raw()?),
        }
        Ok(())
    })?;
    match (kind.as_deref(), name) {
        (Some("function"), Some(name)) => request.tool_choice = Some(Choice::Named(name)),
        (Some("function"), None) => return Err(Place::Member(at, "function.name").fault("is missing")),
        (Some(_), _) => keep(&mut request.rest, at, value, false),
        (None, _) => return Err(Place::Member(at, "type").fault("is missing")),
    }
    Ok(())
}

fn response_format<'a>(pull: &mut Pull<'a>, at: &Place<'_>, request: &mut Request<'a>) -> Result<(), Fault> {
    let Request { format, rest, .. } = request;
    let (mut kind, mut schema) = (None, None);
    pull.object(at, |pull, name, at| {
        match name {
            "type" => kind = Some(pull.string(at)?),
            "json_schema" => schema = Some(json_schema(pull, at, rest)?),
            _ => keep(rest, at, pull.raw()?, false),
        }
        Ok(())
    })?;
    *format = match (kind.as_deref(), schema) {
        (Some("text"), _) => None,
        (Some("json_object"), _) => Some(Format::Json),
        (Some("json_schema"), Some(schema)) => Some(schema),
        (Some("json_schema"), None) => return Err(Place::Member(at, "json_schema").fault("is missing")),
        (Some(_), _) => return Err(Place::Member(at, "type").fault("must be text, json_object or json_schema")),
        (None, _) => return Err(Place::Member(at, "type").fault("is missing")),
    };
    Ok(())
}

fn json_schema<'a>(pull: &mut Pull<'a>, at: &Place<'_>, rest: &mut Vec<Rest<'a>>) -> Result<Format<'a>, Fault> {
    let (mut name, mut schema, mut strict) = (None, None, None);
    pull.object(at, |pull, member, at| {
        match member {
            "name" => name = Some(pull.string(at)?),
            "schema" => schema = Some(pull.raw_object(at)?),
            "strict" => strict = Some(pull.truth(at)?),
            // Words for the model about a form that the schema tells exactly.
            "description" => keep(rest, at, pull.raw()?, true),
            _ => keep(rest, at, pull.raw()?, false),
        }
        Ok(())
    })?;
    // It may be left out, and then says nothing.
    Ok(Format::Schema { name, schema: schema.unwrap_or("{}").into(), strict })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::model::chat::{Block, Role, Source};

    fn with(fields: &str) -> String {
        format!(r#"{{"model":"m","fallbacks":["x"],"messages":[{{"role":"user","content":"hi"}}]{fields}}}"#)
    }

    fn rest_of(body: &str) -> Vec<(String, bool)> {
        let request = read_request(body.as_bytes()).expect("a good body");
        request.rest.iter().map(|field| (field.name.to_string(), field.hint)).collect()
    }

    fn message(text: &str) -> String {
        format!(r#"{{"messages":[{text}]}}"#)
    }

    #[test]
    fn what_asks_for_nothing_is_as_if_it_were_not_there() {
        let idle = r#","n":1,"logprobs":false,"top_logprobs":0,"frequency_penalty":0,"presence_penalty":0.0,"logit_bias":{ },
            "modalities":[ "text" ],"functions":[],"function_call":"auto","service_tier":"auto","store":false,"metadata":{},
            "verbosity":"medium","audio":null,"seed":null,"unknown":null,"tools":null,"stop":null,"temperature":null,
            "response_format":{"type":"text"},"stream":null,"stream_options":null"#;
        let body = with(idle);
        let request = read_request(body.as_bytes()).expect("good");
        assert_eq!(request, read_request(with("").as_bytes()).expect("good"));
    }

    #[test]
    fn hints_are_told_from_what_changes_the_answer() {
        for hint in
            ["metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_options", "prediction", "seed"]
        {
            assert_eq!(rest_of(&with(&format!(",\"{hint}\":5"))), [(hint.to_owned(), true)]);
        }
        for other in ["n", "logprobs", "logit_bias", "presence_penalty", "audio", "web_search_options", "top_k", "new"]
        {
            assert_eq!(rest_of(&with(&format!(",\"{other}\":5"))), [(other.to_owned(), false)]);
        }
        let options = with(r#","stream_options":{"include_usage":true,"include_obfuscation":true,"other":1}"#);
        let wanted =
            [("stream_options.include_obfuscation".to_owned(), true), ("stream_options.other".to_owned(), false)];
        assert_eq!(rest_of(&options), wanted);
    }

    #[test]
    fn messages_that_stand_in_the_system_are_counted() {
        let (system, user) = (r#"{"role":"system","content":"a"}"#, r#"{"role":"user","content":"b"}"#);
        for (text, before) in [(user.to_owned(), 0), (format!("{system},{system},{user},{system}"), 2)] {
            assert_eq!(read_request(message(&text).as_bytes()).expect("good").before, before);
        }
    }

    #[test]
    fn what_only_openai_has_stands_in_the_rest_by_its_place() {
        for (text, name, hint) in [
            (r#"{"role":"function","name":"f","content":"x"}"#, "messages.0.role", false),
            (r#"{"role":"assistant","audio":{"id":"a"}}"#, "messages.0.audio", false),
            (r#"{"role":"assistant","function_call":{"name":"f","arguments":""}}"#, "messages.0.function_call", false),
            (r#"{"role":"user","name":"n","content":"x"}"#, "messages.name", true),
            (
                r#"{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}"#,
                "messages.0.content.0.input_audio",
                false,
            ),
            (r#"{"role":"user","content":[{"type":"video"}]}"#, "messages.0.content.0.type", false),
            (
                r#"{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}"#,
                "messages.0.content.0.file.file_id",
                false,
            ),
            (
                r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x","detail":"low"}}]}"#,
                "messages.content.image_url.detail",
                true,
            ),
            (
                r#"{"role":"assistant","tool_calls":[{"id":"c","type":"custom","custom":{}}]}"#,
                "messages.0.tool_calls.0.custom",
                false,
            ),
        ] {
            assert!(
                rest_of(&message(text)).contains(&(name.to_owned(), hint)),
                "{text}: {:?}",
                rest_of(&message(text))
            );
        }
        let custom = with(r#","tools":[{"type":"custom","custom":{"name":"c"}}]"#);
        assert_eq!(rest_of(&custom)[0], ("tools.0.custom".to_owned(), false));
        let allowed = with(r#","tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}}"#);
        assert_eq!(rest_of(&allowed), [("tool_choice".to_owned(), false)]);
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (body, field) in [
            (with(r#","temperature":"hot""#), "temperature"),
            (with(r#","temperature":1e999"#), "temperature"),
            (with(r#","max_tokens":1.5"#), "max_tokens"),
            (with(r#","max_completion_tokens":-1"#), "max_completion_tokens"),
            (with(r#","stop":[1]"#), "stop.0"),
            (with(r#","tools":{}"#), "tools"),
            (with(r#","tools":[{"type":"function"}]"#), "tools.0.function"),
            (
                with(r#","tools":[{"type":"function","function":{"name":"f","parameters":[]}}]"#),
                "tools.0.function.parameters",
            ),
            (with(r#","tool_choice":"any""#), "tool_choice"),
            (with(r#","tool_choice":{"type":"function"}"#), "tool_choice.function.name"),
            (with(r#","response_format":{"type":"json_schema"}"#), "response_format.json_schema"),
            (with(r#","reasoning_effort":"huge""#), "reasoning_effort"),
            (with(r#","user":"\ud800""#), "user"),
            ("{}".to_owned(), "messages"),
            (message("5"), "messages.0"),
            (message(r#"{"content":"x"}"#), "messages.0.role"),
            (message(r#"{"role":"wizard"}"#), "messages.0.role"),
            (message(r#"{"role":"user","content":5}"#), "messages.0.content"),
            (message(r#"{"role":"user","content":[{"text":"x"}]}"#), "messages.0.content.0.type"),
            (message(r#"{"role":"user","content":[{"type":"text"}]}"#), "messages.0.content.0.text"),
            (
                message(r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png,x"}}]}"#),
                "messages.0.content.0.image_url.url",
            ),
            (
                message(r#"{"role":"system","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}"#),
                "messages.0.content",
            ),
            (message(r#"{"role":"tool","content":"x"}"#), "messages.0.tool_call_id"),
            (
                message(
                    r#"{"role":"user","content":"x","tool_calls":[{"id":"a","function":{"name":"f","arguments":""}}]}"#,
                ),
                "messages.0.tool_calls",
            ),
            (
                message(r#"{"role":"assistant","tool_calls":[{"id":"a","type":"function"}]}"#),
                "messages.0.tool_calls.0.function",
            ),
        ] {
            let error = read_request(body.as_bytes()).expect_err(&body);
            assert_eq!((error.code(), error.param()), (Code::InvalidRequest, Some(field)), "{body}");
        }
        for body in ["", "[]", "{\"messages\":[]", "{\"messages\":[]}x"] {
            assert_eq!(read_request(body.as_bytes()).expect_err(body).code(), Code::InvalidRequest);
        }
    }

    #[test]
    fn what_is_said_before_the_conversation_is_the_system() {
        let body = r#"{"messages":[{"content":"a","role":"developer"},{"role":"system","content":[{"type":"text","text":"b"}]},
            {"role":"user","content":"c"},{"role":"system","content":"d"}]}"#;
        let request = read_request(body.as_bytes()).expect("good");
        assert_eq!(request.system, [Block::Text("a".into()), Block::Text("b".into())]);
        let roles: Vec<_> = request.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::System]);
    }

    #[test]
    fn bytes_in_a_request_are_borrowed_and_their_type_is_told() {
        let body = message(
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"DATA:image/png;charset=x;base64,QUJD"}},
            {"type":"image_url","image_url":{"url":"data:image\/png;base64,QUJD"},"prompt_cache_breakpoint":{"mode":"explicit"}},
            {"type":"file","file":{"file_data":"QUJD","filename":"a.pdf"}}]}"#,
        );
        let request = read_request(body.as_bytes()).expect("good");
        let content = &request.messages[0].content;
        let png = |data| Block::Image(Source::Data { media_type: "image/png".into(), data });
        assert_eq!(content[..3], [png("QUJD".into()), png("QUJD".into()), Block::CacheMark]);
        assert!(matches!(&content[0], Block::Image(Source::Data { data: Cow::Borrowed(_), .. })));
        let source = Source::Data { media_type: "application/pdf".into(), data: "QUJD".into() };
        assert_eq!(content[3], Block::Document { source, name: Some("a.pdf".into()) });
    }

    #[test]
    fn the_newer_of_two_names_counts_wherever_it_stands() {
        let body = with(r#","max_completion_tokens":5,"max_tokens":9,"safety_identifier":"new","user":"old""#);
        let request = read_request(body.as_bytes()).expect("good");
        assert_eq!((request.max_tokens, request.user.as_deref()), (Some(5), Some("new")));
    }
}
