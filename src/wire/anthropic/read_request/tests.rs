//! What is read of requests, and what is refused.

use super::*;
use crate::error::Code;
use crate::model::chat::{Message, Names, Role, Source};
use crate::wire::anthropic::golden;

fn read(text: &str) -> Request<'_> {
    read_request(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn with(members: &str) -> String {
    format!(r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"hi"}}]{members}}}"#)
}

fn said(messages: &str) -> String {
    format!(r#"{{"model":"m","max_tokens":9,"messages":[{messages}]}}"#)
}

fn text(text: &str) -> Block<'_> {
    Block::Text(text.into())
}

#[test]
fn a_chat_of_texts_is_read_whole() {
    let request = read(golden::REQUEST_TEXT);
    let message = |role, words| Message { role, content: vec![text(words)] };
    let wanted = Request {
        system: vec![text("You answer in one sentence.")],
        messages: vec![
            message(Role::User, "Which river does the Aare flow into?"),
            message(Role::Assistant, "The Rhine."),
            message(Role::User, "And the Reuss?"),
        ],
        max_tokens: Some(1024),
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40),
        stop: vec!["\n\nHuman:".into()],
        user: Some("u-13".into()),
        stream: true,
        stream_usage: true,
        names: &Names::ANTHROPIC,
        ..Request::default()
    };
    assert_eq!(request, wanted);
}

