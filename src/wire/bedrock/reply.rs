//! What Converse answers, read and written, with what its streams have in common with it: why it ended, and its tokens.
//!
//! Source: "Converse" and "TokenUsage" in the Amazon Bedrock API reference, "Prompt caching" in the user guide.

use super::content::blocks;
use super::input::{Input, Wrong};
use super::output::{List, number, said};
use crate::error::Error;
use crate::model::chat::{Block, Reply, Stop, Tokens};
use crate::wire::chat::{Meta, push, push_string};

/// Reads a good answer of a model that was asked for by the name of `model`, which the answer does not say.
///
/// # Errors
/// [`Code::UpstreamBadResponse`](crate::error::Code::UpstreamBadResponse) if it is none.
pub(crate) fn read_reply<'a>(body: &'a [u8], model: &'a str) -> Result<Reply<'a>, Error> {
    read(body, model).map_err(Wrong::of_reply)
}

fn read<'a>(body: &'a [u8], model: &'a str) -> Result<Reply<'a>, Wrong> {
    let mut input = Input::lenient(body)?;
    let (mut content, mut stop, mut stop_text, mut tokens) = (None, None, None, None);
    input.object(|input, key| {
        match key {
            "output" => input.object(|input, key| {
                if key != "message" {
                    return Ok(false);
                }
                input.object(|input, key| {
                    match key {
                        "content" => content = Some(blocks(input)?),
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                Ok(true)
            })?,
            "stopReason" => stop = Some(stop_of(&input.string()?)),
            "additionalModelResponseFields" => stop_text = stop_sequence(input)?,
            "usage" => tokens = Some(usage(input)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some(content) = content else { return input.missing("output.message.content") };
    let Some(stop) = stop else { return input.missing("stopReason") };
    input.end()?;
    Ok(Reply { id: None, model: model.into(), content, stop, stop_text, tokens })
}

/// The text at which the answer ended, which comes only to who asked for it, in the model's own words.
pub(super) fn stop_sequence<'a>(input: &mut Input<'a>) -> Result<Option<std::borrow::Cow<'a, str>>, Wrong> {
    let mut found = None;
    input.object_or_other(|input, key| {
        match key {
            "stop_sequence" => found = Some(input.string()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(found)
}

/// Why an answer ended. What the model has written ill (`malformed_…`), and what is not known, is an end like another: the
/// words stand as they are.
pub(super) fn stop_of(reason: &str) -> Stop {
    match reason {
        "stop_sequence" => Stop::Text,
        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
        "tool_use" => Stop::Tools,
        "guardrail_intervened" | "content_filtered" => Stop::Refused,
        _ => Stop::End,
    }
}

/// The same in Bedrock's words. It knows no pause: who is told of an end may ask to go on as well.
pub(super) fn reason_of(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Paused => "end_turn",
        Stop::Text => "stop_sequence",
        Stop::Length => "max_tokens",
        Stop::Tools => "tool_use",
        Stop::Refused => "content_filtered",
    }
}

/// Reads the tokens. Bedrock counts beside each other what was read from the cache, what was written to it, and the rest of
/// the request.
pub(super) fn usage(input: &mut Input<'_>) -> Result<Tokens, Wrong> {
    let mut tokens = Tokens::default();
    input.object(|input, key| {
        const WHAT: &str = "a whole number";
        match key {
            "inputTokens" => tokens.input = input.value(WHAT)?,
            "outputTokens" => tokens.output = input.value(WHAT)?,
            "cacheReadInputTokens" => tokens.cache_read = Some(input.value(WHAT)?),
            "cacheWriteInputTokens" => tokens.cache_written = Some(input.value(WHAT)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    tokens.input =
        [tokens.cache_read, tokens.cache_written].into_iter().flatten().fold(tokens.input, u64::saturating_add);
    Ok(tokens)
}

/// Appends tokens, and how long it took: nobody knows that here, and a client's SDK wants a number.
pub(super) fn usage_and_metrics(tokens: Tokens, out: &mut Vec<u8>) {
    let cached = tokens.cache_read.unwrap_or(0).saturating_add(tokens.cache_written.unwrap_or(0));
    push(out, "\"usage\":{");
    let mut list = List::new();
    for (name, count) in [
        ("inputTokens", Some(tokens.input.saturating_sub(cached))),
        ("outputTokens", Some(tokens.output)),
        ("totalTokens", Some(tokens.input.saturating_add(tokens.output))),
        ("cacheReadInputTokens", tokens.cache_read),
        ("cacheWriteInputTokens", tokens.cache_written),
    ] {
        if let Some(count) = count {
            list.key(out, name);
            number(out, &count);
        }
    }
    push(out, "},\"metrics\":{\"latencyMs\":0}");
}

/// Writes an answer. It has a place for neither its name nor the model's.
pub(crate) fn write_reply(reply: &Reply<'_>, _meta: &Meta<'_>, out: &mut Vec<u8>) {
    out.clear();
    push(out, "{\"output\":{\"message\":{\"role\":\"assistant\",\"content\":[");
    let mut list = List::new();
    // A model gives no marks, documents or results; an empty text says nothing.
    let told = |block: &&Block<'_>| match block {
        Block::Text(text) => !text.is_empty(),
        Block::Thinking { .. } | Block::HiddenThinking(_) | Block::ToolCall { .. } => true,
        Block::Image(_) | Block::Document { .. } | Block::ToolResult { .. } | Block::CacheMark => false,
    };
    for block in reply.content.iter().filter(told) {
        list.next(out);
        said(block, out);
    }
    push(out, "]}},\"stopReason\":");
    push_string(out, reason_of(reply.stop));
    push(out, ",");
    usage_and_metrics(reply.tokens.unwrap_or_default(), out);
    push(out, "}");
}
