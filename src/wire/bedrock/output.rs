//! JSON appended to bytes, and the blocks of a message as Converse has them.

use std::borrow::Cow;
use std::collections::HashMap;

use super::content::{DOCUMENTS, IMAGES};
use super::input::{is_json, is_object};
use crate::error::Error;
use crate::model::chat::{Block, Names, Source, unsupported};
use crate::wire::base64;
use crate::wire::chat::{push, push_string};
use crate::wire::turns::{self, Item, bad_arguments};

/// The shape, as people call it.
pub(super) const SHAPE: &str = "Bedrock's Converse";

/// The most characters of a call's id ("ToolUseBlock" in the Amazon Bedrock API reference).
const LONGEST_ID: usize = 64;

/// The most characters of a document's name ("DocumentBlock", as above).
const LONGEST_NAME: usize = 200;

/// Writes the members of an object, or the elements of an array, with their commas.
#[derive(Debug)]
pub(super) struct List {
    first: bool,
}

impl List {
    pub(super) fn new() -> Self {
        Self { first: true }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first
    }

    /// Makes room for the next element.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.first) {
            out.push(b',');
        }
    }

    /// Begins the next member. The name needs no escape.
    pub(super) fn key(&mut self, out: &mut Vec<u8>, name: &str) {
        self.next(out);
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
    }

    /// Writes a member whose value is text.
    pub(super) fn text(&mut self, out: &mut Vec<u8>, name: &str, value: &str) {
        self.key(out, name);
        push_string(out, value);
    }
}

/// Appends a number as JSON, or whatever else cannot fail to be written.
pub(super) fn number(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    // Memory takes all, and there is nothing in the values that could fail.
    let _ = serde_json::to_writer(out, value);
}

/// Writes the blocks of a request's messages.
#[derive(Debug)]
pub(super) struct Blocks {
    /// What the caller's shape calls them.
    names: &'static Names,
    /// The names of documents that were given out, no two of which may be alike, with the number that was last tried for each.
    documents: HashMap<String, u32>,
}

impl Blocks {
    pub(super) fn new(names: &'static Names) -> Self {
        Self { names, documents: HashMap::new() }
    }

    /// Appends blocks, with their marks behind them.
    pub(super) fn write(&mut self, items: &[Item<'_>], out: &mut Vec<u8>) -> Result<(), Error> {
        let mut list = List::new();
        for item in items {
            list.next(out);
            self.block(item, out)?;
            if item.mark {
                list.next(out);
                push(out, CACHE_POINT);
            }
        }
        Ok(())
    }

    fn block(&mut self, item: &Item<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let refused = |what| unsupported(&format!("messages.{}.content.{what}", item.at), SHAPE);
        match item.block {
            Block::Image(source) => image(source, out).ok_or_else(|| refused(self.names.picture))?,
            Block::Document { source, name } => {
                self.document(source, name.as_deref(), out).ok_or_else(|| refused(self.names.document))?;
            }
            Block::ToolCall { id, name, arguments } => {
                if !arguments.trim_ascii().is_empty() && !is_object(arguments) {
                    return Err(bad_arguments(item.at, id));
                }
                call(id, name, arguments, out);
            }
            Block::ToolResult { id, content, failed } => {
                push(out, "{\"toolResult\":{\"toolUseId\":");
                push_string(out, &call_id(id));
                push(out, ",\"content\":[");
                self.write(&turns::result(item.at, content), out)?;
                push(out, if *failed { "],\"status\":\"error\"}}" } else { "]}}" });
            }
            Block::Text(text) => {
                push(out, "{\"text\":");
                push_string(out, item.text(text));
                push(out, "}");
            }
            block => said(block, out),
        }
        Ok(())
    }

    /// Appends a document; `None` for one that Bedrock does not read.
    fn document(&mut self, source: &Source<'_>, name: Option<&str>, out: &mut Vec<u8>) -> Option<()> {
        let (format, member, data) = match source {
            Source::Data { media_type, data } => {
                let (format, _) = DOCUMENTS.iter().find(|(_, known)| known == media_type)?;
                (*format, "bytes", data)
            }
            Source::Text(text) => ("txt", "text", text),
            Source::Url(_) => return None,
        };
        push(out, "{\"document\":{\"format\":");
        push_string(out, format);
        push(out, ",\"name\":");
        push_string(out, &self.document_name(name.unwrap_or_default()));
        push(out, ",\"source\":{");
        List::new().text(out, member, data);
        push(out, "}}}");
        Some(())
    }

    /// A document's name as Bedrock takes it: of ASCII letters and digits, single spaces, hyphens, parentheses and square
    /// brackets. Whatever else stands in it becomes a hyphen; what has no name, or one that was used before, gets a number.
    fn document_name(&mut self, name: &str) -> String {
        let mut kept = String::new();
        for c in name.chars().take(LONGEST_NAME - 10) {
            match c {
                c if c.is_whitespace() => {
                    if !kept.ends_with(' ') {
                        kept.push(' ');
                    }
                }
                c if c.is_ascii_alphanumeric() || "-()[]".contains(c) => kept.push(c),
                _ => kept.push('-'),
            }
        }
        let kept = match kept.trim() {
            "" => "document",
            kept => kept,
        };
        let mut name = kept.to_owned();
        // Counted on from the last one, so that a thousand of one name are a thousand tries.
        let mut number = self.documents.get(kept).copied().unwrap_or(1);
        while self.documents.contains_key(&name) {
            number += 1;
            name = format!("{kept} {number}");
        }
        self.documents.insert(kept.to_owned(), number);
        self.documents.entry(name.clone()).or_insert(1);
        name
    }
}

/// Appends what a model may say as well: text, thoughts, a call, a picture. What only a client says is left out.
pub(super) fn said(block: &Block<'_>, out: &mut Vec<u8>) {
    match block {
        Block::Text(text) => {
            push(out, "{\"text\":");
            push_string(out, text);
            push(out, "}");
        }
        Block::Thinking { text, signature } => {
            push(out, "{\"reasoningContent\":{\"reasoningText\":{\"text\":");
            push_string(out, text);
            if let Some(signature) = signature {
                push(out, ",\"signature\":");
                push_string(out, signature);
            }
            push(out, "}}}");
        }
        Block::HiddenThinking(data) => {
            push(out, "{\"reasoningContent\":{\"redactedContent\":");
            push_string(out, &blob(data));
            push(out, "}}");
        }
        Block::ToolCall { id, name, arguments } => call(id, name, arguments, out),
        Block::CacheMark => push(out, CACHE_POINT),
        Block::Image(_) | Block::Document { .. } | Block::ToolResult { .. } => {}
    }
}

/// A mark for the cache.
pub(super) const CACHE_POINT: &str = "{\"cachePoint\":{\"type\":\"default\"}}";

/// What a provider hides is bytes here, and so base64; another's may be anything.
pub(super) fn blob(data: &str) -> Cow<'_, str> {
    match base64::decode(data) {
        Some(_) => Cow::Borrowed(data),
        None => Cow::Owned(base64::encode(data.as_bytes())),
    }
}

