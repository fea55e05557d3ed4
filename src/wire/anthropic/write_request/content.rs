//! What is said, written in Anthropic's shape: the system's texts, and turns of blocks.

use super::{CACHE_CONTROL, member};
use crate::error::Error;
use crate::model::chat::{Block, Lost, Request, Role, Source, unsupported};
use crate::wire::anthropic::reply::input_of;
use crate::wire::anthropic::words::{SHAPE, call_id};
use crate::wire::base64;
use crate::wire::chat::push_string;

/// A block of a turn, and what stands beside it.
struct Item<'r> {
    block: &'r Block<'r>,
    /// Which message it is of, for errors.
    at: usize,
    /// What is before this may be cached.
    mark: bool,
}

/// Writes what the system says, before the conversation and in it.
pub(super) fn system(request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut items = Vec::new();
    gather(0, &request.system, &mut items, None);
    for (at, message) in request.messages.iter().enumerate() {
        if message.role == Role::System {
            gather(request.before + at, &message.content, &mut items, None);
        }
    }
    if let Some(other) = items.iter().find(|item| !matches!(item.block, Block::Text(_))) {
        return Err(unsupported(&format!("messages.{}.content", other.at), SHAPE));
    }
    if items.is_empty() {
        return Ok(());
    }
    out.extend_from_slice(b",\"system\":");
    content(&items, false, out)
}

/// Writes the conversation, turn by turn.
pub(super) fn messages(request: &Request<'_>, lost: &mut Lost, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut turns: Vec<(Role, Vec<Item<'_>>)> = Vec::with_capacity(request.messages.len());
    for (at, message) in request.messages.iter().enumerate().filter(|(_, message)| message.role != Role::System) {
        let at = request.before + at;
        match turns.last_mut() {
            Some((role, items)) if *role == message.role => gather(at, &message.content, items, Some(lost)),
            _ => {
                let mut items = Vec::with_capacity(message.content.len());
                gather(at, &message.content, &mut items, Some(lost));
                if !items.is_empty() {
                    turns.push((message.role, items));
                }
            }
        }
    }
    out.extend_from_slice(b",\"messages\":[");
    let last = turns.len().saturating_sub(1);
    for (number, (role, mut items)) in turns.into_iter().enumerate() {
        // Stable: results keep their order, and so does the rest.
        items.sort_by_key(|item| !matches!(item.block, Block::ToolResult { .. }));
        if number > 0 {
            out.push(b',');
        }
        let assistant = role == Role::Assistant;
        let head: &[u8] =
            if assistant { b"{\"role\":\"assistant\",\"content\":" } else { b"{\"role\":\"user\",\"content\":" };
        out.extend_from_slice(head);
        content(&items, assistant && number == last, out)?;
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

/// Adds the blocks of a message that can be written, each with its mark. Thoughts without a signature are refused by the API;
/// it does as well without them.
fn gather<'r>(at: usize, blocks: &'r [Block<'r>], items: &mut Vec<Item<'r>>, mut lost: Option<&mut Lost>) {
    let from = items.len();
    for block in blocks {
        match block {
            Block::Text(text) if text.trim().is_empty() => {}
            Block::Thinking { signature, .. } if signature.as_deref().unwrap_or_default().is_empty() => {
                if let Some(lost) = lost.as_deref_mut() {
                    lost.hint("reasoning_content");
                }
            }
            Block::CacheMark => {
                let takes =
                    |item: &&mut Item<'_>| !matches!(item.block, Block::Thinking { .. } | Block::HiddenThinking(_));
                if let Some(item) = items[from..].iter_mut().rfind(takes) {
                    item.mark = true;
                }
            }
            _ => items.push(Item { block, at, mark: false }),
        }
    }
}

/// Writes blocks, or the one text that they are; `continued` says that the answer goes on from the last one.
fn content(items: &[Item<'_>], continued: bool, out: &mut Vec<u8>) -> Result<(), Error> {
    let text_of = |text: &str, last: bool, out: &mut Vec<u8>| {
        push_string(out, if continued && last { text.trim_end() } else { text });
    };
    if let [Item { block: Block::Text(text), mark: false, .. }] = items {
        text_of(text, true, out);
        return Ok(());
    }
    for (number, item) in items.iter().enumerate() {
        out.push(if number == 0 { b'[' } else { b',' });
        if let Block::Text(text) = item.block {
            out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
            text_of(text, number + 1 == items.len(), out);
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
            out.extend_from_slice(input_of(arguments).ok_or_else(refused)?.as_bytes());
        }
        Block::ToolResult { id, content: said, failed } => {
            member(b"{\"type\":\"tool_result\",\"tool_use_id\":", &call_id(id), out);
            let mut items = Vec::with_capacity(said.len());
            gather(item.at, said, &mut items, None);
            if !items.is_empty() {
                out.extend_from_slice(b",\"content\":");
                content(&items, false, out)?;
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
