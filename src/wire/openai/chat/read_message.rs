//! A client's messages: who says them, and what they are made of.
//!
//! An assistant's `refusal` is words like any other here. `reasoning_content` is not OpenAI's own: DeepSeek, vLLM and others
//! give it with their answers, and programs send answers back as they are.

use std::borrow::Cow;

use super::pull::{Fault, Place, Pull};
use super::read_request::{keep, keep_hint};
use crate::model::chat::{Block, Message, Request, Rest, Role, Source};

/// What a message says before it is known who says it: the role may come last.
#[derive(Default)]
struct Said<'a> {
    role: Option<Cow<'a, str>>,
    content: Vec<Block<'a>>,
    refusal: Option<Cow<'a, str>>,
    thoughts: Option<Cow<'a, str>>,
    calls: Vec<Block<'a>>,
    answers: Option<Cow<'a, str>>,
}

/// Reads the conversation. What programs told the model before it stands in the request's `system`.
pub(super) fn messages<'a>(pull: &mut Pull<'a>, at: &Place<'_>, request: &mut Request<'a>) -> Result<(), Fault> {
    let Request { system, before, messages, rest, .. } = request;
    system.clear();
    messages.clear();
    *before = 0;
    pull.array(at, |pull, at| {
        let said = message(pull, at, rest)?;
        let Some(role) = &said.role else { return Err(Place::Member(at, "role").fault("is missing")) };
        let role = match &**role {
            "system" | "developer" => Role::System,
            "user" | "tool" => Role::User,
            "assistant" => Role::Assistant,
            // The older way to tell what a function came to. It names no call, which every other shape needs.
            "function" => {
                keep(rest, &Place::Member(at, "role"), "\"function\"", false);
                return Ok(());
            }
            _ => return Err(Place::Member(at, "role").fault("must be system, developer, user, assistant or tool")),
        };
        let content = said.into_blocks(role, at)?;
        if role == Role::System && messages.is_empty() {
            system.extend(content);
            *before += 1;
        } else {
            messages.push(Message { role, content });
        }
        Ok(())
    })
}

fn message<'a>(pull: &mut Pull<'a>, at: &Place<'_>, rest: &mut Vec<Rest<'a>>) -> Result<Said<'a>, Fault> {
    let mut said = Said::default();
    pull.object(at, |pull, name, at| {
        match name {
            "role" => said.role = Some(pull.string(at)?),
            "content" => said.content = content(pull, at, rest)?,
            "refusal" => said.refusal = Some(pull.string(at)?),
            "reasoning_content" => said.thoughts = Some(pull.string(at)?),
            "tool_calls" => said.calls = calls(pull, at, rest)?,
            "tool_call_id" => said.answers = Some(pull.string(at)?),
            // Tells participants of one role apart. What they say is all there without it.
            "name" => keep_hint(rest, "messages.name", pull.raw()?),
            // Where an answer had its facts from. It comes back with the answer, and is no field of a request.
            "annotations" => {
                let value = pull.raw()?;
                if value != "[]" {
                    keep_hint(rest, "messages.annotations", value);
                }
            }
            _ => keep(rest, at, pull.raw()?, false),
        }
        Ok(())
    })?;
    Ok(said)
}

