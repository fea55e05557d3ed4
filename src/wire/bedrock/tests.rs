//! Converse and its stream against chats of no provider's shape, by what the public documentation shows.

mod written;

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::error::{Code, Error};
use crate::model::chat::{
    Block, BlockKind, Choice, Delta, Effort, Event, Format, Message, Names, Request, Rest, Role, Source, Stop, Tokens,
    Tool,
};
use crate::model::{Named, Operation, Usage};
use crate::wire::chat::{Meta, Read};
use crate::wire::event_stream::{self, Decoder, Kind};
use crate::wire::openai::Step;

const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const META: Meta<'_> = Meta { id: "id", created: 0, model: "m", stream_usage: false };

fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/golden/bedrock/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn value(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
}

/// The events of a stream, as they stand in its file.
fn events(name: &str) -> Vec<(String, Value)> {
    let text = String::from_utf8(golden(name)).expect("text");
    let event = |line: &str| {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        (line["event"].as_str().expect("a name").to_owned(), line["payload"].take())
    };
    text.lines().map(event).collect()
}

fn frames(events: &[(String, Value)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, payload) in events {
        event_stream::write(Kind::Event, name, &mut out, |out| out.extend_from_slice(payload.to_string().as_bytes()));
    }
    out
}

fn text(text: &str) -> Block<'_> {
    Block::Text(Cow::Borrowed(text))
}

fn user(content: Vec<Block<'_>>) -> Message<'_> {
    Message { role: Role::User, content }
}

fn call<'a>(id: &'a str, name: &'a str, arguments: &'a str) -> Block<'a> {
    Block::ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

fn asking<'a>(messages: Vec<Message<'a>>) -> Request<'a> {
    Request { messages, stream_usage: true, ..Request::default() }
}

fn write(request: &Request<'_>, model: &str) -> Result<(Value, Vec<String>), Error> {
    let mut out = b"left over".to_vec();
    let lost = write_request(request, model, &mut out)?;
    Ok((value(&out), lost.names().to_vec()))
}

#[test]
fn a_request_is_read_whole_and_written_as_it_was() {
    let body = golden("request.json");
    let request = read_request(&body).expect("good");
    assert_eq!(request.rest, []);
    assert_eq!(request.system, [text("You are an assistant that knows songs."), Block::CacheMark]);
    assert_eq!(request.messages.iter().map(|message| message.content.len()).collect::<Vec<_>>(), [5, 5, 2]);
    let [
        _,
        Block::Image(Source::Data { media_type, .. }),
        Block::Document { source: pdf, name },
        Block::Document { source: notes, .. },
        Block::CacheMark,
    ] = &request.messages[0].content[..]
    else {
        panic!("{:?}", request.messages[0]);
    };
    assert_eq!((&**media_type, name.as_deref()), ("image/png", Some("Programme 2024")));
    assert_eq!(*pdf, Source::Data { media_type: "application/pdf".into(), data: "JVBERi0xLjQK".into() });
    assert_eq!(*notes, Source::Text("naïve \u{2603}".into()));
    let [Block::Thinking { signature: Some(_), .. }, Block::HiddenThinking(_), _, Block::ToolCall { arguments, .. }, _] =
        &request.messages[1].content[..]
    else {
        panic!("{:?}", request.messages[1]);
    };
    assert_eq!(value(arguments.as_bytes()), json!({"sign":"WZPZ","deep":[1,2.5,null]}));
    let [Block::ToolResult { failed: false, content, .. }, Block::ToolResult { failed: true, .. }] =
        &request.messages[2].content[..]
    else {
        panic!("{:?}", request.messages[2]);
    };
    assert_eq!(content.len(), 2);
    assert_eq!((request.max_tokens, request.temperature, request.top_p), (Some(8000), Some(0.5), Some(0.9)));
    assert_eq!(request.stop, ["</answer>", "\n\nHuman:"]);
    assert_eq!((request.top_k, request.effort), (Some(200), Some(Effort::Tokens(4000))));
    assert_eq!(request.tool_choice, Some(Choice::Named("top_song".into())));
    let tools: Vec<_> = request.tools.iter().map(|tool| (&*tool.name, tool.strict, tool.cache_mark)).collect();
    assert_eq!(tools, [("top_song", Some(true), true), ("clock", None, false)]);
    assert!(
        matches!(&request.format, Some(Format::Schema { name: Some(name), strict: Some(true), .. }) if name == "song")
    );

    let mut wanted = value(&body);
    let (written, lost) = write(&request, CLAUDE).expect("it can be written");
    assert_eq!(lost, ["additionalModelRequestFields.thinking"], "Claude does not think while it must call a function");
    wanted["additionalModelRequestFields"].as_object_mut().expect("an object").remove("thinking");
    assert_eq!(written, wanted);
}

