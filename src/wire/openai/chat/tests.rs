//! What holds for all chats: read and written again they mean the same, whole and streamed, however a stream is cut.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::model::chat::{Block, BlockKind, Delta, Event, Reply, Stop, Tokens};
use crate::wire::chat::{Meta, Read};
use crate::wire::sse;

const META: Meta<'_> = Meta { id: "made", created: 7, model: "asked", stream_usage: false };

fn rewritten(body: &Value, model: &str) -> (Value, Vec<String>) {
    let body = body.to_string();
    let request = read_request(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"));
    let mut out = Vec::new();
    let lost = write_request(&request, model, &mut out).unwrap_or_else(|error| panic!("{error}: {body}"));
    (serde_json::from_slice(&out).expect("JSON"), lost.names().to_vec())
}

#[test]
fn the_documented_request_comes_back_but_for_its_hints() {
    let mut body: Value =
        serde_json::from_slice(include_bytes!("../../../../tests/golden/openai/request.json")).expect("JSON");
    let (written, lost) = rewritten(&body, "gpt-5.2");
    assert_eq!(lost, ["messages.content.image_url.detail", "seed", "service_tier", "metadata"]);
    let top = body.as_object_mut().expect("an object");
    for gone in ["n", "seed", "service_tier", "metadata", "fallbacks", "safety_identifier"] {
        top.shift_remove(gone);
    }
    top.insert("user".to_owned(), json!("user_6b1c"));
    top.insert("model".to_owned(), json!("gpt-5.2"));
    top.insert("stop".to_owned(), json!(["END"]));
    body["messages"][0]["role"] = json!("system");
    body["messages"][1]["content"][1]["image_url"].as_object_mut().expect("an object").shift_remove("detail");
    for gone in ["refusal", "annotations"] {
        body["messages"][2].as_object_mut().expect("an object").shift_remove(gone);
    }
    body["messages"][4]["content"] = json!("18 degrees");
    assert_eq!(written, body);
}

/// Something that a body may say in several ways, and the one way in which it is written.
type Pair = (Value, Value);

fn words() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z \"\\\\\n\u{e9}\u{1f600}]{1,9}", 1 => any::<String>().prop_filter("not empty", |text| !text.is_empty())]
}

fn part() -> impl Strategy<Value = (Value, Option<Value>)> {
    let same = |part: Value| (part.clone(), Some(part));
    let image = |url: String| json!({"type":"image_url","image_url":{"url":url}});
    prop_oneof![
        words().prop_map(move |text| same(json!({"type":"text","text":text}))),
        Just((json!({"type":"text","text":""}), None)),
        "[a-z]{1,5}".prop_map(move |host| same(image(format!("https://{host}/x?y=\"z\"")))),
        "[A-Za-z0-9+/]{4}".prop_map(move |data| same(image(format!("data:image/png;base64,{data}")))),
        "[A-Z]{4}".prop_map(|data| {
            let file = |head: &str| json!({"type":"file","file":{"filename":"f","file_data":format!("{head}{data}")}});
            (file(""), Some(file("data:application/pdf;base64,")))
        }),
    ]
}

fn content(parts: &[Value]) -> Value {
    match parts {
        [] => json!(""),
        [one] if one["type"] == "text" => one["text"].clone(),
        several => json!(several),
    }
}

fn call() -> impl Strategy<Value = Pair> {
    let arguments =
        prop_oneof![Just(String::new()), Just("{}".to_owned()), Just("{\"a\":[\"}\"]}".to_owned()), words()];
    ("[a-z]{1,6}", "[a-z_]{1,6}", arguments).prop_map(|(id, name, arguments)| {
        let call = |said: &str| json!({"id":id,"type":"function","function":{"name":name,"arguments":said}});
        (call(&arguments), call(if arguments.is_empty() { "{}" } else { &arguments }))
    })
}