impl<'a> Said<'a> {
    fn into_blocks(self, role: Role, at: &Place<'_>) -> Result<Vec<Block<'a>>, Fault> {
        let stray = |name: &str, whose: &'static str| Err(Place::Member(at, name).fault(whose));
        let is_tool = self.role.as_deref() == Some("tool");
        if role != Role::Assistant {
            for (name, there) in [
                ("tool_calls", !self.calls.is_empty()),
                ("refusal", self.refusal.is_some()),
                ("reasoning_content", self.thoughts.is_some()),
            ] {
                if there {
                    return stray(name, "belongs to an assistant's message");
                }
            }
        }
        if role != Role::User || is_tool {
            let words = |block: &Block<'_>| matches!(block, Block::Text(_) | Block::CacheMark);
            if !self.content.iter().all(words) {
                return stray("content", "must be text in a message of this role");
            }
        }
        match (is_tool, self.answers) {
            (true, Some(id)) => return Ok(vec![Block::ToolResult { id, content: self.content, failed: false }]),
            (true, None) => return stray("tool_call_id", "is missing"),
            (false, Some(_)) => return stray("tool_call_id", "belongs to a tool's message"),
            (false, None) => {}
        }
        let mut blocks = self.content;
        if let Some(text) = self.thoughts.filter(|text| !text.is_empty()) {
            blocks.insert(0, Block::Thinking { text, signature: None });
        }
        blocks.extend(self.refusal.filter(|text| !text.is_empty()).map(Block::Text));
        blocks.extend(self.calls);
        Ok(blocks)
    }
}

/// Content that is a text or a list of parts. A text that is empty says nothing, and some shapes take none.
fn content<'a>(pull: &mut Pull<'a>, at: &Place<'_>, rest: &mut Vec<Rest<'a>>) -> Result<Vec<Block<'a>>, Fault> {
    if pull.peek() == Some(b'"') {
        let text = pull.string(at)?;
        return Ok(if text.is_empty() { Vec::new() } else { vec![Block::Text(text)] });
    }
    if pull.peek() != Some(b'[') {
        return Err(at.fault("must be a string or an array of parts"));
    }
    let mut blocks = Vec::new();
    pull.array(at, |pull, at| part(pull, at, &mut blocks, rest))?;
    Ok(blocks)
}

fn part<'a>(
    pull: &mut Pull<'a>,
    at: &Place<'_>,
    blocks: &mut Vec<Block<'a>>,
    rest: &mut Vec<Rest<'a>>,
) -> Result<(), Fault> {
    let (mut kind, mut text, mut found, mut mark) = (None, None, None, false);
    pull.object(at, |pull, name, at| {
        match name {
            "type" => kind = Some(pull.string(at)?),
            "text" | "refusal" => text = Some(pull.string(at)?),
            "image_url" => found = Some(image(pull, at, rest)?),
            "file" => found = file(pull, at, rest)?,
            "prompt_cache_breakpoint" => {
                mark = true;
                pull.raw()?;
            }
            _ => keep(rest, at, pull.raw()?, false),
        }
        Ok(())
    })?;
    let kind = kind.ok_or_else(|| Place::Member(at, "type").fault("is missing"))?;
    match (&*kind, text, found) {
        ("text" | "refusal", Some(text), None) => {
            if !text.is_empty() {
                blocks.push(Block::Text(text));
            }
        }
        ("image_url", None, Some(image @ Block::Image(_))) => blocks.push(image),
        ("file", None, Some(file @ Block::Document { .. })) => blocks.push(file),
        // An uploaded one, which is in the rest.
        ("file", None, None) => {}
        (kind @ ("text" | "refusal" | "image_url"), ..) => return Err(Place::Member(at, kind).fault("is missing")),
        _ => keep(rest, &Place::Member(at, "type"), "null", false),
    }
    if mark {
        blocks.push(Block::CacheMark);
    }
    Ok(())
}

fn image<'a>(pull: &mut Pull<'a>, at: &Place<'_>, rest: &mut Vec<Rest<'a>>) -> Result<Block<'a>, Fault> {
    let mut source = None;
    pull.object(at, |pull, name, at| {
        match name {
            "url" => {
                let url = pull.string(at)?;
                source = Some(if is_data(&url) { data(url, at)? } else { Source::Url(url) });
            }
            // How closely it is looked at.
            "detail" => {
                let value = pull.raw()?;
                if value != "\"auto\"" {
                    keep_hint(rest, "messages.content.image_url.detail", value);
                }
            }
            _ => keep(rest, at, pull.raw()?, false),
        }
        Ok(())
    })?;
    source.map(Block::Image).ok_or_else(|| Place::Member(at, "url").fault("is missing"))
}