#[test]
fn what_no_chat_has_is_kept_by_its_name_and_refused_unless_it_is_a_hint() {
    let body = r#"{"messages":[{"role":"user","content":[{"text":"x"},{"video":{"format":"mp4"}},{"guardContent":{}}]}],
        "guardrailConfig":{"a":1},"requestMetadata":{"team":"x"},"performanceConfig":null,"serviceTier":{"type":"flex"},
        "additionalModelRequestFields":{"anthropic_beta":["x"]},"toolConfig":{"tools":[{"systemTool":{"name":"n"}}]},
        "system":[{"cachePoint":{"type":"default","ttl":"1h"}}]}"#;
    let request = read_request(body.as_bytes()).expect("good");
    let rest: Vec<_> = request.rest.iter().map(|rest| (&*rest.name, rest.hint)).collect();
    let wanted = [
        ("messages.0.content.1.video", false),
        ("messages.0.content.2.guardContent", false),
        ("guardrailConfig", false),
        ("requestMetadata", true),
        ("serviceTier", true),
        ("additionalModelRequestFields.anthropic_beta", true),
        ("toolConfig.tools.0.systemTool", false),
        ("system.cachePoint.ttl", true),
    ];
    assert_eq!(rest, wanted);
    let error = write(&request, CLAUDE).expect_err("refused");
    assert_eq!((error.code(), error.param()), (Code::Unsupported, Some("messages.0.content.1.video")));
    let hints = request.rest.into_iter().filter(|rest| rest.hint).collect();
    let (_, lost) = write(&Request { rest: hints, ..asking(vec![user(vec![text("x")])]) }, CLAUDE).expect("good");
    let wanted =
        ["requestMetadata", "serviceTier", "additionalModelRequestFields.anthropic_beta", "system.cachePoint.ttl"];
    assert_eq!(lost, wanted);
}