#[test]
fn tools_calls_results_and_thoughts_are_read_in_their_order() {
    let request = read(golden::REQUEST_TOOLS);
    assert_eq!(request.system, [text("You know the weather."), text("A long manual."), Block::CacheMark]);
    let tool = &request.tools[0];
    assert_eq!((&*tool.name, tool.strict, tool.cache_mark), ("get_weather", Some(true), true));
    assert!(tool.schema.as_deref().is_some_and(|schema| schema.starts_with(r#"{ "type": "object""#)));
    assert_eq!((&*request.tools[1].name, request.tools[1].strict), ("now", None));
    assert_eq!((&request.tool_choice, request.parallel_tools), (&Some(Choice::Any), Some(false)));
    assert_eq!(request.effort, Some(Effort::Tokens(1500)));
    let call = |id: &'static str, arguments: &'static str| Block::ToolCall {
        id: id.into(),
        name: "get_weather".into(),
        arguments: arguments.into(),
    };
    let wanted = [
        Block::Thinking { text: "Both are needed.".into(), signature: Some("EqQBCgIYAhIM".into()) },
        Block::HiddenThinking("EmwKAhgBEgy3va3pzix".into()),
        text("I look both up."),
        call("toolu_01A", r#"{ "city": "Oslo" }"#),
        call("toolu_01B", r#"{"city":"Bern"}"#),
    ];
    assert_eq!(request.messages[1].content, wanted);
    let result = |id: &'static str, said: &'static str, failed| Block::ToolResult {
        id: id.into(),
        content: vec![text(said)],
        failed,
    };
    let wanted = [
        result("toolu_01A", "4 degrees", false),
        result("toolu_01B", "no such city", true),
        Block::CacheMark,
        text("Go on."),
    ];
    assert_eq!(request.messages[2].content, wanted);
    assert_eq!(request.rest, []);
}

#[test]
fn pictures_and_documents_are_read_wherever_they_are() {
    let request = read(golden::REQUEST_MEDIA);
    let data = |media: &'static str, data: &'static str| Source::Data { media_type: media.into(), data: data.into() };
    let document = |source, name: Option<&'static str>| Block::Document { source, name: name.map(Cow::Borrowed) };
    let wanted = [
        Block::Image(data("image/png", "iVBORw0KGgo=")),
        Block::Image(Source::Url("https://example.com/a.jpg".into())),
        document(data("application/pdf", "JVBERi0="), Some("A manual")),
        document(Source::Text("Plain words.".into()), None),
        document(Source::Url("https://example.com/b.pdf".into()), None),
        text("What do they show?"),
        Block::CacheMark,
    ];
    assert_eq!(request.messages[0].content, wanted);
    assert_eq!(request.effort, Some(Effort::Medium));
    assert!(matches!(request.format, Some(Format::Schema { name: None, strict: Some(true), .. })));
    assert_eq!(request.rest, []);
}

#[test]
fn how_much_is_thought_is_one_word() {
    for (members, wanted, lost) in [
        (r#","thinking":{"type":"disabled"}"#, Some(Effort::None), None),
        (r#","thinking":{"type":"adaptive"}"#, Some(Effort::Own), None),
        (r#","thinking":{"type":"adaptive"},"output_config":{"effort":"xhigh"}"#, Some(Effort::Max), None),
        (r#","output_config":{"effort":"low"}"#, Some(Effort::Low), None),
        (
            r#","output_config":{"effort":"low"},"thinking":{"type":"enabled","budget_tokens":2000}"#,
            Some(Effort::Tokens(2000)),
            Some("output_config.effort"),
        ),
        (r#","thinking":{"type":"adaptive","display":"omitted"}"#, Some(Effort::Own), Some("thinking.display")),
        (r#","thinking":{"type":"adaptive","display":"summarized"}"#, Some(Effort::Own), None),
        (r#","thinking":null,"output_config":{"effort":null,"format":null}"#, None, None),
    ] {
        let body = with(members);
        let request = read(&body);
        assert_eq!(request.effort, wanted, "{members}");
        let names: Vec<_> = request.rest.iter().map(|rest| (&*rest.name, rest.hint)).collect();
        assert_eq!(names, lost.map(|name| (name, true)).into_iter().collect::<Vec<_>>(), "{members}");
    }
}

#[test]
fn what_no_other_shape_has_is_kept_by_its_name_and_hints_are_told_from_the_rest() {
    for (members, name, hint) in [
        (r#","service_tier":"auto""#, "service_tier", true),
        (r#","speed":"fast""#, "speed", true),
        (r#","inference_geo":"eu""#, "inference_geo", false),
        (r#","container":"c_1""#, "container", false),
        (r#","mcp_servers":[{"url":"x"}]"#, "mcp_servers", false),
        (r#","something_new":1"#, "something_new", false),
        (r#","metadata":{"team":"a"}"#, "metadata.team", false),
        (r#","fallbacks":"default""#, "fallbacks", false),
        (r#","fallbacks":[{"model":"b"}]"#, "fallbacks", false),
        (r#","output_config":{"task_budget":{"total":5}}"#, "output_config.task_budget", true),
        (r#","thinking":{"type":"between_tools"}"#, "thinking.between_tools", false),
        (r#","cache_control":{"type":"ephemeral","ttl":"1h"}"#, "cache_control.ttl", true),
        (r#","tools":[{"type":"web_search_20250305","name":"web_search"}]"#, "tools.0.web_search_20250305", false),
        (r#","tools":[{"name":"f","input_schema":{},"input_examples":[{"a":1}]}]"#, "tools.input_examples", true),
        (
            r#","tools":[{"name":"f","input_schema":{},"allowed_callers":["direct","code_execution_20260120"]}]"#,
            "tools.0.allowed_callers",
            false,
        ),
    ] {
        let body = with(members);
        let rest = read(&body).rest;
        assert_eq!(rest.len(), 1, "{members}");
        assert_eq!((&*rest[0].name, rest[0].hint), (name, hint), "{members}");
    }
    for (block, name, hint) in [
        (r#"{"type":"search_result","title":"t"}"#, "messages.0.content.0.search_result", false),
        (r#"{"type":"image","source":{"type":"file","file_id":"f"}}"#, "messages.0.content.0.source.file", false),
        (
            r#"{"type":"document","source":{"type":"url","url":"u"},"citations":{"enabled":true}}"#,
            "messages.0.content.0.citations",
            false,
        ),
        (
            r#"{"type":"document","source":{"type":"url","url":"u"},"context":"c"}"#,
            "messages.0.content.0.context",
            false,
        ),
        (r#"{"type":"text","text":"a","citations":[{"x":1}]}"#, "messages.content.citations", true),
    ] {
        let body = said(&format!(r#"{{"role":"user","content":[{block}]}}"#));
        let rest = read(&body).rest;
        assert_eq!(rest.len(), 1, "{block}");
        assert_eq!((&*rest[0].name, rest[0].hint), (name, hint), "{block}");
    }
    let ours = with(
        r#","fallbacks":["a/b"],"stop_sequences":null,"tools":[{"name":"f","input_schema":{},"allowed_callers":["direct"],"type":null}]"#,
    );
    assert_eq!(read(&ours).rest, [], "the gateway's own, null, and what says the usual");
}

#[test]
fn the_system_may_speak_first_and_in_the_middle() {
    let body = said(
        r#"{"role":"system","content":"first"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"mid_conv_system","content":[{"type":"text","text":"now"}],"cache_control":{"type":"ephemeral"}},{"type":"text","text":"b"}]},{"role":"system","content":"later"}"#,
    );
    let request = read(&body);
    assert_eq!(request.system, [text("first")]);
    let heard: Vec<_> = request.messages.iter().map(|message| (message.role, &message.content[..])).collect();
    let wanted: [(Role, &[Block<'_>]); 4] = [
        (Role::User, &[text("a")]),
        (Role::System, &[text("now"), Block::CacheMark]),
        (Role::User, &[text("b")]),
        (Role::System, &[text("later")]),
    ];
    assert_eq!(heard, wanted);
    let marked = with(r#","cache_control":{"type":"ephemeral"}"#);
    assert_eq!(read(&marked).messages[0].content, [text("hi"), Block::CacheMark]);
}

#[test]
fn an_error_names_the_field() {
    let user = |content: &str| said(&format!(r#"{{"role":"user","content":{content}}}"#));
    for (body, field) in [
        (r#"{"model":"m","max_tokens":9}"#.to_owned(), "messages"),
        (with(r#","max_tokens":9"#), "max_tokens"),
        (with(r#","temperature":"hot""#), "temperature"),
        (with(r#","top_k":0.5"#), "top_k"),
        (with(r#","stop_sequences":["a",5]"#), "stop_sequences.1"),
        (with(r#","system":5"#), "system"),
        (with(r#","system":[{"type":"image","source":{"type":"url","url":"u"}}]"#), "system"),
        (with(r#","tool_choice":{"type":"tool"}"#), "tool_choice.name"),
        (with(r#","tool_choice":{"type":"maybe"}"#), "tool_choice.type"),
        (with(r#","thinking":{"type":"enabled"}"#), "thinking.budget_tokens"),
        (with(r#","output_config":{"effort":"some"}"#), "output_config.effort"),
        (with(r#","output_config":{"format":{"type":"json_schema"}}"#), "output_config.format.schema"),
        (with(r#","tools":[{"name":"f"}]"#), "tools.0.input_schema"),
        (with(r#","tools":[{"name":"f","input_schema":5}]"#), "tools.0.input_schema"),
        (said(r#"{"role":"user"}"#), "messages.0.content"),
        (said(r#"{"content":"a"}"#), "messages.0.role"),
        (said(r#"{"role":"tool","content":"a"}"#), "messages.0.role"),
        (said("5"), "messages.0"),
        (user("5"), "messages.0.content"),
        (user(r#"[{"text":"a"}]"#), "messages.0.content.0.type"),
        (user(r#"[{"type":"text","text":"a"},{"type":"text"}]"#), "messages.0.content.1.text"),
        (user(r#"[{"type":"text","text":"\ud800"}]"#), "messages.0.content.0.text"),
        (user(r#"[{"type":"text","text":"a","text":"b"}]"#), "messages.0.content.0.text"),
        (user(r#"[{"type":"tool_use","id":"a","name":"f","input":{}}]"#), "messages.0.content"),
        (
            user(r#"[{"type":"text","text":"a","cache_control":{"type":"x"}}]"#),
            "messages.0.content.0.cache_control.type",
        ),
        (said(r#"{"role":"assistant","content":[{"type":"tool_result","tool_use_id":"a"}]}"#), "messages.0.content"),
        (
            said(r#"{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":"x"}]}"#),
            "messages.0.content.0.input",
        ),
    ] {
        let error = read_request(body.as_bytes()).expect_err(&body);
        assert_eq!((error.code(), error.param()), (Code::InvalidRequest, Some(field)), "{body}");
    }
    for body in [&b""[..], b"[]", b"{\"messages\":[]", b"{\"messages\":[]}x", b"{\"messages\":[\"\xff\"]}"] {
        assert_eq!(read_request(body).expect_err("bad").code(), Code::InvalidRequest, "{body:?}");
    }
}

#[test]
fn a_hint_that_stands_at_many_places_is_told_once_and_no_more_is_kept_than_can_matter() {
    let tool = r#"{"name":"f","input_schema":{},"eager_input_streaming":true,"defer_loading":true}"#;
    let tools = with(&format!(r#","tools":[{}]"#, vec![tool; 500].join(",")));
    let names: Vec<_> = read(&tools).rest.iter().map(|rest| (rest.name.to_string(), rest.hint)).collect();
    assert_eq!(names, [("tools.eager_input_streaming".to_owned(), true), ("tools.defer_loading".to_owned(), true)]);
    let cited = vec![r#"{"type":"text","text":"a","citations":[{"x":1}]}"#; 500].join(",");
    assert_eq!(read(&said(&format!(r#"{{"role":"assistant","content":[{cited}]}}"#))).rest.len(), 1);
    let strange = vec![r#"{"type":"x"}"#; 100_000].join(",");
    let request = said(&format!(r#"{{"role":"user","content":[{strange}]}}"#));
    let rest = read(&request).rest;
    assert!(rest.len() < 1000, "{}", rest.len());
    assert_eq!((&*rest[0].name, rest[0].hint), ("messages.0.content.0.x", false), "the first is what is refused");
}

#[test]
fn results_of_tools_do_not_stand_in_one_another() {
    let mut content = r#""x""#.to_owned();
    for _ in 0..60 {
        content = format!(r#"[{{"type":"tool_result","tool_use_id":"t","content":{content}}}]"#);
    }
    let body = said(&format!(r#"{{"role":"user","content":{content}}}"#));
    let error = read_request(body.as_bytes()).expect_err("nobody nests them");
    assert_eq!((error.code(), error.param()), (Code::InvalidRequest, Some("messages.0.content.0.content.0.type")));
}
