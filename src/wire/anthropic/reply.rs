//! Whole answers: one of Anthropic's read into the neutral chat, and one written from it.

use std::borrow::Cow;

use super::stream_write::push_option;
use super::words::{Counts, call_id, push_usage, reason_of, stop_of};
use crate::error::Error;
use crate::model::chat::{Block, Reply, Stop};
use crate::wire::chat::{Meta, push_string};
use crate::wire::openai::{INSIDE_OK, upstream_error};
use crate::wire::pull::{Path, Pull, Wrong, answer_text};

/// Reads a good answer; `model` is what was asked for.
///
/// Blocks that are new, or of tools that Anthropic runs itself, are left out: nobody who asks in another shape can have
/// offered one.
///
/// # Errors
/// [`Code::UpstreamBadResponse`](crate::error::Code::UpstreamBadResponse) for what is no message; the upstream's own error
/// if the answer holds one.
pub(crate) fn read_reply<'a>(body: &'a [u8], model: &'a str) -> Result<Reply<'a>, Error> {
    let mut pull = Pull::new(answer_text(body)?);
    let mut found = Found::default();
    found.read(&mut pull).and_then(|()| pull.end()).map_err(Wrong::unreadable)?;
    if found.failed {
        return Err(upstream_error(INSIDE_OK, body));
    }
    let content = found.content.ok_or_else(|| Path::top("content").wrong("is missing").unreadable())?;
    Ok(Reply {
        id: found.id,
        model: found.model.unwrap_or(Cow::Borrowed(model)),
        content,
        stop: found.stop.unwrap_or(Stop::End),
        stop_text: found.stop_text,
        tokens: found.counts.tokens(),
    })
}

#[derive(Default)]
struct Found<'a> {
    id: Option<Cow<'a, str>>,
    model: Option<Cow<'a, str>>,
    content: Option<Vec<Block<'a>>>,
    stop: Option<Stop>,
    stop_text: Option<Cow<'a, str>>,
    counts: Counts,
    failed: bool,
}

impl<'a> Found<'a> {
    fn read(&mut self, pull: &mut Pull<'a>) -> Result<(), Wrong> {
        pull.object(|pull, key| {
            match &*key {
                b"content" if pull.peek() == Some(b'[') => {
                    let mut content = Vec::new();
                    pull.elements(&Path::top("content"), |pull, path| {
                        content.extend(block(pull, path)?);
                        Ok::<_, Wrong>(())
                    })?;
                    self.content = Some(content);
                }
                b"usage" => self.counts.take(pull)?,
                b"id" => self.id = word(pull, "id")?,
                b"model" => self.model = word(pull, "model")?,
                b"stop_reason" => self.stop = word(pull, "stop_reason")?.map(|reason| stop_of(&reason)),
                b"stop_sequence" => self.stop_text = word(pull, "stop_sequence")?,
                b"error" => self.failed |= !pull.value()?.is_null(),
                _ => drop(pull.value()?),
            }
            Ok(())
        })
    }
}

/// A string, or nothing where null stands.
fn word<'a>(pull: &mut Pull<'a>, name: &str) -> Result<Option<Cow<'a, str>>, Wrong> {
    let value = pull.value()?;
    if value.is_null() { Ok(None) } else { value.string(&Path::top(name)).map(Some) }
}

fn block<'a>(pull: &mut Pull<'a>, path: &Path<'_>) -> Result<Option<Block<'a>>, Wrong> {
    let mut members = pull.members(path)?;
    Ok(match &*members.string("type", path)? {
        "text" => Some(Block::Text(members.string("text", path)?)),
        "thinking" => {
            let signature = members.take("signature").map(|value| value.string(&path.key("signature"))).transpose()?;
            Some(Block::Thinking { text: members.string("thinking", path)?, signature })
        }
        "redacted_thinking" => Some(Block::HiddenThinking(members.string("data", path)?)),
        "tool_use" => Some(Block::ToolCall {
            id: members.string("id", path)?,
            name: members.string("name", path)?,
            // No object always: what a model wrote ill is passed on as the text that it is, by this gateway for one.
            arguments: members.need("input", path)?.object_or_text(&path.key("input"))?,
        }),
        _ => None,
    })
}

