//! A neutral chat as a request to a provider that speaks OpenAI's chat completions.
//!
//! Only what the documentation of OpenAI and that of the servers that resemble it have in common is written: `system` and
//! not `developer`, `user` and not `safety_identifier`, a string where a message is one text. A stream always says its
//! tokens, which are counted.

use super::SHAPE;
use crate::error::Error;
use crate::model::chat::{
    Block, Choice, Effort, Format, Lost, Message, Names, Request, Role, Source, Tool, unsupported,
};
use crate::wire::chat::{leave_out, push, push_comma, push_escaped, push_float, push_number, push_string};

/// What a schema is called whose sender gave it no name: here it must have one.
const UNNAMED: &str = "answer";

/// From how many tokens of thought on the effort is medium, and high. Above that some models have more, and others refuse it.
const MEDIUM_FROM: u64 = 4096;
const HIGH_FROM: u64 = 16_384;

/// The longest `user`, in characters: OpenAI refuses a longer one (`string_above_max_length`), and so do others. Programs
/// that speak Anthropic's shape send some of 150 characters and more.
const LONGEST_USER: usize = 64;

/// Writes a request for `model` into `out`, which is cleared first; gives what was left out.
///
/// # Errors
/// [`Code::Unsupported`](crate::error::Code::Unsupported) that names the first thing without which the answer would be
/// another, and for which there is no place here.
pub(crate) fn write_request(request: &Request<'_>, model: &str, out: &mut Vec<u8>) -> Result<Lost, Error> {
    let mut lost = Lost::default();
    out.clear();
    push(out, "{\"model\":");
    push_string(out, model);
    push(out, ",\"messages\":[");
    let mut writer = Writer { out, lost: &mut lost, names: request.names };
    if request.system.iter().any(is_said) {
        writer.message(Role::System, &request.system, &Spot::System)?;
    }
    for (index, message) in request.messages.iter().enumerate() {
        writer.messages_of(message, request.before + index)?;
    }
    push(writer.out, "]");
    // Elsewhere a model goes on with an answer that stands last, and only what it adds comes back; here it begins another.
    let is_open = |last: &Message<'_>| last.role == Role::Assistant && last.content.iter().any(is_said);
    if request.messages.last().is_some_and(is_open) {
        let index = request.before + request.messages.len() - 1;
        return Err(unsupported(&format!("messages.{index}"), SHAPE));
    }
    writer.tools(request);
    writer.options(request, model)?;
    leave_out(&request.rest, SHAPE, writer.lost)?;
    push(out, "}");
    Ok(lost)
}

/// What the caller calls a place, for what is refused.
enum Spot {
    System,
    Message(usize),
}

impl Spot {
    fn refuse(&self, block: usize) -> Error {
        let field = match self {
            Self::System => format!("system.{block}"),
            Self::Message(index) => format!("messages.{index}.content.{block}"),
        };
        unsupported(&field, SHAPE)
    }
}

struct Writer<'w> {
    out: &'w mut Vec<u8>,
    lost: &'w mut Lost,
    names: &'static Names,
}