/// A file that is there; `None` for one that was uploaded before, which only OpenAI has.
fn file<'a>(pull: &mut Pull<'a>, at: &Place<'_>, rest: &mut Vec<Rest<'a>>) -> Result<Option<Block<'a>>, Fault> {
    let (mut bytes, mut name, mut uploaded) = (None, None, false);
    pull.object(at, |pull, member, at| {
        match member {
            "file_data" => bytes = Some(pull.string(at)?),
            "filename" => name = Some(pull.string(at)?),
            _ => {
                uploaded |= member == "file_id";
                keep(rest, at, pull.raw()?, false);
            }
        }
        Ok(())
    })?;
    let there = Place::Member(at, "file_data");
    let source = match bytes {
        Some(url) if is_data(&url) => data(url, &there)?,
        // The reference has plain base64, the guide a data URL. Without one a PDF is what every model takes.
        Some(data) => Source::Data { media_type: "application/pdf".into(), data },
        None if uploaded => return Ok(None),
        None => return Err(there.fault("is missing")),
    };
    Ok(Some(Block::Document { source, name }))
}

fn is_data(url: &str) -> bool {
    url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// A data URL (RFC 2397) that is in base64.
fn data<'a>(url: Cow<'a, str>, at: &Place<'_>) -> Result<Source<'a>, Fault> {
    let head = url[5..].split_once(',').and_then(|(head, _)| {
        let (kind, last) = head.rsplit_once(';')?;
        let media_type = kind.split(';').next().filter(|kind| kind.contains('/'))?;
        last.eq_ignore_ascii_case("base64").then_some((5 + media_type.len(), 5 + head.len() + 1))
    });
    let Some((type_end, data_start)) = head else {
        return Err(at.fault("must be an address, or a data URL as data:image/png;base64,…"));
    };
    Ok(match url {
        Cow::Borrowed(url) => Source::Data { media_type: url[5..type_end].into(), data: url[data_start..].into() },
        Cow::Owned(mut url) => {
            let data = url.split_off(data_start);
            Source::Data { media_type: url[5..type_end].to_owned().into(), data: data.into() }
        }
    })
}

fn calls<'a>(pull: &mut Pull<'a>, at: &Place<'_>, rest: &mut Vec<Rest<'a>>) -> Result<Vec<Block<'a>>, Fault> {
    let mut calls = Vec::new();
    pull.array(at, |pull, at| {
        let (mut id, mut function, mut kind) = (None, None, None);
        pull.object(at, |pull, name, at| {
            match name {
                "id" => id = Some(pull.string(at)?),
                "type" => kind = Some(pull.string(at)?),
                "function" => function = Some(called(pull, at, rest)?),
                // Programs that put a stream's deltas together leave it there.
                "index" => drop(pull.raw()?),
                _ => keep(rest, at, pull.raw()?, false),
            }
            Ok(())
        })?;
        if kind.is_some_and(|kind| kind != "function") {
            keep(rest, &Place::Member(at, "type"), "null", false);
            return Ok(());
        }
        let id = id.ok_or_else(|| Place::Member(at, "id").fault("is missing"))?;
        let (name, arguments) = function.ok_or_else(|| Place::Member(at, "function").fault("is missing"))?;
        calls.push(Block::ToolCall { id, name, arguments });
        Ok(())
    })?;
    Ok(calls)
}

fn called<'a>(
    pull: &mut Pull<'a>,
    at: &Place<'_>,
    rest: &mut Vec<Rest<'a>>,
) -> Result<(Cow<'a, str>, Cow<'a, str>), Fault> {
    let (mut name, mut arguments) = (None, None);
    pull.object(at, |pull, member, at| {
        match member {
            "name" => name = Some(pull.string(at)?),
            "arguments" => arguments = Some(pull.string(at)?),
            _ => keep(rest, at, pull.raw()?, false),
        }
        Ok(())
    })?;
    let missing = |name: &str| Place::Member(at, name).fault("is missing");
    Ok((name.ok_or_else(|| missing("name"))?, arguments.ok_or_else(|| missing("arguments"))?))
}
