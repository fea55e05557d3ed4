//! What is said, written in Anthropic's shape: the system's texts, and turns of blocks.

use super::{CACHE_CONTROL, member};
use crate::error::Error;
use crate::model::chat::{Block, Lost, Request, Role, Source, unsupported};
use crate::wire::anthropic::reply::input_of;
use crate::wire::anthropic::words::{SHAPE, call_id};
use crate::wire::base64;
use crate::wire::chat::push_string;
use crate::wire::turns::{self, Item, Turn, bad_arguments};

/// Writes what the system says, before the conversation and in it.
pub(super) fn system(request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let items = turns::system(request);
    if let Some(other) = items.iter().find(|item| !matches!(item.block, Block::Text(_))) {
        return Err(unsupported(&format!("messages.{}.content", other.at), SHAPE));
    }
    if items.is_empty() {
        return Ok(());
    }
    out.extend_from_slice(b",\"system\":");
    content(&items, out)
}

/// Writes the conversation, turn by turn.
pub(super) fn messages(request: &Request<'_>, lost: &mut Lost, out: &mut Vec<u8>) -> Result<(), Error> {
    out.extend_from_slice(b",\"messages\":[");
    for (number, Turn { role, items }) in turns::turns(request, lost).into_iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        let assistant = role == Role::Assistant;
        let head: &[u8] =
            if assistant { b"{\"role\":\"assistant\",\"content\":" } else { b"{\"role\":\"user\",\"content\":" };
        out.extend_from_slice(head);
        content(&items, out)?;
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

/// Writes blocks, or the one text that they are.
fn content(items: &[Item<'_>], out: &mut Vec<u8>) -> Result<(), Error> {
    if let [item @ Item { block: Block::Text(text), mark: false, .. }] = items {
        push_string(out, item.text(text));
        return Ok(());
    }
    for (number, item) in items.iter().enumerate() {
        out.push(if number == 0 { b'[' } else { b',' });
        if let Block::Text(text) = item.block {
            member(b"{\"type\":\"text\",\"text\":", item.text(text), out);
        } else {
            block(item, out)?;
        }
        if item.mark {
            out.extend_from_slice(CACHE_CONTROL);
        }
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

/// Writes a block that is no text, but for its closing brace.
fn block(item: &Item<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let refused = || unsupported(&format!("messages.{}.content", item.at), SHAPE);
    match item.block {
        Block::Image(source) => {
            out.extend_from_slice(b"{\"type\":\"image\",\"source\":");
            match source {
                Source::Data { media_type, data } => base64_source(media_type, data, out),
                Source::Url(url) => member(b"{\"type\":\"url\",\"url\":", url, out),
                Source::Text(_) => return Err(refused()),
            }
            out.push(b'}');
        }
        Block::Document { source, name } => {
            out.extend_from_slice(b"{\"type\":\"document\",\"source\":");
            document(source, out).ok_or_else(refused)?;
            out.push(b'}');
            if let Some(name) = name {
                member(b",\"title\":", name, out);
            }
        }
        Block::ToolCall { id, name, arguments } => {
            member(b"{\"type\":\"tool_use\",\"id\":", &call_id(id), out);
            member(b",\"name\":", name, out);
            out.extend_from_slice(b",\"input\":");
            out.extend_from_slice(input_of(arguments).ok_or_else(|| bad_arguments(item.at, id))?.as_bytes());
        }
        Block::ToolResult { id, content: said, failed } => {
            member(b"{\"type\":\"tool_result\",\"tool_use_id\":", &call_id(id), out);
            let items = turns::result(item.at, said);
            if !items.is_empty() {
                out.extend_from_slice(b",\"content\":");
                content(&items, out)?;
            }
            if *failed {
                out.extend_from_slice(b",\"is_error\":true");
            }
        }
        Block::Thinking { text, signature } => {
            member(b"{\"type\":\"thinking\",\"thinking\":", text, out);
            member(b",\"signature\":", signature.as_deref().unwrap_or_default(), out);
        }
        Block::HiddenThinking(data) => member(b"{\"type\":\"redacted_thinking\",\"data\":", data, out),
        Block::Text(_) | Block::CacheMark => return Err(refused()),
    }
    Ok(())
}

fn base64_source(media_type: &str, data: &str, out: &mut Vec<u8>) {
    member(b"{\"type\":\"base64\",\"media_type\":", media_type, out);
    member(b",\"data\":", data, out);
}

/// Writes where a document is, but for the closing brace; `None` for a kind that the API does not read: it takes PDF, and
/// whatever is text as plain text.
fn document(source: &Source<'_>, out: &mut Vec<u8>) -> Option<()> {
    const PLAIN: &[u8] = b"{\"type\":\"text\",\"media_type\":\"text/plain\",\"data\":";
    match source {
        Source::Url(url) => member(b"{\"type\":\"url\",\"url\":", url, out),
        Source::Text(text) => member(PLAIN, text, out),
        Source::Data { media_type, data } if media_type == "application/pdf" => base64_source(media_type, data, out),
        Source::Data { media_type, data } if media_type.starts_with("text/") => {
            member(PLAIN, &String::from_utf8(base64::decode(data)?).ok()?, out);
        }
        Source::Data { .. } => return None,
    }
    Some(())
}
