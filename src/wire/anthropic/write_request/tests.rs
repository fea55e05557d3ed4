//! What requests become, and what is refused or left out.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::*;
use crate::error::Code;
use crate::model::chat::{Block, Message, Rest, Role, Source};
use crate::wire::anthropic::words::call_id;
use crate::wire::anthropic::{golden, read_request};

const OLD: &str = "claude-sonnet-4-5";
const NEW: &str = "claude-opus-4-8";

fn write(request: &Request<'_>, model: &str) -> Result<(Value, Lost), Error> {
    let mut out = b"left over".to_vec();
    let lost = write_request(request, model, &mut out)?;
    Ok((serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out))), lost))
}

fn written(request: &Request<'_>) -> Value {
    write(request, OLD).expect("it can be said").0
}

/// What a conversation becomes.
fn turns(messages: Vec<Message<'_>>) -> Value {
    written(&Request { messages, ..Request::default() })["messages"].take()
}

fn refused(request: &Request<'_>) -> String {
    let error = write(request, OLD).expect_err("it cannot be said");
    assert_eq!(error.code(), Code::Unsupported);
    error.param().unwrap_or_default().to_owned()
}

fn text(text: &str) -> Block<'_> {
    Block::Text(text.into())
}

fn user<'a>(content: impl Into<Vec<Block<'a>>>) -> Message<'a> {
    Message { role: Role::User, content: content.into() }
}

fn assistant<'a>(content: impl Into<Vec<Block<'a>>>) -> Message<'a> {
    Message { role: Role::Assistant, content: content.into() }
}

fn system(words: &str) -> Message<'_> {
    Message { role: Role::System, content: vec![text(words)] }
}

fn result<'a>(id: &'a str, said: &'a str) -> Block<'a> {
    Block::ToolResult { id: id.into(), content: vec![text(said)], failed: false }
}

fn call<'a>(id: &'a str, arguments: &'a str) -> Block<'a> {
    Block::ToolCall { id: id.into(), name: "f".into(), arguments: arguments.into() }
}

