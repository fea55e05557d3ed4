//! What is said in a request of Anthropic's shape: messages, and the blocks of them.

use std::borrow::Cow;

use super::Reader;
use crate::model::chat::{Block, Message, Role, Source};
use crate::wire::pull::{Members, Path, Pull, Value, Wrong};

/// What a message says, or what the system says in the middle of it.
struct Part<'a> {
    aside: bool,
    content: Vec<Block<'a>>,
}

impl<'a> Reader<'a> {
    pub(super) fn message(&mut self, pull: &mut Pull<'a>, path: &Path<'_>) -> Result<(), Wrong> {
        let (mut role, mut parts) = (None, Vec::new());
        let mut has_content = false;
        pull.fields(path, |pull, key| {
            match &**key {
                b"role" => {
                    let path = path.key("role");
                    role = Some(match &*pull.value()?.string(&path)? {
                        "user" => Role::User,
                        "assistant" => Role::Assistant,
                        "system" => Role::System,
                        _ => return Err(path.wrong("must be 'user', 'assistant' or 'system'")),
                    });
                }
                b"content" => {
                    has_content = true;
                    self.parts(pull, &path.key("content"), &mut parts)?;
                }
                other => {
                    let name = path.key(&String::from_utf8_lossy(other)).to_string();
                    self.rest(name, pull.value()?.raw(), false);
                }
            }
            Ok(())
        })?;
        let role = role.ok_or_else(|| path.key("role").wrong("is missing"))?;
        if !has_content {
            return Err(path.key("content").wrong("is missing"));
        }
        for part in parts {
            let role = if part.aside { Role::System } else { role };
            fits(role, &part.content, &path.key("content"))?;
            if role == Role::System && self.request.messages.is_empty() {
                self.request.system.extend(part.content);
                self.request.before += usize::from(!part.aside);
            } else {
                self.request.messages.push(Message { role, content: part.content });
            }
        }
        Ok(())
    }

    /// Reads what a message says: one part, or more of them with texts of the system's between.
    fn parts(&mut self, pull: &mut Pull<'a>, path: &Path<'_>, parts: &mut Vec<Part<'a>>) -> Result<(), Wrong> {
        let mut content = Vec::new();
        if pull.peek() == Some(b'"') {
            content.push(Block::Text(pull.value()?.string(path)?));
        } else {
            pull.elements(path, |pull, path| {
                let mut members = pull.members(path)?;
                let kind = members.string("type", path)?;
                if kind != "mid_conv_system" {
                    return self.block(&kind, members, path, &mut content);
                }
                if !content.is_empty() {
                    parts.push(Part { aside: false, content: std::mem::take(&mut content) });
                }
                let (mut said, inner) = (Vec::new(), path.key("content"));
                self.content(&mut Pull::new(members.need("content", path)?.raw()), &inner, &mut said)?;
                self.mark(&mut members, path, &mut said)?;
                self.left(members, path, &[]);
                parts.push(Part { aside: true, content: said });
                Ok::<_, Wrong>(())
            })?;
        }
        if !content.is_empty() || parts.is_empty() {
            parts.push(Part { aside: false, content });
        }
        Ok(())
    }

    /// Reads a string, or blocks.
    pub(super) fn content(
        &mut self,
        pull: &mut Pull<'a>,
        path: &Path<'_>,
        out: &mut Vec<Block<'a>>,
    ) -> Result<(), Wrong> {
        if pull.peek() == Some(b'"') {
            out.push(Block::Text(pull.value()?.string(path)?));
            return Ok(());
        }
        pull.elements(path, |pull, path| {
            let mut members = pull.members(path)?;
            let kind = members.string("type", path)?;
            // Content within content: the system's, or a result's. The shape has no results there, and reading them would go
            // as deep as a client likes.
            if kind == "tool_result" {
                return Err(path.key("type").wrong("must not be 'tool_result' here"));
            }
            self.block(&kind, members, path, out)
        })
    }