impl Writer<'_> {
    /// A mark for the cache. OpenAI's own models cache without one, and servers that resemble it refuse what they do not know.
    fn mark(&mut self) {
        self.lost.hint(self.names.mark);
    }

    /// The messages that one becomes: here each result of a function is one of its own, and stands right behind the calls,
    /// before what else the user says.
    fn messages_of(&mut self, message: &Message<'_>, index: usize) -> Result<(), Error> {
        let spot = Spot::Message(index);
        if message.role != Role::User {
            return self.message(message.role, &message.content, &spot);
        }
        let mut results = false;
        for (at, block) in message.content.iter().enumerate() {
            let Block::ToolResult { id, content, failed } = block else { continue };
            results = true;
            if *failed {
                self.lost.hint(self.names.failed);
            }
            self.check("tool", content, &|_| spot.refuse(at))?;
            push_comma(self.out);
            push(self.out, "{\"role\":\"tool\",\"tool_call_id\":");
            push_string(self.out, id);
            push(self.out, ",\"content\":");
            self.content(content, &|_| spot.refuse(at))?;
            push(self.out, "}");
        }
        if results && !message.content.iter().any(is_said) {
            return self.check("user", &message.content, &|at| spot.refuse(at));
        }
        self.message(Role::User, &message.content, &spot)
    }

    fn message(&mut self, role: Role, blocks: &[Block<'_>], spot: &Spot) -> Result<(), Error> {
        let name = match role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
        };
        let refuse = |at| spot.refuse(at);
        self.check(name, blocks, &refuse)?;
        push_comma(self.out);
        push(self.out, "{\"role\":\"");
        push(self.out, name);
        push(self.out, "\",\"content\":");
        let mut calls = blocks.iter().filter(|block| matches!(block, Block::ToolCall { .. })).peekable();
        if calls.peek().is_some() && !blocks.iter().any(is_said) {
            push(self.out, "null");
        } else {
            self.content(blocks, &refuse)?;
        }
        if calls.peek().is_some() {
            push(self.out, ",\"tool_calls\":[");
            calls.for_each(|call| push_call(self.out, call));
            push(self.out, "]");
        }
        push(self.out, "}");
        Ok(())
    }

    /// Looks whether all of a message has a place in one of this role; notes the hints that have none.
    fn check(&mut self, role: &str, blocks: &[Block<'_>], refuse: &dyn Fn(usize) -> Error) -> Result<(), Error> {
        for (at, block) in blocks.iter().enumerate() {
            let fits = match block {
                Block::Text(_) => true,
                Block::Image(_) | Block::Document { .. } | Block::ToolResult { .. } => role == "user",
                Block::ToolCall { .. } => role == "assistant",
                Block::CacheMark => {
                    self.mark();
                    true
                }
                // A model's thoughts are its provider's own: OpenAI's chats have no field for them, and refuse one.
                Block::Thinking { .. } | Block::HiddenThinking(_) => {
                    self.lost.hint(self.names.thoughts);
                    true
                }
            };
            if !fits {
                return Err(refuse(at));
            }
        }
        Ok(())
    }

    /// What stands in `content`. A single text is a string, as every server takes it.
    fn content(&mut self, blocks: &[Block<'_>], refuse: &dyn Fn(usize) -> Error) -> Result<(), Error> {
        let mut said = blocks.iter().filter(|block| is_said(block));
        match (said.next(), said.next()) {
            (None, _) => push(self.out, "\"\""),
            (Some(Block::Text(text)), None) => push_string(self.out, text),
            _ => {
                push(self.out, "[");
                for (at, block) in blocks.iter().enumerate().filter(|(_, block)| is_said(block)) {
                    push_comma(self.out);
                    push_part(self.out, block, self.lost, self.names).ok_or_else(|| refuse(at))?;
                }
                push(self.out, "]");
            }
        }
        Ok(())
    }

    fn tools(&mut self, request: &Request<'_>) {
        if !request.tools.is_empty() {
            push(self.out, ",\"tools\":[");
            for tool in &request.tools {
                push_tool(self.out, tool);
                if tool.cache_mark {
                    self.mark();
                }
            }
            push(self.out, "]");
        }
        match &request.tool_choice {
            // Without functions OpenAI refuses a word on how they are called, and these two ask for nothing then.
            None => {}
            Some(Choice::Auto | Choice::None) if request.tools.is_empty() => {}
            Some(Choice::Auto) => push(self.out, ",\"tool_choice\":\"auto\""),
            Some(Choice::None) => push(self.out, ",\"tool_choice\":\"none\""),
            Some(Choice::Any) => push(self.out, ",\"tool_choice\":\"required\""),
            Some(Choice::Named(name)) => {
                push(self.out, ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":");
                push_string(self.out, name);
                push(self.out, "}}");
            }
        }
        if let Some(several) = request.parallel_tools.filter(|_| !request.tools.is_empty()) {
            push(self.out, ",\"parallel_tool_calls\":");
            push(self.out, truth(several));
        }
    }

    fn options(&mut self, request: &Request<'_>, model: &str) -> Result<(), Error> {
        if request.top_k.is_some() {
            return Err(unsupported(request.names.top_k, SHAPE));
        }
        if let Some(most) = request.max_tokens {
            push(self.out, limit_key(model));
            push_number(self.out, most);
        }
        for (key, number) in [(",\"temperature\":", request.temperature), (",\"top_p\":", request.top_p)] {
            if let Some(number) = number {
                push(self.out, key);
                push_float(self.out, number);
            }
        }
        if !request.stop.is_empty() {
            push(self.out, ",\"stop\":[");
            for text in &request.stop {
                push_comma(self.out);
                push_string(self.out, text);
            }
            push(self.out, "]");
        }
        push_format(self.out, request.format.as_ref());
        // There is a word for not to think, which models before GPT-5.1 refuse, and so do those that never think.
        if request.effort == Some(Effort::None) {
            self.lost.hint(self.names.effort);
        }
        if let Some(word) = request.effort.and_then(effort) {
            push(self.out, ",\"reasoning_effort\":\"");
            push(self.out, word);
            push(self.out, "\"");
        }
        match &request.user {
            Some(user) if user.chars().count() <= LONGEST_USER => {
                push(self.out, ",\"user\":");
                push_string(self.out, user);
            }
            Some(_) => self.lost.hint(request.names.user),
            None => {}
        }
        if request.stream {
            push(self.out, ",\"stream\":true");
            if !request.usage_unasked {
                push(self.out, ",\"stream_options\":{\"include_usage\":true}");
            }
        }
        Ok(())
    }
}

/// Whether a block is a part of what a message says.
fn is_said(block: &Block<'_>) -> bool {
    matches!(block, Block::Text(_) | Block::Image(_) | Block::Document { .. })
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// Under which name the most tokens go: OpenAI calls `max_tokens` deprecated, and its models that reason refuse it, but it is
/// the one that every server which resembles it knows.
fn limit_key(model: &str) -> &'static str {
    let name = model.rsplit('/').next().unwrap_or(model);
    let reasons = name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let theirs = reasons || name.starts_with("chatgpt-") || (name.starts_with("gpt-") && !name.starts_with("gpt-oss"));
    if theirs { ",\"max_completion_tokens\":" } else { ",\"max_tokens\":" }
}

fn effort(effort: Effort) -> Option<&'static str> {
    Some(match effort {
        Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::Max => "xhigh",
        Effort::Tokens(tokens) if tokens < MEDIUM_FROM => "low",
        Effort::Tokens(tokens) if tokens < HIGH_FROM => "medium",
        Effort::Tokens(_) => "high",
        // As much as the model finds right is what it does unsaid.
        Effort::Own | Effort::None => return None,
    })
}

