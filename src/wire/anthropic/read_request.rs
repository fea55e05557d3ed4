//! A client's request in Anthropic's shape, read into the neutral chat.
//!
//! What the neutral chat has no place for goes into its `rest` by its name: tools that Anthropic runs itself, files that lie with
//! it, blocks that are new. Hints there, which a provider of another shape may do without, are where and how fast a request
//! is served, how long a cache keeps, and how tools are best shown to Anthropic's own models.

mod content;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use self::content::only_text;
use crate::error::Error;
use crate::model::chat::{Block, Choice, Effort, Format, Names, Request, Rest, Tool};
use crate::wire::pull::{Members, Path, Pull, Value, Wrong, text_of};

/// Fields of a request that an answer is as good without.
const HINTS: [&str; 3] = ["service_tier", "speed", "diagnostics"];

/// The same of a tool.
const TOOL_HINTS: [&str; 3] = ["eager_input_streaming", "input_examples", "defer_loading"];

/// Reads a request.
///
/// # Errors
/// [`Code::InvalidRequest`](crate::error::Code::InvalidRequest), naming the field where one is at fault.
pub(crate) fn read_request(body: &[u8]) -> Result<Request<'_>, Error> {
    let mut pull = Pull::new(text_of(body)?);
    let mut reader = Reader::default();
    // Its streams say their tokens always.
    reader.request.stream_usage = true;
    reader.request.names = &Names::ANTHROPIC;
    let read = pull.fields(&Path::WHOLE, |pull, key| reader.field(pull, key));
    read.and_then(|()| pull.end()).and_then(|()| reader.finish()).map_err(Wrong::refused)
}

#[derive(Default)]
struct Reader<'a> {
    request: Request<'a>,
    has_messages: bool,
    /// The last block that can be is to be marked for the cache.
    mark: bool,
    thinking: Option<Effort>,
    effort: Option<Effort>,
}