#[test]
fn a_request_that_is_none_is_refused_by_the_field_at_fault() {
    for (body, field) in [
        ("", None),
        ("[]", None),
        ("{}", Some("messages")),
        (r#"{"messages":null}"#, Some("messages")),
        (r#"{"messages":"x"}"#, Some("messages")),
        (r#"{"messages":[{"content":[]}]}"#, Some("messages.0.role")),
        (r#"{"messages":[{"role":"user"}]}"#, Some("messages.0.content")),
        (r#"{"messages":[{"role":"system","content":[]}]}"#, Some("messages.0.role")),
        (r#"{"messages":[{"role":"user","content":[{"text":5}]}]}"#, Some("messages.0.content.0.text")),
        (r#"{"messages":[{"role":"user","content":[{"text":"\ud800"}]}]}"#, Some("messages.0.content.0.text")),
        (
            r#"{"messages":[{"role":"user","content":[{"image":{"format":"bmp"}}]}]}"#,
            Some("messages.0.content.0.image.format"),
        ),
        (
            r#"{"messages":[{"role":"user","content":[{"image":{"source":{"bytes":""}}}]}]}"#,
            Some("messages.0.content.0.image.format"),
        ),
        (
            r#"{"messages":[{"role":"assistant","content":[{"toolUse":{"name":"n","input":{}}}]}]}"#,
            Some("messages.0.content.0.toolUse.toolUseId"),
        ),
        (
            r#"{"messages":[{"role":"assistant","content":[{"toolUse":{"toolUseId":"i","name":"n","input":"x"}}]}]}"#,
            Some("messages.0.content.0.toolUse"),
        ),
        (r#"{"messages":[],"inferenceConfig":{"maxTokens":-1}}"#, Some("inferenceConfig.maxTokens")),
        (r#"{"messages":[],"inferenceConfig":{"temperature":1e999}}"#, Some("inferenceConfig.temperature")),
        (r#"{"messages":[],"toolConfig":{"tools":[{"cachePoint":{}}]}}"#, Some("toolConfig.tools.0.cachePoint")),
        (
            r#"{"messages":[],"toolConfig":{"tools":[],"toolChoice":{"tool":{}}}}"#,
            Some("toolConfig.toolChoice.tool.name"),
        ),
        (
            r#"{"messages":[],"additionalModelRequestFields":{"thinking":{"type":"enabled"}}}"#,
            Some("additionalModelRequestFields.thinking.budget_tokens"),
        ),
        (
            r#"{"messages":[],"outputConfig":{"textFormat":{"type":"json_schema","structure":{"jsonSchema":{"schema":"{"}}}}}"#,
            Some("outputConfig.textFormat.structure.jsonSchema.schema"),
        ),
        // What stands twice, or is two things at once, would be lost in part.
        (r#"{"messages":[],"messages":[]}"#, Some("messages")),
        (r#"{"messages":[{"role":"user","content":[],"r\u006fle":"user"}]}"#, Some("messages.0.role")),
        (
            r#"{"messages":[{"role":"user","content":[{"text":"a","image":{"format":"png","source":{"bytes":""}}}]}]}"#,
            Some("messages.0.content.0"),
        ),
        (r#"{"messages":[],"toolConfig":{"toolChoice":{"any":{},"auto":{}}}}"#, Some("toolConfig.toolChoice")),
        (r#"{"messages":[]} x"#, None),
    ] {
        let error = read_request(body.as_bytes()).expect_err("it is none");
        assert_eq!((error.code(), error.param()), (Code::InvalidRequest, field), "{body}");
    }
    let deep = format!(r#"{{"messages":[],"x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    assert_eq!(read_request(deep.as_bytes()).expect_err("too deep").code(), Code::InvalidRequest);
    assert_eq!(read_request(b"{\"messages\":[\"\xff\"]}").expect_err("no UTF-8").code(), Code::InvalidRequest);
}

#[test]
fn what_is_kept_of_a_request_is_bounded_and_each_hint_is_named_once() {
    let block = r#"{"cachePoint":{"type":"default","ttl":"1h"}}"#;
    let body = format!(r#"{{"messages":[{{"role":"user","content":[{}]}}]}}"#, [block; 10_000].join(","));
    let request = read_request(body.as_bytes()).expect("good");
    let kept: Vec<_> = request.rest.iter().map(|rest| &*rest.name).collect();
    assert_eq!(kept, ["messages.content.cachePoint.ttl"]);
    let block = r#"{"video":{}}"#;
    let body = format!(r#"{{"messages":[{{"role":"user","content":[{}]}}]}}"#, [block; 10_000].join(","));
    assert_eq!(read_request(body.as_bytes()).expect("good").rest.len(), 256);
}

#[test]
fn how_much_is_thought_is_read_from_claudes_own_fields() {
    let effort = |fields: &str| {
        let body = format!(r#"{{"messages":[],"additionalModelRequestFields":{fields}}}"#);
        let request = read_request(body.as_bytes()).expect("good");
        (request.effort, request.rest.len())
    };
    for (fields, wanted) in [
        (r#"{"thinking":{"type":"adaptive"},"output_config":{"effort":"low"}}"#, (Some(Effort::Low), 0)),
        (r#"{"output_config":{"effort":"max"},"thinking":{"type":"adaptive"}}"#, (Some(Effort::Max), 0)),
        (r#"{"thinking":{"type":"adaptive","display":"summarized"}}"#, (Some(Effort::Own), 1)),
        (r#"{"thinking":{"type":"disabled"},"output_config":{"effort":"low"}}"#, (Some(Effort::None), 0)),
        (r#"{"output_config":{"effort":"low"}}"#, (Some(Effort::Low), 0)),
    ] {
        assert_eq!(effort(fields), wanted, "{fields}");
    }
}

#[test]
fn an_answer_is_read_and_written() {
    let body = golden("reply.json");
    let reply = read_reply(&body, "m").expect("good");
    assert_eq!((&*reply.model, reply.stop, reply.content.len()), ("m", Stop::End, 1));
    assert_eq!(reply.tokens, Some(Tokens { input: 30, output: 628, ..Tokens::default() }));

    let body = golden("reply-tools.json");
    let reply = read_reply(&body, "m").expect("good");
    assert_eq!(reply.stop, Stop::Tools);
    let Block::ToolCall { name, arguments, .. } = &reply.content[3] else { panic!("{:?}", reply.content) };
    assert_eq!((&**name, value(arguments.as_bytes())), ("top_song", json!({"sign":"WZPZ"})));
    let tokens = Tokens { input: 8194, output: 70, cache_read: Some(7819), cache_written: Some(0), thought: None };
    assert_eq!(reply.tokens, Some(tokens));

    let mut out = b"left over".to_vec();
    write_reply(&reply, &META, &mut out);
    let mut wanted = value(&body);
    let gone = wanted.as_object_mut().expect("an object");
    for name in ["additionalModelResponseFields", "trace", "performanceConfig"] {
        gone.remove(name);
    }
    wanted["metrics"]["latencyMs"] = json!(0);
    assert_eq!(value(&out), wanted);
}

#[test]
fn every_reason_for_an_end_has_its_meaning() {
    let read = |reason: &str, more: &str| {
        let body = format!(r#"{{"output":{{"message":{{"content":[]}}}},"stopReason":"{reason}"{more}}}"#);
        let reply = read_reply(body.as_bytes(), "m").expect("good");
        (reply.stop, reply.stop_text.map(Cow::into_owned))
    };
    for (reason, stop) in [
        ("end_turn", Stop::End),
        ("tool_use", Stop::Tools),
        ("max_tokens", Stop::Length),
        ("stop_sequence", Stop::Text),
        ("guardrail_intervened", Stop::Refused),
        ("content_filtered", Stop::Refused),
        ("malformed_model_output", Stop::End),
        ("malformed_tool_use", Stop::End),
        ("model_context_window_exceeded", Stop::Length),
        ("something_new", Stop::End),
    ] {
        assert_eq!(read(reason, "").0, stop, "{reason}");
    }
    let asked = r#","additionalModelResponseFields":{"stop_sequence":"</a>"}"#;
    assert_eq!(read("stop_sequence", asked), (Stop::Text, Some("</a>".to_owned())));
    assert_eq!(read("end_turn", r#","additionalModelResponseFields":"x""#), (Stop::End, None));
}

#[test]
fn what_is_no_answer_is_told_and_what_is_new_in_one_is_passed_over() {
    for body in [
        "",
        "[]",
        "{}",
        r#"{"Output":{"__type":"UnknownOperationException"}}"#,
        r#"{"output":{"message":{"content":[]}}}"#,
    ] {
        assert_eq!(read_reply(body.as_bytes(), "m").expect_err("none").code(), Code::UpstreamBadResponse, "{body}");
    }
    let body = r#"{"output":{"message":{"content":[{"new":{}},{"citationsContent":{"content":[{"text":"a"},{"text":"b"}],"citations":[{}]}}]}},"stopReason":"end_turn"}"#;
    let reply = read_reply(body.as_bytes(), "m").expect("good");
    assert_eq!((reply.content, reply.tokens), (vec![text("ab")], None));
}

#[test]
fn arguments_that_a_model_wrote_ill_are_told_as_they_are() {
    let content = vec![text(""), call("1", "f", "{\"a\":"), call("2", "f", ""), Block::CacheMark];
    let reply = crate::model::chat::Reply {
        id: Some("x".into()),
        model: "m".into(),
        content,
        stop: Stop::Paused,
        stop_text: None,
        tokens: None,
    };
    let mut out = Vec::new();
    write_reply(&reply, &META, &mut out);
    let told = value(&out);
    let inputs: Vec<_> = told["output"]["message"]["content"].as_array().expect("blocks").iter().collect();
    assert_eq!(
        inputs.iter().map(|block| &block["toolUse"]["input"]).collect::<Vec<_>>(),
        [&json!("{\"a\":"), &json!({})]
    );
    let again = read_reply(&out, "m").expect("what is written so is read so");
    assert_eq!(again.content, [call("1", "f", "{\"a\":"), call("2", "f", "{}")]);
    crate::wire::anthropic::write_reply(&reply, &META, &mut out);
    let again = crate::wire::anthropic::read_reply(&out, "m").expect("there, too");
    assert_eq!(again.content[1..], [call("1", "f", "{\"a\":"), call("2", "f", "{}")]);
    assert_eq!((&told["stopReason"], &told["usage"]["totalTokens"]), (&json!("end_turn"), &json!(0)));
}

/// What a reader makes of frames that come in these pieces: the events in words, and how it all ended.
fn told<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, bool, String) {
    let (mut decoder, mut reader, mut told) = (Decoder::new(1 << 20), StreamReader::new(), Vec::new());
    let mut last = String::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(frame) = decoder.next() {
            let read = reader.next(&frame.expect("a good frame"), &mut |event| told.push(format!("{event:?}")));
            last = match read {
                Read::Failed(error) => format!("failed {} {}", error.status(), error.message()),
                other => format!("{other:?}"),
            };
        }
    }
    (told, reader.is_complete(), last)
}

/// The frames of a stream, read and written again.
fn again(bytes: &[u8]) -> Vec<(String, Value)> {
    let (mut decoder, mut reader, mut writer) = (Decoder::new(1 << 20), StreamReader::new(), StreamWriter::new(META));
    let mut out = Vec::new();
    decoder.push(bytes);
    while let Some(frame) = decoder.next() {
        reader.next(&frame.expect("a good frame"), &mut |event| writer.event(&event, &mut out));
    }
    writer.finish(&mut out);
    let (mut decoder, mut written) = (Decoder::new(1 << 20), Vec::new());
    decoder.push(&out);
    while let Some(frame) = decoder.next() {
        let frame = frame.expect("a good frame");
        assert_eq!((frame.kind, frame.content_type), (Kind::Event, "application/json"));
        written.push((frame.name.to_owned(), value(frame.payload)));
    }
    written
}

#[test]
fn a_stream_is_read_whole_and_written_as_it_was() {
    for name in ["stream-text.jsonl", "stream-tools.jsonl"] {
        let mut wanted = events(name);
        let written = again(&frames(&wanted));
        for (_, payload) in &mut wanted {
            // Padding against those who guess texts by their lengths.
            payload.as_object_mut().expect("an object").remove("p");
            if let Some(latency) = payload.pointer_mut("/metrics/latencyMs") {
                *latency = json!(0);
            }
        }
        assert_eq!(written, wanted, "{name}");
    }
}

#[test]
fn a_stream_says_the_same_wherever_its_bytes_are_cut() {
    for name in ["stream-text.jsonl", "stream-tools.jsonl"] {
        let bytes = frames(&events(name));
        let whole = told([&*bytes].into_iter());
        assert_eq!((whole.1, &*whole.2), (true, "Done"), "{name}");
        for at in 0..bytes.len() {
            assert_eq!(told([&bytes[..at], &bytes[at..]].into_iter()), whole, "{name} cut at {at}");
        }
        assert_eq!(told(bytes.chunks(1)), whole, "{name}");
    }
}

#[test]
fn a_stream_is_complete_at_its_end_and_not_before() {
    let all = events("stream-tools.jsonl");
    let end = all.iter().position(|(name, _)| name == "messageStop").expect("an end");
    for length in 0..=all.len() {
        let (_, complete, last) = told([&*frames(&all[..length])].into_iter());
        assert_eq!((complete, last == "Done"), (length > end, length == all.len()), "{length}");
    }
}

fn delta(index: u64, delta: Value) -> (String, Value) {
    ("contentBlockDelta".to_owned(), json!({"contentBlockIndex": index, "delta": delta}))
}

fn begin(index: u64, name: &str) -> (String, Value) {
    let start = json!({"toolUse": {"toolUseId": name, "name": name}});
    ("contentBlockStart".to_owned(), json!({"contentBlockIndex": index, "start": start}))
}

fn end(index: u64) -> (String, Value) {
    ("contentBlockStop".to_owned(), json!({"contentBlockIndex": index}))
}

fn stop() -> (String, Value) {
    ("messageStop".to_owned(), json!({"stopReason": "end_turn"}))
}

#[test]
fn blocks_that_come_at_once_are_told_one_after_the_other() {
    let input = |text: &str| json!({"toolUse": {"input": text}});
    let stream = [
        begin(0, "a"),
        begin(1, "b"),
        delta(1, input("b1")),
        delta(0, input("a1")),
        begin(2, "c"),
        delta(2, input("c1")),
        end(2),
        delta(1, input("b2")),
        end(0),
        delta(1, input("b3")),
        stop(),
    ];
    let (told, complete, _) = told([&*frames(&stream)].into_iter());
    let call =
        |name: &str| format!("{:?}", Event::BlockBegin(BlockKind::ToolCall { id: name.into(), name: name.into() }));
    let more = |text: &str| format!("{:?}", Event::Delta(Delta::Arguments(text.into())));
    let end = format!("{:?}", Event::BlockEnd);
    let wanted = [
        call("a"),
        more("a1"),
        end.clone(),
        call("b"),
        more("b1"),
        more("b2"),
        more("b3"),
        end.clone(),
        call("c"),
        more("c1"),
        end,
    ];
    assert!(complete);
    assert_eq!(told[1..told.len() - 1], wanted);
}

#[test]
fn too_much_of_a_later_block_is_an_error() {
    let piece = "x".repeat(500_000);
    let mut stream = vec![begin(0, "a")];
    stream.extend((0..9).map(|_| delta(1, json!({"text": piece}))));
    let (_, complete, last) = told([&*frames(&stream)].into_iter());
    assert!(!complete && last.starts_with("failed 502"), "{last}");
}

#[test]
fn a_block_that_goes_on_as_another_is_two_and_an_empty_one_is_none() {
    let stream = [
        delta(0, json!({"text": ""})),
        end(0),
        delta(1, json!({"reasoningContent": {"text": "hm"}})),
        delta(1, json!({"text": "so"})),
        delta(1, json!({"citation": {}})),
        ("somethingNew".to_owned(), json!({})),
        stop(),
    ];
    let written = again(&frames(&stream));
    let names: Vec<_> = written.iter().map(|(name, _)| name.trim_start_matches("contentBlock")).collect();
    assert_eq!(names, ["messageStart", "Delta", "Stop", "Delta", "Stop", "messageStop"]);
    assert_eq!((&written[1].1["contentBlockIndex"], &written[3].1["contentBlockIndex"]), (&json!(0), &json!(1)));
}

#[test]
fn garbage_and_failures_are_told_from_what_goes_on() {
    for payload in ["", "x", "[]", "{\"delta\":{}}", "{\"contentBlockIndex\":\"x\"}"] {
        let mut bytes = Vec::new();
        event_stream::write(Kind::Event, "contentBlockDelta", &mut bytes, |out| {
            out.extend_from_slice(payload.as_bytes())
        });
        assert_eq!(told([&*bytes].into_iter()).2, "Garbage", "{payload}");
    }
    let mut bytes = frames(&[delta(0, json!({"text": "hi"}))]);
    bytes.extend(error_event(&Error::new(Code::QueueFull, "slow down")));
    assert_eq!(told([&*bytes].into_iter()).2, "failed 429 slow down");
    for (piece, content) in [
        (json!({"text": "x"}), true),
        (json!({"text": ""}), false),
        (json!({"reasoningContent": {"text": "x"}}), true),
        (json!({"reasoningContent": {"signature": "x"}}), false),
    ] {
        let wanted = format!("More {{ content: {content} }}");
        assert_eq!(told([&*frames(&[delta(0, piece.clone())])].into_iter()).2, wanted, "{piece}");
    }
}

fn converse(stream: bool) -> Operation {
    Operation::Converse(Named { model: "x".to_owned(), stream })
}

fn invoke(stream: bool) -> Operation {
    Operation::Invoke(Named { model: "x".to_owned(), stream })
}

/// What a judge says of each frame, and at the end: whole, with which tokens.
fn judged(operation: &Operation, bytes: &[u8]) -> (Vec<String>, bool, Option<Usage>) {
    let (mut decoder, mut stream, mut steps) = (Decoder::new(1 << 20), FrameStream::new(operation), Vec::new());
    decoder.push(bytes);
    while let Some(frame) = decoder.next() {
        steps.push(match stream.next(&frame.expect("a good frame")) {
            Step::Forward { first_content: true } => "first".to_owned(),
            Step::Error(error) => format!("error {} {}", error.status(), error.message()),
            other => format!("{other:?}").split(' ').next().unwrap_or_default().to_lowercase(),
        });
    }
    (steps, stream.is_complete(), stream.usage())
}

#[test]
fn a_stream_that_passes_through_is_judged_by_its_frames() {
    let all = events("stream-text.jsonl");
    let (steps, complete, usage) = judged(&converse(true), &frames(&all));
    assert_eq!(steps, ["forward", "first", "forward", "forward", "forward", "forward", "last"]);
    assert_eq!((complete, usage), (true, Some(Usage { input: 10, output: 5 })));
    assert!(!judged(&converse(true), &frames(&all[..5])).1);
    assert!(judged(&converse(true), &frames(&all[..6])).1);
    let usage = judged(&converse(true), &frames(&events("stream-tools.jsonl"))).2;
    assert_eq!(usage, Some(Usage { input: 124, output: 60 }));
    let failed = error_event(&Error::new(Code::Internal, "sorry"));
    assert_eq!(judged(&converse(true), &failed).0, ["error 500 sorry"]);
    let empty = frames(&[delta(0, json!({"text": ""}))]);
    assert_eq!(judged(&converse(true), &empty).0, ["forward"]);
}

#[test]
fn a_body_that_passes_through_is_an_object_for_converse_and_anything_for_a_model() {
    for stream in [false, true] {
        let operation = converse(stream);
        let fields = parse(&operation, br#"{"messages":[],"new":{"x":null}}"#).expect("good");
        assert_eq!((&*fields.model, fields.stream, fields.include_usage), ("x", stream, true));
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for body in [&b""[..], b"[]", b"{", b"{} {}", b"{\"x\":\"\xff\"}", deep.as_bytes()] {
            assert_eq!(parse(&operation, body).expect_err("bad").code(), Code::InvalidRequest);
        }
    }
    assert!(parse(&invoke(true), b"\xff").expect("anything").stream);
}

/// A model's own events as InvokeModel's stream wraps them.
fn chunks(events: &[Value]) -> Vec<u8> {
    let wrap = |event: &Value| {
        let bytes = crate::wire::base64::encode(event.to_string().as_bytes());
        ("chunk".to_owned(), json!({"bytes": bytes, "p": "abc"}))
    };
    frames(&events.iter().map(wrap).collect::<Vec<_>>())
}

#[test]
fn a_models_own_stream_is_judged_by_what_is_known_of_it() {
    let claude: Vec<Value> = String::from_utf8(golden("invoke-claude.jsonl"))
        .expect("text")
        .lines()
        .map(|line| value(line.as_bytes()))
        .collect();
    let (steps, complete, usage) = judged(&invoke(true), &chunks(&claude));
    assert_eq!(steps, ["forward", "forward", "first", "forward", "forward", "forward", "forward", "last"]);
    assert_eq!((complete, usage), (true, Some(Usage { input: 115, output: 12 })));
    assert!(!judged(&invoke(true), &chunks(&claude[..claude.len() - 1])).1, "Claude's end is known");

    let titan = [json!({"outputText": "a", "index": 0}), json!({"outputText": "b", "completionReason": "FINISH"})];
    let (steps, complete, usage) = judged(&invoke(true), &chunks(&titan));
    assert_eq!((steps, complete, usage), (vec!["first".to_owned(), "forward".to_owned()], true, None));
    let metrics = json!({"x": 1, "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3, "outputTokenCount": 4}});
    let (steps, complete, usage) = judged(&invoke(true), &chunks(&[titan[0].clone(), metrics]));
    assert_eq!((&*steps[1], complete, usage), ("last", true, Some(Usage { input: 3, output: 4 })));
    assert!(!judged(&invoke(true), b"").1, "nothing is no answer");

    let failed = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    assert_eq!(judged(&invoke(true), &chunks(&[failed])).0, ["error 502 Overloaded"]);
    for payload in [json!({"bytes": "%%"}), json!({"bytes": "eA=="}), json!({})] {
        assert_eq!(judged(&invoke(true), &frames(&[("chunk".to_owned(), payload)])).0, ["garbage"]);
    }
}

#[test]
fn an_answer_that_passes_through_is_judged_by_its_status_and_its_body() {
    let judge = |operation: Operation, status, body: &str| decode(&operation, (status, None), body.as_bytes());
    let both = Some(Usage { input: 3, output: 4 });
    let whole = r#"{"output":{},"usage":{"inputTokens":1,"outputTokens":4,"cacheReadInputTokens":2}}"#;
    assert_eq!(judge(converse(false), 200, whole).expect("good"), both);
    for body in [
        r#"{"type":"message","usage":{"input_tokens":1,"cache_creation_input_tokens":1,"cache_read_input_tokens":1,"output_tokens":4}}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
        r#"{"output":{},"usage":{"inputTokens":3,"outputTokens":4}}"#,
    ] {
        assert_eq!(judge(invoke(false), 200, body).expect("good"), both, "{body}");
    }
    for body in ["", "\u{0}", "{}", r#"{"embedding":[1],"usage":null}"#] {
        assert_eq!(judge(invoke(false), 200, body).expect("whatever it is"), None, "{body}");
        assert_eq!(judge(converse(false), 200, body).expect_err("none").code(), Code::UpstreamBadResponse);
    }
    assert_eq!(judge(invoke(false), 302, "").expect_err("no redirect").code(), Code::UpstreamBadResponse);
    let error =
        decode(&converse(false), (429, Some("ThrottlingException")), br#"{"message":"slow"}"#).expect_err("an error");
    assert_eq!((error.code(), error.status(), error.message()), (Code::UpstreamError, 429, "slow"));
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in "[{}\\[\\]\":,a-z0-9]{0,60}", name in "contentBlock(Start|Delta|Stop)|message(Start|Stop)|metadata|chunk") {
        let _ = read_request(bytes.as_bytes());
        let _ = read_reply(bytes.as_bytes(), "m");
        let mut frame = Vec::new();
        event_stream::write(Kind::Event, &name, &mut frame, |out| out.extend_from_slice(bytes.as_bytes()));
        let _ = told([&*frame].into_iter());
        let _ = judged(&converse(true), &frame);
        let _ = judged(&invoke(true), &frame);
    }

    #[test]
    fn what_is_said_comes_back(words in proptest::collection::vec("[^\\pC\\pZ]{1,12}", 1..4), number in 0u64..9000, strict in any::<bool>()) {
        let content: Vec<_> = words.iter().map(|word| text(word)).collect();
        let tool = Tool { name: "f".into(), description: Some(words[0].as_str().into()), schema: Some("{}".into()), strict: Some(strict), cache_mark: strict };
        let request = Request {
            system: content.clone(),
            tools: vec![tool],
            max_tokens: Some(number),
            stop: words.iter().map(|word| Cow::Borrowed(word.as_str())).collect(),
            names: &Names::BEDROCK,
            ..asking(vec![user(content.clone()), Message { role: Role::Assistant, content }])
        };
        let mut out = Vec::new();
        write_request(&request, CLAUDE, &mut out).expect("it can be written");
        prop_assert_eq!(read_request(&out).expect("it can be read"), request);
    }
}
