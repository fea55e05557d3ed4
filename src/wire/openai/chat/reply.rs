//! A whole answer: read from a provider, and written for a client.

use std::borrow::Cow;

use super::answer::{self, Said};
use super::pull::{Fault, Place, Pull};
use super::write_request::push_call;
use crate::error::Error;
use crate::model::chat::{Block, Reply};
use crate::wire::chat::{Meta, push, push_number, push_string};
use crate::wire::openai::decode::{INSIDE_OK, upstream_error};

/// What stands in the first of the choices; only one is ever asked for.
#[derive(Default)]
struct First<'a> {
    said: Option<Said<'a>>,
    reason: Cow<'a, str>,
}

/// Reads an answer of success; `model` is what was asked for, where the provider does not say who answers.
///
/// # Errors
/// [`Code::UpstreamError`](crate::error::Code::UpstreamError) for an error inside it, and
/// [`Code::UpstreamBadResponse`](crate::error::Code::UpstreamBadResponse) for what is no chat completion.
pub(crate) fn read_reply<'a>(body: &'a [u8], model: &'a str) -> Result<Reply<'a>, Error> {
    let (mut reply, failed) = read(body, model).map_err(Fault::in_answer)?;
    if failed {
        return Err(upstream_error(INSIDE_OK, body));
    }
    let first = reply.choice.take().and_then(|first| Some((first.said?, first.reason)));
    let Some((said, reason)) = first else {
        return Err(Place::Member(&Place::Top, "choices").fault("has no message").in_answer());
    };
    let refusal = said.refusal.filter(|text| !text.is_empty());
    let stop = answer::stop(&reason, !said.calls.is_empty(), refusal.is_some());
    let mut content = Vec::with_capacity(2 + said.calls.len());
    let thoughts = said.thoughts.filter(|text| !text.is_empty());
    content.extend(thoughts.map(|text| Block::Thinking { text, signature: None }));
    content.extend(said.text.filter(|text| !text.is_empty()).map(Block::Text));
    content.extend(refusal.map(Block::Text));
    let id = reply.id.as_deref().unwrap_or_default();
    content.extend(said.calls.into_iter().enumerate().map(|(index, call)| Block::ToolCall {
        id: if call.id.is_empty() { answer::unnamed(id, index).into() } else { call.id },
        name: call.name,
        arguments: call.arguments,
    }));
    Ok(Reply { id: reply.id, model: reply.model, content, stop, stop_text: None, tokens: reply.tokens })
}

struct Parts<'a> {
    id: Option<Cow<'a, str>>,
    model: Cow<'a, str>,
    choice: Option<First<'a>>,
    tokens: Option<crate::model::chat::Tokens>,
}

fn read<'a>(body: &'a [u8], model: &'a str) -> Result<(Parts<'a>, bool), Fault> {
    let mut pull = Pull::new(body)?;
    let mut parts = Parts { id: None, model: model.into(), choice: None, tokens: None };
    let mut failed = false;
    pull.object(&Place::Top, |pull, name, at| {
        match name {
            "id" => parts.id = Some(pull.string(at)?).filter(|id| !id.is_empty()),
            "model" => parts.model = Some(pull.string(at)?).filter(|name| !name.is_empty()).unwrap_or(model.into()),
            "choices" => pull.array(at, |pull, at| {
                if parts.choice.is_some() {
                    return pull.raw().map(drop);
                }
                parts.choice = Some(choice(pull, at)?);
                Ok(())
            })?,
            "usage" => parts.tokens = answer::usage(pull, at)?,
            "error" => {
                failed = true;
                pull.raw()?;
            }
            _ => drop(pull.raw()?),
        }
        Ok(())
    })?;
    pull.end()?;
    Ok((parts, failed))
}

fn choice<'a>(pull: &mut Pull<'a>, at: &Place<'_>) -> Result<First<'a>, Fault> {
    let mut first = First::default();
    pull.object(at, |pull, name, at| {
        match name {
            "message" => first.said = Some(answer::said(pull, at)?),
            "finish_reason" => first.reason = pull.string(at)?,
            _ => drop(pull.raw()?),
        }
        Ok(())
    })?;
    Ok(first)
}