/// Writes an answer.
pub(crate) fn write_reply(reply: &Reply<'_>, meta: &Meta<'_>, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(b"{\"id\":");
    push_string(out, reply.id.as_deref().unwrap_or(meta.id));
    out.extend_from_slice(b",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    push_string(out, &reply.model);
    out.extend_from_slice(b",\"content\":[");
    let mut before = false;
    for block in &reply.content {
        let start = out.len();
        if before {
            out.push(b',');
        }
        let length = out.len();
        push_block(block, out);
        // What has no place in an answer writes nothing.
        match out.len() > length {
            true => before = true,
            false => out.truncate(start),
        }
    }
    out.extend_from_slice(b"],\"stop_reason\":\"");
    out.extend_from_slice(reason_of(reply.stop).as_bytes());
    out.extend_from_slice(b"\",\"stop_sequence\":");
    push_option(reply.stop_text.as_deref(), out);
    out.extend_from_slice(b",\"usage\":");
    push_usage(reply.tokens.unwrap_or_default(), out);
    out.push(b'}');
}

fn push_block(block: &Block<'_>, out: &mut Vec<u8>) {
    let mut member = |key: &[u8], text: &str| {
        out.extend_from_slice(key);
        push_string(out, text);
    };
    match block {
        Block::Text(text) => member(b"{\"type\":\"text\",\"text\":", text),
        Block::Thinking { text, signature } => {
            member(b"{\"type\":\"thinking\",\"thinking\":", text);
            member(b",\"signature\":", signature.as_deref().unwrap_or_default());
        }
        Block::HiddenThinking(data) => member(b"{\"type\":\"redacted_thinking\",\"data\":", data),
        Block::ToolCall { id, name, arguments } => {
            member(b"{\"type\":\"tool_use\",\"id\":", &call_id(id));
            member(b",\"name\":", name);
            let key = b",\"input\":";
            match input_of(arguments) {
                Some(input) => {
                    out.extend_from_slice(key);
                    out.extend_from_slice(input.as_bytes());
                }
                // A model wrote what is no object, and it cannot be refused here. As a string it keeps its words, and no
                // client takes it for a call without arguments.
                None => member(key, arguments),
            }
        }
        Block::Image(_) | Block::Document { .. } | Block::ToolResult { .. } | Block::CacheMark => return,
    }
    out.push(b'}');
}

/// Arguments as an object: `{}` for none, nothing for what is no object.
pub(super) fn input_of(arguments: &str) -> Option<&str> {
    let arguments = arguments.trim_ascii();
    if arguments.is_empty() {
        return Some("{}");
    }
    let mut pull = Pull::new(arguments);
    let object = pull.value().and_then(|value| value.object(&Path::top("input")));
    object.ok().filter(|_| pull.end().is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::error::Code;
    use crate::model::chat::Tokens;
    use crate::wire::anthropic::golden;

    const META: Meta<'_> = Meta { id: "msg_made", created: 7, model: "asked", stream_usage: false };

    fn read(text: &str) -> Reply<'_> {
        read_reply(text.as_bytes(), "asked").expect("it is good")
    }

    #[test]
    fn an_answer_is_read_whole() {
        let reply = read(golden::REPLY_TOOLS);
        assert_eq!(reply.id.as_deref(), Some("msg_01Aq9w938a90dw8q"));
        assert_eq!((&*reply.model, reply.stop), ("claude-sonnet-4-5-20250929", Stop::Tools));
        let wanted = [
            Block::Thinking {
                text: "The weather is asked for.".into(),
                signature: Some("EqQBCgIYAhIM1gbcDa9GJwZA2b3h".into()),
            },
            Block::HiddenThinking("EmwKAhgBEgy3va3pzix".into()),
            Block::Text("I look it up.".into()),
            Block::ToolCall {
                id: "toolu_01A09q90qw90lq917835lq9".into(),
                name: "get_weather".into(),
                arguments: r#"{"city":"Oslo","unit":"celsius"}"#.into(),
            },
        ];
        assert_eq!(reply.content, wanted);
        assert_eq!(reply.tokens, Some(Tokens { input: 395, output: 80, thought: Some(11), ..Tokens::default() }));
        let cached = read(golden::REPLY_CACHED);
        assert_eq!((cached.stop, cached.stop_text.as_deref()), (Stop::Text, Some(", three")));
        let tokens = cached.tokens.expect("counted");
        assert_eq!((tokens.input, tokens.cache_read, tokens.cache_written), (2051, Some(1800), Some(248)));
    }

    #[test]
    fn what_is_read_is_written_as_it_was() {
        for text in [golden::REPLY_TEXT, golden::REPLY_TOOLS] {
            let mut out = b"left over".to_vec();
            write_reply(&read(text), &META, &mut out);
            let (written, wanted): (Value, Value) =
                (serde_json::from_slice(&out).expect("JSON"), serde_json::from_str(text).expect("JSON"));
            assert_eq!(written, wanted);
        }
    }

    #[test]
    fn what_a_provider_does_not_say_is_made_up_and_blocks_that_are_new_are_left_out() {
        let reply = read(r#"{"content":[{"type":"new","x":[1]},{"type":"text","text":"a"}]}"#);
        assert_eq!((&*reply.model, reply.stop, reply.tokens), ("asked", Stop::End, None));
        let mut out = Vec::new();
        let content = vec![
            Block::CacheMark,
            Block::ToolCall { id: "call.1".into(), name: "f".into(), arguments: " ".into() },
            Block::ToolCall { id: "b".into(), name: "f".into(), arguments: "{\"a\":".into() },
            Block::Thinking { text: "hm".into(), signature: None },
        ];
        write_reply(&Reply { content, ..reply }, &META, &mut out);
        let written: Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(written["id"], "msg_made");
        assert_eq!(written["content"].as_array().map(Vec::len), Some(3));
        assert_eq!(
            (&written["content"][0]["input"], &written["content"][1]["input"]),
            (&serde_json::json!({}), &"{\"a\":".into())
        );
        assert_eq!(written["content"][0]["id"], *call_id("call.1"));
        assert_eq!(written["content"][2]["signature"], "");
        assert_eq!(written["usage"], serde_json::json!({"input_tokens": 0, "output_tokens": 0}));
    }

    #[test]
    fn what_is_no_message_is_a_bad_response_and_an_error_stays_one() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"content":"a"}"#,
            r#"{"content":[{"text":"a"}]}"#,
            r#"{"content":[{"type":"text","text":5}]}"#,
            r#"{"content":[{"type":"tool_use","id":"a","name":"f","input":5}]}"#,
            r#"{"content":[],"stop_reason":5}"#,
            r#"{"content":[]}x"#,
        ] {
            let error = read_reply(text.as_bytes(), "m").expect_err("bad");
            assert_eq!(error.code(), Code::UpstreamBadResponse, "{text}");
        }
        let error = read_reply(golden::ERROR_OVERLOADED.as_bytes(), "m").expect_err("an error");
        assert_eq!((error.status(), error.message()), (502, "Overloaded"));
    }
}