#[test]
fn what_is_read_is_written_as_it_was() {
    for (body, model) in [(golden::REQUEST_TEXT, OLD), (golden::REQUEST_TOOLS, OLD), (golden::REQUEST_MEDIA, NEW)] {
        let request = read_request(body.as_bytes()).expect("good");
        // Nothing is thought while a function must be called.
        let tool_choice = request.tool_choice.clone().map(|_| Choice::Auto);
        let request = Request { tool_choice, ..request };
        let (sent, lost) = write(&request, model).expect("it can be said");
        assert_eq!(lost, Lost::default());
        let again = sent.to_string();
        let again = read_request(again.as_bytes()).expect("good");
        // A schema is said in other spaces, and thoughts are asked to be shown: that is all.
        let squeezed = |text: &Option<Cow<'_, str>>| text.as_deref().map(|t| t.replace(' ', ""));
        assert_eq!(again.messages.len(), request.messages.len());
        assert_eq!(
            (again.system, again.tool_choice, again.parallel_tools, again.effort, again.stop, again.user),
            (request.system, request.tool_choice, request.parallel_tools, request.effort, request.stop, request.user),
        );
        for (again, first) in again.tools.iter().zip(&request.tools) {
            assert_eq!((&again.name, again.cache_mark), (&first.name, first.cache_mark));
            assert_eq!((squeezed(&again.schema), again.strict), (squeezed(&first.schema), first.strict));
        }
        for (again, first) in again.messages.iter().zip(&request.messages) {
            let plain = |blocks: &[Block<'_>]| format!("{blocks:?}").replace(' ', "");
            assert_eq!((again.role, plain(&again.content)), (first.role, plain(&first.content)));
        }
    }
}

#[test]
fn every_field_has_its_name() {
    let request = Request {
        system: vec![text("Be brief.")],
        messages: vec![user([text("hi")])],
        tools: vec![
            Tool {
                name: "f".into(),
                description: Some("does f".into()),
                schema: Some(r#"{"type":"object"}"#.into()),
                strict: Some(true),
                cache_mark: true,
            },
            Tool { name: "g".into(), description: None, schema: None, strict: Some(false), cache_mark: false },
        ],
        tool_choice: Some(Choice::Named("f".into())),
        parallel_tools: Some(false),
        max_tokens: Some(100),
        temperature: Some(0.25),
        top_p: Some(0.5),
        top_k: Some(3),
        stop: vec!["END".into(), "\n".to_owned().into()],
        user: Some("u".into()),
        stream: true,
        ..Request::default()
    };
    assert_eq!(refused(&request), "stop", "space alone ends nothing");
    let request = Request { stop: vec!["END".into()], ..request };
    let wanted = json!({
        "model": OLD, "max_tokens": 100, "system": "Be brief.",
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [
            {"name": "f", "description": "does f", "input_schema": {"type": "object"}, "strict": true,
                "cache_control": {"type": "ephemeral"}},
            {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        ],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
        "stop_sequences": ["END"], "temperature": 0.25, "top_p": 0.5, "top_k": 3,
        "metadata": {"user_id": "u"}, "stream": true,
    });
    assert_eq!(written(&request), wanted);
    let plain = Request { messages: vec![user([text("hi")])], ..Request::default() };
    let wanted = json!({"model": OLD, "max_tokens": 4096, "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(written(&plain), wanted, "what is not said is not written, but for max_tokens");
}

#[test]
fn how_functions_are_called_is_said_only_where_there_are_some() {
    let tool = || Tool { name: "f".into(), description: None, schema: None, strict: None, cache_mark: false };
    let choice = |tools: Vec<Tool<'static>>, tool_choice: Option<Choice<'static>>, parallel_tools| {
        written(&Request { tools, tool_choice, parallel_tools, ..Request::default() })["tool_choice"].take()
    };
    assert_eq!(choice(vec![], Some(Choice::Auto), Some(false)), Value::Null);
    assert_eq!(choice(vec![], Some(Choice::Any), None), json!({"type": "any"}), "the API refuses it");
    assert_eq!(choice(vec![tool()], None, Some(true)), Value::Null);
    assert_eq!(choice(vec![tool()], None, Some(false)), json!({"type": "auto", "disable_parallel_tool_use": true}));
    assert_eq!(choice(vec![tool()], Some(Choice::None), Some(false)), json!({"type": "none"}));
}

#[test]
fn neighbours_become_one_turn_with_results_first() {
    let messages = vec![
        user([text("a")]),
        user([text("b")]),
        assistant([call("t1", ""), call("t2", r#"{"x":1}"#)]),
        user([text("meanwhile")]),
        user([result("t1", "one")]),
        user([result("t2", "two"), text("go on")]),
    ];
    let wanted = json!([
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
            {"type": "tool_use", "id": "t2", "name": "f", "input": {"x": 1}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "one"},
            {"type": "tool_result", "tool_use_id": "t2", "content": "two"},
            {"type": "text", "text": "meanwhile"},
            {"type": "text", "text": "go on"},
        ]},
    ]);
    assert_eq!(turns(messages), wanted);
}

#[test]
fn texts_of_space_alone_go_and_so_does_a_turn_of_nothing_else() {
    let messages = vec![
        user([text("a"), text(" \n")]),
        assistant([text("")]),
        user([Block::ToolResult { id: "t".into(), content: vec![text("")], failed: true }]),
        assistant([text("b  "), text("so: \n")]),
    ];
    let wanted = json!([
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "is_error": true}, {"type": "text", "text": "a"},
        ]},
        {"role": "assistant", "content": [{"type": "text", "text": "b  "}, {"type": "text", "text": "so:"}]},
    ]);
    assert_eq!(turns(messages), wanted, "and an answer that is to be continued ends in no space");
    assert_eq!(turns(vec![assistant([text("x ")])]), json!([{"role": "assistant", "content": "x"}]));
    assert_eq!(turns(vec![user([text("x ")])]), json!([{"role": "user", "content": "x "}]));
}

#[test]
fn what_the_system_says_in_the_middle_keeps_its_authority() {
    let request = Request {
        system: vec![text("first"), Block::CacheMark],
        messages: vec![user([text("a")]), system("later"), user([text("b")]), system(" ")],
        ..Request::default()
    };
    let sent = written(&request);
    let wanted = json!([
        {"type": "text", "text": "first", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "later"},
    ]);
    assert_eq!(sent["system"], wanted);
    let turn = json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);
    assert_eq!(sent["messages"], turn);
    let image = Message { role: Role::System, content: vec![Block::Image(Source::Url("u".into()))] };
    let request = Request { messages: vec![user([text("a")]), image], ..Request::default() };
    assert_eq!(refused(&request), "messages.1.content");
    assert_eq!(refused(&Request { before: 2, ..request }), "messages.3.content", "as the caller counts them");
}

#[test]
fn pictures_and_documents_stand_where_they_can() {
    let data = |media: &'static str, data: &'static str| Source::Data { media_type: media.into(), data: data.into() };
    let document = |source, name: Option<&'static str>| Block::Document { source, name: name.map(Cow::Borrowed) };
    let content = [
        Block::Image(data("image/png", "AA==")),
        Block::CacheMark,
        document(data("application/pdf", "BB=="), Some("d")),
        document(data("text/markdown", "IyBoaQ=="), None),
        Block::ToolResult { id: "t.1".into(), content: vec![Block::Image(Source::Url("u".into()))], failed: false },
    ];
    let wanted = json!([
        {"type": "tool_result", "tool_use_id": call_id("t.1"), "content": [
            {"type": "image", "source": {"type": "url", "url": "u"}}]},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
            "cache_control": {"type": "ephemeral"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BB=="},
            "title": "d"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "# hi"}},
    ]);
    assert_eq!(turns(vec![user(content)])[0]["content"], wanted);
    for block in [document(data("application/msword", "AA=="), None), document(data("text/csv", "gA=="), None)] {
        let request = Request { messages: vec![user([text("a")]), user([block])], ..Request::default() };
        assert_eq!(refused(&request), "messages.1.content", "no document of text");
    }
}

#[test]
fn thoughts_go_back_with_their_signature_and_are_lost_without() {
    let thought = |signature: Option<&'static str>| Block::Thinking {
        text: "hm".into(),
        signature: signature.map(Cow::Borrowed),
    };
    let messages = vec![assistant([
        thought(Some("s")),
        Block::HiddenThinking("x".into()),
        Block::CacheMark,
        thought(None),
        text("a"),
    ])];
    let (sent, lost) = write(&Request { messages, ..Request::default() }, OLD).expect("it can be said");
    let wanted = json!([
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "a"},
    ]);
    assert_eq!(sent["messages"][0]["content"], wanted, "and a mark that only thoughts are before is none");
    assert_eq!(lost.names(), ["reasoning_content"]);
}