/// Appends an answer to `out`. Thoughts stand in `reasoning_content`; their signatures have no place, and neither have those
/// that only the provider reads.
pub(crate) fn write_reply(reply: &Reply<'_>, meta: &Meta<'_>, out: &mut Vec<u8>) {
    push(out, "{\"id\":");
    push_string(out, reply.id.as_deref().unwrap_or(meta.id));
    push(out, ",\"object\":\"chat.completion\",\"created\":");
    push_number(out, meta.created);
    push(out, ",\"model\":");
    push_string(out, &reply.model);
    push(out, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
    let text = joined(&reply.content, |block| match block {
        Block::Text(text) => Some(text),
        _ => None,
    });
    match text {
        Some(text) => push_string(out, &text),
        None => push(out, "null"),
    }
    push(out, ",\"refusal\":null");
    let thoughts = joined(&reply.content, |block| match block {
        Block::Thinking { text, .. } => Some(text),
        _ => None,
    });
    if let Some(thoughts) = thoughts {
        push(out, ",\"reasoning_content\":");
        push_string(out, &thoughts);
    }
    if reply.content.iter().any(|block| matches!(block, Block::ToolCall { .. })) {
        push(out, ",\"tool_calls\":[");
        reply.content.iter().for_each(|block| push_call(out, block));
        push(out, "]");
    }
    push(out, "},\"logprobs\":null,\"finish_reason\":\"");
    push(out, answer::finish_reason(reply.stop));
    push(out, "\"}]");
    if let Some(tokens) = &reply.tokens {
        push(out, ",\"usage\":");
        answer::push_usage(out, tokens);
    }
    push(out, "}");
}

/// The texts that `pick` finds, one behind the other; `None` if there is none.
fn joined<'b>(
    blocks: &'b [Block<'_>],
    pick: impl Fn(&'b Block<'_>) -> Option<&'b Cow<'b, str>>,
) -> Option<Cow<'b, str>> {
    let mut texts = blocks.iter().filter_map(pick);
    let first = Cow::Borrowed(&**texts.next()?);
    Some(texts.fold(first, |whole, text| whole + &**text))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::error::Code;
    use crate::model::chat::{Stop, Tokens};

    fn with(message: &Value, reason: &str) -> String {
        json!({"id":"","choices":[{"message":message,"finish_reason":reason},{"message":5}]}).to_string()
    }

    fn text(text: &'static str) -> Block<'static> {
        Block::Text(text.into())
    }

    #[test]
    fn the_documented_answer_is_read() {
        let body = include_bytes!("../../../../tests/golden/openai/reply.json");
        let reply = read_reply(body, "asked").expect("an answer");
        let arguments = "{\n\"location\": \"Boston, MA\"\n}".into();
        let call = Block::ToolCall { id: "call_abc123".into(), name: "get_current_weather".into(), arguments };
        let tokens = Tokens { input: 82, output: 17, cache_read: Some(64), cache_written: None, thought: Some(5) };
        assert_eq!((reply.id.as_deref(), &*reply.model), (Some("chatcmpl-abc123"), "gpt-4o-mini"));
        assert_eq!((reply.content, reply.stop, reply.tokens), (vec![call], Stop::Tools, Some(tokens)));
    }

    #[test]
    fn what_servers_tell_in_their_own_ways_is_understood() {
        let call = |id: &str, arguments: Value| json!({"id":id,"function":{"name":"f","arguments":arguments}});
        let called = |id: &'static str, arguments: &'static str| Block::ToolCall {
            id: id.into(),
            name: "f".into(),
            arguments: arguments.into(),
        };
        let thought = |text: &'static str| Block::Thinking { text: text.into(), signature: None };
        for (message, reason, content, stop) in [
            (json!({"content":"x"}), "stop", vec![text("x")], Stop::End),
            (
                json!({"content":[{"type":"text","text":"x"},{"type":"text","text":"y"}]}),
                "stop",
                vec![text("xy")],
                Stop::End,
            ),
            (json!({"content":null,"refusal":"no"}), "stop", vec![text("no")], Stop::Refused),
            (json!({"content":"x","reasoning":"r"}), "length", vec![thought("r"), text("x")], Stop::Length),
            (json!({"reasoning_content":"c","reasoning":"r"}), "stop", vec![thought("c")], Stop::End),
            (json!({"content":"","reasoning":{"effort":1}}), "content_filter", vec![], Stop::Refused),
            (json!({"tool_calls":[call("a", json!("{}"))]}), "stop", vec![called("a", "{}")], Stop::Tools),
            (json!({"tool_calls":[call("", json!({"x":1}))]}), "", vec![called("call_0", "{\"x\":1}")], Stop::Tools),
        ] {
            let body = with(&message, reason);
            let reply = read_reply(body.as_bytes(), "asked").expect("an answer");
            assert_eq!((reply.content, reply.stop), (content, stop), "{body}");
            assert_eq!((reply.id, &*reply.model, reply.tokens), (None, "asked", None));
        }
    }

    #[test]
    fn tokens_that_are_no_numbers_are_as_if_they_were_not_counted() {
        for (usage, tokens) in [
            (
                r#"{"prompt_tokens":4,"completion_tokens":-1,"prompt_tokens_details":{"cached_tokens":"x"}}"#,
                Some((4, 0)),
            ),
            (r#"{"completion_tokens":2,"total_tokens":2,"prompt_tokens_details":null}"#, Some((0, 2))),
            (r#"{"total_tokens":2}"#, None),
        ] {
            let body = format!(r#"{{"choices":[{{"message":{{"content":"x"}}}}],"usage":{usage}}}"#);
            let reply = read_reply(body.as_bytes(), "m").expect("an answer");
            let plain = |(input, output)| Tokens { input, output, ..Tokens::default() };
            assert_eq!(reply.tokens, tokens.map(plain), "{usage}");
        }
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for body in
            ["", "[]", "{}", r#"{"choices":[]}"#, r#"{"choices":[{"text":"x"}]}"#, r#"{"choices":[{"message":5}]}"#]
        {
            let error = read_reply(body.as_bytes(), "m").expect_err(body);
            assert_eq!(error.code(), Code::UpstreamBadResponse, "{body}");
        }
        let inside = read_reply(br#"{"error":{"message":"sorry"},"choices":[]}"#, "m").expect_err("an error");
        assert_eq!((inside.code(), inside.status(), inside.message()), (Code::UpstreamError, 502, "sorry"));
    }

    #[test]
    fn what_is_written_has_the_documented_form() {
        let thought = |text: &'static str| Block::Thinking { text: text.into(), signature: Some("s".into()) };
        let call = Block::ToolCall { id: "c".into(), name: "f".into(), arguments: "".into() };
        let content = vec![thought("a"), Block::HiddenThinking("h".into()), thought("b"), text("x"), call, text("y")];
        let reply = Reply { id: None, model: "m".into(), content, stop: Stop::Paused, stop_text: None, tokens: None };
        let (meta, mut out) = (Meta { id: "made", created: 7, model: "asked", stream_usage: false }, Vec::new());
        write_reply(&reply, &meta, &mut out);
        let call = json!({"id":"c","type":"function","function":{"name":"f","arguments":"{}"}});
        let message =
            json!({"role":"assistant","content":"xy","refusal":null,"reasoning_content":"ab","tool_calls":[call]});
        let choice = json!({"index":0,"message":message,"logprobs":null,"finish_reason":"length"});
        let wanted = json!({"id":"made","object":"chat.completion","created":7,"model":"m","choices":[choice]});
        assert_eq!(serde_json::from_slice::<Value>(&out).expect("JSON"), wanted);
    }
}