fn message() -> impl Strategy<Value = Pair> {
    let user = prop::collection::vec(part(), 0..4).prop_map(|parts| {
        let (said, written): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let written: Vec<_> = written.into_iter().flatten().collect();
        (json!({"role":"user","content":said}), json!({"role":"user","content":content(&written)}))
    });
    let texts = prop::collection::vec(words(), 0..3);
    let assistant = (texts, any::<bool>(), prop::option::of(words()), prop::collection::vec(call(), 0..3));
    let assistant = assistant.prop_map(|(texts, listed, refusal, calls)| {
        let part = |text: &String| json!({"type":"text","text":text});
        let (said, written): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
        let mut sent = json!({"role":"assistant","refusal":refusal,"tool_calls":said,"reasoning_content":"hm"});
        sent["content"] = match (listed, &texts[..]) {
            (false, []) => json!(null),
            (false, [one]) => json!(one),
            _ => texts.iter().map(part).collect(),
        };
        let parts: Vec<_> = texts.iter().chain(&refusal).map(part).collect();
        let mut wanted = json!({"role":"assistant","content":content(&parts)});
        if !written.is_empty() {
            wanted["tool_calls"] = json!(written);
            if parts.is_empty() {
                wanted["content"] = json!(null);
            }
        }
        (sent, wanted)
    });
    prop_oneof![
        user,
        words().prop_map(|text| (json!({"content":text,"role":"user"}), json!({"role":"user","content":text}))),
        assistant,
        ("[a-z]{1,6}", words()).prop_map(|(id, text)| {
            let result = json!({"role":"tool","tool_call_id":id,"content":text});
            (result.clone(), result)
        }),
    ]
}

/// Fields with what they become.
fn fields() -> impl Strategy<Value = Vec<(&'static str, Value, &'static str, Value)>> {
    let same = |key: &'static str, value: Value| (key, value.clone(), key, value);
    let schema = json!({"type":"object","properties":{"a":{"type":"number"}}});
    let tool =
        json!([{"type":"function","function":{"name":"f","description":"d","parameters":schema,"strict":false}}]);
    let format = json!({"type":"json_schema","json_schema":{"name":"n","schema":schema,"strict":true}});
    let all = vec![
        prop_oneof![
            Just(same("tools", tool)),
            Just(same("tools", json!([{"type":"function","function":{"name":"g"}}])))
        ]
        .boxed(),
        prop_oneof![Just("auto"), Just("none"), Just("required")]
            .prop_map(move |word| same("tool_choice", json!(word)))
            .boxed(),
        any::<bool>().prop_map(move |yes| same("parallel_tool_calls", json!(yes))).boxed(),
        any::<u32>().prop_map(|most| ("max_completion_tokens", json!(most), "max_tokens", json!(most))).boxed(),
        (0..200u32).prop_map(move |number| same("temperature", json!(f64::from(number) / 100.0))).boxed(),
        (0..100u32).prop_map(move |number| same("top_p", json!(f64::from(number) / 100.0))).boxed(),
        words().prop_map(|text| ("stop", json!(text), "stop", json!([text]))).boxed(),
        prop_oneof![Just(format), Just(json!({"type":"json_object"}))]
            .prop_map(move |format| same("response_format", format))
            .boxed(),
        prop_oneof![Just("minimal"), Just("low"), Just("medium"), Just("high"), Just("xhigh")]
            .prop_map(move |word| same("reasoning_effort", json!(word)))
            .boxed(),
        words().prop_map(|user| ("safety_identifier", json!(user), "user", json!(user))).boxed(),
    ];
    (all, any::<u16>()).prop_map(|(all, chosen)| {
        all.into_iter().enumerate().filter(|(at, _)| chosen & 1 << at != 0).map(|(_, field)| field).collect()
    })
}