fn push_format(out: &mut Vec<u8>, format: Option<&Format<'_>>) {
    match format {
        None => {}
        Some(Format::Json) => push(out, ",\"response_format\":{\"type\":\"json_object\"}"),
        Some(Format::Schema { name, schema, strict }) => {
            push(out, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":");
            push_string(out, name.as_deref().unwrap_or(UNNAMED));
            push(out, ",\"schema\":");
            push(out, schema);
            push_strict(out, *strict);
            push(out, "}}");
        }
    }
}

fn push_strict(out: &mut Vec<u8>, strict: Option<bool>) {
    if let Some(strict) = strict {
        push(out, ",\"strict\":");
        push(out, truth(strict));
    }
}

fn push_tool(out: &mut Vec<u8>, tool: &Tool<'_>) {
    push_comma(out);
    push(out, "{\"type\":\"function\",\"function\":{\"name\":");
    push_string(out, &tool.name);
    if let Some(description) = &tool.description {
        push(out, ",\"description\":");
        push_string(out, description);
    }
    if let Some(schema) = &tool.schema {
        push(out, ",\"parameters\":");
        push(out, schema);
    }
    push_strict(out, tool.strict);
    push(out, "}}");
}

/// Appends a call of a function. Arguments that are empty become an object: whoever reads them reads JSON.
pub(super) fn push_call(out: &mut Vec<u8>, call: &Block<'_>) {
    let Block::ToolCall { id, name, arguments } = call else { return };
    push_comma(out);
    push(out, "{\"id\":");
    push_string(out, id);
    push(out, ",\"type\":\"function\",\"function\":{\"name\":");
    push_string(out, name);
    push(out, ",\"arguments\":");
    push_string(out, if arguments.is_empty() { "{}" } else { arguments });
    push(out, "}}");
}