impl<'a> Reader<'a> {
    fn field(&mut self, pull: &mut Pull<'a>, key: &[u8]) -> Result<(), Wrong> {
        let name = String::from_utf8_lossy(key);
        let path = Path::top(&name);
        match key {
            b"messages" => {
                self.has_messages = true;
                return pull.elements(&path, |pull, path| self.message(pull, path));
            }
            b"system" => {
                let mut system = std::mem::take(&mut self.request.system);
                self.content(pull, &path, &mut system)?;
                only_text(&system, &path)?;
                // Of a message with this role that came first.
                system.append(&mut self.request.system);
                self.request.system = system;
                return Ok(());
            }
            b"tools" => return pull.elements(&path, |pull, path| self.tool(pull, path)),
            _ => {}
        }
        let value = pull.value()?;
        let request = &mut self.request;
        match key {
            b"model" => drop(value.string(&path)?),
            b"max_tokens" => request.max_tokens = Some(value.whole(&path)?),
            b"temperature" => request.temperature = Some(value.number(&path)?),
            b"top_p" => request.top_p = Some(value.number(&path)?),
            b"top_k" => request.top_k = Some(value.whole(&path)?),
            b"stream" => request.stream = value.boolean(&path)?,
            b"stop_sequences" => value.elements(&path, |pull, path| {
                request.stop.push(pull.value()?.string(path)?);
                Ok::<_, Wrong>(())
            })?,
            b"metadata" => {
                let mut metadata = value.members(&path)?;
                let user = metadata.take("user_id").map(|user| user.string(&path.key("user_id"))).transpose()?;
                request.user = user;
                self.left(metadata, &path, &[]);
            }
            b"cache_control" => {
                self.cache_control(value, &path)?;
                self.mark = true;
            }
            b"tool_choice" => self.tool_choice(value, &path)?,
            b"thinking" => self.thinking(value, &path)?,
            b"output_config" => {
                let mut config = value.members(&path)?;
                self.effort = config.take("effort").map(|word| effort(word, &path.key("effort"))).transpose()?;
                if let Some(format) = config.take("format") {
                    self.format(format, &path.key("format"))?;
                }
                // Advice to the model about how far it may go.
                self.left(config, &path, &["task_budget"]);
            }
            // What `output_config.format` was called before.
            b"output_format" => self.format(value, &path)?,
            // The gateway's own, which is read elsewhere, unless it is what Anthropic means by that.
            b"fallbacks" if are_names(value) => {}
            _ => self.rest(name.clone().into_owned(), value.raw(), HINTS.contains(&&*name)),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Request<'a>, Wrong> {
        if !self.has_messages {
            return Err(Path::top("messages").wrong("is missing"));
        }
        if self.mark
            && let Some(last) = self.request.messages.last_mut()
        {
            last.content.push(Block::CacheMark);
        }
        self.request.effort = match (self.thinking, self.effort) {
            // Thinking was asked for, and how much is said beside it.
            (Some(Effort::Own), Some(effort)) => Some(effort),
            (Some(thinking), effort) => {
                if effort.is_some() {
                    self.rest("output_config.effort".to_owned(), "null", true);
                }
                Some(thinking)
            }
            (None, effort) => effort,
        };
        Ok(self.request)
    }

    fn cache_control(&mut self, value: Value<'a>, path: &Path<'_>) -> Result<(), Wrong> {
        let mut control = value.members(path)?;
        if control.string("type", path)? != "ephemeral" {
            return Err(path.key("type").wrong("must be 'ephemeral'"));
        }
        // Five minutes are what every provider keeps at least.
        if let Some(ttl) = control.take("ttl").filter(|ttl| ttl.raw() != "\"5m\"") {
            self.rest("cache_control.ttl".to_owned(), ttl.raw(), true);
        }
        self.left(control, path, &[]);
        Ok(())
    }

    fn tool(&mut self, pull: &mut Pull<'a>, path: &Path<'_>) -> Result<(), Wrong> {
        let mut tool = pull.members(path)?;
        if let Some(kind) = tool.take("type") {
            let kind = kind.string(&path.key("type"))?;
            if kind != "custom" {
                // Anthropic runs it, or has taught its models what it is: nobody else has it.
                self.rest(path.key(&kind).to_string(), tool.raw(), false);
                return Ok(());
            }
        }
        let name = tool.string("name", path)?;
        let description = tool.take("description").map(|text| text.string(&path.key("description"))).transpose()?;
        let schema = tool.need("input_schema", path)?.object(&path.key("input_schema"))?;
        let strict = tool.take("strict").map(|strict| strict.boolean(&path.key("strict"))).transpose()?;
        let control = tool.take("cache_control");
        let cache_mark = control.is_some();
        if let Some(control) = control {
            self.cache_control(control, &path.key("cache_control"))?;
        }
        if let Some(callers) = tool.take("allowed_callers") {
            let place = path.key("allowed_callers");
            let mut others = false;
            callers.elements(&place, |pull, path| {
                others |= pull.value()?.string(path)? != "direct";
                Ok::<_, Wrong>(())
            })?;
            if others {
                self.rest(place.to_string(), callers.raw(), false);
            }
        }
        self.left(tool, path, &TOOL_HINTS);
        let schema = Some(Cow::Borrowed(schema));
        self.request.tools.push(Tool { name, description, schema, strict, cache_mark });
        Ok(())
    }

    fn tool_choice(&mut self, value: Value<'a>, path: &Path<'_>) -> Result<(), Wrong> {
        let mut choice = value.members(path)?;
        self.request.tool_choice = Some(match &*choice.string("type", path)? {
            "auto" => Choice::Auto,
            "any" => Choice::Any,
            "none" => Choice::None,
            "tool" => Choice::Named(choice.string("name", path)?),
            _ => return Err(path.key("type").wrong("must be 'auto', 'any', 'tool' or 'none'")),
        });
        if let Some(one) = choice.take("disable_parallel_tool_use") {
            self.request.parallel_tools = Some(!one.boolean(&path.key("disable_parallel_tool_use"))?);
        }
        self.left(choice, path, &[]);
        Ok(())
    }

    fn thinking(&mut self, value: Value<'a>, path: &Path<'_>) -> Result<(), Wrong> {
        let mut thinking = value.members(path)?;
        let kind = thinking.string("type", path)?;
        self.thinking = Some(match &*kind {
            "enabled" => Effort::Tokens(thinking.need("budget_tokens", path)?.whole(&path.key("budget_tokens"))?),
            "adaptive" => Effort::Own,
            "disabled" => Effort::None,
            other => {
                self.rest(path.key(other).to_string(), value.raw(), false);
                return Ok(());
            }
        });
        // Whether the thoughts are shown; they are, where they come from elsewhere.
        if let Some(display) = thinking.take("display").filter(|display| display.raw() != "\"summarized\"") {
            self.rest(path.key("display").to_string(), display.raw(), true);
        }
        self.left(thinking, path, &[]);
        Ok(())
    }

    fn format(&mut self, value: Value<'a>, path: &Path<'_>) -> Result<(), Wrong> {
        let mut format = value.members(path)?;
        if format.string("type", path)? != "json_schema" {
            return Err(path.key("type").wrong("must be 'json_schema'"));
        }
        if self.request.format.is_some() {
            return Err(path.wrong("is said twice, under its old name and its new one"));
        }
        let schema = Cow::Borrowed(format.need("schema", path)?.object(&path.key("schema"))?);
        // The API holds answers to it always.
        self.request.format = Some(Format::Schema { name: None, schema, strict: Some(true) });
        self.left(format, path, &[]);
        Ok(())
    }

    /// Keeps what nobody has asked an object for.
    fn left(&mut self, members: Members<'a>, path: &Path<'_>, hints: &[&str]) {
        for (name, value) in members.rest() {
            let hint = hints.contains(&&*name);
            // An empty list asks for nothing.
            if !(hint && value.raw() == "[]") {
                self.rest(path.key(&name).to_string(), value.raw(), hint);
            }
        }
    }

    /// Keeps what the neutral request has no place for. A hint is named without the numbers of its place: each block of each
    /// message may have the same.
    fn rest(&mut self, mut name: String, value: &'a str, hint: bool) {
        if hint && name.contains('.') {
            let is_number = |step: &&str| step.bytes().all(|byte| byte.is_ascii_digit());
            name = name.split('.').filter(|step| !is_number(step)).collect::<Vec<_>>().join(".");
        }
        Rest::keep(&mut self.request.rest, Cow::Owned(name), value, hint);
    }
}

fn effort(value: Value<'_>, path: &Path<'_>) -> Result<Effort, Wrong> {
    let word = value.string(path)?;
    Effort::of_word(&word).ok_or_else(|| path.wrong("must be 'low', 'medium', 'high', 'xhigh' or 'max'"))
}

/// Whether the value of `fallbacks` is a list of names, as the gateway's own is.
fn are_names(value: Value<'_>) -> bool {
    let path = Path::top("fallbacks");
    let names = value.elements(&path, |pull, path| pull.value()?.string(path).map(drop));
    names.is_ok()
}