/// An answer as it can be told whole in either way.
fn answer() -> impl Strategy<Value = (Vec<Block<'static>>, Stop, Option<Tokens>)> {
    let call = ("[a-z]{1,6}", "[a-z_]{1,6}", arguments()).prop_map(|(id, name, arguments)| (id, name, arguments));
    let stops = prop_oneof![Just(Stop::End), Just(Stop::Length), Just(Stop::Refused)];
    let tokens =
        (any::<u32>(), any::<u32>(), any::<[Option<u32>; 3]>()).prop_map(|(input, output, [read, wrote, thought])| {
            let [cache_read, cache_written, thought] = [read, wrote, thought].map(|number| number.map(u64::from));
            Tokens { input: input.into(), output: output.into(), cache_read, cache_written, thought }
        });
    let calls = prop::collection::vec(call, 0..4);
    (prop::option::of(words()), prop::option::of(words()), calls, stops, prop::option::of(tokens)).prop_map(
        |(thoughts, text, calls, stop, tokens)| {
            let stop = if stop == Stop::End && !calls.is_empty() { Stop::Tools } else { stop };
            let thoughts = thoughts.map(|text| Block::Thinking { text: text.into(), signature: None });
            let calls = calls.into_iter().enumerate().map(|(at, (id, name, arguments))| Block::ToolCall {
                id: format!("{id}{at}").into(),
                name: name.into(),
                arguments: arguments.into(),
            });
            (thoughts.into_iter().chain(text.map(|text| Block::Text(text.into()))).chain(calls).collect(), stop, tokens)
        },
    )
}

fn arguments() -> impl Strategy<Value = String> {
    prop::collection::btree_map(words(), words(), 0..3).prop_map(|members| json!(members).to_string())
}

/// What a stream said, put together; panics where its events are out of order.
#[derive(Debug, Default, PartialEq)]
struct Told {
    blocks: Vec<Block<'static>>,
    begun: bool,
    open: bool,
    end: Option<Stop>,
    tokens: Option<Tokens>,
}

impl Told {
    fn take(&mut self, event: &Event<'_>) {
        if !matches!(event, Event::Tokens(_) | Event::Ping) {
            assert!(self.end.is_none(), "{event:?} behind the end");
            assert_eq!(self.begun, !matches!(event, Event::Begin { .. }), "{event:?}");
        }
        match event {
            Event::Begin { .. } => self.begun = true,
            Event::BlockBegin(kind) => {
                assert!(!std::mem::replace(&mut self.open, true), "a block begins in another");
                self.blocks.push(match kind {
                    BlockKind::Text => Block::Text("".into()),
                    BlockKind::Thinking => Block::Thinking { text: "".into(), signature: None },
                    BlockKind::HiddenThinking(data) => Block::HiddenThinking(data.clone().into_owned().into()),
                    BlockKind::ToolCall { id, name } => Block::ToolCall {
                        id: id.clone().into_owned().into(),
                        name: name.clone().into_owned().into(),
                        arguments: "".into(),
                    },
                });
            }
            Event::Delta(delta) => {
                assert!(self.open, "a delta of no block");
                match (self.blocks.last_mut(), delta) {
                    (Some(Block::Text(whole) | Block::Thinking { text: whole, .. }), Delta::Text(text)) => {
                        whole.to_mut().push_str(text)
                    }
                    (Some(Block::ToolCall { arguments, .. }), Delta::Arguments(piece)) => {
                        arguments.to_mut().push_str(piece)
                    }
                    (block, delta) => panic!("{delta:?} for {block:?}"),
                }
            }
            Event::BlockEnd => assert!(std::mem::take(&mut self.open), "no block ends"),
            Event::End { stop, .. } => {
                assert!(!self.open, "the answer ends in a block");
                self.end = Some(*stop);
            }
            Event::Tokens(tokens) => self.tokens = Some(*tokens),
            Event::Ping => {}
        }
    }
}