/// Appends a part of a message; `None` if it cannot be one.
fn push_part(out: &mut Vec<u8>, block: &Block<'_>, lost: &mut Lost, names: &Names) -> Option<()> {
    match block {
        Block::Text(text) => push_text(out, text),
        Block::Image(Source::Url(url)) => {
            push(out, "{\"type\":\"image_url\",\"image_url\":{\"url\":");
            push_string(out, url);
            push(out, "}}");
        }
        Block::Image(Source::Data { media_type, data }) => {
            push(out, "{\"type\":\"image_url\",\"image_url\":{\"url\":");
            push_data(out, media_type, data);
            push(out, "}}");
        }
        Block::Document { source: Source::Data { media_type, data }, name } => {
            push(out, "{\"type\":\"file\",\"file\":{\"filename\":");
            // The documentation has it beside `file_data` always.
            push_string(out, name.as_deref().unwrap_or("document.pdf"));
            push(out, ",\"file_data\":");
            push_data(out, media_type, data);
            push(out, "}}");
        }
        // Files are PDFs for most models; words can be said as what they are.
        Block::Document { source: Source::Text(text), name } => {
            if name.is_some() {
                lost.hint(names.title);
            }
            push_text(out, text);
        }
        _ => return None,
    }
    Some(())
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    push(out, "{\"type\":\"text\",\"text\":");
    push_string(out, text);
    push(out, "}");
}

