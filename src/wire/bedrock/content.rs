//! The blocks of a message, read: text, pictures, documents, calls of functions and what they came to, thoughts, marks for the
//! cache.
//!
//! Source: "ContentBlock" and what it refers to in the Amazon Bedrock API reference. A block is an object with one member that
//! says what it is.

use std::borrow::Cow;

use super::input::{Input, Wrong, is_object};
use crate::model::chat::{Block, Source};

/// The formats of pictures and documents, with what the rest of the world calls them.
pub(super) const IMAGES: [(&str, &str); 4] =
    [("png", "image/png"), ("jpeg", "image/jpeg"), ("gif", "image/gif"), ("webp", "image/webp")];
pub(super) const DOCUMENTS: [(&str, &str); 9] = [
    ("pdf", "application/pdf"),
    ("csv", "text/csv"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("html", "text/html"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
];

/// Reads an array of blocks. What is no block of ours is left to [`Input`].
pub(super) fn blocks<'a>(input: &mut Input<'a>) -> Result<Vec<Block<'a>>, Wrong> {
    let mut blocks = Vec::new();
    input.array(|input| {
        blocks.extend(block(input)?);
        Ok(())
    })?;
    Ok(blocks)
}

fn block<'a>(input: &mut Input<'a>) -> Result<Option<Block<'a>>, Wrong> {
    let mut found = None;
    input.union(|input, key| {
        found = match key {
            "text" => Some(Block::Text(input.string()?)),
            "image" => image(input)?,
            "document" => document(input)?,
            "toolUse" => Some(call(input)?),
            "toolResult" => Some(result(input)?),
            "reasoningContent" => reasoning(input)?,
            "cachePoint" => Some(cache_point(input)?),
            "citationsContent" => Some(cited(input)?),
            // What a function answers with, where it is no text: only blocks of a result have it.
            "json" => Some(Block::Text(Cow::Borrowed(input.raw()?))),
            _ => return Ok(false),
        };
        Ok(true)
    })?;
    Ok(found)
}

/// A mark for the cache. For how long is the provider's own way, and a hint.
pub(super) fn cache_point<'a>(input: &mut Input<'a>) -> Result<Block<'a>, Wrong> {
    input.object(|input, key| match key {
        "type" => input.string().map(|_| true),
        "ttl" => input.unknown(true).map(|()| true),
        _ => Ok(false),
    })?;
    Ok(Block::CacheMark)
}

fn image<'a>(input: &mut Input<'a>) -> Result<Option<Block<'a>>, Wrong> {
    let (mut media_type, mut source) = (None, None);
    input.object(|input, key| {
        match key {
            "format" => media_type = Some(format(input, &IMAGES)?),
            "source" => source = bytes(input)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some(media_type) = media_type else { return input.missing("format") };
    Ok(source.map(|source| Block::Image(with_type(source, media_type))))
}

fn document<'a>(input: &mut Input<'a>) -> Result<Option<Block<'a>>, Wrong> {
    let (mut media_type, mut source, mut name) = (None, None, None);
    input.object(|input, key| {
        match key {
            "format" => media_type = Some(format(input, &DOCUMENTS)?),
            "name" => name = Some(input.string()?),
            "source" => source = bytes(input)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if media_type.is_none() && matches!(source, Some(Source::Data { .. })) {
        return input.missing("format");
    }
    let source = source.map(|source| with_type(source, media_type.unwrap_or_default()));
    Ok(source.map(|source| Block::Document { source, name }))
}

/// What the rest of the world calls a format.
fn format<'a>(input: &mut Input<'a>, known: &[(&str, &'static str)]) -> Result<&'static str, Wrong> {
    let name = input.string()?;
    match known.iter().find(|(format, _)| *format == name) {
        Some((_, media_type)) => Ok(media_type),
        None => input.wrong("it is no format that is known"),
    }
}

/// Where a picture's or a document's bytes are: here, or as text; a bucket of Amazon's is no address that others fetch from.
fn bytes<'a>(input: &mut Input<'a>) -> Result<Option<Source<'a>>, Wrong> {
    let mut source = None;
    input.union(|input, key| {
        source = Some(match key {
            "bytes" => Source::Data { media_type: Cow::Borrowed(""), data: input.string()? },
            "text" => Source::Text(input.string()?),
            _ => return Ok(false),
        });
        Ok(true)
    })?;
    Ok(source)
}

fn with_type<'a>(source: Source<'a>, media_type: &'static str) -> Source<'a> {
    match source {
        Source::Data { data, .. } => Source::Data { media_type: Cow::Borrowed(media_type), data },
        other => other,
    }
}

fn call<'a>(input: &mut Input<'a>) -> Result<Block<'a>, Wrong> {
    let (mut id, mut name, mut arguments) = (None, None, None);
    input.object(|input, key| {
        match key {
            "toolUseId" => id = Some(input.string()?),
            "name" => name = Some(input.string()?),
            "input" if input.is_strict() => arguments = Some(Cow::Borrowed(input.raw()?)),
            // What a model wrote ill is no object, and told as the text that it is.
            "input" => arguments = Some(input.raw_or_text()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some(id) = id else { return input.missing("toolUseId") };
    let Some(name) = name else { return input.missing("name") };
    let arguments = arguments.unwrap_or(Cow::Borrowed("{}"));
    match !input.is_strict() || is_object(&arguments) {
        true => Ok(Block::ToolCall { id, name, arguments }),
        false => input.wrong("its input is no JSON object"),
    }
}

fn result<'a>(input: &mut Input<'a>) -> Result<Block<'a>, Wrong> {
    let (mut id, mut content, mut failed) = (None, Vec::new(), false);
    input.object(|input, key| {
        match key {
            "toolUseId" => id = Some(input.string()?),
            "content" => content = blocks(input)?,
            "status" => {
                failed = match &*input.string()? {
                    "error" => true,
                    "success" => false,
                    _ => return input.wrong("it is neither \"success\" nor \"error\""),
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some(id) = id else { return input.missing("toolUseId") };
    Ok(Block::ToolResult { id, content, failed })
}

fn reasoning<'a>(input: &mut Input<'a>) -> Result<Option<Block<'a>>, Wrong> {
    let mut found = None;
    input.union(|input, key| {
        match key {
            "reasoningText" => {
                let (mut text, mut signature) = (Cow::Borrowed(""), None);
                input.object(|input, key| {
                    match key {
                        "text" => text = input.string()?,
                        "signature" => signature = Some(input.string()?),
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                found = Some(Block::Thinking { text, signature });
            }
            "redactedContent" => found = Some(Block::HiddenThinking(input.string()?)),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(found)
}

/// Words with notes on where they come from: the words are the answer, and as good without.
fn cited<'a>(input: &mut Input<'a>) -> Result<Block<'a>, Wrong> {
    let mut words = String::new();
    input.object(|input, key| {
        match key {
            "content" => {
                for block in blocks(input)? {
                    if let Block::Text(text) = block {
                        words.push_str(&text);
                    }
                }
            }
            "citations" => input.unknown(true)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(Block::Text(Cow::Owned(words)))
}