/// A call. Arguments that are no JSON, as a model may write them, stand as a text: the member may be any value.
fn call(id: &str, name: &str, arguments: &str, out: &mut Vec<u8>) {
    push(out, "{\"toolUse\":{\"toolUseId\":");
    push_string(out, &call_id(id));
    push(out, ",\"name\":");
    push_string(out, name);
    push(out, ",\"input\":");
    match arguments.trim_ascii() {
        "" => push(out, "{}"),
        arguments if is_json(arguments) => push(out, arguments),
        arguments => push_string(out, arguments),
    }
    push(out, "}}");
}

/// A call's id as Bedrock takes it: at most 64 of letters, digits and `_.:-`. Another becomes one that is made of it, the same
/// each time, so that result and call still belong together.
pub(super) fn call_id(id: &str) -> Cow<'_, str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    if !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(fits) {
        return Cow::Borrowed(id);
    }
    let kept: String = id.bytes().filter(|byte| fits(*byte)).take(LONGEST_ID - 9).map(char::from).collect();
    Cow::Owned(format!("{kept}_{:08x}", crc32fast::hash(id.as_bytes())))
}

/// Appends a picture; `None` for one that Bedrock does not take.
fn image(source: &Source<'_>, out: &mut Vec<u8>) -> Option<()> {
    let Source::Data { media_type, data } = source else { return None };
    // A name that is no more than usual.
    let media_type = if media_type == "image/jpg" { "image/jpeg" } else { media_type };
    let (format, _) = IMAGES.iter().find(|(_, known)| *known == media_type)?;
    push(out, "{\"image\":{\"format\":");
    push_string(out, format);
    push(out, ",\"source\":{\"bytes\":");
    push_string(out, data);
    push(out, "}}}");
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_that_fits_is_kept_and_another_stays_another() {
        for id in ["call_abc", "tooluse_x-1", "a.b:c", &"x".repeat(64)] {
            assert_eq!(call_id(id), id);
        }
        let odd =
            ["", "a b", "a/b", "ab", &"x".repeat(65), &"x".repeat(66), "\u{e9}"].map(|id| call_id(id).into_owned());
        let distinct: std::collections::BTreeSet<_> = odd.iter().collect();
        assert_eq!(distinct.len(), odd.len(), "{odd:?}");
    }

    #[test]
    fn a_documents_name_is_made_to_fit_and_no_two_are_alike() {
        let mut blocks = Blocks::new(&Names::OPENAI);
        for (given, wanted) in [
            ("report", "report"),
            ("report", "report 2"),
            ("report 3", "report 3"),
            ("report", "report 4"),
            ("Q3 \t report.pdf", "Q3 report-pdf"),
            ("a [b] (c)-d", "a [b] (c)-d"),
            ("", "document"),
            (" ", "document 2"),
            ("na\u{ef}ve", "na-ve"),
        ] {
            assert_eq!(blocks.document_name(given), wanted);
        }
        assert!(blocks.document_name(&"x".repeat(500)).len() <= LONGEST_NAME);
    }

    proptest! {
        #[test]
        fn every_id_becomes_one_that_bedrock_takes(id in "\\PC{0,90}") {
            let made = call_id(&id);
            prop_assert!((1..=LONGEST_ID).contains(&made.len()), "{}", made);
            prop_assert!(made.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte)), "{}", made);
            prop_assert_eq!(&*call_id(&made), &*made);
        }
    }
}