fn push_data(out: &mut Vec<u8>, media_type: &str, data: &str) {
    push(out, "\"data:");
    push_escaped(out, media_type);
    push(out, ";base64,");
    push_escaped(out, data);
    push(out, "\"");
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::error::Code;
    use crate::model::chat::Rest;

    fn said(role: Role, content: Vec<Block<'static>>) -> Request<'static> {
        Request { names: &Names::ANTHROPIC, messages: vec![Message { role, content }], ..Request::default() }
    }

    fn text(text: &'static str) -> Block<'static> {
        Block::Text(text.into())
    }

    fn written(request: &Request<'_>, model: &str) -> (Value, Lost) {
        let mut out = b"left over".to_vec();
        let lost = write_request(request, model, &mut out).expect("it can be told");
        (serde_json::from_slice(&out).expect("JSON"), lost)
    }

    #[test]
    fn results_of_functions_come_first_and_each_by_itself() {
        let result = |id: &'static str, failed| Block::ToolResult { id: id.into(), content: vec![text(id)], failed };
        let request = said(Role::User, vec![text("now"), result("a", false), Block::CacheMark, result("b", true)]);
        let (body, lost) = written(&request, "m");
        let wanted = json!([
            {"role":"tool","tool_call_id":"a","content":"a"},
            {"role":"tool","tool_call_id":"b","content":"b"},
            {"role":"user","content":"now"},
        ]);
        assert_eq!(body["messages"], wanted);
        assert_eq!(lost.names(), ["is_error", "cache_control"]);
        let alone = said(Role::User, vec![result("a", false)]);
        assert_eq!(written(&alone, "m").0["messages"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn thoughts_are_left_out_and_named() {
        let thought = Block::Thinking { text: "hm".into(), signature: Some("s".into()) };
        let mut request = said(Role::Assistant, vec![thought, text("a"), text("b")]);
        request.messages.push(Message { role: Role::User, content: vec![text("c")] });
        let (body, lost) = written(&request, "m");
        let parts = json!([{"type":"text","text":"a"},{"type":"text","text":"b"}]);
        assert_eq!(body["messages"][0], json!({"role":"assistant","content":parts}));
        assert_eq!(lost.names(), ["thinking"]);
    }

    #[test]
    fn nothing_is_said_of_functions_that_are_not_there_nor_of_thoughts_that_are_not_wanted() {
        let request = |tool_choice| Request {
            tool_choice: Some(tool_choice),
            parallel_tools: Some(true),
            effort: Some(Effort::None),
            ..said(Role::User, vec![text("x")])
        };
        for (choice, wanted) in
            [(Choice::Auto, Value::Null), (Choice::None, Value::Null), (Choice::Any, json!("required"))]
        {
            let (mut body, lost) = written(&request(choice), "gpt-4o");
            assert_eq!(body["tool_choice"].take(), wanted);
            assert_eq!((body.get("parallel_tool_calls"), body.get("reasoning_effort")), (None, None));
            assert_eq!(lost.names(), ["thinking"]);
        }
    }

    #[test]
    fn a_user_whose_name_is_too_long_is_left_out_and_named() {
        for (length, names) in [(64, &[][..]), (65, &["metadata.user_id"])] {
            let user = Some("\u{e9}".repeat(length).into());
            let request = Request { user, names: &Names::ANTHROPIC, ..Request::default() };
            let (body, lost) = written(&request, "m");
            assert_eq!(body.get("user").is_some(), names.is_empty(), "{length}");
            assert_eq!(lost.names(), names);
        }
    }

    #[test]
    fn arguments_that_are_empty_become_an_object() {
        let call = Block::ToolCall { id: "c".into(), name: "f".into(), arguments: "".into() };
        let (body, _) = written(&said(Role::Assistant, vec![call]), "m");
        let call = json!({"id":"c","type":"function","function":{"name":"f","arguments":"{}"}});
        assert_eq!(body["messages"][0], json!({"role":"assistant","content":null,"tool_calls":[call]}));
    }

    #[test]
    fn what_has_no_place_is_refused_by_the_callers_name_for_it() {
        let image = || Block::Image(Source::Url("http://x".into()));
        let inside = Block::ToolResult { id: "a".into(), content: vec![text("x"), image()], failed: false };
        let linked = Block::Document { source: Source::Url("http://x".into()), name: None };
        let system = Request { system: vec![text("a"), image()], ..Request::default() };
        let top_k = Request { top_k: Some(5), ..Request::default() };
        let rest = Rest { name: "container".into(), value: "1".into(), hint: false };
        for (request, field) in [
            (said(Role::User, vec![text("a"), inside]), "messages.0.content.1"),
            (said(Role::User, vec![linked]), "messages.0.content.0"),
            (said(Role::Assistant, vec![image()]), "messages.0.content.0"),
            (said(Role::System, vec![image()]), "messages.0.content.0"),
            (system, "system.1"),
            (said(Role::Assistant, vec![text("{")]), "messages.0"),
            (top_k, "top_k"),
            (Request { rest: vec![rest], ..Request::default() }, "container"),
        ] {
            let error = write_request(&request, "m", &mut Vec::new()).expect_err(field);
            assert_eq!((error.code(), error.param()), (Code::Unsupported, Some(field)));
        }
    }

    #[test]
    fn the_limit_has_the_name_that_the_model_takes() {
        let request = Request { max_tokens: Some(7), ..Request::default() };
        for model in ["gpt-5.2", "o3-mini", "openai/gpt-4o", "chatgpt-4o-latest"] {
            assert_eq!(written(&request, model).0["max_completion_tokens"], 7, "{model}");
        }
        for model in ["llama-3.3-70b", "openai/gpt-oss-120b", "mistral-large", "olmo-2", ""] {
            assert_eq!(written(&request, model).0["max_tokens"], 7, "{model}");
        }
    }

    #[test]
    fn tokens_of_thought_become_an_effort_that_every_model_which_reasons_takes() {
        for (tokens, word) in [(1024, "low"), (4095, "low"), (4096, "medium"), (16_383, "medium"), (16_384, "high")] {
            let request = Request { effort: Some(Effort::Tokens(tokens)), ..Request::default() };
            assert_eq!(written(&request, "m").0["reasoning_effort"], word, "{tokens}");
        }
        let own = Request { effort: Some(Effort::Own), ..Request::default() };
        assert_eq!(written(&own, "m").0.get("reasoning_effort"), None);
    }

    #[test]
    fn words_of_a_document_are_said_and_its_bytes_are_a_file() {
        let words = Block::Document { source: Source::Text("all".into()), name: Some("t".into()) };
        let data = Source::Data { media_type: "application/pdf".into(), data: "QUJD".into() };
        let (body, lost) = written(&said(Role::User, vec![words, Block::Document { source: data, name: None }]), "m");
        let file = json!({"filename":"document.pdf","file_data":"data:application/pdf;base64,QUJD"});
        let wanted = json!([{"type":"text","text":"all"},{"type":"file","file":file}]);
        assert_eq!(body["messages"][0]["content"], wanted);
        assert_eq!(lost.names(), ["title"]);
    }
}