#[test]
fn a_model_is_told_how_much_to_think_in_its_own_way() {
    let sent = |effort, max_tokens, model: &str| {
        let request = Request { effort: Some(effort), max_tokens, ..Request::default() };
        let (mut sent, lost) = write(&request, model).expect("it can be said");
        let lost = lost.names().join(",");
        (sent["thinking"].take(), sent["output_config"]["effort"].take(), sent["max_tokens"].as_u64(), lost)
    };
    let budget = |tokens: u64| json!({"type": "enabled", "budget_tokens": tokens});
    for (effort, max, wanted) in [
        (Effort::Low, Some(8000), budget(1024)),
        (Effort::Medium, Some(8000), budget(4096)),
        (Effort::High, Some(8000), budget(7999)),
        (Effort::Max, Some(64_000), budget(32_768)),
        (Effort::Tokens(2000), Some(8000), budget(2000)),
        (Effort::None, Some(8000), Value::Null),
    ] {
        assert_eq!(sent(effort, max, OLD), (wanted, Value::Null, max, String::new()), "{effort:?}");
    }
    let none = (Value::Null, Value::Null, Some(1024), "reasoning_effort".to_owned());
    assert_eq!(sent(Effort::Low, Some(1024), OLD), none, "there is no room");
    assert_eq!(sent(Effort::High, None, OLD).2, Some(20_480), "the answer has its 4096 beside the thoughts");
    assert_eq!(sent(Effort::Max, None, OLD).2, Some(32_000), "and no more than every model gives");
    let adaptive = json!({"type": "adaptive", "display": "summarized"});
    for (effort, wanted) in [(Effort::Minimal, json!("low")), (Effort::Max, json!("max")), (Effort::Own, Value::Null)] {
        assert_eq!(sent(effort, Some(9), NEW), (adaptive.clone(), wanted, Some(9), String::new()), "{effort:?}");
    }
    assert_eq!(sent(Effort::None, Some(9), NEW).0, json!({"type": "disabled"}));
}