    fn block(
        &mut self,
        kind: &str,
        mut members: Members<'a>,
        path: &Path<'_>,
        out: &mut Vec<Block<'a>>,
    ) -> Result<(), Wrong> {
        let mut hints: &[&str] = &[];
        match kind {
            "text" => {
                out.push(Block::Text(members.string("text", path)?));
                // Where a text of the model's had its facts from; an answer is as good if it is not told again.
                hints = &["citations"];
            }
            "image" | "document" => {
                let place = path.key("source");
                let source = members.need("source", path)?;
                let Some(found) = self.source(source, &place)? else { return Ok(()) };
                out.push(if kind == "image" {
                    Block::Image(found)
                } else {
                    let name = members.take("title").map(|title| title.string(&path.key("title"))).transpose()?;
                    if let Some(citations) = members.take("citations") {
                        self.citations(citations, &path.key("citations"))?;
                    }
                    Block::Document { source: found, name }
                });
            }
            "tool_use" => {
                out.push(Block::ToolCall {
                    id: members.string("id", path)?,
                    name: members.string("name", path)?,
                    arguments: Cow::Borrowed(members.need("input", path)?.object(&path.key("input"))?),
                });
                if let Some(caller) = members.take("caller") {
                    let place = path.key("caller");
                    let direct = &*caller.members(&place)?.string("type", &place)? == "direct";
                    if !direct {
                        self.rest(place.to_string(), caller.raw(), false);
                    }
                }
            }
            "tool_result" => {
                let id = members.string("tool_use_id", path)?;
                let mut content = Vec::new();
                if let Some(said) = members.take("content") {
                    self.content(&mut Pull::new(said.raw()), &path.key("content"), &mut content)?;
                }
                let failed =
                    members.take("is_error").map(|failed| failed.boolean(&path.key("is_error"))).transpose()?;
                out.push(Block::ToolResult { id, content, failed: failed.unwrap_or(false) });
            }
            "thinking" => out.push(Block::Thinking {
                text: members.string("thinking", path)?,
                signature: members.take("signature").map(|s| s.string(&path.key("signature"))).transpose()?,
            }),
            "redacted_thinking" => out.push(Block::HiddenThinking(members.string("data", path)?)),
            other => {
                self.rest(path.key(other).to_string(), members.raw(), false);
                return Ok(());
            }
        }
        self.mark(&mut members, path, out)?;
        self.left(members, path, hints);
        Ok(())
    }

    fn source(&mut self, value: Value<'a>, path: &Path<'_>) -> Result<Option<Source<'a>>, Wrong> {
        let mut source = value.members(path)?;
        let kind = source.string("type", path)?;
        let found = match &*kind {
            "base64" => {
                Source::Data { media_type: source.string("media_type", path)?, data: source.string("data", path)? }
            }
            "url" => Source::Url(source.string("url", path)?),
            "text" => {
                // There is no other than `text/plain`.
                source.take("media_type");
                Source::Text(source.string("data", path)?)
            }
            // A file that lies with Anthropic, or a document made of blocks.
            other => {
                self.rest(path.key(other).to_string(), value.raw(), false);
                return Ok(None);
            }
        };
        self.left(source, path, &[]);
        Ok(Some(found))
    }

    /// Citations that are asked for cannot be left out; it may be said that none are.
    fn citations(&mut self, value: Value<'a>, path: &Path<'_>) -> Result<(), Wrong> {
        let enabled = value.members(path)?.take("enabled").map(|on| on.boolean(&path.key("enabled"))).transpose()?;
        if enabled.unwrap_or(false) {
            self.rest(path.to_string(), value.raw(), false);
        }
        Ok(())
    }

    /// Marks what was read last for the cache, if its members say so.
    fn mark(&mut self, members: &mut Members<'a>, path: &Path<'_>, out: &mut Vec<Block<'a>>) -> Result<(), Wrong> {
        if let Some(control) = members.take("cache_control") {
            self.cache_control(control, &path.key("cache_control"))?;
            out.push(Block::CacheMark);
        }
        Ok(())
    }
}

/// Refuses what the system cannot say.
pub(super) fn only_text(content: &[Block<'_>], path: &Path<'_>) -> Result<(), Wrong> {
    let good = content.iter().all(|block| matches!(block, Block::Text(_) | Block::CacheMark));
    if good { Ok(()) } else { Err(path.wrong("must be text alone")) }
}

/// Whether a role says blocks like these: calls and thoughts are the model's, results the user's.
fn fits(role: Role, content: &[Block<'_>], path: &Path<'_>) -> Result<(), Wrong> {
    let models =
        |block: &Block<'_>| matches!(block, Block::ToolCall { .. } | Block::Thinking { .. } | Block::HiddenThinking(_));
    match role {
        Role::System => only_text(content, path),
        Role::User if content.iter().any(models) => Err(path.wrong("has a block that only the assistant can say")),
        Role::Assistant if content.iter().any(|block| matches!(block, Block::ToolResult { .. })) => {
            Err(path.wrong("has a block that only the user can say"))
        }
        _ => Ok(()),
    }
}