/// Reads a stream that comes in these pieces; gives what it said and what the writer makes of it.
fn relay(pieces: &[&[u8]], stream_usage: bool) -> (Told, Vec<u8>) {
    let mut decoder = sse::Decoder::new(1 << 20);
    let (mut reader, mut writer) = (StreamReader::new(), StreamWriter::new(Meta { stream_usage, ..META }));
    let (mut told, mut out, mut done) = (Told::default(), Vec::new(), false);
    for piece in pieces {
        decoder.push(piece);
        while let Some(event) = decoder.next() {
            let read = reader.next(&event.expect("short"), &mut |event| {
                told.take(&event);
                writer.event(&event, &mut out);
            });
            match read {
                Read::Nothing | Read::More { .. } => assert!(!done),
                Read::Done => done = true,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(reader.is_complete(), told.end.is_some());
    writer.finish(&mut out);
    (told, out)
}

/// The chunks that tell an answer, each call's pieces in their order and else as `turns` has it; and the order of the calls.
fn chunks(blocks: &[Block<'_>], cuts: &[usize], turns: &[usize]) -> (Vec<Value>, Vec<usize>) {
    let pieces = |text: &str| {
        let mut pieces: Vec<String> = Vec::new();
        for (at, letter) in text.chars().enumerate() {
            match pieces.last_mut() {
                Some(last) if cuts[at % cuts.len()] != 0 => last.push(letter),
                _ => pieces.push(letter.to_string()),
            }
        }
        pieces
    };
    let (mut deltas, mut lines) = (vec![json!({"role":"assistant","content":""})], Vec::new());
    for block in blocks {
        match block {
            Block::Thinking { text, .. } => {
                deltas.extend(pieces(text).iter().map(|text| json!({"reasoning_content":text})))
            }
            Block::Text(text) => deltas.extend(pieces(text).iter().map(|text| json!({"content":text}))),
            Block::ToolCall { id, name, arguments } => {
                let index = lines.len();
                let head = json!({"index":index,"id":id,"type":"function","function":{"name":name,"arguments":""}});
                let rest =
                    pieces(arguments).into_iter().map(|piece| json!({"index":index,"function":{"arguments":piece}}));
                lines.push(std::iter::once(head).chain(rest).collect::<std::collections::VecDeque<_>>());
            }
            other => panic!("{other:?}"),
        }
    }
    let (mut order, mut turn) = (Vec::new(), 0);
    while lines.iter().any(|line| !line.is_empty()) {
        let at = turns[turn % turns.len()] % lines.len();
        turn += 1;
        let at = (at..lines.len()).chain(0..at).find(|at| !lines[*at].is_empty()).expect("there is one");
        if !order.contains(&at) {
            order.push(at);
        }
        deltas.push(json!({"tool_calls":[lines[at].pop_front()]}));
    }
    (deltas, order)
}

fn event(choices: &Value, usage: &Value) -> String {
    let chunk = json!({"id":"c","object":"chat.completion.chunk","model":"m","choices":choices,"usage":usage});
    format!("data: {chunk}\n\n")
}

fn stream(deltas: &[Value], stop: Stop, tokens: Option<&Tokens>, early: bool) -> String {
    let reason = json!(answer::finish_reason(stop));
    let mut text = ": hello\n\n".to_owned();
    for (at, delta) in deltas.iter().enumerate() {
        let last = early && at + 1 == deltas.len();
        let reason = if last { &reason } else { &Value::Null };
        text += &event(&json!([{"index":0,"delta":delta,"finish_reason":reason}]), &Value::Null);
    }
    if !early {
        text += &event(&json!([{"index":0,"delta":{},"finish_reason":reason}]), &Value::Null);
    }
    if let Some(tokens) = tokens {
        let mut usage = Vec::new();
        answer::push_usage(&mut usage, tokens);
        text += &event(&json!([]), &serde_json::from_slice(&usage).expect("JSON"));
    }
    text + "data: [DONE]\n\n"
}

proptest! {
    #[test]
    fn a_request_that_is_read_and_written_means_the_same(
        system in prop::collection::vec(words(), 0..3), developer in any::<bool>(),
        messages in prop::collection::vec(message(), 1..6), fields in fields(), stream in any::<bool>(), turn in 0..20usize,
    ) {
        let role = if developer { "developer" } else { "system" };
        let last = json!({"content":"now","role":"user"});
        let (mut said, mut wanted): (Vec<_>, Vec<_>) = messages.into_iter().chain([(last.clone(), last)]).unzip();
        said.splice(0..0, system.iter().map(|text| json!({"role":role,"content":text})));
        if !system.is_empty() {
            let parts: Vec<_> = system.iter().map(|text| json!({"type":"text","text":text})).collect();
            wanted.insert(0, json!({"role":"system","content":content(&parts)}));
        }
        let mut body = vec![("messages", json!(said)), ("model", json!("p/asked")), ("fallbacks", json!(["x"]))];
        let mut whole: Map<String, Value> = [("model".to_owned(), json!("m")), ("messages".to_owned(), json!(wanted))].into_iter().collect();
        let functions = fields.iter().any(|(key, ..)| *key == "tools");
        for (key, value, written_key, written) in fields {
            // Without functions, what is said of how they are called is left out unless it asks for one.
            let idle = matches!(key, "tool_choice" | "parallel_tool_calls") && value != "required" && !functions;
            if idle {
                body.push((key, value));
                continue;
            }
            body.push((key, value));
            whole.insert(written_key.to_owned(), written);
        }
        body.push(("stream", json!(stream)));
        if stream {
            whole.insert("stream".to_owned(), json!(true));
            whole.insert("stream_options".to_owned(), json!({"include_usage":true}));
        }
        let length = body.len();
        body.rotate_left(turn % length);
        let body: Map<String, Value> = body.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let (written, _) = rewritten(&Value::Object(body), "m");
        prop_assert_eq!(written, Value::Object(whole));
    }

    #[test]
    fn an_answer_that_is_written_and_read_is_the_same((content, stop, tokens) in answer(), named in any::<bool>()) {
        let reply = Reply { id: named.then(|| "own".into()), model: "m".into(), content, stop, stop_text: None, tokens };
        let mut out = Vec::new();
        write_reply(&reply, &META, &mut out);
        let again = read_reply(&out, "other").expect("an answer");
        let id = if named { "own" } else { "made" };
        prop_assert_eq!(again, Reply { id: Some(id.into()), ..reply });
    }

    #[test]
    fn a_stream_says_the_same_however_its_calls_are_mixed_and_its_bytes_are_cut(
        (content, stop, tokens) in answer(), letters in prop::collection::vec(0..4usize, 1..9),
        turns in prop::collection::vec(0..4usize, 1..9), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
        early in any::<bool>(), asked in any::<bool>(),
    ) {
        let (deltas, order) = chunks(&content, &letters, &turns);
        let text = stream(&deltas, stop, tokens.as_ref(), early);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len())).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
        let (told, out) = relay(&pieces, asked);

        let (calls, mut wanted): (Vec<_>, Vec<_>) = content.into_iter().partition(|block| matches!(block, Block::ToolCall { .. }));
        wanted.extend(order.iter().map(|at| calls[*at].clone()));
        prop_assert_eq!(&told, &Told { blocks: wanted, begun: true, open: false, end: Some(stop), tokens });

        // What the writer made of it is a stream that says the same.
        let done = [&out[..], b"data: [DONE]\n\n"].concat();
        let (again, _) = relay(&[&done], asked);
        let tokens = told.tokens.filter(|_| asked);
        prop_assert_eq!(again, Told { tokens, ..told });
    }
}

#[test]
fn a_documented_stream_says_the_same_whichever_byte_it_is_cut_at() {
    for text in [
        &include_bytes!("../../../../tests/golden/openai/text.sse")[..],
        include_bytes!("../../../../tests/golden/openai/tools.sse"),
    ] {
        let whole = relay(&[text], true);
        for at in 1..text.len() {
            assert_eq!(relay(&[&text[..at], &text[at..]], true), whole, "cut at {at}");
        }
        assert_eq!(relay(&text.chunks(1).collect::<Vec<_>>(), true), whole);
    }
}