#[test]
fn nothing_is_thought_in_the_middle_of_a_turn_whose_thoughts_are_not_there() {
    let thought =
        |signature: Option<&'static str>| Block::Thinking { text: "hm".into(), signature: signature.map(Into::into) };
    let (asked, done, again) = (user([text("q")]), assistant([text("a")]), user([text("again")]));
    let (called, returned) = (assistant([text("I look."), call("c", "{}")]), user([result("c", "r")]));
    let sealed = assistant([thought(Some("s")), call("c", "{}")]);
    let open = assistant([thought(None), call("c", "{}")]);
    for (messages, thinks) in [
        (vec![asked.clone()], true),
        (vec![asked.clone(), called.clone(), returned.clone()], false),
        (vec![asked.clone(), open.clone(), returned.clone(), system("x"), again.clone()], false),
        (vec![asked.clone(), sealed.clone(), returned.clone()], true),
        (vec![asked.clone(), sealed, returned.clone(), called.clone(), returned.clone()], true),
        (vec![asked, called, returned, done, again], true),
    ] {
        let request = Request { effort: Some(Effort::High), messages, ..Request::default() };
        let (sent, lost) = write(&request, OLD).expect("it can be said");
        assert_eq!(sent.get("thinking").is_some(), thinks, "{sent}");
        assert_eq!(lost.names().iter().any(|name| name == "reasoning_effort"), !thinks);
        assert_eq!(write(&request, NEW).expect("it can be said").0["thinking"]["type"], "adaptive");
    }
}

#[test]
fn nothing_is_thought_while_a_function_must_be_called() {
    let tool = Tool { name: "f".into(), description: None, schema: None, strict: None, cache_mark: false };
    for (choice, thinks) in [(Choice::Auto, true), (Choice::Any, false), (Choice::Named("f".into()), false)] {
        let tools = vec![tool.clone()];
        let request = Request { tools, tool_choice: Some(choice), effort: Some(Effort::High), ..Request::default() };
        for model in [OLD, NEW] {
            let (sent, lost) = write(&request, model).expect("it can be said");
            assert_eq!((sent.get("thinking").is_some(), lost.names().is_empty()), (thinks, thinks), "{sent}");
        }
        assert_eq!(write(&request, NEW).expect("it can be said").0["output_config"]["effort"], "high");
    }
}

#[test]
fn a_schema_is_held_to_and_what_cannot_be_said_is_refused_by_name() {
    let format = |format| Request { format: Some(format), ..Request::default() };
    let schema = Format::Schema { name: Some("n".into()), schema: r#"{"type":"object"}"#.into(), strict: None };
    let wanted = json!({"format": {"type": "json_schema", "schema": {"type": "object"}}});
    assert_eq!(written(&format(schema.clone()))["output_config"], wanted);
    let both = Request { effort: Some(Effort::High), ..format(schema) };
    let (sent, _) = write(&both, NEW).expect("it can be said");
    assert_eq!(
        (&sent["output_config"]["effort"], &sent["output_config"]["format"]),
        (&json!("high"), &wanted["format"])
    );
    assert_eq!(refused(&format(Format::Json)), "response_format");
    let bad = Request { messages: vec![assistant([call("a", "{")])], ..Request::default() };
    let error = write(&bad, OLD).expect_err("it is no object");
    assert_eq!((error.code(), error.param()), (Code::InvalidRequest, Some("messages.0.tool_calls")));
    let rest = |hint| Rest { name: "seed".into(), value: "1".into(), hint };
    assert_eq!(refused(&Request { rest: vec![rest(true), rest(false)], ..Request::default() }), "seed");
}

#[test]
fn hints_are_left_out_and_named() {
    let rest = vec![Rest { name: "seed".into(), value: "1".into(), hint: true }];
    let request = Request { rest, temperature: Some(1.5), ..Request::default() };
    let (sent, lost) = write(&request, OLD).expect("it can be said");
    assert_eq!((&sent["temperature"], lost.names()), (&json!(1.0), &["seed".to_owned(), "temperature".to_owned()][..]));
}
